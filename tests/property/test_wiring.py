"""Whatever a `context.xml` or `server.xml` looks like: only what is wanted changes in it."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from rolling_deploy.remote.service_checks import Lines
from rolling_deploy.remote.session_store_address import address_of
from rolling_deploy.remote.tomcat_config import graceful_lines
from rolling_deploy.rollout.observed import Verdict
from rolling_deploy.settings import (
    SessionManagerSettings,
    SessionStoreSettings,
    WiringSettings,
)
from rolling_deploy.upstreams.fragments import CONFIG_FILE, Passwords, render_wiring
from rolling_deploy.wiring import NotMergeable, merge_context, merge_server, read_fragment
from tests.documents import (
    ENCODINGS,
    OTHERS,
    OURS,
    VALVE,
    WANTED,
    attribute_texts,
    context_files,
    read_xml,
    server_files,
)
from tests.yaml_reading import read_yaml


@given(context_files())
def test_a_merged_context_has_what_is_wanted_and_every_byte_that_it_had(content: bytes) -> None:
    merged = merge_context(content, WANTED)
    root = read_xml(merged)
    assert [child.get("b") for child in root if child.tag == "Manager"] == ["x & <y>"]
    assert [child.get("className") for child in root].count(VALVE) == 1
    assert merge_context(merged, WANTED) == merged
    # But for our elements, and the blanks of lines that were added, the two are the same.
    every = (*OURS, *WANTED.texts)
    assert _bare(content, every) == _bare(merged, every)


def _bare(content: bytes, texts: Sequence[str]) -> bytes:
    for text in texts:
        for ends in ("\n", "\r\n"):
            content = content.replace(text.replace("\n", ends).encode(), b"")
    content = re.sub(rb"\s", b"", content)
    # `<Context/>` is the same as one that is opened and closed.
    return re.sub(rb"(<Context[^<]*?)/>(?=$|<!)", rb"\1></Context>", content)


@given(context_files())
def test_what_is_ours_is_renewed_in_its_place_and_nothing_else_moves(content: bytes) -> None:
    merged = merge_context(content, WANTED)
    old = merged
    valve, manager = (one.encode() for one in WANTED.texts)
    newline = b"\r\n" if b"\r\n" in content else b"\n"
    old = old.replace(manager.replace(b"\n", newline), OURS[0].encode())
    old = old.replace(valve, OURS[3].encode())
    assert merge_context(old, WANTED) == merged


@given(context_files(ours=False))
def test_what_is_added_is_one_piece_and_nothing_else_moves(content: bytes) -> None:
    merged = merge_context(content, WANTED)
    grown = len(merged) - len(content)
    without_comments = re.sub(rb"<!--.*?-->", b"", content, flags=re.DOTALL)
    assume(not without_comments.rstrip().endswith(b"/>"))
    assert any(merged[:at] + merged[at + grown :] == content for at in range(len(content) + 1))


@given(context_files(newline="\r\n", ours=False))
def test_lines_end_as_they_did(content: bytes) -> None:
    assume(b"\r\n" in content)
    merged = merge_context(content, WANTED)
    assert merged.count(b"\n") == merged.count(b"\r\n")


@given(server_files())
def test_a_merged_server_stops_gracefully_and_changes_nothing_but_those_attributes(
    made: tuple[bytes, int],
) -> None:
    content, port = made
    merged = merge_server(content, [port], 4321)
    assert merge_server(merged, [port], 4321) == merged
    before, after = read_xml(content), read_xml(merged)
    for old, new in zip(before.iter(), after.iter(), strict=True):
        changed = {key for key in new.attrib if old.get(key) != new.get(key)}
        ports = {one.get("port") for one in new.iter("Connector")}
        is_ours = str(port) in ports
        allowed = {"Service": {"gracefulStopAwaitMillis"}, "Connector": {"bindOnInit"}}
        assert changed <= (allowed.get(new.tag, set()) if is_ours else set())
        assert old.attrib.keys() <= new.attrib.keys()
    # Without the values set, and what was added, it is what it was.
    rest = merged.replace(b' gracefulStopAwaitMillis="4321"', b"").replace(
        b' bindOnInit="false"', b""
    )
    plain = content.replace(b' gracefulStopAwaitMillis="4321"', b"")
    plain = plain.replace(b' gracefulStopAwaitMillis="1"', b"")
    plain = plain.replace(b' bindOnInit="false"', b"").replace(b' bindOnInit="true"', b"")
    assert rest == plain
    text = merged.decode("utf-8", "surrogateescape")
    lines = {line.name: line.verdict for line in graceful_lines(Lines("app1"), text, port)}
    assert lines["graceful stop"] is Verdict.OK, "what is judged in a preflight is what is set"


@given(st.binary(max_size=300))
def test_any_bytes_are_merged_or_refused(content: bytes) -> None:
    with contextlib.suppress(NotMergeable):
        merge_context(content, WANTED)
    with contextlib.suppress(NotMergeable):
        merge_server(content, [8080], 1000)


@given(context_files(), st.sampled_from(OTHERS))
def test_a_manager_of_another_class_is_named_with_its_line(content: bytes, other: bytes) -> None:
    assume(b"<Manager className" not in content and content.rstrip().endswith(b"</Context>"))
    at = content.rindex(b"</Context>")
    line = content[:at].count(b"\n") + 1
    with pytest.raises(NotMergeable, match="another class") as caught:
        merge_context(content[:at] + other + content[at:], WANTED)
    assert caught.value.line == line


@given(attribute_texts(), attribute_texts())
def test_every_password_reaches_the_manager_as_it_is(password: str, username: str) -> None:
    assume(password and "${" not in password)
    manager = SessionManagerSettings("orangefunction")
    store = SessionStoreSettings(url="redis://h:1/3")
    address = address_of(store.url)
    wanted = WiringSettings(manager)
    context = render_wiring(wanted, store, address, Passwords(password), "a").wiring.context
    assert read_fragment(context).elements[1].attributes["password"] == password
    merged = merge_context(b"<Context></Context>", read_fragment(context))
    found = read_xml(merged).find("Manager")
    assert found is not None
    assert found.get("password") == password
    store = SessionStoreSettings(url="redis://h:1/3", username=username)
    wanted = WiringSettings(SessionManagerSettings("redisson"))
    redisson = render_wiring(wanted, store, address, Passwords(password), "a")
    config = redisson.wiring.files[CONFIG_FILE].decode()
    read = read_yaml(config)["singleServerConfig"]
    assert read["password"] == password
    assert read.get("username", "") == username
    assert read["database"] == 3
    assert "${" not in config


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_what_the_encoding_lacks_is_written_as_a_reference(encoding: str) -> None:
    content = f'<?xml version="1.0" encoding="{encoding}"?>\n<Context>\n</Context>'.encode(encoding)
    wanted = read_fragment('<Manager className="m.M" password="zł&#9;é☃"/>')
    merged = merge_context(content, wanted)
    assert next(iter(read_xml(merged))).get("password") == "zł\té☃"
    assert merge_context(merged, wanted) == merged
