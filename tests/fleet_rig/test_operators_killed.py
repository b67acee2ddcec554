"""The operator is killed at a chosen entry of the record; the other host goes on to the end.

The short form kills once at each kind of entry and around each kind of command; with `--every`
at every entry and around every command of a whole rollout.
"""

from __future__ import annotations

import itertools

import pytest

from tests.fleet_rig.fixtures import LONG, is_long, rig, stand
from tests.fleet_rig.load import HangingUpload
from tests.fleet_rig.rig import FleetRig
from tests.fleet_rig.scenarios import ENTRIES, KILLED, kill_and_resume

__all__ = ["rig", "stand"]

pytestmark = [pytest.mark.rig, pytest.mark.timeout(600)]

AROUND = ("sent nginx_apply", "answered nginx_apply", "answered activate_release")
MOMENTS = ("written", "told", "sent", "answered")


@pytest.mark.parametrize("kind", ENTRIES)
def test_a_rollout_killed_at_a_kind_of_entry_is_finished_elsewhere(
    rig: FleetRig, kind: str
) -> None:
    assert kill_and_resume(rig, "killed at a kind of entry", f"written {kind}")


@LONG
@pytest.mark.parametrize("moment", AROUND)
def test_a_rollout_killed_around_a_command_is_finished_elsewhere(
    rig: FleetRig, moment: str
) -> None:
    assert kill_and_resume(rig, "killed around a command", moment)


@LONG
def test_a_rollout_killed_while_it_drains_is_finished_elsewhere(rig: FleetRig) -> None:
    scenario, after = "killed while it drains", rig.next_release()
    client, url = rig.fleet.machines["client"], rig.fleet.urls[0]
    with rig.users(scenario), HangingUpload(client, url) as upload:
        ended = rig.do("run", "--release", after, "--yes", doom="kill written waiting")
        assert ended.exit_code == KILLED, ended
        rig.figures.add(scenario, "kills")
        rig.do("unlock", "--yes", on="bastion").must_be(0)
        resumed = rig.start("resume", "--yes", on="bastion")
        resumed.wait_for(lambda e: e["event"] == "awaiting", "the drain")
        assert not any(e["event"] == "closed" for e in resumed.events)
        upload.finish()
        resumed.end().must_be(0)
    rig.expect_well(after)


@LONG
def test_a_rollout_whose_every_life_is_killed_comes_to_its_end(
    rig: FleetRig, request: pytest.FixtureRequest
) -> None:
    scenario, after = "every life killed", rig.next_release()
    # Each life gets a little further than the one before: else nobody could ever finish. What no
    # life could prove counts as an attempt, so one step needs many of them.
    more = 4 if is_long(request) else 12
    rig.changed(("on_failure: halt", "on_failure: halt\n  attempts_max: 200"))
    words: tuple[str, ...] = ("run", "--release", after, "--yes")
    hosts = itertools.cycle(("operator", "bastion"))
    with rig.users(scenario):
        for life, host in zip(range(1, 120), hosts, strict=False):
            ended = rig.do(*words, on=host, doom=f"kill answered {4 + more * life}")
            if ended.exit_code in {0, 2}:
                # The life before may have been killed when all was done but the farewell.
                assert ended.message.what in {"", "no rollout is unfinished"}, ended
                break
            assert ended.exit_code == KILLED, ended
            rig.figures.add(scenario, "kills")
            rig.do("unlock", "--yes", on=host)
            words = ("resume", "--yes")
        else:
            pytest.fail("it never came to its end")
    rig.expect_well(after)


@LONG
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_rollout_killed_at_every_place_is_finished_elsewhere(rig: FleetRig, moment: str) -> None:
    for number in range(1, 200):
        scenario = f"killed at every place: {moment}"
        if not kill_and_resume(rig, scenario, f"{moment} {number}"):
            rig.figures.remarks.append(f"{scenario}: {number - 1} places")
            return
    raise AssertionError("no end of places")
