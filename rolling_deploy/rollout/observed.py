"""What was seen on the machines, and when. Values only; nothing here looks.

Looking is the truth about the present. A part that could not be seen is `None` or
`Unreachable`, never a hopeful default.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from rolling_deploy.rollout.logouts import Logouts, Watching
from rolling_deploy.rollout.losses import Counting, Losses


@dataclass(frozen=True, slots=True)
class Unreachable:
    """A machine that did not answer. `detail` is the reason in the network's own words."""

    detail: str


@dataclass(frozen=True, slots=True)
class Stamp:
    """The mark every managed file carries: whose rendering it is, and what it takes out.

    `out` names the backends that this rollout marks down, not the ones parked by people.
    `body` is the sha256 of the upstream without its stamp: if it does not match, somebody
    edited the file by hand.
    """

    application: str
    rollout: str
    claim: int
    generation: str
    out: frozenset[str]
    body: str


@dataclass(frozen=True, slots=True)
class ManagedFile:
    """The upstream file on a load balancer's disk.

    Attributes:
        digest: sha256 of the whole file.
        stamp: the mark it carries; None when it is not ours.
        is_intact: the stamp's digest matches the body.
        down: backends that no upstream line of this file sends anything to.
    """

    digest: str
    stamp: Stamp | None
    is_intact: bool
    down: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Worker:
    """An nginx worker process. Its identity is pid and start time together."""

    pid: int
    started: int


@dataclass(frozen=True, slots=True)
class Fence:
    """The highest epoch a machine has seen, and who carried it."""

    epoch: int
    holder: str


@dataclass(frozen=True, slots=True)
class LoadBalancerSeen:
    """One look at a load balancer.

    Attributes:
        file: what is on disk; None when the file does not exist.
        live: the generation that fresh connections to the loopback listener answered, all alike;
            None when there was no answer or the answers differed.
        is_settled: every current worker belongs to the configuration that was loaded last: the
            newest workers exist, and no worker from before the last reload of ours is unretired.
        earlier_workers: workers of an earlier generation that have not exited, including those
            already retiring before we came. None when it cannot be told (no snapshot was taken
            for this generation): then only another reload can give a proof.
        is_busy: an earlier command of this tool still holds the machine's lock.
        detail: what a person needs to see, for instance which generation pins a worker.
    """

    file: ManagedFile | None
    live: str | None
    is_settled: bool
    earlier_workers: int | None
    is_busy: bool = False
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Health:
    """The verdict of a health probe, asked from the load balancers' place in the network.

    Attributes:
        is_good: status and content were as configured, `streak` times in a row, from every load
            balancer asked.
        version: the version actually served; None when no version source is configured or the
            answer carried none.
        is_version_checked: a version source is configured.
        detail: the last answer, for a person.
        cookies: names of the cookies that the answers set; a session's says that each question
            begins a session.
    """

    is_good: bool
    version: str | None = None
    is_version_checked: bool = True
    detail: str = ""
    cookies: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class BackendSeen:
    """One look at a backend.

    Attributes:
        artifact: what the disk says is deployed, as the upgrade strategy names it (for tomcat
            the sha256 of the WAR, for release the version the link points at); None when nothing
            is deployed.
        staged: artifacts that lie ready on this machine, in the same naming.
        is_restarted_since_swap: the process started after the artifact was put in place. None
            when it could not be told.
        health: None when it was not asked for in this look.
        is_busy: an earlier command of this tool still runs here.
    """

    artifact: str | None
    staged: frozenset[str] = frozenset()
    is_restarted_since_swap: bool | None = None
    health: Health | None = None
    is_busy: bool = False


class Verdict(StrEnum):
    """How one check came out. What could not be checked is never fine."""

    OK = "ok"
    WARNING = "warning"
    REFUSED = "refused"
    NOT_CHECKED = "not checked"


@dataclass(frozen=True, slots=True)
class Check:
    """One line of a preflight: what was checked, where, and how it came out."""

    subject: str
    """The machine or part, for instance `lb1`, `app2`, `session store`."""
    name: str
    verdict: Verdict
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Seen:
    """Everything one turn of the loop saw. `now_ms` is when the look ended.

    `store` is None when the session store was not asked for in this look, `losses` when nothing
    was to be counted; else they are those of the whole rollout. `logouts` likewise.
    """

    now_ms: int
    load_balancers: Mapping[str, LoadBalancerSeen | Unreachable] = field(default_factory=dict)
    backends: Mapping[str, BackendSeen | Unreachable] = field(default_factory=dict)
    store: tuple[Check, ...] | None = None
    losses: Losses | None = None
    logouts: Logouts | None = None


@dataclass(frozen=True, slots=True)
class Interest:
    """What the next look should cover; the least that lets `decide` answer.

    Attributes:
        load_balancers, backends: names to look at.
        alive: backends of which one good answer is enough (is there capacity without the claim?).
        ready: backends that must answer well as often in a row as configured, from every load
            balancer, by the version they must serve (None: any).
        store: whether the session store is to be checked.
        losses: how requests are to be counted; None: not at all.
        logouts: how signs of logged-out users are to be looked for; None: not at all.
    """

    load_balancers: frozenset[str]
    backends: frozenset[str] = frozenset()
    alive: frozenset[str] = frozenset()
    ready: Mapping[str, str | None] = field(default_factory=dict)
    store: bool = False
    losses: Counting | None = None
    logouts: Watching | None = None

    def covers(self, other: Interest) -> bool:
        """Answers whether a look at this shows everything that a look at `other` would."""
        return (
            self.load_balancers >= other.load_balancers
            and self.backends >= other.backends
            and self.alive >= other.alive
            and self.ready.items() >= other.ready.items()
            and self.store >= other.store
            and self._counts_as(other)
            and self._watches_as(other)
        )

    def _counts_as(self, other: Interest) -> bool:
        """What was read before a claim was noted belongs to the phase before it: that is right."""
        if other.losses is None:
            return True
        return self.losses is not None and self.losses.is_last >= other.losses.is_last

    def _watches_as(self, other: Interest) -> bool:
        if other.logouts is None:
            return True
        return self.logouts is not None and self.logouts.covers(other.logouts)

    def joined(self, other: Interest) -> Interest:
        """Answers what covers both."""
        return Interest(
            self.load_balancers | other.load_balancers,
            self.backends | other.backends,
            self.alive | other.alive,
            {**self.ready, **other.ready},
            self.store or other.store,
            self.losses or other.losses,
            self.logouts or other.logouts,
        )
