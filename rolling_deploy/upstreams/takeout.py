"""What taking backends out does to the lines of an upstream."""

from __future__ import annotations

from dataclasses import replace

from rolling_deploy.errors import PreflightRefused
from rolling_deploy.upstreams.layout import (
    Layout,
    ServerLine,
    UpstreamLayout,
    mark_alone,
    mark_out,
)


class NothingLive(PreflightRefused):
    """An upstream would be left with no server at all. nginx itself accepts that."""


def take_out(layout: Layout, out: frozenset[str], label: str = "") -> Layout:
    """Answers the layout with every line of these backends `down`, each in its place.

    Lines are never removed: with `ip_hash` or `hash` that would move most users to other
    backends. An upstream that loses nothing stays exactly as it is.

    Args:
        label: the load balancer's name, for messages.

    Raises:
        NothingLive: an upstream with backends of ours would have no live line.
    """
    upstreams = tuple(_taken_out(upstream, out, label) for upstream in layout.upstreams)
    return replace(layout, upstreams=upstreams)


def _taken_out(upstream: UpstreamLayout, out: frozenset[str], label: str) -> UpstreamLayout:
    before = upstream.servers
    lines = tuple(mark_out(line) if line.backend in out else line for line in before)
    ours = any(line.backend for line in lines)
    if (ours or not lines) and all(line.is_down for line in lines):
        raise _nothing_live(upstream, out, label)
    if lines != before:
        lines = _with_lone_survivor(lines)
    return upstream.with_servers(lines)


def _with_lone_survivor(lines: tuple[ServerLine, ...]) -> tuple[ServerLine, ...]:
    """Answers the lines, with `max_fails=0` on the one that is left alone.

    nginx spreads requests over the lines without `backup` and asks the backups only when none of
    those can be had. So the one ordinary line that is left must never be given up for ten seconds
    over one failure, backups or not (a request it fails still goes on to a backup); and where
    only backups are left, the same holds for a single one.
    """
    ordinary = [line for line in lines if not line.is_down and not line.is_backup]
    backups = [line for line in lines if not line.is_down and line.is_backup]
    alone = ordinary or backups
    if len(alone) != 1 or len(lines) == 1:
        return lines
    return tuple(mark_alone(line) if line is alone[0] else line for line in lines)


def _nothing_live(upstream: UpstreamLayout, out: frozenset[str], label: str) -> NothingLive:
    names = ", ".join(sorted({s.backend for s in upstream.servers} & out))
    cause = f"with {names} taken out" if names else "as it stands"
    return NothingLive(
        f"the upstream `{upstream.name}` would have no live server {cause}",
        where=label,
        next_step="put back a parked backend, or take fewer out at a time",
    )
