"""What the record's remote commands promise, asked of the real scripts and of the simulated ones.

The simulator tells these scripts again in Python, and the one that reads access logs; here both
answer the same questions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Protocol

import pytest

from rolling_deploy.errors import RolloutHeld
from rolling_deploy.parallel import in_turn
from rolling_deploy.ports import FenceToken
from rolling_deploy.remote.access_log import Piece, read_logs
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
from rolling_deploy.remote.script import Reply
from rolling_deploy.rollout.facts import Waiting
from rolling_deploy.rollout.journal import GENESIS, Entry, encode
from rolling_deploy.rollout.step import Outcome
from tests.local_connection import LocalConnection
from tests.simulation import requests
from tests.simulation.contract import SimulatedContract, T
from tests.simulation.wire import Wire

TOKEN = FenceToken("r-1", 5, "ann")
NEWER = FenceToken("r-1", 6, "bob")
ANN = Holder("ann", "laptop", "", 1_700_000_000_000, "r-1", "")
BOB = replace(ANN, who="bob")


class Ask(Protocol):
    """Has a question answered, in whatever time the machine lives in."""

    def __call__(self, question: Callable[[], T]) -> T:
        """Answers it."""


def at_once(question: Callable[[], T]) -> T:
    """Real machines answer by themselves."""
    return question()


class Copies:
    """One load balancer's copy, real or simulated, asked through the production adapter."""

    def __init__(self, place: Place, ask: Ask) -> None:
        self._place = place
        self._ask = ask

    def append(
        self, lines: Sequence[bytes], known: Sequence[bytes] = (), token: FenceToken = TOKEN
    ) -> Reply:
        """Add lines behind the known ones."""
        size, tail = sum(map(len, known)), known[-1] if known else b""
        return self._ask(
            lambda: append_copy(self._place, token, lines, size=size, tail=tail, step="doing")
        )

    def hold(self, token: FenceToken, holder: Holder, dead: str = "") -> dict[str, str]:
        """Take the lock."""
        return self._ask(lambda: hold({"lb1": self._place}, token, holder, dead=dead))

    def let_go(self, holder: str) -> Reply:
        """Give it up."""
        return self._ask(lambda: let_go({"lb1": self._place}, holder))["lb1"]

    def watch(self, known: Copy, *, also_beats: bool = False) -> Copy:
        """Wait a second at the most for the lock to be another than the known one."""
        copy, why = self._ask(lambda: watch_lock(self._place, known, 1, also_beats=also_beats))
        assert copy is not None, why
        return copy

    def read(self) -> Copy:
        """What is there."""
        return self._ask(lambda: read_copies({"lb1": self._place}))[0]["lb1"]


@pytest.fixture(params=["simulated", "real"])
def copies(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Copies]:
    """A load balancer without any record."""
    if request.param == "real":
        yield Copies(Place(LocalConnection(), str(tmp_path / "state")), at_once)
        return
    with in_turn():
        simulated = SimulatedContract()
        place = Place(Wire(simulated.in_turns.by, "lb1"), "/state")
        yield Copies(place, simulated.in_turns.ask)
    simulated.world.scheduler.end()


def lines_of(*texts: str) -> list[bytes]:
    """A chain of so many lines."""
    lines, previous = [], GENESIS
    for number, text in enumerate(texts, start=1):
        line, previous = encode(Entry(number, 1, 5, "ann", Waiting(text)), previous)
        lines.append(line)
    return lines


def test_what_was_added_is_read_again(copies: Copies) -> None:
    one, two, three = lines_of("one", "two", "three")
    assert copies.append([one, two]).outcome is Outcome.DONE
    assert copies.append([three], [one, two]).outcome is Outcome.DONE
    copy = copies.read()
    assert copy.chain is not None
    assert copy.chain.lines == (one, two, three)
    assert copy.current == "r-1"
    assert copy.fence.epoch == TOKEN.epoch


def test_lines_whose_acknowledgement_was_lost_are_taken_again(copies: Copies) -> None:
    one, two = lines_of("one", "two")
    copies.append([one])
    assert copies.append([one, two]).outcome is Outcome.DONE
    chain = copies.read().chain
    assert chain is not None
    assert chain.lines == (one, two)


def test_a_copy_that_is_behind_says_where_it_ends(copies: Copies) -> None:
    one, two, three = lines_of("one", "two", "three")
    copies.append([one])
    reply = copies.append([three], [one, two])
    assert (reply.outcome, reply.one("size")) == (Outcome.REFUSED, str(len(one)))
    assert "behind" in reply.detail


