"""One line for each thing that happened, as short as a reviewer can read it."""

from __future__ import annotations

from rolling_deploy.ports import Awaiting, Event, Written
from rolling_deploy.rollout.facts import (
    Claimed,
    Closed,
    Counted,
    Decided,
    DeclaredOff,
    Ended,
    Fact,
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
from rolling_deploy.rollout.record import Record
from rolling_deploy.rollout.step import Apply, Outcome, Step, Unadopt, machine_of


def tell(event: Event, began_ms: int) -> str:
    """Answers one line, or an empty text for what is not worth one."""
    match event:
        case Written(entry, record):
            text = _fact(entry.fact, record)
            at_ms = entry.at_ms
        case Awaiting(at_ms, until_ms, why):
            text = f"wait     up to {(until_ms - at_ms) / 1000:g} s: {why}"
        case _:
            return ""
    return f"{(at_ms - began_ms) / 1000:8.3f}  {text}" if text else ""


def _names(names: tuple[str, ...] | frozenset[str]) -> str:
    return " ".join(sorted(names)) or "nobody"


def _step(step: Step) -> str:
    match step:
        case Apply():
            return f"{step.load_balancer}: publish with {_names(step.out)} down"
        case Unadopt():
            return f"{step.load_balancer}: put the original back"
        case _:
            goal = f" {step.goal}" if hasattr(step, "goal") else ""
            return f"{machine_of(step)}: {type(step).__name__.lower()}{goal}"


def _fact(fact: Fact, record: Record) -> str:  # noqa: C901, PLR0911, PLR0912 # one case a kind
    match fact:
        case Opened():
            return f"open     {fact.release} for {' '.join(fact.order)}"
        case TakenOver():
            return f"take over, epoch {record.epoch}{', from a copy' if fact.lost else ''}"
        case Met():
            return f"met      {fact.load_balancer}"
        case DeclaredOff():
            return f"off      {_names(fact.load_balancers)}, a person says"
        case Claimed():
            return f"claim    {fact.claim}: {' '.join(fact.backends)}"
        case Intended():
            return (
                f"begin    {_step(fact.step)}{f' (try {fact.attempt})' if fact.attempt > 1 else ''}"
            )
        case Ended():
            step = record.ended_step
            detail = f", {fact.result.detail}" if fact.result.detail else ""
            what = machine_of(step) if step else "?"
            name = "done" if fact.result.outcome is Outcome.DONE else fact.result.outcome
            return f"{name:<8} {what}{detail}"
        case Waiting():
            return ""
        case Forced():
            return f"force    {fact.detail}"
        case GaveUp():
            return f"give up  {' '.join(fact.backends)} ({fact.cause}): {fact.reason}"
        case TurnedBack():
            return f"go back  {fact.reason}"
        case Proved():
            return f"proved   {fact.backend}, {fact.goal}"
        case Released():
            return f"release  {fact.claim}{f', {_names(fact.out)} stays out' if fact.out else ''}"
        case Counted():
            return f"count    {fact.losses.failed} failed" if fact.losses.failed else ""
        case Marked():
            return f"mark     the logs of {_names((*fact.backends, *fact.others))}"
        case Watched():
            return f"watched  wave {fact.claim}, {fact.logouts.count} lines"
        case Halted():
            return f"HALT     ({fact.cause}) {fact.reason}"
        case Decided():
            skip = f", without {' '.join(fact.skip)}" if fact.skip else ""
            return f"a person says: go on{skip}"
        case Redirected():
            return f"a person says: abort, {fact.direction}"
        case Closed():
            return f"CLOSED   {fact.ending}{f': {fact.reason}' if fact.reason else ''}"
