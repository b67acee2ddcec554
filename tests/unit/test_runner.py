"""The loop: persist, then act; threads; signals; and being overtaken."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from rolling_deploy.errors import (
    Interrupted,
    InvariantBroken,
    RecordWrong,
    RolloutHalted,
    RolloutHeld,
)
from rolling_deploy.ports import Awaiting, FenceToken, Written
from rolling_deploy.rollout.facts import Closed, Ended, Ending, Fact, Intended, Opened
from rolling_deploy.rollout.fleet import Policy
from rolling_deploy.rollout.observed import Check, Interest, Seen, Verdict
from rolling_deploy.rollout.step import Activate, Outcome, Result, Stage, Step
from rolling_deploy.runner import WAIT_SLICE_MS, Runner, Stop
from tests.drive import inline, resume, run
from tests.fake_faults import Crash, Fault
from tests.fake_life import Life
from tests.world import World, live_again, make_world, open_rollout


def opened(backends: int = 3, balancers: int = 2, **policy: int) -> World:
    """Answers a world with a rollout that can begin."""
    world = make_world(backends, balancers)
    open_rollout(world, policy=Policy(**policy))  # type: ignore[arg-type] # whole numbers
    return world


def facts(world: World) -> list[Fact]:
    """Answers the facts that were told."""
    return [event.entry.fact for event in world.events if isinstance(event, Written)]


def test_a_whole_rollout_runs_on_threads_of_its_own() -> None:
    world = opened(wave_size=2, serving_min=1)
    life = world.lives[-1]
    _, end = Runner(life, life, life, life, life.token).run()
    assert end == Closed(Ending.DONE)
    world.assert_promises_kept()
    world.assert_site_serves()


def test_every_intent_is_written_before_its_step_and_every_outcome_after() -> None:
    world = opened()
    run(world.lives[-1])
    performed = 0
    intended = 0
    for port, label in world.calls:
        intended += label.count("Intended(") if port == "append" else 0
        performed += port == "perform"
        assert performed <= intended
    assert performed == intended > 0
    told = facts(world)
    assert sum(isinstance(f, Intended) for f in told) == sum(isinstance(f, Ended) for f in told)


def test_nothing_is_done_when_the_record_cannot_be_written() -> None:
    for fault, error in ((Fault.DISK_FULL, RecordWrong), (Fault.NO_COPY, RolloutHalted)):
        world = opened()
        world.plan.by_text.append(("append Intended(apply", fault))
        with pytest.raises(error):
            run(world.lives[-1])
        assert not any(label.startswith("apply") for _, label in world.calls if _ == "perform")
        assert all(lb.reloads == 0 for lb in world.balancers.values())


def test_how_long_a_step_took_is_written_with_its_outcome() -> None:
    world = opened()

    @dataclass
    class Slow:
        """Machines whose commands take 70 ms."""

        life: Life

        def look(self, interest: Interest) -> Seen:
            return self.life.look(interest)

        def wait(self, condition: object, limit_ms: int) -> None:
            self.life.wait(condition, limit_ms)  # type: ignore[arg-type] # passed on

        def perform(self, step: Step, first: Opened, token: FenceToken) -> Result:
            world.pass_time(69)
            return self.life.perform(step, first, token)

    life = world.lives[-1]
    Runner(Slow(life), life, life, life, life.token, spawn=inline).run()
    assert {fact.result.took_ms for fact in facts(world) if isinstance(fact, Ended)} == {70}


def test_waits_are_sliced_so_that_people_are_seen_meanwhile() -> None:
    world = opened(drain_limit_ms=100_000)
    world.balancers["lb1"].drains_ms = [None]
    run(world.lives[-1])
    waits = [event for event in world.events if isinstance(event, Awaiting)]
    assert len(waits) == -(-100_000 // WAIT_SLICE_MS)
    assert len({event.until_ms for event in waits}) == 1
    assert "earlier nginx workers" in waits[0].why


def test_an_operator_that_was_overtaken_stops_and_writes_nothing_more() -> None:
    world = opened()
    old = world.lives[-1]
    taken: list[Life] = []

    def take_over(there: World) -> None:
        taken.append(live_again(there, "another"))

    number = 1 + next(
        n for n, call in enumerate(_quiet_calls(), start=1) if call[1] == "activate app1 release"
    )
    world.hands[number - 1] = take_over
    with pytest.raises(RolloutHeld) as caught:
        run(old)
    assert caught.value.exit_code == 5
    _, end = run(taken[0])
    assert end == Closed(Ending.DONE)
    world.assert_promises_kept()


def _quiet_calls() -> list[tuple[str, str]]:
    world = opened()
    run(world.lives[-1])
    return world.calls


def test_a_refusal_by_the_fence_is_not_written_to_a_record_that_is_no_longer_ours() -> None:
    world = opened()
    world.backends["app1"].fence = type(world.backends["app1"].fence)(9, "another")
    with pytest.raises(RolloutHeld, match="taken this rollout over"):
        run(world.lives[-1])
    assert not any(isinstance(fact, Ended) and fact.of == 2 for fact in facts(world))


@pytest.mark.parametrize("spawn", [None, inline], ids=["threads", "in place"])
def test_a_step_that_raises_is_of_unknown_outcome_and_looked_at(spawn: object) -> None:
    world = opened()
    life = world.lives[-1]

    @dataclass
    class Buggy:
        """Machines with a bug in the first staging."""

        seen: list[Step] = field(default_factory=list)

        def look(self, interest: Interest) -> Seen:
            return life.look(interest)

        def wait(self, condition: object, limit_ms: int) -> None:
            life.wait(condition, limit_ms)  # type: ignore[arg-type] # passed on

        def perform(self, step: Step, first: Opened, token: FenceToken) -> Result:
            self.seen.append(step)
            if len(self.seen) == 1:
                raise ZeroDivisionError("a bug")
            return life.perform(step, first, token)

    runner = Runner(Buggy(), life, life, life, life.token)
    runner.spawn = inline if spawn else runner.spawn
    _, end = runner.run()
    results = [fact.result for fact in facts(world) if isinstance(fact, Ended)]
    assert [r.detail for r in results if r.outcome is Outcome.UNKNOWN] == [
        "ZeroDivisionError: a bug"
    ]
    assert end == Closed(Ending.DONE)


@pytest.mark.parametrize("text", ["look", "perform stage app2", "append Claimed", "wait ready"])
def test_a_death_on_a_thread_is_a_death_and_not_a_wait_for_ever(text: str) -> None:
    world = opened()
    world.plan.by_text.append((text, Fault.CRASH_AFTER))
    life = world.lives[-1]
    with pytest.raises(Crash):
        Runner(life, life, life, life, life.token).run()
    _, end = resume(world)
    assert end == Closed(Ending.DONE)


def test_safety_is_asked_before_every_act(monkeypatch: pytest.MonkeyPatch) -> None:
    world = opened()

    def refuse(record: object, seen: object, steps: Sequence[Step]) -> None:
        if isinstance(steps[0], Activate):
            raise InvariantBroken("not this time")

    monkeypatch.setattr("rolling_deploy.runner.check", refuse)
    with pytest.raises(InvariantBroken, match="not this time"):
        run(world.lives[-1])
    assert not world.audit.stops
    assert not any(isinstance(f, Intended) and isinstance(f.step, Activate) for f in facts(world))


def test_the_store_is_asked_before_each_claim_and_its_refusal_halts() -> None:
    world = opened()
    calls = _quiet_calls()
    second = next(n for n, call in enumerate(calls, start=1) if call[1] == "Released")

    def frozen(there: World) -> None:
        there.store = (Check("session store", "write", Verdict.REFUSED, "READONLY"),)

    world.hands[second] = frozen
    _, end = run(world.lives[-1])
    assert "READONLY" in end.reason
    assert not isinstance(end, Closed)
    world.assert_site_serves()


# --- signals


@dataclass
class Hanging:
    """Machines on which one kind of step hangs until the test lets go."""

    life: Life
    hangs: type
    began: threading.Event = field(default_factory=threading.Event)
    let_go: threading.Event = field(default_factory=threading.Event)

    def look(self, interest: Interest) -> Seen:
        """Answers the fake's look."""
        return self.life.look(interest)

    def wait(self, condition: object, limit_ms: int) -> None:
        """Wait in the fake."""
        self.life.wait(condition, limit_ms)  # type: ignore[arg-type] # passed on

    def perform(self, step: Step, first: Opened, token: FenceToken) -> Result:
        """Hang, or do it in the fake."""
        if isinstance(step, self.hangs):
            self.began.set()
            self.let_go.wait(30)
        return self.life.perform(step, first, token)


