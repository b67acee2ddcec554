"""What `status` shows: what is live, what is on disk, who is out and by whom."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from rolling_deploy.report.columns import columns
from rolling_deploy.report.plain import printable


@dataclass(frozen=True, slots=True)
class BalancerRow:
    """One load balancer: what is live and what is on disk."""

    name: str
    live: str
    disk: str
    workers: str
    problem: str = ""


@dataclass(frozen=True, slots=True)
class BackendStatus:
    """One backend: in or out and by whom, what it serves, how it is."""

    name: str
    rotation: str
    version: str
    health: str
    problem: str = ""


@dataclass(frozen=True, slots=True)
class RolloutRow:
    """The rollout under way, from the load balancers' copies of the record."""

    rollout: str
    release: str
    state: str
    holder: str
    step: str
    next_step: str
    losses: tuple[str, ...] = ()
    """What was counted up to the last claim or end that the record holds."""


@dataclass(frozen=True, slots=True)
class StatusView:
    """Everything `status` shows. `problems` says in words why it is degraded, if it is."""

    application: str
    load_balancers: tuple[BalancerRow, ...]
    backends: tuple[BackendStatus, ...]
    session_store: str
    rollout: RolloutRow | None
    problems: tuple[str, ...]
    """Why the state is degraded or drifted; empty when all is well."""


def status_lines(status: StatusView) -> list[str]:
    """Answers the status as lines."""
    lines = [status.application, "", "load balancers"]
    for b in status.load_balancers:
        row = [b.name, f"live {b.live}", f"on disk {b.disk}", b.workers, b.problem]
        lines += columns([[printable(cell) for cell in row]])
    lines += ["", "backends"]
    backends = [[b.name, b.rotation, b.version, b.health, b.problem] for b in status.backends]
    lines += columns([[printable(cell) for cell in row] for row in backends])
    lines += ["", f"session store  {printable(status.session_store)}"]
    if status.rollout is None:
        lines += ["", "no rollout under way"]
    else:
        lines += ["", *_rollout_lines(status.rollout)]
    lines += ["", *(f"problem: {printable(text)}" for text in status.problems)]
    if not status.problems:
        lines.append("all is well")
    return [printable(line) for line in lines]


def _rollout_lines(rollout: RolloutRow) -> list[str]:
    lines = [f"rollout {rollout.rollout} to {rollout.release}: {printable(rollout.state)}"]
    if rollout.holder:
        lines.append(f"  {printable(rollout.holder)}")
    if rollout.step:
        lines.append(f"  last step begun: {printable(rollout.step)}")
    lines += [f"  {printable(text)}" for text in rollout.losses]
    if rollout.next_step:
        lines.append(f"  next: `{rollout.next_step}`")
    return lines


def status_object(status: StatusView) -> dict[str, Any]:
    """Answers the status as one JSON object."""
    return {**asdict(status), "is_degraded": bool(status.problems)}
