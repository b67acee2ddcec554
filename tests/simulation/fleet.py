"""The simulated fleet, as the production adapters present it to an operator."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from rolling_deploy.operations.machines import FleetMachines
from rolling_deploy.ports import FenceToken
from rolling_deploy.remote.nginx import Look, Nginx
from rolling_deploy.rollout.facts import Opened
from rolling_deploy.rollout.observed import (
    BackendSeen,
    Check,
    Health,
    Interest,
    LoadBalancerSeen,
    ManagedFile,
    Seen,
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
from rolling_deploy.upstreams import stamp_lines
from rolling_deploy.upstreams.stamp import inspect
from tests.simulation import fleet_commands
from tests.simulation.machines import artifact_of
from tests.simulation.shape import APPLICATION, Shape
from tests.simulation.world import Failed, Lost, Refused

if TYPE_CHECKING:
    from tests.simulation.operator import Operator


@lru_cache(maxsize=4096)
def _inspected(text: str, shape: Shape) -> ManagedFile:
    return inspect(text, APPLICATION, shape.addresses)


@dataclass
class Fleet(FleetMachines):
    """The production machines, with simulated health, warm-up and session store."""

    by: Operator = field(kw_only=True)

    def look(self, interest: Interest) -> Seen:
        """Remember when: what happens after it this operator cannot know."""
        self.by.looked_ms = self.by.world.now_ms
        return super().look(interest)

    def perform(self, step: Step, opened: Opened, token: FenceToken) -> Result:
        """Remember whose token the commands carry."""
        self.by.token, self.by.steps[machine_of(step)] = token, step
        # The steps of a wave are sent at once; here the others run when the first has ended.
        if self.by.is_to_send:
            self.by.is_to_send, self.by.acted_ms = False, self.by.world.now_ms
            self.by.world.audit.sends(self.by, step)
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
