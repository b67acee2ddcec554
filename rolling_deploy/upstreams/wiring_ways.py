"""Lines and locations of nginx's files that must pass to an upstream: which edits make them do so.

An edit is made only where it is clear what a person would write. Everything else is refused with
its place, and with what to write by hand.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from rolling_deploy.settings import BackendSettings, LocationSettings, UpstreamSettings
from rolling_deploy.upstreams.addresses import canonical
from rolling_deploy.upstreams.grammar import Item, Statement
from rolling_deploy.upstreams.routes import Route
from rolling_deploy.upstreams.splice import Change, contents
from rolling_deploy.upstreams.targets import authority

HOST = "proxy_set_header Host $host;"
STATIC = frozenset({"root", "alias", "index", "try_files", "autoindex"})
"""Directives that only say which files a location serves; they mean nothing once it passes on."""
_LITERAL = re.compile(r"(?P<scheme>https?)://(?P<host>[^/?#$]+)(?P<uri>/[^$]*)?", re.IGNORECASE)
_MODIFIER = re.compile(r"^(=|~\*?|\^~)\s*")


@dataclass(frozen=True, slots=True)
class Refusal:
    """Something that stands in the way of an edit.

    Attributes:
        where: the file, with a line where there is one.
    """

    where: str
    detail: str
    next_step: str

    def __str__(self) -> str:
        """Answers all of it in one line, for a check."""
        return f"{self.where}: {self.detail}; {self.next_step}"


@dataclass(frozen=True, slots=True)
class Ways:
    """The edits of some lines, each with its file, what is said of them, and what is refused."""

    changes: tuple[tuple[str, Change], ...] = ()
    missing: tuple[str, ...] = ()
    refused: tuple[Refusal, ...] = ()


@dataclass(frozen=True, slots=True)
class Upstreams:
    """The inventory's upstreams, and which of them an address belongs to."""

    upstreams: Mapping[str, UpstreamSettings]
    backends: Mapping[str, BackendSettings]

    def holding(self, address: str) -> list[str]:
        """Answers the upstreams that a backend's address stands in."""
        wanted = canonical(address)
        return [
            name
            for name in self.upstreams
            if any(
                name in backend.servers and canonical(backend.servers[name].address) == wanted
                for backend in self.backends.values()
            )
        ]


@dataclass(frozen=True, slots=True)
class _Place:
    """A statement with the blocks around it, the outermost first."""

    statement: Statement
    around: tuple[Statement, ...]


def _places(items: Sequence[Item], around: tuple[Statement, ...] = ()) -> Iterator[_Place]:
    for item in items:
        if isinstance(item, Statement):
            yield _Place(item, around)
            yield from _places(item.block or (), (*around, item))


def passes_to(
    routes: Sequence[Route],
    trees: Mapping[str, Sequence[Item]],
    upstreams: Upstreams,
    http: Sequence[Statement],
) -> Ways:
    """Answers the edits that let each `proxy_pass` to one backend's address use the upstream.

    Args:
        routes: the lines that reach a backend, as the preflight finds them.
        http: what stands directly in `http`.
    """
    lines = {(route.file, route.line) for route in routes}
    changes: list[tuple[str, Change]] = []
    missing: list[str] = []
    refused: list[Refusal] = []
    for path, tree in trees.items():
        for place in _places(tree):
            statement = place.statement
            if (path, statement.line) not in lines or statement.name != "proxy_pass":
                continue
            where = f"{path}:{statement.line}"
            name = _one_upstream(statement, upstreams)
            if isinstance(name, Refusal):
                refused.append(Refusal(where, name.detail, name.next_step))
                continue
            if not name:
                continue
            said = _host_is_sent(place, http, name)
            if said is None:
                step = f"write `{HOST}` beside it, with the other headers that it inherits"
                detail = (
                    f"`{statement.text}`: nginx would send `Host: {name}`, which Tomcat refuses"
                )
                refused.append(Refusal(where, detail, step))
                continue
            change = _renamed(statement, name)
            changes.append((path, change))
            missing.append(
                f"`{statement.text}` in `{where}` passes one backend's traffic past the upstream: "
                f"it becomes `proxy_pass {change.new}`{said}"
            )
    return Ways(tuple(changes), tuple(missing), tuple(refused))


