"""Whether the others can carry the load: whom to ask, and what their answers come to."""

from __future__ import annotations

from rolling_deploy.rollout.facts import Waiting
from rolling_deploy.rollout.move import Move, Note
from rolling_deploy.rollout.observed import Unreachable
from rolling_deploy.rollout.record import Record
from rolling_deploy.rollout.view import View, wanted_out

EVERYBODY = "everybody's answer"
"""The wait that begins when the few who were asked are too few to carry the load."""


def witnesses(record: Record, claimed: frozenset[str]) -> frozenset[str]:
    """Whom to ask whether the others can carry the load: a few in each upstream, others each time.

    As many as have to serve and one more, so that a fleet of hundreds is not asked whole for every
    wave. Whether that was enough is judged by `short_of`; if not, everybody is asked.
    """
    others = in_rotation(record) - claimed
    if EVERYBODY in (record.claim.waits if record.claim else record.waits):
        return others
    turn = record.claims if record.claim else record.claims + 1
    chosen: set[str] = set()
    for members in record.opened.upstreams.values():
        able = sorted(others & set(members))
        first = turn % len(able) if able else 0
        chosen |= set([*able[first:], *able[:first]][: record.opened.policy.serving_min + 1])
    return frozenset(chosen)


def in_rotation(record: Record) -> frozenset[str]:
    """Answers who takes users' requests by the record: neither parked nor left out by us."""
    opened = record.opened
    every = {backend for members in opened.upstreams.values() for backend in members}
    return frozenset(every) - opened.parked - record.left_out


def in_hand(record: Record) -> frozenset[str]:
    """Answers what of the wave in hand is, or is to be, out."""
    return wanted_out(record) & frozenset(record.claim.backends if record.claim else ())


def ask_everybody(view: View, claimed: frozenset[str]) -> Move | None:
    """Before capacity is called short, everybody who could serve is asked; None once they were."""
    is_everybody = witnesses(view.record, claimed) >= in_rotation(view.record) - claimed
    return None if is_everybody else Note((Waiting(EVERYBODY),))


def short_of(view: View, claimed: frozenset[str]) -> str:
    """Answers what capacity would be missing with `claimed` out, or an empty text.

    Nodes that were out before we came count as out. A backend that is out already takes nothing
    away, so bringing back what was left out is never refused for lack of the others.
    """
    record = view.record
    returned = record.claim.returned if record.claim else frozenset()
    out_already = record.left_out - returned
    if claimed <= out_already:
        return ""
    healthy = {
        name
        for name in in_rotation(record)
        if (seen := view.backend(name)) and seen.health and seen.health.is_good
    }
    problems = []
    for upstream, members in sorted(record.opened.upstreams.items()):
        if not claimed & set(members) - out_already:
            continue
        for where, down in _down_by(view).items():
            left = sorted(healthy & set(members) - claimed - down)
            if len(left) < record.opened.policy.serving_min:
                serving = ", ".join(left) or "nobody"
                wanted = record.opened.policy.serving_min
                problems.append(
                    f"{upstream} would be served by {serving}{where}, should be at least {wanted}"
                )
                break
    if not problems:
        return ""
    return f"without {', '.join(sorted(claimed))} {'; '.join(problems)}{_unwell(view)}"


def _down_by(view: View) -> dict[str, frozenset[str]]:
    """What each load balancer's own file keeps out; a person may have parked on one of them only.

    Keyed by the words that name it in a message.
    """
    files = {
        name: seen.file
        for name in view.load_balancers
        if (seen := view.balancer(name)) and seen.file is not None
    }
    down = {f" on {name}": file.down for name, file in files.items()}
    return down or {"": frozenset()}


def _unwell(view: View) -> str:
    texts = []
    for name, seen in sorted(view.seen.backends.items()):
        if isinstance(seen, Unreachable):
            texts.append(f"{name}: {seen.detail}")
        elif seen.health is not None and not seen.health.is_good:
            texts.append(f"{name}: {seen.health.detail}")
    return f" ({'; '.join(texts)})" if texts else ""
