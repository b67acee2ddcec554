"""One small harness over two kinds of machines: the fake world, and real servers.

What a test asks and does goes through `ports.Machines` alone. Only misfortune differs: a machine
that is cut off, a request that keeps a worker from leaving.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import socket
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rolling_deploy.demo.fleet import NEXT_RELEASE, DemoFleet, FleetShape
from rolling_deploy.demo.fleet_files import Machine
from rolling_deploy.demo.keeper import descendants
from rolling_deploy.inventory.load import load_inventory
from rolling_deploy.operations.balancer_checks import Acceptance
from rolling_deploy.operations.machines import FleetMachines
from rolling_deploy.operations.opening import opened_from
from rolling_deploy.operations.site import connect
from rolling_deploy.operations.survey import survey
from rolling_deploy.ports import FenceToken, Machines
from rolling_deploy.rollout.facts import Opened, Purpose
from rolling_deploy.rollout.move import Drained
from rolling_deploy.rollout.observed import (
    BackendSeen,
    Interest,
    LoadBalancerSeen,
    ManagedFile,
    Seen,
)
from rolling_deploy.rollout.step import (
    Apply,
    Outcome,
    Result,
    Step,
    is_on_load_balancer,
    machine_of,
)
from tests.fake_faults import Fault
from tests.rig.tcp_relay import TcpRelay
from tests.rig_tools import wait_until
from tests.world import World, open_rollout

SHAPE = FleetShape(backends=2, load_balancers=1, start_delay_ms=100, keepalive_min_timeout_s=0)
BALANCER, BACKEND, OTHER = "lb1", "app1", "app2"
EVERYTHING = Interest(frozenset({BALANCER}), frozenset({BACKEND, OTHER}))
RELAYED = "known_hosts-relayed"
WAIT_LIMIT_MS = 60_000
"""Generous: only what would hang gets there."""
BEGIN_LIMIT_S = 30.0
"""Until a command that was sent is seen to run; half of what it is itself given to end."""
SOON_MS = 20_000
"""Far below the limit that is waited for, and far above a slow machine's answer."""
EPOCHS = itertools.count(100, 100)
"""Each test's first epoch: far above whatever was seen before on a fleet that tests share."""


@dataclass
class Contract(ABC):
    """A fleet of one load balancer and two backends, managed, nothing out, and a rollout of it."""

    machines: Machines
    opened: Opened
    epoch: int = field(default_factory=lambda: next(EPOCHS))
    claims: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def token(self, later: int = 0, holder: str = "contract") -> FenceToken:
        """Answers a token; `later` epochs after the test's first one."""
        return FenceToken(self.opened.rollout, self.epoch + later, holder)

    def perform(
        self, step: Step, token: FenceToken | None = None, opened: Opened | None = None
    ) -> Result:
        """Do a step, by the test's rollout and first token unless others are given."""
        return self.machines.perform(step, opened or self.opened, token or self.token())

    def must(self, step: Step) -> None:
        """Do a step that must have its effect."""
        result = self.perform(step)
        assert result.outcome is Outcome.DONE, result

    def look(self, interest: Interest = EVERYTHING) -> Seen:
        """Answers one look."""
        return self.machines.look(interest)

    def balancer(self) -> LoadBalancerSeen:
        """Answers the load balancer, which must be reached."""
        seen = self.look(Interest(frozenset({BALANCER}))).load_balancers[BALANCER]
        assert isinstance(seen, LoadBalancerSeen), seen
        return seen

    def backend(self, name: str = BACKEND) -> BackendSeen:
        """Answers a backend, which must be reached."""
        seen = self.look(Interest(frozenset(), frozenset({name}))).backends[name]
        assert isinstance(seen, BackendSeen), seen
        return seen

    def file(self) -> ManagedFile:
        """Answers the managed file, which must be there."""
        file = self.balancer().file
        assert file is not None
        return file

    def apply(self, *out: str) -> Apply:
        """Answers the step that takes just these out, over the file that is there now."""
        claim = next(self.claims)
        generation = f"{self.opened.rollout}.{claim}.{self.epoch}"
        return Apply(BALANCER, frozenset(out), claim, generation, self.file().digest)

    def drained(self) -> None:
        """Return when no earlier worker is left."""
        self.machines.wait(Drained(frozenset({BALANCER})), WAIT_LIMIT_MS)
        assert self.balancer().earlier_workers == 0

    def take_out(self, backend: str = BACKEND) -> None:
        """Take a backend out and wait until no worker may send to it."""
        self.must(self.apply(backend))
        self.drained()

    @abstractmethod
    def cut_off(self, name: str) -> None:
        """The operator reaches this load balancer or backend no more."""

    def is_busy(self, name: str) -> bool:
        """Answers whether a look sees that a command runs on this machine."""
        seen = self.balancer() if name == BALANCER else self.backend(name)
        return seen.is_busy

    @abstractmethod
    def answer_lost(self, step: Step) -> AbstractContextManager[list[Result]]:
        """Do a step whose answer does not come back, though the machine has begun it.

        While it lasts the command runs over there, holds the machine's lock and cannot end.
        The machine itself is reached as ever. Afterwards the list holds what the operator was
        told, and the command has gone on, or soon does.
        """

    @abstractmethod
    def pinned(self) -> AbstractContextManager[None]:
        """While it lasts, a request keeps the worker that has it from leaving."""


