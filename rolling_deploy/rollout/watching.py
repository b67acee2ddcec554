"""Whether users are being logged out: from where their logs are read, and when it is too much."""

from __future__ import annotations

from rolling_deploy.rollout.capacity import witnesses
from rolling_deploy.rollout.ending import end
from rolling_deploy.rollout.facts import (
    Cause,
    Direction,
    GaveUp,
    Marked,
    Purpose,
    Waiting,
    Watched,
)
from rolling_deploy.rollout.limits import wait_within
from rolling_deploy.rollout.logouts import (
    LOG_ENDS,
    SIGN,
    Logouts,
    Watching,
    is_surge,
    signs_text,
    surge_text,
)
from rolling_deploy.rollout.move import Move, Note, Sign
from rolling_deploy.rollout.record import Record
from rolling_deploy.rollout.view import View, untouched_of


def _watches(record: Record) -> bool:
    """Whether signs of logged-out users count: not on the way back, which may be the cure."""
    opened = record.opened
    is_forward = record.direction is Direction.FORWARD and opened.purpose is Purpose.DEPLOY
    return opened.policy.watches_logouts and is_forward


def _unmarked(view: View) -> tuple[str, ...]:
    """The backends that are to be stopped for the release, and whose log's end is not noted."""
    claim = view.record.claim
    if claim is None or not _watches(view.record):
        return ()
    known = claim.activated | claim.marked | frozenset(claim.turned_back)
    return tuple(b for b in claim.unsettled if b not in known)


def what_to_mark(view: View) -> Watching | None:
    """What to look at right before a stop; only once it was said that this is the next thing.

    The logs of a few others are read on from here too: while both releases serve, it is the old
    one that may not understand what the new one has stored.
    """
    record, fresh = view.record, _unmarked(view)
    if not fresh or view.began(LOG_ENDS) is None:
        return None
    others = witnesses(record, frozenset(view.claim.backends))
    new = frozenset(fresh) | (others - record.marks.keys())
    return Watching(frozenset(fresh) | others, record.logouts or Logouts(), new)


def what_to_watch(view: View) -> Watching | None:
    """What to look at once a wave is back, or None when that was done.

    Of the wave, of the one before (it has had users for longer), and of the others marked then.
    """
    record = view.record
    if not _watches(record) or record.logouts is None or record.watched >= record.claims:
        return None
    last = {b for b, claim in record.marks.items() if claim >= record.claims - 1}
    return Watching(frozenset(last), record.logouts, since_ms=record.watch_since_ms)


def mark_logs(view: View) -> Move | None:
    """What the release writes is what its backends' logs hold from here on. It is in the record
    before the stop, so that any later life reads from there.
    """
    fresh = _unmarked(view)
    if not fresh:
        return None
    if view.began(LOG_ENDS) is None:
        return Note((Waiting(LOG_ENDS),))
    others = witnesses(view.record, frozenset(view.claim.backends))
    return Note((Marked(fresh, tuple(sorted(others)), _news_of_logouts(view)),))


def _news_of_logouts(view: View) -> Logouts:
    seen = view.seen.logouts
    if seen is None:
        return Logouts(gaps=frozenset({"logs and sessions were not looked at"}))
    return seen.since(view.record.logouts or Logouts())


def give_up_logged_out(view: View) -> Move | None:
    """The look right before a stop also shows what was written since the last wave was watched.
    Nothing of this wave is changed yet: it goes back in as it is, and the rollout halts.

    By lines only: how fast sessions come is measured then for what follows, not for what was.
    """
    untouched = untouched_of(view)
    logged_out = _lines_of(view.record) if untouched else ""
    if not logged_out:
        return None
    reason = f"users are being logged out: {logged_out}"
    return Note((GaveUp(untouched, Cause.SESSIONS, reason),))


def mind_logouts(view: View) -> Move | None:
    """Users who are logged out halt the rollout while most of the fleet is as it was.

    A release that does it shows it on its first wave, so that one is watched for a while, and the
    last, since nobody looks later. In between the next look is never far, and covers this wave.
    """
    record, policy = view.record, view.record.opened.policy
    logged_out = _logged_out(record)
    if logged_out:
        return end(view, Cause.SESSIONS, f"users are being logged out: {logged_out}")
    watching = what_to_watch(view)
    if watching is None:
        return None
    news = _news_of_logouts(view)
    is_worth_waiting = record.watched == 0 or not view.pending
    is_enough = record.logouts is not None and (
        record.logouts.count + news.count > policy.logout_lines_max
    )
    if is_worth_waiting and policy.watch_ms and not is_enough:
        names = ", ".join(sorted(watching.backends))
        why = f"whether users are logged out, by the logs of {names}"
        waiting = wait_within(view, SIGN, Sign(watching), policy.watch_ms, why)
        if waiting is not None:
            return waiting
    return Note((Watched(record.claims, news),))


def _logged_out(record: Record) -> str:
    """Answers by which signs users are being logged out, or an empty text."""
    return "; ".join(sign for sign in (_lines_of(record), _surge_of(record)) if sign)


def _lines_of(record: Record) -> str:
    logouts = _judged(record)
    if logouts is None or logouts.count <= record.opened.policy.logout_lines_max:
        return ""
    return signs_text(logouts)


def _surge_of(record: Record) -> str:
    logouts, policy, before = _judged(record), record.opened.policy, record.pace_before
    now = logouts.pace if logouts else None
    surge = is_surge(before, now, policy.logout_ratio, policy.logout_new_min)
    return surge_text(before, now) if surge and before is not None and now is not None else ""


def _judged(record: Record) -> Logouts | None:
    """A person who went on in spite of the signs has decided; they are only told from then on."""
    is_open = not record.are_logouts_accepted and _watches(record)
    return record.logouts if is_open else None
