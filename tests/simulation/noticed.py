"""What is known to notice each mistake: scenarios made for it, and seeds."""

from __future__ import annotations

from collections.abc import Mapping

from rolling_deploy.rollout.fleet import Policy
from tests.simulation.misfortune import Fault
from tests.simulation.regressions import REGRESSIONS
from tests.simulation.scenario import Scenario
from tests.simulation.shape import Shape


def _around(turn: int, *kinds: tuple[str, str, int], attempts_max: int = 2) -> tuple[Scenario, ...]:
    """A rollout of two backends with these faults at about this turn: a turn is another moment as
    soon as anything takes one turn more.
    """
    return tuple(
        Scenario(
            1,
            Shape(2, 1),
            Policy(attempts_max=attempts_max),
            faults=tuple(
                Fault(at + later, kind, target, ms)
                for later, (kind, target, ms) in enumerate(kinds)
            ),
        )
        for at in range(turn - 60, turn + 100)
    )


def _regressions(*seeds: int) -> tuple[Scenario, ...]:
    return tuple(one for one in REGRESSIONS if one.seed in seeds)


SCENARIOS: Mapping[str, tuple[Scenario, ...]] = {
    # A command stands still for a minute, its operator dies, somebody takes over, it goes on.
    "no flock": _around(338, ("slow_commands", "lb1", 60_000), ("kill", "", 0)),
    # The power fails while a backend is stopped, and only one attempt is allowed.
    "attempts begin anew with each life": _around(402, ("blackout", "", 0), attempts_max=1),
    # The operator dies while a backend is stopped; that command goes on, and somebody takes over.
    "a command that still runs is not waited for": _around(
        398, ("slow_commands", "app2", 20_000), ("kill", "", 0)
    ),
    # A person saves the file between the first compare and the rename.
    "no digest compare": _regressions(20426),
    # An unadoption is aborted while a load balancer still serves ours.
    "an aborted unadoption leaves an original unserved": _regressions(631),
    "what is back and serves is taken out again": _regressions(77997),
    "what is back and serves is taken out again, and safety awake": _regressions(77997),
    "what an earlier rollout left out counts as out though it is back": _regressions(79800),
    "the others are asked before the stop only": _regressions(5),
    "the others are asked before the stop only, and safety awake": _regressions(5),
    "what was forced once stays forced": _regressions(99436),
    # An operator stands still between its look and what it decides, or what it sends.
    "a standstill is not noticed": _around(250, ("freeze", "", 20_000)),
    "a standstill is not noticed before it is decided": _around(250, ("freeze", "", 20_000)),
    "a standstill is not noticed once it is decided": _around(250, ("freeze", "", 20_000)),
    "a standstill of half a minute is none": _around(250, ("freeze", "", 20_000)),
    # And after the last moment at which it could notice: a load balancer has to.
    "a command may come as late as it likes": _around(250, ("freeze", "", 89_000)),
    "a command may come two minutes late": _around(250, ("freeze", "", 89_000)),
}
"""What is made to show one mistake; tried first."""

HINTS: Mapping[str, int] = {
    "a rollout is done though a load balancer is off": 12,
    "once declared off, a load balancer is off for ever": 9,
    "a load balancer that was off is not met": 9,
    "a new life counts requests from its own beginning": 11,
    "what was counted is written once more": 26,
    "failed requests halt nothing": 46,
    "a person's answer forgives no failed requests": 11,
    "no epoch": 1104,
    "the epoch does not rise with a new life": 2,
    "no guard": 86,
    "redo instead of look": 22,
    "trust the exit code of a reload": 26,
    "ignore parked": 9,
    "skip the capacity guard": 1,
    "forget an older generation": 21,
    "no drain": 9,
    "no drain, and safety awake": 7,
    "what cannot be told of workers is taken for none": 503,
    "put back without a proof": 20,
    "a healthy answer of any version is good": 20,
    "put back what is not proven": 11,
    "a hand edit is written over": 77,
    "of two records the longer one wins": 109,
    "a copy is added to without looking": 109,
    "the session store is not asked": 459,
    "no warm-up": 7,
    "pruning forgets the release to go back to": 7,
    "a load balancer that is cut off counts as out": 331,
}
"""A seed that is known to notice a mutant; tried next, so that the short form is short."""
