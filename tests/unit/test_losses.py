"""Counting in the record and the gate on it: values, folding, and the moves that follow."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rolling_deploy.operations.life import ADVICE
from rolling_deploy.rollout.decide import decide, interest
from rolling_deploy.rollout.facts import (
    Cause,
    Claimed,
    Closed,
    Counted,
    Decided,
    Direction,
    Ended,
    Ending,
    Fact,
    GaveUp,
    Halted,
    Proved,
    Purpose,
    Redirected,
    Released,
    TakenOver,
    Waiting,
)
from rolling_deploy.rollout.fleet import Policy
from rolling_deploy.rollout.journal import GENESIS, Entry, _canonical, encode, read_chain
from rolling_deploy.rollout.losses import LAST_COUNT, Count, Losses, failures_text
from rolling_deploy.rollout.move import Act, Finish, Halt, Note, Wait
from rolling_deploy.rollout.observed import Interest, Seen
from rolling_deploy.rollout.record import Record
from rolling_deploy.rollout.step import Activate, Apply, Goal
from tests.drive import resume, run
from tests.unit.test_runner import facts as told
from tests.values import (
    APPS,
    BOTH,
    FOUND,
    activated,
    claimed,
    facts_of,
    opened,
    published,
    record,
    runs,
    seen,
    staged,
    stepped,
)
from tests.world import World, make_world, open_rollout

GATE = Policy(counts_losses=True, max_errors=2)
FIRST = opened(policy=GATE)
BACK = {"lb1": published(), "lb2": published()}
NOTHING = Losses(ends={"lb1": "7:0"})


def lost(failed: int, requests: int = 100, *, phase: int = 1, end: int = 0) -> Losses:
    """Answers what one load balancer's log tells."""
    count = Count(requests, failed)
    by_backend = {"lb1 app2": count}
    return Losses(by_backend, {f"lb1 {phase}": count}, ends={"lb1": f"7:{end or requests}"})


def with_losses(looked: Seen, losses: Losses | None) -> Seen:
    return replace(looked, losses=losses)


def released() -> tuple[Fact, ...]:
    """Answers the facts up to a first wave that is back in rotation."""
    facts = list(activated(FIRST, "app1"))
    facts.append(Proved("app1", Goal.RELEASE))
    for number, name in enumerate(FIRST.load_balancers, start=3):
        step = Apply(name, frozenset(), 1, f"roll.1.{number}", "ours")
        facts += stepped(len(facts) + 2, step)
    return (*facts, Released(1, ()))


# --- what is asked for


def test_nothing_is_counted_unless_the_inventory_asked_for_it() -> None:
    assert interest(record(opened())).losses is None
    assert interest(record(opened(policy=GATE, purpose=Purpose.ADOPT))).losses is None
    asked = interest(record(FIRST)).losses
    assert asked is not None
    assert (asked.phase, asked.is_last, asked.so_far) == (0, False, Losses())


def test_every_claim_begins_a_phase_and_a_new_life_goes_on_from_the_record() -> None:
    held = record(FIRST, Counted(lost(1)), *claimed(FIRST, "app1")[len(staged(FIRST)) :][:1])
    asked = interest(held).losses
    assert asked is not None
    assert asked.phase == 1
    assert asked.so_far == lost(1)


def test_a_look_that_counted_covers_one_that_is_to_count_but_not_the_last() -> None:
    asked = interest(record(FIRST))
    last = interest(record(FIRST, Waiting(LAST_COUNT)))
    assert last.losses is not None
    assert last.losses.is_last
    assert last.covers(asked)
    assert not asked.covers(last)
    assert not Interest(asked.load_balancers, asked.backends, asked.alive).covers(asked)
    assert Interest(frozenset(), losses=last.losses).joined(asked).losses == last.losses


# --- what is noted


def test_where_the_logs_ended_is_noted_before_anything_else() -> None:
    move = decide(record(FIRST), with_losses(seen(FOUND), NOTHING))
    assert facts_of(move) == (Counted(NOTHING),)
    held = record(FIRST, Counted(NOTHING))
    assert not isinstance(decide(held, with_losses(seen(FOUND), NOTHING)), Note)


