"""An operator that stood still: stopped, without time, or suspended with its machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from rolling_deploy.errors import Interrupted
from rolling_deploy.ports import FenceToken, Said, Written
from rolling_deploy.rollout.facts import Closed, Ended, Ending, Fact, Halted, Intended, Opened
from rolling_deploy.rollout.fleet import Policy
from rolling_deploy.rollout.journal import Entry
from rolling_deploy.rollout.observed import Interest, Seen
from rolling_deploy.rollout.step import Outcome, Result, Step, WarmUp
from rolling_deploy.runner import STANDSTILL_MAX_MS, Pulse, Runner
from tests.drive import inline, run
from tests.fake_life import Life
from tests.world import World, make_world, open_rollout

MINUTE_MS = 60_000


def opened() -> World:
    """Answers a world with a rollout that can begin, every kind of step in it."""
    world = make_world(3, 2)
    open_rollout(world, policy=Policy(proves_sessions=True))
    return world


@dataclass
class Sleeper:
    """Machines, journal and clocks of an operator that stands still once, right after a port call.

    Attributes:
        after: which call of this port, counted from 1.
        wall_ms, slept_ms: how far each clock goes on meanwhile.
    """

    life: Life
    port: str
    after: int
    wall_ms: int = 0
    slept_ms: int = 0
    calls: int = 0
    woke_at: int = 0
    """How many calls there were when it slept."""
    _ahead: list[int] = field(default_factory=lambda: [0, 0])

    def now_ms(self) -> int:
        """Answers the wall clock's time."""
        return self.life.now_ms() + self._ahead[0]

    def steady_ms(self) -> int:
        """Answers the time of the clock that nobody sets."""
        return self.life.steady_ms() + self._ahead[1]

    def _came(self, port: str) -> None:
        if port == self.port:
            self.calls += 1
        if port == self.port and self.calls == self.after:
            self._ahead = [self.wall_ms, self.slept_ms]
            self.woke_at = len(self.life.world.calls)

    def look(self, interest: Interest) -> Seen:
        """Answers the fake's look, and perhaps sleeps on it."""
        seen = self.life.look(interest)
        self._came("look")
        return seen

    def wait(self, condition: object, limit_ms: int) -> None:
        """Wait in the fake."""
        self.life.wait(condition, limit_ms)  # type: ignore[arg-type] # passed on

    def perform(self, step: Step, first: Opened, token: FenceToken) -> Result:
        """Do it in the fake."""
        return self.life.perform(step, first, token)

    def entries(self) -> Sequence[Entry]:
        """Answers the fake's entries."""
        return self.life.entries()

    def append(self, facts: Sequence[Fact], *, before_acting: bool) -> Sequence[Entry]:
        """Append in the fake, and perhaps sleep once intents are written."""
        entries = self.life.append(facts, before_acting=before_acting)
        if any(isinstance(fact, Intended) for fact in facts):
            self._came("intents")
        return entries

    def run(self) -> Closed:
        """Drive the rollout to its end."""
        runner = Runner(self, self, self, self.life, self.life.token, spawn=inline)
        _, end = runner.run()
        assert isinstance(end, Closed)
        return end

    @property
    def next_call(self) -> tuple[str, str]:
        """Answers what was done first after the sleep."""
        return self.life.world.calls[self.woke_at]


def quiet_calls() -> list[tuple[str, str]]:
    """Answers the calls of a rollout in which nothing happens."""
    world = opened()
    run(world.lives[-1])
    return world.calls


@pytest.mark.parametrize(
    ("wall_ms", "slept_ms"),
    [(MINUTE_MS, MINUTE_MS), (MINUTE_MS, 0), (-MINUTE_MS, MINUTE_MS)],
    ids=["both clocks go on", "the steady clock stops", "the wall clock is set back"],
)
def test_who_stood_still_after_any_look_looks_again_first(wall_ms: int, slept_ms: int) -> None:
    """Whatever would have followed: a note, a step, a wait or the end."""
    looks = sum(port == "look" for port, _ in quiet_calls())
    assert looks > 5
    for number in range(1, looks + 1):
        world = opened()
        sleeper = Sleeper(world.lives[-1], "look", number, wall_ms, slept_ms)
        assert sleeper.run() == Closed(Ending.DONE)
        assert sleeper.next_call[0] == "look", number
        said = [event.text for event in world.events if isinstance(event, Said)]
        assert said == [
            "this process stood still for 60 s after it looked, or its clock was set; looking again"
        ]


def test_who_stood_still_after_writing_any_intent_sends_nothing_and_looks_again() -> None:
    intents = sum(port == "append" and "Intended" in label for port, label in quiet_calls())
    assert intents > 5
    for number in range(1, intents + 1):
        world = opened()
        sleeper = Sleeper(world.lives[-1], "intents", number, MINUTE_MS, MINUTE_MS)
        assert sleeper.run() == Closed(Ending.DONE)
        came = [port for port, _ in world.calls[sleeper.woke_at :]]
        assert "perform" not in came[: came.index("look")], number
        world.assert_promises_kept()


def test_what_was_not_sent_is_said_and_is_no_try() -> None:
    """However few tries a step has: a laptop's lid must not leave a backend out of rotation."""
    intents = sum(port == "append" and "Intended" in label for port, label in quiet_calls())
    for number in range(1, intents + 1):
        world = make_world(3, 2)
        open_rollout(world, policy=Policy(proves_sessions=True, attempts_max=1))
        Sleeper(world.lives[-1], "intents", number, MINUTE_MS, MINUTE_MS).run()
        written = [event for event in world.events if isinstance(event, Written)]
        not_sent = [
            event.entry.fact.result
            for event in written
            if isinstance(event.entry.fact, Ended)
            and event.entry.fact.result.outcome is Outcome.NOT_SENT
        ]
        assert not_sent, number
        said = "nothing was sent: this process stood still for 60 s after it looked, or its clock"
        assert {result.detail for result in not_sent} == {f"{said} was set"}
        assert set(written[-1].record.attempts.values()) == {1}
        world.assert_promises_kept()


