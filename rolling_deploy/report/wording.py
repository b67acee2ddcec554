"""How facts are said to a person: one short line each, the same in every view."""

from __future__ import annotations

from rolling_deploy.ports import Awaiting, Checked, Event, Said, Written
from rolling_deploy.rollout.facts import (
    Claimed,
    Closed,
    Counted,
    Decided,
    DeclaredOff,
    Ended,
    Ending,
    Forced,
    GaveUp,
    Halted,
    Intended,
    Marked,
    Met,
    Opened,
    Proved,
    Purpose,
    Redirected,
    Released,
    TakenOver,
    TurnedBack,
    Waiting,
    Watched,
)
from rolling_deploy.rollout.journal import Entry
from rolling_deploy.rollout.logouts import signs_text
from rolling_deploy.rollout.losses import failures_text
from rolling_deploy.rollout.record import Record
from rolling_deploy.rollout.step import (
    Activate,
    Apply,
    Continuity,
    Goal,
    Keep,
    Outcome,
    Result,
    Stage,
    Step,
    Unadopt,
    WarmUp,
)
from rolling_deploy.rollout.view import wanted_out


def duration(took_ms: int) -> str:
    """Answers a duration as people read it: `85 ms`, `3.2 s`, `4 min 05 s`."""
    if took_ms < 1000:
        return f"{took_ms} ms"
    if took_ms < 60_000:
        return f"{took_ms / 1000:.1f} s"
    minutes, seconds = divmod(round(took_ms / 1000), 60)
    return f"{minutes} min {seconds:02d} s"


def step_text(step: Step, release: str = "") -> str:
    """Answers what a step does, without its machine."""
    match step:
        case Stage():
            return f"stage {release}".rstrip()
        case Apply():
            out = ", ".join(sorted(step.out))
            return (
                f"publish with {out} down, reload" if out else "publish with nothing down, reload"
            )
        case Unadopt():
            return "put the original file back, reload"
        case Activate(goal=Goal.RELEASE):
            return f"stop, put {release or 'the release'} in place, start"
        case Activate():
            return "stop, put back what ran before, start"
        case WarmUp():
            return "warm up"
        case Keep():
            return "make sessions and read them on another backend"
        case Continuity():
            return "prove the sessions"


def result_text(step: Step, result: Result, release: str = "") -> str:
    """Answers how a step came out, with its time."""
    said = f"{step_text(step, release)}: {result.outcome}"
    if result.took_ms:
        said += f" in {duration(result.took_ms)}"
    return f"{said} ({result.detail})" if result.detail else said


def event_text(event: Event) -> tuple[str, str] | None:
    """Answers where something happened and what, or None for what needs no line."""
    match event:
        case Written():
            return _entry_text(event.entry, event.record)
        case Awaiting():
            left = max(0, event.until_ms - event.at_ms)
            return "", f"waiting, at most {duration(left)}: {event.why}"
        case Checked():
            check = event.check
            detail = f": {check.detail}" if check.detail else ""
            return check.subject, f"{check.verdict}: {check.name}{detail}"
        case Said():
            return "", event.text


def _entry_text(entry: Entry, record: Record) -> tuple[str, str] | None:  # noqa: C901, PLR0911, PLR0912 # one line per kind of fact
    match entry.fact:
        case Opened() as fact:
            return "", opened_text(fact)
        case TakenOver() as fact:
            lost = ", from a load balancer's copy of the record" if fact.lost else ""
            return "", f"taken over by {fact.by} (epoch {entry.epoch}{lost}){_because(fact.reason)}"
        case Met() as fact:
            return fact.load_balancer, "seen for the first time in this rollout"
        case DeclaredOff() as fact:
            names = ", ".join(sorted(fact.load_balancers)) or "none"
            return "", f"declared off by {fact.by}, not proved: {names}"
        case Claimed() as fact:
            return "", f"wave {fact.claim}: {', '.join(fact.backends)}"
        case Ended() as fact:
            return _ended_text(fact, record)
        case Forced() as fact:
            return "", f"going on at the drain limit, by policy: {fact.detail}"
        case GaveUp() as fact:
            return ", ".join(fact.backends), f"given up: {fact.reason}"
        case TurnedBack() as fact:
            return fact.backend, f"going back to what ran before: {fact.reason}"
        case Proved() as fact:
            gaps = f" ({fact.detail})" if fact.detail else ""
            what = record.opened.release if fact.goal is Goal.RELEASE else "what ran before"
            return fact.backend, f"proven good on {what}{gaps}"
        case Released() as fact:
            if fact.out:
                return "", f"wave {fact.claim} over; stays out: {', '.join(fact.out)}"
            where = "every load balancer"
            if record.off:
                where += f" but {', '.join(sorted(record.off))}, which was declared off"
            return "", f"wave {fact.claim} back in rotation, proved on {where}"
        case Counted() as fact:
            return _counted_text(fact, record)
        case Watched() as fact:
            signs = signs_text(fact.logouts)
            return ("", f"users may be logged out: {signs}") if signs else None
        case Halted() as fact:
            return "", f"halted ({fact.cause}): {fact.reason}"
        case Decided() as fact:
            skip = f", leaving out {', '.join(fact.skip)}" if fact.skip else ""
            return "", f"{fact.by} says: go on{skip}"
        case Redirected() as fact:
            return "", f"{fact.by} says: {fact.direction}{_because(fact.reason)}"
        case Closed() as fact:
            return "", closed_text(record, fact)
        case Intended() | Waiting() | Marked():
            return None


