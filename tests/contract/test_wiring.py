"""The wiring of a Tomcat: merged, staged, activated and taken back, on real files."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from rolling_deploy.errors import PreflightRefused
from rolling_deploy.ports import FenceToken
from rolling_deploy.rollout.observed import Unreachable, Verdict
from rolling_deploy.rollout.step import Outcome
from rolling_deploy.settings import Jar, SessionManagerSettings
from tests.documents import read_xml
from tests.local_connection import LocalConnection
from tests.strategies_fixture import TOKEN, CutConnection, small_disk
from tests.wired_tomcat import (
    CONTEXT,
    LABEL,
    PASSWORD,
    WiredTomcat,
    seen,
    wire,
    wired_tomcat,
)


@pytest.fixture
def tomcat(tmp_path: Path) -> Iterator[WiredTomcat]:
    with wired_tomcat(tmp_path) as made:
        yield made


def test_a_tomcat_is_wired_and_taken_back_byte_for_byte(tomcat: WiredTomcat) -> None:
    before, pids = tomcat.files(), tomcat.app.pids()
    strategy = tomcat.strategy()
    earlier = seen(strategy)
    wanted = strategy.artifact_id(LABEL)
    assert earlier.artifact not in {None, wanted}
    assert strategy.stage(LABEL, TOKEN).outcome is Outcome.DONE
    assert tomcat.files() == before, "staging changes nothing that runs"
    assert seen(strategy).staged == {earlier.artifact, wanted}
    result = strategy.activate(wanted, TOKEN)
    assert result.outcome is Outcome.DONE, result.detail
    after = seen(strategy)
    assert (after.artifact, after.is_restarted_since_swap) == (wanted, True)
    assert set(pids).isdisjoint(tomcat.app.pids())
    new = tomcat.files().keys() - before.keys()
    assert new == {
        tomcat.mark(),
        "conf/redisson.yaml",
        "lib/redisson-all-3.50.0.jar",
        "lib/redisson-tomcat-10-3.50.0.jar",
    }
    context = tomcat.files()["conf/context.xml"]
    manager = read_xml(context).find("Manager")
    assert manager is not None
    assert context.startswith(CONTEXT[: CONTEXT.rindex(b"</Context>")])
    assert ET.fromstring(tomcat.files()["conf/server.xml"])[0].get("gracefulStopAwaitMillis")  # noqa: S314 # made here
    assert not list(tomcat.base.glob("**/.*.rolling-deploy")), "nothing is left beside the files"

    assert strategy.activate(str(earlier.artifact), TOKEN).outcome is Outcome.DONE
    assert tomcat.files() == before
    again = seen(strategy)
    assert (again.artifact, again.is_restarted_since_swap) == (earlier.artifact, True)


def test_a_second_setup_finds_nothing_to_do(tomcat: WiredTomcat) -> None:
    wanted = wire(tomcat.strategy())
    wired, pids = tomcat.files(), tomcat.app.pids()
    again = tomcat.strategy()
    assert (again.artifact_id(LABEL), again.missing(), again.differences()) == (wanted, (), ())
    assert wire(again) == wanted
    assert (tomcat.files(), tomcat.app.pids()) == (wired, pids), "nothing is restarted either"


def test_what_differs_is_shown_without_any_secret(tomcat: WiredTomcat) -> None:
    strategy = tomcat.strategy()
    lines = strategy.differences()
    text = "\n".join(lines)
    assert f"+++ {tomcat.base}/conf/redisson.yaml" in lines
    assert '+  password: "***"' in lines
    assert '+  <Manager className="org.redisson.tomcat.RedissonSessionManager"' in lines
    assert f"new file {tomcat.base}/lib/redisson-all-3.50.0.jar" in text
    assert "of the database" not in text
    assert "sesame" not in text
    assert len(strategy.missing()) == 5
    wire(strategy)
    changed = tomcat.strategy(password="another one")
    assert changed.differences() == (
        f"{tomcat.base}/conf/redisson.yaml: what differs is a secret, or cannot be shown",
    )
    assert "another one" not in repr(changed.missing())


def test_a_password_in_an_attribute_is_masked_by_whatever_name_it_stands(
    tomcat: WiredTomcat,
) -> None:
    template = (
        '<Manager className="a.Manager" key="{{ password }}"\n'
        '         uri="redis://:{{ password }}@h"/>'
    )
    manager = SessionManagerSettings("orangefunction", (), "mine.xml.j2", template)
    before = tomcat.wired_by(manager, password="first secret")
    assert "first secret" not in repr(before.differences())
    wire(before)
    after = tomcat.wired_by(
        replace(manager, template_text=template.replace("uri", "x='y' uri")), password="second one"
    )
    lines = repr(after.differences())
    assert "+         x=" in lines
    assert "first secret" not in lines
    assert "second one" not in lines


def test_a_file_with_a_password_is_nobody_elses_to_read(tomcat: WiredTomcat) -> None:
    conf = tomcat.base / "conf"
    strategy = tomcat.strategy()
    earlier = str(seen(strategy).artifact)
    wire(strategy)
    modes = {path.name: path.stat().st_mode & 0o777 for path in conf.iterdir()}
    # The manager's own file holds the password; `context.xml` only names that file.
    assert modes == {
        "context.xml": 0o644,
        "redisson.yaml": 0o640,
        "server.xml": 0o640,
        Path(tomcat.mark()).name: 0o644,
    }
    assert strategy.activate(earlier, TOKEN).outcome is Outcome.DONE
    wire(tomcat.strategy(kind="orangefunction"))
    assert (conf / "context.xml").stat().st_mode & 0o777 == 0o640
    assert PASSWORD in [
        one.get("password") for one in read_xml((conf / "context.xml").read_bytes())
    ]
    kept = [tomcat.store, *tomcat.store.iterdir()]
    assert all(path.stat().st_mode & 0o077 == 0 for path in kept)


def test_going_back_gives_a_file_its_mode_again(tomcat: WiredTomcat) -> None:
    context = tomcat.base / "conf" / "context.xml"
    strategy = tomcat.strategy(kind="orangefunction")
    earlier = str(seen(strategy).artifact)
    wire(strategy)
    assert context.stat().st_mode & 0o777 == 0o640
    assert strategy.activate(earlier, TOKEN).outcome is Outcome.DONE
    assert context.stat().st_mode & 0o777 == 0o644


class ListeningConnection(LocalConnection):
    """Keeps every command line that was sent."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[str] = []

    def run(self, argv, **options):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN003, ANN201 # passed on
        self.sent.append("\0".join(argv))
        return super().run(argv, **options)


