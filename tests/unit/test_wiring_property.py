"""Whatever a file looks like: `setup` changes what it says it changes, and no other byte."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rolling_deploy.settings import LocationSettings
from rolling_deploy.upstreams.grammar import Statement, parse, parse_loosely, walk
from rolling_deploy.upstreams.splice import bytes_from, source_of, text_from
from tests.wiring_files import DEFAULT, MAIN, MANAGED, carried_out, planned, wanted

OUTSIDE = "/etc/nginx/tomcat.upstream"

blanks = st.text(st.sampled_from(" \t\n"), max_size=4).map(str.encode)
remarks = st.binary(max_size=8).map(
    lambda data: b"# " + bytes(b for b in data if b not in b"\0\r\n\\") + b".\n"
)
gaps = st.lists(st.one_of(blanks, st.just(b"\r\n"), remarks), max_size=3).map(b"".join)
directives = st.sampled_from(
    [
        b"sendfile on;",
        b"include /etc/nginx/mime.types;",
        b"log_format x '$a; {\"b\"} }' '#';",
        b'add_header X "a; } \\" \xc3\xa9";',
        b"map $a $b { default 1; ~x 2; }",
        b"server { listen 80; location / { return 204; } }",
        b"upstream other { server 10.9.9.9:1; }",
    ]
)


@dataclass(frozen=True)
class Config:
    """A main file in pieces: what precedes the upstream, its block, and what follows."""

    before: bytes
    block: bytes
    after: bytes

    @property
    def text(self) -> bytes:
        return self.before + self.block + self.after


@st.composite
def spaced(draw: st.DrawFn, parts: st.SearchStrategy[bytes]) -> bytes:
    pieces = draw(st.lists(parts, max_size=4))
    return draw(gaps) + b"".join(piece + draw(gaps) for piece in pieces)


@st.composite
def blocks(draw: st.DrawFn) -> bytes:
    servers = [b"server localhost:8080;", b"server 127.0.0.1:8081 ;"]
    options = draw(st.lists(st.sampled_from([b"keepalive 8;", b"least_conn;"]), max_size=2))
    inside = b"".join(draw(gaps) + part for part in [*servers, *dict.fromkeys(options)])
    return (
        b"upstream"
        + draw(st.sampled_from([b" ", b"\n\t"]))
        + b"tomcat {"
        + inside
        + draw(gaps)
        + b"}"
    )


@st.composite
def configs(draw: st.DrawFn, *, is_read: bool) -> Config:
    glob = b"include conf.d/*.conf;" if is_read else b""
    before = draw(gaps) + b"events {}" + draw(gaps) + b"http {" + draw(spaced(directives))
    after = draw(spaced(directives)) + glob + draw(gaps) + b"}" + draw(gaps)
    return Config(before, draw(blocks()), after)


def words(data: bytes) -> list[str]:
    """What crossplane reads, statement by statement, without our finding of places."""
    return [statement.text for statement in walk(parse_loosely(text_from(data)))]


def _with_include_instead(all_words: list[str], block: list[str]) -> list[str]:
    at = all_words.index(block[0])
    assert all_words[at : at + len(block)] == block
    return [*all_words[:at], f"include {OUTSIDE}", *all_words[at + len(block) :]]


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(configs(is_read=False))
def test_an_upstream_gives_way_to_an_include_and_every_other_byte_stays(config: Config) -> None:
    files = {MAIN: config.text}
    want = wanted(file=OUTSIDE)
    after = carried_out(files, planned(files, want))
    assert after[MAIN] == config.before + f"include {OUTSIDE};".encode() + config.after
    assert after[OUTSIDE] == config.block + b"\n"
    assert words(after[MAIN]) == _with_include_instead(words(config.text), words(config.block))
    assert not planned(after, want).edits


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(configs(is_read=True))
def test_an_upstream_that_is_cut_takes_nothing_but_its_own_lines_along(config: Config) -> None:
    files = {MAIN: config.text}
    after = carried_out(files, planned(files, wanted()))
    left = after[MAIN]
    assert after[MANAGED].startswith(config.block)
    whole = config.before + config.after
    gone = len(whole) - len(left)
    start = next((i for i in range(len(left) + 1) if left == whole[:i] + whole[i + gone :]), None)
    assert start is not None
    # Beside the block only blanks and one line end went.
    lost = whole[start : start + gone]
    assert not lost.strip(b" \t\r\n")
    assert lost.count(b"\n") <= 1
    assert sorted(words(left) + words(config.block)) == sorted(words(config.text))
    assert not planned(after, wanted()).edits


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(configs(is_read=False))
def test_an_include_is_added_to_a_block_and_every_other_byte_stays(config: Config) -> None:
    files = {MAIN: config.before + config.after}
    want = wanted(file=OUTSIDE)
    after = carried_out(files, planned(files, want))
    old, new = files[MAIN], after[MAIN]
    added = len(new) - len(old)
    places = [i for i in range(len(old) + 1) if new[:i] + new[i + added :] == old]
    assert places
    assert any(new[i : i + added].strip() == f"include {OUTSIDE};".encode() for i in places)
    assert sorted(words(new)) == sorted([*words(old), f"include {OUTSIDE}"])
    (http,) = [s for s in walk(parse(text_from(new))) if s.name == "http"]
    children = [s.text for s in http.block or () if isinstance(s, Statement)]
    assert f"include {OUTSIDE}" in children
    assert not planned(after, want).edits


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    spaced(st.sampled_from([b"listen 80;", b"error_page 500 /50x.html;", b"server_name a;"])),
    spaced(st.sampled_from([b"root /srv;", b"index a b;", b"try_files $uri =404;"])),
    spaced(st.sampled_from([b"location = /50x.html { root /x; }", b"access_log off;"])),
    st.sampled_from([b"\n", b"\r\n"]),
)
def test_a_location_changes_inside_its_braces_only(
    before: bytes, inside: bytes, after: bytes, line_end: bytes
) -> None:
    head = b"#" + line_end + b"server {" + before + b"location / {"
    tail = b"}" + after + b"}"
    main = b"events {} http { include conf.d/*.conf; }"
    upstream = b"upstream tomcat { server 127.0.0.1:8080; server 127.0.0.1:8081; }"
    files = {MAIN: main, MANAGED: upstream, DEFAULT: head + inside + tail}
    want = wanted(locations=(LocationSettings(DEFAULT),))
    result = carried_out(files, planned(files, want))
    assert {path for path in files if result[path] != files[path]} == {DEFAULT}
    now = result[DEFAULT]
    assert now.startswith(head)
    assert now.endswith(tail)
    held = now[len(head) : len(now) - len(tail)]
    assert words(held) == ["proxy_pass http://tomcat", "proxy_set_header Host $host"]
    assert not planned(result, want).edits


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(configs(is_read=True))
def test_every_statement_is_found_where_it_stands(config: Config) -> None:
    text = text_from(config.text)
    assert bytes_from(text) == config.text
    for statement in walk(parse(text)):
        (alone,) = parse(source_of(text, statement))
        assert alone.text == statement.text
        if statement.block is not None:
            assert text[statement.opening] == "{"
