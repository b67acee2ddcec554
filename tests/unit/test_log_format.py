"""Lines of an access log, read by the format they were written in; hostile ones too."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rolling_deploy.upstreams.log_format import (
    COMBINED,
    LINE_BYTES_MAX,
    Line,
    LogFormat,
    servers_of,
)

MAIN = LogFormat("main", COMBINED.text + ' "$upstream_addr" $upstream_status $request_time')
JSON = LogFormat(
    "json",
    '{"uri":"$request_uri","status":"$status","up":"$upstream_addr","agent":"$http_user_agent"}',
    "json",
)
FIRST = b'10.0.0.9 - - [22/Nov/2026:17:50:22 +0000] "GET / HTTP/1.1" '


def test_combined_tells_the_status_and_the_agent_but_no_server() -> None:
    line = COMBINED.read(FIRST + b'502 157 "-" "curl/7.88.1"')
    assert line == Line(502, None, "curl/7.88.1")
    assert COMBINED.tells_status
    assert COMBINED.tells_agent
    assert not COMBINED.tells_servers


def test_every_server_that_was_asked_is_told_in_order() -> None:
    line = MAIN.read(FIRST + b'200 5 "-" "x" "10.0.0.1:8080, 10.0.0.2:8080" 502, 200 0.003')
    assert line is not None
    assert line.servers == ("10.0.0.1:8080", "10.0.0.2:8080")


@pytest.mark.parametrize(
    ("text", "servers"),
    [
        ("-", ()),
        ("10.0.0.1:80", ("10.0.0.1:80",)),
        ("[::1]:80, unix:/run/app.sock", ("[::1]:80", "unix:/run/app.sock")),
        ("10.0.0.1:80, shop", ("10.0.0.1:80", "shop")),
        ("10.0.0.1:80 : 10.0.0.2:80", ("10.0.0.1:80", "10.0.0.2:80")),
    ],
)
def test_servers_are_told_apart(text: str, servers: tuple[str, ...]) -> None:
    assert servers_of(text) == servers


@pytest.mark.parametrize(
    "request_line",
    [
        r"GET /\x22 200 5 \x22-\x22 \x22x\x22 HTTP/1.1",
        "GET /?] 500 5 HTTP/1.1",
        r"\x16\x03\x01 500 ",
        "",
    ],
)
def test_what_a_client_sends_never_passes_for_a_status(request_line: str) -> None:
    head = '10.0.0.9 - a] 500 0 [x] [22/Nov/2026:17:50:22 +0000] "'
    raw = f'{head}{request_line}" 404 5 "http://a/ 500" "x 503 -"'
    line = COMBINED.read(raw.encode())
    assert line is not None
    assert line.status == 404


def test_json_escapes_are_followed() -> None:
    values = {"uri": '/a","status":"500', "status": "204", "up": "-", "agent": 'q"\\'}
    raw = json.dumps(values, separators=(",", ":")).encode()
    assert JSON.read(raw) == Line(204, (), 'q\\"\\\\')


def test_a_value_that_is_not_there_is_nothing_at_all_in_json() -> None:
    values = {"uri": "/a", "status": "503", "up": "", "agent": ""}
    raw = json.dumps(values, separators=(",", ":")).encode()
    assert JSON.read(raw) == Line(503, (), "")


@pytest.mark.parametrize(
    "raw",
    [b"", b"nonsense", FIRST, FIRST + b'20 5 "-" "x"', FIRST + b'200 5 "-" "x" more'],
)
def test_a_line_of_another_format_is_no_line(raw: bytes) -> None:
    assert COMBINED.read(raw) is None


def test_a_line_without_end_is_not_tried() -> None:
    assert COMBINED.read(FIRST + b'200 5 "-" "' + b"x" * LINE_BYTES_MAX + b'"') is None


@pytest.mark.timeout(20)
def test_a_hostile_line_takes_no_time() -> None:
    odd = LogFormat("odd", "$http_a $http_b $http_c [$status] $http_d", "none")
    assert odd.read(b"a " * 1_500) is None
    assert COMBINED.read(b"a - " * 8_000) is None


def test_variables_in_braces_and_twice_are_understood() -> None:
    twice = LogFormat("twice", "${status}s $status $upstream_addr|$upstream_addr")
    line = twice.read(b"499s 499 10.0.0.1:80|10.0.0.1:80")
    assert line == Line(499, ("10.0.0.1:80",), None)


def test_a_format_without_a_status_says_so() -> None:
    assert not LogFormat("x", "$remote_addr $upstream_status").tells_status


def escaped(value: str) -> str:
    """Answers a value as nginx writes it with `escape=default`."""
    raw = value.encode()
    out = "".join(f"\\x{b:02X}" if b < 32 or b > 126 or b in b'"\\' else chr(b) for b in raw)
    return out or "-"


@given(
    status=st.integers(100, 599),
    values=st.lists(st.text(max_size=12), min_size=4, max_size=4),
    servers=st.lists(st.sampled_from(["10.0.0.1:80", "[::1]:8080", "shop"]), max_size=3),
)
def test_whatever_was_sent_the_line_says_what_became_of_it(
    status: int, values: list[str], servers: list[str]
) -> None:
    user, request, referer, agent = map(escaped, values)
    addresses = ", ".join(servers) or "-"
    statuses = ", ".join(["502"] * len(servers)) or "-"
    raw = (
        f"10.0.0.9 - {user} [22/Nov/2026:17:50:22 +0000] "
        f'"{request}" {status} 12 "{referer}" "{agent}" "{addresses}" {statuses} 0.001'
    )
    # A user's name stands without quotes, so one that looks like the rest of a line ends it.
    if not re.search(r"\[\d\d/", user):
        assert MAIN.read(raw.encode()) == Line(status, tuple(servers), agent, tuple(servers[:-1]))
