"""nginx says that all went well and serves what it served: seen, put back or refused, named."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from rolling_deploy.demo.fleet_files import Balancer
from tests.rig.fixtures import rig, stand_fixture
from tests.rig.slow_upload import SlowUpload
from tests.rig_tools import (
    Rig,
    fact,
    intends,
    is_draining,
    outcomes,
    rotation_of,
    versions_of,
    wait_until,
    workers_of,
)

__all__ = ["rig"]

stand = stand_fixture()

pytestmark = [pytest.mark.rig, pytest.mark.timeout(900)]

Break = Callable[[Rig, Balancer], AbstractContextManager[None]]


def is_alive(pid: int) -> bool:
    with open(f"/proc/{pid}/stat", encoding="utf-8") as stat:  # noqa: PTH123 # of a process
        return stat.read().rpartition(")")[2].split()[0] != "Z"


@contextmanager
def port_taken(rig: Rig, balancer: Balancer) -> Iterator[None]:
    """Somebody adds a server on a port that another program has: nginx's test passes."""
    port = rig.fleet._ports.take()
    with (
        socket.create_server(("127.0.0.1", port)),
        extra_site(balancer, f"server {{ listen 127.0.0.1:{port}; }}\n"),
    ):
        yield


@contextmanager
def extra_site(balancer: Balancer, text: str) -> Iterator[None]:
    """Somebody adds a file among the sites, and takes it away again."""
    folder = balancer.prefix / "conf.d"
    extra, times = folder / "extra.conf", folder.stat()
    extra.write_text(text, encoding="utf-8")
    try:
        yield
    finally:
        extra.unlink()
        # Else it would count as a removal that is not loaded yet, for whoever comes next.
        os.utime(folder, ns=(times.st_atime_ns, times.st_mtime_ns))


@contextmanager
def not_included(rig: Rig, balancer: Balancer) -> Iterator[None]:
    """Somebody moves the upstream elsewhere: the managed file is included no more."""
    main = balancer.prefix / "nginx.conf"
    text, times = main.read_text(encoding="utf-8"), main.stat()
    site = balancer.prefix / "conf.d" / "shop.conf"
    servers = " ".join(f"server {node.address};" for node in rig.fleet.nodes)
    glob = f"include {balancer.prefix}/conf.d/*.conf;"
    assert glob in text
    main.write_text(
        text.replace(glob, f"upstream shop {{ {servers} }}\n    include {site};"),
        encoding="utf-8",
    )
    try:
        yield
    finally:
        main.write_text(text, encoding="utf-8")
        # Else it would count as an edit that is not loaded yet, for whoever comes next.
        os.utime(main, ns=(times.st_atime_ns, times.st_mtime_ns))


@contextmanager
def stale_pid_file(rig: Rig, balancer: Balancer) -> Iterator[None]:
    """The pid file names a process that is somebody else's; a reload would end it."""
    pid = rig.fleet.keeper.start(["sleep", "600"], log=balancer.prefix / "logs" / "bystander.log")
    master = balancer.pid_file.read_text(encoding="utf-8")
    balancer.pid_file.write_text(f"{pid}\n", encoding="utf-8")
    try:
        yield
        assert is_alive(pid), "the process that the stale pid file names was ended"
    finally:
        balancer.pid_file.write_text(master, encoding="utf-8")
        os.kill(pid, signal.SIGTERM)


@contextmanager
def broken_file(rig: Rig, balancer: Balancer) -> Iterator[None]:
    """Somebody else's file is wrong: nginx's own test fails."""
    with extra_site(balancer, "server { no such directive; }\n"):
        yield


def mended(rig: Rig) -> None:
    """What was mended is loaded, as a person does it; else it would wait for our next reload."""
    rig.reload_by_hand("lb2")


FAULTS: dict[str, tuple[Break, str]] = {
    "port taken": (port_taken, "reload not proved"),
    "not included": (not_included, "reload not proved"),
    "stale pid file": (stale_pid_file, "pid file"),
    "broken file": (broken_file, "nginx refused the configuration"),
}


def short(*faults: str) -> list[object]:
    """Answers every fault, those that are not named marked for the long form."""
    return [f if f in faults else pytest.param(f, marks=pytest.mark.every) for f in FAULTS]


