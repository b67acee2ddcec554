"""A sample of the sessions that live now, read and nothing else, without holding the store up."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from rolling_deploy.remote.session_store import open_masters
from rolling_deploy.remote.session_store_link import Link, LinkLost, Said, allowed

if TYPE_CHECKING:
    from rolling_deploy.remote.opener import Opener
    from rolling_deploy.settings import SessionStoreSettings

SCAN_COUNT = 200
"""Keys that the server looks at in one SCAN: well below a millisecond of its one thread."""
SCANS_MAX = 2_000
VALUE_MAX_BYTES = 1_000_000
FIELDS_MAX = 1_000
TOGETHER = 20
"""Sessions that are read in one round trip."""
PINGS = 5
FIELDS_WEIGHED = 100
OVER = "the time for the check was over"


@dataclass(frozen=True, slots=True)
class Sampled:
    """What was read.

    Attributes:
        sessions: the values of each session, by its key.
        skipped: sessions that were left out as too large, or of a type that holds none.
        latency_before_us, latency_during_us: the slowest of a few PINGs before, and between the
            reads; the sample's own effect on the store.
        gap: why the sample ended early; empty when it did not.
    """

    sessions: dict[bytes, tuple[bytes, ...]]
    skipped: int
    latency_before_us: int
    latency_during_us: int
    took_ms: int
    gap: str = ""


def sample_sessions(settings: SessionStoreSettings, opener: Opener | None) -> Sampled:
    """Read up to `sample_max` sessions, as SCAN comes across them: an arbitrary part of them all.

    Only SCAN, TYPE, STRLEN, HLEN, MEMORY USAGE, GET, HVALS and PING are sent, none of which changes
    a session, its time to live or its place in an LRU order for long. Ends at `deadline_ms`.

    Raises:
        LinkLost: the store cannot be reached or does not let us in.
        ValueError: the settings cannot be right.
    """
    begun = time.monotonic()
    until = begun + settings.deadline_ms / 1000
    with open_masters(settings, opener) as (links, missing):
        parts = [(server, _Sampling(link, until)) for server, link in links.items()]
        before_us = max(part.ping() for _, part in parts for _ in range(PINGS))
        found = 0
        for done, (server, part) in enumerate(parts):
            # Of a cluster each master gives its part; who has fewer leaves more to the others.
            share = -(-(settings.sample_max - found) // (len(parts) - done))
            try:
                part.run(_pattern(settings.session_key), share)
            except LinkLost as error:
                part.gap = str(error)
            found += len(part.sessions)
            part.gap = f"{server}: {part.gap}" if part.gap and len(parts) > 1 else part.gap
    gaps = [f"not sampled: {missing}"] if missing else []
    return Sampled(
        {key: values for _, part in parts for key, values in part.sessions.items()},
        sum(part.skipped for _, part in parts),
        before_us,
        max(part.latency_during_us for _, part in parts),
        round((time.monotonic() - begun) * 1000),
        "; ".join([*gaps, *(part.gap for _, part in parts if part.gap)]),
    )


class _Sampling:
    """One sample as it goes on, at one server."""

    def __init__(self, link: Link, until: float) -> None:
        self.sessions: dict[bytes, tuple[bytes, ...]] = {}
        self.skipped = 0
        self.latency_during_us = 0
        self.gap = ""
        self._link = link
        self._until = until

    def ping(self) -> int:
        """Answers how long one PING takes, in microseconds."""
        return _ping_us(self._link)

    def run(self, pattern: str, count: int) -> None:
        """Read until there are enough, none are left, or the time is over."""
        for keys in self._scanned(pattern):
            for first in range(0, len(keys), TOGETHER):
                missing = count - len(self.sessions)
                if missing <= 0:
                    return
                self._read(keys[first : first + min(TOGETHER, missing)])
                self.latency_during_us = max(self.latency_during_us, _ping_us(self._link))
                if time.monotonic() > self._until:
                    self.gap = OVER
                    return

    def _scanned(self, pattern: str) -> Iterator[list[bytes]]:
        cursor = b"0"
        for _ in range(SCANS_MAX):
            if time.monotonic() > self._until:
                self.gap = OVER
                return
            ask = ("SCAN", cursor.decode("ascii"), "MATCH", pattern, "COUNT", str(SCAN_COUNT))
            said = self._link.ask(ask)[0]
            if said.is_error:
                raise LinkLost(said.error)
            cursor, keys = cast("tuple[bytes, list[bytes]]", said.value)
            # A key may come twice while the server's table grows.
            yield [key for key in keys if key not in self.sessions]
            if cursor == b"0":
                return
        self.gap = f"after {SCANS_MAX * SCAN_COUNT:,} keys"

    def _read(self, keys: list[bytes]) -> None:
        kinds = allowed(self._link.ask(*(("TYPE", key) for key in keys)))
        hashes = [key for key, kind in zip(keys, kinds, strict=True) if kind.value == b"hash"]
        lengths = (("HLEN" if key in hashes else "STRLEN", key) for key in keys)
        weights = (("MEMORY", "USAGE", key, "SAMPLES", str(FIELDS_WEIGHED)) for key in hashes)
        said = self._link.ask(*lengths, *weights)
        sizes = allowed(said[: len(keys)])
        # Not every server lets us ask this; then the number of fields alone is a limit.
        weighed = zip(hashes, said[len(keys) :], strict=True)
        heavy = {key for key, one in weighed if _number(one) > VALUE_MAX_BYTES}
        wanted = [
            (key, kind.value == b"hash")
            for key, kind, size in zip(keys, kinds, sizes, strict=True)
            if _is_readable(kind, size) and key not in heavy
        ]
        self.skipped += len(keys) - len(wanted)
        if not wanted:
            return
        asks = [("HVALS" if is_hash else "GET", key) for key, is_hash in wanted]
        for (key, _), one in zip(wanted, allowed(self._link.ask(*asks)), strict=True):
            values = one.value if isinstance(one.value, list) else [one.value]
            self.sessions[key] = tuple(value for value in values if isinstance(value, bytes))


def _number(said: Said) -> int:
    return said.value if isinstance(said.value, int) else 0


def _is_readable(kind: Said, size: Said) -> bool:
    if kind.value == b"hash":
        return isinstance(size.value, int) and size.value <= FIELDS_MAX
    is_small = isinstance(size.value, int) and size.value <= VALUE_MAX_BYTES
    return kind.value == b"string" and is_small


def _pattern(session_key: str) -> str:
    """Answers the key as SCAN's pattern; what is special there is meant as it stands."""
    escaped = "".join(f"\\{letter}" if letter in "*?[]\\^" else letter for letter in session_key)
    return escaped.replace("{id}", "*")


def _ping_us(link: Link) -> int:
    begun = time.perf_counter()
    link.ask(("PING",))
    return round((time.perf_counter() - begun) * 1_000_000)
