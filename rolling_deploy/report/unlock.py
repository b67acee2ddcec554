"""What `unlock` shows: who held the lock, and what their run left undone."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from rolling_deploy.report.columns import columns
from rolling_deploy.report.plain import printable


@dataclass(frozen=True, slots=True)
class UnlockView:
    """Everything `unlock` shows.

    Attributes:
        heart: when it beat last, on each load balancer.
        is_alive: it beat while we looked.
        rollout: empty when the run died before it opened one.
        step: the last one that was begun.
        in_doubt: steps without an outcome.
        out: backends that are out of rotation by the rollout.
        backends: where each one stands.
        is_unlocked: False until it is.
    """

    holder: str
    heart: str
    is_alive: bool
    rollout: str
    state: str
    step: str
    in_doubt: tuple[str, ...]
    out: tuple[str, ...]
    backends: tuple[tuple[str, str], ...]
    next_step: str
    is_unlocked: bool = False


def unlock_lines(view: UnlockView) -> list[str]:
    """Answers as lines what is known before anything is asked."""
    alive = "ALIVE, " if view.is_alive else ""
    lines = [view.holder, f"  {alive}{view.heart}", f"  {view.state}"]
    if view.rollout:
        lines.append(f"  last step begun: {view.step or 'not known'}")
        lines.append(f"  in doubt: {'; '.join(view.in_doubt) or 'nothing'}")
        lines.append(f"  out of rotation: {', '.join(view.out) or 'nothing'}")
        lines += columns([["  " + name, state] for name, state in view.backends])
        lines.append(f"  next: {view.next_step}")
    return [printable(line) for line in lines]


def unlock_object(view: UnlockView) -> dict[str, Any]:
    """Answers the same as one JSON object."""
    return {**asdict(view), "backends": dict(view.backends)}
