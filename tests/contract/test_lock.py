"""The lock beside the record, on real directories: races, clocks that jump, waiting for it."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from rolling_deploy.errors import RolloutHeld
from rolling_deploy.ports import FenceToken
from rolling_deploy.remote.record_copies import (
    Copy,
    Holder,
    Place,
    append_copy,
    hold,
    let_go,
    read_copies,
    watch_lock,
)
from rolling_deploy.remote.script import run_script
from rolling_deploy.rollout.observed import Fence
from rolling_deploy.rollout.step import Outcome
from tests.local_connection import LocalConnection
from tests.programs import write_program
from tests.sshd import wait_until

pytestmark = pytest.mark.timeout(180)

ANN, BOB = FenceToken("r1", 1, "ann"), FenceToken("r1", 2, "bob")
RACERS = 20
EXPIRY_S = 30


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(LocalConnection(), str(tmp_path / "state"))


def holder(who: str = "ann", expiry_s: int = EXPIRY_S) -> Holder:
    return Holder(who, "laptop", "", 1, "r1", "", expiry_s)


def take(place: Place, token: FenceToken, expiry_s: int = EXPIRY_S) -> bool:
    """Try to take the lock; answers whether it was given."""
    try:
        failures = hold({"lb1": place}, token, holder(token.holder, expiry_s))
    except RolloutHeld:
        return False
    assert not failures
    return True


def seen(place: Place) -> Copy:
    copies, failures = read_copies({"lb1": place})
    assert not failures
    assert not copies["lb1"].problem
    return copies["lb1"]


def state_of(place: Place) -> dict[str, str]:
    """Answers the small files of the state directory."""
    return {
        path.name: path.read_text(encoding="utf-8").strip()
        for path in Path(place.state_dir).iterdir()
    }


def let_the_heart_be(place: Place, age_s: int) -> None:
    """Let it have beaten so long ago by the machine's clock; a negative age lies ahead."""
    at = time.time() - age_s  # noqa: TID251 # a file's time
    os.utime(Path(place.state_dir) / "heartbeat", (at, at))


@pytest.mark.parametrize(("theirs_s", "ours_s"), [(300, 5), (5, 300)])
def test_the_expiry_that_counts_is_the_one_the_lock_was_taken_with(
    place: Place, theirs_s: int, ours_s: int
) -> None:
    """Else an inventory with a shorter one takes a living holder for dead between two beats."""
    assert take(place, ANN, theirs_s)
    let_the_heart_be(place, 100)
    assert seen(place).is_held == (theirs_s == 300)
    assert take(place, BOB, ours_s) == (theirs_s == 5)
    assert state_of(place)["expiry"] == str(ours_s if theirs_s == 5 else theirs_s)


@pytest.mark.parametrize("written", ["", "soon", "-5"])
def test_an_expiry_that_cannot_be_read_is_the_newcomers(place: Place, written: str) -> None:
    take(place, ANN)
    (Path(place.state_dir) / "expiry").write_text(written)
    let_the_heart_be(place, 20)
    assert not take(place, BOB, 25)
    assert take(place, BOB, 15)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "7",
        '{"who": "ann"}',
        '{"who":1,"machine":"","job":"","since_ms":1,"rollout":"r","reason":""}',
        '{"who":"a","machine":"","job":"","since_ms":1e30,"rollout":"r","reason":""}',
        '{"who":"a","machine":"","job":"","since_ms":99999999999999999,"rollout":"r","reason":""}',
    ],
)
def test_a_holder_that_cannot_be_read_is_no_holder_and_no_crash(place: Place, text: str) -> None:
    take(place, ANN)
    (Path(place.state_dir) / "holder").write_text(text)
    assert seen(place).holder is None
    assert not take(place, BOB)


def test_of_twenty_who_come_at_once_one_holds_it_and_no_stale_one_gets_it_afterwards(
    place: Place,
) -> None:
    tokens = [FenceToken(f"r{number}", 1, f"racer{number}") for number in range(RACERS)]
    with ThreadPoolExecutor(RACERS) as threads:
        came = dict(zip(tokens, threads.map(lambda t: take(place, t), tokens), strict=True))
    winners = [token.holder for token, is_in in came.items() if is_in]
    assert len(winners) == 1
    copy = seen(place)
    assert (copy.token, copy.holder) == (winners[0], holder(winners[0]))
    assert copy.fence == Fence(1, winners[0])
    # What they knew before the winner came is old when it goes: the fence has risen.
    let_go({"lb1": place}, winners[0])
    with ThreadPoolExecutor(RACERS) as threads:
        again = list(threads.map(lambda t: take(place, t), tokens))
    assert [t.holder for t, is_in in zip(tokens, again, strict=True) if is_in] == winners
    assert not [name for name in state_of(place) if name.startswith(".holder")]


