"""The `release` strategy against a real application on this machine."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pytest

from rolling_deploy.ports import FenceToken
from rolling_deploy.remote.connection import Answer
from rolling_deploy.rollout.observed import Unreachable, Verdict
from rolling_deploy.rollout.step import Outcome, Result
from tests.local_connection import LocalConnection
from tests.strategies_fixture import (
    TOKEN,
    AppBackend,
    make_app,
    running_app,
    seen,
    version_served,
    wait_for_version,
    wait_until,
    write_archive,
)

BY_HAND = "dir:by-hand"


@pytest.fixture
def archives(tmp_path: Path) -> Path:
    folder = tmp_path / "archives"
    folder.mkdir()
    for version in ("2", "3"):
        write_archive(folder / f"app-{version}.tar.gz", version)
    return folder


@pytest.fixture
def app(tmp_path: Path, archives: Path) -> Iterator[AppBackend]:
    with running_app(tmp_path / "app1", archives) as backend:
        yield backend


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
    status = dict(line.split(":\t", 1) for line in process.joinpath("status").read_text().splitlines())
    assert int(status["Umask"], 8) == 0o027
    assert int(status["SigIgn"], 16) & 1 == 0, "SIGHUP is not ignored"
    held = [os.readlink(link) for link in process.joinpath("fd").iterdir()]
    assert f"{app.root}/state/lock" not in held
    assert seen(strategy).is_busy is False


@pytest.mark.parametrize("suffix", ["tar", "zip"])
def test_other_archives_are_unpacked_too(app: AppBackend, archives: Path, suffix: str) -> None:
    write_archive(archives / f"app-4.{suffix}", "4")
    strategy = app.strategy(artifact=f"{archives}/app-{{release}}.{suffix}")
    assert strategy.stage("4", TOKEN).outcome is Outcome.DONE
    assert (app.root / "releases" / "4" / "VERSION").read_text() == "4"
    assert seen(strategy).staged == {BY_HAND, strategy.artifact_id("4")}


def escaping(kind: str) -> tarfile.TarInfo:
    names = {"climbs": "../escaped", "absolute": "/tmp/escaped", "deep": "a/../../escaped"}  # noqa: S108
    member = tarfile.TarInfo(names.get(kind, "bad"))
    if kind == "link":
        member.type, member.linkname = tarfile.SYMTYPE, "../../../etc/passwd"
    elif kind == "absolute link":
        member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
    elif kind == "hard link":
        member.type, member.linkname = tarfile.LNKTYPE, "../by-hand/VERSION"
    elif kind == "device":
        member.type = tarfile.CHRTYPE
    return member


@pytest.mark.parametrize(
    "kind", ["climbs", "absolute", "deep", "link", "absolute link", "hard link", "device"]
)
def test_an_archive_that_reaches_outside_is_refused(
    app: AppBackend, archives: Path, kind: str
) -> None:
    path = archives / "app-4.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        archive.addfile(escaping(kind), io.BytesIO())
    strategy = app.strategy()
    result = strategy.stage("4", TOKEN)
    assert result.outcome is Outcome.REFUSED
    assert "outside" in result.detail or "device" in result.detail
    assert not (app.root / "releases" / ".incoming").exists(), "nothing was sent"
    artifact_check = strategy.preflight("4")[0]
    assert artifact_check.verdict is Verdict.REFUSED


class CutConnection(LocalConnection):
    """Loses the line while a file is sent: half of it arrives."""

    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes | Iterable[bytes] = b"",
        limit_ms: int,
        holds_stdin: bool = False,
    ) -> Answer:
        if not isinstance(stdin, bytes):
            whole = b"".join(stdin)
            super().run(argv, stdin=whole[: len(whole) // 2], limit_ms=limit_ms)
            return Answer(False, None, b"", b"", "the line was cut")
        return super().run(argv, stdin=stdin, limit_ms=limit_ms, holds_stdin=holds_stdin)


def test_a_cut_upload_leaves_nothing_that_could_be_taken_for_a_release(app: AppBackend) -> None:
    strategy = app.strategy(CutConnection())
    assert strategy.stage("2", TOKEN).outcome is Outcome.UNKNOWN
    assert seen(strategy).staged == {BY_HAND}
    assert app.strategy().stage("2", TOKEN).outcome is Outcome.DONE


def test_another_build_of_a_version_that_runs_does_not_touch_it(
    app: AppBackend, archives: Path
) -> None:
    strategy = app.strategy()
    strategy.stage("2", TOKEN)
    first = strategy.artifact_id("2")
    assert strategy.activate(first, TOKEN).outcome is Outcome.DONE
    write_archive(archives / "app-2.tar.gz", "2", {"more": b"another build"})
    second = strategy.artifact_id("2")
    assert second != first
    assert strategy.stage("2", TOKEN).outcome is Outcome.DONE
    assert not (app.root / "releases" / "2" / "more").exists()
    assert seen(strategy).staged == {BY_HAND, first, second}
    assert strategy.activate(second, TOKEN).outcome is Outcome.DONE
    assert (app.root / "current" / "more").read_text() == "another build"


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


def test_a_current_that_is_a_directory_is_refused(tmp_path: Path, archives: Path) -> None:
    app = make_app(tmp_path / "app9", archives)
    (app.root / "current").unlink()
    (app.root / "current").mkdir()
    strategy = app.strategy()
    assert strategy.stage("2", TOKEN).outcome is Outcome.REFUSED
    assert isinstance(strategy.look(), Unreachable)
    verdicts = {check.name: check.verdict for check in strategy.preflight("2")}
    assert verdicts["going back"] is Verdict.REFUSED


def test_pruning_keeps_what_runs_what_is_named_and_what_others_put_there(
    app: AppBackend, archives: Path
) -> None:
    strategy = app.strategy(keep=1)
    names = {}
    for version in ("2", "3", "4", "5"):
        write_archive(archives / f"app-{version}.tar.gz", version)
        assert strategy.stage(version, TOKEN).outcome is Outcome.DONE
        names[version] = strategy.artifact_id(version)
        os.utime(app.root / "releases" / version, (int(version), int(version)))
    assert strategy.activate(names["2"], TOKEN).outcome is Outcome.DONE
    assert strategy.prune(frozenset({names["3"]}), TOKEN).outcome is Outcome.DONE
    assert seen(strategy).staged == {BY_HAND, names["2"], names["3"], names["5"]}


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
    time.sleep(1.2)
    assert len(app.pids()) == 1


class DroppedConnection(LocalConnection):
    """A channel that is gone: nobody reads what the command says, nobody writes to it."""

    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes | Iterable[bytes] = b"",
        limit_ms: int,
        holds_stdin: bool = False,
    ) -> Answer:
        process = subprocess.Popen(  # noqa: S603
            list(argv), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for stream in (process.stdin, process.stdout, process.stderr):
            assert stream is not None
            stream.close()
        threading.Thread(target=process.wait, daemon=True).start()
        return Answer(False, None, b"", b"", "the line was cut")


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
    with (
        running_app(tmp_path / "app1", archives) as one,
        running_app(tmp_path / "app10", archives) as ten,
    ):
        strategies = [each.strategy(process=f"--name {each.root.name}") for each in (one, ten)]
        results: list[Result] = []

        def upgrade(at: int, release: str) -> None:
            strategies[at].stage(release, TOKEN)
            artifact = strategies[at].artifact_id(release)
            results.append(strategies[at].activate(artifact, TOKEN))

        ten_before = ten.pids()
        upgrade(0, "2")
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


def test_a_full_disk_is_refused_and_leaves_nothing(tmp_path: Path, archives: Path) -> None:
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(  # noqa: S603
        ["mount", "-t", "tmpfs", "-o", "size=512k", "none", str(place)],  # noqa: S607
        check=False,
        capture_output=True,
    )
    if mounted.returncode != 0:
        pytest.skip(f"cannot mount a small file system here: {mounted.stderr.decode().strip()}")
    try:
        app = make_app(place / "app", archives)
        write_archive(archives / "app-5.tar.gz", "5", {"big": os.urandom(300_000)})
        strategy = app.strategy()
        result = strategy.stage("5", TOKEN)
        assert result.outcome in {Outcome.REFUSED, Outcome.FAILED}, result
        assert seen(strategy).staged == {BY_HAND}
        verdicts = {check.name: check.verdict for check in strategy.preflight("5")}
        assert verdicts["disk space"] is Verdict.REFUSED
    finally:
        subprocess.run(["umount", "-l", str(place)], check=False)  # noqa: S603, S607


def test_service_commands_and_nothing_else_go_through_sudo(
    app: AppBackend, tmp_path: Path
) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    log = tmp_path / "sudo.log"
    sudo = programs / "sudo"
    sudo.write_text(
        f'#!/bin/sh\necho "$*" >> {log}\n[ "$2" = -l ] && exit 0\nshift 2\nexec "$@"\n'
    )
    sudo.chmod(0o755)
    path = f"{programs}:{os.environ['PATH']}"
    strategy = app.strategy(LocalConnection(sudo=True, environment={"PATH": path}))
    assert {check.verdict for check in strategy.preflight("2")} == {Verdict.OK}
    strategy.stage("2", TOKEN)
    assert strategy.activate(strategy.artifact_id("2"), TOKEN).outcome is Outcome.DONE
    control = f"{app.root}/control {app.root}"
    assert log.read_text().splitlines() == [
        f"-n -l -- {control} stop",
        f"-n -l -- {control} start",
        f"-n -- {control} stop",
        f"-n -- {control} start",
    ]


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


def test_preflight_changes_nothing_and_names_what_is_wrong(app: AppBackend) -> None:
    def listing() -> list[str]:
        return sorted(str(path) for path in app.root.rglob("*"))

    before = listing()
    fine = app.strategy().preflight("2")
    assert {check.verdict for check in fine} == {Verdict.OK}
    unnamed = app.strategy().preflight()
    assert unnamed[0].verdict is Verdict.NOT_CHECKED
    wrong = app.strategy(start=("no-such-program",), artifact="/nowhere").preflight("2")
    found = {check.name: check for check in wrong}
    assert found["artifact"].verdict is Verdict.REFUSED
    assert "no-such-program" in found["commands"].detail
    assert listing() == before


def test_a_machine_that_does_not_answer_is_not_checked(app: AppBackend) -> None:
    strategy = app.strategy(DroppedConnection())
    assert isinstance(strategy.look(), Unreachable)
    assert strategy.preflight("2")[-1].verdict is Verdict.NOT_CHECKED
    assert strategy.stage("2", TOKEN).outcome is Outcome.UNKNOWN
