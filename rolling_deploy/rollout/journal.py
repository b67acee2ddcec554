"""The chain that a record's facts are kept in: lines, hashes, and what copies agree on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from rolling_deploy.errors import RecordWrong
from rolling_deploy.rollout.codec import NotReadable, from_plain, to_plain
from rolling_deploy.rollout.facts import FORMAT, Fact, Intended, TakenOver


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the record: a fact, when, and under which epoch and holder it was written."""

    seq: int
    at_ms: int
    epoch: int
    holder: str
    fact: Fact


AT_MAX_MS = 253_402_300_799_000
"""The end of the year 9999: what a calendar can show."""

EPOCH_BELOW = 10**15
"""Remote scripts compare epochs as the shell's numbers, and refuse longer ones."""

GENESIS = "0" * 64
"""What the first line's `prev` is."""

WATCH_LIMITS = {
    "watch_ms": 5_000,
    "logout_lines_max": 0,
    "logout_ratio": 3.0,
    "logout_new_min": 20,
}
"""For policies of formats without them; they count for nothing there, since nothing is watched."""


def encode(entry: Entry, previous: str) -> tuple[bytes, str]:
    """Answers the entry's line (with its line break) and its hash, which the next line carries."""
    plain = {
        "seq": entry.seq,
        "at_ms": entry.at_ms,
        "epoch": entry.epoch,
        "holder": entry.holder,
        "fact": to_plain(entry.fact),
        "prev": previous,
    }
    digest = hashlib.sha256(_canonical(plain)).hexdigest()
    return _canonical({**plain, "hash": digest}) + b"\n", digest


def _canonical(plain: Mapping[str, Any]) -> bytes:
    # ASCII only: a health answer may hold anything, also what UTF-8 cannot carry.
    return json.dumps(plain, sort_keys=True, separators=(",", ":")).encode("ascii")


@dataclass(frozen=True, slots=True)
class Chain:
    """A record as read: its entries, its valid bytes, and what was dropped at the tail.

    `torn` is how many bytes of a half-written last line were dropped.
    """

    entries: tuple[Entry, ...] = ()
    lines: tuple[bytes, ...] = ()
    last_hash: str = GENESIS
    torn: int = 0
    rest: bytes = b""
    """What was dropped."""

    @property
    def size(self) -> int:
        """Answers how many bytes are valid."""
        return sum(len(line) for line in self.lines)

    def is_prefix_of(self, other: Chain) -> bool:
        """Answers whether the other chain goes on from this one."""
        return other.lines[: len(self.lines)] == self.lines

    def shared_with(self, other: Chain) -> int:
        """Answers how many lines both begin with."""
        pairs = zip(self.lines, other.lines, strict=False)
        return next(
            (n for n, (ours, theirs) in enumerate(pairs) if ours != theirs),
            min(len(self.lines), len(other.lines)),
        )


def read_chain(content: bytes, where: str) -> Chain:
    """Answers the chain that a record's bytes hold.

    A half-written last line is dropped and reported; anything else that is wrong is refused and
    never repaired in silence.

    Raises:
        RecordWrong: not a record, changed after it was written, or written by a newer version.
    """
    *whole, tail = content.split(b"\n")
    entries: list[Entry] = []
    previous = GENESIS
    for number, line in enumerate(whole, start=1):
        entry, previous = _read_line(line, previous, number, where)
        entries.append(entry)
    return Chain(tuple(entries), tuple(line + b"\n" for line in whole), previous, len(tail), tail)


def _read_line(line: bytes, previous: str, number: int, where: str) -> tuple[Entry, str]:
    try:
        return _parsed(line, previous, number)
    except RecordWrong as error:
        error.where = f"{where}:{number}"
        raise


# Every copy holds the same lines, and each is read several times in a life.
@lru_cache(maxsize=8192)
def _parsed(line: bytes, previous: str, number: int) -> tuple[Entry, str]:
    try:
        plain = json.loads(line.decode("ascii"))
        claimed = plain.pop("hash")
    except (ValueError, AttributeError, KeyError, TypeError, RecursionError):
        raise RecordWrong("a line of the record cannot be read") from None
    digest = hashlib.sha256(_canonical(plain)).hexdigest()
    if claimed != digest or plain.get("prev") != previous or plain.get("seq") != number:
        raise RecordWrong("the record was changed after it was written")
    _refuse_newer(plain)
    _fill_in(plain)
    try:
        at_ms, epoch = from_plain(int, plain.get("at_ms")), from_plain(int, plain.get("epoch"))
        holder = from_plain(str, plain.get("holder"))
        fact = from_plain(Fact, plain.get("fact"))
    except NotReadable as error:
        raise RecordWrong(f"the record holds a fact this version does not know: {error}") from None
    if not 0 <= at_ms <= AT_MAX_MS:
        raise RecordWrong(f"the record holds a fact of no possible time: {_shown(at_ms)}")
    if not 0 < epoch < EPOCH_BELOW:
        raise RecordWrong(f"the record holds a fact of no possible epoch: {_shown(epoch)}")
    return Entry(number, at_ms, epoch, holder, fact), digest


def _shown(number: int) -> str:
    """Answers a number of any size in a few digits; too large for a float, it is no crash."""
    digits = str(number)
    return digits if len(digits) <= 20 else f"{digits[:20]}... ({len(digits)} characters)"


