"""Folding the record: what the facts so far amount to. Total and pure.

`advance` is the only place that knows what each fact means for what follows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from rolling_deploy.errors import RecordWrong
from rolling_deploy.rollout.facts import (
    Cause,
    Claimed,
    Closed,
    Counted,
    Decided,
    DeclaredOff,
    Direction,
    Ended,
    Forced,
    GaveUp,
    Halted,
    Intended,
    Marked,
    Met,
    Opened,
    Proved,
    Redirected,
    Released,
    TakenOver,
    TurnedBack,
    Waiting,
    Watched,
)
from rolling_deploy.rollout.journal import Entry
from rolling_deploy.rollout.logouts import ANEW, Logouts, Pace, faster
from rolling_deploy.rollout.losses import LAST_COUNT, Losses
from rolling_deploy.rollout.record import Claim, Record
from rolling_deploy.rollout.step import (
    Activate,
    Apply,
    Continuity,
    Goal,
    Keep,
    Outcome,
    Stage,
    Step,
    Unadopt,
    WarmUp,
)


def step_key(step: Step, claim: int) -> str:
    """Answers the key under which attempts at the same thing are counted together.

    An Activate counts over all claims: the budget bounds how often a backend is restarted,
    whatever happens in between. Publishing counts per claim and what it takes out.
    """
    match step:
        case Stage():
            return f"stage {step.backend}"
        case Apply():
            return f"apply {step.load_balancer} claim {step.claim} out {','.join(sorted(step.out))}"
        case Unadopt():
            return f"unadopt {step.load_balancer}"
        case Activate():
            return f"activate {step.backend} {step.goal}"
        case WarmUp():
            return f"warm up {step.backend} claim {claim}"
        case Keep():
            return "keep sessions"
        case Continuity():
            return f"continuity {step.backend} claim {claim}"


def fold(entries: Iterable[Entry]) -> Record:
    """Answers the record that these entries amount to.

    Raises:
        RecordWrong: it does not begin with `opened`, or a fact cannot follow the ones before.
    """
    iterator = iter(entries)
    first = next(iterator, None)
    if first is None or not isinstance(first.fact, Opened):
        raise RecordWrong("the record does not begin with an opened rollout")
    record = Record(
        first.fact,
        first.at_ms,
        first.epoch,
        first.holder,
        done=dict.fromkeys(first.fact.already, Goal.RELEASE),
        left_out=first.fact.left_out,
        unproven=first.fact.left_out,
    )
    for entry in iterator:
        record = advance(record, entry)
    return record


def advance(record: Record, entry: Entry) -> Record:
    """Answers the record with one more entry.

    Raises:
        RecordWrong: the fact cannot follow the ones before it.
    """
    if (record.epoch, record.holder) != (entry.epoch, entry.holder) or record.ended_step:
        record = replace(record, epoch=entry.epoch, holder=entry.holder, ended_step=None)
    match entry.fact:
        case Opened():
            raise RecordWrong(f"entry {entry.seq} opens a rollout that is already open")
        case TakenOver():
            return _taken_over(record, entry.at_ms)
        case Met() as fact:
            initial = {**record.opened.initial, fact.load_balancer: fact.digest}
            opened = replace(record.opened, initial=initial, frozen=fact.frozen)
            return replace(record, opened=opened)
        case DeclaredOff() as fact:
            return replace(record, off=fact.load_balancers)
        case Claimed() as fact:
            claim = Claim(fact.claim, fact.backends)
            return replace(record, claim=claim, claims=fact.claim, waits={})
        case Intended() as fact:
            return _intended(record, entry.seq, fact)
        case Ended() as fact:
            return _ended(record, fact)
        case Waiting() as fact:
            return _waiting(record, fact.what, entry.at_ms)
        case Forced() as fact:
            return replace(record, claim=replace(_claim(record), is_forced=True))
        case GaveUp() as fact:
            return _gave_up(record, fact)
        case TurnedBack() as fact:
            return _turned_back(record, fact)
        case Proved() as fact:
            return _proved(record, fact)
        case Released() as fact:
            return _released(record, entry.at_ms)
        case Counted() as fact:
            return _counted(record, fact)
        case Marked() as fact:
            return _marked(record, fact)
        case Watched() as fact:
            return _watched(record, fact, entry.at_ms)
        case Halted() as fact:
            return replace(record, halted=fact)
        case Decided() as fact:
            return _decided(record, fact)
        case Redirected() as fact:
            return _redirected(record, fact)
        case Closed() as fact:
            return replace(record, closed=fact)


def _taken_over(record: Record, at_ms: int) -> Record:
    """Waits count from here on: two operators' clocks may differ by more than a limit is long.

    This life's prober has not begun yet, so its last answers are not waited for.
    """
    claim = record.claim
    if claim is not None:
        claim = replace(claim, waits=_from_now(claim.waits, at_ms))
    return replace(
        record,
        claim=claim,
        waits=_from_now(record.waits, at_ms),
        watch_since_ms=at_ms if record.watch_since_ms else 0,
    )


def _from_now(waits: Mapping[str, int], at_ms: int) -> dict[str, int]:
    return {what: at_ms for what in waits if what != LAST_COUNT}


def _claim(record: Record) -> Claim:
    if record.claim is None:
        raise RecordWrong("a fact about a claim stands where nothing is claimed")
    return record.claim


def _intended(record: Record, seq: int, fact: Intended) -> Record:
    key = step_key(fact.step, record.claims)
    attempts = {**record.attempts, key: record.attempts.get(key, 0) + 1}
    intents = {**record.open_intents, seq: fact}
    is_touched = record.is_touched or isinstance(fact.step, Apply | Unadopt | Activate)
    applies = record.applies + isinstance(fact.step, Apply | Unadopt)
    claim = record.claim
    if claim is not None and isinstance(fact.step, Apply):
        # From now on it may be sent to again, so its proof of being out is used up; and so is what
        # was allowed instead of one.
        back = frozenset(claim.backends) - fact.step.out
        claim = replace(
            claim,
            activated=claim.activated & fact.step.out,
            returned=claim.returned | back,
            is_forced=claim.is_forced and not back,
        )
    return replace(
        record,
        claim=claim,
        attempts=attempts,
        open_intents=intents,
        is_touched=is_touched,
        applies=applies,
    )


def _ended(record: Record, fact: Ended) -> Record:
    if fact.of not in record.open_intents:
        raise RecordWrong(f"an outcome stands for entry {fact.of}, which is no open intent")
    step = record.open_intents[fact.of].step
    intents = {seq: intent for seq, intent in record.open_intents.items() if seq != fact.of}
    key, outcome = step_key(step, record.claims), fact.result.outcome
    if outcome is Outcome.NOT_SENT:
        attempts = {**record.attempts, key: record.attempts[key] - 1}
        return replace(record, open_intents=intents, attempts=attempts, ended_step=step)
    last = {**record.last, key: fact.result}
    record = replace(record, open_intents=intents, last=last, ended_step=step)
    match step:
        case Stage() if outcome is Outcome.DONE:
            return replace(record, staged=record.staged | {step.backend})
        case Activate() if outcome is not Outcome.REFUSED:
            return _activated(record, step)
        case WarmUp() if outcome in (Outcome.DONE, Outcome.NOT_CHECKED) and record.claim:
            claim = replace(record.claim, warm=record.claim.warm | {step.backend})
            return replace(record, claim=claim)
        case Keep() if outcome is Outcome.DONE:
            return replace(record, kept=fact.result.kept)
        case Continuity() if outcome in (Outcome.DONE, Outcome.NOT_CHECKED) and record.claim:
            claim = replace(record.claim, continuous=record.claim.continuous | {step.backend})
            return replace(record, claim=claim)
        case _:
            return record


def _activated(record: Record, step: Activate) -> Record:
    """Whatever the outcome was, the backend may be changed now. Only a refusal proves that the
    attempt changed nothing.
    """
    claim = _claim(record)
    name = frozenset({step.backend})
    heading = {**claim.heading, step.backend: step.goal}
    return replace(
        record,
        claim=replace(claim, activated=claim.activated | name, heading=heading),
        changed=record.changed | name,
        unproven=record.unproven | name,
    )


def _waiting(record: Record, what: str, at_ms: int) -> Record:
    if record.claim is None:
        return replace(record, waits={**record.waits, what: at_ms})
    waits = {**record.claim.waits, what: at_ms}
    return replace(record, claim=replace(record.claim, waits=waits))


def _gave_up(record: Record, fact: GaveUp) -> Record:
    claim = _claim(record)
    gave_up = {**claim.gave_up, **dict.fromkeys(fact.backends, fact.reason)}
    trouble = record.trouble
    if fact.cause is not Cause.ASKED and trouble is None:
        trouble = Halted(fact.cause, fact.reason)
    claim = replace(claim, gave_up=gave_up, cause=claim.cause or fact.cause)
    return replace(record, claim=claim, trouble=trouble)


def _turned_back(record: Record, fact: TurnedBack) -> Record:
    claim = _claim(record)
    record = _forget_checks(record, claim, {fact.backend})
    return replace(
        record,
        claim=_afresh(claim, {fact.backend}, {**claim.turned_back, fact.backend: fact.reason}),
        went_back={**record.went_back, fact.backend: fact.reason},
    )


def _afresh(claim: Claim, backends: Iterable[str], turned_back: Mapping[str, str]) -> Claim:
    """The claim with everything about these backends to be done again, for their new target."""
    names = frozenset(backends)
    return replace(
        claim,
        turned_back=turned_back,
        proved=claim.proved - names,
        warm=claim.warm - names,
        continuous=claim.continuous - names,
        gave_up={b: reason for b, reason in claim.gave_up.items() if b not in names},
        waits={what: at for what, at in claim.waits.items() if what.split(" ")[-1] not in names},
    )


def _forget_checks(record: Record, claim: Claim, backends: Iterable[str]) -> Record:
    """The record as if these backends had not been warmed up or asked for sessions in this claim:
    how that went on one release says nothing about another.
    """
    steps = [step for name in backends for step in (WarmUp(name), Continuity(name))]
    keys = {step_key(step, claim.number) for step in steps}
    return replace(
        record,
        attempts={key: count for key, count in record.attempts.items() if key not in keys},
        last={key: result for key, result in record.last.items() if key not in keys},
    )


def _proved(record: Record, fact: Proved) -> Record:
    claim = _claim(record)
    went_back = dict(record.went_back)
    if fact.goal is Goal.RELEASE:
        went_back.pop(fact.backend, None)
    return replace(
        record,
        claim=replace(claim, proved=claim.proved | {fact.backend}),
        unproven=record.unproven - {fact.backend},
        went_back=went_back,
    )


def _released(record: Record, at_ms: int) -> Record:
    claim = _claim(record)
    backends = frozenset(claim.backends)
    done = dict(record.done)
    for backend in claim.proved:
        if backend not in claim.heading:
            raise RecordWrong(f"`{backend}` is proven good without having been upgraded")
        done[backend] = claim.heading[backend]
    left_out = (record.left_out - backends) | (record.unproven & backends)
    return replace(
        record,
        claim=None,
        done=done,
        left_out=left_out,
        waits={},
        watch_since_ms=record.watch_since_ms or at_ms,
    )


def _counted(record: Record, fact: Counted) -> Record:
    """The first count after a person's answer holds what failed up to then: that is answered."""
    losses = (record.losses or Losses()).plus(fact.losses)
    forgiven = losses.failed if record.is_forgiving else record.forgiven
    return replace(record, losses=losses, forgiven=forgiven, is_forgiving=False)


