"""The session canary: do sessions survive between two releases, in every direction.

A release that cannot read the sessions of the one before logs every user out while every health
check says 200. So, while the node of the new release gets no traffic yet, sessions of our own are
made, read and written on it and on a node of the other release, directly and as a browser would:
with every cookie that was set, and with the Host header that the load balancer sends.

Four directions, each of which some real release breaks alone:

| direction            | what breaks it                                                       |
|----------------------|----------------------------------------------------------------------|
| read what was there  | a changed class, another cookie name, prefix or database             |
| write, read there    | old sessions are read but written back in a form the others drop     |
| made here, read there| users of the first new node would be logged out by all the others    |
| lives as long        | a shorter lifetime: everybody is logged out a little later           |
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rolling_deploy.remote.canary_session import (
    Asked,
    BadAnswer,
    Node,
    NotSet,
    Session,
    Visitor,
)
from rolling_deploy.remote.http import NoAnswer
from rolling_deploy.rollout.step import Outcome, Result
from rolling_deploy.settings import CanarySettings

Lifetime = Callable[[Session], int | None]
"""How many milliseconds the store keeps a session for from now; 0 when it does not have it, None
when that cannot be seen."""


NOT_SEEN = "whether it has expired is seen only with `session_store.session_key`"


class _Broken(Exception):
    """A direction is broken; the text says which, and shows both answers."""


class _OtherFails(Exception):
    """The other node cannot be proved with: no fault of the one that is to be proved."""


def keep(
    canary: CanarySettings, made_on: Node, read_on: Node, *, count: int
) -> tuple[Result, tuple[Session, ...]]:
    """Make sessions on one node of the release in service, and have another one read them.

    That proves that sessions are shared at all and that the canary itself is right, before
    anything is touched. The sessions are for later: on the last nodes nobody of the old release is
    left to make any.

    Args:
        count: how many.

    Returns:
        FAILED only where no other pair would do better: the canary is wrong, sessions are not
        shared, or there is one node only. UNKNOWN where one of these two may be ill.

    Crash: the sessions expire as any other.
    """
    begun = time.monotonic()
    is_only = made_on.name == read_on.name
    kept: list[Session] = []
    try:
        visitor = Visitor(canary)
        _expect_nothing_of_a_stranger(visitor, made_on)
        kept += [visitor.make(made_on) for _ in range(count)]
        for session in kept:
            _expect_shared(visitor, session, made_on, read_on)
    except (_Broken, NotSet) as error:
        return _result(Outcome.FAILED, str(error), begun), ()
    except BadAnswer as error:
        return _result(Outcome.FAILED if is_only else Outcome.UNKNOWN, str(error), begun), ()
    except NoAnswer as error:
        return _result(Outcome.UNKNOWN, str(error), begun), ()
    text = f"sessions made on {made_on} are read on {read_on}"
    return _result(Outcome.DONE, text, begun), tuple(kept)


def _expect_shared(visitor: Visitor, session: Session, made_on: Node, read_on: Node) -> None:
    """A session is read where it was made and on another node of the same release.

    Raises:
        _Broken: the other one takes it for a stranger's, so it does not share.
        BadAnswer: one of them answers with an error, or loses its own; another pair may not.
    """
    said = visitor.read(session, made_on)
    if not said.shows_it:
        raise BadAnswer(f"a session made on {made_on} is not read there: {said}")
    there = visitor.read(session, read_on)
    if there.shows_it:
        return
    text = f"a session made on {made_on} is not read on {read_on}, of the same release"
    text = _both(text, made_on, said, read_on, there)
    raise _Broken(text) if there.is_served else BadAnswer(text)


def prove(
    canary: CanarySettings,
    here: Node,
    there: Node | None,
    kept: Sequence[Session],
    lifetime: Lifetime,
    *,
    goes_back: bool = False,
) -> Result:
    """Prove that sessions survive between `here`, which is out of rotation, and the others.

    Args:
        there: a node of the other release that serves; None when none is left.
        kept: sessions from before the first claim, made on nodes of the old release.
        lifetime: asks the store.
        goes_back: `here` runs the earlier release again; sessions that live as long as they did
            under it are no fault then.

    Returns:
        DONE with what was proven; FAILED with the direction that broke and both answers, or with
        the answer of `here` that lets nobody in; UNKNOWN when `here` could not be asked or says
        that it may pass, and when `there` is no node to prove with, so that another may be asked
        (on the way back that is a gap); NOT_CHECKED when there was nothing to prove with.

    Crash: the sessions that were made expire as any other.
    """
    begun = time.monotonic()
    proof = _Proof(canary, here, there, lifetime, goes_back)
    try:
        proof.kept_are_read(kept)
        if there is not None:
            proof.all_directions(there)
    except (_Broken, BadAnswer, NotSet) as error:
        return _result(Outcome.FAILED, str(error), begun)
    except (NoAnswer, _OtherFails) as error:
        return _result(Outcome.UNKNOWN, str(error), begun)
    if not proof.proven:
        what = "can be proved with" if there else "serves"
        reason = f"no node of the other release {what}, and no session from before is at hand"
        return _result(Outcome.NOT_CHECKED, "; ".join([reason, *proof.gaps]), begun)
    gaps = f"; not checked: {', '.join(proof.gaps)}" if proof.gaps else ""
    return _result(Outcome.DONE, "; ".join(proof.proven) + gaps, begun)


@dataclass
class _Proof:
    """One node's proof as it goes on."""

    canary: CanarySettings
    here: Node
    there: Node | None
    lifetime: Lifetime
    goes_back: bool = False

    def __post_init__(self) -> None:
        self.visitor = Visitor(self.canary)
        self.proven: list[str] = []
        self.gaps: list[str] = []

    def kept_are_read(self, kept: Sequence[Session]) -> None:
        """Sessions from before the first claim, touched by every new node since, still work."""
        lost = 0
        unread: list[str] = []
        for session in kept:
            may_be_alone = self.there is None or self.goes_back
            lives_ms = self.lifetime(session) if may_be_alone else None
            # Whoever does not know a session gives a new cookie: the old one is needed once more.
            tried = session.copy()
            said = self.visitor.read(tried, self.here)
            if said.shows_it:
                session.cookies = tried.cookies
                continue
            text = f"a session made on {session.made_on} before the rollout is not read on "
            text += str(self.here)
            other = self._said_there(session)
            if self.there is None or other is None:
                # Over a halt of hours they expire; that is no fault of this backend.
                lost += 1
                if lives_ms == 0:
                    self.gaps.append(f"a session from before is not in the store any more: {said}")
                else:
                    hint = "" if lives_ms else f"; {NOT_SEEN}"
                    unread.append(f"{text}: {said}{hint}")
                continue
            if other.shows_it:
                raise _Broken(_both(text, self.here, said, self.there, other))
            # Gone for the release that made it too: expired, or the store lost it.
            lost += 1
            self.gaps.append(f"a session from before is gone on {self.there.name} too: {other}")
        # The release that is left may have dropped the one that it failed at.
        if unread and not (self.goes_back and len(kept) > lost):
            raise _Broken(unread[0])
        self.gaps += unread
        if len(kept) > lost:
            noun = "session from before is" if len(kept) - lost == 1 else "sessions from before are"
            self.proven.append(f"{len(kept) - lost} {noun} read on {self.here}")

    def _said_there(self, session: Session) -> Asked | None:
        """Answers what the other node says; None without one, or without a use on the way back."""
        try:
            return self._read_there(session, self.there) if self.there else None
        except _OtherFails:
            if not self.goes_back:
                raise
            return None

    def all_directions(self, there: Node) -> None:
        """Make, read, write in both directions.

        Raises:
            _OtherFails: the other node cannot be proved with. On the way back that is a gap: it
                may be why we go back, and whoever has no session there cannot lose it here.
        """
        known = len(self.proven)
        try:
            self._directions(there)
        except _OtherFails as error:
            if not self.goes_back:
                raise
            rest = "both directions" if len(self.proven) == known else "the other directions"
            self.gaps.append(f"{rest} ({error})")

    def _directions(self, there: Node) -> None:
        visitor, here = self.visitor, self.here
        _expect_nothing_of_a_stranger(visitor, here)
        session = self._made_there(there)
        before = self._read_there(session, there)
        if not before.shows_it:
            raise _OtherFails(f"a session made on {there} is not read there: {before}")
        lives_ms = self.lifetime(session)
        said = visitor.read(session, here)
        if not said.shows_it:
            raise _Broken(
                _both(f"a session made on {there} is not read on {here}", here, said, there, before)
            )
        # Before the other one touches it again and gives it its own lifetime back.
        after_ms = self._lifetime(session, lives_ms, f"a session that {here} has touched")
        if after_ms is not None:
            self.proven.append(f"lives {_seconds(after_ms)} as before")
        again = self._read_there(session, there)
        if not again.shows_it:
            text = f"a session made on {there} is no longer read there once {here} has touched it"
            raise _Broken(_both(text, here, said, there, again))
        self.proven.append(f"made on {there.name} and read on {here.name}")
        self._write(session, there)
        self._made_here(there, lives_ms)

    def _made_there(self, there: Node) -> Session:
        try:
            return self.visitor.make(there)
        except (BadAnswer, NoAnswer) as error:
            raise _OtherFails(str(error)) from None

    def _read_there(self, session: Session, there: Node, written: str = "") -> Asked:
        try:
            return self.visitor.read(session, there, written)
        except (BadAnswer, NoAnswer) as error:
            raise _OtherFails(str(error)) from None

    def _write(self, session: Session, there: Node) -> None:
        if self.canary.write is None:
            self.gaps.append("writing (no `write` is configured)")
            return
        visitor, here = self.visitor, self.here
        written = visitor.write(session, here)
        read_here = visitor.read(session, here, written)
        if not read_here.shows_it:
            raise _Broken(
                f"what was written into a session on {here} is not read there: {read_here}"
            )
        read_there = self._read_there(session, there, written)
        if not read_there.shows_it:
            text = f"a session made on {there} and written on {here} is not read on {there}"
            raise _Broken(_both(text, here, read_here, there, read_there))
        self.proven.append(f"written on {here.name} and read on {there.name}")

    def _made_here(self, there: Node, lives_ms: int | None) -> None:
        visitor, here = self.visitor, self.here
        session = visitor.make(here)
        said = visitor.read(session, here)
        if not said.shows_it:
            raise _Broken(f"a session made on {here} is not read there: {said}")
        # Some session managers leave every session the lifetime that it was made with.
        self._lifetime(session, lives_ms, f"a session made on {here}")
        other = self._read_there(session, there)
        if not other.shows_it:
            text = f"a session made on {here} is not read on {there}"
            raise _Broken(_both(text, here, said, there, other))
        self.proven.append(f"made on {here.name} and read on {there.name}")

    def _lifetime(self, session: Session, before_ms: int | None, what: str) -> int | None:
        """A session that the new release has made or touched is kept for as long as before.

        Answers for how long; None when that cannot be seen, or does not matter on the way back.
        """
        if self.goes_back:
            return None
        after_ms = self.lifetime(session)
        if not before_ms or not after_ms:
            gap = "how long sessions live (their key in the store is not known)"
            if gap not in self.gaps:
                self.gaps.append(gap)
            return None
        if _lives(after_ms) < _lives(before_ms) * self.canary.lifetime_share_min:
            raise _Broken(
                f"{what} lives {_seconds(after_ms)}, should live about {_seconds(before_ms)} "
                f"as on {self.there}"
            )
        return after_ms


def _expect_nothing_of_a_stranger(visitor: Visitor, node: Node) -> None:
    """A page that shows what is expected to everybody proves nothing.

    Raises:
        _Broken: it does.
    """
    said = visitor.read(visitor.stranger(), node)
    if said.shows_it:
        raise _Broken(
            f"{node} shows what `expect` asks for without any session too: {said}; "
            "the canary could not fail, make `expect` say what only this session has"
        )


def _both(text: str, here: Node, said: Asked, there: Node, other: Asked) -> str:
    return f"{text}: {said} on {here.name}, {other} on {there.name}"


def _lives(ms: int) -> float:
    return float("inf") if ms < 0 else ms


def _seconds(ms: int) -> str:
    return "for ever" if ms < 0 else f"{ms / 1000:.0f} s"


def _result(outcome: Outcome, detail: str, begun: float) -> Result:
    return Result(outcome, detail, round((time.monotonic() - begun) * 1000))
