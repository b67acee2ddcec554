"""Backends for the tests of the upgrade strategies: a real Tomcat, and a tiny Python application.

Each lives in directories of its own on a free loopback port; the machine is this one.
"""

from __future__ import annotations

import contextlib
import functools
import io
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from rolling_deploy.ports import FenceToken
from rolling_deploy.remote.connection import Answer
from rolling_deploy.remote.release import ReleaseStrategy
from rolling_deploy.remote.tomcat import TomcatStrategy
from rolling_deploy.rollout.observed import BackendSeen, Unreachable
from rolling_deploy.settings import (
    BackendSettings,
    HealthSettings,
    ReleaseSettings,
    ServerSettings,
    StrategySettings,
    TomcatSettings,
    WarmUpSettings,
)
from tests.local_connection import LocalConnection
from tests.programs import write_program
from tests.redis_server import free_port

HERE = Path(__file__).parent
TOMCAT_HOME = Path("/usr/share/tomcat10")
PAUSE = threading.Event()
WAIT_S = 60.0
"""Generous: the machine that runs the tests may be busy."""
TOKEN = FenceToken("r1", 3, "somebody@laptop")
BY_HAND = "dir:by-hand"
"""What the tiny application runs before any release of ours."""


def why_no_tomcat() -> str:
    """Answers what this machine lacks for a real Tomcat; empty when nothing."""
    if not (TOMCAT_HOME / "bin" / "catalina.sh").exists():
        return "Tomcat 10 is not installed (Debian: apt-get install tomcat10)"
    if shutil.which("javac") is None:
        return "javac is not installed (Debian: apt-get install default-jdk-headless)"
    return ""


def seen(strategy: TomcatStrategy | ReleaseStrategy) -> BackendSeen:
    """Answers a look that must succeed."""
    found = strategy.look()
    assert not isinstance(found, Unreachable), found.detail
    return found


def wait_until(holds: Callable[[], bool], what: str) -> None:
    """Wait until it holds; fail the test at the limit."""
    end = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < end, f"{what} did not come about in {WAIT_S:.0f} s"
        PAUSE.wait(0.02)


def version_served(port: int, path: str = "/version") -> str:
    """Answers what the backend serves now; the error when it does not."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return str(answer.read().decode())
    except (OSError, urllib.error.URLError) as error:
        return f"error: {error}"


def wait_for_version(port: int, version: str, path: str = "/version") -> None:
    """Wait until the backend serves this version."""
    wait_until(lambda: version_served(port, path) == version, f"version {version} on port {port}")


def backend_settings(name: str, port: int, strategy: StrategySettings) -> BackendSettings:
    """Answers a backend on this machine."""
    address = f"127.0.0.1:{port}"
    return BackendSettings(
        name=name,
        host="here",
        servers={"app": ServerSettings(address)},
        probe_address=address,
        strategy=strategy,
        health=HealthSettings(),
        warm_up=WarmUpSettings(),
    )


def pids_with(text: str) -> list[int]:
    """Answers the processes that have this text in their command line, other than our scripts."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            line = path.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
            if text in line and "rolling-deploy:" not in line:
                found.append(int(path.parent.name))
    return found


def end_processes(text: str) -> None:
    """End what a test has left behind, by pid."""
    for pid in pids_with(text):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


# Tomcat


@functools.cache
def servlet_class(folder: Path) -> bytes:
    """Answers the compiled servlet; compiled once for each folder."""
    jar = TOMCAT_HOME / "lib" / "servlet-api.jar"
    source = HERE / "tomcat_app" / "VersionServlet.java"
    command = ["javac", "-cp", str(jar), "-d", str(folder), str(source)]
    subprocess.run(command, check=True, timeout=300)
    return (folder / "VersionServlet.class").read_bytes()


def write_war(path: Path, servlet: bytes, version: str) -> None:
    """Write a WAR that answers `version` under `/version`."""
    with zipfile.ZipFile(path, "w") as war:
        war.writestr("WEB-INF/classes/VersionServlet.class", servlet)
        war.writestr("WEB-INF/classes/version.txt", version)
        war.write(HERE / "tomcat_app" / "web.xml", "WEB-INF/web.xml")
        # Something to send: an upload that is cut must have a middle.
        war.writestr("filling.bin", os.urandom(400_000))


