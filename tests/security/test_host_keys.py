"""A machine whose host key is another one gets nothing: no login, no command, before or mid-way."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest

from rolling_deploy.demo import readiness
from rolling_deploy.demo.fleet import FleetShape
from rolling_deploy.demo.fleet_files import Machine
from rolling_deploy.demo.ssh_access import make_key
from rolling_deploy.inventory import load_inventory
from rolling_deploy.remote.ssh import SshConnection
from rolling_deploy.remote.ssh_hosts import KnownHosts
from rolling_deploy.settings import HostTarget
from tests.rig.fixtures import rig, stand_fixture
from tests.rig_tools import Rig, intends
from tests.sshd import SshServer, running, why_not

__all__ = ["rig"]

stand = stand_fixture(FleetShape(backends=2, load_balancers=1, start_delay_ms=50))
pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[SshServer]:
    if why_not("openssh"):
        pytest.skip(why_not("openssh"))
    with running("openssh", tmp_path / "sshd") as one:
        yield one


def swap_key(server: SshServer) -> str:
    """Another machine answers at the same address from now on; answers its fingerprint."""
    server.stop()
    (server.directory / "server.log").write_bytes(b"")
    make_key(server.host_key.path)
    server.start()
    argv = ["ssh-keygen", "-lf", str(server.host_key.path)]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split()[1]


@pytest.mark.parametrize("host_keys", ["strict", "accept-new"])
def test_a_key_that_changes_mid_way_ends_the_connection_before_anything_is_sent(
    server: SshServer, tmp_path: Path, host_keys: str
) -> None:
    known = tmp_path / "known_hosts"
    if host_keys == "strict":
        known.write_bytes(server.known_hosts.read_bytes())
    target = server.target(known_hosts=str(known), host_keys=host_keys)
    connection = SshConnection(target, KnownHosts(str(known)))
    assert connection.run(["true"], limit_ms=20_000).is_complete
    before = known.read_bytes()
    fingerprint = swap_key(server)
    mark = tmp_path / "ran"
    answer = connection.run(["touch", str(mark)], limit_ms=20_000)
    again = connection.run(["touch", str(mark)], limit_ms=20_000)
    connection.close()
    for one in (answer, again):
        assert (one.is_complete, one.was_started) == (False, False)
        assert "has changed" in one.detail
        assert fingerprint in one.detail
        assert "somebody may be between you and the machine" in one.detail
    assert not mark.exists()
    assert known.read_bytes() == before
    log = (server.directory / "server.log").read_text()
    assert "Accepted" not in log, "not even the login was tried"
    assert "Failed" not in log


def test_streams_to_a_swapped_machine_are_refused_too(server: SshServer) -> None:
    connection = SshConnection(server.target(), KnownHosts(str(server.known_hosts)))
    assert connection.run(["true"], limit_ms=20_000).is_complete
    swap_key(server)
    with pytest.raises(Exception, match="has changed"):
        connection.open_stream("127.0.0.1", server.port, timeout_ms=10_000)
    connection.close()


def test_an_unknown_machine_is_refused_unless_somebody_says_otherwise(tmp_path: Path) -> None:
    """The default of the settings, and of an inventory that says nothing about it."""
    (default,) = (one.default for one in fields(HostTarget) if one.name == "host_keys")
    assert default == "strict"
    path = tmp_path / "inventory.yaml"
    path.write_text(
        "application: shop\nhosts: {lb1: {}, web1: {}}\nload_balancers: [{name: lb1}]\n"
        "upstreams: [{name: shop}]\nupgrade: {strategy: tomcat, artifact: a.war}\nbackends:\n"
        + "".join(
            f"  - {{name: app{n}, host: web1, address: '10.0.0.1:808{n}',"
            f" upgrade: {{catalina_base: /srv/a{n}}}}}\n"
            for n in (1, 2)
        )
    )
    assert {host.host_keys for host in load_inventory(path).hosts.values()} == {"strict"}


class Swap:
    """Ends a machine's SSH server and starts one with another host key in its place, and back."""

    def __init__(self, rig: Rig, machine: Machine) -> None:
        self._rig = rig
        self._machine = machine
        self._key = machine.directory / "ssh_host_key"
        self._own = self._key.read_bytes()
        self.is_done = threading.Event()

    def _start_anew(self) -> None:
        fleet = self._rig.fleet
        listener = fleet.ssh._pids[self._machine.name]
        children = Path(f"/proc/{listener}/task/{listener}/children").read_text().split()
        for pid in (listener, *map(int, children)):
            os.kill(pid, signal.SIGKILL)
        fleet.keeper.wait(listener, 10)
        fleet.ssh.start_one(fleet.keeper, self._machine)
        readiness.wait_for_ssh(self._machine.ssh_port, 30)

    def swap(self) -> None:
        make_key(self._key)
        self._start_anew()
        self.is_done.set()

    def back(self) -> None:
        self._key.write_bytes(self._own)
        self._start_anew()


def expect_told(said: str) -> None:
    """Both fingerprints, and the command for a machine that was really reinstalled."""
    assert "has changed" in said
    assert len(set(re.findall(r"SHA256:[A-Za-z0-9+/]{43}", said))) == 2
    assert "`ssh-keygen -f " in said


@pytest.mark.rig
@pytest.mark.parametrize("place", ["lb1", "web1"])
def test_a_swapped_machine_is_refused_before_a_rollout(rig: Rig, place: str) -> None:
    machine = next(one for one in rig.fleet.machines if one.name == place)
    before, release = rig.managed(), rig.release()
    swap = Swap(rig, machine)
    swap.swap()
    ended = rig.run(rig.next_release()).must_be(6)
    expect_told(ended.message.where + ended.message.what)
    assert ended.message.site == "nothing was touched"
    assert rig.managed() == before
    swap.back()
    rig.expect_well(release)


@pytest.mark.rig
def test_a_machine_that_is_swapped_mid_way_gets_nothing_and_the_site_serves(rig: Rig) -> None:
    machine = next(one for one in rig.fleet.machines if one.name == "web2")
    release = rig.next_release()
    swap = Swap(rig, machine)
    with rig.users():
        run = rig.start("run", "--release", release, "--yes")
        run.at(intends("WarmUp", "app1"), lambda _: swap.swap())
        ended = run.end().must_be(4)
        assert swap.is_done.is_set()
        expect_told(ended.stderr)
        log = (machine.directory / "sshd.log").read_text().split("Server listening")[-1]
        assert "Accepted" not in log, "the machine that took its place was never logged in to"
        swap.back()
        rig.do("resume", "--yes").must_be(0)
    rig.expect_well(release)
