"""The `tomcat` strategy: a real Tomcat upgraded and taken back, and what must never reach one."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from rolling_deploy.ports import FenceToken
from rolling_deploy.rollout.observed import Unreachable, Verdict
from rolling_deploy.rollout.step import Outcome, Result
from tests.local_connection import LocalConnection
from tests.strategies_fixture import (
    TOKEN,
    CutConnection,
    TomcatBackend,
    make_tomcat,
    seen,
    servlet_class,
    version_served,
    wait_for_version,
    why_no_tomcat,
    write_war,
)

needs_tomcat = pytest.mark.skipif(bool(why_no_tomcat()), reason=why_no_tomcat())


@pytest.fixture(scope="module")
def wars(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wars")
    servlet = b"" if why_no_tomcat() else servlet_class(folder)
    for version in ("1", "2", "3"):
        write_war(folder / f"app-{version}.war", servlet, version)
    return folder


@dataclass(frozen=True)
class Pair:
    """Two Tomcats on one machine. The path of the first is a beginning of the other's."""

    first: TomcatBackend
    second: TomcatBackend

    def served(self) -> tuple[str, str]:
        """Answers what the two serve."""
        return version_served(self.first.port), version_served(self.second.port, "/shop/version")


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory, wars: Path) -> Iterator[Pair]:
    """Both on version 1, put there by hand."""
    folder = tmp_path_factory.mktemp("tomcats")
    first = make_tomcat(folder / "tomcat", wars)
    second = make_tomcat(folder / "tomcat2", wars, context="shop", has_shutdown_port=False)
    try:
        for backend in (first, second):
            war = backend.base / "webapps" / f"{backend.settings.context}.war"
            shutil.copy(wars / "app-1.war", war)
            war.chmod(0o640)
            result = activate(backend, "1")
            assert result.outcome is Outcome.DONE, result.detail
        wait_for_version(first.port, "1")
        wait_for_version(second.port, "1", "/shop/version")
        yield Pair(first, second)
    finally:
        first.end()
        second.end()


@pytest.fixture
def idle(tmp_path: Path, wars: Path) -> TomcatBackend:
    """A Tomcat that does not run, with version 1 in place."""
    backend = make_tomcat(tmp_path / "tomcat", wars)
    shutil.copy(wars / "app-1.war", backend.base / "webapps" / "ROOT.war")
    return backend


def activate(backend: TomcatBackend, release: str) -> Result:
    strategy = backend.strategy()
    staged = strategy.stage(release, TOKEN)
    assert staged.outcome is Outcome.DONE, staged.detail
    return strategy.activate(strategy.artifact_id(release), TOKEN)


@needs_tomcat
def test_a_real_tomcat_is_upgraded_and_taken_back(pair: Pair) -> None:
    backend = pair.first
    strategy = backend.strategy()
    one, two = strategy.artifact_id("1"), strategy.artifact_id("2")
    assert strategy.stage("1", TOKEN).outcome is Outcome.DONE
    assert strategy.activate(one, TOKEN).outcome is Outcome.DONE
    wait_for_version(backend.port, "1")
    # What was unpacked by hand beside the WAR would be served instead of a new WAR.
    exploded = backend.base / "webapps" / "ROOT"
    shutil.rmtree(exploded / "META-INF")
    stale = backend.base / "work" / "Catalina" / "localhost" / "ROOT" / "stale"
    stale.parent.mkdir(parents=True, exist_ok=True)
    stale.touch()

    neighbour = pair.second.pids()
    assert strategy.stage("2", TOKEN).outcome is Outcome.DONE
    assert version_served(backend.port) == "1", "staging changes nothing that runs"
    assert {one, two} <= seen(strategy).staged, "what runs now can be gone back to"
    result = strategy.activate(two, TOKEN)
    assert result.outcome is Outcome.DONE, result.detail
    wait_for_version(backend.port, "2")
    after = seen(strategy)
    assert (after.artifact, after.is_restarted_since_swap) == (two, True)
    assert not stale.exists()
    assert (backend.base / "webapps" / "ROOT.war").stat().st_mode & 0o777 == 0o640

    assert strategy.activate(one, TOKEN).outcome is Outcome.DONE
    wait_for_version(backend.port, "1")
    assert len(backend.pids()) == 1
    assert pair.second.pids() == neighbour, "the other Tomcat was left alone"


