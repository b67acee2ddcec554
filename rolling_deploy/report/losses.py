"""What was lost, as the end of the report: the sums for a person, all of it for a program."""

from __future__ import annotations

from typing import Any

from rolling_deploy.rollout.losses import (
    UNTOLD,
    Count,
    Counts,
    Losses,
    backend_text,
    by_second,
    phase_text,
    total,
)
from rolling_deploy.rollout.record import Record


def requests_object(record: Record) -> dict[str, Any] | None:
    """Answers the sums of the access logs, None where none was read; None in it: not counted."""
    losses = record.losses
    if losses is None or not losses.ends:
        return None
    return _plain(losses.logged, tells_retries=_tells_retries(losses.by_backend))


def losses_object(record: Record) -> dict[str, Any] | None:
    """Answers everything that was counted; None where nothing was configured."""
    losses = record.losses
    if losses is None:
        return None
    counts = losses.by_backend
    logs = None
    if losses.ends:
        logs = {
            "by_load_balancer": _by_first(counts),
            "by_backend": _by_second(counts),
            "by_phase": _by_second(
                losses.by_phase, tells_retries=_tells_retries(counts), is_phase=True
            ),
        }
    prober = None
    if losses.probed:
        prober = {
            "requests": losses.asked.requests,
            "failed": losses.asked.failed,
            "last_failures": dict(losses.last_failures),
            "by_load_balancer": {
                name: {"requests": count.requests, "failed": count.failed}
                for name, count in _sums_by_first(losses.probed).items()
            },
            "by_phase": {
                phase_text(phase): {"requests": count.requests, "failed": count.failed}
                for phase, count in by_second(losses.probed).items()
            },
        }
    return {
        "failed": losses.failed,
        "max_errors": record.opened.policy.max_errors,
        "access_logs": logs,
        "prober": prober,
        "not_counted": sorted(losses.gaps),
    }


def losses_lines(record: Record) -> list[str]:
    """Answers the last lines of the report."""
    losses = record.losses
    if losses is None:
        reason = "nothing was looked at"
        if not record.opened.purpose.changes_backends:
            reason = "only while backends are taken out"
        if not record.opened.policy.counts_losses:
            reason = "no prober, no access logs configured"
        return [f"losses: not counted ({reason})"]
    lines = [f"not counted: {gap}" for gap in sorted(losses.gaps)]
    if losses.by_phase or losses.by_backend:
        lines += _failed_lines(losses)
    if losses.ends:
        names = sorted({key.split(" ")[0] for key in losses.ends})
        lines.append(f"requests: {_count_text(losses)} (access logs of {', '.join(names)})")
    if losses.probed:
        asked = losses.asked
        last = "; ".join(f"{name}: {text}" for name, text in sorted(losses.last_failures.items()))
        told = f" (the last one on {last})" if last else ""
        lines.append(f"prober: {asked.requests:,} requests, {asked.failed} failed{told}")
    return lines or ["losses: not counted"]


def _count_text(losses: Losses) -> str:
    count = losses.logged
    retried = f"{count.retried} retried by nginx"
    if not _tells_retries(losses.by_backend):
        retried = "retries not counted"
    return (
        f"{count.requests:,} seen, {count.failed} failed, {retried}, "
        f"{count.closed} given up by the client"
    )


def _failed_lines(losses: Losses) -> list[str]:
    """Who failed and when, where anything did: requests that were retried too."""
    lines = []
    for title, counts, text in (
        ("by backend", by_second(losses.by_backend), backend_text),
        ("by phase", by_second(losses.by_phase), phase_text),
    ):
        parts = [
            f"{text(name)} {count.failed} failed, {count.retried} retried"
            for name, count in counts.items()
            if count.failed or count.retried
        ]
        lines += [f"{title}: {'; '.join(parts)}"] if parts else []
    return lines


def _tells_retries(counts: Counts) -> bool:
    """Whether every log that told of a request would have told of a retry."""
    return not any(key.split(" ")[-1] == UNTOLD for key in counts)


def _plain(count: Count, *, tells_retries: bool) -> dict[str, int | None]:
    return {
        "seen": count.requests,
        "failed": count.failed,
        "given_up_by_client": count.closed,
        "retried": count.retried if tells_retries else None,
    }


def _sums_by_first(counts: Counts) -> dict[str, Count]:
    names = sorted({key.split(" ")[0] for key in counts})
    return {name: total(counts, of=name) for name in names}


def _by_first(counts: Counts) -> dict[str, Any]:
    told = {
        name: _tells_retries({key: c for key, c in counts.items() if key.startswith(f"{name} ")})
        for name in _sums_by_first(counts)
    }
    return {
        name: _plain(count, tells_retries=told[name])
        for name, count in _sums_by_first(counts).items()
    }


def _by_second(
    counts: Counts, *, tells_retries: bool = True, is_phase: bool = False
) -> dict[str, Any]:
    text = phase_text if is_phase else backend_text
    return {
        text(name): _plain(count, tells_retries=tells_retries and name != UNTOLD)
        for name, count in by_second(counts).items()
    }
