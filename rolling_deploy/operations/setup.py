"""The one-time wiring: nginx's configuration first, then every Tomcat, by the same engine.

Nothing here is a special way to change a machine. nginx's files are put in place without a reload
and go live with the adoption's, which is proved; a Tomcat's files are an artifact like a WAR, put
in place while the backend is out of rotation.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from rolling_deploy.errors import PreflightRefused, RolloutHalted, RolloutHeld
from rolling_deploy.operations.adoption import adopt_on
from rolling_deploy.operations.balancer_checks import Acceptance
from rolling_deploy.operations.desk import Desk
from rolling_deploy.operations.in_hand import InHand, find
from rolling_deploy.operations.life import Run, begin, halted, record_of
from rolling_deploy.operations.machines import FleetMachines, now_ms
from rolling_deploy.operations.opening import check_going_back, check_renderings, opened_from
from rolling_deploy.operations.rollouts import EDITS, in_hand, refuse, refuse_held, take_over
from rolling_deploy.operations.site import Site
from rolling_deploy.operations.survey import ENOUGH_TO_SHARE, survey
from rolling_deploy.operations.wire_backends import wire_backends
from rolling_deploy.operations.wire_balancers import (
    WiringPlan,
    edited_by_setup,
    plan_wiring,
    put_in_place,
    waits_only_for_us,
)
from rolling_deploy.ports import Checked
from rolling_deploy.remote.nginx import Nginx
from rolling_deploy.remote.nginx_facts import NginxFacts
from rolling_deploy.report.setup import Missing, SetupView, wish_lines
from rolling_deploy.rollout.facts import Closed, Direction, Ending, Purpose
from rolling_deploy.rollout.observed import Check, Verdict
from rolling_deploy.rollout.step import Outcome
from rolling_deploy.settings import Inventory

IN_MEMORY = (
    "sessions that a Tomcat keeps in its memory end when it is restarted, once; from then on they "
    "are in the session store"
)

SPREAD = (
    "requests that went to one backend alone are spread over all of them once nginx is reloaded, "
    "before these share their sessions: until the last one is wired, users are logged out again "
    "and again"
)

SHOWN = "`rolling-deploy setup --check` shows every check"


@dataclass(frozen=True, slots=True)
class _Found:
    """One look at everything: the plans, by machine, and the view of them for a person."""

    plans: Mapping[str, WiringPlan]
    view: SetupView
    load_pending: bool


def label_of(inventory: Inventory) -> str:
    """Answers what a setup's rollout is called: the same for the same wishes. Holds no secret."""
    wishes = repr((inventory.wiring, inventory.session_store))
    return f"wiring-{hashlib.sha256(wishes.encode()).hexdigest()[:12]}"


def check_setup(desk: Desk, *, load_pending: bool = False) -> SetupView:
    """Answers what is missing, against the real machines, read-only."""
    site = desk.connect()
    try:
        site.require_all()
        return _look(desk, site, changes=False, load_pending=load_pending).view
    finally:
        site.close()


def setup(desk: Desk, *, load_pending: bool = False) -> Run | None:
    """Wire everything that is missing; an unfinished setup of the same inventory is gone on with.

    Answers None when nothing is missing, or a person answered no.

    Raises:
        RollingDeployError: each cause has its own class.
    """
    site = desk.connect()
    try:
        hand = in_hand(desk, site)
        if hand.is_open and record_of(hand).opened.purpose is not Purpose.ADOPT:
            return _go_on(desk, site, hand, load_pending=load_pending)
        refuse_held(hand)
        site.require_all()
        yes = replace(desk, confirm=lambda _question: True)
        if hand.is_open:
            # An earlier setup, or an `adopt`, ended in the middle of the adoption.
            _refuse_halted(hand)
            desk.say(f"going on with rollout {record_of(hand).opened.rollout}")
            _finished(adopt_on(yes, site, load_pending=load_pending))
        found = _look(desk, site, changes=True, load_pending=load_pending)
        for plan in found.plans.values():
            if plan.mended:
                desk.say(f"{plan.balancer}: {plan.mended}")
        for check in found.view.checks:
            desk.reporter.event(Checked(now_ms(), check))
        refuse(found.view.checks, SHOWN)
        if not found.view.missing:
            desk.say("nothing to do: everything is wired as the inventory says")
            return None
        for line in wish_lines(found.view):
            desk.say(line)
        machines = ", ".join(dict.fromkeys(name for name, _ in found.view.missing))
        if not desk.confirm(f"set up {machines}?"):
            return None
        _refuse_others(find(site, desk.records, desk.footing.host()))
        adopted = _wire_balancers(yes, site, found)
        return _wire_nodes(yes, site) or adopted
    finally:
        site.close()


