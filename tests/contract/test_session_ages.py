"""How fast sessions come, on a real Redis: what is told, what is not, and that nothing changes."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from rolling_deploy.remote.session_ages import CREATED, LONG, first_long, sample_pace
from rolling_deploy.settings import SessionStoreSettings
from tests.contract.test_orangefunction_sessions import CREATED_MS, WRITTEN
from tests.redis_server import BINARY, WHY_SKIPPED, RedisServer, redis_server
from tests.serialization.kept_streams import OWN

pytestmark = pytest.mark.skipif(BINARY is None, reason=WHY_SKIPPED)

MINUTE_MS = 60_000
READING = {"scan", "type", "hget", "getrange", "time"}


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with redis_server("--save", "") as running:
        yield running


@pytest.fixture(autouse=True)
def _empty(server: RedisServer) -> None:
    with server.client() as client:
        client.flushall()


def long_of(at_ms: int) -> bytes:
    """Answers a `Long` as Java writes it."""
    return b"\xac\xed\x00\x05sr\x00\x0e" + LONG + at_ms.to_bytes(8, "big")


def settings(
    server: RedisServer, key: str = "shop:{id}", sample_max: int = 500
) -> SessionStoreSettings:
    return SessionStoreSettings(server.url, session_key=key, sample_max=sample_max)


def store(server: RedisServer, *ages_s: float) -> None:
    """Keep sessions of Redisson's form, each so many seconds old."""
    now_ms = time.time_ns() // 1_000_000
    with server.client() as client:
        for number, age_s in enumerate(ages_s):
            made = long_of(now_ms - round(age_s * 1000))
            client.hset(f"shop:{number}", mapping={CREATED: made, b"cart": OWN})


def test_of_redissons_sessions_the_new_ones_are_counted(server: RedisServer) -> None:
    store(server, *[3_000] * 90, *[5] * 10)
    pace = sample_pace(settings(server), None, MINUTE_MS)
    assert (pace.sampled, pace.new, pace.window_ms, pace.gap) == (100, 10, MINUTE_MS, "")
    assert pace.per_minute == pytest.approx(0.1)


def test_a_session_of_one_value_says_it_before_its_attributes(server: RedisServer) -> None:
    """As com.orangefunction's manager wrote it, with another time in it."""
    now_ms = time.time_ns() // 1_000_000
    head, long, rest = WRITTEN.partition(LONG)
    assert first_long(WRITTEN) == CREATED_MS
    with server.client() as client:
        for number, at_ms in enumerate((now_ms - 1_000, now_ms - 3_600_000)):
            made = head + long + at_ms.to_bytes(8, "big") + rest[8:]
            client.set(f"{number}" * 32, made + OWN * 400)
        client.set("poisoned", "null")
    pace = sample_pace(settings(server, "{id}"), None, MINUTE_MS)
    assert (pace.sampled, pace.new) == (2, 1)


def test_a_session_that_seems_to_be_made_later_is_not_new(server: RedisServer) -> None:
    store(server, -30, -30, 5)
    assert sample_pace(settings(server), None, MINUTE_MS).new == 1


def test_what_does_not_say_when_it_was_made_is_not_guessed(server: RedisServer) -> None:
    with server.client() as client:
        client.hset("shop:1", mapping={CREATED: b"\x01\x09\x88\xc0", "cart": b"kryo"})
        client.set("shop:2", b"\x00binary")
        client.lpush("shop:3", "a list")
    assert sample_pace(settings(server), None, MINUTE_MS).gap == (
        "no stored session says when it was made"
    )


def test_an_empty_store_and_one_that_is_not_there_are_told_apart(server: RedisServer) -> None:
    assert sample_pace(settings(server), None, MINUTE_MS).gap == "no session is stored"
    gone = SessionStoreSettings("redis://127.0.0.1:1/0", session_key="shop:{id}")
    assert "the session store was not read" in sample_pace(gone, None, MINUTE_MS).gap


@pytest.mark.parametrize(
    ("store_settings", "why"),
    [
        (SessionStoreSettings(), "no session store is configured"),
        (SessionStoreSettings("redis://127.0.0.1:1/0"), "`session_store.session_key` does not say"),
        (
            SessionStoreSettings("redis://127.0.0.1:1/0", session_key="{id}", sample_max=0),
            "`session_store.sample_max` is 0",
        ),
    ],
)
def test_what_is_not_configured_is_said(store_settings: SessionStoreSettings, why: str) -> None:
    assert why in sample_pace(store_settings, None, MINUTE_MS).gap


def test_no_more_are_asked_than_configured_and_nothing_but_reading_is_sent(
    server: RedisServer,
) -> None:
    store(server, *[3_000] * 400)
    with server.client() as client:
        client.config_resetstat()
    pace = sample_pace(settings(server, sample_max=50), None, MINUTE_MS)
    assert pace.sampled == 50
    with server.client() as client:
        sent = {
            name.removeprefix("cmdstat_"): stat["calls"]
            for name, stat in client.info("commandstats").items()
        }
    own = {"config", "client", "hello", "info", "select"}
    assert {name.split("|")[0] for name in sent} - own <= READING
    assert sent["hget"] <= 100


def test_a_long_is_read_only_from_a_java_stream() -> None:
    assert first_long(long_of(1_795_000_000_000)) == 1_795_000_000_000
    assert first_long(long_of(5)[4:]) is None
    assert first_long(long_of(5)[:-1]) is None
    assert first_long(None) is None
