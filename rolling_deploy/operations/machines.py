"""The fleet's machines as the runner asks for them: looking, waiting, acting, many at a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from rolling_deploy.errors import RollingDeployError
from rolling_deploy.operations.continuity import Sessions
from rolling_deploy.operations.logouts import LogoutWatch
from rolling_deploy.operations.losses import Ledger
from rolling_deploy.operations.site import Site
from rolling_deploy.operations.store_places import check_store
from rolling_deploy.parallel import at_once
from rolling_deploy.ports import Clock, FenceToken
from rolling_deploy.remote.health import probe
from rolling_deploy.remote.opener import Opener, open_directly
from rolling_deploy.remote.warm_up import warm_up
from rolling_deploy.rollout.facts import Opened, Purpose
from rolling_deploy.rollout.logouts import Logouts, Watching
from rolling_deploy.rollout.losses import Counting, Losses
from rolling_deploy.rollout.move import Condition, Drained, Free, Ready, Sign
from rolling_deploy.rollout.observed import (
    BackendSeen,
    Check,
    Health,
    Interest,
    LoadBalancerSeen,
    Seen,
    Unreachable,
)
from rolling_deploy.rollout.step import (
    Activate,
    Apply,
    Continuity,
    Goal,
    Keep,
    Outcome,
    Result,
    Stage,
    Step,
    Unadopt,
    WarmUp,
    is_on_load_balancer,
    machine_of,
)
from rolling_deploy.settings import BackendSettings
from rolling_deploy.upstreams.render import Frozen, Renderings

LOOK_SLACK_MS = 1_000
"""On top of what the settings allow each question, for connecting and for a busy machine."""

GATE_SLICE_MS = 5_000
"""How long failed requests may go unseen while something is waited for."""

WARM_UP_LIMIT_MS = 120_000
"""A cold JVM's first requests take seconds each; two minutes of them is a node in trouble."""


def now_ms() -> int:
    """Answers the wall clock's time in milliseconds."""
    return time.time_ns() // 1_000_000


STEADY_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""Linux' own monotonic clock stands still while the machine is suspended; this one does not."""


class WallClock:
    """The wall clock. Implements `ports.Clock`."""

    def now_ms(self) -> int:
        """Answers the time."""
        return now_ms()

    def steady_ms(self) -> int:
        """Answers milliseconds since the machine started, its sleep included."""
        return time.clock_gettime_ns(STEADY_CLOCK) // 1_000_000


