"""The copies of the record on real directories: what is added, what is refused, who holds it."""

from __future__ import annotations

import hashlib
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pytest

from rolling_deploy.errors import RecordWrong, RolloutHalted, RolloutHeld
from rolling_deploy.inventory import load_inventory
from rolling_deploy.operations.desk import Desk
from rolling_deploy.operations.in_hand import find
from rolling_deploy.operations.life import begin
from rolling_deploy.operations.machines import WallClock
from rolling_deploy.operations.record import RecordJournal
from rolling_deploy.operations.site import Site
from rolling_deploy.ports import Event, FenceToken
from rolling_deploy.remote.connection import Answer
from rolling_deploy.remote.record_copies import (
    EXPIRY_S,
    Copy,
    Heart,
    Holder,
    Place,
    append_copy,
    hold,
    let_go,
    read_copies,
)
from rolling_deploy.remote.script import Reply, fence_arguments, parse_reply, text_of
from rolling_deploy.rollout.facts import Claimed, Waiting
from rolling_deploy.rollout.journal import GENESIS, Chain, Entry, encode
from rolling_deploy.rollout.step import Outcome
from rolling_deploy.state.record_file import Records
from tests.local_connection import LocalConnection
from tests.sshd import wait_until
from tests.values import opened

pytestmark = pytest.mark.timeout(120)

LINES: list[bytes] = []
_last = GENESIS
for _number in range(1, 6):
    _fact = Claimed(1, ("app1",)) if _number == 1 else Waiting(f"drain {_number}")
    _line, _last = encode(Entry(_number, _number, 1, "ann", _fact), _last)
    LINES.append(_line)
WHOLE = b"".join(LINES)
ANN, BOB = FenceToken("r1", 1, "ann"), FenceToken("r1", 2, "bob")


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(LocalConnection(), str(tmp_path / "state"))


def file_of(place: Place) -> Path:
    return Path(place.state_dir) / "r1.jsonl"


def give(place: Place, known: int, *, upto: int = 5, token: FenceToken = ANN) -> Reply:
    """Give the lines after the first `known`, as one who knows that the place holds those."""
    size = sum(map(len, LINES[:known]))
    tail = LINES[known - 1] if known else b""
    return append_copy(place, token, LINES[known:upto], size=size, tail=tail, step="draining")


def held_copy(place: Place, rollout: str = "") -> Copy:
    copies, failures = read_copies({"lb1": place}, rollout)
    assert not failures
    return copies["lb1"]


def holder(who: str = "ann", expiry_s: int = EXPIRY_S) -> Holder:
    return Holder(who, "laptop", "", 1, "r1", "", expiry_s)


def let_the_heart_be(place: Place, age_s: int) -> None:
    """Let the heart have beaten so long ago by the machine's clock; a negative age is ahead."""
    beat = Path(place.state_dir) / "heartbeat"
    at = time.time() - age_s  # noqa: TID251 # a file's time
    os.utime(beat, (at, at))


def names(place: Place) -> set[str]:
    return {path.name for path in Path(place.state_dir).iterdir()}


def test_nothing_there_is_no_copy(place: Place) -> None:
    copy = held_copy(place)
    assert (copy.current, copy.chain, copy.holder, copy.problem) == ("", None, None, "")
    assert copy.fence.epoch == 0
    assert not Path(place.state_dir).exists()


def test_lines_are_added_behind_exactly_what_is_known(place: Place) -> None:
    assert give(place, 0, upto=2).outcome is Outcome.DONE
    reply = give(place, 2)
    assert (reply.outcome, reply.one("size")) == (Outcome.DONE, str(len(WHOLE)))
    assert file_of(place).read_bytes() == WHOLE
    copy = held_copy(place)
    assert copy.chain is not None
    assert (copy.chain.lines, copy.current, copy.fence.epoch) == (tuple(LINES), "r1", 1)
    assert names(place) == {
        "r1.jsonl",
        "current",
        "step",
        "intent",
        "heartbeat",
        "fence",
        "lock",
    }


@pytest.mark.parametrize("arrived", [1, 2, 3])
def test_a_lost_acknowledgement_is_recognised(place: Place, arrived: int) -> None:
    give(place, 0, upto=2)
    give(place, 2, upto=2 + arrived)
    assert give(place, 2).outcome is Outcome.DONE
    assert file_of(place).read_bytes() == WHOLE


