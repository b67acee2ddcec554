"""A small HTTP application that does exactly what a test tells it to, good or bad."""

from __future__ import annotations

import contextlib
import ssl
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Asked:
    """One request as it arrived; header names in lower case."""

    number: int
    path: str
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Says:
    """One answer.

    Attributes:
        after_s: waits so long first, or until the application ends.
        pause_s: waits so long before every byte of the body.
    """

    status: int = 200
    body: bytes = b"UP"
    headers: Mapping[str, str] = field(default_factory=dict)
    after_s: float = 0
    pause_s: float = 0


class App:
    """The running application: where it is, and what it was asked."""

    def __init__(self, answer: Callable[[Asked], Says]) -> None:
        """Prepare; `answer` is called for every request, from several threads."""
        self.answer = answer
        self.asked: list[Asked] = []
        self.is_over = threading.Event()
        self.port = 0
        self._lock = threading.Lock()

    @property
    def address(self) -> str:
        """Answers `host:port`."""
        return f"127.0.0.1:{self.port}"

    def hear(self, path: str, headers: Mapping[str, str]) -> Says:
        """Remember a request and answer what to say."""
        with self._lock:
            asked = Asked(len(self.asked) + 1, path, headers)
            self.asked.append(asked)
        return self.answer(asked)


@contextlib.contextmanager
def running_app(
    answer: Callable[[Asked], Says], *, certificate: tuple[Path, Path] | None = None
) -> Iterator[App]:
    """Run the application on a free loopback port until the block ends."""
    app = App(answer)
    server = _Server(("127.0.0.1", 0), _handler_of(app))
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        server.socket = context.wrap_socket(
            server.socket, server_side=True, do_handshake_on_connect=False
        )
    app.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield app
    finally:
        app.is_over.set()
        server.shutdown()
        server.server_close()
        thread.join(10)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is no error here."""


def _handler_of(app: App) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            says = app.hear(self.path, headers)
            if says.after_s:
                app.is_over.wait(says.after_s)
            self.send_response(says.status)
            for name, value in says.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(says.body)))
            self.end_headers()
            if not says.pause_s:
                self.wfile.write(says.body)
                return
            for byte in says.body:
                if app.is_over.wait(says.pause_s):
                    return
                self.wfile.write(bytes([byte]))

        def log_message(self, *_: object) -> None:
            """Nothing is logged."""

    return Handler
