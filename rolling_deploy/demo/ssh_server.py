"""An SSH server in Python, for machines without OpenSSH: what the demo and the tests talk to.

It listens on loopback only, takes one set of keys for any user name, and runs every command as
the user it runs as itself. It behaves as sshd does where a rollout depends on it: a command
without a terminal goes on when its channel or the whole server is lost, an exit status is sent
only for a command that ended, and at most ten sessions are open on one connection.

    python -m rolling_deploy.demo.ssh_server --port 2222 --host-key KEY --authorized-keys FILE
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import IO

import paramiko
from paramiko.common import (
    AUTH_FAILED,
    AUTH_SUCCESSFUL,
    MSG_CHANNEL_REQUEST,
    OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED,
    OPEN_FAILED_CONNECT_FAILED,
    OPEN_FAILED_UNKNOWN_CHANNEL_TYPE,
    OPEN_SUCCEEDED,
)

SESSIONS_MAX = 10
"""sshd's MaxSessions."""

CONNECT_TIMEOUT_S = 5.0
"""Of a forwarded stream's far end; loopback in practice."""

PIECE_BYTES = 32 * 1024

LOST = (paramiko.SSHException, EOFError, OSError)
"""What paramiko raises when the connection is gone."""


class EmbeddedSshServer:
    """One SSH server on 127.0.0.1. It listens from `start` to `close`.

    Attributes:
        port: the port it listens on; given as 0, the one that was free.
    """

    def __init__(
        self,
        port: int,
        host_key: Path,
        authorized_keys: Path,
        *,
        allows_forwarding: bool = True,
        sessions_max: int = SESSIONS_MAX,
    ) -> None:
        """Bind the port; raises OSError when it is taken."""
        self._host_key = paramiko.PKey.from_path(host_key)
        self._authorized = _keys_of(authorized_keys)
        self._allows_forwarding = allows_forwarding
        self._sessions_max = sessions_max
        self._transports: set[paramiko.Transport] = set()
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", port), backlog=128)
        self.port: int = self._listener.getsockname()[1]

    def start(self) -> None:
        """Take connections from now on, in a thread."""
        threading.Thread(target=self._accept, name="ssh accept", daemon=True).start()

    def close(self) -> None:
        """Stop listening and drop every connection; commands that run go on."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            transports = tuple(self._transports)
        for transport in transports:
            transport.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        policy = _Policy(self._authorized, self._sessions_max, self._allows_forwarding)
        with closing(_Transport(connection, policy)) as transport:
            transport.add_server_key(self._host_key)
            with self._lock:
                self._transports.add(transport)
            try:
                transport.start_server(server=policy)
                while transport.is_active():
                    channel = transport.accept(timeout=1.0)
                    if channel is not None:
                        policy.keep(channel)
            except LOST:
                pass
            finally:
                with self._lock:
                    self._transports.discard(transport)


def _keys_of(authorized_keys: Path) -> frozenset[str]:
    """Answers the keys of an authorized_keys file, each as `kind base64`."""
    lines = authorized_keys.read_text(encoding="utf-8").splitlines()
    words = (line.split() for line in lines if not line.startswith("#"))
    return frozenset(" ".join(parts[:2]) for parts in words if len(parts) > 1)


class _Policy(paramiko.ServerInterface):
    """What one connection may do. paramiko calls it from the connection's own thread."""

    def __init__(
        self, authorized: frozenset[str], sessions_max: int, allows_forwarding: bool
    ) -> None:
        self._authorized = authorized
        self._sessions = threading.Semaphore(sessions_max)
        self._allows_forwarding = allows_forwarding
        self._far_ends: dict[int, socket.socket] = {}
        self._commands: dict[int, bytes] = {}
        self._kept: list[paramiko.Channel] = []

    def get_allowed_auths(self, username: str) -> str:  # noqa: ARG002 - paramiko's signature
        return "publickey"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:  # noqa: ARG002
        is_known = f"{key.get_name()} {key.get_base64()}" in self._authorized
        return AUTH_SUCCESSFUL if is_known else AUTH_FAILED

    def check_channel_request(self, kind: str, chanid: int) -> int:  # noqa: ARG002
        if kind != "session":
            return OPEN_FAILED_UNKNOWN_CHANNEL_TYPE
        has_place = self._sessions.acquire(blocking=False)
        return OPEN_SUCCEEDED if has_place else OPEN_FAILED_CONNECT_FAILED

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        self._commands[channel.get_id()] = command
        return True

    def begin_command(self, channel: paramiko.Channel) -> None:
        """Start the command whose request was just granted, if that is what was asked."""
        command = self._commands.pop(channel.get_id(), None)
        if command is not None:
            threading.Thread(
                target=_run, args=(channel, command, self._sessions.release), daemon=True
            ).start()

    def check_channel_direct_tcpip_request(
        self,
        chanid: int,
        origin: tuple[str, int],  # noqa: ARG002
        destination: tuple[str, int],
    ) -> int:
        if not self._allows_forwarding:
            return OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED
        try:
            far = socket.create_connection(destination, timeout=CONNECT_TIMEOUT_S)
        except OSError:
            return OPEN_FAILED_CONNECT_FAILED
        far.settimeout(None)
        self._far_ends[chanid] = far
        return OPEN_SUCCEEDED

    def keep(self, channel: paramiko.Channel) -> None:
        """Begin to forward on an accepted channel, or hold on to it until its command comes."""
        far = self._far_ends.pop(channel.get_id(), None)
        if far is not None:
            threading.Thread(target=_forward, args=(channel, far), daemon=True).start()
            return
        # paramiko refers to channels weakly, and closes one that nobody else refers to.
        self._kept = [one for one in self._kept if not one.closed]
        self._kept.append(channel)


