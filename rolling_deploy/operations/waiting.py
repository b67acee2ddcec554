"""Waiting for a rollout that somebody living holds, until it is free or for as long as was asked.

The wait itself happens on the load balancers. Nothing that was read before it is used after it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TypeVar

from rolling_deploy.errors import RolloutHeld
from rolling_deploy.operations.desk import Desk
from rolling_deploy.parallel import at_once
from rolling_deploy.remote.connection import CannotReach, Connection
from rolling_deploy.remote.record_copies import Copy, Place, held_by, watch_lock
from rolling_deploy.report.wording import duration
from rolling_deploy.rollout.observed import Fence

SLICE_S = 15
"""One round trip for each load balancer this often at the most, while nothing changes."""

APART_MS = 2_000
"""Between two tries at the least, when no load balancer can be waited on."""

T = TypeVar("T")


def patiently(desk: Desk, act: Callable[[], T]) -> T:
    """Do it; as long as somebody living is in the way, wait and do it from its beginning again.

    Whatever else stands in the way (an unfinished rollout of another release, a halt, having been
    taken over from) ends it at once, as without waiting.

    Raises:
        RolloutHeld: it was still held at the limit, or waiting does not help.
    """
    clock = desk.footing.clock
    until_ms = clock.now_ms() + desk.wait_ms
    teller = _Teller(desk)
    while True:
        try:
            return act()
        except RolloutHeld as held:
            left_ms = until_ms - clock.now_ms()
            if not held.is_passing or left_ms <= 0:
                raise
            teller.tell(held.what, f"waiting, at most {duration(left_ms)}: {held.what}")
        _wait_until_free(desk, until_ms, teller)


class _Teller:
    """Tells a thing once, and again when it is another."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._told = ""

    def tell(self, what: str, text: str = "") -> None:
        """Say it unless it is what was said last; `text` where more is to be said of it."""
        if what != self._told:
            self._told = what
            self._desk.say(text or f"still waiting: {what}")


def _wait_until_free(desk: Desk, until_ms: int, teller: _Teller) -> None:
    """Return when no load balancer that is reached has a living holder, or at the limit."""
    apart_ms = desk.footing.clock.now_ms() + APART_MS
    connections = _connect(desk)
    try:
        places = {
            name: Place(connections[settings.host], settings.state_dir)
            for name, settings in desk.inventory.load_balancers.items()
            if name not in desk.off and settings.host in connections
        }
        # Nothing is known at first, so the first answers come at once.
        known = dict.fromkeys(places, Copy(Fence(0, "-")))
        while known:
            seen = _watch(desk, {name: places[name] for name in known}, known, until_ms)
            known = {name: copy for name, copy in seen.items() if copy is not None and copy.is_held}
            for copy in tuple(known.values())[:1]:
                teller.tell(_held_text(copy))
            if desk.footing.clock.now_ms() >= until_ms:
                return
        _pause(desk, min(apart_ms, until_ms))
    finally:
        for connection in connections.values():
            connection.close()


def _held_text(copy: Copy) -> str:
    return held_by("", copy.holder, copy.step).what


def _connect(desk: Desk) -> dict[str, Connection]:
    """One connection to each load balancer that counts; those that cannot be reached are left out.

    Those of the operation itself are closed: after an hour they may have ended unnoticed.
    """
    inventory = desk.inventory
    hosts = {s.host for name, s in inventory.load_balancers.items() if name not in desk.off}
    opened = desk.footing.opener([inventory.hosts[host] for host in sorted(hosts)])
    return {h: one for h, one in opened.items() if not isinstance(one, CannotReach)}


def _watch(
    desk: Desk, places: Mapping[str, Place], known: Mapping[str, Copy], until_ms: int
) -> dict[str, Copy | None]:
    """Answers the lock on each load balancer as soon as it has changed there, or after a slice."""
    left_s = (until_ms - desk.footing.clock.now_ms()) // 1000
    limit_s = max(0, min(SLICE_S, left_s))
    calls = {
        name: partial(watch_lock, place, known[name], limit_s) for name, place in places.items()
    }
    return {name: copy for name, (copy, _) in at_once(calls).items()}


def _pause(desk: Desk, until_ms: int) -> None:
    """Nothing can be waited on here; a signal ends it."""
    left_ms = until_ms - desk.footing.clock.now_ms()
    if left_ms > 0:
        desk.footing.pause(left_ms)
