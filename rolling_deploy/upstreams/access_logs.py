"""Which access logs tell of our upstreams' requests, from what `nginx -T` prints."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from rolling_deploy.upstreams.addresses import host_and_port
from rolling_deploy.upstreams.grammar import Item, Statement, walk
from rolling_deploy.upstreams.log_format import COMBINED, LogFormat
from rolling_deploy.upstreams.routes import Dump, matches, users_of

DEPTH_MAX = 40
"""nginx itself stops at ten levels of includes; blocks are never that deep."""

_ESCAPES = {r"\t": "\t", r"\n": "\n", r"\r": "\r", r"\\": "\\"}

Place: TypeAlias = tuple[str, Statement]
"""A statement, and the file it stands in."""


@dataclass(frozen=True, slots=True)
class AccessLog:
    """One log that can be read.

    Attributes:
        path: absolute.
        gaps: why it may not hold every request, a few words each.
    """

    path: str
    format: LogFormat
    gaps: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Found:
    """The logs of a load balancer; `gaps` says which requests are in none of them, and why."""

    logs: tuple[AccessLog, ...]
    gaps: tuple[str, ...] = ()


def formats_in(dump: Dump) -> dict[str, LogFormat]:
    """Answers every `log_format` of the configuration, by name."""
    formats = {COMBINED.name: COMBINED}
    for items in dump.parsed.values():
        for statement in walk(items or ()):
            words = statement.arguments()
            if statement.name == "log_format" and len(words) > 1:
                has_escape = words[1].startswith("escape=")
                escape = words[1].removeprefix("escape=") if has_escape else "default"
                text = "".join(words[2:] if has_escape else words[1:])
                text = re.sub(r"\\[tnr\\]", lambda found: _ESCAPES[found[0]], text)
                formats[words[0]] = LogFormat(words[0], text, escape)
    return formats


def logs_of(dump: Dump, upstreams: Collection[str], *, prefix: str = "") -> Found:
    """Answers the logs that hold for the places of the configuration that use these upstreams.

    As nginx does it: the innermost block that has any `access_log` decides.

    Args:
        prefix: nginx's directory, for relative paths.
    """
    used = {(r.file, r.line) for routes in users_of(dump, upstreams).values() for r in routes}
    main = next(iter(dump.parsed), "")
    formats = formats_in(dump)
    chosen: dict[str, AccessLog] = {}
    groups: list[set[str]] = []
    gaps: dict[str, None] = {}
    for holding in _deciding(_Level(dump, main), used):
        readable: dict[str, AccessLog] = {}
        reasons = []
        for path, statement in holding:
            one = _log(statement, formats, prefix)
            if isinstance(one, AccessLog):
                readable[one.path] = one
            else:
                reasons.append(f"{path}:{statement.line}: `{statement.text}` {one}")
        groups.append(set(readable))
        if readable and not chosen.keys() & readable.keys():
            best = max(readable.values(), key=_worth)
            chosen[best.path] = best
        elif not readable:
            gaps |= dict.fromkeys(
                reasons or ["a place that uses our upstreams has no `access_log`"]
            )
    if not groups:
        gaps["no place in the configuration uses our upstreams"] = None
    if any(len(group & chosen.keys()) > 1 for group in groups):
        gaps["some requests stand in two of the logs, and are counted twice"] = None
    return Found(tuple(chosen.values()), tuple(gaps))


def _worth(log: AccessLog) -> tuple[bool, bool, bool]:
    """Of several logs that one request is written to, the one that tells most is read."""
    return not log.gaps, log.format.tells_servers, log.format.tells_agent


def log_at(dump: Dump, path: str, format_name: str) -> AccessLog | str:
    """Answers the log that a person named, in the format they named or the configuration gives it.

    A text is the reason why it cannot be read.
    """
    formats = formats_in(dump)
    written = [
        statement
        for items in dump.parsed.values()
        for statement in walk(items or ())
        if statement.name == "access_log" and statement.arguments()[:1] == (path,)
    ]
    if format_name:
        if format_name not in formats:
            return f"the running configuration has no log_format `{format_name}`"
        return _readable(AccessLog(path, formats[format_name]))
    found = _log(written[0], formats, "") if written else AccessLog(path, COMBINED)
    return _readable(found) if isinstance(found, AccessLog) else found


def servers_in(dump: Dump, upstreams: Collection[str]) -> frozenset[str]:
    """Answers the addresses of every server line of these upstreams, as they are written."""
    return frozenset(
        line.arguments()[0]
        for items in dump.parsed.values()
        for statement in walk(items or ())
        if statement.name == "upstream" and set(statement.arguments()) & set(upstreams)
        for line in walk(statement.block or ())
        if line.name == "server" and line.arguments()
    )


def is_by_number(address: str) -> bool:
    """Answers whether nginx writes this address into its log as it stands in the upstream."""
    if address.startswith("unix:"):
        return True
    host, _ = host_and_port(address)
    return re.fullmatch(r"[\d.]+|\[.+\]", host) is not None


@dataclass(frozen=True, slots=True)
class _Level:
    """Statements of one level, those of included files in their place."""

    dump: Dump
    path: str

    def statements(self, items: Sequence[Item], depth: int = 0) -> Iterator[Place]:
        for item in items:
            if not isinstance(item, Statement):
                continue
            if item.name != "include" or not item.arguments() or depth > DEPTH_MAX:
                yield self.path, item
                continue
            main = next(iter(self.dump.files), "")
            pattern = posixpath.join(posixpath.dirname(main), item.arguments()[0])
            for path, inner in self.dump.parsed.items():
                if matches(posixpath.normpath(path), posixpath.normpath(pattern)):
                    yield from _Level(self.dump, path).statements(inner or (), depth + 1)


def _deciding(level: _Level, used: Collection[tuple[str, int]]) -> Iterator[tuple[Place, ...]]:
    items = level.dump.parsed.get(level.path) or ()
    yield from _in_block(level, items, (), used, 0)


def _in_block(
    level: _Level,
    items: Sequence[Item],
    inherited: tuple[Place, ...],
    used: Collection[tuple[str, int]],
    depth: int,
) -> Iterator[tuple[Place, ...]]:
    """Answers, for each use of our upstreams, the `access_log` lines that hold there."""
    if depth > DEPTH_MAX:
        return
    here = list(level.statements(items))
    own = tuple(place for place in here if place[1].name == "access_log")
    holding = own or inherited
    for path, statement in here:
        if statement.block is None and (path, statement.line) in used:
            yield holding
        if statement.block is not None and statement.name != "upstream":
            inner = _Level(level.dump, path)
            yield from _in_block(inner, statement.block, holding, used, depth + 1)


def _log(statement: Statement, formats: Mapping[str, LogFormat], prefix: str) -> AccessLog | str:
    """Answers the log of one line, or why it cannot be read."""
    words = statement.arguments()
    path, options = words[0], words[1:]
    if path == "off":
        return "writes nothing"
    if path.startswith("syslog:"):
        return "goes to syslog"
    if "$" in path:
        return "has a name that differs from request to request"
    if any(word == "gzip" or word.startswith("gzip=") for word in options):
        return "is compressed"
    if not path.startswith("/"):
        if not prefix:
            return "has a relative name; give `losses.access_logs.path`"
        path = posixpath.join(prefix, path)
    name = options[0] if options and "=" not in options[0] else COMBINED.name
    if name not in formats:
        return f"has a format that is not in the configuration: {name}"
    gaps = [f"only requests of `{word}`" for word in options if word.startswith("if=")]
    gaps += [
        f"`{word}`: what nginx has not written yet is missing"
        for word in options
        if word.startswith("buffer=")
    ]
    return _readable(AccessLog(posixpath.normpath(path), formats[name], tuple(gaps)))


def _readable(log: AccessLog) -> AccessLog | str:
    if not log.format.tells_status:
        return f"is written without `$status` (log_format `{log.format.name}`)"
    return log
