"""What must never happen, whatever `decide` proposes: each invariant one named function.

`check` runs before every act, in production too, on the record, the look and the move. A broken
invariant is a bug of ours: nothing is done, and the record is left for a person. These functions
do not share code with `decide` beyond the values, so that one mistake is not made twice.
"""

from __future__ import annotations

from collections.abc import Callable

from rolling_deploy.errors import InvariantBroken
from rolling_deploy.rollout.fold import step_key
from rolling_deploy.rollout.observed import BackendSeen, LoadBalancerSeen, Seen
from rolling_deploy.rollout.record import Record
from rolling_deploy.rollout.step import Activate, Apply, Goal, Step, Unadopt, machine_of


def check(record: Record, seen: Seen, steps: tuple[Step, ...]) -> None:
    """Refuse steps that safety forbids.

    Raises:
        InvariantBroken: naming the invariant and the step.
    """
    machines = [machine_of(step) for step in steps]
    if len(set(machines)) != len(machines):
        raise InvariantBroken(f"two steps for one machine at once: {', '.join(machines)}")
    if record.open_intents:
        raise InvariantBroken("a step is proposed while an earlier intent has no outcome")
    for step in steps:
        for invariant in INVARIANTS:
            problem = invariant(record, seen, step)
            if problem:
                raise InvariantBroken(
                    f"{invariant.__name__}: {problem}",
                    where=machine_of(step),
                    site="nothing was done about it; what was serving still serves",
                    next_step="report this with the record attached",
                )


def only_a_claimed_backend_is_touched(record: Record, seen: Seen, step: Step) -> str:
    """A backend is stopped only while this rollout holds it in a claim."""
    if not isinstance(step, Activate):
        return ""
    if record.claim is None or step.backend not in record.claim.backends:
        return f"{step.backend} is not claimed"
    return ""


def nothing_is_stopped_without_a_proof(record: Record, seen: Seen, step: Step) -> str:
    """No load balancer that counts sends anything more to a backend that is about to stop.

    The proof: the file marks it down, that generation is the one served, and no worker of an
    earlier generation lives. A backend that was activated in this claim had the last part then;
    that it is still out is asked again, since a person may have put it back.
    """
    if not isinstance(step, Activate) or record.claim is None:
        return ""
    is_drained = step.backend in record.claim.activated or record.claim.is_forced
    for name in record.opened.load_balancers:
        if name in record.off:
            continue
        balancer = seen.load_balancers.get(name)
        if not isinstance(balancer, LoadBalancerSeen):
            return f"{name} was not seen"
        stamp = balancer.file.stamp if balancer.file else None
        if stamp is None or step.backend not in stamp.out:
            return f"{name} does not mark {step.backend} down"
        if balancer.live != stamp.generation or not balancer.is_settled:
            return f"{name} does not serve the generation on its disk"
        if balancer.earlier_workers != 0 and not is_drained:
            return f"{name} has {balancer.earlier_workers} earlier workers"
    return ""


def enough_keep_serving(record: Record, seen: Seen, step: Step) -> str:
    """No publication leaves fewer backends in an upstream than the policy asks for.

    Except what an earlier publication left out already: bringing that back needs it to stay out.
    What takes out something that serves is judged by who was seen to be well; of what is out
    everywhere already, nobody need have been asked.
    """
    if not isinstance(step, Apply):
        return ""
    claim = record.claim
    returned = claim.returned if claim else frozenset()
    untouched = frozenset(claim.unsettled) - claim.activated if claim else frozenset()
    serving = (untouched | returned) - record.unproven
    asked = {name: b.health for name, b in seen.backends.items() if isinstance(b, BackendSeen)}
    well = {name for name, health in asked.items() if health and health.is_good}
    for upstream, members in record.opened.upstreams.items():
        taken = step.out & set(members) - (record.left_out - returned)
        if not taken:
            continue
        left = set(members) - step.out - record.opened.parked
        if taken & serving:
            left &= well
        if len(left) < record.opened.policy.serving_min:
            return f"{upstream} would be left with {len(left)} backends"
    return ""


