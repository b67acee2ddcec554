"""The users of the rig, on a machine of their own, and one upload that takes as long as wanted."""

from __future__ import annotations

import contextlib
import hashlib
import json
import socket
from collections.abc import Iterator, Sequence
from typing import Self

from rolling_deploy.demo.load import Load, LoadShape
from tests.fleet_rig.fleet_texts import BLOG_PORT, PLACES
from tests.fleet_rig.namespaces import Machine, join_network
from tests.nginx_machine import Backend

USERS = LoadShape(
    fast=6, slow=2, uploads=1, think_ms=120, slow_ms=(200, 400), upload_s=0.8, upload_pieces=8
)
"""Light: somebody must notice a fault; two cores carry eleven machines besides."""
QUICK = LoadShape(fast=10, slow=0, uploads=0, think_ms=60)
"""For faults that hurt by themselves: no request lasts, so the count is that of the fault."""
UPLOAD_LIMIT_S = 300.0


class UsersOn(Load):
    """A load whose connections are made on a machine of the rig."""

    def __init__(self, machine: Machine, urls: Sequence[str], shape: LoadShape = USERS) -> None:
        super().__init__(urls, shape)
        self._machine = machine

    def _run(self) -> None:
        join_network(self._machine.pid)
        super()._run()


class HangingUpload:
    """An upload through a load balancer whose last byte is not sent until `finish`.

    The nginx worker that holds it does not end before, as with a websocket that stays open.
    """

    def __init__(self, machine: Machine, url: str, size: int = 10_000) -> None:
        host, _, port = url.removeprefix("http://").partition(":")
        self._body = bytes(index % 251 for index in range(size))
        self._stream = machine.inside(
            lambda: socket.create_connection((host, int(port)), UPLOAD_LIMIT_S)
        )
        head = f"POST /upload HTTP/1.1\r\nHost: {host}\r\nContent-Length: {size}\r\n"
        self._stream.sendall(f"{head}Connection: close\r\n\r\n".encode() + self._body[:-1])

    def finish(self) -> None:
        """Send the last byte; the answer must be about what was sent."""
        self._stream.sendall(self._body[-1:])
        answer = b""
        while piece := self._stream.recv(65_536):
            answer += piece
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.split(b" ")[1] == b"200", answer
        assert json.loads(body)["sha256"] == hashlib.sha256(self._body).hexdigest()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *ended: object) -> None:
        with contextlib.suppress(OSError):
            self._stream.close()


class WebSocket:
    """A connection to the other application that is upgraded, and stays as long as it is held."""

    def __init__(self, machine: Machine, url: str) -> None:
        host, _, port = url.removeprefix("http://").partition(":")
        self._stream = machine.inside(
            lambda: socket.create_connection((host, int(port)), UPLOAD_LIMIT_S)
        )
        self._stream.sendall(
            b"GET / HTTP/1.1\r\nHost: blog.example\r\nUpgrade: echo\r\nConnection: upgrade\r\n\r\n"
        )
        answer = self._stream.recv(1_000)
        assert b" 101 " in answer, answer

    def close(self) -> None:
        """Hang up."""
        self._stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *ended: object) -> None:
        self.close()


@contextlib.contextmanager
def websocket_server(machine: Machine) -> Iterator[Backend]:
    """Serve the other application on a machine: it upgrades whoever asks, and says nothing."""
    address = (PLACES[machine.name].site, BLOG_PORT)
    server = Backend(machine.inside(lambda: socket.create_server(address)))
    try:
        yield server
    finally:
        server.close()
