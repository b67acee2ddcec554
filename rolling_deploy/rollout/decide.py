"""The next move of a rollout, from what the record says and what was just seen.

Rule 1: everything that affects what happens next is in this file (and `safety`, which only
forbids). Rule 2: it does not know what time it is; the time is a field of what was seen.

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

Where losses are counted, a claim and an end carry the count up to then (`with_count`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from rolling_deploy.rollout.facts import (
    Cause,
    Claimed,
    Closed,
    Counted,
    Direction,
    Ended,
    Ending,
    Fact,
    Forced,
    GaveUp,
    Halted,
    Marked,
    Proved,
    Purpose,
    Released,
    TurnedBack,
    Waiting,
    Watched,
)
from rolling_deploy.rollout.fleet import DrainAtLimit, OnFailure
from rolling_deploy.rollout.fold import step_key
from rolling_deploy.rollout.logouts import (
    LOG_ENDS,
    SIGN,
    Logouts,
    Watching,
    is_surge,
    signs_text,
    surge_text,
)
from rolling_deploy.rollout.losses import LAST_COUNT, Counting, Losses, failures_text
from rolling_deploy.rollout.move import (
    Act,
    Condition,
    Drained,
    Finish,
    Free,
    Halt,
    Move,
    Note,
    Ready,
    Sign,
    Wait,
)
from rolling_deploy.rollout.observed import (
    Interest,
    LoadBalancerSeen,
    Seen,
    Unreachable,
    Verdict,
)
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
    machine_of,
)
from rolling_deploy.rollout.view import ABSENT, View, wanted_out

EVERYBODY = "everybody's answer"
"""The wait that begins when the few who were asked are too few to carry the load."""


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
        others = _witnesses(record, wave) if pending else frozenset()
        is_forward = record.direction is Direction.FORWARD
        # An earlier command of ours may still be sending an artifact there.
        unstaged = frozenset(pending) - record.staged if is_forward else frozenset()
        store = bool(pending) and is_forward
        losses = _counting(view)
        watching = _watching(view)
        return Interest(balancers, unstaged, others, store=store, losses=losses, logouts=watching)
    untouched = [b for b in claim.unsettled if b not in claim.activated]
    others = _witnesses(record, _held(record))
    return Interest(
        balancers,
        backends=frozenset(claim.unsettled),
        alive=others if untouched else frozenset(),
        ready={b: view.version_of(b) for b in claim.unsettled if b in claim.activated},
        losses=_counting(view),
        logouts=_marking(view),
    )


def _counting(view: View) -> Counting | None:
    """How losses are to be counted; a rollout that deploys nothing counts none."""
    record = view.record
    opened = record.opened
    if not opened.policy.counts_losses or not opened.purpose.changes_backends:
        return None
    is_last = view.began(LAST_COUNT) is not None
    return Counting(record.losses or Losses(), record.claims, is_last)


def _watches(record: Record) -> bool:
    """Whether signs of logged-out users count: not on the way back, which may be the cure."""
    opened = record.opened
    is_forward = record.direction is Direction.FORWARD and opened.purpose is Purpose.DEPLOY
    return opened.policy.watches_logouts and is_forward


def _unmarked(view: View) -> tuple[str, ...]:
    """The backends that are to be stopped for the release, and whose log's end is not noted."""
    claim = view.record.claim
    if claim is None or not _watches(view.record):
        return ()
    known = claim.activated | claim.marked | frozenset(claim.turned_back)
    return tuple(b for b in claim.unsettled if b not in known)


def _marking(view: View) -> Watching | None:
    """What to look at right before a stop; only once it was said that this is the next thing.

    The logs of a few others are read on from here too: while both releases serve, it is the old
    one that may not understand what the new one has stored.
    """
    record, fresh = view.record, _unmarked(view)
    if not fresh or view.began(LOG_ENDS) is None:
        return None
    others = _witnesses(record, frozenset(view.claim.backends))
    new = frozenset(fresh) | (others - record.marks.keys())
    return Watching(frozenset(fresh) | others, record.logouts or Logouts(), new)


