"""Reading on in the access logs of one load balancer: whole lines, each once, from where we were.

Everything is read over there as the SSH user, in one round trip for all logs of a machine. A log
may be rotated meanwhile: what nginx still writes to the file before is read there.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rolling_deploy.remote.connection import Connection
from rolling_deploy.remote.script import Reply, number_of, run_script
from rolling_deploy.rollout.step import Outcome

CHUNK_BYTES = 4_000_000
"""Of each file in one answer; compressed, about a tenth of it travels."""
LIMIT_MS = 30_000
FILES_MAX = 2
"""The file in use and the one before it: older ones were complete when the next was there."""
_GZIP = 31
"""zlib's number for data with gzip's own head."""


@dataclass(frozen=True, slots=True)
class Piece:
    """What one look at one log gave.

    Attributes:
        lines: without their line ends.
        end: where to read on next time; empty when the log cannot be read.
        has_more: there was more than fits into one answer.
        gaps: what is missing and why.
    """

    lines: tuple[bytes, ...] = ()
    end: str = ""
    has_more: bool = False
    gaps: tuple[str, ...] = ()


def read_logs(
    connection: Connection, ends: Mapping[str, str], *, chunk_bytes: int = CHUNK_BYTES
) -> dict[str, Piece] | str:
    """Answers what was added to each log since its end; an empty end becomes where it ends now.

    A text is the reason why the machine gave no answer; then nothing was read, and the next time
    goes on from the same ends.
    """
    words = [word for pair in ends.items() for word in pair]
    arguments = [str(chunk_bytes), *words]
    reply = run_script(connection, "access_log", arguments, limit_ms=LIMIT_MS)
    if reply.outcome is not Outcome.DONE:
        return reply.detail or "no answer"
    is_packed = reply.one("packed") == "gzip"
    try:
        return {
            path: _LogAnswer(reply, str(number), path, chunk_bytes, is_packed=is_packed).piece(end)
            for number, (path, end) in enumerate(ends.items())
        }
    except (ValueError, zlib.error) as error:
        return f"the answer was not understood: {error}"


@dataclass(frozen=True, slots=True)
class _LogAnswer:
    """What the machine said of one log."""

    reply: Reply
    number: str
    path: str
    chunk_bytes: int
    is_packed: bool

    def piece(self, end: str) -> Piece:
        now = self.reply.one(f"now_{self.number}")
        reason = self.reply.one(f"no_{self.number}")
        inode, _, size = now.partition(" ")
        if not end:
            gaps = (reason,) if reason else ()
            return Piece(end=f"{inode}:{number_of(size)}" if now else "", gaps=gaps)
        reading = _Reading(self.path, self.chunk_bytes, inode)
        self._read_on(reading)
        reading.forget_lost(self.reply.all(f"lost_{self.number}"), newest=end.partition(" ")[0])
        for other in self.reply.all(f"between_{self.number}"):
            reading.begin(other, has_more=True)
        if now:
            reading.begin(inode, has_more=number_of(size) > 0)
        if reason and not reading.ends:
            reading.gaps.append(reason)
        # One in between that was only just found is kept until it was read.
        ends = " ".join(reading.ends[: None if reading.has_more else FILES_MAX])
        return Piece(tuple(reading.lines), ends, reading.has_more, tuple(reading.gaps))

    def _read_on(self, reading: _Reading) -> None:
        heads = self.reply.all(f"from_{self.number}")
        for head, data in zip(heads, self.reply.all(f"data_{self.number}"), strict=True):
            position, _, size = head.partition(" ")
            content = data.encode("utf-8", "surrogateescape")
            if self.is_packed:
                content = zlib.decompressobj(_GZIP).decompress(content, self.chunk_bytes + 1)
            reading.take(position, number_of(size), content)


class _Reading:
    """One log as it is put together from the files it lies in."""

    def __init__(self, path: str, chunk_bytes: int, inode: str) -> None:
        self.path = path
        self.chunk_bytes = chunk_bytes
        self.inode = inode
        self.lines: list[bytes] = []
        self.ends: list[str] = []
        self.gaps: list[str] = []
        self.has_more = False

    def take(self, position: str, size: int, content: bytes) -> None:
        """Take what was written behind a position, whole lines only."""
        inode, _, text = position.partition(":")
        offset = int(text)
        if offset:
            is_same, content = content[:1] == b"\n", content[1:]
            if not is_same:
                # Somebody wrote the file anew. What was in it before is not told apart from what
                # came since, so none of it is counted, and that is said.
                self.gaps.append(f"{self.path} was rewritten meanwhile, not counted completely")
                self.ends.append(f"{inode}:{size}")
                return
        whole, line_end, _ = content.rpartition(b"\n")
        self.lines += whole.split(b"\n") if line_end else []
        is_full = len(content) >= self.chunk_bytes
        if is_full and not line_end:
            self.gaps.append(f"{self.path} holds a line of more than {self.chunk_bytes} bytes")
            self.ends.append(f"{inode}:{size}")
            return
        self.has_more |= is_full
        self.ends.append(f"{inode}:{offset + len(whole) + len(line_end)}")

    def begin(self, inode: str, *, has_more: bool) -> None:
        """Read a file from its beginning next time, if it is new to us."""
        if inode not in {position.partition(":")[0] for position in self.ends}:
            self.ends.insert(0, f"{inode}:0")
            self.has_more |= has_more

    def forget_lost(self, lost: Sequence[str], newest: str) -> None:
        """Go on without a file that is gone, or from the beginning of one that was cut short."""
        for said in lost:
            position, _, reason = said.partition(" ")
            inode = position.partition(":")[0]
            if position == newest:
                self.gaps.append(f"{self.path}: {reason}, not counted completely")
            if inode == self.inode:
                self.ends.insert(0, f"{inode}:0")
                self.has_more = True
