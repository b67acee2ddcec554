"""A load balancer that cannot be reached any more: it counts as still sending, and is named."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rig.fixtures import rig, stand_fixture
from tests.rig.tcp_relay import TcpRelay
from tests.rig_tools import Rig, fact, intends, rotation_of, versions_of, wait_until

__all__ = ["rig"]

stand = stand_fixture()

pytestmark = [pytest.mark.rig, pytest.mark.timeout(900)]


@pytest.fixture
def relay(rig: Rig) -> Iterator[TcpRelay]:
    """A relay in front of the sshd of lb2; `relayed` writes the inventory that goes through it."""
    machine = rig.balancer("lb2").machine
    port = rig.fleet._ports.take()
    known = rig.fleet.directory / "ssh" / "known_hosts"
    lines = known.read_text(encoding="utf-8")
    key = next(x for x in lines.splitlines() if f"]:{machine.ssh_port} " in x).split(" ", 1)[1]
    known.write_text(f"{lines}[127.0.0.1]:{port} {key}\n", encoding="utf-8")
    with TcpRelay(port, machine.ssh_port) as carrying:
        yield carrying


def relayed(rig: Rig, relay: TcpRelay) -> Path:
    """Answers an inventory in which lb2 is reached through the relay, and soon given up."""
    port = rig.balancer("lb2").machine.ssh_port
    return rig.inventory(
        "relayed",
        (f"port: {port}}}", f"port: {relay.port}}}"),
        ("host_keys: strict", "host_keys: strict\n  keepalive_s: 1\n  connect_timeout_s: 4"),
    )


@pytest.mark.loopback
@pytest.mark.parametrize("how", ["cut", "freeze"])
def test_a_load_balancer_cut_off_while_taking_out_puts_the_others_back_and_halts(
    rig: Rig, relay: TcpRelay, how: str
) -> None:
    inventory = relayed(rig, relay)
    before, after = rig.release(), rig.next_release()
    with rig.users():
        run = rig.start("run", "--release", after, "--yes", inventory=inventory)
        run.at(intends("Apply", "lb2"), lambda _: getattr(relay, how)())
        ended = run.end().must_be(4)
        assert "cannot reach lb2" in ended.message.what
        assert "counts as still sending" in ended.message.what
        assert ended.message.site.startswith("app1, app2 in rotation")
        assert not ended.has(intends("Activate"))
        assert ended.has(fact("gaveup", backends=["app1"]))
        relay.mend()
        seen = rig.status(inventory=inventory)
        assert versions_of(seen) == {"app1": before, "app2": before}
        # What lb2 made of the command nobody could know; lb1 is back.
        assert "lb1" not in rotation_of(seen)["app1"]
        rig.do("resume", "--yes", by="second", inventory=inventory).must_be(0)
    rig.expect_well(after)


@pytest.mark.every
def test_a_load_balancer_cut_off_before_a_later_wave_leaves_that_wave_alone(
    rig: Rig, relay: TcpRelay
) -> None:
    inventory = relayed(rig, relay)
    before, after = rig.release(), rig.next_release()
    with rig.users():
        run = rig.start("run", "--release", after, "--yes", inventory=inventory)
        run.at(fact("released", claim=1), lambda _: relay.cut())
        ended = run.end().must_be(4)
        assert "cannot reach lb2" in ended.message.what
        assert not ended.has(intends("Activate", "app2"))
        relay.mend()
        seen = rig.status(inventory=inventory)
        assert versions_of(seen) == {"app1": after, "app2": before}
        assert rotation_of(seen) == {"app1": "in", "app2": "in"}
        rig.do("resume", "--yes", by="second", inventory=inventory).must_be(0)
    rig.expect_well(after)


@pytest.mark.loopback
def test_a_load_balancer_cut_off_before_putting_back_does_not_hold_up_the_others(
    rig: Rig, relay: TcpRelay
) -> None:
    inventory = relayed(rig, relay)
    before, after = rig.release(), rig.next_release()
    with rig.users():
        run = rig.start("run", "--release", after, "--yes", inventory=inventory)
        run.at(fact("proved", backend="app1"), lambda _: relay.cut())
        ended = run.end().must_be(4)
        assert "cannot reach lb2" in ended.message.what
        assert ended.has(fact("proved", backend="app1"))
        assert not ended.has(fact("claimed", claim=2))
        relay.mend()
        seen = rig.status(inventory=inventory)
        rollout = seen["rollout"]["rollout"]
        assert rotation_of(seen) == {"app1": f"out on lb2 by rollout {rollout}", "app2": "in"}
        assert versions_of(seen) == {"app1": after, "app2": before}
        # While it is still away, a person who asks gets the same answer and nothing is claimed.
        relay.cut()
        away = rig.do("resume", "--yes", by="second", inventory=inventory)
        assert away.exit_code in {4, 6}, away
        assert "lb2" in away.message.what
        relay.mend()
        rig.do("resume", "--yes", by="third", inventory=inventory).must_be(0)
    rig.expect_well(after)


def test_a_load_balancer_that_is_really_off_is_left_out_until_it_is_back(
    rig: Rig, relay: TcpRelay
) -> None:
    inventory = relayed(rig, relay)
    after = rig.next_release()
    balancer = rig.balancer("lb2")
    with rig.users(urls=[rig.balancer("lb1").url]):
        master = int(balancer.pid_file.read_text(encoding="utf-8"))
        os.kill(master, signal.SIGQUIT)
        wait_until(lambda: not balancer.pid_file.exists(), "nginx of lb2 has ended")
        relay.cut()
        run = ("run", "--release", after, "--yes")
        refused = rig.do(*run, inventory=inventory).must_be(6)
        assert "lb2" in refused.message.what
        assert "--without" in refused.message.next
        ended = rig.do(*run, "--without", "lb2", inventory=inventory).must_be(4)
        assert "lb2 is not in line yet" in ended.message.what
        assert ended.has(fact("declaredoff", load_balancers=["lb2"]))
        assert ended.has(fact("released", claim=2))
        assert rig.fleet.keeper.wait(rig.fleet.start_nginx(balancer), 60) == 0
        relay.mend()
        rig.do("resume", "--yes", by="second", inventory=inventory).must_be(0)
    rig.expect_well(after)