def only_what_is_proven_goes_in(record: Record, seen: Seen, step: Step) -> str:
    """A backend that was changed gets traffic only after it was proven good."""
    if not isinstance(step, Apply):
        return ""
    back = record.unproven - step.out
    return f"{', '.join(sorted(back))} is changed and not proven good" if back else ""


def only_what_we_hold_is_out(record: Record, seen: Seen, step: Step) -> str:
    """Only backends of the claim, or ones a claim left out, are marked down by us."""
    if not isinstance(step, Apply):
        return ""
    held = record.left_out | frozenset(record.claim.backends if record.claim else ())
    odd = step.out - held
    return f"{', '.join(sorted(odd))} is not held by this rollout" if odd else ""


def nothing_of_others_is_replaced(record: Record, seen: Seen, step: Step) -> str:
    """A file is replaced only when it is the one we found or one this rollout wrote.

    An original that is back on the disk but not served yet is one this rollout wrote.
    """
    if not isinstance(step, Apply | Unadopt):
        return ""
    balancer = seen.load_balancers.get(step.load_balancer)
    if not isinstance(balancer, LoadBalancerSeen):
        return f"{step.load_balancer} was not seen"
    digest = balancer.file.digest if balancer.file else "absent"
    if digest != step.replaces:
        return "the file seen is not the one to be replaced"
    stamp = balancer.file.stamp if balancer.file else None
    is_ours = (
        balancer.file is not None
        and balancer.file.is_intact
        and stamp is not None
        and stamp.rollout == record.opened.rollout
    )
    found = digest == record.opened.initial.get(step.load_balancer)
    is_back = isinstance(step, Unadopt) and digest == record.opened.originals.get(
        step.load_balancer
    )
    return (
        "" if is_ours or found or is_back else "the file is neither what we found nor what we wrote"
    )


def parked_stays_parked(record: Record, seen: Seen, step: Step) -> str:
    """A backend that a person parked is not claimed, and not upgraded."""
    if isinstance(step, Activate) and step.backend in record.opened.parked:
        return f"{step.backend} was parked by a person"
    return ""


def attempts_are_bounded(record: Record, seen: Seen, step: Step) -> str:
    """A crash loop never becomes a restart loop: intents are counted over all lives."""
    budget = record.opened.policy.attempts_max + record.extra_attempts.get(machine_of(step), 0)
    tried = record.attempts.get(step_key(step, record.claims), 0)
    return f"tried {tried} times of {budget}" if tried >= budget else ""


def a_backend_goes_where_it_can_come_back_from(record: Record, seen: Seen, step: Step) -> str:
    """Going back needs something to go back to."""
    if not isinstance(step, Activate) or step.goal is Goal.RELEASE:
        return ""
    if record.opened.before[step.backend].artifact is None:
        return f"{step.backend} has no release to go back to"
    return ""


def only_a_reached_backend_is_touched(record: Record, seen: Seen, step: Step) -> str:
    """Nothing is sent to a backend that this turn did not see, nor while a command runs there."""
    if not isinstance(step, Activate):
        return ""
    backend = seen.backends.get(step.backend)
    if not isinstance(backend, BackendSeen):
        return f"{step.backend} was not seen"
    return f"an earlier command runs on {step.backend}" if backend.is_busy else ""


def adopting_takes_nothing_out(record: Record, seen: Seen, step: Step) -> str:
    """Adopting and unadopting change who manages the file, never who serves."""
    if record.opened.purpose.changes_backends or not isinstance(step, Apply):
        return ""
    return "adopting would mark a backend down" if step.out - record.opened.left_out else ""


INVARIANTS: tuple[Callable[[Record, Seen, Step], str], ...] = (
    only_a_claimed_backend_is_touched,
    nothing_is_stopped_without_a_proof,
    enough_keep_serving,
    only_what_is_proven_goes_in,
    only_what_we_hold_is_out,
    nothing_of_others_is_replaced,
    parked_stays_parked,
    attempts_are_bounded,
    a_backend_goes_where_it_can_come_back_from,
    only_a_reached_backend_is_touched,
    adopting_takes_nothing_out,
)
