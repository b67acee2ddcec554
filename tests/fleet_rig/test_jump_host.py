"""An operator who reaches the fleet through a jump host only, and a jump host that dies."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import pytest

from tests.fleet_rig.figures import Figures
from tests.fleet_rig.fixtures import LONG, Stand, rig, servers_here
from tests.fleet_rig.fleet import HOSTS
from tests.fleet_rig.fleet_texts import APPS, PLACES
from tests.fleet_rig.jumped import GATE, GATE_ADDRESS, JUMPED_PLACES, OUTSIDE, JumpedFleet
from tests.fleet_rig.rig import FleetRig
from tests.rig_tools import Matches, fact, intends, rotation_of

__all__ = ["rig"]

pytestmark = [pytest.mark.rig, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory, figures: Figures) -> Iterator[Stand]:
    """The place of a module's fleets."""
    folder = tmp_path_factory.mktemp("jumped-rig")
    place = Stand(folder, servers_here(), figures, JumpedFleet)
    yield place
    place.stop()


def jumped(rig: FleetRig) -> JumpedFleet:
    """Answers the fleet by what it is."""
    return cast("JumpedFleet", rig.fleet)


def test_nobody_notices_a_rollout_through_a_jump_host(rig: FleetRig) -> None:
    after, fleet = rig.next_release(), jumped(rig)
    for name in HOSTS:
        route = fleet.machines[OUTSIDE].run("ip", "route", "get", PLACES[name].mgmt, may_fail=True)
        assert route == "", "who is outside must not reach the machines by themselves"
    before = {name: len(fleet.logins(name)) for name in (*HOSTS, GATE)}
    with rig.users("rollout through a jump host"):
        ended = rig.do("run", "--release", after, "--yes", on=OUTSIDE).must_be(0)
        assert ended.has(fact("closed", ending="done"))
    for name in HOSTS:
        # One connection to each machine, from the gate.
        assert fleet.logins(name)[before[name] :] == [JUMPED_PLACES[GATE].mgmt], name
    assert fleet.logins(GATE)[before[GATE] :] == [JUMPED_PLACES[OUTSIDE].outside]
    rig.expect_well(after)


def test_a_jump_host_that_is_gone_is_named_and_nothing_is_touched(rig: FleetRig) -> None:
    before, after, fleet = rig.release(), rig.next_release(), jumped(rig)
    fleet.machines[GATE].kill("sshd")
    ended = rig.do("run", "--release", after, "--yes", on=OUTSIDE).must_be(6)
    assert ended.message.what == "cannot reach lb1, lb2"
    assert ended.message.where.count("the jump host gate is not reached") == 1
    assert f"{GATE_ADDRESS} port 22: connection refused" in ended.message.where
    fleet.start_sshd(GATE)
    fleet.await_gate()
    rig.expect_well(before)


INSIDE = "bastion"
MOMENTS: dict[str, tuple[Matches, str]] = {
    "staging": (intends("Stage", "app1"), OUTSIDE),
    "taking out": (intends("Apply", "lb2"), INSIDE),
    "restarting": (intends("Activate", "app1"), OUTSIDE),
    "restarting, resumed inside": (intends("Activate", "app1"), INSIDE),
    "putting back": (fact("proved"), OUTSIDE),
}


def finish(rig: FleetRig, after: str, on: str) -> None:
    """Bring a rollout that has halted to its end, or begin it anew where nothing was touched."""
    rig.do("unlock", "--yes", on=on)
    ended = rig.do("resume", "--yes", on=on)
    if ended.exit_code in {2, 8}:
        # It was closed: while staging it was tried as often as the inventory allows.
        ended = rig.do("run", "--release", after, "--yes", on=on)
    ended.must_be(0)


@pytest.mark.parametrize("moment", MOMENTS)
@LONG
def test_a_jump_host_that_dies_halts_and_either_side_finishes(rig: FleetRig, moment: str) -> None:
    after, fleet = rig.next_release(), jumped(rig)
    gate = fleet.machines[GATE]
    matches, who = MOMENTS[moment]
    with rig.users("jump host dies"):
        command = rig.start("run", "--release", after, "--yes", on=OUTSIDE)
        ended = command.at(matches, lambda _: (gate.kill("sshd"), None)[1]).end()
        assert ended.exit_code in {4, 8}, ended
        assert not gate.processes("sshd")
        if who == OUTSIDE:
            fleet.start_sshd(GATE)
            fleet.await_gate()
        finish(rig, after, who)
        if who == INSIDE:
            fleet.start_sshd(GATE)
            fleet.await_gate()
    rig.expect_well(after)


@LONG
def test_a_jump_host_that_comes_back_at_once_is_connected_to_again_and_the_rollout_goes_on(
    rig: FleetRig,
) -> None:
    after, fleet = rig.next_release(), jumped(rig)
    gate = fleet.machines[GATE]

    def restart(_: object) -> None:
        gate.kill("sshd")
        fleet.start_sshd(GATE)
        fleet.await_gate()

    with rig.users("jump host restarts"):
        command = rig.start("run", "--release", after, "--yes", on=OUTSIDE)
        ended = command.at(intends("Apply", "lb2"), restart).end()
        if ended.exit_code != 0:
            ended.must_be(4)
            finish(rig, after, OUTSIDE)
    rig.expect_well(after)


@LONG
def test_cut_from_the_jump_host_the_rollout_halts_and_goes_on_when_it_is_back(
    rig: FleetRig,
) -> None:
    after, fleet = rig.next_release(), jumped(rig)
    cut = fleet.network.cut
    with rig.users("cut from the jump host"):
        command = rig.start("run", "--release", after, "--yes", on=OUTSIDE)
        moment = intends("Activate", "app1")
        ended = command.at(moment, lambda _: (cut(OUTSIDE, "outside"), None)[1]).end()
        ended.must_be(4)
        seen = rig.status()
        assert set(rotation_of(seen)) == set(APPS)
        fleet.network.mend(OUTSIDE, "outside")
        finish(rig, after, OUTSIDE)
    rig.expect_well(after)
