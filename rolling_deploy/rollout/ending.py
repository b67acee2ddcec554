"""How a rollout ends, and that it stays ended.

Done, gone back, aborted with nothing left to do; or halted, where a person has to answer.
"""

from __future__ import annotations

from rolling_deploy.rollout.facts import Cause, Closed, Direction, Ending, Halted
from rolling_deploy.rollout.move import Finish, Halt, Move
from rolling_deploy.rollout.view import View


def end(view: View, cause: Cause, reason: str) -> Move:
    """Halt; or, when nothing was touched yet, close, so that the next run begins afresh."""
    if view.record.is_touched:
        return Halt(Halted(cause, reason))
    return Finish(Closed(Ending.NOTHING_TOUCHED, reason, cause))


def stay_ended(view: View) -> Move | None:
    """A halt is answered by a person, never by asking again; so a retried CI job is safe."""
    if view.record.closed is not None:
        return Finish(view.record.closed, is_new=False)
    if view.record.halted is not None:
        return Halt(view.record.halted, is_new=False)
    return None


def end_in_trouble(view: View) -> Move | None:
    """Something failed on the way; the load balancers are in a proven state now."""
    record = view.record
    if record.trouble is not None:
        return end(view, record.trouble.cause, record.trouble.reason)
    not_good = (record.left_out & record.changed) - record.skipped
    if record.went_back and not not_good and record.direction is Direction.FORWARD:
        reasons = "; ".join(record.went_back.values())
        return Finish(Closed(Ending.WENT_BACK, reasons, Cause.BACKEND))
    return None


def finish(view: View) -> Move | None:
    """Nothing is pending and every load balancer agrees."""
    record = view.record
    left_out = record.left_out - record.skipped
    aborted = record.direction is not Direction.FORWARD
    if aborted or not record.opened.purpose.changes_backends:
        left_out &= record.changed  # the others were out before we came
    if left_out:
        names = ", ".join(sorted(left_out))
        return end(view, Cause.BACKEND, f"{names} stays out of rotation, not proven good")
    if record.off:
        names = ", ".join(sorted(record.off))
        return end(view, Cause.DECLARED_OFF, f"all else is done; {names} is not in line yet")
    return Finish(Closed(Ending.ABORTED if aborted else Ending.DONE))
