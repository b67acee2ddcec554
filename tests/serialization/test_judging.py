"""What is judged without a Java at hand: what is given, what was not read, and hostile values."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rolling_deploy.serialization import (
    Classes,
    Fate,
    Flag,
    Kind,
    NotReadable,
    Place,
    StoredClass,
    StoredField,
    judge,
    modified_utf8,
)
from rolling_deploy.serialization.stream import read_stream
from tests.serialization.examples import UNHURRIED
from tests.serialization.kept_streams import KEPT
from tests.serialization.test_classes import a_class, an_archive


def release(entries: dict[str, bytes], given: tuple[str, ...] = ()) -> Classes:
    files = {f"WEB-INF/classes/{name}.class": data for name, data in entries.items()}
    files |= {"WEB-INF/web.xml": b"<web-app/>", "WEB-INF/classes/x": b""}
    return Classes(io.BytesIO(an_archive(files)), given=given)


def stored(name: str, *fields: StoredField, uid: int = 1) -> StoredClass:
    at_the_top = frozenset({Place()})
    return StoredClass(name, uid, Flag.SERIALIZABLE, fields, places=at_the_top, has_objects=True)


@pytest.mark.parametrize(
    ("name", "fate"),
    [
        ("java.util.ArrayList", Fate.GIVEN),
        ("org.apache.catalina.realm.GenericPrincipal", Fate.GIVEN),
        ("org.redisson.tomcat.AttributeMessage", Fate.GIVEN),
        ("[J", Fate.GIVEN),
        ("[[Ljava.lang.String;", Fate.GIVEN),
        ("com.company.Shared", Fate.GIVEN),
        ("com.shop.Cart", Fate.MISSING),
        ("com.shop.Cart$$anon$1", Fate.MISSING),
        ("com.shop.Cart$$EnhancerBySpringCGLIB$$1f0c9d2a", Fate.UNKNOWN),
        ("com.shop.Cart$$SpringCGLIB$$0", Fate.UNKNOWN),
        ("com.shop.Cart_$$_jvst6a4_0", Fate.UNKNOWN),
        ("com.shop.Cart$HibernateProxy$kX2", Fate.UNKNOWN),
        ("[Lcom.shop.Cart$HibernateProxy$kX2;", Fate.UNKNOWN),
        ("javanese.Cart", Fate.MISSING),
    ],
)
def test_what_the_nodes_bring_along_is_not_judged_and_all_else_is(name: str, fate: Fate) -> None:
    kind = Kind.ARRAY if name.startswith("[") else Kind.SERIALIZABLE
    one = StoredClass(name, 1, Flag.SERIALIZABLE, (), kind=kind, places=frozenset({Place()}))
    (verdict,) = judge([one], release({}, given=("com.company.",)))
    assert verdict.fate is fate


def test_a_class_is_not_called_missing_when_a_part_of_the_release_was_not_read() -> None:
    found = Classes(io.BytesIO(an_archive({"WEB-INF/lib/broken.jar": b"no archive"})))
    (verdict,) = judge([stored("com.shop.Cart")], found)
    assert verdict.fate is Fate.UNKNOWN
    assert "`WEB-INF/lib/broken.jar`" in verdict.reasons[0]


def test_a_broken_class_is_not_known() -> None:
    (verdict,) = judge([stored("Cart")], release({"Cart": b"\xca\xfe\xba\xbe"}))
    assert verdict.fate is Fate.UNKNOWN
    assert "broken" in verdict.reasons[0]


def test_a_class_whose_parent_is_nowhere_is_not_known() -> None:
    parent = a_class("Cart", uid=1).replace(b"java/lang/Object", b"java/shop/Absent")
    orphan = parent.replace(b"java/shop/Absent", b"some/shop/Absent")
    (verdict,) = judge([stored("Cart")], release({"Cart": orphan}))
    assert verdict.fate is Fate.UNKNOWN
    assert any("`some.shop.Absent`" in reason for reason in verdict.reasons)


def test_the_verdict_names_both_versions_and_the_fields_that_differ() -> None:
    own = stored("Cart", StoredField("gone", "I"), uid=7)
    number = a_class("Cart", uid=8).replace(b"java/lang/Object", b"java/lang/Number")
    found = release({"Cart": number})
    (verdict,) = judge([own], found)
    assert (verdict.fate, verdict.uid_stored, verdict.uid_release) == (Fate.DIFFERS, 7, 8)
    assert verdict.fields_removed == (StoredField("gone", "I"),)
    assert "7" in verdict.reasons[0]
    assert "8" in verdict.reasons[0]
    assert verdict.fate.loses_sessions


@pytest.mark.parametrize(
    ("descriptor", "java"),
    [
        ("I", "int"),
        ("[[J", "long[][]"),
        ("Ljava/util/List;", "java.util.List"),
        ("[Lcom/shop/Line;", "com.shop.Line[]"),
    ],
)
def test_types_are_told_as_people_write_them(descriptor: str, java: str) -> None:
    assert StoredField("a", descriptor).java_type == java


@UNHURRIED
@given(st.sampled_from(sorted(KEPT)), st.data())
def test_whatever_can_be_read_can_be_judged(name: str, data: st.DataObject) -> None:
    stream = bytearray(KEPT[name])
    for _ in range(data.draw(st.integers(0, 3))):
        stream[data.draw(st.integers(4, len(stream) - 1))] = data.draw(st.integers(0, 255))
    try:
        classes = read_stream(bytes(stream))
    except NotReadable:
        return
    verdicts = judge(classes, release({"Samples$Cart": a_class("Samples$Cart", uid=42)}))
    assert [verdict.name for verdict in verdicts] == [each.name for each in classes]


@UNHURRIED
@given(st.text(st.characters()))
def test_javas_encoding_of_any_text_is_read_back(text: str) -> None:
    assert modified_utf8.decode(modified_utf8.encode(text)) == text


def test_a_zero_and_a_high_character_are_written_as_java_does() -> None:
    assert modified_utf8.encode("\0\U0001f600") == b"\xc0\x80\xed\xa0\xbd\xed\xb8\x80"
