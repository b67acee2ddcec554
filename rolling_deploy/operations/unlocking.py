"""Freeing the lock of a run that is dead, after showing what it left undone."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

from rolling_deploy.errors import MachineUnreachable, RolloutHeld, UsageWrong
from rolling_deploy.operations.desk import Desk
from rolling_deploy.operations.in_hand import InHand, silence_text
from rolling_deploy.operations.rollouts import in_hand, standing
from rolling_deploy.operations.site import Site
from rolling_deploy.parallel import at_once
from rolling_deploy.remote.record_copies import BEATS_PER_EXPIRY, Copy, let_go, watch_lock
from rolling_deploy.report.unlock import UnlockView
from rolling_deploy.report.wording import backend_state
from rolling_deploy.rollout.fold import step_key
from rolling_deploy.rollout.record import Record
from rolling_deploy.rollout.step import Outcome
from rolling_deploy.rollout.view import wanted_out

BEATS_AWAITED = 2.5
"""A living holder beats twice in this time, so one late beat is not taken for a death."""


def unlock(
    desk: Desk, show: Callable[[UnlockView], None], *, is_forced: bool = False
) -> UnlockView:
    """Free the lock; `show` is given what is left undone before anything is asked.

    A heart that beat lately is listened to first, so nobody is taken for dead who is not. What is
    freed is the very lock that was shown: one that somebody took meanwhile stays theirs.

    Args:
        is_forced: also when the holder is alive.

    Raises:
        UsageWrong: nobody holds it.
        RolloutHeld: the holder is alive, or somebody else took it meanwhile.
        MachineUnreachable: the holder's heart could not be listened to, or it was not freed
            everywhere.
    """
    site = desk.connect()
    try:
        hand = in_hand(desk, site)
        locks = {name: copy for name, copy in hand.copies.items() if copy.holder is not None}
        if not locks:
            raise UsageWrong("nobody holds the rollout", next_step="rolling-deploy status")
        locks, is_alive, unheard = _listen(desk, site, locks, hand.dead)
        if unheard and not is_alive:
            _refuse_unheard(desk, unheard, is_forced=is_forced)
        view = _view(hand, locks, is_alive=is_alive)
        show(view)
        if is_alive and not is_forced:
            raise RolloutHeld(
                f"{view.holder} and is alive: {view.heart}",
                where=", ".join(sorted(locks)),
                site="whoever holds it answers for the site; nothing was unlocked",
                next_step="end that run, or wait for it; if it must be, "
                "`rolling-deploy unlock --force`",
            )
        alive = " although its holder is ALIVE and may be acting" if is_alive else ""
        if not desk.confirm(f"unlock{alive}?"):
            return view
        _free(site, locks)
        return replace(view, is_unlocked=True)
    finally:
        site.close()


def _listen(
    desk: Desk, site: Site, locks: Mapping[str, Copy], dead: str
) -> tuple[dict[str, Copy], bool, dict[str, str]]:
    """Answers the locks as they are after listening, and whether a heart beat meanwhile.

    The third are those that were not listened to to the end, with the reason: their silence says
    nothing.

    Args:
        dead: a holder that is known to have ended, for whom nobody need listen.

    Raises:
        UsageWrong: its holder gave it up meanwhile.
    """
    young = {name: copy for name, copy in locks.items() if copy.is_held and copy.token != dead}
    if not young:
        return dict(locks), False, {}
    expiry_s = max(copy.holder.expiry_s for copy in young.values() if copy.holder)
    limit_s = math.ceil(BEATS_AWAITED * expiry_s / BEATS_PER_EXPIRY)
    desk.say(f"listening for at most {limit_s} s whether the holder's heart still beats")
    heard = at_once(
        {
            name: partial(watch_lock, site.place_of(name), copy, limit_s, also_beats=True)
            for name, copy in young.items()
        }
    )
    now = {name: copy or young[name] for name, (copy, _) in heard.items()}
    if all(copy.holder is None for copy in now.values()):
        raise UsageWrong("its holder gave it up at this moment", next_step="rolling-deploy status")
    held = {name: copy for name, copy in {**locks, **now}.items() if copy.holder is not None}
    is_alive = any(
        (copy.token, copy.step, copy.beat)
        != (young[name].token, young[name].step, young[name].beat)
        for name, copy in held.items()
        if name in young
    )
    unheard = {name: why for name, (copy, why) in heard.items() if copy is None}
    return held, is_alive, unheard


def _refuse_unheard(desk: Desk, unheard: Mapping[str, str], *, is_forced: bool) -> None:
    """Nobody is taken for dead whose heart could not be heard; forced, it is only told.

    Raises:
        MachineUnreachable: naming the load balancers and why.
    """
    reasons = "; ".join(f"{name}: {why}" for name, why in sorted(unheard.items()))
    if is_forced:
        desk.say(f"not listened to to its end, the holder may be alive: {reasons}")
        return
    raise MachineUnreachable(
        "the holder's heart could not be listened to, so it may be alive",
        where=reasons,
        site="whoever holds it answers for the site; nothing was unlocked",
        next_step="`rolling-deploy unlock` again; if it must be, `rolling-deploy unlock --force`",
    )


def _view(hand: InHand, locks: Mapping[str, Copy], *, is_alive: bool) -> UnlockView:
    newest = max(locks.values(), key=lambda copy: copy.holder.since_ms if copy.holder else 0)
    holder = newest.holder.describe() if newest.holder else "somebody"
    heart = silence_text(locks)
    record = hand.record
    if record is None or record.closed is not None:
        state = "nothing was left undone"
        return UnlockView(holder, heart, is_alive, "", state, newest.step, (), (), (), "")
    opened = record.opened
    what = f"to {opened.release}" if opened.release else f"({opened.purpose})"
    return UnlockView(
        holder,
        heart,
        is_alive,
        opened.rollout,
        f"rollout {opened.rollout} {what} is unfinished ({standing(record)})",
        newest.step,
        _in_doubt(record),
        tuple(sorted(wanted_out(record))),
        tuple((name, backend_state(record, name)) for name in (*opened.already, *opened.order)),
        "`rolling-deploy resume` finishes it, `rolling-deploy abort` goes back",
    )


def _in_doubt(record: Record) -> tuple[str, ...]:
    """The steps without an outcome: a remote command may have come about, or still run."""
    steps = [intent.step for _, intent in sorted(record.open_intents.items())]
    return tuple(step_key(step, record.claims) for step in steps)


def _free(site: Site, locks: Mapping[str, Copy]) -> None:
    replies = at_once(
        {
            name: partial(let_go, {name: site.place_of(name)}, copy.token)
            for name, copy in locks.items()
        }
    )
    odd = {name: one[name] for name, one in replies.items() if one[name].outcome != Outcome.DONE}
    if any(reply.outcome is Outcome.REFUSED for reply in odd.values()):
        raise RolloutHeld(
            "somebody else took the lock at this moment, so it was left to them",
            where=", ".join(sorted(odd)),
            site="whoever holds it answers for the site",
            next_step="rolling-deploy status",
        )
    if odd:
        reasons = "; ".join(f"{name}: {reply.detail}" for name, reply in sorted(odd.items()))
        raise MachineUnreachable(
            "the lock was not freed everywhere", where=reasons, next_step="rolling-deploy unlock"
        )
