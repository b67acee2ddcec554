"""The simulator is honest: it notices every mistake that somebody puts into the engine."""

from __future__ import annotations

import pytest

from tests.simulation.mutants import MUTANTS, Mutant, caught_by, mutated


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
