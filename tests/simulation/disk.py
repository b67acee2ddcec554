"""The records on an operator's simulated disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from rolling_deploy.errors import RecordWrong, RolloutHeld
from rolling_deploy.ports import LocalRecord
from rolling_deploy.rollout.journal import Chain, read_chain

if TYPE_CHECKING:
    from tests.simulation.operator import Operator


@dataclass(frozen=True)
class Disk:
    """The records on the operator's disk. See `ports.Records`."""

    by: Operator

    def file(self, rollout: str) -> LocalRecord:
        """Answers one rollout's record."""
        return DiskRecord(self.by, rollout)

    def newest(self) -> str:
        """Answers the rollout that was opened last on this disk."""
        return max(self.by.host.records, default="")


@dataclass
class DiskRecord:
    """One record on the operator's disk. See `ports.LocalRecord`."""

    by: Operator
    rollout: str

    @property
    def path(self) -> PurePosixPath:
        """Where it is."""
        return PurePosixPath(f"/{self.by.host.name}/{self.rollout}.jsonl")

    def read(self) -> Chain:
        """Answers the chain."""
        return read_chain(self.by.host.records.get(self.rollout, b""), str(self.path))

    def hold(self) -> None:
        """Take it, unless a living process has it."""
        if self.is_held_elsewhere():
            raise RolloutHeld("another process on this machine is working on this rollout")
        self.by.host.held[self.rollout] = self.by

    def is_held_elsewhere(self) -> bool:
        """Answers whether another living process has it."""
        owner = self.by.host.held.get(self.rollout)
        return owner is not None and owner is not self.by and not owner.is_over

    def put(self, lines: Sequence[bytes], at: int) -> None:
        """Write behind `at`, and have the disk keep it."""
        host, world = self.by.host, self.by.world
        if host.disk_full_until_ms > world.now_ms:
            raise RecordWrong("the local record did not take the next entries: disk full")
        self.by.acted_ms = world.now_ms
        before = host.records.get(self.rollout, b"")[:at]
        more = b"".join(lines)
        # Killed in the middle, half a line is there.
        host.records[self.rollout] = before + more[: len(more) * 2 // 3]
        world.scheduler.pause()
        host.records[self.rollout] = before + more
        world.audit.written(self.by, self.rollout, lines)
        world.scheduler.pause()

    def close(self) -> None:
        """Give it up."""
        if self.by.host.held.get(self.rollout) is self.by:
            del self.by.host.held[self.rollout]
