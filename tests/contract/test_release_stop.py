"""What must hold before an application is stopped, who counts as it, and how it is stopped."""

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

from rolling_deploy.rollout.observed import Verdict
from rolling_deploy.rollout.step import Outcome
from tests.local_connection import LocalConnection
from tests.programs import write_program
from tests.redis_server import free_port
from tests.strategies_fixture import (
    BY_HAND,
    TOKEN,
    AppBackend,
    app,
    archives,
    running_app,
    seen,
    small_disk,
    version_served,
    wait_for_version,
)

__all__ = ["app", "archives"]

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be another user")


def by_text(app: AppBackend) -> str:
    return f"app.py --port {app.port}"


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
    strategy = app.strategy(stop=stop, stop_limit_ms=5_000, process=by_text(app))
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


def test_service_managers_and_nothing_else_go_through_sudo(app: AppBackend, tmp_path: Path) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    log = tmp_path / "as-root.log"
    manager = programs / "systemctl"
    write_program(
        manager, f'#!/bin/sh\n[ "$AS_ROOT" = 1 ] || exit 4\nexec {app.root}/control "$2" "$1"\n'
    )
    listing = tmp_path / "listing"
    listing.write_text("Sudoers entry:\n    Options: !authenticate\n\tALL\n")
    sudo = programs / "sudo"
    write_program(
        sudo,
        f'#!/bin/sh\necho "$*" >> {log}\n'
        '[ "$2" = -l ] && echo "/x/$4 $5 $6" && exit 0\n'
        f'[ "$2" = -ll ] && cat {listing} && exit 0\n'
        'shift 2\nexec env AS_ROOT=1 "$@"\n',
    )
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
    write_program(
        sudo,
        f"#!/bin/sh\nexec unshare -m sh -c 'mount --bind {sudoers} /etc/sudoers && cd / && "
        'exec setpriv --reuid=daemon --regid=daemon --clear-groups /usr/bin/sudo "$@"\''
        ' sudo "$@"\n',
    )
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
