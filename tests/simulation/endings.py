"""The promises about how a rollout ends: halted, closed, and what is left when all is over."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rolling_deploy.rollout.facts import Cause, Closed, Ending, Halted, Purpose
from tests.simulation.machines import ORIGINAL, PERSON, US, Balancer, artifact_of

if TYPE_CHECKING:
    from tests.simulation.audit import Audit
    from tests.simulation.operator import Operator

ABOUT_BACKENDS = frozenset(
    {Cause.DRAIN, Cause.CAPACITY, Cause.STORE, Cause.BACKEND, Cause.ASKED, Cause.ERRORS}
)
"""Causes of a halt that no load balancer has a part in."""


def judge_halt(audit: Audit, fact: Halted, by: Operator) -> None:
    """A halt that is not about a load balancer leaves them all in line."""
    opened = audit.opened
    assert opened is not None
    if fact.cause not in ABOUT_BACKENDS:
        return
    touched = audit.meant  # an intent in doubt may have come about
    for lb in audit.counting():
        is_odd = lb.authors[lb.text] == PERSON or audit.is_theirs(lb, by)
        if is_odd or lb.current.text != lb.text or audit.is_cut_off(lb, by):
            continue
        members = frozenset().union(*map(frozenset, opened.upstreams.values()))
        wanted = members - opened.parked - opened.left_out - touched
        lost = wanted - audit.world.up(lb)
        audit.check("halt", not lost, f"{lb.name} sends nothing to {sorted(lost)}")


def served_at_the_end(audit: Audit) -> None:
    """When all is over every upstream is served, unless what serves it is ill by nature."""
    for lb in audit.counting():
        if lb.name in audit.hands:
            continue  # people may have parked everybody there
        for upstream, members in audit.world.sending(lb).items():
            nodes = [audit.world.nodes[name] for name in members]
            odd = any(n.sick_on or n.instead for n in audit.world.nodes.values())
            good = any(n.is_healthy(audit.world.now_ms) for n in nodes)
            audit.check("end", good or odd, f"{lb.name} {upstream} is served by nobody")


def judge_end(audit: Audit, fact: Closed, by: Operator) -> None:
    """A rollout that is closed is what its last fact says."""
    opened = audit.opened
    assert opened is not None
    audit.world.tell("record", f"closed: {fact.ending}")
    order = [b for b in opened.order if b not in audit.skipped]
    match opened.purpose, fact.ending:
        case _, Ending.NOTHING_TOUCHED:
            _nothing_touched(audit, by)
        case Purpose.DEPLOY, Ending.DONE:
            for name in [*order, *opened.already]:
                _runs(audit, by, name, (opened.release,))
        case Purpose.DEPLOY, _:
            for name in order:
                _runs(audit, by, name, (opened.release, audit.was[name]))
        case Purpose.ADOPT, Ending.DONE:
            _files_are(audit, by, US)
        case Purpose.UNADOPT, Ending.DONE:
            _files_are(audit, by, ORIGINAL)
        case Purpose.ADOPT, _:
            _files_are(audit, by, ORIGINAL)
        case _:
            pass
    is_done = fact.ending is Ending.DONE
    audit.check("off", not (is_done and audit.off), f"done without {sorted(audit.off)}")
    for lb in audit.counting():
        is_live = lb.current.text == lb.text or _is_left_to_people(audit, by, lb, fact)
        audit.check("ending", is_live, f"{lb.name} serves another file than lies there")


def _is_left_to_people(audit: Audit, by: Operator, lb: Balancer, closed: Closed) -> bool:
    """Answers whether what a load balancer serves is no business of ours at this end."""
    if audit.is_theirs(lb, by) or lb.authors[lb.text] == PERSON or lb.is_away:
        return True
    # Where nothing was touched, whatever people did since is theirs, however long ago.
    is_later = audit.hands.get(lb.name, 0) > audit.written_ms.get(lb.name, 0)
    return closed.ending is Ending.NOTHING_TOUCHED and is_later


def _nothing_touched(audit: Audit, by: Operator) -> None:
    audit.check("ending", not audit.stops, f"nothing touched, but stopped {dict(audit.stops)}")
    for name, found in audit.begun.items():
        lb = audit.world.balancers[name]
        is_ours = lb.authors[lb.text] == US and not audit.is_theirs(lb, by) and not lb.is_away
        is_same = (lb.text, lb.current.text) == found
        # Where people were since, only what we did ourselves tells.
        is_theirs = audit.hands.get(name, 0) > audit.begun_ms and name not in audit.written_ms
        is_so = is_same or not is_ours or is_theirs
        audit.check("ending", is_so, f"nothing touched, but {name}")


def _runs(audit: Audit, by: Operator, name: str, versions: Sequence[str]) -> None:
    node = audit.world.nodes[name]
    opened = audit.opened
    assert opened is not None
    was_stopped = any(stopped == name for stopped, _ in audit.stops)
    is_good = audit.is_well(node, versions, by)
    release = (opened.release, artifact_of(opened.release))
    wanted = (release, (audit.was[name], audit.lay[name]))[: len(versions)]
    is_good = is_good and (not was_stopped or (node.serves, node.artifact) in wanted)
    if was_stopped or len(versions) == 1:
        audit.check("ending", is_good, f"{name} serves {node.serves}")
    is_out_before = name in opened.left_out and not was_stopped
    for lb in audit.counting():
        is_in = name in audit.world.up(lb) or audit.is_theirs(lb, by)
        is_edited = lb.authors[lb.text] == PERSON
        # Switched off since the last look: nobody saw it, and it sends nothing to anybody.
        is_fine = is_in or is_out_before or is_edited or lb.is_away
        audit.check("ending", is_fine, f"{lb.name} sends nothing to {name}")


def _files_are(audit: Audit, by: Operator, author: str) -> None:
    for lb in audit.counting():
        is_so = lb.authors[lb.text] == author or audit.is_theirs(lb, by)
        audit.check("ending", is_so, f"the file on {lb.name} is of {lb.authors[lb.text]}")
