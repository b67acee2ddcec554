"""The `release` strategy stops, switches and starts a real application on this machine."""

from __future__ import annotations

import os
import secrets
import threading
from pathlib import Path

import pytest

from rolling_deploy.ports import FenceToken
from rolling_deploy.rollout.step import Outcome, Result
from tests.local_connection import LocalConnection
from tests.strategies_fixture import (
    BY_HAND,
    TOKEN,
    AppBackend,
    DroppedConnection,
    app,
    archives,
    make_app,
    pids_with,
    running_app,
    seen,
    version_served,
    wait_for_version,
    wait_until,
)

__all__ = ["app", "archives"]


def by_text(app: AppBackend) -> str:
    return f"app.py --port {app.port}"


@pytest.mark.parametrize("is_found_by_text", [True, False])
def test_a_release_is_put_in_place_and_gone_back_from(
    app: AppBackend, is_found_by_text: bool
) -> None:
    strategy = app.strategy(process=by_text(app) if is_found_by_text else "")
    before = seen(strategy)
    assert before.artifact == BY_HAND
    assert before.is_restarted_since_swap is None, "nobody knows when it was put there"

    assert strategy.stage("2", TOKEN).outcome is Outcome.DONE
    assert version_served(app.port) == "1", "staging changes nothing that runs"
    artifact = strategy.artifact_id("2")
    assert seen(strategy).staged == {BY_HAND, artifact}

    (earlier,) = app.pids()
    assert strategy.activate(artifact, TOKEN).outcome is Outcome.DONE
    wait_for_version(app.port, "2")
    after = seen(strategy)
    assert (after.artifact, after.is_restarted_since_swap) == (artifact, True)
    assert earlier not in app.pids()

    assert strategy.activate(BY_HAND, TOKEN).outcome is Outcome.DONE
    wait_for_version(app.port, "1")
    back = seen(strategy)
    assert (back.artifact, back.is_restarted_since_swap) == (BY_HAND, True)
    assert len(app.pids()) == 1


def test_activating_what_already_runs_restarts_nothing(app: AppBackend) -> None:
    strategy = app.strategy()
    strategy.stage("2", TOKEN)
    assert strategy.activate(strategy.artifact_id("2"), TOKEN).outcome is Outcome.DONE
    wait_for_version(app.port, "2")
    before = app.pids()
    again = strategy.activate(strategy.artifact_id("2"), TOKEN)
    assert again.outcome is Outcome.DONE
    assert "already" in again.detail
    assert app.pids() == before


def test_a_restart_by_hand_from_before_the_swap_is_not_taken_for_new(app: AppBackend) -> None:
    strategy = app.strategy(stop=(), start=(), restart=("true",), start_limit_ms=1_000)
    strategy.stage("2", TOKEN)
    result = strategy.activate(strategy.artifact_id("2"), TOKEN)
    assert result.outcome is Outcome.FAILED
    assert "still running" in result.detail
    assert f"points at {strategy.artifact_id('2')} now" in result.detail
    assert seen(strategy).is_restarted_since_swap is False
    app.control("restart")
    wait_for_version(app.port, "2")
    assert seen(strategy).is_restarted_since_swap is True


def test_one_restart_command_is_enough(app: AppBackend) -> None:
    control = str(app.root / "control")
    restart = (control, str(app.root), "restart")
    strategy = app.strategy(stop=(), start=(), restart=restart)
    strategy.stage("2", TOKEN)
    assert strategy.activate(strategy.artifact_id("2"), TOKEN).outcome is Outcome.DONE
    wait_for_version(app.port, "2")
    assert seen(strategy).is_restarted_since_swap is True


def test_the_end_of_the_process_is_waited_for_not_that_of_the_command(app: AppBackend) -> None:
    app.options(ENDS_AFTER="0.7")
    app.control("restart")
    wait_for_version(app.port, "1")
    strategy = app.strategy()
    strategy.stage("2", TOKEN)
    result = strategy.activate(strategy.artifact_id("2"), TOKEN)
    assert result.outcome is Outcome.DONE
    assert result.took_ms >= 700
    assert len(app.pids()) == 1


