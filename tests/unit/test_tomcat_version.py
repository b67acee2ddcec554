"""Which Tomcat it is, out of the middle of a jar; whatever the bytes are, nothing is guessed."""

from __future__ import annotations

import io
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rolling_deploy.remote.tomcat_version import version_in

ENTRY = "org/apache/catalina/util/ServerInfo.properties"


def entry_with(text: str, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """Answers what a machine sends: from the header of the entry on, with more behind it."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", method) as jar:
        jar.writestr("a", b"first")
        jar.writestr(ENTRY, text)
        jar.writestr("z", b"last" * 99)
    content = packed.getvalue()
    return content[content.index(ENTRY.encode()) - 30 :][:4000]


@pytest.mark.parametrize(
    ("said", "stops_gracefully"),
    [
        ("7.0.109", False),
        ("8.0.53", False),
        ("8.5.75", False),
        ("8.5.76", True),
        ("8.5.100", True),
        ("9.0.9", False),
        ("9.0.40", False),
        ("9.0.41", True),
        ("10.0.0-M10", False),
        ("10.0.0", True),
        ("10.0.1-M1", True),
        ("10.1.60", True),
        ("11.0.0-M3", True),
        ("12.0.0", True),
    ],
)
@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED])
def test_the_version_is_that_of_the_jar(said: str, stops_gracefully: bool, method: int) -> None:
    text = f"# 1.2.3\nserver.info=Apache Tomcat/{said} (Debian)\nserver.number=0.0.0.0\n"
    version = version_in(entry_with(text, method))
    assert version is not None
    assert (str(version), version.stops_gracefully) == (said, stops_gracefully)


@pytest.mark.parametrize("text", ["", "server.info=Apache\n", "server.number=9.0.1.0\n"])
def test_a_jar_that_hides_its_version_has_none(text: str) -> None:
    assert version_in(entry_with(text)) is None


@given(st.binary(max_size=400), st.integers(0, 400))
def test_any_bytes_have_a_version_or_none(noise: bytes, cut: int) -> None:
    version_in(noise)
    whole = entry_with("server.info=Apache Tomcat/9.0.41\n")
    version_in(whole[:cut])
    version_in(whole[:cut] + noise)
    version_in(whole[:76] + noise)
