"""Lines of an application's own logs that say that a stored session cannot be read.

The logs are read as the load balancers' access logs are: whole lines, each once, from where they
ended, also over a rotation. What a line means is decided here, not over there, so that one kind of
regular expression holds on every machine.
"""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from rolling_deploy.remote.access_log import read_logs
from rolling_deploy.remote.connection import Connection
from rolling_deploy.remote.script import number_of, run_script
from rolling_deploy.rollout.logouts import NAMED_MAX
from rolling_deploy.rollout.step import Outcome

DATE = "{date}"
"""Stands in a log's path for the day, as Tomcat's own handlers write it."""

TOMCAT_LOGS = ("logs/catalina.out", f"logs/catalina.{DATE}.log", f"logs/localhost.{DATE}.log")
"""Below CATALINA_BASE. What a servlet throws goes to the last one with the `logging.properties`
that Tomcat comes with, and to the first one without any (both seen with 10.1)."""

JAVA = (
    # Of a class that was changed; Redisson's `SerializationCodec` and Tomcat's own managers alike.
    r"java\.io\.InvalidClassException: ",
    r"local class incompatible: stream classdesc",
    # Of a class that is gone, as Redisson's codec wraps it; without, the class may be anybody's.
    r"java\.io\.IOException: java\.lang\.ClassNotFoundException: ",
    # The serialVersionUID was kept, but a field has another type.
    r"ClassCastException: cannot assign instance of ",
    r"java\.io\.(StreamCorrupted|OptionalData)Exception",
)
TOMCAT = (
    # Seen with 10.1.60 and the file store: `Request.doGetSession`, `PersistentValve`,
    # `PersistentManagerBase`, `StandardManager`.
    r"Failed to load session \[",
    r"Loading session \[\S+\] from the store failed",
    r"Error deserializing Session ",
    r"Exception (while )?loading (persisted )?sessions",
    # From its messages, not seen for real: `StandardSession`, swapping in, `DeltaManager`.
    r"Cannot deserialize (session attribute|Principal object for session) ",
    r"Exception in the Store during swapIn",
    r"Error swapping in sessions from the store",
    r"ClassNotFoundException while loading persisted sessions",
)
REDISSON = (
    # From the code of 3.39, not seen for real: with Java's serialization it is the above.
    r"Can't read session object by id: ",
    r"com\.esotericsoftware\.kryo\.KryoException: (Unable to find class|Encountered unregistered)",
)
ORANGEFUNCTION = (
    # From its published code, not seen for real; of a changed class it says nothing itself. What it
    # says of a `null` in the store is left out: a Tomcat that dies while somebody logs in leaves
    # that behind, whatever release follows.
    r"Unable to deserialize into session",
)
BUILT_IN = (*JAVA, *TOMCAT, *REDISSON, *ORANGEFUNCTION)
OURS = re.compile("|".join(f"(?:{pattern})" for pattern in BUILT_IN))

LINE_MAX = 4_000
"""Characters of a line that are looked at; what we look for stands at a line's beginning."""
SHOWN_MAX = 240
"""Characters of a line that are shown."""
CHUNK_BYTES = 2_000_000
ROUNDS_MAX = 8
"""Chunks of one log within one look; what is left is read by the next look."""
TAIL_BYTES = 1_000_000
"""Of the log before a start: what is usual there already."""
LIMIT_MS = 15_000
_GZIP = 31
"""zlib's number for data with gzip's own head."""

_IDS = re.compile(
    r"\b(?=\w*\d)(?=\w*[A-Za-z])[0-9A-Fa-f]{16,}\b"
    r"|\b[0-9A-Fa-f]{8}-(?:[0-9A-Fa-f]{4}-){3}[0-9A-Fa-f]{12}\b"
    r"|(?<=[Ss]ession \[)[^\]\s]+|(?<=tomcat_session:)\S+|(?<=object by id: )\S+"
    r"|(?i:(?<=session=)|(?<=sessionid=)|(?<=sid=))[^;,\s]+"
)
"""Whoever reads a session's id in a report could be that user."""


class Signs:
    """The patterns of one inventory."""

    def __init__(self, patterns: Iterable[str] = (), ignore: Iterable[str] = ()) -> None:
        """Take patterns beside the built-in ones, and what is not a sign although one matches."""
        # Those of an inventory each by itself: one may have flags or numbered groups of its own.
        self._signs = (OURS, *(re.compile(one) for one in patterns))
        self._ignored = tuple(re.compile(one) for one in ignore)

    def found(self, lines: Iterable[bytes]) -> Counter[str]:
        """Answers how often each sign stands in these lines, by what follows a line's own head
        (time, thread, level), which differs between two logs of one thing.
        """
        counts: Counter[str] = Counter()
        for raw in lines:
            line = raw[: LINE_MAX * 4].decode("utf-8", "replace")[:LINE_MAX]
            starts = [match.start() for sign in self._signs if (match := sign.search(line))]
            if starts and not any(ignored.search(line) for ignored in self._ignored):
                counts[line[min(starts) :].strip()] += 1
        return counts


