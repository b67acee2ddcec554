"""What we write is ours alone, whatever the umask is, and nobody else can put it there for us."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from rolling_deploy.errors import RecordWrong
from rolling_deploy.ports import FenceToken
from rolling_deploy.remote.files import send_file
from rolling_deploy.remote.record_copies import Holder, Place, append_copy, hold
from rolling_deploy.remote.script import run_script
from rolling_deploy.rollout.step import Outcome
from rolling_deploy.state.record_file import Records
from tests.local_connection import LocalConnection
from tests.nginx_machine import NginxMachine, system_nginx, wheel_nginx
from tests.strategies_fixture import (
    TOKEN,
    AppBackend,
    app,
    archives,
    make_tomcat,
    wait_for_version,
    write_war,
)

__all__ = ["app", "archives"]

TOKEN_1 = FenceToken("r-1", 1, "ann")
HOLDER = Holder("ann", "laptop", "", 1_000, "r-1", "")
OTHERS = 0o077
NOBODY = 65_534
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be other users")


@pytest.fixture(autouse=True)
def without_umask() -> Iterator[None]:
    """As of a login whose umask takes nothing away."""
    before = os.umask(0)
    yield
    os.umask(before)


def open_to_others(place: Path) -> dict[str, str]:
    """Answers what below a place (with itself) anybody else may do anything with."""
    found = {}
    for path in (place, *place.rglob("*")):
        mode = path.lstat().st_mode
        if not stat.S_ISLNK(mode) and mode & OTHERS:
            found[str(path.relative_to(place))] = stat.filemode(mode)
    return found


def writable_by_others(place: Path) -> list[str]:
    paths = (place, *place.rglob("*"))
    return [
        str(path)
        for path in paths
        if not path.is_symlink() and path.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    ]


def test_a_load_balancers_state_is_private_and_its_file_keeps_its_mode() -> None:
    binary = system_nginx() or wheel_nginx()
    if binary is None:
        pytest.skip("no nginx on this machine")
    with NginxMachine(binary) as machine:
        machine.file.chmod(0o640)
        assert machine.publish("g1").outcome is Outcome.DONE
        assert machine.publish("g2", down=0).outcome is Outcome.DONE
        place = Place(LocalConnection(), str(machine.state_dir))
        holder = FenceToken("r1", 1, "ann")
        assert hold({"lb1": place}, holder, HOLDER) == {}
        line = b'{"a":1}\n'
        assert append_copy(place, holder, [line], size=0, tail=b"", step="x").detail == ""
        assert machine.nginx().pretest("events {}\nhttp {}\n")[0]
        names = {path.name for path in machine.state_dir.iterdir()}
        assert {"lock", "fence", "original", "generations", "r1.jsonl", "holder"} <= names
        assert open_to_others(machine.state_dir) == {}
        assert machine.file.stat().st_mode & 0o777 == 0o640
        beside = sorted(path.name for path in machine.conf_d.iterdir())
        assert beside == [machine.file.name], "nothing is left beside it"


def test_a_backends_state_is_private_and_its_releases_can_be_read_only(app: AppBackend) -> None:
    strategy = app.strategy()
    assert strategy.stage("2", TOKEN).outcome is Outcome.DONE
    assert strategy.activate(strategy.artifact_id("2"), TOKEN).outcome is Outcome.DONE
    wait_for_version(app.port, "2")
    state = app.root / "state"
    assert {"lock", "fence", "start.log", "stop.log", "swap"} <= {p.name for p in state.iterdir()}
    assert open_to_others(state) == {}
    release = (app.root / "current").resolve()
    assert release != app.root / "releases" / "by-hand"
    assert writable_by_others(release) == []
    assert (release / "app.py").stat().st_mode & stat.S_IROTH, "the application's user reads it"


def test_a_staged_war_is_private_until_it_is_put_in_place(tmp_path: Path) -> None:
    write_war(tmp_path / "app-2.war", b"", "2")
    tomcat = make_tomcat(tmp_path / "tomcat", tmp_path)
    strategy = tomcat.strategy(stop=("false",), start=("false",), start_limit_ms=1_000)
    assert strategy.stage("2", TOKEN).outcome is Outcome.DONE
    (staged,) = (tomcat.base / ".rolling-deploy" / "ROOT").glob("*.war")
    assert staged.stat().st_mode & 0o777 == 0o600
    assert not staged.parent.stat().st_mode & 0o022
    assert open_to_others(tomcat.base / "state") == {}


def test_the_local_record_is_private_with_all_that_was_made_for_it(tmp_path: Path) -> None:
    file = Records(tmp_path / "a" / "state", "shop").file("r-1")
    file.hold()
    file.put([b"line\n"], 0)
    file.close()
    assert open_to_others(tmp_path / "a") == {}


# Whoever could put a file there could decide what is done.


def refused_in(place: Path) -> str:
    """Answers why every kind of command refuses a state directory; nothing is written in it."""
    connection = LocalConnection()
    here = Place(connection, str(place))
    replies = [
        append_copy(here, TOKEN_1, [b"x\n"], size=0, tail=b"", step=""),
        run_script(
            connection,
            "stage_release",
            [f"state={place}", f"root={place}", "epoch=1", "holder=ann", "artifact=x", "process=",
             "exact=0", "port=1", "listens=1", "guarded=", "ignored=", "is_catalina=0"],
            limit_ms=30_000,
        ),
    ]  # fmt: skip
    assert hold({"lb1": here}, TOKEN_1, HOLDER).keys() == {"lb1"}
    assert {reply.outcome for reply in replies} == {Outcome.REFUSED}
    assert len({reply.detail for reply in replies}) == 1, replies
    return replies[0].detail


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o703])
def test_a_state_directory_that_everybody_may_write_in_is_refused(
    tmp_path: Path, mode: int
) -> None:
    place = tmp_path / "state"
    place.mkdir()
    place.chmod(mode)
    (place / "fence").write_text("0 -\n")
    assert "everybody may write" in refused_in(place)
    assert sorted(path.name for path in place.iterdir()) == ["fence"]


@needs_root
def test_a_state_directory_of_another_user_is_refused(tmp_path: Path) -> None:
    place = tmp_path / "state"
    place.mkdir(mode=0o755)
    os.chown(place, NOBODY, NOBODY)
    assert f"belongs to another user (uid {NOBODY})" in refused_in(place)
    assert list(place.iterdir()) == []


@needs_root
def test_roots_directory_that_we_may_write_in_is_fine() -> None:
    """As `sudo install -d -g deploy -m 770` makes it."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        place = Path(name, "state")
        place.mkdir()
        os.chown(place, 0, NOBODY)
        place.chmod(0o770)
        connection = LocalConnection(user=NOBODY)
        assert hold({"lb1": Place(connection, str(place))}, TOKEN_1, HOLDER) == {}


