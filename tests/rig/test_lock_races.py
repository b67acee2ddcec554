"""Many operators at the same instant, each a process of its own, and operators without a lock."""

from __future__ import annotations

import contextlib
import shutil
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.rig.fixtures import rig, stand_fixture
from tests.rig.lock_audit import Told, Watch, fences, lives_in, read_record, said, state_dirs
from tests.rig_tools import Ended, Rig, fact, intends, wait_until

__all__ = ["rig"]

stand = stand_fixture()

pytestmark = [pytest.mark.rig, pytest.mark.timeout(900)]

RACERS = 20
LOCK_FILES = ("holder", "held_by", "heartbeat", "expiry")


def race(rig: Rig, count: int, *words: str) -> dict[str, Ended]:
    """Start so many operators at once, each with a disk of its own; answer how each ended."""
    names = [f"racer{number}" for number in range(count)]
    commands = {name: rig.start(*words, by=name) for name in names}
    return {name: command.end() for name, command in commands.items()}


def acted(ended: Ended) -> bool:
    """Answers whether a command wrote anything into a record."""
    return ended.has(fact("opened")) or ended.has(fact("takenover"))


def expect_one_holder_everywhere(rig: Rig, told: Told) -> None:
    """Every machine's fence is that of a life in the record, the last one's where it acted."""
    lives = {(life.epoch, life.holder) for life in told.lives}
    seen = fences(rig)
    balancers = set(state_dirs(rig))
    last = told.lives[-1]
    for name, fence in seen.items():
        if name in balancers:
            assert fence == (last.epoch, last.holder), (name, fence)
        else:
            assert fence in lives, (name, fence)


def test_of_twenty_operators_at_once_exactly_one_acts(rig: Rig) -> None:
    after = rig.next_release()
    before = {name: (folder / "current").read_text() for name, folder in state_dirs(rig).items()}
    with rig.users(), Watch(rig) as watch:
        ends = race(rig, RACERS, "run", "--release", after, "--yes")
    codes = Counter(ended.exit_code for ended in ends.values())
    acting = [name for name, ended in ends.items() if acted(ended)]
    print(f"{RACERS} operators: exit codes {dict(codes)}, acting: {acting}")
    assert len(acting) == 1, acting
    ends[acting[0]].must_be(0)
    for name, ended in ends.items():
        if name == acting[0]:
            continue
        if ended.exit_code == 0:
            assert any(text.startswith("nothing to do") for text in said(ended.events)), ended
        else:
            ended.must_be(5)
    watch.expect_one_at_a_time()
    told = read_record(rig, disks=list(ends))
    assert told.rollout not in before.values()
    assert len(told.lives) == 1
    expect_one_holder_everywhere(rig, told)
    rig.expect_well(after)


@pytest.mark.every
def test_of_many_who_resume_a_dead_rollout_at_once_exactly_one_goes_on(rig: Rig) -> None:
    after = rig.next_release()
    with rig.users(), Watch(rig) as watch:
        first = rig.start("run", "--release", after, "--yes")
        first.at(intends("Activate", "app1"), lambda _: first.signal(signal.SIGKILL))
        first.end()
        shutil.rmtree(rig.states / "first")
        rig.do("unlock", "--yes", by="second").must_be(0)
        ends = race(rig, 8, "resume", "--yes")
    acting = [name for name, ended in ends.items() if acted(ended)]
    assert len(acting) == 1, acting
    ends[acting[0]].must_be(0)
    for name, ended in ends.items():
        if name != acting[0]:
            # Who comes when all is done is told that no rollout is unfinished.
            assert ended.exit_code in {5, 2}, ended
            ended.must_be(ended.exit_code)
    watch.expect_one_at_a_time()
    told = read_record(rig, disks=list(ends))
    assert len(told.lives) == 2
    expect_one_holder_everywhere(rig, told)
    rig.expect_well(after)


@contextmanager
def without_a_lock(rig: Rig) -> Iterator[None]:
    """Make the lock useless: whoever takes it has lost it a moment later."""
    over = threading.Event()

    def remove() -> None:
        while not over.wait(0.002):
            for folder in state_dirs(rig).values():
                for name in LOCK_FILES:
                    with contextlib.suppress(FileNotFoundError):
                        (folder / name).unlink()

    remover = threading.Thread(target=remove, daemon=True)
    remover.start()
    try:
        yield
    finally:
        over.set()
        remover.join(30)


@pytest.mark.parametrize(
    "moment", [pytest.param("publishing", marks=pytest.mark.every), "activating"]
)
def test_without_the_lock_the_fence_alone_keeps_two_from_acting(rig: Rig, moment: str) -> None:
    after = rig.next_release()
    matches = {
        "publishing": intends("Apply"),
        "activating": intends("Activate", "app1"),
    }[moment]
    with rig.users(), Watch(rig) as watch, without_a_lock(rig):
        first = rig.start("run", "--release", after, "--yes")
        first.wait_for(matches, moment)
        # Nobody keeps it out: it finds the rollout without a holder while the first goes on.
        second = rig.start("resume", "--yes", by="second")
        took = second.wait_for(fact("takenover"), "the takeover")
        loser = first.end().must_be(5)
        assert "somebody else has taken this rollout over" in loser.message.what
        second.end().must_be(0)
    assert took["epoch"] > next(e["epoch"] for e in first.events if e["event"] == "opened")
    watch.expect_one_at_a_time()
    told = read_record(rig, disks=["second"])
    assert [life.epoch for life in told.lives] == sorted({life.epoch for life in told.lives})
    assert len(told.lives) == 2
    expect_one_holder_everywhere(rig, told)
    rig.expect_well(after)


@pytest.mark.every
def test_without_the_lock_five_who_begin_at_once_are_still_one(rig: Rig) -> None:
    after = rig.next_release()
    with rig.users(), Watch(rig) as watch, without_a_lock(rig):
        began = time.monotonic()
        ends = race(rig, 5, "run", "--release", after, "--yes")
        print(f"five without a lock: {time.monotonic() - began:.1f} s")
    codes = Counter(ended.exit_code for ended in ends.values())
    assert set(codes) <= {0, 5}, "\n".join(map(str, ends.values()))
    for ended in ends.values():
        ended.must_be(ended.exit_code)
    watch.expect_one_at_a_time()
    told = read_record(rig)
    # Some took over from others; each life ended where the next began, and the last one finished.
    finished = [name for name, ended in ends.items() if ended.has(fact("closed", ending="done"))]
    assert len(finished) == 1
    assert lives_in(told.chain)[-1].holder == told.chain.entries[-1].holder
    expect_one_holder_everywhere(rig, told)
    wait_until(lambda: not any((f / "holder").exists() for f in state_dirs(rig).values()), "free")
    rig.expect_well(after)
