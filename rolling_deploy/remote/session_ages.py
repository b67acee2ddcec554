"""How many of the stored sessions are new: a sample of when they were made, and nothing else."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, cast

from rolling_deploy.remote.session_store import open_masters
from rolling_deploy.remote.session_store_link import Link, LinkLost, allowed
from rolling_deploy.rollout.logouts import Pace

if TYPE_CHECKING:
    from rolling_deploy.remote.opener import Opener
    from rolling_deploy.settings import SessionStoreSettings

SCAN_COUNT = 200
"""Keys that the server looks at in one SCAN: well below a millisecond of its one thread."""
SCANS_MAX = 500
TOGETHER = 50
"""Sessions that are asked in one round trip."""
LIMIT_S = 2.0
"""A look of a rollout takes no longer for it; what was sampled by then is what there is."""
HEAD_BYTES = 1_023
"""Of a session that is one value: when it was made stands before its attributes."""
CREATED = b"session:creationTime"
"""The field in Redisson's hash of a session."""
LONG = (
    b"java.lang.Long;\x8b\xe4\x90\xcc\x8f#\xdf\x02\x00\x01J\x00\x05valuexr\x00\x10java.lang.Number"
    b"\x86\xac\x95\x1d\x0b\x94\xe0\x8b\x02\x00\x00xp"
)
"""How a Java stream begins its first `Long`, the eight bytes of which follow."""
LONG_BYTES = 8


def sample_pace(settings: SessionStoreSettings, opener: Opener | None, window_ms: int) -> Pace:
    """Answers how many of up to `sample_max` sessions are younger than the window.

    A session says when it was made where it is a hash of Redisson's, or one value whose Java stream
    begins with `StandardSession`'s own fields (com.orangefunction), both in Java's serialization.
    The clock is the store's; a session that seems to be made later is not new, so clocks that
    differ move both windows and make neither longer.

    Sends only SCAN, TYPE, HGET, GETRANGE and TIME. Never raises: what cannot be told is a gap.
    """
    why_not = _why_not(settings)
    if why_not:
        return Pace(gap=why_not)
    try:
        with open_masters(settings, opener) as (links, _):
            now_ms = _now_ms(next(iter(links.values())))
            made, unknown = _ages(list(links.values()), settings)
    except (LinkLost, ValueError) as error:
        return Pace(gap=f"the session store was not read: {error}")
    if not made:
        told = "no stored session says when it was made" if unknown else "no session is stored"
        return Pace(gap=told)
    new = sum(1 for at_ms in made if now_ms - window_ms < at_ms <= now_ms)
    return Pace(len(made), new, window_ms)


def _why_not(settings: SessionStoreSettings) -> str:
    if not settings.url:
        return "no session store is configured"
    if not settings.session_key:
        return "`session_store.session_key` does not say how sessions are named"
    return "" if settings.sample_max else "`session_store.sample_max` is 0"


def _now_ms(link: Link) -> int:
    said = link.ask(("TIME",))[0]
    if said.is_error or not isinstance(said.value, list):
        raise LinkLost(said.error or "no time")
    seconds, micros = said.value
    return int(seconds) * 1000 + int(micros) // 1000


def _ages(links: list[Link], settings: SessionStoreSettings) -> tuple[list[int], int]:
    """Answers when sampled sessions were made, and how many do not say so.

    Of a cluster each master gives its part.
    """
    until = time.monotonic() + min(LIMIT_S, settings.deadline_ms / 1000)
    share = -(-settings.sample_max // len(links))
    made: list[int] = []
    unknown = 0
    for link in links:
        known: list[int] = []
        odd = 0
        for at_ms in _each_made(link, settings.session_key, until):
            if at_ms is None:
                odd += 1
            else:
                known.append(at_ms)
            if len(known) >= share or odd >= settings.sample_max:
                break
        made += known
        unknown += odd
    return made, unknown


def _each_made(link: Link, session_key: str, until: float) -> Iterator[int | None]:
    """Answers when one session after the other was made, None where it does not say."""
    for keys in _scanned(link, session_key):
        if time.monotonic() > until:  # also where the store holds hardly any sessions
            return
        for first in range(0, len(keys), TOGETHER):
            if time.monotonic() > until:
                return
            yield from _made(link, keys[first : first + TOGETHER])


def _scanned(link: Link, session_key: str) -> Iterator[list[bytes]]:
    escaped = "".join(f"\\{letter}" if letter in "*?[]\\^" else letter for letter in session_key)
    pattern = escaped.replace("{id}", "*")
    cursor = b"0"
    seen: set[bytes] = set()
    for _ in range(SCANS_MAX):
        ask = ("SCAN", cursor.decode("ascii"), "MATCH", pattern, "COUNT", str(SCAN_COUNT))
        said = link.ask(ask)[0]
        if said.is_error:
            raise LinkLost(said.error)
        cursor, keys = cast("tuple[bytes, list[bytes]]", said.value)
        # A key may come twice while the server's table grows.
        new = [key for key in keys if key not in seen]
        seen.update(new)
        yield new
        if cursor == b"0":
            return


def _made(link: Link, keys: list[bytes]) -> list[int | None]:
    if not keys:
        return []
    kinds = allowed(link.ask(*(("TYPE", key) for key in keys)))
    asks: list[tuple[str | bytes, ...]] = []
    for key, kind in zip(keys, kinds, strict=True):
        if kind.value == b"hash":
            asks.append(("HGET", key, CREATED))
        elif kind.value == b"string":
            asks.append(("GETRANGE", key, "0", str(HEAD_BYTES)))
    return [first_long(said.value) for said in allowed(link.ask(*asks))] if asks else []


def first_long(value: object) -> int | None:
    """Answers the first `Long` of a Java stream, None where there is none."""
    if not isinstance(value, bytes) or not value.startswith(b"\xac\xed"):
        return None
    _, head, rest = value.partition(LONG)
    if not head or len(rest) < LONG_BYTES:
        return None
    return int.from_bytes(rest[:LONG_BYTES], "big", signed=True)