def _watching(view: View) -> Watching | None:
    """What to look at once a wave is back, or None when that was done.

    Of the wave, of the one before (it has had users for longer), and of the others marked then.
    """
    record = view.record
    if not _watches(record) or record.logouts is None or record.watched >= record.claims:
        return None
    last = {b for b, claim in record.marks.items() if claim >= record.claims - 1}
    return Watching(frozenset(last), record.logouts, since_ms=record.watch_since_ms)


def _witnesses(record: Record, claimed: frozenset[str]) -> frozenset[str]:
    """Whom to ask whether the others can carry the load: a few in each upstream, others each time.

    As many as have to serve and one more, so that a fleet of hundreds is not asked whole for every
    wave. Whether that was enough is judged by `_short_of`; if not, everybody is asked.
    """
    others = _in_rotation(record) - claimed
    if EVERYBODY in (record.claim.waits if record.claim else record.waits):
        return others
    turn = record.claims if record.claim else record.claims + 1
    chosen: set[str] = set()
    for members in record.opened.upstreams.values():
        able = sorted(others & set(members))
        first = turn % len(able) if able else 0
        chosen |= set([*able[first:], *able[:first]][: record.opened.policy.serving_min + 1])
    return frozenset(chosen)


def _in_rotation(record: Record) -> frozenset[str]:
    opened = record.opened
    every = {backend for members in opened.upstreams.values() for backend in members}
    return frozenset(every) - opened.parked - record.left_out


def decide(record: Record, seen: Seen) -> Move:
    """Answers the next move. Pure: the same record and look give the same move, always."""
    view = View(record, seen)
    for rule in RULES:
        move = rule(view)
        if move is not None:
            return with_count(view, move)
    return Halt(Halted(Cause.BACKEND, "no rule applies"))  # pragma: no cover # finish always does


def with_count(view: View, move: Move) -> Move:
    """A claim carries what was counted before it, so that it is not lost with this life. Before
    an end the prober is let finish, and everything is counted once more.
    """
    if view.seen.losses is None:
        return move
    news = view.seen.losses.since(view.record.losses or Losses())
    is_news = news != Losses()
    match move:
        case Note() if is_news and any(isinstance(fact, Claimed) for fact in move.facts):
            return Note((Counted(news), *move.facts))
        case Halt() | Finish() if move.is_new and view.began(LAST_COUNT) is None:
            return Note((Waiting(LAST_COUNT),))
        case Halt() | Finish() if move.is_new and is_news:
            return Note((Counted(news),))
        case _:
            return move


def stay_ended(view: View) -> Move | None:
    """A halt is answered by a person, never by asking again; so a retried CI job is safe."""
    if view.record.closed is not None:
        return Finish(view.record.closed, is_new=False)
    if view.record.halted is not None:
        return Halt(view.record.halted, is_new=False)
    return None


def close_in_doubt(view: View) -> Move | None:
    """An intent without outcome is from a life that ended. It is looked at, never redone."""
    open_intents = view.record.open_intents
    if not open_intents:
        return None
    doubt = Result(Outcome.IN_DOUBT, "ended before the outcome was written")
    return Note(tuple(Ended(seq, doubt) for seq in sorted(open_intents)))


def await_earlier(view: View) -> Move | None:
    """A remote command may outlive us. While one runs, what is seen is not yet what will be."""
    looked = {**view.seen.load_balancers, **view.seen.backends}
    busy = frozenset(
        name for name, seen in looked.items() if not isinstance(seen, Unreachable) and seen.is_busy
    )
    if not busy:
        return None
    # With the number of intents: a command of a later intent has a limit of its own.
    intents = sum(view.record.attempts.values())
    what = f"earlier command on {','.join(sorted(busy))} after {intents} intents"
    names = ", ".join(sorted(busy))
    return _wait(
        view,
        what,
        Free(busy),
        view.record.opened.policy.busy_limit_ms,
        f"an earlier command still runs on {names}",
    ) or _end(view, Cause.BUSY, f"an earlier command still runs on {names} after the limit")


def count(view: View) -> Move | None:
    """How far the logs were when we came is in the record before anything else is, so that any
    later life counts from there; and what a person's answer covers before anything is judged.
    """
    record = view.record
    if view.seen.losses is None or (record.losses is not None and not record.is_forgiving):
        return None
    return Note((Counted(view.seen.losses.since(record.losses or Losses())),))


