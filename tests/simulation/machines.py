"""The machines of the simulated site: what lies on their disks, what runs there, what it serves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rolling_deploy.rollout.observed import Fence
from tests.simulation.nginx_text import Sends, generation_of, sends_of
from tests.simulation.requests import RequestLog
from tests.simulation.scheduler import Task

if TYPE_CHECKING:
    from tests.simulation.operator import Operator

US, PERSON, ORIGINAL = "us", "a person", "a person, before we came"


@dataclass(eq=False)
class Machine:
    """What every machine has: a lock, a fence, a disk, a clock, and commands that run there.

    Attributes:
        lock: the command that holds the lock.
        commands: the commands that run there, whoever sent them.
        clock_ms: how far its clock is ahead of the truth.
    """

    name: str
    lock: Task | None = None
    fence: Fence = field(default_factory=lambda: Fence(0, "-"))
    commands: list[Task] = field(default_factory=list)
    clock_ms: int = 0
    disk_full_until_ms: int = 0


@dataclass
class Workers:
    """nginx's workers of one configuration: what they answer and whom they may send to.

    Attributes:
        ends_at_ms: when they are gone; None until they are told to go, or for ever after.
    """

    generation: str | None
    sends: Sends
    text: str
    ends_at_ms: int | None = None

    def may_choose(self, address: str) -> bool:
        """Answers whether a request they have may go to this address."""
        return any(address in addresses for addresses in self.sends.values())


@dataclass(eq=False)
class Balancer(Machine):
    """A load balancer: the managed file, nginx, and the record's copy beside it.

    Attributes:
        authors: who wrote each text this file ever had; god's knowledge.
        first: the text when the simulation began.
        ours_last: the text we wrote last.
        drains_ms: how long the workers that the n-th reload retires live on; the last counts for
            all later ones. None is for ever.
        reloads_fail: so many more reloads change nothing.
        records: the record's copies by rollout.
        beats_at_ms: the heartbeat's time of writing, by this machine's clock; None without one.
        intent_at_ms: when lines of the record came last, by no clock that can be set.
        is_away, back_ms: the machine is off, and when it was switched on last.
    """

    text: str = ""
    authors: dict[str, str] = field(default_factory=dict)
    first: str = ""
    ours_last: str = ""
    current: Workers = field(default_factory=lambda: Workers(None, {}, ""))
    retiring: list[Workers] = field(default_factory=list)
    has_snapshot: bool = True
    original: str | None = None
    drains_ms: list[int | None] = field(default_factory=lambda: [40])
    reloads: int = 0
    reloads_fail: int = 0
    records: dict[str, bytes] = field(default_factory=dict)
    current_record: str = ""
    holder: bytes = b""
    held_by: str = ""
    beats_at_ms: int | None = None
    intent_at_ms: int | None = None
    expiry_s: int = 30
    step: str = ""
    log: RequestLog = field(default_factory=RequestLog)
    is_away: bool = False
    back_ms: int = 0

    def living(self, now_ms: int) -> list[Workers]:
        """Answers the retiring workers that have not exited."""
        return [w for w in self.retiring if w.ends_at_ms is None or w.ends_at_ms > now_ms]

    def may_choose(self, address: str, now_ms: int) -> bool:
        """Answers whether any worker of any generation may still send to this address."""
        return any(w.may_choose(address) for w in (self.current, *self.living(now_ms)))

    def write(self, text: str, author: str) -> None:
        """The file holds this text; one that was there before is that one again."""
        self.text = text
        self.authors.setdefault(text, author)

    def reload(self, now_ms: int) -> bool:
        """nginx loads what is on the disk and its workers begin to retire; answers if it did."""
        if self.reloads_fail > 0:
            self.reloads_fail -= 1
            return False
        drain_ms = self.drains_ms[min(self.reloads, len(self.drains_ms) - 1)]
        self.reloads += 1
        self.current.ends_at_ms = None if drain_ms is None else now_ms + drain_ms
        self.retiring = [*self.living(now_ms), self.current]
        self.current = Workers(generation_of(self.text), sends_of(self.text), self.text)
        return True

    def restart(self) -> None:
        """nginx stops and starts: every worker is gone, what is on the disk is loaded."""
        self.retiring = []
        self.current = Workers(generation_of(self.text), sends_of(self.text), self.text)

    def earlier(self, now_ms: int) -> int | None:
        """Answers what a look counts: workers of another generation; None without a snapshot."""
        if not self.has_snapshot:
            return None
        mine = self.current.generation
        return sum(1 for workers in self.living(now_ms) if workers.generation != mine)


@dataclass(eq=False)
class Node(Machine):
    """A backend: what is on its disk, what its process serves, and how long it takes.

    Attributes:
        serves: the version; None while it is stopped.
        sick_on, cold_on: versions that never become healthy, or warm, here.
        instead: the version really served, by the version asked for (a release that lies).
        hurt_at_ms: when misfortune, not we, last took it down.
        is_warm: the process has had its real requests.
    """

    address: str = ""
    artifact: str | None = None
    serves: str | None = None
    start_ms: int = 30
    healthy_at_ms: int = 0
    is_restarted_since_swap: bool = True
    staged: set[str] = field(default_factory=set)
    is_secured: bool = True
    sick_on: set[str] = field(default_factory=set)
    cold_on: set[str] = field(default_factory=set)
    instead: dict[str, str] = field(default_factory=dict)
    hurt_at_ms: int = 0
    is_warm: bool = False

    def is_healthy(self, now_ms: int) -> bool:
        """Answers whether a request would get a good answer now."""
        is_up = self.serves is not None and now_ms >= self.healthy_at_ms
        return is_up and self.serves not in self.sick_on

    def start(self, now_ms: int) -> None:
        """A process serves what lies in place."""
        self.serves = self.version_in(self.artifact) if self.artifact else None
        self.healthy_at_ms = now_ms + self.start_ms
        self.is_warm = False

    def version_in(self, artifact: str) -> str:
        """Answers what is served once this artifact lies in place, whatever it is called."""
        asked = version_of(artifact)
        return self.instead.get(asked, asked)

    def secure(self) -> None:
        """What is deployed lies ready to be gone back to, where that is possible at all."""
        if self.is_secured and self.artifact:
            self.staged.add(self.artifact)


def artifact_of(version: str) -> str:
    """Answers what a version's artifact is called."""
    return f"{version}.war"


def version_of(artifact: str) -> str:
    """Answers the version that an artifact serves."""
    return artifact.removesuffix(".war")


@dataclass(eq=False)
class Host:
    """A machine that people and CI jobs run the tool on.

    Attributes:
        records: what is on its disk, by rollout.
        held: who holds each record there.
        cut, mute: machines that cannot be reached from here, or whose answers are lost, until when.
    """

    name: str
    records: dict[str, bytes] = field(default_factory=dict)
    held: dict[str, Operator] = field(default_factory=dict)
    clock_ms: int = 0
    disk_full_until_ms: int = 0
    cut: dict[str, int] = field(default_factory=dict)
    mute: dict[str, int] = field(default_factory=dict)


Work = Callable[[], object]
