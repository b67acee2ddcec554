"""What each fact means for what follows."""

from __future__ import annotations

import pytest

from rolling_deploy.errors import RecordWrong
from rolling_deploy.rollout.facts import (
    Before,
    Cause,
    Claimed,
    Decided,
    Direction,
    Ended,
    Fact,
    Forced,
    GaveUp,
    Halted,
    Intended,
    Proved,
    Redirected,
    Released,
    TakenOver,
    TurnedBack,
    Waiting,
)
from rolling_deploy.rollout.fleet import Policy
from rolling_deploy.rollout.fold import advance, fold, step_key
from rolling_deploy.rollout.journal import Entry
from rolling_deploy.rollout.step import (
    Activate,
    Apply,
    Goal,
    Outcome,
    Result,
    Stage,
    WarmUp,
)
from tests.values import START_MS, activated, claimed, opened, record, staged, stepped

FIRST = opened()
UNKNOWN = Result(Outcome.UNKNOWN)


def test_a_record_begins_with_an_opened_rollout() -> None:
    for facts in ((), (Waiting("x"),)):
        with pytest.raises(RecordWrong, match="does not begin"):
            fold(Entry(1, 0, 1, "x", fact) for fact in facts)


@pytest.mark.parametrize(
    "fact",
    [
        FIRST,
        Forced(1, ""),
        GaveUp(("app1",), Cause.BUSY, ""),
        TurnedBack("app1", ""),
        Proved("app1", Goal.RELEASE),
        Released(1, ()),
        Ended(9, UNKNOWN),
    ],
    ids=lambda fact: type(fact).__name__,
)
def test_a_fact_that_cannot_follow_is_refused(fact: Fact) -> None:
    with pytest.raises(RecordWrong):
        record(FIRST, fact)


def test_the_newest_entry_says_who_holds_the_rollout() -> None:
    held = advance(record(FIRST), Entry(2, 9, 4, "ci", TakenOver("someone")))
    assert (held.epoch, held.holder) == (4, "ci")


def test_intents_are_open_until_they_have_an_outcome_and_count_at_once() -> None:
    held = record(FIRST, Intended(Stage("app1"), 1))
    assert set(held.open_intents) == {2}
    assert held.attempts == {"stage app1": 1}
    assert not held.is_touched
    after = record(FIRST, *stepped(2, Stage("app1")))
    assert not after.open_intents
    assert after.staged == {"app1"}


def test_a_publication_touches_the_site_even_before_its_outcome() -> None:
    facts = (
        *claimed(FIRST, "app1", is_out=False),
        Intended(Apply("lb1", frozenset(), 1, "g", "d"), 1),
    )
    assert record(FIRST, *facts).is_touched


@pytest.mark.parametrize(
    "outcome", [o for o in Outcome if o not in (Outcome.REFUSED, Outcome.NOT_SENT)]
)
def test_whatever_became_of_an_activation_the_backend_may_be_changed(outcome: Outcome) -> None:
    held = record(FIRST, *activated(FIRST, "app1", result=Result(outcome)))
    assert held.changed == held.unproven == {"app1"}


def test_a_refused_activation_is_the_proof_that_nothing_was_changed() -> None:
    held = record(FIRST, *activated(FIRST, "app1", result=Result(Outcome.REFUSED)))
    assert not held.changed
    assert held.attempts[step_key(Activate("app1", Goal.RELEASE), 1)] == 1


def test_activations_count_over_all_claims_and_publications_per_claim() -> None:
    facts = (
        *activated(FIRST, "app1", result=UNKNOWN),
        Released(1, ("app1",)),
        Claimed(2, ("app1",)),
    )
    facts = (*facts, *stepped(len(facts) + 2, Activate("app1", Goal.RELEASE)))
    assert record(FIRST, *facts).attempts["activate app1 release"] == 2
    one = Apply("lb1", frozenset(), 1, "a", "b")
    two = Apply("lb1", frozenset(), 2, "c", "d")
    assert step_key(one, 2) != step_key(two, 2)


def test_a_released_claim_leaves_out_what_is_not_proven() -> None:
    first = opened(policy=Policy(wave_size=2))
    facts = (*activated(first, "app1", "app2"), Proved("app1", Goal.RELEASE))
    facts = (*facts, GaveUp(("app2",), Cause.BACKEND, "ill"), Released(1, ("app2",)))
    held = record(first, *facts)
    assert held.claim is None
    assert held.done == {"app1": Goal.RELEASE}
    assert held.left_out == held.unproven == {"app2"}
    assert held.trouble == Halted(Cause.BACKEND, "ill")


def test_asking_for_an_abort_is_no_trouble() -> None:
    held = record(FIRST, *claimed(FIRST, "app1"), GaveUp(("app1",), Cause.ASKED, "aborted"))
    assert held.trouble is None


def test_the_first_trouble_is_the_one_that_is_told() -> None:
    facts = (GaveUp(("app1",), Cause.DRAIN, "first"), GaveUp(("app1",), Cause.BUSY, "second"))
    assert record(FIRST, *claimed(FIRST, "app1"), *facts).trouble == Halted(Cause.DRAIN, "first")