def _marked(record: Record, fact: Marked) -> Record:
    claim = _claim(record)
    return replace(
        record,
        claim=replace(claim, marked=claim.marked | set(fact.backends)),
        logouts=(record.logouts or Logouts()).plus(replace(fact.logouts, pace=None)),
        marks={**record.marks, **dict.fromkeys((*fact.backends, *fact.others), claim.number)},
        pace_before=faster(record.pace_before, fact.logouts.pace),
    )


def _watched(record: Record, fact: Watched, at_ms: int) -> Record:
    logouts = (record.logouts or Logouts()).plus(fact.logouts)
    return replace(record, logouts=logouts, watched=fact.claim, watch_since_ms=at_ms)


def _decided(record: Record, fact: Decided) -> Record:
    """A person has looked: what failed is tried once more, waits begin anew."""
    record = _answered(record)
    claim = record.claim
    if claim is not None:
        again = set(claim.gave_up) & set(claim.activated) - set(fact.skip)
        claim = replace(_afresh(claim, again, claim.turned_back), waits={}, is_forced=False)
        skipped = {name: "skipped by a person" for name in fact.skip if name in claim.unsettled}
        claim = replace(claim, gave_up={**claim.gave_up, **skipped})
    return replace(record, claim=claim, waits={}, skipped=record.skipped | set(fact.skip))


