"""The mark that a setup leaves for others: read as it was written, or not at all."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rolling_deploy.remote.wiring_files import CONTEXT, OURS, SERVER, Asked, Wanted
from rolling_deploy.remote.wiring_marks import Mark, clashes, mark_of, read_mark
from rolling_deploy.settings import Jar, NodeWiring
from rolling_deploy.wiring import Manifest

MANAGER = '<Manager className="a.M" prefix="{}"/>'
TEXTS = {
    CONTEXT: b"<Context/>",
    SERVER: b"<Server><Service><Connector port='8080'/></Service>"
    b"<Service><Connector port='9090'/></Service></Server>",
}


def wanted_by(*, prefix: str = "a", stop_ms: int | None = 5, port: int = 8080) -> Wanted:
    """Answers what an inventory wants of the Tomcat of TEXTS."""
    wiring = NodeWiring(
        (Jar("/home/me/store.jar", "1" * 64),),
        MANAGER.format(prefix),
        "a.M",
        {"conf/store.yaml": b"database: 1\n"},
        stop_ms,
    )
    asked = Asked(wiring, wiring, "/srv/tomcat", (port,))
    return Wanted(asked, Manifest({}), TEXTS)


def mark_by(wanted: Wanted, application: str = "blog") -> Mark:
    """Answers the mark of what is wanted."""
    return mark_of(wanted.asked, application, "/ops/blog.yaml")


def test_a_mark_is_read_as_it_was_written() -> None:
    mark = mark_by(wanted_by())
    assert mark.text.isascii()
    assert mark.text.count("\n") == 1
    read = read_mark(mark.text)
    assert read is not None
    assert read.text == mark.text


@pytest.mark.parametrize(
    ("other", "wishes"),
    [
        (wanted_by(), ()),
        (wanted_by(stop_ms=None), ()),
        (wanted_by(stop_ms=7, port=9090), ()),
        (wanted_by(stop_ms=7), ('`conf/server.xml` with `gracefulStopAwaitMillis="7"`',)),
        (wanted_by(prefix="b"), (f"`conf/context.xml` with `{MANAGER.format('b')}`",)),
    ],
    ids=["the same", "less", "of another Service", "another stop", "another manager"],
)
def test_two_wishes_clash_where_one_would_undo_the_other(
    other: Wanted, wishes: tuple[str, ...]
) -> None:
    own = wanted_by()
    assert clashes(own, mark_by(own, "shop"), mark_by(other)) == wishes


def test_other_jars_and_files_of_the_same_name_clash() -> None:
    own = mark_by(wanted_by(), "shop")
    other = Mark("blog", "x", {"lib/store.jar": "2" * 64}, "", {"conf/store.yaml": "database: 2\n"})
    assert clashes(wanted_by(), own, other) == (
        "`lib/store.jar` with sha256 222222222222",
        "`conf/store.yaml` with `database: 2`",
    )
    apart = Mark("blog", "x", {"lib/other.jar": "2" * 64}, "", {"conf/other.yaml": "a"})
    assert clashes(wanted_by(), own, apart) == ()


def wanted_of(context: str, texts: dict[str, bytes] = TEXTS, files: bytes = b"") -> Wanted:
    """Answers what an inventory wants whose template has these elements, without any variable."""
    wiring = NodeWiring((), context, "a.M", {"conf/store.yaml": files} if files else {}, None)
    return Wanted(Asked(wiring, wiring, "/srv/tomcat", (8080,)), Manifest({}), texts)


LITERAL = '<Valve className="a.V" password="literal-one" uri="redis://me:literal-one@h/?token=literal-one"/>'


def test_a_secret_that_a_template_names_without_a_variable_is_not_in_the_mark() -> None:
    wanted = wanted_of(LITERAL, files=OURS + b"\npassword: literal-one\naddress: h\n")
    mark = mark_by(wanted)
    assert "literal-one" not in mark.text
    assert 'className=\\"a.V\\" password=\\"***\\"' in mark.text
    assert mark.files["conf/store.yaml"].endswith('password: "***"\naddress: h\n')
    assert clashes(wanted, mark_by(wanted, "shop"), mark) == ()


def test_a_mark_that_still_holds_a_secret_is_compared_and_shown_without_it() -> None:
    own = wanted_of(LITERAL, files=b"password: literal-one\n")
    same = Mark("blog", "x", {}, LITERAL, {"conf/store.yaml": "password: literal-one\n"})
    assert clashes(own, mark_by(own, "shop"), same) == ()
    other = LITERAL.replace("<Valve", "<Valve asyncSupported='true'")
    file = "password: literal-one\naddress: i\n"
    said = " ".join(
        clashes(own, mark_by(own), Mark("blog", "x", {}, other, {"conf/store.yaml": file}))
    )
    assert "asyncSupported" in said
    assert "address: i" in said
    assert "literal-one" not in said


def test_a_wish_that_the_files_there_could_not_take_any_more_clashes_with_nothing() -> None:
    own = wanted_by()
    assert clashes(own, mark_by(own), mark_by(wanted_by(stop_ms=7, port=7070))) == ()
    there = TEXTS | {CONTEXT: b'<Context><Manager className="b.M"/></Context>'}
    moved_on = wanted_of('<Manager className="b.M"/>', there)
    assert clashes(moved_on, mark_by(moved_on), mark_by(wanted_by(stop_ms=None))) == ()
    # Ours has no place there: that is no word of the other inventory's.
    assert clashes(wanted_of(MANAGER.format("a"), there), mark_by(own), mark_by(moved_on)) == ()
    # Each could be had, and not both.
    fresh = wanted_of('<Manager className="b.M"/>')
    assert clashes(fresh, mark_by(fresh), mark_by(wanted_by(stop_ms=None))) == (
        f"`{CONTEXT}` with `{MANAGER.format('a')}`",
    )


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"jars": []},
        {"files": {"a": 1}},
        {"ports": 1},
        {"ports": ["1"]},
        {"context": None},
        {"graceful_stop_ms": True},
        {"more": 1},
    ],
)
def test_a_mark_of_another_kind_is_none(change: dict[str, object]) -> None:
    sound = json.loads(mark_by(wanted_by()).text)
    assert read_mark(json.dumps(sound)) is not None
    assert read_mark(json.dumps(sound | change)) is None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9),
    lambda parts: st.lists(parts, max_size=3) | st.dictionaries(st.text(max_size=5), parts),
    max_leaves=6,
)


@given(st.text(max_size=60), st.dictionaries(st.sampled_from(Mark.__slots__), json_values))
def test_any_text_is_a_mark_or_none_and_a_mark_can_be_compared(
    text: str, fields: dict[str, object]
) -> None:
    read_mark(text)
    sound = json.loads(mark_by(wanted_by()).text)
    read = read_mark(json.dumps(sound | fields))
    if read is not None:
        clashes(wanted_by(), mark_by(wanted_by()), read)
