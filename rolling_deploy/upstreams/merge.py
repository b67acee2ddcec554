"""Bringing a file on a load balancer and the inventory together, and saying where they differ.

The file is the truth for order, comments, other directives, servers the inventory does not know
and a `down` set by a person. The inventory is the truth for the parameters it declares.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from rolling_deploy.errors import InventoryWrong
from rolling_deploy.settings import BackendSettings, ServerSettings, UpstreamSettings
from rolling_deploy.upstreams.addresses import Owners, canonical
from rolling_deploy.upstreams.layout import (
    Comment,
    Entry,
    Layout,
    ServerLine,
    UpstreamLayout,
    is_plain_word,
    key_of,
)
from rolling_deploy.upstreams.reading import layout_from_settings

_COMMENTED_OUT = re.compile(r"#+\s*server\s+(\S+?)(?:\s[^;]*)?;")


@dataclass(frozen=True, slots=True)
class Foreign:
    """A server of the file that is no backend of the inventory. It is kept as it is."""

    upstream: str
    address: str


@dataclass(frozen=True, slots=True)
class Missing:
    """A backend that the file has no line for. One is added.

    Attributes:
        is_commented_out: the line is there as a comment: a person took it out, so what is added
            is `down`.
    """

    upstream: str
    backend: str
    address: str
    is_commented_out: bool = False


@dataclass(frozen=True, slots=True)
class Undeclared:
    """A backend's line in an upstream that the inventory does not give it. Taken out with it."""

    upstream: str
    backend: str
    address: str


@dataclass(frozen=True, slots=True)
class ParameterDifference:
    """A parameter that the inventory declares otherwise than the file; the declared one is used.

    Attributes:
        in_file: empty when the file's line has none of that name.
    """

    upstream: str
    backend: str
    address: str
    in_file: str
    declared: str


@dataclass(frozen=True, slots=True)
class Merged:
    """The upstreams as they will be with nothing taken out, and how that differs from the file.

    Attributes:
        layout: every line that belongs to a backend names it.
        added_upstreams: blocks of the inventory that the file does not have.
        foreign_upstreams: blocks of the file that the inventory does not have. They are kept.
        parked: backends whose every line in the file is `down`.
        partly_parked: backends with some lines `down` and some not.
    """

    layout: Layout
    foreign: tuple[Foreign, ...] = ()
    missing: tuple[Missing, ...] = ()
    undeclared: tuple[Undeclared, ...] = ()
    differences: tuple[ParameterDifference, ...] = ()
    added_upstreams: tuple[str, ...] = ()
    foreign_upstreams: tuple[str, ...] = ()
    parked: frozenset[str] = frozenset()
    partly_parked: frozenset[str] = frozenset()


def addresses_of(backends: Mapping[str, BackendSettings]) -> dict[str, frozenset[str]]:
    """Answers every address of each backend, over all upstreams."""
    return {
        name: frozenset(server.address for server in backend.servers.values())
        for name, backend in backends.items()
    }


def merge(
    layout: Layout,
    upstreams: Mapping[str, UpstreamSettings],
    backends: Mapping[str, BackendSettings],
) -> Merged:
    """Answers the file with the inventory applied, and every difference between the two.

    Raises:
        InventoryWrong: an address or a parameter of the inventory is none for nginx, or an
            address belongs to two backends.
    """
    _refuse_hostile(backends)
    owned = _with_owners(layout, Owners(addresses_of(backends)))
    parked, partly_parked = _parked(owned)
    here = {upstream.name for upstream in owned.upstreams}
    added = {name: settings for name, settings in upstreams.items() if name not in here}
    blocks = (*owned.upstreams, *layout_from_settings(added).upstreams)
    differences: list[ParameterDifference] = []
    missing: list[Missing] = []
    undeclared: list[Undeclared] = []
    result: list[UpstreamLayout] = []
    for block in blocks:
        declared = {
            b.name: b.servers[block.name] for b in backends.values() if block.name in b.servers
        }
        undeclared += _undeclared(block, declared)
        lacking = _lacking(block, declared)
        missing += lacking
        applied = _with_parameters(block, declared, differences)
        result.append(_with_missing(applied, lacking, declared, parked))
    return Merged(
        Layout(tuple(result), layout.after),
        foreign=_foreign(owned),
        missing=tuple(missing),
        undeclared=tuple(undeclared),
        differences=tuple(differences),
        added_upstreams=tuple(added),
        foreign_upstreams=tuple(name for u in owned.upstreams if (name := u.name) not in upstreams),
        parked=parked,
        partly_parked=partly_parked,
    )


