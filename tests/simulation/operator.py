"""An operator's process: the production code of a whole life, standing on the simulated site.

What is production here: the desk, finding the rollout in hand, lock and fence, the record in both
places, `FleetMachines`, the runner and all of `rollout`. What is simulated: the disk, the clock,
and what the machines answer.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from rolling_deploy.errors import RecordWrong, RolloutHeld
from rolling_deploy.operations.desk import Desk, Footing
from rolling_deploy.operations.machines import FleetMachines
from rolling_deploy.operations.site import Site
from rolling_deploy.ports import Event, FenceToken, LocalRecord, Machines
from rolling_deploy.remote.connection import Answer, CannotReach, Connection
from rolling_deploy.remote.nginx import Look, Nginx
from rolling_deploy.remote.record_copies import Place
from rolling_deploy.remote.script import run_script
from rolling_deploy.rollout.facts import Opened
from rolling_deploy.rollout.fleet import Policy
from rolling_deploy.rollout.journal import Chain, read_chain
from rolling_deploy.rollout.observed import (
    BackendSeen,
    Check,
    Health,
    LoadBalancerSeen,
    ManagedFile,
    Unreachable,
)
from rolling_deploy.rollout.step import (
    Activate,
    Apply,
    Outcome,
    Result,
    Stage,
    Step,
    Unadopt,
    machine_of,
)
from rolling_deploy.runner import Work
from rolling_deploy.settings import HostTarget
from rolling_deploy.upstreams import stamp_lines
from rolling_deploy.upstreams.stamp import inspect
from tests.simulation import fleet_commands, requests
from tests.simulation.machines import Host, artifact_of
from tests.simulation.record_commands import SCRIPTS, Spoken
from tests.simulation.scheduler import Task
from tests.simulation.shape import APPLICATION, Shape
from tests.simulation.world import Failed, Lost, Refused, World

if TYPE_CHECKING:
    import socket


@lru_cache(maxsize=4096)
def _inspected(text: str, shape: Shape) -> ManagedFile:
    return inspect(text, APPLICATION, shape.addresses)


@dataclass(eq=False)
class Operator:
    """One process of the tool, from its start to its end or its death.

    Attributes:
        steps: the step in hand on each machine, for the audit.
        came: what the order answered.
        error: what it raised.
    """

    name: str
    host: Host
    world: World
    policy: Policy
    off: frozenset[str] = frozenset()
    task: Task = field(init=False)
    heart: Task | None = None
    token: FenceToken | None = None
    steps: dict[str, Step] = field(default_factory=dict)
    desk: Desk = field(init=False)
    began_ms: int = 0
    cut_at_start: frozenset[str] = frozenset()
    knew: frozenset[str] = frozenset()
    """The rollouts of which its machine had a record when it began."""
    came: object = None
    error: Exception | None = None

    def __post_init__(self) -> None:
        footing = Footing(
            clock=Clock(self),
            host=lambda: self.host.name,
            records=lambda _, __: Disk(self),
            machines=self._machines,
            heart=lambda places, holder, expiry_s: Heartbeat(self, places, holder, expiry_s),
            spawn=_in_place,
            unique=self._unique,
            opener=self._open,
            pause=self.world.scheduler.sleep,
        )
        inventory = self.world.shape.inventory(self.policy)
        state_dir = Path("state")
        self.desk = Desk(
            inventory, state_dir, Teller(self), lambda _: True, off=self.off, footing=footing
        )

    def _unique(self) -> str:
        self.world.numbers += 1
        return f"{self.world.numbers:04x}"

    def _open(self, hosts: Sequence[HostTarget]) -> Mapping[str, Connection | CannotReach]:
        """Answers a connection to each of these, where there is a way."""
        return {
            host.name: CannotReach("no route to host")
            if self._is_beyond_reach(host.name)
            else Wire(self, host.name)
            for host in hosts
        }

    def _is_beyond_reach(self, name: str) -> bool:
        return self.host.cut.get(name, 0) > self.world.now_ms or name in self.world.away

    def _machines(self, site: Site) -> Machines:
        return Fleet(site, clock=self.desk.footing.clock, by=self)

    def start(self, order: Callable[[Operator], object]) -> None:
        """Begin to carry an order out."""

        def live() -> None:
            try:
                self.came = order(self)
            except Exception as error:  # noqa: BLE001 # judged by the audit
                self.error = error

        self.began_ms, self.knew = self.world.now_ms, frozenset(self.host.records)
        self.task = self.world.scheduler.spawn(self.name, live)
        self.world.operators.append(self)

    @property
    def is_over(self) -> bool:
        """Answers whether the process has ended."""
        return self.task.is_over

    def kill(self) -> None:
        """`kill -9`."""
        for task in (self.task, self.heart):
            if task is not None and not task.is_over:
                self.world.scheduler.kill(task)

    def freeze(self, ms: int) -> None:
        """`SIGSTOP`, and `SIGCONT` so much later."""
        for task in (self.task, self.heart):
            if task is not None and not task.is_over:
                self.world.scheduler.freeze(task, ms)

    def connect(self) -> Site:
        """Answers the machines, as a connection to each found them."""
        world, inventory = self.world, self.desk.inventory
        unreachable = {
            name: "no route to host"
            for name in inventory.hosts
            if self._is_beyond_reach(name) and name not in self.off
        }
        self.cut_at_start = frozenset(unreachable)
        connections = {name: Wire(self, name) for name in inventory.hosts}
        site = Site(inventory, connections, unreachable, self.off)
        for name in site.nginx:
            site.nginx[name] = Server(self, name)
            if self.policy.counts_losses:
                site.log_sources[name] = requests.sources(world)
        for name in site.strategies:
            site.strategies[name] = Upgrade(self, name)
        return site


def _in_place(work: Work, name: str) -> None:
    del name
    work()


@dataclass(frozen=True)
class Clock:
    """The operator's own clock, which may be wrong."""

    by: Operator

    def now_ms(self) -> int:
        """Answers the time."""
        return self.by.world.now_ms + self.by.host.clock_ms


