"""The simulated site: machines, the network between them, and everything that is true of them.

Nothing in here knows what the engine believes. Remote commands are tasks of their own: they go on
when their operator dies, hold the machine's lock, and can be killed between any two effects.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, TypeVar

from rolling_deploy.rollout.observed import Check, Fence
from tests.simulation.machines import Balancer, Host, Machine, Node
from tests.simulation.scheduler import Scheduler
from tests.simulation.shape import Shape

if TYPE_CHECKING:
    from tests.simulation.audit import Audit
    from tests.simulation.operator import Operator

T = TypeVar("T")

LOCK_WAIT_MS = 10_000
"""How long the real scripts wait for a machine's lock (`enter` in the prelude)."""


class Lost(Exception):
    """No answer came. `was_started` is False when the machine certainly never saw the command."""

    def __init__(self, detail: str, *, was_started: bool) -> None:
        super().__init__(detail)
        self.was_started = was_started


class Refused(Exception):
    """The machine said no; nothing was changed. `is_fenced`: because of a higher token."""

    def __init__(self, detail: str, *, is_fenced: bool = False) -> None:
        super().__init__(detail)
        self.is_fenced = is_fenced


class Failed(Exception):
    """It was tried on the machine and did not come about."""


@dataclass(eq=False)
class World:
    """The truth."""

    shape: Shape
    rng: Random
    scheduler: Scheduler
    balancers: dict[str, Balancer] = field(default_factory=dict)
    nodes: dict[str, Node] = field(default_factory=dict)
    hosts: dict[str, Host] = field(default_factory=dict)
    operators: list[Operator] = field(default_factory=list)
    store: tuple[Check, ...] = ()
    store_failed_ms: int = 0
    forged: tuple[str, int, str] | None = None
    """The load balancer whose copy of a record was exchanged, when, and of which rollout."""
    before_stop: Callable[[str], None] | None = None
    """What a person does right before the next stop of a backend, whose name is given."""
    has_lock: bool = True
    """The record's lock keeps operators from each other. Without it only the fence does."""
    has_guard: bool = False
    """The machine's own guard sees that a load balancer may send to what is about to stop. Off,
    so that nothing but the engine's proof stands between users and a stop."""
    audit: Audit = field(init=False)
    trace: list[str] = field(default_factory=list)
    numbers: int = 0

    @property
    def now_ms(self) -> int:
        """The true time."""
        return self.scheduler.now_ms

    def tell(self, who: str, what: str) -> None:
        """One line of the trace."""
        begun = self.now_ms - 1_700_000_000_000
        self.trace.append(f"{begun:>8} {self.scheduler.turns:>6} {who:<12} {what}")

    @property
    def away(self) -> frozenset[str]:
        """Answers the load balancers whose machines are off."""
        return frozenset(name for name, lb in self.balancers.items() if lb.is_away)

    def machine(self, name: str) -> Machine:
        """Answers a load balancer or a backend's machine."""
        return self.balancers.get(name) or self.nodes[name]

    def owner(self, address: str) -> str:
        """Answers whose address it is."""
        return next(n.name for n in self.nodes.values() if n.address == address)

    def sending(self, lb: Balancer) -> dict[str, frozenset[str]]:
        """Answers the backends that each upstream sends to now."""
        return {
            name: frozenset(self.owner(a) for a in addresses)
            for name, addresses in lb.current.sends.items()
        }

    def up(self, lb: Balancer) -> frozenset[str]:
        """Answers the backends that this load balancer sends to."""
        return frozenset().union(*self.sending(lb).values())

    # --- the network

    def remote(self, by: Operator, name: str, what: str, work: Callable[[], T]) -> T:
        """Run a command on a machine and answer what came back.

        Raises:
            Lost: no answer; the command may have run, or may go on.
            Refused, Failed: what the command said.
        """
        scheduler, machine, host = self.scheduler, self.machine(name), by.host
        scheduler.pause()
        if host.cut.get(name, 0) > self.now_ms or name in self.away:
            scheduler.sleep(50)
            raise Lost("no route to host", was_started=False)
        came: list[T] = []
        said: list[Exception] = []
        caller = scheduler.current

        def run() -> None:
            try:
                scheduler.pause()
                came.append(work())
            except (Refused, Failed) as error:
                said.append(error)
            finally:
                machine.commands.remove(task)
                if machine.lock is task:
                    machine.lock = None
                scheduler.wake(caller)

        began_ms = self.now_ms
        task = scheduler.spawn(f"{name}: {what}", run)
        machine.commands.append(task)
        while not task.is_over:
            scheduler.sleep(60_000)
        if task.error is not None:
            raise task.error
        scheduler.pause()
        if max(host.cut.get(name, 0), host.mute.get(name, 0)) > began_ms:
            raise Lost("the connection was lost", was_started=True)
        if said:
            raise said[0]
        if not came:
            raise Lost("the command ended without an answer", was_started=True)
        return came[0]

    def is_cut_off(self, by: Operator, name: str) -> bool:
        """Answers whether a wait over there would notice that its operator is gone."""
        return by.task.is_over or by.host.cut.get(name, 0) > self.now_ms

    # --- what every command does first

    def enter(self, machine: Machine, epoch: int, holder: str) -> None:
        """Take the machine's lock and show the token, as the real scripts do.

        Raises:
            Refused: an earlier command keeps the lock, or a higher token was seen.
        """
        until_ms = self.now_ms + LOCK_WAIT_MS
        while self.is_busy(machine):
            if self.now_ms >= until_ms:
                raise Refused("busy: an earlier command still runs here")
            self.scheduler.sleep(100)
        machine.lock = self.scheduler.current
        self.refuse_if_fenced(machine, epoch, holder)
        machine.fence = Fence(epoch, holder)
        self.audit.shown(machine, epoch, holder)

    @staticmethod
    def refuse_if_fenced(machine: Machine, epoch: int, holder: str) -> None:
        """Refuse a token lower than the highest one seen there."""
        highest = machine.fence
        is_other = epoch == highest.epoch and holder != highest.holder
        if epoch < highest.epoch or is_other:
            raise Refused(f"somebody else has taken over (epoch {highest.epoch})", is_fenced=True)

    @staticmethod
    def is_busy(machine: Machine) -> bool:
        """Answers whether a command holds the lock; the kernel takes it from the dead."""
        return machine.lock is not None and not machine.lock.is_over

    def picture(self) -> str:
        """Answers the truth in a few words."""
        texts = [
            f"{n.name} {n.serves or 'stopped'}{'' if n.is_healthy(self.now_ms) else ' (ill)'}"
            for n in self.nodes.values()
        ]
        for lb in self.balancers.values():
            old = len(lb.living(self.now_ms))
            texts.append(f"{lb.name} -> {','.join(sorted(self.up(lb)))}{f' +{old}' if old else ''}")
        return "; ".join(texts)