def _refuse_hostile(backends: Mapping[str, BackendSettings]) -> None:
    problems = [
        f"backends: {backend.name}: {upstream}: {problem}"
        for backend in backends.values()
        for upstream, server in backend.servers.items()
        for problem in _hostile(server)
    ]
    if problems:
        raise InventoryWrong(
            "a server line cannot be written as the inventory says", problems=problems
        )


def _hostile(server: ServerSettings) -> list[str]:
    problems = []
    if not is_plain_word(server.address):
        problems.append(f"`{server.address!a}` is not an address that nginx takes")
    for parameter in server.parameters:
        if not is_plain_word(parameter):
            problems.append(f"`{parameter!a}` is not a parameter that nginx takes")
        elif key_of(parameter) == "down":
            problems.append("`down` is not declared: park the backend in the file, or leave it out")
    return problems


def _with_owners(layout: Layout, owners: Owners) -> Layout:
    return replace(
        layout,
        upstreams=tuple(
            block.with_servers([replace(s, backend=owners.of(s.address)) for s in block.servers])
            for block in layout.upstreams
        ),
    )


def _parked(layout: Layout) -> tuple[frozenset[str], frozenset[str]]:
    lines = [line for upstream in layout.upstreams for line in upstream.servers if line.backend]
    down = {line.backend for line in lines if line.is_down}
    up = {line.backend for line in lines if not line.is_down}
    return frozenset(down - up), frozenset(down & up)


def _foreign(layout: Layout) -> tuple[Foreign, ...]:
    return tuple(
        Foreign(upstream.name, line.address)
        for upstream in layout.upstreams
        for line in upstream.servers
        if not line.backend
    )


def _undeclared(block: UpstreamLayout, declared: Mapping[str, ServerSettings]) -> list[Undeclared]:
    return [
        Undeclared(block.name, line.backend, line.address)
        for line in block.servers
        if line.backend and not _is_declared(line, declared)
    ]


def _is_declared(line: ServerLine, declared: Mapping[str, ServerSettings]) -> bool:
    server = declared.get(line.backend)
    return server is not None and canonical(server.address) == canonical(line.address)


def _lacking(block: UpstreamLayout, declared: Mapping[str, ServerSettings]) -> list[Missing]:
    here = {line.backend for line in block.servers if _is_declared(line, declared)}
    commented_out = {
        canonical(match[1])
        for entry in block.entries
        if isinstance(entry, Comment) and (match := _COMMENTED_OUT.match(entry.text))
    }
    return [
        Missing(block.name, name, server.address, canonical(server.address) in commented_out)
        for name, server in declared.items()
        if name not in here
    ]


def _with_parameters(
    block: UpstreamLayout,
    declared: Mapping[str, ServerSettings],
    differences: list[ParameterDifference],
) -> UpstreamLayout:
    lines = []
    for line in block.servers:
        wanted = declared[line.backend].parameters if _is_declared(line, declared) else ()
        parameters = list(line.parameters)
        for parameter in wanted:
            in_file = _put(parameters, parameter)
            if in_file != parameter:
                differences.append(
                    ParameterDifference(block.name, line.backend, line.address, in_file, parameter)
                )
        lines.append(replace(line, parameters=tuple(parameters)))
    return block.with_servers(lines)


def _put(parameters: list[str], wanted: str) -> str:
    """Put a parameter in the place of the one of the same name, and answer that one."""
    for index, parameter in enumerate(parameters):
        if key_of(parameter) == key_of(wanted):
            parameters[index] = wanted
            return parameter
    parameters.append(wanted)
    return ""


def _with_missing(
    block: UpstreamLayout,
    lacking: Sequence[Missing],
    declared: Mapping[str, ServerSettings],
    parked: frozenset[str],
) -> UpstreamLayout:
    """Answers the block with the missing lines after its last server line.

    A backend that a person keeps out elsewhere, or took out here, gets its line with `down`.
    """
    lines = [
        ServerLine(
            part.address,
            declared[part.backend].parameters,
            is_down=part.is_commented_out or part.backend in parked,
            backend=part.backend,
        )
        for part in lacking
    ]
    return replace(block, entries=_inserted(block.entries, lines))


def _inserted(entries: Sequence[Entry], lines: Sequence[ServerLine]) -> tuple[Entry, ...]:
    places = [index for index, entry in enumerate(entries) if isinstance(entry, ServerLine)]
    at = places[-1] + 1 if places else len(entries)
    return (*entries[:at], *lines, *entries[at:])