@dataclass(frozen=True)
class Teller:
    """What the operator says goes to the trace."""

    by: Operator

    def event(self, event: Event) -> None:
        """One thing happened."""
        text = getattr(event, "text", None) or getattr(event, "why", None)
        entry = getattr(event, "entry", None)
        said = f"{entry.epoch}/{entry.seq} {entry.fact!r}" if entry else text
        self.by.world.tell(self.by.name, f"{said}")


# --- this disk


@dataclass(frozen=True)
class Disk:
    """The records on the operator's disk. See `ports.Records`."""

    by: Operator

    def file(self, rollout: str) -> LocalRecord:
        """Answers one rollout's record."""
        return DiskRecord(self.by, rollout)

    def newest(self) -> str:
        """Answers the rollout that was opened last on this disk."""
        return max(self.by.host.records, default="")


@dataclass
class DiskRecord:
    """One record on the operator's disk. See `ports.LocalRecord`."""

    by: Operator
    rollout: str

    @property
    def path(self) -> PurePosixPath:
        """Where it is."""
        return PurePosixPath(f"/{self.by.host.name}/{self.rollout}.jsonl")

    def read(self) -> Chain:
        """Answers the chain."""
        return read_chain(self.by.host.records.get(self.rollout, b""), str(self.path))

    def hold(self) -> None:
        """Take it, unless a living process has it."""
        if self.is_held_elsewhere():
            raise RolloutHeld("another process on this machine is working on this rollout")
        self.by.host.held[self.rollout] = self.by

    def is_held_elsewhere(self) -> bool:
        """Answers whether another living process has it."""
        owner = self.by.host.held.get(self.rollout)
        return isinstance(owner, Operator) and owner is not self.by and not owner.is_over

    def put(self, lines: Sequence[bytes], at: int) -> None:
        """Write behind `at`, and have the disk keep it."""
        host, world = self.by.host, self.by.world
        if host.disk_full_until_ms > world.now_ms:
            raise RecordWrong("the local record did not take the next entries: disk full")
        before = host.records.get(self.rollout, b"")[:at]
        more = b"".join(lines)
        # Killed in the middle, half a line is there.
        host.records[self.rollout] = before + more[: len(more) * 2 // 3]
        world.scheduler.pause()
        host.records[self.rollout] = before + more
        world.audit.written(self.by, self.rollout, lines)
        world.scheduler.pause()

    def close(self) -> None:
        """Give it up."""
        if self.by.host.held.get(self.rollout) is self.by:
            del self.by.host.held[self.rollout]


# --- the record's copies


@dataclass(frozen=True)
class Wire:
    """A connection that carries the record's scripts. See `connection.Connection`."""

    by: Operator
    name: str

    @property
    def target(self) -> HostTarget:
        """The machine."""
        return HostTarget(self.name, self.name)

    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes | Iterable[bytes] = b"",
        limit_ms: int,
        holds_stdin: bool = False,
    ) -> Answer:
        """Run a script of ours, by its name."""
        del limit_ms, holds_stdin
        world = self.by.world
        script, words = argv[5].partition(":")[2], argv[6:]
        content = stdin if isinstance(stdin, bytes) else b"".join(stdin)
        run = SCRIPTS[script]
        machine = world.machine(self.name)
        lines: list[str]
        try:
            lines = world.remote(
                self.by, self.name, script, lambda: run(world, machine, words, content)
            )
            lines = [*lines, "end=done "]
        except Lost as lost:
            return Answer(False, None, b"", b"", str(lost), lost.was_started)
        except Spoken as spoken:
            lines = [*spoken.lines, f"end=refused {spoken}"]
        except Refused as refused:
            fenced = ["fenced=higher"] if refused.is_fenced else []
            lines = [*fenced, f"end=refused {refused}"]
        except Failed as failed:
            lines = [f"end=failed {failed}"]
        return Answer(True, 0, "".join(f"{line}\n" for line in lines).encode(), b"")

    def open_stream(self, host: str, port: int, *, timeout_ms: int) -> socket.socket:
        """Nothing of the simulated site is asked over TCP."""
        raise NotImplementedError

    def close(self) -> None:
        """Nothing is open."""


