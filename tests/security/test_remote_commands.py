"""Every value that reaches a machine's shell arrives as it was given, and runs nothing."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rolling_deploy.ports import FenceToken
from rolling_deploy.remote.files import send_file
from rolling_deploy.remote.record_copies import Holder, Place, append_copy, hold, read_copies
from rolling_deploy.remote.script import parse_reply, run_script, text_of
from rolling_deploy.remote.ssh_stream import relay_line
from rolling_deploy.remote.tomcat import TomcatStrategy
from rolling_deploy.rollout.observed import Verdict
from rolling_deploy.rollout.step import Outcome
from rolling_deploy.settings import TomcatSettings
from tests.local_connection import LocalConnection
from tests.nginx_machine import NginxMachine, looked, system_nginx, wheel_nginx
from tests.security.hostile import MARK, WORD, WORDS
from tests.strategies_fixture import (
    TOKEN,
    AppBackend,
    archives,
    backend_settings,
    make_app,
    seen,
    wait_for_version,
)

__all__ = ["archives"]

SLOW = settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
TOKEN_1 = FenceToken("r-1", 1, "ann")
NAMES = [
    word.replace("/", "_")[:120]
    for word in WORDS
    if word not in {"", "\udcff\udcfe"} and "\n" not in word and "\r" not in word
]
"""What may stand in a path that the inventory takes: no control characters but a tab's letters."""
PATHS = [name for name in NAMES if name.isprintable()]


@pytest.fixture(autouse=True)
def nothing_was_run(tmp_path: Path) -> Iterator[None]:
    """No value was taken for a command: its mark appears nowhere it could have been left."""
    places = (Path("/"), Path.home(), Path.cwd(), tmp_path)
    assert not any((place / MARK).exists() for place in places)
    yield
    found = [path for path in (place / MARK for place in places) if path.exists()]
    found += list(tmp_path.rglob(MARK))
    assert not found, found


def run_text(text: str, *words: str) -> bytes:
    """Answers what a script with our prelude says about these arguments."""
    argv = ["sh", "-c", text_of("record_beat").rpartition("# record_beat")[0] + text, "x", *words]
    answer = LocalConnection().run(argv, limit_ms=60_000)
    assert answer.is_complete, answer
    return answer.stdout


@SLOW
@given(st.lists(WORD, min_size=1, max_size=8))
def test_what_a_script_says_is_one_line_a_value_whatever_is_in_it(words: list[str]) -> None:
    out = run_text('for word; do say word "$word"; done\nfinish done "$1"\n', *words)
    reply = parse_reply(out)
    assert reply.outcome is Outcome.DONE
    expected = [
        word.encode("utf-8", "surrogateescape").replace(b"\n", b" ").replace(b"\r", b" ")
        for word in words
    ]
    # Line breaks at the very end are dropped, as by every `$(...)` of a shell.
    assert [said.rstrip() for said in reply.all("word")] == [
        word.decode("utf-8", "replace").rstrip() for word in expected
    ]
    assert set(reply.values) == {"word"}


@SLOW
@given(st.binary(max_size=3_000))
def test_bytes_come_back_as_they_are(content: bytes) -> None:
    argv = ["sh", "-c", text_of("record_beat").rpartition("# record_beat")[0]]
    argv[2] += "say64 content\nfinish done ''\n"
    answer = LocalConnection().run(argv, stdin=content, limit_ms=60_000)
    reply = parse_reply(answer.stdout)
    assert reply.one("content").encode("utf-8", "surrogateescape") == content


@SLOW
@given(st.lists(WORD.filter(lambda w: len(w) < 5_000), min_size=1, max_size=5))
def test_named_arguments_are_never_evaluated(words: list[str]) -> None:
    script = text_of("look_release").rpartition("# look_release")[0]
    argv = ["sh", "-c", script + 'named "$@"\nprintf "%s\\0" "$root" "$process"\n', "x"]
    for word in words:
        ran = LocalConnection().run([*argv, f"root={word}", f"process={word}"], limit_ms=60_000)
        raw = word.encode("utf-8", "surrogateescape")
        assert ran.stdout == raw + b"\0" + raw + b"\0"


@pytest.mark.parametrize("name", ["$(touch PWNED)", "a;b", "A", "a b", "", "`id`", "x[0]"])
def test_a_name_of_an_argument_that_is_none_is_refused(name: str) -> None:
    reply = run_script(LocalConnection(), "look_release", [f"{name}=x"], limit_ms=30_000)
    assert reply.outcome is Outcome.REFUSED
    assert "unknown argument" in reply.detail


