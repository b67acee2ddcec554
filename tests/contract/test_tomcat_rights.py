"""The `tomcat` strategy where we are not Tomcat's own user: what may be written, moved and read."""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from rolling_deploy.remote.tomcat import TomcatStrategy
from rolling_deploy.rollout.observed import Verdict
from rolling_deploy.rollout.step import Outcome
from tests.local_connection import LocalConnection
from tests.strategies_fixture import (
    TOKEN,
    TomcatBackend,
    make_tomcat,
    seen,
    write_war,
)

NOBODY, TOMCATS_OWN = 65534, 33
NAME = pwd.getpwuid(NOBODY).pw_name


@pytest.fixture(scope="module")
def wars(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wars")
    for version in ("1", "2"):
        write_war(folder / f"app-{version}.war", b"", version)
    return folder


@pytest.fixture
def foreign(wars: Path) -> Iterator[TomcatBackend]:
    """A Tomcat that does not run, of a user who is not root, with version 1 in place."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to be other users")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        backend = make_tomcat(folder / "tomcat", wars)
        shutil.copy(wars / "app-1.war", backend.base / "webapps" / "ROOT.war")
        for path in (backend.base, *backend.base.rglob("*")):
            os.chown(path, NOBODY, NOBODY)
        yield backend


def as_nobody(backend: TomcatBackend) -> TomcatStrategy:
    """Its commands do nothing, and say so."""
    return backend.strategy(
        LocalConnection(user=NOBODY), stop=("false",), start=("false",), start_limit_ms=1_000
    )


@contextlib.contextmanager
def running_as(backend: TomcatBackend, user: int, group: int) -> Iterator[None]:
    """Something that looks like this Tomcat, as this user."""
    command = ["sh", "-c", "sleep 120; :", f"-Dcatalina.base={backend.base}"]
    with subprocess.Popen(
        command, user=user, group=group, extra_groups=[], start_new_session=True
    ) as process:
        try:
            yield
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def test_what_another_user_compiled_is_moved_out_of_the_way(foreign: TomcatBackend) -> None:
    work = foreign.base / "work" / "Catalina" / "localhost" / "ROOT"
    (work / "org").mkdir(parents=True)
    for path in (work.parent.parent, work.parent):
        os.chown(path, NOBODY, NOBODY)
    work.chmod(0o750)
    strategy = as_nobody(foreign)
    checks = {check.name: check for check in strategy.preflight("2")}
    assert checks["paths"].verdict is Verdict.OK
    assert checks["work directory"].verdict is Verdict.WARNING
    assert strategy.stage("2", TOKEN).outcome is Outcome.DONE
    result = strategy.activate(strategy.artifact_id("2"), TOKEN)
    assert "no process has come up" in result.detail, "it came as far as the start"
    assert seen(strategy).artifact == strategy.artifact_id("2")
    assert not work.exists()


def test_what_cannot_be_moved_away_is_found_before_the_stop(foreign: TomcatBackend) -> None:
    work = foreign.base / "work" / "Catalina" / "localhost" / "ROOT"
    work.mkdir(parents=True)
    strategy = as_nobody(foreign)
    checks = {check.name: check for check in strategy.preflight("2")}
    assert checks["paths"].verdict is Verdict.REFUSED
    assert f"`sudo setfacl -m u:{NAME}:rwx {work.parent}`" in checks["paths"].detail
    assert strategy.stage("2", TOKEN).outcome is Outcome.DONE
    result = strategy.activate(strategy.artifact_id("2"), TOKEN)
    assert result.outcome is Outcome.REFUSED
    assert str(work.parent) in result.detail
    assert "nothing was changed" in result.detail
    assert seen(strategy).artifact == strategy.artifact_id("1")


@pytest.mark.parametrize(
    ("group", "mode", "is_readable"),
    [(TOMCATS_OWN, 0o640, False), (TOMCATS_OWN, 0o644, True), (NOBODY, 0o640, True)],
)
def test_a_war_that_tomcat_could_not_read_is_never_put_in_place(
    foreign: TomcatBackend, group: int, mode: int, is_readable: bool
) -> None:
    war = foreign.base / "webapps" / "ROOT.war"
    os.chown(war, TOMCATS_OWN, NOBODY)
    war.chmod(mode)
    strategy = as_nobody(foreign)
    assert strategy.stage("2", TOKEN).outcome is Outcome.DONE
    with running_as(foreign, TOMCATS_OWN, group):
        names = {check.name: check.verdict for check in strategy.preflight("2")}
        result = strategy.activate(strategy.artifact_id("2"), TOKEN)
    assert names.get("new WAR") is (None if is_readable else Verdict.REFUSED)
    if is_readable:
        assert "still running" in result.detail, "it came as far as the stop"
    else:
        assert result.outcome is Outcome.REFUSED
        assert "could not read the new WAR" in result.detail


def test_what_is_missing_comes_with_the_command_that_makes_it(foreign: TomcatBackend) -> None:
    os.chown(foreign.base, 0, 0)
    webapps = foreign.base / "webapps"
    os.chown(webapps, 0, TOMCATS_OWN)
    webapps.chmod(0o775)
    checks = {check.name: check for check in as_nobody(foreign).preflight("2")}
    state = f"{foreign.base}/state"
    assert f"`sudo install -d -o {NAME} -m 700 {state}`" in checks["state directory"].detail
    assert "set `state_dir`" in checks["state directory"].detail
    store = f"{foreign.base}/.rolling-deploy/ROOT"
    assert f"sudo usermod -aG {grp.getgrgid(TOMCATS_OWN).gr_name} {NAME}" in checks["paths"].detail
    assert f"sudo install -d -o {NAME} -m 755 {store}`" in checks["paths"].detail
