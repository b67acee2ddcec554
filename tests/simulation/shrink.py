"""Cutting a scenario down to what is needed to break the same promise."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TypeVar

from tests.simulation.scenario import Oddity, Scenario
from tests.simulation.simulate import simulate

T = TypeVar("T")


def shrunk(scenario: Scenario) -> Scenario:
    """Answers the smallest scenario found that breaks the promise that this one breaks first.

    One that breaks nothing is answered as it is.
    """
    broken = _first_broken(scenario)
    if not broken:
        return scenario
    is_smaller = True
    while is_smaller:
        is_smaller = False
        for candidate in _smaller(scenario):
            if _first_broken(candidate) == broken:
                scenario, is_smaller = candidate, True
                break
    return scenario


def _first_broken(scenario: Scenario) -> str:
    try:
        broken = simulate(scenario).broken
    except Exception as error:  # noqa: BLE001 # a scenario that cannot be is no smaller one
        return f"raised {type(error).__name__}"
    return broken[0].partition(":")[0] if broken else ""


def _smaller(scenario: Scenario) -> Iterator[Scenario]:
    """Scenarios with one thing less, the largest things first."""
    for faults in _with_one_less(scenario.faults):
        yield replace(scenario, faults=faults)
    for second in _with_one_less(scenario.second):
        yield replace(scenario, second=second)
    shape = scenario.shape
    simpler = (
        replace(scenario, rollouts=1),
        replace(scenario, parked=frozenset()),
        replace(scenario, left_out=frozenset()),
        replace(scenario, elsewhere=False),
        replace(scenario, shape=replace(shape, balancers=max(1, shape.balancers - 1))),
        replace(scenario, shape=replace(shape, has_two_upstreams=False)),
    )
    yield from (one for one in simpler if one != scenario)
    for oddities in _with_one_plain(scenario.oddities, Oddity()):
        yield replace(scenario, oddities=oddities)
    for drains_ms in _with_one_plain(scenario.drains_ms, (40,)):
        yield replace(scenario, drains_ms=drains_ms)


def _with_one_less(values: tuple[T, ...]) -> Iterator[tuple[T, ...]]:
    for number in range(len(values)):
        yield values[:number] + values[number + 1 :]


def _with_one_plain(values: tuple[T, ...], plain: T) -> Iterator[tuple[T, ...]]:
    for number, value in enumerate(values):
        if value != plain:
            yield (*values[:number], plain, *values[number + 1 :])
