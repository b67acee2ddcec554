"""Users' sessions outlive the release: kept before the first claim, proved on every backend."""

from __future__ import annotations

from rolling_deploy.rollout.capacity import in_rotation
from rolling_deploy.rollout.ending import end
from rolling_deploy.rollout.facts import Cause, Direction
from rolling_deploy.rollout.fold import step_key
from rolling_deploy.rollout.limits import within_budget
from rolling_deploy.rollout.move import Act, Move
from rolling_deploy.rollout.step import Continuity, Goal, Keep
from rolling_deploy.rollout.view import View

TWO_PAIRS = 4


def keep_sessions(view: View) -> Move | None:
    """Sessions are shared by the release in service, or nothing is begun; some of them are kept,
    since on the last backends nobody of that release is left to make any.
    """
    record = view.record
    is_begun = record.claims > 0 or record.kept is not None
    is_wanted = record.opened.policy.proves_sessions and record.direction is Direction.FORWARD
    if is_begun or not is_wanted or record.trouble or not view.pending:
        return None
    able = _serving_other(view, Goal.RELEASE, frozenset())
    if not able:
        return None
    tried = record.attempts.get(step_key(Keep(able[0], able[0]), 0), 0)
    # One of the two may be ill, and which is not known: the next pair is without both if it can.
    turn = tried * (2 if len(able) >= TWO_PAIRS else 1) % len(able)
    made_on, *others = [*able[turn:], *able[:turn]]
    step = Keep(made_on, others[0] if others else made_on)
    if view.is_spent(step):
        return end(view, Cause.SESSIONS, f"sessions not proved to be shared, {view.why(step)}")
    return Act((step,))


def _serving_other(view: View, goal: Goal, claimed: frozenset[str]) -> list[str]:
    """Answers who serves on the other release than a backend with this goal, in the fleet's order.

    What a person skipped, or parked on some load balancers only, may serve; what was never taken
    anywhere runs what it ran before.
    """
    record = view.record
    able = in_rotation(record) - claimed
    order = [*record.opened.order, *record.opened.already]
    is_new = {b: record.done.get(b) is Goal.RELEASE for b in able}
    return [b for b in order if b in able and is_new[b] is (goal is Goal.PREVIOUS)]


def continuity(view: View) -> Move | None:
    """Sessions of the others can be read and written there, and its own by the others.

    On the way back too: then the others run the release, and its sessions come first.
    """
    claim = view.record.claim
    missing = [b for b in claim.unsettled if b not in claim.continuous] if claim else []
    return within_budget(view, [_continuity_of(view, b) for b in missing])


def _continuity_of(view: View, backend: str) -> Continuity:
    record, claim = view.record, view.claim
    if not record.opened.policy.proves_sessions:
        return Continuity(backend, view.goal_of(backend))
    able = _serving_other(view, view.goal_of(backend), frozenset(claim.backends))
    tried = record.attempts.get(step_key(Continuity(backend), claim.number), 0)
    other = able[tried % len(able)] if able else ""
    return Continuity(backend, view.goal_of(backend), other, record.kept or "")
