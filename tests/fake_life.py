"""One operator process over the fake world: every port, until it ends or dies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rolling_deploy.errors import RecordWrong, RolloutHalted, RolloutHeld
from rolling_deploy.ports import Event, FenceToken
from rolling_deploy.rollout.facts import Fact, Intended, Opened
from rolling_deploy.rollout.fold import step_key
from rolling_deploy.rollout.journal import Chain, Entry, encode, entries_after
from rolling_deploy.rollout.logouts import Logouts
from rolling_deploy.rollout.losses import Losses
from rolling_deploy.rollout.move import Condition, Drained, Free, Ready, Sign
from rolling_deploy.rollout.observed import (
    BackendSeen,
    Interest,
    LoadBalancerSeen,
    Seen,
    Unreachable,
)
from rolling_deploy.rollout.step import Result, Step
from tests.fake_backend import FakeBackend
from tests.fake_commands import raise_fence, run_command
from tests.fake_faults import Crash, Fault, Plan
from tests.fake_load_balancer import (
    FakeLoadBalancer,
)
from tests.fake_logouts import look_for_signs
from tests.fake_losses import read_on

if TYPE_CHECKING:
    from tests.world import World

SILENCE = Unreachable("no route to host")


@dataclass(repr=False)
class Life:
    """One operator process, from its start to its end or its death: all four ports."""

    world: World
    machine: str
    token: FenceToken
    chain: Chain
    is_dead: bool = False
    last_hash: str = ""
    known: list[Entry] = field(default_factory=list)
    lines: tuple[bytes, ...] = ()
    losses: Losses | None = None
    logouts: Logouts | None = None

    def __post_init__(self) -> None:
        self.known = list(self.chain.entries)
        self.lines = self.chain.lines
        self.last_hash = self.chain.last_hash
        self.world.lives.append(self)

    def _call(self, port: str, label: str) -> Fault | None:
        if self.is_dead:
            raise Crash(label)
        world = self.world
        world.calls.append((port, label))
        number = len(world.calls)
        if number in world.hands:
            world.hands[number](world)
        for text, hand in tuple(world.hands_at):
            if Plan.fits(text, f"{port} {label}"):
                world.hands_at.remove((text, hand))
                hand(world)
        world.pass_time(1)
        fault = world.plan.at(number, port, label)
        if fault is Fault.CRASH_BEFORE:
            self._die(label)
        return fault

    def _die(self, label: str) -> None:
        self.is_dead = True
        raise Crash(label)

    # --- Clock and Reporter

    def now_ms(self) -> int:
        """Answers the simulated time."""
        if self.is_dead:
            raise Crash("clock")
        return self.world.now_ms

    def steady_ms(self) -> int:
        """Answers the simulated time."""
        return self.now_ms()

    def event(self, event: Event) -> None:
        """Keep what was said."""
        if self.is_dead:
            raise Crash("reporter")
        self.world.events.append(event)

    # --- Machines

    def look(self, interest: Interest) -> Seen:
        """Answers the truth, as far as it can be seen and was asked for."""
        fault = self._call("look", "")
        world, now_ms = self.world, self.world.now_ms
        asked = sorted(interest.load_balancers)
        cut = set(asked) if fault is Fault.NOTHING_REACHABLE else set()
        if fault is Fault.BALANCER_UNREACHABLE and asked:
            cut = {asked[len(world.calls) % len(asked)]}
        no_backends = fault in (Fault.NOTHING_REACHABLE, Fault.BACKENDS_UNREACHABLE)
        balancers: dict[str, LoadBalancerSeen | Unreachable] = {
            name: world.balancers[name].look(now_ms)
            if world.balancers[name].is_reachable and name not in cut
            else SILENCE
            for name in asked
        }
        with_health = interest.alive | set(interest.ready)
        backends: dict[str, BackendSeen | Unreachable] = {
            name: world.backends[name].look(now_ms, with_health=name in with_health)
            if world.backends[name].is_reachable and not no_backends
            else SILENCE
            for name in sorted(with_health | interest.backends)
        }
        if fault is Fault.CRASH_AFTER:
            self._die("look")
        if interest.losses is not None:
            self.losses = read_on(world.logs, interest.losses, self.losses)
        store = world.store if interest.store else None
        losses = self.losses if interest.losses is not None else None
        logouts = None
        if interest.logouts is not None:
            logouts = self.logouts = look_for_signs(world, interest.logouts, self.logouts)
        return Seen(now_ms, balancers, backends, store, losses, logouts)

    def wait(self, condition: Condition, limit_ms: int) -> None:
        """Let time pass until the condition holds, or to the limit."""
        fault = self._call("wait", type(condition).__name__.lower())
        world = self.world
        until_ms = world.now_ms + limit_ms
        while fault is not Fault.RETURNS_EARLY and not self._holds(condition):
            change_ms = world.next_change_ms()
            if change_ms is None or change_ms >= until_ms:
                world.pass_time(until_ms - world.now_ms)
                break
            world.pass_time(change_ms - world.now_ms)
        if fault is Fault.CRASH_AFTER:
            self._die("wait")

    def _holds(self, condition: Condition) -> bool:
        world, now_ms = self.world, self.world.now_ms
        match condition:
            case Free():
                fakes: dict[str, FakeBackend | FakeLoadBalancer] = {
                    **world.backends,
                    **world.balancers,
                }
                return all(fakes[name].busy_until_ms <= now_ms for name in condition.machines)
            case Drained():
                lbs = [world.balancers[name] for name in condition.load_balancers]
                return all(lb.look(now_ms).earlier_workers == 0 for lb in lbs)
            case Ready():
                return all(
                    world.backends[name].is_healthy(now_ms)
                    and version in (None, world.backends[name].version)
                    for name, version in condition.backends.items()
                )
            case Sign():
                before = self.logouts or condition.watching.so_far
                seen = look_for_signs(world, condition.watching, before)
                return seen.count > before.count

    def perform(self, step: Step, opened: Opened, token: FenceToken) -> Result:
        """Do a step on its machine, or what the fault makes of it."""
        label = step_key(step, 0)
        fault = self._call("perform", label)
        result = run_command(self.world, step, opened, token, fault)
        if fault in (Fault.CRASH_AFTER, Fault.CRASH_HALF, Fault.CRASH_LATER):
            self._die(label)
        return result

    # --- Journal

    def entries(self) -> Sequence[Entry]:
        """Answers what was read at the start of this life and written since."""
        if self.is_dead:
            raise Crash("entries")
        return tuple(self.known)

    def append(self, facts: Sequence[Fact], *, before_acting: bool) -> Sequence[Entry]:
        """Write to this machine's disk, and to the load balancers when something is to be done."""
        label = " ".join(_name(fact) for fact in facts)
        fault = self._call("append", label)
        if fault is Fault.DISK_FULL:
            raise RecordWrong("the local record did not take the next entries: disk full")
        entries = entries_after(
            self.known,
            facts,
            at_ms=self.world.now_ms,
            epoch=self.token.epoch,
            holder=self.token.holder,
        )
        for entry in entries:
            line, self.last_hash = encode(entry, self.last_hash)
            self.lines = (*self.lines, line)
        if fault is Fault.CRASH_TORN:
            whole = self.lines[: -len(entries)]
            self.world.disks[self.machine] = (*whole, self.lines[len(whole)][:40])
            self._die(label)
        self.world.disks[self.machine] = self.lines
        self.world.audit.facts(entries)
        if fault is Fault.CRASH_UNCOPIED:
            self._die(label)
        if before_acting:
            self._copy(is_cut=fault is Fault.NO_COPY)
        self.known += entries
        if fault is Fault.CRASH_AFTER:
            self._die(label)
        return entries

    def _copy(self, *, is_cut: bool) -> None:
        """Give every load balancer within reach all lines; one of them must take them."""
        holders = 0
        for lb in self.world.balancers.values():
            if is_cut or not lb.is_reachable:
                continue
            if not raise_fence(lb, self.token):
                raise RolloutHeld("somebody else has taken this rollout over", where=lb.name)
            if self.lines[: len(lb.copy)] != lb.copy:
                raise RecordWrong("the copies of the record differ", where=lb.name)
            lb.copy = self.lines
            holders += 1
        if not holders:
            raise RolloutHalted("no load balancer took the record; nothing is acted on")


def _name(fact: Fact) -> str:
    if isinstance(fact, Intended):
        return f"Intended({step_key(fact.step, 0)})"
    return type(fact).__name__
