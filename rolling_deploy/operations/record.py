"""The record of the rollout in hand: the local file first, then every load balancer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from rolling_deploy.errors import RecordWrong, RolloutHalted, RolloutHeld
from rolling_deploy.parallel import at_once
from rolling_deploy.ports import Clock, FenceToken, LocalRecord
from rolling_deploy.remote.record_copies import Place, append_copy, read_copies
from rolling_deploy.remote.script import Reply
from rolling_deploy.rollout.facts import Fact, Intended
from rolling_deploy.rollout.fold import step_key
from rolling_deploy.rollout.journal import Chain, Entry, encode, entries_after
from rolling_deploy.rollout.step import Outcome


@dataclass
class RecordJournal:
    """The append-only record, in both places. Implements `ports.Journal`.

    An intent counts as written only when this disk and at least one load balancer hold it. Facts
    that need no such proof travel with the next ones that do: one round trip less.

    Crash: every copy holds a beginning of the local chain, or the local file of it.
    """

    file: LocalRecord
    places: Mapping[str, Place]
    token: FenceToken
    clock: Clock
    chain: Chain
    tell: Callable[[str], None] = field(default=lambda _: None)

    def __post_init__(self) -> None:
        self._entries = list(self.chain.entries)
        self._lines = list(self.chain.lines)
        self._last_hash = self.chain.last_hash
        self._size = self.chain.size
        self._loose: dict[str, bytes] = {}
        self._known: dict[str, int] = {}
        """Lines that each load balancer is known to hold."""
        self.lagging: dict[str, str] = {}
        """Load balancers that did not take the last lines, and why."""

    def begin(
        self,
        known: Mapping[str, int],
        loose: Mapping[str, bytes] | None = None,
        *,
        is_superseded: bool = False,
    ) -> None:
        """Bring the local file in line with the chain.

        Args:
            known: how many lines of the chain each copy has.
            loose: what may be cut off behind them.
            is_superseded: the local file's end was never acted on and may be replaced.

        Crash: the local file is a beginning of the chain, or as it was.
        """
        self._known = dict(known)
        self._loose = dict(loose or {})
        local = self.file.read()
        shared = local.shared_with(self.chain)
        if shared < len(local.lines) and not is_superseded:
            raise RecordWrong(
                "the local record goes on otherwise than the copies",
                where=str(self.file.path),
                next_step="compare them by hand and remove the wrong one",
            )
        self.file.hold()
        self.file.put(self._lines[shared:], sum(map(len, self._lines[:shared])))

    def entries(self) -> Sequence[Entry]:
        """Answers all entries, oldest first."""
        return self._entries

    def append(self, facts: Sequence[Fact], *, before_acting: bool) -> Sequence[Entry]:
        """Append facts; see `ports.Journal`."""
        entries = entries_after(
            self._entries,
            facts,
            at_ms=self.clock.now_ms(),
            epoch=self.token.epoch,
            holder=self.token.holder,
        )
        lines: list[bytes] = []
        last_hash = self._last_hash
        for entry in entries:
            line, last_hash = encode(entry, last_hash)
            lines.append(line)
        self.file.put(lines, self._size)
        self._entries += entries
        self._lines += lines
        self._last_hash = last_hash
        self._size += sum(map(len, lines))
        if before_acting:
            self.push(_doing(entries))
        return entries

    def push(self, doing: str = "") -> None:
        """Give every load balancer what it does not hold yet.

        Raises:
            RolloutHeld, RecordWrong, RolloutHalted: see `ports.Journal.append`.
        """
        behind = {n: p for n, p in self.places.items() if self._known.get(n, 0) < len(self._lines)}
        if not behind:
            return
        replies = at_once(
            {name: partial(self._give, name, place, doing) for name, place in behind.items()}
        )
        before, self.lagging = self.lagging, {}
        for name, reply in replies.items():
            self._judge(name, reply)
        for name in sorted(set(self.lagging) - set(before)):
            self.tell(f"{name} does not take the record: {self.lagging[name]}")
        if len(self.lagging) == len(self.places):
            self._leave_to_whoever_took_over()
            reasons = "; ".join(f"{name}: {why}" for name, why in sorted(self.lagging.items()))
            raise RolloutHalted(
                "no load balancer could be given the record, so nothing may be done",
                where=reasons,
                site="what was serving still serves; nothing was begun",
                next_step="rolling-deploy resume",
            )

    def _give(self, name: str, place: Place, doing: str) -> Reply:
        known = self._known.get(name, 0)
        reply = self._send(place, known, doing, self._loose.get(name, b""))
        if reply.outcome is Outcome.REFUSED and "behind" in reply.detail:
            # It lost what we thought it held (or never had it): begin where it really ends.
            held = _whole_lines(self._lines, reply.number("size"))
            reply = self._send(place, held, doing, b"")
        return reply

    def _send(self, place: Place, known: int, doing: str, loose: bytes) -> Reply:
        size = sum(len(line) for line in self._lines[:known])
        tail = self._lines[known - 1] if known else b""
        return append_copy(
            place,
            self.token,
            self._lines[known:],
            size=size,
            tail=tail,
            step=doing,
            loose=loose,
        )

    def _leave_to_whoever_took_over(self) -> None:
        """When no answer came in time it may be we who stood still, for as long as it takes another
        to take over: the fences tell.

        Raises:
            RolloutHeld: it is so.
        """
        overtaken = overtaken_on(self.places, self.token)
        if overtaken:
            raise _taken_over(overtaken)

    def _judge(self, name: str, reply: Reply) -> None:
        if reply.outcome is Outcome.DONE:
            self._known[name] = len(self._lines)
            self._loose.pop(name, None)
        elif reply.is_fenced:
            raise _taken_over(name)
        elif reply.outcome is Outcome.REFUSED and "differs" in reply.detail:
            raise RecordWrong(
                "the copy of the record goes on otherwise than ours",
                where=name,
                site="nothing more was done; what served before this still serves",
                next_step="rolling-deploy status",
            )
        else:
            self.lagging[name] = reply.detail


def overtaken_on(places: Mapping[str, Place], token: FenceToken) -> str:
    """Answers a load balancer whose fence is beyond this token, or an empty text."""
    copies, _ = read_copies(places)
    for name, copy in sorted(copies.items()):
        is_another = copy.fence.epoch == token.epoch and copy.fence.holder != token.holder
        if copy.fence.epoch > token.epoch or is_another:
            return name
    return ""


def _taken_over(where: str) -> RolloutHeld:
    return RolloutHeld(
        "somebody else has taken this rollout over",
        where=where,
        site="whoever holds it now answers for the site; this run changed nothing more",
        next_step="rolling-deploy status",
    )


def _whole_lines(lines: Sequence[bytes], size: int) -> int:
    """How many whole lines fit into `size` bytes."""
    count = 0
    for line in lines:
        size -= len(line)
        if size < 0:
            break
        count += 1
    return count


def _doing(entries: Sequence[Entry]) -> str:
    steps = [step_key(e.fact.step, 0) for e in entries if isinstance(e.fact, Intended)]
    return ", ".join(steps)
