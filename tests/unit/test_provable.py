"""Whether a plan can prove anything about sessions: somebody has to serve on the other release."""

from __future__ import annotations

from dataclasses import replace

from rolling_deploy.operations.opening import check_provable
from rolling_deploy.rollout.fleet import Policy
from rolling_deploy.rollout.observed import Verdict
from tests.values import opened

PROVING = Policy(proves_sessions=True)


def test_the_first_wave_names_whom_it_is_proved_with() -> None:
    (line,) = check_provable(opened(policy=PROVING), is_accepted=False)
    assert line.verdict is Verdict.OK
    assert line.detail == "app1 and app2 read each other's sessions first"


def test_a_plan_in_which_nobody_of_the_old_release_serves_needs_to_be_accepted() -> None:
    whole_wave = opened(policy=replace(PROVING, wave_size=3))
    (line,) = check_provable(whole_wave, is_accepted=False)
    assert line.verdict is Verdict.REFUSED
    assert "not provable: with app1, app2, app3 out" in line.detail
    assert "--accept unproved-sessions" in line.detail
    (line,) = check_provable(whole_wave, is_accepted=True)
    assert line.verdict is Verdict.WARNING
    assert line.detail.endswith("(accepted)")


def test_who_is_parked_or_has_the_release_already_proves_nothing() -> None:
    first = replace(
        opened(order=("app1",), parked=frozenset({"app3"}), policy=PROVING), already=("app2",)
    )
    (line,) = check_provable(first, is_accepted=False)
    assert line.verdict is Verdict.REFUSED


def test_without_a_canary_nothing_is_said() -> None:
    assert check_provable(opened(), is_accepted=False) == ()
    nothing_to_do = replace(opened(policy=PROVING), order=())
    assert check_provable(nothing_to_do, is_accepted=False) == ()