class FakeContract(Contract):
    """Over the fake world."""

    def __init__(self, world: World) -> None:
        self.world = world
        opened = open_rollout(world)
        super().__init__(world.lives[-1], opened)

    def cut_off(self, name: str) -> None:
        """See `Contract`."""
        machine = self.world.backends.get(name) or self.world.balancers[name]
        machine.is_reachable = False

    @contextmanager
    def answer_lost(self, step: Step) -> Iterator[list[Result]]:
        """See `Contract`."""
        self.world.plan.by_text.append((f"perform {type(step).__name__.lower()}", Fault.LATER))
        came = [self.perform(step)]
        assert not self.world.plan.by_text, "the fault was met"
        yield came

    @contextmanager
    def pinned(self) -> Iterator[None]:
        """See `Contract`."""
        lb = self.world.balancers[BALANCER]
        usual, lb.drains_ms = lb.drains_ms, [None]
        yield
        lb.drains_ms = usual
        for generation in lb.retiring:
            generation.ends_at_ms = generation.ends_at_ms or self.world.now_ms


class RealContract(Contract):
    """Over real servers, by the adapters that a rollout uses, each machine behind its relay."""

    is_cut_off = False

    def __init__(self, fleet: DemoFleet, relays: Mapping[str, TcpRelay]) -> None:
        self.fleet = fleet
        self._relays = relays
        for node in fleet.nodes:
            # What an earlier test staged is no longer there; what runs stays.
            if fleet.release_of(node.name) != NEXT_RELEASE:
                shutil.rmtree(node.root / "releases" / NEXT_RELEASE, ignore_errors=True)
        self.site = connect(load_inventory(relayed_inventory(fleet, relays)))
        found = survey(self.site, NEXT_RELEASE, Acceptance())
        assert not found.refused(), found.refused()
        opened = opened_from(self.site, found, purpose=Purpose.DEPLOY, release=NEXT_RELEASE)
        super().__init__(FleetMachines(self.site), opened)

    def perform(
        self, step: Step, token: FenceToken | None = None, opened: Opened | None = None
    ) -> Result:
        """Do a step as if its intent had just been written on the load balancer."""
        uptime_s = Path("/proc/uptime").read_text(encoding="utf-8").partition(".")[0]
        came = self.fleet.balancers[0].machine.directory / "state" / "intent"
        came.write_text(f"{uptime_s}\n", encoding="utf-8")
        return super().perform(step, token, opened)

    def _host(self, name: str) -> Machine:
        machines = {balancer.name: balancer.machine for balancer in self.fleet.balancers}
        machines |= {node.name: node.machine for node in self.fleet.nodes}
        return machines[name]

    def cut_off(self, name: str) -> None:
        """End the machine's sshd, and the sessions that it has."""
        self.is_cut_off = True
        pid = self.fleet.ssh._pids[self._host(name).name]
        for one in (pid, *descendants(pid)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(one, signal.SIGKILL)
        self.fleet.keeper.wait(pid, 10)

    @contextmanager
    def answer_lost(self, step: Step) -> Iterator[list[Result]]:
        """Stop what the command has to wait for, and reset its connection once it has begun.

        An apply waits for the new workers of the nginx master, an activation for the end of the
        application's process: neither comes while these are stopped.
        """
        name = machine_of(step)
        pid = self.fleet.pid_of(name) if not is_on_load_balancer(step) else self._master()
        came: list[Result] = []
        sender = threading.Thread(target=lambda: came.append(self.perform(step)), daemon=True)
        os.kill(pid, signal.SIGSTOP)
        try:
            sender.start()
            wait_until(lambda: self.is_busy(name), "the command has begun", BEGIN_LIMIT_S)
            relay = self._relays[self._host(name).name]
            relay.cut()
            relay.mend()
            sender.join(WAIT_LIMIT_MS / 1000)
            assert came, "a connection that was reset is noticed"
            yield came
        finally:
            os.kill(pid, signal.SIGCONT)

    def _master(self) -> int:
        return int(self.fleet.balancers[0].pid_file.read_text(encoding="utf-8"))

    @contextmanager
    def pinned(self) -> Iterator[None]:
        """An upload whose body does not come; nginx has asked for it, so a worker has it."""
        port = self.fleet.balancers[0].port
        with socket.create_connection(("127.0.0.1", port), timeout=10) as user:
            user.sendall(
                b"POST /pinned HTTP/1.1\r\nHost: shop.example\r\n"
                b"Content-Length: 10\r\nExpect: 100-continue\r\n\r\n"
            )
            assert user.recv(100).startswith(b"HTTP/1.1 100 ")
            yield

    def is_as_it_was(self) -> bool:
        """Answers whether another test may have this fleet; puts everybody in before."""
        if self.file().down:
            self.must(self.apply())
        self.drained()
        names = {BACKEND, OTHER}
        return all(
            self.backend(name).artifact == self.opened.before[name].artifact for name in names
        )


def relays_before(fleet: DemoFleet) -> dict[str, TcpRelay]:
    """Answers a relay in front of the SSH server of each machine, by the machine's name.

    A connection through it can be lost while whatever was begun over it goes on.
    """
    relays = {
        machine.name: TcpRelay(fleet._ports.take(), machine.ssh_port) for machine in fleet.machines
    }
    known = fleet.directory / "ssh" / "known_hosts"
    lines = known.read_text(encoding="utf-8").splitlines()
    theirs: list[str] = []
    for machine in fleet.machines:
        before = f"[127.0.0.1]:{machine.ssh_port} "
        key = next(line for line in lines if line.startswith(before)).removeprefix(before)
        theirs.append(f"[127.0.0.1]:{relays[machine.name].port} {key}\n")
    # A file of its own: a process reads each only once.
    known.with_name(RELAYED).write_text("".join(theirs), encoding="utf-8")
    return relays


def relayed_inventory(fleet: DemoFleet, relays: Mapping[str, TcpRelay]) -> Path:
    """Answers the fleet's inventory with every machine reached through its relay.

    A reload has longer to be proved than in life: tests stop the master in the middle of it.
    """
    text = fleet.inventory_path.read_text(encoding="utf-8")
    for machine in fleet.machines:
        port = f"port: {machine.ssh_port}}}"
        assert text.count(port) == 1
        text = text.replace(port, f"port: {relays[machine.name].port}}}")
    begin = "      generation_port:"
    for old, new in (
        ("known_hosts: ssh/known_hosts", f"known_hosts: ssh/{RELAYED}"),
        (begin, f"      prove_limit_s: 60\n{begin}"),
    ):
        assert text.count(old) == 1
        text = text.replace(old, new)
    path = fleet.directory / "inventory-relayed.yaml"
    path.write_text(text, encoding="utf-8")
    return path
