"""Every pair of the worst kinds of fault, at every two port calls of a small rollout.

The long form (`PAIRS=all`) runs them all; the short one every 41st, always the same ones.
"""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Iterator

import pytest

from rolling_deploy.rollout.fleet import Policy
from tests.drive import settle
from tests.exhaustive.test_every_fault import Shape, small, waves
from tests.fake_faults import FITS, Fault
from tests.world import World, make_world, open_rollout

WORST = frozenset(
    {
        Fault.CRASH_LATER,
        Fault.CRASH_HALF,
        Fault.CRASH_TORN,
        Fault.CRASH_UNCOPIED,
        Fault.LATER,
        Fault.HALF,
        Fault.BALANCER_UNREACHABLE,
        Fault.NO_COPY,
    }
)
"""What leaves the most in doubt: commands that outlive their operator or end half way, and records
that are torn or nowhere else."""

EVERY = 1 if os.environ.get("PAIRS") == "all" else 41


def one_wave() -> World:
    """Three backends, two in the first wave, behind one load balancer that drains slowly."""
    world = make_world(3, 1)
    world.balancers["lb1"].drains_ms = [500]
    open_rollout(world, policy=Policy(wave_size=2))
    return world


SHAPES = (
    Shape("serial", small),
    Shape("serial, each life on another machine", small, elsewhere=True),
    Shape("a wave of two, drained slowly", one_wave),
    Shape("waves of two", waves),
)


def pairs_of(shape: Shape) -> Iterator[dict[int, Fault]]:
    """Answers every two calls with every two of the worst kinds that fit them."""
    quiet = shape.start()
    settle(quiet)
    places = [
        (number, fault)
        for number, (port, _) in enumerate(quiet.calls, start=1)
        for fault in FITS[port]
        if fault in WORST
    ]
    for (first, one), (second, other) in itertools.combinations(places, 2):
        if first != second:
            yield {first: one, second: other}


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_every_pair_of_the_worst_faults_ends_with_the_site_serving(
    shape: Shape, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each run ends finished or halted, no promise is broken, and nothing runs on behind it."""
    endings: Counter[str] = Counter()
    for plan in itertools.islice(pairs_of(shape), 0, None, EVERY):
        world = shape.start()
        world.plan.by_number.update(plan)
        try:
            journey = settle(world, elsewhere=shape.elsewhere)
            world.assert_promises_kept()
            world.assert_site_serves()
            assert not world.later, "a command still runs when the rollout is over"
        except BaseException as error:
            error.add_note(f"{plan}\n{world.picture()}")
            raise
        endings[type(journey.end).__name__ + (" after a halt" if journey.halts else "")] += 1
    with capsys.disabled():
        told = ", ".join(f"{count} {end}" for end, count in sorted(endings.items()))
        print(f"\n  {shape.name}: {endings.total()} pairs: {told}")
    assert set(endings) <= {"Closed", "Closed after a halt", "Halted after a halt"}
