"""Who is still there: earlier workers on a real nginx, and waiting for them."""

from __future__ import annotations

import os
import re
import shutil
import signal
import threading
import time
from collections.abc import Iterable, Sequence

import pytest

from rolling_deploy.remote.connection import Answer
from rolling_deploy.remote.nginx_facts import NginxFacts
from rolling_deploy.rollout.observed import Unreachable
from rolling_deploy.rollout.step import Outcome
from tests.fleet_rig.namespaces import why_not
from tests.local_connection import LocalConnection
from tests.nginx_machine import (  # noqa: F401 # `machine` is a fixture
    WORKERS,
    NginxMachine,
    binaries,
    is_alive,
    looked,
    machine,
    pause,
    token,
    until,
)
from tests.own_processes import await_the_end, called_alone

pytestmark = pytest.mark.timeout(120)


def test_an_upload_two_generations_back_counts_until_it_ends(machine: NginxMachine) -> None:
    machine.publish("g1")
    upload = machine.begin_upload()
    machine.publish("g2")
    machine.publish("g3", down=1)
    look = looked(machine.nginx())
    assert look.seen.earlier_workers == 1
    assert look.seen.is_settled
    assert [worker.generation for worker in look.earlier] == ["g1"]
    assert look.earlier[0].connections == 1
    assert f"worker {look.earlier[0].worker.pid}, retiring, of generation g1" in look.seen.detail
    assert machine.end_upload(upload).startswith(b"HTTP/1.1 200")
    upload.close()
    until(lambda: looked(machine.nginx()).seen.earlier_workers == 0)


def test_a_worker_retiring_before_we_came_counts(machine: NginxMachine) -> None:
    upload = machine.begin_upload()
    machine.reload()
    machine.publish("g1")
    assert looked(machine.nginx()).seen.earlier_workers == 1
    upload.close()
    until(lambda: looked(machine.nginx()).seen.earlier_workers == 0)


def test_somebody_elses_reload_after_ours_makes_more_earlier_workers(
    machine: NginxMachine,
) -> None:
    machine.publish("g1")
    upload = machine.begin_upload()
    assert looked(machine.nginx()).seen.earlier_workers == 0
    machine.reload()
    seen = looked(machine.nginx()).seen
    assert (seen.earlier_workers, seen.live, seen.is_settled) == (1, "g1", True)
    upload.close()


def test_waiting_returns_as_soon_as_the_last_earlier_worker_is_gone(
    machine: NginxMachine,
) -> None:
    machine.publish("g1")
    upload = machine.begin_upload()
    machine.publish("g2")
    ended: list[float] = []

    def wait() -> None:
        machine.nginx().wait_drained(60_000)
        ended.append(time.monotonic())

    waiter = threading.Thread(target=wait)
    waiter.start()
    pause(0.5)
    assert not ended
    machine.end_upload(upload)
    upload.close()
    until(lambda: looked(machine.nginx()).seen.earlier_workers == 0)
    gone = time.monotonic()
    waiter.join(10)
    assert ended
    assert ended[0] - gone < 5


def test_a_tunnel_that_stays_is_waited_for_until_the_limit_only(machine: NginxMachine) -> None:
    machine.publish("g1")
    tunnel = machine.open_tunnel()
    machine.publish("g2")
    began = time.monotonic()
    machine.nginx().wait_drained(700)
    took = time.monotonic() - began
    assert 0.6 < took < 10
    look = looked(machine.nginx())
    assert look.seen.earlier_workers == 1
    assert look.earlier[0].connections == 2
    tunnel.close()


def test_waiting_returns_at_once_when_it_cannot_be_told(machine: NginxMachine) -> None:
    machine.publish("g1")
    shutil.rmtree(machine.state_dir / "generations")
    began = time.monotonic()
    machine.nginx().wait_drained(60_000)
    assert time.monotonic() - began < 20


def test_a_wait_ends_with_its_channel(machine: NginxMachine) -> None:
    machine.publish("g1")
    tunnel = machine.open_tunnel()
    machine.publish("g2")
    connection = LocalConnection()
    waiter = threading.Thread(target=lambda: machine.nginx(connection).wait_drained(60_000))
    waiter.start()
    until(lambda: connection.commands == 1)
    pause(0.3)
    connection.close()
    waiter.join(10)
    assert not waiter.is_alive()
    tunnel.close()


def test_without_its_snapshot_nobody_is_said_to_be_gone(machine: NginxMachine) -> None:
    machine.publish("g1")
    (machine.state_dir / "generations" / "g1").unlink()
    seen = looked(machine.nginx()).seen
    assert seen.earlier_workers is None
    assert machine.publish("g1").outcome is Outcome.DONE
    until(lambda: looked(machine.nginx()).seen.earlier_workers == 0)


