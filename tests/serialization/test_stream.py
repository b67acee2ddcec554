"""What is read out of a Java object stream: compared with Java, and under hostile bytes."""

from __future__ import annotations

import base64
import struct
import tracemalloc
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rolling_deploy.serialization import Kind, NotReadable, Place, StoredClass
from rolling_deploy.serialization.stream import MAGIC, VALUE_BYTES_MAX, read_stream
from tests.serialization.examples import MANY, UNHURRIED
from tests.serialization.java_programs import needs_java, run_java
from tests.serialization.kept_streams import CIRCLE, KEPT, OWN, PROXIES

NAMES = (
    *("maps", "lists", "time", "numbers", "own", "by-hand", "careless", "bare", "exceptions"),
    *("proxies", "text", "circle", "deep", "reset", "unshared", "aborted", "session"),
)


@dataclass
class Sample:
    stream: bytes
    seen_by_java: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def samples() -> dict[str, Sample]:
    found: dict[str, Sample] = {}
    sample = Sample(b"")
    for line in run_java("Samples").splitlines():
        if line.startswith("= "):
            _, name, text = line.split(" ")
            sample = found[name] = Sample(base64.b64decode(text))
        elif not line.startswith("!"):
            sample.seen_by_java.append(line)
    assert tuple(found) == NAMES
    return found


def told(found: StoredClass) -> str:
    fields = (f"{each.name}:{each.descriptor}" for each in found.fields)
    return " ".join([str(found.uid), found.name, *fields])


def named(found: tuple[StoredClass, ...], name: str) -> StoredClass:
    return next(each for each in found if each.name == name)


@needs_java
@pytest.mark.parametrize("name", NAMES)
def test_every_class_is_described_as_java_reads_it(name: str, samples: dict[str, Sample]) -> None:
    sample = samples[name]
    ours = {told(each) for each in read_stream(sample.stream) if each.kind is not Kind.PROXY}
    assert sample.seen_by_java
    if name == "aborted":  # Java stops at the exception; what comes after it is read here
        assert ours > set(sample.seen_by_java)
    else:
        assert ours == set(sample.seen_by_java)


@needs_java
def test_a_stream_cut_off_anywhere_is_refused_or_ends_between_two_objects(
    samples: dict[str, Sample],
) -> None:
    cut = 0
    for name in ("own", "by-hand", "careless", "exceptions", "session", "reset", "proxies"):
        stream = samples[name].stream
        whole = {told(each) for each in read_stream(stream)}
        for length in range(len(stream)):
            try:
                part = read_stream(stream[:length])
            except NotReadable:
                cut += 1
                continue
            assert {told(each) for each in part} <= whole
    print(f"{cut} truncations refused")
    assert cut > 1000


def test_a_stream_cut_off_within_its_only_object_is_refused_at_every_byte() -> None:
    for length in range(len(PROXIES)):
        if length == len(MAGIC):
            assert read_stream(PROXIES[:length]) == ()
            continue
        with pytest.raises(NotReadable):
            read_stream(PROXIES[:length])


def test_kinds_supers_and_constants_are_told() -> None:
    found = read_stream(OWN)
    cart = named(found, "Samples$Cart")
    assert (cart.uid, cart.super_name, cart.kind) == (42, "Samples$Above", Kind.SERIALIZABLE)
    above = named(found, "Samples$Above")
    assert not above.has_objects
    assert above.places == frozenset()
    size = named(found, "Samples$Size")
    assert (size.kind, size.constants) == (Kind.ENUM, ("LARGE", "SMALL"))
    assert named(found, "[D").kind is Kind.ARRAY
    assert named(found, "java.util.ArrayList").by_hand
    assert not cart.by_hand
    assert named(found, "java.util.ArrayList").places == {Place("Samples$Cart", "lines")}


def test_the_interfaces_of_a_proxy_are_told() -> None:
    proxy = read_stream(PROXIES)[0]
    assert proxy.kind is Kind.PROXY
    assert proxy.interfaces == ("java.lang.Runnable", "java.lang.Comparable")


def test_an_array_that_holds_itself_is_read() -> None:
    array = named(read_stream(CIRCLE), "[Ljava.lang.Object;")
    assert array.places == {Place(), Place("[Ljava.lang.Object;")}


# Hostile bytes

BYTES = st.binary(max_size=300)
MARKS = st.lists(
    st.sampled_from([bytes([mark]) for mark in range(0x70, 0x7F)]) | BYTES, max_size=40
)


def only_refused(stream: bytes) -> None:
    try:
        read_stream(stream)
    except NotReadable as refusal:
        reason = str(refusal)
    else:
        reason = "read"
    assert reason.isprintable()


@UNHURRIED
@given(BYTES)
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    only_refused(data)
    only_refused(MAGIC + data)


@UNHURRIED
@given(MARKS)
def test_any_order_of_marks_is_read_or_refused(parts: list[bytes]) -> None:
    only_refused(MAGIC + b"".join(parts))


