"""What any upgrade strategy needs of a backend's machine: its process, its port, its commands."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from rolling_deploy.ports import FenceToken
from rolling_deploy.remote.connection import Connection
from rolling_deploy.remote.script import Reply, run_script
from rolling_deploy.remote.sudo_rights import SUDO
from rolling_deploy.rollout.observed import BackendSeen, Unreachable
from rolling_deploy.rollout.step import Outcome, Result
from rolling_deploy.settings import BackendSettings

LOOK_LIMIT_MS = 60_000
"""A look hashes what is deployed; a WAR of 1 GB takes about 5 s on a small machine."""
STORE_LIMIT_MS = 300_000
"""Copying, unpacking and removing on a slow disk."""
LOCK_AND_GUARD_MS = 45_000
"""What an activation takes beside stop and start: lock 10 s, guard 5 s, a copy and two digests."""
SERVICE_MANAGERS = frozenset({"systemctl", "service", "rc-service"})
"""They need root and start the application as whom its unit names; any other command that went
through sudo would start it as root."""
_RESTARTED = {"yes": True, "no": False}


@dataclass(frozen=True, slots=True)
class Commands:
    """How the process is stopped and started.

    Attributes:
        stop: empty when `start` is a restart that does both.
        is_catalina: `stop` is the built-in script of Tomcat.
    """

    stop: tuple[str, ...]
    start: tuple[str, ...]
    stop_limit_ms: int
    start_limit_ms: int
    is_catalina: bool = False

    def through_sudo(self) -> Commands:
        """Answers the same with `sudo -n` before a service manager; all else as it stands."""
        return replace(self, stop=_through_sudo(self.stop), start=_through_sudo(self.start))

    def programs(self) -> list[str]:
        """Answers the programs these commands run, to see whether they are there."""
        found = [_program(argv) for argv in (self.stop, self.start) if argv]
        return list(dict.fromkeys(found))


@dataclass(frozen=True, slots=True)
class Service:
    """One backend's process and port, and our scripts for it.

    Attributes:
        process: text of its command line; empty means whoever listens on the port.
        is_exact: the text is one whole argument, so that `/srv/app` is not `/srv/app2`.
        own_commands: as the inventory has them; what runs is `commands`.
    """

    backend: BackendSettings
    connection: Connection
    state_dir: str
    process: str
    is_exact: bool
    own_commands: Commands

    @property
    def commands(self) -> Commands:
        """Answers stop and start as they are run on this machine."""
        has_sudo = self.connection.target.sudo
        return self.own_commands.through_sudo() if has_sudo else self.own_commands

    @property
    def guarded_ports(self) -> list[str]:
        """Answers the ports by which requests come in, each once."""
        return list(dict.fromkeys(end.partition("/")[0] for end in self._guarded()))

    def ask(self, script: str, arguments: Sequence[str], *words: str, limit_ms: int) -> Reply:
        """Run one of our scripts with `NAME=VALUE` arguments, and words after them."""
        named = [*self._arguments(), *arguments, "--", *words]
        return run_script(self.connection, script, named, limit_ms=limit_ms)

    def change(
        self, script: str, token: FenceToken, arguments: Sequence[str], *words: str, limit_ms: int
    ) -> Reply:
        """Run a script that changes something: under the lock, refused for a lower epoch."""
        fence = [f"epoch={token.epoch}", f"holder={token.holder}"]
        return self.ask(script, [*fence, *arguments], *words, limit_ms=limit_ms)

    def look(self, script: str, arguments: Sequence[str]) -> BackendSeen | Unreachable:
        """Answers what the look script saw, in one round trip. Health is not asked here."""
        reply = self.ask(script, arguments, limit_ms=LOOK_LIMIT_MS)
        if reply.outcome is not Outcome.DONE:
            return Unreachable(reply.detail)
        return BackendSeen(
            artifact=reply.one("artifact") or None,
            staged=frozenset(reply.all("staged")),
            is_restarted_since_swap=_RESTARTED.get(reply.one("restarted")),
            is_busy=reply.one("busy") == "1",
        )

    def activate(self, script: str, artifact: str, token: FenceToken, *arguments: str) -> Result:
        """Run the activation script: guard, stop, swap, start, all in one round trip."""
        began = time.monotonic()
        commands = self.commands
        reply = self.change(
            script,
            token,
            [
                f"artifact={artifact}",
                f"stop_ms={commands.stop_limit_ms}",
                f"start_ms={commands.start_limit_ms}",
                f"stop_count={len(commands.stop)}",
                f"start_count={len(commands.start)}",
                *arguments,
            ],
            *commands.stop,
            *commands.start,
            limit_ms=commands.stop_limit_ms + commands.start_limit_ms + LOCK_AND_GUARD_MS,
        )
        peers = ", ".join(peer_text(peer) for peer in reply.all("peer"))
        detail = f"{peers} {reply.detail}" if peers else reply.detail
        return Result(reply.outcome, detail, took_ms(began), reply.is_fenced)

    def prune(
        self, script: str, keep: frozenset[str], newest: int, token: FenceToken, *arguments: str
    ) -> Result:
        """Run the prune script; says how many were removed."""
        began = time.monotonic()
        kept = [f"keep={' '.join(sorted(keep))}", f"newest={newest}", *arguments]
        reply = self.change(script, token, kept, limit_ms=STORE_LIMIT_MS)
        detail = reply.detail or f"removed {len(reply.all('removed'))}"
        return Result(reply.outcome, detail, took_ms(began), reply.is_fenced)

    def wait_until_free(self, limit_ms: int) -> None:
        """Return as soon as no earlier command of ours runs there, at the limit at the latest.

        The wait is over there, and ends when our channel closes.
        """
        seconds = f"{limit_ms / 1000:.3f}"
        run_script(
            self.connection,
            "service_free",
            [*self._arguments(), f"seconds={seconds}"],
            limit_ms=limit_ms + 5_000,
            holds_stdin=True,
        )

    def _guarded(self) -> list[str]:
        """Every address that nginx may send requests to, in any upstream, and the probe's."""
        addresses = [server.address for server in self.backend.servers.values()]
        ends = (listening_end(address) for address in (self.backend.probe_address, *addresses))
        return list(dict.fromkeys(end for end in ends if end))

    def _arguments(self) -> list[str]:
        probe = self.backend.probe_address
        ignored = [
            form for peer in self.backend.ignore_connections_from for form in kernel_forms(peer)
        ]
        return [
            f"state={self.state_dir}",
            f"port={probe.rpartition(':')[2]}",
            f"listens={listening_end(probe)}",
            f"guarded={' '.join(self._guarded())}",
            f"process={self.process}",
            f"exact={int(self.is_exact)}",
            f"ignored={' '.join(ignored)}",
            f"is_catalina={int(self.own_commands.is_catalina)}",
        ]