def test_of_twenty_who_resume_a_dead_one_at_once_one_goes_on(place: Place) -> None:
    take(place, ANN)
    let_the_heart_be(place, EXPIRY_S + 5)
    tokens = [FenceToken("r1", 2, f"racer{number}") for number in range(RACERS)]
    with ThreadPoolExecutor(RACERS) as threads:
        came = list(threads.map(lambda t: take(place, t), tokens))
    winners = [t for t, is_in in zip(tokens, came, strict=True) if is_in]
    assert len(winners) == 1

    def write(token: FenceToken) -> Outcome:
        return append_copy(place, token, [b"line\n"], size=0, tail=b"", step="x").outcome

    assert {token: write(token) for token in (ANN, *tokens)} == {
        token: Outcome.DONE if token == winners[0] else Outcome.REFUSED for token in (ANN, *tokens)
    }


@pytest.mark.parametrize("ahead_s", [1, 20])
def test_a_beat_a_little_ahead_of_the_clock_is_a_living_ones(place: Place, ahead_s: int) -> None:
    take(place, ANN)
    let_the_heart_be(place, -ahead_s)
    assert seen(place).is_held
    assert not take(place, BOB)


def test_a_clock_that_was_set_back_keeps_a_dead_ones_lock_no_longer_than_the_expiry(
    place: Place,
) -> None:
    """By its beat alone it would live until the clock has come there again: an hour, here."""
    take(place, ANN)
    let_the_heart_be(place, -3600)
    assert not seen(place).is_held
    assert not take(place, BOB)
    age_s = seen(place).heartbeat_age_s
    assert age_s is not None
    assert 0 <= age_s < EXPIRY_S
    let_the_heart_be(place, EXPIRY_S + 1)
    assert take(place, BOB)


def test_a_clock_that_was_set_back_takes_nothing_from_a_living_holder(place: Place) -> None:
    take(place, ANN)
    let_the_heart_be(place, -3600)
    assert not take(place, BOB)
    run_script(place.connection, "record_beat", [place.state_dir, "ann"], limit_ms=10_000)
    assert seen(place).is_held
    assert not take(place, BOB)
    assert seen(place).fence == Fence(1, "ann")


def test_a_clock_that_jumps_ahead_lets_a_takeover_happen_and_the_other_write_nothing(
    place: Place,
) -> None:
    """It looks dead until its next beat; if somebody takes it in that moment, the fence decides."""
    take(place, ANN)
    let_the_heart_be(place, 600)
    assert take(place, BOB)
    run_script(place.connection, "record_beat", [place.state_dir, "ann"], limit_ms=10_000)
    late = append_copy(place, ANN, [b"late\n"], size=0, tail=b"", step="x")
    assert late.is_fenced
    assert not (Path(place.state_dir) / "r1.jsonl").exists()
    assert (seen(place).token, seen(place).fence) == ("bob", Fence(2, "bob"))


def test_a_beat_of_another_life_changes_nothing(place: Place) -> None:
    take(place, ANN)
    let_the_heart_be(place, 20)
    run_script(place.connection, "record_beat", [place.state_dir, "eve"], limit_ms=10_000)
    assert (seen(place).heartbeat_age_s or 0) >= 20


class _Vanishing(LocalConnection):
    """A machine where the holder gives the lock up while the script that asks for it runs."""

    def __init__(self, place: Path, bin_dir: Path) -> None:
        bin_dir.mkdir()
        program = bin_dir / "stat"
        lost = " ".join(f"'{place}/{n}'" for n in ("holder", "held_by", "heartbeat", "step"))
        write_program(program, f'#!/bin/sh\nrm -f {lost}\nexec /usr/bin/stat "$@"\n')
        super().__init__(environment={"PATH": f"{bin_dir}:{os.environ['PATH']}"})


def test_a_lock_that_is_given_up_while_it_is_asked_for_is_free(tmp_path: Path) -> None:
    quiet = Place(LocalConnection(), str(tmp_path / "state"))
    vanishing = Place(_Vanishing(tmp_path / "state", tmp_path / "bin"), quiet.state_dir)
    take(quiet, ANN)
    assert not seen(vanishing).is_held
    let_go({"lb1": quiet}, "ann")
    take(quiet, ANN)
    assert take(vanishing, BOB)
    copy, why = watch_lock(vanishing, seen(quiet), 30)
    assert copy is not None, why
    assert not copy.is_held


def test_giving_it_up_takes_nothing_from_who_takes_it_at_that_moment(place: Place) -> None:
    """Who takes it holds the machine's own lock meanwhile, and is waited for."""
    take(place, ANN)
    folder = Path(place.state_dir)
    goes_on = threading.Event()

    def take_slowly() -> None:
        words = (
            'exec 9>>"$1/lock"; flock 9; : > "$1/taken"; cat >/dev/null; echo bob > "$1/held_by"'
        )

        def feed() -> Iterator[bytes]:
            goes_on.wait(30)
            yield b""

        place.connection.run(["sh", "-c", words, "x", str(folder)], stdin=feed(), limit_ms=30_000)

    taker = threading.Thread(target=take_slowly)
    taker.start()
    wait_until((folder / "taken").exists)
    timer = threading.Timer(0.3, goes_on.set)
    timer.start()
    assert let_go({"lb1": place}, "ann")["lb1"].outcome is Outcome.REFUSED
    taker.join(30)
    assert seen(place).token == "bob"