@dataclass
class Heartbeat:
    """Beats by simulated time. See `desk.Beating`."""

    by: Operator
    places: Mapping[str, Place]
    holder: str
    expiry_s: float
    is_stopped: bool = False

    def start(self) -> None:
        """Begin."""
        self.by.heart = self.by.world.scheduler.spawn(f"{self.by.name} heart", self._beat)

    def _beat(self) -> None:
        words = [self.holder]
        while self._is_alive():
            self.by.world.scheduler.sleep(int(self.expiry_s * 1000 / 6))
            for place in self.places.values():
                if self._is_alive():
                    run_script(
                        place.connection, "record_beat", [place.state_dir, *words], limit_ms=5_000
                    )

    def _is_alive(self) -> bool:
        return not self.is_stopped and not self.by.is_over

    def stop(self) -> None:
        """Stop."""
        self.is_stopped = True


# --- the fleet


@dataclass
class Fleet(FleetMachines):
    """The production machines, with simulated health, warm-up and session store."""

    by: Operator = field(kw_only=True)

    def perform(self, step: Step, opened: Opened, token: FenceToken) -> Result:
        """Remember whose token the commands carry."""
        self.by.token, self.by.steps[machine_of(step)] = token, step
        result = super().perform(step, opened, token)
        self.by.world.tell(self.by.name, f"-> {step} {result.outcome} {result.detail}")
        return result

    def health(self, name: str, version: str | None, streak: int | None, limit_ms: int) -> Health:
        """Answers what the backend answers a load balancer that can be reached."""
        del version, streak, limit_ms
        world = self.by.world
        node = world.nodes[name]
        is_checked = world.shape.is_version_checked
        for balancer in self.site.nginx:
            try:
                return world.remote(self.by, balancer, "health", lambda: self._ask(name))
            except Lost:
                continue
        return Health(False, None, is_checked, f"nobody could ask {node.name}")

    def _ask(self, name: str) -> Health:
        world = self.by.world
        node = world.nodes[name]
        is_good = node.is_healthy(world.now_ms)
        if is_good:
            world.audit.answered_well(node)
        is_checked = world.shape.is_version_checked
        said = f"200 {node.serves}" if is_good else "503" if node.serves else "connection refused"
        return Health(is_good, node.serves if is_checked and is_good else None, is_checked, said)

    def check_store(
        self, backends: Collection[str] = (), *, is_patient: bool = False
    ) -> tuple[Check, ...]:
        """Answers the truth."""
        del backends, is_patient
        self.by.world.scheduler.pause()
        return self.by.world.store

    def _warm_up(self, step: Any) -> Result:
        world = self.by.world
        node = world.nodes[step.backend]
        balancer = next(iter(self.site.nginx), "")
        return _result(
            lambda: world.remote(
                self.by, balancer, "warm up", lambda: fleet_commands.warm(world, node)
            )
        )

    def wait(self, condition: Any, limit_ms: int) -> None:
        """Ready is asked again and again; the rest waits on the machines."""
        backends = getattr(condition, "backends", None)
        if backends is None:
            super().wait(condition, limit_ms)
            return
        world = self.by.world
        until_ms = world.now_ms + limit_ms
        while world.now_ms < until_ms:
            if all(
                world.nodes[name].is_healthy(world.now_ms)
                and version in (None, world.nodes[name].serves)
                for name, version in backends.items()
            ):
                return
            world.scheduler.sleep(min(250, until_ms - world.now_ms))


