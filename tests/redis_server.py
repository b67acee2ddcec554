"""A real redis-server of a chosen configuration, on a free loopback port, for one test."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import redis

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

BINARY = shutil.which("redis-server")
WHY_SKIPPED = "redis-server is not installed (Debian: apt-get install redis-server)"
START_LIMIT_S = 20.0
STOP_LIMIT_S = 10.0


@dataclass(frozen=True, slots=True)
class RedisServer:
    """A running server.

    Attributes:
        directory: its working directory, removed with it.
        tls: what an ordinary client needs beside the port, where it speaks TLS only.
    """

    port: int
    process: subprocess.Popen[bytes]
    directory: Path
    tls: Mapping[str, Any] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """Answers the url of its first database."""
        return f"redis://127.0.0.1:{self.port}/0"

    def client(self, **options: Any) -> Any:
        """Answers an ordinary client, for what a test prepares; the caller closes it.

        Any: redis-py types its commands only in part.
        """
        every = {**self.tls, **options}
        return redis.Redis(host="127.0.0.1", port=self.port, socket_timeout=20, **every)

    def freeze(self) -> None:
        """Stop the process where it is, as a machine that swaps or hangs."""
        os.kill(self.process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        os.kill(self.process.pid, signal.SIGCONT)


@dataclass(frozen=True, slots=True)
class Tls:
    """What a server shows, and whom it believes.

    Attributes:
        authority: signed the certificates of the others.
        wants_certificate: clients without one are sent away, as Redis does unless told otherwise.
    """

    certificate: Path
    key: Path
    authority: Path
    wants_certificate: bool = False

    def options(self, port: int) -> list[str]:
        """Answers the words of the command line, also for what it says to others of its kind."""
        words = {"port": "0", "tls-port": str(port)} | self.settings
        return [part for name, value in words.items() for part in (f"--{name}", value)]

    @property
    def settings(self) -> dict[str, str]:
        """Answers all of it but the port, as a configuration file names it."""
        return {
            "tls-cert-file": str(self.certificate),
            "tls-key-file": str(self.key),
            "tls-ca-cert-file": str(self.authority),
            "tls-auth-clients": "yes" if self.wants_certificate else "no",
            "tls-replication": "yes",
            "tls-cluster": "yes",
        }

    @property
    def of_a_client(self) -> dict[str, Any]:
        """Answers how a test's own client gets in, whatever the certificate says."""
        certificate = {"ssl_certfile": str(self.certificate), "ssl_keyfile": str(self.key)}
        return {"ssl": True, "ssl_cert_reqs": "none", **certificate}


def free_port() -> int:
    """Answers a loopback port that nobody listens on right now.

    Below the ports the system gives to outgoing connections, and low enough that a cluster's
    own port, 10,000 above, is too.
    """
    for _ in range(100):
        port = secrets.randbelow(10_000) + 12_000
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    msg = "no free port between 12000 and 22000"
    raise AssertionError(msg)


@contextlib.contextmanager
def redis_server(
    *configuration: str, directory: Path | None = None, tls: Tls | None = None
) -> Iterator[RedisServer]:
    """Run a server with these `--option value` words until the block ends.

    Returns as soon as it accepts connections, which may be before its data set is loaded.

    Args:
        tls: it speaks TLS with this certificate, and nothing else.
    """
    assert BINARY is not None, WHY_SKIPPED
    with tempfile.TemporaryDirectory(prefix="redis-", ignore_cleanup_errors=True) as folder:
        place = directory or Path(folder)
        port = free_port()
        ports = ["--port", str(port)] if tls is None else tls.options(port)
        fixed = [*ports, "--bind", "127.0.0.1", "--dir", str(place)]
        fixed += [
            "--save",
            "",
            "--repl-diskless-sync-delay",
            "0",
            "--daemonize",
            "no",
            "--logfile",
            str(place / "redis.log"),
        ]
        process = subprocess.Popen([BINARY, *fixed, *configuration], stdout=subprocess.DEVNULL)
        try:
            server = RedisServer(port, process, place, tls.of_a_client if tls else {})
            wait_until_it_accepts(server)
            yield server
        finally:
            end(process)


def wait_until(condition: Any, what: str, limit_s: float = START_LIMIT_S) -> None:
    """Wait until `condition()` is true; fail the test at the limit."""
    deadline = time.monotonic() + limit_s
    pause = threading.Event()
    while not condition():
        if time.monotonic() > deadline:
            msg = f"{what} did not come about within {limit_s} s"
            raise AssertionError(msg)
        pause.wait(0.02)


def wait_until_it_accepts(server: RedisServer) -> None:
    """Wait until its port answers; fail the test with its log when it ends instead."""

    def accepts() -> bool:
        if server.process.poll() is not None:
            log = server.directory / "redis.log"
            msg = f"redis-server ended: {log.read_text() if log.exists() else 'no log'}"
            raise AssertionError(msg)
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", server.port), 1):
            return True
        return False

    wait_until(accepts, "redis-server's port")


def end(process: subprocess.Popen[bytes]) -> None:
    """End a server that a test started."""
    # Killed, frozen or not: a server asked to end would first try to save, and there is nothing
    # to keep.
    process.kill()
    process.wait(STOP_LIMIT_S)