def _refuse_others(hand: InHand) -> None:
    """Nobody waits while a person reads: what others began since would load our edits unproved.

    Raises:
        RolloutHeld: somebody has begun a rollout meanwhile.
    """
    refuse_held(hand)
    if hand.is_open:
        raise RolloutHeld(
            f"rollout {record_of(hand).opened.rollout} was begun meanwhile",
            where=f"begun by {record_of(hand).opened.by}",
            site="this run touched nothing",
            next_step="`rolling-deploy status` shows it; when it is over, `rolling-deploy setup`",
        )


def _look(desk: Desk, site: Site, *, changes: bool, load_pending: bool = False) -> _Found:
    """Look at all machines for what is missing.

    Args:
        changes: what an earlier setup left half done in nginx's files is ended first.
    """
    nodes = wire_backends(site)
    plans = plan_wiring(site, recovers=changes, load_pending=load_pending)
    acceptance = Acceptance(load_pending=load_pending, adopting=True)
    found = survey(site, label_of(desk.inventory), acceptance, Purpose.SETUP)
    missing: list[Missing] = []
    differences: list[tuple[str, tuple[str, ...]]] = []
    for name, plan in plans.items():
        missing += [(name, what) for what in plan.missing]
        if plan.edits:
            differences.append((f"{name}: nginx's files", plan.differences))
        balancer = found.balancers.get(name)
        if balancer is None or not balancer.is_adopted:
            missing.append((name, "the managed file is not adopted"))
    checks = [check for plan in plans.values() for check in plan.refused]
    checks += _not_judged_yet(found.checks, plans)
    for name, node in nodes.items():
        try:
            what_lacks, difference = node.missing(), node.differences()
        except PreflightRefused:
            continue  # its own preflight says why
        missing += [(name, what) for what in what_lacks]
        if difference:
            differences.append((f"{name}: Tomcat's files", difference))
    if not missing:
        checks.append(_sharing(site, found.parked))
    elif site.inventory.wiring.session_manager is not None:
        checks.append(Check("sessions", "memory", Verdict.WARNING, IN_MEMORY))
        if any(plan.spreads for plan in plans.values()) and any(b in nodes for b, _ in missing):
            checks.append(Check("sessions", "spread", Verdict.WARNING, SPREAD))
    lacking = {who for who, _ in missing}
    untouched = found.parked - found.left_out
    lacking_nodes = [name for name in nodes if name in lacking - untouched]
    size = site.inventory.fleet.policy.wave_size
    waves = [tuple(lacking_nodes[i : i + size]) for i in range(0, len(lacking_nodes), size)]
    view = SetupView(
        desk.inventory.application,
        desk.inventory.path,
        tuple(missing),
        tuple(differences),
        tuple(checks),
        tuple(waves),
    )
    return _Found(plans, view, load_pending)


def _not_judged_yet(checks: Sequence[Check], plans: Mapping[str, WiringPlan]) -> list[Check]:
    """The preflight's checks without what the plans judge better.

    Of a load balancer whose files will be others only its plan counts; the checks are made again
    once those files are in place. And only a plan knows which edits that wait are our own.
    """
    edited = {name for name, plan in plans.items() if plan.edits}
    return [c for c in checks if c.subject not in edited and c.name != EDITS]


def _wire_balancers(desk: Desk, site: Site, found: _Found) -> Run | None:
    """Nginx's files in place everywhere, then adopted by one rollout that proves the reload."""
    results = put_in_place(site, found.plans)
    wrong = {n: r.detail for n, r in results.items() if r.outcome is not Outcome.DONE}
    for name, result in results.items():
        desk.say(f"{name}: nginx's files: {result.outcome}: {result.detail}")
    if wrong:
        raise PreflightRefused(
            f"nginx's files could not be put in place on {', '.join(wrong)}",
            where="; ".join(f"{name}: {why}" for name, why in wrong.items()),
            site="nginx was not reloaded; what was serving still serves",
            next_step="mend it, then `rolling-deploy setup` goes on",
        )
    edited = edited_by_setup(site)
    pending = [name for name, nginx in site.nginx.items() if not _is_ours(nginx, edited[name])]
    # What others left waiting was accepted or refused when the plans were made.
    run = adopt_on(desk, site, load_pending=not pending or found.load_pending)
    return _finished(run)


