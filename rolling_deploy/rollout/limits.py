"""Nothing goes on for ever: a wait has a limit, a step has a budget; what follows after either."""

from __future__ import annotations

from collections.abc import Iterable

from rolling_deploy.rollout.facts import Cause, Fact, GaveUp, TurnedBack, Waiting
from rolling_deploy.rollout.fleet import OnFailure
from rolling_deploy.rollout.move import Act, Condition, Move, Note, Wait
from rolling_deploy.rollout.step import Continuity, Goal, Step, WarmUp, machine_of
from rolling_deploy.rollout.view import View


def wait_within(
    view: View, what: str, condition: Condition, limit_ms: int, why: str
) -> Move | None:
    """Wait within a limit that counts from its beginning, or from the last takeover."""
    began = view.began(what)
    if began is None:
        return Note((Waiting(what),))
    until_ms = began + limit_ms
    return Wait(condition, until_ms, why) if view.seen.now_ms < until_ms else None


def within_budget(view: View, steps: Iterable[WarmUp | Continuity]) -> Move | None:
    """Act on the steps that may still be tried; for those that may not, say what follows."""
    todo: list[Step] = []
    facts: list[Fact] = []
    for step in steps:
        if view.is_spent(step):
            name = machine_of(step)
            what = "not warmed up" if isinstance(step, WarmUp) else "sessions not proved"
            facts += back_or_given_up(view, name, f"{name}: {what}, {view.why(step)}")
        else:
            todo.append(step)
    if facts:
        return Note(tuple(facts))
    return Act(tuple(todo)) if todo else None


def back_or_given_up(view: View, name: str, reason: str) -> list[Fact]:
    """What follows when a backend does not become good: back by policy, or given up."""
    policy = view.record.opened.policy
    can_go_back = (
        policy.on_failure is OnFailure.BACK_NODE
        and view.goal_of(name) is Goal.RELEASE
        and name in view.record.unproven & view.record.changed
        and view.record.opened.before[name].artifact is not None
    )
    if can_go_back:
        return [TurnedBack(name, reason)]
    return [GaveUp((name,), Cause.BACKEND, reason)]
