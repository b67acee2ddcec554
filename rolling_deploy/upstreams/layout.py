"""What an upstream file says, as plain values that can be frozen in a rollout's record.

A layout says how the file is when nothing is taken out by a rollout: what we mark on a line is
written beside it in a comment (`mark_out`, `mark_alone`) and taken away again by `restored`, so
that a file can be understood without any record.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

_MARK = re.compile(r"\s*# rolling-deploy: (out|alone, (no max_fails|max_fails=\S+) before)$")
_WORD = re.compile(r"[^\s\x00-\x20\x7f;{}#\"'\\$]+")
_METHODS = frozenset({"ip_hash", "hash", "sticky", "random", "least_conn", "least_time"})


def is_plain_word(text: str) -> bool:
    """Answers whether nginx reads the text as one word that needs no quotes and means itself."""
    return _WORD.fullmatch(text) is not None


def key_of(parameter: str) -> str:
    """Answers the name of a server parameter: `weight` of `weight=2`, `backup` of `backup`."""
    return parameter.partition("=")[0]


@dataclass(frozen=True, slots=True)
class Comment:
    """A comment on a line of its own, with its `#`; an empty text is an empty line."""

    text: str


@dataclass(frozen=True, slots=True)
class Directive:
    """Any other directive of the block, as it is written, without the semicolon."""

    text: str
    comment: str = ""

    @property
    def name(self) -> str:
        """Answers the directive's name."""
        return self.text.split(" ", 1)[0]


@dataclass(frozen=True, slots=True)
class ServerLine:
    """One `server` line.

    Attributes:
        address: as it stands in the file.
        parameters: in order, without `down`.
        comment: the one at the end of the line, with its `#`.
        backend: whose line it is; empty for a server that the inventory does not know.
    """

    address: str
    parameters: tuple[str, ...] = ()
    is_down: bool = False
    comment: str = ""
    backend: str = ""

    @property
    def is_backup(self) -> bool:
        """Answers whether it is asked only when the others cannot be."""
        return "backup" in self.parameters


Entry = Comment | Directive | ServerLine


@dataclass(frozen=True, slots=True)
class UpstreamLayout:
    """One upstream block.

    Attributes:
        before: comments and empty lines above it.
    """

    name: str
    entries: tuple[Entry, ...]
    before: tuple[Comment, ...] = ()

    @property
    def servers(self) -> tuple[ServerLine, ...]:
        """Answers the server lines in order."""
        return tuple(entry for entry in self.entries if isinstance(entry, ServerLine))

    @property
    def methods(self) -> tuple[str, ...]:
        """Answers the balancing directives of the block; none means round robin."""
        names = (entry.name for entry in self.entries if isinstance(entry, Directive))
        return tuple(name for name in names if name in _METHODS)

    def with_servers(self, servers: Sequence[ServerLine]) -> UpstreamLayout:
        """Answers the same block with its server lines replaced one by one."""
        following = iter(servers)
        entries = tuple(next(following) if isinstance(e, ServerLine) else e for e in self.entries)
        return replace(self, entries=entries)


@dataclass(frozen=True, slots=True)
class Layout:
    """A whole file: its upstream blocks, and the comments after the last one."""

    upstreams: tuple[UpstreamLayout, ...]
    after: tuple[Comment, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Answers plain values for the record."""
        return {
            "upstreams": [
                {
                    "name": upstream.name,
                    "before": [comment.text for comment in upstream.before],
                    "entries": [_entry_to_json(entry) for entry in upstream.entries],
                }
                for upstream in self.upstreams
            ],
            "after": [comment.text for comment in self.after],
        }

    @staticmethod
    def from_json(plain: Mapping[str, Any]) -> Layout:
        """Answers the layout that `to_json` wrote.

        Raises:
            KeyError, TypeError: it is something else.
        """
        return Layout(
            tuple(
                UpstreamLayout(
                    upstream["name"],
                    tuple(_entry_from_json(entry) for entry in upstream["entries"]),
                    tuple(Comment(text) for text in upstream["before"]),
                )
                for upstream in plain["upstreams"]
            ),
            tuple(Comment(text) for text in plain["after"]),
        )


def _entry_to_json(entry: Entry) -> dict[str, Any]:
    match entry:
        case Comment():
            return {"comment": entry.text}
        case Directive():
            return {"directive": entry.text, "comment": entry.comment}
        case ServerLine():
            return {
                "server": entry.address,
                "parameters": list(entry.parameters),
                "down": entry.is_down,
                "comment": entry.comment,
                "backend": entry.backend,
            }


def _entry_from_json(plain: Mapping[str, Any]) -> Entry:
    if "server" in plain:
        return ServerLine(
            plain["server"],
            tuple(plain["parameters"]),
            plain["down"],
            plain["comment"],
            plain["backend"],
        )
    if "directive" in plain:
        return Directive(plain["directive"], plain["comment"])
    return Comment(plain["comment"])


def text_of(entry: Entry) -> str:
    """Answers the entry as one line of a configuration file, without indentation."""
    if isinstance(entry, Comment):
        return entry.text
    if isinstance(entry, Directive):
        text = f"{entry.text};"
    else:
        flags = ("down",) if entry.is_down else ()
        text = " ".join(("server", entry.address, *entry.parameters, *flags)) + ";"
    return f"{text} {entry.comment}" if entry.comment else text


def mark_out(line: ServerLine) -> ServerLine:
    """Answers the line taken out: the same, with `down`. One that is down already stays as it is.

    The comment tells our `down` from a person's, which must stay when ours goes.
    """
    if line.is_down:
        return line
    return replace(line, is_down=True, comment=f"{line.comment} # rolling-deploy: out".lstrip())


def mark_alone(line: ServerLine) -> ServerLine:
    """Answers the line of the only server left: nginx must never consider it unavailable.

    With a second line in the block, even one that is down, nginx gives up the rule that a single
    server is always tried: one failure would then close the site for `fail_timeout` (10 s).
    """
    own = [p for p in line.parameters if key_of(p) == "max_fails"]
    if own == ["max_fails=0"]:
        return line
    if own:
        at = line.parameters.index(own[0])
        parameters = (*line.parameters[:at], "max_fails=0", *line.parameters[at + 1 :])
    else:
        parameters = (*line.parameters, "max_fails=0")
    mark = f"# rolling-deploy: alone, {own[0] if own else 'no max_fails'} before"
    return replace(line, parameters=parameters, comment=f"{line.comment} {mark}".lstrip())


def restored(line: ServerLine) -> ServerLine:
    """Answers the line without what `mark_out` or `mark_alone` did to it."""
    mark = _MARK.search(line.comment)
    if mark is None:
        return line
    comment = line.comment[: mark.start()]
    if mark[1] == "out":
        return replace(line, is_down=False, comment=comment)
    own = () if mark[2] == "no max_fails" else (mark[2],)
    parameters: tuple[str, ...] = ()
    for parameter in line.parameters:
        parameters += own if parameter == "max_fails=0" else (parameter,)
    return replace(line, parameters=parameters, comment=comment)