def test_a_claim_carries_what_was_counted_before_it() -> None:
    held = record(FIRST, Counted(NOTHING), *shifted(staged(FIRST)))
    facts = facts_of(decide(held, with_losses(seen(FOUND), lost(0, 40, phase=0))))
    assert [type(fact) for fact in facts] == [Counted, Claimed]
    counted = facts[0]
    assert isinstance(counted, Counted)
    assert counted.losses.logged == Count(40)
    nothing_new = facts_of(decide(held, with_losses(seen(FOUND), NOTHING)))
    assert [type(fact) for fact in nothing_new] == [Claimed]


def shifted(facts: tuple[Fact, ...], by: int = 1) -> tuple[Fact, ...]:
    """Answers the facts with the numbers of their intents moved, for facts that stand before."""
    return tuple(
        replace(fact, of=fact.of + by) if isinstance(fact, Ended) else fact for fact in facts
    )


def test_before_an_end_the_prober_finishes_and_all_is_counted_once_more() -> None:
    only = opened(order=("app1",), policy=GATE, upstreams={"web": APPS})
    facts = (Counted(NOTHING), Decided("me", skip=("app1",)), Counted(Losses()))
    looked = seen(FOUND)
    assert facts_of(decide(record(only, *facts), with_losses(looked, NOTHING))) == (
        Waiting(LAST_COUNT),
    )
    waiting = record(only, *facts, Waiting(LAST_COUNT))
    more = lost(1, 9)
    (counted,) = facts_of(decide(waiting, with_losses(looked, more)))
    assert counted == Counted(more.since(NOTHING))
    done = record(only, *facts, Waiting(LAST_COUNT), counted)
    assert decide(done, with_losses(looked, more)) == Finish(Closed(Ending.DONE))


def test_a_life_that_takes_over_has_its_own_last_count() -> None:
    held = record(FIRST, Counted(NOTHING), Waiting(LAST_COUNT), TakenOver("me"))
    asked = interest(held).losses
    assert asked is not None
    assert not asked.is_last


# --- the gate


def in_wave(*more: Fact) -> Record:
    return record(FIRST, Counted(NOTHING), *shifted(claimed(FIRST, "app1")), *more)


def test_as_many_errors_as_are_allowed_change_nothing() -> None:
    move = decide(in_wave(), with_losses(seen(BOTH), lost(2)))
    assert isinstance(move, Act)
    assert isinstance(move.steps[0], Activate)


def test_one_error_too_many_puts_back_what_is_claimed_and_untouched() -> None:
    (fact,) = facts_of(decide(in_wave(), with_losses(seen(BOTH), lost(3))))
    assert isinstance(fact, GaveUp)
    assert fact.backends == ("app1",)
    assert fact.cause is Cause.ERRORS
    assert "3 requests failed since the opening" in fact.reason
    assert "should be at most 2" in fact.reason
    assert "lb1 3 (app2 3; wave 1 3)" in fact.reason
    held = in_wave(fact)
    move = decide(held, with_losses(seen(BOTH), lost(3)))
    assert isinstance(move, Act)
    assert [step.out for step in move.steps if isinstance(step, Apply)] == [frozenset()] * 2


def test_errors_are_only_counted_without_a_gate() -> None:
    first = opened(policy=Policy(counts_losses=True))
    held = record(first, Counted(NOTHING), *shifted(claimed(first, "app1")))
    assert isinstance(decide(held, with_losses(seen(BOTH), lost(90))), Act)


def test_a_changed_backend_goes_on_until_it_is_proven_and_nothing_more_is_claimed() -> None:
    held = record(FIRST, Counted(NOTHING), *shifted(activated(FIRST, "app1")))
    many = lost(50)
    for move in (
        decide(held, with_losses(seen(BOTH, {"app1": runs("r2")}), many)),
        decide(held, with_losses(seen(BOTH, {"app1": runs("r1")}), many)),
    ):
        assert isinstance(move, Act | Note | Wait)
        assert not isinstance(move, Note) or not any(
            isinstance(fact, GaveUp) for fact in move.facts
        )
    over = record(FIRST, Counted(NOTHING), *shifted(released()), Waiting(LAST_COUNT), Counted(many))
    move = decide(over, with_losses(seen(BACK), NOTHING.plus(many)))
    assert isinstance(move, Halt)
    assert move.halted.cause is Cause.ERRORS


