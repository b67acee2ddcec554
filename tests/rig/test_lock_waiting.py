"""`--wait`: told for whom, and afterwards everything is as if the command had come later."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from rolling_deploy.demo.fleet import FIRST_RELEASE, NEXT_RELEASE
from tests.rig.fixtures import rig, stand_fixture
from tests.rig.lock_audit import Watch, read_record, said, state_dirs
from tests.rig.slow_upload import SlowUpload
from tests.rig_tools import Event, Rig, fact, intends, wait_until

__all__ = ["rig"]

stand = stand_fixture()

pytestmark = [pytest.mark.rig, pytest.mark.timeout(900)]

SOON = ("on_failure: halt", "on_failure: halt\n  ready_limit_s: 3")


def is_draining(event: Event) -> bool:
    """Also when a single worker is left, which the upload's is."""
    return event["event"] == "awaiting" and "earlier nginx worker" in str(event["why"])


def is_waiting(event: Event) -> bool:
    return event["event"] == "said" and str(event["text"]).startswith("waiting, at most")


def other_than(release: str) -> str:
    return FIRST_RELEASE if release == NEXT_RELEASE else NEXT_RELEASE


def watchers(rig: Rig) -> list[str]:
    """Answers the processes on the load balancers that wait for the lock."""
    places = [str(folder).encode() for folder in state_dirs(rig).values()]
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                words = (folder / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"rolling-deploy:record_watch" in words and any(p in words for p in places):
                found.append(folder.name)
    return found


@pytest.mark.every
def test_the_same_release_is_waited_for_and_then_there_is_nothing_to_do(rig: Rig) -> None:
    after = rig.next_release()
    with rig.users(), SlowUpload(rig.balancer("lb1").port) as upload:
        rig.environment["GITHUB_ACTOR"] = "first-operator"
        first = rig.start("run", "--release", after, "--yes")
        rig.environment.clear()
        first.wait_for(is_draining, "the drain")
        second = rig.start("run", "--release", after, "--yes", "--wait", by="second")
        told = second.wait_for(is_waiting, "that it waits")
        assert "first-operator" in told["text"]
        assert "60 min" in told["text"] or "59 min" in told["text"]
        wait_until(lambda: watchers(rig), "the load balancers wait for it")
        upload.finish()
        first.end().must_be(0)
        ended = second.end().must_be(0)
        assert any(text.startswith("nothing to do") for text in said(ended.events))
        assert not ended.has(fact("opened"))
        holds = [text for text in said(ended.events) if "holds rollout" in text]
        # Once for each step that the other began while we waited, never the same twice.
        assert len(holds) == len(set(holds)) > 1, holds
        assert any("activate app2 release" in text for text in holds)
    assert not watchers(rig)
    rig.expect_well(after)


@pytest.mark.every
def test_another_release_is_deployed_when_the_first_is_done(rig: Rig) -> None:
    after = rig.next_release()
    then = other_than(after)
    with rig.users(), Watch(rig) as watch:
        first = rig.start("run", "--release", after, "--yes")
        first.wait_for(fact("opened"), "the first rollout")
        second = rig.start("run", "--release", then, "--yes", "--wait", "120", by="second")
        first.end().must_be(0)
        ended = second.end().must_be(0)
        assert ended.has(is_waiting)
        assert ended.has(fact("closed", ending="done"))
    watch.expect_one_at_a_time()
    rig.expect_well(then)


def test_a_dead_holder_is_waited_for_until_the_lock_expires_and_then_resumed(rig: Rig) -> None:
    after = rig.next_release()
    with rig.users():
        first = rig.start("run", "--release", after, "--yes")
        first.at(intends("Activate", "app1"), lambda _: first.signal(signal.SIGKILL))
        first.end()
        # Another release never takes the place of an unfinished one, however long it waited.
        third = rig.start("run", "--release", "9.9", "--yes", "--wait", "120", by="third")
        other = third.end().must_be(5)
        assert other.has(is_waiting)
        assert f"to {after} is unfinished" in other.message.what
        second = rig.do("resume", "--yes", "--wait", "120", by="second").must_be(0)
        assert second.has(fact("takenover", lost=True))
    assert [life.epoch for life in read_record(rig).lives][-1] >= 2
    rig.expect_well(after)


@pytest.mark.every
def test_a_rollout_that_halts_meanwhile_is_halted_for_who_waited_too(rig: Rig) -> None:
    inventory = rig.inventory("soon", SOON)
    before, broken = rig.release(), f"{NEXT_RELEASE}-broken"
    words = ("run", "--release", broken, "--yes")
    with rig.users():
        first = rig.start(*words, inventory=inventory)
        first.wait_for(fact("claimed"), "the first wave")
        second = rig.start(*words, "--wait", "120", by="second", inventory=inventory)
        first.end().must_be(4)
        ended = second.end().must_be(4)
        assert not ended.has(fact("takenover"))
        assert "not good within 3 s" in ended.message.what
        rig.do("abort", "--yes", "--wait", "60", by="second", inventory=inventory).must_be(0)
    rig.expect_well(before)


@pytest.mark.every
def test_a_signal_ends_the_wait_and_leaves_nothing_behind(rig: Rig) -> None:
    after = rig.next_release()
    with rig.users(), SlowUpload(rig.balancer("lb1").port) as upload:
        first = rig.start("run", "--release", after, "--yes")
        first.wait_for(is_draining, "the drain")
        second = rig.start("resume", "--yes", "--wait", by="second")
        second.wait_for(is_waiting, "that it waits")
        wait_until(lambda: watchers(rig), "the load balancers wait for it")
        second.signal(signal.SIGTERM)
        ended = second.end()
        assert ended.exit_code == 128 + signal.SIGTERM, ended
        assert "ended before anything was begun" in ended.message.what
        assert ended.message.site == "nothing was touched"
        wait_until(lambda: not watchers(rig), "nobody waits on the load balancers")
        upload.finish()
        first.end().must_be(0)
    rig.expect_well(after)


WAITING = (("run", "--release", "9.9"), ("resume",), ("abort",), ("adopt",), ("unadopt",))


@pytest.mark.every
def test_who_has_waited_long_enough_is_refused_as_without_waiting(rig: Rig) -> None:
    after = rig.next_release()
    # nginx gives an upload that stands still 60 s; so much is done meanwhile.
    with SlowUpload(rig.balancer("lb1").port):
        first = rig.start("run", "--release", after, "--yes")
        first.wait_for(is_draining, "the drain")
        at_once = rig.do("resume", "--yes", by="second").must_be(5)
        assert not at_once.has(is_waiting)
        for words in WAITING:
            began = time.monotonic()
            ended = rig.do(*words, "--yes", "--wait", "1", by="second").must_be(5)
            assert time.monotonic() - began > 1
            assert ended.has(is_waiting), words
            who, _, _ = at_once.message.what.partition(", now at")
            assert ended.message.what.startswith(who)
    first.end().must_be(0)
    rig.expect_well(after)
