"""A publication that comes long after its intent: what a load balancer's own clock says of it."""

from __future__ import annotations

import os

import pytest

from rolling_deploy.remote.record_copies import Holder, Place, append_copy, hold, let_go
from rolling_deploy.rollout.step import Outcome, Result
from tests.local_connection import LocalConnection
from tests.nginx_machine import (  # noqa: F401 # `machine` is a fixture
    NginxMachine,
    machine,
    token,
)

pytestmark = pytest.mark.timeout(120)

LATE_S = 75


def place(machine: NginxMachine) -> Place:
    """Answers where this machine keeps its copy of the record."""
    return Place(LocalConnection(), str(machine.state_dir))


def write_intent(machine: NginxMachine, size: int = 0, tail: bytes = b"") -> bytes:
    """Add a line to the record there, as is done before every step; answers it."""
    line = b"an intent\n"
    reply = append_copy(place(machine), token(), [line], size=size, tail=tail, step="apply lb1")
    assert reply.outcome is Outcome.DONE, reply
    return line


def grow_older(machine: NginxMachine, seconds: int) -> None:
    """Let the last intent have come so many seconds earlier."""
    came = machine.state_dir / "intent"
    came.write_text(f"{int(came.read_text()) - seconds}\n")


def nothing_changed(machine: NginxMachine, result: Result, before: tuple[bytes, list[int]]) -> bool:
    """Answers whether it was refused with the file and every worker as they were."""
    assert result.outcome is Outcome.REFUSED, result
    assert not result.is_fenced
    return (machine.file.read_bytes(), machine.workers()) == before


def as_it_is(machine: NginxMachine) -> tuple[bytes, list[int]]:
    """Answers the file and the workers."""
    return machine.file.read_bytes(), machine.workers()


def test_a_publication_right_after_its_intent_goes_ahead(machine: NginxMachine) -> None:
    write_intent(machine)
    grow_older(machine, LATE_S // 2)
    assert machine.publish("g1").outcome is Outcome.DONE


def test_a_publication_that_comes_late_changes_nothing(machine: NginxMachine) -> None:
    """Its operator stood still in between: whoever looked then does not know what is now."""
    line = write_intent(machine)
    grow_older(machine, LATE_S + 5)
    before = as_it_is(machine)
    result = machine.publish("g1")
    assert nothing_changed(machine, result, before)
    assert "too late: the intent was written here" in result.detail
    write_intent(machine, len(line), line)
    assert machine.publish("g1").outcome is Outcome.DONE


def test_the_original_does_not_come_back_late(machine: NginxMachine) -> None:
    assert machine.publish("g1").outcome is Outcome.DONE
    write_intent(machine)
    grow_older(machine, LATE_S + 5)
    before = as_it_is(machine)
    result = machine.nginx().unadopt(replaces=machine.digest(), token=token())
    assert nothing_changed(machine, result, before)


def test_after_the_lock_was_given_up_nothing_is_published(machine: NginxMachine) -> None:
    """`unlock` frees the lock of an operator that stands still and may go on some day."""
    holder = Holder("ann", "laptop", "", 1_700_000_000_000, "r1", "")
    here = {"lb1": place(machine)}
    assert not hold(here, token(), holder)
    write_intent(machine)
    assert let_go(here, token().holder)["lb1"].outcome is Outcome.DONE
    before = as_it_is(machine)
    result = machine.publish("g1")
    assert nothing_changed(machine, result, before)
    assert "the lock was given up" in result.detail


def test_an_intent_from_before_the_machine_was_restarted_is_none(machine: NginxMachine) -> None:
    write_intent(machine)
    grow_older(machine, -3600)
    before = as_it_is(machine)
    result = machine.publish("g1")
    assert nothing_changed(machine, result, before)
    assert "was restarted" in result.detail


@pytest.mark.parametrize("text", ["", "soon\n", "1 0\n"])
def test_a_time_that_cannot_be_read_counts_as_late(machine: NginxMachine, text: str) -> None:
    write_intent(machine)
    (machine.state_dir / "intent").write_text(text)
    before = as_it_is(machine)
    assert nothing_changed(machine, machine.publish("g1"), before)


def test_a_clock_that_was_set_makes_no_command_late(machine: NginxMachine) -> None:
    """The time of writing of the file is nobody's measure: only what stands in it."""
    write_intent(machine)
    os.utime(machine.state_dir / "intent", (1_000_000_000, 1_000_000_000))
    assert machine.publish("g1").outcome is Outcome.DONE
