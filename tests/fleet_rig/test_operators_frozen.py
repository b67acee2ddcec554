"""The operator stands still right before a command; another one finishes; then it wakes up.

The short form freezes once before each kind of command that changes something; with `--every`
before each command of a whole rollout.
"""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.fleet_rig.answers import until
from tests.fleet_rig.fixtures import LONG, rig, stand
from tests.fleet_rig.rig import FleetRig
from tests.rig_tools import Command

__all__ = ["rig", "stand"]

pytestmark = [pytest.mark.rig, pytest.mark.timeout(600)]

COMMANDS = ("record_hold", "record_append", "stage_release", "nginx_apply", "activate_release")
"""Scripts that change something in every rollout."""
LATE = ("prune_release", "record_let_go")
"""Sent when the rollout is closed already."""
UPLOADING = ("receive", "unpack_release")
"""Sent only where a release has never been."""
TOO_LATE = ("no load balancer could be given the record", "no load balancer gave the lock")
TAKEN_OVER = ("rollout over", "another run was here a moment ago")


def is_frozen_or_over(command: Command) -> bool:
    if command.is_over:
        return True
    stat = Path(f"/proc/{command.process.pid}/stat").read_text(encoding="ascii")
    return stat.rpartition(")")[2].split()[0] == "T"


def freeze_and_overtake(rig: FleetRig, scenario: str, place: str, release: str) -> bool:
    """Freeze there, finish elsewhere, thaw: it must change nothing. Answers whether it froze."""
    with rig.users(scenario):
        first = rig.start("run", "--release", release, "--yes", doom=f"freeze before {place}")
        until(lambda: is_frozen_or_over(first), "it stands still", 60)
        if first.is_over:
            first.end().must_be(0)
            rig.expect_well(release)
            return False
        rig.figures.add(scenario, "freezes")
        ended = rig.finish(release)
        is_late = ended.exit_code == 2
        now = release
        if is_late:
            # The rollout was closed before: the other one begins and ends the next.
            now = rig.next_release()
            rig.do("run", "--release", now, "--yes", on="bastion").must_be(0)
        rig.is_quiet()
        before = rig.snapshot()
        first.signal(signal.SIGCONT)
        woken = first.end()
        if is_late:
            assert woken.exit_code in {0, 5}, woken
        elif woken.exit_code == 4:
            # Its time was over when it woke: it gave up what it had not sent, and asked nobody.
            assert woken.message.what.startswith(TOO_LATE), woken
        else:
            woken.must_be(5)
            assert any(said in woken.message.what for said in TAKEN_OVER), woken
        assert rig.snapshot() == before
    rig.expect_well(now)
    return True


@pytest.mark.parametrize("command", [*COMMANDS, *(pytest.param(name, marks=LONG) for name in LATE)])
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
