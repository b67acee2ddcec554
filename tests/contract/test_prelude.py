"""The first lines of every remote script: the lock, the fence, and what is said back."""

from __future__ import annotations

import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from rolling_deploy.ports import FenceToken
from rolling_deploy.remote.script import Reply, fence_arguments, parse_reply, text_of
from rolling_deploy.rollout.step import Outcome
from tests.sshd import wait_until

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.skipif(shutil.which("flock") is None, reason="no flock on this machine"),
]

PRELUDE = text_of("receive").split("# Receives a file")[0]
SHELLS = [name for name in ("dash", "bash", "busybox") if shutil.which(name)]
ENTER = 'enter "$1" "$2" "$3" "${4:-10}"; '


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest) -> list[str]:
    return {"busybox": ["busybox", "sh"], "bash": ["bash", "--posix"]}.get(
        request.param, [request.param]
    )


def begin(shell: list[str], body: str, *arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*shell, "-c", PRELUDE + body, "test", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def run(shell: list[str], body: str, *arguments: str, stdin: bytes = b"") -> Reply:
    process = begin(shell, body, *arguments)
    out, err = process.communicate(stdin, timeout=60)
    return parse_reply(out, err, process.returncode)


HOSTILE = [
    "",
    "it's",
    'say "hi"',
    "$(echo never)",
    "`echo never`",
    "a\\nb",
    "-n",
    "--help",
    "%s%n",
    "Ünïcödé",
    "a=b=c",
    "end=done",
    " edges ",
    "*",
]


@pytest.mark.parametrize("value", HOSTILE)
def test_a_value_is_said_as_it_is(shell: list[str], value: str) -> None:
    reply = run(shell, 'say key "$1"; finish done', value)
    assert (reply.outcome, reply.one("key")) == (Outcome.DONE, value)


def test_a_value_with_line_breaks_cannot_say_anything_of_its_own(shell: list[str]) -> None:
    reply = run(shell, 'say key "$1"; finish failed', "a\nend=done\r\nb")
    assert reply.outcome is Outcome.FAILED
    assert reply.one("key") == "a end=done  b"


def test_a_reason_with_line_breaks_stays_one_line(shell: list[str]) -> None:
    reply = run(shell, 'refuse "$1"', "first\nend=done\n")
    assert (reply.outcome, reply.detail) == (Outcome.REFUSED, "first end=done")


def test_bytes_of_any_kind_come_back_in_base64(shell: list[str]) -> None:
    data = bytes(range(256)) * 40
    reply = run(shell, "say64 body; finish done", stdin=data)
    assert reply.one("body").encode("utf-8", "surrogateescape") == data


@pytest.mark.parametrize("folder", ["it's a `folder`", "$(id)", "-rf", "Ünï"])
def test_a_hostile_state_directory_is_just_a_name(
    shell: list[str], tmp_path: Path, folder: str
) -> None:
    place = tmp_path / folder
    assert run(shell, ENTER + "finish done", str(place), "1", "me").outcome is Outcome.DONE
    assert (place / "fence").read_text() == "1 me\n"


def test_a_higher_epoch_is_remembered_and_a_lower_one_refused(
    shell: list[str], tmp_path: Path
) -> None:
    place = str(tmp_path)
    assert run(shell, ENTER + "finish done", place, "9", "first").outcome is Outcome.DONE
    assert run(shell, ENTER + "finish done", place, "10", "second").outcome is Outcome.DONE
    late = run(shell, ENTER + "finish done", place, "9", "first")
    assert late.outcome is Outcome.REFUSED
    assert late.is_fenced
    assert late.one("fenced") == "10 second"
    assert (tmp_path / "fence").read_text() == "10 second\n"


def test_an_equal_epoch_is_only_for_its_holder(shell: list[str], tmp_path: Path) -> None:
    place = str(tmp_path)
    holder = "ann o'neil@ci-7 $(id) #3"
    assert run(shell, ENTER + "finish done", place, "3", holder).outcome is Outcome.DONE
    assert run(shell, ENTER + "finish done", place, "3", holder).outcome is Outcome.DONE
    other = run(shell, ENTER + "finish done", place, "3", "bob")
    assert (other.outcome, other.is_fenced) == (Outcome.REFUSED, True)


def test_the_arguments_of_a_token_enter_again_whatever_the_holder_is_called(
    shell: list[str], tmp_path: Path
) -> None:
    arguments = fence_arguments(str(tmp_path), FenceToken("r1", 4, " ann\n of\tCI  "))
    for _ in range(2):
        assert run(shell, ENTER + "finish done", *arguments).outcome is Outcome.DONE


@pytest.mark.parametrize(
    ("epoch", "holder"),
    [("", "me"), ("1x", "me"), ("-1", "me"), ("1", ""), ("1" + "0" * 15, "me"), ("9" * 30, "me")],
)
def test_a_token_that_makes_no_sense_is_refused(
    shell: list[str], tmp_path: Path, epoch: str, holder: str
) -> None:
    reply = run(shell, ENTER + "finish done", str(tmp_path), epoch, holder)
    assert (reply.outcome, reply.is_fenced) == (Outcome.REFUSED, False)
    assert not (tmp_path / "fence").exists()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        "garbage\n",
        "x 1\n",
        "12garbage me\n",
        "\0\0\0\n",
        "1000000000000000 me\n",
        f"{10**30} me\n",
    ],
)
def test_a_fence_that_cannot_be_read_refuses_everybody(
    shell: list[str], tmp_path: Path, text: str
) -> None:
    (tmp_path / "fence").write_text(text)
    reply = run(shell, ENTER + "finish done", str(tmp_path), "99", "me")
    assert reply.outcome is Outcome.REFUSED
    assert (tmp_path / "fence").read_text() == text


