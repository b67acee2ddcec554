"""What `setup` would do, as a person and a program read it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rolling_deploy.report.columns import columns, counted
from rolling_deploy.report.plain import printable
from rolling_deploy.report.plan import check_lines
from rolling_deploy.rollout.observed import Check, Verdict

Missing = tuple[str, str]
"""A machine's name, and what it lacks."""


@dataclass(frozen=True, slots=True)
class SetupView:
    """What a setup would do, and what stands in its way.

    Attributes:
        differences: per machine, a title and the lines of its unified diffs, without secrets.
        waves: the backends that would be taken out and restarted, together at a time.
    """

    application: str
    inventory: str
    missing: tuple[Missing, ...]
    differences: tuple[tuple[str, tuple[str, ...]], ...]
    checks: tuple[Check, ...]
    waves: tuple[tuple[str, ...], ...] = ()

    @property
    def refused(self) -> tuple[Check, ...]:
        """Answers what stands in the way."""
        return tuple(check for check in self.checks if check.verdict is Verdict.REFUSED)


def wish_lines(view: SetupView) -> list[str]:
    """Answers what is missing, what would change, and in which order backends are restarted."""
    lines = ["missing", *columns([[name, printable(what)] for name, what in view.missing])]
    for title, difference in view.differences:
        lines += ["", title, *(f"  {line}" for line in difference)]
    if view.waves:
        lines += ["", "backends that are taken out, restarted and put back"]
        lines += [f"  wave {number}: {', '.join(w)}" for number, w in enumerate(view.waves, 1)]
    return [printable(line) for line in lines]


def setup_lines(view: SetupView) -> list[str]:
    """Answers everything that `setup --check` shows, as lines."""
    head = f"setup: {view.application} ({view.inventory})"
    lines = [printable(head), "", "checks", *check_lines(view.checks), ""]
    if view.missing:
        lines += [*wish_lines(view), ""]
    return [*lines, _verdict(view)]


def _verdict(view: SetupView) -> str:
    if view.refused:
        what = counted(len(view.refused), "check stands in the way", "checks stand in the way")
        return f"refused: {what}; nothing was touched"
    if not view.missing:
        return "nothing is missing"
    count = counted(len(view.missing), "thing is missing", "things are missing")
    return f"{count}; nothing was touched"


def setup_object(view: SetupView) -> dict[str, Any]:
    """Answers the same as one JSON object."""
    return {
        "application": view.application,
        "inventory": view.inventory,
        "is_complete": not view.missing,
        "is_refused": bool(view.refused),
        "missing": [{"subject": name, "what": what} for name, what in view.missing],
        "differences": [_titled(title, lines) for title, lines in view.differences],
        "waves": [list(wave) for wave in view.waves],
        "checks": [
            {"subject": c.subject, "name": c.name, "verdict": c.verdict.value, "detail": c.detail}
            for c in view.checks
        ],
    }


def _titled(title: str, lines: Sequence[str]) -> dict[str, Any]:
    return {"title": title, "lines": list(lines)}