@pytest.mark.parametrize("name", PATHS, ids=range(len(PATHS)))
def test_a_record_is_kept_and_read_back_in_any_directory(tmp_path: Path, name: str) -> None:
    place = Place(LocalConnection(), f"{tmp_path}/{name}")
    text = f"{name}\x1b[31m\n$(touch {MARK})"
    holder = Holder(text, text, text, 1_000, "r-1", text)
    token = replace(TOKEN_1, holder=f"ann {name}")
    assert hold({"lb1": place}, token, holder) == {}
    line = b'{"a":"$(touch PWNED)"}\n'
    reply = append_copy(place, token, [line], size=0, tail=b"", step=text)
    assert reply.outcome is Outcome.DONE, reply.detail
    copies, failures = read_copies({"lb1": place})
    assert failures == {}
    copy = copies["lb1"]
    assert copy.holder == holder
    assert copy.fence.epoch == 1
    assert copy.fence.holder == " ".join(token.holder.split())
    assert copy.current == "r-1"
    assert "\n" not in copy.step
    assert (tmp_path / name / "r-1.jsonl").read_bytes() == line


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_a_file_arrives_under_any_name(tmp_path: Path, name: str) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"content")
    target = f"{tmp_path}/in {name}/{name}.war"
    reply = send_file(LocalConnection(), source, target, mode=0o640, limit_ms=60_000)
    assert reply.outcome is Outcome.DONE, reply.detail
    assert Path(target).read_bytes() == b"content"
    assert [path.name for path in Path(target).parent.iterdir()] == [f"{name}.war"]


@pytest.mark.parametrize("host", ["$(touch PWNED)", "a;touch PWNED", "-h", "a\nb", "x/../../tmp"])
def test_an_address_that_is_relayed_by_command_is_never_run(host: str) -> None:
    """The way that is taken where sshd forbids forwarding."""
    argv = shlex.split(relay_line(host, 1).decode())
    answer = LocalConnection().run(argv, limit_ms=30_000)
    assert not answer.stdout.startswith(b"+")


ODD = "st ate$(touch PWNED)`touch PWNED`;'\"\\t\\n*?[a]&|é{}~#%s"


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[NginxMachine]:
    """An nginx whose managed file and state directory have the oddest names."""
    binary = system_nginx() or wheel_nginx()
    if binary is None:
        pytest.skip("no nginx on this machine")
    with NginxMachine(binary) as running:
        odd = running.conf_d / f"shop {ODD}.conf"
        running.file.rename(odd)
        running.file = odd
        running.state_dir = running.root / ODD
        yield running
        assert not list(running.root.rglob(MARK))


def test_odd_names_on_a_load_balancer_change_nothing_about_a_publication(
    machine: NginxMachine,
) -> None:
    facts = machine.nginx().facts()
    assert facts.__class__.__name__ == "NginxFacts", facts
    assert machine.publish("g1").outcome is Outcome.DONE
    second = machine.publish("g2", down=0)
    assert second.outcome is Outcome.DONE, second.detail
    look = looked(machine.nginx())
    assert look.seen.live == "g2"
    assert look.seen.is_settled
    # Which workers are earlier is known: the snapshot was found under that name.
    assert look.seen.earlier_workers is not None
    machine.nginx().wait_drained(20_000)
    assert looked(machine.nginx()).seen.earlier_workers == 0
    back = machine.nginx().unadopt(replaces=machine.digest(), token=FenceToken("r1", 1, "ann"))
    assert back.outcome is Outcome.DONE, back.detail
    assert machine.file.read_bytes() == machine.original


def test_the_workers_from_before_are_known_under_an_odd_state_directory(
    machine: NginxMachine,
) -> None:
    """A backslash in the path must not hide the snapshot, or old workers would pass for new."""
    assert machine.publish("g1").outcome is Outcome.DONE
    idle = machine.nginx(reload=("true",), prove_limit_ms=500)
    result = machine.publish("g2", nginx=idle)
    assert result.outcome is Outcome.FAILED
    assert "no new worker process appeared" in result.detail


def test_what_a_command_of_nginx_says_is_one_line_and_never_an_answer_of_ours(
    machine: NginxMachine,
) -> None:
    said = "end=done all is well\nlive=g9\n\x1b[31mred\x1b[0m\n$(touch PWNED) `touch PWNED`\n"
    loud = ("printf", "%b", said.replace("\n", "\\n"))
    refused = machine.nginx(test=("sh", "-c", f"{shlex.join(loud)}; exit 1"))
    result = machine.publish("g1", nginx=refused)
    assert result.outcome is Outcome.FAILED
    assert "the file before is back" in result.detail
    assert "\n" not in result.detail
    assert machine.file.read_bytes() == machine.original
    lying = machine.nginx(reload=("sh", "-c", f"{shlex.join(loud)}; exit 0"), prove_limit_ms=500)
    result = machine.publish("g1", nginx=lying)
    assert result.outcome is Outcome.FAILED
    assert "not proved" in result.detail


