"""Faults that hurt by themselves: with a rollout under way no more than without one.

Each is done twice on the same fleet with the same users, once as a control run. Requests that
fail must fail around the fault, and there are no more of them than in the control run, as far as
two runs of the same fault are ever alike; no session is lost in either. Both are printed.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from rolling_deploy.demo.tally import BUCKET_MS, Summary
from tests.fleet_rig.answers import until
from tests.fleet_rig.fixtures import LONG, rig, stand
from tests.fleet_rig.load import QUICK, UsersOn
from tests.fleet_rig.rig import FleetRig
from tests.rig_tools import Matches, fact, intends

__all__ = ["rig", "stand"]

pytestmark = [pytest.mark.rig, pytest.mark.timeout(600)]

SETTLING_MS = 1_500
"""What the fault itself may still do after it was done: connections that time out."""
ALIKE_SHARE, ALIKE_COUNT = 1.5, 10
"""Two runs of the same fault differ by chance: who asks meanwhile, and what is in flight. More than
this, for as long as the fault lasted, would be the rollout's."""


@dataclass
class Fault:
    """What is done, and between which times it lasted."""

    do: Callable[[], None]
    began_ms: int = 0
    ended_ms: int = 0

    def happen(self) -> None:
        self.began_ms = time.time_ns() // 1_000_000
        self.do()
        self.ended_ms = time.time_ns() // 1_000_000

    @property
    def lasted_ms(self) -> int:
        """Answers how long it took to happen: a busy machine makes a failover longer."""
        return max(1, self.ended_ms - self.began_ms)

    def failed_elsewhen(self, seen: Summary) -> int:
        """Answers how many requests failed when the fault cannot have been the reason."""
        return sum(
            bucket.failed + bucket.reused_closed
            for bucket in seen.timeline
            if bucket.at_ms + BUCKET_MS < self.began_ms
            or bucket.at_ms > self.ended_ms + SETTLING_MS
        )


def control(rig: FleetRig, scenario: str, do: Callable[[], None]) -> tuple[Fault, Summary]:
    """The fault without a rollout."""
    fault = Fault(do)
    with rig.watched_users(f"{scenario}: control", QUICK) as users:
        more_requests(users.load, 100)
        fault.happen()
        until(lambda: time.time_ns() // 1_000_000 > fault.ended_ms + SETTLING_MS, "it settles")
        more_requests(users.load, 100)
    return fault, users.summary


def more_requests(load: UsersOn, count: int) -> None:
    wanted = load.snapshot().requests + count
    until(lambda: load.snapshot().requests >= wanted, "users go on")


def in_a_rollout(
    rig: FleetRig, scenario: str, do: Callable[[], None], at: Matches, mend: Callable[[], None]
) -> tuple[Fault, Summary, bool]:
    """The fault in the middle of a rollout, which is then brought to its end."""
    fault, after = Fault(do), rig.next_release()
    with rig.watched_users(f"{scenario}: rollout", QUICK) as users:
        command = rig.start("run", "--release", after, "--yes")
        ended = command.at(at, lambda _: fault.happen()).end()
        mend()
        if ended.exit_code:
            ended.must_be(4)
            rig.status()
            rig.finish(after)
        more_requests(users.load, 50)
    rig.expect_well(after)
    return fault, users.summary, bool(ended.exit_code)


def compare(
    rig: FleetRig,
    scenario: str,
    without: tuple[Fault, Summary],
    within: tuple[Fault, Summary, bool],
) -> None:
    """Print both, and hold them to each other."""
    (first, alone), (fault, seen, halted) = without, within
    for name, one, its in (("control", alone, first), ("rollout", seen, fault)):
        remark = (
            f"{scenario}, {name}: a fault of {its.lasted_ms} ms, {one.requests} requests, "
            f"{one.failed} failed, sessions {one.sessions_followed} followed, "
            f"{one.sessions_lost} lost, writes lost {one.writes_lost}"
            + (", halted and resumed" if halted and one is seen else "")
        )
        rig.figures.remarks.append(remark)
        print(remark, *one.examples, sep="\n")
    assert fault.failed_elsewhen(seen) == 0, seen.lines()
    longer = max(1.0, fault.lasted_ms / first.lasted_ms)
    most = alone.failed * longer * ALIKE_SHARE + ALIKE_COUNT
    assert seen.failed <= most, (seen.lines(), alone.lines())
    assert seen.sessions_lost <= alone.sessions_lost, seen.lines()
    assert seen.writes_lost <= alone.writes_lost + 1, seen.lines()
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


@pytest.mark.parametrize("moment", PLACES)
def test_a_failover_of_redis_hurts_no_more_than_without_a_rollout(
    rig: FleetRig, moment: str
) -> None:
    scenario = f"Redis failover {moment}"
    without = control(rig, scenario, rig.fleet.fail_over)
    rig.fleet.bring_back_replica()
    within = in_a_rollout(rig, scenario, rig.fleet.fail_over, MOMENTS[moment], lambda: None)
    rig.fleet.bring_back_replica()
    compare(rig, scenario, without, within)


@pytest.mark.parametrize("moment", PLACES)
def test_a_node_that_is_killed_hurts_no_more_than_without_a_rollout(
    rig: FleetRig, moment: str
) -> None:
    scenario = f"node killed {moment}"

    def kill() -> None:
        os.kill(rig.fleet.pid_of("app4"), signal.SIGKILL)

    def mend() -> None:
        rig.fleet.start_app("app4")

    without = control(rig, scenario, kill)
    mend()
    compare(rig, scenario, without, in_a_rollout(rig, scenario, kill, MOMENTS[moment], mend))
