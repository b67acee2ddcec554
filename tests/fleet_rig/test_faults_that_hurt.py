"""Faults that hurt by themselves: with a rollout under way no more than without one.

Each is done three times on the same fleet with the same users, first in two control runs. In the
rollout requests may fail around the fault only, and no more of them than in the worse of the two
controls, scaled by how much longer the fault itself lasted (a busy machine makes a failover
slower, and users ask all the while). Writes are held to the controls in the same way. No session
is lost in any of them. All figures are printed.

One allowance remains, for what is chance in one moment; see `IN_FLIGHT` and `UNREAD_WRITES`.
"""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest

from rolling_deploy.demo.tally import BUCKET_MS, Summary
from tests.fleet_rig.answers import until
from tests.fleet_rig.fixtures import LONG, rig, stand
from tests.fleet_rig.load import QUICK, UsersOn
from tests.fleet_rig.rig import FleetRig
from tests.rig_tools import Matches, fact, intends

__all__ = ["rig", "stand"]

# Three runs each, and a bound on what is chance: for a machine that does nothing else.
pytestmark = [pytest.mark.rig, pytest.mark.timeout(600), LONG]

SETTLING_MS = 1_500
"""What the fault itself may still do after it was done: connections that time out."""
IN_FLIGHT = QUICK.fast // 2
"""So many more may fail than in the controls. A user has one request under way at the most.

A node that is killed takes those with it that it had in this moment, and of them only the POSTs
fail, as nginx repeats GETs elsewhere: every second request. Which it has is chance (here 0 in both
controls and 3 in a rollout were seen), and beside a wave that is out it has twice as many. In a
failover it is a toss for each user whether one request more falls into it at its edges.
"""
UNREAD_WRITES = 1
"""In a failover: Redis says yes to a write before its replica has read it, so which one is the
last to survive is chance too. None in a node's death, where Redis goes on."""


@dataclass
class Fault:
    """What is done, and between which times it lasted.

    Attributes:
        is_instant: it is over as soon as it is done, however long doing it took.
    """

    do: Callable[[], None]
    is_instant: bool = False
    began_ms: int = 0
    ended_ms: int = 0

    def happen(self) -> None:
        self.began_ms = time.time_ns() // 1_000_000
        self.do()
        self.ended_ms = time.time_ns() // 1_000_000

    @property
    def lasted_ms(self) -> int:
        """Answers how long it took to happen: a busy machine makes a failover longer."""
        return 1 if self.is_instant else max(1, self.ended_ms - self.began_ms)

    def failed_elsewhen(self, seen: Summary) -> int:
        """Answers how many requests failed when the fault cannot have been the reason."""
        return sum(
            bucket.failed + bucket.reused_closed
            for bucket in seen.timeline
            if bucket.at_ms + BUCKET_MS < self.began_ms
            or bucket.at_ms > self.ended_ms + SETTLING_MS
        )


Control = tuple[Fault, Summary]
"""The fault without a rollout, and what users saw of it."""