@dataclass
class Racing:
    """A clock that runs far too fast, or a machine that gives this process hardly any time."""

    life: Life
    steady: int = 0

    def now_ms(self) -> int:
        """Answers the wall clock's time."""
        return self.life.now_ms()

    def steady_ms(self) -> int:
        """Answers a time that is a minute later whenever it is asked."""
        self.steady += MINUTE_MS
        return self.steady


def test_whoever_never_gets_time_comes_to_a_halt_with_everybody_in_rotation() -> None:
    world = opened()
    life = world.lives[-1]
    _, end = Runner(life, life, Racing(life), life, life.token, spawn=inline).run()
    assert isinstance(end, Closed | Halted)
    assert "nothing was sent: this process stood still" in end.reason
    assert not [call for call in world.calls if call[0] == "perform"]
    assert sum(port == "look" for port, _ in world.calls) < 200
    world.assert_promises_kept()


def test_whoever_never_gets_time_hears_a_signal() -> None:
    world = opened()
    life = world.lives[-1]
    runner = Runner(life, life, Racing(life), life, life.token, spawn=inline)
    runner.stop.request(15)
    with pytest.raises(Interrupted):
        runner.run()
    assert [port for port, _ in world.calls if port != "append"] == ["look"]


def test_a_moment_is_no_standstill() -> None:
    """A busy machine gives a process no time for seconds now and then: that costs nothing."""
    world = opened()
    Sleeper(world.lives[-1], "look", 3, STANDSTILL_MAX_MS // 2, STANDSTILL_MAX_MS // 2).run()
    assert world.calls == quiet_calls()


def test_whoever_waits_for_a_slow_machine_has_not_stood_still() -> None:
    """The pulse is felt while it waits: the look lasts for a minute by this clock, and is taken."""
    world = opened()
    life, beats = world.lives[-1], threading.Semaphore(0)

    @dataclass
    class SlowLooks:
        """Looks that end only after twenty beats, and a clock that goes on by 3 s at each."""

        steady: int = 0

        def now_ms(self) -> int:
            return life.now_ms()

        def steady_ms(self) -> int:
            self.steady += 3_000
            beats.release()
            return self.steady

        def look(self, interest: Interest) -> Seen:
            if self.steady < MINUTE_MS:
                for _ in range(20):
                    assert beats.acquire(timeout=60)
            return life.look(interest)

        def wait(self, condition: object, limit_ms: int) -> None:
            life.wait(condition, limit_ms)  # type: ignore[arg-type] # passed on

        def perform(self, step: Step, first: Opened, token: FenceToken) -> Result:
            return life.perform(step, first, token)

    slow = SlowLooks()
    _, end = Runner(slow, life, slow, life, life.token).run()
    assert end == Closed(Ending.DONE)
    assert slow.steady >= MINUTE_MS
    assert not [event for event in world.events if isinstance(event, Said)]


def test_what_only_reads_is_not_sent_late_either() -> None:
    """A warm-up after a sleep would be of a process that may have been restarted since."""
    calls = [call for call in quiet_calls() if call[0] == "append" and "Intended" in call[1]]
    number = next(n for n, (_, label) in enumerate(calls, 1) if "warm up" in label)
    world = opened()
    Sleeper(world.lives[-1], "intents", number, MINUTE_MS, MINUTE_MS).run()
    facts = [event.entry.fact for event in world.events if isinstance(event, Written)]
    intents = {e.entry.seq: e.entry.fact for e in world.events if isinstance(e, Written)}
    late = [f for f in facts if isinstance(f, Ended) and "nothing was sent" in f.result.detail]
    steps = [intents[ended.of] for ended in late]
    assert all(isinstance(one, Intended) and isinstance(one.step, WarmUp) for one in steps)
    assert steps


def test_a_look_forgets_what_stood_still_before_it() -> None:
    world = opened()
    sleeper = Sleeper(world.lives[-1], "look", 1, MINUTE_MS, MINUTE_MS)
    pulse = Pulse(sleeper)
    pulse.begin()
    assert not pulse.feel()
    sleeper.look(Interest(frozenset()))
    assert pulse.feel()
    assert pulse.feel(), "it stays so until the next look"
    pulse.begin()
    assert not pulse.feel()


ASKS = """
import time
from rolling_deploy.operations.machines import WallClock
print(WallClock().steady_ms() - time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1_000_000)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux' monotonic clock stops in suspend")
def test_the_steady_clock_goes_on_while_the_machine_is_suspended() -> None:
    """In a time namespace whose machine has been suspended for an hour, as far as it can tell."""
    unshare = shutil.which("unshare")
    if unshare is None or os.geteuid() != 0:
        pytest.skip("needs root and util-linux' unshare to set a clock apart")
    namespace = [unshare, "--time", "--fork", "--boottime", "3600"]
    if subprocess.run([*namespace, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("this kernel gives no time namespace")
    root = Path(__file__).resolve().parents[2]

    def apart_ms(*argv: str) -> int:
        done = subprocess.run(
            [*argv, sys.executable, "-c", ASKS],
            capture_output=True,
            text=True,
            check=True,
            cwd=root,
            env={**os.environ, "PYTHONPATH": str(root)},
            timeout=60,
        )
        return int(done.stdout)

    assert abs(apart_ms(*namespace) - apart_ms() - 3_600_000) < MINUTE_MS
