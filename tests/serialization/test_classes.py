"""The classes of a release are found where Tomcat would find them, and no archive can hurt."""

from __future__ import annotations

import contextlib
import io
import struct
import tracemalloc
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rolling_deploy.serialization import Classes, NotReadable, classes
from rolling_deploy.serialization.class_file import SIZE_MAX, read_class
from tests.serialization.examples import UNHURRIED


def a_class(name: str, *, uid: int | None = None, major: int = 61) -> bytes:
    """Answers the smallest class file with this name; `uid` as a constant of serialVersionUID."""
    texts = [name.replace(".", "/"), "java/lang/Object", "serialVersionUID", "J", "ConstantValue"]
    pool = b"".join(b"\x01" + struct.pack(">H", len(t)) + t.encode() for t in texts)
    pool += b"\x07\0\x01" + b"\x07\0\x02" + b"\x05" + struct.pack(">q", uid or 0)
    head = struct.pack(">IHHH", 0xCAFEBABE, 0, major, 10) + pool
    field = struct.pack(">HHHH", 0x1A, 3, 4, 1) + struct.pack(">HIH", 5, 2, 8)
    fields = struct.pack(">H", 1) + field if uid is not None else b"\0\0"
    return head + struct.pack(">HHHH", 0x21, 6, 7, 0) + fields + b"\0\0" + b"\0\0"


def an_archive(entries: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", method) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return packed.getvalue()


def opened(entries: dict[str, bytes], java: int | None = None) -> Classes:
    return Classes(io.BytesIO(an_archive(entries)), java=java)


def uid_of(found: Classes, name: str) -> int | None:
    each = found.find(name)
    assert each is not None
    return each.fields[0].constant


def test_the_classes_of_a_war_come_from_its_classes_and_its_jars() -> None:
    found = opened(
        {
            "WEB-INF/classes/com/shop/Cart.class": a_class("com.shop.Cart", uid=1),
            "WEB-INF/lib/b.jar": an_archive(
                {"com/shop/Line.class": a_class("com.shop.Line", uid=3)}
            ),
            "WEB-INF/lib/a.jar": an_archive(
                {
                    "com/shop/Cart.class": a_class("com.shop.Cart", uid=2),
                    "com/shop/Line.class": a_class("com.shop.Line", uid=2),
                }
            ),
            "com/shop/Page.class": a_class("com.shop.Page"),
        }
    )
    assert uid_of(found, "com.shop.Cart") == 1
    assert uid_of(found, "com.shop.Line") == 2
    assert found.find("com.shop.Page") is None
    assert found.find("com.shop.Other") is None
    assert sorted(found.names()) == ["com.shop.Cart", "com.shop.Line"]


def test_a_plain_jar_and_an_executable_one_have_classes_too() -> None:
    plain = opened({"A.class": a_class("A")})
    boot = opened(
        {
            "BOOT-INF/classes/A.class": a_class("A"),
            "BOOT-INF/lib/b.jar": an_archive({"B.class": a_class("B")}),
        }
    )
    assert plain.find("A") is not None
    assert boot.find("A") is not None
    assert boot.find("B") is not None


@pytest.mark.parametrize(("java", "uid"), [(None, 21), (17, 11), (21, 21), (8, 1)])
def test_a_multi_release_jar_gives_the_class_of_that_java(java: int | None, uid: int) -> None:
    jar = an_archive(
        {
            "A.class": a_class("A", uid=1),
            "META-INF/versions/11/A.class": a_class("A", uid=11),
            "META-INF/versions/21/A.class": a_class("A", uid=21),
        }
    )
    assert uid_of(opened({"WEB-INF/lib/a.jar": jar}, java), "A") == uid


def test_a_jar_that_cannot_be_read_is_named_and_the_others_are_used() -> None:
    found = opened(
        {
            "WEB-INF/lib/a.jar": b"this is no archive",
            "WEB-INF/lib/b.jar": an_archive({"B.class": a_class("B")}),
        }
    )
    assert found.find("B") is not None
    assert [part.partition(":")[0] for part in found.unread] == ["`WEB-INF/lib/a.jar`"]


def test_a_broken_class_is_refused_each_time_and_not_taken_for_missing() -> None:
    found = opened({"WEB-INF/classes/A.class": a_class("A")[:-3]})
    for _ in range(2):
        with pytest.raises(NotReadable):
            found.find("A")


def test_a_class_that_unpacks_to_far_more_than_it_should_is_refused_within_its_limit() -> None:
    packed = an_archive({"WEB-INF/classes/A.class": bytes(SIZE_MAX * 4)})
    tracemalloc.start()
    try:
        with pytest.raises(NotReadable, match="longer than"):
            Classes(io.BytesIO(packed)).find("A")
        assert tracemalloc.get_traced_memory()[1] < SIZE_MAX * 3
    finally:
        tracemalloc.stop()


def test_all_that_is_unpacked_for_a_release_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    jar = an_archive({"big": bytes(300_000), "A.class": a_class("A")}, zipfile.ZIP_STORED)
    entries = {f"WEB-INF/lib/{n}.jar": jar for n in range(9)}
    found = opened(entries)
    monkeypatch.setattr(found._budget, "left", 1_000_000)
    assert found.find("B") is None
    assert len(found.unread) == 6


def test_jars_that_had_to_make_room_are_opened_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classes, "KEPT_BYTES_MAX", 10)
    jars = {f"WEB-INF/lib/{n}.jar": an_archive({f"{n}.class": a_class(n)}) for n in "ABC"}
    found = opened(jars)
    assert [found.find(name) is not None for name in "CABX"] == [True, True, True, False]


def test_an_entry_packed_as_java_does_not_read_it_is_refused() -> None:
    packed = an_archive({"WEB-INF/classes/A.class": a_class("A") * 50}, zipfile.ZIP_LZMA)
    with pytest.raises(NotReadable, match="Java does not read"):
        Classes(io.BytesIO(packed)).find("A")


@pytest.mark.parametrize("major", [45, 52, 61, 65, 69])
def test_class_files_of_java_1_to_25_are_read(major: int) -> None:
    found = read_class(a_class("com.shop.Cart", uid=-7, major=major))
    assert (found.name, found.major, found.fields[0].constant) == ("com.shop.Cart", major, -7)


def test_a_class_file_cut_off_anywhere_is_refused() -> None:
    whole = a_class("com.shop.Cart", uid=5)
    for length in range(len(whole)):
        with pytest.raises(NotReadable):
            read_class(whole[:length])


@UNHURRIED
@given(st.data())
def test_a_damaged_class_file_is_read_or_refused(data: st.DataObject) -> None:
    whole = bytearray(a_class("com.shop.Cart", uid=5))
    for _ in range(data.draw(st.integers(1, 5))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(NotReadable):
        read_class(bytes(whole))


@UNHURRIED
@given(st.data())
def test_a_damaged_archive_is_read_or_refused(data: st.DataObject) -> None:
    jar = an_archive({"B.class": a_class("B")})
    whole = bytearray(
        an_archive({"WEB-INF/classes/A.class": a_class("A"), "WEB-INF/lib/b.jar": jar})
    )
    for _ in range(data.draw(st.integers(1, 5))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    for name in ("A", "B", "C"):
        try:
            Classes(io.BytesIO(bytes(whole))).find(name)
        except NotReadable:
            continue


@UNHURRIED
@given(st.binary(max_size=200))
def test_any_bytes_are_refused_as_an_archive(data: bytes) -> None:
    with pytest.raises(NotReadable):
        Classes(io.BytesIO(data))
