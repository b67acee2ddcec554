"""Waiting for the facts of the rig: a server answers, something has come about."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

LIMIT_S = 30.0
"""For anything that is waited for. Generous: it only ends what would hang."""


def until(holds: Callable[[], object], what: str, limit_s: float = LIMIT_S) -> None:
    """Return as soon as it holds."""
    end = time.monotonic() + limit_s
    while not holds():
        assert time.monotonic() < end, f"not within {limit_s:.0f} s: {what}"
        time.sleep(0.03)  # noqa: TID251 # a test asks again; there is nothing to wait on


def said_by(address: tuple[str, int], sent: bytes) -> bytes:
    """Answers the first bytes that a port says, nothing when it says nothing."""
    try:
        with socket.create_connection(address, timeout=2) as stream:
            stream.sendall(sent)
            return stream.recv(256)
    except OSError:
        return b""


def await_answer(
    address: tuple[str, int], sent: bytes, wanted: bytes, limit_s: float = LIMIT_S
) -> None:
    """Return when a port's answer begins as wanted."""
    until(lambda: said_by(address, sent).startswith(wanted), f"{address} answers", limit_s)


def await_http(url: str, path: str, limit_s: float = LIMIT_S) -> None:
    """Return when a GET of the path answers 200."""
    host, _, port = url.removeprefix("http://").partition(":")
    request = f"GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n".encode()
    await_answer((host, int(port)), request, b"HTTP/1.1 200", limit_s)
