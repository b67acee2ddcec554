"""The SSH side of a demo fleet: keys, host keys, one server for each machine."""

from __future__ import annotations

import os
import pwd
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from rolling_deploy.demo import readiness
from rolling_deploy.demo.fleet_files import Machine, sshd_config
from rolling_deploy.demo.keeper import Keeper
from rolling_deploy.demo.servers import Program
from rolling_deploy.remote.ssh import SshConnection
from rolling_deploy.settings import HostTarget

TEST_LIMIT_S = 10.0
LOGIN_LIMIT_MS = 10_000


@dataclass(slots=True)
class SshAccess:
    """The keys of a fleet and the SSH servers of its machines.

    Attributes:
        sshd: OpenSSH's server; None means the embedded one, also after OpenSSH's did not let
            this user in.
        refusal: why OpenSSH's was given up, or empty.
    """

    folder: Path
    machines: Sequence[Machine]
    sshd: Program | None
    refusal: str = ""
    _pids: dict[str, int] = field(default_factory=dict)

    @property
    def user(self) -> str:
        """Answers the user to log in as: only one's own, unless one is root."""
        return pwd.getpwuid(os.geteuid()).pw_name

    def describe(self) -> str:
        """Answers in a line which server it is."""
        if self.sshd is not None:
            return f"OpenSSH {self.sshd}"
        reason = f", because OpenSSH's {self.refusal}" if self.refusal else ""
        return f"embedded SSH server (paramiko){reason}"

    def target(self, machine: Machine) -> HostTarget:
        """Answers how to reach one machine, as the inventory says it."""
        return HostTarget(
            name=machine.name,
            address="127.0.0.1",
            port=machine.ssh_port,
            user=self.user,
            key=str(self.folder / "id_ed25519"),
            known_hosts=str(self.folder / "known_hosts"),
            connect_timeout_ms=LOGIN_LIMIT_MS,
        )

    def write_files(self) -> None:
        """Write the user's key, every machine's key and configuration, and `known_hosts`."""
        self.folder.mkdir(mode=0o700, exist_ok=True)
        ours = make_key(self.folder / "id_ed25519")
        (self.folder / "authorized_keys").write_text(ours + "\n", encoding="utf-8")
        known: list[str] = []
        for machine in self.machines:
            public = make_key(machine.directory / "ssh_host_key")
            known.append(f"[127.0.0.1]:{machine.ssh_port} {public}\n")
            config = sshd_config(machine, self.folder / "authorized_keys")
            (machine.directory / "sshd_config").write_text(config, encoding="utf-8")
        (self.folder / "known_hosts").write_text("".join(known), encoding="utf-8")

    def start(self, keeper: Keeper) -> None:
        """Start every machine's server; they need not answer yet.

        Raises:
            OSError: one cannot be started.
        """
        if self.sshd is not None:
            self.refusal = problem_of(self.sshd, self.machines[0])
            self.sshd = None if self.refusal else self.sshd
        for machine in self.machines:
            self.start_one(keeper, machine)

    def start_one(self, keeper: Keeper, machine: Machine) -> int:
        """Start one machine's server, also again; answers its pid."""
        if self.sshd is not None:
            config = str(machine.directory / "sshd_config")
            argv = [self.sshd.path, "-D", "-e", "-f", config]
        else:
            argv = [
                *(sys.executable, "-m", "rolling_deploy.demo.ssh_server"),
                *("--port", str(machine.ssh_port)),
                *("--host-key", str(machine.directory / "ssh_host_key")),
                *("--authorized-keys", str(self.folder / "authorized_keys")),
            ]
        pid = keeper.start(argv, log=machine.directory / "sshd.log")
        self._pids[machine.name] = pid
        return pid

    def wait(self, keeper: Keeper, limit_s: float) -> None:
        """Return when every machine lets us in.

        OpenSSH's server may refuse the user whatever we do (a locked account, a login shell that
        runs nothing); then the embedded one takes its place.

        Raises:
            OSError: a server does not answer, or the embedded one does not let us in either.
        """
        self._wait_for_ports(limit_s)
        refusal = self._login_problem()
        if refusal and self.sshd is not None:
            self.sshd, self.refusal = None, refusal
            for pid in self._pids.values():
                os.kill(pid, signal.SIGTERM)
                keeper.wait(pid, limit_s)
            self.start(keeper)
            self._wait_for_ports(limit_s)
            refusal = self._login_problem()
        if refusal:
            raise OSError(f"the SSH server of {self.machines[0].name} {refusal}")

    def _wait_for_ports(self, limit_s: float) -> None:
        for machine in self.machines:
            readiness.wait_for_ssh(machine.ssh_port, limit_s)

    def _login_problem(self) -> str:
        """Answers why a command cannot be run on the first machine, or nothing."""
        connection = SshConnection(self.target(self.machines[0]))
        try:
            answer = connection.run(["echo", "in"], limit_ms=LOGIN_LIMIT_MS)
        finally:
            connection.close()
        if answer.stdout.strip() == b"in":
            return ""
        said = (answer.stdout + answer.stderr).decode("utf-8", "replace").strip()
        return f"does not let {self.user} run a command ({answer.detail or said or 'no answer'})"


def make_key(path: Path) -> str:
    """Write a new ed25519 key, readable by its owner only; answers its public half."""
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.OpenSSH,
        serialization.NoEncryption(),
    )
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    path.write_bytes(private)
    public = key.public_key().public_bytes(
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    )
    return public.decode()


def problem_of(sshd: Program, machine: Machine) -> str:
    """Answers why this sshd would not start, or nothing.

    As root it insists on an empty directory that a boot normally makes: made here if missing.
    """
    argv = [sshd.path, "-t", "-f", str(machine.directory / "sshd_config")]
    said = ""
    for _ in range(2):
        tested = subprocess.run(  # a program we have looked up
            argv, capture_output=True, text=True, timeout=TEST_LIMIT_S, check=False
        )
        if tested.returncode == 0:
            return ""
        said = tested.stderr.strip()
        missing = re.search(r"Missing privilege separation directory: (\S+)", said)
        if missing is None:
            break
        try:
            Path(missing[1]).mkdir(mode=0o755, parents=True, exist_ok=True)
        except OSError as problem:
            return f"needs `{missing[1]}`: {problem}"
    return f"does not start: {said}"