def _answered(record: Record) -> Record:
    """The record with its halt answered, and one more attempt for everything."""
    is_about_logouts = record.halted is not None and record.halted.cause is Cause.SESSIONS
    extra = dict(record.extra_attempts)
    for name in {*record.opened.order, *record.opened.load_balancers}:
        extra[name] = extra.get(name, 0) + 1
    return replace(
        record,
        halted=None,
        trouble=None,
        last={},
        extra_attempts=extra,
        is_forgiving=record.losses is not None,
        are_logouts_accepted=record.are_logouts_accepted or is_about_logouts,
        # It may be morning by now: how fast sessions came before the halt says nothing any more.
        logouts=record.logouts and replace(record.logouts, pace=None),
        pace_before=record.pace_before and Pace(gap=ANEW),
    )


def _redirected(record: Record, fact: Redirected) -> Record:
    """A person wants another direction; where that answers a halt, what failed is tried again,
    since the way back may lead through the very step that failed.
    """
    if record.halted is not None:
        record = _answered(record)
    claim = record.claim
    if claim is not None and fact.direction is Direction.BACK:
        changed = record.changed & frozenset(claim.backends)
        record = _forget_checks(record, claim, changed)
        claim = replace(_afresh(claim, changed, claim.turned_back), waits={})
    return replace(record, direction=fact.direction, claim=claim, trouble=None)