def test_turning_back_begins_everything_about_the_backend_anew() -> None:
    facts = activated(FIRST, "app1")
    facts = (*facts, Waiting("ready app1"), *stepped(len(facts) + 3, WarmUp("app1"), UNKNOWN))
    held = record(FIRST, *facts, TurnedBack("app1", "ill"))
    assert held.claim is not None
    assert held.claim.waits == {}
    assert "warm up app1 claim 1" not in held.attempts
    assert "warm up app1 claim 1" not in held.last
    assert held.attempts["activate app1 release"] == 1
    assert held.went_back == {"app1": "ill"}


def test_where_it_was_taken_is_what_was_last_activated_whatever_was_asked_since() -> None:
    facts = (*activated(FIRST, "app1"), Proved("app1", Goal.RELEASE), Released(1, ()))
    held = record(FIRST, *facts)
    assert held.done == {"app1": Goal.RELEASE}
    back = (*activated(FIRST, "app1"), TurnedBack("app1", "ill"))
    back = (*back, *stepped(len(back) + 2, Activate("app1", Goal.PREVIOUS)))
    back = (*back, Proved("app1", Goal.PREVIOUS), Released(1, ()))
    assert record(FIRST, *back).done == {"app1": Goal.PREVIOUS}


def test_waits_begin_once_and_end_with_the_claim() -> None:
    held = record(FIRST, Waiting("a"))
    assert held.waits == {"a": START_MS + 2}
    facts = claimed(FIRST, "app1")
    held = record(FIRST, *facts, Waiting("drain"))
    assert held.claim is not None
    assert held.claim.waits == {"drain": START_MS + len(facts) + 2}
    assert record(FIRST, *facts, Waiting("drain"), Released(1, ())).waits == {}


def test_a_person_grants_one_more_attempt_for_everything() -> None:
    facts = (*activated(FIRST, "app1", result=UNKNOWN), Halted(Cause.BACKEND, "ill"))
    held = record(FIRST, *facts, Decided("me"))
    assert held.halted is None
    assert held.last == {}
    assert held.extra_attempts == dict.fromkeys((*FIRST.order, *FIRST.load_balancers), 1)
    assert record(FIRST, *facts, Redirected(Direction.BACK, "me")).extra_attempts["lb1"] == 1


def test_an_abort_of_what_is_running_grants_nothing() -> None:
    facts = activated(FIRST, "app1", result=UNKNOWN)
    held = record(FIRST, *facts, Redirected(Direction.BACK, "me"))
    assert held.direction is Direction.BACK
    assert held.extra_attempts == {}


def test_going_back_takes_the_proof_from_what_was_changed_in_this_claim() -> None:
    facts = (
        *activated(FIRST, "app1"),
        Proved("app1", Goal.RELEASE),
        Redirected(Direction.BACK, "me"),
    )
    held = record(FIRST, *facts)
    assert held.claim is not None
    assert held.claim.unsettled == ("app1",)


def test_an_intent_to_put_back_uses_up_the_proof_of_being_out() -> None:
    facts = (*activated(FIRST, "app1"), Proved("app1", Goal.RELEASE))
    apply = Apply("lb1", frozenset(), 1, "roll.1.3", "ours")
    held = record(FIRST, *facts, Intended(apply, 1))
    assert held.claim is not None
    assert held.claim.activated == frozenset()


def test_what_an_earlier_rollout_left_out_is_not_proven() -> None:
    held = record(opened(left_out=frozenset({"app2"})))
    assert held.unproven == held.left_out == {"app2"}
    assert not held.changed


def test_forcing_ends_with_the_claim() -> None:
    facts = (*claimed(FIRST, "app1"), Forced(1, "1 worker"))
    held = record(FIRST, *facts)
    assert held.claim is not None
    assert held.claim.is_forced
    again = record(FIRST, *facts, Released(1, ()), Claimed(2, ("app2",)))
    assert again.claim is not None
    assert not again.claim.is_forced


def test_forcing_ends_with_an_intent_to_put_back() -> None:
    facts = (*claimed(FIRST, "app1"), Forced(1, "1 worker"))
    out = Intended(Apply("lb1", frozenset({"app1"}), 1, "roll.1.3", "ours"), 1)
    back = Intended(Apply("lb1", frozenset(), 1, "roll.1.4", "ours"), 1)
    held, again = record(FIRST, *facts, out), record(FIRST, *facts, back)
    assert held.claim is not None
    assert held.claim.is_forced
    assert again.claim is not None
    assert not again.claim.is_forced


def test_skipped_backends_add_up() -> None:
    facts = (*staged(FIRST), Decided("me", skip=("app1",)), Decided("me", skip=("app2",)))
    assert record(FIRST, *facts).skipped == {"app1", "app2"}


def test_before_is_what_the_rollout_was_opened_with() -> None:
    assert record(FIRST).opened.before["app1"] == Before("r1.war", "r1")
