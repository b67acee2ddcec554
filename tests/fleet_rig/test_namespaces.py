"""The machines of the rig are apart from each other and from this one, and leave nothing."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fleet_rig.answers import until
from tests.fleet_rig.namespaces import Machine, Network, why_not
from tests.rig_tools import ROOT

pytestmark = [pytest.mark.rig, pytest.mark.timeout(120)]

ADDRESSES = ("10.77.9.1", "10.77.9.2")


@pytest.fixture
def two() -> Iterator[tuple[Machine, Machine, Network]]:
    """Two machines on one segment."""
    if why_not():
        pytest.skip(why_not())
    with Machine("switch") as switch, Machine("one") as one, Machine("other") as other:
        network = Network(switch)
        network.lay({"site": list(zip((one, other), ADDRESSES, strict=True))})
        yield one, other, network


def answers(client: Machine, server: socket.socket) -> bool:
    def ask() -> bool:
        with contextlib.suppress(OSError), socket.create_connection(server.getsockname(), 1):
            return True
        return False

    return client.inside(ask)


def test_a_cut_cable_carries_nothing_and_a_mended_one_does(
    two: tuple[Machine, Machine, Network],
) -> None:
    one, other, network = two
    with other.inside(lambda: socket.create_server((ADDRESSES[1], 4000))) as server:
        assert answers(one, server)
        network.cut("other", "site")
        assert not answers(one, server)
        network.mend("other", "site")
        until(lambda: answers(one, server), "the cable is back")


def test_a_machine_sees_its_own_processes_disks_and_name_only(
    two: tuple[Machine, Machine, Network], tmp_path: Path
) -> None:
    one, other, _ = two
    one.run("mount", "-t", "tmpfs", "tmpfs", str(tmp_path))
    one.path(tmp_path / "mine").write_text("here", encoding="utf-8")
    assert list(tmp_path.iterdir()) == []
    assert not other.path(tmp_path / "mine").exists()
    one.run("sh", "-c", "sleep 60 >/dev/null 2>&1 &")
    assert len(one.processes("sleep")) == 1
    assert other.processes() == []
    assert one.run("hostname").strip() == "one"
    # Its own process table, as the remote scripts read it: the first process and those who look.
    assert len(other.run("sh", "-c", "ls -d /proc/[0-9]*").split()) <= 3


OWNER = """
import os, time
from tests.fleet_rig.namespaces import Machine
with Machine("orphan") as machine:
    machine.run("sh", "-c", "sleep 600 >/dev/null 2>&1 &")
    print(machine.pid, *machine.processes(), flush=True)
    time.sleep(600)
"""


def test_nothing_is_left_of_a_machine_whose_owner_is_killed() -> None:
    if why_not():
        pytest.skip(why_not())
    with subprocess.Popen(
        [sys.executable, "-c", OWNER],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as owner:
        assert owner.stdout is not None
        pids = list(map(int, owner.stdout.readline().split()))
        assert len(pids) == 2
        owner.send_signal(signal.SIGKILL)
        owner.wait(10)
        until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), "all have ended")
