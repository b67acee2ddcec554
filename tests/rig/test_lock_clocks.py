"""Clocks that are wrong by minutes, on operators' machines and on load balancers."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest

from rolling_deploy.errors import Interrupted, RollingDeployError, RolloutHeld
from rolling_deploy.inventory import load_inventory
from rolling_deploy.operations import rollouts
from rolling_deploy.operations.balancer_checks import Acceptance
from rolling_deploy.operations.desk import Desk, Footing
from rolling_deploy.operations.life import Run
from rolling_deploy.operations.machines import FleetMachines, WallClock, now_ms
from rolling_deploy.operations.site import Site
from rolling_deploy.ports import Awaiting, Event, FenceToken
from rolling_deploy.rollout.facts import Closed, GaveUp, Opened
from rolling_deploy.rollout.move import Condition
from rolling_deploy.rollout.observed import Interest, Seen
from rolling_deploy.rollout.step import Result, Step
from tests.rig.fixtures import LOCK_S, rig, stand_fixture
from tests.rig.lock_audit import Watch, read_record, state_dirs
from tests.rig.slow_upload import SlowUpload
from tests.rig_tools import LIMIT_S, Command, Rig, fact, wait_until
from tests.rig_tools import Event as Told

__all__ = ["rig"]

stand = stand_fixture()

pytestmark = [pytest.mark.rig, pytest.mark.timeout(900)]

MINUTE_MS = 60_000
DRAIN_LIMIT_MS = 120_000


@dataclass(frozen=True)
class SkewedClock:
    """A clock that is wrong by as much, always. Implements `ports.Clock`."""

    by_ms: int

    def now_ms(self) -> int:
        return now_ms() + self.by_ms

    def steady_ms(self) -> int:
        return WallClock().steady_ms()


@dataclass
class SkewedMachines:
    """The real fleet, seen at the times of a clock that is wrong. Implements `ports.Machines`."""

    machines: FleetMachines
    clock: SkewedClock

    def look(self, interest: Interest) -> Seen:
        return replace(self.machines.look(interest), now_ms=self.clock.now_ms())

    def wait(self, condition: Condition, limit_ms: int) -> None:
        self.machines.wait(condition, limit_ms)

    def perform(self, step: Step, opened: Opened, token: FenceToken) -> Result:
        return self.machines.perform(step, opened, token)


@dataclass
class Operator:
    """Somebody at a machine with a wrong clock, in a thread of this process.

    `disk` is whose state directory they use: only there is a wait known that nothing followed.
    """

    rig: Rig
    name: str
    skew_ms: int
    disk: str = ""
    events: list[Event] = field(default_factory=list)
    end: Run | RollingDeployError | None = None

    def __post_init__(self) -> None:
        clock = SkewedClock(self.skew_ms)

        def machines(site: Site) -> SkewedMachines:
            return SkewedMachines(FleetMachines(site), clock)

        self.desk = Desk(
            load_inventory(self.rig.fleet.inventory_path),
            self.rig.states / (self.disk or self.name),
            self,
            lambda _: True,
            footing=Footing(clock=clock, host=lambda: f"{self.name}-laptop", machines=machines),
        )

    def event(self, event: Event) -> None:
        self.events.append(event)

    def start(self, act: Callable[[Desk], Run | None]) -> threading.Thread:
        def work() -> None:
            try:
                self.end = act(self.desk)
            except RollingDeployError as error:
                self.end = error

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        return thread

    def drains(self) -> list[Awaiting]:
        """Answers the waits for earlier nginx workers so far."""
        waits = [event for event in self.events if isinstance(event, Awaiting)]
        return [event for event in waits if "earlier nginx worker" in event.why]


@pytest.mark.parametrize(
    "minutes",
    [(7, -7), pytest.param((-7, 7), marks=pytest.mark.every)],
    ids=["second behind", "second ahead"],
)
def test_a_second_operator_whose_clock_is_minutes_off_waits_its_whole_limit_and_no_more(
    rig: Rig, minutes: tuple[int, int]
) -> None:
    after = rig.next_release()
    first, second = (
        Operator(rig, name, skew * MINUTE_MS, disk="shared")
        for name, skew in zip(("first", "second"), minutes, strict=True)
    )
    with rig.users(), Watch(rig) as watch, SlowUpload(rig.balancer("lb1").port) as upload:
        begun = first.start(lambda desk: rollouts.run(desk, after, acceptance=Acceptance()))
        wait_until(first.drains, "the first one drains")
        first.desk.stop.request(signal.SIGTERM)
        begun.join(LIMIT_S)
        assert isinstance(first.end, Interrupted)
        resumed = second.start(rollouts.resume)
        wait_until(second.drains, "the second one drains")
        upload.finish()
        resumed.join(LIMIT_S)
    assert isinstance(second.end, Run), second.end
    assert isinstance(second.end.end, Closed)
    wait = second.drains()[0]
    assert DRAIN_LIMIT_MS / 2 < wait.until_ms - wait.at_ms <= DRAIN_LIMIT_MS
    watch.expect_one_at_a_time()
    told = read_record(rig)
    assert [life.epoch for life in told.lives] == sorted({life.epoch for life in told.lives})
    assert len(told.lives) == 2
    assert not [entry for entry in told.chain.entries if isinstance(entry.fact, GaveUp)]
    # The clocks really differed: the record's times jump by as much where the second took over.
    times = [entry.at_ms for entry in told.chain.entries]
    jump_ms = (minutes[1] - minutes[0]) * MINUTE_MS
    jumps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert any(abs(jump - jump_ms) < 5 * MINUTE_MS for jump in jumps)
    rig.expect_well(after)


@pytest.mark.every
def test_a_wrong_clock_takes_no_living_one_for_dead(rig: Rig) -> None:
    after = rig.next_release()
    with rig.users(), SlowUpload(rig.balancer("lb1").port) as upload:
        first = rig.start("run", "--release", after, "--yes")
        first.wait_for(is_draining, "the drain")
        for hours in (-1, 1):
            other = Operator(rig, "other", hours * 60 * MINUTE_MS)
            other.start(rollouts.resume).join(LIMIT_S)
            assert isinstance(other.end, RolloutHeld)
        upload.finish()
        first.end().must_be(0)
    assert len(read_record(rig).lives) == 1
    rig.expect_well(after)


def is_draining(event: Told) -> bool:
    return event["event"] == "awaiting" and "earlier nginx worker" in str(event["why"])


def _takes_over(command: Command) -> bool:
    takes_over = fact("takenover")

    def has_taken_over() -> bool:
        return any(takes_over(event) for event in tuple(command.events))

    wait_until(lambda: command.is_over or has_taken_over(), "it takes over or is refused")
    return has_taken_over()


def until_it_takes_over(rig: Rig, tries: int = 20) -> Command:
    """Resume until the living holder passes for dead: it may just have beaten when it is looked at.

    Answers the operator that has taken over.
    """
    for _ in range(tries):
        second = rig.start("resume", "--yes", by="second")
        if _takes_over(second):
            return second
        second.end().must_be(5)
    raise AssertionError(f"refused {tries} times")


def set_the_hearts(rig: Rig, age_s: int) -> None:
    """Let the hearts have beaten so long ago, as a jump of the load balancers' clocks makes it."""
    at = time.time() - age_s  # noqa: TID251 # files' time
    for folder in state_dirs(rig).values():
        with contextlib.suppress(FileNotFoundError):
            os.utime(folder / "heartbeat", (at, at))