def test_a_copy_that_goes_on_otherwise_is_not_added_to(copies: Copies) -> None:
    one, two = lines_of("one", "two")
    copies.append([one, two])
    other = lines_of("one", "other")
    for lines, known in (([other[1]], [one]), ([lines_of("x", "y", "z")[2]], lines_of("x", "y"))):
        reply = copies.append(lines, known)
        assert reply.outcome is Outcome.REFUSED
        assert not reply.is_fenced
    chain = copies.read().chain
    assert chain is not None
    assert chain.lines == (one, two)


def test_whoever_was_overtaken_adds_nothing(copies: Copies) -> None:
    (one,) = lines_of("one")
    copies.hold(NEWER, BOB)
    for token in (TOKEN, replace(NEWER, holder="carl")):
        reply = copies.append([one], token=token)
        assert reply.outcome is Outcome.REFUSED
        assert reply.is_fenced
    assert copies.read().chain is None


def test_a_lock_is_one_holder_s_until_it_is_given_up_or_known_to_be_dead(copies: Copies) -> None:
    assert copies.hold(TOKEN, ANN) == {}
    with pytest.raises(RolloutHeld, match="ann on laptop"):
        copies.hold(NEWER, BOB)
    assert copies.let_go("bob").outcome is Outcome.REFUSED
    copy = copies.read()
    assert copy.is_held
    assert copy.holder == ANN
    assert copy.token == "ann"
    assert copies.let_go("ann").outcome is Outcome.DONE
    assert not copies.read().is_held
    assert copies.hold(TOKEN, ANN) == {}
    assert copies.hold(NEWER, BOB, dead="ann") == {}
    assert copies.read().fence.epoch == NEWER.epoch


def test_a_lock_is_watched_until_it_is_another_or_given_up(copies: Copies) -> None:
    nobody = copies.read()
    assert not copies.watch(nobody).is_held
    (one,) = lines_of("one")
    copies.hold(TOKEN, ANN)
    held = copies.watch(nobody)
    assert (held.is_held, held.token, held.holder) == (True, "ann", ANN)
    still = copies.watch(held, also_beats=True)
    assert (still.is_held, still.token, still.beat) == (True, "ann", held.beat)
    copies.append([one])
    assert copies.watch(still).step == "doing"
    copies.let_go("ann")
    assert not copies.watch(still).is_held


class Logs:
    """One load balancer's access log, real or simulated, read through the production adapter."""

    def __init__(self, path: Path | requests.RequestLog, wire: Wire | None, ask: Ask) -> None:
        self._log = path
        self._wire = wire
        self._ask = ask

    def fail(self, count: int) -> None:
        """So many requests are answered 502."""
        if isinstance(self._log, Path):
            with self._log.open("a") as file:
                file.write("502 app1:8080\n" * count)
        else:
            self._log.fail(0, "app1:8080", count)

    def rotate(self) -> None:
        """It gets another name, and a new one is begun."""
        if isinstance(self._log, Path):
            self._log.rename(self._log.with_name("access.log.1"))
            self._log.touch()
        else:
            self._log.rotate()

    def read(self, end: str) -> Piece:
        """What came since, in as many turns as it takes."""
        path = str(self._log) if isinstance(self._log, Path) else requests.PATH
        lines: list[bytes] = []
        for _ in range(5):
            came = self._ask(partial(read_logs, self._wire or LocalConnection(), {path: end}))
            assert isinstance(came, dict), came
            lines, end = [*lines, *came[path].lines], came[path].end
            if not came[path].has_more:
                break
        return Piece(tuple(lines), end)


@pytest.fixture(params=["simulated", "real"])
def logs(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Logs]:
    """A load balancer whose users have been there before."""
    if request.param == "real":
        path = tmp_path / "access.log"
        path.write_text("200 app1:8080\n")
        yield Logs(path, None, at_once)
        return
    with in_turn():
        simulated = SimulatedContract()
        log = simulated.world.balancers["lb1"].log
        log.asked_ms = simulated.world.now_ms + 10**9  # nobody else asks meanwhile
        yield Logs(log, Wire(simulated.in_turns.by, "lb1"), simulated.in_turns.ask)
    simulated.world.scheduler.end()


def test_what_is_written_to_an_access_log_is_read_once_rotated_or_not(logs: Logs) -> None:
    first = logs.read("")
    assert first.lines == ()
    logs.fail(2)
    second = logs.read(first.end)
    assert second.lines == (b"502 app1:8080",) * 2
    logs.fail(1)
    logs.rotate()
    logs.fail(3)
    third = logs.read(second.end)
    assert third.lines == (b"502 app1:8080",) * 4
    assert logs.read(third.end).lines == ()
