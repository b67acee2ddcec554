"""What a plan shows is what the engine would do."""

from __future__ import annotations

from dataclasses import replace

from rolling_deploy.rollout.decide import interest
from rolling_deploy.rollout.facts import Closed, Direction, Ending, Proved, Purpose, Redirected
from rolling_deploy.rollout.fleet import Policy
from rolling_deploy.rollout.fold import fold
from rolling_deploy.rollout.forecast import Forecast, forecast
from rolling_deploy.rollout.move import Act, Finish, Halt, Move, Note
from rolling_deploy.rollout.observed import BackendSeen, Unreachable
from rolling_deploy.rollout.step import Activate, Apply, Continuity, Stage, Unadopt
from tests.values import (
    APPS,
    GONE,
    activated,
    edited,
    found,
    opened,
    published,
    record,
    runs,
    seen,
)
from tests.world import make_world, open_rollout

FOUND = {"lb1": found(), "lb2": found()}


def steps_of(told: Forecast, *kinds: type) -> list[object]:
    """Answers the steps of these kinds, in order."""
    moves: list[Move] = list(told.moves)
    return [s for m in moves if isinstance(m, Act) for s in m.steps if isinstance(s, kinds)]


def test_a_plan_takes_each_backend_out_once_and_puts_it_back_once() -> None:
    told = forecast(record(opened()), seen(FOUND))
    assert told.moves[-1] == Finish(Closed(Ending.DONE))
    assert steps_of(told, Stage, Activate) == [
        *(Stage(name) for name in APPS),
        *(s for s in steps_of(told, Activate)),
    ]
    outs = [
        s.out for s in steps_of(told, Apply) if isinstance(s, Apply) and s.load_balancer == "lb1"
    ]
    assert outs == [{"app1"}, set(), {"app2"}, set(), {"app3"}, set()]
    assert told.reloads == {"lb1": 6, "lb2": 6}


def test_waves_halve_the_reloads() -> None:
    first = opened(policy=Policy(wave_size=2))
    assert forecast(record(first), seen(FOUND)).reloads == {"lb1": 4, "lb2": 4}


def test_a_plan_touches_nothing_it_was_given() -> None:
    look = seen(FOUND)
    before = replace(look)
    forecast(record(opened()), look)
    assert look == before


def test_a_plan_says_what_would_halt_it() -> None:
    look = seen({"lb1": found(), "lb2": edited()})
    told = forecast(record(opened()), look)
    assert isinstance(told.moves[-1], Finish)
    assert told.moves[-1].closed.ending is Ending.NOTHING_TOUCHED
    one = opened(upstreams={"web": APPS, "api": ("app2",)})
    assert isinstance(forecast(record(one), seen(FOUND)).moves[-1], Halt)


def test_what_is_ill_now_is_not_hoped_to_be_well_later() -> None:
    ill: dict[str, BackendSeen | Unreachable] = {"app2": runs("r1", is_good=False), "app3": GONE}
    told = forecast(record(opened()), seen(FOUND, ill))
    assert isinstance(told.moves[-1], Finish)
    assert told.moves[-1].closed.ending is Ending.NOTHING_TOUCHED


def test_what_is_not_configured_is_said_in_the_proof() -> None:
    told = forecast(record(opened()), seen(FOUND), not_checked=frozenset({"Continuity"}))
    notes = [f for m in told.moves if isinstance(m, Note) for f in m.facts if isinstance(f, Proved)]
    assert {fact.detail for fact in notes} == {"session continuity: not checked"}
    assert len(steps_of(told, Continuity)) == 3


def test_a_plan_from_the_middle_goes_on_from_there() -> None:
    held = record(opened(), *activated(opened(), "app1"))
    both = {"lb1": published("app1", is_busy=True), "lb2": published("app1", earlier_workers=1)}
    told = forecast(held, seen(both, {"app1": BackendSeen("r2.war")}))
    assert [s.backend for s in steps_of(told, Activate) if isinstance(s, Activate)] == [
        "app2",
        "app3",
    ]
    back = record(opened(), *activated(opened(), "app1"), Redirected(Direction.BACK, "me"))
    told = forecast(back, seen({"lb1": published("app1"), "lb2": published("app1")}))
    assert told.moves[-1] == Finish(Closed(Ending.ABORTED))
    assert len(steps_of(told, Activate)) == 1


def test_adopting_and_unadopting_are_planned_with_one_reload_each() -> None:
    for purpose, kind in ((Purpose.ADOPT, Apply), (Purpose.UNADOPT, Unadopt)):
        world = make_world(2, 2, is_adopted=purpose is Purpose.UNADOPT)
        open_rollout(world, purpose=purpose)
        life = world.lives[-1]
        held = fold(life.entries())
        told = forecast(held, life.look(interest(held)))
        assert told.reloads == {"lb1": 1, "lb2": 1}
        assert len(steps_of(told, kind)) == 2
        assert told.moves[-1] == Finish(Closed(Ending.DONE))