def test_no_command_line_and_no_answer_holds_the_password(tomcat: WiredTomcat) -> None:
    connection = ListeningConnection()
    for kind in ("redisson", "orangefunction"):
        (tomcat.base / "conf" / "context.xml").write_bytes(CONTEXT)
        strategy = tomcat.strategy(connection, kind=kind)
        said = [repr(check) for check in strategy.preflight(LABEL)]
        said += [repr(strategy.stage(LABEL, TOKEN)), repr(seen(strategy))]
        said.append(repr(strategy.activate(strategy.artifact_id(LABEL), TOKEN)))
        said.append(repr(strategy.prune(frozenset(), TOKEN)))
        assert not [text for text in [*said, *connection.sent] if "sesame" in text]


def test_a_file_edited_between_plan_and_staging_is_refused(tomcat: WiredTomcat) -> None:
    strategy = tomcat.strategy()
    strategy.artifact_id(LABEL)
    context = tomcat.base / "conf" / "context.xml"
    context.write_bytes(CONTEXT.replace(b"jdbc/shop", b"jdbc/store"))
    result = strategy.stage(LABEL, TOKEN)
    assert result.outcome is Outcome.REFUSED
    assert "`conf/context.xml` was changed" in result.detail
    assert tomcat.strategy().stage(LABEL, TOKEN).outcome is Outcome.DONE, "anew it goes on"


def test_a_file_edited_after_staging_is_never_overwritten(tomcat: WiredTomcat) -> None:
    strategy = tomcat.strategy()
    assert strategy.stage(LABEL, TOKEN).outcome is Outcome.DONE
    server = tomcat.base / "conf" / "server.xml"
    server.write_bytes(server.read_bytes() + b"<!-- mine -->\n")
    edited, pids = tomcat.files(), tomcat.app.pids()
    result = strategy.activate(strategy.artifact_id(LABEL), TOKEN)
    assert result.outcome is Outcome.REFUSED
    assert str(server) in result.detail
    assert str(tomcat.base / "conf" / "context.xml") not in result.detail
    assert (tomcat.files(), tomcat.app.pids()) == (edited, pids)


def test_a_file_edited_while_tomcat_stops_is_never_overwritten(tomcat: WiredTomcat) -> None:
    strategy = tomcat.strategy()
    strategy.stage(LABEL, TOKEN)
    context = tomcat.base / "conf" / "context.xml"
    edit = f"echo '<!-- mine -->' >> {context}; {tomcat.app.root}/control {tomcat.app.root} stop"
    strategy = tomcat.strategy(stop=("sh", "-c", edit))
    result = strategy.activate(strategy.artifact_id(LABEL), TOKEN)
    assert result.outcome is Outcome.FAILED
    assert "changed by somebody else meanwhile; the backend was started again" in result.detail
    assert tomcat.app.pids(), "nothing of ours could start it afterwards"
    assert context.read_bytes() == CONTEXT + b"<!-- mine -->\n"
    assert not (tomcat.base / "lib").exists() or not list((tomcat.base / "lib").iterdir())