def test_errors_before_anything_was_touched_end_it_untouched() -> None:
    facts = (Counted(NOTHING), *shifted(staged(FIRST)), Waiting(LAST_COUNT), Counted(lost(3)))
    move = decide(record(FIRST, *facts), with_losses(seen(FOUND), NOTHING.plus(lost(3))))
    assert isinstance(move, Finish)
    assert (move.closed.ending, move.closed.cause) == (Ending.NOTHING_TOUCHED, Cause.ERRORS)


def test_a_rollout_does_not_end_as_if_all_were_well() -> None:
    every = record(
        FIRST, Counted(NOTHING), Decided("me", skip=APPS), Counted(Losses()), Waiting(LAST_COUNT)
    )
    move = decide(every, with_losses(seen(FOUND), lost(1)))
    assert facts_of(move) == (Counted(lost(1).since(NOTHING)),)
    bad = decide(every, with_losses(seen(FOUND), lost(3)))
    assert facts_of(bad) == (Counted(lost(3).since(NOTHING)),)
    after = replace(every, losses=NOTHING.plus(lost(3).since(NOTHING)))
    end = decide(after, with_losses(seen(FOUND), after.losses))
    assert isinstance(end, Finish)
    assert end.closed.cause is Cause.ERRORS


def halted_for_errors() -> tuple[Fact, ...]:
    return (
        Counted(NOTHING),
        *shifted(released()),
        Waiting(LAST_COUNT),
        Counted(lost(3).since(NOTHING)),
        Halted(Cause.ERRORS, "3 requests failed"),
    )


def test_a_persons_answer_covers_every_error_up_to_the_next_count() -> None:
    held = record(FIRST, *halted_for_errors(), TakenOver("me"), Decided("me"))
    # While nobody was there, five more failed.
    all_told = NOTHING.plus(lost(8, 500))
    looked = with_losses(seen(BACK), all_told)
    (counted,) = facts_of(decide(held, looked))
    assert isinstance(counted, Counted)
    assert counted.losses.failed == 5
    goes_on = record(FIRST, *halted_for_errors(), TakenOver("me"), Decided("me"), counted)
    assert goes_on.forgiven == 8
    assert [type(fact) for fact in facts_of(decide(goes_on, looked))] == [Claimed]
    three_more = with_losses(seen(BACK), all_told.plus(lost(3)))
    (waiting,) = facts_of(decide(goes_on, three_more))
    assert waiting == Waiting(LAST_COUNT)
    news = Counted(lost(3))
    ended = replace(goes_on, losses=all_told.plus(news.losses), waits={LAST_COUNT: 1})
    end = decide(ended, three_more)
    assert isinstance(end, Halt)
    assert "3 requests failed since a person's answer, should be at most 2" in end.halted.reason
    assert "(11 since the opening" in end.halted.reason


def test_going_back_is_never_stopped_by_errors() -> None:
    many = NOTHING.plus(lost(90))
    for direction in (Direction.BACK, Direction.STOP):
        answer = Redirected(direction, "me")
        held = record(FIRST, *halted_for_errors(), TakenOver("me"), answer, Counted(Losses()))
        looked = with_losses(seen(BACK), many)
        if direction is Direction.BACK:
            facts = facts_of(decide(held, looked))
            assert [fact.backends for fact in facts if isinstance(fact, Claimed)] == [("app1",)]
        else:
            counted = replace(held, losses=many, waits={LAST_COUNT: 1})
            assert decide(counted, looked) == Finish(Closed(Ending.ABORTED))


def test_a_halt_for_errors_has_advice_of_its_own() -> None:
    assert "rolling-deploy resume" in ADVICE[Cause.ERRORS]
    assert "rolling-deploy abort" in ADVICE[Cause.ERRORS]


# --- over the runner, in a world where requests fail


def failing(world: World, at: str, count: int) -> None:
    """At a call, so many requests fail."""
    world.hands_at.append((at, lambda w: w.logs["lb1"].extend([502] * count)))


def counting_world() -> World:
    world = make_world()
    world.logs = {"lb1": [200] * 50, "lb2": []}
    open_rollout(world, policy=GATE)
    return world


