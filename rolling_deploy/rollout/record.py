"""What the facts of a record amount to, as values. Made only by `fold`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from rolling_deploy.rollout.facts import Cause, Closed, Direction, Halted, Intended, Opened
from rolling_deploy.rollout.logouts import Logouts, Pace
from rolling_deploy.rollout.losses import Losses
from rolling_deploy.rollout.step import Goal, Result, Step


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
        marked: backends of which it is noted where their logs ended before the stop.
        returned: backends that a publication of this claim was to send to again, so that somewhere
            they may serve, whatever they are to do next.
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
    marked: frozenset[str] = frozenset()
    returned: frozenset[str] = frozenset()

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
        losses: what was counted over all lives; None before the first count.
        forgiven: failed requests that a person's answer covers; `is_forgiving` until the first
            count after it, which tells how many they are.
        kept: the sessions that were kept, sealed; empty when only the life that made them has
            them; None when none were made yet.
        logouts: what was seen of logged-out users over all lives; None before the first mark.
        marks: the claim at which each backend's logs were last marked.
        watched: the last claim whose wave was watched after it was back.
        watch_since_ms: since when sessions count as new.
        pace_before: how fast sessions came before a wave, the fastest.
        are_logouts_accepted: a person has answered a halt because of them.
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
    losses: Losses | None = None
    forgiven: int = 0
    is_forgiving: bool = False
    kept: str | None = None
    logouts: Logouts | None = None
    marks: Mapping[str, int] = field(default_factory=dict)
    watched: int = 0
    watch_since_ms: int = 0
    pace_before: Pace | None = None
    are_logouts_accepted: bool = False
    ended_step: Step | None = None
