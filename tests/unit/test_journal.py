"""The chain: what a record's bytes mean, and every way they can be wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from typing import Any

import pytest

from rolling_deploy.errors import RecordWrong
from rolling_deploy.rollout.facts import FORMAT, Cause, Fact, Halted, TakenOver, Waiting
from rolling_deploy.rollout.journal import (
    GENESIS,
    Chain,
    Entry,
    agree,
    encode,
    entries_after,
    read_chain,
)
from tests.values import opened


def written(*facts: Fact) -> bytes:
    """Answers the bytes of a record of these facts."""
    content, previous = b"", GENESIS
    for entry in entries_after((), facts, at_ms=5, epoch=1, holder="laptop"):
        line, previous = encode(entry, previous)
        content += line
    return content


THREE = written(opened(), Waiting("drain"), TakenOver("me", lost=True))


def reworked(line: int, change: Callable[[dict[str, Any]], object]) -> bytes:
    """Answers the record with one line changed and its hash made to fit, as a newer version may."""
    lines = THREE.splitlines(keepends=True)
    plain = json.loads(lines[line - 1])
    del plain["hash"]
    change(plain)
    text = json.dumps(plain, sort_keys=True, separators=(",", ":")).encode()
    plain["hash"] = sha256(text).hexdigest()
    lines[line - 1] = json.dumps(plain, sort_keys=True, separators=(",", ":")).encode() + b"\n"
    return b"".join(lines)


def test_what_was_written_is_read_back() -> None:
    chain = read_chain(THREE, "record")
    assert chain.entries[1] == Entry(2, 5, 1, "laptop", Waiting("drain"))
    assert (len(chain.entries), chain.size, chain.torn) == (3, len(THREE), 0)
    assert b"".join(chain.lines) == THREE


def test_an_empty_record_is_an_empty_chain() -> None:
    assert read_chain(b"", "record") == Chain()


@pytest.mark.parametrize("cut", [1, 40, 100])
def test_a_half_written_last_line_is_dropped_and_reported(cut: int) -> None:
    chain = read_chain(THREE[:-cut], "record")
    assert len(chain.entries) == 2
    assert chain.torn == len(THREE) - cut - chain.size > 0


@pytest.mark.parametrize(
    "lines",
    [(0, 2), (1, 2), (0, 0, 1), (1, 0, 2), (0, 1, 1)],
    ids=["one left out", "the first left out", "one twice", "two swapped", "the last twice"],
)
def test_lines_left_out_repeated_or_swapped_are_refused_naming_the_line(
    lines: tuple[int, ...],
) -> None:
    whole = THREE.splitlines(keepends=True)
    with pytest.raises(RecordWrong, match="changed after it was written") as caught:
        read_chain(b"".join(whole[n] for n in lines), "record")
    assert caught.value.where.startswith("record:")


def test_a_line_of_another_record_does_not_fit_in() -> None:
    other = written(replace(opened(), by="another"), Waiting("drain"))
    lines = [THREE.splitlines(keepends=True)[0], other.splitlines(keepends=True)[1]]
    with pytest.raises(RecordWrong, match="changed after it was written") as caught:
        read_chain(b"".join(lines), "record")
    assert caught.value.where == "record:2"


@pytest.mark.parametrize("old", [b"drain", b"laptop", b'"seq":2', b'"at_ms":5'])
def test_a_changed_line_is_refused(old: bytes) -> None:
    changed = THREE.replace(old, old[:-1] + bytes([old[-1] ^ 1]))
    with pytest.raises(RecordWrong, match=r"changed after|cannot be read"):
        read_chain(changed, "record")


@pytest.mark.parametrize(
    "line", [b"", b"{", b"[]", b"null", b"7", b'"x"', b"{}", b"\xff\xfe", b'{"hash":"\\ud800"}']
)
def test_a_line_that_is_no_entry_is_refused_with_its_place(line: bytes) -> None:
    with pytest.raises(RecordWrong) as caught:
        read_chain(THREE + line + b"\n", "record")
    assert caught.value.where == "record:4"


ADDED = {
    2: {"counts_losses", "max_errors"},
    3: {"proves_sessions"},
    4: {"watches_logouts", "watch_ms", "logout_lines_max", "logout_ratio", "logout_new_min"},
}
"""What each format added to the policy."""


@pytest.mark.parametrize("version", range(1, FORMAT))
def test_an_earlier_format_is_read_as_one_that_does_without_what_came_later(version: int) -> None:
    missing = set().union(*(names for since, names in ADDED.items() if since > version))

    def age(plain: dict[str, Any]) -> None:
        plain["fact"]["format"] = version
        for name in missing:
            del plain["fact"]["policy"][name]

    first = reworked(1, age).splitlines(keepends=True)[0]
    (entry,) = read_chain(first, "record").entries
    assert entry.fact == replace(opened(), format=version)


def test_a_newer_format_is_refused_naming_who_wrote_it() -> None:
    def newer(plain: dict[str, Any]) -> None:
        plain["fact"].update(format=FORMAT + 1, tool="9.1")

    with pytest.raises(RecordWrong, match=r"rolling-deploy 9\.1 in format 5") as caught:
        read_chain(reworked(1, newer), "record")
    assert "9.1" in caught.value.next_step


@pytest.mark.parametrize(
    "change",
    [
        lambda plain: plain["fact"].update(type="Teleported"),
        lambda plain: plain["fact"].update(colour="red"),
        lambda plain: plain["fact"].pop("what"),
        lambda plain: plain["fact"].update(what=7),
        lambda plain: plain.update(fact=None),
    ],
    ids=["unknown kind", "unknown field", "missing field", "wrong type", "no fact"],
)
def test_a_fact_that_is_not_known_is_refused_with_its_line(
    change: Callable[[dict[str, Any]], object],
) -> None:
    with pytest.raises(RecordWrong, match="does not know") as caught:
        read_chain(reworked(2, change), "record")
    assert caught.value.where == "record:2"
    assert caught.value.exit_code == 7


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("at_ms", 10**400),
        ("at_ms", -1),
        ("epoch", 10**30),
        ("epoch", 10**15),
        ("epoch", 0),
        ("epoch", -5),
    ],
    ids=["no calendar", "before 1970", "no shell", "one digit too many", "none", "negative"],
)
def test_a_number_that_cannot_be_is_refused_with_its_line(field: str, value: int) -> None:
    with pytest.raises(RecordWrong, match=r"of no possible (time|epoch)") as no:
        read_chain(reworked(2, lambda plain: plain.update({field: value})), "record")
    assert no.value.where == "record:2"
    assert len(no.value.what) < 100


def test_the_highest_epoch_that_remote_scripts_compare_is_read() -> None:
    content = reworked(3, lambda plain: plain.update(epoch=10**15 - 1))
    assert read_chain(content, "record").entries[-1].epoch == 10**15 - 1


def test_any_text_a_machine_may_answer_can_be_recorded() -> None:
    halted = Halted(Cause.BACKEND, "grüße \ud83d \udc80 \u2028 \n \x00")
    assert read_chain(written(opened(), halted), "record").entries[1].fact == halted


def test_copies_that_go_on_from_each_other_agree_on_the_longest() -> None:
    chain = read_chain(THREE, "record")
    short = read_chain(b"".join(chain.lines[:1]), "record")
    assert agree({"lb1": short, "lb2": chain, "here": Chain()}) == chain
    assert agree({}) == Chain()


@pytest.mark.parametrize("shared", [0, 1, 2])
def test_a_fork_is_refused_and_never_the_longer_one_taken(shared: int) -> None:
    lines = read_chain(THREE, "record").lines
    other = read_chain(b"".join(lines[:shared]), "record")
    previous = other.last_hash
    more = entries_after(
        other.entries,
        (Halted(Cause.BUSY, "x"),) if shared else (replace(opened(), by="another"),),
        at_ms=6,
        epoch=2,
        holder="ci",
    )
    forked = b"".join((*lines[:shared], encode(more[0], previous)[0]))
    chains = {"lb1": read_chain(THREE, "lb1"), "lb2": read_chain(forked, "lb2")}
    with pytest.raises(RecordWrong, match=r"lb1: 3 entries.*lb2: ") as caught:
        agree(chains)
    assert caught.value.exit_code == 7
