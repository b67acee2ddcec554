"""The rules up to the proof that a backend is out: a record and a look in, one move out."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rolling_deploy.rollout.decide import decide, interest
from rolling_deploy.rollout.facts import (
    Cause,
    Claimed,
    Closed,
    Decided,
    DeclaredOff,
    Direction,
    Ended,
    Ending,
    Forced,
    GaveUp,
    Halted,
    Intended,
    Redirected,
    Waiting,
)
from rolling_deploy.rollout.fleet import DrainAtLimit, Policy
from rolling_deploy.rollout.move import Act, Drained, Finish, Free, Halt, Move, Note, Wait
from rolling_deploy.rollout.observed import Check, Seen, Verdict
from rolling_deploy.rollout.step import (
    Activate,
    Apply,
    Goal,
    Outcome,
    Stage,
)
from tests.values import (
    APPS,
    BOTH,
    FAILED,
    FIRST,
    FOUND,
    GONE,
    START_MS,
    UNKNOWN,
    claimed,
    edited,
    facts_of,
    found,
    opened,
    published,
    record,
    runs,
    seen,
    staged,
    stepped,
)

# --- ends


def test_a_closed_rollout_ends_the_same_way_again() -> None:
    closed = Closed(Ending.DONE)
    move = decide(record(FIRST, closed), Seen(0))
    assert move == Finish(closed, is_new=False)


def test_a_halt_stays_a_halt_until_a_person_answers() -> None:
    halted = Halted(Cause.DRAIN, "not drained")
    assert decide(record(FIRST, halted), Seen(0)) == Halt(halted, is_new=False)
    assert isinstance(decide(record(FIRST, halted, Decided("me")), seen(FOUND)), Act)
    back = Redirected(Direction.BACK, "me")
    assert isinstance(decide(record(FIRST, halted, back), seen(FOUND)), Finish)


def test_nothing_is_looked_at_once_it_is_over() -> None:
    assert not interest(record(FIRST, Closed(Ending.DONE))).load_balancers


# --- doubt and earlier commands


def test_an_intent_without_outcome_is_noted_in_doubt_and_never_redone() -> None:
    held = record(FIRST, Intended(Stage("app1"), 1), Intended(Stage("app2"), 1))
    facts = facts_of(decide(held, seen(FOUND)))
    assert [(f.of, f.result.outcome) for f in facts if isinstance(f, Ended)] == [
        (2, Outcome.IN_DOUBT),
        (3, Outcome.IN_DOUBT),
    ]


@pytest.mark.parametrize("where", ["load balancer", "backend"])
def test_an_earlier_command_is_waited_for_and_the_limit_ends_the_wait(where: str) -> None:
    balancers = {**FOUND, "lb1": found(is_busy=where == "load balancer")}
    backends = {"app1": runs("r1", is_busy=where == "backend")}
    name = "lb1" if where == "load balancer" else "app1"
    facts = staged(FIRST)
    (waiting,) = facts_of(decide(record(FIRST, *facts), seen(balancers, backends)))
    assert isinstance(waiting, Waiting)
    held = record(FIRST, *facts, waiting)
    move = decide(held, seen(balancers, backends))
    began_ms = held.waits[waiting.what]
    assert isinstance(move, Wait)
    assert move.condition == Free(frozenset({name}))
    assert move.until_ms == began_ms + FIRST.policy.busy_limit_ms
    late = decide(held, seen(balancers, backends, now_ms=move.until_ms))
    assert isinstance(late, Finish)  # nothing was touched yet
    assert (late.closed.ending, late.closed.cause) == (Ending.NOTHING_TOUCHED, Cause.BUSY)


def test_a_command_of_a_later_intent_has_a_limit_of_its_own() -> None:
    busy = {**BOTH, "lb1": published("app1", is_busy=True)}
    facts = claimed(FIRST, "app1")
    (first,) = facts_of(decide(record(FIRST, *facts), seen(busy)))
    assert isinstance(first, Waiting)
    more = (*facts, first, *stepped(len(facts) + 3, Activate("app1", Goal.RELEASE), UNKNOWN))
    (second,) = facts_of(decide(record(FIRST, *more), seen(busy)))
    assert first != second


# --- staging


def test_every_artifact_is_staged_before_the_first_claim() -> None:
    move = decide(record(FIRST), seen(FOUND))
    assert move == Act(tuple(Stage(name) for name in APPS))


def test_an_artifact_that_cannot_be_staged_ends_it_untouched() -> None:
    held = record(FIRST, *stepped(2, Stage("app1"), FAILED))
    move = decide(held, seen(FOUND))
    assert isinstance(move, Finish)
    assert (move.closed.ending, move.closed.cause) == (Ending.NOTHING_TOUCHED, Cause.STAGING)
    assert "exit 1" in move.closed.reason


def test_what_is_not_staged_yet_is_looked_at_because_a_command_may_still_run_there() -> None:
    first = opened(left_out=frozenset({"app2"}))
    assert interest(record(first)).backends == frozenset(APPS)
    assert interest(record(first, *staged(first))).backends == frozenset()


# --- claiming


def test_the_next_wave_is_claimed_when_the_others_are_well() -> None:
    first = opened(policy=Policy(wave_size=2))
    assert facts_of(decide(record(first, *staged(first)), seen(FOUND))) == (
        Claimed(1, ("app1", "app2")),
    )


@pytest.mark.parametrize(
    ("backends", "parked", "told"),
    [
        ({"app2": runs("r1", is_good=False), "app3": GONE}, frozenset(), "nobody"),
        ({"app2": GONE, "app3": runs("r1")}, frozenset(), ""),
        ({"app2": runs("r1", is_good=False)}, frozenset({"app3"}), "nobody"),
    ],
    ids=["the others are ill", "one other is enough", "who is parked counts as out"],
)
def test_a_claim_needs_others_that_serve(
    backends: dict[str, object], parked: frozenset[str], told: str
) -> None:
    order = tuple(name for name in APPS if name not in parked)
    first = opened(order=order, parked=parked)
    move = decide(record(first, *staged(first)), seen(FOUND, backends))  # type: ignore[arg-type] # looks
    if not told:
        assert isinstance(move, Note)
        return
    assert isinstance(move, Finish)
    assert move.closed.cause is Cause.CAPACITY
    assert told in move.closed.reason


def test_every_upstream_needs_somebody_who_serves() -> None:
    first = opened(upstreams={"web": APPS, "api": ("app1",)})
    move = decide(record(first, *staged(first)), seen(FOUND))
    assert isinstance(move, Finish)
    assert "api would be served by nobody" in move.closed.reason


def test_a_session_store_that_refuses_ends_it_untouched() -> None:
    look = replace(
        seen(FOUND), store=(Check("session store", "write", Verdict.REFUSED, "READONLY"),)
    )
    move = decide(record(FIRST, *staged(FIRST)), look)
    assert isinstance(move, Finish)
    assert move.closed.cause is Cause.STORE
    assert "READONLY" in move.closed.reason


def test_a_session_store_that_only_warns_holds_up_nothing() -> None:
    checks = (
        Check("session store", "memory", Verdict.WARNING),
        Check("session store", "ping", Verdict.NOT_CHECKED),
    )
    assert isinstance(
        decide(record(FIRST, *staged(FIRST)), replace(seen(FOUND), store=checks)), Note
    )


@pytest.mark.parametrize(
    ("seen_there", "cause"),
    [(GONE, Cause.UNREACHABLE), (edited(), Cause.HANDS), (published(rollout="x"), Cause.HANDS)],
    ids=["cut off", "edited", "of another rollout"],
)
def test_nothing_is_claimed_behind_a_load_balancer_we_cannot_answer_for(
    seen_there: object, cause: Cause
) -> None:
    look = seen({"lb1": found(), "lb2": seen_there})  # type: ignore[dict-item] # looks
    move = decide(record(FIRST, *staged(FIRST)), look)
    assert isinstance(move, Finish)
    assert move.closed.cause is cause
    assert "lb2" in move.closed.reason


# --- taking out


def test_a_claim_is_taken_out_on_every_load_balancer_at_once() -> None:
    move = decide(record(FIRST, *claimed(FIRST, "app1", is_out=False)), seen(FOUND))
    assert isinstance(move, Act)
    assert [(s.load_balancer, s.out, s.replaces) for s in move.steps if isinstance(s, Apply)] == [
        ("lb1", frozenset({"app1"}), "found"),
        ("lb2", frozenset({"app1"}), "found"),
    ]
    generations = {step.generation for step in move.steps if isinstance(step, Apply)}
    assert len(generations) == 2


def test_a_wave_is_taken_out_as_one() -> None:
    first = opened(policy=Policy(wave_size=2))
    move = decide(record(first, *claimed(first, "app1", "app2", is_out=False)), seen(FOUND))
    assert isinstance(move, Act)
    assert all(s.out == {"app1", "app2"} for s in move.steps if isinstance(s, Apply))


@pytest.mark.parametrize(
    ("seen_there", "cause"), [(GONE, Cause.UNREACHABLE), (edited(), Cause.HANDS)]
)
def test_a_claim_is_given_up_unchanged_when_one_load_balancer_cannot_follow(
    seen_there: object, cause: Cause
) -> None:
    look = seen({"lb1": published("app1"), "lb2": seen_there})  # type: ignore[dict-item] # looks
    held = record(FIRST, *claimed(FIRST, "app1"))
    (fact,) = facts_of(decide(held, look))
    assert isinstance(fact, GaveUp)
    assert (fact.backends, fact.cause) == (("app1",), cause)


def test_what_was_given_up_unchanged_goes_back_in_where_it_can() -> None:
    gave_up = GaveUp(("app1",), Cause.UNREACHABLE, "cannot reach lb2")
    held = record(FIRST, *claimed(FIRST, "app1"), gave_up)
    move = decide(held, seen({"lb1": published("app1"), "lb2": GONE}))
    assert isinstance(move, Act)
    (step,) = move.steps
    assert isinstance(step, Apply)
    assert (step.load_balancer, step.out) == ("lb1", frozenset())


def test_a_publication_that_failed_is_not_repeated_and_the_claim_is_given_up() -> None:
    facts = claimed(FIRST, "app1", is_out=False)
    out = frozenset({"app1"})
    steps = stepped(len(facts) + 2, Apply("lb1", out, 1, "roll.1.1", "found"), FAILED)
    held = record(FIRST, *facts, *steps)
    (fact,) = facts_of(decide(held, seen({"lb1": found(), "lb2": published("app1")})))
    assert isinstance(fact, GaveUp)
    assert fact.cause is Cause.NOT_PROVED
    assert "exit 1" in fact.reason


def test_a_publication_of_unknown_outcome_is_looked_at_and_tried_again_within_the_budget() -> None:
    facts = [*claimed(FIRST, "app1", is_out=False)]
    step = Apply("lb1", frozenset({"app1"}), 1, "roll.1.1", "found")
    look = seen({"lb1": found(), "lb2": published("app1")})
    facts += stepped(len(facts) + 2, step, UNKNOWN)
    again = decide(record(FIRST, *facts), look)
    assert isinstance(again, Act)
    facts += stepped(len(facts) + 2, step, UNKNOWN)
    assert isinstance(facts_of(decide(record(FIRST, *facts), look))[0], GaveUp)


@pytest.mark.parametrize(
    "unproved",
    [
        published("app1", live="earlier.1.1"),
        published("app1", live=None),
        published("app1", is_settled=False),
        published("app1", earlier_workers=None),
        published("app1", "app2"),
        published(),
    ],
    ids=["old live", "no answer", "not settled", "no snapshot", "takes out more", "takes out less"],
)
def test_taking_out_is_not_over_until_it_is_proved(unproved: object) -> None:
    look = seen({"lb1": unproved, "lb2": published("app1")})  # type: ignore[dict-item] # looks
    move = decide(record(FIRST, *claimed(FIRST, "app1")), look)
    assert isinstance(move, Act)
    assert [step.load_balancer for step in move.steps if isinstance(step, Apply)] == ["lb1"]


def test_a_declared_off_load_balancer_holds_up_nothing() -> None:
    off = DeclaredOff(frozenset({"lb2"}), "me")
    held = record(FIRST, *claimed(FIRST, "app1"), off)
    look = seen({"lb1": published("app1"), "lb2": GONE})
    assert decide(held, look) == Act((Activate("app1", Goal.RELEASE),))
    assert interest(held).load_balancers == {"lb1"}


# --- draining


def drained(at_limit: DrainAtLimit = DrainAtLimit.HALT) -> tuple[Move, Move]:
    """Answers the move while a worker of an earlier generation lives, and the one at the limit."""
    first = opened(policy=Policy(drain_at_limit=at_limit))
    busy = {**BOTH, "lb2": published("app1", earlier_workers=2, detail="pinned by earlier.1.1")}
    facts = claimed(first, "app1")
    assert facts_of(decide(record(first, *facts), seen(busy))) == (Waiting("drain"),)
    held = record(first, *facts, Waiting("drain"))
    late = START_MS + len(facts) + 2 + first.policy.drain_limit_ms
    return decide(held, seen(busy)), decide(held, seen(busy, now_ms=late))


def test_a_stop_waits_for_every_earlier_worker_on_every_load_balancer() -> None:
    move, _ = drained()
    assert isinstance(move, Wait)
    assert move.condition == Drained(frozenset({"lb2"}))
    assert "2 earlier nginx workers" in move.why


def test_at_the_drain_limit_the_claim_is_given_up_and_the_pin_is_named() -> None:
    _, move = drained()
    (fact,) = facts_of(move)
    assert isinstance(fact, GaveUp)
    assert fact.cause is Cause.DRAIN
    assert "pinned by earlier.1.1" in fact.reason


def test_force_at_the_drain_limit_goes_on_and_says_what_was_cut() -> None:
    _, move = drained(DrainAtLimit.FORCE)
    (fact,) = facts_of(move)
    assert isinstance(fact, Forced)
    assert "2 earlier nginx workers" in fact.detail
    first = opened(policy=Policy(drain_at_limit=DrainAtLimit.FORCE))
    busy = {**BOTH, "lb2": published("app1", earlier_workers=2)}
    assert isinstance(decide(record(first, *claimed(first, "app1"), fact), seen(busy)), Act)


def test_the_others_are_asked_again_right_before_the_stop() -> None:
    ill = runs("r1", is_good=False)
    held = record(FIRST, *claimed(FIRST, "app1"))
    (fact,) = facts_of(decide(held, seen(BOTH, {"app2": ill, "app3": ill})))
    assert isinstance(fact, GaveUp)
    assert fact.cause is Cause.CAPACITY
    assert interest(held).alive == {"app2", "app3"}


def test_the_others_are_asked_before_a_reload_takes_anything_out() -> None:
    """A claim may be hours old: its operator died, and somebody else goes on with it."""
    ill = runs("r1", is_good=False)
    held = record(FIRST, *claimed(FIRST, "app1", is_out=False))
    assert isinstance(decide(held, seen(FOUND)), Act)
    for there in (FOUND, {"lb1": published("app1"), "lb2": found()}):
        (fact,) = facts_of(decide(held, seen(there, {"app2": ill, "app3": ill})))
        assert isinstance(fact, GaveUp)
        assert (fact.backends, fact.cause) == (("app1",), Cause.CAPACITY)
