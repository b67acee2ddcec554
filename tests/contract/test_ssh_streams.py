"""TCP streams through a machine: forwarded by sshd, and relayed by a command where it refuses."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from rolling_deploy.remote.connection import CannotReach, ForwardingRefused
from rolling_deploy.remote.ssh import FORWARDED, RELAYED, RELAYS_MAX, SESSIONS_MAX, SshConnection
from rolling_deploy.remote.ssh_stream import RELAY_MISSING_STATUS, relay_line
from tests.sshd import KINDS, SshServer, free_port, running, wait_until, why_not

TIMEOUT_MS = 20_000
MEGABYTE = 1024 * 1024

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module", params=[(k, f) for k in KINDS for f in (True, False)], ids=str)
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SshServer]:
    kind, forwarding = request.param
    if why_not(kind):
        pytest.skip(why_not(kind))
    with running(kind, tmp_path_factory.mktemp("sshd"), forwarding=forwarding) as one:
        yield one


@pytest.fixture(params=["straight", pytest.param("through a jump host", marks=pytest.mark.every)])
def connection(
    request: pytest.FixtureRequest, server: SshServer, tmp_path: Path
) -> Iterator[SshConnection]:
    if request.param == "straight":
        one = SshConnection(server.target())
        yield one
        one.close()
        return
    with running(server.kind, tmp_path / "gate") as gate:
        one = SshConnection(server.target(jump=gate.target(name="gate")))
        yield one
        one.close()


class Service:
    """A TCP service of the test's own on a loopback port."""

    def __init__(self, serve: Callable[[socket.socket], None]) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port: int = self._listener.getsockname()[1]
        self._serve = serve
        self.open = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                one, _ = self._listener.accept()
                self.open += 1
                threading.Thread(target=self._run, args=(one,), daemon=True).start()

    def _run(self, one: socket.socket) -> None:
        with suppress(OSError), one:
            self._serve(one)
        self.open -= 1

    def close(self) -> None:
        self._listener.close()


def echo(one: socket.socket) -> None:
    while piece := one.recv(65536):
        one.sendall(piece)


def read_all(one: socket.socket) -> bytes:
    return b"".join(iter(lambda: one.recv(65536), b""))


@pytest.fixture
def echoing() -> Iterator[Service]:
    service = Service(echo)
    yield service
    service.close()


def test_a_stream_carries_bytes_both_ways_and_says_how(
    connection: SshConnection, server: SshServer, echoing: Service
) -> None:
    with connection.open_stream("127.0.0.1", echoing.port, timeout_ms=TIMEOUT_MS) as stream:
        stream.settimeout(20)
        stream.sendall(b"hello")
        assert stream.recv(100) == b"hello"
    assert connection.forwarding == (FORWARDED if server.forwarding else RELAYED)


def test_a_stream_that_we_close_is_closed_over_there(
    connection: SshConnection, echoing: Service
) -> None:
    stream = connection.open_stream("127.0.0.1", echoing.port, timeout_ms=TIMEOUT_MS)
    wait_until(lambda: echoing.open == 1)
    stream.close()
    wait_until(lambda: echoing.open == 0)


def test_the_end_of_the_far_side_arrives(connection: SshConnection) -> None:
    service = Service(lambda one: one.sendall(b"x" * MEGABYTE))
    with connection.open_stream("127.0.0.1", service.port, timeout_ms=TIMEOUT_MS) as stream:
        stream.settimeout(20)
        assert read_all(stream) == b"x" * MEGABYTE
    service.close()


def test_a_half_close_reaches_the_far_side_when_forwarded(
    connection: SshConnection, server: SshServer
) -> None:
    if not server.forwarding:
        pytest.skip("a relay by command does not pass on half-closes, and says so")
    service = Service(lambda one: one.sendall(read_all(one).upper()))
    with connection.open_stream("127.0.0.1", service.port, timeout_ms=TIMEOUT_MS) as stream:
        stream.settimeout(20)
        stream.sendall(b"all of it")
        stream.shutdown(socket.SHUT_WR)
        assert read_all(stream) == b"ALL OF IT"
    service.close()


