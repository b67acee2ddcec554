"""Whether what a record says is so: each fact against the truth of the moment it is written."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from rolling_deploy.rollout.facts import (
    Claimed,
    Closed,
    Decided,
    DeclaredOff,
    Fact,
    Forced,
    Halted,
    Met,
    Opened,
    Proved,
    Purpose,
    Redirected,
    Released,
    TakenOver,
)
from rolling_deploy.rollout.journal import read_chain
from rolling_deploy.rollout.step import Goal
from tests.simulation.endings import judge_end, judge_halt
from tests.simulation.fleet_commands import sha
from tests.simulation.machines import ORIGINAL, PERSON, US, artifact_of

if TYPE_CHECKING:
    from tests.simulation.audit import Audit
    from tests.simulation.operator import Operator

DECIDED = (Claimed, Forced, Proved, Released, Halted, Closed)
"""Facts that an operator decides on what it has looked at."""


def judge_fact(audit: Audit, fact: Fact, by: Operator) -> None:  # noqa: C901, PLR0912 # one case a fact
    """Check a new fact of the record in hand, and keep what later ones are judged by."""
    match fact:
        case Opened():
            _begin(audit, fact, by)
        case TakenOver():
            audit.forced |= audit.was_forced & _forced_as_known_to(audit, by)
        case DeclaredOff():
            audit.off = fact.load_balancers
        case Met():
            audit.met.add(fact.load_balancer)
            _accept(audit, fact.load_balancer, fact.digest, Purpose.DEPLOY)
        case Claimed():
            is_young = audit.world.store_failed_ms > audit.unseen_ms(by)
            # On the way back it is not asked: going back may be the cure.
            is_well = not audit.world.store or is_young or audit.is_going_back
            audit.check("store", is_well, f"{fact.backends} are claimed")
            audit.claimed[fact.claim] = frozenset(fact.backends)
        case Forced():
            audit.forced = audit.claimed[fact.claim]
        case Proved():
            _proved(audit, fact, by)
        case Released():
            audit.was_forced |= audit.forced
            audit.forced = frozenset()
            _released(audit, fact, by)
        case Decided():
            audit.decisions += 1
            audit.skipped |= set(fact.skip)
        case Redirected():
            audit.decisions += 1
            audit.is_going_back = True
        case Halted():
            judge_halt(audit, fact, by)
        case Closed():
            audit.is_closed = True
            judge_end(audit, fact, by)
        case _:
            pass


def _begin(audit: Audit, opened: Opened, by: Operator) -> None:
    is_free = audit.is_closed or not _is_known_to(audit, by)
    audit.check("one rollout", is_free, f"{opened.rollout} begins")
    audit.opened, audit.is_closed = opened, False
    audit.off, audit.decisions = frozenset(), 0
    audit.forced = audit.was_forced = frozenset()
    audit.skipped, audit.stops = frozenset(), Counter()
    audit.is_going_back = False
    audit.proved_ms.clear()
    audit.meant.clear()
    audit.lay = {n.name: n.artifact or "" for n in audit.world.nodes.values()}
    audit.was = {n.name: n.version_in(audit.lay[n.name]) for n in audit.world.nodes.values()}
    lbs = audit.world.balancers
    audit.begun_ms = audit.world.now_ms
    audit.begun = {name: (lb.text, lb.current.text) for name, lb in lbs.items()}
    audit.off_of.clear()
    audit.written_ms.clear()
    audit.met = set(opened.initial)
    for name, digest in opened.initial.items():
        _accept(audit, name, digest, opened.purpose)


def _is_known_to(audit: Audit, by: Operator) -> bool:
    """Answers whether the rollout in hand is found by who looks on its own disk and everywhere."""
    if audit.opened is None or not audit.is_known_anywhere():
        return False
    rollout, lbs = audit.opened.rollout, audit.world.balancers.values()
    return rollout in by.host.records or any(rollout in lb.records for lb in lbs)


def _forced_as_known_to(audit: Audit, by: Operator) -> frozenset[str]:
    """Answers whom the policy allowed to be cut off, and no line says that it is over.

    By the record that this life goes on from: the end of one before may be on that one's disk only.
    """
    claimed: dict[int, frozenset[str]] = {}
    forced: frozenset[str] = frozenset()
    content = by.host.records.get(audit.opened.rollout, b"") if audit.opened else b""
    for entry in read_chain(content, by.name).entries:
        match entry.fact:
            case Claimed(claim, backends):
                claimed[claim] = frozenset(backends)
            case Forced(claim):
                forced = claimed[claim]
            case Released():
                forced = frozenset()
            case _:
                pass
    return forced


def _accept(audit: Audit, name: str, digest: str, purpose: Purpose) -> None:
    """What was found, looked at and accepted is what may be replaced."""
    lb = audit.world.balancers[name]
    for text, author in lb.authors.items():
        if author == PERSON and sha(text) == digest:
            lb.authors[text] = ORIGINAL if purpose is Purpose.ADOPT else US


def _proved(audit: Audit, fact: Proved, by: Operator) -> None:
    node, opened = audit.world.nodes[fact.backend], audit.opened
    assert opened is not None
    wanted, artifact = opened.release, artifact_of(opened.release)
    if fact.goal is Goal.PREVIOUS:
        wanted, artifact = audit.was[fact.backend], audit.lay[fact.backend]
    is_warm = node.is_warm or audit.is_hurt(node, by)
    is_so = audit.is_well(node, (wanted,), by) and node.artifact == artifact
    # What makes it ill between that look and this line could not be seen.
    now_ms = audit.world.now_ms
    audit.proved_ms[node.name] = audit.answered_ms.get(node.name, now_ms)
    audit.check("truth", is_so, f"{fact.backend} is proved, serves {node.serves}")
    audit.check("proven", is_warm, f"{fact.backend} is proved and cold")


def _released(audit: Audit, fact: Released, by: Operator) -> None:
    for lb in audit.counting():
        up = audit.world.up(lb)
        is_so = not set(fact.out) & up or audit.is_theirs(lb, by)
        audit.check("truth", is_so, f"claim {fact.claim} leaves {fact.out} out of {lb.name}")
