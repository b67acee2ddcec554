"""The rules about canary sessions: kept before the first claim, proved with the other release."""

from __future__ import annotations

from dataclasses import replace

from rolling_deploy.rollout.decide import decide
from rolling_deploy.rollout.facts import (
    Cause,
    Claimed,
    Direction,
    Ending,
    Fact,
    GaveUp,
    Opened,
    Proved,
    Redirected,
    Released,
    TurnedBack,
)
from rolling_deploy.rollout.fleet import OnFailure, Policy
from rolling_deploy.rollout.forecast import Forecast, forecast
from rolling_deploy.rollout.move import Act, Finish, Halt
from rolling_deploy.rollout.step import Activate, Apply, Continuity, Goal, Keep, Step, WarmUp
from tests.values import (
    BOTH,
    DONE,
    FAILED,
    FOUND,
    GOOD,
    UNKNOWN,
    activated,
    facts_of,
    opened,
    record,
    seen,
    staged,
    stepped,
)

PROVING = Policy(proves_sessions=True)
SEALED = replace(DONE, kept="sealed")


def with_kept(first: Opened) -> tuple[Fact, ...]:
    """Answers the facts up to kept sessions."""
    facts = staged(first)
    return (*facts, *stepped(len(facts) + 2, Keep("app1", "app2"), SEALED))


def in_claim(first: Opened) -> tuple[Fact, ...]:
    """Answers the facts up to a warm app1, with sessions kept by nobody."""
    facts = activated(first, "app1")
    return (*facts, *stepped(len(facts) + 2, WarmUp("app1")))


def steps_of(told: Forecast, kind: type[Step]) -> list[Step]:
    return [s for m in told.moves if isinstance(m, Act) for s in m.steps if isinstance(s, kind)]


def test_before_the_first_claim_two_backends_of_the_release_in_service_share_sessions() -> None:
    first = opened(policy=PROVING)
    assert decide(record(first, *staged(first)), seen(FOUND)) == Act((Keep("app1", "app2"),))


def test_another_pair_is_tried_when_one_cannot_be_asked() -> None:
    first = opened(policy=PROVING)
    facts = staged(first)
    facts = (*facts, *stepped(len(facts) + 2, Keep("app1", "app2"), UNKNOWN))
    assert decide(record(first, *facts), seen(FOUND)) == Act((Keep("app2", "app3"),))


def test_among_four_the_next_pair_is_without_both_of_the_one_that_could_not_be_asked() -> None:
    names = ("app1", "app2", "app3", "app4")
    first = opened(policy=PROVING, order=names)
    facts = staged(first)
    look = seen(FOUND, dict.fromkeys(names, GOOD["app1"]))
    assert decide(record(first, *facts), look) == Act((Keep("app1", "app2"),))
    facts = (*facts, *stepped(len(facts) + 2, Keep("app1", "app2"), UNKNOWN))
    assert decide(record(first, *facts), look) == Act((Keep("app3", "app4"),))


def test_nothing_is_begun_when_sessions_are_not_shared() -> None:
    first = opened(policy=PROVING)
    facts = staged(first)
    facts = (*facts, *stepped(len(facts) + 2, Keep("app1", "app2"), FAILED))
    move = decide(record(first, *facts), seen(FOUND))
    assert isinstance(move, Finish)
    assert (move.closed.ending, move.closed.cause) == (Ending.NOTHING_TOUCHED, Cause.SESSIONS)
    assert move.closed.reason.startswith("sessions not proved to be shared, failed after 1 try: ")


def test_without_a_canary_none_are_kept() -> None:
    told = forecast(record(opened()), seen(FOUND), not_checked=frozenset({"Continuity"}))
    assert steps_of(told, Keep) == []
    assert {s.other for s in steps_of(told, Continuity) if isinstance(s, Continuity)} == {""}


def test_a_whole_rollout_proves_each_backend_with_one_that_has_the_old_release_yet() -> None:
    told = forecast(record(opened(policy=PROVING)), seen(FOUND))
    assert steps_of(told, Keep) == [Keep("app1", "app2")]
    proofs = [(s.backend, s.other) for s in steps_of(told, Continuity) if isinstance(s, Continuity)]
    assert proofs == [("app1", "app2"), ("app2", "app3"), ("app3", "")]


