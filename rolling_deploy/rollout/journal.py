"""The record of a rollout: its kinds of facts, the chain they are kept in, and how they fold.

The record holds only what cannot be seen later: what was opened, claimed, intended, how it came
out, what a person decided. What can be seen is looked at. Facts are written before anything is
done about them, so after a death at any instant at most one intent per machine has no outcome.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from rolling_deploy.errors import RecordWrong
from rolling_deploy.rollout.codec import NotReadable, from_plain, to_plain
from rolling_deploy.rollout.fleet import Policy
from rolling_deploy.rollout.step import Goal, Result, Step

FORMAT = 1
"""Raised when an older version of the tool could misread the record. A newer one is refused."""


class Purpose(StrEnum):
    """What a record is about. All purposes go through the same loop."""

    DEPLOY = "deploy"
    ADOPT = "adopt"
    UNADOPT = "unadopt"


class Direction(StrEnum):
    """Where the rollout is heading. `abort` changes it; there is no compensation code."""

    FORWARD = "forward"
    BACK = "back"
    """Every changed backend to the release it ran before."""
    STOP = "stop"
    """Claim nothing more; finish or put back what is claimed."""


class Cause(StrEnum):
    """Why a rollout halted or a backend was given up; decides the exit code and the advice."""

    UNREACHABLE = "unreachable"
    HANDS = "somebody's hands"
    CAPACITY = "capacity"
    STORE = "session store"
    NOT_PROVED = "not proved"
    DRAIN = "drain"
    BACKEND = "backend"
    BUSY = "busy"
    DECLARED_OFF = "declared off"
    STAGING = "staging"
    ASKED = "asked"


class Ending(StrEnum):
    """How a closed rollout ended."""

    DONE = "done"
    WENT_BACK = "went back"
    """A backend failed and was brought back by policy (exit 9)."""
    ABORTED = "aborted"
    """A person asked for it, and it is done."""
    NOTHING_TOUCHED = "nothing touched"


@dataclass(frozen=True, slots=True)
class Before:
    """What a backend ran before this rollout; None where it could not be told or secured."""

    artifact: str | None
    version: str | None


@dataclass(frozen=True, slots=True)
class Opened:
    """The first fact: everything this rollout is bound to, frozen.

    Attributes:
        order: the backends to upgrade, in order; those already on the release are in `already`,
            those parked by a person in `parked`, and neither is touched.
        left_out: backends that an earlier rollout left out of rotation; this one takes them over.
        upstreams: backends by upstream, for the capacity guard.
        artifacts: what `deployed` is called per backend once it runs the release.
        initial: digest of each load balancer's file when we came.
        originals: for `unadopt`, digest of the file to put back, per load balancer.
        frozen: the rendering's inputs (templates, variables, layouts), without secrets.
        places: what must stay the same in the inventory to the end, by machine: addresses,
            files, directories. A proof about one process says nothing of another.
    """

    format: int
    tool: str
    rollout: str
    application: str
    purpose: Purpose
    release: str
    inventory: str
    order: tuple[str, ...]
    already: tuple[str, ...]
    parked: frozenset[str]
    left_out: frozenset[str]
    load_balancers: tuple[str, ...]
    upstreams: Mapping[str, tuple[str, ...]]
    policy: Policy
    artifacts: Mapping[str, str]
    before: Mapping[str, Before]
    initial: Mapping[str, str]
    originals: Mapping[str, str]
    frozen: Mapping[str, Any]
    by: str
    reason: str = ""
    places: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TakenOver:
    """A new life of the same rollout, by `run` or `resume`, perhaps from another machine.

    `lost` says that the local record was not at hand and a copy was used.
    """

    by: str
    lost: bool = False
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Met:
    """A load balancer that was declared off at the opening is seen for the first time.

    `digest` is that of its file; `frozen` are the rendering's inputs with its layout added.
    """

    load_balancer: str
    digest: str
    frozen: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class DeclaredOff:
    """A person says these load balancers are really off (all that are, from now on)."""

    load_balancers: frozenset[str]
    by: str


@dataclass(frozen=True, slots=True)
class Claimed:
    """This rollout takes these backends out, as one wave."""

    claim: int
    backends: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Intended:
    """About to do this step. `attempt` counts from 1 over all lives."""

    step: Step
    attempt: int


@dataclass(frozen=True, slots=True)
class Ended:
    """How the intent with sequence number `of` came out."""

    of: int
    result: Result


@dataclass(frozen=True, slots=True)
class Waiting:
    """A wait began; its limit counts from here over all lives. `what` is its key."""

    what: str


@dataclass(frozen=True, slots=True)
class Forced:
    """The drain limit passed and the policy says go on: `detail` names what may be cut."""

    claim: int
    detail: str


@dataclass(frozen=True, slots=True)
class GaveUp:
    """These backends of the claim will not be taken further; the others are."""

    backends: tuple[str, ...]
    cause: Cause
    reason: str


@dataclass(frozen=True, slots=True)
class TurnedBack:
    """The policy brings this backend back to what it ran before."""

    backend: str
    reason: str


@dataclass(frozen=True, slots=True)
class Proved:
    """This backend is proven good: version, health, warm; `detail` says what was not checked."""

    backend: str
    goal: Goal
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Released:
    """The claim is over, proved on every load balancer: `out` stay out, the others serve."""

    claim: int
    out: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Halted:
    """A person must decide."""

    cause: Cause
    reason: str


@dataclass(frozen=True, slots=True)
class Decided:
    """A person's answer to a halt: go on, with one more attempt for what failed.

    `skip` names backends that this rollout leaves as they are from now on.
    """

    by: str
    skip: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Redirected:
    """A person changed the direction (`abort`)."""

    direction: Direction
    by: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Closed:
    """The last fact."""

    ending: Ending
    reason: str = ""
    cause: Cause | None = None


Fact = (
    Opened
    | TakenOver
    | Met
    | DeclaredOff
    | Claimed
    | Intended
    | Ended
    | Waiting
    | Forced
    | GaveUp
    | TurnedBack
    | Proved
    | Released
    | Halted
    | Decided
    | Redirected
    | Closed
)


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the record: a fact, when, and under which epoch and holder it was written."""

    seq: int
    at_ms: int
    epoch: int
    holder: str
    fact: Fact


