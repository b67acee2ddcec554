"""What only the own disk holds after a takeover: dropped when nobody acted on it, else a fork."""

from __future__ import annotations

import pytest

from rolling_deploy.errors import RecordWrong
from rolling_deploy.rollout.facts import Claimed, Fact, Intended, TakenOver, Waiting
from rolling_deploy.rollout.journal import (
    GENESIS,
    Chain,
    Entry,
    encode,
    is_left_behind,
    is_superseded,
    read_chain,
    settle,
)
from rolling_deploy.rollout.step import Stage

CLAIMED, WAITING = Claimed(1, ("app1",)), Waiting("drain")
TAKEN = TakenOver("somebody else")
INTENDED = Intended(Stage("app1"), 1)


def chain(*facts: tuple[int, Fact]) -> Chain:
    """Answers a chain of facts, each under an epoch."""
    entries: list[Entry] = []
    lines: list[bytes] = []
    last = GENESIS
    for number, (epoch, fact) in enumerate(facts, start=1):
        entry = Entry(number, number, epoch, f"holder{epoch}", fact)
        line, last = encode(entry, last)
        entries.append(entry)
        lines.append(line)
    return Chain(tuple(entries), tuple(lines), last)


def test_an_end_that_nobody_was_given_is_superseded_by_a_takeover() -> None:
    own = chain((1, CLAIMED), (1, WAITING), (1, WAITING))
    assert is_superseded(own, chain((1, CLAIMED), (2, TAKEN)))
    assert is_superseded(own, chain((1, CLAIMED), (2, TAKEN), (2, WAITING), (2, WAITING)))


def test_two_chains_that_go_on_without_a_takeover_are_a_fork() -> None:
    own = chain((1, CLAIMED), (1, WAITING))
    assert not is_superseded(own, chain((1, CLAIMED), (2, CLAIMED)))
    assert not is_superseded(own, chain((1, CLAIMED), (1, TAKEN)))


def test_a_later_life_is_not_superseded_by_an_earlier_one() -> None:
    own = chain((1, CLAIMED), (3, TAKEN), (3, WAITING))
    assert not is_superseded(own, chain((1, CLAIMED), (2, TAKEN)))


def test_among_takeovers_that_nobody_was_given_the_last_one_goes_on() -> None:
    """Two machines took over in turn while no load balancer took the record (seed 8112)."""
    laptop = chain((1, CLAIMED), (2, TAKEN), (4, TAKEN))
    ci = chain((1, CLAIMED), (3, TAKEN), (5, TAKEN))
    assert is_superseded(laptop, ci)
    assert not is_superseded(ci, laptop)
    later = chain((1, CLAIMED), (2, TAKEN), (4, TAKEN), (6, TAKEN), (6, WAITING))
    assert is_superseded(ci, later)
    assert settle({"laptop": later, "ci": ci})[0] == later


def test_an_epoch_that_both_have_is_a_fork() -> None:
    one = chain((1, CLAIMED), (2, TAKEN), (2, WAITING))
    other = chain((1, CLAIMED), (2, TAKEN), (3, TAKEN))
    another = chain((1, CLAIMED), (2, Waiting("soak")), (3, TAKEN))
    assert is_superseded(one, other)
    assert not is_superseded(one, another)
    twin = chain((1, CLAIMED), (2, TakenOver("a twin")), (3, TAKEN))
    assert not is_superseded(one, twin)
    with pytest.raises(RecordWrong, match="differ"):
        settle({"lb1": one, "lb2": twin})


def test_chains_with_nothing_in_common_are_a_fork() -> None:
    assert not is_superseded(chain((1, CLAIMED)), chain((2, TAKEN)))


def test_a_beginning_is_not_superseded() -> None:
    own = chain((1, CLAIMED))
    whole = chain((1, CLAIMED), (2, TAKEN))
    assert own.shared_with(whole) == whole.shared_with(own) == 1
    assert not is_superseded(whole, own)
    assert own.is_prefix_of(whole)


def test_a_copy_that_was_taken_over_from_is_loose_and_the_others_agree() -> None:
    """The load balancer that alone held the last intent was cut off; others went on without."""
    cut_off = chain((1, CLAIMED), (1, WAITING))
    others = chain((1, CLAIMED), (2, TAKEN), (2, WAITING))
    agreed, loose = settle({"lb1": cut_off, "lb2": others, "lb3": chain((1, CLAIMED))})
    assert agreed == others
    assert loose == {"lb1": cut_off.lines[1]}


def test_half_a_line_is_loose() -> None:
    whole = chain((1, CLAIMED), (1, WAITING))
    torn = read_chain(whole.lines[0] + b'{"half', "lb1")
    agreed, loose = settle({"lb1": torn, "lb2": whole})
    assert agreed == whole
    assert loose == {"lb1": b'{"half'}


def test_two_lives_of_one_epoch_stay_a_fork() -> None:
    with pytest.raises(RecordWrong):
        settle({"lb1": chain((1, CLAIMED), (1, WAITING)), "lb2": chain((1, CLAIMED), (1, CLAIMED))})


def test_a_takeover_for_this_disk_alone_is_left_behind_by_what_the_others_acted_on() -> None:
    """Even a newer one: its life ended when no load balancer took it, and the desk's acted."""
    own = chain((1, CLAIMED), (3, TAKEN))
    desk = chain((1, CLAIMED), (2, TAKEN), (2, INTENDED))
    assert is_left_behind(own, desk, is_everywhere=True)
    # Somebody who was not asked may hold it, and then it counts.
    assert not is_left_behind(own, desk, is_everywhere=False)


def test_a_takeover_for_this_disk_alone_is_left_behind_by_the_loose_end_that_went_on() -> None:
    """No load balancer took the record; then the first machine went on from its own end."""
    own = chain((1, CLAIMED), (2, TAKEN))
    first = chain((1, CLAIMED), (1, WAITING), (4, TAKEN), (4, INTENDED))
    assert not is_superseded(own, first)
    assert is_left_behind(own, first, is_everywhere=True)


def test_an_end_that_may_have_been_acted_on_is_never_left_behind_by_an_older_takeover() -> None:
    """A load balancer's disk that was put back from a backup may hold such a copy."""
    own = chain((1, CLAIMED), (3, TAKEN), (3, INTENDED))
    older = chain((1, CLAIMED), (2, TAKEN), (2, WAITING))
    assert not is_left_behind(own, older, is_everywhere=True)


def test_an_end_is_not_left_behind_without_a_takeover_or_within_one_life() -> None:
    assert not is_left_behind(
        chain((1, CLAIMED), (1, WAITING)), chain((1, CLAIMED), (1, CLAIMED)), is_everywhere=True
    )
    assert not is_left_behind(
        chain((1, CLAIMED), (2, WAITING)), chain((1, CLAIMED), (3, CLAIMED)), is_everywhere=True
    )
    assert not is_left_behind(chain((1, CLAIMED)), chain((2, TAKEN)), is_everywhere=True)


def test_a_superseded_end_with_an_intent_is_dropped_once_all_were_asked() -> None:
    own = chain((1, CLAIMED), (1, INTENDED))
    others = chain((1, CLAIMED), (2, TAKEN))
    assert is_left_behind(own, others, is_everywhere=True)
    assert not is_left_behind(own, others, is_everywhere=False)
