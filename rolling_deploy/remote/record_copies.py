"""The copies of the record on the load balancers, and the lock beside them.

No step can happen without the load balancers, so what lies there outlives every operator. The
lock gives a good message early; the fence in every script is what really keeps others out.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

from rolling_deploy.errors import RecordWrong, RolloutHeld
from rolling_deploy.parallel import at_once
from rolling_deploy.ports import FenceToken
from rolling_deploy.remote.connection import Connection
from rolling_deploy.remote.script import Reply, fence_arguments, number_of, run_script
from rolling_deploy.rollout.journal import Chain, read_chain
from rolling_deploy.rollout.observed import Fence
from rolling_deploy.rollout.step import Outcome

LIMIT_MS = 15_000
"""For one round trip about the record. The lock is waited for 10 s on the machine."""

EXPIRY_S = 30
"""The expiry of a lock that does not say its own."""

EXPIRY_MAX_S = 86_400
"""A lock that says it expires later than any inventory may ask for is not believed."""

BEATS_PER_EXPIRY = 6
"""So that a few lost ones do not matter."""

SINCE_MAX_MS = 253_402_300_799_000
"""The end of the year 9999: what a calendar can show."""


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds the rollout, for a person.

    Attributes:
        since_ms: by the holder's own clock.
        expiry_s: a silence this long, by the load balancer's clock, means that they are dead.
            Theirs counts, whatever the inventory of whoever asks says.
    """

    who: str
    machine: str
    job: str
    since_ms: int
    rollout: str
    reason: str
    expiry_s: int = EXPIRY_S

    def describe(self) -> str:
        """Answers who holds what, since when, from where and why."""
        since = datetime.fromtimestamp(self.since_ms / 1000, tz=UTC)
        job = f", job {self.job}" if self.job else ""
        why = f", because {self.reason}" if self.reason else ""
        return (
            f"{self.who} on {self.machine} holds rollout {self.rollout} since "
            f"{since:%Y-%m-%d %H:%M:%S} UTC{job}{why}"
        )

    def to_json(self) -> bytes:
        """Answers the holder as it is kept on the load balancer."""
        plain = {name: getattr(self, name) for name in self.__slots__}
        return json.dumps(plain).encode()

    @classmethod
    def from_json(cls, text: str) -> Holder | None:
        """Answers the holder, or None when the text is not one."""
        try:
            plain = {"expiry_s": EXPIRY_S, **json.loads(text)}
            words = {name: plain[name] for name in cls.__slots__}
        except (ValueError, KeyError, TypeError, RecursionError):
            return None
        bounds = {"since_ms": SINCE_MAX_MS, "expiry_s": EXPIRY_MAX_S}
        for name, value in words.items():
            if name not in bounds and not isinstance(value, str):
                return None
            if name in bounds and not (isinstance(value, int) and 0 <= value <= bounds[name]):
                return None
        return cls(**words)


@dataclass(frozen=True, slots=True)
class Copy:
    """What one load balancer keeps: its copy, the lock, the fence.

    Attributes:
        chain: None when there is no copy of a record.
        holder: None when nobody holds the lock.
        heartbeat_age_s: by that machine's own clock; None when there is no heartbeat. Negative
            when that clock was set back since.
        token: the holder's, which no other life has.
        beat: when the heart beat last, as that machine keeps it; only good for comparing.
        problem: why the copy cannot be read, or empty.
    """

    fence: Fence
    current: str = ""
    chain: Chain | None = None
    holder: Holder | None = None
    heartbeat_age_s: int | None = None
    step: str = ""
    problem: str = ""
    token: str = ""
    beat: str = ""

    @property
    def is_held(self) -> bool:
        """Answers whether a living holder has it, as far as can be told.

        A beat that lies further ahead than the expiry says nothing: the clock was set back. Then
        taking the lock finds out (`record_hold`), which refuses once and lets the expiry count.
        """
        if self.holder is None or self.heartbeat_age_s is None:
            return False
        return abs(self.heartbeat_age_s) < self.holder.expiry_s


@dataclass(frozen=True, slots=True)
class Place:
    """Where one load balancer keeps its copy."""

    connection: Connection
    state_dir: str


def read_copies(
    places: Mapping[str, Place], rollout: str = ""
) -> tuple[dict[str, Copy], dict[str, str]]:
    """Answers what each load balancer keeps, and why the others could not be asked.

    A copy that cannot be read is reported in its `problem`, never dropped; so is a machine that
    answers that it cannot look.
    """
    arguments = [rollout] if rollout else []
    replies = at_once(
        {
            name: partial(
                run_script,
                place.connection,
                "record_read",
                [place.state_dir, *arguments],
                limit_ms=LIMIT_MS,
            )
            for name, place in places.items()
        }
    )
    copies: dict[str, Copy] = {}
    failures: dict[str, str] = {}
    for name, reply in replies.items():
        if reply.outcome is Outcome.DONE:
            copies[name] = _copy_of(name, reply)
        elif reply.outcome is Outcome.FAILED:
            copies[name] = Copy(Fence(0, "-"), problem=reply.detail)
        else:
            failures[name] = reply.detail
    return copies, failures