@dataclass
class FleetMachines:
    """Implements `ports.Machines` over real connections.

    Attributes:
        canary: whether checking the session store may write its expiring key.
    """

    site: Site
    canary: bool = True
    clock: Clock = field(default_factory=WallClock)
    _cut_off: frozenset[str] = frozenset()
    """Load balancers that the last look did not reach."""
    _renderings: dict[str, Renderings] = field(default_factory=dict)
    _ledger: Ledger | None = None
    _watch: LogoutWatch | None = None

    def __post_init__(self) -> None:
        self.sessions = Sessions(self.site, self._source)

    def look(self, interest: Interest) -> Seen:
        """See `ports.Machines`."""
        calls: dict[tuple[str, str], Callable[[], object]] = {}
        for name in sorted(interest.load_balancers):
            calls["balancer", name] = partial(self.look_at_balancer, name)
        for name in sorted({*interest.backends, *interest.alive, *interest.ready}):
            calls["backend", name] = partial(self._look_at_backend, name, interest)
        if interest.store:
            asking = {*interest.backends, *interest.alive, *interest.ready}
            calls["store", ""] = partial(self.check_store, sorted(asking), is_patient=True)
        if interest.losses is not None:
            calls["losses", ""] = partial(self._count, interest.losses)
        if interest.logouts is not None:
            calls["logouts", ""] = partial(self._look_for_signs, interest.logouts)
        seen: dict[str, dict[str, Any]] = {kind: {} for kind, _ in calls}
        for (kind, name), value in at_once(calls).items():
            seen[kind][name] = value
        balancers: dict[str, LoadBalancerSeen | Unreachable] = seen.get("balancer", {})
        lost = {name for name, one in balancers.items() if isinstance(one, Unreachable)}
        self._cut_off = frozenset(lost)
        asked_once = {
            kind: seen[kind][""] for kind in ("store", "losses", "logouts") if kind in seen
        }
        return Seen(self.clock.now_ms(), balancers, seen.get("backend", {}), **asked_once)

    @property
    def watch(self) -> LogoutWatch:
        """Answers who looks for signs of logged-out users in this life."""
        if self._watch is None:
            self._watch = LogoutWatch(self.site)
            self.site.also_close.append(self._watch.close)
        return self._watch

    def _look_for_signs(self, watching: Watching) -> Logouts:
        return self.watch.look(watching, self.clock.now_ms())

    def _count(self, counting: Counting) -> Losses:
        if self._ledger is None:
            self._ledger = Ledger(self.site)
            self.site.also_close.append(self._ledger.close)
        return self._ledger.look(counting)

    def look_at_balancer(self, name: str) -> LoadBalancerSeen | Unreachable:
        """Answers one look at one load balancer."""
        nginx = self.site.nginx.get(name)
        if nginx is None:
            return Unreachable(self.site.why_not(self.site.inventory.load_balancers[name].host))
        look = nginx.look()
        return look if isinstance(look, Unreachable) else look.seen

    def _look_at_backend(self, name: str, interest: Interest) -> BackendSeen | Unreachable:
        seen = BackendSeen(None)
        if name in interest.ready and self._backend(name).health.version.is_configured:
            return self._look_at_both(name, interest.ready[name])
        if name in interest.backends or name in interest.ready:
            on_disk = self.look_at_disk(name)
            if isinstance(on_disk, Unreachable):
                return on_disk
            seen = on_disk
        if name in interest.ready:
            health = self.health(name, interest.ready[name], None, self._look_ms(name))
            return replace(seen, health=health)
        if name in interest.alive:
            return replace(seen, health=self.health(name, None, 1, self._look_ms(name)))
        return seen

    def _look_ms(self, name: str) -> int:
        """How long a look may ask: long enough for a slow, healthy backend's whole streak."""
        health = self._backend(name).health
        questions = max(2, health.streak)  # one may be lost and is asked again
        return questions * (health.timeout_ms + health.interval_min_ms) + LOOK_SLACK_MS

    def _look_at_both(self, name: str, version: str | None) -> BackendSeen | Unreachable:
        """Disk and health at the same time.

        Only where the answers carry a version: otherwise the process is first seen to be the new
        one, and then asked.
        """
        calls: dict[str, Callable[[], BackendSeen | Unreachable | Health]] = {
            "disk": lambda: self.look_at_disk(name),
            "health": lambda: self.health(name, version, None, self._look_ms(name)),
        }
        came = at_once(calls)
        on_disk, health = came["disk"], came["health"]
        if isinstance(on_disk, BackendSeen) and isinstance(health, Health):
            return replace(on_disk, health=health)
        return on_disk if isinstance(on_disk, Unreachable) else Unreachable("not seen")

    def look_at_disk(self, name: str) -> BackendSeen | Unreachable:
        """Answers what a backend's machine says of it, without asking the application."""
        strategy = self.site.strategies.get(name)
        if strategy is None:
            return Unreachable(self.site.why_not(self._backend(name).host))
        return strategy.look()

    def health(self, name: str, version: str | None, streak: int | None, limit_ms: int) -> Health:
        """Answers the backend's health from every load balancer's place in the network.

        Args:
            streak: None means as configured.
        """
        backend = self._backend(name)
        return probe(
            backend.health,
            backend.probe_address,
            self._sources(backend),
            streak=streak or backend.health.streak,
            limit_ms=limit_ms,
            wanted_version=version,
        )

    def _sources(self, backend: BackendSettings) -> Mapping[str, Opener]:
        if backend.health.asked_from == "operator":
            return {"operator": open_directly}
        # One that is cut off cannot ask; the others can, and it is put back there only later.
        asking = [name for name in self.site.nginx if name not in self._cut_off]
        return {
            name: self.site.connections[self.site.inventory.load_balancers[name].host].open_stream
            for name in asking or self.site.nginx
        }

    def check_store(
        self, backends: Collection[str] = (), *, is_patient: bool = False
    ) -> tuple[Check, ...]:
        """Answers the session store's checks, from these backends' places too."""
        return check_store(self.site, backends, canary=self.canary, is_patient=is_patient)

    def wait(self, condition: Condition, limit_ms: int) -> None:
        """See `ports.Machines`. Where failed requests may halt the rollout, never long at once."""
        if self._ledger is not None and self.site.inventory.fleet.policy.max_errors is not None:
            limit_ms = min(limit_ms, GATE_SLICE_MS)
        match condition:
            case Drained():
                at_once(
                    {
                        name: partial(self.site.nginx[name].wait_drained, limit_ms)
                        for name in sorted(condition.load_balancers)
                        if name in self.site.nginx
                    }
                )
            case Free():
                names = sorted(condition.machines)
                at_once({name: partial(self._wait_free, name, limit_ms) for name in names})
            case Ready():
                at_once(
                    {
                        name: partial(self.health, name, version, None, limit_ms)
                        for name, version in condition.backends.items()
                    }
                )
            case Sign():
                self.watch.wait(condition.watching, limit_ms)

    def _wait_free(self, name: str, limit_ms: int) -> None:
        if name in self.site.nginx:
            self.site.nginx[name].wait_free(limit_ms)
        elif name in self.site.strategies:
            self.site.strategies[name].wait_until_free(limit_ms)

    def perform(self, step: Step, opened: Opened, token: FenceToken) -> Result:
        """See `ports.Machines`."""
        if is_on_load_balancer(step) and machine_of(step) not in self.site.nginx:
            return Result(Outcome.UNKNOWN, "not connected to it in this run")
        try:
            return self._perform(step, opened, token)
        except RollingDeployError as error:
            return Result(Outcome.FAILED, error.what)

    def _perform(self, step: Step, opened: Opened, token: FenceToken) -> Result:
        match step:
            case Apply():
                return self._apply(step, opened, token)
            case Unadopt():
                nginx = self.site.nginx[step.load_balancer]
                return nginx.unadopt(replaces=step.replaces, token=token)
            case Stage():
                return self._stage(step, opened, token)
            case Activate():
                artifact = (
                    opened.artifacts[step.backend]
                    if step.goal is Goal.RELEASE
                    else opened.before[step.backend].artifact
                )
                if artifact is None:
                    return Result(Outcome.REFUSED, "nothing to go back to")
                return self.site.strategies[step.backend].activate(artifact, token)
            case WarmUp():
                return self._warm_up(step)
            case Keep():
                return self.sessions.keep(step, opened)
            case Continuity():
                return self.sessions.prove(step, opened)

    def _stage(self, step: Stage, opened: Opened, token: FenceToken) -> Result:
        """Stage exactly what this rollout was opened with, not what a rebuild made of it since."""
        strategy = self.site.strategies[step.backend]
        if strategy.artifact_id(opened.release) != opened.artifacts[step.backend]:
            reason = "the local artifact is not the one this rollout was opened with"
            if opened.purpose is Purpose.SETUP:
                reason = (
                    "what `setup`, the session store's password or the files there say is not what "
                    "this rollout was opened with: `rolling-deploy abort`, then `setup` again"
                )
            return Result(Outcome.FAILED, reason)
        return strategy.stage(opened.release, token)

    def _apply(self, step: Apply, opened: Opened, token: FenceToken) -> Result:
        """Publish a rendering made from what the record froze, never from today's templates."""
        key = f"{opened.rollout} {','.join(sorted(opened.initial))}"
        if key not in self._renderings:
            self._renderings[key] = Renderings(Frozen.from_json(opened.frozen))
        text = self._renderings[key].text(
            step.load_balancer, step.out, opened.rollout, step.claim, step.generation
        )
        return self.site.nginx[step.load_balancer].apply(
            text.encode("utf-8", "surrogateescape"),
            replaces=step.replaces,
            generation=step.generation,
            adopt=step.adopt,
            token=token,
        )

    def _warm_up(self, step: WarmUp) -> Result:
        backend = self._backend(step.backend)
        source = self._source(step.backend)
        return warm_up(
            backend.warm_up, backend.health, backend.probe_address, source, WARM_UP_LIMIT_MS
        )

    def _source(self, name: str) -> Opener:
        """Where one of us asks a backend: a load balancer's place, if one can be reached."""
        return next(iter(self._sources(self._backend(name)).values()), open_directly)

    def _backend(self, name: str) -> BackendSettings:
        return self.site.inventory.backends[name]
