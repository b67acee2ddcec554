"""Commands that arrive and whose answers do not come back, asked of the fake world, of the
simulated site, and of real servers.

The outcome is unknown then, whatever became of it. The engine never does such a step again: it
looks. So a look has to tell that the command still runs, and afterwards what it did.
"""

from __future__ import annotations

import pytest

from rolling_deploy.rollout.move import Free, Ready
from rolling_deploy.rollout.observed import BackendSeen, Interest
from rolling_deploy.rollout.step import Activate, Goal, Outcome, Stage
from tests.machines_contract import BACKEND, BALANCER, OTHER, SOON_MS, WAIT_LIMIT_MS, Contract
from tests.machines_fixtures import fleet, relays, stands

__all__ = ["fleet", "relays", "stands"]

NOTHING = Interest(frozenset())
"""Only the time is asked for."""


def await_free(fleet: Contract, name: str) -> None:
    fleet.machines.wait(Free(frozenset({name})), WAIT_LIMIT_MS)


def answering(fleet: Contract) -> BackendSeen:
    """Answers the backend as soon as it answers by the new release; its health was asked for."""
    wanted = {BACKEND: fleet.opened.release}
    fleet.machines.wait(Ready(wanted), WAIT_LIMIT_MS)
    seen = fleet.look(Interest(frozenset(), ready=wanted)).backends[BACKEND]
    assert isinstance(seen, BackendSeen)
    assert seen.health is not None
    assert (seen.health.is_good, seen.health.version) == (True, fleet.opened.release)
    return seen


def test_a_publication_whose_answer_is_lost_is_unknown_and_a_look_shows_what_became_of_it(
    fleet: Contract,
) -> None:
    fleet.drained()
    step = fleet.apply(BACKEND)
    with fleet.answer_lost(step) as came:
        assert fleet.is_busy(BALANCER), "the command still runs"
        assert fleet.balancer().live != step.generation, "it is not yet served"
    await_free(fleet, BALANCER)
    assert [result.outcome for result in came] == [Outcome.UNKNOWN]
    assert not came[0].is_fenced
    seen = fleet.balancer()
    assert not seen.is_busy
    assert seen.file is not None
    assert seen.file.stamp is not None
    assert seen.file.is_intact
    assert seen.file.stamp.generation == seen.live == step.generation
    assert seen.file.stamp.claim == step.claim
    assert seen.file.down == {BACKEND}
    fleet.drained()


def test_a_publication_whose_answer_was_lost_is_not_done_a_second_time(fleet: Contract) -> None:
    fleet.drained()
    step = fleet.apply(BACKEND)
    with fleet.answer_lost(step):
        pass
    await_free(fleet, BALANCER)
    fleet.drained()
    before = fleet.balancer()
    again = fleet.perform(step)
    assert (again.outcome, again.is_fenced) == (Outcome.REFUSED, False)
    assert fleet.balancer() == before, "no other file, no reload"
    fleet.must(fleet.apply())
    assert fleet.perform(step).outcome is Outcome.REFUSED, "nor over the file of a later claim"
    assert not fleet.file().down


def test_an_activation_whose_answer_is_lost_is_unknown_and_a_look_shows_what_became_of_it(
    fleet: Contract,
) -> None:
    fleet.must(Stage(BACKEND))
    fleet.take_out()
    step = Activate(BACKEND, Goal.RELEASE)
    with fleet.answer_lost(step) as came:
        seen = fleet.backend()
        assert seen.is_busy, "the command still runs"
        assert seen.artifact == fleet.opened.before[BACKEND].artifact
        assert not fleet.is_busy(OTHER), "one machine does not tell of another"
    await_free(fleet, BACKEND)
    assert [result.outcome for result in came] == [Outcome.UNKNOWN]
    assert not came[0].is_fenced
    after = answering(fleet)
    assert not after.is_busy
    assert after.artifact == fleet.opened.artifacts[BACKEND]
    assert after.is_restarted_since_swap, "the process started after the swap"


def test_an_activation_whose_answer_was_lost_stops_nothing_a_second_time(fleet: Contract) -> None:
    fleet.must(Stage(BACKEND))
    fleet.take_out()
    step = Activate(BACKEND, Goal.RELEASE)
    with fleet.answer_lost(step):
        again = fleet.perform(step)
        assert (again.outcome, again.is_fenced) == (Outcome.REFUSED, False), "one at a time"
        assert fleet.is_busy(BACKEND)
    await_free(fleet, BACKEND)
    answering(fleet)
    before = fleet.backend()
    fleet.must(step)
    assert fleet.backend() == before
    alive = fleet.look(Interest(frozenset(), alive=frozenset({BACKEND}))).backends[BACKEND]
    assert isinstance(alive, BackendSeen)
    assert alive.health is not None
    assert alive.health.is_good, "it was never away"


@pytest.mark.parametrize("name", [BALANCER, BACKEND])
def test_waiting_for_a_machine_to_be_free_lasts_as_long_as_the_command(
    fleet: Contract, name: str
) -> None:
    fleet.must(Stage(BACKEND))
    fleet.take_out()
    step = fleet.apply() if name == BALANCER else Activate(BACKEND, Goal.RELEASE)
    with fleet.answer_lost(step):
        began = fleet.look(NOTHING).now_ms
        fleet.machines.wait(Free(frozenset({name})), 1_000)
        assert fleet.look(NOTHING).now_ms - began >= 1_000
        assert fleet.is_busy(name)
    await_free(fleet, name)
    assert not fleet.is_busy(name)
    began = fleet.look(NOTHING).now_ms
    await_free(fleet, name)
    assert fleet.look(NOTHING).now_ms - began < SOON_MS