def _counted_text(fact: Counted, record: Record) -> tuple[str, str] | None:
    """A line only for bad news; the sums are in the report."""
    losses = record.losses
    if not fact.losses.failed or losses is None:
        return None
    where = failures_text(fact.losses)
    return "", f"{fact.losses.failed} requests failed, {losses.failed} in all: {where}"


def _because(reason: str) -> str:
    return f", because {reason}" if reason else ""


def opened_text(opened: Opened) -> str:
    """Answers the first line of a rollout."""
    match opened.purpose:
        case Purpose.DEPLOY:
            names = ", ".join(opened.order)
            why = _because(opened.reason)
            return (
                f"rollout {opened.rollout}: {opened.application} {opened.release} on {names}{why}"
            )
        case Purpose.SETUP:
            names = ", ".join(opened.order)
            return f"{opened.rollout}: setting up {names}{_because(opened.reason)}"
        case Purpose.ADOPT:
            return f"{opened.rollout}: adopting on {', '.join(opened.load_balancers)}"
        case Purpose.UNADOPT:
            return f"{opened.rollout}: unadopting on {', '.join(opened.load_balancers)}"


def closed_text(record: Record, closed: Closed) -> str:
    """Answers the last line of a rollout."""
    opened = record.opened
    match closed.ending:
        case Ending.DONE if opened.purpose.changes_backends:
            return f"done: {serving_text(record)}"
        case Ending.DONE:
            return "done"
        case Ending.WENT_BACK:
            return f"failed and went back: {closed.reason}"
        case Ending.ABORTED if opened.purpose.changes_backends:
            return f"aborted: {serving_text(record)}"
        case Ending.ABORTED:
            return "aborted"
        case Ending.NOTHING_TOUCHED:
            return f"nothing touched: {closed.reason}"


def _ended_text(fact: Ended, record: Record) -> tuple[str, str] | None:
    step = record.ended_step
    if step is None:
        return None
    where = step.load_balancer if isinstance(step, Apply | Unadopt) else step.backend
    if fact.result.outcome is Outcome.NOT_CHECKED:
        what = "warm-up" if isinstance(step, WarmUp) else "session continuity"
        return where, f"{what}: not checked ({fact.result.detail or 'not configured'})"
    return where, result_text(step, fact.result, record.opened.release)


def serving_text(record: Record) -> str:
    """Answers who serves what, and names everybody who is not where the rollout wanted them."""
    opened = record.opened
    every = (*opened.already, *opened.order, *sorted(opened.parked))
    new = [b for b in every if record.done.get(b) is Goal.RELEASE]
    others = [f"{b}: {backend_state(record, b)}" for b in every if b not in new]
    is_setup = opened.purpose is Purpose.SETUP
    if not others:
        return "every backend is set up" if is_setup else f"every backend serves {opened.release}"
    names = ", ".join(new)
    head = f"{names} set up; " if is_setup else f"{names} on {opened.release}; "
    head = head if new else ""
    return head + "; ".join(others)


def backend_state(record: Record, backend: str) -> str:
    """Answers where a backend stands, in a few words."""
    opened = record.opened
    if backend in opened.parked:
        return "parked by a person, not touched"
    claim = record.claim
    if claim is not None and backend in claim.backends:
        return _claimed_state(record, backend)
    if backend in record.left_out:
        return "out of rotation, not proven good"
    before = opened.before.get(backend)
    version = f" {before.version}" if before and before.version else ""
    if record.done.get(backend) is Goal.RELEASE:
        is_setup = opened.purpose is Purpose.SETUP
        return f"serving{version}, set up" if is_setup else f"serving {opened.release}"
    if record.done.get(backend) is Goal.PREVIOUS:
        return "back on what ran before, serving"
    staged = ", staged" if backend in record.staged else ""
    return f"serving{version}{staged}"


def _claimed_state(record: Record, backend: str) -> str:
    claim = record.claim
    if claim is None:
        return ""
    for intent in record.open_intents.values():
        if isinstance(intent.step, Activate) and intent.step.backend == backend:
            return f"out: {step_text(intent.step, record.opened.release)}"
    if backend in claim.proved:
        return "proven good, going back in"
    if backend in claim.gave_up:
        is_out = backend in wanted_out(record)
        return "given up, stays out" if is_out else "given up unchanged, going back in"
    if backend in claim.activated:
        return "out: becoming ready"
    return "out: draining" if "drain" in claim.waits else "going out"
