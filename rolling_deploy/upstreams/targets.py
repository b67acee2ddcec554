"""What a target of nginx can lead to: an address, one that a variable gives, or not to be told."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from rolling_deploy.upstreams.addresses import canonical, host_and_port
from rolling_deploy.upstreams.grammar import Item, Statement, walk

VALUE_BLOCKS = frozenset({"map", "geo", "split_clients"})
_SCHEME = re.compile(r"([a-z0-9+.-]+|\$\{?\w+\}?)://", re.IGNORECASE)
_PATH = re.compile(r"[/?]|\$\{?(?:request_uri|uri|document_uri|is_args|args|query_string)\b")
_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")
_DEPTH_MAX = 3
_EXPANSIONS_MAX = 500
"""Of one target; with more the rest counts as not to be told."""


def authority(target: str) -> str:
    """Answers `host:port` of a target, variables included: without scheme and path."""
    scheme = _SCHEME.match(target)
    rest = target[scheme.end() :] if scheme else target
    if rest.startswith("unix:"):
        return rest
    bare = _PATH.split(rest, maxsplit=1)[0]
    is_tls = scheme is not None and scheme[1].lower() in {"https", "grpcs"}
    return f"{bare}:443" if is_tls and bare and not _has_port(bare) else bare


def _has_port(bare: str) -> bool:
    _, colon, port = bare.rpartition(":")
    return bool(colon) and "]" not in port


class Values:
    """What the configuration's own variables can be, as far as literal text gives them."""

    def __init__(self, items: Iterable[Item]) -> None:
        """Take the statements of every file."""
        self._values: dict[str, set[str]] = {}
        self._elsewhere: set[str] = set()
        for statement in walk(tuple(items)):
            self._add(statement)

    def _add(self, statement: Statement) -> None:
        arguments = statement.arguments()
        if statement.name == "set" and len(arguments) > 1:
            self._values.setdefault(arguments[0].lstrip("$"), set()).add(arguments[1])
        elif statement.name in VALUE_BLOCKS and statement.block is not None and arguments:
            name = arguments[-1].lstrip("$")
            for entry in walk(statement.block):
                if entry.name == "include":  # its lines are in a file that says nothing of this
                    self._elsewhere.add(name)
                elif len(entry.words) > 1:
                    self._values.setdefault(name, set()).add(entry.words[-1].text)

    def expanded(self, target: str) -> set[str]:
        """Answers every text the target can be; a `$` stays where it cannot be told."""
        found = {target}
        for _ in range(_DEPTH_MAX):
            following = {each for text in found for each in self._once(text)}
            if following == found or len(following) > _EXPANSIONS_MAX:
                return found
            found = following
        return found

    def _once(self, text: str) -> Iterator[str]:
        for match in _VARIABLE.finditer(text):
            name = match[1] or match[2]
            if name in self._values:
                if name in self._elsewhere:
                    yield text
                for value in self._values[name]:
                    yield text[: match.start()] + value + text[match.end() :]
                return
        yield text


@dataclass(frozen=True, slots=True)
class _Host:
    text: str
    ip: ipaddress.IPv4Address | ipaddress.IPv6Address | None

    @property
    def is_this_machine(self) -> bool:
        return self.ip is not None and (self.ip.is_loopback or self.ip.is_unspecified)


def _host(text: str) -> _Host:
    try:
        return _Host(text, ipaddress.ip_address(text.removeprefix("[").removesuffix("]")))
    except ValueError:
        return _Host(text, None)


class Backends:
    """The addresses of the inventory's backends, for judging where a target leads."""

    def __init__(self, addresses: Collection[str], upstreams: Collection[str]) -> None:
        """Take them as the inventory writes them, and the names of every upstream block."""
        self._wanted = {canonical(address): address for address in addresses}
        self._places = [(_host(h), p) for h, p in map(host_and_port, addresses)]
        self._upstreams = {name.lower() for name in upstreams}

    def reached_by(self, target: str) -> str:
        """Answers the backend's address that the target surely is, or nothing."""
        return self._wanted.get(canonical(authority(target)), "")

    def may_be_reached_by(self, target: str) -> bool:
        """Answers whether only a resolver, the request or the machine itself could tell.

        Names are not resolved: a name, or a variable in the host, on a backend's port may be a
        backend, and so may a loopback address where nginx and the backend share a machine.
        """
        bare = authority(target)
        if not bare or bare.startswith("unix:") or self.reached_by(target):
            return False
        if "$" in bare:
            return self._may_be_variable(bare)
        text, port = host_and_port(bare)
        host = _host(text)
        here = [place for place, its_port in self._places if port in {"", its_port}]
        if not here or text in self._upstreams or bare.lower() in self._upstreams:
            return False
        if host.ip is None or host.is_this_machine:
            return True
        return any(place.ip is None for place in here)

    def _may_be_variable(self, bare: str) -> bool:
        text, colon, port = bare.rpartition(":")
        if not colon or not port.isdecimal():
            host = _host(text if colon else bare)
            return host.ip is None or any(place.text == host.text for place, _ in self._places)
        return any(its_port == str(int(port)) for _, its_port in self._places)


def value_of(target: str) -> str:
    """Answers `host:port` of a value in a `set` or `map`: what stands before any variable."""
    return authority(target).partition("$")[0]


def values_in(parsed: Mapping[str, tuple[Item, ...] | None]) -> Values:
    """Answers the variables' values over all files that could be parsed."""
    return Values(item for items in parsed.values() for item in items or ())
