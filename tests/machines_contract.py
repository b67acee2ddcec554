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
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field

from rolling_deploy.demo.fleet import NEXT_RELEASE, DemoFleet, FleetShape
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
from rolling_deploy.rollout.step import Apply, Outcome, Result, Step
from tests.world import World, open_rollout

SHAPE = FleetShape(backends=2, load_balancers=1, start_delay_ms=100, keepalive_min_timeout_s=0)
BALANCER, BACKEND, OTHER = "lb1", "app1", "app2"
EVERYTHING = Interest(frozenset({BALANCER}), frozenset({BACKEND, OTHER}))
WAIT_LIMIT_MS = 60_000
"""Generous: only what would hang gets there."""
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
    def pinned(self) -> Iterator[None]:
        """See `Contract`."""
        lb = self.world.balancers[BALANCER]
        usual, lb.drains_ms = lb.drains_ms, [None]
        yield
        lb.drains_ms = usual
        for generation in lb.retiring:
            generation.ends_at_ms = generation.ends_at_ms or self.world.now_ms


class RealContract(Contract):
    """Over real servers, by the adapters that a rollout uses."""

    is_cut_off = False

    def __init__(self, fleet: DemoFleet) -> None:
        self.fleet = fleet
        for node in fleet.nodes:
            # What an earlier test staged is no longer there; what runs stays.
            if fleet.release_of(node.name) != NEXT_RELEASE:
                shutil.rmtree(node.root / "releases" / NEXT_RELEASE, ignore_errors=True)
        self.site = connect(load_inventory(fleet.inventory_path))
        found = survey(self.site, NEXT_RELEASE, Acceptance())
        assert not found.refused(), found.refused()
        opened = opened_from(self.site, found, purpose=Purpose.DEPLOY, release=NEXT_RELEASE)
        super().__init__(FleetMachines(self.site), opened)

    def cut_off(self, name: str) -> None:
        """End the machine's sshd, and the sessions that it has."""
        self.is_cut_off = True
        hosts = {b.name: b.machine for b in self.fleet.balancers}
        hosts |= {node.name: node.machine for node in self.fleet.nodes}
        pid = self.fleet.ssh._pids[hosts[name].name]
        for one in (pid, *descendants(pid)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(one, signal.SIGKILL)
        self.fleet.keeper.wait(pid, 10)

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
