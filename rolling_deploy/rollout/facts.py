"""The kinds of facts a record is made of.

A record holds only what cannot be seen later: what was opened, claimed, intended, how it came
out, what a person decided. What can be seen is looked at. Facts are written before anything is
done about them, so after a death at any instant at most one intent per machine has no outcome.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from rolling_deploy.rollout.fleet import Policy
from rolling_deploy.rollout.logouts import Logouts
from rolling_deploy.rollout.losses import Losses
from rolling_deploy.rollout.step import Goal, Result, Step

FORMAT = 4
"""Raised when an older version of the tool could misread the record. A newer one is refused.

| format | what it added |
|---|---|
| 2 | `Counted`; `counts_losses` and `max_errors` in the policy |
| 3 | `Keep`; `proves_sessions` in the policy; the fields of `Continuity`; `kept` in results |
| 4 | the purpose `setup`; `Marked`, `Watched`; `watches_logouts` and its limits in the policy |
"""


class Purpose(StrEnum):
    """What a record is about. All purposes go through the same loop."""

    DEPLOY = "deploy"
    SETUP = "setup"
    """Every backend gets its wiring (session manager, graceful stop); the release stays."""
    ADOPT = "adopt"
    UNADOPT = "unadopt"

    @property
    def changes_backends(self) -> bool:
        """Answers whether backends are taken out and restarted; otherwise only who manages the
        load balancers' files changes.
        """
        return self in (Purpose.DEPLOY, Purpose.SETUP)


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
    ERRORS = "errors"
    """More requests failed than `max_errors` allows."""
    SESSIONS = "sessions"
    """Sessions are not shared, or do not survive: users are being logged out."""


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
        release: the version to deploy; for `setup` a name of the wiring.
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

    def version_at(self, backend: str, goal: Goal) -> str | None:
        """Answers the version that a backend serves there; None when it was not known before."""
        if goal is Goal.RELEASE and self.purpose is not Purpose.SETUP:
            return self.release
        return self.before[backend].version


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
class Counted:
    """What was counted since the last such fact; the first one says where the logs ended."""

    losses: Losses


@dataclass(frozen=True, slots=True)
class Marked:
    """Where the logs end right before these backends are stopped for the release, and how fast
    sessions come; whoever goes on reads from there.

    `others` serve the sessions of both releases meanwhile; their logs are read on too.
    """

    backends: tuple[str, ...]
    others: tuple[str, ...]
    logouts: Logouts


@dataclass(frozen=True, slots=True)
class Watched:
    """What was seen of logged-out users since the last such fact; this wave need not be watched
    any more.
    """

    claim: int
    logouts: Logouts


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
    | Counted
    | Marked
    | Watched
    | Halted
    | Decided
    | Redirected
    | Closed
)
