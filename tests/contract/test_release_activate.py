"""The `release` strategy stops, switches and starts a real application on this machine."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from rolling_deploy.ports import FenceToken
from rolling_deploy.rollout.observed import Verdict
from rolling_deploy.rollout.step import Outcome, Result
from tests.local_connection import LocalConnection
from tests.redis_server import free_port
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
    small_disk,
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


def test_a_process_that_does_not_stop_leaves_everything_in_place(app: AppBackend) -> None:
    (app.root / "stubborn").touch()
    strategy = app.strategy(stop_limit_ms=1_000)
    strategy.stage("2", TOKEN)
    result = strategy.activate(strategy.artifact_id("2"), TOKEN)
    assert result.outcome is Outcome.FAILED
    assert "still running" in result.detail
    assert f"still points at {BY_HAND}" in result.detail
    assert version_served(app.port) == "1"
    assert seen(strategy).artifact == BY_HAND


def test_a_stop_that_is_refused_at_once_does_not_get_the_whole_limit(app: AppBackend) -> None:
    stop = ("sh", "-c", "echo sudo: a password is required >&2; exit 1")
    strategy = app.strategy(stop=stop, stop_limit_ms=3_600_000)
    strategy.stage("2", TOKEN)
    result = strategy.activate(strategy.artifact_id("2"), TOKEN)
    assert result.outcome is Outcome.FAILED
    assert "it ended with status 1" in result.detail
    assert "a password is required" in result.detail
    assert version_served(app.port) == "1"
    assert seen(strategy).artifact == BY_HAND


def test_a_bad_status_of_a_stop_that_works_all_the_same_is_no_refusal(app: AppBackend) -> None:
    app.options(ENDS_AFTER="3")
    app.control("restart")
    wait_for_version(app.port, "1")
    strategy = app.strategy(stop=("sh", "-c", f"{app.root}/control {app.root} stop; exit 1"))
    strategy.stage("2", TOKEN)
    result = strategy.activate(strategy.artifact_id("2"), TOKEN)
    assert result.outcome is Outcome.DONE, result.detail


@contextlib.contextmanager
def somebody_reading(text: str) -> Iterator[int]:
    """A process of a person with this text in its command line; answers its pid."""
    command = ["sh", "-c", "sleep 120; :", "tail -f", text]
    with subprocess.Popen(command, start_new_session=True) as process:
        try:
            yield process.pid
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def test_a_person_who_only_mentions_the_process_neither_delays_nor_counts(app: AppBackend) -> None:
    app.end()
    # In a session of its own, as every service manager does.
    subprocess.run(["setsid", app.root / "control", app.root, "start"], check=True, timeout=60)
    wait_for_version(app.port, "1")
    strategy = app.strategy(process=by_text(app))
    strategy.stage("2", TOKEN)
    with somebody_reading(by_text(app)) as stranger:
        checks = {check.name: check for check in strategy.preflight("2")}
        assert checks["process"].verdict is Verdict.WARNING
        assert f"also fits {stranger} `" in checks["process"].detail
        result = strategy.activate(strategy.artifact_id("2"), TOKEN)
        assert result.outcome is Outcome.DONE, result.detail
        wait_for_version(app.port, "2")
        assert f"process {stranger} runs" not in result.detail
        assert seen(strategy).is_restarted_since_swap is True
    assert {check.verdict for check in strategy.preflight("2")} == {Verdict.OK}


def test_a_text_that_fits_only_somebody_else_is_warned_of(app: AppBackend) -> None:
    text = f"no such words {secrets.token_hex(4)}"
    with somebody_reading(text) as stranger:
        checks = {check.name: check for check in app.strategy(process=text).preflight("2")}
    assert checks["process"].verdict is Verdict.WARNING
    assert f"fits {stranger} `" in checks["process"].detail


def test_a_full_disk_is_found_before_anything_is_stopped(tmp_path: Path, archives: Path) -> None:
    with (
        small_disk(tmp_path / "small", "2m") as disk,
        running_app(disk / "app", archives) as app,
    ):
        strategy = app.strategy()
        assert strategy.stage("2", TOKEN).outcome is Outcome.DONE
        pids = app.pids()
        with (disk / "filling").open("wb", buffering=0) as filling, contextlib.suppress(OSError):
            while filling.write(bytes(4096)):
                pass
        result = strategy.activate(strategy.artifact_id("2"), TOKEN)
        assert result.outcome is Outcome.REFUSED, result.detail
        assert "nothing was changed" in result.detail
        assert app.pids() == pids
        (disk / "filling").unlink()
        assert strategy.activate(strategy.artifact_id("2"), TOKEN).outcome is Outcome.DONE


def test_a_command_is_noted_before_it_does_anything(app: AppBackend) -> None:
    note, seen_note = app.root / "state" / "stopping", app.root / "seen"
    looks = f"cat {note} > {seen_note}; echo $$ >> {seen_note}"
    stop = ("sh", "-c", f"{looks}; exec {app.root}/control {app.root} stop")
    strategy = app.strategy(stop=stop)
    strategy.stage("2", TOKEN)
    assert strategy.activate(strategy.artifact_id("2"), TOKEN).outcome is Outcome.DONE
    noted, pid = seen_note.read_text().splitlines()
    assert noted.split()[1].partition(":")[0] == pid


def test_a_supervisor_that_restarts_what_was_stopped_is_noticed(app: AppBackend) -> None:
    stop = ("sh", "-c", f"{app.root}/control {app.root} restart")
    strategy = app.strategy(stop=stop, stop_limit_ms=2_000, process=by_text(app))
    strategy.stage("2", TOKEN)
    result = strategy.activate(strategy.artifact_id("2"), TOKEN)
    assert result.outcome is Outcome.FAILED
    assert "does something restart it?" in result.detail
    assert seen(strategy).artifact == BY_HAND


def test_nothing_is_stopped_while_somebody_is_connected(app: AppBackend) -> None:
    strategy = app.strategy()
    strategy.stage("2", TOKEN)
    before = app.pids()
    with LocalConnection().open_stream("127.0.0.1", app.port, timeout_ms=5_000) as stream:
        mine = "{}:{}".format(*stream.getsockname())
        result = strategy.activate(strategy.artifact_id("2"), TOKEN)
    assert result.outcome is Outcome.REFUSED
    assert mine in result.detail
    assert app.pids() == before
    assert seen(strategy).artifact == BY_HAND


def test_every_port_that_users_come_in_by_is_guarded(app: AppBackend) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        both = replace(app, other_ports=(port,))
        strategy = both.strategy()
        strategy.stage("2", TOKEN)
        checks = {check.name: check for check in strategy.preflight("2")}
        assert checks["open connections"].verdict is Verdict.OK
        assert str(port) in checks["open connections"].detail
        with LocalConnection().open_stream("127.0.0.1", port, timeout_ms=5_000):
            result = strategy.activate(strategy.artifact_id("2"), TOKEN)
    assert result.outcome is Outcome.REFUSED
    assert f"still connected to port {port} after" in result.detail
    assert version_served(app.port) == "1"


def test_a_port_that_nobody_listens_on_here_is_not_taken_for_a_quiet_one(app: AppBackend) -> None:
    port = free_port()
    strategy = replace(app, other_ports=(port,)).strategy()
    strategy.stage("2", TOKEN)
    checks = {check.name: check for check in strategy.preflight("2")}
    assert checks["open connections"].verdict is Verdict.NOT_CHECKED
    assert str(port) in checks["open connections"].detail
    result = strategy.activate(strategy.artifact_id("2"), TOKEN)
    assert result.outcome is Outcome.DONE
    assert f"connections were not checked on port {port}, as nothing listened" in result.detail
    assert str(app.port) not in result.detail


def test_a_connection_that_ends_in_time_does_not_stop_the_activation(app: AppBackend) -> None:
    strategy = app.strategy()
    strategy.stage("2", TOKEN)
    stream = LocalConnection().open_stream("127.0.0.1", app.port, timeout_ms=5_000)
    threading.Timer(1.0, stream.close).start()
    assert strategy.activate(strategy.artifact_id("2"), TOKEN).outcome is Outcome.DONE


def test_monitoring_does_not_hold_up_the_stop(app: AppBackend) -> None:
    watched = AppBackend(app.root, app.port, app.settings, ignored=("127.0.0.1",))
    strategy = watched.strategy()
    strategy.stage("2", TOKEN)
    with LocalConnection().open_stream("127.0.0.1", app.port, timeout_ms=5_000):
        assert strategy.activate(strategy.artifact_id("2"), TOKEN).outcome is Outcome.DONE


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


def test_service_managers_and_nothing_else_go_through_sudo(app: AppBackend, tmp_path: Path) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    log = tmp_path / "as-root.log"
    manager = programs / "systemctl"
    manager.write_text(
        f'#!/bin/sh\n[ "$AS_ROOT" = 1 ] || exit 4\nexec {app.root}/control "$2" "$1"\n'
    )
    listing = tmp_path / "listing"
    listing.write_text("Sudoers entry:\n    Options: !authenticate\n\tALL\n")
    sudo = programs / "sudo"
    sudo.write_text(
        f'#!/bin/sh\necho "$*" >> {log}\n'
        '[ "$2" = -l ] && echo "/x/$4 $5 $6" && exit 0\n'
        f'[ "$2" = -ll ] && cat {listing} && exit 0\n'
        'shift 2\nexec env AS_ROOT=1 "$@"\n'
    )
    for program in (manager, sudo):
        program.chmod(0o755)
    connection = LocalConnection(
        sudo=True, environment={"PATH": f"{programs}:{os.environ['PATH']}"}
    )
    root = str(app.root)
    strategy = app.strategy(connection, stop=("systemctl", "stop", root), process=by_text(app))
    assert {check.verdict for check in strategy.preflight("2")} == {Verdict.OK}
    strategy.stage("2", TOKEN)
    assert strategy.activate(strategy.artifact_id("2"), TOKEN).outcome is Outcome.DONE
    # The start is a script of the inventory's own: as root it would make the application root's.
    assert log.read_text().splitlines() == [
        f"-n -l -- systemctl stop {root}",
        "-n -ll",
        f"-n -- systemctl stop {root}",
    ]
    (pid,) = app.pids()
    assert b"AS_ROOT" not in Path(f"/proc/{pid}/environ").read_bytes()


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be another user")


@needs_root
@pytest.mark.parametrize(
    ("entries", "verdict"),
    [
        ("NOPASSWD: /usr/bin/env", Verdict.OK),
        ("NOPASSWD: /usr/bin/id, PASSWD: /usr/bin/env", Verdict.REFUSED),
        ("PASSWD: ALL, NOPASSWD: /usr/bin/env [a-z]*", Verdict.NOT_CHECKED),
        ("NOPASSWD: /usr/bin/id", Verdict.REFUSED),
    ],
)
def test_a_command_that_needs_a_password_is_found_before_anything_is_touched(
    app: AppBackend, tmp_path: Path, entries: str, verdict: Verdict
) -> None:
    """The real sudo, with a sudoers file that only this command sees."""
    if shutil.which("sudo") is None or shutil.which("unshare") is None:
        pytest.skip("sudo or unshare is not installed")
    sudoers = tmp_path / "sudoers"
    sudoers.write_text(f"root ALL=(ALL) ALL\ndaemon ALL=(root) {entries}\n")
    sudoers.chmod(0o440)
    programs = tmp_path / "bin"
    programs.mkdir()
    sudo = programs / "sudo"
    sudo.write_text(
        f"#!/bin/sh\nexec unshare -m sh -c 'mount --bind {sudoers} /etc/sudoers && cd / && "
        'exec setpriv --reuid=daemon --regid=daemon --clear-groups /usr/bin/sudo "$@"\' sudo "$@"\n'
    )
    sudo.chmod(0o755)
    tried = subprocess.run([sudo, "-n", "-l"], check=False, capture_output=True, timeout=60)
    if b"may run the following" not in tried.stdout:
        pytest.skip(f"cannot run sudo with a file of its own here: {tried.stderr.decode()}")
    connection = LocalConnection(environment={"PATH": f"{programs}:{os.environ['PATH']}"})
    own = ("sudo", "env", "true")
    checks = app.strategy(connection, stop=own, start=own).preflight("2")
    (line,) = (check for check in checks if check.name == "commands")
    assert line.verdict is verdict, line


def test_a_process_that_cannot_be_seen_is_refused_before_anything_happens(
    app: AppBackend,
) -> None:
    strategy = app.strategy(process="no such words")
    strategy.stage("2", TOKEN)
    result = strategy.activate(strategy.artifact_id("2"), TOKEN)
    assert result.outcome is Outcome.REFUSED
    assert "not to be seen" in result.detail
    verdicts = {check.name: check.verdict for check in strategy.preflight("2")}
    assert verdicts["process"] is Verdict.REFUSED
    assert seen(strategy).is_restarted_since_swap is None
    assert version_served(app.port) == "1"


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
