"""The operator stands still right before a command; another one finishes; then it wakes up.

The short form freezes once before each kind of command that changes something; with `--every`
before each command of a whole rollout.
"""

from __future__ import annotations

import pytest

from tests.fleet_rig.fixtures import LONG, rig, stand
from tests.fleet_rig.rig import FleetRig
from tests.fleet_rig.scenarios import freeze_and_overtake

__all__ = ["rig", "stand"]

pytestmark = [pytest.mark.rig, pytest.mark.timeout(600)]

COMMANDS = ("nginx_apply", "activate_release")
"""Scripts that change something in every rollout: those of the short form, and the others."""
OTHERS = ("record_hold", "record_append", "stage_release")
LATE = ("prune_release", "record_let_go")
"""Sent when the rollout is closed already."""
UPLOADING = ("receive", "unpack_release")
"""Sent only where a release has never been."""


@pytest.mark.parametrize(
    "command", [*COMMANDS, *(pytest.param(name, marks=LONG) for name in (*OTHERS, *LATE))]
)
def test_one_frozen_before_a_kind_of_command_changes_nothing_when_it_wakes(
    rig: FleetRig, command: str
) -> None:
    scenario = "frozen before a kind of command"
    assert freeze_and_overtake(rig, scenario, command, rig.next_release())


@LONG
@pytest.mark.parametrize("command", UPLOADING)
def test_one_frozen_before_an_upload_changes_nothing_when_it_wakes(
    rig: FleetRig, command: str
) -> None:
    scenario = "frozen before a kind of command"
    assert freeze_and_overtake(rig, scenario, command, rig.new_release())


@LONG
@pytest.mark.timeout(7200)
def test_one_frozen_before_every_command_changes_nothing_when_it_wakes(
    rig: FleetRig,
) -> None:
    for number in range(1, 200):
        scenario, release = "frozen before every command", rig.new_release()
        if not freeze_and_overtake(rig, scenario, str(number), release):
            rig.figures.remarks.append(f"{scenario}: {number - 1} places")
            return
    raise AssertionError("no end of places")
