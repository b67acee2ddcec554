"""Each invariant is seen to fire; what is in order passes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from rolling_deploy.errors import InvariantBroken
from rolling_deploy.rollout import safety
from rolling_deploy.rollout.facts import (
    Before,
    Cause,
    Claimed,
    DeclaredOff,
    Direction,
    Forced,
    GaveUp,
    Intended,
    Proved,
    Purpose,
    Redirected,
    Released,
)
from rolling_deploy.rollout.fleet import Policy
from rolling_deploy.rollout.observed import Seen
from rolling_deploy.rollout.record import Record
from rolling_deploy.rollout.step import (
    Activate,
    Apply,
    Goal,
    Outcome,
    Result,
    Stage,
    Step,
    Unadopt,
)
from tests.values import (
    APPS,
    GONE,
    activated,
    claimed,
    edited,
    found,
    opened,
    published,
    record,
    runs,
    seen,
    staged,
    stepped,
)

FIRST = opened()
RELEASE = Activate("app1", Goal.RELEASE)
UNKNOWN = Result(Outcome.UNKNOWN)
OUT = {"lb1": published("app1"), "lb2": published("app1")}
HELD = record(FIRST, *claimed(FIRST, "app1"))


def apply(*out: str, replaces: str = "found") -> Apply:
    """Answers a publication on lb1."""
    return Apply("lb1", frozenset(out), 1, "roll.1.9", replaces)


def refused_by(held: Record, look: Seen, *steps: Step) -> str:
    """Answers the name of the invariant that refuses these steps, or an empty text."""
    try:
        safety.check(held, look, steps)
    except InvariantBroken as error:
        return error.what.split(":")[0]
    return ""


def test_what_is_in_order_passes() -> None:
    assert not refused_by(HELD, seen(OUT), RELEASE)
    claims = record(FIRST, *staged(FIRST), Claimed(1, ("app1",)))
    assert not refused_by(claims, seen({"lb1": found(), "lb2": found()}), apply("app1"))


def test_a_broken_invariant_is_a_bug_of_ours_and_says_so() -> None:
    with pytest.raises(InvariantBroken) as caught:
        safety.check(HELD, seen(OUT), (Activate("app2", Goal.RELEASE),))
    assert (caught.value.exit_code, caught.value.where) == (70, "app2")


def test_two_steps_for_one_machine_are_refused() -> None:
    assert "two steps" in refused_by(HELD, seen(OUT), RELEASE, Stage("app1"))


def test_a_step_beside_an_open_intent_is_refused() -> None:
    held = record(FIRST, Intended(Stage("app2"), 1))
    assert "no outcome" in refused_by(held, seen(OUT), Stage("app1"))


def test_a_backend_outside_the_claim_is_not_touched() -> None:
    step = Activate("app2", Goal.RELEASE)
    assert refused_by(HELD, seen(OUT), step) == "only_a_claimed_backend_is_touched"
    nothing = record(FIRST, *staged(FIRST))
    assert refused_by(nothing, seen(OUT), step) == "only_a_claimed_backend_is_touched"


@pytest.mark.parametrize(
    "there",
    [
        GONE,
        found(),
        published(),
        published("app2"),
        published("app1", live="roll.1.0"),
        published("app1", live=None),
        published("app1", is_settled=False),
        published("app1", earlier_workers=1),
        published("app1", earlier_workers=None),
        published("app1", file=None),
    ],
    ids=[
        "not seen",
        "as found",
        "in",
        "another is out",
        "older is live",
        "no answer",
        "not settled",
        "a worker lives",
        "workers unknown",
        "no file",
    ],
)
def test_nothing_is_stopped_without_the_whole_proof_from_every_load_balancer(there: object) -> None:
    look = seen({"lb1": published("app1"), "lb2": there})  # type: ignore[dict-item] # looks
    assert refused_by(HELD, look, RELEASE) == "nothing_is_stopped_without_a_proof"


def test_a_declared_off_load_balancer_needs_no_proof() -> None:
    held = record(FIRST, *claimed(FIRST, "app1"), DeclaredOff(frozenset({"lb2"}), "me"))
    assert not refused_by(held, seen({"lb1": published("app1"), "lb2": GONE}), RELEASE)


def test_a_forced_drain_excuses_old_workers_and_nothing_else() -> None:
    held = record(FIRST, *claimed(FIRST, "app1"), Forced(1, "2 workers"))
    busy = {**OUT, "lb2": published("app1", earlier_workers=2)}
    assert not refused_by(held, seen(busy), RELEASE)
    sends = {**OUT, "lb2": published()}
    assert refused_by(held, seen(sends), RELEASE) == "nothing_is_stopped_without_a_proof"


def test_a_second_attempt_excuses_old_workers_but_asks_again_whether_it_is_out() -> None:
    held = record(FIRST, *activated(FIRST, "app1", result=UNKNOWN))
    assert not refused_by(held, seen({**OUT, "lb2": published("app1", earlier_workers=1)}), RELEASE)
    for there in (GONE, edited(), published()):
        look = seen({**OUT, "lb2": there})
        assert refused_by(held, look, RELEASE) == "nothing_is_stopped_without_a_proof"


def test_what_was_put_back_needs_a_new_drain_proof() -> None:
    facts = activated(FIRST, "app1")
    facts = (*facts, *stepped(len(facts) + 2, apply(replaces="ours")))
    look = seen({**OUT, "lb2": published("app1", earlier_workers=1)})
    step = Activate("app1", Goal.PREVIOUS)
    assert refused_by(record(FIRST, *facts), look, step) == "nothing_is_stopped_without_a_proof"


def test_a_publication_never_leaves_too_few() -> None:
    first = opened(policy=Policy(wave_size=3, serving_min=1))
    held = record(first, *claimed(first, *APPS, is_out=False))
    look = seen({"lb1": found(), "lb2": found()})
    assert refused_by(held, look, apply(*APPS)) == "enough_keep_serving"
    two = opened(order=("app1", "app2"), parked=frozenset({"app3"}))
    held = record(two, *claimed(two, "app1", "app2", is_out=False))
    assert refused_by(held, look, apply("app1", "app2")) == "enough_keep_serving"


def test_who_is_left_must_have_been_seen_to_be_well() -> None:
    held = record(FIRST, *claimed(FIRST, "app1", is_out=False))
    there = {"lb1": found(), "lb2": found()}
    ill = dict.fromkeys(("app2", "app3"), runs("r1", is_good=False))
    assert not refused_by(held, seen(there, {"app2": GONE}), apply("app1"))
    assert refused_by(held, seen(there, ill), apply("app1")) == "enough_keep_serving"
    unasked = dict.fromkeys(("app2", "app3"), runs("r1", health=None))
    assert refused_by(held, seen(there, unasked), apply("app1")) == "enough_keep_serving"


def test_what_is_out_stays_out_however_the_others_are() -> None:
    ill = {"app2": GONE, "app3": GONE}
    changed = record(FIRST, *activated(FIRST, "app1"))
    assert not refused_by(changed, seen(OUT, ill), apply("app1", replaces="ours"))
    first = opened(left_out=frozenset({"app1"}))
    before = record(first, *claimed(first, "app1", is_out=False))
    look = seen({"lb1": found(), "lb2": found()}, ill)
    assert not refused_by(before, look, apply("app1"))


def test_what_is_back_in_service_counts_as_serving_whatever_left_it_out_once() -> None:
    first = opened(left_out=frozenset({"app1"}))
    facts = (*activated(first, "app1"), Proved("app1", Goal.RELEASE))
    back = stepped(len(facts) + 2, apply(replaces="ours"))
    held = record(first, *facts, *back, Redirected(Direction.BACK, "me"))
    look = seen({"lb1": published(), "lb2": published()}, {"app2": GONE, "app3": GONE})
    step = apply("app1", replaces="ours")
    assert refused_by(held, look, step) == "enough_keep_serving"
    assert not refused_by(held, replace(look, backends=seen({}).backends), step)


def test_a_changed_backend_gets_no_traffic_before_its_proof() -> None:
    held = record(FIRST, *activated(FIRST, "app1"))
    step = apply(replaces="ours")
    assert refused_by(held, seen(OUT), step) == "only_what_is_proven_goes_in"


def test_what_an_earlier_rollout_left_out_gets_no_traffic_before_its_proof() -> None:
    first = opened(left_out=frozenset({"app1"}))
    held = record(first, *claimed(first, "app1"), GaveUp(("app1",), Cause.UNREACHABLE, "gone"))
    step = apply(replaces="ours")
    assert refused_by(held, seen(OUT), step) == "only_what_is_proven_goes_in"


def test_only_what_is_held_is_marked_down() -> None:
    step = apply("app1", "app2", replaces="ours")
    assert refused_by(HELD, seen(OUT), step) == "only_what_we_hold_is_out"


@pytest.mark.parametrize(
    "there", [GONE, edited(), published("app1", rollout="another"), published("app1", file=None)]
)
def test_nothing_of_anybody_else_is_replaced(there: object) -> None:
    digests = {"theirs", "ours", "absent"}
    look = seen({**OUT, "lb1": there})  # type: ignore[dict-item] # looks
    for digest in digests:
        refusal = refused_by(HELD, look, apply("app1", replaces=digest))
        assert refusal == "nothing_of_others_is_replaced"


def test_a_file_other_than_the_one_seen_is_not_replaced() -> None:
    refusal = refused_by(HELD, seen(OUT), apply("app1", replaces="found"))
    assert refusal == "nothing_of_others_is_replaced"


def test_an_original_that_is_not_served_yet_may_be_put_back_again() -> None:
    first = opened(order=(), purpose=Purpose.UNADOPT)
    half = found()
    assert half.file is not None
    half = replace(half, file=replace(half.file, digest="original", stamp=None))
    look = seen({"lb1": half, "lb2": found()})
    assert not refused_by(record(first), look, Unadopt("lb1", "original"))
    assert refused_by(record(first), look, apply(replaces="original"))


def test_a_parked_backend_is_never_activated() -> None:
    first = replace(FIRST, parked=frozenset({"app1"}))
    held = record(first, *claimed(first, "app1"))
    assert refused_by(held, seen(OUT), RELEASE) == "parked_stays_parked"


def test_attempts_are_counted_over_all_lives() -> None:
    facts = activated(FIRST, "app1", result=UNKNOWN)
    facts = (*facts, *stepped(len(facts) + 2, RELEASE, UNKNOWN))
    assert refused_by(record(FIRST, *facts), seen(OUT), RELEASE) == "attempts_are_bounded"


def test_nothing_goes_back_to_what_is_not_there() -> None:
    first = replace(FIRST, before=dict.fromkeys(APPS, Before(None, "r1")))
    held = record(first, *activated(first, "app1"))
    refusal = refused_by(held, seen(OUT), Activate("app1", Goal.PREVIOUS))
    assert refusal == "a_backend_goes_where_it_can_come_back_from"


@pytest.mark.parametrize("there", [GONE, runs("r1", is_busy=True)], ids=["not seen", "busy"])
def test_only_a_backend_that_was_reached_and_is_free_is_touched(there: object) -> None:
    look = seen(OUT, {"app1": there})  # type: ignore[dict-item] # looks
    assert refused_by(HELD, look, RELEASE) == "only_a_reached_backend_is_touched"


def test_adopting_takes_nobody_out() -> None:
    first = opened(order=(), purpose=Purpose.ADOPT, upstreams={"web": APPS})
    held = record(first, Claimed(1, ("app1",)))
    look = seen({"lb1": found(), "lb2": found()})
    assert refused_by(held, look, apply("app1")) == "adopting_takes_nothing_out"


def test_every_invariant_is_named_and_listed() -> None:
    named: list[Callable[..., str]] = [
        value
        for name, value in vars(safety).items()
        if callable(value)
        and getattr(value, "__module__", "") == safety.__name__
        and name != "check"
    ]
    assert set(named) == set(safety.INVARIANTS)


def test_released_backends_are_nobodys_to_touch() -> None:
    held = record(FIRST, *claimed(FIRST, "app1"), Released(1, ()))
    assert refused_by(held, seen(OUT), RELEASE) == "only_a_claimed_backend_is_touched"
