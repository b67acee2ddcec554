"""What users ask of the simulated load balancers: access logs, and what a record tells of them.

Users ask all the time; the lines are written when somebody looks, since nobody sees them before.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rolling_deploy.operations.log_sources import LogSources
from rolling_deploy.rollout.facts import Counted, Decided, Direction, Halted, Redirected
from rolling_deploy.rollout.journal import Entry
from rolling_deploy.rollout.losses import Losses
from rolling_deploy.upstreams.access_logs import AccessLog
from rolling_deploy.upstreams.addresses import canonical
from rolling_deploy.upstreams.log_format import LogFormat

if TYPE_CHECKING:
    from tests.simulation.world import World

PATH = "/var/log/nginx/shop.log"
FORMAT = LogFormat("simulated", "$status $upstream_addr")
APART_MS = 200
AT_ONCE_MAX = 50


@dataclass
class RequestLog:
    """One load balancer's access log with those that were rotated away, oldest first.

    Attributes:
        files: by inode, which only grows.
        failures: when each 5xx was answered, and where its line begins.
    """

    files: dict[int, bytes] = field(default_factory=lambda: {1: b""})
    asked_ms: int = 0
    failures: list[tuple[int, int, int]] = field(default_factory=list)

    @property
    def inode(self) -> int:
        """Answers the file that nginx writes to."""
        return max(self.files)

    def ask(self, now_ms: int, address: str) -> None:
        """Users have asked since the last time, and were answered well."""
        count = min((now_ms - self.asked_ms) // APART_MS, AT_ONCE_MAX)
        self.asked_ms = now_ms
        self.files[self.inode] += f"200 {address}\n".encode() * count

    def fail(self, now_ms: int, address: str, count: int) -> None:
        """So many requests are answered 502."""
        for _ in range(count):
            self.failures.append((now_ms, self.inode, len(self.files[self.inode])))
            self.files[self.inode] += f"502 {address}\n".encode()

    def rotate(self) -> None:
        """The file gets another name, and nginx begins a new one."""
        self.files[self.inode + 1] = b""

    def told(self, first: str, last: str) -> tuple[int, int]:
        """Answers how many requests, and how many that failed, lie between two positions of the
        log (as `remote.access_log` keeps them), whatever was read in between.
        """
        begin = _positions(first)
        end = _positions(last)
        requests = failed = 0
        for inode in range(min(begin), max(end) + 1):
            lines = self.files[inode][begin.get(inode, 0) : end.get(inode)].splitlines()
            requests += len(lines)
            failed += sum(line.startswith(b"5") for line in lines)
        return requests, failed

    def failed_since(self, first: str, until_ms: int) -> int:
        """Answers how many requests have failed behind a position, up to a moment."""
        begin = _positions(first)
        inode = min(begin)
        return sum(
            at_ms <= until_ms and (file, where) >= (inode, begin[inode])
            for at_ms, file, where in self.failures
        )


def _positions(text: str) -> dict[int, int]:
    pairs = (position.split(":") for position in text.split())
    return {int(inode): int(offset) for inode, offset in pairs}


def sources(world: World) -> LogSources:
    """Answers what a preflight learns of a load balancer's logs."""
    owners = {canonical(node.address): node.name for node in world.nodes.values()}
    return LogSources((AccessLog(PATH, FORMAT),), owners)


def read_on(log: RequestLog, words: Sequence[str]) -> Iterator[tuple[str, str | bytes]]:
    """What `access_log BYTES PATH POSITIONS` says; bytes are to be encoded."""
    most, positions = int(words[0]), words[2].split()
    yield "now_0", f"{log.inode} {len(log.files[log.inode])}"
    for position in positions:
        inode, offset = map(int, position.split(":"))
        content = log.files[inode]
        yield "from_0", f"{position} {len(content)}"
        begin = max(0, offset - 1)
        yield "data_0", content[begin : offset + most]
    known = [int(position.split(":")[0]) for position in positions]
    if known:
        for inode in range(known[0] + 1, log.inode):
            if inode not in known:
                yield "between_0", f"{inode}"


@dataclass(frozen=True, slots=True)
class Told:
    """What a record tells of lost requests.

    Attributes:
        sums: of everything that was counted, by load balancer: requests and failed ones.
        firsts, lasts: where in each log the counting began, as far as the record tells, and how far
            it is.
        bases: what had been counted by then: one that is met in the middle of a life is counted
            from where only that life knows.
        forgiven: failures that a person's answer covers.
        is_forgiving: a person has answered, and nothing was counted since.
        is_negative: a count below nothing stands there.
    """

    sums: Mapping[str, tuple[int, int]]
    firsts: Mapping[str, str]
    lasts: Mapping[str, str]
    bases: Mapping[str, tuple[int, int]]
    forgiven: int
    is_forgiving: bool
    is_negative: bool
    is_forward: bool

    def since_first(self, name: str) -> tuple[int, int]:
        """Answers what one load balancer's requests add up to since where its counting began."""
        requests, failed = self.sums.get(name, (0, 0))
        before, failed_before = self.bases[name]
        return requests - before, failed - failed_before


def told_by(entries: Sequence[Entry]) -> Told:
    """Answers what these entries tell, added up without the production code."""
    sums: dict[str, tuple[int, int]] = {}
    firsts: dict[str, str] = {}
    lasts: dict[str, str] = {}
    bases: dict[str, tuple[int, int]] = {}
    forgiven, is_forgiving, is_halted, is_counted = 0, False, False, False
    is_negative, is_forward = False, True
    for entry in entries:
        match entry.fact:
            case Counted(losses):
                is_counted = True
                is_negative |= _add(losses, sums)
                lasts |= {key.split(" ")[0]: end for key, end in losses.ends.items()}
                bases = {name: sums.get(name, (0, 0)) for name in lasts} | bases
                firsts = lasts | firsts
                if is_forgiving:
                    forgiven, is_forgiving = sum(failed for _, failed in sums.values()), False
            case Halted():
                is_halted = True
            case Decided():
                is_forgiving, is_halted = is_counted, False
            case Redirected():
                is_forgiving |= is_halted and is_counted
                is_halted = False
                is_forward = entry.fact.direction is Direction.FORWARD
            case _:
                pass
    return Told(sums, firsts, lasts, bases, forgiven, is_forgiving, is_negative, is_forward)


def _add(losses: Losses, sums: dict[str, tuple[int, int]]) -> bool:
    """Add what was counted; answers whether a count is below nothing."""
    for key, count in losses.by_phase.items():
        name = key.split(" ")[0]
        requests, failed = sums.get(name, (0, 0))
        sums[name] = requests + count.requests, failed + count.failed
    every = [*losses.by_phase.values(), *losses.by_backend.values()]
    return any(min(c.requests, c.failed, c.closed, c.retried) < 0 for c in every)
