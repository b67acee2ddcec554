"""Out of rotation and into it again: what is published, drained and proved on load balancers."""

from __future__ import annotations

from rolling_deploy.rollout.ending import end
from rolling_deploy.rollout.facts import Cause, Direction, Forced, GaveUp, Purpose, Released
from rolling_deploy.rollout.fleet import DrainAtLimit
from rolling_deploy.rollout.limits import wait_within
from rolling_deploy.rollout.move import Act, Drained, Move, Note
from rolling_deploy.rollout.observed import LoadBalancerSeen
from rolling_deploy.rollout.step import Apply, Step, Unadopt, machine_of
from rolling_deploy.rollout.view import (
    ABSENT,
    View,
    cut_off_text,
    edited_text,
    untouched_of,
    wanted_out,
)


def take_out(view: View) -> Move | None:
    """Mark the claim down on every load balancer at once. While it is not proved on all of them
    nothing on the backends is touched.
    """
    claim = view.record.claim
    if claim is None or not claim.unsettled:
        return None
    untouched = untouched_of(view)
    steps = _applies(view, also_unknown=bool(untouched))
    spent = [step for step in steps if view.is_spent(step)]
    if spent:
        why = "; ".join(f"{machine_of(step)}: {view.why(step)}" for step in spent)
        reason = f"not proved: {why}"
        if untouched:
            return Note((GaveUp(untouched, Cause.NOT_PROVED, reason),))
        return None  # changed already: prove them and come to put_back, which says the same
    return Act(steps) if steps else None


def _applies(view: View, *, also_unknown: bool = False) -> tuple[Step, ...]:
    """The publications that bring every load balancer we may write to in line.

    Args:
        also_unknown: reload also where it cannot be told which workers are of an earlier
            generation; only a new generation, with a snapshot before it, can prove a drain.
    """
    out = wanted_out(view.record)
    steps: list[Step] = []
    number = view.record.applies
    for name in view.load_balancers:
        seen = view.balancer(name)
        if seen is None or name in view.edited:
            continue
        is_unknown = also_unknown and seen.earlier_workers is None
        if view.is_in_line(name, out) and not is_unknown:
            continue
        number += 1
        steps.append(_publication(view, name, seen, out, number))
    return tuple(steps)


def _publication(
    view: View, name: str, seen: LoadBalancerSeen, out: frozenset[str], number: int
) -> Step:
    opened = view.record.opened
    replaces = seen.file.digest if seen.file else ABSENT
    if view.is_unadopting:
        return Unadopt(name, replaces)
    claim = view.record.claim.number if view.record.claim else 0
    # Only a person's own file is an original: ours, edited by hand, must not take its place.
    is_own = seen.file is None or seen.file.stamp is None
    adopts = opened.purpose is Purpose.ADOPT and is_own and replaces == opened.initial.get(name)
    generation = f"{opened.rollout}.{view.record.epoch}.{number}"
    return Apply(name, out, claim, generation, replaces, adopts)


def drain(view: View) -> Move | None:
    """Nothing is stopped while an nginx worker of an earlier generation lives: it may choose the
    backend for an upload that is still coming in, long after no connection to it was left.
    """
    untouched = untouched_of(view)
    if not untouched or view.claim.is_forced:
        return None
    busy = {
        name: seen
        for name in view.load_balancers
        if (seen := view.balancer(name)) and seen.earlier_workers != 0
    }
    if not busy:
        return None
    policy = view.record.opened.policy
    count = sum(seen.earlier_workers or 0 for seen in busy.values())
    workers = "worker still serves" if count == 1 else "workers still serve"
    why = f"{count} earlier nginx {workers} on {', '.join(sorted(busy))}"
    waiting = wait_within(view, "drain", Drained(frozenset(busy)), policy.drain_limit_ms, why)
    if waiting is not None:
        return waiting
    detail = "; ".join(f"{name}: {seen.detail}" for name, seen in sorted(busy.items()))
    if policy.drain_at_limit is DrainAtLimit.FORCE:
        return Note((Forced(view.claim.number, f"{why} ({detail})"),))
    limit_s = policy.drain_limit_ms / 1000
    reason = f"not drained within {limit_s:g} s: {why} ({detail})"
    return Note((GaveUp(untouched, Cause.DRAIN, reason),))


def put_back(view: View) -> Move | None:
    """Every load balancer as soon as it can: one that is cut off does not hold up the others."""
    claim = view.record.claim
    if claim is not None and claim.unsettled:
        return None
    purpose, direction = view.record.opened.purpose, view.record.direction
    steps = _applies(view)
    if purpose is Purpose.UNADOPT and direction is not Direction.FORWARD:
        # Aborted: what is back stays back, the rest stays adopted; but no original stays on a disk
        # unserved, for somebody's next reload to bring in.
        steps = tuple(step for step in steps if _is_half_back(view, step))
        if not steps and not view.cut_off:
            return None
    if purpose is Purpose.ADOPT and direction is Direction.FORWARD:
        undone = _unadopts(view, steps)
        if undone:
            return Act(undone)
    todo = tuple(step for step in steps if not view.is_spent(step))
    if todo and not (purpose is Purpose.ADOPT and len(todo) < len(steps)):
        return Act(todo)
    if steps:
        why = "; ".join(f"{machine_of(step)}: {view.why(step)}" for step in steps)
        return end(view, Cause.NOT_PROVED, f"not proved: {why}")
    if view.cut_off:
        return end(view, Cause.UNREACHABLE, cut_off_text(view))
    if view.edited:
        return end(view, Cause.HANDS, edited_text(view))
    return None


def _is_half_back(view: View, step: Step) -> bool:
    originals = view.record.opened.originals
    return isinstance(step, Unadopt) and step.replaces == originals.get(step.load_balancer)


def _unadopts(view: View, steps: tuple[Step, ...]) -> tuple[Step, ...]:
    """Adopting is all or none: what cannot be proved on one load balancer is undone on all."""
    if not any(view.is_spent(step) for step in steps):
        return ()
    ours: list[Step] = []
    for name in view.load_balancers:
        seen = view.balancer(name)
        if seen and seen.file and view.is_known(name) and not view.is_original(name):
            ours.append(Unadopt(name, seen.file.digest))
    return tuple(step for step in ours if not view.is_spent(step))


def release(view: View) -> Move | None:
    """Every load balancer agrees, proved: the claim is over."""
    claim = view.record.claim
    if claim is None:
        return None
    out = tuple(sorted(view.record.unproven & set(claim.backends)))
    return Note((Released(claim.number, out),))
