"""Warm-up requests against an application that is slow, cold or broken on purpose."""

from __future__ import annotations

import re
import time
from dataclasses import replace

import pytest

from rolling_deploy.remote.opener import open_directly
from rolling_deploy.remote.warm_up import warm_up
from rolling_deploy.rollout.step import Outcome, Result
from rolling_deploy.settings import HealthSettings, WarmUpSettings
from tests.misbehaving_app import App, Asked, Says, running_app
from tests.redis_server import free_port

pytestmark = pytest.mark.timeout(120)

HEALTH = HealthSettings()
WARMING = WarmUpSettings(paths=("/", "/cart"), requests_max=60, concurrency=2, last=5, limit_ms=300)


def warmed(app: App, settings: WarmUpSettings = WARMING, limit_ms: int = 30_000) -> Result:
    return warm_up(settings, HEALTH, app.address, open_directly, limit_ms)


def test_without_paths_the_warm_up_is_not_checked() -> None:
    result = warm_up(WarmUpSettings(), HEALTH, "127.0.0.1:1", open_directly, 1_000)
    assert result.outcome is Outcome.NOT_CHECKED
    assert result.detail == "no warm-up configured"


def test_a_cold_node_is_warm_when_the_last_answers_are_quick() -> None:
    def cold_at_first(asked: Asked) -> Says:
        return Says(after_s=0.6 if asked.number <= 3 else 0)

    with running_app(cold_at_first) as app:
        result = warmed(app)
        assert result.outcome is Outcome.DONE, result
        assert 8 <= len(app.asked) <= 12
    assert re.match(r"\d+ requests, first \d+ ms, last 5 under \d+ ms$", result.detail), result
    assert result.took_ms > 0


def test_the_paths_are_asked_in_turn() -> None:
    with running_app(lambda _: Says()) as app:
        assert warmed(app, replace(WARMING, concurrency=1, last=4)).outcome is Outcome.DONE
        assert [asked.path for asked in app.asked] == ["/", "/cart", "/", "/cart"]


def test_each_lane_keeps_its_session() -> None:
    def set_cookie(_: Asked) -> Says:
        return Says(headers={"Set-Cookie": "JSESSIONID=abc; Path=/"})

    with running_app(set_cookie) as app:
        assert warmed(app, replace(WARMING, concurrency=1)).outcome is Outcome.DONE
    cookies = [asked.headers.get("cookie") for asked in app.asked]
    assert cookies == [None, *["JSESSIONID=abc"] * (len(cookies) - 1)]


def test_a_node_that_stays_slow_fails_after_the_most_requests() -> None:
    with running_app(lambda _: Says(after_s=0.05)) as app:
        result = warmed(app, replace(WARMING, requests_max=10, limit_ms=20))
        assert result.outcome is Outcome.FAILED
        assert len(app.asked) == 10
    assert "10 requests" in result.detail
    assert "should be 5 in a row under 20 ms, is 0" in result.detail
    assert "at most 10 requests" in result.detail


def test_a_node_that_answers_errors_never_becomes_warm() -> None:
    with running_app(lambda asked: Says(503 if asked.path == "/cart" else 200)) as app:
        settings = replace(WARMING, requests_max=12)
        result = warmed(app, settings)
        assert result.outcome is Outcome.FAILED
    assert "6 failed, the last one /cart: 503" in result.detail


def test_redirects_count_as_answers() -> None:
    with running_app(lambda _: Says(302, b"", {"Location": "/login"})) as app:
        assert warmed(app).outcome is Outcome.DONE


def test_a_refused_connection_ends_at_the_limit_and_is_named() -> None:
    begun = time.monotonic()
    settings = replace(WARMING, requests_max=10_000)
    result = warm_up(settings, HEALTH, f"127.0.0.1:{free_port()}", open_directly, 800)
    assert result.outcome is Outcome.FAILED
    assert "Connection refused" in result.detail
    assert "800 ms are over" in result.detail
    assert time.monotonic() - begun < 10


def test_a_node_that_hangs_ends_at_the_limit() -> None:
    with running_app(lambda _: Says(after_s=60)) as app:
        begun = time.monotonic()
        result = warmed(app, limit_ms=700)
        assert result.outcome is Outcome.FAILED
        assert time.monotonic() - begun < 10
