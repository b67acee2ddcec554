"""A fake world with god's-eye truth, and how a rollout is opened and taken over in it.

`World` is the truth; a `Life` is one operator process and implements every port over it. A life
that crashed is inert: whatever it still tries raises `Crash` and changes nothing. Time is
simulated and only passes at port calls, so that a rollout of minutes runs in milliseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from rolling_deploy.errors import RecordWrong
from rolling_deploy.ports import Event, FenceToken, Written
from rolling_deploy.rollout.facts import FORMAT, Before, Opened, Purpose, TakenOver
from rolling_deploy.rollout.fleet import Policy
from rolling_deploy.rollout.journal import Chain, agree, read_chain
from rolling_deploy.rollout.logouts import Pace
from rolling_deploy.rollout.observed import (
    Check,
    Fence,
    Stamp,
)
from tests.fake_audit import Audit
from tests.fake_backend import WIRED, FakeBackend, artifact_of
from tests.fake_faults import Plan
from tests.fake_life import Life
from tests.fake_load_balancer import (
    ORIGINAL,
    US,
    FakeFile,
    FakeLoadBalancer,
    Generation,
    body_of,
)

APPLICATION = "shop"


@dataclass(repr=False)
class World:
    """The truth: machines, time, disks. Nothing in here knows what the engine believes."""

    backends: dict[str, FakeBackend]
    balancers: dict[str, FakeLoadBalancer]
    upstreams: Mapping[str, tuple[str, ...]]
    plan: Plan = field(default_factory=Plan)
    now_ms: int = 1_000_000
    calls: list[tuple[str, str]] = field(default_factory=list)
    disks: dict[str, tuple[bytes, ...]] = field(default_factory=dict)
    later: list[tuple[int, Callable[[], object]]] = field(default_factory=list)
    hands: dict[int, Callable[[World], None]] = field(default_factory=dict)
    """What happens right before the n-th port call."""
    hands_at: list[tuple[str, Callable[[World], None]]] = field(default_factory=list)
    """What happens right before the first port call whose label holds a text."""
    store: tuple[Check, ...] = ()
    logs: dict[str, list[int]] = field(default_factory=dict)
    """The access logs: a status for each request, by load balancer; only what tests write."""
    app_logs: dict[str, list[str]] = field(default_factory=dict)
    """The backends' own logs; a line that begins with `!` says that a session cannot be read."""
    paces: list[Pace] = field(default_factory=list)
    """How fast sessions come, one for each time it is asked; the last one stays."""
    events: list[Event] = field(default_factory=list)
    lives: list[Life] = field(default_factory=list)
    has_guard: bool = False
    """The machine's own guard refuses to stop a backend that a load balancer may send to. Off,
    so that nothing but the engine's proof stands between users and a stop."""
    audit: Audit = field(init=False)

    def __post_init__(self) -> None:
        self.audit = Audit(self)

    def __repr__(self) -> str:
        """Answers what a failing test should show: the truth, the misfortune, what was said."""
        opened = self.audit.opened
        frozen = (opened.policy, opened.order, opened.parked, opened.left_out) if opened else ()
        odd = [
            (b.name, b.sick_on, b.instead, b.cold_on, b.is_version_checked, b.is_secured)
            for b in self.backends.values()
        ]
        drains = {lb.name: (lb.drains_ms, lb.has_snapshot) for lb in self.balancers.values()}
        return f"World({self.picture()}\n{frozen}\n{odd}\n{drains}\n{self.plan}\n{self.hands})"

    def _repr_pretty_(self, printer: object, cycle: bool) -> None:  # IPython's name
        """Hypothesis would print every field otherwise."""
        del cycle
        printer.text(repr(self))  # type: ignore[attr-defined] # its printer is not public

    def pass_time(self, ms: int) -> None:
        """Time passes, and commands that went on without their operator have their effect."""
        self.now_ms += ms
        due = [what for at_ms, what in self.later if at_ms <= self.now_ms]
        self.later = [(at_ms, what) for at_ms, what in self.later if at_ms > self.now_ms]
        for what in due:
            what()

    def next_change_ms(self) -> int | None:
        """Answers when something happens by itself next."""
        times = [at_ms for at_ms, _ in self.later]
        times += [b.busy_until_ms for b in self.backends.values()]
        times += [b.healthy_at_ms for b in self.backends.values()]
        for lb in self.balancers.values():
            times += [lb.busy_until_ms, *(g.ends_at_ms or 0 for g in lb.retiring)]
        return min((at_ms for at_ms in times if at_ms > self.now_ms), default=None)

    def serving(self, lb: FakeLoadBalancer) -> dict[str, int]:
        """Answers how many backends really serve each upstream behind one load balancer."""
        good = {b.name for b in self.backends.values() if b.is_healthy(self.now_ms)}
        return {
            upstream: len(set(members) & lb.current.up & good)
            for upstream, members in self.upstreams.items()
        }

    def assert_promises_kept(self) -> None:
        """Fail with every promise that was broken and what led to it."""
        self.audit.check_intents()
        facts = [event.entry for event in self.events if isinstance(event, Written)]
        told = [f"{entry.at_ms} {entry.fact!r:.300}" for entry in facts]
        log = ["--", *self.audit.log, "--", *(f"{port} {label}" for port, label in self.calls)]
        assert not self.audit.broken, "\n".join([*self.audit.broken, *log, "--", *told])

    def assert_site_serves(self) -> None:
        """Fail if an upstream is served by fewer than it should be."""
        opened = self.audit.opened
        least = opened.policy.serving_min if opened else 1
        for lb in self.audit.counting():
            for upstream, count in self.serving(lb).items():
                assert count >= least, f"{lb.name} {upstream}: {count}\n" + "\n".join(
                    self.audit.log
                )

    def picture(self) -> str:
        """Answers the truth in one line, for stories and failures."""
        texts = [
            f"{b.name} {b.version or 'stopped'}{'' if b.is_healthy(self.now_ms) else ' (ill)'}"
            for b in self.backends.values()
        ]
        for lb in self.balancers.values():
            old = len(lb.living(self.now_ms))
            retiring = f" +{old} retiring" if old else ""
            texts.append(f"{lb.name} -> {','.join(sorted(lb.current.up))}{retiring}")
        return "; ".join(texts)


