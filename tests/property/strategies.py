"""Hypothesis strategies: fleets, policies, misfortune and people's hands."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from hypothesis import strategies as st

from rolling_deploy.rollout.facts import Decided, Direction, Fact, Halted, Redirected
from rolling_deploy.rollout.fleet import DrainAtLimit, OnFailure, Policy
from tests import fake_hands
from tests.fake_faults import Fault
from tests.world import World, make_world, open_rollout

NEWS = ("r2", "r1")


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    """Policies with limits short enough to be met."""
    return Policy(
        wave_size=draw(st.integers(1, 2)),
        serving_min=draw(st.integers(1, 2)),
        drain_limit_ms=draw(st.sampled_from([50, 5_000])),
        drain_at_limit=draw(st.sampled_from(DrainAtLimit)),
        on_failure=draw(st.sampled_from(OnFailure)),
        attempts_max=draw(st.integers(1, 3)),
        ready_limit_ms=2_000,
        busy_limit_ms=draw(st.sampled_from([500, 10_000])),
        counts_losses=draw(st.booleans()),
        max_errors=draw(st.sampled_from([None, 0, 3])),
        proves_sessions=draw(st.booleans()),
        watches_logouts=draw(st.booleans()),
        watch_ms=draw(st.sampled_from([0, 500])),
        logout_lines_max=draw(st.sampled_from([0, 1, 5])),
    )


@st.composite
def fleets(draw: st.DrawFn) -> World:
    """Fleets of several shapes, with an opened rollout. What is ill is ill from the start."""
    count = draw(st.integers(2, 5))
    names = [f"app{n}" for n in range(1, count + 1)]
    upstreams = {"web": tuple(names)}
    if draw(st.booleans()):
        upstreams["api"] = tuple(names[1:])
    odd = draw(st.permutations(names))
    parked = frozenset(odd[: draw(st.integers(0, count - 2))])
    left_out = frozenset(odd[count - 1 :]) if draw(st.integers(0, 3)) == 0 else frozenset()
    world = make_world(
        count, draw(st.integers(1, 3)), upstreams=upstreams, parked=parked, left_out=left_out
    )
    for fake in world.backends.values():
        if draw(st.integers(0, 4)) == 0:
            fake.sick_on = {draw(st.sampled_from(NEWS))}
        if draw(st.integers(0, 6)) == 0:
            fake.instead = {"r2": "r1"}
        if draw(st.integers(0, 6)) == 0:
            fake.cold_on = {"r2"}
        if draw(st.integers(0, 8)) == 0:
            fake.forgets_on = {"r2"}
        fake.is_version_checked = bool(fake.instead) or draw(st.integers(0, 3)) > 0
        fake.is_secured = draw(st.integers(0, 5)) > 0
        fake.start_ms = draw(st.sampled_from([0, 30, 1_000]))
    for lb in world.balancers.values():
        lb.drains_ms = draw(st.lists(st.sampled_from([0, 40, 1_000, None]), min_size=1, max_size=4))
        lb.has_snapshot = draw(st.booleans())
    world.logs = {name: [] for name in world.balancers}
    open_rollout(world, policy=draw(policies()))
    return world


def _fail(world: World, balancer: str) -> None:
    """Some requests of users fail, for whatever reason."""
    world.logs[balancer] += [200, 502, 503]


def _hand(draw: st.DrawFn, world: World) -> Callable[[World], None]:
    backend = st.sampled_from(sorted(world.backends))
    balancer = st.sampled_from(sorted(world.balancers))
    match draw(st.integers(0, 4)):
        case 0:
            return partial(fake_hands.park, backend=draw(backend))
        case 1:
            return partial(fake_hands.put_in, backend=draw(backend))
        case 2:
            return partial(fake_hands.edit, balancer=draw(balancer))
        case _:
            return partial(fake_hands.reload, balancer=draw(balancer))


@st.composite
def troubled(draw: st.DrawFn, *, with_hands: bool = False) -> World:
    """Fleets in which some port calls go wrong, and people may do things in between."""
    world = draw(fleets())
    numbers = st.integers(1, draw(st.sampled_from([30, 120, 400])))
    kinds = draw(st.lists(st.sampled_from(Fault), min_size=1, max_size=6, unique=True))
    for number in draw(st.lists(numbers, max_size=2, unique=True)):
        world.hands[number] = partial(_fail, balancer=draw(st.sampled_from(sorted(world.logs))))
    world.plan.by_number = draw(st.dictionaries(numbers, st.sampled_from(kinds), max_size=20))
    if with_hands:
        for number in draw(st.lists(numbers, min_size=1, max_size=3, unique=True)):
            world.hands[number] = _hand(draw, world)
        world.has_guard = True  # people act between a look and a step too; only the guard sees it
    return world


def answers(draw: st.DrawFn) -> Callable[[Halted], tuple[Fact, ...]]:
    """What a person says to each halt."""

    def answer(halted: Halted) -> tuple[Fact, ...]:
        del halted
        match draw(st.integers(0, 4)):
            case 0:
                return (Redirected(Direction.BACK, "someone"),)
            case 1:
                return (Redirected(Direction.STOP, "someone"),)
            case 2:
                return (Decided("someone", skip=(f"app{draw(st.integers(1, 5))}",)),)
            case _:
                return (Decided("someone"),)

    return answer
