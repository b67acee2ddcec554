"""What an earlier life left behind: an intent without outcome, a command that still runs."""

from __future__ import annotations

from rolling_deploy.rollout.ending import end
from rolling_deploy.rollout.facts import Cause, Ended
from rolling_deploy.rollout.limits import wait_within
from rolling_deploy.rollout.move import Free, Move, Note
from rolling_deploy.rollout.observed import Unreachable
from rolling_deploy.rollout.step import Outcome, Result
from rolling_deploy.rollout.view import View


def close_in_doubt(view: View) -> Move | None:
    """An intent without outcome is from a life that ended. It is looked at, never redone."""
    open_intents = view.record.open_intents
    if not open_intents:
        return None
    doubt = Result(Outcome.IN_DOUBT, "ended before the outcome was written")
    return Note(tuple(Ended(seq, doubt) for seq in sorted(open_intents)))


def await_earlier(view: View) -> Move | None:
    """A remote command may outlive us. While one runs, what is seen is not yet what will be."""
    looked = {**view.seen.load_balancers, **view.seen.backends}
    busy = frozenset(
        name for name, seen in looked.items() if not isinstance(seen, Unreachable) and seen.is_busy
    )
    if not busy:
        return None
    # With the number of intents: a command of a later intent has a limit of its own.
    intents = sum(view.record.attempts.values())
    what = f"earlier command on {','.join(sorted(busy))} after {intents} intents"
    names = ", ".join(sorted(busy))
    return wait_within(
        view,
        what,
        Free(busy),
        view.record.opened.policy.busy_limit_ms,
        f"an earlier command still runs on {names}",
    ) or end(view, Cause.BUSY, f"an earlier command still runs on {names} after the limit")
