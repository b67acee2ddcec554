"""The small language of the stories: what happens to a fake fleet, and what the runner does.

A story is blocks divided by empty lines: commands, `----`, what came of them. The commands:

    fleet backends=3 balancers=2 wave=1 on-failure=halt drain-limit=120 at-limit=halt
          ready-limit=180 max-errors=2 watch=5
    fail lb1 3                 | three requests through lb1 are answered 5xx
    forgets app1 on r2         | app1 can read no stored session on r2, and says so in its log
    ill app2 on r2             | app2 never becomes healthy on r2
    drain lb1 5                | workers of lb1 live 5 s after a reload (`never`: for ever)
    cut lb2 / join lb2         | the machine does not answer / answers again
    edit lb1 / restore lb1     | a person changes the file / puts it back as it was
    at TEXT: COMMAND           | do that right before the first call whose label holds TEXT;
                               | `$` in it is the label's end
    when TEXT: FAULT           | what goes wrong at that call (the words of `fake_faults.Fault`)
    open                       | write the first fact
    run                        | the first life
    resume [on MACHINE]        | a new life; on another machine it has only the copies
    go on [without app2]       | a new life, with a person's answer
    abort back / abort stop    | a new life, in another direction
"""

from __future__ import annotations

from dataclasses import dataclass, field

from rolling_deploy.errors import RollingDeployError
from rolling_deploy.ports import Written
from rolling_deploy.rollout.facts import Decided, Direction, Fact, Redirected
from rolling_deploy.rollout.fleet import DrainAtLimit, OnFailure, Policy
from tests import fake_hands
from tests.drive import run
from tests.fake_faults import Crash, Fault
from tests.fake_load_balancer import FakeFile
from tests.transcripts.telling import tell
from tests.world import World, live_again, make_world, open_rollout


@dataclass
class Story:
    """One story as it unfolds."""

    world: World = field(default_factory=make_world)
    policy: Policy = field(default_factory=Policy)
    saved: dict[str, FakeFile] = field(default_factory=dict)

    def tell(self, commands: list[str]) -> list[str]:
        """Answers what came of these commands."""
        lines: list[str] = []
        for command in commands:
            if command and not command.startswith("#"):
                lines += self.do(command)
        return lines

    def do(self, command: str) -> list[str]:
        """Answers what came of one command."""
        match command.split():
            case ["fleet", *options]:
                self._fleet(dict(option.split("=") for option in options))
            case ["at", *_]:
                text, then = command.removeprefix("at ").split(": ")
                self.world.hands_at.append((text, lambda _: self._quietly(then)))
            case ["when", *_]:
                text, words = command.removeprefix("when ").split(": ")
                self.world.plan.by_text.append((text, Fault(words)))
            case ["run"]:
                open_rollout(self.world, policy=self.policy)
                return self._live("laptop", is_first=True)
            case ["resume"]:
                return self._live("laptop")
            case ["resume", "on", machine]:
                return self._live(machine)
            case ["go", "on"]:
                return self._live("laptop", Decided("a person"))
            case ["go", "on", "without", *names]:
                return self._live("laptop", Decided("a person", skip=tuple(names)))
            case ["abort", direction]:
                return self._live("laptop", Redirected(Direction(direction), "a person"))
            case _:
                self._quietly(command)
        return []

    def _quietly(self, command: str) -> None:  # noqa: C901 # one case a command
        world = self.world
        match command.split():
            case ["ill", name, "on", version]:
                world.backends[name].sick_on.add(version)
            case ["forgets", name, "on", version]:
                world.backends[name].forgets_on.add(version)
            case ["well", name]:
                world.backends[name].sick_on.clear()
            case ["drain", name, "never"]:
                world.balancers[name].drains_ms = [None]
            case ["drain", name, seconds]:
                world.balancers[name].drains_ms = [int(float(seconds) * 1000)]
            case ["cut", name]:
                world.balancers[name].is_reachable = False
            case ["join", name]:
                world.balancers[name].is_reachable = True
            case ["edit", name]:
                self.saved[name] = world.balancers[name].file
                fake_hands.edit(world, name)
            case ["fail", name, count]:
                world.logs[name] += [502] * int(count)
            case ["restore", name]:
                world.balancers[name].edit(self.saved[name])
            case _:
                raise ValueError(f"no such command: {command}")

    def _fleet(self, options: dict[str, str]) -> None:
        seconds = {
            key: int(float(value) * 1000)
            for key, value in options.items()
            if "limit" in key and key != "at-limit"
        }
        self.policy = Policy(
            wave_size=int(options.get("wave", "1")),
            on_failure=OnFailure(options.get("on-failure", "halt")),
            drain_limit_ms=seconds.get("drain-limit", 120_000),
            drain_at_limit=DrainAtLimit(options.get("at-limit", "halt")),
            ready_limit_ms=seconds.get("ready-limit", 180_000),
            counts_losses="max-errors" in options,
            max_errors=int(options["max-errors"]) if "max-errors" in options else None,
            watches_logouts="watch" in options,
            watch_ms=int(options.get("watch", "0")) * 1000,
        )
        backends, balancers = int(options.get("backends", "3")), int(options.get("balancers", "2"))
        self.world = make_world(backends, balancers)
        self.world.logs = {name: [] for name in self.world.balancers}

    def _live(self, machine: str, *facts: Fact, is_first: bool = False) -> list[str]:
        """Answers one life's lines, and the truth when it is over."""
        world = self.world
        told = len(world.events)
        lines: list[str] = []
        try:
            life = world.lives[-1] if is_first else live_again(world, machine)
            if facts:
                life.append(facts, before_acting=True)
            if not is_first:
                lines = [f"  life {len(world.lives)} on {machine}, epoch {life.token.epoch}"]
            _, ended = run(life)
            end = ""
            if ended not in [e.entry.fact for e in world.events[told:] if isinstance(e, Written)]:
                end = f"as before: {ended.reason or 'closed'}"
        except Crash:
            end = "the operator is dead"
        except RollingDeployError as error:
            end = f"exit {error.exit_code}: {error.what}"
        events = (tell(event, 1_000_000) for event in world.events[told:])
        lines += [line for line in events if line]
        world.assert_promises_kept()
        return [*lines, *([f"  {end}"] if end else []), f"  = {world.picture()}"]