def _wait(view: View, what: str, condition: Condition, limit_ms: int, why: str) -> Move | None:
    """Wait within a limit that counts from its beginning, or from the last takeover."""
    began = view.began(what)
    if began is None:
        return Note((Waiting(what),))
    until_ms = began + limit_ms
    return Wait(condition, until_ms, why) if view.seen.now_ms < until_ms else None


def _end(view: View, cause: Cause, reason: str) -> Move:
    """Halt; or, when nothing was touched yet, close, so that the next run begins afresh."""
    if view.record.is_touched:
        return Halt(Halted(cause, reason))
    return Finish(Closed(Ending.NOTHING_TOUCHED, reason, cause))


def _untouched(view: View) -> tuple[str, ...]:
    claim = view.record.claim
    return tuple(b for b in claim.unsettled if b not in claim.activated) if claim else ()


def give_up_untouched(view: View) -> Move | None:
    """Taking out is all or none: a load balancer that we cannot see counts as still sending."""
    untouched = _untouched(view)
    if not untouched:
        return None
    unwanted = _no_longer_wanted(view, untouched)
    if unwanted:
        return Note((GaveUp(unwanted, Cause.ASKED, "the rollout was aborted"),))
    if view.cut_off:
        return Note((GaveUp(untouched, Cause.UNREACHABLE, _cut_off_text(view)),))
    if view.edited:
        return Note((GaveUp(untouched, Cause.HANDS, _edited_text(view)),))
    errors = _too_many_errors(view)
    return Note((GaveUp(untouched, Cause.ERRORS, errors),)) if errors else None


def _too_many_errors(view: View) -> str:
    """Answers how many requests failed and where, if that is too many; else an empty text.

    On the way back it is no reason to stop: going back may be the cure.
    """
    record, losses = view.record, view.seen.losses
    limit = record.opened.policy.max_errors
    if losses is None or limit is None or record.direction is not Direction.FORWARD:
        return ""
    failed = losses.failed - record.forgiven
    if failed <= limit:
        return ""
    began = f"since the opening {(view.seen.now_ms - record.opened_at_ms) / 1000:.0f} s ago"
    since = "since a person's answer" if record.forgiven else began
    all_of_them = f"{losses.failed} {began}: " if record.forgiven else ""
    where = failures_text(losses)
    return f"{failed} requests failed {since}, should be at most {limit} ({all_of_them}{where})"


def _no_longer_wanted(view: View, untouched: tuple[str, ...]) -> tuple[str, ...]:
    """What an abort leaves to be put back as it is: it was claimed, but never changed."""
    match view.record.direction:
        case Direction.FORWARD:
            return ()
        case Direction.BACK:
            return tuple(b for b in untouched if b not in view.record.changed)
        case Direction.STOP:
            return untouched


def _cut_off_text(view: View) -> str:
    each = [f"{name} ({detail})" for name, detail in sorted(view.cut_off.items())]
    return f"cannot reach {', '.join(each)}, which counts as still sending"


def _edited_text(view: View) -> str:
    names = ", ".join(view.edited)
    return f"the managed file on {names} was changed by somebody else"


def stage(view: View) -> Move | None:
    """Every artifact lies ready, and what runs now is secured, before the first claim."""
    record = view.record
    if record.claim is not None or record.direction is not Direction.FORWARD or record.trouble:
        return None
    missing = [Stage(b) for b in view.pending if b not in record.staged]
    spent = [step for step in missing if view.is_spent(step)]
    if spent:
        why = "; ".join(f"{step.backend}: {view.why(step)}" for step in spent)
        return _end(view, Cause.STAGING, f"cannot stage the artifact: {why}")
    return Act(tuple(missing)) if missing else None


def keep_sessions(view: View) -> Move | None:
    """Sessions are shared by the release in service, or nothing is begun; some of them are kept,
    since on the last backends nobody of that release is left to make any.
    """
    record = view.record
    is_begun = record.claims > 0 or record.kept is not None
    is_wanted = record.opened.policy.proves_sessions and record.direction is Direction.FORWARD
    if is_begun or not is_wanted or record.trouble or not view.pending:
        return None
    able = _serving_other(view, Goal.RELEASE, frozenset())
    if not able:
        return None
    turn = record.attempts.get(step_key(Keep(able[0], able[0]), 0), 0) % len(able)
    made_on, *others = [*able[turn:], *able[:turn]]
    step = Keep(made_on, others[0] if others else made_on)
    if view.is_spent(step):
        return _end(view, Cause.SESSIONS, f"sessions are not shared: {view.why(step)}")
    return Act((step,))