def took_ms(began: float) -> int:
    """Answers the milliseconds since `began` of the monotonic clock."""
    return round((time.monotonic() - began) * 1000)


def listening_end(address: str) -> str:
    """Answers `PORT/FORM/FORM` for `host:port`: the port and how the kernel writes the host.

    Only `PORT` for a name, and nothing where there is no port (a socket file).
    """
    host, _, port = address.rpartition(":")
    return "/".join([port, *kernel_forms(host)]) if port.isdigit() else ""


def kernel_forms(address: str) -> list[str]:
    """Answers how `/proc/net/tcp` and `tcp6` write this address; none for a name.

    A server that listens on an IPv6 socket sees IPv4 peers as mapped addresses, so IPv4 has two.
    """
    try:
        parsed = ipaddress.ip_address(address.strip("[]"))
    except ValueError:
        return []
    if parsed.version == 4:  # the protocol's own name
        word = _kernel_words(parsed.packed)
        return [word, f"0000000000000000FFFF0000{word}"]
    return [_kernel_words(parsed.packed)]


def peer_text(peer: str) -> str:
    """Answers `address:port` for a socket end as the kernel writes it."""
    digits, _, port = peer.partition(":")
    try:
        packed = b"".join(
            bytes.fromhex(digits[at : at + 8])[::-1] for at in range(0, len(digits), 8)
        )
        address = ipaddress.ip_address(packed)
        number = int(port, 16)
    except ValueError:
        return peer
    if isinstance(address, ipaddress.IPv6Address):
        mapped = address.ipv4_mapped
        return f"{mapped}:{number}" if mapped else f"[{address}]:{number}"
    return f"{address}:{number}"


def _kernel_words(packed: bytes) -> str:
    """The kernel prints each 32 bits as one number of the machine, which is little-endian."""
    words = [packed[at : at + 4][::-1] for at in range(0, len(packed), 4)]
    return "".join(word.hex().upper() for word in words)


def _through_sudo(argv: tuple[str, ...]) -> tuple[str, ...]:
    is_manager = bool(argv) and argv[0].rpartition("/")[2] in SERVICE_MANAGERS
    return (*SUDO, *argv) if is_manager else argv


def _program(argv: Sequence[str]) -> str:
    """The program behind `env NAME=VALUE` in front of it."""
    words = list(argv)
    if words[0] == "env":
        words = words[1:]
        while len(words) > 1 and "=" in words[0]:
            words = words[1:]
    return words[0]
