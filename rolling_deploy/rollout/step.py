"""The steps a rollout is made of: plain values that say what to do on one machine.

Each step declares its *effect*, which can be checked by looking, and its *guard*, which the
machine itself evaluates in the same round trip. A step is written to the record by value, never
by its position in code, so that an old record stays readable when the code is reordered.

| step       | effect that can be seen                          | guard on the machine        |
|------------|--------------------------------------------------|-----------------------------|
| Stage      | the artifact lies ready; what runs is secured    | fence                       |
| Apply      | the file has this generation, and it is served   | fence, digest of the file   |
| Unadopt    | the file is the original, byte for byte          | fence, digest of the file   |
| Activate   | the artifact is in place and the process is new  | fence, nobody connected     |
| WarmUp     | none (its outcome is recorded)                   | none: it only reads         |
| Keep       | none (its outcome is recorded)                   | none: canary sessions only  |
| Continuity | none (its outcome is recorded)                   | none: canary sessions only  |
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Goal(StrEnum):
    """Which way a backend is to be taken."""

    RELEASE = "release"
    """To the release that this rollout is about."""
    PREVIOUS = "previous"
    """Back to what ran before this rollout."""


@dataclass(frozen=True, slots=True)
class Stage:
    """Send the artifact to the backend's machine, verify it, and secure what runs now."""

    backend: str


@dataclass(frozen=True, slots=True)
class Apply:
    """Publish the upstream with `out` marked down, reload nginx, and prove the generation.

    Attributes:
        replaces: digest of the file that may be replaced; anything else is somebody's edit.
        adopt: the file replaced is a person's own, which is kept for `unadopt`.
    """

    load_balancer: str
    out: frozenset[str]
    claim: int
    generation: str
    replaces: str
    adopt: bool = False


@dataclass(frozen=True, slots=True)
class Unadopt:
    """Put the original file back, byte for byte, and reload nginx."""

    load_balancer: str
    replaces: str


@dataclass(frozen=True, slots=True)
class Activate:
    """Stop the backend, put the artifact of `goal` in place, start it."""

    backend: str
    goal: Goal


@dataclass(frozen=True, slots=True)
class WarmUp:
    """Send the backend real requests until it answers quickly, before users' traffic does."""

    backend: str


@dataclass(frozen=True, slots=True)
class Keep:
    """Make canary sessions on a backend of the release in service, and have another read them.

    Attributes:
        read_on: the backend itself where it is the only one.
    """

    backend: str
    read_on: str


@dataclass(frozen=True, slots=True)
class Continuity:
    """Prove that sessions survive between the backend and the others, in both directions.

    Attributes:
        goal: which release the backend is on now.
        other: a backend of the other release that serves; empty when there is none.
        kept: the sessions of `Keep`, sealed; empty when none are at hand.
    """

    backend: str
    goal: Goal = Goal.RELEASE
    other: str = ""
    kept: str = ""


Step = Stage | Apply | Unadopt | Activate | WarmUp | Keep | Continuity


def machine_of(step: Step) -> str:
    """Answers which load balancer or backend the step is for."""
    match step:
        case Apply() | Unadopt():
            return step.load_balancer
        case Stage() | Activate() | WarmUp() | Keep() | Continuity():
            return step.backend


def changes_something(step: Step) -> bool:
    """Answers whether the step changes anything; what only asks may be lost without a trace.

    Continuity is among those that do: canary sessions are written into the session store.
    """
    return not isinstance(step, WarmUp)


def is_on_load_balancer(step: Step) -> bool:
    """Answers whether the step changes a load balancer."""
    return isinstance(step, Apply | Unadopt)


class Outcome(StrEnum):
    """How a step ended, as far as it is known."""

    DONE = "done"
    """The effect was observed."""
    REFUSED = "refused"
    """The guard said no; nothing was changed."""
    FAILED = "failed"
    """It was tried and did not come about; what was changed was put back or is in the detail."""
    UNKNOWN = "unknown"
    """The connection was lost or the answer was not understood."""
    IN_DOUBT = "in doubt"
    """We died before an outcome was written. Look, never redo."""
    NOT_CHECKED = "not checked"
    """The step is not configured; said so, never counted as fine."""
    NOT_SENT = "not sent"
    """Its intent was written, and the machine never heard of it: no try at all."""


@dataclass(frozen=True, slots=True)
class Result:
    """The outcome of one step, with a reason for a person and how long it took."""

    outcome: Outcome
    detail: str = ""
    took_ms: int = 0
    is_fenced: bool = False
    """Refused because the machine has seen a higher epoch: somebody has taken over."""
    kept: str = ""
    """What `Keep` made, sealed: only who knows the canary's own password can use it."""
