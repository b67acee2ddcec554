"""The operator dies at every instant of a rollout, and a person aborts: back, or just stop."""

from __future__ import annotations

import pytest

from rolling_deploy.rollout.facts import Closed, Direction, Ending, Redirected
from tests.drive import resume, run, settle
from tests.fake_faults import Crash, Fault
from tests.world import World, make_world, open_rollout


def start() -> World:
    """Answers a rollout of three backends behind two load balancers that drain slowly."""
    world = make_world(3, 2)
    for lb in world.balancers.values():
        lb.drains_ms = [500]
    open_rollout(world)
    return world


@pytest.mark.parametrize("direction", [Direction.BACK, Direction.STOP])
def test_an_abort_at_every_instant_ends_with_everybody_in_and_proven(
    direction: Direction, capsys: pytest.CaptureFixture[str]
) -> None:
    quiet = start()
    settle(quiet)
    count = 0
    for number, (port, label) in enumerate(quiet.calls, start=1):
        for fault in (Fault.CRASH_BEFORE, Fault.CRASH_AFTER):
            world = start()
            world.plan.by_number[number] = fault
            with pytest.raises(Crash):
                run(world.lives[-1])
            _, end = resume(world, Redirected(direction, "me"))
            count += 1
            where = f"call {number}, {port} {label}: {fault.name}\n{world.picture()}"
            is_over = isinstance(end, Closed) and end.ending is Ending.DONE
            assert end == Closed(Ending.ABORTED) or is_over, where
            world.assert_promises_kept()
            every = set(world.backends)
            assert all(lb.current.up == every for lb in world.balancers.values()), where
            if direction is Direction.BACK and not is_over:
                assert {fake.version for fake in world.backends.values()} == {"r1"}, where
    with capsys.disabled():
        print(f"\n  abort, {direction}: {count} runs over {len(quiet.calls)} calls")
