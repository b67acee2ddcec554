"""The rules from the first stop to the end: a record and a look in, one move out."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rolling_deploy.rollout.decide import decide, interest
from rolling_deploy.rollout.facts import (
    Before,
    Cause,
    Claimed,
    Closed,
    Decided,
    DeclaredOff,
    Direction,
    Ending,
    Fact,
    GaveUp,
    Halted,
    Opened,
    Proved,
    Redirected,
    Released,
    TurnedBack,
    Waiting,
)
from rolling_deploy.rollout.fleet import OnFailure, Policy
from rolling_deploy.rollout.move import Act, Finish, Halt, Move, Ready, Wait
from rolling_deploy.rollout.observed import Health
from rolling_deploy.rollout.record import Record
from rolling_deploy.rollout.step import (
    Activate,
    Apply,
    Continuity,
    Goal,
    Outcome,
    Result,
    WarmUp,
)
from rolling_deploy.rollout.view import wanted_out
from tests.values import (
    APPS,
    BOTH,
    DONE,
    FAILED,
    FIRST,
    FOUND,
    GONE,
    GOOD,
    REFUSED,
    START_MS,
    UNKNOWN,
    activated,
    claimed,
    edited,
    facts_of,
    opened,
    published,
    record,
    runs,
    seen,
    staged,
    stepped,
)

# --- activating


def test_a_claim_that_is_out_proved_is_activated_together() -> None:
    first = opened(policy=Policy(wave_size=2))
    both = {"lb1": published("app1", "app2"), "lb2": published("app1", "app2")}
    move = decide(record(first, *claimed(first, "app1", "app2")), seen(both))
    assert move == Act((Activate("app1", Goal.RELEASE), Activate("app2", Goal.RELEASE)))


def test_an_activation_that_did_not_come_about_is_tried_again_within_the_budget() -> None:
    facts = activated(FIRST, "app1", result=UNKNOWN)
    again = Act((Activate("app1", Goal.RELEASE),))
    assert decide(record(FIRST, *facts), seen(BOTH)) == again
    more = (*facts, *stepped(len(facts) + 2, Activate("app1", Goal.RELEASE), UNKNOWN))
    (fact,) = facts_of(decide(record(FIRST, *more), seen(BOTH)))
    assert isinstance(fact, GaveUp)
    assert "after 2 tries" in fact.reason


@pytest.mark.parametrize(
    ("there", "cause"),
    [
        (GONE, Cause.UNREACHABLE),
        (edited(), Cause.HANDS),
    ],
)
def test_a_second_attempt_needs_to_know_that_nobody_put_it_back_meanwhile(
    there: object, cause: Cause
) -> None:
    held = record(FIRST, *activated(FIRST, "app1", result=UNKNOWN))
    look = seen({"lb1": published("app1"), "lb2": there})  # type: ignore[dict-item] # looks
    (fact,) = facts_of(decide(held, look))
    assert isinstance(fact, GaveUp)
    assert fact.cause is cause


def test_a_failed_activation_is_not_repeated() -> None:
    held = record(FIRST, *activated(FIRST, "app1", result=FAILED))
    (fact,) = facts_of(decide(held, seen(BOTH)))
    assert isinstance(fact, GaveUp)
    assert fact.cause is Cause.BACKEND


def test_a_claimed_backend_that_cannot_be_reached_is_given_up_unchanged() -> None:
    held = record(FIRST, *claimed(FIRST, "app1"))
    (fact,) = facts_of(decide(held, seen(BOTH, {"app1": GONE})))
    assert isinstance(fact, GaveUp)
    assert fact.cause is Cause.UNREACHABLE


def test_a_refused_activation_changed_nothing_so_it_may_go_back_in() -> None:
    facts = activated(FIRST, "app1", result=REFUSED)
    facts = (*facts, *stepped(len(facts) + 2, Activate("app1", Goal.RELEASE), REFUSED))
    held = record(FIRST, *facts)
    (fact,) = facts_of(decide(held, seen(BOTH)))
    assert isinstance(fact, GaveUp)
    after = record(FIRST, *facts, fact)
    assert wanted_out(after) == frozenset()


# --- becoming ready


def ready_after(**changes: object) -> Move:
    """Answers the move after an activation, with the backend seen like this."""
    held = record(FIRST, *activated(FIRST, "app1"), Waiting("ready app1"))
    return decide(held, seen(BOTH, {"app1": runs("r2", **changes)}))  # type: ignore[arg-type] # fields


@pytest.mark.parametrize(
    "changes",
    [
        {"is_good": False},
        {"health": None},
        {"health": Health(is_good=True, version="r1")},
        {"health": Health(is_good=True, version=None)},
        {
            "health": Health(is_good=True, is_version_checked=False),
            "is_restarted_since_swap": None,
        },
    ],
    ids=["ill", "not asked", "wrong version", "no version", "weak proof with a gap"],
)
def test_nothing_less_than_the_asked_version_and_good_health_is_ready(
    changes: dict[str, object],
) -> None:
    move = ready_after(**changes)
    assert isinstance(move, Wait)
    assert move.condition == Ready({"app1": "r2"})


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"is_restarted_since_swap": None},
        {"health": Health(is_good=True, is_version_checked=False)},
    ],
    ids=["version served", "version served, start unknown", "weak proof, complete"],
)
def test_what_is_ready_is_warmed_up(changes: dict[str, object]) -> None:
    assert ready_after(**changes) == Act((WarmUp("app1"),))


def test_at_the_ready_limit_a_backend_stays_out_and_the_last_answer_is_told() -> None:
    held = record(FIRST, *activated(FIRST, "app1"), Waiting("ready app1"))
    look = seen(BOTH, {"app1": runs("r2", is_good=False)}, now_ms=START_MS + 10_000_000)
    (fact,) = facts_of(decide(held, look))
    assert isinstance(fact, GaveUp)
    assert "last answer: 503" in fact.reason
    assert wanted_out(record(FIRST, *activated(FIRST, "app1"), fact)) == {"app1"}


def test_a_backend_that_vanished_after_its_activation_is_waited_for() -> None:
    held = record(FIRST, *activated(FIRST, "app1"), Waiting("ready app1"))
    move = decide(held, seen(BOTH, {"app1": GONE}))
    assert isinstance(move, Wait)
    assert "no route to host" in move.why


# --- going back by policy

BACK = opened(policy=Policy(on_failure=OnFailure.BACK_NODE))


def test_a_backend_that_fails_goes_back_by_policy() -> None:
    facts = activated(BACK, "app1", result=FAILED)
    (fact,) = facts_of(decide(record(BACK, *facts), seen(BOTH)))
    assert isinstance(fact, TurnedBack)
    back = record(BACK, *facts, fact)
    assert decide(back, seen(BOTH)) == Act((Activate("app1", Goal.PREVIOUS),))


def test_a_backend_with_nothing_to_go_back_to_is_given_up() -> None:
    first = replace(BACK, before=dict.fromkeys(APPS, Before(None, "r1")))
    held = record(first, *activated(first, "app1", result=FAILED))
    assert isinstance(facts_of(decide(held, seen(BOTH)))[0], GaveUp)


def test_a_failed_warm_up_goes_back_and_the_old_release_is_warmed_up_anew() -> None:
    facts = activated(BACK, "app1")
    facts = (*facts, *stepped(len(facts) + 2, WarmUp("app1"), FAILED))
    (fact,) = facts_of(decide(record(BACK, *facts), seen(BOTH, GOOD)))
    assert isinstance(fact, TurnedBack)
    facts = (*facts, fact)
    facts = (*facts, *stepped(len(facts) + 2, Activate("app1", Goal.PREVIOUS)))
    assert decide(record(BACK, *facts), seen(BOTH)) == Act((WarmUp("app1"),))


def test_a_rollout_that_went_back_ends_as_such_and_claims_nothing_more() -> None:
    facts = activated(BACK, "app1", result=FAILED)
    facts = (*facts, TurnedBack("app1", "app1: ill"))
    facts = (*facts, *stepped(len(facts) + 2, Activate("app1", Goal.PREVIOUS)))
    facts = (*facts, Proved("app1", Goal.PREVIOUS), Released(1, ()))
    move = decide(record(BACK, *facts), seen({"lb1": published(), "lb2": published()}))
    assert isinstance(move, Finish)
    assert (move.closed.ending, move.closed.reason) == (Ending.WENT_BACK, "app1: ill")


# --- proving and putting back


def test_what_was_not_checked_is_said_with_the_proof() -> None:
    facts = activated(FIRST, "app1")
    not_checked = Result(Outcome.NOT_CHECKED)
    facts = (*facts, *stepped(len(facts) + 2, WarmUp("app1"), not_checked))
    look = seen(BOTH, GOOD)
    assert decide(record(FIRST, *facts), look) == Act((Continuity("app1"),))
    facts = (*facts, *stepped(len(facts) + 2, Continuity("app1"), not_checked))
    proved = Proved("app1", Goal.RELEASE, "warm-up: not checked; session continuity: not checked")
    assert facts_of(decide(record(FIRST, *facts), look)) == (proved,)


def proved() -> tuple[object, ...]:
    """Answers the facts up to the proof of app1."""
    return (*activated(FIRST, "app1"), Proved("app1", Goal.RELEASE))


def test_what_is_proven_goes_back_in_on_every_load_balancer_that_can() -> None:
    held = record(FIRST, *proved())  # type: ignore[arg-type] # facts
    move = decide(held, seen({"lb1": published("app1"), "lb2": GONE}))
    assert isinstance(move, Act)
    assert [(s.load_balancer, s.out) for s in move.steps if isinstance(s, Apply)] == [
        ("lb1", frozenset())
    ]


@pytest.mark.parametrize(("there", "cause"), [(GONE, Cause.UNREACHABLE), (edited(), Cause.HANDS)])
def test_a_load_balancer_that_did_not_take_it_back_is_named_and_halts(
    there: object, cause: Cause
) -> None:
    held = record(FIRST, *proved())  # type: ignore[arg-type] # facts
    move = decide(held, seen({"lb1": published(), "lb2": there}))  # type: ignore[dict-item] # looks
    assert isinstance(move, Halt)
    assert move.halted.cause is cause
    assert "lb2" in move.halted.reason


def test_a_claim_is_released_once_every_load_balancer_agrees() -> None:
    held = record(FIRST, *proved())  # type: ignore[arg-type] # facts
    look = seen({"lb1": published(), "lb2": published()})
    assert facts_of(decide(held, look)) == (Released(1, ()),)


def test_a_wave_is_put_back_without_the_one_that_failed() -> None:
    first = opened(policy=Policy(wave_size=2))
    facts = (
        *activated(first, "app1", "app2"),
        Proved("app1", Goal.RELEASE),
        GaveUp(("app2",), Cause.BACKEND, "app2: ill"),
    )
    both = {"lb1": published("app1", "app2"), "lb2": published("app1", "app2")}
    move = decide(record(first, *facts), seen(both))
    assert isinstance(move, Act)
    assert all(step.out == {"app2"} for step in move.steps if isinstance(step, Apply))
    out = {"lb1": published("app2"), "lb2": published("app2")}
    assert facts_of(decide(record(first, *facts), seen(out))) == (Released(1, ("app2",)),)
    halt = decide(record(first, *facts, Released(1, ("app2",))), seen(out))
    assert halt == Halt(Halted(Cause.BACKEND, "app2: ill"))


# --- finishing


def test_a_rollout_with_nothing_left_is_done() -> None:
    first = opened(order=())
    assert decide(record(first), seen(FOUND)) == Finish(Closed(Ending.DONE))


def test_done_waits_for_a_load_balancer_that_was_declared_off() -> None:
    first = opened(order=("app1",), upstreams={"web": ("app1", "app9")})
    off = DeclaredOff(frozenset({"lb2"}), "me")
    facts = (*activated(first, "app1"), Proved("app1", Goal.RELEASE), Released(1, ()), off)
    lb1 = {"lb1": published()}
    move = decide(record(first, *facts), seen(lb1))
    assert isinstance(move, Halt)
    assert move.halted.cause is Cause.DECLARED_OFF
    back = record(first, *facts, move.halted, DeclaredOff(frozenset(), "me"), Decided("me"))
    again = decide(back, seen({**lb1, "lb2": published("app1")}))
    assert isinstance(again, Act)
    done = decide(back, seen({**lb1, "lb2": published()}))
    assert done == Finish(Closed(Ending.DONE))


# --- aborting


@pytest.mark.parametrize("direction", [Direction.BACK, Direction.STOP])
def test_an_abort_gives_up_what_is_claimed_and_unchanged(direction: Direction) -> None:
    held = record(FIRST, *claimed(FIRST, "app1"), Redirected(direction, "me"))
    (fact,) = facts_of(decide(held, seen(BOTH)))
    assert fact == GaveUp(("app1",), Cause.ASKED, "the rollout was aborted")


@pytest.mark.parametrize("direction", [Direction.BACK, Direction.STOP])
def test_an_abort_before_anything_was_claimed_ends_it(direction: Direction) -> None:
    move = decide(record(FIRST, Redirected(direction, "me")), seen(FOUND))
    assert move == Finish(Closed(Ending.ABORTED))


def test_an_abort_that_only_stops_finishes_what_was_changed() -> None:
    held = record(FIRST, *activated(FIRST, "app1"), Redirected(Direction.STOP, "me"))
    assert decide(held, seen(BOTH, GOOD)) == Act((WarmUp("app1"),))


def test_an_abort_takes_what_was_changed_back() -> None:
    held = record(FIRST, *activated(FIRST, "app1"), Redirected(Direction.BACK, "me"))
    assert decide(held, seen(BOTH, GOOD)) == Act((Activate("app1", Goal.PREVIOUS),))


def test_an_abort_while_it_is_being_put_back_needs_the_drain_proof_again() -> None:
    facts = proved()
    apply = Apply("lb1", frozenset(), 1, "roll.1.3", "ours")
    facts = (*facts, *stepped(len(facts) + 2, apply), Redirected(Direction.BACK, "me"))
    held = record(FIRST, *facts)  # type: ignore[arg-type] # facts
    again = decide(held, seen({"lb1": published(), "lb2": published("app1")}, GOOD))
    assert isinstance(again, Act)
    assert [(s.load_balancer, s.out) for s in again.steps if isinstance(s, Apply)] == [
        ("lb1", frozenset({"app1"}))
    ]
    busy = {**BOTH, "lb1": published("app1", earlier_workers=1)}
    assert facts_of(decide(held, seen(busy, GOOD))) == (Waiting("drain"),)


# --- skipping and what an earlier rollout left


def test_a_skipped_backend_is_not_claimed() -> None:
    held = record(FIRST, *staged(FIRST), Decided("me", skip=("app1",)))
    assert facts_of(decide(held, seen(FOUND))) == (Claimed(1, ("app2",)),)


def test_skipping_a_backend_of_the_claim_in_hand_ends_work_on_it() -> None:
    halted = Halted(Cause.BUSY, "busy")
    held = record(FIRST, *activated(FIRST, "app1"), halted, Decided("me", skip=("app1",)))
    assert facts_of(decide(held, seen(BOTH))) == (Released(1, ("app1",)),)


def half_back(first: Opened, answer: Fact) -> Record:
    """Answers a wave of which app1 is proven good and app2 is not, that was put back behind lb2
    only, halted, and was answered.
    """
    failed = GaveUp(("app2",), Cause.BACKEND, "app2: ill")
    facts = [*activated(first, "app1", "app2"), Proved("app1", Goal.RELEASE), failed]
    for name, result in (("lb1", FAILED), ("lb2", DONE)):
        step = Apply(name, frozenset({"app2"}), 1, "roll.1.1", "ours")
        facts += stepped(len(facts) + 2, step, result)
    return record(first, *facts, Halted(Cause.NOT_PROVED, "not proved: lb1"), answer)


HALF_BACK = {"lb1": published("app1", "app2"), "lb2": published("app2")}


def test_what_is_proven_good_and_back_stays_in_while_the_rest_is_tried_again() -> None:
    held = half_back(opened(policy=Policy(wave_size=2)), Decided("me"))
    assert wanted_out(held) == {"app2"}
    move = decide(held, seen(HALF_BACK, {"app2": runs("r1")}))
    assert isinstance(move, Act)
    (step,) = move.steps
    assert isinstance(step, Apply)
    assert step.load_balancer == "lb1"
    assert step.out == {"app2"}


@pytest.mark.parametrize("left_out", [frozenset[str](), frozenset({"app1", "app2"})])
def test_what_is_back_is_not_taken_out_for_an_abort_when_nobody_else_serves(
    left_out: frozenset[str],
) -> None:
    first = opened(policy=Policy(wave_size=2), left_out=left_out)
    held = half_back(first, Redirected(Direction.BACK, "me"))
    assert wanted_out(held) == {"app1", "app2"}
    assert interest(held).alive == {"app3"}
    well = {"app1": runs("r2"), "app2": runs("r1")}
    assert isinstance(decide(held, seen(HALF_BACK, well)), Act)
    (fact,) = facts_of(decide(held, seen(HALF_BACK, {**well, "app3": GONE})))
    assert isinstance(fact, GaveUp)
    assert fact.cause is Cause.CAPACITY


def test_what_an_earlier_rollout_left_out_stays_out_when_it_is_given_up_unchanged() -> None:
    first = opened(left_out=frozenset({"app1"}))
    held = record(first, *claimed(first, "app1"), GaveUp(("app1",), Cause.UNREACHABLE, "gone"))
    assert wanted_out(held) == {"app1"}


def test_a_halt_whose_backend_stayed_out_does_not_end_as_went_back() -> None:
    facts = (
        *activated(BACK, "app1", result=FAILED),
        TurnedBack("app1", "app1: ill"),
        GaveUp(("app1",), Cause.BACKEND, "app1: ill there too"),
        Released(1, ("app1",)),
        Halted(Cause.BACKEND, "app1: ill there too"),
        Decided("me"),
    )
    out = {"lb1": published("app1"), "lb2": published("app1")}
    assert facts_of(decide(record(BACK, *facts), seen(out))) == (Claimed(2, ("app1",)),)
