"""The record: read back what was written, folded from any prefix, resumed from any instant."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rolling_deploy.rollout.decide import interest
from rolling_deploy.rollout.facts import Claimed, Intended, Proved, Released
from rolling_deploy.rollout.fold import advance, fold
from rolling_deploy.rollout.forecast import forecast
from rolling_deploy.rollout.journal import read_chain
from rolling_deploy.rollout.move import Act, Finish, Halt, Note
from rolling_deploy.rollout.step import Apply, Continuity, Step, Unadopt
from tests.drive import run, settle
from tests.fake_faults import Fault
from tests.property.strategies import fleets, troubled
from tests.world import World, make_world, open_rollout


def _record(world: World) -> bytes:
    return max((b"".join(lines) for lines in world.disks.values()), key=len)


@given(world=troubled())
def test_every_prefix_of_every_record_folds_and_advancing_is_folding(world: World) -> None:
    """Total: whatever was written can be read, up to any line."""
    settle(world, lives_max=60)
    entries = read_chain(_record(world), "here").entries
    record = fold(entries[:1])
    for count in range(2, len(entries) + 1):
        record = advance(record, entries[count - 1])
        assert fold(entries[:count]) == record


@given(world=troubled(), data=st.data())
def test_a_record_cut_at_any_byte_is_the_whole_lines_before_it(
    world: World, data: st.DataObject
) -> None:
    """A torn tail loses the torn line and nothing else."""
    settle(world, lives_max=60)
    content = _record(world)
    cut = data.draw(st.integers(0, len(content)))
    whole = read_chain(content, "here")
    torn = read_chain(content[:cut], "here")
    assert torn.is_prefix_of(whole)
    assert torn.size + torn.torn == cut


def _truth(world: World) -> object:
    backends = [(b.version, b.artifact) for b in world.backends.values()]
    balancers = [(lb.current.up, lb.file.down) for lb in world.balancers.values()]
    return backends, balancers


def _big() -> World:
    world = make_world(3, 2)
    world.backends["app2"].start_ms = 2_000
    open_rollout(world)
    return world


@pytest.mark.parametrize("machine", ["laptop", "another"])
def test_every_prefix_of_a_rollout_resumes_to_the_same_end(machine: str) -> None:
    """Dead right after any entry was written, or right before, and taken over."""
    quiet = _big()
    end = settle(quiet).end
    appends = [n for n, (port, _) in enumerate(quiet.calls, start=1) if port == "append"]
    for number in appends:
        for fault in (Fault.CRASH_BEFORE, Fault.CRASH_AFTER):
            world = _big()
            world.plan.by_number[number] = fault
            journey = settle(world, elsewhere=machine == "another")
            assert (end, _truth(quiet)) == (journey.end, _truth(world)), (number, fault)
            world.assert_promises_kept()


def _is_same(step: Step) -> object:
    """A step without what a forecast cannot know beforehand: the digest it replaces, and the
    sessions that were kept.
    """
    if isinstance(step, Continuity):
        return replace(step, kept="")
    if isinstance(step, Apply):
        return Apply(step.load_balancer, step.out, step.claim, step.generation, "", step.adopt)
    return Unadopt(step.load_balancer, "") if isinstance(step, Unadopt) else step


def _bare(fact: Claimed | Proved | Released) -> Claimed | Proved | Released:
    return replace(fact, detail="") if isinstance(fact, Proved) else fact


@given(world=fleets())
def test_the_forecast_is_what_a_run_without_trouble_then_does(world: World) -> None:
    """Step for step, from the opened record and the first look."""
    for fake in world.backends.values():
        fake.sick_on, fake.instead, fake.cold_on = set(), {}, set()
        fake.forgets_on = set()
    for lb in world.balancers.values():
        lb.drains_ms = [40]
    life = world.lives[-1]
    record = fold(life.entries())
    told = forecast(record, life.look(interest(record)), not_checked=frozenset({"Continuity"}))
    _, end = run(life)
    entries = read_chain(_record(world), "here").entries
    done = [_is_same(e.fact.step) for e in entries if isinstance(e.fact, Intended)]
    planned = [
        _is_same(step) for move in told.moves if isinstance(move, Act) for step in move.steps
    ]
    assert planned == done
    notes = [fact for move in told.moves if isinstance(move, Note) for fact in move.facts]
    kinds = (Claimed, Proved, Released)
    written = [entry.fact for entry in entries]
    # Whether a version source answers is seen only where it was asked, so not the `detail`.
    assert [_bare(f) for f in notes if isinstance(f, kinds)] == [
        _bare(f) for f in written if isinstance(f, kinds)
    ]
    match told.moves[-1]:  # an upstream of one backend halts half way, and the plan says so
        case Finish(closed=planned_end) | Halt(halted=planned_end):
            assert planned_end == end
        case other:
            raise AssertionError(other)
    assert sum(told.reloads.values()) == sum(lb.reloads for lb in world.balancers.values())