def test_giving_it_up_takes_nothing_from_who_takes_it_for_longer_than_is_waited(
    place: Place, tmp_path: Path
) -> None:
    """The fence is synced to a slow disk meanwhile, and the dead one's lock is still there."""
    take(place, ANN)
    let_the_heart_be(place, EXPIRY_S + 5)
    bin_dir = tmp_path / "bin"
    bin_dir.mkdir()
    program = bin_dir / "sync"
    write_program(program, f"#!/bin/sh\n: > '{tmp_path}/syncs'\nsleep 3\n")
    slow = LocalConnection(environment={"PATH": f"{bin_dir}:{os.environ['PATH']}"})
    taker = threading.Thread(target=take, args=(Place(slow, place.state_dir), BOB))
    taker.start()
    wait_until((tmp_path / "syncs").exists)
    reply = let_go({"lb1": place}, "ann")["lb1"]
    assert (reply.outcome, "busy" in reply.detail) == (Outcome.REFUSED, True)
    taker.join(60)
    assert (seen(place).token, seen(place).holder) == ("bob", holder("bob"))


def test_an_earlier_command_that_still_runs_keeps_nobody_from_giving_it_up(place: Place) -> None:
    take(place, ANN)
    folder = Path(place.state_dir)
    (folder / ".holder.999999999").write_text("left behind by a script that was killed")
    goes_on = threading.Event()

    def outlive() -> None:
        words = 'exec 9>>"$1/lock"; flock 9; : > "$1/at_work"; cat >/dev/null'

        def feed() -> Iterator[bytes]:
            goes_on.wait(60)
            yield b""

        place.connection.run(["sh", "-c", words, "x", str(folder)], stdin=feed(), limit_ms=90_000)

    command = threading.Thread(target=outlive)
    command.start()
    wait_until((folder / "at_work").exists)
    assert let_go({"lb1": place}, "ann")["lb1"].outcome is Outcome.DONE
    assert command.is_alive()
    goes_on.set()
    command.join(60)
    assert seen(place).holder is None


Change = Callable[[Place], object]


def the_step(place: Place) -> None:
    append_copy(place, ANN, [b"line\n"], size=0, tail=b"", step="activate app1")


def another_holder(place: Place) -> None:
    hold({"lb1": place}, BOB, holder("bob"), dead="ann")


def the_end(place: Place) -> None:
    let_go({"lb1": place}, "ann")


def the_expiry(place: Place) -> None:
    let_the_heart_be(place, EXPIRY_S + 1)


@pytest.mark.parametrize("change", [the_step, another_holder, the_end, the_expiry])
def test_a_wait_over_there_ends_with_any_change_and_tells_it(place: Place, change: Change) -> None:
    take(place, ANN)
    came: list[Copy | None] = []
    waiter = threading.Thread(target=lambda: came.append(watch_lock(place, seen(place), 60)[0]))
    waiter.start()
    waiter.join(1.5)
    assert waiter.is_alive()
    change(place)
    waiter.join(30)
    assert came
    assert came[0] is not None
    assert came[0].is_held == (change in {the_step, another_holder})
    if change is the_step:
        assert came[0].step == "activate app1"
    if change is another_holder:
        assert (came[0].token, came[0].holder) == ("bob", holder("bob"))


def test_a_wait_that_also_listens_to_the_heart_ends_with_its_next_beat(place: Place) -> None:
    take(place, ANN)
    let_the_heart_be(place, 10)
    known = seen(place)
    silent, _ = watch_lock(place, known, 2, also_beats=True)
    assert silent is not None
    assert silent.beat == known.beat
    run_script(place.connection, "record_beat", [place.state_dir, "ann"], limit_ms=10_000)
    heard, _ = watch_lock(place, known, 60, also_beats=True)
    assert heard is not None
    assert (heard.is_held, heard.token) == (True, "ann")
    assert heard.beat != known.beat


def test_a_wait_ends_at_its_limit_and_with_its_channel(place: Place) -> None:
    take(place, ANN)
    began = time.monotonic()
    copy, _ = watch_lock(place, seen(place), 2)
    assert copy is not None
    assert copy.is_held
    assert time.monotonic() - began >= 2
    connection = place.connection
    assert isinstance(connection, LocalConnection)
    known = seen(place)
    waiter = threading.Thread(target=lambda: watch_lock(place, known, 60))
    waiter.start()
    wait_until(lambda: bool(watching(place)))
    connection.close()
    wait_until(lambda: not watching(place))
    waiter.join(30)
    assert not waiter.is_alive()


def watching(place: Place) -> list[str]:
    """Answers the processes that wait for this place's lock."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                words = (folder / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"rolling-deploy:record_watch" in words and place.state_dir.encode() in words:
                found.append(folder.name)
    return found


def test_nobody_waits_for_a_lock_that_is_not_held(place: Place) -> None:
    began = time.monotonic()
    copy, _ = watch_lock(place, Copy(Fence(0, "-")), 60)
    assert copy is not None
    assert not copy.is_held
    assert time.monotonic() - began < 30
