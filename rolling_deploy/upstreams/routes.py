"""What the running configuration says beside the managed file: other ways to a backend, settings.

Works on what `nginx -T` prints. A file that cannot be parsed (a third party's block syntax) is
searched as plain text instead: rather one line too many for a person to look at than one missed.
"""

from __future__ import annotations

import fnmatch
import posixpath
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from rolling_deploy.upstreams.grammar import Item, Statement, SyntaxWrong, parse_loosely, walk
from rolling_deploy.upstreams.reading import LinesToMove, lines_of
from rolling_deploy.upstreams.targets import VALUE_BLOCKS, Backends, value_of, values_in

_HEADER = re.compile(r"^# configuration file (.+):$", re.MULTILINE)
_DEFINES = frozenset({"set", "map", "geo", "split_clients", "perl_set", "js_set", "js_var"})
_DEFINES |= frozenset({"auth_request_set", "geoip2"})


@dataclass(frozen=True, slots=True)
class Dump:
    """The files of a configuration, in the order nginx read them.

    Attributes:
        parsed: their statements; None for a file that could not be parsed.
    """

    files: Mapping[str, str]
    parsed: Mapping[str, tuple[Item, ...] | None] = field(repr=False, compare=False)

    def included_files(self) -> tuple[str, ...]:
        """Answers every file of the configuration, the main one first."""
        return tuple(self.files)

    def unparsed_files(self) -> tuple[str, ...]:
        """Answers the files that were only searched as text."""
        return tuple(path for path, items in self.parsed.items() if items is None)


@dataclass(frozen=True, slots=True)
class Route:
    """A place in the configuration that names a backend's address, or an upstream.

    Attributes:
        address: the address or upstream name that was looked for.
    """

    file: str
    line: int
    text: str
    address: str


@dataclass(frozen=True, slots=True)
class Setting:
    """A directive somewhere in the configuration, with its arguments."""

    file: str
    line: int
    arguments: tuple[str, ...]


def parse_dump(text: str) -> Dump:
    """Answers the files that `nginx -T` printed; what precedes the first header is left out."""
    headers = list(_HEADER.finditer(text))
    files: dict[str, str] = {}
    for index, header in enumerate(headers):
        end = headers[index + 1].start() if index + 1 < len(headers) else len(text)
        files[header[1]] = text[header.end() + 1 : end].removesuffix("\n")
    return Dump(files, {path: _parsed(content) for path, content in files.items()})


def _parsed(text: str) -> tuple[Item, ...] | None:
    try:
        return parse_loosely(text)
    except SyntaxWrong:
        return None


def is_included(dump: Dump, managed: Collection[str]) -> bool:
    """Answers whether the running configuration reads the managed file (under any of its paths)."""
    return bool(_paths(managed) & {posixpath.normpath(path) for path in dump.files})


def would_be_included(dump: Dump, managed: Collection[str]) -> bool:
    """Answers whether an `include` of the configuration matches a file that is not there yet."""
    main = next(iter(dump.files), "")
    patterns = [
        posixpath.normpath(posixpath.join(posixpath.dirname(main), found.arguments[0]))
        for found in setting(dump, "include")
        if found.arguments
    ]
    return any(matches(path, pattern) for path in _paths(managed) for pattern in patterns)


def matches(path: str, pattern: str) -> bool:
    """As glob(3): a wildcard covers no slash, and no dot at a name's beginning."""
    names, parts = path.split("/"), pattern.split("/")
    return len(names) == len(parts) and all(
        fnmatch.fnmatchcase(name, part) and (not name.startswith(".") or part.startswith("."))
        for name, part in zip(names, parts, strict=True)
    )


def other_routes(dump: Dump, managed: Collection[str], addresses: Collection[str]) -> list[Route]:
    """Answers every line outside the managed file over which requests could reach an address.

    Looked at: upstream server lines, every `*_pass` (with what its variables can be), and the
    values of `set`, `map`, `geo` and `split_clients`.

    Args:
        managed: the managed file's path, and where it is a symbolic link or is reached by one,
            the others too.
        addresses: as the inventory writes them. Host names are not resolved: see
            `unclear_routes`.
    """
    backends = Backends(addresses, upstream_names(dump))
    values = values_in(dump.parsed)
    routes: list[Route] = []
    for path, text in _outside(dump, managed):
        items = dump.parsed[path]
        if items is None:
            routes += _in_text(path, text, addresses)
            continue
        for statement, candidates in _targets(items):
            texts = {text for each in candidates for text in values.expanded(each)}
            found = {backends.reached_by(text) for text in {*texts, *map(value_of, candidates)}}
            routes += [
                Route(path, statement.line, statement.text, address)
                for address in sorted(found - {""})
            ]
    return list({(r.file, r.line, r.address): r for r in reversed(routes)}.values())[::-1]


def unclear_routes(dump: Dump, addresses: Collection[str]) -> list[Route]:
    """Answers the targets that may lead to a backend, which only resolving or a request tells.

    The managed file's own lines of other servers are looked at too. The `address` of a route is
    the target as it is written.
    """
    backends = Backends(addresses, upstream_names(dump))
    values = values_in(dump.parsed)
    return [
        Route(path, statement.line, statement.text, target)
        for path, items in dump.parsed.items()
        for statement, target in _destinations(items or ())
        if any(backends.may_be_reached_by(text) for text in values.expanded(target))
    ]


