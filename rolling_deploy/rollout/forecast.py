"""What a rollout will do: the same `decide`, run against a copy of what was seen in which every
step has its declared effect. So the plan shown and the code that runs cannot disagree.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from rolling_deploy.rollout.decide import decide, interest
from rolling_deploy.rollout.facts import Claimed, Direction, Ended, Fact, Intended, Released
from rolling_deploy.rollout.fold import advance
from rolling_deploy.rollout.journal import Entry
from rolling_deploy.rollout.logouts import Logouts
from rolling_deploy.rollout.move import (
    Act,
    Drained,
    Finish,
    Free,
    Halt,
    Move,
    Note,
    Ready,
    Sign,
    Wait,
)
from rolling_deploy.rollout.observed import (
    BackendSeen,
    Check,
    Health,
    Interest,
    LoadBalancerSeen,
    ManagedFile,
    Seen,
    Stamp,
    Unreachable,
)
from rolling_deploy.rollout.record import Record
from rolling_deploy.rollout.safety import check
from rolling_deploy.rollout.step import (
    Activate,
    Apply,
    Continuity,
    Goal,
    Keep,
    Outcome,
    Result,
    Stage,
    Step,
    Unadopt,
    WarmUp,
    machine_of,
)
from rolling_deploy.rollout.view import ABSENT, View

TURNS_MAX = 100_000
"""A bound, not a budget: a rollout of 300 backends takes about 4,000 turns."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """The moves a rollout would make, in order, with the record as it would then be."""

    moves: tuple[Move, ...]
    record: Record

    @property
    def reloads(self) -> Mapping[str, int]:
        """Answers how often each load balancer would be reloaded."""
        counts: dict[str, int] = {}
        for move in self.moves:
            for step in move.steps if isinstance(move, Act) else ():
                if isinstance(step, Apply | Unadopt):
                    counts[step.load_balancer] = counts.get(step.load_balancer, 0) + 1
        return counts


def forecast(record: Record, seen: Seen, *, not_checked: frozenset[str] = frozenset()) -> Forecast:
    """Answers what would happen from here if every step has its effect.

    Args:
        not_checked: kinds of step (`WarmUp`, `Continuity`) that are not configured.
    """
    moves: list[Move] = []
    seq = 1_000_000  # beyond any real entry; the forecast's entries are never written
    world = seen
    for _ in range(TURNS_MAX):
        move = decide(record, _as_asked(record, world))
        moves.append(move)
        match move:
            case Note():
                seq, record = _write(record, seq, move.facts, world.now_ms)
            case Act():
                check(record, _as_asked(record, world), move.steps)
                for step in move.steps:
                    result = _result(step, world, not_checked)
                    if result.outcome is not Outcome.UNKNOWN:
                        world = effect(step, record, world)
                    seq, record = _write(record, seq, (Intended(step, 1),), world.now_ms)
                    seq, record = _write(record, seq, (Ended(seq, result),), world.now_ms)
            case Wait():
                world = _met(move, world)
            case Halt() | Finish():
                break
    return Forecast(tuple(moves), record)


def _write(record: Record, seq: int, facts: tuple[Fact, ...], at_ms: int) -> tuple[int, Record]:
    for fact in facts:
        seq += 1
        record = advance(record, Entry(seq, at_ms, record.epoch, record.holder, fact))
    return seq, record


def _result(step: Step, world: Seen, not_checked: frozenset[str]) -> Result:
    """A machine that cannot be reached now is not hoped to be there later."""
    name = machine_of(step)
    there = world.backends.get(name) or world.load_balancers.get(name)
    if isinstance(there, Unreachable):
        return Result(Outcome.UNKNOWN, there.detail)
    is_configured = type(step).__name__ not in not_checked
    return Result(Outcome.DONE if is_configured else Outcome.NOT_CHECKED)


def _as_asked(record: Record, world: Seen) -> Seen:
    """What a look would show: health only of those asked, good in a world where all goes well."""
    asked = interest(record)
    backends = dict(world.backends)
    for name in {*asked.alive, *asked.ready, *asked.backends}:
        seen = backends.get(name)
        if seen is None:
            backends[name] = BackendSeen(None, health=Health(is_good=True))
        elif isinstance(seen, BackendSeen) and seen.health is None:
            backends[name] = replace(seen, health=Health(is_good=True))
    store: tuple[Check, ...] | None = world.store if asked.store else None
    logouts = record.logouts or Logouts() if asked.logouts else None
    return replace(world, backends=backends, store=store, logouts=logouts)


def ahead(record: Record) -> Interest:
    """Answers what one look should cover so that notes that may follow it need none of their own.

    A settled claim is followed by its release and that by the next claim, with nothing done on
    any machine in between; so the look after a publication answers for all three.
    """
    asked = interest(record)
    if record.closed or record.halted or record.trouble:
        return asked
    if record.claim is not None:
        if record.claim.unsettled:
            return asked
        record = _noted(record, Released(record.claim.number, ()))
        # When it will be released is not known yet, so what came since is looked for then.
        asked = asked.joined(replace(interest(record), logouts=None))
    pending = View(record, Seen(0)).pending
    if pending and (record.direction is not Direction.FORWARD or record.staged >= set(pending)):
        wave = pending[: record.opened.policy.wave_size]
        asked = asked.joined(interest(_noted(record, Claimed(record.claims + 1, wave))))
    return asked


def _noted(record: Record, fact: Fact) -> Record:
    return advance(record, Entry(0, record.opened_at_ms, record.epoch, record.holder, fact))


def effect(step: Step, record: Record, world: Seen) -> Seen:
    """Answers what would be seen once the step has had its declared effect."""
    match step:
        case Stage():
            return _backend(
                world, step.backend, staged=frozenset({record.opened.artifacts[step.backend]})
            )
        case Apply():
            return _applied(step, record, world)
        case Unadopt():
            original = ManagedFile(
                record.opened.originals.get(step.load_balancer, ABSENT), None, False
            )
            balancer = LoadBalancerSeen(original, None, True, 0)
            return replace(
                world, load_balancers={**world.load_balancers, step.load_balancer: balancer}
            )
        case Activate():
            return _activated(step, record, world)
        case WarmUp() | Keep() | Continuity():
            return world


def _applied(step: Apply, record: Record, world: Seen) -> Seen:
    stamp = Stamp(
        record.opened.application,
        record.opened.rollout,
        step.claim,
        step.generation,
        step.out,
        "forecast",
    )
    file = ManagedFile(f"forecast {step.generation}", stamp, True, step.out)
    balancer = LoadBalancerSeen(file, step.generation, True, 0)
    return replace(world, load_balancers={**world.load_balancers, step.load_balancer: balancer})


def _activated(step: Activate, record: Record, world: Seen) -> Seen:
    opened = record.opened
    if step.goal is Goal.RELEASE:
        artifact: str | None = opened.artifacts[step.backend]
    else:
        artifact = opened.before[step.backend].artifact
    return _backend(
        world,
        step.backend,
        artifact=artifact,
        is_restarted_since_swap=True,
        health=Health(is_good=True, version=opened.version_at(step.backend, step.goal)),
    )


def _backend(world: Seen, name: str, **changes: object) -> Seen:
    seen = world.backends.get(name)
    before = seen if isinstance(seen, BackendSeen) else BackendSeen(None)
    after = replace(before, **changes)  # type: ignore[arg-type] # the callers name real fields
    return replace(world, backends={**world.backends, name: after})


def _met(wait: Wait, world: Seen) -> Seen:
    match wait.condition:
        case Free():
            return _freed(world, wait.condition.machines)
        case Drained():
            balancers = dict(world.load_balancers)
            for name in wait.condition.load_balancers:
                seen = balancers[name]
                if isinstance(seen, LoadBalancerSeen):
                    balancers[name] = replace(seen, earlier_workers=0)
            return replace(world, load_balancers=balancers)
        case Ready():
            for name, version in wait.condition.backends.items():
                health = Health(is_good=True, version=version)
                world = _backend(world, name, health=health, is_restarted_since_swap=True)
            return world
        case Sign():
            return replace(world, now_ms=wait.until_ms)  # none is seen in all that time


def _freed(world: Seen, machines: frozenset[str]) -> Seen:
    balancers = {
        name: replace(seen, is_busy=False)
        if name in machines and isinstance(seen, LoadBalancerSeen)
        else seen
        for name, seen in world.load_balancers.items()
    }
    backends = {
        name: replace(seen, is_busy=False)
        if name in machines and isinstance(seen, BackendSeen)
        else seen
        for name, seen in world.backends.items()
    }
    return replace(world, load_balancers=balancers, backends=backends)
