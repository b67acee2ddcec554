"""Signs of logged-out users, as the end of the report."""

from __future__ import annotations

from typing import Any

from rolling_deploy.rollout.facts import Purpose
from rolling_deploy.rollout.logouts import Logouts, Pace, signs_text
from rolling_deploy.rollout.record import Record

NO_WAVE = "no backend was stopped for the release"
NOT_BACK = "no wave was back in rotation with the release"


def logouts_object(record: Record) -> dict[str, Any] | None:
    """Answers everything that was seen; None where nothing was looked for."""
    logouts = record.logouts
    if logouts is None:
        return None
    return {
        "lines": logouts.count,
        "by_backend": {
            name: {
                "bytes_read": logouts.read.get(name, 0),
                "lines": logouts.lines.get(name, 0),
                "examples": list(logouts.examples.get(name, ())),
            }
            for name in _read_from(logouts)
        },
        "new_sessions": _pace_object(logouts.pace),
        "new_sessions_before": _pace_object(record.pace_before),
        "accepted": record.are_logouts_accepted,
        "not_checked": _gaps(record),
    }


def logouts_lines(record: Record) -> list[str]:
    """Answers the last lines of the report, nothing where no release was deployed."""
    opened, logouts = record.opened, record.logouts
    if opened.purpose is not Purpose.DEPLOY:
        return []
    if not opened.policy.watches_logouts:
        return ["logged-out users: not checked (no `logout_watch` is configured)"]
    if logouts is None:
        return [f"logged-out users: not checked ({NO_WAVE})"]
    lines = [f"not checked: {gap}" for gap in _gaps(record)]
    names = _read_from(logouts)
    if not record.watched and not logouts.count:
        return [*lines, f"logged-out users: not checked ({NOT_BACK})"]
    if not names:
        return [*lines, "logged-out users: not checked by any log"]
    said = signs_text(logouts)
    total = sum(logouts.read.values())
    where = f"the logs of {', '.join(names)}, {total:,} bytes read{_sessions_text(record)}"
    head = f"users were logged out: {said}" if said else "no sign of users logged out"
    return [*lines, f"{head}: {where}" if not said else f"{head}; {where}"]


def _sessions_text(record: Record) -> str:
    pace = record.logouts.pace if record.logouts else None
    return f"; sessions: {pace.text}" if pace and not pace.gap else ""


def _gaps(record: Record) -> list[str]:
    logouts = record.logouts or Logouts()
    paces = {pace.gap for pace in (record.pace_before, logouts.pace) if pace and pace.gap}
    return [*sorted(logouts.gaps), *(f"how fast sessions come: {gap}" for gap in sorted(paces))]


def _read_from(logouts: Logouts) -> list[str]:
    """Answers the backends of which a log was read."""
    return sorted({key.partition(" ")[0] for key in logouts.ends})


def _pace_object(pace: Pace | None) -> dict[str, int] | None:
    if pace is None or pace.gap:
        return None
    return {"sampled": pace.sampled, "new": pace.new, "window_ms": pace.window_ms}
