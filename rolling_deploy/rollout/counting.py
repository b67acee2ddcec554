"""Failed requests: how they are counted, how the record keeps the count, when it is too many."""

from __future__ import annotations

from rolling_deploy.rollout.ending import end
from rolling_deploy.rollout.facts import Cause, Claimed, Counted, Direction, Waiting
from rolling_deploy.rollout.losses import LAST_COUNT, Counting, Losses, failures_text
from rolling_deploy.rollout.move import Finish, Halt, Move, Note
from rolling_deploy.rollout.view import View


def what_to_count(view: View) -> Counting | None:
    """How losses are to be counted; a rollout that deploys nothing counts none."""
    record = view.record
    opened = record.opened
    if not opened.policy.counts_losses or not opened.purpose.changes_backends:
        return None
    is_last = view.began(LAST_COUNT) is not None
    return Counting(record.losses or Losses(), record.claims, is_last)


def with_count(view: View, move: Move) -> Move:
    """A claim carries what was counted before it, so that it is not lost with this life. Before
    an end the prober is let finish, and everything is counted once more.
    """
    if view.seen.losses is None:
        return move
    news = view.seen.losses.since(view.record.losses or Losses())
    is_news = news != Losses()
    match move:
        case Note() if is_news and any(isinstance(fact, Claimed) for fact in move.facts):
            return Note((Counted(news), *move.facts))
        case Halt() | Finish() if move.is_new and view.began(LAST_COUNT) is None:
            return Note((Waiting(LAST_COUNT),))
        case Halt() | Finish() if move.is_new and is_news:
            return Note((Counted(news),))
        case _:
            return move


def count(view: View) -> Move | None:
    """How far the logs were when we came is in the record before anything else is, so that any
    later life counts from there; and what a person's answer covers before anything is judged.
    """
    record = view.record
    if view.seen.losses is None or (record.losses is not None and not record.is_forgiving):
        return None
    return Note((Counted(view.seen.losses.since(record.losses or Losses())),))


def too_many_errors(view: View) -> str:
    """Answers how many requests failed and where, if that is too many; else an empty text.

    On the way back it is no reason to stop: going back may be the cure.
    """
    record, losses = view.record, view.seen.losses
    limit = record.opened.policy.max_errors
    if losses is None or limit is None or record.direction is not Direction.FORWARD:
        return ""
    failed = losses.failed - record.forgiven
    if failed <= limit:
        return ""
    began = f"since the opening {(view.seen.now_ms - record.opened_at_ms) / 1000:.0f} s ago"
    since = "since a person's answer" if record.forgiven else began
    all_of_them = f"{losses.failed} {began}: " if record.forgiven else ""
    where = failures_text(losses)
    return f"{failed} requests failed {since}, should be at most {limit} ({all_of_them}{where})"


def mind_errors(view: View) -> Move | None:
    """Too many requests failed: nothing more is claimed, and it does not end as if all were well.

    Not before put_back and release have had nothing to say: the load balancers agree by then.
    """
    errors = too_many_errors(view)
    return end(view, Cause.ERRORS, errors) if errors else None
