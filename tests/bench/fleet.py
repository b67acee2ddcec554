"""The fleet both are measured on: the demo's, with sshd counting and every wait written down."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from rolling_deploy.demo.fleet import DemoFleet
from rolling_deploy.demo.fleet_files import Balancer

COMMAND, FORWARD = ": ctype session ", ": ctype direct-tcpip "
LOGGED = "\nLogVerbose serverloop.c:server_input_channel_open():*\n"
"""One line for each channel, forwarded connections included; all else as by default."""
WATCH_S = 0.02


class BenchFleet(DemoFleet):
    """The demo's fleet, in which every sshd says which channels are opened."""

    def _write_files(self) -> None:
        super()._write_files()
        for machine in self.machines:
            config = machine.directory / "sshd_config"
            config.write_text(config.read_text(encoding="utf-8") + LOGGED, encoding="utf-8")

    def counts(self) -> dict[str, int]:
        """Answers SSH connections, channels of both kinds and reloads since the fleet came up."""
        logs = [_text(machine.directory / "sshd.log") for machine in self.machines]
        errors = [_text(b.prefix / "logs" / "error.log") for b in self.balancers]
        return {
            "connections": sum(log.count("Accepted publickey") for log in logs),
            "commands": sum(log.count(COMMAND) for log in logs),
            "forwards": sum(log.count(FORWARD) for log in logs),
            "reloads": sum(log.count("(SIGHUP) received") for log in errors),
        }

    def upstream_files(self) -> dict[str, bytes]:
        """Answers the managed file of every load balancer."""
        return {b.name: b.upstream_file.read_bytes() for b in self.balancers}

    def app_events(self) -> dict[str, list[tuple[str, int]]]:
        """Answers what every application did and when, in milliseconds."""
        found = {}
        for node in self.nodes:
            lines = _text(node.root / "log" / "events.log").splitlines()
            events = [json.loads(line) for line in lines]
            found[node.name] = [(event["event"], int(event["at_ms"])) for event in events]
        return found


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""


def app_waits_ms(
    before: Mapping[str, list[tuple[str, int]]], after: Mapping[str, list[tuple[str, int]]]
) -> int:
    """Answers how long the applications themselves took to stop and to start, in all."""
    total = 0
    for name, events in after.items():
        for (first, began), (second, ended) in pairwise(events[len(before[name]) :]):
            if (first, second) in {("stopping", "stopped"), ("start", "ready")}:
                total += ended - began
    return total


@dataclass
class DrainWatch:
    """Notes when a retiring nginx worker was alive: the only time a drain really has to wait.

    Asked of the processes themselves, so that whoever waits longer than that has it counted as
    time of their own.
    """

    fleet: BenchFleet
    busy_ms: list[tuple[int, int]] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End watching."""
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        masters = [int(b.pid_file.read_text(encoding="utf-8")) for b in self.fleet.balancers]
        last = now_ms()
        while not self._stop.wait(WATCH_S):
            at = now_ms()
            if any(_is_retiring(pid) for master in masters for pid in _children(master)):
                self.busy_ms.append((last, at))
            last = at

    def within(self, began_ms: int, ended_ms: int) -> int:
        """Answers for how much of this time a retiring worker was alive."""
        return sum(max(0, min(e, ended_ms) - max(b, began_ms)) for b, e in self.busy_ms)


def _children(pid: int) -> Iterator[int]:
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
    except OSError:
        return
    yield from map(int, text.split())


def _is_retiring(pid: int) -> bool:
    try:
        return b"shutting down" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def now_ms() -> int:
    """Answers the wall clock, to be laid beside the logs."""
    return time.time_ns() // 1_000_000


def ssh_config(fleet: BenchFleet) -> str:
    """Answers what a person would have in `~/.ssh/config` for these machines."""
    hosts = "".join(
        f"Host {m.name}\n    HostName 127.0.0.1\n    Port {m.ssh_port}\n" for m in fleet.machines
    )
    folder = fleet.directory / "ssh"
    return f"""\
{hosts}
Host *
    User {fleet.ssh.user}
    IdentityFile {folder}/id_ed25519
    IdentitiesOnly yes
    UserKnownHostsFile {folder}/known_hosts
    StrictHostKeyChecking yes
    ControlMaster auto
    ControlPersist 120
    LogLevel ERROR
"""


def plan(fleet: BenchFleet, config: Path, drain_s: float) -> str:
    """Answers the shell assignments that `plain_ssh.sh` reads."""
    lines = [
        f"ssh_config={config}",
        f"redis={fleet.redis_url}",
        f"drain_s={drain_s}",
        f"appctl={fleet.directory}/appctl",
        f"balancers='{' '.join(b.name for b in fleet.balancers)}'",
        f"nodes='{' '.join(n.name for n in fleet.nodes)}'",
    ]
    for balancer in fleet.balancers:
        lines.append(f"file_{balancer.name}={balancer.upstream_file}")
        lines.append(f"nginx_{balancer.name}='{_nginx(fleet, balancer)}'")
    for node in fleet.nodes:
        lines.append(f"host_{node.name}={node.machine.name}")
        lines.append(f"address_{node.name}={node.address}")
        lines.append(f"root_{node.name}={node.root}")
    return "\n".join(lines) + "\n"


def _nginx(fleet: BenchFleet, balancer: Balancer) -> str:
    prefix = balancer.prefix
    program = fleet.servers.nginx.path
    return f"{program} -p {prefix}/ -c {prefix}/nginx.conf -e {prefix}/logs/error.log"