def _result(command: Callable[[], object]) -> Result:
    """What the adapters make of a command's end."""
    try:
        command()
    except Lost as lost:
        return Result(Outcome.UNKNOWN, str(lost))
    except Refused as refused:
        return Result(Outcome.REFUSED, str(refused), is_fenced=refused.is_fenced)
    except Failed as failed:
        return Result(Outcome.FAILED, str(failed))
    return Result(Outcome.DONE)


class Server(Nginx):
    """A simulated load balancer's nginx, as the adapter presents it."""

    def __init__(self, by: Operator, name: str) -> None:
        self.by = by
        self.name = name
        self.settings = by.desk.inventory.load_balancers[name]

    def look(self) -> Look | Unreachable:
        """See `Nginx.look`."""
        try:
            return self.by.world.remote(self.by, self.name, "look", self._look)
        except Lost as lost:
            return Unreachable(str(lost))

    def _look(self) -> Look:
        world = self.by.world
        lb, shape = world.balancers[self.name], world.shape
        seen = LoadBalancerSeen(
            _inspected(lb.text, shape) if lb.text else None,
            lb.current.generation,
            is_settled=True,
            earlier_workers=lb.earlier(world.now_ms),
            is_busy=world.is_busy(lb),
            detail="workers",
        )
        return Look(seen, lb.text.encode() if lb.text else None, lb.fence, 1)

    def apply(
        self, text: bytes, *, replaces: str, generation: str, adopt: bool, token: FenceToken
    ) -> Result:
        """See `Nginx.apply`."""
        world = self.by.world
        lb = world.balancers[self.name]
        stamp, _ = stamp_lines.split(text.decode("utf-8", "surrogateescape"))
        assert stamp is not None
        step = Apply(self.name, stamp.out, stamp.claim, generation, replaces, adopt)
        return _result(
            lambda: world.remote(
                self.by,
                self.name,
                "apply",
                lambda: fleet_commands.publish(
                    world, self.by, lb, step, text.decode("utf-8", "surrogateescape")
                ),
            )
        )

    def unadopt(self, *, replaces: str, token: FenceToken) -> Result:
        """See `Nginx.unadopt`."""
        world = self.by.world
        lb, step = world.balancers[self.name], Unadopt(self.name, replaces)
        return _result(
            lambda: world.remote(
                self.by,
                self.name,
                "unadopt",
                lambda: fleet_commands.put_original_back(world, self.by, lb, step),
            )
        )

    def wait_drained(self, limit_ms: int) -> None:
        """See `Nginx.wait_drained`."""
        world = self.by.world
        lb = world.balancers[self.name]
        self._wait(limit_ms, lambda: not lb.earlier(world.now_ms))

    def wait_free(self, limit_ms: int) -> None:
        """See `Nginx.wait_free`."""
        world = self.by.world
        self._wait(limit_ms, lambda: not world.is_busy(world.balancers[self.name]))

    def _wait(self, limit_ms: int, is_so: Callable[[], bool]) -> None:
        _wait_there(self.by, self.name, limit_ms, is_so)