@pytest.mark.every
def test_load_balancers_whose_clocks_are_set_back_keep_a_living_holder(rig: Rig) -> None:
    after = rig.next_release()
    with rig.users(), SlowUpload(rig.balancer("lb1").port) as upload:
        first = rig.start("run", "--release", after, "--yes")
        first.wait_for(is_draining, "the drain")
        over = threading.Event()

        def go_on_setting_them_back() -> None:
            while not over.wait(0.01):
                set_the_hearts(rig, -3600)

        jumping = threading.Thread(target=go_on_setting_them_back, daemon=True)
        jumping.start()
        refused = rig.do("resume", "--yes", by="second").must_be(5)
        assert "holds rollout" in refused.message.what
        over.set()
        jumping.join(30)
        upload.finish()
        first.end().must_be(0)
    assert len(read_record(rig).lives) == 1
    rig.expect_well(after)


@pytest.mark.every
def test_a_dead_one_is_resumed_although_the_clocks_were_set_back_by_an_hour(rig: Rig) -> None:
    after = rig.next_release()
    with rig.users(), SlowUpload(rig.balancer("lb1").port) as upload:
        first = rig.start("run", "--release", after, "--yes")
        first.wait_for(is_draining, "the drain")
        first.signal(signal.SIGKILL)
        first.end()
        set_the_hearts(rig, -3600)
        rig.do("resume", "--yes", by="second").must_be(5)
        upload.finish()
        began = time.monotonic()
        resumed = rig.do("resume", "--yes", "--wait", "300", by="second").must_be(0)
        print(f"taken over and finished after {time.monotonic() - began:.1f} s, expiry {LOCK_S} s")
        assert resumed.has(fact("takenover"))
    rig.expect_well(after)


def test_load_balancers_whose_clocks_jump_ahead_never_let_two_act(rig: Rig) -> None:
    after = rig.next_release()
    with rig.users(), Watch(rig) as watch, SlowUpload(rig.balancer("lb1").port) as upload:
        first = rig.start("run", "--release", after, "--yes")
        first.wait_for(is_draining, "the drain")
        over = threading.Event()

        def go_on_jumping() -> None:
            while not over.wait(0.01):
                set_the_hearts(rig, 3600)

        jumping = threading.Thread(target=go_on_jumping, daemon=True)
        jumping.start()
        second = until_it_takes_over(rig)
        over.set()
        jumping.join(30)
        upload.finish()
        woken = first.end().must_be(5)
        assert "somebody else has taken this rollout over" in woken.message.what
        second.end().must_be(0)
    watch.expect_one_at_a_time()
    assert len(read_record(rig, disks=["second"]).lives) == 2
    rig.expect_well(after)
