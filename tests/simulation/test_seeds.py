"""Thousands of rollouts under mixed misfortune and human hands: no promise is broken, ever."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from random import Random

import pytest

from rolling_deploy.rollout.fleet import Policy
from tests.simulation.__main__ import Figures, run_seeds
from tests.simulation.misfortune import Fault
from tests.simulation.mutants import ROOT
from tests.simulation.promises import INVARIANTS
from tests.simulation.regressions import REGRESSIONS
from tests.simulation.scenario import TURNS_BUSY, Scenario, scenario_of
from tests.simulation.shape import Shape
from tests.simulation.simulate import simulate

SEEDS = 2_000
CHUNK = 100


@pytest.fixture(scope="module")
def figures(request: pytest.FixtureRequest) -> Iterator[Figures]:
    """What all seeds of this module amount to, told at its end."""
    total = Figures()
    yield total
    capture = request.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        print(
            f"\n  simulation: {total.seeds} seeds, {total.rollouts} rollouts, {total.lives} lives, "
            f"{total.checked.total()} invariants checked, violations: {len(total.broken)}"
        )


@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_no_seed_breaks_a_promise_and_each_comes_to_an_end(first: int, figures: Figures) -> None:
    """The real runner, decide, safety, record, lock and upstreams, whole lives of them."""
    some = run_seeds(range(first, first + CHUNK))
    figures.join(some)
    told = [f"seed {seed}: {broken}" for seed, broken in some.broken.items()]
    assert not told, "\n".join([*told, "python -m tests.simulation --seed N --shrink"])


def test_every_invariant_is_really_checked() -> None:
    """A checker that is never asked cannot find anything."""
    checked = run_seeds(range(200)).checked
    assert {name for name in INVARIANTS if not checked[name]} == set()


@pytest.mark.parametrize("scenario", REGRESSIONS, ids=lambda one: str(one.seed))
def test_what_once_broke_a_promise_breaks_none_any_more(scenario: Scenario) -> None:
    """Every scenario that the simulator ever found, cut down to what it took."""
    assert simulate(scenario).broken == ()


@pytest.mark.parametrize("seed", [3, 65, 124, 631, 1398])
def test_the_same_seed_takes_the_same_turns_to_the_last_one(seed: int) -> None:
    """Or a failure could not be looked at again."""
    one, other = simulate(scenario_of(seed)), simulate(scenario_of(seed))
    assert one.trace == other.trace
    assert one.checked == other.checked


def test_a_seed_means_the_same_in_every_process() -> None:
    """Python orders sets of texts by a number of each process; nothing may depend on that."""
    argv = [sys.executable, "-m", "tests.simulation", "--seeds", "25", "--jobs", "1"]
    told = set()
    for number in ("1", "2"):
        env = {**os.environ, "PYTHONHASHSEED": number, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            argv, env=env, cwd=ROOT, capture_output=True, text=True, check=True, timeout=300
        )
        told.add("".join(line for line in done.stdout.splitlines() if "per second" not in line))
    assert len(told) == 1


def _told_after(kind: str, target: str) -> list[str]:
    """What is told when this lasts for 20 s, at each of a few moments of one rollout."""
    return [
        line
        for at in range(240, 270)
        for line in simulate(
            Scenario(1, Shape(2, 1), Policy(), faults=(Fault(at, kind, target, 20_000),))
        ).trace
    ]


def test_who_only_waits_for_a_slow_machine_acts_on_what_it_saw() -> None:
    """Else nobody here would ever act after a slow call, as real operators do."""
    slow, asleep = _told_after("slow_commands", "lb1"), _told_after("freeze", "")
    assert any(int(line.split()[0]) > 20_000 for line in slow), "no command was ever slow"
    assert not any("stood still" in line for line in slow)
    assert any("stood still" in line for line in asleep)


def test_with_the_lock_disabled_the_fencing_alone_holds() -> None:
    """Several operators at once, none of which the lock keeps out: one acts, or none does."""
    held = 0
    for seed in range(150):
        rng = Random(seed)
        second = tuple((rng.randrange(TURNS_BUSY), "resume") for _ in range(4))
        scenario = replace(scenario_of(seed), has_lock=False, second=second)
        outcome = simulate(scenario)
        assert not outcome.broken, f"seed {seed}: {outcome.broken}"
        held += outcome.ends["RolloutHeld"]
    assert held, "nobody was ever refused: the operators never met"