def _serving_other(view: View, goal: Goal, claimed: frozenset[str]) -> list[str]:
    """Answers who serves on the other release than a backend with this goal, in the fleet's order.

    What a person skipped, or parked on some load balancers only, may serve; what was never taken
    anywhere runs what it ran before.
    """
    record = view.record
    able = _in_rotation(record) - claimed
    order = [*record.opened.order, *record.opened.already]
    is_new = {b: record.done.get(b) is Goal.RELEASE for b in able}
    return [b for b in order if b in able and is_new[b] is (goal is Goal.PREVIOUS)]


def keep_capacity(view: View) -> Move | None:
    """The others are asked again before a reload takes anything out, which may be hours and a
    person's answer after the claim, and right before the stop: one of them may have failed
    meanwhile.
    """
    untouched = _untouched(view)
    if not untouched:
        return None
    held = _held(view.record)
    short = _short_of(view, held)
    if not short:
        return None
    return _ask_everybody(view, held) or Note((GaveUp(untouched, Cause.CAPACITY, short),))


def _held(record: Record) -> frozenset[str]:
    """Answers what of the wave in hand is, or is to be, out."""
    return wanted_out(record) & frozenset(record.claim.backends if record.claim else ())


def take_out(view: View) -> Move | None:
    """Mark the claim down on every load balancer at once. While it is not proved on all of them
    nothing on the backends is touched.
    """
    claim = view.record.claim
    if claim is None or not claim.unsettled:
        return None
    untouched = _untouched(view)
    steps = _applies(view, also_unknown=bool(untouched))
    spent = [step for step in steps if view.is_spent(step)]
    if spent:
        why = "; ".join(f"{machine_of(step)}: {view.why(step)}" for step in spent)
        reason = f"not proved: {why}"
        if untouched:
            return Note((GaveUp(untouched, Cause.NOT_PROVED, reason),))
        return None  # changed already: prove them and come to put_back, which says the same
    return Act(steps) if steps else None


def _applies(view: View, *, also_unknown: bool = False) -> tuple[Step, ...]:
    """The publications that bring every load balancer we may write to in line.

    Args:
        also_unknown: reload also where it cannot be told which workers are of an earlier
            generation; only a new generation, with a snapshot before it, can prove a drain.
    """
    out = wanted_out(view.record)
    steps: list[Step] = []
    number = view.record.applies
    for name in view.load_balancers:
        seen = view.balancer(name)
        if seen is None or name in view.edited:
            continue
        is_unknown = also_unknown and seen.earlier_workers is None
        if view.is_in_line(name, out) and not is_unknown:
            continue
        number += 1
        steps.append(_publication(view, name, seen, out, number))
    return tuple(steps)


def _publication(
    view: View, name: str, seen: LoadBalancerSeen, out: frozenset[str], number: int
) -> Step:
    opened = view.record.opened
    replaces = seen.file.digest if seen.file else ABSENT
    if view.is_unadopting:
        return Unadopt(name, replaces)
    claim = view.record.claim.number if view.record.claim else 0
    # Only a person's own file is an original: ours, edited by hand, must not take its place.
    is_own = seen.file is None or seen.file.stamp is None
    adopts = opened.purpose is Purpose.ADOPT and is_own and replaces == opened.initial.get(name)
    generation = f"{opened.rollout}.{view.record.epoch}.{number}"
    return Apply(name, out, claim, generation, replaces, adopts)