class _Transport(paramiko.Transport):
    """A connection whose commands start after the client was told that they do.

    paramiko asks the policy first and answers the client then; a command started by the first
    could end, and close its channel, before the second.
    """

    def __init__(self, connection: socket.socket, policy: _Policy) -> None:
        super().__init__(connection)
        self._policy = policy
        self._channel_handler_table = {
            **paramiko.Transport._channel_handler_table,  # type: ignore[attr-defined] # noqa: SLF001
            MSG_CHANNEL_REQUEST: self._request,
        }

    def _request(self, channel: paramiko.Channel, message: paramiko.Message) -> None:
        channel._handle_request(message)  # type: ignore[attr-defined] # noqa: SLF001
        self._policy.begin_command(channel)


def _forward(channel: paramiko.Channel, far: socket.socket) -> None:
    down = threading.Thread(target=_far_to_channel, args=(far, channel), daemon=True)
    down.start()
    with suppress(*LOST):
        while piece := channel.recv(PIECE_BYTES):
            far.sendall(piece)
    with suppress(OSError):
        # A lost connection ends both ways, an end of file only one.
        far.shutdown(socket.SHUT_RDWR if channel.closed else socket.SHUT_WR)
    down.join()
    far.close()
    channel.close()


def _far_to_channel(far: socket.socket, channel: paramiko.Channel) -> None:
    with suppress(*LOST):
        while piece := far.recv(PIECE_BYTES):
            channel.sendall(piece)
        channel.shutdown_write()


def _run(channel: paramiko.Channel, command: bytes, at_end: Callable[[], None]) -> None:
    """Run one command as sshd does: through a shell, in a session of its own, from home."""
    try:
        process = subprocess.Popen(
            [b"/bin/sh", b"-c", command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            cwd=Path.home(),
            bufsize=0,
        )
        _end(channel, process, _connect(channel, process))
    finally:
        with suppress(*LOST):
            channel.close()
        at_end()


def _connect(channel: paramiko.Channel, process: subprocess.Popen[bytes]) -> list[threading.Thread]:
    """Join the command's pipes to the channel; answers the threads that read its output."""
    stdin, stdout, stderr = process.stdin, process.stdout, process.stderr
    if stdin is None or stdout is None or stderr is None:
        raise RuntimeError("a command without pipes")
    threading.Thread(target=_feed, args=(channel, stdin), daemon=True).start()
    pipes = ((stdout, channel.sendall), (stderr, channel.sendall_stderr))
    readers = [threading.Thread(target=_drain, args=pipe, daemon=True) for pipe in pipes]
    for reader in readers:
        reader.start()
    return readers


def _end(
    channel: paramiko.Channel, process: subprocess.Popen[bytes], readers: list[threading.Thread]
) -> None:
    """Send the exit status when the command ends, then wait for the end of its output."""
    status = process.wait()
    if status < 0:
        # Ended by a signal: like sshd, which names the signal then, no exit status.
        for reader in readers:
            reader.join()
        return
    with suppress(*LOST):
        channel.send_exit_status(status)
    for reader in readers:
        reader.join()
    with suppress(*LOST):
        channel.shutdown_write()


def _feed(channel: paramiko.Channel, stdin: IO[bytes]) -> None:
    with suppress(*LOST), closing(stdin):
        while piece := channel.recv(PIECE_BYTES):
            # Unbuffered: a write to the pipe may take only a part.
            while piece:
                piece = piece[stdin.write(piece) :]


def _drain(output: IO[bytes], send: Callable[[bytes], object]) -> None:
    # Closing our end at the loss of the channel lets the command notice by its next write.
    with suppress(*LOST), closing(output):
        while piece := output.read(PIECE_BYTES):
            send(piece)


@contextmanager
def _until_ended() -> Iterator[threading.Event]:
    """Answers an event that SIGTERM and SIGINT set."""
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    yield ended


def main() -> int:
    """Serve until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(description="an SSH server on loopback, for the demo")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--host-key", type=Path, required=True)
    parser.add_argument("--authorized-keys", type=Path, required=True)
    parser.add_argument("--no-forwarding", action="store_true")
    parser.add_argument("--sessions-max", type=int, default=SESSIONS_MAX)
    given = parser.parse_args()
    logging.getLogger("paramiko").addHandler(logging.NullHandler())
    server = EmbeddedSshServer(
        given.port,
        given.host_key,
        given.authorized_keys,
        allows_forwarding=not given.no_forwarding,
        sessions_max=given.sessions_max,
    )
    with _until_ended() as ended, closing(server):
        server.start()
        print(f"listening on 127.0.0.1 port {server.port}", flush=True)  # noqa: T201
        ended.wait()
    # Threads that wait for a running command must not hold up the end.
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