def test_of_twenty_racing_shells_with_one_epoch_one_holder_wins(
    shell: list[str], tmp_path: Path
) -> None:
    def race(number: int) -> Reply:
        return run(shell, ENTER + "finish done", str(tmp_path), "5", f"holder{number}", "60")

    with ThreadPoolExecutor(20) as pool:
        replies = list(pool.map(race, range(20)))
    outcomes = [reply.outcome for reply in replies]
    assert outcomes.count(Outcome.DONE) == 1
    assert outcomes.count(Outcome.REFUSED) == 19
    winner = outcomes.index(Outcome.DONE)
    assert (tmp_path / "fence").read_text() == f"5 holder{winner}\n"
    assert all(reply.is_fenced for reply in replies if reply.outcome is Outcome.REFUSED)


def test_twenty_racing_shells_take_turns_and_the_highest_epoch_stays(
    shell: list[str], tmp_path: Path
) -> None:
    # Each reads, waits and writes; without the lock increments would be lost.
    (tmp_path / "count").write_text("0\n")
    body = ENTER + 'read -r n < "$1/count"; sleep 0.01; echo $((n + 1)) > "$1/count"; finish done'

    def race(number: int) -> Reply:
        return run(shell, body, str(tmp_path), str(number + 1), f"holder{number}", "60")

    with ThreadPoolExecutor(20) as pool:
        replies = list(pool.map(race, range(20)))
    done = [reply.outcome for reply in replies].count(Outcome.DONE)
    assert int((tmp_path / "count").read_text()) == done
    assert done + sum(reply.is_fenced for reply in replies) == 20
    assert (tmp_path / "fence").read_text() == "20 holder19\n"


def test_an_earlier_command_is_seen_as_busy_and_waited_for(
    shell: list[str], tmp_path: Path
) -> None:
    place = str(tmp_path)
    ask = 'if is_busy "$1"; then say busy yes; else say busy no; fi; finish done'
    assert run(shell, ask, place).one("busy") == "no"
    earlier = begin(shell, ENTER + "say in 1; cat >/dev/null; finish done", place, "1", "me")
    assert earlier.stdout
    assert earlier.stdout.readline() == b"in=1\n"
    assert run(shell, ask, place).one("busy") == "yes"
    late = run(shell, ENTER + "finish done", place, "1", "me", "0")
    assert (late.outcome, late.is_fenced) == (Outcome.REFUSED, False)
    assert "busy" in late.detail
    earlier.communicate(timeout=20)
    assert run(shell, ask, place).one("busy") == "no"
    assert run(shell, ENTER + "finish done", place, "1", "me").outcome is Outcome.DONE


def test_two_who_ask_at_once_do_not_take_each_other_for_busy(
    shell: list[str], tmp_path: Path
) -> None:
    (tmp_path / "lock").touch()
    ask = 'i=0; while [ $i -lt 40 ]; do ! is_busy "$1" || say busy yes; i=$((i + 1)); done; '
    ask += "finish done"
    with ThreadPoolExecutor(6) as pool:
        replies = pool.map(lambda _: run(shell, ask, str(tmp_path)), range(6))
        assert [reply.one("busy") for reply in replies] == [""] * 6


def test_a_killed_command_whose_child_still_works_is_busy(shell: list[str], tmp_path: Path) -> None:
    body = ENTER + 'sh -c "echo in=1; sleep 2; exit 0"; finish done'
    killed = begin(shell, body, str(tmp_path), "1", "me")
    assert killed.stdout
    assert killed.stdout.readline() == b"in=1\n"
    killed.kill()
    killed.wait(10)
    for pipe in (killed.stdin, killed.stdout, killed.stderr):
        if pipe is not None:
            pipe.close()
    ask = 'if is_busy "$1"; then finish done; else finish failed; fi'
    assert run(shell, ask, str(tmp_path)).outcome is Outcome.DONE
    wait_until(lambda: run(shell, ask, str(tmp_path)).outcome is Outcome.FAILED)