@pytest.mark.parametrize("fault", short("stale pid file"))
def test_nginx_that_would_not_reload_is_refused_before_anything_is_touched(
    rig: Rig, fault: str
) -> None:
    before, files, workers = rig.release(), rig.managed(), rig.workers()
    with rig.users(), FAULTS[fault][0](rig, rig.balancer("lb2")):
        ended = rig.run(rig.next_release()).must_be(8)
        assert "lb2: " in ended.message.where
        assert "lb1: " not in ended.message.where
        assert ended.message.site == "nothing was touched"
        assert not ended.has(fact("opened"))
        assert rig.managed() == files
        rig.expect_no_reload(workers)
    mended(rig)
    rig.expect_well(before)


@pytest.mark.parametrize("fault", short("broken file"))
def test_a_reload_that_fails_meanwhile_is_put_back_and_halts(rig: Rig, fault: str) -> None:
    breaks, reason = FAULTS[fault]
    before, after = rig.release(), rig.next_release()
    balancer = rig.balancer("lb2")
    opened: list[AbstractContextManager[None]] = []

    def break_it(_: object) -> None:
        fault_there = breaks(rig, balancer)
        fault_there.__enter__()
        opened.append(fault_there)

    with rig.users():
        run = rig.start("run", "--release", after, "--yes")
        ended = run.at(fact("claimed", claim=1), break_it).end()
        try:
            ended.must_be(4)
            assert "lb2" in ended.message.what
            assert reason in ended.message.what
            assert ended.message.site.startswith("app1, app2 in rotation")
            assert not ended.has(intends("Activate"))
            assert "done" in outcomes(ended.events, "Apply"), "lb1 was put back, proved"
            seen = rig.status()
            assert versions_of(seen) == {"app1": before, "app2": before}
            assert "lb1" not in rotation_of(seen)["app1"]
            if fault in {"stale pid file", "broken file"}:
                # Asking again while it is as it is changes nothing and says so.
                again = rig.do("resume", "--yes", by="second").must_be(4)
                assert "lb2" in again.message.where
                assert not again.has(fact("decided"))
        finally:
            for fault_there in opened:
                fault_there.__exit__(None, None, None)
        mended(rig)
        rig.do("resume", "--yes", by="third").must_be(0)
    rig.expect_well(after)


@pytest.mark.every
def test_a_worker_two_generations_back_with_an_upload_holds_up_the_stop(rig: Rig) -> None:
    after, balancer = rig.next_release(), rig.balancer("lb1")
    inventory = rig.inventory("hurried", ("limit_s: 120", "limit_s: 4"))
    with SlowUpload(balancer.port) as upload:
        held = workers_of(balancer)
        rig.reload_by_hand("lb1")
        rig.reload_by_hand("lb1")
        with rig.users():
            halted = rig.do("run", "--release", after, "--yes", inventory=inventory).must_be(4)
            assert "not drained within 4 s" in halted.message.what
            assert "lb1" in halted.message.what
            assert any(f"worker {pid}" in halted.message.what for pid in held)
            assert halted.message.site.startswith("app1, app2 in rotation")
            assert not halted.has(intends("Activate"))
            assert set(rotation_of(rig.status()).values()) == {"in"}
            # Its limit was short; the upload is still under way, and ends during the next try.
            resumed = rig.start("resume", "--yes", by="second", inventory=inventory)
            resumed.wait_for(is_draining, "the drain")
            assert upload.finish() in {"app1", "app2"}
            resumed.end().must_be(0)
    rig.expect_well(after)


def test_a_long_drain_limit_lets_an_upload_end_and_goes_on(rig: Rig) -> None:
    after, balancer = rig.next_release(), rig.balancer("lb2")
    with rig.users(), SlowUpload(balancer.port) as upload:
        rig.reload_by_hand("lb2")
        rig.reload_by_hand("lb2")
        run = rig.start("run", "--release", after, "--yes")
        run.wait_for(is_draining, "the drain")
        wait_until(lambda: len(rig.workers()["lb2"]) <= 3, "only one earlier worker is left")
        assert not any(intends("Activate")(event) for event in run.events)
        assert upload.finish() in {"app1", "app2"}
        run.end().must_be(0)
    rig.expect_well(after)
