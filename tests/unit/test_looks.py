"""How much is looked at, and how often: looking is most of what a rollout costs."""

from __future__ import annotations

from rolling_deploy.rollout.decide import interest
from rolling_deploy.rollout.facts import Claimed, Closed, Ending, Proved, Released
from rolling_deploy.rollout.fleet import Policy
from rolling_deploy.rollout.forecast import ahead
from rolling_deploy.rollout.observed import Interest
from rolling_deploy.rollout.step import Goal
from tests.drive import run
from tests.values import APPS, FIRST, LBS, activated, claimed, record, staged
from tests.world import make_world, open_rollout

WIDE = Interest(frozenset(LBS), frozenset({"app1"}), frozenset(APPS), {"app1": "r2"}, store=True)


def test_a_look_covers_what_asks_for_less_and_nothing_that_asks_for_more() -> None:
    lbs = frozenset(LBS)
    assert WIDE.covers(Interest(lbs))
    assert WIDE.covers(Interest(frozenset(), frozenset({"app1"}), ready={"app1": "r2"}))
    assert not WIDE.covers(Interest(lbs, frozenset({"app2"})))
    assert not WIDE.covers(Interest(lbs, alive=frozenset({"app4"})))
    assert not WIDE.covers(Interest(lbs, ready={"app1": "r1"}))
    assert not Interest(lbs).covers(Interest(lbs, store=True))
    assert not Interest(frozenset({"lb1"})).covers(Interest(lbs))


def test_what_is_joined_covers_both() -> None:
    one, other = Interest(frozenset({"lb1"}), ready={"app1": "r2"}), Interest(frozenset({"lb2"}))
    both = one.joined(other)
    assert both.covers(one)
    assert both.covers(other)


def test_a_look_between_waves_answers_for_the_next_claim_too() -> None:
    waiting = record(FIRST, *staged(FIRST))
    asked = ahead(waiting)
    assert asked.covers(interest(waiting))
    assert asked.covers(interest(record(FIRST, *staged(FIRST), Claimed(1, ("app1",)))))


def test_the_look_after_putting_back_answers_for_the_release_and_the_next_claim() -> None:
    proved = (*activated(FIRST, "app1"), Proved("app1", Goal.RELEASE))
    asked = ahead(record(FIRST, *proved))
    released = (*proved, Released(1, ()))
    assert asked.covers(interest(record(FIRST, *released)))
    assert asked.covers(interest(record(FIRST, *released, Claimed(2, ("app2",)))))


def test_nothing_is_looked_at_ahead_while_a_claim_is_open() -> None:
    taken = record(FIRST, *claimed(FIRST, "app1"))
    assert ahead(taken) == interest(taken)


def test_what_is_not_staged_is_not_looked_at_for_a_claim() -> None:
    assert ahead(record(FIRST)) == interest(record(FIRST))


def test_an_end_asks_for_nothing() -> None:
    assert ahead(record(FIRST, Closed(Ending.DONE))) == interest(record(FIRST, Closed(Ending.DONE)))


def test_a_wave_costs_at_most_six_looks() -> None:
    """After taking out, the drain, the start, getting ready, warming up, and putting back."""
    looks = {}
    for backends in (3, 5):
        world = make_world(backends, 2)
        open_rollout(world, policy=Policy())
        run(world.lives[-1])
        looks[backends] = sum(port == "look" for port, _ in world.calls)
        world.assert_site_serves()
    assert looks[5] - looks[3] <= 2 * 6, looks
