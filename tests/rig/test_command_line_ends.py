"""The plain ends of the commands, from a process without a terminal."""

from __future__ import annotations

import json
import os
import signal

import pytest

from rolling_deploy.demo.fleet import FleetShape
from tests.rig.fixtures import rig, stand_fixture
from tests.rig_tools import Rig, fact

__all__ = ["rig"]

stand = stand_fixture(FleetShape(backends=2, load_balancers=1, start_delay_ms=0))

pytestmark = pytest.mark.timeout(900)


def test_a_run_without_a_terminal_and_without_yes_is_refused_and_touches_nothing(rig: Rig) -> None:
    files, before = rig.managed(), rig.release()
    with rig.users():
        ended = rig.do("run", "--release", rig.next_release()).must_be(2)
        assert "needs a terminal" in ended.message.what
        assert "--yes" in ended.message.next
        assert not ended.has(fact("opened"))
        assert rig.managed() == files
    rig.expect_well(before)


@pytest.mark.every
def test_what_is_deployed_already_is_told_by_a_plan_and_a_run_of_it_reloads_nothing(
    rig: Rig,
) -> None:
    # Deployed by the tool: of what lay there before nobody can tell that it is this artifact.
    now = rig.next_release()
    rig.run(now).must_be(0)
    files, workers, after = rig.managed(), rig.workers(), rig.next_release()
    with rig.users():
        changes = rig.do("plan", "--release", after, "--detailed-exitcode", "--json")
        assert changes.exit_code == 10, changes
        assert json.loads(changes.stdout)["release"] == after
        assert rig.do("plan", "--release", after).exit_code == 0
        same = rig.do("plan", "--release", now, "--detailed-exitcode")
        assert same.exit_code == 0, same
        ended = rig.run(now).must_be(0)
        assert any("nothing to do" in event.get("text", "") for event in ended.events)
        assert not ended.has(fact("opened"))
        assert rig.managed() == files
        rig.expect_no_reload(workers)
    rig.expect_well(now)


def test_a_machine_that_cannot_be_reached_is_named_and_nothing_is_touched(rig: Rig) -> None:
    fleet = rig.fleet
    files, now = rig.managed(), rig.release()
    machine = fleet.node("app2").machine
    sshd = fleet.ssh._pids[machine.name]
    with rig.users():
        os.kill(sshd, signal.SIGTERM)
        assert fleet.keeper.wait(sshd, 30) is not None
        ended = rig.run(rig.next_release()).must_be(6)
        assert "web2" in ended.message.what
        assert "backend app2" in ended.message.where
        assert ended.message.site == "nothing was touched"
        assert rig.managed() == files
        fleet.ssh.start_one(fleet.keeper, machine)
        fleet.ssh.wait(fleet.keeper, 60)
    rig.expect_well(now)


def test_a_rollout_over_a_whole_fleet_ends_well_and_nobody_notices(rig: Rig) -> None:
    after = rig.next_release()
    with rig.users() as load:
        ended = rig.run(after).must_be(0)
        assert [e["fact"]["backend"] for e in ended.events if e["event"] == "proved"] == [
            "app1",
            "app2",
        ]
        summary = ended.events[-1]
        assert summary["event"] == "summary"
        assert summary["ending"] == "done"
        assert summary["backends"] == dict.fromkeys(("app1", "app2"), f"serving {after}")
        assert after in load.snapshot().versions
    rig.expect_well(after)
