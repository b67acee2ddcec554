"""An operator's process: the production code of a whole life, standing on the simulated site.

What is production here: the desk, finding the rollout in hand, lock and fence, the record in both
places, `FleetMachines`, the runner and all of `rollout`. What is simulated: the disk, the clock,
and what the machines answer.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rolling_deploy.operations.desk import Desk, Footing
from rolling_deploy.operations.site import Site
from rolling_deploy.ports import Event, FenceToken, Machines
from rolling_deploy.remote.connection import CannotReach, Connection
from rolling_deploy.rollout.fleet import Policy
from rolling_deploy.rollout.step import Step
from rolling_deploy.runner import Pulse, Work
from rolling_deploy.settings import HostTarget
from tests.simulation import requests
from tests.simulation.disk import Disk
from tests.simulation.fleet import Fleet, Server, Upgrade
from tests.simulation.machines import Host
from tests.simulation.scheduler import START_MS, Task
from tests.simulation.wire import Heartbeat, Wire
from tests.simulation.world import World


@dataclass(eq=False)
class Operator:
    """One process of the tool, from its start to its end or its death.

    Attributes:
        steps: the step in hand on each machine, for the audit.
        came: what the order answered.
        error: what it raised.
    """

    name: str
    host: Host
    world: World
    policy: Policy
    off: frozenset[str] = frozenset()
    task: Task = field(init=False)
    heart: Task | None = None
    token: FenceToken | None = None
    steps: dict[str, Step] = field(default_factory=dict)
    desk: Desk = field(init=False)
    began_ms: int = 0
    looked_ms: int = 0
    """When its last look began; before the first one, when it did itself."""
    acted_ms: int = 0
    """When it last began to write down what it decided, or to send it."""
    is_to_send: bool = False
    """Intents are written, and nothing of them has been sent."""
    frozen: list[tuple[int, int]] = field(default_factory=list)
    """From when until when it stood still, each time."""
    unread: frozenset[str] = frozenset()
    """Machines whose copy of the record it could not read when it tried last."""
    knew: frozenset[str] = frozenset()
    """The rollouts of which its machine had a record when it began."""
    came: object = None
    error: Exception | None = None

    def __post_init__(self) -> None:
        footing = Footing(
            clock=Clock(self),
            host=lambda: self.host.name,
            records=lambda _, __: Disk(self),
            machines=self._machines,
            heart=lambda places, holder, expiry_s: Heartbeat(self, places, holder, expiry_s),
            spawn=_in_place,
            unique=self._unique,
            opener=self._open,
            pause=self.world.scheduler.sleep,
        )
        inventory = self.world.shape.inventory(self.policy)
        state_dir = Path("state")
        self.desk = Desk(
            inventory, state_dir, Teller(self), lambda _: True, off=self.off, footing=footing
        )

    def _unique(self) -> str:
        self.world.numbers += 1
        return f"{self.world.numbers:04x}"

    def _open(self, hosts: Sequence[HostTarget]) -> Mapping[str, Connection | CannotReach]:
        """Answers a connection to each of these, where there is a way."""
        return {
            host.name: CannotReach("no route to host")
            if self._is_beyond_reach(host.name)
            else Wire(self, host.name)
            for host in hosts
        }

    def _is_beyond_reach(self, name: str) -> bool:
        return self.host.cut.get(name, 0) > self.world.now_ms or name in self.world.away

    def _machines(self, site: Site) -> Machines:
        return Fleet(site, clock=self.desk.footing.clock, by=self)

    def start(self, order: Callable[[Operator], object]) -> None:
        """Begin to carry an order out."""

        def live() -> None:
            try:
                self.came = order(self)
            except Exception as error:  # noqa: BLE001 # judged by the audit
                self.error = error

        self.began_ms = self.looked_ms = self.world.now_ms
        self.knew = frozenset(self.host.records)
        self.task = self.world.scheduler.spawn(self.name, live)
        self.world.operators.append(self)

    @property
    def is_over(self) -> bool:
        """Answers whether the process has ended."""
        return self.task.is_over

    def kill(self) -> None:
        """`kill -9`."""
        for task in (self.task, self.heart):
            if task is not None and not task.is_over:
                self.world.scheduler.kill(task)

    def freeze(self, ms: int) -> None:
        """`SIGSTOP`, and `SIGCONT` so much later."""
        from_ms, until_ms = self.world.now_ms, self.world.now_ms + ms
        if self.frozen and self.frozen[-1][1] >= from_ms:
            earlier = self.frozen.pop()
            from_ms, until_ms = earlier[0], max(earlier[1], until_ms)
        self.frozen.append((from_ms, until_ms))
        for task in (self.task, self.heart):
            if task is not None and not task.is_over:
                self.world.scheduler.freeze(task, ms)

    def stood_ms(self, until_ms: int) -> int:
        """Answers for how long it stood still in one piece, from its look until then."""
        pieces = (min(end, until_ms) - max(begin, self.looked_ms) for begin, end in self.frozen)
        return max(pieces, default=0)

    @property
    def slept_ms(self) -> int:
        """Answers for how long it has stood still in all."""
        return sum(min(end, self.world.now_ms) - begin for begin, end in self.frozen)

    def connect(self) -> Site:
        """Answers the machines, as a connection to each found them."""
        world, inventory = self.world, self.desk.inventory
        unreachable = {
            name: "no route to host"
            for name in inventory.hosts
            if self._is_beyond_reach(name) and name not in self.off
        }
        self.unread = frozenset(unreachable)
        connections = {name: Wire(self, name) for name in inventory.hosts}
        site = Site(inventory, connections, unreachable, self.off)
        for name in site.nginx:
            site.nginx[name] = Server(self, name)
            if self.policy.counts_losses:
                site.log_sources[name] = requests.sources(world)
        for name in site.strategies:
            site.strategies[name] = Upgrade(self, name)
        return site


def _in_place(work: Work, name: str) -> None:
    del name
    work()


@dataclass(frozen=True)
class Clock:
    """The operator's own clock, which may be wrong.

    Slow calls run in place here, so that the pulse is not felt at every poll meanwhile, as it is
    by a process that only waits. What it is told leaves that time out: for the pulse only
    standstills pass, and hands that set the clock.
    """

    by: Operator

    def now_ms(self) -> int:
        """Answers the time."""
        true_ms = START_MS + self.by.slept_ms if _is_felt() else self.by.world.now_ms
        return true_ms + self.by.host.clock_ms

    def steady_ms(self) -> int:
        """Answers what no hand sets: it goes on while the process stands still."""
        return START_MS + self.by.slept_ms


def _is_felt() -> bool:
    """Answers whether it is a pulse that asks the clock."""
    clock = inspect.currentframe()
    asking = clock.f_back.f_back if clock and clock.f_back else None
    return asking is not None and isinstance(asking.f_locals.get("self"), Pulse)


@dataclass(frozen=True)
class Teller:
    """What the operator says goes to the trace."""

    by: Operator

    def event(self, event: Event) -> None:
        """One thing happened."""
        text = getattr(event, "text", None) or getattr(event, "why", None)
        entry = getattr(event, "entry", None)
        said = f"{entry.epoch}/{entry.seq} {entry.fact!r}" if entry else text
        self.by.world.tell(self.by.name, f"{said}")