def _wait_there(by: Operator, name: str, limit_ms: int, is_so: Callable[[], bool]) -> None:
    """Wait on the machine; the wait ends when nobody is there to hear of it."""
    world = by.world
    until_ms = world.now_ms + limit_ms

    def wait() -> None:
        while world.now_ms < until_ms and not is_so() and not world.is_cut_off(by, name):
            world.scheduler.sleep(min(500, until_ms - world.now_ms))

    try:
        world.remote(by, name, "wait", wait)
    except Lost:
        world.scheduler.pause()


@dataclass
class Upgrade:
    """A simulated backend's upgrade strategy. See `strategy.Strategy`."""

    by: Operator
    name: str

    def artifact_id(self, release: str) -> str:
        """Answers what is deployed once this release is."""
        return artifact_of(release)

    def look(self) -> BackendSeen | Unreachable:
        """Answers what lies there and whether the process is newer."""
        try:
            return self.by.world.remote(self.by, self.name, "look", self._look)
        except Lost as lost:
            return Unreachable(str(lost))

    def _look(self) -> BackendSeen:
        world = self.by.world
        node = world.nodes[self.name]
        return BackendSeen(
            node.artifact,
            frozenset(node.staged),
            node.is_restarted_since_swap if node.serves else None,
            None,
            world.is_busy(node),
        )

    def _do(self, what: str, command: Callable[[], object]) -> Result:
        return _result(lambda: self.by.world.remote(self.by, self.name, what, command))

    def stage(self, release: str, token: FenceToken) -> Result:
        """See `Strategy.stage`."""
        self.by.token = token
        world, step = self.by.world, Stage(self.name)
        node, artifact = world.nodes[self.name], artifact_of(release)
        return self._do("stage", lambda: fleet_commands.stage(world, self.by, node, step, artifact))

    def activate(self, artifact: str, token: FenceToken) -> Result:
        """See `Strategy.activate`."""
        self.by.token = token
        world = self.by.world
        node = world.nodes[self.name]
        step = self.by.steps[self.name]
        assert isinstance(step, Activate)
        return self._do(
            "activate", lambda: fleet_commands.activate(world, self.by, node, step, artifact)
        )

    def can_activate(self, artifact: str) -> bool:
        """Answers yes."""
        return bool(artifact)

    def prune(self, keep: frozenset[str], token: FenceToken) -> Result:
        """Remove what nobody needs."""
        world = self.by.world
        node = world.nodes[self.name]

        def remove() -> None:
            world.enter(node, token.epoch, token.holder)
            world.audit.effect(node, token)
            before = frozenset(node.staged)
            node.staged &= keep | ({node.artifact} if node.artifact else set())
            world.audit.pruned(node, before)

        return self._do("prune", remove)

    def wait_until_free(self, limit_ms: int) -> None:
        """See `Strategy.wait_until_free`."""
        world = self.by.world
        _wait_there(self.by, self.name, limit_ms, lambda: not world.is_busy(world.nodes[self.name]))

    def preflight(self, release: str | None = None) -> tuple[Check, ...]:
        """Nothing to check."""
        del release
        return ()
