"""Beginning, going on with and ending rollouts: one path for `run`, `resume` and `abort`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rolling_deploy.errors import (
    MachineUnreachable,
    PreflightRefused,
    RolloutHalted,
    RolloutHeld,
    UsageWrong,
)
from rolling_deploy.operations.balancer_checks import Acceptance
from rolling_deploy.operations.in_hand import InHand, find
from rolling_deploy.operations.life import Desk, Run, begin, go_on, halted, record_of
from rolling_deploy.operations.machines import now_ms
from rolling_deploy.operations.opening import (
    check_going_back,
    check_renderings,
    machine,
    opened_from,
    who,
)
from rolling_deploy.operations.site import Site
from rolling_deploy.operations.survey import Survey, survey, survey_balancers
from rolling_deploy.ports import Checked
from rolling_deploy.remote.record_copies import held_by, let_go
from rolling_deploy.rollout.decide import wanted_out
from rolling_deploy.rollout.journal import (
    Decided,
    Direction,
    Fact,
    Opened,
    Purpose,
    Record,
    Redirected,
)
from rolling_deploy.rollout.observed import Check, Verdict


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
        site.require(site.balancer_hosts())
        hand = find(site, desk.state_dir)
        if hand.is_open:
            return _go_on_with(desk, site, hand, release)
        _refuse_held(hand)
        site.require_all()
        if adopt_first is not None:
            adopt_first(site)
            hand = find(site, desk.state_dir)
        opened = preflight(desk, site, release, acceptance)
        if not opened.order:
            desk.say(f"nothing to do: every backend runs {release} already")
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
    opened = _opened_or_none(site, found, release, desk.reason)
    checks = list(found.checks)
    if opened is not None:
        checks += check_renderings(site, found, opened)
        checks += check_going_back(opened)
    for check in checks:
        desk.reporter.event(Checked(now_ms(), check))
    refuse(checks)
    if opened is None:
        raise PreflightRefused("the fleet could not be surveyed", next_step="rolling-deploy plan")
    return opened


def _opened_or_none(site: Site, found: Survey, release: str, reason: str) -> Opened | None:
    """What would be opened, as far as the survey allows; its own refusals say the rest."""
    try:
        return opened_from(site, found, purpose=Purpose.DEPLOY, release=release, reason=reason)
    except PreflightRefused:
        if found.refused():
            return None
        raise


def refuse(checks: Sequence[Check]) -> None:
    """Raise when a check refused.

    Raises:
        PreflightRefused: naming all that did.
    """
    refused = [check for check in checks if check.verdict is Verdict.REFUSED]
    if refused:
        reasons = "; ".join(f"{c.subject}: {c.name}: {c.detail}" for c in refused)
        raise PreflightRefused(
            f"{len(refused)} checks stand in the way",
            where=reasons,
            next_step="`rolling-deploy plan` shows every check",
        )


def _question(opened: Opened) -> str:
    names = ", ".join(opened.order)
    return f"deploy {opened.application} {opened.release} to {names}?"


def _refuse_held(hand: InHand) -> None:
    if hand.holder is not None:
        raise held_by("the load balancers", hand.holder, hand.step)


def _go_on_with(desk: Desk, site: Site, hand: InHand, release: str) -> Run:
    """`run` meets an unfinished rollout: the same one is resumed, another is in the way."""
    record = record_of(hand)
    _refuse_held(hand)
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
    return go_on(desk, site, hand, ())


def resume(desk: Desk, *, skip: tuple[str, ...] = ()) -> Run | None:
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
            facts.append(Decided(f"{who()} on {machine()}", tuple(skip)))
        question = f"resume rollout {record.opened.rollout} ({_standing(record)})?"
        if not desk.confirm(question):
            return None
        _check_balancers(desk, site)
        return go_on(desk, site, hand, facts)
    finally:
        site.close()


def abort(desk: Desk, *, leave_changed: bool = False) -> Run | None:
    """Take the unfinished rollout back, by the same engine with another goal.

    Args:
        leave_changed: only put back what is untouched; what was upgraded stays so.
    """
    site = desk.connect()
    try:
        hand = _open_hand(desk, site)
        record = record_of(hand)
        direction = Direction.STOP if leave_changed else Direction.BACK
        question = f"abort rollout {record.opened.rollout} ({_standing(record)})?"
        if not desk.confirm(question):
            return None
        _check_balancers(desk, site)
        return go_on(desk, site, hand, (Redirected(direction, f"{who()} on {machine()}"),))
    finally:
        site.close()


def _open_hand(desk: Desk, site: Site) -> InHand:
    site.require(site.balancer_hosts())
    hand = find(site, desk.state_dir)
    if not hand.is_open:
        raise UsageWrong(
            "no rollout is unfinished", where=desk.inventory.path, next_step="rolling-deploy status"
        )
    _refuse_held(hand)
    return hand


def _standing(record: Record) -> str:
    if record.halted is not None:
        return f"halted: {record.halted.reason}"
    claim = record.claim
    return f"in wave {claim.number}: {', '.join(claim.backends)}" if claim else "between waves"


def _check_balancers(desk: Desk, site: Site) -> None:
    """What would make a reload dangerous is refused in the middle of a rollout too."""
    _, checks, _ = survey_balancers(site, Acceptance(adopting=True))
    dangerous = {"other nginx masters", "pid file", "nginx test"}
    refused = [c for c in checks if c.verdict is Verdict.REFUSED and c.name in dangerous]
    for check in refused:
        desk.reporter.event(Checked(now_ms(), check))
    if refused:
        reasons = "; ".join(f"{c.subject}: {c.name}: {c.detail}" for c in refused)
        raise RolloutHalted(
            "nginx must not be reloaded as it is",
            where=reasons,
            site="nothing more was done; what served before this still serves",
            next_step="mend it, then `rolling-deploy resume`",
        )


def unlock(desk: Desk) -> str:
    """Free the lock of a dead run, and answer what that run left undone.

    Raises:
        UsageWrong: nobody holds it, or a person said no.
    """
    site = desk.connect()
    try:
        site.require(site.balancer_hosts())
        hand = find(site, desk.state_dir)
        holder = hand.holder or hand.dead_holder
        if holder is None:
            raise UsageWrong("nobody holds the rollout", next_step="rolling-deploy status")
        left = _left_undone(hand)
        alive = " and is ALIVE (its heart beats)" if hand.holder else ""
        question = (
            f"{holder.who} on {holder.machine} holds {holder.rollout}{alive}; {left}. unlock?"
        )
        if not desk.confirm(question):
            return "left as it is"
        problems = [r.detail for r in let_go(site.places, "", force=True).values() if r.detail]
        if problems:
            raise MachineUnreachable(
                f"the lock was not freed everywhere: {'; '.join(problems)}",
                next_step="rolling-deploy unlock",
            )
        return f"unlocked; {left}"
    finally:
        site.close()


def _left_undone(hand: InHand) -> str:
    record = hand.record
    if record is None or record.closed is not None:
        return "nothing was left undone"
    step = f", last step begun: {hand.step}" if hand.step else ""
    out = ", ".join(sorted(wanted_out(record)))
    rotation = f"; out of rotation: {out}" if out else "; nothing is out of rotation"
    return f"rollout {record.opened.rollout} is unfinished ({_standing(record)}{step}{rotation})"