def drain(view: View) -> Move | None:
    """Nothing is stopped while an nginx worker of an earlier generation lives: it may choose the
    backend for an upload that is still coming in, long after no connection to it was left.
    """
    untouched = _untouched(view)
    if not untouched or view.claim.is_forced:
        return None
    busy = {
        name: seen
        for name in view.load_balancers
        if (seen := view.balancer(name)) and seen.earlier_workers != 0
    }
    if not busy:
        return None
    policy = view.record.opened.policy
    count = sum(seen.earlier_workers or 0 for seen in busy.values())
    workers = "worker still serves" if count == 1 else "workers still serve"
    why = f"{count} earlier nginx {workers} on {', '.join(sorted(busy))}"
    waiting = _wait(view, "drain", Drained(frozenset(busy)), policy.drain_limit_ms, why)
    if waiting is not None:
        return waiting
    detail = "; ".join(f"{name}: {seen.detail}" for name, seen in sorted(busy.items()))
    if policy.drain_at_limit is DrainAtLimit.FORCE:
        return Note((Forced(view.claim.number, f"{why} ({detail})"),))
    limit_s = policy.drain_limit_ms / 1000
    reason = f"not drained within {limit_s:g} s: {why} ({detail})"
    return Note((GaveUp(untouched, Cause.DRAIN, reason),))


def _ask_everybody(view: View, claimed: frozenset[str]) -> Move | None:
    """Before capacity is called short, everybody who could serve is asked; None once they were."""
    is_everybody = _witnesses(view.record, claimed) >= _in_rotation(view.record) - claimed
    return None if is_everybody else Note((Waiting(EVERYBODY),))


def _short_of(view: View, claimed: frozenset[str]) -> str:
    """Answers what capacity would be missing with `claimed` out, or an empty text.

    Nodes that were out before we came count as out. A backend that is out already takes nothing
    away, so bringing back what was left out is never refused for lack of the others.
    """
    record = view.record
    returned = record.claim.returned if record.claim else frozenset()
    out_already = record.left_out - returned
    if claimed <= out_already:
        return ""
    healthy = {
        name
        for name in _in_rotation(record)
        if (seen := view.backend(name)) and seen.health and seen.health.is_good
    }
    problems = []
    for upstream, members in sorted(record.opened.upstreams.items()):
        if not claimed & set(members) - out_already:
            continue
        for where, down in _down_by(view).items():
            left = sorted(healthy & set(members) - claimed - down)
            if len(left) < record.opened.policy.serving_min:
                serving = ", ".join(left) or "nobody"
                wanted = record.opened.policy.serving_min
                problems.append(
                    f"{upstream} would be served by {serving}{where}, should be at least {wanted}"
                )
                break
    if not problems:
        return ""
    return f"without {', '.join(sorted(claimed))} {'; '.join(problems)}{_unwell(view)}"


def _down_by(view: View) -> dict[str, frozenset[str]]:
    """What each load balancer's own file keeps out; a person may have parked on one of them only.

    Keyed by the words that name it in a message.
    """
    files = {
        name: seen.file
        for name in view.load_balancers
        if (seen := view.balancer(name)) and seen.file is not None
    }
    down = {f" on {name}": file.down for name, file in files.items()}
    return down or {"": frozenset()}


def _unwell(view: View) -> str:
    texts = []
    for name, seen in sorted(view.seen.backends.items()):
        if isinstance(seen, Unreachable):
            texts.append(f"{name}: {seen.detail}")
        elif seen.health is not None and not seen.health.is_good:
            texts.append(f"{name}: {seen.health.detail}")
    return f" ({'; '.join(texts)})" if texts else ""


def mark_logs(view: View) -> Move | None:
    """What the release writes is what its backends' logs hold from here on. It is in the record
    before the stop, so that any later life reads from there.
    """
    fresh = _unmarked(view)
    if not fresh:
        return None
    if view.began(LOG_ENDS) is None:
        return Note((Waiting(LOG_ENDS),))
    others = _witnesses(view.record, frozenset(view.claim.backends))
    return Note((Marked(fresh, tuple(sorted(others)), _news_of_logouts(view)),))


def _news_of_logouts(view: View) -> Logouts:
    seen = view.seen.logouts
    if seen is None:
        return Logouts(gaps=frozenset({"logs and sessions were not looked at"}))
    return seen.since(view.record.logouts or Logouts())