@pytest.mark.parametrize("cut", [1, 7, 60])
def test_a_torn_tail_is_completed(place: Place, cut: int) -> None:
    give(place, 0, upto=2)
    known = b"".join(LINES[:2])
    file_of(place).write_bytes(known + LINES[2][:cut])
    assert give(place, 2).outcome is Outcome.DONE
    assert file_of(place).read_bytes() == WHOLE


def test_a_copy_that_goes_on_otherwise_is_left_as_it_is(place: Place) -> None:
    give(place, 0, upto=3)
    theirs = b"".join(LINES[:3]) + b'{"somebody":"else"}\n'
    file_of(place).write_bytes(theirs)
    reply = give(place, 3)
    assert (reply.outcome, "differs" in reply.detail) == (Outcome.REFUSED, True)
    assert file_of(place).read_bytes() == theirs
    assert not names(place) & {".extra", ".begin"}


def test_a_copy_with_another_last_line_of_the_same_length_is_a_fork(place: Place) -> None:
    theirs = b"".join(LINES[:1]) + LINES[1].replace(b"drain", b"DRAIN")
    give(place, 0, upto=1)
    file_of(place).write_bytes(theirs)
    reply = give(place, 2)
    assert (reply.outcome, "differs" in reply.detail) == (Outcome.REFUSED, True)
    assert file_of(place).read_bytes() == theirs


def test_a_copy_that_lost_lines_says_where_it_ends(place: Place) -> None:
    give(place, 0, upto=1)
    reply = give(place, 3)
    assert (reply.outcome, "behind" in reply.detail) == (Outcome.REFUSED, True)
    assert int(reply.one("size")) == len(LINES[0])
    assert give(place, 1).outcome is Outcome.DONE
    assert file_of(place).read_bytes() == WHOLE


def test_lines_cut_short_on_the_way_change_nothing(place: Place) -> None:
    give(place, 0, upto=2)
    before = file_of(place).read_bytes()
    cut = Place(_CuttingConnection(), place.state_dir)
    assert give(cut, 2).outcome is Outcome.FAILED
    assert file_of(place).read_bytes() == before
    assert not [name for name in names(place) if name.startswith(".append")]


def test_a_record_that_cannot_be_named_as_the_one_in_hand_is_not_taken_and_given_again(
    place: Place,
) -> None:
    """Else whoever resumes from another machine would find no unfinished rollout."""
    obstacle = Path(place.state_dir) / ".current"
    obstacle.mkdir(parents=True)
    assert give(place, 0, upto=2).outcome is Outcome.FAILED
    obstacle.rmdir()
    assert give(place, 0, upto=3).outcome is Outcome.DONE
    assert file_of(place).read_bytes() == b"".join(LINES[:3])
    assert held_copy(place).current == "r1"


class _CuttingConnection(LocalConnection):
    """A link that loses the end of what is sent, and does not know it."""

    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes | Iterable[bytes] = b"",
        limit_ms: int,
        holds_stdin: bool = False,
    ) -> Answer:
        sent = stdin if isinstance(stdin, bytes) else b"".join(stdin)
        return super().run(argv, stdin=sent[:-7], limit_ms=limit_ms, holds_stdin=holds_stdin)


def test_who_was_replaced_adds_nothing(place: Place) -> None:
    give(place, 0, upto=2)
    hold({"lb1": place}, BOB, holder("bob"), dead="ann")
    reply = give(place, 2)
    assert (reply.outcome, reply.is_fenced) == (Outcome.REFUSED, True)
    assert file_of(place).read_bytes() == b"".join(LINES[:2])
    assert give(place, 2, token=BOB).outcome is Outcome.DONE


class _StillStanding(LocalConnection):
    """A machine whose answer to a script comes when nobody waits for it any more: whoever asked
    stood still, and meanwhile somebody may have done something there.
    """

    def __init__(self, meanwhile: Callable[[], object], script: str = "record_append") -> None:
        super().__init__()
        self._meanwhile, self._script = meanwhile, script

    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes | Iterable[bytes] = b"",
        limit_ms: int,
        holds_stdin: bool = False,
    ) -> Answer:
        if not any(self._script in word for word in argv[:6]):
            return super().run(argv, stdin=stdin, limit_ms=limit_ms, holds_stdin=holds_stdin)
        self._meanwhile()
        return Answer(False, None, b"", b"", f"no end within {limit_ms} ms")


