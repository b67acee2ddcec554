"""What the runner needs from the world: a handful of Protocols, kept small so fakes stay honest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Protocol

from rolling_deploy.rollout.facts import Fact, Opened
from rolling_deploy.rollout.journal import Chain, Entry
from rolling_deploy.rollout.move import Condition
from rolling_deploy.rollout.observed import Check, Interest, Seen
from rolling_deploy.rollout.record import Record
from rolling_deploy.rollout.step import Result, Step


@dataclass(frozen=True, slots=True)
class FenceToken:
    """Carried by every remote command that changes something.

    A machine refuses a token lower than the highest it has seen, and an equal epoch of another
    holder. `epoch` rises at every `resume`.
    """

    rollout: str
    epoch: int
    holder: str


@dataclass(frozen=True, slots=True)
class Written:
    """An entry was added to the record; `record` is what the record amounts to with it."""

    entry: Entry
    record: Record


@dataclass(frozen=True, slots=True)
class Awaiting:
    """The runner waits, at the longest until `until_ms`."""

    at_ms: int
    until_ms: int
    why: str


@dataclass(frozen=True, slots=True)
class Checked:
    """A preflight check came out."""

    at_ms: int
    check: Check


@dataclass(frozen=True, slots=True)
class Said:
    """Something worth a line that is no fact of the record."""

    at_ms: int
    text: str


Event = Written | Awaiting | Checked | Said
"""The one stream that the live view, the log, the JSON and the report are views of."""


class Machines(Protocol):
    """The fleet's machines: looking, waiting, acting."""

    def look(self, interest: Interest) -> Seen:
        """Answers what is seen now. What cannot be reached is `Unreachable` in its place."""

    def wait(self, condition: Condition, limit_ms: int) -> None:
        """Return as soon as the condition holds on the machines, or at the limit at the latest.

        Waiting happens on the remote side. Whether it holds is decided by the next look.
        """

    def perform(self, step: Step, opened: Opened, token: FenceToken) -> Result:
        """Do one step on one machine. Never raises for what the world does.

        Called from a thread of its own for each step of one move.
        """


class Journal(Protocol):
    """The append-only record of one rollout: local file and copies on the load balancers."""

    def entries(self) -> Sequence[Entry]:
        """All entries, oldest first."""

    def append(self, facts: Sequence[Fact], *, before_acting: bool) -> Sequence[Entry]:
        """Append facts, fsynced on this disk before it returns, and answer their entries.

        With `before_acting` at least one load balancer must hold them too; facts written without
        it reach the load balancers with the next ones that are.

        Raises:
            RolloutHeld: a load balancer refused, somebody has taken over.
            RolloutHalted: no load balancer could be given the record; nothing may be acted on.
            RecordWrong: the copies differ, or this disk cannot hold the record.
        """


class LocalRecord(Protocol):
    """One rollout's record on this disk, held by one process at a time."""

    @property
    def path(self) -> PurePath:
        """Where it is kept, for a person."""

    def read(self) -> Chain:
        """Answers the chain in it; an empty one when there is none.

        Raises:
            RecordWrong: it cannot be read, or was changed after it was written.
        """

    def hold(self) -> None:
        """Take it for this process until it ends; once it is held, nothing more.

        Raises:
            RolloutHeld: another process on this machine has it.
            RecordWrong: it cannot be created.
        """

    def is_held_elsewhere(self) -> bool:
        """Answers whether a living process on this machine holds it."""

    def put(self, lines: Sequence[bytes], at: int) -> None:
        """Write lines at byte `at`, the end of what is valid, and sync them to the disk.

        Raises:
            RecordWrong: the disk did not take them.
        """

    def close(self) -> None:
        """Give it up."""


class Records(Protocol):
    """The records of one application on this disk."""

    def file(self, rollout: str) -> LocalRecord:
        """Answers one rollout's record, which need not be there."""

    def newest(self) -> str:
        """Answers the rollout that was opened last on this disk; empty when there is none."""


class Clock(Protocol):
    """The wall clock, in milliseconds since the epoch; and one that nobody sets."""

    def now_ms(self) -> int:
        """Answers the time."""

    def steady_ms(self) -> int:
        """Answers milliseconds since some moment. Never set; goes on while the machine sleeps."""


class Reporter(Protocol):
    """Whoever wants to know. Called from the runner's thread only; must not raise."""

    def event(self, event: Event) -> None:
        """One thing happened."""
