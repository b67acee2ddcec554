"""Reading upstream files as people have them."""

from __future__ import annotations

import json

import pytest

from rolling_deploy.upstreams.grammar import SyntaxWrong, parse
from rolling_deploy.upstreams.layout import Comment, Directive, Layout, ServerLine
from rolling_deploy.upstreams.reading import FileNotUnderstood, NotOnlyUpstreams, read_layout

TABS_AND_COMMENTS = """\
# shop, see wiki
# (ask Ana)

upstream shop {\t# main
\tip_hash;
\tserver\t10.0.0.1:8080   weight=2\tmax_fails=3; # first

\t# the new one
\tserver 10.0.0.2:8080 down;
\tkeepalive 16;#idle
}
# end
"""


def test_a_file_with_tabs_and_comments_keeps_everything_in_order() -> None:
    layout = read_layout(TABS_AND_COMMENTS)
    (shop,) = layout.upstreams
    assert shop.name == "shop"
    assert shop.before == (Comment("# shop, see wiki"), Comment("# (ask Ana)"), Comment(""))
    assert shop.entries == (
        Comment("# main"),
        Directive("ip_hash"),
        ServerLine("10.0.0.1:8080", ("weight=2", "max_fails=3"), comment="# first"),
        Comment(""),
        Comment("# the new one"),
        ServerLine("10.0.0.2:8080", (), is_down=True),
        Directive("keepalive 16", "#idle"),
    )
    assert layout.after == (Comment("# end"),)
    assert shop.methods == ("ip_hash",)


def test_a_block_on_one_line_and_several_blocks_are_read() -> None:
    layout = read_layout(
        "upstream a{server app1;server app2:81 backup;}upstream b { server unix:/run/b.sock; }"
    )
    assert [upstream.name for upstream in layout.upstreams] == ["a", "b"]
    assert layout.upstreams[0].servers == (
        ServerLine("app1"),
        ServerLine("app2:81", ("backup",)),
    )
    assert layout.upstreams[1].servers == (ServerLine("unix:/run/b.sock"),)


def test_quotes_are_kept_in_directives_and_understood_in_server_lines() -> None:
    (upstream,) = read_layout(
        'upstream "a" {\n  hash "$arg_x;{" consistent;\n'
        "  server \"10.0.0.1:80\" 'weight=2' down;\n}"
    ).upstreams
    assert upstream.name == "a"
    assert upstream.entries == (
        Directive('hash "$arg_x;{" consistent'),
        ServerLine("10.0.0.1:80", ("weight=2",), is_down=True),
    )


def test_windows_line_ends_and_latin_1_comments_do_not_disturb() -> None:
    text = b"# caf\xe9\r\nupstream a {\r\n  server x:1; # \xfc\r\n}\r\n".decode(
        errors="surrogateescape"
    )
    layout = read_layout(text)
    assert layout.upstreams[0].servers[0].address == "x:1"
    comment = layout.upstreams[0].servers[0].comment
    assert comment.encode(errors="surrogateescape") == b"# \xfc"
    assert Layout.from_json(json.loads(json.dumps(layout.to_json()))) == layout


def test_a_last_comment_without_a_newline_is_not_lost() -> None:
    assert read_layout("upstream a { server x; }\n# bye").after == (Comment("# bye"),)


def test_an_include_inside_an_upstream_is_refused_with_its_line() -> None:
    with pytest.raises(FileNotUnderstood, match="in line 3") as caught:
        read_layout(
            "upstream a {\n  server x;\n  include servers.d/*.conf;\n}", "/etc/nginx/a.conf"
        )
    assert caught.value.where == "/etc/nginx/a.conf:3"
    assert caught.value.exit_code == 8


def test_a_lua_balancer_is_refused() -> None:
    with pytest.raises(FileNotUnderstood):
        read_layout("upstream a {\n server 0.0.0.1;\n balancer_by_lua_block { x = {1} }\n}")


def test_an_upstream_in_a_larger_file_names_the_exact_lines_to_move() -> None:
    text = (
        "map $a $b {\n  x y;\n}\n"
        "upstream shop {\n  server 10.0.0.1:8080;\n}\n"
        "server {\n  listen 80;\n}\n"
    )
    with pytest.raises(NotOnlyUpstreams) as caught:
        read_layout(text, "/etc/nginx/conf.d/shop.conf")
    (move,) = caught.value.upstreams
    assert (move.first, move.last) == (4, 6)
    assert move.text == "upstream shop {\n  server 10.0.0.1:8080;\n}"
    assert [str(other) for other in caught.value.others] == [
        "lines 1-3 (`map $a $b`)",
        "lines 7-9 (`server`)",
    ]
    assert move.text in caught.value.next_step


def test_an_upstream_inside_an_http_block_is_found_too() -> None:
    with pytest.raises(NotOnlyUpstreams) as caught:
        read_layout("http {\n upstream a {\n  server x;\n }\n}\n")
    assert [(part.first, part.last) for part in caught.value.upstreams] == [(2, 4)]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("upstream a {\n  server x\n}", 3),
        ("upstream a {\n  server x;\n", 2),
        ("upstream a {\n}\n}", 3),
        ("upstream a {\n  hash 'x;\n}\n", 2),
        ("server x", 1),
        ("upstream a { ; }", 1),
        ("upstream a {\n server x;\n}\nupstream a {\n server x;\n}", None),
    ],
)
def test_a_syntax_error_names_its_line(text: str, line: int | None) -> None:
    with pytest.raises(FileNotUnderstood) as caught:
        read_layout(text, "f")
    if line:
        assert caught.value.where == f"f:{line}"


@pytest.mark.parametrize(
    "text",
    [
        "upstream a { server\u00a0x:1; }",  # nginx: one word
        "upstream a { server x:1\x0bdown; }",
        "upstream a { # \r server x:1; }\n}",  # nginx: all comment
        "upstream a { server ${x;server y:1;} ; }",  # nginx: two directives
        "upstream a { hash ${x;server} y; }",  # the same, and plausible to crossplane
        "upstream a { server 'x:1'down; }",
        "upstream a { server x:1} ; }",  # nginx: the brace is part of the word
        "upstream a { server x\0; }",
    ],
)
def test_what_nginx_would_read_otherwise_is_refused(text: str) -> None:
    with pytest.raises(SyntaxWrong):
        parse(text)


def test_a_comment_that_ends_in_a_backslash_does_not_swallow_the_next_line() -> None:
    (upstream,) = read_layout("upstream a {\n # C:\\new\\\n server x:1;\n}\n").upstreams
    assert upstream.servers == (ServerLine("x:1"),)
