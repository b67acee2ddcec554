"""Whole rollouts in the fake world, where a rule alone would not show what matters."""

from __future__ import annotations

import pytest

from rolling_deploy.rollout.facts import (
    Cause,
    Closed,
    Decided,
    DeclaredOff,
    Direction,
    Ending,
    Halted,
    Redirected,
)
from rolling_deploy.rollout.fleet import OnFailure, Policy
from tests import fake_hands
from tests.drive import resume, run, settle
from tests.fake_faults import Crash, Fault
from tests.world import make_world, open_rollout

STAYS = frozenset({"app2"})


def test_a_parked_backend_is_never_put_back() -> None:
    world = make_world(4, 2, parked=STAYS)
    open_rollout(world, policy=Policy(wave_size=2))
    _, end = run(world.lives[-1])
    assert end == Closed(Ending.DONE)
    assert world.backends["app2"].version == "r1"
    assert all("app2" not in lb.current.up for lb in world.balancers.values())
    world.assert_promises_kept()


def test_a_backend_parked_while_the_rollout_runs_halts_it_and_stays_parked() -> None:
    world = make_world(3, 1)
    open_rollout(world)
    world.hands_at.append(("append Released", lambda there: fake_hands.park(there, "app3")))
    _, end = run(world.lives[-1])
    assert isinstance(end, Halted)
    assert end.cause is Cause.HANDS
    assert world.balancers["lb1"].current.up == {"app1", "app2"}
    world.assert_promises_kept()


def test_a_backend_that_a_person_put_back_is_not_stopped_a_second_time() -> None:
    """The first attempt came to nothing; before the second somebody puts the backend in by hand."""
    world = make_world(3, 2)
    open_rollout(world)
    world.plan.by_text.append(("perform activate app1", Fault.CRASH_BEFORE))
    with pytest.raises(Crash):
        run(world.lives[-1])
    fake_hands.put_in(world, "app1")
    _, end = resume(world)
    assert isinstance(end, Halted)
    assert world.backends["app1"].version == "r1"
    assert not world.audit.stops
    world.assert_promises_kept()


def test_what_an_earlier_rollout_left_out_is_taken_over_and_put_in_when_it_is_good() -> None:
    world = make_world(3, 2, left_out=STAYS)
    world.backends["app2"].sick_on = {"r1"}
    open_rollout(world)
    _, end = run(world.lives[-1])
    assert end == Closed(Ending.DONE)
    assert all(lb.current.up == set(world.backends) for lb in world.balancers.values())
    world.assert_promises_kept()


@pytest.mark.parametrize("fault", ["cut", "edit"])
def test_what_an_earlier_rollout_left_out_is_not_put_in_by_giving_it_up(fault: str) -> None:
    world = make_world(3, 2, left_out=frozenset({"app1"}))
    world.backends["app1"].sick_on = {"r1"}
    open_rollout(world)

    def trouble(_: object) -> None:
        if fault == "cut":
            world.balancers["lb2"].is_reachable = False
        else:
            fake_hands.edit(world, "lb2")

    world.plan.by_text.append(("perform activate app1", Fault.REFUSED))
    world.hands_at.append(("perform activate app1", trouble))
    _, end = run(world.lives[-1])
    assert isinstance(end, Halted)
    assert not world.audit.stops
    assert "app1" not in world.balancers["lb1"].current.up
    world.assert_promises_kept()


def test_stopping_leaves_alone_what_was_out_before_we_came() -> None:
    world = make_world(3, 1, left_out=STAYS)
    open_rollout(world)
    world.plan.by_text.append(("append Claimed", Fault.CRASH_BEFORE))
    with pytest.raises(Crash):
        run(world.lives[-1])
    _, end = resume(world, Redirected(Direction.STOP, "me"))
    assert end == Closed(Ending.ABORTED)
    assert world.balancers["lb1"].reloads == 0


def test_a_load_balancer_that_is_off_is_brought_in_line_before_it_is_done() -> None:
    world = make_world(3, 2)
    open_rollout(world)

    def die(_: object) -> None:
        world.balancers["lb2"].is_reachable = False

    world.hands_at.append(("append Proved", die))
    _, end = run(world.lives[-1])
    assert isinstance(end, Halted)
    assert end.cause is Cause.UNREACHABLE
    _, end = resume(world, DeclaredOff(frozenset({"lb2"}), "me"), Decided("me"))
    assert isinstance(end, Halted)
    assert end.cause is Cause.DECLARED_OFF
    assert {fake.version for fake in world.backends.values()} == {"r2"}
    world.balancers["lb2"].is_reachable = True
    _, end = resume(world, DeclaredOff(frozenset(), "me"), Decided("me"))
    assert end == Closed(Ending.DONE)
    assert world.balancers["lb2"].current.up == set(world.backends)
    world.assert_promises_kept()


