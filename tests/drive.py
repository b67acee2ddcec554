"""Driving a rollout in the fake world: life after life, until it ends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from rolling_deploy.errors import RecordWrong, RolloutHalted, RolloutHeld
from rolling_deploy.rollout.facts import Closed, Decided, Fact, Halted
from rolling_deploy.rollout.record import Record
from rolling_deploy.runner import Runner
from tests.fake_faults import Crash
from tests.fake_life import Life
from tests.world import World, live_again


def inline(work: Callable[[], None], name: str) -> None:
    """Do the work at once: one thread, so that every run can be replayed."""
    del name
    work()


def run(life: Life) -> tuple[Record, Halted | Closed]:
    """Drive one life to a halt or the end, with the real runner."""
    return Runner(life, life, life, life, life.token, spawn=inline).run()


def resume(world: World, *facts: Fact, machine: str = "laptop") -> tuple[Record, Halted | Closed]:
    """Take over, write what a person decided, and go on."""
    life = live_again(world, machine)
    if facts:
        life.append(facts, before_acting=True)
    return run(life)


@dataclass
class Journey:
    """How a rollout went from its first life to its end."""

    record: Record
    end: Halted | Closed
    halts: list[Halted] = field(default_factory=list)
    lives: int = 1


def settle(
    world: World,
    *,
    elsewhere: bool = False,
    answers_max: int = 3,
    answer: Callable[[Halted], tuple[Fact, ...]] = lambda _: (Decided("someone"),),
    lives_max: int = 40,
) -> Journey:
    """Resume after each death, answer each halt, until it is closed or the answers are used up.

    Args:
        elsewhere: every new life is on a machine that has no local record.
    """
    halts: list[Halted] = []
    facts: tuple[Fact, ...] = ()
    for count in range(1, lives_max + 1):
        machine = f"machine{count}" if elsewhere else "laptop"
        try:
            if count == 1:
                record, end = run(world.lives[-1])
            else:
                life = live_again(world, machine)
                if facts:
                    life.append(facts, before_acting=True)
                    facts = ()
                record, end = run(life)
        except (Crash, RecordWrong, RolloutHalted, RolloutHeld):
            continue
        if isinstance(end, Closed) or len(halts) == answers_max:
            return Journey(record, end, halts, count)
        halts.append(end)
        facts = answer(end)
    raise AssertionError(f"no end after {lives_max} lives: {world.picture()}")
