"""What must hold for every file, every set taken out and every value."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from rolling_deploy.errors import InventoryWrong, TemplateWrong
from rolling_deploy.settings import (
    BackendSettings,
    HealthSettings,
    ReleaseSettings,
    ServerSettings,
    UpstreamSettings,
    WarmUpSettings,
)
from rolling_deploy.upstreams.layout import (
    Comment,
    Directive,
    Layout,
    ServerLine,
    UpstreamLayout,
    text_of,
)
from rolling_deploy.upstreams.merge import addresses_of, merge
from rolling_deploy.upstreams.reading import FileNotUnderstood, NotOnlyUpstreams, read_layout
from rolling_deploy.upstreams.render import BackendFacts, Frozen, Renderings
from rolling_deploy.upstreams.stamp import inspect
from rolling_deploy.upstreams.takeout import NothingLive, take_out

TEMPLATE = (Path(__file__).parents[2] / "templates" / "upstream.conf.j2").read_text()
NAMES = ("a", "b", "c", "d")

comment_texts = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Zl", "Zp"]), max_size=12
).map(lambda text: ("# " + text).rstrip())
comments = st.builds(Comment, comment_texts)
options = st.sampled_from(
    ["keepalive 16", "least_conn", 'hash "$arg_x;{" consistent', "zone z 64k"]
)
parameters = st.lists(
    st.sampled_from(["weight=2", "max_fails=3", "max_fails=0", "fail_timeout=3s", "backup"]),
    max_size=3,
    unique_by=lambda parameter: parameter.partition("=")[0],
).map(tuple)
addresses = st.sampled_from(
    [*(f"{name}:1" for name in NAMES), "x:1", "unix:/run/y.sock", "[::1]:9"]
)
server_lines = st.builds(
    ServerLine, addresses, parameters, st.booleans(), st.one_of(st.just(""), comment_texts)
)
entries = st.one_of(server_lines, server_lines, comments, st.builds(Directive, options))


@st.composite
def layouts(draw: st.DrawFn) -> Layout:
    blocks = draw(st.lists(st.lists(entries, min_size=1, max_size=7), min_size=1, max_size=3))
    return Layout(
        tuple(
            UpstreamLayout(f"u{number}", tuple(block), tuple(draw(st.lists(comments, max_size=2))))
            for number, block in enumerate(blocks)
        ),
        tuple(draw(st.lists(comments, max_size=2))),
    )


def as_text(layout: Layout) -> str:
    """The layout as a person might have written it."""
    lines: list[str] = []
    for upstream in layout.upstreams:
        lines += [comment.text for comment in upstream.before]
        lines += [f"upstream {upstream.name}\t{{"]
        lines += [f"\t {text_of(entry)}" for entry in upstream.entries]
        lines += ["}"]
    return "\n".join([*lines, *(comment.text for comment in layout.after)]) + "\n"


def backend(name: str, upstreams: list[str], declared: tuple[str, ...]) -> BackendSettings:
    return BackendSettings(
        name,
        name,
        {upstream: ServerSettings(f"{name}:1", declared) for upstream in upstreams},
        f"{name}:1",
        ReleaseSettings("a", "/r", "/s"),
        HealthSettings(),
        WarmUpSettings(),
    )


@st.composite
def cases(draw: st.DrawFn) -> tuple[Layout, dict[str, BackendSettings]]:
    layout = draw(layouts())
    names = [upstream.name for upstream in layout.upstreams]
    members = st.lists(st.sampled_from(names), min_size=1, unique=True)
    return layout, {
        name: backend(name, draw(members), draw(parameters))
        for name in draw(st.lists(st.sampled_from(NAMES), min_size=1, unique=True))
    }


def prepared(case: tuple[Layout, dict[str, BackendSettings]]) -> tuple[Layout, Frozen]:
    layout, backends = case
    upstreams = {name: UpstreamSettings(name) for b in backends.values() for name in b.servers}
    merged = merge(read_layout(as_text(layout)), upstreams, backends).layout
    facts = {name: BackendFacts(found) for name, found in addresses_of(backends).items()}
    return merged, Frozen("shop", TEMPLATE, "t", {"lb": merged}, {"lb": 18999}, facts)


def anonymous(layout: Layout) -> Layout:
    """The layout without the names of the backends, which no file holds."""
    return replace(
        layout,
        upstreams=tuple(
            upstream.with_servers([replace(line, backend="") for line in upstream.servers])
            for upstream in layout.upstreams
        ),
    )


@given(layouts())
def test_reading_gives_back_what_was_written(layout: Layout) -> None:
    assert read_layout(as_text(layout), as_it_is=True) == layout
    assert Layout.from_json(json.loads(json.dumps(layout.to_json()))) == layout


@settings(deadline=None)
@given(cases(), st.sets(st.sampled_from(NAMES)))
def test_merging_rendering_and_reading_keeps_everything(
    case: tuple[Layout, dict[str, BackendSettings]], out: set[str]
) -> None:
    merged, inputs = prepared(case)
    try:
        text = Renderings(inputs).text("lb", frozenset(out), "r", 1, "g")
    except NothingLive:
        return
    assert read_layout(text) == anonymous(merged)
    addresses = addresses_of(case[1])
    seen = inspect(text, "shop", addresses)
    assert seen.is_intact
    assert out & addresses.keys() <= seen.down


@settings(deadline=None)
@given(cases(), st.lists(st.sets(st.sampled_from(NAMES)), max_size=4))
def test_taking_out_and_putting_back_gives_the_identical_body(
    case: tuple[Layout, dict[str, BackendSettings]], path: list[set[str]]
) -> None:
    merged, inputs = prepared(case)
    try:
        body = Renderings(inputs).body_digest("lb", frozenset())
    except NothingLive:
        return
    backends = case[1]
    upstreams = {name: UpstreamSettings(name) for b in backends.values() for name in b.servers}
    now = merged
    for out in path:
        try:
            text = Renderings(replace(inputs, layouts={"lb": now})).text(
                "lb", frozenset(out), "r", 1, "g"
            )
        except NothingLive:
            continue
        # Even without any record: the next layout comes from the file in the middle of it.
        now = merge(read_layout(text), upstreams, backends).layout
        assert now == merged
    assert Renderings(replace(inputs, layouts={"lb": now})).body_digest("lb", frozenset()) == body


@given(cases(), st.sets(st.sampled_from(NAMES)))
def test_no_upstream_of_ours_is_ever_all_down(
    case: tuple[Layout, dict[str, BackendSettings]], out: set[str]
) -> None:
    merged, _ = prepared(case)
    try:
        taken = take_out(merged, frozenset(out))
    except NothingLive:
        return
    for before, upstream in zip(merged.upstreams, taken.upstreams, strict=True):
        if any(line.backend for line in upstream.servers):
            assert any(not line.is_down for line in upstream.servers)
        assert len(before.servers) == len(upstream.servers)
        live = [line for line in upstream.servers if not line.is_down]
        ordinary = [line for line in live if not line.is_backup]
        if before != upstream and len(ordinary) == 1:
            assert "max_fails=0" in ordinary[0].parameters


hostile_texts = st.lists(
    st.sampled_from([*"ab1 \t\n\r;{}#\"'\\$%=:-", "${", "server x:1", "\u2028", "\u00a0"]),
    max_size=14,
).map("".join)


@settings(max_examples=300, deadline=None)
@given(hostile_texts, st.sampled_from(["{{ variables.v }}", "{{ variables.v | quoted }}"]))
def test_a_hostile_variable_never_smuggles_a_directive(value: str, printed: str) -> None:
    layout = read_layout("upstream s { server a:1; server x:1; }")
    template = TEMPLATE.replace("{% for entry", f"hash {printed} consistent;\n{{% for entry", 1)
    inputs = Frozen("shop", template, "t", {"lb": layout}, {"lb": 1}, {}, {"v": value})
    try:
        text = Renderings(inputs).text("lb", frozenset(), "r", 1, "g")
    except TemplateWrong:
        return
    (upstream,) = read_layout(text).upstreams
    directives = [entry for entry in upstream.entries if isinstance(entry, Directive)]
    assert len(directives) == 1
    assert directives[0].name == "hash"
    assert upstream.servers == layout.upstreams[0].servers


@settings(deadline=None)
@given(hostile_texts, hostile_texts)
def test_a_hostile_server_parameter_is_one_word_or_refused(address: str, parameter: str) -> None:
    one = BackendSettings(
        "a",
        "a",
        {"s": ServerSettings(address, (parameter,))},
        "a:1",
        ReleaseSettings("a", "/r", "/s"),
        HealthSettings(),
        WarmUpSettings(),
    )
    try:
        merged = merge(
            read_layout("upstream s { server x:1; }"), {"s": UpstreamSettings("s")}, {"a": one}
        )
    except InventoryWrong:
        return
    inputs = Frozen("shop", TEMPLATE, "t", {"lb": merged.layout}, {"lb": 1}, {})
    text = Renderings(inputs).text("lb", frozenset(), "r", 1, "g")
    (upstream,) = read_layout(text).upstreams
    assert len(upstream.entries) == len(upstream.servers)
    assert {line.address for line in upstream.servers} == {"x:1", address}


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60), st.integers(0, 400), st.integers(0, 60))
def test_a_mangled_file_is_never_intact_and_never_a_crash(junk: bytes, at: int, cut: int) -> None:
    layout = read_layout("# hi\nupstream s { server a:1; server x:1; }")
    inputs = Frozen("shop", TEMPLATE, "t", {"lb": layout}, {"lb": 1}, {})
    text = Renderings(inputs).text("lb", frozenset(), "r", 1, "g").encode()
    mangled = text[:at] + junk + text[at + cut :]
    addresses = {"a": {"a:1"}}
    seen = inspect(mangled, "shop", addresses)
    body = text.partition(b"end of stamp\n")[2]
    if not mangled.endswith(b"end of stamp\n" + body):
        assert not seen.is_intact
    with contextlib.suppress(FileNotUnderstood, NotOnlyUpstreams):
        read_layout(mangled.decode("utf-8", "surrogateescape"))
