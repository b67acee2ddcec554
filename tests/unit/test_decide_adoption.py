"""Adopting and unadopting: the same loop, all or none, nobody's traffic changed."""

from __future__ import annotations

import pytest

from rolling_deploy.rollout.facts import (
    Cause,
    Closed,
    Decided,
    Direction,
    Ending,
    Halted,
    Purpose,
    Redirected,
)
from rolling_deploy.rollout.fleet import Policy
from tests import fake_hands
from tests.drive import resume, run
from tests.fake_faults import Crash, Fault
from tests.fake_load_balancer import ORIGINAL, US
from tests.world import World, make_world, open_rollout


def begun(purpose: Purpose) -> World:
    """Answers a world of two load balancers in which this is about to be done."""
    world = make_world(2, 2, is_adopted=purpose is Purpose.UNADOPT)
    open_rollout(world, purpose=purpose, policy=Policy())
    return world


def authors(world: World) -> set[str]:
    """Answers whose files lie on the disks."""
    return {lb.file.author for lb in world.balancers.values()}


def generations(world: World) -> set[str | None]:
    """Answers what is live."""
    return {lb.current.generation for lb in world.balancers.values()}


def test_adopting_takes_over_every_file_with_one_reload_and_keeps_the_originals() -> None:
    world = begun(Purpose.ADOPT)
    originals = {name: lb.file for name, lb in world.balancers.items()}
    _, end = run(world.lives[-1])
    assert end == Closed(Ending.DONE)
    assert authors(world) == {US}
    assert None not in generations(world)
    assert {name: lb.original for name, lb in world.balancers.items()} == originals
    assert {lb.reloads for lb in world.balancers.values()} == {1}
    world.assert_promises_kept()


def test_an_adoption_that_is_not_proved_on_one_is_undone_on_all() -> None:
    world = begun(Purpose.ADOPT)
    world.plan.by_text.append(("perform apply lb2", Fault.FAILED))
    _, end = run(world.lives[-1])
    assert isinstance(end, Halted)
    assert end.cause is Cause.NOT_PROVED
    assert authors(world) == {ORIGINAL}
    assert generations(world) == {None}
    world.assert_promises_kept()


@pytest.mark.parametrize("fault", [Fault.CRASH_HALF, Fault.HALF])
def test_an_undoing_that_died_half_way_is_finished(fault: Fault) -> None:
    world = begun(Purpose.ADOPT)
    world.plan.by_text += [("perform apply lb2", Fault.FAILED), ("perform unadopt lb1", fault)]
    if fault is Fault.CRASH_HALF:
        with pytest.raises(Crash):
            run(world.lives[-1])
        assert world.balancers["lb1"].current.generation is not None
        _, end = resume(world)
    else:
        _, end = run(world.lives[-1])
    assert isinstance(end, Halted)
    assert authors(world) == {ORIGINAL}
    assert generations(world) == {None}
    world.assert_promises_kept()


def test_a_halted_adoption_can_be_tried_again_or_aborted() -> None:
    for fact, ending in (
        (Decided("me"), Ending.DONE),
        (Redirected(Direction.BACK, "me"), Ending.ABORTED),
    ):
        world = begun(Purpose.ADOPT)
        world.plan.by_text.append(("perform apply lb2", Fault.FAILED))
        run(world.lives[-1])
        _, end = resume(world, fact)
        assert end == Closed(ending)
        assert authors(world) == {US if ending is Ending.DONE else ORIGINAL}
        world.assert_promises_kept()


def test_an_adoption_aborted_half_way_gives_every_file_back() -> None:
    world = begun(Purpose.ADOPT)
    world.plan.by_text.append(("perform apply lb2", Fault.CRASH_BEFORE))
    with pytest.raises(Crash):
        run(world.lives[-1])
    assert authors(world) == {US, ORIGINAL}
    _, end = resume(world, Redirected(Direction.BACK, "me"))
    assert end == Closed(Ending.ABORTED)
    assert authors(world) == {ORIGINAL}
    assert generations(world) == {None}
    world.assert_promises_kept()


def test_a_file_edited_while_it_is_being_adopted_is_not_touched() -> None:
    world = begun(Purpose.ADOPT)
    fake_hands.edit(world, "lb2")
    _, end = run(world.lives[-1])
    assert isinstance(end, Halted)
    assert end.cause is Cause.HANDS
    world.assert_promises_kept()


def test_unadopting_puts_every_original_back_byte_for_byte() -> None:
    world = begun(Purpose.UNADOPT)
    originals = {name: lb.original for name, lb in world.balancers.items()}
    _, end = run(world.lives[-1])
    assert end == Closed(Ending.DONE)
    assert {name: lb.file for name, lb in world.balancers.items()} == originals
    assert generations(world) == {None}
    world.assert_promises_kept()


def test_an_unadoption_that_fails_on_one_halts_and_can_be_tried_again_or_left() -> None:
    for fact, ending in (
        (Decided("me"), Ending.DONE),
        (Redirected(Direction.STOP, "me"), Ending.ABORTED),
    ):
        world = begun(Purpose.UNADOPT)
        world.plan.by_text.append(("perform unadopt lb2", Fault.FAILED))
        _, end = run(world.lives[-1])
        assert isinstance(end, Halted)
        _, end = resume(world, fact)
        assert end == Closed(ending)
        world.assert_site_serves()
