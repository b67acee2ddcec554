"""Real Tomcats on machines of their own: a new WAR, operators that die or freeze, a WAR that fails.

Only in the long form; `tests/rig/test_two_tomcats.py` is the short one. The operator is killed at
each kind of entry of the record and around what a Tomcat is sent, and frozen before each of these.
"""

from __future__ import annotations

from typing import cast

import pytest

from tests.fleet_rig.fixtures import LONG, rig
from tests.fleet_rig.rig import FleetRig
from tests.fleet_rig.scenarios import ENTRIES, freeze_and_overtake, kill_and_resume
from tests.fleet_rig.tomcats import (
    NEVER_HEALTHY,
    READY_LIMIT,
    TOMCATS,
    NamespacedTomcats,
    tomcat_stand,
)
from tests.rig_tools import fact, outcomes, rotation_of, versions_of

__all__ = ["rig", "tomcat_stand"]

pytestmark = [pytest.mark.rig, pytest.mark.timeout(900)]

FIRST, OTHER = TOMCATS
KINDS = (*ENTRIES, "intended-keep")
"""The canary's sessions are kept for whoever goes on, too."""
AROUND = ("sent activate_tomcat", "answered activate_tomcat", "answered stage_tomcat")
SENT_TO_A_TOMCAT = ("stage_tomcat", "receive", "activate_tomcat", "prune_tomcat")
"""Stopping, swapping and starting is one command: `activate_tomcat`."""


def machines_of(rig: FleetRig) -> NamespacedTomcats:
    """Answers the fleet by what it is."""
    return cast("NamespacedTomcats", rig.fleet)


@LONG
def test_a_new_war_on_real_tomcats_loses_no_request_and_no_session(rig: FleetRig) -> None:
    before, after = rig.release(), rig.next_release()
    fleet = machines_of(rig)
    pids = {app: fleet.pid_of(app) for app in TOMCATS}
    with rig.users("tomcats: plain rollout") as load:
        ended = rig.do("run", "--release", after, "--yes").must_be(0)
        sessions = fleet.sessions()
    seen = load.snapshot()
    assert ended.has(fact("closed", ending="done"))
    assert outcomes(ended.events, "Activate") == ["done", "done"]
    assert not {fleet.pid_of(app) for app in TOMCATS} & set(pids.values())
    assert set(seen.versions) == {before, after}
    assert len(seen.backends) == len(TOMCATS)
    assert seen.retried == 0, "nginx had to ask the other Tomcat: one was stopped too early"
    assert sessions >= seen.sessions_followed > 0
    rig.expect_well(after)


@LONG
@pytest.mark.parametrize("kind", KINDS)
def test_an_operator_of_tomcats_killed_at_a_kind_of_entry_is_replaced(
    rig: FleetRig, kind: str
) -> None:
    assert kill_and_resume(rig, "tomcats: killed at a kind of entry", f"written {kind}")


@LONG
@pytest.mark.parametrize("moment", AROUND)
def test_an_operator_killed_around_what_a_tomcat_is_sent_is_replaced(
    rig: FleetRig, moment: str
) -> None:
    assert kill_and_resume(rig, "tomcats: killed around a command", moment)


@LONG
@pytest.mark.parametrize("command", SENT_TO_A_TOMCAT)
def test_an_operator_frozen_before_what_a_tomcat_is_sent_changes_nothing_when_it_wakes(
    rig: FleetRig, command: str
) -> None:
    # Never seen over there, so that it is sent as well.
    release = rig.new_release()
    assert freeze_and_overtake(rig, "tomcats: frozen before a command", command, release)


@LONG
def test_a_war_that_never_becomes_healthy_stays_out_and_abort_goes_back(rig: FleetRig) -> None:
    before, fleet = rig.release(), machines_of(rig)
    untouched = fleet.pid_of(OTHER)
    rig.changed((READY_LIMIT, "ready_limit_s: 30"))
    with rig.users("tomcats: a WAR never healthy"):
        halted = rig.do("run", "--release", NEVER_HEALTHY, "--yes").must_be(4)
        assert "not good within 30 s" in halted.message.what
        assert halted.message.site.startswith(f"{OTHER} in rotation; {FIRST} out of rotation")
        assert fleet.release_of(FIRST) == NEVER_HEALTHY
        seen = rig.status()
        rotation = rotation_of(seen)
        assert "out on lb1, lb2" in rotation[FIRST]
        assert rotation[OTHER] == "in"
        assert versions_of(seen)[OTHER] == before
        rig.do("abort", "--yes", on="bastion").must_be(0)
        assert fleet.pid_of(OTHER) == untouched
    rig.expect_well(before)