def activate(view: View) -> Move | None:
    """Stop, swap and start what is out, proved. Every attempt counts, whatever became of it."""
    claim = view.record.claim
    if claim is None:
        return None
    facts: list[Fact] = []
    steps: list[Step] = []
    for name in claim.unsettled:
        if view.backend(name) is None and name in claim.activated:
            continue  # it may be restarting its network; become_ready bounds how long
        if name in claim.activated and view.has_come_about(name):
            continue
        if view.artifact_of(name) is None:
            facts.append(GaveUp((name,), Cause.BACKEND, f"{name}: nothing to go back to"))
            continue
        step = Activate(name, view.goal_of(name))
        unsure = _not_in_line(view)
        if unsure is not None:
            facts.append(GaveUp((name,), unsure[0], f"{name}: {unsure[1]}"))
        elif view.is_spent(step):
            facts += _failed(view, name, f"{name}: not activated, {view.why(step)}")
        elif view.backend(name) is None:
            reason = f"{name}: cannot be reached ({_reason(view, name)})"
            facts.append(GaveUp((name,), Cause.UNREACHABLE, reason))
        else:
            steps.append(step)
    if facts:
        return Note(tuple(facts))
    return Act(tuple(steps)) if steps else None


def _not_in_line(view: View) -> tuple[Cause, str] | None:
    """Answers why it is not certain that every load balancer leaves the claim out, or None.

    Everything that was never changed is stopped by the rules above. This is for a second attempt:
    a person may have put the backend back meanwhile, behind a load balancer that we cannot see.
    """
    if view.cut_off:
        return Cause.UNREACHABLE, _cut_off_text(view)
    if view.edited:
        return Cause.HANDS, _edited_text(view)
    out = wanted_out(view.record)
    odd = [name for name in view.load_balancers if not view.is_in_line(name, out)]
    return (Cause.NOT_PROVED, f"not proved to be out on {', '.join(odd)}") if odd else None


def _reason(view: View, name: str) -> str:
    seen = view.seen.backends.get(name)
    return seen.detail if isinstance(seen, Unreachable) else "not seen"


def _failed(view: View, name: str, reason: str) -> list[Fact]:
    """What follows when a backend does not become good: back by policy, or given up."""
    policy = view.record.opened.policy
    can_go_back = (
        policy.on_failure is OnFailure.BACK_NODE
        and view.goal_of(name) is Goal.RELEASE
        and name in view.record.unproven & view.record.changed
        and view.record.opened.before[name].artifact is not None
    )
    if can_go_back:
        return [TurnedBack(name, reason)]
    return [GaveUp((name,), Cause.BACKEND, reason)]


def become_ready(view: View) -> Move | None:
    """Healthy and serving the asked version, in a row, from the load balancers' place."""
    claim = view.record.claim
    if claim is None:
        return None
    waiting = [b for b in claim.unsettled if not view.is_ready(b)]
    if not waiting:
        return None
    begin = [Waiting(f"ready {b}") for b in waiting if view.began(f"ready {b}") is None]
    if begin:
        return Note(tuple(begin))
    limit_ms = view.record.opened.policy.ready_limit_ms
    ends = {b: (view.began(f"ready {b}") or 0) + limit_ms for b in waiting}
    facts: list[Fact] = []
    for name in waiting:
        if view.seen.now_ms >= ends[name]:
            said = _last_answer(view, name)
            reason = f"{name}: not good within {limit_ms / 1000:g} s, {said}"
            facts += _failed(view, name, reason)
    if facts:
        return Note(tuple(facts))
    wanted = {b: view.version_of(b) for b in waiting}
    why = "; ".join(f"{b}: {_last_answer(view, b)}" for b in waiting)
    return Wait(Ready(wanted), min(ends.values()), why)


def _last_answer(view: View, name: str) -> str:
    seen = view.backend(name)
    if seen is None:
        return _reason(view, name)
    if seen.health is None:
        return "no answer yet"
    return f"last answer: {seen.health.detail}"


def warm_up(view: View) -> Move | None:
    """Real requests before users' ones: the first ones cost seconds on a cold JVM."""
    claim = view.record.claim
    return _once(view, [WarmUp(b) for b in claim.unsettled if b not in claim.warm] if claim else [])


def continuity(view: View) -> Move | None:
    """Sessions of the others can be read and written there, and its own by the others.

    On the way back too: then the others run the release, and its sessions come first.
    """
    claim = view.record.claim
    missing = [b for b in claim.unsettled if b not in claim.continuous] if claim else []
    return _once(view, [_continuity_of(view, b) for b in missing])


