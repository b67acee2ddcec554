"""The operator loses a machine in the middle: its cable, or its sshd. The users keep theirs."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.fleet_rig.fixtures import LONG, rig, stand
from tests.fleet_rig.fleet_texts import APPS
from tests.fleet_rig.rig import FleetRig
from tests.rig_tools import Ended, Event, Matches, fact, intends, rotation_of, versions_of

__all__ = ["rig", "stand"]

pytestmark = [pytest.mark.rig, pytest.mark.timeout(600)]

SOON = ("on_failure: halt", "on_failure: halt\n  ready_limit_s: 5")
"""A backend that cannot be seen is waited for so long, as it may well come up."""

Act = Callable[[Event], object]


def run_and_break(rig: FleetRig, at: Matches, act: Act) -> Ended:
    """Run a rollout in which something breaks at an event; answers how it halted."""
    command = rig.start("run", "--release", rig.next_release(), "--yes")
    return command.at(at, lambda event: (act(event), None)[1]).end().must_be(4)


def test_cut_from_a_load_balancer_while_taking_out_nothing_is_touched_behind_it(
    rig: FleetRig,
) -> None:
    before, after = rig.release(), rig.next_release()
    with rig.users("cut from a load balancer"):
        cut = rig.fleet.network.cut
        halted = run_and_break(rig, intends("Apply", "lb2"), lambda _: cut("lb2", "mgmt"))
        assert "cannot reach lb2" in halted.message.what
        assert "counts as still sending" in halted.message.what
        assert halted.message.site.startswith("app1, app2, app3, app4 in rotation")
        assert not halted.has(intends("Activate"))
        seen = rig.status()
        assert any("lb2" in problem for problem in seen["problems"]), seen["problems"]
        rig.fleet.network.mend("lb2", "mgmt")
        seen = rig.status()
        assert versions_of(seen) == dict.fromkeys(APPS, before)
        assert "lb1" not in rotation_of(seen)["app1"]
        rig.finish(after)
    rig.expect_well(after)


@LONG
def test_cut_from_a_load_balancer_before_putting_back_the_other_gets_its_nodes_back(
    rig: FleetRig,
) -> None:
    after = rig.next_release()
    with rig.users("cut from a load balancer"):
        cut = rig.fleet.network.cut
        halted = run_and_break(rig, fact("proved"), lambda _: cut("lb2", "mgmt"))
        assert "cannot reach lb2" in halted.message.what
        assert not halted.has(fact("claimed", claim=2))
        rig.fleet.network.mend("lb2", "mgmt")
        seen = rig.status()
        rollout = seen["rollout"]["rollout"]
        assert rotation_of(seen)["app1"] == f"out on lb2 by rollout {rollout}"
        rig.finish(after)
    rig.expect_well(after)


def test_cut_from_a_backend_while_it_restarts_it_stays_out_until_it_is_seen_again(
    rig: FleetRig,
) -> None:
    before, after = rig.release(), rig.next_release()
    rig.changed(SOON)
    with rig.users("cut from a backend"):
        cut = rig.fleet.network.cut
        halted = run_and_break(rig, intends("Activate", "app1"), lambda _: cut("web1", "mgmt"))
        assert "app1" in halted.message.what
        assert not halted.has(fact("proved", backend="app1"))
        assert not halted.has(fact("claimed", claim=2))
        seen = rig.status()
        assert "app1" not in {n for n, r in rotation_of(seen).items() if r == "in"}
        assert versions_of(seen)["app3"] == versions_of(seen)["app4"] == before
        rig.fleet.network.mend("web1", "mgmt")
        rig.finish(after)
    rig.expect_well(after)


def test_cut_from_redis_in_the_first_wave_no_second_one_is_claimed(rig: FleetRig) -> None:
    after = rig.next_release()
    with rig.users("cut from Redis"):
        redis, cut = rig.fleet.redis_master, rig.fleet.network.cut
        halted = run_and_break(rig, fact("claimed", claim=1), lambda _: cut(redis, "mgmt"))
        assert "session store" in halted.message.where
        assert not halted.has(fact("claimed", claim=2))
        assert halted.message.site.startswith("app1, app2, app3, app4 in rotation")
        assert set(rotation_of(rig.status()).values()) == {"in"}
        rig.fleet.network.mend(redis, "mgmt")
        rig.finish(after)
    rig.expect_well(after)


SSHD: dict[str, tuple[str, Matches]] = {
    "of a load balancer": ("lb2", intends("Apply", "lb2")),
    "of a backend": ("web1", intends("Activate", "app1")),
}


@pytest.mark.parametrize("whose", ["of a load balancer", pytest.param("of a backend", marks=LONG)])
def test_an_sshd_that_dies_with_its_sessions_halts_and_whoever_resumes_finishes(
    rig: FleetRig, whose: str
) -> None:
    after = rig.next_release()
    name, moment = SSHD[whose]
    machine = rig.fleet.machines[name]
    rig.changed(SOON)
    with rig.users("sshd dies"):
        halted = run_and_break(rig, moment, lambda _: machine.kill("sshd"))
        assert {"lb2": "lb2", "web1": "app1"}[name] in halted.message.what
        assert not machine.processes("sshd")
        rig.fleet.start_sshd(name)
        rig.fleet.await_sshd(name)
        rig.finish(after)
    rig.expect_well(after)
