"""A scenario: everything that a seed decides, to be shown, cut down and replayed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random

from rolling_deploy.rollout.facts import Purpose
from rolling_deploy.rollout.fleet import DrainAtLimit, OnFailure, Policy
from tests.simulation import misfortune
from tests.simulation.misfortune import Fault
from tests.simulation.shape import Shape

TURNS_BUSY = 1500
"""About as many turns as a rollout of three backends without misfortune takes."""


@dataclass(frozen=True)
class Oddity:
    """What is unusual about one backend, from the start.

    Attributes:
        sick_on, cold_on: a release on which it never becomes healthy, or warm; empty for none.
        lies: it serves r-1 whatever is put in place.
    """

    sick_on: str = ""
    cold_on: str = ""
    lies: bool = False
    is_secured: bool = True
    start_ms: int = 30


@dataclass(frozen=True)
class Scenario:
    """One simulation.

    Attributes:
        seed: also of every tie and pause.
        parked, left_out: backends that are out when we come, by people or by an earlier rollout.
        drains_ms: per load balancer, see `machines.Balancer`.
        second: turns at which a second operator begins, and what it wants.
        elsewhere: each life is on another machine.
        answers: what people say to halts, in turn.
        has_guard, has_lock: see `world.World`.
        are_patient: second operators that begin something wait for whoever holds it.
    """

    seed: int
    shape: Shape
    policy: Policy
    purpose: Purpose = Purpose.DEPLOY
    parked: frozenset[str] = frozenset()
    left_out: frozenset[str] = frozenset()
    oddities: tuple[Oddity, ...] = ()
    drains_ms: tuple[tuple[int | None, ...], ...] = ()
    has_snapshot: bool = True
    faults: tuple[Fault, ...] = ()
    second: tuple[tuple[int, str], ...] = ()
    elsewhere: bool = False
    answers: tuple[str, ...] = ("resume",)
    has_guard: bool = False
    rollouts: int = 1
    has_lock: bool = True
    are_patient: bool = False

    def described(self) -> str:
        """Answers the scenario in a few lines."""
        lines = [
            f"seed {self.seed}: {self.purpose}, {self.shape}",
            f"  {self.policy}",
            f"  parked {sorted(self.parked)}, left out {sorted(self.left_out)}",
            *(
                f"  {name}: {one}"
                for name, one in zip(self.shape.backend_names, self.oddities, strict=False)
            ),
            f"  drains {self.drains_ms}, snapshot {self.has_snapshot}, guard {self.has_guard}",
            f"  answers {self.answers}, elsewhere {self.elsewhere}",
            f"  second {self.second}, patient {self.are_patient}",
            *(f"  {fault}" for fault in self.faults),
        ]
        return "\n".join(lines)


def scenario_of(seed: int) -> Scenario:
    """Answers the scenario of a seed: a fleet, a policy, and a mix of misfortune of its own.

    Swarm testing: each seed allows only some kinds, so that rare ones are not drowned by others.
    """
    rng = Random(seed)
    backends = rng.choice((2, 2, 3, 3, 4, 5))
    shape = Shape(
        backends,
        balancers=rng.choice((1, 2, 2, 3)),
        has_two_upstreams=backends > 2 and rng.random() < 0.3,  # one each
        is_version_checked=rng.random() < 0.75,
    )
    names = list(shape.backend_names)
    rng.shuffle(names)
    purpose = rng.choices((Purpose.DEPLOY, Purpose.ADOPT, Purpose.UNADOPT), (12, 1, 1))[0]
    is_deploy = purpose is Purpose.DEPLOY
    parked = frozenset(names[: rng.choice((0, 0, 0, 1)) if len(names) > 2 else 0])
    can_leave_out = is_deploy and len(names) > (4 if parked or shape.has_two_upstreams else 1)
    left_out = frozenset(names[-1:]) if can_leave_out and rng.random() < 0.2 else frozenset()
    has_hands = rng.random() < 0.4
    faults = _faults(rng, shape, has_hands=has_hands)
    scenario = Scenario(
        seed,
        shape,
        _policy(rng),
        purpose,
        parked if is_deploy else frozenset(),
        left_out,
        tuple(_oddity(rng) for _ in names),
        tuple(_drains(rng) for _ in shape.balancer_names),
        rng.random() < 0.7,
        faults,
        tuple(
            (
                rng.randrange(2 * TURNS_BUSY),
                rng.choice(("resume", "run", "abort", "other", "unlock")),
            )
            for _ in range(rng.choice((0, 0, 1, 2, 3)))
        ),
        rng.random() < 0.3 and not any(f.kind in ("forge", "copy_is_lost") for f in faults),
        tuple(rng.choice(("resume", "resume", "back", "stop", "skip")) for _ in range(4)),
        has_hands,
        rng.choice((1, 1, 2)) if is_deploy else 1,
    )
    return _with_more(scenario, Random(f"more {seed}"))


def _with_more(scenario: Scenario, rng: Random) -> Scenario:
    """What came later is drawn behind everything else, and most seeds have none of it: a seed that
    was looked at once still means nearly the same.
    """
    more: list[Fault] = []
    within = rng.choice((200, TURNS_BUSY, 3 * TURNS_BUSY))
    balancers = scenario.shape.balancer_names
    is_deploy = scenario.purpose is Purpose.DEPLOY
    policy = scenario.policy
    if is_deploy and rng.random() < 0.25:
        most = rng.choice((None, 0, 2, 6))
        policy = replace(policy, counts_losses=True, max_errors=most)
        for _ in range(rng.choice((0, 1, 3, 6))):
            kind = rng.choice(("requests_fail", "requests_fail", "log_rotates"))
            more.append(Fault(rng.randrange(within), kind, rng.choice(balancers), _ms(rng)))
    is_plain = not any(f.kind in ("lose_disk", "forge", "copy_is_lost") for f in scenario.faults)
    if is_deploy and len(balancers) > 1 and is_plain and rng.random() < 0.2:
        for _ in range(rng.choice((1, 1, 2))):
            at_turn = rng.choice((0, rng.randrange(within)))
            more.append(Fault(at_turn, "goes_off", rng.choice(balancers), _ms(rng)))
    faults = sorted([*scenario.faults, *more], key=lambda fault: fault.at_turn)
    patient = rng.random() < 0.2
    return replace(scenario, policy=policy, faults=tuple(faults), are_patient=patient)


def _policy(rng: Random) -> Policy:
    return Policy(
        wave_size=rng.choice((1, 1, 2)),
        serving_min=rng.choice((1, 1, 2)),
        drain_limit_ms=rng.choice((200, 5_000)),
        drain_at_limit=rng.choice(tuple(DrainAtLimit)),
        on_failure=rng.choice(tuple(OnFailure)),
        attempts_max=rng.choice((1, 2, 3)),
        ready_limit_ms=2_000,
        busy_limit_ms=rng.choice((500, 10_000)),
    )


def _oddity(rng: Random) -> Oddity:
    lies = rng.random() < 0.05
    return Oddity(
        rng.choice(("r2", "r1")) if rng.random() < 0.15 else "",
        "r2" if rng.random() < 0.08 else "",
        lies,
        rng.random() > 0.12,
        rng.choice((0, 30, 1_000)),
    )


def _drains(rng: Random) -> tuple[int | None, ...]:
    return tuple(rng.choice((0, 40, 40, 1_000, None)) for _ in range(rng.randrange(1, 5)))


def _faults(rng: Random, shape: Shape, *, has_hands: bool) -> tuple[Fault, ...]:
    kinds = list(misfortune.DRAWN)
    if not has_hands:
        hands = {*misfortune.HANDS_ON_BALANCERS, *misfortune.HANDS_ON_BACKENDS}
        kinds = [kind for kind in kinds if kind not in hands]
    allowed = rng.sample(kinds, rng.randrange(1, 7))
    if {"lose_disk", "forge", "copy_is_lost"} & set(allowed):
        # With every true copy gone there is nothing left to promise: one of these at the most.
        kept = rng.choice(("lose_disk", "forge", "copy_is_lost"))
        allowed = [
            k for k in allowed if k == kept or k not in ("lose_disk", "forge", "copy_is_lost")
        ]
        allowed = allowed or [kept]
    within = rng.choice((200, TURNS_BUSY, 3 * TURNS_BUSY))
    faults = []
    for _ in range(rng.choice((0, 1, 2, 3, 5, 8))):
        kind = rng.choice(allowed)
        faults.append(Fault(rng.randrange(within), kind, _target(rng, shape, kind), _ms(rng)))
    return tuple(sorted(faults, key=lambda fault: fault.at_turn))


def _target(rng: Random, shape: Shape, kind: str) -> str:
    if kind in misfortune.ON_MACHINES:
        return rng.choice((*shape.balancer_names, *shape.backend_names))
    if kind in {*misfortune.ON_BALANCERS, *misfortune.HANDS_ON_BALANCERS}:
        return rng.choice(shape.balancer_names)
    return rng.choice(shape.backend_names)


def _ms(rng: Random) -> int:
    return int(rng.choice((10, 100, 1_000, 10_000, 60_000)) * (0.5 + rng.random()))
