"""One life of a rollout: take the lock, raise the fence, drive the loop, give the lock up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from rolling_deploy.errors import (
    MachineUnreachable,
    PreflightRefused,
    RolloutHalted,
    RolloutHeld,
    UsageWrong,
    WentBack,
)
from rolling_deploy.operations.desk import Desk
from rolling_deploy.operations.in_hand import InHand, find
from rolling_deploy.operations.opening import ci_job, who
from rolling_deploy.operations.record import RecordJournal, overtaken_on
from rolling_deploy.operations.site import Site
from rolling_deploy.parallel import at_once
from rolling_deploy.ports import FenceToken
from rolling_deploy.remote.record_copies import LIMIT_MS, Holder, held_by, hold, let_go
from rolling_deploy.rollout.facts import (
    Cause,
    Closed,
    DeclaredOff,
    Ending,
    Fact,
    Halted,
    Met,
    Opened,
    TakenOver,
)
from rolling_deploy.rollout.journal import Chain, Entry
from rolling_deploy.rollout.move import Free
from rolling_deploy.rollout.observed import BackendSeen, Seen, Unreachable
from rolling_deploy.rollout.record import Record
from rolling_deploy.rollout.step import Outcome
from rolling_deploy.rollout.view import wanted_out
from rolling_deploy.runner import Runner

FAREWELL_MS = 1_000
"""How long giving the lock up may take once a signal came."""


@dataclass(frozen=True, slots=True)
class Run:
    """A rollout that came to its end or to a halt, with everything it wrote."""

    entries: Sequence[Entry]
    record: Record
    end: Halted | Closed
    seen: Seen | None = None

    def raise_unless_done(self) -> None:
        """Turn an end that is not the one asked for into its error.

        Raises:
            RolloutHalted, WentBack, MachineUnreachable, PreflightRefused: by how it ended.
        """
        if isinstance(self.end, Halted):
            raise halted(self.record, self.end, self.seen)
        match self.end.ending:
            case Ending.DONE | Ending.ABORTED:
                return
            case Ending.WENT_BACK:
                raise WentBack(
                    self.end.reason,
                    where=f"rollout {self.record.opened.rollout}",
                    site=site_text(self.record, self.seen),
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


ADVICE = {
    Cause.HANDS: "compare the managed file with the copy in the state directory beside it "
    "(`.incoming` is what was written last); put that back or finish by hand, reload nginx, then "
    "`rolling-deploy resume`",
    Cause.DECLARED_OFF: "when it is back: `rolling-deploy resume` without `--without`",
    Cause.UNREACHABLE: "when it answers again: `rolling-deploy resume`; one that is really off is "
    "declared with `rolling-deploy resume --without NAME`",
    Cause.DRAIN: "wait until those connections end, then `rolling-deploy resume`; or "
    "`rolling-deploy abort`",
    Cause.STORE: "mend the session store, then `rolling-deploy resume`; or `rolling-deploy abort`",
    Cause.ERRORS: "look into the applications' and nginx's error logs; `rolling-deploy abort` goes "
    "back; `rolling-deploy resume` goes on, and counts from then on",
    Cause.SESSIONS: "look into the applications' logs; `rolling-deploy abort` goes back; "
    "`rolling-deploy resume` goes on, and does not halt for users who are logged out again",
    Cause.CAPACITY: "bring the others back, then `rolling-deploy resume`; or "
    "`rolling-deploy abort`",
}
"""What to do about a halt, where it is not the general advice."""

ADVICE_GENERAL = (
    "look with `rolling-deploy status`; then `rolling-deploy resume` tries once more, "
    "`rolling-deploy abort` goes back"
)


NAMED_MAX = 5
"""Of those that were not asked; in a fleet of hundreds they are nearly everybody."""


def halted(record: Record, end: Halted, seen: Seen | None = None) -> RolloutHalted:
    """Answers the message of a halt: what, where, is the site all right, what next.

    Args:
        seen: the last look, if there was one: what it could not see is said.
    """
    opened = record.opened
    return RolloutHalted(
        end.reason,
        where=f"rollout {opened.rollout} ({end.cause})",
        site=site_text(record, seen),
        next_step=ADVICE.get(end.cause, ADVICE_GENERAL),
    )


def site_text(record: Record, seen: Seen | None) -> str:
    """Answers whether the site is all right, as far as it was seen."""
    opened = record.opened
    out = wanted_out(record)
    every = {*opened.order, *opened.already}
    texts = [f"{', '.join(sorted(every - out)) or 'nobody'} in rotation"]
    if out:
        texts.append(f"{', '.join(sorted(out))} out of rotation on purpose")
    if opened.parked:
        texts.append(f"{', '.join(sorted(opened.parked))} parked by a person")
    for name, one in sorted((seen.load_balancers if seen else {}).items()):
        if isinstance(one, Unreachable):
            texts.append(f"{name} was not seen ({one.detail})")
        elif one.live is None and opened.purpose.changes_backends:
            texts.append(f"{name} DOES NOT ANSWER on its generation port: look at its nginx")
    for name, backend in sorted((seen.backends if seen else {}).items()):
        health = backend.health if isinstance(backend, BackendSeen) else None
        if health and not health.is_good and name not in out:
            texts.append(f"{name} is NOT healthy ({health.detail})")
    unasked = sorted(every - out - set(seen.backends)) if seen else []
    if unasked:
        texts.append(f"{_shortly(unasked)} not asked lately")
    return "; ".join(texts)


def _shortly(names: Sequence[str]) -> str:
    """Answers a few of the names, and how many more there are."""
    more = len(names) - NAMED_MAX
    text = ", ".join(names[:NAMED_MAX])
    return f"{text} and {more} others" if more > 1 else ", ".join(names)


def record_of(hand: InHand) -> Record:
    """Answers the record in hand.

    Raises:
        UsageWrong: there is none.
    """
    if hand.record is None:
        raise UsageWrong("there is no rollout", next_step="rolling-deploy run --release VERSION")
    return hand.record


def begin(desk: Desk, site: Site, hand: InHand, opened: Opened) -> Run:
    """Open a rollout and drive it."""
    token = FenceToken(opened.rollout, hand.epoch + 1, _holder_id(desk))
    facts: list[Fact] = [opened]
    if desk.off:
        facts.append(DeclaredOff(desk.off, opened.by))
    return _drive(desk, site, token, hand, facts)


def go_on(
    desk: Desk, site: Site, hand: InHand, answers: Sequence[Fact], met: Sequence[Met] = ()
) -> Run:
    """Take an unfinished rollout over with a higher epoch and drive it.

    Args:
        answers: what a person decided.
        met: load balancers that were off at the opening and are seen for the first time.
    """
    record = record_of(hand)
    by = f"{who()} on {desk.footing.host()}"
    token = FenceToken(record.opened.rollout, hand.epoch + 1, _holder_id(desk))
    facts: list[Fact] = [TakenOver(by, lost=not hand.is_local, reason=desk.reason), *met]
    if desk.off != record.off:
        facts.append(DeclaredOff(desk.off, by))
    return _drive(desk, site, token, hand, [*facts, *answers])


def _holder_id(desk: Desk) -> str:
    """Unique for each life, so that two of the same person never pass for one."""
    return f"{who()}@{desk.footing.host()}:{desk.footing.unique()}".replace(" ", "_")


def _drive(desk: Desk, site: Site, token: FenceToken, hand: InHand, facts: Sequence[Fact]) -> Run:
    """Hold the local file, the lock and the fence, in this order; then read again and drive.

    What was read before the fence was raised may be old by now: somebody else may have written
    until that very moment, and cannot any more.
    """
    is_new = isinstance(facts[0], Opened)
    footing = desk.footing
    file = desk.records.file(token.rollout)
    heart = footing.heart(site.places, token.holder, desk.inventory.lock.expiry_s)
    file.hold()
    try:
        _take_lock(desk, site, token, hand)
        heart.start()
        fresh = find(site, desk.records, footing.host())
        _still_the_same(fresh, token, is_new=is_new)
        chain = Chain() if is_new or fresh.chain is None else fresh.chain
        journal = RecordJournal(file, site.places, token, footing.clock, chain, desk.say)
        known = {} if is_new else fresh.known
        loose = {} if is_new else fresh.loose
        journal.begin(known, loose, is_superseded=fresh.is_superseded and not is_new)
        machines = footing.machines(site)
        runner = Runner(
            machines, journal, footing.clock, desk.reporter, token, desk.stop, spawn=footing.spawn
        )
        runner.open(facts)
        record, end = runner.run()
        if isinstance(end, Closed):
            _prune(desk, site, record, token)
        return Run(tuple(journal.entries()), record, end, runner.last_seen)
    finally:
        # Only a courtesy: whoever comes next need not wait for the expiry. A death skips it, and
        # after a signal it gets no more than a moment.
        heart.stop()
        limit_ms = FAREWELL_MS if desk.stop.is_requested else LIMIT_MS
        let_go(site.places, token.holder, limit_ms=limit_ms)
        file.close()


def _take_lock(desk: Desk, site: Site, token: FenceToken, hand: InHand) -> None:
    """Take the lock and raise the fence; wait for an earlier command that still runs there.

    Raises:
        RolloutHeld: somebody else has it, or was faster.
        RolloutHalted: no load balancer gave it; nothing was written.
    """
    footing = desk.footing
    since_ms = footing.clock.now_ms()
    expiry_s = desk.inventory.lock.expiry_s
    holder = Holder(who(), footing.host(), ci_job(), since_ms, token.rollout, desk.reason, expiry_s)
    failures = hold(site.places, token, holder, dead=hand.dead)
    busy = frozenset(name for name, why in failures.items() if "busy" in why)
    if busy:
        desk.say(f"waiting for an earlier command on {', '.join(sorted(busy))}")
        limit_ms = desk.inventory.fleet.policy.busy_limit_ms
        desk.footing.machines(site).wait(Free(busy), limit_ms)
        failures = hold(site.places, token, holder, dead=hand.dead)
    for name, why in sorted(failures.items()):
        desk.say(f"the lock was not taken on {name}: {why}")
    if len(failures) == len(site.places):
        # It may be we who stood still, for as long as it takes another to take over.
        overtaken = overtaken_on(site.places, token)
        if overtaken:
            raise held_by(overtaken, None, "")
        reasons = "; ".join(f"{name}: {why}" for name, why in sorted(failures.items()))
        raise RolloutHalted(
            "no load balancer gave the lock, so nothing was begun",
            where=reasons,
            site="what was serving still serves; this run touched nothing",
            next_step="rolling-deploy status",
        )


def _still_the_same(fresh: InHand, token: FenceToken, *, is_new: bool) -> None:
    """Between the first reading and the fence somebody may have opened or closed a rollout.

    Raises:
        RolloutHeld: it is so.
    """
    rollout = fresh.record.opened.rollout if fresh.record else ""
    is_ours = fresh.is_open and rollout == token.rollout
    if fresh.is_open if is_new else not is_ours:
        raise RolloutHeld(
            "another run was here a moment ago",
            where=f"rollout {rollout}",
            site="it answers for the site; this run touched nothing",
            next_step="rolling-deploy status",
            is_passing=True,
        )


def _prune(desk: Desk, site: Site, record: Record, token: FenceToken) -> None:
    """Remove old artifacts, only now that the record is closed, never what could be needed."""
    opened = record.opened
    if not opened.purpose.changes_backends or record.closed is None:
        return
    if record.closed.ending is not Ending.DONE:
        return  # what the last completed rollout left could still be gone back to
    calls = {}
    for name in sorted(record.changed & set(site.strategies)):
        before = opened.before[name].artifact
        keep = frozenset({opened.artifacts[name], *([before] if before else [])})
        calls[name] = partial(site.strategies[name].prune, keep, token)
    for name, result in at_once(calls).items():
        if result.outcome is not Outcome.DONE:
            desk.say(f"{name}: old artifacts were not removed: {result.detail}")
