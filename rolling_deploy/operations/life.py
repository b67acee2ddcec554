"""One life of a rollout: take the lock, raise the fence, drive the loop, give the lock up."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from rolling_deploy.errors import (
    MachineUnreachable,
    PreflightRefused,
    RolloutHalted,
    UsageWrong,
    WentBack,
)
from rolling_deploy.operations.in_hand import InHand
from rolling_deploy.operations.machines import FleetMachines, WallClock, now_ms
from rolling_deploy.operations.opening import ci_job, machine, who
from rolling_deploy.operations.record import RecordJournal
from rolling_deploy.operations.site import Site, connect
from rolling_deploy.parallel import at_once
from rolling_deploy.ports import FenceToken, Reporter, Said
from rolling_deploy.remote.record_copies import Heart, Holder, hold, let_go
from rolling_deploy.rollout.decide import wanted_out
from rolling_deploy.rollout.journal import (
    Cause,
    Chain,
    Closed,
    DeclaredOff,
    Ending,
    Entry,
    Fact,
    Halted,
    Opened,
    Purpose,
    Record,
    TakenOver,
)
from rolling_deploy.rollout.step import Outcome
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


def record_of(hand: InHand) -> Record:
    """Answers the record in hand.

    Raises:
        UsageWrong: there is none.
    """
    if hand.record is None:
        raise UsageWrong("there is no rollout", next_step="rolling-deploy run")
    return hand.record


def begin(desk: Desk, site: Site, hand: InHand, opened: Opened) -> Run:
    """Open a rollout and drive it."""
    token = FenceToken(opened.rollout, hand.epoch + 1, _holder_id())
    facts: list[Fact] = [opened]
    if desk.off:
        facts.append(DeclaredOff(desk.off, opened.by))
    return _drive(desk, site, token, hand, Chain(), facts)


def go_on(desk: Desk, site: Site, hand: InHand, answers: Sequence[Fact]) -> Run:
    """Take an unfinished rollout over with a higher epoch and drive it."""
    if hand.chain is None:
        raise UsageWrong("there is no rollout", next_step="rolling-deploy run")
    record = record_of(hand)
    token = FenceToken(record.opened.rollout, hand.epoch + 1, _holder_id())
    facts: list[Fact] = [TakenOver(f"{who()} on {machine()}", lost=not hand.is_local)]
    if desk.off != record.off:
        facts.append(DeclaredOff(desk.off, f"{who()} on {machine()}"))
    return _drive(desk, site, token, hand, hand.chain, [*facts, *answers])


def _holder_id() -> str:
    """Unique for each life, so that two of the same person never pass for one."""
    return f"{who()}@{machine()}:{secrets.token_hex(4)}".replace(" ", "_")


def _drive(  # the six things a life of a rollout consists of
    desk: Desk,
    site: Site,
    token: FenceToken,
    hand: InHand,
    chain: Chain,
    facts: Sequence[Fact],
) -> Run:
    holder = Holder(who(), machine(), ci_job(), now_ms(), token.rollout, desk.reason)
    hold(site.places, token, holder, dead=hand.dead)
    heart = Heart(site.places, token.holder)
    heart.start()
    file = RecordFile(desk.state_dir, desk.inventory.application, token.rollout)
    journal = RecordJournal(file, site.places, token, WallClock(), chain)
    machines = FleetMachines(site)
    try:
        journal.begin(hand.known if chain.entries else {}, is_superseded=hand.is_superseded)
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
        calls[name] = partial(site.strategies[name].prune, keep, token)
    for name, result in at_once(calls).items():
        if result.outcome is not Outcome.DONE:
            desk.say(f"{name}: old artifacts were not removed: {result.detail}")