def test_who_was_replaced_changes_nothing(app: AppBackend) -> None:
    strategy = app.strategy()
    newer = FenceToken("r1", TOKEN.epoch + 1, "another@ci")
    assert strategy.stage("2", newer).outcome is Outcome.DONE
    artifact = strategy.artifact_id("2")
    for result in (
        strategy.stage("3", TOKEN),
        strategy.activate(artifact, TOKEN),
        strategy.prune(frozenset(), TOKEN),
        strategy.activate(artifact, FenceToken("r1", newer.epoch, "a third@ci")),
    ):
        assert result.outcome is Outcome.REFUSED
        assert result.is_fenced
    assert version_served(app.port) == "1"
    assert seen(strategy).staged == {BY_HAND, artifact}


def test_a_start_that_fails_says_why_and_what_it_left(app: AppBackend) -> None:
    (app.root / "broken").touch()
    strategy = app.strategy()
    strategy.stage("2", TOKEN)
    artifact = strategy.artifact_id("2")
    result = strategy.activate(artifact, TOKEN)
    assert result.outcome is Outcome.FAILED
    assert "cannot start: no licence" in result.detail
    assert f"points at {artifact} now, and the backend is stopped" in result.detail
    left = seen(strategy)
    assert (left.artifact, left.is_restarted_since_swap) == (artifact, False)
    (app.root / "broken").unlink()
    assert strategy.activate(BY_HAND, TOKEN).outcome is Outcome.DONE
    wait_for_version(app.port, "1")


def test_what_is_started_does_not_inherit_anything_of_ours(app: AppBackend) -> None:
    connection = LocalConnection(environment={"LC_ALL": "C.UTF-8"})
    strategy = app.strategy(connection)
    strategy.stage("2", TOKEN)
    mask = os.umask(0o027)
    try:
        assert strategy.activate(strategy.artifact_id("2"), TOKEN).outcome is Outcome.DONE
    finally:
        os.umask(mask)
    (pid,) = app.pids()
    process = Path(f"/proc/{pid}")
    environment = process.joinpath("environ").read_bytes().split(b"\0")
    assert b"LC_ALL=C.UTF-8" in environment
    assert not any(word.startswith(b"RD_") for word in environment)
    status = dict(
        line.split(":\t", 1) for line in process.joinpath("status").read_text().splitlines()
    )
    assert int(status["Umask"], 8) == 0o027
    assert int(status["SigIgn"], 16) & 1 == 0, "SIGHUP is not ignored"
    held = [str(link.readlink()) for link in process.joinpath("fd").iterdir()]
    assert f"{app.root}/state/lock" not in held
    assert seen(strategy).is_busy is False


def test_a_link_to_a_place_of_its_own_can_be_gone_back_to(app: AppBackend) -> None:
    (app.root / "releases" / "by-hand").rename(app.root / "elsewhere")
    (app.root / "current").unlink()
    (app.root / "current").symlink_to(app.root / "elsewhere")
    strategy = app.strategy()
    strategy.stage("2", TOKEN)
    before = f"dir:{app.root}/elsewhere"
    assert seen(strategy).artifact == before
    assert strategy.activate(strategy.artifact_id("2"), TOKEN).outcome is Outcome.DONE
    assert before in seen(strategy).staged
    assert strategy.activate(before, TOKEN).outcome is Outcome.DONE
    wait_for_version(app.port, "1")


def test_a_first_deployment_needs_no_link_and_no_process(tmp_path: Path, archives: Path) -> None:
    app = make_app(tmp_path / "app9", archives)
    (app.root / "current").unlink()
    strategy = app.strategy(stop=("true",))
    assert seen(strategy).artifact is None
    strategy.stage("2", TOKEN)
    try:
        assert strategy.activate(strategy.artifact_id("2"), TOKEN).outcome is Outcome.DONE
        wait_for_version(app.port, "2")
    finally:
        app.end()


def while_activating(
    app: AppBackend, connection: LocalConnection, holds: str
) -> tuple[threading.Thread, list[Result]]:
    strategy = app.strategy(connection, process=by_text(app))
    results: list[Result] = []
    artifact = strategy.artifact_id("2")
    thread = threading.Thread(target=lambda: results.append(strategy.activate(artifact, TOKEN)))
    thread.start()
    log = app.root / "state" / f"{holds}.log"
    wait_until(log.exists, f"the {holds} command")
    return thread, results


