"""Sending files: whole and verified under the target's name, or not there at all."""

from __future__ import annotations

import hashlib
import os
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from rolling_deploy.ports import FenceToken
from rolling_deploy.remote.files import digest_of, send_file
from rolling_deploy.remote.script import Reply, fence_arguments, parse_reply, text_of
from rolling_deploy.remote.ssh import SshConnection
from rolling_deploy.rollout.step import Outcome
from tests.sshd import KINDS, CutProxy, SshServer, running, wait_until, why_not

LIMIT_MS = 60_000
MEGABYTE = 1024 * 1024

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module", params=KINDS)
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SshServer]:
    if why_not(request.param):
        pytest.skip(why_not(request.param))
    with running(request.param, tmp_path_factory.mktemp("sshd")) as one:
        yield one


@pytest.fixture
def connection(server: SshServer) -> Iterator[SshConnection]:
    one = SshConnection(server.target())
    yield one
    one.close()


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    path = tmp_path / "app.war"
    path.write_bytes(os.urandom(3 * MEGABYTE + 17))
    return path


@pytest.fixture
def there(tmp_path: Path) -> Path:
    """A directory on the machine."""
    path = tmp_path / "there"
    path.mkdir()
    return path


def send(
    connection: SshConnection, local: Path, target: Path, fence: tuple[str, ...] = ()
) -> Reply:
    return send_file(connection, local, str(target), mode=0o644, limit_ms=LIMIT_MS, fence=fence)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_arrives_whole_with_its_mode_and_nothing_beside_it(
    connection: SshConnection, artifact: Path, there: Path
) -> None:
    reply = send(connection, artifact, there / "app.war")
    assert (reply.outcome, reply.one("skipped")) == (Outcome.DONE, "")
    assert (there / "app.war").read_bytes() == artifact.read_bytes()
    assert (there / "app.war").stat().st_mode & 0o7777 == 0o644
    assert names(there) == ["app.war"]
    assert connection.channels_opened == 1


def test_a_file_that_is_there_already_is_skipped_and_said_so(
    connection: SshConnection, artifact: Path, there: Path
) -> None:
    send(connection, artifact, there / "app.war")
    before = (there / "app.war").stat()
    (there / "app.war").chmod(0o600)
    reply = send(connection, artifact, there / "app.war")
    after = (there / "app.war").stat()
    assert (reply.outcome, reply.one("skipped")) == (Outcome.DONE, "1")
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert after.st_mode & 0o7777 == 0o644


def test_a_large_file_that_is_there_already_is_not_sent_again(
    connection: SshConnection, tmp_path: Path, there: Path
) -> None:
    big = tmp_path / "big"
    big.write_bytes(b"x" * 16 * MEGABYTE)
    send(connection, big, there / "big")
    told: list[int] = []
    reply = send_file(
        connection,
        big,
        str(there / "big"),
        mode=0o644,
        limit_ms=LIMIT_MS,
        progress=lambda sent, _: told.append(sent),
    )
    assert reply.one("skipped") == "1"
    assert max(told, default=0) < 8 * MEGABYTE


def test_a_different_file_replaces_the_old_one_in_one_step(
    connection: SshConnection, artifact: Path, there: Path
) -> None:
    (there / "app.war").write_bytes(b"old")
    with (there / "app.war").open("rb") as old:
        assert send(connection, artifact, there / "app.war").outcome is Outcome.DONE
        assert old.read() == b"old"
    assert (there / "app.war").read_bytes() == artifact.read_bytes()


def test_an_empty_file_arrives_too(connection: SshConnection, tmp_path: Path, there: Path) -> None:
    (tmp_path / "empty").touch()
    assert send(connection, tmp_path / "empty", there / "empty").outcome is Outcome.DONE
    assert (there / "empty").read_bytes() == b""