@pytest.fixture
def odd_app(tmp_path: Path, archives: Path) -> Iterator[AppBackend]:
    """The tiny application in a folder of an odd name, with an odd state directory."""
    name = 'ap p$(touch PWNED)`touch PWNED`;"*?[a]&|é\\t'
    app = make_app(tmp_path / name, archives)
    app.control("start")
    try:
        wait_for_version(app.port, "1")
        yield app
    finally:
        app.end()


def test_odd_names_on_a_backend_change_nothing_about_an_upgrade(odd_app: AppBackend) -> None:
    strategy = odd_app.strategy(state_dir=f"{odd_app.root}/{ODD}")
    verdicts = {check.name: check.verdict for check in strategy.preflight("2")}
    assert Verdict.REFUSED not in verdicts.values(), verdicts
    assert strategy.stage("2", TOKEN).outcome is Outcome.DONE
    result = strategy.activate(strategy.artifact_id("2"), TOKEN)
    assert result.outcome is Outcome.DONE, result.detail
    wait_for_version(odd_app.port, "2")
    look = seen(strategy)
    assert look.artifact == strategy.artifact_id("2")
    assert look.is_restarted_since_swap is True
    back = strategy.activate("dir:by-hand", TOKEN)
    assert back.outcome is Outcome.DONE, back.detail
    wait_for_version(odd_app.port, "1")
    assert strategy.prune(frozenset(), TOKEN).outcome is Outcome.DONE


def test_folders_of_other_people_may_be_called_anything(odd_app: AppBackend) -> None:
    for number, name in enumerate(NAMES):
        folder = odd_app.root / "releases" / name
        if name not in {".", ".."}:
            folder.mkdir(exist_ok=True)
            (folder / ".rolling-deploy").write_bytes(
                NAMES[-number].encode("utf-8", "surrogateescape") + b"\nend=done\n"
            )
    strategy = odd_app.strategy()
    assert seen(strategy).artifact == "dir:by-hand"
    assert strategy.stage("2", TOKEN).outcome is Outcome.DONE
    assert strategy.prune(frozenset(), TOKEN).outcome is Outcome.DONE
    assert strategy.activate(strategy.artifact_id("2"), TOKEN).outcome is Outcome.DONE
    wait_for_version(odd_app.port, "2")


def test_the_words_of_a_start_command_arrive_as_they_were_given(odd_app: AppBackend) -> None:
    noted = odd_app.root / "noted"
    words = [word for word in WORDS if "\udcff" not in word]
    # The command stands in the inventory as words: none of them is read by a shell of ours.
    say = ("sh", "-c", 'n=$1; shift; printf "%s\\0" "$@" > "$n"; exit 3', "x", str(noted), *words)
    strategy = odd_app.strategy(start=say, start_limit_ms=3_000)
    assert strategy.stage("2", TOKEN).outcome is Outcome.DONE
    result = strategy.activate(strategy.artifact_id("2"), TOKEN)
    assert result.outcome is Outcome.FAILED
    assert "\n" not in result.detail
    assert noted.read_bytes().split(b"\0")[:-1] == [word.encode() for word in words]


def test_what_a_start_command_says_is_no_answer_of_ours(odd_app: AppBackend) -> None:
    said = r"x\nend=done all is well\npid=1\n\033[31m$(touch PWNED)\n"
    start = ("sh", "-c", f"printf '%b' {shlex.quote(said)}; exit 1")
    strategy = odd_app.strategy(start=start, start_limit_ms=3_000)
    strategy.stage("2", TOKEN)
    result = strategy.activate(strategy.artifact_id("2"), TOKEN)
    assert result.outcome is Outcome.FAILED
    assert "nothing listens on port" in result.detail
    assert "all is well" in result.detail
    assert "\n" not in result.detail


ODD_RELEASES = ["../../etc/passwd", "/etc/passwd", "~root", "a\nb", "\x1b[31m", "\udcff", "x" * 101]


@pytest.mark.parametrize("release", [*ODD_RELEASES, "$(touch PWNED)", "a b", "-rf", "", "a/b"])
def test_a_release_that_cannot_name_a_directory_is_refused(
    tmp_path: Path, archives: Path, release: str
) -> None:
    app = make_app(tmp_path / "app", archives)
    result = app.strategy().stage(release, TOKEN)
    assert result.outcome is Outcome.REFUSED
    assert "release" in result.detail
    assert sorted(path.name for path in (app.root / "releases").iterdir()) == ["by-hand"]


@pytest.mark.parametrize("release", ODD_RELEASES)
def test_a_release_of_a_war_leads_nowhere_else(tmp_path: Path, release: str) -> None:
    plain = TomcatSettings(f"{tmp_path}/app-{{release}}.war", str(tmp_path), f"{tmp_path}/state")
    strategy = TomcatStrategy(plain, backend_settings("app1", 1, plain), LocalConnection())
    result = strategy.stage(release, TOKEN)
    assert result.outcome is Outcome.REFUSED
    assert "release" in result.detail
    assert result.detail.isprintable()
