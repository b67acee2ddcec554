"""Beginning, going on with and ending rollouts: one path for `run`, `resume` and `abort`."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from rolling_deploy.errors import (
    InventoryWrong,
    MachineUnreachable,
    PreflightRefused,
    RolloutHalted,
    RolloutHeld,
    UsageWrong,
)
from rolling_deploy.operations.balancer_checks import Acceptance, BalancerSurvey
from rolling_deploy.operations.continuity import require_passwords
from rolling_deploy.operations.desk import Desk
from rolling_deploy.operations.in_hand import InHand, find
from rolling_deploy.operations.life import Run, begin, go_on, halted, record_of
from rolling_deploy.operations.machines import now_ms
from rolling_deploy.operations.opening import (
    check_going_back,
    check_provable,
    check_renderings,
    digest_of_file,
    frozen_with,
    opened_from,
    places_of,
    who,
)
from rolling_deploy.operations.site import Site
from rolling_deploy.operations.survey import Survey, survey, survey_balancers
from rolling_deploy.operations.wire_backends import rewire_backends
from rolling_deploy.operations.wire_balancers import edited_by_setup
from rolling_deploy.ports import Checked
from rolling_deploy.remote.record_copies import held_by
from rolling_deploy.report.columns import counted
from rolling_deploy.rollout.facts import Decided, Direction, Fact, Met, Opened, Purpose, Redirected
from rolling_deploy.rollout.observed import Check, Verdict
from rolling_deploy.rollout.record import Record
from rolling_deploy.settings import Inventory


def run(
    desk: Desk,
    release: str,
    *,
    acceptance: Acceptance,
    adopt_first: Callable[[Site], None] | None = None,
) -> Run | None:
    """Deploy a release; an unfinished rollout of the same release and inventory is gone on with.

    Answers None when there is nothing to do, or a person answered no.

    Raises:
        RollingDeployError: each cause has its own class.
    """
    site = desk.connect()
    try:
        hand = in_hand(desk, site)
        if hand.is_open:
            return _go_on_with(desk, site, hand, release, acceptance)
        refuse_held(hand)
        site.require_all()
        if adopt_first is not None:
            # What stands in the way of the rollout is said before the adoption touches anything.
            refuse(survey(site, release, replace(acceptance, adopting=True)).checks)
            adopt_first(site)
            hand = find(site, desk.records, desk.footing.host())
        opened = preflight(desk, site, release, acceptance)
        if not opened.order:
            desk.say(f"nothing to do: {_nothing_to_do(opened)}")
            return None
        if not desk.confirm(_question(opened)):
            return None
        return begin(desk, site, hand, opened)
    finally:
        site.close()


def preflight(desk: Desk, site: Site, release: str, acceptance: Acceptance) -> Opened:
    """Check everything before a start, tell every check, and answer what would be opened.

    Raises:
        PreflightRefused: naming everything that stands in the way.
    """
    found = survey(site, release, acceptance)
    opened = _opened_or_none(desk, site, found, release)
    checks = list(found.checks)
    if opened is not None:
        checks += check_renderings(site, found, opened)
        checks += check_going_back(site, opened)
        checks += check_provable(opened, is_accepted=acceptance.unproved_sessions)
    for check in checks:
        desk.reporter.event(Checked(now_ms(), check))
    refuse(checks)
    if opened is None:
        raise PreflightRefused(
            "the fleet could not be surveyed", next_step="rolling-deploy plan --release VERSION"
        )
    return opened


def _opened_or_none(desk: Desk, site: Site, found: Survey, release: str) -> Opened | None:
    """What would be opened, as far as the survey allows; its own refusals say the rest."""
    try:
        host = desk.footing.host()
        return opened_from(
            site, found, purpose=Purpose.DEPLOY, release=release, reason=desk.reason, host=host
        )
    except PreflightRefused:
        if found.refused():
            return None
        raise


def _reasons(refused: Sequence[Check]) -> str:
    """The checks on one line: what nginx and others said may hold line breaks."""
    return "; ".join(f"{c.subject}: {c.name}: {' '.join(c.detail.split())}" for c in refused)


def refuse(
    checks: Sequence[Check],
    next_step: str = "`rolling-deploy plan --release VERSION` shows every check",
) -> None:
    """Raise when a check refused.

    Raises:
        PreflightRefused: naming all that did.
    """
    refused = [check for check in checks if check.verdict is Verdict.REFUSED]
    if refused:
        reasons = _reasons(refused)
        raise PreflightRefused(
            counted(len(refused), "check stands in the way", "checks stand in the way"),
            where=reasons,
            next_step=next_step,
        )


def _nothing_to_do(opened: Opened) -> str:
    already = ", ".join(opened.already) or "no backend"
    parked = f"; parked by a person: {', '.join(sorted(opened.parked))}" if opened.parked else ""
    return f"{opened.release} runs already on {already}{parked}"


def _question(opened: Opened) -> str:
    names = ", ".join(opened.order)
    return f"deploy {opened.application} {opened.release} to {names}?"


def in_hand(desk: Desk, site: Site) -> InHand:
    """Answers the rollout in hand, as the load balancers that are reached tell it.

    An unfinished rollout is gone on with even if one of them is cut off: the engine puts back on
    the others and names it. To begin one, or to say that there is none, all are needed.

    Raises:
        MachineUnreachable: a load balancer is needed and not reached.
    """
    if not site.nginx:
        site.require(site.balancer_hosts())
    hand = find(site, desk.records, desk.footing.host())
    if not hand.is_open:
        site.require(site.balancer_hosts())
    for name, why in sorted(hand.silent.items()):
        desk.say(f"the record on {name} was not read: {why}")
    _refuse_less_than_all(site, hand)
    return hand


def _refuse_less_than_all(site: Site, hand: InHand) -> None:
    """Without a local record the copies are all there is, and the newest may be on the one that
    is cut off: then what was begun last would not be known here.

    Raises:
        MachineUnreachable: a load balancer that may hold more cannot be asked.
    """
    asked = set(site.nginx) - set(hand.silent)
    missing = set(site.inventory.load_balancers) - asked - site.off
    if hand.is_open and missing and not hand.is_local:
        names = ", ".join(sorted(missing))
        raise MachineUnreachable(
            f"this machine has no record of its own, and {names} may hold more than the others",
            where=names,
            site="this run touched nothing; the rollout stands where it stood",
            next_step="bring it back, or resume where the rollout was begun, or declare it off: "
            f"`rolling-deploy resume --without {min(missing)}`",
        )


def refuse_held(hand: InHand) -> None:
    """Raise when a living holder has it.

    Raises:
        RolloutHeld: naming the holder.
    """
    if hand.holder is not None:
        raise held_by("the load balancers", hand.holder, hand.step)


def _go_on_with(desk: Desk, site: Site, hand: InHand, release: str, acceptance: Acceptance) -> Run:
    """`run` meets an unfinished rollout: the same one is resumed, another is in the way."""
    record = record_of(hand)
    refuse_held(hand)
    opened = record.opened
    is_same = (
        opened.purpose is Purpose.DEPLOY
        and opened.release == release
        and opened.inventory == desk.inventory.digest
        and record.direction is Direction.FORWARD
    )
    if not is_same:
        what = "the same release, but another inventory" if opened.release == release else ""
        raise RolloutHeld(
            f"rollout {opened.rollout} to {opened.release or opened.purpose} is unfinished"
            + (f" ({what})" if what else ""),
            where=f"begun by {opened.by}",
            site="`rolling-deploy status` shows it",
            next_step="`rolling-deploy resume` finishes it, `rolling-deploy abort` goes back",
        )
    if record.halted is not None:
        raise halted(record, record.halted)
    desk.say(f"going on with rollout {opened.rollout}")
    return take_over(desk, site, hand, (), load_pending=acceptance.load_pending)


def resume(desk: Desk, *, skip: tuple[str, ...] = (), load_pending: bool = False) -> Run | None:
    """Go on with the unfinished rollout; if it is halted this is the person's answer to it.

    Raises:
        UsageWrong: there is nothing to resume, or `skip` names a backend that is not in it.
    """
    site = desk.connect()
    try:
        hand = _open_hand(desk, site)
        record = record_of(hand)
        odd = set(skip) - set(record.opened.order)
        if odd:
            raise UsageWrong(
                f"{', '.join(sorted(odd))} is not part of rollout {record.opened.rollout}",
                next_step=f"name one of {', '.join(record.opened.order)}",
            )
        facts: list[Fact] = []
        if record.halted is not None or skip:
            facts.append(Decided(f"{who()} on {desk.footing.host()}", tuple(skip)))
        question = f"resume rollout {record.opened.rollout} ({standing(record)})?"
        if not desk.confirm(question):
            return None
        return take_over(desk, site, hand, facts, load_pending=load_pending)
    finally:
        site.close()


def abort(desk: Desk, *, leave_changed: bool = False, load_pending: bool = False) -> Run | None:
    """Take the unfinished rollout back, by the same engine with another goal.

    Args:
        leave_changed: only put back what is untouched; what was upgraded stays so.
    """
    site = desk.connect()
    try:
        hand = _open_hand(desk, site)
        record = record_of(hand)
        direction = Direction.STOP if leave_changed else Direction.BACK
        question = f"abort rollout {record.opened.rollout} ({standing(record)})?"
        if not desk.confirm(question):
            return None
        answer = Redirected(direction, f"{who()} on {desk.footing.host()}", desk.reason)
        return take_over(desk, site, hand, (answer,), load_pending=load_pending)
    finally:
        site.close()


def _open_hand(desk: Desk, site: Site) -> InHand:
    hand = in_hand(desk, site)
    if not hand.is_open:
        raise UsageWrong(
            "no rollout is unfinished", where=desk.inventory.path, next_step="rolling-deploy status"
        )
    refuse_held(hand)
    return hand


def take_over(
    desk: Desk, site: Site, hand: InHand, answers: Sequence[Fact], *, load_pending: bool
) -> Run:
    """Go on with the rollout in hand, once it is sure that it means the same machines."""
    opened = record_of(hand).opened
    refuse_other_places(desk.inventory, opened)
    require_passwords(desk.inventory, opened)
    if opened.purpose is Purpose.SETUP:
        rewire_backends(site, opened.order)
    met = _check_balancers(desk, site, record_of(hand), load_pending=load_pending)
    return go_on(desk, site, hand, answers, met)


def refuse_other_places(inventory: Inventory, opened: Opened) -> None:
    """A rollout is bound to the machines it was opened with.

    What may change in between is how they are asked (health, warm-up, the prober). The policy
    stays that of the opening: the wave size, the drain limit and the like were frozen with it.

    Raises:
        InventoryWrong: naming every difference.
    """
    now = places_of(inventory)
    problems = [
        f"{name}: should be `{opened.places.get(name, 'nothing')}` as at the opening, "
        f"is `{now.get(name, 'nothing')}`"
        for name in sorted({*now, *opened.places})
        if now.get(name) != opened.places.get(name)
    ]
    if problems:
        raise InventoryWrong(
            f"the inventory names other machines than rollout {opened.rollout} was opened with",
            problems=problems,
            where=inventory.path,
            site="this run touched nothing; the rollout stands where it stood",
            next_step="go on with the inventory of the opening",
        )


def standing(record: Record) -> str:
    """Answers in a few words where a rollout stands."""
    if record.halted is not None:
        return f"halted: {record.halted.reason}"
    claim = record.claim
    return f"in wave {claim.number}: {', '.join(claim.backends)}" if claim else "between waves"


EDITS = "edits not loaded yet"

DANGEROUS = frozenset({"other nginx masters", "pid file", "nginx test", EDITS})
"""Checks of a load balancer that forbid a reload in the middle of a rollout too."""


def _check_balancers(
    desk: Desk, site: Site, record: Record, *, load_pending: bool
) -> tuple[Met, ...]:
    """Refuse what would make a reload dangerous; answer the load balancers never seen before.

    One that was off at the opening has to pass every check, like any other did then.
    """
    acceptance = Acceptance(load_pending=load_pending)
    found, checks, _ = survey_balancers(site, acceptance)
    opened = record.opened
    new = [name for name in found if name not in opened.initial]
    refused = [
        check
        for check in checks
        if check.verdict is Verdict.REFUSED
        and (check.name in DANGEROUS or check.subject in new)
        and not (check.name == EDITS and _is_only_ours(site, check.subject, found))
    ]
    for check in refused:
        desk.reporter.event(Checked(now_ms(), check))
    if refused:
        reasons = _reasons(refused)
        raise RolloutHalted(
            "nginx must not be reloaded as it is",
            where=reasons,
            site="nothing more was done; what served before this still serves",
            next_step="mend it, then `rolling-deploy resume` (`--load-pending` if edits that are "
            "not loaded yet may go live)",
        )
    met = []
    frozen = opened.frozen
    for name in new:
        frozen = frozen_with(frozen, site, name, found[name])
        met.append(Met(name, digest_of_file(found[name]), frozen))
    return tuple(met)


def _is_only_ours(site: Site, name: str, found: Mapping[str, BalancerSurvey]) -> bool:
    """Whether nothing but the managed file, and what `setup` edited, waits to be loaded.

    A life that ended between a rename and the reload leaves it so; the engine judges the managed
    file by itself, and what `setup` put in place nginx has tested.
    """
    if name not in found:
        return False
    facts = found[name].facts
    ours = {site.inventory.load_balancers[name].file, facts.leads_to}
    ours |= {posixpath.dirname(path) for path in ours}
    ours |= edited_by_setup(site)[name]
    return {*(facts.edited or ()), *facts.rearranged} <= ours