@pytest.mark.parametrize("is_overtaken", [True, False])
def test_one_who_stood_still_for_longer_than_it_waits_learns_who_took_over(
    tmp_path: Path, *, is_overtaken: bool
) -> None:
    """Without that it would only know that nobody answered, and advise to go on."""
    state = str(tmp_path / "state")
    there = Place(LocalConnection(), state)
    hold({"lb1": there}, ANN, holder())

    def overtake() -> None:
        if is_overtaken:
            hold({"lb1": there}, BOB, holder("bob"), dead="ann")

    file = Records(tmp_path / "own", "shop").file("r1")
    places = {"lb1": Place(_StillStanding(overtake), state)}
    journal = RecordJournal(file, places, ANN, WallClock(), Chain())
    journal.begin({})
    with pytest.raises(RolloutHeld if is_overtaken else RolloutHalted):
        journal.append((Waiting("drain"),), before_acting=True)
    file.close()


@pytest.mark.parametrize("is_overtaken", [True, False])
def test_one_who_stood_still_while_it_took_the_lock_learns_who_took_over(
    place: Place, tmp_path: Path, *, is_overtaken: bool
) -> None:
    """Nothing is wrong with the machines then: a CI job has to hear that somebody else is at it."""
    first = opened(load_balancers=("lb1",))

    def overtake() -> None:
        if is_overtaken:
            hold({"lb1": place}, FenceToken(first.rollout, 1, "bob"), holder("bob"))

    path = tmp_path / "inventory.yaml"
    path.write_text(INVENTORY.replace("STATE", place.state_dir))
    desk = Desk(load_inventory(path), tmp_path / "own", _Silent(), lambda _: True)
    site = Site(desk.inventory, {"lb1": _StillStanding(overtake, "record_hold")})
    with pytest.raises(RolloutHeld if is_overtaken else RolloutHalted) as caught:
        begin(desk, site, find(site, desk.records, "here"), first)
    assert caught.value.exit_code == (5 if is_overtaken else 4)
    held = held_copy(place).holder
    assert (held.who if held else "") == ("bob" if is_overtaken else "")


class _Silent:
    """Whoever is told nothing here. Implements `ports.Reporter`."""

    def event(self, event: Event) -> None:
        del event


def test_who_holds_it_is_told_to_the_next(place: Place) -> None:
    assert hold({"lb1": place}, ANN, holder()) == {}
    give(place, 0)
    assert hold({"lb1": place}, ANN, holder()) == {}
    with pytest.raises(
        RolloutHeld,
        match="ann on laptop holds rollout r1 since 1970-01-01 00:00:00 UTC, now at: draining",
    ):
        hold({"lb1": place}, BOB, holder("bob"))
    copy = held_copy(place)
    assert (copy.holder, copy.step, copy.is_held) == (holder(), "draining", True)
    assert copy.fence.epoch == 1


def test_a_holder_whose_heart_stopped_long_ago_is_dead(place: Place) -> None:
    hold({"lb1": place}, ANN, holder())
    beat = Path(place.state_dir) / "heartbeat"
    long_ago = beat.stat().st_mtime - EXPIRY_S - 2
    os.utime(beat, (long_ago, long_ago))
    assert not held_copy(place).is_held
    assert hold({"lb1": place}, BOB, holder("bob")) == {}
    copy = held_copy(place)
    assert (copy.holder, copy.is_held, copy.fence.epoch) == (holder("bob"), True, 2)


def test_a_holder_known_to_be_dead_need_not_expire(place: Place) -> None:
    hold({"lb1": place}, ANN, holder())
    with pytest.raises(RolloutHeld):
        hold({"lb1": place}, BOB, holder("bob"), dead="somebody")
    assert hold({"lb1": place}, BOB, holder("bob"), dead="ann") == {}
    assert held_copy(place).holder == holder("bob")


