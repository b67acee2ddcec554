"""What a person declared: the fleet, and the policy a rollout follows."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class DrainAtLimit(StrEnum):
    """What to do when earlier nginx workers are still there at the drain limit."""

    HALT = "halt"
    """Put the backends back, proved, and halt. The default: a proof is never replaced by hope."""
    FORCE = "force"
    """Go on, and report what was cut. Only ever an explicit choice."""


class OnFailure(StrEnum):
    """What to do with a backend that does not become good on the new release."""

    HALT = "halt"
    """Leave it out of rotation as it is, and halt."""
    BACK_NODE = "back-node"
    """Bring it back to the release it ran before, prove it, put it back, and end with exit 9."""


@dataclass(frozen=True, slots=True)
class LoadBalancer:
    """An nginx machine that spreads requests over the backends."""

    name: str


@dataclass(frozen=True, slots=True)
class Backend:
    """One application process behind the load balancers (several may share a machine)."""

    name: str
    upstreams: frozenset[str]
    zone: str = ""


@dataclass(frozen=True, slots=True)
class Policy:
    """The choices a rollout is bound to from its first record to its last.

    All `_ms` are milliseconds. `attempts_max` bounds how often one step is tried on one machine,
    counted by intents, so that a crash loop can never become a restart loop.
    """

    wave_size: int = 1
    serving_min: int = 1
    """Backends that must keep serving in every upstream, whatever happens."""
    drain_limit_ms: int = 120_000
    """nginx's client_body_timeout allows 60 s between two reads of an upload; twice that."""
    drain_at_limit: DrainAtLimit = DrainAtLimit.HALT
    on_failure: OnFailure = OnFailure.HALT
    attempts_max: int = 2
    ready_limit_ms: int = 180_000
    """A large Tomcat application takes one to two minutes to start."""
    busy_limit_ms: int = 300_000
    """How long an earlier command of ours may still run on a machine before we halt."""
    counts_losses: bool = False
    """A prober or access logs are configured, so every look counts what was lost."""
    max_errors: int | None = None
    """More failed requests than this, since the opening or a person's last answer, halt the
    rollout. None: they are only counted. No default number: a site's usual noise is its own."""
    proves_sessions: bool = False
    """A session canary is configured, so every backend has to prove that sessions survive."""
    watches_logouts: bool = False
    """Signs of logged-out users are looked for after each wave."""
    watch_ms: int = 5_000
    """How long they are waited for after the first and the last wave, since they show only with
    users' requests. Of people who click every half minute a sixth does so in 5 s: enough to tell
    of a release that logs everybody out, and little beside what a restart takes."""
    logout_lines_max: int = 0
    """More lines than this halt the rollout. None is usual: 0 were written in compatible rolls of
    Tomcat 10.1 with Redisson 3.39."""
    logout_ratio: float = 3.0
    """Sessions must come so many times as fast as before to count. An ordinary morning doubles
    them within ten minutes or more, which is 1.2 within the 5 minutes that are compared with."""
    logout_new_min: int = 20
    """And so many of the sampled ones must be new: where 6 are expected, 20 come by chance once in
    a hundred thousand times."""


@dataclass(frozen=True, slots=True)
class Fleet:
    """The application's load balancers and backends, in the order a rollout takes them."""

    application: str
    load_balancers: tuple[LoadBalancer, ...]
    backends: tuple[Backend, ...]
    policy: Policy

    def upstreams(self) -> dict[str, frozenset[str]]:
        """Answers which backends each upstream has, by upstream name."""
        names = sorted({upstream for backend in self.backends for upstream in backend.upstreams})
        return {
            name: frozenset(b.name for b in self.backends if name in b.upstreams) for name in names
        }