def test_a_local_record_that_everybody_could_have_put_there_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "shop"
    folder.mkdir()
    folder.chmod(0o777)
    (folder / "r-1.jsonl").write_bytes(b"")
    file = Records(tmp_path, "shop").file("r-1")
    for ask in (file.read, file.hold):
        with pytest.raises(RecordWrong) as caught:
            ask()
        assert "may be written by everybody" in caught.value.what
        assert "chmod 700" in caught.value.next_step


@needs_root
def test_a_local_record_in_another_users_directory_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "shop"
    folder.mkdir(mode=0o700)
    os.chown(folder, NOBODY, NOBODY)
    file = Records(tmp_path, "shop").file("r-1")
    for ask in (file.read, file.hold):
        with pytest.raises(RecordWrong, match="belongs to another user"):
            ask()
    assert list(folder.iterdir()) == []


def test_a_link_in_the_place_of_the_local_record_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    folder = tmp_path / "shop"
    folder.mkdir(mode=0o700)
    (folder / "r-1.jsonl").symlink_to(victim)
    with pytest.raises(RecordWrong, match="should be a file, is a link"):
        Records(tmp_path, "shop").file("r-1").hold()
    assert victim.read_text() == "precious"


def test_a_link_in_the_place_of_what_is_received_is_not_followed(tmp_path: Path) -> None:
    """Also under the name of the part, should somebody guess it: it is only ever made anew."""
    victim = tmp_path / "victim"
    victim.write_text("precious")
    place = tmp_path / "world"
    place.mkdir()
    place.chmod(0o1777)
    (place / "a.war").symlink_to(victim)
    source = tmp_path / "source"
    source.write_bytes(b"content")
    sent = send_file(LocalConnection(), source, f"{place}/a.war", mode=0o600, limit_ms=30_000)
    assert sent.outcome is Outcome.DONE
    assert not (place / "a.war").is_symlink()
    assert victim.read_text() == "precious"
    (place / ".b.war.rolling-deploy.guessed").symlink_to(tmp_path / "new")
    words = [f"{place}/b.war", "0600", "7", "0" * 64, "guessed"]
    reply = run_script(LocalConnection(), "receive", words, stdin=b"content", limit_ms=30_000)
    assert reply.outcome is Outcome.FAILED
    assert not (tmp_path / "new").exists()
    assert not (place / "b.war").exists()
