"""The report at the end of a run: what became of every backend, and what was not checked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rolling_deploy.report.columns import columns
from rolling_deploy.report.logouts import logouts_lines, logouts_object
from rolling_deploy.report.losses import losses_lines, losses_object, requests_object
from rolling_deploy.report.plain import printable
from rolling_deploy.report.wording import backend_state, closed_text, duration
from rolling_deploy.rollout.facts import Ended, Forced, Intended, Proved
from rolling_deploy.rollout.journal import Entry
from rolling_deploy.rollout.record import Record
from rolling_deploy.rollout.step import Apply, Outcome, Unadopt

NOTHING_DONE = (Outcome.REFUSED, Outcome.NOT_SENT)


def summary_object(entries: Sequence[Entry], record: Record) -> dict[str, Any]:
    """Answers the report as one JSON object; `duration_ms` is over all lives of the rollout."""
    opened = record.opened
    backends = (*opened.already, *opened.order, *sorted(opened.parked))
    return {
        "event": "summary",
        "rollout": opened.rollout,
        "application": opened.application,
        "release": opened.release,
        "ending": _ending(record),
        "reason": _reason(record),
        "duration_ms": entries[-1].at_ms - record.opened_at_ms if entries else 0,
        "epochs": record.epoch,
        "reloads": _reloads(entries),
        "backends": {name: backend_state(record, name) for name in backends},
        "not_checked": _gaps(entries, record),
        "forced": [e.fact.detail for e in entries if isinstance(e.fact, Forced)],
        "requests": requests_object(record),
        "losses": losses_object(record),
        "logouts": logouts_object(record),
        "sessions": None,
    }


def summary_lines(entries: Sequence[Entry], record: Record) -> list[str]:
    """Answers the report as lines."""
    report = summary_object(entries, record)
    lines = ["", f"rollout {report['rollout']}: {_headline(record)}", ""]
    lines += columns([[name, printable(state)] for name, state in report["backends"].items()])
    reloads = ", ".join(f"{name} {count}" for name, count in report["reloads"].items()) or "none"
    lines += ["", f"  took {duration(report['duration_ms'])}; reloads: {reloads}"]
    lines += [f"  forced: {printable(text)}" for text in report["forced"]]
    lines += [f"  not checked: {printable(text)}" for text in report["not_checked"]]
    lines += [f"  {printable(text)}" for text in logouts_lines(record)]
    lines += [f"  {printable(text)}" for text in losses_lines(record)]
    return [printable(line) for line in lines]


def _headline(record: Record) -> str:
    if record.closed is not None:
        return printable(closed_text(record, record.closed))
    if record.halted is not None:
        return f"halted ({record.halted.cause}): {printable(record.halted.reason)}"
    return "unfinished"


def _ending(record: Record) -> str:
    if record.closed is not None:
        return record.closed.ending.value
    return "halted" if record.halted is not None else "unfinished"


def _reason(record: Record) -> str:
    end = record.closed or record.halted
    return end.reason if end is not None else ""


def _reloads(entries: Sequence[Entry]) -> dict[str, int]:
    """Reloads that were begun, per load balancer; one that was refused reloaded nothing."""
    steps = {e.seq: e.fact.step for e in entries if isinstance(e.fact, Intended)}
    counts: dict[str, int] = {}
    for entry in entries:
        if not isinstance(entry.fact, Ended) or entry.fact.result.outcome in NOTHING_DONE:
            continue
        step = steps.get(entry.fact.of)
        if isinstance(step, Apply | Unadopt):
            counts[step.load_balancer] = counts.get(step.load_balancer, 0) + 1
    return dict(sorted(counts.items()))


def _gaps(entries: Sequence[Entry], record: Record) -> list[str]:
    gaps: dict[str, list[str]] = {}
    for entry in entries:
        if isinstance(entry.fact, Proved) and entry.fact.detail:
            for gap in entry.fact.detail.split("; "):
                gaps.setdefault(gap, []).append(entry.fact.backend)
    texts = [f"{gap.removesuffix(': not checked')} ({', '.join(on)})" for gap, on in gaps.items()]
    texts += [f"{name} was declared off and is not in line" for name in sorted(record.off)]
    texts.append("sessions of users during the rollout (they are not followed)")
    return texts
