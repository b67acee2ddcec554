"""Signs that users are being logged out, as values; nothing here looks for them itself.

Two signs are known. An application server writes that it cannot read a stored session; and far
more sessions are new than before, since whoever is logged out logs in again. Every health check is
answered well meanwhile.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

LOG_ENDS = "log ends"
"""The wait for the look that says where the logs end, right before a stop."""

SIGN = "a sign of logged-out users"
"""The wait after a wave is back: what goes wrong shows only with users' requests."""

NAMED_MAX = 3
"""Lines that are kept and shown; one says what is wrong, the others that it is not alone."""

WINDOW_MIN_MS = 1_000
"""Less time says nothing about how fast sessions come."""


ANEW = "after a person's answer it is measured anew before the next stop"


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast sessions come: of `sampled` stored ones `new` are younger than `window_ms`.

    `gap` says why it could not be told; then the numbers mean nothing.
    """

    sampled: int = 0
    new: int = 0
    window_ms: int = 0
    gap: str = ""

    @property
    def per_minute(self) -> float:
        """Answers the share of the stored sessions that comes new in a minute."""
        if not self.sampled or not self.window_ms:
            return 0.0
        return self.new / self.sampled * 60_000 / self.window_ms

    @property
    def text(self) -> str:
        """Answers the same in words."""
        if self.gap:
            return f"not checked, {self.gap}"
        seconds = self.window_ms / 1000
        return f"{self.new} of {self.sampled} sampled are new within {seconds:.0f} s"


@dataclass(frozen=True, slots=True)
class Logouts:
    """What was seen of users that are logged out, over all lives or since a certain moment.

    Attributes:
        lines: lines that say a stored session could not be read, by backend.
        examples: some of them, without session ids, by backend.
        read: bytes of logs that were read, by backend.
        ends: how far each log was read, by backend and path with a blank between.
        gaps: what was not looked at and why, a sentence each.
        pace: of new sessions, as it was last asked for.
    """

    lines: Mapping[str, int] = field(default_factory=dict)
    examples: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    read: Mapping[str, int] = field(default_factory=dict)
    ends: Mapping[str, str] = field(default_factory=dict)
    gaps: frozenset[str] = frozenset()
    pace: Pace | None = None

    @property
    def count(self) -> int:
        """Answers how many lines there are in all."""
        return sum(self.lines.values())

    def plus(self, other: Logouts) -> Logouts:
        """Answers both together; `other` was seen after this and says how far the logs are."""
        examples = {
            name: tuple(
                dict.fromkeys((*self.examples.get(name, ()), *other.examples.get(name, ())))
            )[:NAMED_MAX]
            for name in {**self.examples, **other.examples}
        }
        return Logouts(
            _sums(self.lines, other.lines),
            examples,
            _sums(self.read, other.read),
            {**self.ends, **other.ends},
            self.gaps | other.gaps,
            other.pace or self.pace,
        )

    def since(self, earlier: Logouts) -> Logouts:
        """Answers what was seen after `earlier`, which is the beginning of this."""
        return Logouts(
            _rest(self.lines, earlier.lines),
            {n: kept for n, kept in self.examples.items() if kept != earlier.examples.get(n)},
            _rest(self.read, earlier.read),
            {key: end for key, end in self.ends.items() if end != earlier.ends.get(key)},
            self.gaps - earlier.gaps,
            self.pace,
        )


@dataclass(frozen=True, slots=True)
class Watching:
    """How the next look is to look for signs.

    Attributes:
        backends: whose logs are read.
        so_far: what the record holds; their logs are read on from its ends.
        fresh: of them, those whose logs are only to be read from where they end now.
        since_ms: sessions made after this count as new; 0 asks how fast they came before.
    """

    backends: frozenset[str]
    so_far: Logouts = field(default_factory=Logouts)
    fresh: frozenset[str] = frozenset()
    since_ms: int = 0

    def covers(self, other: Watching) -> bool:
        """Answers whether a look for this shows everything that a look for `other` would."""
        is_wide = self.backends >= other.backends and self.fresh == other.fresh
        return is_wide and self.since_ms == other.since_ms


def is_surge(before: Pace | None, now: Pace | None, ratio: float, new_min: int) -> bool:
    """Answers whether sessions come so much faster than before that users must be logging in again.

    Both have to be exceeded: by the ratio alone a quiet site would halt for three people, by the
    number alone a busy one for an ordinary minute. Where none was new before, one is assumed.
    """
    if before is None or now is None or before.gap or now.gap or not before.sampled:
        return False
    if now.new < new_min or now.window_ms < WINDOW_MIN_MS:
        return False
    least = Pace(before.sampled, max(before.new, 1), before.window_ms)
    return now.per_minute >= ratio * least.per_minute


def faster(one: Pace | None, other: Pace | None) -> Pace | None:
    """Answers the pace to compare with: the fastest that is known, so that a morning's ordinary
    rise, which each wave sees anew, is not taken for users logging in again.
    """
    known = [pace for pace in (one, other) if pace is not None and not pace.gap and pace.sampled]
    return max(known, key=lambda pace: pace.per_minute) if known else other or one


def signs_text(logouts: Logouts) -> str:
    """Answers which backends wrote how many lines, with at most three of them, or an empty text."""
    left = NAMED_MAX
    texts = []
    for name, count in sorted(logouts.lines.items()):
        if not count:
            continue
        shown = logouts.examples.get(name, ())[:left]
        left -= len(shown)
        said = f": {' / '.join(shown)}" if shown else ""
        noun = "line says" if count == 1 else "lines say"
        texts.append(f"{name} ({count} {noun} that a session cannot be read{said})")
    return ", ".join(texts)


def surge_text(before: Pace, now: Pace) -> str:
    """Answers how much faster sessions come than before."""
    return (
        f"sessions come at {now.per_minute:.1%} of the stored ones a minute, "
        f"before it was {before.per_minute:.1%} ({now.text})"
    )


def _sums(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    return {name: one.get(name, 0) + other.get(name, 0) for name in {**one, **other}}


def _rest(whole: Mapping[str, int], earlier: Mapping[str, int]) -> dict[str, int]:
    rest = {name: count - earlier.get(name, 0) for name, count in whole.items()}
    return {name: count for name, count in rest.items() if count}