def test_a_hand_edited_file_has_no_snapshot(machine: NginxMachine) -> None:
    machine.publish("g1")
    with machine.file.open("ab") as file:
        file.write(b"# a person was here\n")
    assert looked(machine.nginx()).seen.earlier_workers is None


def test_a_file_put_in_place_but_not_loaded_is_seen_as_that(machine: NginxMachine) -> None:
    machine.publish("g1")
    machine.publish("g2", nginx=machine.nginx(reload=("true",), prove_limit_ms=300))
    seen = looked(machine.nginx()).seen
    assert seen.file is not None
    assert seen.file.stamp is not None
    assert seen.file.stamp.generation == "g2"
    assert (seen.live, seen.is_settled, seen.earlier_workers) == ("g1", False, WORKERS)
    machine.reload()
    until(lambda: looked(machine.nginx()).seen.earlier_workers == 0)
    seen = looked(machine.nginx()).seen
    assert (seen.live, seen.is_settled) == ("g2", True)


def test_another_masters_workers_count_unless_a_person_said_to_ignore_them(
    machine: NginxMachine,
) -> None:
    with NginxMachine(machine.binary) as other:
        machine.publish("g1")
        tunnel = other.open_tunnel()
        other.reload()
        assert looked(machine.nginx()).seen.earlier_workers == 0
        strict = looked(machine.nginx(other_masters="refuse")).seen
        assert strict.earlier_workers is not None
        assert strict.earlier_workers >= 1
        tunnel.close()


def test_the_workers_of_a_binary_upgrade_count_even_when_others_are_ignored(
    machine: NginxMachine,
) -> None:
    """The new master is a child of the old one and takes the pid file over."""
    machine.publish("g1")
    old = machine.master
    os.kill(old, signal.SIGUSR2)
    until(
        lambda: (
            machine.pid_file.exists() and machine.pid_file.read_text().strip() not in ("", str(old))
        )
    )
    machine.master = int(machine.pid_file.read_text())
    try:
        until(lambda: len(machine.workers()) == WORKERS)
        result = machine.publish("g2", nginx=machine.nginx(prove_limit_ms=800))
        assert result.outcome is Outcome.FAILED
        assert "from before the reload go on taking connections" in result.detail
        seen = looked(machine.nginx()).seen
        assert not seen.is_settled
        assert seen.earlier_workers == WORKERS
    finally:
        os.kill(old, signal.SIGTERM)
        until(lambda: not is_alive(old))


def test_orphaned_workers_are_never_forgotten(machine: NginxMachine) -> None:
    """A killed master leaves its workers serving; a new one on the port pretends all is well.

    Where that is possible among processes of its own: all the others on this machine would rightly
    refuse because of them. Seen from here they are a container's, whose master has gone.
    """
    if why_not():
        expect_orphans_seen(machine.binary)
        return
    with called_alone(expect_orphans_seen, machine.binary):
        for other_masters, is_left_out in (("ignore", True), ("refuse", False)):
            facts = machine.nginx(other_masters=other_masters).facts()
            assert isinstance(facts, NginxFacts)
            assert (not facts.orphans) is is_left_out


def expect_orphans_seen(binary: str) -> None:
    with NginxMachine(binary) as machine:
        config = machine.config.read_text()
        machine.config.write_text(
            config.replace(str(machine.front_port), f"{machine.front_port} reuseport")
        )
        machine.reload()
        orphans = machine.workers(retiring=False)
        os.kill(machine.master, signal.SIGKILL)
        until(lambda: not is_alive(machine.master))
        try:
            machine.pid_file.unlink()
            machine.start()
            result = machine.publish("g1", nginx=machine.nginx(prove_limit_ms=800))
            assert result.outcome is Outcome.FAILED
            assert str(orphans[0]) in result.detail
            seen = looked(machine.nginx()).seen
            assert not seen.is_settled
            assert seen.earlier_workers is not None
            assert seen.earlier_workers >= len(orphans)
            if not why_not():
                await_the_end()
        finally:
            for pid in orphans:
                os.kill(pid, signal.SIGKILL)


def test_a_stopped_nginx_is_seen_as_nothing_live_and_nothing_known(machine: NginxMachine) -> None:
    machine.publish("g1")
    os.kill(machine.master, signal.SIGTERM)
    until(lambda: not is_alive(machine.master))
    seen = looked(machine.nginx()).seen
    assert (seen.live, seen.is_settled, seen.earlier_workers) == (None, False, None)
    assert "no running nginx master" in seen.detail


