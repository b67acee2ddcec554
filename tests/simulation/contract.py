"""The simulated site as the contract suite asks it: the same questions as of real servers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from rolling_deploy.ports import FenceToken
from rolling_deploy.rollout.facts import Opened, Purpose
from rolling_deploy.rollout.fleet import Policy
from rolling_deploy.rollout.move import Condition
from rolling_deploy.rollout.observed import Interest, Seen
from rolling_deploy.rollout.step import Result, Step
from tests.machines_contract import BALANCER, Contract
from tests.simulation import orders
from tests.simulation.operator import Fleet, Operator
from tests.simulation.scenario import Scenario
from tests.simulation.shape import Shape
from tests.simulation.simulate import build
from tests.simulation.world import World

T = TypeVar("T")
TURNS_MAX = 1_000_000


class InTurns:
    """A simulated fleet asked from outside of its time: each question is a task of its own."""

    def __init__(self, world: World, by: Operator, fleet: Fleet) -> None:
        self._world = world
        self.by = by
        self._fleet = fleet

    def ask(self, question: Callable[[], T]) -> T:
        """Let the simulated time go on until the question is answered."""
        came: list[T] = []
        self.by.task = self._world.scheduler.spawn("contract", lambda: came.append(question()))
        self._world.scheduler.run(lambda: self.by.task.is_over, TURNS_MAX)
        if self.by.task.error is not None:
            raise self.by.task.error
        return came[0]

    def look(self, interest: Interest) -> Seen:
        """See `ports.Machines`."""
        return self.ask(lambda: self._fleet.look(interest))

    def wait(self, condition: Condition, limit_ms: int) -> None:
        """See `ports.Machines`."""
        self.ask(lambda: self._fleet.wait(condition, limit_ms))

    def perform(self, step: Step, opened: Opened, token: FenceToken) -> Result:
        """See `ports.Machines`."""
        return self.ask(lambda: self._fleet.perform(step, opened, token))


class SimulatedContract(Contract):
    """Over the simulated site."""

    def __init__(self) -> None:
        self.world = build(Scenario(1, Shape(2, 1), Policy()))
        by = Operator("contract", self.world.hosts["laptop"], self.world, Policy())
        site = by.connect()
        fleet = Fleet(site, clock=by.desk.footing.clock, by=by)
        self.in_turns = InTurns(self.world, by, fleet)
        opened = self.in_turns.ask(lambda: orders.opened(by, site, Purpose.DEPLOY, "r2"))
        super().__init__(self.in_turns, opened)

    def cut_off(self, name: str) -> None:
        """See `Contract`."""
        self.world.hosts["laptop"].cut[name] = self.world.now_ms + 10**9

    @contextmanager
    def pinned(self) -> Iterator[None]:
        """See `Contract`."""
        lb = self.world.balancers[BALANCER]
        usual, lb.drains_ms = lb.drains_ms, [None]
        yield
        lb.drains_ms = usual
        for workers in lb.retiring:
            workers.ends_at_ms = workers.ends_at_ms or self.world.now_ms
