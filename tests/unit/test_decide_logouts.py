"""The rules about signs of logged-out users: marked before a stop, looked for after each wave."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rolling_deploy.rollout.decide import decide, interest
from rolling_deploy.rollout.facts import (
    Cause,
    Claimed,
    Closed,
    Decided,
    Direction,
    Fact,
    GaveUp,
    Halted,
    Marked,
    Opened,
    Proved,
    Redirected,
    Released,
    TakenOver,
    Waiting,
    Watched,
)
from rolling_deploy.rollout.fleet import Policy
from rolling_deploy.rollout.forecast import forecast
from rolling_deploy.rollout.logouts import (
    ANEW,
    LOG_ENDS,
    SIGN,
    Logouts,
    Pace,
    Watching,
    faster,
    is_surge,
    signs_text,
)
from rolling_deploy.rollout.move import Act, Finish, Halt, Note, Sign, Wait
from rolling_deploy.rollout.observed import Seen
from rolling_deploy.rollout.record import Record
from rolling_deploy.rollout.step import Activate, Goal
from tests.drive import resume, run
from tests.values import (
    BOTH,
    FOUND,
    GOOD,
    START_MS,
    claimed,
    facts_of,
    opened,
    record,
    seen,
    stepped,
)
from tests.world import make_world, open_rollout

POLICY = Policy(watches_logouts=True, watch_ms=5_000)
ENDS = Logouts(ends={"app1 /log": "7:100"}, pace=Pace(500, 75, 300_000))
LINE = "java.io.InvalidClassException: Cart"


def first(**changes: object) -> Opened:
    return opened(policy=replace(POLICY, **changes))  # type: ignore[arg-type] # the callers name real fields


def marked(opening: Opened) -> tuple[Fact, ...]:
    """Answers the facts up to a wave whose logs are marked, activated and good."""
    facts = [*claimed(opening, "app1"), Waiting(LOG_ENDS), Marked(("app1",), ("app2",), ENDS)]
    return (*facts, *stepped(len(facts) + 2, Activate("app1", Goal.RELEASE)))


def released(opening: Opened, *more: Fact) -> tuple[Fact, ...]:
    """Answers the facts up to a first wave that is back."""
    return (*marked(opening), Proved("app1", Goal.RELEASE), Released(1, ()), *more)


def look(logouts: Logouts, now_ms: int = START_MS + 100) -> Seen:
    return replace(seen(FOUND, GOOD, now_ms=now_ms), logouts=logouts)


def said(count: int = 1, **changes: object) -> Logouts:
    lines = {"app1": count}
    told = Logouts(lines, {"app1": (LINE,)}, {"app1": 50}, {"app1 /log": "7:150"}, pace=ENDS.pace)
    return replace(told, **changes)  # type: ignore[arg-type] # the callers name real fields


QUIET = Logouts(read={"app1": 50}, ends={"app1 /log": "7:150"})


def test_before_a_stop_it_is_said_that_the_logs_ends_come_next_and_only_then_looked() -> None:
    opening = first()
    before = record(opening, *claimed(opening, "app1"))
    assert interest(before).logouts is None
    assert facts_of(decide(before, seen(BOTH))) == (Waiting(LOG_ENDS),)
    after = record(opening, *claimed(opening, "app1"), Waiting(LOG_ENDS))
    asked = interest(after).logouts
    assert asked is not None
    assert asked.backends == asked.fresh >= {"app1", "app2"}


def test_where_the_logs_end_is_in_the_record_before_the_stop() -> None:
    opening = first()
    facts = (*claimed(opening, "app1"), Waiting(LOG_ENDS))
    (fact,) = facts_of(decide(record(opening, *facts), replace(seen(BOTH), logouts=ENDS)))
    assert isinstance(fact, Marked)
    assert (fact.backends, fact.logouts) == (("app1",), ENDS)
    after = record(opening, *facts, fact)
    assert decide(after, seen(BOTH)) == Act((Activate("app1", Goal.RELEASE),))
    assert interest(after).logouts is None
    assert after.pace_before == ENDS.pace


def test_a_later_life_reads_on_from_where_the_log_ended_before_the_stop() -> None:
    opening = first()
    asked = interest(record(opening, *released(opening), TakenOver("another"))).logouts
    assert asked is not None
    assert asked.so_far.ends == {"app1 /log": "7:100"}
    assert not asked.fresh
    assert {"app1", "app2"} <= asked.backends


def test_a_sign_is_waited_for_after_the_first_wave() -> None:
    opening = first()
    before = record(opening, *released(opening))
    assert facts_of(decide(before, look(QUIET))) == (Waiting(SIGN),)
    after = record(opening, *released(opening, Waiting(SIGN)))
    move = decide(after, look(QUIET))
    assert isinstance(move, Wait)
    assert isinstance(move.condition, Sign)
    assert move.until_ms == after.waits[SIGN] + 5_000


def test_without_a_sign_the_next_wave_follows_after_the_wait() -> None:
    opening = first()
    facts = released(opening, Waiting(SIGN))
    now_ms = START_MS + 20_000
    (fact,) = facts_of(decide(record(opening, *facts), look(QUIET, now_ms)))
    assert isinstance(fact, Watched)
    assert (fact.claim, fact.logouts.count) == (1, 0)
    move = decide(record(opening, *facts, fact), look(QUIET, now_ms))
    assert facts_of(move) == (Claimed(2, ("app2",)),)


def test_a_line_ends_the_wait_and_halts_before_the_next_wave() -> None:
    opening = first()
    facts = released(opening, Waiting(SIGN))
    (fact,) = facts_of(decide(record(opening, *facts), look(said())))
    assert isinstance(fact, Watched)
    move = decide(record(opening, *facts, fact), look(said()))
    assert isinstance(move, Halt)
    assert move.halted.cause is Cause.SESSIONS
    assert f"app1 (1 line says that a session cannot be read: {LINE})" in move.halted.reason


def test_as_many_lines_as_are_allowed_do_not_halt_nor_end_the_wait() -> None:
    opening = first(logout_lines_max=3)
    facts = released(opening, Waiting(SIGN))
    assert isinstance(decide(record(opening, *facts), look(said(3))), Wait)
    watched = (*facts, Watched(1, said(3)))
    assert isinstance(decide(record(opening, *watched), look(said(3))), Note)
    watched = (*facts, Watched(1, said(4)))
    assert isinstance(decide(record(opening, *watched), look(said(4))), Halt)


def test_sessions_that_come_much_faster_halt_too() -> None:
    opening = first()
    fast = replace(QUIET, pace=Pace(500, 41, 5_000))
    facts = released(opening, Watched(1, fast))
    move = decide(record(opening, *facts), look(fast))
    assert isinstance(move, Halt)
    assert "sessions come at 98.4% of the stored ones a minute, before it was 3.0%" in (
        move.halted.reason
    )


def test_in_between_nobody_waits_and_the_waves_before_are_read_too() -> None:
    opening = first()
    facts = [*released(opening, Watched(1, QUIET)), Claimed(2, ("app2",))]
    facts += [Marked(("app2",), ("app3",), Logouts(ends={"app2 /log": "9:1"})), Released(2, ())]
    after = record(opening, *facts)
    asked = interest(after).logouts
    assert asked is not None
    assert asked.backends >= {"app1", "app2", "app3"}
    (fact,) = facts_of(decide(after, look(QUIET)))
    assert isinstance(fact, Watched)


def about_to_stop(opening: Opened, seen_then: Logouts, *more: Fact) -> Record:
    """Answers a record whose second wave is claimed, out, and looked at right before its stop."""
    facts = [*released(opening, Watched(1, QUIET)), *more, Claimed(2, ("app2",))]
    return record(opening, *facts, Waiting(LOG_ENDS), Marked(("app2",), ("app3",), seen_then))


def test_a_line_that_is_seen_right_before_the_next_stop_halts_before_it() -> None:
    opening = first()
    at_mark = replace(said(), ends={"app2 /log": "9:1"})
    before = about_to_stop(opening, at_mark)
    (fact,) = facts_of(decide(before, seen(FOUND, GOOD)))
    assert isinstance(fact, GaveUp)
    assert (fact.backends, fact.cause) == (("app2",), Cause.SESSIONS)
    told = forecast(before, seen(FOUND, GOOD))
    steps = [step for move in told.moves if isinstance(move, Act) for step in move.steps]
    assert not [step for step in steps if isinstance(step, Activate)]
    halt = told.moves[-1]
    assert isinstance(halt, Halt)
    assert halt.halted.cause is Cause.SESSIONS
    assert f"app1 (1 line says that a session cannot be read: {LINE})" in halt.halted.reason
    assert told.record.changed == {"app1"}
    assert not told.record.left_out


def test_without_a_line_or_after_a_persons_answer_the_next_stop_follows() -> None:
    opening = first()
    for before in (
        about_to_stop(opening, QUIET),
        about_to_stop(
            opening, said(), Halted(Cause.SESSIONS, "users are logged out"), Decided("someone")
        ),
        about_to_stop(first(logout_lines_max=1), said()),
    ):
        moves = forecast(before, seen(FOUND, GOOD)).moves
        assert Act((Activate("app2", Goal.RELEASE),)) in moves


def test_how_fast_sessions_come_is_not_judged_right_before_a_stop() -> None:
    fast = Watched(1, replace(QUIET, pace=Pace(500, 41, 5_000)))
    before = about_to_stop(first(), QUIET, fast)
    assert before.logouts is not None
    assert is_surge(before.pace_before, before.logouts.pace, 3.0, 20)
    move = decide(before, seen(FOUND, GOOD))
    assert not isinstance(move, Note) or not isinstance(move.facts[0], GaveUp)


def test_a_pace_of_the_day_before_a_halt_is_no_sign_at_night() -> None:
    day = Watched(1, replace(QUIET, pace=Pace(500, 60, 60_000)))
    halt = Halted(Cause.STORE, "the session store is gone")
    night = replace(QUIET, pace=Pace(500, 1, 300_000))
    before = about_to_stop(first(), night, day, halt, Decided("someone"))
    assert not before.are_logouts_accepted
    assert before.pace_before == night.pace
    told = forecast(before, seen(FOUND, GOOD))
    assert Act((Activate("app2", Goal.RELEASE),)) in told.moves
    assert not [move for move in told.moves if isinstance(move, Halt)]
    # A line that stood there before the answer is still a sign.
    loud = about_to_stop(first(), night, Watched(1, said()), halt, Decided("someone"))
    (fact,) = facts_of(decide(loud, seen(FOUND, GOOD)))
    assert isinstance(fact, GaveUp)


def test_after_the_last_wave_it_is_waited_again_before_all_is_done() -> None:
    opening = opened(policy=POLICY, order=("app1",), upstreams={"web": ("app1", "app2")})
    told = forecast(record(opening), seen(FOUND, {"app2": GOOD["app1"]}))
    assert [type(move) for move in told.moves[-4:]] == [Note, Wait, Note, Finish]
    assert isinstance(told.moves[-3], Wait)
    assert isinstance(told.moves[-3].condition, Sign)


def test_a_fleet_of_three_is_waited_for_twice() -> None:
    told = forecast(record(first()), seen(FOUND))
    waits = [m for m in told.moves if isinstance(m, Wait) and isinstance(m.condition, Sign)]
    assert len(waits) == 2


def test_a_later_life_counts_new_sessions_from_its_own_clock_on() -> None:
    opening = first()
    facts = released(opening)
    before = interest(record(opening, *facts)).logouts
    after = interest(record(opening, *facts, TakenOver("another"))).logouts
    assert before is not None
    assert after is not None
    assert before.since_ms == START_MS + len(facts) + 1
    assert after.since_ms == START_MS + len(facts) + 2


def test_a_person_who_goes_on_is_not_asked_again() -> None:
    opening = first()
    halted = Halted(Cause.SESSIONS, "users are being logged out")
    facts = (*released(opening, Watched(1, said())), halted, Decided("someone"))
    after = record(opening, *facts)
    assert after.are_logouts_accepted
    assert facts_of(decide(after, look(said()))) == (Claimed(2, ("app2",)),)


def test_an_answer_to_another_halt_accepts_nothing() -> None:
    opening = first()
    halted = Halted(Cause.CAPACITY, "too few")
    after = record(opening, *released(opening, halted, Decided("someone")))
    assert not after.are_logouts_accepted


def test_after_a_halt_of_a_night_the_morning_is_not_compared_with_the_evening() -> None:
    opening = first()
    morning = replace(QUIET, pace=Pace(500, 100, 60_000))
    facts = released(opening, Watched(1, morning))
    assert isinstance(decide(record(opening, *facts), look(morning)), Halt)
    answered = record(opening, *facts, Halted(Cause.BUSY, "x"), Decided("me"))
    assert answered.pace_before == Pace(gap=ANEW)
    assert not isinstance(decide(answered, look(morning)), Halt)
    ends = Marked(("app2",), (), replace(ENDS, pace=Pace(500, 90, 300_000)))
    claim = Claimed(2, ("app2",))
    again = record(opening, *facts, Halted(Cause.BUSY, "x"), Decided("me"), claim, ends)
    assert again.pace_before == ends.logouts.pace


def test_on_the_way_back_nothing_is_looked_for() -> None:
    opening = first()
    facts = released(opening, Watched(1, said()), Redirected(Direction.BACK, "someone"))
    after = record(opening, *facts)
    assert interest(after).logouts is None
    assert facts_of(decide(after, look(said()))) == (Claimed(2, ("app1",)),)


def test_without_a_watch_nothing_is_marked_and_nothing_waited_for() -> None:
    opening = opened()
    after = record(opening, *claimed(opening, "app1"))
    assert decide(after, seen(BOTH)) == Act((Activate("app1", Goal.RELEASE),))
    told = forecast(record(opening), seen(FOUND))
    assert not [m for m in told.moves if isinstance(m, Wait) and isinstance(m.condition, Sign)]


def test_a_look_that_was_not_made_is_a_gap_and_no_reason_to_turn_for_ever() -> None:
    opening = first()
    facts = (*claimed(opening, "app1"), Waiting(LOG_ENDS))
    (fact,) = facts_of(decide(record(opening, *facts), seen(BOTH)))
    assert isinstance(fact, Marked)
    assert fact.logouts.gaps == {"logs and sessions were not looked at"}


@pytest.mark.parametrize(
    ("now", "is_trip"),
    [
        (Pace(500, 41, 5_000), True),
        (Pace(500, 19, 5_000), False),  # too few to tell from chance
        (Pace(500, 20, 60_000), False),  # many, but it is the usual number
        (Pace(500, 45, 60_000), True),  # three times
        (Pace(500, 41, 500), False),  # too short a time
        (Pace(gap="not reached"), False),
        (None, False),
    ],
)
def test_a_surge_is_both_much_faster_and_more_than_a_few(now: Pace | None, is_trip: bool) -> None:
    assert is_surge(Pace(500, 75, 300_000), now, 3.0, 20) is is_trip


def test_without_sessions_before_nothing_is_compared() -> None:
    now = Pace(500, 400, 5_000)
    assert not is_surge(None, now, 3.0, 20)
    assert not is_surge(Pace(gap="no session is stored"), now, 3.0, 20)
    assert is_surge(Pace(500, 0, 300_000), now, 3.0, 20)
    # One in five minutes may as well have come by chance; 20 in three minutes are less than thrice.
    assert not is_surge(Pace(30, 0, 300_000), Pace(500, 20, 180_000), 3.0, 20)


def test_an_ordinary_morning_does_not_trip() -> None:
    """Sessions come twice as fast every ten minutes for two hours, a wave every minute."""
    before: Pace | None = None
    for _ in range(120):
        share = 1 - 2 ** (-5 / 10)
        before = faster(before, Pace(500, round(500 * share), 300_000))
        now = Pace(500, round(500 * (1 - 2 ** (-1 / 10))), 60_000)
        assert not is_surge(before, now, Policy().logout_ratio, Policy().logout_new_min)


def test_it_is_compared_with_the_fastest_that_is_known() -> None:
    slow, fast = Pace(500, 10, 300_000), Pace(500, 60, 300_000)
    assert faster(slow, fast) == faster(fast, slow) == fast
    assert faster(Pace(gap="not reached"), slow) == slow
    assert faster(None, Pace(gap="not reached")) == Pace(gap="not reached")


def test_at_most_three_lines_are_shown_however_many_backends_say_them() -> None:
    names = [f"app{n}" for n in range(1, 6)]
    text = signs_text(Logouts(dict.fromkeys(names, 9), {n: (f"{n} a", f"{n} b") for n in names}))
    assert sum(text.count(f"{n} {letter}") for n in names for letter in "ab") == 3
    assert all(f"{n} (9 lines" in text for n in names)


def test_what_is_new_and_what_was_known_make_the_whole() -> None:
    whole = said(3, gaps=frozenset({"app2: not read"}))
    assert ENDS.plus(whole.since(ENDS)) == replace(whole, ends={**ENDS.ends, **whole.ends})


def test_a_wider_look_covers_a_narrower_one_with_the_same_beginnings() -> None:
    wide = Watching(frozenset({"app1", "app2"}), since_ms=5)
    assert wide.covers(Watching(frozenset({"app1"}), since_ms=5))
    assert not Watching(frozenset({"app1"}), since_ms=5).covers(wide)
    assert not wide.covers(replace(wide, since_ms=6))
    assert not wide.covers(replace(wide, fresh=frozenset({"app1"})))


def test_a_release_that_logs_users_out_stops_at_its_first_wave_and_goes_on_if_accepted() -> None:
    world = make_world(3, 2)
    for fake in world.backends.values():
        fake.forgets_on = {"r2"}
    open_rollout(world, policy=POLICY)
    _, end = run(world.lives[-1])
    assert isinstance(end, Halted)
    assert end.cause is Cause.SESSIONS
    assert [b.version for b in world.backends.values()] == ["r2", "r1", "r1"]
    after, end = resume(world, Decided("someone"), machine="ci")
    assert isinstance(end, Closed)
    assert after.logouts is not None
    assert set(after.logouts.lines) == {"app1", "app2", "app3"}
    world.assert_promises_kept()


def test_the_old_release_may_be_the_one_that_cannot_read() -> None:
    world = make_world(3, 1)
    world.hands_at.append(("wait sign", lambda w: w.app_logs.update(app3=["fine", "! no session"])))
    open_rollout(world, policy=POLICY)
    _, end = run(world.lives[-1])
    assert isinstance(end, Halted)
    assert "app3 (1 line says" in end.reason