def test_a_tomcat_that_somebody_is_connected_to_is_not_stopped(tomcat: WiredTomcat) -> None:
    strategy = tomcat.strategy()
    strategy.stage(LABEL, TOKEN)
    before, pids = tomcat.files(), tomcat.app.pids()
    with LocalConnection().open_stream("127.0.0.1", tomcat.app.port, timeout_ms=5_000):
        result = strategy.activate(strategy.artifact_id(LABEL), TOKEN)
    assert result.outcome is Outcome.REFUSED
    assert "still connected" in result.detail
    assert (tomcat.files(), tomcat.app.pids()) == (before, pids)
    assert not list(tomcat.base.glob("**/.*.rolling-deploy")), "not even a dot-name is left"


def test_who_was_replaced_changes_nothing(tomcat: WiredTomcat) -> None:
    strategy = tomcat.strategy()
    newer = FenceToken("r1", TOKEN.epoch + 1, "another@ci")
    assert strategy.stage(LABEL, newer).outcome is Outcome.DONE
    before = tomcat.files()
    for result in (
        strategy.stage(LABEL, TOKEN),
        strategy.activate(strategy.artifact_id(LABEL), TOKEN),
        strategy.prune(frozenset(), TOKEN),
    ):
        assert (result.outcome, result.is_fenced) == (Outcome.REFUSED, True)
    assert tomcat.files() == before


def test_a_jar_with_another_sha256_is_not_sent(tomcat: WiredTomcat) -> None:
    jar = tomcat.jars / "redisson-all-3.50.0.jar"
    manager = SessionManagerSettings("redisson", (Jar(str(jar), "0" * 64),))
    strategy = tomcat.wired_by(manager)
    checks = {check.name: check for check in strategy.preflight(LABEL)}
    assert checks["jars"].verdict is Verdict.REFUSED
    result = strategy.stage(LABEL, TOKEN)
    assert result.outcome is Outcome.REFUSED
    assert "sha256 should be 0000" in result.detail
    assert strategy.artifact_id(LABEL) not in seen(strategy).staged


def test_a_cut_upload_is_not_ready_and_is_sent_again(tomcat: WiredTomcat) -> None:
    assert tomcat.strategy(CutConnection()).stage(LABEL, TOKEN).outcome is Outcome.UNKNOWN
    strategy = tomcat.strategy()
    assert strategy.artifact_id(LABEL) not in seen(strategy).staged
    result = strategy.activate(strategy.artifact_id(LABEL), TOKEN)
    assert result.outcome is Outcome.REFUSED
    wire(strategy)


def test_a_damaged_copy_is_refused_before_anything_is_stopped(tomcat: WiredTomcat) -> None:
    strategy = tomcat.strategy()
    strategy.stage(LABEL, TOKEN)
    pids = tomcat.app.pids()
    for blob in tomcat.store.glob("*.blob"):
        if b"redisson-all" in blob.read_bytes():
            blob.write_bytes(b"PK half")
    result = strategy.activate(strategy.artifact_id(LABEL), TOKEN)
    assert result.outcome is Outcome.REFUSED
    assert "damaged" in result.detail
    assert tomcat.app.pids() == pids
    assert strategy.artifact_id(LABEL) not in seen(strategy).staged
    wire(strategy)


