"""The options that are needed now and then, through the command line and on a real fleet."""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.request import urlopen

import pytest

from rolling_deploy.demo.fleet import NEXT_RELEASE, FleetShape
from tests.rig.fixtures import Stand, rig, servers_here, stand_fixture
from tests.rig_tools import Rig, fact, rotation_of, versions_of, wait_until

__all__ = ["rig"]

stand = stand_fixture(FleetShape(backends=2, load_balancers=1, start_delay_ms=0))

pytestmark = [pytest.mark.rig, pytest.mark.timeout(900)]

SOON = ("on_failure: halt", "on_failure: halt\n  ready_limit_s: 3")
CANARY = b"rolling-deploy:canary:"


@contextmanager
def redis_heard(port: int) -> Iterator[bytearray]:
    """Hear every command that the session store is given meanwhile; complete afterwards."""
    heard = bytearray()

    def hear(connection: socket.socket) -> None:
        with suppress(OSError):
            while piece := connection.recv(65_536):
                heard.extend(piece)

    with socket.create_connection(("127.0.0.1", port), 30) as monitor:
        monitor.settimeout(None)
        monitor.sendall(b"MONITOR\r\n")
        listener = threading.Thread(target=hear, args=(monitor,), daemon=True)
        listener.start()
        wait_until(lambda: b"+OK" in heard, "the session store tells what it is given")
        yield heard
        with socket.create_connection(("127.0.0.1", port), 30) as last:
            last.sendall(b"ECHO that-is-all\r\n")
            wait_until(lambda: b"that-is-all" in heard, "everything is told")
        monitor.shutdown(socket.SHUT_RDWR)
        listener.join(30)


def test_a_plan_without_canary_writes_no_key_and_says_that_it_was_not_checked(rig: Rig) -> None:
    before = rig.release()
    plan = ("plan", "--release", rig.next_release())
    with redis_heard(rig.fleet.redis_port) as heard:
        told = rig.do(*plan).must_be(0)
    assert CANARY in heard
    assert "an expiring canary key" in told.stdout
    with redis_heard(rig.fleet.redis_port) as heard:
        told = rig.do(*plan, "--no-canary").must_be(0)
    assert CANARY not in heard
    (line,) = [line for line in told.stdout.splitlines() if "canary write" in line]
    assert "not checked" in line
    assert "--no-canary" in line
    assert "no canary key was written to the session store" in told.stdout
    rig.expect_well(before)


def test_a_reason_stands_in_the_record_of_a_rollout_and_of_its_abort(rig: Rig) -> None:
    before = rig.release()
    why, why_not = "ticket 4711: 50% off", "it is Friday"
    command = rig.start("run", "--release", rig.next_release(), "--yes", "--reason", why)
    command.at(fact("proved", backend="app1"), lambda _: command.signal(signal.SIGTERM))
    stopped = command.end().must_be(143)
    assert stopped.has(fact("opened", reason=why))
    kept = rig.fleet.balancers[0].machine.directory / "state"
    assert any(why in text_of(path) for path in kept.rglob("*")), "not in lb1's copy of the record"
    ended = rig.do("abort", "--yes", "--reason", why_not, by="second").must_be(0)
    assert ended.has(fact("redirected", reason=why_not))
    (said,) = [e["text"] for e in ended.events if e["event"] == "redirected"]
    assert said.endswith(f", because {why_not}")
    rig.expect_well(before)


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


@pytest.mark.every
def test_an_abort_that_leaves_the_changed_goes_no_further_and_not_back(rig: Rig) -> None:
    before, after = rig.release(), rig.next_release()
    with rig.users():
        command = rig.start("run", "--release", after, "--yes")
        command.at(fact("proved", backend="app1"), lambda _: command.signal(signal.SIGTERM))
        command.end().must_be(143)
        pid = rig.fleet.pid_of("app1")
        ended = rig.do("abort", "--leave-changed", "--yes", by="second").must_be(0)
        assert ended.events[-1]["ending"] == "aborted"
        assert rig.fleet.pid_of("app1") == pid, "app1 was restarted"
        seen = rig.status()
        assert seen["rollout"] is None
        assert versions_of(seen) == {"app1": after, "app2": before}
        assert rotation_of(seen) == {"app1": "in", "app2": "in"}
        rig.run(after).must_be(0)
    rig.expect_well(after)


