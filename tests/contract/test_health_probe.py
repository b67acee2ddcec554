"""The health probe against an application that misbehaves on purpose."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from rolling_deploy.remote.connection import CannotReach, ForwardingRefused
from rolling_deploy.remote.health import describe_source, probe
from rolling_deploy.remote.http import BODY_MAX_BYTES, HttpClient, Question
from rolling_deploy.remote.opener import Opener, open_directly
from rolling_deploy.settings import HealthSettings, VersionSource
from tests.certificate import self_signed
from tests.misbehaving_app import App, Asked, Says, running_app
from tests.redis_server import free_port

if TYPE_CHECKING:
    import socket
    from pathlib import Path

    from rolling_deploy.rollout.observed import Health

pytestmark = pytest.mark.timeout(120)

PLAIN = HealthSettings(path="/health", timeout_ms=2_000)
VERSIONED = replace(PLAIN, version=VersionSource(header="X-Version"))
GENEROUS_MS = 20_000
SHORT_MS = 600


def asked_from(
    app: App,
    settings: HealthSettings,
    *,
    sources: dict[str, Opener] | None = None,
    streak: int = 3,
    limit_ms: int = GENEROUS_MS,
    wanted_version: str | None = None,
) -> Health:
    return probe(
        settings,
        app.address,
        sources or {"lb1": open_directly},
        streak=streak,
        limit_ms=limit_ms,
        wanted_version=wanted_version,
    )


def serving(version: str, **more: object) -> Says:
    return Says(headers={"X-Version": version}, **more)  # type: ignore[arg-type] # real fields


def test_a_good_backend_is_good_after_exactly_the_streak() -> None:
    with running_app(lambda _: Says()) as app:
        health = asked_from(app, PLAIN)
        assert health.is_good, health
        assert not health.is_version_checked
        assert health.version is None
        assert [asked.path for asked in app.asked] == ["/health"] * 3
        assert "from lb1: 200 in " in health.detail


def test_cookies_that_are_set_are_told_and_those_that_are_dropped_are_not() -> None:
    def sets(asked: Asked) -> Says:
        cookie = "JSESSIONID=1F; Path=/; HttpOnly"
        if asked.path == "/version":
            cookie = "theme=dark"
        elif asked.number == 1:
            cookie = "old=; Max-Age=0"
        return Says(headers={"Set-Cookie": cookie, "X-Version": "2.0"})

    apart = replace(PLAIN, version=VersionSource(header="X-Version", path="/version"))
    with running_app(sets) as app:
        health = asked_from(app, apart)
        assert health.is_good, health
        assert health.cookies == {"JSESSIONID", "theme"}
        assert len(app.asked) == 6
    with running_app(lambda _: Says()) as app:
        assert asked_from(app, PLAIN).cookies == frozenset()


def test_every_source_must_have_its_own_streak() -> None:
    with running_app(lambda _: serving("2.0")) as app:
        both: dict[str, Opener] = {"lb1": open_directly, "lb2": open_directly}
        health = asked_from(app, VERSIONED, sources=both)
        assert health.is_good
        assert health.version == "2.0"
        assert len(app.asked) >= 6
        assert "from lb1" in health.detail
        assert "from lb2" in health.detail


def test_a_source_that_cannot_reach_the_backend_makes_it_not_good() -> None:
    def prohibited(host: str, port: int, *, timeout_ms: int) -> socket.socket:
        raise ForwardingRefused(
            f"sshd will not forward to {host}:{port} in {timeout_ms}", is_prohibited=True
        )

    def gone(host: str, port: int, *, timeout_ms: int) -> socket.socket:
        raise CannotReach(f"lb3 is off, {host}:{port} not asked in {timeout_ms}")

    with running_app(lambda _: Says()) as app:
        sources: dict[str, Opener] = {"lb1": open_directly, "lb2": prohibited, "lb3": gone}
        health = asked_from(app, PLAIN, sources=sources, limit_ms=SHORT_MS)
    assert not health.is_good
    assert "from lb2: no answer" in health.detail
    assert "sshd will not forward" in health.detail
    assert "lb3 is off" in health.detail
    assert "from lb1" not in health.detail


def test_no_source_at_all_is_not_good() -> None:
    health = probe(PLAIN, "127.0.0.1:1", {}, streak=1, limit_ms=100)
    assert not health.is_good
    assert "not asked" in health.detail


def test_a_backend_that_hangs_at_first_is_asked_again() -> None:
    def hang_twice(asked: Asked) -> Says:
        return Says(after_s=30 if asked.number <= 2 else 0)

    with running_app(hang_twice) as app:
        health = asked_from(app, replace(PLAIN, timeout_ms=300))
        assert health.is_good, health
        assert len(app.asked) == 5


def test_a_backend_that_always_hangs_is_not_good_at_the_limit() -> None:
    with running_app(lambda _: Says(after_s=60)) as app:
        begun = time.monotonic()
        health = asked_from(app, replace(PLAIN, timeout_ms=300), limit_ms=1_000)
        took_s = time.monotonic() - begun
    assert not health.is_good
    assert "no whole answer within" in health.detail
    assert 0.9 < took_s < 10


def test_an_answer_after_five_seconds_is_not_waited_for() -> None:
    with running_app(lambda _: Says(after_s=5)) as app:
        begun = time.monotonic()
        health = asked_from(app, replace(PLAIN, timeout_ms=200), streak=1, limit_ms=500)
        assert not health.is_good
        assert time.monotonic() - begun < 4


def test_an_answer_that_trickles_in_is_given_up_at_the_timeout() -> None:
    with running_app(lambda _: Says(body=b"x" * 1_000, pause_s=0.05)) as app:
        begun = time.monotonic()
        health = asked_from(app, replace(PLAIN, timeout_ms=400), streak=1, limit_ms=700)
        assert not health.is_good
        assert "no whole answer within 400 ms" in health.detail or "no answer" in health.detail
        assert time.monotonic() - begun < 10


def test_a_refused_connection_is_named() -> None:
    health = probe(
        PLAIN, f"127.0.0.1:{free_port()}", {"lb1": open_directly}, streak=1, limit_ms=SHORT_MS
    )
    assert not health.is_good
    assert "Connection refused" in health.detail


def test_an_application_that_is_not_deployed_is_not_good() -> None:
    with running_app(lambda _: Says(404, b"<h1>Not Found</h1>")) as app:
        health = asked_from(app, PLAIN, limit_ms=SHORT_MS)
    assert not health.is_good
    assert "status should be 200, is 404" in health.detail
    assert "<h1>Not Found</h1>" in health.detail


def test_a_redirect_is_an_answer_and_not_followed() -> None:
    def redirect(_: Asked) -> Says:
        return Says(302, b"", {"Location": "/elsewhere"})

    with running_app(redirect) as app:
        assert not asked_from(app, PLAIN, limit_ms=SHORT_MS).is_good
        assert asked_from(app, replace(PLAIN, status=(200, 302))).is_good
        assert {asked.path for asked in app.asked} == {"/health"}


def test_a_body_that_does_not_match_is_not_good() -> None:
    with running_app(lambda _: Says(body=b'{"status":"DOWN"}')) as app:
        settings = replace(PLAIN, content='"status":"UP"')
        health = asked_from(app, settings, limit_ms=SHORT_MS)
    assert not health.is_good
    assert "the body should match" in health.detail


def test_a_backend_that_flaps_never_has_its_streak() -> None:
    def flap(asked: Asked) -> Says:
        return Says(200 if asked.number % 3 else 503)

    with running_app(flap) as app:
        assert not asked_from(app, PLAIN, limit_ms=1_500).is_good
        assert asked_from(app, PLAIN, streak=2).is_good


def test_the_pause_grows_while_it_is_not_good() -> None:
    with running_app(lambda _: Says(503)) as app:
        settings = replace(PLAIN, interval_min_ms=20, interval_max_ms=400)
        asked_from(app, settings, limit_ms=1_500)
        # Without growth there would be about 75.
        assert 4 <= len(app.asked) <= 20


def test_a_wrong_version_for_the_whole_time_is_not_good_and_named() -> None:
    with running_app(lambda _: serving("1.0")) as app:
        health = asked_from(app, VERSIONED, wanted_version="2.0", limit_ms=SHORT_MS)
        assert not health.is_good
        assert health.is_version_checked
        assert health.version == "1.0"
        assert "serves 1.0, should be 2.0" in health.detail
        assert asked_from(app, VERSIONED, wanted_version="1.0").is_good


def test_the_streak_begins_when_the_wanted_version_is_there() -> None:
    def upgrade(asked: Asked) -> Says:
        return serving("1.0" if asked.number <= 4 else "2.0")

    with running_app(upgrade) as app:
        health = asked_from(app, VERSIONED, wanted_version="2.0")
        assert health.is_good
        assert health.version == "2.0"
        assert len(app.asked) == 7


def test_a_streak_is_of_one_version() -> None:
    with running_app(lambda asked: serving(str(asked.number % 2))) as app:
        assert not asked_from(app, VERSIONED, streak=2, limit_ms=SHORT_MS).is_good


def test_sources_that_see_different_versions_do_not_agree() -> None:
    with running_app(lambda _: serving("1.0")) as old, running_app(lambda _: serving("2.0")) as new:

        def at(app: App) -> Opener:
            def open_there(host: str, port: int, *, timeout_ms: int) -> socket.socket:
                assert (host, port) == ("127.0.0.1", old.port)
                return open_directly(host, app.port, timeout_ms=timeout_ms)

            return open_there

        health = asked_from(old, VERSIONED, sources={"lb1": at(old), "lb2": at(new)})
    assert not health.is_good
    assert health.version is None
    assert "the answers differ" in health.detail
    assert "serves 1.0" in health.detail
    assert "serves 2.0" in health.detail


def test_an_answer_without_a_version_is_not_the_wanted_one() -> None:
    with running_app(lambda _: Says()) as app:
        health = asked_from(app, VERSIONED, wanted_version="2.0", limit_ms=SHORT_MS)
        assert not health.is_good
        assert "carries no version, should be 2.0" in health.detail
        unasked = asked_from(app, VERSIONED)
        assert unasked.is_good
        assert unasked.version is None


def test_the_version_may_have_a_path_of_its_own() -> None:
    def answer(asked: Asked) -> Says:
        if asked.path == "/info":
            return Says(body=json.dumps({"build": {"version": "2.0"}}).encode())
        return Says()

    with running_app(answer) as app:
        source = VersionSource(json="build.version", path="/info")
        health = asked_from(app, replace(PLAIN, version=source), wanted_version="2.0")
        assert health.is_good
        assert health.version == "2.0"
        assert {asked.path for asked in app.asked} == {"/health", "/info"}


def test_a_huge_body_is_not_read_to_its_end() -> None:
    with running_app(lambda _: Says(body=b"UP" + b"x" * 50_000_000)) as app:
        health = asked_from(app, replace(PLAIN, content="^UP", timeout_ms=10_000))
        with HttpClient(open_directly) as client:
            answer = client.ask(Question(app.address, "/", timeout_ms=10_000))
    assert health.is_good
    assert len(health.detail) < 600
    assert answer.is_cut
    assert len(answer.body) == BODY_MAX_BYTES


def test_escapes_in_a_body_never_reach_the_terminal() -> None:
    body = b"\x1b]0;owned\x07\x1b[2J\r\nSite\tis \xe2\x80\xaeup\x00"
    with running_app(lambda _: Says(500, body)) as app:
        health = asked_from(app, PLAIN, limit_ms=SHORT_MS)
    assert not health.is_good
    assert health.detail.isprintable()
    assert "\\x1b[2J Site is \\u202eup\\x00" in health.detail


def test_a_self_signed_certificate_is_accepted_only_when_asked(tmp_path: Path) -> None:
    with running_app(lambda _: Says(), certificate=self_signed(tmp_path)) as app:
        settings = replace(PLAIN, scheme="https")
        refused = asked_from(app, settings, limit_ms=SHORT_MS)
        assert not refused.is_good
        assert "certificate verify failed" in refused.detail
        assert asked_from(app, replace(settings, verify_tls=False)).is_good


def test_the_host_header_and_the_configured_headers_are_sent() -> None:
    with running_app(lambda _: Says()) as app:
        settings = replace(PLAIN, host_header="www.example", headers={"X-Probe": "yes"})
        assert asked_from(app, settings).is_good
        assert asked_from(app, PLAIN).is_good
    assert {asked.headers["host"] for asked in app.asked} == {"www.example", app.address}
    assert app.asked[0].headers["x-probe"] == "yes"
    assert app.asked[0].headers["connection"] == "close"


def test_a_cookie_is_not_sent_back_by_the_probe() -> None:
    with running_app(lambda _: Says(headers={"Set-Cookie": "JSESSIONID=1; Path=/"})) as app:
        assert asked_from(app, PLAIN).is_good
    assert all("cookie" not in asked.headers for asked in app.asked)


def test_no_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("ALL_PROXY", f"http://127.0.0.1:{free_port()}")
    with running_app(lambda _: Says()) as app:
        assert asked_from(app, PLAIN).is_good


def test_something_that_is_not_an_address_is_not_good() -> None:
    health = probe(PLAIN, "not an address", {"lb1": open_directly}, streak=1, limit_ms=100)
    assert not health.is_good
    assert "no answer" in health.detail


def test_the_way_a_question_travels_is_named() -> None:
    class Forwards:
        forwarding = "relayed by command"

    class SaysYes:
        forwarding = True

    class SaysNo:
        forwarding = False

    class SaysNothing:
        pass

    told = [describe_source(each()) for each in (Forwards, SaysYes, SaysNo, SaysNothing)]  # type: ignore[arg-type] # only the one attribute is read
    assert told == ["relayed by command", "forwarded", "relayed by command", ""]