def test_a_full_disk_is_noticed_before_the_stop(tmp_path: Path, tomcat: WiredTomcat) -> None:
    with small_disk(tmp_path / "small", "1m") as disk:
        (disk / "conf").mkdir()
        for path in (tomcat.base / "conf").iterdir():
            (disk / "conf" / path.name).write_bytes(path.read_bytes())
        state = str(tmp_path / "state")
        small = replace(tomcat, base=disk)
        strategy = small.strategy(state_dir=state)
        assert strategy.stage(LABEL, TOKEN).outcome is Outcome.DONE
        free = os.statvfs(disk)
        (disk / "filling").write_bytes(b"x" * (free.f_bavail * free.f_bsize - 8192))
        before, pids = small.files(), tomcat.app.pids()
        result = strategy.activate(strategy.artifact_id(LABEL), TOKEN)
        assert result.outcome is Outcome.REFUSED
        assert "is the disk full?" in result.detail
        assert (small.files(), tomcat.app.pids()) == (before, pids)
        checks = {check.name: check for check in strategy.preflight(LABEL)}
        assert checks["disk space"].verdict is Verdict.REFUSED


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_what_another_user_may_not_read_or_write_is_said(tomcat: WiredTomcat) -> None:
    context = tomcat.base / "conf" / "context.xml"
    folder = tomcat.base
    while folder != folder.parent and str(folder).startswith("/tmp/"):
        folder.chmod(0o755)
        folder = folder.parent
    context.chmod(0o600)
    strategy = tomcat.strategy(LocalConnection(user=65534))
    found = strategy.look()
    assert isinstance(found, Unreachable)
    assert str(context) in found.detail
    with pytest.raises(PreflightRefused, match="cannot be read"):
        strategy.artifact_id(LABEL)
    checks = {check.name: check for check in strategy.preflight(LABEL)}
    assert checks["wiring"].verdict is Verdict.REFUSED
    assert checks["paths"].verdict is Verdict.REFUSED
    assert checks["going back"].verdict is Verdict.REFUSED
    assert strategy.stage(LABEL, TOKEN).outcome is Outcome.REFUSED


def test_preflight_of_a_sound_tomcat_is_all_ok(tomcat: WiredTomcat) -> None:
    checks = tomcat.strategy().preflight(LABEL)
    assert {check.verdict for check in checks} == {Verdict.OK}, checks


@pytest.mark.parametrize("place", ["base", "home"])
def test_another_version_of_a_jar_is_refused_by_name(tomcat: WiredTomcat, place: str) -> None:
    folder = (tomcat.base if place == "base" else tomcat.home) / "lib"
    folder.mkdir(exist_ok=True)
    other = folder / "redisson-all-3.40.0.jar"
    other.write_bytes(b"PK older")
    (folder / "redisson-all-in-one-1.0.jar").write_bytes(b"PK another product")
    refused = [c for c in tomcat.strategy().preflight(LABEL) if c.verdict is Verdict.REFUSED]
    assert [check.name for check in refused] == ["other versions"]
    assert f"`{other}`" in refused[0].detail


def test_preflight_names_what_would_go_wrong(tomcat: WiredTomcat) -> None:
    conf = tomcat.base / "conf"
    (conf / "context.xml").write_text('<Context>\n\n<Manager className="x.Other"/>\n</Context>')
    descriptor = conf / "Catalina" / "localhost" / "ROOT.xml"
    descriptor.parent.mkdir(parents=True)
    descriptor.write_text("<Context><Manager pathname=''/></Context>")
    (conf / "redisson.yaml").write_text("password: x")
    strategy = tomcat.strategy(graceful_stop_ms=60_000)
    checks = {check.name: check for check in strategy.preflight(LABEL)}
    assert checks["wiring"].verdict is Verdict.REFUSED
    assert f"{conf}/context.xml:3: " in checks["wiring"].detail
    assert "x.Other" in checks["wiring"].detail
    assert str(descriptor) in checks["session manager"].detail
    assert str(conf / "redisson.yaml") in checks["password"].detail
    assert checks["stop limit"].verdict is Verdict.REFUSED
    with pytest.raises(PreflightRefused, match=r"context\.xml:3: "):
        strategy.artifact_id(LABEL)


def test_a_stopped_tomcat_whose_files_are_its_owners_alone_is_taken_back(
    tomcat: WiredTomcat,
) -> None:
    for path in tomcat.base.glob("conf/*"):
        path.chmod(0o600)
    strategy = tomcat.strategy()
    earlier = str(seen(strategy).artifact)
    wire(strategy)
    tomcat.app.control("stop")
    result = strategy.activate(earlier, TOKEN)
    assert result.outcome is Outcome.DONE, result.detail
    assert tomcat.app.pids()


def test_a_file_that_somebody_else_wrote_is_never_written_over(tomcat: WiredTomcat) -> None:
    theirs = tomcat.base / "conf" / "redisson.yaml"
    theirs.write_text("singleServerConfig:\n  address: redis://kept\n")
    strategy = tomcat.strategy()
    checks = {check.name: check for check in strategy.preflight(LABEL)}
    assert checks["wiring"].verdict is Verdict.REFUSED
    assert f"`{theirs}` was not written by rolling-deploy" in checks["wiring"].detail
    assert strategy.stage(LABEL, TOKEN).outcome is Outcome.REFUSED
    theirs.unlink()
    wire(tomcat.strategy())
    wire(tomcat.strategy(password="our own may be renewed"))
    assert "our own may be renewed" in theirs.read_text()


