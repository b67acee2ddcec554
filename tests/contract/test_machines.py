"""What the engine may rely on from its machines, asked of the fake world, of the simulated
site, and of real servers.

Every test of the engine stands on the fakes. Here they answer for it: whatever is asserted of them
holds for nginx, sshd and a real application as well.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from rolling_deploy.rollout.facts import Opened
from rolling_deploy.rollout.move import Drained, Ready
from rolling_deploy.rollout.observed import Interest, LoadBalancerSeen, Unreachable
from rolling_deploy.rollout.step import Activate, Goal, Outcome, Stage
from tests.machines_contract import (
    BACKEND,
    BALANCER,
    EVERYTHING,
    OTHER,
    SOON_MS,
    WAIT_LIMIT_MS,
    Contract,
)
from tests.machines_fixtures import fleet, relays, stands

__all__ = ["fleet", "relays", "stands"]


def never_staged(opened: Opened) -> Opened:
    """Answers a rollout to an artifact that lies nowhere."""
    return replace(opened, release="9", artifacts=dict.fromkeys(opened.artifacts, "9@0123456789ab"))


def test_a_look_shows_the_file_its_mark_and_what_is_served(fleet: Contract) -> None:
    fleet.drained()
    seen = fleet.look()
    balancer = seen.load_balancers[BALANCER]
    assert isinstance(balancer, LoadBalancerSeen)
    file = balancer.file
    assert file is not None
    assert file.stamp is not None
    assert file.digest == fleet.opened.initial[BALANCER]
    assert file.is_intact
    assert file.stamp.application == "shop"
    assert not file.stamp.out | file.down
    assert balancer.live == file.stamp.generation
    assert balancer.is_settled
    assert balancer.earlier_workers == 0
    assert not balancer.is_busy
    assert set(seen.load_balancers) == {BALANCER}
    assert set(seen.backends) == {BACKEND, OTHER}
    assert seen.store is None


def test_a_look_asks_for_health_only_where_it_is_of_interest(fleet: Contract) -> None:
    before = fleet.opened.before
    seen = fleet.look(
        replace(EVERYTHING, ready={OTHER: before[OTHER].version}, load_balancers=frozenset())
    )
    one, other = fleet.backend(), seen.backends[OTHER]
    assert not isinstance(other, Unreachable)
    assert (one.artifact, other.artifact) == (before[BACKEND].artifact, before[OTHER].artifact)
    assert one.health is None
    assert other.health is not None
    assert other.health.is_good
    assert other.health.version == before[OTHER].version
    assert not other.is_busy
    assert seen.load_balancers == {}


def test_what_was_applied_is_on_the_disk_and_served(fleet: Contract) -> None:
    step = fleet.apply(BACKEND)
    assert fleet.perform(step).outcome is Outcome.DONE
    seen = fleet.balancer()
    assert seen.file is not None
    stamp = seen.file.stamp
    assert stamp is not None
    assert seen.file.is_intact
    assert seen.file.down == stamp.out == {BACKEND}
    assert (stamp.rollout, stamp.claim) == (fleet.opened.rollout, step.claim)
    assert stamp.generation == seen.live == step.generation
    assert seen.is_settled
    fleet.drained()


def test_everybody_is_in_again_once_nobody_is_taken_out_any_more(
    fleet: Contract,
) -> None:
    fleet.take_out()
    fleet.must(fleet.apply())
    file = fleet.file()
    assert file.stamp is not None
    assert not file.down | file.stamp.out
    assert file.digest != fleet.opened.initial[BALANCER]


def test_a_file_that_is_another_one_is_not_replaced(fleet: Contract) -> None:
    before = fleet.balancer()
    result = fleet.perform(replace(fleet.apply(BACKEND), replaces="0" * 64))
    assert result.outcome is Outcome.REFUSED
    assert not result.is_fenced
    assert fleet.balancer() == before


def test_a_step_is_not_done_twice_over_the_file_that_it_replaced(fleet: Contract) -> None:
    step = fleet.apply(BACKEND)
    fleet.must(step)
    fleet.drained()
    before = fleet.balancer()
    assert fleet.perform(step).outcome is Outcome.REFUSED
    assert fleet.balancer() == before


def test_a_load_balancer_refuses_who_was_overtaken(fleet: Contract) -> None:
    fleet.take_out()
    before = fleet.balancer()
    wrong = replace(fleet.apply(), replaces="0" * 64)
    assert not fleet.perform(wrong, fleet.token(5)).is_fenced, "refused for the file, and seen"
    for token in (fleet.token(), fleet.token(4), fleet.token(5, "somebody else")):
        result = fleet.perform(fleet.apply(), token)
        assert (result.outcome, result.is_fenced) == (Outcome.REFUSED, True), token
    assert fleet.balancer() == before
    assert fleet.perform(fleet.apply(), fleet.token(5)).outcome is Outcome.DONE
    fleet.epoch += 5


def test_a_backend_refuses_who_was_overtaken(fleet: Contract) -> None:
    assert fleet.perform(Stage(BACKEND), fleet.token(5)).outcome is Outcome.DONE
    fleet.take_out()
    before = fleet.backend()
    steps = (Stage(BACKEND), Activate(BACKEND, Goal.RELEASE), Activate(BACKEND, Goal.PREVIOUS))
    for step in steps:
        for token in (fleet.token(), fleet.token(4), fleet.token(5, "somebody else")):
            result = fleet.perform(step, token)
            assert (result.outcome, result.is_fenced) == (Outcome.REFUSED, True), (step, token)
    assert fleet.backend() == before
    assert fleet.perform(Stage(OTHER)).outcome is Outcome.DONE, "each machine has its own fence"


def test_what_was_staged_lies_ready_and_nothing_runs_it(fleet: Contract) -> None:
    artifact = fleet.opened.artifacts[BACKEND]
    before = fleet.backend()
    assert artifact not in before.staged
    fleet.must(Stage(BACKEND))
    after = fleet.backend()
    assert {artifact, before.artifact} <= after.staged, "what runs is secured"
    assert replace(after, staged=before.staged) == before
    fleet.must(Stage(BACKEND))
    assert fleet.backend() == after
    assert artifact not in fleet.backend(OTHER).staged


def test_a_release_is_activated_and_gone_back_from(fleet: Contract) -> None:
    opened = fleet.opened
    fleet.must(Stage(BACKEND))
    fleet.take_out()
    artifact, previous = opened.artifacts[BACKEND], opened.before[BACKEND].artifact
    for goal, now, version in (
        (Goal.RELEASE, artifact, opened.release),
        (Goal.RELEASE, artifact, opened.release),
        (Goal.PREVIOUS, previous, opened.before[BACKEND].version),
    ):
        fleet.must(Activate(BACKEND, goal))
        fleet.machines.wait(Ready({BACKEND: version}), WAIT_LIMIT_MS)
        seen = fleet.look(Interest(frozenset(), ready={BACKEND: version})).backends[BACKEND]
        assert not isinstance(seen, Unreachable)
        assert (seen.artifact, seen.is_restarted_since_swap) == (now, True)
        assert {artifact, previous} <= seen.staged
        assert seen.health is not None
        assert (seen.health.is_good, seen.health.version) == (True, version)
    assert fleet.backend(OTHER).artifact == opened.before[OTHER].artifact


def test_what_runs_already_is_not_stopped_to_be_activated_again(fleet: Contract) -> None:
    version = fleet.opened.release
    fleet.must(Stage(BACKEND))
    fleet.take_out()
    fleet.must(Activate(BACKEND, Goal.RELEASE))
    fleet.machines.wait(Ready({BACKEND: version}), WAIT_LIMIT_MS)
    fleet.must(Activate(BACKEND, Goal.RELEASE))
    seen = fleet.look(Interest(frozenset(), alive=frozenset({BACKEND}))).backends[BACKEND]
    assert not isinstance(seen, Unreachable)
    assert seen.health is not None
    assert seen.health.is_good, "it was never away"


def test_what_was_never_staged_is_not_activated(fleet: Contract) -> None:
    fleet.take_out()
    before = fleet.backend()
    step = Activate(BACKEND, Goal.RELEASE)
    result = fleet.perform(step, opened=never_staged(fleet.opened))
    assert (result.outcome, result.is_fenced) == (Outcome.REFUSED, False)
    assert fleet.backend() == before
    alive = fleet.look(Interest(frozenset(), alive=frozenset({BACKEND}))).backends[BACKEND]
    assert not isinstance(alive, Unreachable)
    assert alive.health is not None
    assert alive.health.is_good, "it was not stopped for nothing"


def test_there_is_no_way_back_where_nothing_was_secured(fleet: Contract) -> None:
    fleet.take_out()
    before = fleet.backend()
    lost = replace(fleet.opened.before[BACKEND], artifact=None)
    opened = replace(fleet.opened, before={**fleet.opened.before, BACKEND: lost})
    result = fleet.perform(Activate(BACKEND, Goal.PREVIOUS), opened=opened)
    assert result.outcome is Outcome.REFUSED
    assert fleet.backend() == before


@pytest.mark.parametrize("name", [BALANCER, BACKEND])
def test_a_machine_that_is_cut_off_is_unreachable_in_its_place(fleet: Contract, name: str) -> None:
    step = fleet.apply(OTHER) if name == BALANCER else Stage(name)
    fleet.cut_off(name)
    seen = fleet.look()
    places = {**seen.load_balancers, **seen.backends}
    assert set(places) == {BALANCER, BACKEND, OTHER}
    assert [one for one, what in places.items() if isinstance(what, Unreachable)] == [name]
    lost = places[name]
    assert isinstance(lost, Unreachable)
    assert lost.detail
    assert fleet.perform(step).outcome is Outcome.UNKNOWN


def test_waiting_for_what_is_drained_already_returns_at_once(fleet: Contract) -> None:
    fleet.drained()
    began = fleet.look().now_ms
    fleet.machines.wait(Drained(frozenset({BALANCER})), WAIT_LIMIT_MS)
    assert fleet.look().now_ms - began < SOON_MS


def test_a_worker_that_is_kept_from_leaving_counts_until_it_leaves(fleet: Contract) -> None:
    fleet.drained()
    with fleet.pinned():
        fleet.must(fleet.apply(BACKEND))
        began = fleet.look().now_ms
        fleet.machines.wait(Drained(frozenset({BALANCER})), 1_000)
        assert fleet.look().now_ms - began >= 1_000
        seen = fleet.balancer()
        assert seen.earlier_workers
        assert seen.is_settled, "it retires, and takes nothing new"
        assert seen.detail
    fleet.drained()