def test_a_rollout_counts_from_its_opening_to_its_end() -> None:
    world = counting_world()
    world.hands_at.append(("perform activate app1", lambda w: w.logs["lb2"].extend([200, 499])))
    world.hands_at.append(("perform warm up app3", lambda w: w.logs["lb1"].append(502)))
    held, end = run(world.lives[-1])
    assert end == Closed(Ending.DONE)
    assert held.losses is not None
    assert held.losses.logged == Count(3, 1, 1)
    assert held.losses.ends == {"lb1": "51", "lb2": "2"}
    assert held.losses.by_phase == {"lb2 1": Count(2, 0, 1), "lb1 3": Count(1, 1)}


def test_errors_in_the_second_wave_halt_before_it_is_touched_and_resume_goes_on() -> None:
    world = counting_world()
    failing(world, "perform apply lb1 claim 2 out app2", 3)
    held, end = run(world.lives[-1])
    assert isinstance(end, Halted)
    assert end.cause is Cause.ERRORS
    assert held.changed == {"app1"}
    world.assert_promises_kept()
    assert all(lb.current.up == set(APPS) for lb in world.balancers.values())
    world.logs["lb1"] += [502] * 10  # before anybody comes back
    held, end = resume(world, Decided("me"), machine="another")
    assert end == Closed(Ending.DONE)
    assert held.losses is not None
    assert held.losses.failed == 13
    assert sum(isinstance(fact, Halted) for fact in told(world)) == 1


def test_a_life_that_dies_loses_no_count() -> None:
    world = counting_world()
    world.hands_at.append(("perform activate app2", lambda w: w.lives[-1]._die("kill -9")))
    failing(world, "perform activate app1", 1)
    with pytest.raises(BaseException, match="kill -9"):
        run(world.lives[-1])
    world.logs["lb2"] += [500, 200]
    held, end = resume(world, machine="another")
    assert end == Closed(Ending.DONE)
    assert held.losses is not None
    assert held.losses.logged == Count(3, 2)


# --- values

NAMES = st.sampled_from(["lb1 app1", "lb1 -", "lb2 app1", "lb2 1"])
COUNTS = st.dictionaries(
    NAMES, st.builds(Count, *[st.integers(0, 5)] * 4).filter(lambda c: not c.is_nothing)
)
LOSSES = st.builds(
    Losses,
    COUNTS,
    COUNTS,
    COUNTS,
    st.dictionaries(st.sampled_from(["lb1 /a", "lb2 /a"]), st.sampled_from(["1:1", "1:2"])),
    st.frozensets(st.sampled_from(["a gap", "another"])),
    st.dictionaries(st.sampled_from(["lb1", "lb2"]), st.sampled_from(["404", "502"])),
)


@given(earlier=LOSSES, more=LOSSES)
def test_what_was_counted_since_and_before_is_all_of_it(earlier: Losses, more: Losses) -> None:
    whole = earlier.plus(more)
    assert earlier.plus(whole.since(earlier)) == whole
    assert whole.since(whole) == Losses()
    assert whole.failed == earlier.failed + more.failed


def test_where_requests_failed_is_said_by_load_balancer_backend_and_phase() -> None:
    two = Losses(
        {"lb1 app1": Count(9, 2), "lb1 -": Count(3, 1), "lb2 app1": Count(8)},
        {"lb1 0": Count(6, 1), "lb1 2": Count(6, 2), "lb2 1": Count(8)},
        {"lb1 2": Count(5, 4), "lb2 1": Count(5)},
        last_failures={"lb1": "/home: is 502"},
    )
    assert failures_text(two) == (
        "lb1 7 (no backend 1, app1 2, the prober 4, the last one: /home: is 502; "
        "before wave 1 1, wave 2 6)"
    )


def test_a_record_of_the_first_format_is_read_as_one_that_counts_nothing() -> None:
    line, _ = encode(Entry(1, 7, 1, "me", replace(opened(), format=1)), GENESIS)
    plain = json.loads(line)
    for name in ("counts_losses", "max_errors"):
        del plain["fact"]["policy"][name]
    del plain["hash"]
    digest = hashlib.sha256(_canonical(plain)).hexdigest()
    old = _canonical({**plain, "hash": digest}) + b"\n"
    (entry,) = read_chain(old, "record").entries
    assert entry.fact == replace(opened(), format=1)
