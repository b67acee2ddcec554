"""The short form: a bounded number of changed inputs for every target, the same ones each time."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rolling_deploy.rollout.facts import Fact
from rolling_deploy.rollout.fold import fold
from rolling_deploy.rollout.journal import read_chain
from tests.fuzz import targets
from tests.fuzz.changing import changed
from tests.fuzz.regressions import FAILED
from tests.fuzz.sound import story_bytes
from tests.fuzz.targets import TARGETS

SHARE_S = 0.6
"""For each target. About 20 targets: well under half a minute together."""
LEAST = 20
SHORT = settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@pytest.mark.parametrize("name", TARGETS)
def test_changed_inputs_end_as_they_should(
    name: str, record_property: Callable[[str, object], None]
) -> None:
    target, chance = TARGETS[name], random.Random(1)
    until, count = time.monotonic() + SHARE_S, 0
    while count < LEAST or time.monotonic() < until:
        data = changed(target, chance)
        try:
            target.run(data)
        except Exception as error:
            error.add_note(f"for {name!r}: {data!r}; keep it in `tests/fuzz/regressions.py`")
            raise
        count += 1
    record_property("executions", count)
    print(f"{name}: {count} executions in {SHARE_S} s, 0 crashes")


@pytest.mark.parametrize("name", TARGETS)
def test_any_bytes_end_as_they_should(name: str) -> None:
    @SHORT
    @given(st.binary(max_size=200) | st.text(max_size=80).map(str.encode))
    def tried(data: bytes) -> None:
        TARGETS[name].run(data)

    tried()


@pytest.mark.parametrize(("name", "data"), FAILED, ids=range(len(FAILED)))
def test_what_failed_once_never_does_again(name: str, data: bytes) -> None:
    TARGETS[name].run(data)


@pytest.mark.parametrize("name", TARGETS)
def test_sound_inputs_are_fine(name: str) -> None:
    for seed in TARGETS[name].seeds:
        TARGETS[name].run(seed)


def test_the_story_that_is_changed_is_sound_and_has_every_kind_of_fact() -> None:
    chain = read_chain(story_bytes(), "story")
    assert fold(chain.entries).closed is not None
    told = {type(entry.fact) for entry in chain.entries}
    assert told == set(Fact.__args__)


def test_a_target_that_breaks_is_noticed() -> None:
    """The search finds a crash behind two bytes in the right place."""

    def breaks(data: bytes) -> None:
        assert data[4:6] != b"zz"

    target = targets.Target(breaks, (b"aaaaaaaa",), (b"z", b"zz"))
    chance = random.Random(1)

    def search() -> None:
        for _ in range(20_000):
            target.run(changed(target, chance))

    with pytest.raises(AssertionError):
        search()