def test_of_two_who_come_at_once_one_holds_it(place: Place) -> None:
    """The lower epoch never comes second."""
    told: list[str] = []

    def come(token: FenceToken) -> None:
        try:
            hold({"lb1": place}, token, holder(token.holder))
            told.append(token.holder)
        except RolloutHeld:
            pass

    racers = [threading.Thread(target=come, args=(t,)) for t in (ANN, FenceToken("r1", 1, "eve"))]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join(60)
    assert len(told) == 1
    assert held_copy(place).holder == holder(told[0])


def test_it_is_given_up_only_by_its_own_token(place: Place) -> None:
    hold({"lb1": place}, ANN, holder())
    assert let_go({"lb1": place}, "bob")["lb1"].outcome is Outcome.REFUSED
    assert held_copy(place).is_held
    assert let_go({"lb1": place}, "ann")["lb1"].outcome is Outcome.DONE
    assert held_copy(place).holder is None
    assert names(place) <= {"fence", "lock"}


@pytest.mark.parametrize("script", ["record_append", "record_hold"])
def test_a_sender_that_stands_still_keeps_nobody_out(place: Place, script: str) -> None:
    give(place, 0, upto=2)
    content = LINES[2] if script == "record_append" else holder().to_json()
    size, tail = sum(map(len, LINES[:2])), hashlib.sha256(LINES[1]).hexdigest()
    words = {
        "record_append": ["r1", str(size), tail, hashlib.sha256(content).hexdigest(), "x"],
        "record_hold": [str(EXPIRY_S), "r1", ""],
    }[script]
    sender = subprocess.Popen(
        ["sh", "-c", text_of(script), script, *fence_arguments(place.state_dir, ANN), *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert sender.stdin
    sender.stdin.write(content[:20])
    sender.stdin.flush()
    wait_until(lambda: any(name.endswith(f".{sender.pid}") for name in names(place)))
    began = time.monotonic()
    assert hold({"lb1": place}, BOB, holder("bob"), dead="ann") == {}
    assert give(place, 2, token=BOB).outcome is Outcome.DONE
    # The lock is waited for 10 s by whoever does not get it.
    assert time.monotonic() - began < 9
    out, err = sender.communicate(content[20:], timeout=30)
    late = parse_reply(out, err)
    assert late.outcome is Outcome.REFUSED
    assert late.is_fenced or "held" in late.values
    assert file_of(place).read_bytes() == WHOLE
    assert held_copy(place).holder == holder("bob")
    assert not any(name.endswith(f".{sender.pid}") for name in names(place))


@pytest.mark.parametrize("obstacle", ["current", "r1.jsonl", "holder", "fence"])
def test_what_is_there_and_cannot_be_read_is_a_problem_and_not_nothing(
    place: Place, obstacle: str
) -> None:
    hold({"lb1": place}, ANN, holder())
    give(place, 0)
    path = Path(place.state_dir) / obstacle
    path.unlink()
    path.mkdir()
    copy = held_copy(place)
    assert str(path) in copy.problem
    assert copy.chain is None


@pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user needs root")
@pytest.mark.parametrize("closed", ["state", "above", "file"])
def test_what_another_user_wrote_is_a_problem_and_not_nothing(tmp_path: Path, closed: str) -> None:
    for folder in (tmp_path, *tmp_path.parents[:3]):
        folder.chmod(folder.stat().st_mode | 0o011)
    above = tmp_path / "above"
    above.mkdir()
    place = Place(LocalConnection(), str(above / "state"))
    give(place, 0)
    above.chmod(0o700 if closed == "above" else 0o755)
    Path(place.state_dir).chmod(0o700 if closed == "state" else 0o755)
    for name in ("fence", "current"):
        (Path(place.state_dir) / name).chmod(0o644)
    copy = held_copy(Place(LocalConnection(user=65_534), place.state_dir))
    assert copy.problem.startswith("cannot read" if closed == "file" else "cannot look into")
    assert copy.chain is None


def test_a_copy_that_is_no_record_is_a_problem(place: Place) -> None:
    give(place, 0)
    file_of(place).write_bytes(WHOLE.replace(b"app1", b"app2"))
    assert "lb1:r1.jsonl" in held_copy(place).problem


class _HangingConnection(LocalConnection):
    """A machine that does not answer until it is let go."""

    def __init__(self, goes_on: threading.Event) -> None:
        super().__init__()
        self._goes_on = goes_on

    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes | Iterable[bytes] = b"",
        limit_ms: int,
        holds_stdin: bool = False,
    ) -> Answer:
        self._goes_on.wait(60)
        return Answer(False, None, b"", b"", f"no end within {limit_ms} ms")


def test_machines_that_hang_do_not_keep_another_from_being_told_that_we_live(
    place: Place,
) -> None:
    hold({"lb3": place}, ANN, holder())
    beat = Path(place.state_dir) / "heartbeat"
    os.utime(beat, (1_000_000, 1_000_000))
    goes_on = threading.Event()
    hanging = Place(_HangingConnection(goes_on), place.state_dir)
    heart = Heart({"lb1": hanging, "lb2": hanging, "lb3": place}, "ann", 0.3)
    heart.start()
    try:
        # Again and again, not only once before the others hang.
        for _ in range(3):
            wait_until(lambda: beat.stat().st_mtime > 1_000_000)
            os.utime(beat, (1_000_000, 1_000_000))
    finally:
        heart.stop()
        goes_on.set()


INVENTORY = """\
application: shop
hosts: {lb1: {}, web1: {}}
load_balancers: [{name: lb1, nginx: {state_dir: STATE}}]
upstreams: [{name: tomcat}]
upgrade: {strategy: tomcat, artifact: "build/shop-{release}.war"}
backends:
  - {name: app1, host: web1, address: "10.0.0.11:8080", upgrade: {catalina_base: /srv/app1}}
  - {name: app2, host: web1, address: "10.0.0.11:8081", upgrade: {catalina_base: /srv/app2}}
"""


def test_a_copy_that_cannot_be_read_stops_whoever_looks_for_the_rollout_in_hand(
    place: Place, tmp_path: Path
) -> None:
    """Taken for none, it would let a second rollout begin beside the one in hand."""
    path = tmp_path / "inventory.yaml"
    path.write_text(INVENTORY.replace("STATE", place.state_dir))
    site = Site(load_inventory(path), {"lb1": LocalConnection()})
    assert find(site, Records(tmp_path / "own", "shop"), "here").chain is None
    give(place, 0)
    (Path(place.state_dir) / "current").unlink()
    (Path(place.state_dir) / "current").mkdir()
    with pytest.raises(RecordWrong, match="the copy of the record on lb1 cannot be used"):
        find(site, Records(tmp_path / "own", "shop"), "here")


@pytest.mark.parametrize(
    "loose", [LINES[2][:-5], LINES[2] + LINES[3], b"half a line of another life"]
)
def test_what_was_judged_loose_is_cut_off_and_kept_aside(place: Place, loose: bytes) -> None:
    """Half a line of a life that ended, or the end of one that was taken over."""
    give(place, 0, upto=2)
    known = file_of(place).read_bytes()
    file_of(place).write_bytes(known + loose)
    other = b"another third line\n"
    words = {"size": len(known), "tail": LINES[1], "step": "x"}
    refused = append_copy(place, BOB, [other], **words)  # type: ignore[arg-type] # as they are named
    assert refused.outcome is Outcome.REFUSED
    assert file_of(place).read_bytes() == known + loose
    taken = append_copy(place, BOB, [other], **words, loose=loose)  # type: ignore[arg-type] # as they are named
    assert taken.outcome is Outcome.DONE
    assert file_of(place).read_bytes() == known + other
    assert (Path(place.state_dir) / "r1.jsonl.loose.2").read_bytes() == loose


def test_what_grew_since_it_was_judged_loose_is_not_cut_off(place: Place) -> None:
    give(place, 0, upto=2)
    known = file_of(place).read_bytes()
    file_of(place).write_bytes(known + b"half and more")
    words = {"size": len(known), "tail": LINES[1], "step": "x", "loose": b"half"}
    reply = append_copy(place, BOB, [b"other\n"], **words)  # type: ignore[arg-type] # as they are named
    assert reply.outcome is Outcome.REFUSED
    assert file_of(place).read_bytes() == known + b"half and more"