@pytest.mark.parametrize("killed_during", ["stop", "start"])
def test_killed_in_the_middle_a_look_tells_the_truth_and_doing_it_again_finishes(
    app: AppBackend, killed_during: str
) -> None:
    app.options(STOP_TAKES="1", START_TAKES="1")
    strategy = app.strategy(process=by_text(app))
    strategy.stage("2", TOKEN)
    artifact = strategy.artifact_id("2")
    connection = LocalConnection()
    thread, results = while_activating(app, connection, killed_during)
    connection.kill_running()
    thread.join(60)
    assert results[0].outcome is Outcome.UNKNOWN
    found = seen(strategy)
    if killed_during == "stop":
        assert found.artifact == BY_HAND
    else:
        assert (found.artifact, found.is_restarted_since_swap) == (artifact, False)
    # The commands we gave live on; whatever they do meanwhile, the end is the same.
    again = strategy.activate(artifact, TOKEN)
    assert again.outcome is Outcome.DONE, again.detail
    wait_for_version(app.port, "2")
    after = seen(strategy)
    assert (after.artifact, after.is_restarted_since_swap) == (artifact, True)
    wait_until(lambda: not pids_with(f"{app.root}/control"), "the end of every earlier command")
    assert len(app.pids()) == 1


def test_what_was_begun_is_finished_without_us_and_seen_as_busy_until_then(
    app: AppBackend,
) -> None:
    app.options(STOP_TAKES="1")
    strategy = app.strategy()
    strategy.stage("2", TOKEN)
    artifact = strategy.artifact_id("2")
    lost = app.strategy(DroppedConnection()).activate(artifact, TOKEN)
    assert lost.outcome is Outcome.UNKNOWN
    wait_until(lambda: seen(strategy).is_busy, "the lock")
    strategy.wait_until_free(30_000)
    found = seen(strategy)
    assert found.is_busy is False
    assert (found.artifact, found.is_restarted_since_swap) == (artifact, True)
    wait_for_version(app.port, "2")


def test_a_second_activation_does_not_run_beside_the_first(app: AppBackend) -> None:
    app.options(STOP_TAKES="2")
    strategy = app.strategy()
    strategy.stage("2", TOKEN)
    artifact = strategy.artifact_id("2")
    results: list[Result] = []
    threads = [
        threading.Thread(target=lambda: results.append(app.strategy().activate(artifact, TOKEN)))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [result.outcome for result in results] == [Outcome.DONE, Outcome.DONE]
    assert any("already" in result.detail for result in results)
    assert len(app.pids()) == 1


def test_two_backends_on_one_machine_do_not_touch_each_other(
    tmp_path: Path, archives: Path
) -> None:
    # One name is the beginning of the other; both are this test's own on this machine.
    name = f"app-{secrets.token_hex(4)}-1"
    with (
        running_app(tmp_path / name, archives) as one,
        running_app(tmp_path / f"{name}0", archives) as ten,
    ):
        strategies = [each.strategy(process=f"--name {each.root.name}") for each in (one, ten)]
        results: list[Result] = []

        def upgrade(at: int, release: str) -> None:
            strategies[at].stage(release, TOKEN)
            artifact = strategies[at].artifact_id(release)
            results.append(strategies[at].activate(artifact, TOKEN))

        ten_before = ten.pids()
        upgrade(0, "2")
        assert results[0].outcome is Outcome.DONE, results[0].detail
        wait_for_version(one.port, "2")
        assert ten.pids() == ten_before
        threads = [threading.Thread(target=upgrade, args=(at, "3")) for at in (0, 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert [result.outcome for result in results] == [Outcome.DONE] * 3
        for each in (one, ten):
            wait_for_version(each.port, "3")


def test_killed_at_any_moment_doing_it_again_finishes(app: AppBackend) -> None:
    strategy = app.strategy()
    names = {}
    for version in ("2", "3"):
        assert strategy.stage(version, TOKEN).outcome is Outcome.DONE
        names[version] = strategy.artifact_id(version)
    for turn in range(8):
        version = ("2", "3")[turn % 2]
        connection = LocalConnection()
        killer = threading.Timer(0.05 + turn * 0.07, connection.kill_running)
        killer.start()
        app.strategy(connection).activate(names[version], TOKEN)
        killer.join(60)
        found = seen(strategy)
        assert found.artifact in {*names.values(), BY_HAND}, "the link points at one or the other"
        again = strategy.activate(names[version], TOKEN)
        assert again.outcome is Outcome.DONE, again.detail
        wait_for_version(app.port, version)
        after = seen(strategy)
        assert (after.artifact, after.is_restarted_since_swap) == (names[version], True)
        wait_until(lambda: len(app.pids()) == 1, "one process")
