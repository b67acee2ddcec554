"""A machine reached without SSH: commands run here, through a shell, as sshd would run them.

It keeps the manners of the real connection: every word quoted into one command line, one process
per command, its own session, stdin closed or held, an answer that is complete or not at all. What
it lacks is the network.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence

from rolling_deploy.remote.connection import Answer, ForwardingRefused
from rolling_deploy.remote.quoting import command_line
from rolling_deploy.settings import HostTarget


class LocalConnection:
    """This machine as a `Connection`.

    `environment` replaces or adds variables (a PATH of its own, for instance); `user` runs
    everything as another user id, where we are root.
    """

    def __init__(
        self,
        *,
        name: str = "here",
        sudo: bool = False,
        environment: Mapping[str, str] | None = None,
        user: int | None = None,
    ) -> None:
        self._target = HostTarget(name=name, address="127.0.0.1", sudo=sudo)
        self._environment = {**os.environ, **(environment or {})}
        self._user = user
        self._guard = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self.commands = 0
        """How many commands were sent: round trips."""

    @property
    def target(self) -> HostTarget:
        return self._target

    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes | Iterable[bytes] = b"",
        limit_ms: int,
        holds_stdin: bool = False,
    ) -> Answer:
        with self._started(["/bin/sh", "-c", "exec " + command_line(argv)]) as process:
            writer = threading.Thread(target=_feed, args=(process, stdin, holds_stdin), daemon=True)
            writer.start()
            said: dict[str, bytes] = {}
            readers = [
                threading.Thread(target=_drink, args=(process, name, said), daemon=True)
                for name in ("stdout", "stderr")
            ]
            for reader in readers:
                reader.start()
            readers[0].join(limit_ms / 1000)
            if readers[0].is_alive():
                return Answer(False, None, b"", b"", f"no end within {limit_ms} ms")
            status = process.wait(10)
            readers[1].join(1)
            for stream in (process.stdout, process.stderr):
                if stream is not None and not readers[1].is_alive():
                    stream.close()
            if status < 0:
                return Answer(True, None, said["stdout"], said.get("stderr", b""), "killed")
            return Answer(True, status, said["stdout"], said.get("stderr", b""))

    def open_stream(self, host: str, port: int, *, timeout_ms: int) -> socket.socket:
        try:
            return socket.create_connection((host, port), timeout_ms / 1000)
        except OSError as error:
            raise ForwardingRefused(str(error), is_prohibited=False) from error

    def close(self) -> None:
        """Close the channels of what still runs; it ends or goes on by itself."""
        with self._guard:
            running = tuple(self._running)
        for process in running:
            _let_go(process)

    def kill_running(self) -> None:
        """SIGKILL every command that runs, with what it started in its own session."""
        with self._guard:
            running = tuple(self._running)
        for process in running:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

    @contextlib.contextmanager
    def _started(self, words: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
        # Its process can be seen before `Popen` returns, and whoever closes us must not miss it.
        with self._guard:
            process = subprocess.Popen(
                words,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=self._environment,
                user=self._user,
                group=self._user,
                extra_groups=None if self._user is None else [],
                cwd="/",
                start_new_session=True,
            )
            self.commands += 1
            self._running.add(process)
        try:
            yield process
        finally:
            with self._guard:
                self._running.discard(process)
            _let_go(process)
            threading.Thread(target=process.wait, daemon=True).start()


def _feed(
    process: subprocess.Popen[bytes], stdin: bytes | Iterable[bytes], holds_stdin: bool
) -> None:
    assert process.stdin is not None
    pieces = (stdin,) if isinstance(stdin, bytes) else stdin
    with contextlib.suppress(OSError, ValueError):
        for piece in pieces:
            process.stdin.write(piece)
        process.stdin.flush()
        if not holds_stdin:
            process.stdin.close()


def _drink(process: subprocess.Popen[bytes], name: str, said: dict[str, bytes]) -> None:
    stream = process.stdout if name == "stdout" else process.stderr
    assert stream is not None
    with contextlib.suppress(OSError, ValueError):
        said[name] = b""
        while piece := os.read(stream.fileno(), 65_536):
            said[name] += piece


def _let_go(process: subprocess.Popen[bytes]) -> None:
    """Close our ends, as a closed channel does. Output that comes later meets a broken pipe."""
    if process.stdin is not None:
        with contextlib.suppress(OSError, ValueError):
            process.stdin.close()
