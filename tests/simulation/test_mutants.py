"""The simulator is honest: it notices every mistake that somebody puts into the engine."""

from __future__ import annotations

import pytest

from tests.simulation.mistakes import MUTANTS, Mutant
from tests.simulation.mutants import caught_by, mutated
from tests.simulation.noticed import HINTS, SCENARIOS


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda one: one.name)
@pytest.mark.timeout(900)
def test_the_simulator_notices_every_mutant(mutant: Mutant) -> None:
    """In a copy of the sources, with the mistake in it."""
    assert caught_by(mutant), f"nobody noticed: {mutant.name}"


def test_a_mutant_that_is_out_of_date_is_said() -> None:
    """Else a mutant that changes nothing would look like one that lives."""
    gone = Mutant("gone", (("rolling_deploy/runner.py", "what stands nowhere", ""),))
    with pytest.raises(ValueError, match="is not in"), mutated(gone):
        pass


def test_what_is_said_to_notice_a_mutant_names_one_that_is_there() -> None:
    """A misspelt name would only make the search longer, and nobody would see why."""
    assert {*SCENARIOS, *HINTS} <= {mutant.name for mutant in MUTANTS}
    assert all(SCENARIOS.values()), "a regression that is looked for is not there any more"
