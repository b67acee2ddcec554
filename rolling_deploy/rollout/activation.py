"""A backend that is out: taken to its release, and proved good before it serves again."""

from __future__ import annotations

from rolling_deploy.rollout.facts import Cause, Fact, GaveUp, Proved, Waiting
from rolling_deploy.rollout.fold import step_key
from rolling_deploy.rollout.limits import back_or_given_up, within_budget
from rolling_deploy.rollout.move import Act, Move, Note, Ready, Wait
from rolling_deploy.rollout.observed import Unreachable
from rolling_deploy.rollout.step import Activate, Continuity, Outcome, Step, WarmUp
from rolling_deploy.rollout.view import View, cut_off_text, edited_text, wanted_out


def activate(view: View) -> Move | None:
    """Stop, swap and start what is out, proved. Every attempt counts, whatever became of it."""
    claim = view.record.claim
    if claim is None:
        return None
    facts: list[Fact] = []
    steps: list[Step] = []
    for name in claim.unsettled:
        if view.backend(name) is None and name in claim.activated:
            continue  # it may be restarting its network; become_ready bounds how long
        if name in claim.activated and view.has_come_about(name):
            continue
        if view.artifact_of(name) is None:
            facts.append(GaveUp((name,), Cause.BACKEND, f"{name}: nothing to go back to"))
            continue
        step = Activate(name, view.goal_of(name))
        unsure = _not_in_line(view)
        if unsure is not None:
            facts.append(GaveUp((name,), unsure[0], f"{name}: {unsure[1]}"))
        elif view.is_spent(step):
            facts += back_or_given_up(view, name, f"{name}: not activated, {view.why(step)}")
        elif view.backend(name) is None:
            reason = f"{name}: cannot be reached ({_reason(view, name)})"
            facts.append(GaveUp((name,), Cause.UNREACHABLE, reason))
        else:
            steps.append(step)
    if facts:
        return Note(tuple(facts))
    return Act(tuple(steps)) if steps else None


def _not_in_line(view: View) -> tuple[Cause, str] | None:
    """Answers why it is not certain that every load balancer leaves the claim out, or None.

    Everything that was never changed is stopped by the rules above. This is for a second attempt:
    a person may have put the backend back meanwhile, behind a load balancer that we cannot see.
    """
    if view.cut_off:
        return Cause.UNREACHABLE, cut_off_text(view)
    if view.edited:
        return Cause.HANDS, edited_text(view)
    out = wanted_out(view.record)
    odd = [name for name in view.load_balancers if not view.is_in_line(name, out)]
    return (Cause.NOT_PROVED, f"not proved to be out on {', '.join(odd)}") if odd else None


def _reason(view: View, name: str) -> str:
    seen = view.seen.backends.get(name)
    return seen.detail if isinstance(seen, Unreachable) else "not seen"


def become_ready(view: View) -> Move | None:
    """Healthy and serving the asked version, in a row, from the load balancers' place."""
    claim = view.record.claim
    if claim is None:
        return None
    waiting = [b for b in claim.unsettled if not view.is_ready(b)]
    if not waiting:
        return None
    begin = [Waiting(f"ready {b}") for b in waiting if view.began(f"ready {b}") is None]
    if begin:
        return Note(tuple(begin))
    limit_ms = view.record.opened.policy.ready_limit_ms
    ends = {b: (view.began(f"ready {b}") or 0) + limit_ms for b in waiting}
    facts: list[Fact] = []
    for name in waiting:
        if view.seen.now_ms >= ends[name]:
            said = _last_answer(view, name)
            reason = f"{name}: not good within {limit_ms / 1000:g} s, {said}"
            facts += back_or_given_up(view, name, reason)
    if facts:
        return Note(tuple(facts))
    wanted = {b: view.version_of(b) for b in waiting}
    why = "; ".join(f"{b}: {_last_answer(view, b)}" for b in waiting)
    return Wait(Ready(wanted), min(ends.values()), why)


def _last_answer(view: View, name: str) -> str:
    seen = view.backend(name)
    if seen is None:
        return _reason(view, name)
    if seen.health is None:
        return "no answer yet"
    return f"last answer: {seen.health.detail}"


def warm_up(view: View) -> Move | None:
    """Real requests before users' ones: the first ones cost seconds on a cold JVM."""
    claim = view.record.claim
    return within_budget(
        view, [WarmUp(b) for b in claim.unsettled if b not in claim.warm] if claim else []
    )


def prove(view: View) -> Move | None:
    """What reaches this rule is ready, warm and continuous (as far as configured)."""
    claim = view.record.claim
    if claim is None or not claim.unsettled:
        return None
    return Note(tuple(Proved(b, view.goal_of(b), _gaps(view, b)) for b in claim.unsettled))


def _gaps(view: View, name: str) -> str:
    """What was not checked on the way, to be said in the report."""
    gaps = []
    seen = view.backend(name)
    if seen and seen.health and not seen.health.is_version_checked:
        gaps.append("version: by what lies on the disk and a process started after it (weaker)")
    for step in (WarmUp(name), Continuity(name)):
        last = view.record.last.get(step_key(step, view.claim.number))
        if last and last.outcome is Outcome.NOT_CHECKED:
            gaps.append(
                f"{'warm-up' if isinstance(step, WarmUp) else 'session continuity'}: not checked"
            )
    return "; ".join(gaps)
