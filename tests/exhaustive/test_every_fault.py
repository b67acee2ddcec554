"""Every kind of fault at every port call of a rollout, then resumed until it ends.

No randomness: the fault-free run is counted first, and then run once for each of its calls and
each kind of fault that fits the call. A person answers a halt with "go on"; nothing else helps.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from rolling_deploy.rollout.facts import Closed, Direction, Ending, Halted, Purpose, Redirected
from rolling_deploy.rollout.fleet import OnFailure, Policy
from tests.drive import Journey, settle
from tests.fake_faults import FITS, Fault
from tests.world import World, make_world, open_rollout

DIES = frozenset(fault for fault in Fault if fault.name.startswith("CRASH"))


@dataclass(frozen=True)
class Shape:
    """One rollout to break in every way."""

    name: str
    start: Callable[[], World]
    ending: Ending = Ending.DONE
    elsewhere: bool = False
    """Each new life is on a machine without the local record; only deaths are tried."""
    aborts: bool = False
    """A person answers every halt with `abort`; only what does not kill is tried."""

    def answer(self, halted: Halted) -> tuple[Redirected, ...]:
        """What the person of an aborting shape says."""
        del halted
        return (Redirected(Direction.BACK, "someone"),)


def serial() -> World:
    """Three backends, one at a time, behind two load balancers."""
    world = make_world(3, 2)
    open_rollout(world)
    return world


def small() -> World:
    """Two backends, one at a time, behind two load balancers."""
    world = make_world(2, 2)
    open_rollout(world)
    return world


def waves() -> World:
    """Four backends, two at a time, behind two load balancers."""
    world = make_world(4, 2)
    open_rollout(world, policy=Policy(wave_size=2))
    return world


def going_back() -> World:
    """The second of two backends is ill on the new release, and the policy brings it back."""
    world = make_world(2, 1)
    world.backends["app2"].sick_on = {"r2"}
    policy = Policy(on_failure=OnFailure.BACK_NODE, ready_limit_ms=500)
    open_rollout(world, policy=policy)
    return world


def proving_sessions() -> World:
    """Two backends that prove, each, that sessions survive."""
    world = make_world(2, 1)
    open_rollout(world, policy=Policy(proves_sessions=True))
    return world


def logging_everybody_out() -> World:
    """The release reads no session of the one before, and the policy brings that one back."""
    world = make_world(2, 1)
    for fake in world.backends.values():
        fake.forgets_on = {"r2"}
    policy = Policy(on_failure=OnFailure.BACK_NODE, ready_limit_ms=500, proves_sessions=True)
    open_rollout(world, policy=policy)
    return world


def watching_for_logouts() -> World:
    """Two backends that are watched; nobody is logged out."""
    world = make_world(2, 1)
    open_rollout(world, policy=Policy(watches_logouts=True))
    return world


def logouts_that_a_log_tells() -> World:
    """The release reads no session of the one before, which only the log says."""
    world = make_world(2, 1)
    for fake in world.backends.values():
        fake.forgets_on = {"r2"}
    open_rollout(world, policy=Policy(watches_logouts=True))
    return world


def taking_over_what_was_left_out() -> World:
    """An earlier rollout left a broken backend out; this one takes it over."""
    world = make_world(3, 1, left_out=frozenset({"app2"}))
    world.backends["app2"].sick_on = {"r1"}
    open_rollout(world)
    return world


def setting_up() -> World:
    """Two backends that get their wiring and keep their release."""
    world = make_world(2, 2)
    open_rollout(world, purpose=Purpose.SETUP)
    return world


def adopting() -> World:
    """Two load balancers with people's own files."""
    world = make_world(2, 2, is_adopted=False)
    open_rollout(world, purpose=Purpose.ADOPT)
    return world


def unadopting() -> World:
    """Two load balancers whose originals come back."""
    world = make_world(2, 2)
    open_rollout(world, purpose=Purpose.UNADOPT)
    return world


SHAPES = (
    Shape("serial", serial),
    Shape("each life on another machine", small, elsewhere=True),
    Shape("halts answered by abort", small, aborts=True),
    Shape("waves of two", waves),
    Shape("a backend goes back", going_back, Ending.WENT_BACK),
    Shape("proving sessions", proving_sessions),
    Shape("logging everybody out", logging_everybody_out, Ending.WENT_BACK),
    Shape("watching for logouts", watching_for_logouts),
    Shape("logouts that a log tells", logouts_that_a_log_tells, aborts=True),
    Shape("taking over what was left out", taking_over_what_was_left_out),
    Shape("setting up", setting_up),
    Shape("adopting", adopting),
    Shape("unadopting", unadopting),
)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_every_single_fault_ends_with_the_site_serving_and_the_record_telling_the_truth(
    shape: Shape, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every run ends closed as it should, perhaps after halts; no promise is broken on the way."""
    quiet = shape.start()
    settle(quiet)
    endings: Counter[str] = Counter()
    for number, (port, label) in enumerate(quiet.calls, start=1):
        for fault in FITS[port]:
            if (shape.elsewhere and fault not in DIES) or (shape.aborts and fault in DIES):
                continue
            world = shape.start()
            world.plan.by_number[number] = fault
            journey = _settle(world, shape, f"call {number}, {port} {label}: {fault.name}")
            endings[_told(journey)] += 1
            # Whoever only dies needs no person: the next life goes on by itself.
            assert not (fault in DIES and journey.halts), (number, port, label, fault)
    with capsys.disabled():
        told = ", ".join(f"{count} {end}" for end, count in sorted(endings.items()))
        print(
            f"\n  {shape.name}: {sum(endings.values())} runs over {len(quiet.calls)} calls: {told}"
        )
    assert set(endings) <= _allowed(shape)


def _settle(world: World, shape: Shape, where: str) -> Journey:
    try:
        if shape.aborts:
            journey = settle(world, elsewhere=shape.elsewhere, answer=shape.answer)
        else:
            journey = settle(world, elsewhere=shape.elsewhere)
        world.assert_promises_kept()
        world.assert_site_serves()
        assert not world.later, "a command still runs when the rollout is over"
    except BaseException as error:
        error.add_note(f"{where}\n{world.picture()}")
        raise
    return journey


def _told(journey: Journey) -> str:
    if isinstance(journey.end, Closed):
        return f"{journey.end.ending}{' after a halt' if journey.halts else ''}"
    return "still halted"


def _allowed(shape: Shape) -> set[str]:
    """How a run may end: as without the fault, or unstarted; aborted only if a person said so."""
    allowed = {str(shape.ending), f"{shape.ending} after a halt", str(Ending.NOTHING_TOUCHED)}
    if shape.aborts:
        allowed = {*allowed, f"{Ending.ABORTED} after a halt"} - {f"{shape.ending} after a halt"}
    return allowed
