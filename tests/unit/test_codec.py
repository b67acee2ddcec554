"""Every fact there is survives being written and read; what is no fact is refused."""

from __future__ import annotations

from enum import StrEnum
from typing import get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rolling_deploy.rollout.codec import NotReadable, from_plain, to_plain
from rolling_deploy.rollout.facts import Cause, Closed, Fact, Halted, Intended, Met, Opened
from rolling_deploy.rollout.journal import GENESIS, Entry, encode, read_chain
from rolling_deploy.rollout.step import Activate, Goal, Stage

TEXT = st.text(max_size=8)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXT,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXT, inner, max_size=2),
    max_leaves=4,
)
st.register_type_strategy(str, TEXT)


def facts(kind: type[Fact]) -> st.SearchStrategy[Fact]:
    """Answers facts of one kind, every field at random."""
    if kind is Opened:
        return st.builds(Opened, format=st.just(1), frozen=st.dictionaries(TEXT, JSON, max_size=2))
    if kind is Met:
        return st.builds(Met, frozen=st.dictionaries(TEXT, JSON, max_size=2))
    return st.builds(kind)


@pytest.mark.parametrize("kind", get_args(Fact), ids=lambda kind: kind.__name__)
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_every_kind_of_fact_survives_being_written_and_read(
    kind: type[Fact], data: st.DataObject
) -> None:
    fact = data.draw(facts(kind))
    line, _ = encode(Entry(1, 7, 2, "laptop", fact), GENESIS)
    assert line.count(b"\n") == 1
    assert read_chain(line, "record").entries == (Entry(1, 7, 2, "laptop", fact),)


def test_sets_are_written_in_order_so_that_the_text_is_the_same_each_time() -> None:
    assert to_plain(frozenset({"b", "a", "c"})) == ["a", "b", "c"]


def test_a_union_is_told_apart_by_its_type() -> None:
    fact = Intended(Activate("app1", Goal.PREVIOUS), 2)
    assert to_plain(fact)["step"]["type"] == "Activate"
    assert from_plain(Fact, to_plain(fact)) == fact


class Colour(StrEnum):
    """A stand-in for any enum."""

    RED = "red"


@pytest.mark.parametrize(
    ("kind", "plain"),
    [
        (int, True),
        (int, "1"),
        (float, True),
        (str, 1),
        (str | None, 1),
        (bool, 1),
        (Colour, "blue"),
        (tuple[str, ...], "abc"),
        (tuple[int, ...], ["1"]),
        (frozenset[str], {"a": 1}),
        (dict[str, int], [1]),
        (dict[str, int], {"a": "b"}),
        (Stage, {"type": "Stage"}),
        (Stage, {"type": "WarmUp", "backend": "app1"}),
        (Stage, {"type": "Stage", "backend": "app1", "extra": 1}),
        (Stage, ["Stage"]),
        (Fact, {"type": "Nothing"}),
        (Fact, None),
        (Closed, {**to_plain(Closed("done")), "cause": "bad luck"}),  # type: ignore[arg-type] # plain on purpose
        (Halted, {"type": "Halted", "cause": "drain", "reason": None}),
    ],
)
def test_what_does_not_fit_its_type_is_refused(kind: object, plain: object) -> None:
    with pytest.raises(NotReadable):
        from_plain(kind, plain)


def test_what_is_optional_may_be_missing_its_value_but_not_its_name() -> None:
    whole = {"type": "Closed", "ending": "done", "reason": "", "cause": None}
    assert from_plain(Fact, whole).cause is None
    assert from_plain(Fact, {**whole, "cause": "drain"}).cause is Cause.DRAIN
    with pytest.raises(NotReadable):
        from_plain(Fact, {key: value for key, value in whole.items() if key != "cause"})