def test_a_manager_with_other_settings_is_said_to_be_replaced(tomcat: WiredTomcat) -> None:
    wire(tomcat.strategy())
    checks = {check.name: check for check in tomcat.strategy().preflight(LABEL)}
    assert "session manager" not in checks
    context = tomcat.base / "conf" / "context.xml"
    context.write_bytes(context.read_bytes().replace(b'keyPrefix="', b'keyPrefix="theirs'))
    checks = {check.name: check for check in tomcat.strategy().preflight(LABEL)}
    assert checks["session manager"].verdict is Verdict.WARNING
    assert "are not found any more" in checks["session manager"].detail


def test_a_file_that_another_running_tomcat_reads_too_is_refused(
    tomcat: WiredTomcat, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "conf").symlink_to(tomcat.base / "conf")
    words = [sys.executable, "-c", "input()", f"-Dcatalina.base={other}"]
    with subprocess.Popen(words, stdin=subprocess.PIPE) as running:
        checks = tomcat.strategy().preflight(LABEL)
        running.communicate(b"\n")
    refused = [check for check in checks if check.verdict is Verdict.REFUSED]
    assert [check.name for check in refused] == ["shared files", "shared files"]
    assert str(other / "conf" / "context.xml") in refused[0].detail
    assert {check.verdict for check in tomcat.strategy().preflight(LABEL)} == {Verdict.OK}


def test_a_manager_of_the_applications_own_is_said(tomcat: WiredTomcat) -> None:
    own = tomcat.base / "webapps" / "ROOT" / "META-INF" / "context.xml"
    own.parent.mkdir(parents=True)
    own.write_text("<Context><Manager pathname=''/></Context>")
    checks = {check.name: check for check in tomcat.strategy().preflight(LABEL)}
    assert checks["session manager"].verdict is Verdict.WARNING
    assert str(own) in checks["session manager"].detail


def test_a_file_that_is_no_xml_is_refused_with_its_line(tomcat: WiredTomcat) -> None:
    (tomcat.base / "conf" / "server.xml").write_text("<Server>\n<Service>\n</Server>")
    checks = {check.name: check for check in tomcat.strategy().preflight(LABEL)}
    assert checks["wiring"].verdict is Verdict.REFUSED
    assert "conf/server.xml:3: not well formed" in checks["wiring"].detail


def test_a_file_that_is_a_link_is_written_where_it_leads(tomcat: WiredTomcat) -> None:
    context, elsewhere = tomcat.base / "conf" / "context.xml", tomcat.base.parent / "etc"
    elsewhere.mkdir()
    context.rename(elsewhere / "context.xml")
    context.symlink_to(elsewhere / "context.xml")
    strategy = tomcat.strategy()
    earlier = str(seen(strategy).artifact)
    wire(strategy)
    assert context.is_symlink()
    assert b"RedissonSessionManager" in (elsewhere / "context.xml").read_bytes()
    strategy.activate(earlier, TOKEN)
    assert context.is_symlink()
    assert (elsewhere / "context.xml").read_bytes() == CONTEXT


def test_a_tomcat_without_a_context_file_gets_one_and_loses_it_again(tomcat: WiredTomcat) -> None:
    context = tomcat.base / "conf" / "context.xml"
    context.unlink()
    strategy = tomcat.strategy()
    earlier = str(seen(strategy).artifact)
    wire(strategy)
    assert read_xml(context.read_bytes()).find("Manager") is not None
    strategy.activate(earlier, TOKEN)
    assert not context.exists()


def test_pruning_keeps_what_is_in_place_and_what_is_named(tomcat: WiredTomcat) -> None:
    strategy = tomcat.strategy(keep=0)
    first = str(seen(strategy).artifact)
    second = wire(strategy)
    third = wire(tomcat.strategy(password="another"))
    assert seen(strategy).staged == {first, second, third}
    assert strategy.prune(frozenset({first}), TOKEN).detail == "removed 1"
    assert seen(strategy).staged == {first, third}
    assert strategy.activate(first, TOKEN).outcome is Outcome.DONE, "all of it is still here"
    assert strategy.prune(frozenset(), TOKEN).detail == "removed 1"
    assert len(list(tomcat.store.glob("*.blob"))) == 2


def test_two_who_ask_at_once_get_one_answer(tomcat: WiredTomcat) -> None:
    connection = LocalConnection()
    strategy = tomcat.strategy(connection)
    names: list[str] = []
    threads = [
        threading.Thread(target=lambda: names.append(strategy.artifact_id(LABEL))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert (len(names), len(set(names)), connection.commands) == (4, 1, 1)