@pytest.mark.parametrize(
    "name", ["it's", "$(id)", "-rf", "a b", "*", "[a]", "a\nb", "Ünï", ".hidden", "`x`", "a\\b"]
)
def test_a_hostile_name_is_just_a_name(
    connection: SshConnection, artifact: Path, there: Path, name: str
) -> None:
    for _ in range(2):
        assert send(connection, artifact, there / name).outcome is Outcome.DONE
    assert names(there) == [name]


def test_a_missing_directory_is_made_readable_for_all(
    connection: SshConnection, artifact: Path, there: Path
) -> None:
    assert send(connection, artifact, there / "a" / "b" / "app.war").outcome is Outcome.DONE
    assert (there / "a" / "b").stat().st_mode & 0o777 == 0o755


def test_progress_is_told_to_the_last_byte(
    connection: SshConnection, artifact: Path, there: Path
) -> None:
    told: list[tuple[int, int]] = []
    size = artifact.stat().st_size
    send_file(
        connection,
        artifact,
        str(there / "app.war"),
        mode=0o644,
        limit_ms=LIMIT_MS,
        progress=lambda sent, total: told.append((sent, total)),
    )
    assert told[-1] == (size, size)
    assert told == sorted(told)


def test_a_local_file_that_is_missing_touches_nothing(
    connection: SshConnection, tmp_path: Path, there: Path
) -> None:
    reply = send(connection, tmp_path / "none", there / "app.war")
    assert (reply.outcome, reply.was_started) == (Outcome.FAILED, False)
    assert "No such file" in reply.detail
    assert names(there) == []


@pytest.mark.parametrize("obstacle", ["is a directory", "relative", "parent is a file"])
def test_a_target_that_cannot_be_is_said_so(
    connection: SshConnection, artifact: Path, there: Path, obstacle: str
) -> None:
    target = there / "app.war"
    if obstacle == "is a directory":
        target.mkdir()
    elif obstacle == "relative":
        target = Path("app.war")
    else:
        target.touch()
        target /= "below"
    reply = send(connection, artifact, target)
    assert reply.outcome in {Outcome.REFUSED, Outcome.FAILED}
    assert str(target.parent if obstacle == "parent is a file" else target) in reply.detail
    assert names(there) == ([] if obstacle == "relative" else ["app.war"])


def test_a_file_that_changes_while_it_is_sent_is_not_put_in_place(
    connection: SshConnection, artifact: Path, there: Path
) -> None:
    (there / "app.war").write_bytes(b"old")
    size = artifact.stat().st_size

    def meddle(sent: int, _: int) -> None:
        if sent < size // 2:
            with artifact.open("r+b") as file:
                file.seek(-10, os.SEEK_END)
                file.write(b"x" * 10)

    reply = send_file(
        connection,
        artifact,
        str(there / "app.war"),
        mode=0o644,
        limit_ms=LIMIT_MS,
        progress=meddle,
    )
    assert reply.outcome is Outcome.FAILED
    assert "sha256" in reply.detail
    assert names(there) == ["app.war"]
    assert (there / "app.war").read_bytes() == b"old"


def test_a_transfer_cut_by_a_killed_server_leaves_the_old_file_alone(
    server: SshServer, tmp_path: Path, there: Path
) -> None:
    big = tmp_path / "big"
    big.write_bytes(b"new" * 4 * MEGABYTE)
    (there / "big").write_bytes(b"old")
    with running(server.kind, tmp_path / "own") as own:
        connection = SshConnection(own.target(connect_timeout_ms=1_000))
        halfway = threading.Event()

        def stop_halfway(sent: int, total: int) -> None:
            if sent > total // 2:
                halfway.set()

        with ThreadPoolExecutor(1) as pool:
            reply = pool.submit(
                send_file,
                connection,
                big,
                str(there / "big"),
                mode=0o644,
                limit_ms=LIMIT_MS,
                progress=stop_halfway,
            )
            assert halfway.wait(30)
            own.stop()
            assert reply.result(30).outcome is Outcome.UNKNOWN
    # The receiver sees the end of its input, finds too little, and tidies up.
    wait_until(lambda: names(there) == ["big"])
    assert (there / "big").read_bytes() == b"old"