@pytest.mark.every
def test_a_backend_that_a_person_skips_is_left_as_it_is(rig: Rig) -> None:
    before, after = rig.release(), rig.next_release()
    inventory = rig.inventory("soon", SOON)
    slow = rig.fleet.node("app1").root / "instance.env"
    kept = slow.read_text(encoding="utf-8")
    slow.write_text(kept.replace("START_DELAY_MS=0", "START_DELAY_MS=600000"), encoding="utf-8")
    with rig.users():
        run = ("run", "--release", after, "--yes")
        halted = rig.do(*run, inventory=inventory).must_be(4)
        assert "app1" in halted.message.what
        slow.write_text(kept, encoding="utf-8")
        odd = rig.do("resume", "--skip", "app9", "--yes", inventory=inventory).must_be(2)
        assert "app9 is not part of rollout" in odd.message.what
        pid = rig.fleet.pid_of("app2")
        resume = ("resume", "--skip", "app2", "--yes")
        resumed = rig.do(*resume, by="second", inventory=inventory).must_be(0)
        assert resumed.has(fact("decided", skip=["app2"]))
        assert rig.fleet.pid_of("app2") == pid, "app2 was restarted"
        seen = rig.status()
        assert seen["rollout"] is None
        assert versions_of(seen) == {"app1": after, "app2": before}
        assert rotation_of(seen) == {"app1": "in", "app2": "in"}
        rig.run(after).must_be(0)
    rig.expect_well(after)


def test_an_edit_that_is_not_loaded_yet_goes_live_only_when_a_person_accepts_it(rig: Rig) -> None:
    before, after = rig.release(), rig.next_release()
    balancer = rig.fleet.balancers[0]
    site = balancer.prefix / "conf.d" / "shop.conf"
    text = site.read_text(encoding="utf-8")
    assert "server_name" in text
    site.write_text(text.replace("server_name", "add_header X-Edited yes;\n    server_name"))
    files, workers = rig.managed(), rig.workers()
    with rig.users():
        refused = rig.run(after).must_be(8)
        assert f"would go live with our reload: `{site}`" in refused.message.where
        assert "--load-pending" in refused.message.where
        assert refused.message.site == "nothing was touched"
        assert rig.managed() == files
        rig.expect_no_reload(workers)
        assert header_of(balancer.url, "X-Edited") is None
        assert rig.release() == before
        rig.run(after, "--load-pending").must_be(0)
        assert header_of(balancer.url, "X-Edited") == "yes"
    rig.expect_well(after)


def header_of(url: str, name: str) -> str | None:
    with urlopen(f"{url}/health", timeout=30) as answer:
        value: str | None = answer.headers[name]
        return value


@pytest.mark.every
def test_waves_of_two_over_four_backends_and_two_load_balancers_are_noticed_by_nobody(
    tmp_path: Path,
) -> None:
    shape = FleetShape(backends=4, load_balancers=2, start_delay_ms=0, wave_size=2)
    place = Stand(tmp_path, shape, servers_here())
    try:
        rig = place.well()
        with rig.users() as load:
            ended = rig.run(NEXT_RELEASE).must_be(0)
            waves = [e["fact"]["backends"] for e in ended.events if e["event"] == "claimed"]
            assert waves == [["app1", "app2"], ["app3", "app4"]]
            wait_until(lambda: len(load.snapshot().backends) == 4, "all four answer again")
        rig.expect_well(NEXT_RELEASE)
    finally:
        place.stop()
