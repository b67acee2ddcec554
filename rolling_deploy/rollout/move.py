"""What `decide` answers: a move, as a value. Waiting is one of them, not a sleep."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rolling_deploy.rollout.facts import Closed, Fact, Halted
from rolling_deploy.rollout.logouts import Watching
from rolling_deploy.rollout.step import Step


@dataclass(frozen=True, slots=True)
class Free:
    """No earlier command of this tool runs on these machines any more."""

    machines: frozenset[str]


@dataclass(frozen=True, slots=True)
class Drained:
    """No earlier nginx worker is left on these load balancers."""

    load_balancers: frozenset[str]


@dataclass(frozen=True, slots=True)
class Ready:
    """These backends answer as they should, by the version they must serve (None: any)."""

    backends: Mapping[str, str | None]


@dataclass(frozen=True, slots=True)
class Sign:
    """There is a sign of logged-out users that the record does not hold yet."""

    watching: Watching


Condition = Free | Drained | Ready | Sign


@dataclass(frozen=True, slots=True)
class Note:
    """Write these facts; the world stays as it is."""

    facts: tuple[Fact, ...]


@dataclass(frozen=True, slots=True)
class Act:
    """Do these steps, each on a machine of its own, at the same time."""

    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Wait:
    """Wait until the condition holds, at most until `until_ms`, then look again."""

    condition: Condition
    until_ms: int
    why: str


@dataclass(frozen=True, slots=True)
class Halt:
    """Stop here: a person must decide. `is_new` is False when the record already says so."""

    halted: Halted
    is_new: bool = True


@dataclass(frozen=True, slots=True)
class Finish:
    """The rollout is over. `is_new` is False when the record already says so."""

    closed: Closed
    is_new: bool = True


Move = Note | Act | Wait | Halt | Finish
