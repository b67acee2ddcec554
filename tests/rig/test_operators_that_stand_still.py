"""An operator that stands still for a while, with nobody to take over: what it saw is no more."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest

from rolling_deploy.runner import STANDSTILL_MAX_MS
from tests.rig.fixtures import rig, stand_fixture
from tests.rig_tools import Command, Rig, fact, outcomes, wait_until

__all__ = ["rig"]

stand = stand_fixture()

pytestmark = [pytest.mark.rig, pytest.mark.timeout(900)]

DOOMED = "tests.fleet_rig.doomed"
LATE_S = 45
"""So long after its intent a load balancer takes a publication (`late_s` in `nginx_publish.sh`)."""


def is_stopped(command: Command) -> bool:
    """Answers whether its process stands still."""
    stat = Path(f"/proc/{command.process.pid}/stat").read_text(encoding="utf-8")
    return stat.rpartition(")")[2].split()[0] == "T"


def stands_still(rig: Rig, doom: str, release: str) -> Command:
    """Start a rollout whose operator stops itself at this place, and wait until it has."""
    rig.environment["DOOM"] = doom
    command = rig.start("run", "--release", release, "--yes", program=DOOMED)
    wait_until(lambda: is_stopped(command) or command.is_over, "it stands still")
    assert not command.is_over, command.end()
    return command


def pass_time(seconds: float) -> None:
    """Let so much time go by; nobody touches what stands still."""
    with pytest.raises(AssertionError):
        wait_until(lambda: False, "time has passed", seconds)


def text_of(command: Command) -> str:
    """Answers what it told, beside facts."""
    return "\n".join(event.get("text", "") for event in command.events)


def test_who_stood_still_takes_nothing_out_when_the_others_have_died_meanwhile(rig: Rig) -> None:
    """The intent is on its own disk; after its sleep it would reach the load balancers fresh."""
    command = stands_still(rig, "freeze written intended-apply", rig.next_release())
    rig.fleet.kill("app2")
    workers = rig.workers()
    pass_time(STANDSTILL_MAX_MS / 1000 + 2)
    command.signal(signal.SIGCONT)
    ended = command.end()
    ended.must_be(4)
    assert ended.has(fact("gaveup", backends=["app1"]))
    assert re.search(r"nothing was sent: this process stood still for \d+ s", str(ended.events))
    rig.expect_no_reload(workers)
    assert rig.fleet.appctl("app2", "start") == 0


@pytest.mark.every
def test_who_stood_still_looks_again_and_goes_on_when_all_is_well(rig: Rig) -> None:
    after = rig.next_release()
    with rig.users():
        command = stands_still(rig, "freeze written claimed", after)
        pass_time(STANDSTILL_MAX_MS / 1000 + 2)
        command.signal(signal.SIGCONT)
        ended = command.end().must_be(0)
        assert "looking again" in text_of(command)
        assert len(outcomes(ended.events, "Apply")) > 0
    rig.expect_well(after)


@pytest.mark.every
def test_a_command_that_is_sent_long_after_its_intent_is_refused_over_there(rig: Rig) -> None:
    """Stopped right before it is sent, nobody on this side can tell any more."""
    after = rig.next_release()
    with rig.users():
        command = stands_still(rig, "freeze before nginx_apply", after)
        pass_time(LATE_S + 3)
        command.signal(signal.SIGCONT)
        ended = command.end().must_be(0)
        assert "too late: the intent was written here" in str(ended.events)
        assert "refused" in outcomes(ended.events, "Apply")
    rig.expect_well(after)