def _copy_of(name: str, reply: Reply) -> Copy:
    epoch, _, holder = reply.one("fence", "0 -").partition(" ")
    chain, problem = None, ""
    if "record" in reply.values:
        content = reply.one("record").encode("utf-8", "surrogateescape")
        try:
            chain = read_chain(content, f"{name}:{reply.one('current')}.jsonl")
        except RecordWrong as error:
            problem = f"{error.what} ({error.where})"
    return Copy(
        Fence(number_of(epoch), holder.strip()),
        reply.one("current"),
        chain,
        Holder.from_json(reply.one("holder")),
        _signed(reply.one("heartbeat_age")),
        reply.one("step"),
        problem,
        reply.one("held_by"),
        reply.one("beat"),
    )


def _signed(text: str) -> int | None:
    digits = text.removeprefix("-")
    number = number_of(digits, -1)
    if number < 0:
        return None
    return -number if digits != text else number


def watch_lock(
    place: Place, known: Copy, limit_s: int, *, also_beats: bool = False
) -> tuple[Copy | None, str]:
    """Wait over there until the lock is not held, or is not as `known`; answer how it is then.

    Ends with the channel, and at the limit. None with the reason when it could not be asked.

    Args:
        also_beats: return at the holder's next beat too.
    """
    beat = known.beat if also_beats else ""
    reply = run_script(
        place.connection,
        "record_watch",
        [place.state_dir, known.token, known.step, beat, str(limit_s)],
        limit_ms=limit_s * 1000 + LIMIT_MS,
        holds_stdin=True,
    )
    if reply.outcome is not Outcome.DONE:
        return None, reply.detail
    return _copy_of("", reply), ""


def append_copy(  # noqa: PLR0913 # one round trip carries all of it
    place: Place,
    token: FenceToken,
    lines: Sequence[bytes],
    *,
    size: int,
    tail: bytes,
    step: str,
    loose: bytes = b"",
) -> Reply:
    """Add lines behind exactly the `size` bytes that we know this copy holds.

    Args:
        tail: the last line within `size`.
        loose: what was read behind `size` and may be cut off.

    Crash: the copy holds either none, some or all of the lines; the next append recognises each.
    """
    content = b"".join(lines)
    arguments = [
        *fence_arguments(place.state_dir, token),
        token.rollout,
        str(size),
        hashlib.sha256(tail).hexdigest(),
        hashlib.sha256(content).hexdigest(),
        step,
        hashlib.sha256(loose).hexdigest() if loose else "",
    ]
    return run_script(
        place.connection, "record_append", arguments, stdin=content, limit_ms=LIMIT_MS
    )


def hold(
    places: Mapping[str, Place], token: FenceToken, holder: Holder, *, dead: str = ""
) -> dict[str, str]:
    """Take the lock and raise the fence on every load balancer that can be reached.

    Returns why the others could not be asked, by name.

    Args:
        dead: a holder that is known to have ended, though its last heartbeat is young.

    Raises:
        RolloutHeld: a living holder has it, or somebody was faster.
    """
    failures: dict[str, str] = {}
    for name in sorted(places):
        place = places[name]
        expiry = str(holder.expiry_s)
        arguments = [*fence_arguments(place.state_dir, token), expiry, token.rollout, dead]
        reply = run_script(
            place.connection, "record_hold", arguments, stdin=holder.to_json(), limit_ms=LIMIT_MS
        )
        if reply.outcome is Outcome.DONE:
            continue
        if "held" in reply.values:
            raise held_by(name, Holder.from_json(reply.one("holder")), reply.one("step"))
        if reply.is_fenced:
            raise held_by(name, None, "")
        failures[name] = reply.detail
    return failures


def held_by(where: str, holder: Holder | None, step: str) -> RolloutHeld:
    """Answers the message about a rollout that somebody else holds."""
    if holder is None:
        return RolloutHeld(
            "somebody else took the rollout over at this moment",
            where=where,
            site="whoever holds it answers for the site; this run changed nothing",
            next_step="rolling-deploy status",
            is_passing=True,
        )
    doing = f", now at: {step}" if step else ""
    return RolloutHeld(
        f"{holder.describe()}{doing}",
        where=where,
        site="whoever holds it answers for the site; this run changed nothing",
        next_step="wait for it (`--wait`), or look with `rolling-deploy status`; a dead holder "
        f"expires after {holder.expiry_s} s, `rolling-deploy unlock` frees it at once",
        is_passing=True,
    )


def let_go(
    places: Mapping[str, Place], holder: str, *, limit_ms: int = LIMIT_MS
) -> dict[str, Reply]:
    """Give the lock up on every load balancer where this holder has it, by its token."""
    return at_once(
        {
            name: partial(
                run_script,
                place.connection,
                "record_let_go",
                [place.state_dir, holder],
                limit_ms=limit_ms,
            )
            for name, place in places.items()
        }
    )


class Heart:
    """Beats on every load balancer while we live, on daemon threads that die with us.

    A thread for each, so that one that hangs keeps no other from hearing that we live.
    """

    def __init__(
        self, places: Mapping[str, Place], holder: str, expiry_s: float = EXPIRY_S
    ) -> None:
        self._places = places
        self._holder = holder
        self._beat_s = expiry_s / BEATS_PER_EXPIRY
        self._stop = threading.Event()

    def start(self) -> None:
        """Begin to beat."""
        for name, place in self._places.items():
            threading.Thread(
                target=self._beat, args=(place,), daemon=True, name=f"heartbeat {name}"
            ).start()

    def stop(self) -> None:
        """Stop beating; the lock expires unless it is given up."""
        self._stop.set()

    def _beat(self, place: Place) -> None:
        arguments = [place.state_dir, self._holder]
        while not self._stop.wait(self._beat_s):
            run_script(place.connection, "record_beat", arguments, limit_ms=LIMIT_MS)