def upstream_names(dump: Dump) -> frozenset[str]:
    """Answers the name of every upstream block, wherever it is defined."""
    return frozenset(
        name
        for items in dump.parsed.values()
        for statement in walk(items or ())
        if statement.name == "upstream" and statement.block is not None
        for name in statement.arguments()[:1]
    )


def _destinations(items: Sequence[Item]) -> Iterator[tuple[Statement, str]]:
    """Answers what requests are sent to directly, without the values of variables."""
    for statement in walk(tuple(items)):
        if _kind(statement) in {"server", "pass"} and statement.block is None:
            for target in statement.arguments()[:1]:
                yield statement, target


def users_of(dump: Dump, names: Collection[str]) -> dict[str, list[Route]]:
    """Answers, for each upstream name, the lines that send requests to it. None: nobody uses it."""
    users: dict[str, list[Route]] = {name: [] for name in names}
    for path, text in dump.files.items():
        items = dump.parsed[path]
        if items is None:
            for route in _in_text(path, text, names):
                users[route.address].append(route)
            continue
        for statement, candidates in _targets(items):
            if statement.name == "server":
                continue
            bare = {value_of(each).lower() for each in candidates}
            hosts = bare | {_host(each) for each in bare}
            for name in names:
                if name.lower() in hosts:
                    users[name].append(Route(path, statement.line, statement.text, name))
    return users


def upstream_elsewhere(
    dump: Dump, names: Collection[str], managed: Collection[str]
) -> list[tuple[str, LinesToMove]]:
    """Answers where else an upstream of ours is defined: the file, and the exact lines to move."""
    return [
        (path, lines_of(statement, text.split("\n")))
        for path, text in _outside(dump, managed)
        for statement in walk(dump.parsed[path] or ())
        if statement.name == "upstream"
        and statement.block is not None
        and any(name in names for name in statement.arguments())
    ]


def setting(dump: Dump, name: str) -> list[Setting]:
    """Answers every place where a directive is set, for instance `worker_shutdown_timeout`."""
    return [
        Setting(path, statement.line, statement.arguments())
        for path, items in dump.parsed.items()
        for statement in walk(items or ())
        if statement.name == name
    ]


def http_setting(dump: Dump, name: str) -> tuple[str, ...]:
    """Answers the arguments of a directive that holds for all of `http`; empty where none does.

    At the top of a file other than the main one it is taken to be included there.
    """
    for index, items in enumerate(dump.parsed.values()):
        statements = [item for item in items or () if isinstance(item, Statement)]
        blocks = [s.block for s in statements if s.name == "http" and s.block is not None]
        holding = [s for block in blocks for s in block if isinstance(s, Statement)]
        holding += statements if index else []
        for statement in holding:
            if statement.name == name:
                return statement.arguments()
    return ()


def defined_variables(dump: Dump) -> frozenset[str]:
    """Answers the variables that the configuration itself defines, without `$`."""
    return frozenset(
        word[1:]
        for items in dump.parsed.values()
        for statement in walk(items or ())
        if statement.name in _DEFINES
        for word in statement.arguments()[:2]
        if re.fullmatch(r"\$\w+", word)
    )


def _paths(managed: Collection[str]) -> set[str]:
    return {posixpath.normpath(path) for path in managed}


def _outside(dump: Dump, managed: Collection[str]) -> Iterable[tuple[str, str]]:
    ours = _paths(managed)
    return ((p, text) for p, text in dump.files.items() if posixpath.normpath(p) not in ours)


def _targets(items: Sequence[Item]) -> Iterable[tuple[Statement, list[str]]]:
    """Answers the statements that name where requests go, each with what it may name."""
    for statement in walk(tuple(items)):
        if statement.name in VALUE_BLOCKS and statement.block is not None:
            for entry in walk(statement.block):
                yield entry, [word.text for word in entry.words]
        elif find := _FINDERS.get(_kind(statement)):
            yield statement, find(statement.arguments())


def _kind(statement: Statement) -> str:
    if statement.name == "server" and statement.block is None:
        return "server"
    return "pass" if statement.name.endswith("_pass") else statement.name


_FINDERS: Mapping[str, Callable[[tuple[str, ...]], list[str]]] = {
    "server": lambda arguments: list(arguments[:1]),
    "pass": lambda arguments: list(arguments[:1]),
    "set": lambda arguments: list(arguments[1:]),
}


def _host(address: str) -> str:
    """Answers the address without the port."""
    host, colon, port = address.rpartition(":")
    return host if colon and port.isdecimal() else address


def _in_text(path: str, text: str, wanted: Collection[str]) -> list[Route]:
    """Answers the lines of a text that hold one of the words, comments left out."""
    return [
        Route(path, number, line.strip(), word)
        for number, line in enumerate(text.split("\n"), 1)
        if not line.lstrip().startswith("#")
        for word in sorted(wanted)
        if re.search(rf"(?<![\w.-]){re.escape(word)}(?![\w.-])", line, re.IGNORECASE)
    ]