def test_a_cut_network_leaves_the_old_file_alone(
    server: SshServer, tmp_path: Path, there: Path
) -> None:
    big = tmp_path / "big"
    big.write_bytes(b"new" * 4 * MEGABYTE)
    proxy = CutProxy(server.port)
    connection = SshConnection(
        server.target(port=proxy.port, keepalive_s=1, host_keys="accept-new")
    )
    try:
        reply = send_file(
            connection,
            big,
            str(there / "big"),
            mode=0o644,
            limit_ms=LIMIT_MS,
            progress=lambda sent, total: proxy.cut() if sent > total // 2 else None,
        )
    finally:
        proxy.close()
    assert reply.outcome is Outcome.UNKNOWN
    assert not (there / "big").exists()
    wait_until(lambda: names(there) == [])


def receive_alone(
    target: Path,
    data: bytes,
    *,
    size: int | None = None,
    limit_bytes: int | None = None,
    fence: tuple[str, ...] = (),
) -> subprocess.Popen[bytes]:
    """Start the machine's side by hand."""
    digest = hashlib.sha256(data).hexdigest()
    # In blocks of 512 bytes, as POSIX has it.
    limit = "" if limit_bytes is None else f"trap '' XFSZ; ulimit -f {limit_bytes // 512}\n"
    argv = ["sh", "-c", limit + text_of("receive"), "receive", str(target), "0644"]
    return subprocess.Popen(
        [*argv, str(len(data) if size is None else size), digest, "abcd", *fence],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def test_what_a_killed_receiver_left_behind_is_removed_by_the_next(
    connection: SshConnection, artifact: Path, there: Path
) -> None:
    killed = receive_alone(there / "app.war", b"x" * 100, size=100)
    wait_until(lambda: names(there) != [])
    os.killpg(killed.pid, 9)
    killed.communicate()
    assert names(there) == [".app.war.rolling-deploy.abcd"]
    assert send(connection, artifact, there / "app.war").outcome is Outcome.DONE
    assert names(there) == ["app.war"]


def test_a_receiver_that_still_works_is_not_disturbed_by_another(
    connection: SshConnection, artifact: Path, there: Path
) -> None:
    slow = receive_alone(there / "app.war", b"slow data")
    assert slow.stdin
    slow.stdin.write(b"slow ")
    slow.stdin.flush()
    part = there / ".app.war.rolling-deploy.abcd"
    wait_until(lambda: part.exists() and part.read_bytes() == b"slow ")
    assert send(connection, artifact, there / "app.war").outcome is Outcome.DONE
    out, err = slow.communicate(b"data", timeout=20)
    assert parse_reply(out, err).outcome is Outcome.DONE
    assert (there / "app.war").read_bytes() == b"slow data"
    assert names(there) == ["app.war"]


def test_other_dot_files_beside_the_target_are_left_alone(
    connection: SshConnection, artifact: Path, there: Path
) -> None:
    others = [".app.war", ".app.war.swp", ".other.war.rolling-deploy.1", "app.war.bak"]
    for name in others:
        (there / name).write_text("somebody's")
    assert send(connection, artifact, there / "app.war").outcome is Outcome.DONE
    assert names(there) == sorted([*others, "app.war"])


def test_too_few_bytes_are_never_put_in_place(there: Path) -> None:
    receiver = receive_alone(there / "app.war", b"whole", size=5)
    out, err = receiver.communicate(b"who", timeout=20)
    reply = parse_reply(out, err)
    assert (reply.outcome, reply.detail) == (Outcome.FAILED, "only 3 of 5 bytes arrived")
    assert names(there) == []


def test_a_full_disk_fails_with_the_reason_and_leaves_nothing(there: Path) -> None:
    (there / "app.war").write_bytes(b"old")
    # The limit on a file's size fails a write in the middle, as a full disk does.
    receiver = receive_alone(there / "app.war", b"x" * 100_000, limit_bytes=50_000)
    out, err = receiver.communicate(b"x" * 100_000, timeout=20)
    reply = parse_reply(out, err)
    assert reply.outcome is Outcome.FAILED
    assert "File too large" in reply.detail
    assert names(there) == ["app.war"]
    assert (there / "app.war").read_bytes() == b"old"


def test_a_really_full_disk_fails_with_the_reason_and_leaves_nothing(
    connection: SshConnection, artifact: Path, there: Path
) -> None:
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(there)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip("a small file system cannot be mounted here")
    try:
        reply = send(connection, artifact, there / "app.war")
        assert reply.outcome is Outcome.FAILED
        assert "No space left on device" in reply.detail
        assert names(there) == []
    finally:
        subprocess.run(["umount", str(there)], check=True)


def test_an_operator_who_was_replaced_cannot_send(
    connection: SshConnection, artifact: Path, there: Path
) -> None:
    state = str(there / "state")
    new = tuple(fence_arguments(state, FenceToken("r1", 2, "new")))
    old = tuple(fence_arguments(state, FenceToken("r1", 1, "old")))
    assert send(connection, artifact, there / "app.war", new).outcome is Outcome.DONE
    other = artifact.with_name("other.war")
    other.write_bytes(b"of the old operator")
    reply = send(connection, other, there / "app.war", old)
    assert (reply.outcome, reply.is_fenced) == (Outcome.REFUSED, True)
    assert (there / "app.war").read_bytes() == artifact.read_bytes()


def test_a_sender_that_stands_still_keeps_nobody_out_and_is_refused_in_the_end(
    connection: SshConnection, artifact: Path, there: Path
) -> None:
    state = str(there / "state")
    old = tuple(fence_arguments(state, FenceToken("r1", 1, "old")))
    new = tuple(fence_arguments(state, FenceToken("r1", 2, "new")))
    slow = receive_alone(there / "app.war", b"slow data", fence=old)
    assert slow.stdin
    slow.stdin.write(b"slow ")
    slow.stdin.flush()
    part = there / ".app.war.rolling-deploy.abcd"
    wait_until(lambda: part.exists() and part.read_bytes() == b"slow ")
    reply = send(connection, artifact, there / "app.war", new)
    assert reply.outcome is Outcome.DONE, reply
    out, err = slow.communicate(b"data", timeout=20)
    late = parse_reply(out, err)
    assert (late.outcome, late.is_fenced) == (Outcome.REFUSED, True)
    assert (there / "app.war").read_bytes() == artifact.read_bytes()
    assert names(there) == ["app.war", "state"]


def test_a_command_that_outlives_its_channel_keeps_the_lock(
    server: SshServer, tmp_path: Path, there: Path
) -> None:
    """The property that decides whether a lost command is waited for or overtaken."""
    state = there / "state"
    script = text_of("receive").split("# Receives a file")[0]
    body = 'enter "$1" 1 me; echo in > "$1/in"; sleep 2; echo out > "$1/out"; finish done'
    ask = 'if is_busy "$1"; then say busy yes; else say busy no; fi; finish done'

    def is_busy() -> bool:
        looking = SshConnection(server.target())
        argv = ["sh", "-c", script + ask, "-", str(state)]
        answer = looking.run(argv, limit_ms=LIMIT_MS)
        looking.close()
        return parse_reply(answer.stdout, answer.stderr).one("busy") == "yes"

    with running(server.kind, tmp_path / "own") as own:
        connection = SshConnection(own.target())
        argv = ["sh", "-c", script + body, "-", str(state)]
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(connection.run, argv, limit_ms=LIMIT_MS)
            wait_until((state / "in").exists)
            own.stop()
            assert not answer.result(20).is_complete
        connection.close()
    assert is_busy()
    wait_until((state / "out").exists)
    wait_until(lambda: not is_busy())


def test_the_digest_follows_the_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"one")
    assert digest_of(path) == hashlib.sha256(b"one").hexdigest()
    path.write_bytes(b"three")
    assert digest_of(path) == hashlib.sha256(b"three").hexdigest()
