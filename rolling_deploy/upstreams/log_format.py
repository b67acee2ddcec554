"""Reading lines of an access log by the `log_format` they were written in.

A line is taken only if the whole of it fits: what a client sends stands in it too, and must not
pass for a status. nginx escapes it (`escape=default` and `json`), so a value in quotes ends at
the next quote. A value that holds what stands behind it in the format makes its line unreadable,
which is said.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

LINE_BYTES_MAX = 65_536
"""Four header buffers of 8 KB and escapes fit; a longer line is not tried."""

_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")
_NUMBER = r"\d+|-"
_LIST = r"[-\d.,: ]+"
_KNOWN: Mapping[str, str] = {
    "status": r"\d{3}",
    "upstream_status": _LIST,
    "upstream_response_time": _LIST,
    "upstream_connect_time": _LIST,
    "upstream_header_time": _LIST,
    "upstream_response_length": _LIST,
    "upstream_bytes_received": _LIST,
    "upstream_bytes_sent": _LIST,
    "upstream_addr": r"-|[^\s\"',]+(?:(?:, | : )[^\s\"',]+)*",
    "time_local": r"\d\d/\w{3}/\d{4}:[\d:]{8} [-+]\d{4}",
    "time_iso8601": r"[-+:T\d]+",
    "msec": r"[\d.]+",
    "request_time": r"[\d.]+|-",
    "body_bytes_sent": _NUMBER,
    "bytes_sent": _NUMBER,
    "request_length": _NUMBER,
    "connection": _NUMBER,
    "connection_requests": _NUMBER,
    "pid": _NUMBER,
    "remote_addr": r"\S+",
    "remote_port": _NUMBER,
    "server_port": _NUMBER,
    "request_id": r"[0-9a-f]*|-",
    "scheme": r"\w*",
    "pipe": r"[p.]",
}
_WANTED = ("status", "upstream_addr", "http_user_agent")


@dataclass(frozen=True, slots=True)
class Line:
    """What one line says.

    Attributes:
        servers: every server that nginx asked for this request, in order; None where the format
            does not tell.
        retried: the servers whose try was followed by another, in order; those before an internal
            redirect are not among them.
        agent: the client's name of itself; None where the format does not tell.
    """

    status: int
    servers: tuple[str, ...] | None
    agent: str | None
    retried: tuple[str, ...] = ()


@dataclass(frozen=True)
class LogFormat:
    """One `log_format`: its name, its text and how values are escaped in it."""

    name: str
    text: str
    escape: str = "default"

    @property
    def variables(self) -> frozenset[str]:
        """Answers the variables in it, without `$`."""
        return frozenset(one or other for one, other in _VARIABLE.findall(self.text))

    @property
    def tells_status(self) -> bool:
        """Answers whether anything can be counted from it."""
        return "status" in self.variables

    @property
    def tells_servers(self) -> bool:
        """Answers whether retries and backends can be told."""
        return "upstream_addr" in self.variables

    @property
    def tells_agent(self) -> bool:
        """Answers whether one client can be told from the others."""
        return "http_user_agent" in self.variables

    def read(self, line: bytes) -> Line | None:
        """Answers what a line says, without its line end; None when it is not of this format."""
        if len(line) > LINE_BYTES_MAX:
            return None
        found = self._pattern.fullmatch(line.decode("utf-8", "surrogateescape"))
        if found is None:
            return None
        values = found.groupdict()
        servers = values.get("upstream_addr")
        told = None if servers is None else servers_of(servers)
        retried = retried_in(servers or "")
        return Line(int(values["status"]), told, values.get("http_user_agent"), retried)

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        return re.compile("".join(self._parts()), re.DOTALL)

    def _parts(self) -> Iterator[str]:
        at, named = 0, set[str]()
        for found in _VARIABLE.finditer(self.text):
            yield re.escape(self.text[at : found.start()])
            name = found[1] or found[2]
            value = self._value(name, self.text[: found.start()], self.text[found.end() :])
            is_wanted = name in _WANTED and name not in named
            named.add(name)
            yield f"(?P<{name}>{value})" if is_wanted else f"(?:{value})"
            at = found.end()
        yield re.escape(self.text[at:])

    def _value(self, name: str, before: str, after: str) -> str:
        if name in _KNOWN:
            # What has no value is `-`, but nothing at all with other escapes than the default.
            return _KNOWN[name] if name == "status" else f"(?:{_KNOWN[name]})?"
        if name == "remote_user":
            return r".*?"  # may hold blanks, and stands without quotes in `combined`
        following = after[:1]
        is_quoted = following == '"' and before.count('"') % 2 == 1
        if is_quoted and self.escape == "json":
            return r"(?:[^\"\\]|\\.)*"
        # Up to what follows in the format, and no further: so no line takes long, however odd.
        if not following:
            return r".*"
        return r"\S*" if following == "$" else rf"[^{re.escape(following)}]*"


COMBINED = LogFormat(
    "combined",
    '$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent '
    '"$http_referer" "$http_user_agent"',
)
"""The one that nginx knows by itself."""


def servers_of(text: str) -> tuple[str, ...]:
    """Answers the servers in an `$upstream_addr`.

    A comma stands between tries, a colon between blanks where nginx began anew (an internal
    redirect); `-` is none.
    """
    return tuple(each for each in re.split(r", | : ", text) if each not in {"", "-"})


def retried_in(text: str) -> tuple[str, ...]:
    """Answers the servers of an `$upstream_addr` whose try was followed by another.

    So many tries were made beyond the first. Beginning anew after an internal redirect is none.
    """
    return tuple(each for group in text.split(" : ") for each in group.split(", ")[:-1])
