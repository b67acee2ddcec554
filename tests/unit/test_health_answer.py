"""What one answer says: the version in it, and what of it may be printed."""

from __future__ import annotations

import pytest

from rolling_deploy.remote.health_answer import judge, version_in, visible
from rolling_deploy.remote.http import HttpAnswer
from rolling_deploy.settings import HealthSettings, VersionSource


def answer(body: str = "", status: int = 200, *, x_version: str | None = None) -> HttpAnswer:
    headers = {} if x_version is None else {"x-version": x_version}
    return HttpAnswer(status, headers, body.encode(), took_ms=3)


@pytest.mark.parametrize(
    ("path", "body", "version"),
    [
        ("version", '{"version": "2.0"}', "2.0"),
        ("build.version", '{"build": {"version": "2.0"}}', "2.0"),
        ("build.version", '{"build.version": "2.0"}', "2.0"),
        ("build.version", '{"build": {"name": "x"}}', None),
        ("build.version", '{"build": "2.0"}', None),
        ("build.version", '{"build": {"version": {"major": 2}}}', None),
        ("parts.1.version", '{"parts": [{}, {"version": "2.0"}]}', "2.0"),
        ("parts.7", '{"parts": []}', None),
        ("version", '{"version": 1.10}', "1.10"),
        ("version", '{"version": 7}', "7"),
        ("version", '{"version": ""}', None),
        ("version", '{"version": null}', None),
        ("version", "<html>", None),
        ("version", "[" * 100_000, None),
    ],
)
def test_a_version_is_found_in_json(path: str, body: str, version: str | None) -> None:
    assert version_in(VersionSource(json=path), answer(body)) == version


def test_a_version_is_found_by_a_pattern() -> None:
    source = VersionSource(pattern=r"build ([\d.]+)")
    assert version_in(source, answer("app build 2.0.1, ok")) == "2.0.1"
    assert version_in(source, answer("nothing")) is None
    assert version_in(VersionSource(pattern=r"\d+\.\d+"), answer("v 3.1")) == "3.1"


def test_a_version_is_found_in_a_header_of_any_case_and_status() -> None:
    source = VersionSource(header="X-Version")
    assert version_in(source, answer(status=503, x_version=" 2.0 ")) == "2.0"
    assert version_in(source, answer()) is None


def test_an_error_page_that_happens_to_match_is_no_version() -> None:
    assert version_in(VersionSource(pattern=r"([\d.]+)"), answer("Error 404", 404)) is None


def test_an_answer_is_good_by_status_content_and_version_together() -> None:
    settings = HealthSettings(content="UP", version=VersionSource(header="X-Version"))
    good = answer("UP", x_version="2.0")
    assert judge(settings, good, good, "2.0").is_good
    assert not judge(settings, good, good, "2.1").is_good
    assert judge(settings, good, good, None).is_good
    for bad in (answer("UP", 500, x_version="2.0"), answer("no", x_version="2.0")):
        assert not judge(settings, bad, bad, "2.0").is_good


def test_everything_wrong_is_named_at_once() -> None:
    settings = HealthSettings(content="UP", version=VersionSource(header="X-Version"))
    bad = answer("down", 503, x_version="1.0")
    detail = judge(settings, bad, bad, "2.0").detail
    assert "status should be 200, is 503" in detail
    assert "the body should match `UP`" in detail
    assert "serves 1.0, should be 2.0" in detail
    assert "503 in 3 ms with `down`" in detail


def test_only_printable_characters_are_shown_and_not_many() -> None:
    shown = visible(b"\x1b[31mred\r\n\xff" + b"x" * 1_000)
    assert shown.startswith("\\x1b[31mred ")
    assert shown.isprintable()
    assert shown.endswith("...")
    assert len(shown) < 220