@dataclass(frozen=True)
class TomcatBackend:
    """A CATALINA_BASE of its own; `wars` holds `app-VERSION.war`."""

    base: Path
    port: int
    settings: TomcatSettings

    def strategy(
        self,
        connection: LocalConnection | None = None,
        **changes: Any,  # any field of the settings
    ) -> TomcatStrategy:
        """Answers its strategy, with other settings where named."""
        settings = replace(self.settings, **changes)
        backend = backend_settings(self.base.name, self.port, settings)
        return TomcatStrategy(settings, backend, connection or LocalConnection())

    def pids(self) -> list[int]:
        """Answers its processes."""
        return pids_with(f"-Dcatalina.base={self.base} ")

    def end(self) -> None:
        """End its processes."""
        end_processes(f"-Dcatalina.base={self.base} ")


def make_tomcat(
    folder: Path,
    wars: Path,
    *,
    context: str = "ROOT",
    has_shutdown_port: bool = True,
    port: int | None = None,
) -> TomcatBackend:
    """Make a CATALINA_BASE on free ports, or on this one; nothing is started."""
    port = port or free_port()
    shutdown_port = free_port() if has_shutdown_port else -1
    for name in ("conf", "logs", "temp", "webapps", "work", "bin"):
        (folder / name).mkdir(parents=True)
    text = (HERE / "tomcat_app" / "server.xml").read_text()
    text = text.replace("@PORT@", str(port)).replace("@SHUTDOWN_PORT@", str(shutdown_port))
    (folder / "conf" / "server.xml").write_text(text)
    options = "-Xmx128m -XX:+UseSerialGC -XX:TieredStopAtLevel=1"
    (folder / "bin" / "setenv.sh").write_text(f'CATALINA_OPTS="{options}"\n')
    settings = TomcatSettings(
        artifact=f"{wars}/app-{{release}}.war",
        catalina_base=str(folder),
        state_dir=f"{folder}/state",
        context=context,
        catalina_home=str(TOMCAT_HOME),
    )
    return TomcatBackend(folder, port, settings)


# The tiny application

APP = """
import argparse, http.server, os, pathlib, signal, sys, threading, time
here = pathlib.Path(os.path.realpath(__file__)).parent
options = argparse.ArgumentParser()
options.add_argument("--port", type=int)
options.add_argument("--name")
options.add_argument("--ends-after", type=float, default=0.0)
chosen = options.parse_args()

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = (here / "VERSION").read_text().encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass

class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

server = Server(("127.0.0.1", chosen.port), Handler)

def end(*_):
    if not os.path.exists("stubborn"):
        server.socket.close()
        time.sleep(chosen.ends_after)
        os._exit(0)

signal.signal(signal.SIGTERM, end)
server.serve_forever()
"""

CONTROL = """#!/bin/sh
# control ROOT start|stop|restart: returns at once, whatever becomes of the process.
cd "$1" || exit 1
. ./options
case $2 in
    start)
        sleep "$START_TAKES"
        [ ! -e broken ] || { echo 'cannot start: no licence' >&2; exit 7; }
        # The plain way: what the channel, the lock and the terminal do to it is ours to get right.
        "$PYTHON" -I -S current/app.py --port "$PORT" --name "$NAME" --ends-after "$ENDS_AFTER" &
        echo $! > pid
        ;;
    stop)
        sleep "$STOP_TAKES"
        kill -TERM "$(cat pid)"
        ;;
    restart)
        kill -TERM "$(cat pid)"
        while [ -d "/proc/$(cat pid)" ] && [ ! -e lazy ]; do sleep 0.02; done
        [ -e lazy ] || exec "$0" "$1" start
        ;;
esac
"""


