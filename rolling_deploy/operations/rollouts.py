"""Beginning, going on with and ending rollouts: one path for `run`, `resume` and `abort`."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rolling_deploy.errors import (
    MachineUnreachable,
    PreflightRefused,
    RolloutHalted,
    RolloutHeld,
    UsageWrong,
    WentBack,
)
from rolling_deploy.operations.in_hand import InHand, find
from rolling_deploy.operations.machines import FleetMachines, WallClock, now_ms
from rolling_deploy.operations.opening import (
    check_going_back,
    check_renderings,
    ci_job,
    machine,
    opened_from,
    who,
)
from rolling_deploy.operations.record import RecordJournal
from rolling_deploy.operations.site import Site, connect
from rolling_deploy.operations.survey import Acceptance, Survey, survey, survey_balancers
from rolling_deploy.parallel import at_once
from rolling_deploy.ports import Checked, FenceToken, Reporter, Said
from rolling_deploy.remote.record_copies import Heart, Holder, held_by, hold, let_go
from rolling_deploy.rollout.decide import wanted_out
from rolling_deploy.rollout.journal import (
    Cause,
    Chain,
    Closed,
    Decided,
    DeclaredOff,
    Direction,
    Ending,
    Entry,
    Fact,
    Halted,
    Opened,
    Purpose,
    Record,
    Redirected,
    TakenOver,
)
from rolling_deploy.rollout.observed import Check, Verdict
from rolling_deploy.runner import Runner, Stop
from rolling_deploy.settings import Inventory
from rolling_deploy.state.record_file import RecordFile

Confirm = Callable[[str], bool]
"""Asks a person; answers False when they say no. Raises `UsageWrong` without a terminal."""


@dataclass
class Desk:
    """What every operation needs beside the inventory: where to keep, whom to tell and to ask."""

    inventory: Inventory
    state_dir: Path
    reporter: Reporter
    confirm: Confirm
    stop: Stop = field(default_factory=Stop)
    off: frozenset[str] = frozenset()
    reason: str = ""

    def connect(self) -> Site:
        """Open one connection to every machine that is not declared off."""
        return connect(self.inventory, off=self.off)

    def say(self, text: str) -> None:
        """Tell something that is no fact of the record."""
        self.reporter.event(Said(now_ms(), text))


@dataclass(frozen=True, slots=True)
class Run:
    """A rollout that came to its end or to a halt, with everything it wrote."""

    entries: Sequence[Entry]
    record: Record
    end: Halted | Closed

    def raise_unless_done(self) -> None:
        """Turn an end that is not the one asked for into its error.

        Raises:
            RolloutHalted, WentBack, MachineUnreachable, PreflightRefused: by how it ended.
        """
        if isinstance(self.end, Halted):
            raise halted(self.record, self.end)
        match self.end.ending:
            case Ending.DONE | Ending.ABORTED:
                return
            case Ending.WENT_BACK:
                raise WentBack(
                    self.end.reason,
                    where=f"rollout {self.record.opened.rollout}",
                    site="every backend serves; what failed runs what it ran before",
                    next_step="mend the release and run again",
                )
            case Ending.NOTHING_TOUCHED:
                is_network = self.end.cause is Cause.UNREACHABLE
                kind = MachineUnreachable if is_network else PreflightRefused
                raise kind(
                    self.end.reason,
                    where=f"rollout {self.record.opened.rollout}",
                    next_step="mend it and run again",
                )


def halted(record: Record, end: Halted) -> RolloutHalted:
    """Answers the message of a halt: what, where, is the site all right, what next."""
    out = sorted(wanted_out(record) | record.opened.parked)
    opened = record.opened
    serving = sorted({b for m in opened.upstreams.values() for b in m} - set(out))
    site = f"{', '.join(serving)} in rotation"
    if wanted_out(record):
        site += f"; {', '.join(sorted(wanted_out(record)))} out of rotation on purpose"
    return RolloutHalted(
        end.reason,
        where=f"rollout {opened.rollout} ({end.cause})",
        site=site,
        next_step="look with `rolling-deploy status`; then `rolling-deploy resume` tries once "
        "more, `rolling-deploy abort` goes back",
    )


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
    record = _record(hand)
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


def _record(hand: InHand) -> Record:
    if hand.record is None:
        raise UsageWrong("there is no rollout", next_step="rolling-deploy run")
    return hand.record


def resume(desk: Desk, *, skip: tuple[str, ...] = ()) -> Run | None:
    """Go on with the unfinished rollout; if it is halted this is the person's answer to it.

    Raises:
        UsageWrong: there is nothing to resume, or `skip` names a backend that is not in it.
    """
    site = desk.connect()
    try:
        hand = _open_hand(desk, site)
        record = _record(hand)
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
        record = _record(hand)
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
    dangerous = {"masters", "pid file", "test"}
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


def begin(desk: Desk, site: Site, hand: InHand, opened: Opened) -> Run:
    """Open a rollout and drive it."""
    token = FenceToken(opened.rollout, hand.epoch + 1, _holder_id())
    facts: list[Fact] = [opened]
    if desk.off:
        facts.append(DeclaredOff(desk.off, opened.by))
    return _drive(desk, site, token, Chain(), {}, facts)


def go_on(desk: Desk, site: Site, hand: InHand, answers: Sequence[Fact]) -> Run:
    """Take an unfinished rollout over with a higher epoch and drive it."""
    if hand.chain is None:
        raise UsageWrong("there is no rollout", next_step="rolling-deploy run")
    record = _record(hand)
    token = FenceToken(record.opened.rollout, hand.epoch + 1, _holder_id())
    facts: list[Fact] = [TakenOver(f"{who()} on {machine()}", lost=not hand.is_local)]
    if desk.off != record.off:
        facts.append(DeclaredOff(desk.off, f"{who()} on {machine()}"))
    return _drive(desk, site, token, hand.chain, dict(hand.known), [*facts, *answers])


def _holder_id() -> str:
    """Unique for each life, so that two of the same person never pass for one."""
    return f"{who()}@{machine()}:{secrets.token_hex(4)}".replace(" ", "_")


def _drive(  # the six things a life of a rollout consists of
    desk: Desk,
    site: Site,
    token: FenceToken,
    chain: Chain,
    known: dict[str, int],
    facts: Sequence[Fact],
) -> Run:
    holder = Holder(who(), machine(), ci_job(), now_ms(), token.rollout, desk.reason)
    hold(site.places, token, holder)
    heart = Heart(site.places, token.holder)
    heart.start()
    file = RecordFile(desk.state_dir, desk.inventory.application, token.rollout)
    journal = RecordJournal(file, site.places, token, WallClock(), chain)
    machines = FleetMachines(site)
    try:
        journal.begin(known)
        runner = Runner(machines, journal, WallClock(), desk.reporter, token, desk.stop)
        runner.open(facts)
        record, end = runner.run()
        if isinstance(end, Closed):
            _prune(desk, site, record, token)
        return Run(tuple(journal.entries()), record, end)
    finally:
        # Only a courtesy: whoever comes next need not wait for the expiry. A death skips it.
        heart.stop()
        let_go(site.places, token.holder)
        file.close()


def _prune(desk: Desk, site: Site, record: Record, token: FenceToken) -> None:
    """Remove old artifacts, only now that the record is closed, never what could be needed."""
    opened = record.opened
    if opened.purpose is not Purpose.DEPLOY or record.closed is None:
        return
    if record.closed.ending not in (Ending.DONE, Ending.ABORTED):
        return
    calls = {}
    for name in sorted(record.changed & set(site.strategies)):
        before = opened.before[name].artifact
        keep = frozenset({opened.artifacts[name], *([before] if before else [])})
        calls[name] = lambda s=site.strategies[name], k=keep: s.prune(k, token)  # type: ignore[misc] # bound at once
    for name, result in at_once(calls).items():
        if result.outcome.value != "done":
            desk.say(f"{name}: old artifacts were not removed: {result.detail}")


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
