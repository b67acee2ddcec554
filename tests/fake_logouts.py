"""The fake backends' own logs, read on from where one was, as the real look does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rolling_deploy.rollout.logouts import Logouts, Watching
from rolling_deploy.rollout.step import Goal

if TYPE_CHECKING:
    from tests.world import World


def look_for_signs(world: World, watching: Watching, before: Logouts | None) -> Logouts:
    """Answers what was seen over all lives.

    A backend that serves a release which logs users out writes so while it has traffic.

    Args:
        before: what this life's last look answered; None at its first.
    """
    seen = before or watching.so_far
    for name in sorted(watching.backends):
        log = [*world.app_logs.get(name, []), *_complaints(world, name)]
        key = f"{name} /log"
        if name in watching.fresh or key not in seen.ends:
            seen = seen.plus(Logouts(ends={key: str(len(log))}))
            continue
        new = log[int(seen.ends[key]) :]
        signs = [line for line in new if line.startswith("!")]
        lines = {name: len(signs)} if signs else {}
        examples = {name: tuple(signs[:3])} if signs else {}
        read = {name: sum(len(line) for line in new)}
        seen = seen.plus(Logouts(lines, examples, read, {key: str(len(log))}))
    if world.paces:
        pace = world.paces.pop(0) if len(world.paces) > 1 else world.paces[0]
        seen = seen.plus(Logouts(pace=pace))
    return seen


def _complaints(world: World, name: str) -> list[str]:
    """One for each load balancer that sends users to a release that cannot read their sessions."""
    fake = world.backends[name]
    activations = sum(world.audit.stops[(name, goal)] for goal in Goal)
    senders = [lb for lb in world.balancers.values() if name in lb.current.up]
    if fake.version is None or fake.version not in fake.forgets_on or not activations:
        return []
    return [f"! no session is read on {fake.version}"] * len(senders)