def test_nobody_is_put_back_before_its_sessions_are_proved() -> None:
    told = forecast(record(opened(policy=PROVING)), seen(FOUND))
    steps = [s for m in told.moves if isinstance(m, Act) for s in m.steps]
    out: set[str] = set()
    proved: set[str] = set()
    for step in steps:
        match step:
            case Continuity():
                proved.add(step.backend)
            case Apply(load_balancer="lb1"):
                assert out - step.out <= proved
                out = set(step.out)
            case _:
                pass
    assert proved == {"app1", "app2", "app3"}


def test_the_sealed_sessions_travel_with_the_proof() -> None:
    first = opened(policy=PROVING)
    told = forecast(record(first, *with_kept(first)), seen(FOUND))
    # The forecast's own `Keep` does not come: they are kept already.
    assert steps_of(told, Keep) == []
    assert {s.kept for s in steps_of(told, Continuity) if isinstance(s, Continuity)} == {"sealed"}


def test_a_release_that_breaks_sessions_is_not_put_back_and_no_other_is_touched() -> None:
    first = opened(policy=PROVING)
    facts = in_claim(first)
    facts = (*facts, *stepped(len(facts) + 2, Continuity("app1", other="app2"), FAILED))
    (fact,) = facts_of(decide(record(first, *facts), seen(BOTH, GOOD)))
    assert isinstance(fact, GaveUp)
    assert fact.backends == ("app1",)
    assert fact.reason == "app1: sessions not proved, failed after 1 try: exit 1"
    told = forecast(record(first, *facts), seen(BOTH, GOOD))
    assert isinstance(told.moves[-1], Halt)
    assert not [s for s in steps_of(told, Activate) if isinstance(s, Activate)]


def test_with_a_policy_to_go_back_the_old_release_returns_to_that_backend() -> None:
    first = opened(policy=replace(PROVING, on_failure=OnFailure.BACK_NODE))
    facts = in_claim(first)
    facts = (*facts, *stepped(len(facts) + 2, Continuity("app1", other="app2"), FAILED))
    (fact,) = facts_of(decide(record(first, *facts), seen(BOTH, GOOD)))
    assert isinstance(fact, TurnedBack)


def test_another_backend_is_asked_when_one_could_not_be() -> None:
    first = opened(policy=PROVING)
    facts = in_claim(first)
    look = seen(BOTH, GOOD)
    step = Continuity("app1", Goal.RELEASE, "app2")
    assert decide(record(first, *facts), look) == Act((step,))
    facts = (*facts, *stepped(len(facts) + 2, step, UNKNOWN))
    assert decide(record(first, *facts), look) == Act((replace(step, other="app3"),))


def test_on_the_way_back_of_two_the_first_is_proved_with_the_second() -> None:
    first = opened(policy=PROVING)
    facts: list[Fact] = list(staged(first))
    for number, name in enumerate(("app1", "app2"), start=1):
        facts += _taken(first, len(facts), number, name)
    facts.append(Redirected(Direction.BACK, "someone"))
    home = forecast(record(first, *facts), seen(FOUND))
    proofs = [s for s in steps_of(home, Continuity) if isinstance(s, Continuity)]
    assert [(s.backend, s.goal, s.other) for s in proofs] == [
        ("app2", Goal.PREVIOUS, "app1"),
        ("app1", Goal.PREVIOUS, ""),
    ]


def _taken(first: Opened, count: int, number: int, name: str) -> list[Fact]:
    """Answers the facts of one whole claim."""
    facts: list[Fact] = [Claimed(number, (name,))]
    for lb in first.load_balancers:
        step = Apply(lb, frozenset({name}), number, f"roll.1.{count}", "found")
        facts += stepped(count + len(facts) + 2, step)
    facts += stepped(count + len(facts) + 2, Activate(name, Goal.RELEASE))
    facts += [Proved(name, Goal.RELEASE), Released(number, ())]
    return facts