def test_a_wave_in_which_one_fails_puts_the_other_in() -> None:
    world = make_world(4, 2)
    world.backends["app2"].sick_on = {"r2"}
    open_rollout(world, policy=Policy(wave_size=2, ready_limit_ms=1_000))
    _, end = run(world.lives[-1])
    assert isinstance(end, Halted)
    assert end.cause is Cause.BACKEND
    assert all(lb.current.up == {"app1", "app3", "app4"} for lb in world.balancers.values())
    assert world.backends["app3"].version == "r1"
    world.assert_promises_kept()


@pytest.mark.parametrize("where", ["sick_on", "cold_on", "instead"])
def test_a_backend_that_fails_in_any_way_goes_back_and_serves_again(where: str) -> None:
    world = make_world(3, 2)
    if where == "instead":
        world.backends["app2"].instead = {"r2": "r0"}
    else:
        setattr(world.backends["app2"], where, {"r2"})
    policy = Policy(on_failure=OnFailure.BACK_NODE, ready_limit_ms=1_000)
    open_rollout(world, policy=policy)
    _, end = run(world.lives[-1])
    assert isinstance(end, Closed)
    assert end.ending is Ending.WENT_BACK
    assert [b.version for b in world.backends.values()] == ["r2", "r1", "r1"]
    assert all(lb.current.up == set(world.backends) for lb in world.balancers.values())
    world.assert_promises_kept()


def test_a_backend_that_fails_on_both_releases_stays_out_and_halts() -> None:
    world = make_world(3, 1)
    world.backends["app1"].cold_on = {"r1", "r2"}
    open_rollout(world, policy=Policy(on_failure=OnFailure.BACK_NODE))
    journey = settle(world, answers_max=2)
    assert isinstance(journey.end, Halted)
    assert world.balancers["lb1"].current.up == {"app2", "app3"}
    world.assert_promises_kept()


def test_an_abort_brings_back_everything_that_was_changed_in_reverse_order() -> None:
    world = make_world(4, 1)
    world.backends["app3"].sick_on = {"r2"}
    open_rollout(world, policy=Policy(ready_limit_ms=1_000))
    run(world.lives[-1])
    _, end = resume(world, Redirected(Direction.BACK, "me"))
    assert end == Closed(Ending.ABORTED)
    assert {fake.version for fake in world.backends.values()} == {"r1"}
    stops = [line.split()[2] for line in world.audit.log if "stopped for previous" in line]
    assert stops == ["app3", "app2", "app1"]
    world.assert_promises_kept()


def test_a_crash_loop_never_becomes_a_restart_loop() -> None:
    world = make_world(2, 1)
    open_rollout(world, policy=Policy(attempts_max=3))
    world.plan.by_text += [("perform activate app1", Fault.CRASH_HALF)] * 10
    journey = settle(world, answers_max=0)
    assert isinstance(journey.end, Halted)
    assert sum(world.audit.stops.values()) == 3
    assert world.balancers["lb1"].current.up == {"app2"}
    world.assert_promises_kept()
    with pytest.raises(Crash):
        resume(world, Decided("me"))
    _, end = resume(world)
    assert isinstance(end, Halted)
    assert sum(world.audit.stops.values()) == 4


def test_reloads_by_other_people_neither_hurt_nor_count() -> None:
    world = make_world(3, 2)
    open_rollout(world)
    for text in ("append Claimed", "perform activate app1", "append Proved", "append Released"):
        world.hands_at.append((text, lambda there: fake_hands.reload(there, "lb1")))
    _, end = run(world.lives[-1])
    assert end == Closed(Ending.DONE)
    world.assert_promises_kept()


def test_a_drain_that_cannot_be_told_is_proved_by_another_reload() -> None:
    world = make_world(2, 1)
    open_rollout(world)

    def forget(_: object) -> None:
        world.balancers["lb1"].has_snapshot = False

    world.hands_at.append(("wait drained", forget))
    _, end = run(world.lives[-1])
    assert end == Closed(Ending.DONE)
    assert world.balancers["lb1"].reloads == 5
    world.assert_promises_kept()
