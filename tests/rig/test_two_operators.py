"""Two operators at once: one goes on, the other is told who, and a frozen one changes nothing."""

from __future__ import annotations

import os
import signal
import time

import pytest

from rolling_deploy.demo.fleet import NEXT_RELEASE
from tests.rig.fixtures import LOCK_S, rig, stand_fixture
from tests.rig.lock_audit import Watch, read_record
from tests.rig.slow_upload import SlowUpload
from tests.rig_tools import Command, Rig, fact, intends, is_draining, outcomes, wait_until

__all__ = ["rig"]

stand = stand_fixture()

pytestmark = [pytest.mark.rig, pytest.mark.timeout(900)]


def silence_s(rig: Rig) -> float:
    """Answers how long the lock's holder has been silent, as the load balancers see it."""
    beats = [b.machine.directory / "state" / "heartbeat" for b in rig.fleet.balancers]
    return time.time() - max(beat.stat().st_mtime for beat in beats)  # noqa: TID251 # files' time


def test_a_second_operator_is_told_who_holds_the_rollout(rig: Rig) -> None:
    after = rig.next_release()
    inventory = rig.inventory("other")
    # A long upload keeps the first one waiting for as long as it takes.
    with rig.users(), SlowUpload(rig.balancer("lb1").port) as upload:
        rig.environment["GITHUB_ACTOR"] = "first-operator"
        first = rig.start("run", "--release", after, "--yes")
        rig.environment.clear()
        first.wait_for(is_draining, "the drain")
        for words in (("run", "--release", after), ("run", "--release", "9.9"), ("resume",)):
            second = rig.do(*words, "--yes", by="second", inventory=inventory).must_be(5)
            assert "first-operator" in second.message.what
            assert "holds rollout" in second.message.what
            assert "this run changed nothing" in second.message.site
        assert upload.finish() in {"app1", "app2"}
        first.end().must_be(0)
    rig.expect_well(after)


@pytest.mark.every
def test_another_release_is_refused_while_one_is_unfinished(rig: Rig) -> None:
    after = rig.next_release()
    with rig.users():
        first = rig.start("run", "--release", after, "--yes")
        first.at(intends("Activate", "app1"), lambda _: first.signal(signal.SIGTERM))
        first.end().must_be(143)
        other = rig.run(f"{NEXT_RELEASE}-logout", by="second").must_be(5)
        assert f"to {after} is unfinished" in other.message.what
        assert "rolling-deploy resume" in other.message.next
        assert "rolling-deploy abort" in other.message.next
        again = rig.run(after, by="third").must_be(0)
        assert again.has(fact("takenover"))
        assert not again.has(fact("opened"))
    rig.expect_well(after)


def wait_for_the_expiry(rig: Rig, command: Command) -> None:
    wait_until(lambda: silence_s(rig) > LOCK_S + 1, "the frozen operator's lock has expired")
    assert not command.is_over


@pytest.mark.loopback
@pytest.mark.parametrize("moment", ["draining", "activating", "publishing"])
def test_a_frozen_operator_that_wakes_up_after_a_takeover_changes_nothing(
    rig: Rig, moment: str
) -> None:
    after = rig.next_release()
    matches = {
        "draining": is_draining,
        "activating": intends("Activate", "app1"),
        "publishing": intends("Apply", "lb1"),
    }[moment]
    with rig.users(), Watch(rig) as watch:
        first = rig.start("run", "--release", after, "--yes")
        first.at(matches, lambda _: first.signal(signal.SIGSTOP))
        first.wait_for(matches, moment)
        early = rig.do("resume", "--yes", by="second").must_be(5)
        assert "holds rollout" in early.message.what
        wait_for_the_expiry(rig, first)
        resumed = rig.do("resume", "--yes", by="second").must_be(0)
        assert resumed.has(fact("takenover", lost=True))
        pids = [rig.fleet.pid_of(node.name) for node in rig.fleet.nodes]
        files, workers = rig.managed(), rig.workers()
        first.signal(signal.SIGCONT)
        woken = first.end().must_be(5)
        assert "somebody else has taken this rollout over" in woken.message.what
        assert "done" not in outcomes(woken.events, "Unadopt")
        assert rig.managed() == files
        rig.expect_no_reload(workers)
        assert [rig.fleet.pid_of(node.name) for node in rig.fleet.nodes] == pids
        for pid in pids:
            os.kill(pid, 0)
    watch.expect_one_at_a_time()
    assert len(read_record(rig).lives) == 2
    rig.expect_well(after)


@pytest.mark.every
def test_a_job_retried_after_a_kill_goes_on_with_the_same_rollout(rig: Rig) -> None:
    after = rig.next_release()
    with rig.users():
        first = rig.start("run", "--release", after, "--yes")
        first.at(is_draining, lambda _: first.signal(signal.SIGKILL))
        assert first.end().exit_code == 128 + signal.SIGKILL
        # Another machine cannot know that the holder is dead before its lock has expired.
        held = rig.run(after, by="second").must_be(5)
        assert "rolling-deploy unlock" in held.message.next
        again = rig.run(after, by="first").must_be(0)
        assert again.has(fact("takenover", lost=False))
        assert not again.has(fact("opened"))
    rig.expect_well(after)


@pytest.mark.every
def test_a_lock_is_not_taken_from_a_living_holder_of_the_same_machine(rig: Rig) -> None:
    after = rig.next_release()
    with rig.users():
        first = rig.start("run", "--release", after, "--yes")
        first.at(intends("Activate", "app1"), lambda _: first.signal(signal.SIGTERM))
        first.end().must_be(143)
        # Both have a record of it now, on disks of their own; the machine's name is the same.
        second = rig.start("resume", "--yes", by="second")
        second.wait_for(fact("takenover"), "the takeover")
        third = rig.do("resume", "--yes", by="first").must_be(5)
        assert "holds rollout" in third.message.what
        second.end().must_be(0)
    rig.expect_well(after)


@pytest.mark.every
def test_whoever_was_taken_over_can_deploy_again_from_the_same_disk(rig: Rig) -> None:
    after = rig.next_release()
    with rig.users():
        first = rig.start("run", "--release", after, "--yes")
        first.at(fact("ended"), lambda _: first.signal(signal.SIGKILL))
        assert first.end().exit_code == 128 + signal.SIGKILL
        rig.do("unlock", "--yes", by="second").must_be(0)
        rig.do("resume", "--yes", by="second").must_be(0)
        # What only its own disk had was never acted on, so it is no fork.
        rig.run(after, by="first").must_be(0)
    rig.expect_well(after)
