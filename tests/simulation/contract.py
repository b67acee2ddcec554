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
from rolling_deploy.rollout.step import Result, Step, machine_of
from tests.machines_contract import BALANCER, Contract
from tests.simulation import orders
from tests.simulation.fleet import Fleet
from tests.simulation.operator import Operator
from tests.simulation.scenario import Scenario
from tests.simulation.scheduler import Task
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
        self.until_over(self.by.task)
        return came[0]

    def until_over(self, task: Task) -> None:
        """Let the simulated time go on until a task has ended; what it raised is raised here."""
        self._world.scheduler.run(lambda: task.is_over, TURNS_MAX)
        assert task.is_over, f"{task.name} does not end"
        if task.error is not None:
            raise task.error

    def begin(self, step: Step, opened: Opened, token: FenceToken, came: list[Result]) -> Task:
        """Let the time go on until a step's command has the lock of its machine."""
        machine = self._world.machine(machine_of(step))
        sender = self._world.scheduler.spawn(
            "contract, unheard", lambda: came.append(self._fleet.perform(step, opened, token))
        )
        self._world.scheduler.run(lambda: self._world.is_busy(machine), TURNS_MAX)
        assert self._world.is_busy(machine), came
        return sender

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
    def answer_lost(self, step: Step) -> Iterator[list[Result]]:
        """See `Contract`. A simulated operator hears of the loss when the command has ended."""
        scheduler, name = self.world.scheduler, machine_of(step)
        came: list[Result] = []
        sender = self.in_turns.begin(step, self.opened, self.token(), came)
        command = self.world.machine(name).lock
        assert command is not None
        scheduler.freeze(command, 10**9)
        self.world.hosts["laptop"].mute[name] = scheduler.now_ms + 1
        self.in_turns.ask(lambda: scheduler.sleep(2))
        yield came
        scheduler.thaw(command)
        self.in_turns.until_over(sender)

    @contextmanager
    def pinned(self) -> Iterator[None]:
        """See `Contract`."""
        lb = self.world.balancers[BALANCER]
        usual, lb.drains_ms = lb.drains_ms, [None]
        yield
        lb.drains_ms = usual
        for workers in lb.retiring:
            workers.ends_at_ms = workers.ends_at_ms or self.world.now_ms