def _refuse_newer(plain: Mapping[str, Any]) -> None:
    fact = plain.get("fact")
    if isinstance(fact, dict) and fact.get("type") == "Opened":
        written = fact.get("format")
        if not isinstance(written, int) or written > FORMAT:
            raise RecordWrong(
                f"the record was written by rolling-deploy {fact.get('tool', '?')} in format "
                f"{written}; this version reads up to {FORMAT}",
                next_step=f"use rolling-deploy {fact.get('tool', '?')} or newer",
            )


def _fill_in(plain: Mapping[str, Any]) -> None:
    """Give a fact of an earlier format what it did not have: nothing was counted, kept or watched
    then.
    """
    fact = plain.get("fact")
    if not isinstance(fact, dict):
        return
    policy, step, result = fact.get("policy"), fact.get("step"), fact.get("result")
    if isinstance(policy, dict) and fact.get("format") == 1:
        policy.setdefault("counts_losses", False)
        policy.setdefault("max_errors", None)
    if isinstance(policy, dict) and fact.get("format") in {1, 2}:
        policy.setdefault("proves_sessions", False)
    if isinstance(policy, dict) and fact.get("format") in {1, 2, 3}:
        policy.setdefault("watches_logouts", False)
        for name, limit in WATCH_LIMITS.items():
            policy.setdefault(name, limit)
    if isinstance(step, dict) and step.get("type") == "Continuity":
        step.setdefault("goal", "release")
        step.setdefault("other", "")
        step.setdefault("kept", "")
    if isinstance(result, dict):
        result.setdefault("kept", "")


def agree(chains: Mapping[str, Chain]) -> Chain:
    """Answers the chain that all copies agree on: the longest, if every other is its beginning.

    Raises:
        RecordWrong: two valid chains differ (a fork). Never "the longer one".
    """
    longest = Chain()
    for chain in chains.values():
        if len(chain.lines) > len(longest.lines):
            longest = chain
    odd = [name for name, chain in chains.items() if not chain.is_prefix_of(longest)]
    if odd:
        shown = "; ".join(
            f"{name}: {len(chain.entries)} entries, last {chain.last_hash[:12]}"
            for name, chain in sorted(chains.items())
        )
        raise RecordWrong(
            f"the copies of the record differ from {', '.join(sorted(odd))} on: {shown}",
            next_step="compare the copies by hand and remove the wrong one",
        )
    return longest


def settle(chains: Mapping[str, Chain]) -> tuple[Chain, dict[str, bytes]]:
    """Answers the chain that all copies agree on, and what is loose at the end of each copy.

    Loose is half a line, and the end of a life that somebody has taken over from with a higher
    epoch: the fence keeps that life from ever adding to it. If it held an intent, that may have
    come about; what it did is seen by looking, as after any death.

    Raises:
        RecordWrong: two copies differ otherwise (a fork).
    """
    going_on = {
        name: chain
        for name, chain in chains.items()
        if not any(is_superseded(chain, other) for other in chains.values())
    }
    chain = agree(going_on)
    loose = {}
    for name, one in chains.items():
        rest = b"".join(one.lines[one.shared_with(chain) :]) + one.rest
        if rest:
            loose[name] = rest
    return chain, loose


def is_superseded(own: Chain, others: Chain) -> bool:
    """Answers whether `own` ends in facts of a life that was taken over before it gave them away.

    Facts reach a load balancer at the latest with the next intent, before anything is done about
    it; a death leaves those since then on the own disk only. Whoever takes over does not know
    them and goes on with a higher epoch. That is no fork: nothing was ever done about them.

    While no load balancer takes the record, several machines may each take over and write that
    down for themselves, in turn. Then the one whose last take-over is the highest goes on: its
    fence is newer than all the others wrote. An epoch that both have is a fork.
    """
    shared = own.shared_with(others)
    if shared == 0 or shared >= len(others.entries):
        return False
    theirs, ours = others.entries[shared:], own.entries[shared:]
    if not isinstance(theirs[0].fact, TakenOver):
        return False
    last_taken_over = max(entry.epoch for entry in theirs if isinstance(entry.fact, TakenOver))
    epochs = {entry.epoch for entry in ours}
    is_older = all(epoch < last_taken_over for epoch in epochs)
    return is_older and epochs.isdisjoint(entry.epoch for entry in theirs)


def is_left_behind(own: Chain, others: Chain, *, is_everywhere: bool) -> bool:
    """Answers whether a disk's own end may be dropped: superseded, and surely never acted on.

    An intent is acted on once a load balancer holds it, so all of them must have been asked.

    An end without one, that none of them holds, was never acted on even where its take-over is the
    newer one: it was taken for this disk alone, and the others went on without knowing of it.

    Args:
        others: what the load balancers agree on.
        is_everywhere: all of them were asked, and answered.
    """
    shared = own.shared_with(others)
    tail, theirs = own.entries[shared:], others.entries[shared:]
    has_intent = any(isinstance(entry.fact, Intended) for entry in tail)
    if is_superseded(own, others):
        return is_everywhere or not has_intent
    if has_intent or not is_everywhere or not (shared and tail and theirs):
        return False
    is_other_life = {entry.epoch for entry in tail}.isdisjoint(entry.epoch for entry in theirs)
    return is_other_life and any(isinstance(e.fact, TakenOver) for e in (tail[0], theirs[0]))


def entries_after(
    entries: Sequence[Entry], facts: Iterable[Fact], *, at_ms: int, epoch: int, holder: str
) -> tuple[Entry, ...]:
    """Answers the entries that add these facts to the record, numbered on from its end."""
    return tuple(
        Entry(len(entries) + offset, at_ms, epoch, holder, fact)
        for offset, fact in enumerate(facts, start=1)
    )