def control(rig: FleetRig, scenario: str, fault: Fault, mend: Callable[[], None]) -> Control:
    """The fault without a rollout; afterwards all is mended."""
    with rig.watched_users(f"{scenario}: control", QUICK) as users:
        more_requests(users.load, 100)
        fault.happen()
        until(lambda: time.time_ns() // 1_000_000 > fault.ended_ms + SETTLING_MS, "it settles")
        more_requests(users.load, 100)
    mend()
    return fault, users.summary


def more_requests(load: UsersOn, count: int) -> None:
    wanted = load.snapshot().requests + count
    until(lambda: load.snapshot().requests >= wanted, "users go on")


def in_a_rollout(
    rig: FleetRig, scenario: str, fault: Fault, at: Matches, mend: Callable[[], None]
) -> tuple[Fault, Summary, bool]:
    """The fault in the middle of a rollout, which is then brought to its end."""
    after = rig.next_release()
    with rig.watched_users(f"{scenario}: rollout", QUICK) as users:
        command = rig.start("run", "--release", after, "--yes")
        ended = command.at(at, lambda _: fault.happen()).end()
        mend()
        if ended.exit_code:
            # Before the first claim nothing was touched, and a store that is gone is a refusal.
            ended.must_be(4 if ended.has(fact("claimed")) else 8)
            rig.status()
            rig.finish(after)
        more_requests(users.load, 50)
    rig.expect_well(after)
    return fault, users.summary, bool(ended.exit_code)


def tell(rig: FleetRig, line: str, *more: str) -> None:
    """Print it, and keep it for the figures at the end."""
    rig.figures.remarks.append(line)
    print(line, *more, sep="\n")


def in_words(seen: Summary, fault: Fault) -> str:
    return (
        f"a fault of {fault.lasted_ms} ms, {seen.requests} requests, {seen.failed} failed, "
        f"sessions {seen.sessions_followed} followed, {seen.sessions_lost} lost, "
        f"writes lost {seen.writes_lost}"
    )


def most(controls: Sequence[Control], fault: Fault, count: Callable[[Summary], int]) -> int:
    """Answers the larger count of the control runs, had their fault lasted as long as this one."""
    scaled = (count(seen) * max(1.0, fault.lasted_ms / alone.lasted_ms) for alone, seen in controls)
    return math.ceil(max(scaled))


def compare(
    rig: FleetRig,
    scenario: str,
    controls: Sequence[Control],
    within: tuple[Fault, Summary, bool],
    writes_by_chance: int = 0,
) -> None:
    """Print all of them, and hold the rollout to the control runs."""
    fault, seen, ended_early = within
    for number, (its, alone) in enumerate(controls, 1):
        tell(rig, f"{scenario}, control {number}: {in_words(alone, its)}", *alone.examples)
    failed = most(controls, fault, lambda one: one.failed)
    writes = most(controls, fault, lambda one: one.writes_lost)
    remark = ", ended and finished by another" if ended_early else ""
    tell(
        rig,
        f"{scenario}, rollout: {in_words(seen, fault)}{remark}; "
        f"at most {failed} + {IN_FLIGHT} may fail, {writes} + {writes_by_chance} writes be lost",
        *seen.examples,
    )
    assert fault.failed_elsewhen(seen) == 0, seen.lines()
    assert seen.failed <= failed + IN_FLIGHT, (seen.lines(), *(one.lines() for _, one in controls))
    assert [one.sessions_lost for one in (seen, *(alone for _, alone in controls))] == [0, 0, 0]
    assert seen.writes_lost <= writes + writes_by_chance, seen.lines()
    assert seen.writes_repeated == 0, seen.lines()


MOMENTS: dict[str, Matches] = {
    "while staging": intends("Stage"),
    "while a wave is out": intends("Activate", "app1"),
    "between two waves": fact("released", claim=1),
}


PLACES = [
    "while a wave is out",
    *(pytest.param(name, marks=LONG) for name in ("while staging", "between two waves")),
]


def bring_back_replica(rig: FleetRig) -> None:
    """Start the Redis that was killed, and return when what is written arrives there.

    Its link is up a while before that. Another failover in between loses everything written
    since, whatever runs beside it, so it would be no figure to compare with.
    """
    fleet = rig.fleet
    fleet.bring_back_replica()
    replica = "redis2" if fleet.redis_master == "redis1" else "redis1"
    mark = str(time.time_ns())
    fleet.redis(fleet.redis_master, "SET", "rig:mark", mark)
    until(lambda: mark in fleet.redis(replica, "GET", "rig:mark"), f"{replica} follows")


@pytest.mark.parametrize("moment", PLACES)
def test_a_failover_of_redis_hurts_no_more_than_without_a_rollout(
    rig: FleetRig, moment: str
) -> None:
    scenario = f"Redis failover {moment}"

    def fault() -> Fault:
        return Fault(rig.fleet.fail_over)

    def mend() -> None:
        bring_back_replica(rig)

    without = [control(rig, scenario, fault(), mend) for _ in range(2)]
    within = in_a_rollout(rig, scenario, fault(), MOMENTS[moment], lambda: None)
    mend()
    compare(rig, scenario, without, within, UNREAD_WRITES)


@pytest.mark.parametrize("moment", PLACES)
def test_a_node_that_is_killed_hurts_no_more_than_without_a_rollout(
    rig: FleetRig, moment: str
) -> None:
    scenario = f"node killed {moment}"

    def fault() -> Fault:
        return Fault(lambda: os.kill(rig.fleet.pid_of("app4"), signal.SIGKILL), is_instant=True)

    def mend() -> None:
        rig.fleet.start_app("app4")

    without = [control(rig, scenario, fault(), mend) for _ in range(2)]
    within = in_a_rollout(rig, scenario, fault(), MOMENTS[moment], mend)
    compare(rig, scenario, without, within)
