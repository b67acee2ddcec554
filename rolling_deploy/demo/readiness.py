"""Waiting for the facts that a server is up: it answers, in its own protocol."""

from __future__ import annotations

import socket
import time

ASK_LIMIT_S = 2.0
PAUSE_S = 0.02


def exchange(port: int, sent: bytes) -> bytes:
    """Answers the first bytes that a port of 127.0.0.1 says, nothing when it says nothing."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=ASK_LIMIT_S) as stream:
            stream.sendall(sent)
            return stream.recv(256)
    except OSError:
        return b""


def wait_for(name: str, port: int, sent: bytes, wanted: bytes, limit_s: float) -> None:
    """Return when the answer begins as wanted.

    Raises:
        OSError: it does not within the limit.
    """
    until = time.monotonic() + limit_s
    answer = b""
    while not answer.startswith(wanted):
        if time.monotonic() > until:
            said = answer[:60].decode("latin-1") or "nothing"
            raise OSError(f"{name} (port {port}) should answer in {limit_s:.0f} s, says {said}")
        answer = exchange(port, sent)
        if not answer.startswith(wanted):
            time.sleep(PAUSE_S)  # noqa: TID251 # a port that is not open yet tells nobody


def wait_for_redis(port: int, limit_s: float) -> None:
    """Return when Redis answers a PING."""
    wait_for("redis-server", port, b"PING\r\n", b"+PONG", limit_s)


def wait_for_ssh(port: int, limit_s: float) -> None:
    """Return when an SSH server introduces itself."""
    wait_for("the SSH server", port, b"", b"SSH-2.0", limit_s)


def wait_for_http(port: int, path: str, limit_s: float) -> None:
    """Return when a GET of the path answers 200."""
    request = f"GET {path} HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n".encode()
    wait_for(f"`{path}`", port, request, b"HTTP/1.1 200", limit_s)