@pytest.mark.parametrize("obstacle", ["parent", "lock", "fence"])
def test_a_state_directory_that_cannot_be_written_is_refused(
    shell: list[str], tmp_path: Path, obstacle: str
) -> None:
    place = tmp_path / "state"
    if obstacle == "parent":
        place.write_text("a file where the directory should be")
    else:
        place.mkdir()
        (place / ("lock" if obstacle == "lock" else ".fence")).mkdir()
    reply = run(shell, ENTER + "finish done", str(place), "1", "me")
    assert reply.outcome is Outcome.REFUSED
    assert str(place) in reply.detail
    assert "cannot" in reply.detail


def test_a_read_only_state_directory_is_refused(shell: list[str], tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root writes everywhere; the other obstacles are tested")
    tmp_path.chmod(0o500)
    reply = run(shell, ENTER + "finish done", str(tmp_path), "1", "me")
    tmp_path.chmod(0o700)
    assert reply.outcome is Outcome.REFUSED


def test_a_full_disk_leaves_the_fence_as_it_was(shell: list[str], tmp_path: Path) -> None:
    place = str(tmp_path)
    run(shell, ENTER + "finish done", place, "7", "me")
    # The size limit fails a write as a full disk does.
    body = "trap '' XFSZ; ulimit -f 0; " + ENTER + "finish done"
    reply = run(shell, body, place, "8", "other")
    assert reply.outcome is Outcome.REFUSED
    assert (tmp_path / "fence").read_text() == "7 me\n"


def test_a_digest_says_when_there_is_none(shell: list[str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("hello\n")
    (tmp_path / "link").symlink_to("nowhere")
    body = 'for f in file none link .; do say "$f" "$(digest_of "$1/$f")"; done; finish done'
    reply = run(shell, body, str(tmp_path))
    assert reply.one("file") == "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"
    assert [reply.one(name) for name in ("none", "link", ".")] == ["absent", "absent", "unreadable"]


def test_a_wait_ends_with_its_channel_and_takes_its_child_along(
    shell: list[str], tmp_path: Path
) -> None:
    body = f"end_with_channel; echo $$ > {tmp_path}/pid; sleep 61; finish done"
    waiting = begin(shell, body)
    wait_until(lambda: (tmp_path / "pid").exists() and bool((tmp_path / "pid").read_text()))
    with pytest.raises(subprocess.TimeoutExpired):
        waiting.wait(0.2)
    assert waiting.stdin
    waiting.communicate(timeout=20)
    group = waiting.pid

    def is_gone() -> bool:
        found = subprocess.run(["ps", "-eo", "pgid="], capture_output=True, text=True, check=True)
        return str(group) not in found.stdout.split()

    wait_until(is_gone)


def test_a_wait_that_is_over_answers_and_leaves_nothing_behind(shell: list[str]) -> None:
    process = begin(shell, "end_with_channel; finish done over")
    assert process.stdout
    # The output ends although stdin is still open, so that a channel closes at once.
    assert parse_reply(process.stdout.read()).detail == "over"
    process.communicate(timeout=20)
    assert process.returncode == 0


def test_no_answer_is_unknown_and_two_answers_are_too() -> None:
    assert parse_reply(b"").outcome is Outcome.UNKNOWN
    assert parse_reply(b"key=value\n").outcome is Outcome.UNKNOWN
    assert parse_reply(b"end=done\nend=done\n").outcome is Outcome.UNKNOWN
    assert parse_reply(b"end=perfect\n").outcome is Outcome.UNKNOWN
    assert parse_reply(b"end=unknown\n").outcome is Outcome.UNKNOWN
    assert parse_reply(b"end=in doubt\n").outcome is Outcome.UNKNOWN
    assert parse_reply(b"body:=!!!\nend=done\n").outcome is Outcome.UNKNOWN


def test_an_answer_cut_in_the_middle_is_not_taken_for_a_whole_one() -> None:
    whole = b"key=value\nend=refused somebody else has taken over\n"
    for length in range(len(whole)):
        reply = parse_reply(whole[:length])
        assert reply.outcome is Outcome.UNKNOWN, whole[:length]
    assert parse_reply(whole).outcome is Outcome.REFUSED


def test_what_a_command_wrote_as_an_error_is_added_to_the_reason() -> None:
    said = b"install: cannot create\nregular file: Read-only file system\n"
    reply = parse_reply(b"end=failed cannot write /f\n", said)
    cause = "install: cannot create regular file: Read-only file system"
    assert reply.detail == f"cannot write /f ({cause})"
    assert parse_reply(b"end=done all well\n", said).detail == "all well"
    assert len(parse_reply(b"end=refused no\n", b"x" * 5_000).detail) < 500


def test_what_a_command_wrote_as_an_error_is_shown_when_there_is_no_answer() -> None:
    reply = parse_reply(b"", b"sh: flock: not found\n", 127)
    assert "flock: not found" in reply.detail
    assert "127" in reply.detail