def _continuity_of(view: View, backend: str) -> Continuity:
    record, claim = view.record, view.claim
    if not record.opened.policy.proves_sessions:
        return Continuity(backend, view.goal_of(backend))
    able = _serving_other(view, view.goal_of(backend), frozenset(claim.backends))
    tried = record.attempts.get(step_key(Continuity(backend), claim.number), 0)
    other = able[tried % len(able)] if able else ""
    return Continuity(backend, view.goal_of(backend), other, record.kept or "")


def _once(view: View, steps: Iterable[Step]) -> Move | None:
    todo: list[Step] = []
    facts: list[Fact] = []
    for step in steps:
        if view.is_spent(step):
            name = machine_of(step)
            facts += _failed(view, name, f"{step_key(step, view.claim.number)}: {view.why(step)}")
        else:
            todo.append(step)
    if facts:
        return Note(tuple(facts))
    return Act(tuple(todo)) if todo else None


def prove(view: View) -> Move | None:
    """What reaches this rule is ready, warm and continuous (as far as configured)."""
    claim = view.record.claim
    if claim is None or not claim.unsettled:
        return None
    return Note(tuple(Proved(b, view.goal_of(b), _gaps(view, b)) for b in claim.unsettled))


def _gaps(view: View, name: str) -> str:
    """What was not checked on the way, to be said in the report."""
    gaps = []
    seen = view.backend(name)
    if seen and seen.health and not seen.health.is_version_checked:
        gaps.append("version: by what lies on the disk and a process started after it (weaker)")
    for step in (WarmUp(name), Continuity(name)):
        last = view.record.last.get(step_key(step, view.claim.number))
        if last and last.outcome is Outcome.NOT_CHECKED:
            gaps.append(
                f"{'warm-up' if isinstance(step, WarmUp) else 'session continuity'}: not checked"
            )
    return "; ".join(gaps)


def put_back(view: View) -> Move | None:
    """Every load balancer as soon as it can: one that is cut off does not hold up the others."""
    claim = view.record.claim
    if claim is not None and claim.unsettled:
        return None
    purpose, direction = view.record.opened.purpose, view.record.direction
    steps = _applies(view)
    if purpose is Purpose.UNADOPT and direction is not Direction.FORWARD:
        # Aborted: what is back stays back, the rest stays adopted; but no original stays on a disk
        # unserved, for somebody's next reload to bring in.
        steps = tuple(step for step in steps if _is_half_back(view, step))
        if not steps and not view.cut_off:
            return None
    if purpose is Purpose.ADOPT and direction is Direction.FORWARD:
        undone = _unadopts(view, steps)
        if undone:
            return Act(undone)
    todo = tuple(step for step in steps if not view.is_spent(step))
    if todo and not (purpose is Purpose.ADOPT and len(todo) < len(steps)):
        return Act(todo)
    if steps:
        why = "; ".join(f"{machine_of(step)}: {view.why(step)}" for step in steps)
        return _end(view, Cause.NOT_PROVED, f"not proved: {why}")
    if view.cut_off:
        return _end(view, Cause.UNREACHABLE, _cut_off_text(view))
    if view.edited:
        return _end(view, Cause.HANDS, _edited_text(view))
    return None


def _is_half_back(view: View, step: Step) -> bool:
    originals = view.record.opened.originals
    return isinstance(step, Unadopt) and step.replaces == originals.get(step.load_balancer)


def _unadopts(view: View, steps: tuple[Step, ...]) -> tuple[Step, ...]:
    """Adopting is all or none: what cannot be proved on one load balancer is undone on all."""
    if not any(view.is_spent(step) for step in steps):
        return ()
    ours: list[Step] = []
    for name in view.load_balancers:
        seen = view.balancer(name)
        if seen and seen.file and view.is_known(name) and not view.is_original(name):
            ours.append(Unadopt(name, seen.file.digest))
    return tuple(step for step in ours if not view.is_spent(step))


def release(view: View) -> Move | None:
    """Every load balancer agrees, proved: the claim is over."""
    claim = view.record.claim
    if claim is None:
        return None
    out = tuple(sorted(view.record.unproven & set(claim.backends)))
    return Note((Released(claim.number, out),))