def test_a_signal_ends_the_run_soon_and_names_what_is_in_doubt() -> None:
    world = opened(backends=2, balancers=1)
    life = world.lives[-1]
    machines, stop = Hanging(life, Activate), Stop()
    runner = Runner(machines, life, life, life, life.token, stop)

    def signal() -> None:
        machines.began.wait(30)
        stop.request(15)

    threading.Thread(target=signal, daemon=True).start()
    began = time.monotonic()
    with pytest.raises(Interrupted) as caught:
        runner.run()
    assert time.monotonic() - began < 20
    assert caught.value.exit_code == 128 + 15
    assert "in doubt: activate app1 release" in caught.value.what
    assert "app1 is out of rotation" in caught.value.site
    assert caught.value.next_step == "rolling-deploy resume"
    life.is_dead = True
    machines.let_go.set()
    _, end = resume(world)
    assert end == Closed(Ending.DONE)
    world.assert_promises_kept()


def test_what_answers_in_the_grace_after_a_signal_is_still_written_but_nothing_new_starts() -> None:
    world = opened(backends=2, balancers=1)
    life = world.lives[-1]
    stop = Stop()

    @dataclass
    class Signalled(Hanging):
        """Machines on which the signal comes while the artifacts are being sent."""

        def perform(self, step: Step, first: Opened, token: FenceToken) -> Result:
            stop.request(2)
            return self.life.perform(step, first, token)

    runner = Runner(Signalled(life, Stage), life, life, life, life.token, stop, spawn=inline)
    with pytest.raises(Interrupted) as caught:
        runner.run()
    assert caught.value.exit_code == 130
    assert "nobody is out" in caught.value.site
    ended = [fact for fact in facts(world) if isinstance(fact, Ended)]
    assert [fact.result.outcome for fact in ended] == [Outcome.DONE, Outcome.DONE]
    assert all(lb.reloads == 0 for lb in world.balancers.values())


@pytest.mark.parametrize(("step", "is_witnessed"), [("continuity", True), ("warm up", False)])
def test_all_but_what_only_reads_is_on_a_load_balancer_before_it_is_done(
    step: str, is_witnessed: bool
) -> None:
    """Canary sessions are written into the session store; a warm-up changes nothing."""
    world = opened()
    world.plan.by_text.append((f"append Intended({step}", Fault.NO_COPY))
    if is_witnessed:
        with pytest.raises(RolloutHalted):
            run(world.lives[-1])
    else:
        assert run(world.lives[-1])[1] == Closed(Ending.DONE)
    assert not world.plan.by_text, "the step came"
    assert is_witnessed != any(label.startswith(step) for _, label in world.calls if _ == "perform")