def shown(sign: str) -> str:
    """Answers a line as it may stand in a report: no session ids, nothing that steers a terminal,
    and not long.
    """
    text = _IDS.sub("...", sign)
    safe = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return safe if len(safe) <= SHOWN_MAX else f"{safe[: SHOWN_MAX - 3]}..."


@dataclass(frozen=True, slots=True)
class Reading:
    """What one look at one backend's logs gave.

    Attributes:
        count: signs; where two logs tell of the same thing it counts once.
        examples: a few different ones, as they may be shown.
        read: bytes.
        ends: where each file is to be read on, by its path.
        gaps: what was not read and why.
    """

    count: int = 0
    examples: tuple[str, ...] = ()
    read: int = 0
    ends: Mapping[str, str] = field(default_factory=dict)
    gaps: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Files:
    """Which files the logs are now: `inode:offset` of the last line end by path, and why others
    cannot be read, by their number.

    `tails` holds the ends of them, where they were asked for.
    """

    ends: Mapping[str, str] = field(default_factory=dict)
    missing: Mapping[int, str] = field(default_factory=dict)
    tails: Mapping[str, bytes] = field(default_factory=dict)


def find_files(connection: Connection, logs: Sequence[str], *, tail_bytes: int = 0) -> Files | str:
    """Answers which files these logs are now; a text is why the machine gave no answer."""
    words = [word for log in logs for word in _parts(log)]
    reply = run_script(connection, "app_logs", [str(tail_bytes), *words], limit_ms=LIMIT_MS)
    if reply.outcome is not Outcome.DONE:
        return reply.detail or "no answer"
    ends: dict[str, str] = {}
    missing: dict[int, str] = {}
    tails: dict[str, bytes] = {}
    for number in range(len(logs)):
        inode, _, rest = reply.one(f"is_{number}").partition(" ")
        end, _, path = rest.partition(" ")
        if not path:
            missing[number] = reply.one(f"no_{number}") or "no answer"
            continue
        ends[path] = f"{inode}:{number_of(end)}"
        packed = reply.one(f"tail_{number}").encode("utf-8", "surrogateescape")
        try:
            is_packed = packed and reply.one("packed") == "gzip"
            tails[path] = (
                zlib.decompressobj(_GZIP).decompress(packed, tail_bytes) if is_packed else packed
            )
        except zlib.error as error:
            return f"the answer was not understood: {error}"
    return Files(ends, missing, tails)


def _parts(log: str) -> tuple[str, str]:
    first, mark, last = log.partition(DATE)
    return (first, last) if mark else (log, "/")


def read_app_logs(
    connection: Connection,
    logs: Sequence[str],
    ends: Mapping[str, str] | None,
    signs: Signs,
    *,
    needs_all: bool,
) -> Reading:
    """Read on in a backend's logs, at most `ROUNDS_MAX` chunks of each.

    Args:
        ends: where each file was read to; None: nothing is read, only where they end now.
        needs_all: each log should be there; otherwise one of them is enough.
    """
    found = find_files(connection, logs)
    if isinstance(found, str):
        return Reading(gaps=(f"log not read: {found}",))
    is_enough = bool(found.ends) and not needs_all
    unread = [
        reason
        for reason in found.missing.values()
        # One that is there and may not be read is missed; one that is not there may be no log here.
        if not is_enough or "permission denied" in reason
    ]
    if ends is None:
        return Reading(ends=found.ends, gaps=tuple(unread))
    # What was not there before is new from its beginning on; what was there is read to its end.
    new = {path: f"{end.partition(':')[0]}:0" for path, end in found.ends.items()}
    positions = new | dict(ends)
    if not positions:
        return Reading(gaps=tuple(unread))
    return _read_on(connection, positions, signs, unread)


def _read_on(
    connection: Connection, positions: dict[str, str], signs: Signs, gaps: list[str]
) -> Reading:
    by_file: dict[str, Counter[str]] = {path: Counter() for path in positions}
    read = 0
    for _ in range(ROUNDS_MAX):
        came = read_logs(connection, positions, chunk_bytes=CHUNK_BYTES)
        if isinstance(came, str):
            gaps.append(f"log not read: {came}")
            break
        for path, piece in came.items():
            positions[path] = piece.end or positions[path]
            gaps += piece.gaps
            read += sum(len(line) + 1 for line in piece.lines)
            by_file[path].update(signs.found(piece.lines))
        if not any(piece.has_more for piece in came.values()):
            break
    else:
        gaps.append(f"log not read to its end: more than {ROUNDS_MAX * CHUNK_BYTES:,} bytes came")
    once: Counter[str] = Counter()
    for counts in by_file.values():
        once |= counts
    examples = tuple(dict.fromkeys(shown(sign) for sign in once))[:NAMED_MAX]
    ends = {path: end for path, end in positions.items() if end}
    return Reading(once.total(), examples, read, ends, tuple(dict.fromkeys(gaps)))