def make_world(
    backends: int = 3,
    balancers: int = 2,
    *,
    upstreams: Mapping[str, tuple[str, ...]] | None = None,
    parked: frozenset[str] = frozenset(),
    left_out: frozenset[str] = frozenset(),
    is_adopted: bool = True,
    running: str = "r1",
) -> World:
    """Answers a fleet that runs `running`, behind files of an earlier rollout or people's own."""
    names = [f"app{n}" for n in range(1, backends + 1)]
    members = upstreams or {"web": tuple(names)}
    down = parked | left_out
    fakes = {name: FakeBackend(name, artifact_of(running), running) for name in names}
    lbs: dict[str, FakeLoadBalancer] = {}
    for name in (f"lb{n}" for n in range(1, balancers + 1)):
        stamp = Stamp(APPLICATION, "r0", 3, "r0.1.9", left_out, body_of(down, name))
        original = FakeFile(down, None, ORIGINAL, name)
        file = FakeFile(down, stamp, US, name) if is_adopted else original
        up = frozenset(names) - down
        current = Generation("r0.1.9" if is_adopted else None, up)
        lbs[name] = FakeLoadBalancer(name, frozenset(names), file, current)
        lbs[name].original = original if is_adopted else None
    return World(fakes, lbs, members)


def open_rollout(
    world: World,
    *,
    policy: Policy | None = None,
    purpose: Purpose = Purpose.DEPLOY,
    release: str = "r2",
    machine: str = "laptop",
) -> Opened:
    """Write the first fact of a rollout of the whole fleet, as found; `world.lives[-1]` runs it."""
    files = {name: lb.file for name, lb in world.balancers.items()}
    stamps = [file.stamp for file in files.values() if file.stamp]
    left_out = frozenset().union(*(stamp.out for stamp in stamps))
    parked = frozenset().union(*(file.down for file in files.values())) - left_out
    is_setup = purpose is Purpose.SETUP
    takes = [b for b in world.backends.values() if b.name not in parked]
    takes = takes if purpose.changes_backends else []
    done = tuple(
        b.name for b in takes if not is_setup and b.version == release and b.name not in left_out
    )
    originals = {n: lb.original.digest for n, lb in world.balancers.items() if lb.original}
    opened = Opened(
        FORMAT,
        "test",
        release,
        APPLICATION,
        purpose,
        release,
        "sha256 of the inventory",
        tuple(b.name for b in takes if b.name not in done),
        done,
        parked,
        left_out,
        tuple(world.balancers),
        world.upstreams,
        policy or Policy(),
        {
            name: f"{WIRED}{b.artifact}" if is_setup else artifact_of(release)
            for name, b in world.backends.items()
        },
        {b.name: Before(b.artifact if b.is_secured else None, b.version) for b in takes},
        {name: file.digest for name, file in files.items()},
        originals if purpose is Purpose.UNADOPT else {},
        {},
        "someone",
    )
    world.disks.clear()
    for lb in world.balancers.values():
        lb.copy, lb.fence = (), Fence(0, "")
    life = Life(world, machine, FenceToken(release, 1, f"{machine}#1"), Chain())
    plan, world.plan = world.plan, Plan()
    life.append((opened,), before_acting=True)
    world.calls.clear()
    world.plan = plan
    return opened


def live_again(world: World, machine: str = "laptop") -> Life:
    """Take the rollout over: on the same machine, or on one that has no local record.

    Raises:
        Crash: the new life died at once.
        RecordWrong: the local record and the copies differ.
        RolloutHalted: no load balancer could be given the record.
    """
    chains = {
        n: read_chain(b"".join(lb.copy), n) for n, lb in world.balancers.items() if lb.is_reachable
    }
    local = read_chain(b"".join(world.disks.get(machine, ())), machine)
    chain = agree({**chains, machine: local})
    if not chain.entries:
        raise RecordWrong("there is no record to go on from")
    fences = [lb.fence.epoch for lb in world.balancers.values() if lb.is_reachable]
    epoch = max(chain.entries[-1].epoch, *fences, 0) + 1
    holder = f"{machine}#{len(world.lives) + 1}"
    life = Life(world, machine, FenceToken(chain.entries[0].fact.rollout, epoch, holder), chain)  # type: ignore[union-attr] # the first fact is Opened
    life.append((TakenOver("someone", lost=not local.entries),), before_acting=True)
    return life
