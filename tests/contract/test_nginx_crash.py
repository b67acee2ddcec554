"""Killed in the middle: whatever command a publication dies at, a look tells the truth."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from rolling_deploy.rollout.step import Outcome
from tests.assassin import Assassin
from tests.local_connection import LocalConnection
from tests.nginx_machine import (
    NginxMachine,
    binaries,
    digest,
    is_alive,
    looked,
    system_nginx,
    token,
    until,
    wheel_nginx,
)

CHANGING = ("cat", "chmod", "cp", "mv", "sync", "timeout")
"""What a publication runs that changes something; `timeout` runs nginx's test and the reload."""
POINTS_MAX = 60

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(not (system_nginx() or wheel_nginx()), reason="no nginx is installed"),
]


@pytest.fixture(scope="module")
def one_machine() -> Iterator[NginxMachine]:
    """One running nginx for the whole sweep."""
    with NginxMachine(system_nginx() or wheel_nginx() or "") as running:
        yield running


def test_whatever_command_an_adoption_dies_at_a_look_tells_the_truth(
    one_machine: NginxMachine, tmp_path: Path
) -> None:
    assassin = Assassin(tmp_path, CHANGING)
    for at in range(1, POINTS_MAX):
        before = set(one_machine.workers(retiring=False))
        result = one_machine.publish("g1", nginx=one_machine.nginx(assassin.connection(at)))
        if result.outcome is Outcome.DONE:
            assert len(assassin.said()) < at
            assert at > len(CHANGING)
            return
        assert result.outcome is Outcome.UNKNOWN, (at, result)
        _check_truth(one_machine, before, at)
        _go_on(one_machine, at)
        _start_again(one_machine)
    pytest.fail(f"an apply makes more than {POINTS_MAX} calls")


def _check_truth(machine: NginxMachine, before: set[int], at: int) -> None:
    look = looked(machine.nginx())
    assert look.text in (machine.original, machine.text("g1")), at
    assert not look.seen.is_busy, at
    assert (look.seen.live or "") == machine.served(), at
    if look.text == machine.original:
        assert look.seen.earlier_workers is None, at
        return
    assert (machine.state_dir / "original").read_bytes() == machine.original, at
    left = sum(is_alive(pid) for pid in before)
    assert look.seen.earlier_workers is not None, at
    assert look.seen.earlier_workers >= left, at
    if look.seen.is_settled and look.seen.live == "g1":
        assert not before & set(machine.workers(retiring=False)), at


def _go_on(machine: NginxMachine, at: int) -> None:
    """What an engine does next: publish again, in place of what was seen."""
    seen = looked(machine.nginx()).text or b""
    result = machine.nginx().apply(
        machine.text("g2"),
        replaces=digest(seen),
        generation="g2",
        adopt=seen == machine.original,
        token=token(2, "bob"),
    )
    assert result.outcome is Outcome.DONE, (at, result)
    assert (machine.state_dir / "original").read_bytes() == machine.original, at
    until(lambda: looked(machine.nginx()).seen.earlier_workers == 0)


def _start_again(machine: NginxMachine) -> None:
    result = machine.nginx().unadopt(replaces=machine.digest(), token=token(2, "bob"))
    assert result.outcome is Outcome.DONE, result
    assert machine.file.read_bytes() == machine.original
    shutil.rmtree(machine.state_dir)


def test_whatever_command_an_unadoption_dies_at_it_can_be_done_again(
    one_machine: NginxMachine, tmp_path: Path
) -> None:
    assassin = Assassin(tmp_path, CHANGING)
    if one_machine.file.read_bytes() != one_machine.original:
        one_machine.nginx().unadopt(replaces=one_machine.digest(), token=token(2, "bob"))
    shutil.rmtree(one_machine.state_dir, ignore_errors=True)
    for at in range(1, POINTS_MAX):
        one_machine.publish("g1")
        nginx = one_machine.nginx(assassin.connection(at))
        result = nginx.unadopt(replaces=one_machine.digest(), token=token())
        if result.outcome is Outcome.DONE:
            return
        look = looked(one_machine.nginx())
        assert look.text in (one_machine.original, one_machine.text("g1")), at
        assert (look.seen.live or "") == one_machine.served(), at
        is_over = not (one_machine.state_dir / "original").exists()
        assert look.text == one_machine.original or not is_over, at
        again = one_machine.nginx().unadopt(replaces=one_machine.digest(), token=token())
        assert again.outcome is (Outcome.REFUSED if is_over else Outcome.DONE), (at, again)
        assert one_machine.file.read_bytes() == one_machine.original, at
        assert one_machine.served() == "", at
    pytest.fail(f"an unadoption makes more than {POINTS_MAX} calls")


@pytest.mark.parametrize("binary", binaries())
@pytest.mark.parametrize("step", ["test", "reload"])
def test_killed_while_nginx_itself_is_run(binary: str, step: str) -> None:
    with NginxMachine(binary) as machine:
        machine.publish("g1")
        mark = machine.root / "reached"
        slow = ("sh", "-c", f"touch {mark}; sleep 2")
        connection = LocalConnection()
        nginx = machine.nginx(connection, **{step: slow})
        publisher = threading.Thread(target=lambda: machine.publish("g2", nginx=nginx))
        publisher.start()
        until(mark.exists)
        assert looked(machine.nginx()).seen.is_busy
        connection.kill_running()
        publisher.join(20)
        look = looked(machine.nginx())
        assert look.text == machine.text("g2")
        assert (look.seen.live, look.seen.is_settled, look.seen.is_busy) == ("g1", False, False)
        assert look.seen.earlier_workers
        assert machine.publish("g2").outcome is Outcome.DONE
        until(lambda: looked(machine.nginx()).seen.earlier_workers == 0)
