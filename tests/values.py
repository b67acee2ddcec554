"""Records and looks made by hand, for the tables of the pure core."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from rolling_deploy.rollout.facts import (
    FORMAT,
    Before,
    Claimed,
    Ended,
    Fact,
    Intended,
    Opened,
    Purpose,
)
from rolling_deploy.rollout.fleet import Policy
from rolling_deploy.rollout.fold import fold
from rolling_deploy.rollout.journal import Entry
from rolling_deploy.rollout.move import Move, Note
from rolling_deploy.rollout.observed import (
    BackendSeen,
    Health,
    LoadBalancerSeen,
    ManagedFile,
    Seen,
    Stamp,
    Unreachable,
)
from rolling_deploy.rollout.record import Record
from rolling_deploy.rollout.step import Activate, Apply, Goal, Outcome, Result, Stage, Step

START_MS = 1_000
APPS = ("app1", "app2", "app3")
LBS = ("lb1", "lb2")
GONE = Unreachable("no route to host")
DONE = Result(Outcome.DONE)


def opened(
    *,
    order: tuple[str, ...] = APPS,
    load_balancers: tuple[str, ...] = LBS,
    purpose: Purpose = Purpose.DEPLOY,
    parked: frozenset[str] = frozenset(),
    left_out: frozenset[str] = frozenset(),
    policy: Policy | None = None,
    upstreams: Mapping[str, tuple[str, ...]] | None = None,
    before: Mapping[str, Before] | None = None,
) -> Opened:
    """Answers the first fact of a rollout from r1 to r2."""
    return Opened(
        FORMAT,
        "0.1",
        "roll",
        "shop",
        purpose,
        "r2",
        "inventory",
        order,
        (),
        parked,
        left_out,
        load_balancers,
        upstreams or {"web": tuple(sorted({*order, *parked}))},
        policy or Policy(),
        dict.fromkeys(order, "r2.war"),
        before or dict.fromkeys(order, Before("r1.war", "r1")),
        dict.fromkeys(load_balancers, "found"),
        dict.fromkeys(load_balancers, "original") if purpose is Purpose.UNADOPT else {},
        {},
        "someone",
    )


def record(first: Opened, *facts: Fact) -> Record:
    """Answers the record of these facts, one millisecond apart."""
    return fold(
        Entry(seq, START_MS + seq, 1, "laptop", fact)
        for seq, fact in enumerate((first, *facts), start=1)
    )


def stepped(seq: int, step: Step, result: Result = DONE) -> tuple[Fact, Fact]:
    """Answers an intent that is entry number `seq`, and its outcome."""
    return Intended(step, 1), Ended(seq, result)


def staged(first: Opened) -> tuple[Fact, ...]:
    """Answers the facts that stage every backend, after the opening."""
    facts: list[Fact] = []
    for name in first.order:
        facts += stepped(len(facts) + 2, Stage(name))
    return tuple(facts)


def claimed(first: Opened, *backends: str, is_out: bool = True) -> tuple[Fact, ...]:
    """Answers the facts up to a claim that is published on every load balancer."""
    facts = [*staged(first), Claimed(1, backends)]
    for number, name in enumerate(first.load_balancers if is_out else (), start=1):
        step = Apply(name, frozenset(backends), 1, f"roll.1.{number}", "found")
        facts += stepped(len(facts) + 2, step)
    return tuple(facts)


def activated(first: Opened, *backends: str, result: Result = DONE) -> tuple[Fact, ...]:
    """Answers the facts up to an activation of the whole claim."""
    facts = list(claimed(first, *backends))
    for name in backends:
        facts += stepped(len(facts) + 2, Activate(name, Goal.RELEASE), result)
    return tuple(facts)


def found(**changes: object) -> LoadBalancerSeen:
    """Answers a load balancer as it was when the rollout was opened."""
    stamp = Stamp("shop", "earlier", 1, "earlier.1.1", frozenset(), "body")
    seen = LoadBalancerSeen(ManagedFile("found", stamp, True), "earlier.1.1", True, 0)
    return replace(seen, **changes)  # type: ignore[arg-type] # the callers name real fields


def published(*out: str, rollout: str = "roll", **changes: object) -> LoadBalancerSeen:
    """Answers a load balancer that serves what this rollout wrote."""
    stamp = Stamp("shop", rollout, 1, "roll.1.1", frozenset(out), "body")
    file = ManagedFile("ours", stamp, True, frozenset(out))
    seen = LoadBalancerSeen(file, "roll.1.1", True, 0)
    return replace(seen, **changes)  # type: ignore[arg-type] # the callers name real fields


def edited() -> LoadBalancerSeen:
    """Answers a load balancer whose file a person has changed."""
    seen = published()
    assert seen.file is not None
    return replace(seen, file=replace(seen.file, digest="theirs", is_intact=False))


def runs(version: str, *, is_good: bool = True, **changes: object) -> BackendSeen:
    """Answers a backend that was asked for its health."""
    health = Health(is_good, version if is_good else None, detail="200" if is_good else "503")
    seen = BackendSeen(f"{version}.war", frozenset(), True, health)
    return replace(seen, **changes)  # type: ignore[arg-type] # the callers name real fields


def seen(
    balancers: Mapping[str, LoadBalancerSeen | Unreachable],
    backends: Mapping[str, BackendSeen | Unreachable] | None = None,
    *,
    now_ms: int = START_MS + 100,
) -> Seen:
    """Answers a look; backends not named run r1 and are well."""
    return Seen(now_ms, balancers, {**{name: runs("r1") for name in APPS}, **(backends or {})})


FIRST = opened()
BOTH = {"lb1": published("app1"), "lb2": published("app1")}
FOUND = {"lb1": found(), "lb2": found()}
FAILED = Result(Outcome.FAILED, "exit 1")
REFUSED = Result(Outcome.REFUSED, "somebody is connected")
UNKNOWN = Result(Outcome.UNKNOWN, "connection lost")
GOOD = {"app1": runs("r2")}


def facts_of(move: Move) -> tuple[object, ...]:
    """Answers the facts of a note, and fails for anything else."""
    assert isinstance(move, Note), move
    return move.facts