def test_much_data_both_ways_does_not_lock_up(connection: SshConnection, echoing: Service) -> None:
    data = bytes(range(256)) * (5 * MEGABYTE // 256)
    with connection.open_stream("127.0.0.1", echoing.port, timeout_ms=TIMEOUT_MS) as stream:
        stream.settimeout(30)
        threading.Thread(target=stream.sendall, args=(data,), daemon=True).start()
        back = b""
        while len(back) < len(data):
            back += stream.recv(65536)
        assert back == data


def test_a_port_where_nothing_listens_is_no_prohibition(connection: SshConnection) -> None:
    with pytest.raises(ForwardingRefused) as caught:
        connection.open_stream("127.0.0.1", free_port(), timeout_ms=TIMEOUT_MS)
    assert not caught.value.is_prohibited
    assert "refused" in str(caught.value) or "connect failed" in str(caught.value)


def test_refusals_and_streams_at_once_do_not_take_each_others_reason(
    connection: SshConnection, server: SshServer, echoing: Service
) -> None:
    nobody = free_port()

    def ask(number: int) -> str:
        port = nobody if number % 2 else echoing.port
        try:
            with connection.open_stream("127.0.0.1", port, timeout_ms=TIMEOUT_MS) as stream:
                stream.settimeout(20)
                stream.sendall(b"hi")
                return stream.recv(10).decode()
        except ForwardingRefused as error:
            return f"prohibited: {error.is_prohibited}"

    with ThreadPoolExecutor(RELAYS_MAX) as pool:
        found = list(pool.map(ask, range(24)))
    assert found == ["hi", "prohibited: False"] * 12
    assert connection.forwarding == (FORWARDED if server.forwarding else RELAYED)


def test_closed_streams_give_their_places_back(connection: SshConnection, echoing: Service) -> None:
    for _ in range(3 * SESSIONS_MAX):
        with connection.open_stream("127.0.0.1", echoing.port, timeout_ms=TIMEOUT_MS) as stream:
            stream.settimeout(20)
            stream.sendall(b"x")
            assert stream.recv(1) == b"x"
    assert connection.run(["true"], limit_ms=TIMEOUT_MS).is_complete


def test_open_streams_leave_room_for_commands(connection: SshConnection, echoing: Service) -> None:
    streams = [
        connection.open_stream("127.0.0.1", echoing.port, timeout_ms=TIMEOUT_MS)
        for _ in range(RELAYS_MAX)
    ]
    assert connection.run(["echo", "here"], limit_ms=TIMEOUT_MS).stdout == b"here\n"
    for stream in streams:
        stream.close()


def test_a_stream_over_a_machine_that_is_gone_says_so(tmp_path: Path, server: SshServer) -> None:
    with running(server.kind, tmp_path, forwarding=server.forwarding) as own:
        connection = SshConnection(own.target(connect_timeout_ms=2_000))
        connection.connect()
        own.stop()
        with pytest.raises(CannotReach):
            connection.open_stream("127.0.0.1", 1, timeout_ms=TIMEOUT_MS)


def test_an_open_stream_ends_when_the_machine_is_gone(tmp_path: Path, server: SshServer) -> None:
    service = Service(echo)
    with running(server.kind, tmp_path, forwarding=server.forwarding) as own:
        connection = SshConnection(own.target())
        with connection.open_stream("127.0.0.1", service.port, timeout_ms=TIMEOUT_MS) as stream:
            stream.settimeout(20)
            own.stop()
            assert stream.recv(1) == b""
    service.close()


@pytest.mark.parametrize("tool", ["bash", "python3", "nc"])
def test_a_relay_works_with_whichever_tool_the_machine_has(
    tmp_path: Path, echoing: Service, tool: str
) -> None:
    path = sys.executable if tool == "python3" else shutil.which(tool)
    if path is None:
        pytest.skip(f"no {tool} on this machine")
    (tmp_path / tool).symlink_to(Path(path).resolve())
    (tmp_path / "cat").symlink_to(Path(shutil.which("cat") or "").resolve())
    line = relay_line("127.0.0.1", echoing.port)
    sh = str(Path(shutil.which("sh") or "").resolve())
    (tmp_path / "sh").symlink_to(sh)
    relay = subprocess.Popen(
        [sh, "-c", line],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={"PATH": str(tmp_path)},
        start_new_session=True,
    )
    assert relay.stdin
    assert relay.stdout
    assert relay.stdout.read(1) == b"+"
    relay.stdin.write(b"through")
    relay.stdin.flush()
    assert relay.stdout.read(7) == b"through"
    relay.stdin.close()
    # It must not stay behind when we are gone, although the far side keeps the stream open.
    relay.wait(20)
    relay.stdout.close()
    wait_until(lambda: echoing.open == 0)


def test_a_machine_without_any_tool_to_relay_with_says_so(tmp_path: Path) -> None:
    sh = str(Path(shutil.which("sh") or "").resolve())
    (tmp_path / "sh").symlink_to(sh)
    tried = subprocess.run(
        [sh, "-c", relay_line("127.0.0.1", 1)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env={"PATH": str(tmp_path)},
        check=False,
    )
    assert tried.returncode == RELAY_MISSING_STATUS
    assert b"no bash, python3 or nc" in tried.stderr