def _one_upstream(statement: Statement, upstreams: Upstreams) -> str | Refusal:
    """Answers the upstream to name instead, why none can be, or nothing for somebody else's."""
    arguments = statement.arguments()
    target = arguments[0] if len(arguments) == 1 else ""
    literal = _LITERAL.fullmatch(target)
    if literal is None or "\\" in statement.words[1].raw:
        held = [n for n in upstreams.holding(authority(target)) if "$" not in authority(target)]
        name = held[0] if len(held) == 1 else "UPSTREAM"
        detail = f"`{statement.text}` cannot be told to mean the upstream in every case"
        return Refusal("", detail, f"write `proxy_pass http://{name}` there by hand")
    held = upstreams.holding(authority(target))
    if not held:
        return ""
    if len(held) > 1:
        detail = f"`{statement.text}`: the address belongs to several upstreams: {', '.join(held)}"
        return Refusal("", detail, "write the right one of them there by hand")
    if literal["scheme"].lower() != "http":
        detail = f"`{statement.text}`: with https the upstream's name would be asked for by TLS"
        step = f"write `proxy_pass https://{held[0]}` with `proxy_ssl_name` there by hand"
        return Refusal("", detail, step)
    return held[0]


def _renamed(statement: Statement, name: str) -> Change:
    """Answers the change of the target's host alone; scheme, URI and quotes stay."""
    word = statement.words[1]
    start = word.raw.index("://") + 3
    literal = _LITERAL.fullmatch(word.text)
    end = start + (len(literal["host"]) if literal else 0)
    return Change(word.start, word.start + len(word.raw), word.raw[:start] + name + word.raw[end:])


def _host_is_sent(place: _Place, http: Sequence[Statement], name: str) -> str | None:
    """Answers what to say of the Host header that follows the new name; None: it would be wrong.

    Tomcat answers 400 to a Host with an underscore, which names of upstreams often have.
    """
    if _sends_host(_inherited(place.around, http)):
        return ""
    return None if "_" in name else f" (and nginx sends `Host: {name}` with it)"


def _inherited(around: Sequence[Statement], http: Sequence[Statement]) -> list[Statement]:
    """Answers the headers that hold: nginx takes those of the innermost block that sets any."""
    levels = [_headers(block.block or ()) for block in reversed(around)]
    return next((level for level in [*levels, _headers(http)] if level), [])


def _headers(items: Sequence[Item]) -> list[Statement]:
    return [i for i in items if isinstance(i, Statement) and i.name == "proxy_set_header"]


def _sends_host(headers: Sequence[Statement]) -> bool:
    return any(
        header.arguments()[:1] and header.arguments()[0].lower() == "host" for header in headers
    )


def locations_to(
    locations: Sequence[LocationSettings],
    trees: Mapping[str, Sequence[Item]],
    text_of: Callable[[str], str],
    upstreams: Upstreams,
    http: Sequence[Statement],
    routes: Sequence[Route],
) -> Ways:
    """Answers the edits that make the named locations pass to their upstream.

    Args:
        text_of: the exact text of a file.
        routes: as for `passes_to`, which sees to a location that passes to a backend.
    """
    changes: dict[tuple[str, Change], None] = {}
    missing: list[str] = []
    refused: list[Refusal] = []
    known = {(route.file, route.line) for route in routes}
    for wanted in locations:
        name = wanted.upstream or next(iter(upstreams.upstreams), "")
        found = _find(wanted, trees)
        if isinstance(found, Refusal):
            refused.append(found)
            continue
        path, place = found
        lines = _lines_for(path, place, name, http, known)
        if isinstance(lines, Refusal):
            refused.append(lines)
        elif lines:
            changes[path, contents(text_of(path), place.statement, lines)] = None
            given = " and ".join(f"`{line}`" for line in lines)
            missing.append(
                f"`location {wanted.path}` in `{path}:{place.statement.line}` serves files of its "
                f"own: it becomes {given}" + _why_host(lines)
            )
    return Ways(tuple(changes), tuple(missing), tuple(refused))