@MANY
@given(st.sampled_from(sorted(KEPT)), st.data())
def test_a_damaged_stream_is_read_or_refused(name: str, data: st.DataObject) -> None:
    stream = bytearray(KEPT[name])
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(4, len(stream) - 1))
        if data.draw(st.booleans()):
            stream[at] = data.draw(st.integers(0, 255))
        else:
            del stream[at : at + data.draw(st.integers(1, 9))]
            stream += b"\0" * 16
    only_refused(bytes(stream))


def descriptor(name: bytes, fields: bytes = b"\0\0", flags: int = 2) -> bytes:
    head = b"\x72" + struct.pack(">H", len(name)) + name + bytes(8) + bytes([flags])
    return head + fields + b"\x78"


def test_nesting_sixty_thousand_deep_is_read_without_recursion() -> None:
    node = b"\x73" + descriptor(b"Node", b"\0\x01L\0\x04next\x74\0\x06LNode;") + b"\x70"
    depth = 60_000
    stream = MAGIC + node + b"\x73\x71\0\x7e\0\0" * depth + b"\x70"
    assert named(read_stream(stream), "Node").places == {Place(), Place("Node", "next")}


@pytest.mark.parametrize(
    "hostile",
    [
        pytest.param(b"\x75" + descriptor(b"[J") + b"\x70\x7f\xff\xff\xff", id="array of 2^31"),
        pytest.param(b"\x75" + descriptor(b"[LX;") + b"\x70\x7f\xff\xff\xff", id="objects of 2^31"),
        pytest.param(b"\x75" + descriptor(b"[J") + b"\x70\xff\xff\xff\xff", id="array of -1"),
        pytest.param(b"\x7c" + b"\x7f" * 8, id="text of 2^63"),
        pytest.param(b"\x7a\x7f\xff\xff\xff", id="block of 2^31"),
        pytest.param(b"\x7d\x7f\xff\xff\xff", id="proxy of 2^31 interfaces"),
        pytest.param(b"\x73" + descriptor(b"A") + b"\x71\0\x7e\0\0", id="a class above itself"),
        pytest.param(b"\x71\0\x7e\0\x05", id="a pointer to nothing"),
        pytest.param(b"\x71\0\0\0\0", id="a pointer before the first"),
        pytest.param(b"\x73\x70", id="an object of no class"),
        pytest.param(b"\x7b\x7b\x7b", id="exceptions in exceptions"),
        pytest.param(b"\x73" + descriptor(b"A\x1b[2J") + b"\x70", id="an escape in a name"),
        pytest.param(b"\x73" + descriptor(b"A\xff") + b"\x70", id="a name in no encoding"),
        pytest.param(b"\x73" + descriptor(b"A", flags=6) + b"\x70", id="two kinds at once"),
        pytest.param(b"\x73" + descriptor(b"A", flags=4) + b"\x70", id="the old protocol"),
        pytest.param(b"\x75" + descriptor(b"A") + b"\x70\0\0\0\0", id="an array of no array class"),
        pytest.param(
            b"\x7e" + descriptor(b"A", flags=0x12) + b"\x70\x70", id="a nameless constant"
        ),
    ],
)
def test_a_hostile_stream_is_refused_at_once(hostile: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(NotReadable):
            read_stream(MAGIC + hostile)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def test_fields_left_out_are_noticed_in_a_value_too_long_to_guess() -> None:
    careless = descriptor(b"A", b"\0\x01L\0\x01a\x74\0\x03LA;", flags=3)
    block = b"\x7a" + struct.pack(">i", 400_000) + bytes(400_000)
    (found,) = read_stream(MAGIC + b"\x73" + careless + b"\x70" + block + b"\x78")
    assert (found.name, found.by_hand) == ("A", True)


def test_a_long_line_of_classes_above_cannot_make_the_reading_long() -> None:
    line = b"".join(descriptor(b"A%04d" % n) for n in range(2_000)) + b"\x70"
    objects = b"\x73\x71\0\x7e\0\0" * 20_000
    with pytest.raises(NotReadable, match="classes above it"):
        read_stream(MAGIC + b"\x73" + line + objects)


@pytest.mark.parametrize(
    "long",
    [
        pytest.param(b"\x70" * (4 << 20), id="four million nulls"),
        pytest.param(
            b"\x73"
            + b"".join(descriptor(b"A%04d" % n) for n in range(190))
            + b"\x70"
            + b"\x73\x71\0\x7e\0\0" * 200_000,
            id="many objects with many classes above",
        ),
    ],
)
def test_a_value_that_takes_too_many_steps_is_given_up(long: bytes) -> None:
    with pytest.raises(NotReadable, match="steps"):
        read_stream(MAGIC + long)


def test_a_value_beyond_the_limit_is_refused_unread() -> None:
    with pytest.raises(NotReadable, match="longer than"):
        read_stream(MAGIC + bytes(VALUE_BYTES_MAX))


def test_what_is_no_java_stream_is_refused() -> None:
    with pytest.raises(NotReadable, match="AC ED 00 05"):
        read_stream(b'{"a": 1}')
