"""Disks that are full, an nginx that will not reload, nodes and workers that never get there."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from rolling_deploy.demo.fleet import NEXT_RELEASE
from tests.fleet_rig.fixtures import LONG, rig, stand
from tests.fleet_rig.fleet_texts import APPS
from tests.fleet_rig.load import HangingUpload, WebSocket, websocket_server
from tests.fleet_rig.rig import FleetRig
from tests.rig_tools import Command, fact, intends, is_draining, rotation_of, versions_of

__all__ = ["rig", "stand"]

pytestmark = [pytest.mark.rig, pytest.mark.timeout(600)]

ALL_IN = "app1, app2, app3, app4 in rotation"
HASTY = ("limit_s: 60", "limit_s: 4")


def everybody_serves(rig: FleetRig, release: str) -> None:
    seen = rig.status()
    assert versions_of(seen) == dict.fromkeys(APPS, release)
    assert set(rotation_of(seen).values()) == {"in"}


# Disks


def test_a_disk_full_on_a_load_balancer_halts_with_everybody_in_rotation(rig: FleetRig) -> None:
    before, after, disk = rig.release(), rig.next_release(), rig.fleet.disk_of("lb2")
    with rig.users("disk full on a load balancer"):
        command = rig.start("run", "--release", after, "--yes")
        halted = command.at(fact("claimed", claim=1), lambda _: disk.fill()).end().must_be(4)
        assert "lb2" in halted.message.what
        assert halted.message.site.startswith(ALL_IN)
        assert not halted.has(intends("Activate"))
        disk.free()
        everybody_serves(rig, before)
        rig.finish(after)
    rig.expect_well(after)


@LONG
def test_a_disk_full_on_a_load_balancer_from_the_beginning_is_told_and_the_other_put_back(
    rig: FleetRig,
) -> None:
    """A halt, not a refusal: the other load balancer has the record, so the first wave begins.

    It was taken out there for a moment, which is something touched; the backends never were.
    """
    before, after, disk = rig.release(), rig.next_release(), rig.fleet.disk_of("lb1")
    with rig.users("disk full on a load balancer"):
        disk.fill()
        ended = rig.do("run", "--release", after, "--yes")
        ended.must_be(4)
        assert ended.message.what.startswith("not proved: lb1: ")
        assert ended.message.site.startswith(ALL_IN)
        assert ended.has(intends("Apply", "lb2")), "touched, so a halt"
        assert ended.has(fact("gaveup", backends=["app1", "app2"]))
        assert ended.has(fact("released", claim=1))
        assert not ended.has(intends("Activate"))
        disk.free()
        everybody_serves(rig, before)
        rig.finish(after)
    rig.expect_well(after)


@LONG
def test_a_disk_full_on_a_backend_is_found_before_anything_is_touched(rig: FleetRig) -> None:
    before, after, disk = rig.release(), rig.new_release(), rig.fleet.disk_of("app2")
    with rig.users("disk full on a backend"):
        command = rig.start("run", "--release", after, "--yes")
        ended = command.at(fact("opened"), lambda _: disk.fill()).end().must_be(8)
        assert "app2" in ended.message.what
        assert ended.message.site == "nothing was touched"
        assert not ended.has(fact("claimed"))
        disk.free()
        everybody_serves(rig, before)
        rig.finish(after)
    rig.expect_well(after)


def test_a_disk_full_on_a_backend_that_is_out_brings_it_back_as_it_was(rig: FleetRig) -> None:
    before, after, disk = rig.release(), rig.next_release(), rig.fleet.disk_of("app2")
    with rig.users("disk full on a backend"):
        command = rig.start("run", "--release", after, "--yes")
        halted = command.at(fact("claimed", claim=1), lambda _: disk.fill()).end().must_be(4)
        assert "app2" in halted.message.what
        assert halted.message.site.startswith(ALL_IN)
        disk.free()
        seen = rig.status()
        assert set(rotation_of(seen).values()) == {"in"}
        assert versions_of(seen)["app2"] == before
        rig.finish(after)
    rig.expect_well(after)


# nginx


@contextmanager
def broken_neighbour(rig: FleetRig) -> Iterator[None]:
    """Somebody else's file becomes wrong: nginx's own test fails."""
    neighbour = rig.fleet.seen("lb2", "etc", "conf.d", "blog.conf")
    text, times = neighbour.read_bytes(), neighbour.stat()
    neighbour.write_bytes(text + b"server { no such directive; }\n")
    try:
        yield
    finally:
        neighbour.write_bytes(text)
        # Else it would count as an edit that is not loaded yet, for whoever comes next.
        os.utime(neighbour, ns=(times.st_atime_ns, times.st_mtime_ns))


@contextmanager
def binary_gone(rig: FleetRig) -> Iterator[None]:
    """The nginx program is taken away under the running master (a package half upgraded)."""
    program = rig.fleet.seen("lb2", "sbin", "nginx")
    aside = program.with_name("nginx.aside")
    program.rename(aside)
    try:
        yield
    finally:
        aside.rename(program)


@contextmanager
def pid_file_gone(rig: FleetRig) -> Iterator[None]:
    """Somebody cleaned up: the master runs, and no reload can find it."""
    file = rig.fleet.seen("lb2", "run", "nginx.pid")
    pid = file.read_bytes()
    file.unlink()
    try:
        yield
    finally:
        file.write_bytes(pid)


def break_in_the_middle(
    rig: FleetRig, breaks: Callable[[FleetRig], object], after: str
) -> tuple[Command, list[object]]:
    there: list[object] = []

    def act(_: object) -> None:
        fault = breaks(rig)
        fault.__enter__()  # type: ignore[attr-defined]
        there.append(fault)

    return rig.start("run", "--release", after, "--yes").at(fact("claimed", claim=1), act), there


@pytest.mark.parametrize("breaks", [broken_neighbour, pytest.param(pid_file_gone, marks=LONG)])
def test_an_nginx_that_will_not_reload_is_left_as_it_was(
    rig: FleetRig, breaks: Callable[[FleetRig], object]
) -> None:
    before, after = rig.release(), rig.next_release()
    with rig.users("nginx will not reload"):
        command, there = break_in_the_middle(rig, breaks, after)
        try:
            halted = command.end().must_be(4)
            assert "lb2" in halted.message.what
            assert halted.message.site.startswith(ALL_IN)
            assert not halted.has(intends("Activate"))
            assert versions_of(rig.status()) == dict.fromkeys(APPS, before)
            again = rig.do("resume", "--yes", on="bastion").must_be(4)
            assert not again.has(intends("Activate"))
        finally:
            for fault in there:
                fault.__exit__(None, None, None)  # type: ignore[attr-defined]
        rig.finish(after)
    rig.expect_well(after)


@LONG
def test_an_nginx_whose_program_is_gone_is_reloaded_by_the_running_one_or_left(
    rig: FleetRig,
) -> None:
    after = rig.next_release()
    with rig.users("nginx will not reload"):
        command, there = break_in_the_middle(rig, binary_gone, after)
        ended = command.end()
        for fault in there:
            fault.__exit__(None, None, None)  # type: ignore[attr-defined]
        if ended.exit_code:
            ended.must_be(4)
            assert "lb2" in ended.message.what
            assert not ended.has(intends("Activate"))
            rig.finish(after)
    rig.expect_well(after)


@LONG
def test_a_reload_command_that_says_yes_and_does_nothing_is_found_out(rig: FleetRig) -> None:
    before, after = rig.release(), rig.next_release()
    state = f"      state_dir: {rig.fleet.home('lb2')}/etc/state\n"
    rig.changed((state, f'{state}      reload: ["true"]\n      prove_limit_s: 2\n'))
    with rig.users("nginx will not reload"):
        halted = rig.do("run", "--release", after, "--yes").must_be(4)
        assert "lb2" in halted.message.what
        assert "not proved" in halted.message.what
        assert halted.message.site.startswith(ALL_IN)
        assert not halted.has(intends("Activate"))
        rig.inventory = None
        everybody_serves(rig, before)
        rig.finish(after)
    rig.expect_well(after)


# Nodes and workers


@LONG
def test_a_node_that_never_becomes_healthy_stays_out_and_abort_goes_back(rig: FleetRig) -> None:
    before, bad = rig.release(), f"{NEXT_RELEASE}-never-healthy"
    rig.changed(("on_failure: halt", "on_failure: halt\n  ready_limit_s: 4"))
    with rig.users("a node never healthy"):
        halted = rig.do("run", "--release", bad, "--yes").must_be(4)
        assert "not good within 4 s" in halted.message.what
        assert halted.message.site.startswith("app3, app4 in rotation")
        seen = rig.status()
        rotation = rotation_of(seen)
        assert (rotation["app3"], rotation["app4"]) == ("in", "in")
        assert "out on lb1, lb2" in rotation["app1"]
        assert versions_of(seen)["app3"] == before
        rig.do("abort", "--yes", on="bastion").must_be(0)
    rig.expect_well(before)


def worker_that_stays(rig: FleetRig, let_go: Callable[[], None]) -> None:
    """A rollout whose drain meets a worker that does not leave; then it leaves, and all ends."""
    before, after = rig.release(), rig.next_release()
    rig.changed(HASTY)
    halted = rig.do("run", "--release", after, "--yes").must_be(4)
    assert "not drained within 4 s" in halted.message.what
    assert "lb1" in halted.message.what
    assert "worker " in halted.message.what
    assert halted.message.site.startswith(ALL_IN)
    assert not halted.has(intends("Activate"))
    everybody_serves(rig, before)
    let_go()
    rig.finish(after)


@LONG
def test_a_hanging_upload_holds_up_the_drain_and_nothing_is_stopped(rig: FleetRig) -> None:
    after, client = rig.next_release(), rig.fleet.machines["client"]
    with rig.users("a worker never leaves"):
        with HangingUpload(client, rig.fleet.urls[0]) as upload:
            worker_that_stays(rig, upload.finish)
    rig.expect_well(after)


def test_a_websocket_of_somebody_elses_application_holds_up_the_drain_too(rig: FleetRig) -> None:
    after, client = rig.next_release(), rig.fleet.machines["client"]
    with rig.users("a worker never leaves"), websocket_server(rig.fleet.machines["web2"]):
        with WebSocket(client, rig.fleet.urls[0]) as socket:
            worker_that_stays(rig, socket.close)
    rig.expect_well(after)


# Two operators


@LONG
def test_of_two_operators_at_the_same_time_one_deploys_and_the_other_is_told(
    rig: FleetRig,
) -> None:
    after = rig.next_release()
    with rig.users("a second operator"):
        both = [
            rig.start("run", "--release", after, "--yes", on=host)
            for host in ("operator", "bastion")
        ]
        ended = sorted((command.end() for command in both), key=lambda one: one.exit_code)
        assert ended[0].exit_code == 0, ended[0]
        # Whoever came when the other was done found nothing to do.
        assert ended[1].exit_code in {0, 5}, ended[1]
        opened = [one.has(fact("opened")) for one in ended]
        assert opened.count(True) == 1, ended
    rig.expect_well(after)


@LONG
def test_a_second_operator_is_told_who_holds_it_on_which_host(rig: FleetRig) -> None:
    after, client = rig.next_release(), rig.fleet.machines["client"]
    with rig.users("a second operator"), HangingUpload(client, rig.fleet.urls[1]) as upload:
        first = rig.start("run", "--release", after, "--yes")
        first.wait_for(is_draining, "the drain")
        for words in (("run", "--release", "9.9"), ("run", "--release", after), ("resume",)):
            refused = rig.do(*words, "--yes", on="bastion").must_be(5)
            assert "on operator holds rollout" in refused.message.what
        upload.finish()
        first.end().must_be(0)
    rig.expect_well(after)
