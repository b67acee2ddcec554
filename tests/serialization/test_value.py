"""Which form a stored value is in, and what may honestly be said of one that Kryo wrote."""

from __future__ import annotations

import base64
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rolling_deploy.serialization import (
    Classes,
    Fate,
    Form,
    NotReadable,
    judge_names,
    read_value,
)
from rolling_deploy.serialization.kryo import class_names
from rolling_deploy.serialization.value import form_of
from tests.serialization.examples import UNHURRIED
from tests.serialization.java_programs import needs_java, run_java
from tests.serialization.kept_streams import OWN
from tests.serialization.test_classes import a_class, an_archive
from tests.session_manager import CACHE

REDISSON = CACHE / "redisson-all-3.39.0.jar"
HERE = "com.shop.KryoSamples$"
LINE, CART = HERE + "Line", HERE + "Cart"
NAMED = {
    "cart": (CART, "java.util.Date", LINE, "java.util.ArrayList"),
    "line": (LINE,),
    "long-name": (
        HERE + "AClassWithARatherLongNameThatIsLongerThanAnyStringKryoWritesAsAscii",
        LINE,
    ),
    "list": ("java.util.ArrayList", LINE),
    "array": (LINE,),
    "enum": (HERE + "Size",),
    "map": ("java.util.HashMap", LINE),
    "uuid": ("java.util.UUID",),
    "decimal": ("java.math.BigDecimal",),
    "set": ("java.util.TreeSet",),
    "as-list": ("java.util.Arrays$ArrayList", LINE),
    "date": ("java.util.Date",),
    "class-like-string": (),
    "long": (),
    "string": (),
}


@pytest.fixture(scope="module")
def written() -> dict[str, bytes]:
    if not REDISSON.exists():
        pytest.skip(f"no `{REDISSON}`: the test of a real Tomcat fetches it")
    lines = run_java("KryoSamples", class_path=[REDISSON]).splitlines()
    return {name: base64.b64decode(text) for name, text in (line.split(" ") for line in lines)}


@needs_java
@pytest.mark.parametrize("codec", ["", "+references"])
def test_what_redissons_default_codec_writes_is_known_for_kryo(
    written: dict[str, bytes], codec: str
) -> None:
    forms = {name: form_of(data) for name, data in written.items() if name.endswith(codec)}
    unknown = {name for name, form in forms.items() if form is Form.UNKNOWN}
    assert unknown <= {"umlaut", "umlaut+references"}
    assert set(forms.values()) <= {Form.KRYO, Form.UNKNOWN, Form.JAVA}


@needs_java
@pytest.mark.parametrize("codec", ["", "+references"])
@pytest.mark.parametrize("name", NAMED)
def test_the_names_that_kryo_wrote_are_found_and_no_text_is_taken_for_one(
    name: str, codec: str, written: dict[str, bytes]
) -> None:
    assert read_value(written[name + codec]).names == NAMED[name]


@needs_java
def test_redissons_java_codec_writes_a_java_stream(written: dict[str, bytes]) -> None:
    value = read_value(written["java"])
    assert value.form is Form.JAVA
    assert [each.name for each in value.classes] == ["java.lang.Integer", "java.lang.Number"]


@pytest.mark.parametrize(
    ("data", "form"),
    [
        (OWN, Form.JAVA),
        (b"null", Form.PLACEHOLDER),
        (b'{"@class":"com.shop.Cart"}', Form.JSON),
        (b'["java.lang.Long",1]', Form.JSON),
        (b"17", Form.JSON),
        (b"", Form.UNKNOWN),
        (b"{broken", Form.UNKNOWN),
        (b"\x09\x02", Form.KRYO),
        (b"\x05\x01", Form.KRYO),
        (b"\x05\x01\x01", Form.UNKNOWN),
        (b"\x01\x00java.util.UUI\xc4rest", Form.KRYO),
        (b"\x01\x01java.util.UUI\xc4rest", Form.UNKNOWN),
        (b"\x00\x00\x00", Form.UNKNOWN),
        (b"[" * 100_000, Form.UNKNOWN),
    ],
)
def test_forms_are_told_apart(data: bytes, form: Form) -> None:
    assert form_of(data) is form


def test_of_a_class_in_kryo_only_its_being_there_is_judged() -> None:
    war = an_archive({"WEB-INF/classes/com/shop/Cart.class": a_class("com.shop.Cart")})
    names = ("com.shop.Cart", "com.shop.Gone", "java.util.UUID", "com.shop.A$$SpringCGLIB$$0")
    fates = [each.fate for each in judge_names(names, Classes(io.BytesIO(war)))]
    assert fates == [Fate.UNKNOWN, Fate.MAY_FAIL, Fate.GIVEN, Fate.UNKNOWN]


def test_a_class_is_not_called_missing_when_a_jar_could_not_be_read() -> None:
    war = an_archive({"WEB-INF/lib/a.jar": b"broken"})
    (verdict,) = judge_names(["com.shop.Gone"], Classes(io.BytesIO(war)))
    assert verdict.fate is Fate.UNKNOWN
    assert "`WEB-INF/lib/a.jar`" in verdict.reasons[0]


@UNHURRIED
@given(st.binary(max_size=300))
def test_any_bytes_have_a_form_and_names(data: bytes) -> None:
    for each in (data, b"\x01\x00" + data, b"\x03" + data, b"[" + data):
        form_of(each)
        assert all("." in name and name.isascii() for name in class_names(each))
        try:
            read_value(each)
        except NotReadable:
            assert form_of(each) is Form.JAVA