def test_two_masters_that_both_could_be_meant_are_not_chosen_from(machine: NginxMachine) -> None:
    with NginxMachine(machine.binary):
        nginx = machine.nginx(config="")
        result = machine.publish("g1", nginx=nginx)
        assert result.outcome is Outcome.REFUSED
        assert "several nginx masters run" in result.detail
        chosen = machine.publish(
            "g1", nginx=machine.nginx(config="", pid_file=str(machine.pid_file))
        )
        assert chosen.outcome is Outcome.DONE, chosen


def test_another_applications_endpoint_is_not_taken_for_ours(machine: NginxMachine) -> None:
    """All applications share the port; nginx answers a name it does not know with the first."""
    stranger = machine.text("theirs").replace(b"shop", b"other")
    (machine.conf_d / "other.conf").write_bytes(stranger)
    machine.reload()
    assert machine.served() == "theirs"
    assert looked(machine.nginx()).seen.live is None
    assert machine.publish("g1").outcome is Outcome.DONE
    assert looked(machine.nginx()).seen.live == "g1"
    result = machine.nginx().unadopt(replaces=machine.digest(), token=token())
    assert result.outcome is Outcome.DONE, result
    assert looked(machine.nginx()).seen.live is None


@pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user needs root")
def test_looking_needs_no_privileges(machine: NginxMachine) -> None:
    machine.publish("g1")
    tunnel = machine.open_tunnel()
    machine.publish("g2")
    machine.file.chmod(0o644)
    for place in (machine.state_dir, machine.state_dir / "generations"):
        place.chmod(0o755)
    for kept in machine.state_dir.rglob("*"):
        kept.chmod(0o755)
    look = looked(machine.nginx(LocalConnection(user=65_534)))
    assert (look.seen.live, look.seen.is_settled, look.seen.earlier_workers) == ("g2", True, 1)
    assert look.earlier[0].connections is None
    tunnel.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user needs root")
def test_a_file_that_cannot_be_read_is_no_missing_file(machine: NginxMachine) -> None:
    machine.file.chmod(0o600)
    look = machine.nginx(LocalConnection(user=65_534)).look()
    assert isinstance(look, Unreachable)
    assert "cannot read" in look.detail


class HidingConnection(LocalConnection):
    """An ordinary user on a machine whose /proc shows nobody else's processes.

    A mount of its own in a namespace of its own: the machine's /proc stays as it is.
    """

    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes | Iterable[bytes] = b"",
        limit_ms: int,
        holds_stdin: bool = False,
    ) -> Answer:
        hide = "mount -t proc -o hidepid=2 proc /proc || exit 77"
        drop = "exec setpriv --reuid 65534 --regid 65534 --clear-groups"
        words = ["unshare", "-m", "sh", "-c", f'{hide}; {drop} -- "$@"', "sh", *argv]
        return super().run(words, stdin=stdin, limit_ms=limit_ms, holds_stdin=holds_stdin)


def has_own_proc_mounts() -> bool:
    """Since Linux 5.8 every mount of /proc has options of its own."""
    release = re.match(r"(\d+)\.(\d+)", os.uname().release)
    return release is not None and (int(release[1]), int(release[2])) >= (5, 8)


@pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("unshare") or not has_own_proc_mounts(),
    reason="needs root, unshare and Linux 5.8",
)
def test_hidden_processes_are_unknown_and_not_gone(machine: NginxMachine) -> None:
    """With `hidepid` an ordinary user sees no nginx at all; that must never read as drained."""
    if HidingConnection().run(["true"], limit_ms=10_000).exit_status != 0:
        pytest.skip("/proc cannot be mounted here")
    machine.publish("g1")
    tunnel = machine.open_tunnel()
    machine.publish("g2")
    for kept in (machine.state_dir, *machine.state_dir.rglob("*")):
        kept.chmod(0o755)
    machine.file.chmod(0o644)
    nginx = machine.nginx(HidingConnection())
    look = looked(nginx)
    assert look.seen.earlier_workers is None
    assert not look.seen.is_settled
    facts = nginx.facts()
    assert isinstance(facts, NginxFacts)
    assert "hidepid" in facts.hidepid
    tunnel.close()


def test_waiting_for_a_free_machine_ends_when_the_command_does(machine: NginxMachine) -> None:
    machine.publish("g1")
    slow = machine.nginx(test=("sleep", "1.5"))
    publisher = threading.Thread(target=lambda: machine.publish("g2", nginx=slow))
    publisher.start()
    until(lambda: looked(machine.nginx()).seen.is_busy)
    machine.nginx().wait_free(60_000)
    assert not looked(machine.nginx()).seen.is_busy
    publisher.join(30)
    assert machine.served() == "g2"
