"""The claim: what is made ready before it, which wave is next, when it is given up unchanged.

Up to the first stop a claim costs nothing: whatever stands against it, the backends go back in as
they are.
"""

from __future__ import annotations

from rolling_deploy.rollout.capacity import ask_everybody, in_hand, short_of
from rolling_deploy.rollout.counting import too_many_errors
from rolling_deploy.rollout.ending import end
from rolling_deploy.rollout.facts import Cause, Claimed, Direction, GaveUp
from rolling_deploy.rollout.move import Act, Move, Note
from rolling_deploy.rollout.observed import Verdict
from rolling_deploy.rollout.step import Stage
from rolling_deploy.rollout.view import View, cut_off_text, edited_text, untouched_of


def give_up_untouched(view: View) -> Move | None:
    """Taking out is all or none: a load balancer that we cannot see counts as still sending."""
    untouched = untouched_of(view)
    if not untouched:
        return None
    unwanted = _no_longer_wanted(view, untouched)
    if unwanted:
        return Note((GaveUp(unwanted, Cause.ASKED, "the rollout was aborted"),))
    if view.cut_off:
        return Note((GaveUp(untouched, Cause.UNREACHABLE, cut_off_text(view)),))
    if view.edited:
        return Note((GaveUp(untouched, Cause.HANDS, edited_text(view)),))
    errors = too_many_errors(view)
    return Note((GaveUp(untouched, Cause.ERRORS, errors),)) if errors else None


def _no_longer_wanted(view: View, untouched: tuple[str, ...]) -> tuple[str, ...]:
    """What an abort leaves to be put back as it is: it was claimed, but never changed."""
    match view.record.direction:
        case Direction.FORWARD:
            return ()
        case Direction.BACK:
            return tuple(b for b in untouched if b not in view.record.changed)
        case Direction.STOP:
            return untouched


def stage(view: View) -> Move | None:
    """Every artifact lies ready, and what runs now is secured, before the first claim."""
    record = view.record
    if record.claim is not None or record.direction is not Direction.FORWARD or record.trouble:
        return None
    missing = [Stage(b) for b in view.pending if b not in record.staged]
    spent = [step for step in missing if view.is_spent(step)]
    if spent:
        why = "; ".join(f"{step.backend}: {view.why(step)}" for step in spent)
        return end(view, Cause.STAGING, f"cannot stage the artifact: {why}")
    return Act(tuple(missing)) if missing else None


def keep_capacity(view: View) -> Move | None:
    """The others are asked again before a reload takes anything out, which may be hours and a
    person's answer after the claim, and right before the stop: one of them may have failed
    meanwhile.
    """
    untouched = untouched_of(view)
    if not untouched:
        return None
    held = in_hand(view.record)
    short = short_of(view, held)
    if not short:
        return None
    return ask_everybody(view, held) or Note((GaveUp(untouched, Cause.CAPACITY, short),))


def claim_next(view: View) -> Move | None:
    """Claim the next wave, when the others can carry the load and the sessions are safe."""
    record = view.record
    if not view.pending:
        return None
    wave = view.pending[: record.opened.policy.wave_size]
    short = short_of(view, frozenset(wave))
    if short:
        return ask_everybody(view, frozenset(wave)) or end(view, Cause.CAPACITY, short)
    refused = [check for check in view.seen.store or () if check.verdict is Verdict.REFUSED]
    if refused:
        why = "; ".join(f"{check.name}: {check.detail}" for check in refused)
        return end(view, Cause.STORE, f"session store: {why}")
    return Note((Claimed(record.claims + 1, wave),))
