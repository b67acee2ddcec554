"""A load balancer with what is on its disk, what nginx has loaded, and workers that retire."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace

from rolling_deploy.rollout.observed import Fence, LoadBalancerSeen, ManagedFile, Stamp

US, PERSON, ORIGINAL = "us", "person", "original"


def _sha(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def body_of(down: frozenset[str], remark: str) -> str:
    """Answers the digest of an upstream's body: what it takes out, and anything else in it."""
    return _sha(sorted(down), remark)


@dataclass(frozen=True)
class FakeFile:
    """The text of a managed file, as far as it matters. `author` is god's knowledge only."""

    down: frozenset[str]
    stamp: Stamp | None
    author: str
    remark: str = ""

    @property
    def digest(self) -> str:
        """Answers the sha256 of the text; who wrote it is not in the text."""
        stamp = self.stamp
        mark = (stamp.rollout, stamp.claim, stamp.generation, stamp.body) if stamp else None
        return _sha(body_of(self.down, self.remark), mark)

    @property
    def is_intact(self) -> bool:
        """Answers whether the stamp belongs to the body."""
        return self.stamp is not None and self.stamp.body == body_of(self.down, self.remark)


@dataclass
class Generation:
    """Workers of one configuration: where they may send, and until when they live."""

    generation: str | None
    up: frozenset[str]
    ends_at_ms: int | None = None
    """None: until they are replaced, or for ever once they are."""


@dataclass
class FakeLoadBalancer:
    """God's-eye truth about one load balancer.

    Attributes:
        drains_ms: how long the workers retired by the n-th reload live on; the last one counts
            for all later reloads. None is for ever.
        copy: the lines of the record kept here.
        has_snapshot: it can be told which workers are of an earlier generation.
    """

    name: str
    members: frozenset[str]
    file: FakeFile
    current: Generation
    drains_ms: list[int | None] = field(default_factory=lambda: [40])
    retiring: list[Generation] = field(default_factory=list)
    original: FakeFile | None = None
    copy: tuple[bytes, ...] = ()
    fence: Fence = field(default_factory=lambda: Fence(0, ""))
    is_reachable: bool = True
    has_snapshot: bool = True
    busy_until_ms: int = 0
    reloads: int = 0
    known: dict[str, FakeFile] = field(default_factory=dict)
    """Every text this file had that is not a person's edit, by digest."""

    def __post_init__(self) -> None:
        self.known[self.file.digest] = self.file

    def edit(self, file: FakeFile) -> None:
        """Somebody writes this text; if it is one that was there before, it is that one again."""
        self.file = self.known.get(file.digest, replace(file, author=PERSON))

    def sends_to(self, now_ms: int) -> frozenset[str]:
        """Answers whom any living worker of any generation may still choose."""
        sets = [self.current.up, *(g.up for g in self.living(now_ms))]
        return frozenset().union(*sets)

    def living(self, now_ms: int) -> list[Generation]:
        """Answers the retiring workers that have not exited."""
        return [g for g in self.retiring if g.ends_at_ms is None or g.ends_at_ms > now_ms]

    def reload(self, now_ms: int) -> None:
        """nginx loads what is on the disk; the workers of before begin to retire."""
        drain_ms = self.drains_ms[min(self.reloads, len(self.drains_ms) - 1)]
        self.reloads += 1
        ends_at_ms = None if drain_ms is None else now_ms + drain_ms
        self.retiring = [*self.living(now_ms), replace(self.current, ends_at_ms=ends_at_ms)]
        stamp = self.file.stamp
        self.current = Generation(
            stamp.generation if stamp else None, self.members - self.file.down
        )

    def look(self, now_ms: int) -> LoadBalancerSeen:
        """Answers what a look sees: no authors, no future."""
        managed = ManagedFile(
            self.file.digest, self.file.stamp, self.file.is_intact, self.file.down
        )
        # A reload by a person retires workers of the very same generation: they mark down the same.
        earlier = [g for g in self.living(now_ms) if g.generation != self.current.generation]
        return LoadBalancerSeen(
            managed,
            self.current.generation,
            is_settled=True,
            earlier_workers=len(earlier) if self.has_snapshot else None,
            is_busy=now_ms < self.busy_until_ms,
            detail=", ".join(f"pinned by generation {g.generation}" for g in earlier),
        )
