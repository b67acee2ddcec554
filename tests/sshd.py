"""SSH servers to test against: a real OpenSSH sshd and the embedded one, with one interface.

Each server runs in a process of its own on a free loopback port, with its own host key,
authorized_keys and known_hosts in a directory the test gives.
"""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from rolling_deploy.settings import HostTarget

START_LIMIT_S = 20.0
SSHD = shutil.which("sshd", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
KINDS = ("openssh", "embedded")


def why_not(kind: str) -> str:
    """Answers why this kind of server cannot be tested here, or nothing."""
    if kind == "openssh" and SSHD is None:
        return "no OpenSSH sshd on this machine"
    return ""


@dataclasses.dataclass(frozen=True, slots=True)
class KeyPair:
    """A private key's file, and the public half as `authorized_keys` has it."""

    path: Path
    public: str


def make_key(path: Path, passphrase: bytes = b"") -> KeyPair:
    """Write a new ed25519 key pair, the public half to `path` with `.pub`."""
    key = Ed25519PrivateKey.generate()
    lock: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase:
        lock = serialization.BestAvailableEncryption(passphrase)
    form = serialization.PrivateFormat.OpenSSH
    private = key.private_bytes(serialization.Encoding.PEM, form, lock)
    public = (
        key.public_key()
        .public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
        .decode()
    )
    path.touch(mode=0o600)
    path.write_bytes(private)
    path.with_name(path.name + ".pub").write_text(public + "\n")
    return KeyPair(path, public)


class SshServer:
    """One SSH server in a process of its own.

    Attributes:
        kind: `openssh` or `embedded`.
        port: on 127.0.0.1; it stays the same over a restart.
        key: the private key file that may log in.
        known_hosts: names this server with its host key.
    """

    def __init__(
        self, kind: str, directory: Path, *, forwarding: bool = True, sessions_max: int = 10
    ) -> None:
        self.kind = kind
        self.directory = directory
        self.forwarding = forwarding
        self.sessions_max = sessions_max
        self.port = free_port()
        directory.mkdir(parents=True, exist_ok=True)
        self.host_key = make_key(directory / "host_key")
        self._client = make_key(directory / "id_ed25519")
        self.key = self._client.path
        self.authorized_keys = directory / "authorized_keys"
        self.authorized_keys.write_text(self._client.public + "\n", encoding="utf-8")
        self.known_hosts = directory / "known_hosts"
        self.known_hosts.write_text(
            f"[127.0.0.1]:{self.port} {self.host_key.public}\n", encoding="utf-8"
        )
        self._process: subprocess.Popen[bytes] | None = None

    def target(self, **changes: object) -> HostTarget:
        """Answers how to reach it, with changes."""
        target = HostTarget(
            name="machine",
            address="127.0.0.1",
            port=self.port,
            key=str(self.key),
            known_hosts=str(self.known_hosts),
        )
        return dataclasses.replace(target, **changes)  # type: ignore[arg-type]

    def start(self) -> None:
        """Start it and wait until it answers."""
        argv = self._openssh_argv() if self.kind == "openssh" else self._embedded_argv()
        with (self.directory / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        limit = time.monotonic() + START_LIMIT_S
        while True:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 2) as probe:
                probe.settimeout(5)
                if probe.recv(4) == b"SSH-":
                    return
            if self._process.poll() is not None or time.monotonic() > limit:
                raise RuntimeError((self.directory / "server.log").read_text())
            threading.Event().wait(0.02)

    def stop(self) -> None:
        """End it and every connection, at once; commands that run go on."""
        if self._process is None:
            return
        pids = self.pids()
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait(10)
        self._process = None

    def drop_connections(self) -> None:
        """Kill whatever serves connections; with OpenSSH the listener goes on."""
        if self.kind == "embedded":
            self.stop()
            self.start()
            return
        for pid in self.pids()[1:]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def freeze(self) -> None:
        """Stop every process of the server; the kernel still acknowledges what is sent."""
        for pid in self.pids():
            os.kill(pid, signal.SIGSTOP)

    @contextmanager
    def frozen_connections(self) -> Iterator[None]:
        """Stop what serves the connections that are open now; with OpenSSH new ones are served."""
        assert self.kind == "openssh"
        pids = self.pids()[1:]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    def thaw(self) -> None:
        """Let a frozen server go on."""
        for pid in self.pids():
            os.kill(pid, signal.SIGCONT)

    def pids(self) -> list[int]:
        """Answers the server's own processes, the listener first, without the commands it runs."""
        if self._process is None:
            return []
        found = [self._process.pid]
        if self.kind == "openssh":
            for pid in found:
                found.extend(child for child in _children(pid) if _name(child) == "sshd")
        return found

    def _openssh_argv(self) -> list[str]:
        config = self.directory / "sshd_config"
        config.write_text(
            f"ListenAddress 127.0.0.1\nPort {self.port}\nHostKey {self.host_key.path}\n"
            f"PidFile none\nAuthorizedKeysFile {self.authorized_keys}\nStrictModes no\n"
            "PermitRootLogin prohibit-password\nPasswordAuthentication no\n"
            "KbdInteractiveAuthentication no\nUsePAM no\nPrintMotd no\nMaxStartups 100\n"
            f"AllowTcpForwarding {'yes' if self.forwarding else 'no'}\n"
            f"MaxSessions {self.sessions_max}\n"
            # bash reads ~/.bashrc when sshd starts it; what stands there is not under test.
            f"SetEnv HOME={self.directory}\n",
            encoding="utf-8",
        )
        assert SSHD is not None
        _prepare(config)
        return [SSHD, "-D", "-e", "-f", str(config)]

    def _embedded_argv(self) -> list[str]:
        argv = [sys.executable, "-m", "rolling_deploy.demo.ssh_server", "--port", str(self.port)]
        argv += ["--host-key", str(self.host_key.path)]
        argv += ["--authorized-keys", str(self.authorized_keys)]
        argv += ["--sessions-max", str(self.sessions_max)]
        return argv if self.forwarding else [*argv, "--no-forwarding"]


@contextmanager
def running(
    kind: str, directory: Path, *, forwarding: bool = True, sessions_max: int = 10
) -> Iterator[SshServer]:
    """Run a server for as long as the block lasts."""
    server = SshServer(kind, directory, forwarding=forwarding, sessions_max=sessions_max)
    server.start()
    try:
        yield server
    finally:
        server.stop()


class CutProxy:
    """A TCP relay in front of a server that can stop carrying bytes without closing anything.

    Attributes:
        accepted: how many connections it has taken.
    """

    def __init__(self, port: int) -> None:
        self._to = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._is_open = threading.Event()
        self._is_open.set()
        self.accepted = 0
        self._sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """From now on nothing arrives on either side, and nobody is told."""
        self._is_open.clear()

    def mend(self) -> None:
        """Carry on, with what waited meanwhile."""
        self._is_open.set()

    def close(self) -> None:
        """End it."""
        for one in (self._listener, *self._sockets):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        self._is_open.set()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                self.accepted += 1
                try:
                    far = socket.create_connection(("127.0.0.1", self._to))
                except OSError:
                    near.close()
                    continue
                self._sockets += [near, far]
                for one, other in ((near, far), (far, near)):
                    threading.Thread(target=self._carry, args=(one, other), daemon=True).start()

    def _carry(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while piece := source.recv(65536):
                self._is_open.wait()
                sink.sendall(piece)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_RDWR)


def wait_until(is_so: Callable[[], bool], limit_s: float = 20) -> None:
    """Return as soon as it is so; fail when it is not in time."""
    end = time.monotonic() + limit_s
    while not is_so():
        assert time.monotonic() < end, "it did not come about"
        threading.Event().wait(0.01)


def free_port() -> int:
    """Answers a loopback port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def _prepare(config: Path) -> None:
    """Make the empty directory a root sshd insists on, which a boot normally makes."""
    tested = subprocess.run(
        [str(SSHD), "-t", "-f", str(config)], capture_output=True, text=True, check=False
    )
    missing = re.search(r"Missing privilege separation directory: (\S+)", tested.stderr)
    if missing is not None:
        Path(missing[1]).mkdir(mode=0o755, parents=True, exist_ok=True)


def _children(pid: int) -> list[int]:
    with suppress(OSError):
        tasks = Path(f"/proc/{pid}/task").iterdir()
        return [int(word) for task in tasks for word in (task / "children").read_text().split()]
    return []


def _name(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip()
    return ""