def end_in_trouble(view: View) -> Move | None:
    """Something failed on the way; the load balancers are in a proven state now."""
    record = view.record
    if record.trouble is not None:
        return _end(view, record.trouble.cause, record.trouble.reason)
    not_good = (record.left_out & record.changed) - record.skipped
    if record.went_back and not not_good and record.direction is Direction.FORWARD:
        reasons = "; ".join(record.went_back.values())
        return Finish(Closed(Ending.WENT_BACK, reasons, Cause.BACKEND))
    return None


def mind_errors(view: View) -> Move | None:
    """Too many requests failed: nothing more is claimed, and it does not end as if all were well.

    Not before put_back and release have had nothing to say: the load balancers agree by then.
    """
    errors = _too_many_errors(view)
    return _end(view, Cause.ERRORS, errors) if errors else None


def mind_logouts(view: View) -> Move | None:
    """Users who are logged out halt the rollout while most of the fleet is as it was.

    A release that does it shows it on its first wave, so that one is watched for a while, and the
    last, since nobody looks later. In between the next look is never far, and covers this wave.
    """
    record, policy = view.record, view.record.opened.policy
    logged_out = _logged_out(record)
    if logged_out:
        return _end(view, Cause.SESSIONS, f"users are being logged out: {logged_out}")
    watching = _watching(view)
    if watching is None:
        return None
    news = _news_of_logouts(view)
    is_worth_waiting = record.watched == 0 or not view.pending
    is_enough = record.logouts is not None and (
        record.logouts.count + news.count > policy.logout_lines_max
    )
    if is_worth_waiting and policy.watch_ms and not is_enough:
        names = ", ".join(sorted(watching.backends))
        why = f"whether users are logged out, by the logs of {names}"
        waiting = _wait(view, SIGN, Sign(watching), policy.watch_ms, why)
        if waiting is not None:
            return waiting
    return Note((Watched(record.claims, news),))


def _logged_out(record: Record) -> str:
    """Answers by which signs users are being logged out, or an empty text.

    A person who went on in spite of them has decided; they are only told from then on.
    """
    logouts, policy = record.logouts, record.opened.policy
    if logouts is None or record.are_logouts_accepted or not _watches(record):
        return ""
    signs = []
    if logouts.count > policy.logout_lines_max:
        signs.append(signs_text(logouts))
    before, now = record.pace_before, logouts.pace
    surge = is_surge(before, now, policy.logout_ratio, policy.logout_new_min)
    if surge and before is not None and now is not None:
        signs.append(surge_text(before, now))
    return "; ".join(signs)


def claim_next(view: View) -> Move | None:
    """Claim the next wave, when the others can carry the load and the sessions are safe."""
    record = view.record
    if not view.pending:
        return None
    wave = view.pending[: record.opened.policy.wave_size]
    short = _short_of(view, frozenset(wave))
    if short:
        return _ask_everybody(view, frozenset(wave)) or _end(view, Cause.CAPACITY, short)
    refused = [check for check in view.seen.store or () if check.verdict is Verdict.REFUSED]
    if refused:
        why = "; ".join(f"{check.name}: {check.detail}" for check in refused)
        return _end(view, Cause.STORE, f"session store: {why}")
    return Note((Claimed(record.claims + 1, wave),))


def finish(view: View) -> Move | None:
    """Nothing is pending and every load balancer agrees."""
    record = view.record
    left_out = record.left_out - record.skipped
    aborted = record.direction is not Direction.FORWARD
    if aborted or not record.opened.purpose.changes_backends:
        left_out &= record.changed  # the others were out before we came
    if left_out:
        names = ", ".join(sorted(left_out))
        return _end(view, Cause.BACKEND, f"{names} stays out of rotation, not proven good")
    if record.off:
        names = ", ".join(sorted(record.off))
        return _end(view, Cause.DECLARED_OFF, f"all else is done; {names} is not in line yet")
    return Finish(Closed(Ending.ABORTED if aborted else Ending.DONE))


RULES: tuple[Callable[[View], Move | None], ...] = (
    stay_ended,
    close_in_doubt,
    await_earlier,
    count,
    give_up_untouched,
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
