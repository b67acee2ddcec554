"""One simulation from its scenario to its end: lives, people's answers, and liveness."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from rolling_deploy.errors import InvariantBroken, RollingDeployError
from rolling_deploy.operations.life import Run
from rolling_deploy.parallel import in_turn
from rolling_deploy.rollout.facts import Cause, Direction, Halted, Purpose
from rolling_deploy.rollout.fold import fold
from rolling_deploy.rollout.journal import read_chain
from tests.simulation import misfortune, orders
from tests.simulation.audit import Audit
from tests.simulation.endings import served_at_the_end
from tests.simulation.machines import ORIGINAL, US, Balancer, Host, Node, Workers, artifact_of
from tests.simulation.nginx_text import sends_of
from tests.simulation.operator import Operator
from tests.simulation.orders import Order
from tests.simulation.scenario import Oddity, Scenario
from tests.simulation.scheduler import START_MS, Scheduler
from tests.simulation.world import World

LIVES_BUSY = 8
"""So many lives meet misfortune; after that there is none, and it must come to an end."""
LIVES_MAX = 30
TURNS_MAX = 150_000
EXPIRY_MS = 31_000
"""A lock whose heart has stopped is dead after 30 s."""


@dataclass(frozen=True)
class Outcome:
    """How a simulation ended.

    Attributes:
        broken: every promise that was broken; empty is good.
        ends: how lives ended, counted.
    """

    scenario: Scenario
    broken: tuple[str, ...]
    checked: Counter[str]
    trace: tuple[str, ...]
    ends: Counter[str]
    turns: int
    lives: int
    rollouts: int


def simulate(scenario: Scenario) -> Outcome:
    """Answers how the scenario ends. The same scenario ends the same way, always."""
    world = build(scenario)
    driver = _Driver(world, scenario)
    with in_turn():
        try:
            driver.drive()
        finally:
            world.scheduler.end()
    turns = world.scheduler.turns
    return Outcome(
        scenario,
        tuple(world.audit.broken),
        world.audit.checked,
        tuple(world.trace),
        driver.ends,
        turns,
        driver.lives,
        driver.rollouts,
    )


def build(scenario: Scenario) -> World:
    """Answers the site as it is when the first operator comes."""
    shape, rng = scenario.shape, Random(scenario.seed ^ 0x5EED)
    world = World(shape, rng, Scheduler(rng))
    world.audit = Audit(world)
    world.has_guard, world.has_lock = scenario.has_guard, scenario.has_lock
    for number, name in enumerate(shape.backend_names):
        world.nodes[name] = _node(name, scenario, number)
    for number, name in enumerate(shape.balancer_names):
        world.balancers[name] = _balancer(name, scenario, number)
    for name in ("laptop", "ci", "desk"):
        world.hosts[name] = Host(name)
    return world


def _node(name: str, scenario: Scenario, number: int) -> Node:
    oddity = scenario.oddities[number] if scenario.oddities else Oddity()
    node = Node(name, address=f"{name}:8080", artifact=artifact_of("r1"), serves="r1")
    node.start_ms, node.is_secured = oddity.start_ms, oddity.is_secured
    node.sick_on = {oddity.sick_on} - {""}
    node.cold_on = {oddity.cold_on} - {""}
    node.instead = {"r2": "r1"} if oddity.lies and scenario.shape.is_version_checked else {}
    return node


def _balancer(name: str, scenario: Scenario, number: int) -> Balancer:
    is_managed = scenario.purpose is not Purpose.ADOPT
    shape = scenario.shape
    text = shape.managed(name, scenario.left_out) if is_managed else shape.found
    if is_managed and scenario.parked:
        # A person parked them once, and an earlier rollout has kept that.
        text = shape.managed(name, scenario.left_out, scenario.parked)
    lb = Balancer(name, text=text, first=text)
    lb.authors[text] = US if is_managed else ORIGINAL
    lb.original = shape.found if is_managed else None
    lb.authors.setdefault(shape.found, ORIGINAL)
    lb.restart()
    lb.drains_ms = list(scenario.drains_ms[number]) if scenario.drains_ms else [40]
    lb.has_snapshot = scenario.has_snapshot
    if not scenario.has_snapshot and scenario.left_out:
        # Of a configuration in which nobody was out yet; nobody noted whose worker it is.
        text = shape.managed(name, frozenset(), scenario.parked)
        ends_at_ms = START_MS + EXPIRY_MS if number else None
        lb.retiring = [Workers("r-0.1.8", sends_of(text), text, ends_at_ms)]
    return lb


class _Driver:
    """The people around the operators: they start, wait, answer, and start again."""

    def __init__(self, world: World, scenario: Scenario) -> None:
        self.world = world
        self.scenario = scenario
        self.faults = list(scenario.faults)
        self.second = sorted(scenario.second)
        self.ends: Counter[str] = Counter()
        self.lives = 0
        self.rollouts = 0
        self.halts = 0
        self.is_quiet = False
        self.off: frozenset[str] = frozenset()
        world.scheduler.before_turn = self._before_turn

    def _before_turn(self) -> None:
        turn = self.world.scheduler.turns
        while self.faults and self.faults[0].at_turn <= turn:
            fault = self.faults.pop(0)
            self.world.tell("FAULT", f"{fault.kind} {fault.target} {fault.ms}")
            misfortune.KINDS[fault.kind](self.world, fault)
        while self.second and self.second[0][0] <= turn:
            _, wish = self.second.pop(0)
            order = _SECOND[wish]
            if self.scenario.are_patient and wish in ("run", "resume", "other"):
                order = orders.patiently(order)
            self._start(order, "desk", f"second {wish}")

    def drive(self) -> None:
        """Roll out, as often as the scenario says, whatever happens."""
        for number in range(self.scenario.rollouts):
            release = f"r{number + 2}"
            if not self._roll(_FIRST[self.scenario.purpose] or orders.deploy(release), release):
                return
            self.rollouts += 1
        self._check_end()

    def _roll(self, order: Order, release: str) -> bool:
        """One rollout from its first life to its end; answers whether it came to one."""
        first, lives, before = order, 0, self.world.audit.opened
        while lives < LIVES_MAX:
            lives += 1
            if lives > LIVES_BUSY and not self.is_quiet:
                self._quiet()
            operator = self._live(order)
            said = self._judge(operator)
            self.ends[said] += 1
            self.world.tell("people", f"{operator.name} ended: {said} {operator.error or ''}")
            # Hit in the instant after the last fact, it is over all the same.
            is_closed = self.world.audit.opened is not before and self.world.audit.is_closed
            if is_closed or (said == "over" and not self._is_unfinished()):
                return True
            order = self._next(said, first, order)
        self.world.audit.check("end", False, f"no end after {lives} lives: {self.world.picture()}")
        return False

    def _start(self, order: Order, host: str, name: str) -> Operator:
        self.off &= self.world.away
        operator = Operator(
            name, self.world.hosts[host], self.world, self.scenario.policy, self.off
        )
        operator.start(order)
        return operator

    def _live(self, order: Order) -> Operator:
        self.lives += 1
        hosts = ("laptop", "ci", "desk") if self.scenario.elsewhere else ("laptop",)
        host = hosts[self.lives % len(hosts)]
        operator = self._start(order, host, f"{host}#{self.lives}")
        self._until(lambda: operator.is_over)
        return operator

    def _until(self, is_so: Callable[[], bool]) -> None:
        scheduler = self.world.scheduler
        scheduler.run(is_so, TURNS_MAX)
        if scheduler.turns >= TURNS_MAX:
            self.world.audit.check("end", False, f"no end: {self.world.picture()}")

    def _wait(self, ms: int) -> None:
        until_ms = self.world.now_ms + ms
        task = self.world.scheduler.spawn("people", lambda: self.world.scheduler.sleep(ms))
        self._until(lambda: task.is_over or self.world.now_ms > until_ms)

    def _judge(self, operator: Operator) -> str:
        """Answers in one word how a life ended; whatever is no error of ours is a bug."""
        error = operator.error
        if operator.task.error is not None:
            raise operator.task.error
        if isinstance(error, InvariantBroken):
            self.world.audit.check("end", False, f"bug: {error.what}")
            return "bug"
        if isinstance(error, RollingDeployError):
            return type(error).__name__
        if error is not None:
            raise error
        run = operator.came
        if operator.task.is_dying:
            return "killed"
        if isinstance(run, Run):
            return "halted" if isinstance(run.end, Halted) else "over"
        return "over"

    def _is_unfinished(self) -> bool:
        audit = self.world.audit
        return not audit.is_closed and audit.is_known_anywhere()

    def _next(self, said: str, first: Order, last: Order) -> Order:
        """What people do next, who told the life before to do `last`."""
        self._declare(said)
        if said in ("halted", "RolloutHalted"):
            self.halts += 1
            return self._answer()
        if said == "PreflightRefused" and self.is_quiet:
            misfortune.put_right(self.world)
        if not self._is_unfinished():
            self._wait(EXPIRY_MS if said == "RolloutHeld" else 1_000)
            # Who holds it may be on their own disk only, turned back before anybody was told.
            return orders.resume() if said == "RolloutHeld" else first
        if said == "RolloutHeld":
            self._wait(EXPIRY_MS)
            if self._halted_cause() is not None:
                self.halts += 1
                return self._answer()
            return orders.resume()
        if said not in ("killed", "over"):
            self._wait(2_000)
        # A machine that cannot go on has not heard their answer: they tell the next one.
        return last if said == "RecordWrong" and last is not first else orders.resume()

    def _declare(self, said: str) -> None:
        """People declare off what is off, once it stands in their way; and when all else is done
        they switch it on.
        """
        if said in ("halted", "RolloutHalted", "MachineUnreachable", "PreflightRefused"):
            self.off = self.world.away
        if said == "halted" and self._halted_cause() is Cause.DECLARED_OFF:
            for name in sorted(self.world.away):
                misfortune.come_back(self.world, self.world.balancers[name])

    def _halted_cause(self) -> Cause | None:
        audit = self.world.audit
        if audit.opened is None:
            return None
        rollout = audit.opened.rollout
        content = max(
            (lb.records.get(rollout, b"") for lb in self.world.balancers.values()), key=len
        )
        entries = read_chain(content, "the longest copy").entries
        if not entries:
            return None  # half of the first line, at the most
        record = fold(entries)
        return record.halted.cause if record.halted else None

    def _answer(self) -> Order:
        answers = self.scenario.answers
        if self.is_quiet:
            # What is ill stays ill: in the end people go back, or leave it out.
            answers = ("resume", "resume", "back", "resume", "stop", "skip")
            misfortune.put_right(self.world)
        wish = answers[(self.halts - 1) % len(answers)]
        match wish:
            case "back":
                return orders.abort(Direction.BACK)
            case "stop":
                return orders.abort(Direction.STOP)
            case "skip":
                return orders.resume(*self._unwell())
            case _:
                return orders.resume()

    def _unwell(self) -> tuple[str, ...]:
        now_ms = self.world.now_ms
        ill = [n.name for n in self.world.nodes.values() if not n.is_healthy(now_ms)]
        odd = [n.name for n in self.world.nodes.values() if n.sick_on or n.cold_on or n.instead]
        out = [
            n
            for lb in self.world.balancers.values()
            for n in self.world.nodes
            if n not in self.world.up(lb)
        ]
        return tuple(dict.fromkeys([*ill, *odd, *out]))

    def _quiet(self) -> None:
        """From here on nothing more goes wrong."""
        self.world.tell("people", "the misfortune is over")
        self.is_quiet, self.halts = True, 0
        self.faults.clear()
        self.second.clear()
        self.world.before_stop = None
        self._heal()

    def _heal(self) -> None:
        misfortune.heal(self.world)
        misfortune.put_right(self.world)
        self._until(lambda: all(op.is_over for op in self.world.operators))

    def _check_end(self) -> None:
        """Everything has come to its end, and the site serves."""
        world = self.world
        self.faults.clear()
        self.second.clear()
        misfortune.heal(world)
        self._until(lambda: all(op.is_over for op in world.operators))
        self._wait(20_000)
        served_at_the_end(world.audit)
        for machine in (*world.balancers.values(), *world.nodes.values()):
            is_free = not machine.commands
            world.audit.check("end", is_free, f"a command still runs on {machine.name}")
        for operator in world.operators:
            if operator.task.error is not None:
                raise operator.task.error
            if isinstance(operator.error, InvariantBroken):
                world.audit.check("end", False, f"bug: {operator.error.what}")
            elif operator.error and not isinstance(operator.error, RollingDeployError):
                raise operator.error


_FIRST: dict[Purpose, Order | None] = {
    Purpose.DEPLOY: None,
    Purpose.ADOPT: orders.adopt,
    Purpose.UNADOPT: orders.unadopt,
}

_SECOND: dict[str, Order] = {
    "resume": orders.resume(),
    "run": orders.deploy("r2"),
    "abort": orders.abort(Direction.BACK),
    "other": orders.deploy("r9"),
    "unlock": orders.unlock,
}
