"""Rendering, the stamp, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rolling_deploy.errors import InventoryWrong, RecordWrong, TemplateWrong
from rolling_deploy.upstreams.layout import Layout, ServerLine, UpstreamLayout
from rolling_deploy.upstreams.reading import read_layout
from rolling_deploy.upstreams.render import BackendFacts, Frozen, Renderings, differences
from rolling_deploy.upstreams.stamp import ParkingEdit, inspect, parking_edit
from rolling_deploy.upstreams.takeout import NothingLive

TEMPLATE = (Path(__file__).parents[2] / "templates" / "upstream.conf.j2").read_text()
ADDRESSES = {"a": {"a:1", "a:2"}, "b": {"b:1"}, "c": {"c:1"}}
THREE = "# hi\nupstream s {\n  server a:1 weight=2; # first\n  server b:1;\n  server c:1;\n}\n"
NOBODY: frozenset[str] = frozenset()


def owned(text: str) -> Layout:
    """The file with its lines given to the backends a, b and c."""
    layout = read_layout(text)
    names = {address: name for name, texts in ADDRESSES.items() for address in texts}
    return replace(
        layout,
        upstreams=tuple(
            u.with_servers([replace(s, backend=names.get(s.address, "")) for s in u.servers])
            for u in layout.upstreams
        ),
    )


def frozen(text: str = THREE, template: str = TEMPLATE, **variables: Any) -> Frozen:
    facts = {
        name: BackendFacts(frozenset(addresses), f"zone-{name}", {"color": name})
        for name, addresses in ADDRESSES.items()
    }
    return Frozen("shop", template, "t.j2", {"lb1": owned(text)}, {"lb1": 18999}, facts, variables)


def render(text: str = THREE, *out: str, template: str = TEMPLATE, **variables: Any) -> str:
    renderings = Renderings(frozen(text, template, **variables))
    return renderings.text("lb1", frozenset(out), "r1", 3, "r1.3")


def upstream_of(text: str) -> str:
    return text.split("end of stamp\n")[1].split("\n# Tells", maxsplit=1)[0]


def test_taking_out_marks_the_line_and_keeps_it_in_its_place() -> None:
    assert upstream_of(render(THREE, "a")) == (
        "# hi\nupstream s {\n"
        "    server a:1 weight=2 down; # first # rolling-deploy: out\n"
        "    server b:1;\n    server c:1;\n}\n"
    )


def test_the_last_live_line_is_never_given_up_by_nginx() -> None:
    text = upstream_of(render(THREE, "a", "c"))
    assert "server b:1 max_fails=0; # rolling-deploy: alone, no max_fails before\n" in text
    own = render("upstream s { server a:1; server b:1 max_fails=3 weight=2; }", "a")
    assert "server b:1 max_fails=0 weight=2; # rolling-deploy: alone, max_fails=3 before" in own


def test_a_lone_line_stays_guarded_beside_backups_and_a_lone_backup_too() -> None:
    beside = render("upstream s { server a:1; server b:1; server x:9 backup; }", "a")
    assert "server b:1 max_fails=0;" in beside
    assert "server x:9 backup;\n" in beside
    only = render("upstream s { server a:1; server x:9 backup; }", "a")
    assert "server x:9 backup max_fails=0;" in only


def test_foreign_servers_count_as_live() -> None:
    text = render("upstream s { server a:1; server b:1; server x:9; }", "a")
    assert "max_fails" not in upstream_of(text)


def test_an_upstream_that_loses_nothing_stays_as_it_is() -> None:
    text = "upstream s { server b:1 down; server c:1; } upstream t { server a:2; server x:1; }"
    rendered = upstream_of(render(text, "a"))
    assert "server c:1;\n" in rendered
    assert "server x:1 max_fails=0;" in rendered


def test_a_persons_down_is_kept_and_told_from_ours() -> None:
    text = (
        "upstream s { server a:1 down; server b:1; server c:1; }"
        "upstream t { server a:2; server x:1; }"
    )
    out = render(text, "a")
    assert "server a:1 down;\n" in out
    assert read_layout(out) == read_layout(render(text))
    assert read_layout(out).upstreams[0].servers[0].is_down
    assert not read_layout(out).upstreams[1].servers[0].is_down


@pytest.mark.parametrize("out", [("a",), ("a", "b"), ("c", "b")])
def test_a_file_in_the_middle_of_a_rollout_still_says_how_it_was(out: tuple[str, ...]) -> None:
    assert read_layout(render(THREE, *out)) == read_layout(THREE)


def test_an_upstream_with_nothing_live_is_never_rendered() -> None:
    with pytest.raises(NothingLive, match="`s` would have no live server with a, b, c taken out"):
        render(THREE, "a", "b", "c")
    with pytest.raises(NothingLive, match="as it stands"):
        render("upstream s { server a:1 down; }")
    with pytest.raises(NothingLive):
        render("upstream s { server a:1; server b:1 down; }", "a")
    assert render("upstream s { server a:1; } upstream off { server x:1 down; }")


def test_the_same_inputs_give_the_same_bytes_after_a_trip_through_the_record() -> None:
    inputs = frozen(variables_are=["any", 1])
    thawed = Frozen.from_json(json.loads(json.dumps(inputs.to_json())))
    assert Renderings(thawed).text("lb1", NOBODY, "r", 1, "g") == Renderings(inputs).text(
        "lb1", NOBODY, "r", 1, "g"
    )
    with pytest.raises(RecordWrong):
        Frozen.from_json({"application": "shop"})


def test_the_stamp_says_what_was_written_and_the_file_is_intact() -> None:
    text = render(THREE, "b")
    seen = inspect(text.encode(), "shop", ADDRESSES)
    assert seen.is_intact
    assert seen.stamp is not None
    assert (seen.stamp.application, seen.stamp.rollout, seen.stamp.claim) == ("shop", "r1", 3)
    assert seen.stamp.out == {"b"}
    assert seen.down == {"b"}
    assert seen.stamp.body == Renderings(frozen()).body_digest("lb1", frozenset({"b"}))


def test_the_body_digest_depends_neither_on_rollout_nor_on_generation() -> None:
    renderings = Renderings(frozen())
    one = renderings.text("lb1", NOBODY, "r1", 1, "g1")
    other = renderings.text("lb1", NOBODY, "r2", 7, "g2")
    stamps = [inspect(text, "shop", ADDRESSES).stamp for text in (one, other)]
    assert stamps[0]
    assert stamps[1]
    assert stamps[0].body == stamps[1].body
    assert one != other


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("server b:1", "server b:2"),
        ("# first", "# second"),
        ('return 200 "r1.3"', 'return 200 "r1.4"'),
        ("18999", "18998"),
        ('# out: ["b"]', '# out: ["b"'),
        ('# out: ["b"]', "# out: [1]"),
        ("# claim: 3", "# claim: true"),
        ("# claim: 3", "# claim: 3\n# claim: 3"),
        ("# claim: 3\n", ""),
        ('# application: "shop"', '# application: "other"'),
        ("# rolling-deploy end of stamp\n", ""),
        ("stamp 1", "stamp 2"),
        ('# generation: "r1.3"', '# generation: "r1.4"'),
        ("}\n", ""),
    ],
)
def test_any_hand_edit_or_forged_stamp_is_seen(old: str, new: str) -> None:
    text = render(THREE, "b")
    assert old in text
    assert not inspect(text.replace(old, new, 1), "shop", ADDRESSES).is_intact


def test_a_file_of_somebody_else_has_no_stamp_and_never_fails() -> None:
    for content in (b"", b"\xff\xfe\0", THREE.encode(), b"# rolling-deploy stamp 1\n" * 50):
        seen = inspect(content, "shop", ADDRESSES)
        assert seen.stamp is None
        assert not seen.is_intact
    assert inspect("upstream s { server a:1 down; server b:1; }", "shop", ADDRESSES).down == {
        "a",
        "c",
    }


def test_a_damaged_stamp_does_not_hinder_reading_the_file() -> None:
    text = render(THREE).replace("# rolling-deploy end of stamp\n", "")
    assert read_layout(text) == read_layout(THREE)


def test_parking_by_hand_is_told_from_other_edits() -> None:
    ours = render(THREE, "b")
    parked = ours.replace("server c:1 ", "server c:1 down ").replace(
        "server c:1;", "server c:1 down;"
    )
    assert parked != ours
    assert parking_edit(parked, ours, ADDRESSES) == ParkingEdit(frozenset({"c"}), NOBODY)
    put_back = ours.replace("server b:1 down;", "server b:1;")
    assert parking_edit(put_back, ours, ADDRESSES) == ParkingEdit(NOBODY, frozenset({"b"}))
    for old, new in (("weight=2", "weight=3"), ("18999", "18998"), ("# claim: 3", "# claim: 4")):
        assert parking_edit(parked.replace(old, new), ours, ADDRESSES) is None
    assert parking_edit("upstream {", ours, ADDRESSES) is None


def test_a_template_may_write_the_lines_itself() -> None:
    template = (
        "{% macro line(s) %}server {{ s.address }} {{ s.parameters | join(' ') }}"
        "{{ ' down' if s.is_down }};{% endmacro %}"
        "{% for u in upstreams %}upstream {{ u.name }} {\n  zone {{ application }} 64k;\n"
        "{% for s in u.servers %}  {{ line(s) }} # {{ s.zone }} {{ s.variables.color }}\n"
        "{% endfor %}}\n{% endfor %}"
    )
    text = render(THREE, "b", template=template)
    assert "  server b:1  down; # zone-b b\n" in text


ALL_LINES = "{% for s in u.servers %}{{ s.line }}\n{% endfor %}"
EACH = "{% for s in u.servers %}server {{ s.address }}"
WITH = EACH + " {{ s.parameters | join(' ') }}"


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (
            ALL_LINES.replace("u.servers", "u.servers[1:]"),
            "the line for a:1 of a should be there 1x",
        ),
        (ALL_LINES + ALL_LINES, "is there 2x"),
        (EACH + ";{% endfor %}", "parameters (weight)"),
        (ALL_LINES.replace("u.servers", "u.servers | reverse"), "should be in the order"),
        (ALL_LINES + "server evil:1;", "server evil:1 that nobody"),
        (ALL_LINES + "include x;", "include"),
        (WITH + ";{% endfor %}", "should be `down`, is live"),
        (WITH + " down;{% endfor %}", "should be live, is `down`"),
        (ALL_LINES + "} upstream evil { server x;", "nobody asked for"),
        (ALL_LINES + "} upstream s { server x;", "is there twice"),
        (ALL_LINES + "} map a $b { c d;", "more than upstream blocks"),
        (ALL_LINES + "keepalive 4", "cannot be read"),
        (ALL_LINES + "# rolling-deploy end of stamp", "a stamp of its own"),
    ],
)
def test_what_a_template_does_wrong_is_named(line: str, problem: str) -> None:
    template = "{% for u in upstreams %}upstream {{ u.name }} {\n" + line + "\n}\n{% endfor %}"
    with pytest.raises(TemplateWrong) as caught:
        render(THREE, "b", template=template)
    assert any(problem in each for each in caught.value.problems), caught.value.problems
    assert all(each.startswith("t.j2: for lb1: ") for each in caught.value.problems)


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("\n\n{{ aplication }}", "t.j2:3: `aplication` is not defined; is it `application`?"),
        ("\n{{ variables.colour }}", "t.j2:2: the variable `colour` is not defined; is it"),
        (
            "{% for u in upstreams %}\n{{ u.nme }}{% endfor %}",
            "t.j2:2: `nme` is not known of upstream; is it `name`",
        ),
        ("\n{% for x in %}", "t.j2:2: Expected an expression"),
        ("{% include 'other' %}", "t.j2:1: there is no template `other`"),
        ("{{ 1 / 0 }}", "t.j2:1: ZeroDivisionError"),
        ("{{ application.__class__ }}", "t.j2:1: "),
        ("{{ variables }}", "a dict, which nginx has no writing for"),
        ("{{ none }}", "a value is null"),
        ("{{ variables.hostile }}", "means something to nginx"),
        ("{{ variables.lines | quoted }}", "control character"),
    ],
)
def test_a_template_that_fails_names_its_line(template: str, said: str) -> None:
    with pytest.raises(TemplateWrong) as caught:
        render(template=template, color="red", hostile="1; evil on", lines="a\nb")
    assert said in caught.value.problems[0]
    assert caught.value.exit_code == 3


def test_a_hostile_value_can_be_printed_in_quotes() -> None:
    template = TEMPLATE.replace(
        "{% for entry", "hash {{ variables.key | quoted }};\n{% for entry", 1
    )
    text = render(template=template, key='$arg_x;"{} # \\')
    assert 'hash "$arg_x;\\"{} # \\\\";' in text


def test_an_application_that_is_no_host_name_is_refused() -> None:
    with pytest.raises(InventoryWrong):
        Renderings(replace(frozen(), application="shop; evil"))


def test_the_diff_leaves_out_the_stamp_unless_asked() -> None:
    old = Renderings(frozen()).text("lb1", NOBODY, "r0", 1, "g0")
    new = Renderings(frozen()).text("lb1", frozenset({"a"}), "r1", 2, "g1")
    short = differences(old, new, "lb1:/etc/nginx/shop.conf")
    assert short[0] == "--- lb1:/etc/nginx/shop.conf (now)"
    changed = [line for line in short[2:] if line[0] in "+-"]
    assert len(changed) == 2
    assert changed[1].startswith("+    server a:1 weight=2 down;")
    assert any("g1" in line for line in differences(old, new, "f", with_stamp=True))
    assert differences(old, old, "f") == []


def test_what_a_line_had_is_told_from_what_we_put_there() -> None:
    text = "upstream s { server a:1; server b:1 max_fails=0; server c:1 down; }"
    before = read_layout(text)
    assert read_layout(render(text, "a")) == before
    assert before.upstreams == (
        UpstreamLayout(
            "s",
            (
                ServerLine("a:1"),
                ServerLine("b:1", ("max_fails=0",)),
                ServerLine("c:1", (), is_down=True),
            ),
        ),
    )


def test_no_line_of_a_backend_that_is_out_is_live_whoever_it_is_given_to() -> None:
    made = frozen()
    block = made.layouts["lb1"].upstreams[0]
    stray = replace(block, name="t", entries=(ServerLine("A:1", backend="b"), *block.entries[1:]))
    both = Layout((block, stray))
    renderings = Renderings(replace(made, layouts={"lb1": both}))
    with pytest.raises(TemplateWrong) as wrong:
        renderings.text("lb1", frozenset({"a"}), "r", 1, "g")
    assert "server A:1 is live, belongs to a backend that is taken out" in wrong.value.problems[0]
    assert "server A:1;" in renderings.text("lb1", frozenset({"c"}), "r", 1, "g")