@dataclass(frozen=True)
class AppBackend:
    """A release folder of its own; `archives` holds `app-VERSION.tar.gz`."""

    root: Path
    port: int
    settings: ReleaseSettings

    def strategy(
        self,
        connection: LocalConnection | None = None,
        **changes: Any,  # any field of the settings
    ) -> ReleaseStrategy:
        """Answers its strategy, with other settings where named."""
        settings = replace(self.settings, **changes)
        backend = backend_settings(self.root.name, self.port, settings)
        more = {f"port{port}": ServerSettings(f"127.0.0.1:{port}") for port in self.other_ports}
        backend = replace(
            backend,
            ignore_connections_from=self.ignored,
            servers={**backend.servers, **more},
        )
        return ReleaseStrategy(settings, backend, connection or LocalConnection())

    ignored: tuple[str, ...] = ()
    other_ports: tuple[int, ...] = ()
    """Ports of further upstreams."""

    def options(self, **changes: str) -> None:
        """Write the options that its control script reads: seconds that things take."""
        options = {"START_TAKES": "0", "STOP_TAKES": "0", "ENDS_AFTER": "0", **changes}
        fixed = {"PYTHON": sys.executable, "PORT": str(self.port), "NAME": self.root.name}
        lines = [f"{name}='{value}'" for name, value in {**options, **fixed}.items()]
        (self.root / "options").write_text("\n".join(lines) + "\n")

    def control(self, word: str) -> None:
        """Run its control script as a person would."""
        command = [str(self.root / "control"), str(self.root), word]
        subprocess.run(
            command, check=True, timeout=60, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def pids(self) -> list[int]:
        """Answers its processes."""
        return pids_with(f"app.py --port {self.port} ")

    def end(self) -> None:
        """End its processes."""
        end_processes(f"app.py --port {self.port} ")


def write_archive(path: Path, version: str, extra: Mapping[str, bytes] | None = None) -> None:
    """Write a release archive; the suffix of `path` says which kind."""
    members = {"app.py": APP.encode(), "VERSION": version.encode(), **(extra or {})}
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in members.items():
                archive.writestr(name, data)
        return
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as archive:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(data), 0o644
            archive.addfile(member, io.BytesIO(data))


def make_app(folder: Path, archives: Path) -> AppBackend:
    """Make a release folder with version 1 put there by hand; nothing is started."""
    first = folder / "releases" / "by-hand"
    first.mkdir(parents=True)
    (first / "app.py").write_text(APP)
    (first / "VERSION").write_text("1")
    (folder / "current").symlink_to("releases/by-hand")
    control = folder / "control"
    write_program(control, CONTROL)
    settings = ReleaseSettings(
        artifact=f"{archives}/app-{{release}}.tar.gz",
        root=str(folder),
        state_dir=f"{folder}/state",
        stop=(str(control), str(folder), "stop"),
        start=(str(control), str(folder), "start"),
        stop_limit_ms=30_000,
        start_limit_ms=30_000,
    )
    backend = AppBackend(folder, free_port(), settings)
    backend.options()
    return backend


@contextlib.contextmanager
def running_app(folder: Path, archives: Path) -> Iterator[AppBackend]:
    """Answers the tiny application on version 1, started by hand, and ends it afterwards."""
    backend = make_app(folder, archives)
    backend.control("start")
    try:
        wait_for_version(backend.port, "1")
        yield backend
    finally:
        backend.end()


@contextlib.contextmanager
def small_disk(place: Path, size: str) -> Iterator[Path]:
    """Mount a file system that is soon full; skips the test where that cannot be."""
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(place)],
        check=False,
        capture_output=True,
    )
    if mounted.returncode != 0:
        pytest.skip(f"cannot mount a small file system here: {mounted.stderr.decode().strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=False)


@pytest.fixture
def archives(tmp_path: Path) -> Path:
    folder = tmp_path / "archives"
    folder.mkdir()
    for version in ("2", "3"):
        write_archive(folder / f"app-{version}.tar.gz", version)
    return folder


@pytest.fixture
def app(tmp_path: Path, archives: Path) -> Iterator[AppBackend]:
    with running_app(tmp_path / "app1", archives) as backend:
        yield backend


class CutConnection(LocalConnection):
    """Loses the line while a file is sent: half of it arrives."""

    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes | Iterable[bytes] = b"",
        limit_ms: int,
        holds_stdin: bool = False,
    ) -> Answer:
        if not isinstance(stdin, bytes):
            whole = b"".join(stdin)
            super().run(argv, stdin=whole[: len(whole) // 2], limit_ms=limit_ms)
            return Answer(is_complete=False, exit_status=None, stdout=b"", stderr=b"", detail="cut")
        return super().run(argv, stdin=stdin, limit_ms=limit_ms, holds_stdin=holds_stdin)


class DroppedConnection(LocalConnection):
    """A channel that is gone: nobody reads what the command says, nobody writes to it."""

    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes | Iterable[bytes] = b"",
        limit_ms: int,
        holds_stdin: bool = False,
    ) -> Answer:
        process = subprocess.Popen(
            list(argv), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for stream in (process.stdin, process.stdout, process.stderr):
            assert stream is not None
            stream.close()
        threading.Thread(target=process.wait, daemon=True).start()
        return Answer(is_complete=False, exit_status=None, stdout=b"", stderr=b"", detail="cut")