def _why_host(lines: Sequence[str]) -> str:
    if HOST not in lines:
        return ""
    return " (the application sees the name that the user asked for, not the upstream's)"


def _find(
    wanted: LocationSettings, trees: Mapping[str, Sequence[Item]]
) -> tuple[str, _Place] | Refusal:
    """Answers the file and the location that the inventory names, or why it is not to be had."""
    file = posixpath.normpath(wanted.file)
    path = next((path for path in trees if posixpath.normpath(path) == file), None)
    if path is None:
        step = "name a file that the running configuration includes, in `locations`"
        return Refusal(wanted.file, "nginx does not read this file", step)
    places = list(_places(trees[path]))
    servers = [p.statement for p in places if _is_block(p.statement, "server")]
    if wanted.server_name:
        servers = [s for s in servers if wanted.server_name in _names_of(s)]
    named = f" named {wanted.server_name}" if wanted.server_name else ""
    if len(servers) != 1:
        step = "say which by `server_name` in `locations`, or write `proxy_pass` there by hand"
        return Refusal(path, f"holds {len(servers)} servers{named}, should hold one", step)
    inside = [
        place
        for place in places
        if _is_block(place.statement, "location")
        and place.around
        and place.around[-1] is servers[0]
        and _spelled(place.statement.arguments()) == _spelled(wanted.path.split())
    ]
    if len(inside) != 1:
        detail = f"the server{named} has {len(inside)} of `location {wanted.path}`, should have one"
        step = "name another `path` in `locations`, or write the location by hand"
        return Refusal(f"{path}:{servers[0].line}", detail, step)
    return path, inside[0]


def _is_block(statement: Statement, name: str) -> bool:
    return statement.name == name and statement.block is not None


def _names_of(server: Statement) -> Collection[str]:
    return {
        name
        for item in server.block or ()
        if isinstance(item, Statement) and item.name == "server_name"
        for name in item.arguments()
    }


def _spelled(words: Sequence[str]) -> str:
    """Answers one spelling for `= /a` and `=/a`."""
    return _MODIFIER.sub(r"\1 ", " ".join(words))


def _lines_for(
    path: str,
    place: _Place,
    name: str,
    http: Sequence[Statement],
    known: Collection[tuple[str, int]],
) -> list[str] | Refusal:
    """Answers what the location must hold; nothing where it passes to the upstream already."""
    location = place.statement
    held = [item for item in location.block or () if isinstance(item, Statement)]
    for statement in held:
        if statement.name == "proxy_pass" and statement.arguments():
            if authority(statement.arguments()[0]).lower() == name.lower():
                return []
            if (path, statement.line) in known:
                return []
            where, detail = f"{path}:{statement.line}", f"`{statement.text}` passes elsewhere"
            return Refusal(where, detail, f"write `proxy_pass http://{name};` there by hand")
    for statement in held:
        if statement.name not in STATIC:
            where = f"{path}:{statement.line}"
            detail = f"`{statement.text}` in `location` is more than which files it serves"
            step = f"write `proxy_pass http://{name};` beside it by hand, or take it out"
            return Refusal(where, detail, step)
    headers = _inherited(place.around, http)
    if headers and not _sends_host(headers):
        detail = "it inherits headers without `Host`, which headers of its own would end"
        step = f"write `proxy_pass http://{name};` and all of its headers there by hand"
        return Refusal(f"{path}:{location.line}", detail, step)
    return [f"proxy_pass http://{name};", *([] if headers else [HOST])]
