"""The next move of a rollout, from what the record says and what was just seen.

Rule 1: everything that affects what happens next is in the rules named here (and in `safety`, which
only forbids). Rule 2: they do not know what time it is; the time is a field of what was seen.

The rules, first match wins. The order is the argument: a rule may rely on every rule above it
having had nothing to say.

| rule              | when                                       | move                       |
|-------------------|--------------------------------------------|----------------------------|
| stay_ended        | closed, or halted and nobody answered      | the same end again         |
| close_in_doubt    | an intent has no outcome                   | note it in doubt           |
| await_earlier     | an earlier command of ours still runs      | wait for it                |
| count             | losses were never counted in this record,  | note the count             |
|                   | or not since a person's answer             |                            |
| give_up_untouched | a load balancer is cut off or edited, too  | give up what is claimed    |
|                   | many requests failed, or the direction     | and unchanged              |
|                   | changed                                    |                            |
| give_up_logged_out| users are being logged out, as the look    | give up what is claimed    |
|                   | before the stop has shown                  | and unchanged              |
| stage             | an artifact is not staged                  | stage all of them          |
| keep_sessions     | no session of the release in service is    | make some, and have        |
|                   | kept, and nothing was claimed yet          | another backend read them  |
| keep_capacity     | the others can no longer carry it alone    | give up what is unchanged  |
| take_out          | a claimed backend is still sent to         | publish and reload         |
| drain             | an earlier nginx worker may still send     | wait, or the limit         |
| mark_logs         | where a log ended before the stop is not   | note it                    |
|                   | known                                      |                            |
| activate          | a claimed backend is not on its target     | stop, swap, start          |
| become_ready      | it does not answer as it should yet        | wait, or the limit         |
| warm_up           | not warm on this target                    | real requests              |
| continuity        | sessions not proved on this target         | prove them                 |
| prove             | all of that holds                          | note it proven             |
| put_back          | the claim is settled, a file is not right  | publish and reload         |
| release           | every load balancer agrees                 | note the claim over        |
| end_in_trouble    | something failed on the way                | halt, or end as went back  |
| mind_errors       | more requests failed than the policy says  | halt                       |
| mind_logouts      | a wave is back and not watched yet, or     | wait a little and note     |
|                   | users are being logged out                 | what was seen, or halt     |
| claim_next        | backends are pending                       | note the next wave         |
| finish            | nothing is left                            | close                      |

Where losses are counted, a claim and an end carry the count up to then (`counting.with_count`).

The rules stand by concern, each module to be read alone:

- `ending`: how a rollout ends, and stays ended
- `earlier`: what an earlier life left behind
- `claiming`: what is made ready, which wave is next, and when it is given up unchanged
- `capacity`: whether the others can carry the load
- `rotation`: taking out, draining and putting back
- `activation`: stop, swap, start, and proving a backend good
- `sessions`: that sessions outlive the release
- `watching`: whether users are being logged out
- `counting`: failed requests
- `limits`: how long is waited, how often is tried, and what follows then
"""

from __future__ import annotations

from collections.abc import Callable

from rolling_deploy.rollout.activation import activate, become_ready, prove, warm_up
from rolling_deploy.rollout.capacity import in_hand, witnesses
from rolling_deploy.rollout.claiming import claim_next, give_up_untouched, keep_capacity, stage
from rolling_deploy.rollout.counting import count, mind_errors, what_to_count, with_count
from rolling_deploy.rollout.earlier import await_earlier, close_in_doubt
from rolling_deploy.rollout.ending import end_in_trouble, finish, stay_ended
from rolling_deploy.rollout.facts import Cause, Direction, Halted
from rolling_deploy.rollout.move import Halt, Move
from rolling_deploy.rollout.observed import Interest, Seen
from rolling_deploy.rollout.record import Record
from rolling_deploy.rollout.rotation import drain, put_back, release, take_out
from rolling_deploy.rollout.sessions import continuity, keep_sessions
from rolling_deploy.rollout.view import View
from rolling_deploy.rollout.watching import (
    give_up_logged_out,
    mark_logs,
    mind_logouts,
    what_to_mark,
    what_to_watch,
)


def interest(record: Record) -> Interest:
    """Answers what the next look must cover for `decide` to answer from it."""
    view = View(record, Seen(0))
    balancers = frozenset(view.load_balancers)
    claim = record.claim
    if record.closed or record.halted:
        return Interest(frozenset())
    if claim is None:
        pending = view.pending
        wave = frozenset(pending[: record.opened.policy.wave_size])
        others = witnesses(record, wave) if pending else frozenset()
        is_forward = record.direction is Direction.FORWARD
        # An earlier command of ours may still be sending an artifact there.
        unstaged = frozenset(pending) - record.staged if is_forward else frozenset()
        store = bool(pending) and is_forward
        losses = what_to_count(view)
        watching = what_to_watch(view)
        return Interest(balancers, unstaged, others, store=store, losses=losses, logouts=watching)
    untouched = [b for b in claim.unsettled if b not in claim.activated]
    others = witnesses(record, in_hand(record))
    return Interest(
        balancers,
        backends=frozenset(claim.unsettled),
        alive=others if untouched else frozenset(),
        ready={b: view.version_of(b) for b in claim.unsettled if b in claim.activated},
        losses=what_to_count(view),
        logouts=what_to_mark(view),
    )


def decide(record: Record, seen: Seen) -> Move:
    """Answers the next move. Pure: the same record and look give the same move, always."""
    view = View(record, seen)
    for rule in RULES:
        move = rule(view)
        if move is not None:
            return with_count(view, move)
    return Halt(Halted(Cause.BACKEND, "no rule applies"))  # pragma: no cover # finish always does


RULES: tuple[Callable[[View], Move | None], ...] = (
    stay_ended,
    close_in_doubt,
    await_earlier,
    count,
    give_up_untouched,
    give_up_logged_out,
    stage,
    keep_sessions,
    keep_capacity,
    take_out,
    drain,
    mark_logs,
    activate,
    become_ready,
    warm_up,
    continuity,
    prove,
    put_back,
    release,
    end_in_trouble,
    mind_errors,
    mind_logouts,
    claim_next,
    finish,
)
