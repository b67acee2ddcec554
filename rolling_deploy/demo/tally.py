"""What a load has seen: every request counted exactly once, every session followed."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rolling_deploy.demo.load_http import Ending, Exchange

BUCKET_MS = 500
EXAMPLES_MAX = 10
NOT_FAILED = frozenset({Ending.OK, Ending.REUSED_CLOSED, Ending.UNFINISHED})


@dataclass(frozen=True, slots=True)
class Bucket:
    """What ended within BUCKET_MS.

    Attributes:
        at_ms: wall clock, milliseconds since the epoch, of its beginning.
        slowest_ms: of the quick requests.
        versions: answers by the version that gave them.
    """

    at_ms: int
    requests: int
    failed: int
    reused_closed: int
    slowest_ms: float
    versions: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Summary:
    """What a load has seen so far, or in all.

    Attributes:
        endings: requests by how they ended; together they are all requests.
        kinds: requests by what they were (`cart`, `slow`, `upload`).
        retried: answers for which nginx had to ask a second backend.
        sessions_lost: sessions that were no longer their user's, or gone.
        writes_lost: times a counter was lower than what had been acknowledged.
        writes_repeated: times a counter was higher than what had been sent.
        p50_ms, p99_ms, max_ms: of the quick requests; the slow ones are slow on purpose.
        examples: the first failures, a line each.
    """

    began_ms: int
    took_s: float
    endings: Mapping[Ending, int]
    kinds: Mapping[str, int]
    retried: int
    sessions_followed: int
    sessions_lost: int
    writes_lost: int
    writes_repeated: int
    p50_ms: float
    p99_ms: float
    max_ms: float
    backends: Mapping[str, int]
    versions: Mapping[str, int]
    timeline: tuple[Bucket, ...]
    examples: tuple[str, ...]

    @property
    def requests(self) -> int:
        """Answers how many requests were sent."""
        return sum(self.endings.values())

    @property
    def ok(self) -> int:
        """Answers how many were answered as they should be."""
        return self.endings.get(Ending.OK, 0)

    @property
    def failed(self) -> int:
        """Answers how many failed for a reason that is the site's.

        Without those on a kept connection that an nginx reload had just closed, which are
        `reused_closed`, and those that stopping the load cut off.
        """
        return sum(count for ending, count in self.endings.items() if ending not in NOT_FAILED)

    @property
    def reused_closed(self) -> int:
        """Answers how many met a kept connection in the moment it was closed."""
        return self.endings.get(Ending.REUSED_CLOSED, 0)

    @property
    def is_clean(self) -> bool:
        """Answers whether nobody noticed anything."""
        losses = self.sessions_lost + self.writes_lost + self.writes_repeated
        return self.failed + self.reused_closed + losses == 0

    def lines(self) -> tuple[str, ...]:
        """Answers the summary for people."""
        failures = ", ".join(
            f"{count} {ending.value}"
            for ending, count in self.endings.items()
            if ending is not Ending.OK and count
        )
        said = sorted(self.versions.items())
        versions = ", ".join(f"{count:,} by {name}" for name, count in said)
        requests = f"{self.requests:,} seen, {self.failed} failed, {self.retried} retried by nginx"
        sessions = f"{self.sessions_followed} followed, {self.sessions_lost} lost"
        writes = f"{self.writes_lost} lost, {self.writes_repeated} repeated"
        latency = f"p50 {self.p50_ms:.1f} ms, p99 {self.p99_ms:.1f} ms, max {self.max_ms:.1f} ms"
        race = f"{self.reused_closed} requests met a kept connection that a reload just closed"
        return (
            f"requests  {requests}{f' ({failures})' if failures else ''}",
            *([f"          {race}"] if self.reused_closed else []),
            f"sessions  {sessions}; writes {writes}",
            f"latency   {latency}, in {self.took_s:.1f} s",
            f"answers   {versions or 'none'}",
            *(f"          {example}" for example in self.examples),
        )

    def to_json(self) -> dict[str, Any]:
        """Answers the summary as plain values."""
        plain = {
            name: getattr(self, name)
            for name in self.__slots__
            if name not in {"endings", "timeline"}
        }
        plain |= {
            "requests": self.requests,
            "failed": self.failed,
            "reused_closed": self.reused_closed,
            "endings": {ending.value: count for ending, count in self.endings.items()},
            "timeline": [
                {
                    "at_ms": bucket.at_ms,
                    "requests": bucket.requests,
                    "failed": bucket.failed,
                    "reused_closed": bucket.reused_closed,
                    "slowest_ms": bucket.slowest_ms,
                    "versions": dict(bucket.versions),
                }
                for bucket in self.timeline
            ],
        }
        return plain


@dataclass(slots=True)
class _Open:
    """A bucket that is still filled."""

    requests: int = 0
    failed: int = 0
    reused_closed: int = 0
    slowest_ms: float = 0.0
    versions: Counter[str] = field(default_factory=Counter)


class Tally:
    """Counts. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._began_s = _now_s()
        self._endings: Counter[Ending] = Counter()
        self._kinds: Counter[str] = Counter()
        self._sessions: Counter[str] = Counter()
        self._backends: Counter[str] = Counter()
        self._versions: Counter[str] = Counter()
        self._retried = 0
        self._quick_ms: list[float] = []
        self._buckets: dict[int, _Open] = {}
        self._examples: list[str] = []
        self._ended_s = 0.0

    def request(self, kind: str, what: str, exchange: Exchange, took_ms: float) -> None:
        """Count one request that has ended.

        Args:
            kind: `cart` is quick; what others take is not in the latencies.
            what: the request in a few words, for the examples of failures.
        """
        now_s = _now_s()
        with self._lock:
            self._endings[exchange.ending] += 1
            self._kinds[kind] += 1
            bucket = self._buckets.setdefault(int(now_s * 1000) // BUCKET_MS, _Open())
            bucket.requests += 1
            if kind == "cart" and exchange.answer is not None:
                self._quick_ms.append(took_ms)
                bucket.slowest_ms = max(bucket.slowest_ms, took_ms)
            self._count_answer(exchange, bucket)
            if exchange.ending is Ending.REUSED_CLOSED:
                bucket.reused_closed += 1
            elif exchange.ending not in NOT_FAILED:
                bucket.failed += 1
                self._example(now_s, f"{what}: {exchange.ending.value}{_detail(exchange)}")

    def _count_answer(self, exchange: Exchange, bucket: _Open) -> None:
        if exchange.answer is None:
            return
        headers = exchange.answer.headers
        if "," in headers.get("x-upstream", ""):
            self._retried += 1
        if "x-version" in headers:
            self._versions[headers["x-version"]] += 1
            bucket.versions[headers["x-version"]] += 1
        if "x-backend" in headers:
            self._backends[headers["x-backend"]] += 1

    def session(self, what: str, detail: str = "") -> None:
        """Count something about a session: `followed`, or with a detail `lost` and the like."""
        with self._lock:
            self._sessions[what] += 1
            if detail:
                self._example(_now_s(), detail)

    def end(self) -> None:
        """The load is over; what is asked later does not get longer."""
        with self._lock:
            self._ended_s = self._ended_s or _now_s()

    def _example(self, now_s: float, text: str) -> None:
        if len(self._examples) < EXAMPLES_MAX:
            self._examples.append(f"at {now_s - self._began_s:.2f} s: {text}")

    def summary(self) -> Summary:
        """Answers what was counted so far."""
        with self._lock:
            quick = sorted(self._quick_ms)
            return Summary(
                began_ms=int(self._began_s * 1000),
                took_s=(self._ended_s or _now_s()) - self._began_s,
                endings=dict(self._endings),
                kinds=dict(self._kinds),
                retried=self._retried,
                sessions_followed=self._sessions["followed"],
                sessions_lost=self._sessions["lost"],
                writes_lost=self._sessions["write lost"],
                writes_repeated=self._sessions["write repeated"],
                p50_ms=_share(quick, 0.5),
                p99_ms=_share(quick, 0.99),
                max_ms=quick[-1] if quick else 0.0,
                backends=dict(self._backends),
                versions=dict(self._versions),
                timeline=tuple(self._timeline()),
                examples=tuple(self._examples),
            )

    def _timeline(self) -> list[Bucket]:
        return [
            Bucket(
                at_ms=number * BUCKET_MS,
                requests=bucket.requests,
                failed=bucket.failed,
                reused_closed=bucket.reused_closed,
                slowest_ms=bucket.slowest_ms,
                versions=dict(bucket.versions),
            )
            for number, bucket in sorted(self._buckets.items())
        ]


def _now_s() -> float:
    """Answers the wall clock, so that the timeline can be laid beside a rollout's record."""
    return time.time()  # noqa: TID251 # the load is a person's stopwatch, not the engine


def _detail(exchange: Exchange) -> str:
    """Answers status and upstream of an answer, for an example."""
    if exchange.answer is None:
        return ""
    upstream = exchange.answer.headers.get("x-upstream", "")
    return f", {exchange.answer.status}" + (f" from {upstream}" if upstream else "")


def _share(ordered: list[float], share: float) -> float:
    """Answers the value below which this share of the values lies."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0
