"""The plan as a person and a program read it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rolling_deploy.report.columns import columns, counted
from rolling_deploy.report.plain import printable
from rolling_deploy.report.wording import duration, step_text
from rolling_deploy.rollout.codec import to_plain
from rolling_deploy.rollout.facts import Claimed
from rolling_deploy.rollout.move import Act, Finish, Halt, Move, Note, Wait
from rolling_deploy.rollout.observed import Check, Verdict
from rolling_deploy.rollout.step import Activate, Apply, Goal, machine_of


@dataclass(frozen=True, slots=True)
class BackendRow:
    """One backend in the plan: where it lives, what it runs, what becomes of it."""

    name: str
    machine: str
    zone: str
    now: str
    becomes: str


@dataclass(frozen=True, slots=True)
class PlanView:
    """Everything `plan` shows.

    Attributes:
        moves: what the engine would do, in order, each step with its effect.
        diffs: per rendered file, a title and the lines of its unified diff.
        reloads: how many reloads each load balancer would get.
        expected_ms: of our own work and the waits we know; None without anything to do.
        expected_from: where that figure comes from, in words.
        lossy: what cannot be lossless here, and why.
        gaps: what will be reported as not checked.
        notes: side effects of looking, and the like.
    """

    application: str
    release: str
    inventory: str
    checks: tuple[Check, ...]
    backends: tuple[BackendRow, ...]
    moves: tuple[Move, ...] = ()
    diffs: tuple[tuple[str, tuple[str, ...]], ...] = ()
    reloads: Mapping[str, int] = field(default_factory=dict)
    expected_ms: int | None = None
    expected_from: str = ""
    lossy: tuple[str, ...] = ()
    gaps: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def refused(self) -> tuple[Check, ...]:
        """Answers the checks that keep a run from starting."""
        return tuple(check for check in self.checks if check.verdict is Verdict.REFUSED)

    @property
    def has_changes(self) -> bool:
        """Answers whether there is anything to do."""
        return any(isinstance(move, Act) for move in self.moves)


def plan_lines(plan: PlanView) -> list[str]:
    """Answers the plan as lines."""
    lines = [f"plan: {plan.application} {plan.release} ({plan.inventory})", "", "backends"]
    rows = [(b.name, b.machine, b.zone, b.now, f"-> {b.becomes}") for b in plan.backends]
    lines += columns([[printable(cell) for cell in row] for row in rows])
    lines += ["", "checks", *check_lines(plan.checks)]
    if plan.has_changes:
        lines += ["", "steps", *step_lines(plan.moves, plan.release)]
        counts = ", ".join(f"{name}: {count}" for name, count in sorted(plan.reloads.items()))
        lines += ["", f"reloads  {counts}"]
        known = f"{duration(plan.expected_ms)}, " if plan.expected_ms is not None else ""
        lines.append(f"expected time  {known}{plan.expected_from}")
    for title, diff in plan.diffs:
        lines += ["", title, *(f"  {line}" for line in diff)]
    for title, texts in (
        ("cannot be lossless here", plan.lossy),
        ("will be reported as not checked", plan.gaps),
        ("notes", plan.notes),
    ):
        if texts:
            lines += ["", title, *(f"  {printable(text)}" for text in texts)]
    lines += ["", _verdict(plan)]
    # Also what no cell was looked at for: a difference holds the bytes of somebody's file.
    return [printable(line) for line in lines]


def _verdict(plan: PlanView) -> str:
    if plan.refused:
        what = counted(len(plan.refused), "check stands in the way", "checks stand in the way")
        return f"refused: {what}; nothing was touched"
    if not plan.has_changes:
        return f"nothing to do for {plan.release}, see the backends"
    return "ready: nothing was touched yet"


def check_lines(checks: Sequence[Check]) -> list[str]:
    """Answers one line a check, worst first within each subject's place."""
    rows = [[c.verdict.value, c.subject, c.name, printable(c.detail)] for c in checks]
    return columns(rows)


def step_lines(moves: Sequence[Move], release: str) -> list[str]:
    """Answers the steps in order, numbered, those of one move under one number."""
    lines: list[str] = []
    number = 0
    for move in moves:
        match move:
            case Note():
                lines += [
                    f"  wave {fact.claim}: {', '.join(fact.backends)}"
                    for fact in move.facts
                    if isinstance(fact, Claimed)
                ]
            case Act():
                number += 1
                texts: dict[str, list[str]] = {}
                for step in move.steps:
                    texts.setdefault(step_text(step, release), []).append(machine_of(step))
                lines += [f"  {number:3}. {', '.join(on)}: {text}" for text, on in texts.items()]
                lines += _awaited(move, release)
            case Halt():
                lines.append(f"       halt: {printable(move.halted.reason)}")
            case Finish() | Wait():
                continue
    return lines


def _awaited(act: Act, release: str) -> list[str]:
    """What the engine waits for after these steps; in a forecast it has come about at once."""
    lines = []
    if any(isinstance(step, Apply) and step.out for step in act.steps):
        lines.append("       wait until no earlier nginx worker is left")
    for goal in Goal:
        names = [s.backend for s in act.steps if isinstance(s, Activate) and s.goal is goal]
        if names:
            what = release if goal is Goal.RELEASE else "what ran before"
            lines.append(f"       wait until healthy and serving {what}: {', '.join(names)}")
    return lines


def plan_object(plan: PlanView) -> dict[str, Any]:
    """Answers the plan as one JSON object."""
    steps = [
        [to_plain(step) for step in move.steps] for move in plan.moves if isinstance(move, Act)
    ]
    checks = [
        {"subject": c.subject, "name": c.name, "verdict": c.verdict.value, "detail": c.detail}
        for c in plan.checks
    ]
    return {
        "application": plan.application,
        "release": plan.release,
        "inventory": plan.inventory,
        "has_changes": plan.has_changes,
        "is_refused": bool(plan.refused),
        "checks": checks,
        "backends": [
            {
                "name": b.name,
                "machine": b.machine,
                "zone": b.zone,
                "now": b.now,
                "becomes": b.becomes,
            }
            for b in plan.backends
        ],
        "steps": steps,
        "reloads": dict(plan.reloads),
        "expected_ms": plan.expected_ms,
        "diffs": [{"title": title, "lines": list(lines)} for title, lines in plan.diffs],
        "cannot_be_lossless": list(plan.lossy),
        "not_checked": list(plan.gaps),
        "notes": list(plan.notes),
    }