def _is_ours(nginx: Nginx, edited: Collection[str]) -> bool:
    facts = nginx.facts()
    if not isinstance(facts, NginxFacts):
        return False
    # Where it cannot be told what waits, the adoption says so; nobody's edit was seen.
    return facts.edited is None or waits_only_for_us(facts, edited)


def _wire_nodes(desk: Desk, site: Site) -> Run | None:
    """Every Tomcat that lacks something, wave by wave; None when none does.

    Raises:
        PreflightRefused: naming everything that stands in the way.
    """
    if not wire_backends(site):
        return None
    label = label_of(desk.inventory)
    found = survey(site, label, Acceptance(), Purpose.SETUP)
    host = desk.footing.host()
    opened = opened_from(
        site, found, purpose=Purpose.SETUP, release=label, reason=desk.reason, host=host
    )
    checks = [*found.checks, *check_renderings(site, found, opened)]
    checks += check_going_back(site, opened)
    for check in checks:
        if check.verdict is not Verdict.OK:
            desk.reporter.event(Checked(now_ms(), check))
    refuse(checks, SHOWN)
    if not opened.order:
        if opened.parked:
            desk.say(f"{', '.join(sorted(opened.parked))} stays as it is: parked by a person")
        return None
    hand = find(site, desk.records, host)
    run = begin(desk, site, hand, opened)
    return _proved(desk, site, run)


def _go_on(desk: Desk, site: Site, hand: InHand, *, load_pending: bool) -> Run:
    """A setup of the same inventory is gone on with; anything else unfinished is in the way.

    Raises:
        RolloutHeld: it is another rollout, or somebody living holds it.
        RolloutHalted: it is halted, which a person answers with `resume` or `abort`.
    """
    record = record_of(hand)
    refuse_held(hand)
    opened = record.opened
    is_same = (
        opened.purpose is Purpose.SETUP
        and opened.inventory == desk.inventory.digest
        and record.direction is Direction.FORWARD
    )
    if not is_same:
        raise RolloutHeld(
            f"rollout {opened.rollout} to {opened.release or opened.purpose} is unfinished",
            where=f"begun by {opened.by}",
            site="`rolling-deploy status` shows it",
            next_step="`rolling-deploy resume` finishes it, `rolling-deploy abort` goes back",
        )
    _refuse_halted(hand)
    desk.say(f"going on with rollout {opened.rollout}")
    return _proved(desk, site, take_over(desk, site, hand, (), load_pending=load_pending))


def _refuse_halted(hand: InHand) -> None:
    """What is halted waits for a person's answer, which is `resume` or `abort`, never `setup`.

    Raises:
        RolloutHalted: the same halt again.
    """
    record = record_of(hand)
    if record.halted is not None:
        raise halted(record, record.halted)


def _finished(run: Run | None) -> Run | None:
    if run is not None:
        run.raise_unless_done()
    return run


def _proved(desk: Desk, site: Site, run: Run) -> Run:
    """Where a session canary is configured, the wiring is done when sessions are shared.

    Raises:
        RolloutHalted: they are not.
    """
    if not isinstance(run.end, Closed) or run.end.ending is not Ending.DONE:
        return run
    check = _sharing(site, run.record.opened.parked)
    if check.verdict is Verdict.REFUSED:
        raise RolloutHalted(
            "everything is wired, but sessions are not shared",
            where=check.detail,
            site="every backend that was set up serves",
            next_step="compare `setup` in the inventory with the session store, then "
            "`rolling-deploy setup`",
        )
    desk.reporter.event(Checked(now_ms(), check))
    return run


def _sharing(site: Site, parked: Collection[str]) -> Check:
    """Whether a session that one backend made is read on another, once all are wired."""
    subject, name = "sessions", "continuity"
    if not site.inventory.canary.is_configured:
        return Check(subject, name, Verdict.NOT_CHECKED, "no session canary is configured")
    serving = [b for b in site.inventory.backends if b not in parked]
    if len(serving) < ENOUGH_TO_SHARE:
        return Check(subject, name, Verdict.NOT_CHECKED, "fewer than two backends serve")
    result = FleetMachines(site).sessions.check(serving[0], serving[1])
    verdict = Verdict.OK if result.outcome is Outcome.DONE else Verdict.REFUSED
    return Check(subject, name, verdict, result.detail)