GENESIS = "0" * 64
"""What the first line's `prev` is."""


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
    place = f"{where}:{number}"
    try:
        plain = json.loads(line.decode("ascii"))
        claimed = plain.pop("hash")
    except (ValueError, AttributeError, KeyError, TypeError):
        raise RecordWrong("a line of the record cannot be read", where=place) from None
    digest = hashlib.sha256(_canonical(plain)).hexdigest()
    if claimed != digest or plain.get("prev") != previous or plain.get("seq") != number:
        raise RecordWrong("the record was changed after it was written", where=place)
    _refuse_newer(plain, place)
    try:
        fact = from_plain(Fact, plain["fact"])
    except NotReadable as error:
        raise RecordWrong(
            f"the record holds a fact this version does not know: {error}", where=place
        ) from None
    return Entry(number, plain["at_ms"], plain["epoch"], plain["holder"], fact), digest


def _refuse_newer(plain: Mapping[str, Any], place: str) -> None:
    fact = plain.get("fact")
    if isinstance(fact, dict) and fact.get("type") == "Opened":
        written = fact.get("format")
        if not isinstance(written, int) or written > FORMAT:
            raise RecordWrong(
                f"the record was written by rolling-deploy {fact.get('tool', '?')} in format "
                f"{written}; this version reads up to {FORMAT}",
                where=place,
                next_step=f"use rolling-deploy {fact.get('tool', '?')} or newer",
            )


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
    """
    shared = own.shared_with(others)
    if shared == 0 or shared >= len(others.entries):
        return False
    taken_over = others.entries[shared]
    return isinstance(taken_over.fact, TakenOver) and all(
        entry.epoch < taken_over.epoch for entry in own.entries[shared:]
    )


@dataclass(frozen=True, slots=True)
class Claim:
    """The wave in hand.

    Attributes:
        activated: backends on which an Activate was intended and not refused since they were last
            taken out; what may have been put back since needs a new proof before a stop.
        heading: where the last Activate of this claim took each backend.
        turned_back: backends whose target became what they ran before.
        gave_up: reason by backend; `cause` is the first cause that was not asked for.
        proved: backends proven good at their target.
        warm, continuous: steps that are done for the target in hand.
        waits: when each wait began, by its key.
    """

    number: int
    backends: tuple[str, ...]
    activated: frozenset[str] = frozenset()
    heading: Mapping[str, Goal] = field(default_factory=dict)
    turned_back: Mapping[str, str] = field(default_factory=dict)
    gave_up: Mapping[str, str] = field(default_factory=dict)
    cause: Cause | None = None
    proved: frozenset[str] = frozenset()
    warm: frozenset[str] = frozenset()
    continuous: frozenset[str] = frozenset()
    waits: Mapping[str, int] = field(default_factory=dict)
    is_forced: bool = False

    @property
    def unsettled(self) -> tuple[str, ...]:
        """Answers the backends that are neither proven good nor given up."""
        return tuple(b for b in self.backends if b not in self.proved and b not in self.gave_up)


@dataclass(frozen=True, slots=True)
class Record:
    """What the facts amount to. Made only by `fold` and `advance`.

    Attributes:
        direction, off, epoch, holder: as the last facts about them say.
        claim: the wave in hand, or None.
        claims: how many claims there were.
        done: backends whose claim ended with them proven, by where they were taken.
        left_out: backends that a claim left out of rotation.
        changed: backends on which an Activate was ever intended and not refused.
        unproven: of those, the ones not proven good since; and what an earlier rollout left out.
        staged: backends whose artifact is staged.
        open_intents: intents without an outcome, by sequence number.
        attempts, last: per step key, how often it was intended and how it last came out.
        extra_attempts: what people granted beyond the policy, per backend.
        skipped: backends a person left out of the rollout.
        trouble: why the rollout must halt once the claim is over.
        waits: waits outside a claim.
        is_touched: a load balancer or a backend may have been changed.
        ended_step: the step that the last fact was the outcome of, for whoever tells it.
    """

    opened: Opened
    opened_at_ms: int
    epoch: int
    holder: str
    direction: Direction = Direction.FORWARD
    off: frozenset[str] = frozenset()
    claim: Claim | None = None
    claims: int = 0
    done: Mapping[str, Goal] = field(default_factory=dict)
    left_out: frozenset[str] = frozenset()
    changed: frozenset[str] = frozenset()
    unproven: frozenset[str] = frozenset()
    staged: frozenset[str] = frozenset()
    open_intents: Mapping[int, Intended] = field(default_factory=dict)
    attempts: Mapping[str, int] = field(default_factory=dict)
    last: Mapping[str, Result] = field(default_factory=dict)
    extra_attempts: Mapping[str, int] = field(default_factory=dict)
    skipped: frozenset[str] = frozenset()
    trouble: Halted | None = None
    went_back: Mapping[str, str] = field(default_factory=dict)
    waits: Mapping[str, int] = field(default_factory=dict)
    halted: Halted | None = None
    closed: Closed | None = None
    is_touched: bool = False
    applies: int = 0
    ended_step: Step | None = None


def entries_after(
    entries: Sequence[Entry], facts: Iterable[Fact], *, at_ms: int, epoch: int, holder: str
) -> tuple[Entry, ...]:
    """Answers the entries that add these facts to the record, numbered on from its end."""
    return tuple(
        Entry(len(entries) + offset, at_ms, epoch, holder, fact)
        for offset, fact in enumerate(facts, start=1)
    )