@needs_tomcat
def test_two_tomcats_of_one_machine_are_upgraded_at_once(pair: Pair) -> None:
    before = {*pair.first.pids(), *pair.second.pids()}
    results: list[Result] = []
    threads = [
        threading.Thread(target=lambda backend=backend: results.append(activate(backend, "3")))
        for backend in (pair.first, pair.second)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(180)
    assert [result.outcome for result in results] == [Outcome.DONE] * 2, results
    wait_for_version(pair.first.port, "3")
    # This one has no shutdown port, so `catalina.sh stop` alone does not stop it.
    wait_for_version(pair.second.port, "3", "/shop/version")
    assert before.isdisjoint({*pair.first.pids(), *pair.second.pids()})


@needs_tomcat
def test_a_tomcat_that_somebody_is_connected_to_is_not_stopped(pair: Pair) -> None:
    strategy = pair.first.strategy()
    other = "1" if pair.served()[0] == "2" else "2"
    assert strategy.stage(other, TOKEN).outcome is Outcome.DONE
    before, pids = seen(strategy), pair.first.pids()
    with LocalConnection().open_stream("127.0.0.1", pair.first.port, timeout_ms=5_000) as stream:
        mine = "{}:{}".format(*stream.getsockname())
        result = strategy.activate(strategy.artifact_id(other), TOKEN)
    assert result.outcome is Outcome.REFUSED
    assert mine in result.detail
    assert (seen(strategy).artifact, pair.first.pids()) == (before.artifact, pids)


@needs_tomcat
def test_a_tomcat_that_does_not_stop_keeps_its_war(pair: Pair) -> None:
    strategy = pair.first.strategy(stop=("true",), stop_limit_ms=1_000)
    served = pair.served()[0]
    other = "1" if served == "2" else "2"
    assert strategy.stage(other, TOKEN).outcome is Outcome.DONE
    before = seen(strategy).artifact
    result = strategy.activate(strategy.artifact_id(other), TOKEN)
    assert result.outcome is Outcome.FAILED
    assert "still running" in result.detail
    assert f"ROOT.war is still {before}" in result.detail
    assert seen(strategy).artifact == before
    assert version_served(pair.first.port) == served


@needs_tomcat
def test_preflight_of_a_sound_tomcat_is_all_ok(pair: Pair) -> None:
    checks = pair.first.strategy().preflight("2")
    assert {check.verdict for check in checks} == {Verdict.OK}, checks


def test_a_damaged_war_in_the_store_is_refused_before_anything_is_stopped(
    idle: TomcatBackend,
) -> None:
    strategy = idle.strategy(start=("false",))
    strategy.stage("2", TOKEN)
    artifact = strategy.artifact_id("2")
    staged = idle.base / ".rolling-deploy" / "ROOT" / f"{artifact}.war"
    staged.write_bytes(staged.read_bytes()[:1000])
    result = strategy.activate(artifact, TOKEN)
    assert result.outcome is Outcome.REFUSED
    assert "damaged" in result.detail
    found = seen(strategy)
    assert found.artifact == strategy.artifact_id("1")
    assert artifact not in found.staged, "it is to be sent again"
    assert strategy.stage("2", TOKEN).outcome is Outcome.DONE
    assert artifact in seen(strategy).staged


def test_a_damaged_war_is_sent_again_by_staging(idle: TomcatBackend) -> None:
    strategy = idle.strategy()
    strategy.stage("2", TOKEN)
    staged = idle.base / ".rolling-deploy" / "ROOT" / f"{strategy.artifact_id('2')}.war"
    staged.write_bytes(b"PK")
    assert strategy.stage("2", TOKEN).outcome is Outcome.DONE
    assert staged.stat().st_size > 2


def test_a_cut_upload_puts_nothing_where_tomcat_could_see_it(idle: TomcatBackend) -> None:
    strategy = idle.strategy(CutConnection())
    assert strategy.stage("2", TOKEN).outcome is Outcome.UNKNOWN
    assert [path.name for path in (idle.base / "webapps").iterdir()] == ["ROOT.war"]
    assert seen(strategy).staged == {strategy.artifact_id("1")}


def test_who_was_replaced_changes_nothing(idle: TomcatBackend) -> None:
    strategy = idle.strategy(start=("false",))
    newer = FenceToken("r1", TOKEN.epoch + 1, "another@ci")
    assert strategy.stage("2", newer).outcome is Outcome.DONE
    for result in (
        strategy.stage("3", TOKEN),
        strategy.activate(strategy.artifact_id("2"), TOKEN),
        strategy.prune(frozenset(), TOKEN),
    ):
        assert result.outcome is Outcome.REFUSED
        assert result.is_fenced
    assert seen(strategy).staged == {strategy.artifact_id("1"), strategy.artifact_id("2")}


def test_a_war_put_there_by_a_person_after_staging_is_kept_too(
    idle: TomcatBackend, wars: Path
) -> None:
    strategy = idle.strategy(start=("false",), start_limit_ms=1_000)
    strategy.stage("2", TOKEN)
    shutil.copy(wars / "app-3.war", idle.base / "webapps" / "ROOT.war")
    result = strategy.activate(strategy.artifact_id("2"), TOKEN)
    assert result.outcome is Outcome.FAILED, (
        "there is no process, as the start command does nothing"
    )
    assert "no process has come up" in result.detail
    assert strategy.artifact_id("3") in seen(strategy).staged


def test_a_directory_that_a_person_unpacked_is_moved_not_removed(
    idle: TomcatBackend,
) -> None:
    (idle.base / "webapps" / "ROOT.war").unlink()
    exploded = idle.base / "webapps" / "ROOT"
    exploded.mkdir()
    (exploded / "precious.jsp").write_text("by hand")
    strategy = idle.strategy(start=("false",), start_limit_ms=1_000)
    assert seen(strategy).artifact == "dir:ROOT"
    checks = {check.name: check for check in strategy.preflight("2")}
    assert checks["going back"].verdict is Verdict.WARNING
    strategy.stage("2", TOKEN)
    strategy.activate(strategy.artifact_id("2"), TOKEN)
    assert seen(strategy).artifact == strategy.artifact_id("2")
    store = idle.base / ".rolling-deploy" / "ROOT"
    strategy.prune(frozenset(), TOKEN)
    assert [path.name for path in store.glob("kept-*/*")] == ["precious.jsp"]


@pytest.mark.parametrize("context", ["ROOT", "shop", "a#b", "a b's"])
def test_every_context_has_its_own_war_and_store(tmp_path: Path, wars: Path, context: str) -> None:
    backend = make_tomcat(tmp_path / "to m'cat", wars, context=context)
    strategy = backend.strategy(start=("false",), start_limit_ms=1_000)
    assert seen(strategy).artifact is None
    assert strategy.stage("2", TOKEN).outcome is Outcome.DONE
    strategy.activate(strategy.artifact_id("2"), TOKEN)
    names = sorted(path.name for path in (backend.base / "webapps").iterdir())
    assert names == [f"{context}.war"]
    found = seen(strategy)
    assert (found.artifact, found.is_restarted_since_swap) == (strategy.artifact_id("2"), False)


def test_pruning_keeps_what_runs_and_what_is_named(idle: TomcatBackend, wars: Path) -> None:
    strategy = idle.strategy(keep=1)
    store = idle.base / ".rolling-deploy" / "ROOT"
    names = {}
    for version in ("2", "3"):
        strategy.stage(version, TOKEN)
        names[version] = strategy.artifact_id(version)
    one = strategy.artifact_id("1")
    for age, name in enumerate((one, names["2"], names["3"])):
        os.utime(store / f"{name}.war", (age, age))
    assert strategy.prune(frozenset(names.values()), TOKEN).detail == "removed 0"
    assert strategy.prune(frozenset(), TOKEN).detail == "removed 1"
    assert seen(strategy).staged == {one, names["3"]}


def test_look_reads_the_deployed_war_anew_when_it_was_replaced(
    idle: TomcatBackend, wars: Path
) -> None:
    war = idle.base / "webapps" / "ROOT.war"
    strategy = idle.strategy()
    os.utime(war, (1, 1))
    strategy.stage("2", TOKEN)
    assert seen(strategy).artifact == strategy.artifact_id("1")
    # Same size, same times as far as anybody can set them: the inode's own time tells.
    replacement = bytearray(war.read_bytes())
    replacement[-1] ^= 1
    war.write_bytes(bytes(replacement))
    os.utime(war, (1, 1))
    assert seen(strategy).artifact != strategy.artifact_id("1")


def test_what_cannot_be_looked_at_is_unreachable(idle: TomcatBackend) -> None:
    strategy = idle.strategy(catalina_base=f"{idle.base}/nowhere")
    found = strategy.look()
    assert isinstance(found, Unreachable)
    assert "not a directory" in found.detail


def test_preflight_names_what_would_go_wrong(idle: TomcatBackend, tmp_path: Path) -> None:
    (tmp_path / "cut.war").write_bytes(b"PK\x03\x04 half of it")
    conf = idle.base / "conf"
    text = (conf / "server.xml").read_text()
    text = text.replace(' gracefulStopAwaitMillis="5000"', "").replace(' autoDeploy="false"', "")
    (conf / "server.xml").write_text(text)
    descriptors = conf / "Catalina" / "localhost"
    descriptors.mkdir(parents=True)
    (descriptors / "ROOT.xml").write_text('<Context docBase="/srv/app.war"/>')
    strategy = idle.strategy(artifact=f"{tmp_path}/cut.war", catalina_home="/nowhere")
    checks = {check.name: check for check in strategy.preflight("2")}
    assert checks["artifact"].verdict is Verdict.REFUSED
    assert checks["commands"].verdict is Verdict.REFUSED
    assert "docBase" in checks["paths"].detail
    assert checks["graceful stop"].verdict is Verdict.WARNING
    assert "gracefulStopAwaitMillis" in checks["graceful stop"].detail
    assert checks["autoDeploy"].verdict is Verdict.WARNING
    assert checks["process"].verdict is Verdict.WARNING
