"""Reaching the session store, logging in and writing, on a real redis-server."""

from __future__ import annotations

import contextlib
import secrets
import socket
import threading
import time
from typing import TYPE_CHECKING

import pytest
import redis

from rolling_deploy.operations.machines import FleetMachines
from rolling_deploy.operations.site import Site
from rolling_deploy.operations.telling import store_text
from rolling_deploy.rollout.observed import Verdict
from rolling_deploy.settings import SessionStoreSettings
from tests.certificate import self_signed
from tests.redis_server import (
    BINARY,
    WHY_SKIPPED,
    RedisServer,
    free_port,
    redis_server,
    wait_until,
)
from tests.session_store_lines import (
    ALL_LINES,
    PASSWORD,
    PASSWORD_ENV,
    PREFIX,
    RelayingOpener,
    assert_refused,
    examine,
    settings_for,
    with_verdict,
)
from tests.survey_fixture import INVENTORY, inventory_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


pytestmark = [
    pytest.mark.skipif(BINARY is None, reason=WHY_SKIPPED),
    pytest.mark.timeout(120),
]


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with redis_server() as running:
        yield running


@pytest.fixture(autouse=True)
def password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PASSWORD_ENV, PASSWORD)


def test_a_healthy_store_raises_no_alarm(server: RedisServer) -> None:
    lines = examine(settings_for(server))
    assert set(lines) == ALL_LINES
    assert with_verdict(lines, Verdict.OK) == ALL_LINES, lines


def test_a_healthy_store_is_reached_through_the_named_host(server: RedisServer) -> None:
    opener = RelayingOpener()
    lines = examine(settings_for(server, via="app1"), opener=opener)
    assert with_verdict(lines, Verdict.OK) == ALL_LINES, lines
    assert opener.asked == [("127.0.0.1", server.port)]
    assert "via app1" in lines["reach"].detail


@pytest.mark.parametrize("via", ["", "app1"])
def test_a_store_inside_tls_is_checked_alike(tmp_path: Path, via: str) -> None:
    certificate, key = self_signed(tmp_path)
    words = ("--tls-cert-file", str(certificate), "--tls-key-file", str(key))
    tls_port = free_port()
    with redis_server("--tls-port", str(tls_port), "--tls-auth-clients", "no", *words) as server:
        url = f"rediss://127.0.0.1:{tls_port}/0"
        opener = RelayingOpener() if via else None
        known = settings_for(server, url=url, tls_ca=str(certificate), via=via)
        lines = examine(known, opener=opener)
        assert with_verdict(lines, Verdict.OK) == ALL_LINES, lines
        lines = examine(settings_for(server, url=url, via=via), opener=opener)
        assert_refused(lines, "reach", "does not fit: self-signed certificate")


def test_a_store_behind_a_host_that_is_not_connected_is_refused(server: RedisServer) -> None:
    lines = examine(settings_for(server, via="app1"), opener=None)
    assert_refused(lines, "reach", "via app1, which is not connected")


def test_a_healthy_store_with_user_password_and_database_raises_no_alarm() -> None:
    user = f"app on >{PASSWORD} ~{PREFIX}* +@all -@dangerous +info +config|get"
    with redis_server("--user", *user.split()) as server:
        url = f"redis://127.0.0.1:{server.port}/3"
        lines = examine(settings_for(server, url=url, username="app", password_env=PASSWORD_ENV))
        assert with_verdict(lines, Verdict.OK) == ALL_LINES | {"database"}, lines
        assert "`app`" in lines["authentication"].detail


def test_the_canary_leaves_no_key_behind_and_every_key_expires_from_the_start(
    server: RedisServer,
) -> None:
    with contextlib.closing(server.client(decode_responses=True)) as client:
        with client.monitor() as monitor:
            examine(settings_for(server))
            client.echo("the end")
            seen = []
            for command in monitor.listen():
                if command["command"].startswith("ECHO"):
                    break
                seen.append(command["command"])
        assert client.dbsize() == 0
    writes = [line for line in seen if line.startswith("SET ")]
    assert len(writes) > 1
    for line in writes:
        assert line.startswith(f"SET {PREFIX}rolling-deploy:canary:")
        assert " EX " in line


def test_without_a_canary_nothing_is_written(server: RedisServer) -> None:
    lines = examine(settings_for(server), canary=False)
    assert lines["canary write"].verdict is Verdict.NOT_CHECKED
    assert lines["canary write"].detail == "--no-canary"
    assert with_verdict(lines, Verdict.REFUSED) == set()
    with contextlib.closing(server.client()) as client:
        assert "cmdstat_set" not in client.info("commandstats")


def test_a_missing_password_is_refused() -> None:
    with redis_server("--requirepass", PASSWORD) as server:
        lines = examine(settings_for(server))
        assert lines["reach"].verdict is Verdict.OK
        assert_refused(lines, "authentication", "Authentication required")
        assert lines["the rest"].verdict is Verdict.NOT_CHECKED


def test_a_wrong_password_is_refused_and_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PASSWORD_ENV, "quite-another")
    with redis_server("--requirepass", PASSWORD) as server:
        lines = examine(settings_for(server, password_env=PASSWORD_ENV))
        assert_refused(
            lines, "authentication", "invalid username-password pair or user is disabled."
        )
        assert "quite-another" not in repr(lines)


def test_a_password_variable_that_is_not_set_is_refused(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(PASSWORD_ENV)
    lines = examine(settings_for(server, password_env=PASSWORD_ENV))
    assert_refused(lines, "authentication", f"environment variable {PASSWORD_ENV} is not set")


def with_rights(rights: str) -> contextlib.AbstractContextManager[RedisServer]:
    return redis_server("--user", "app", "on", f">{PASSWORD}", *rights.split())


def as_app(server: RedisServer) -> SessionStoreSettings:
    return settings_for(server, username="app", password_env=PASSWORD_ENV)


def test_a_user_who_may_not_touch_the_session_keys_is_refused() -> None:
    with with_rights("~other:* +@all") as server:
        lines = examine(as_app(server))
        assert lines["authentication"].verdict is Verdict.OK
        assert lines["role"].verdict is Verdict.OK
        assert_refused(lines, "canary write", "no permissions to access one of the keys")


def test_a_user_who_may_only_read_is_refused() -> None:
    with with_rights("~* +@read +@connection +info") as server:
        lines = examine(as_app(server))
        assert_refused(lines, "canary write", "no permissions to run the 'set' command")


def test_what_a_user_may_not_ask_is_not_checked_and_no_failure() -> None:
    with with_rights("~* +@all -info -config -cluster") as server:
        lines = examine(as_app(server))
        assert with_verdict(lines, Verdict.REFUSED) == set(), lines
        assert lines["canary write"].verdict is Verdict.OK
        denied = {"loading", "role", "persistence", "memory", "eviction policy"}
        assert with_verdict(lines, Verdict.NOT_CHECKED) >= denied | {"replicas", "evictions"}
        assert "no permissions to run the 'info' command" in lines["role"].detail


def test_a_user_who_may_not_prolong_or_delete_is_a_warning() -> None:
    with with_rights("~* +@all -expire -del") as server:
        lines = examine(as_app(server))
        assert with_verdict(lines, Verdict.WARNING) == {"canary expire", "canary delete"}, lines
        assert with_verdict(lines, Verdict.REFUSED) == set()


@pytest.mark.parametrize("is_via", [False, True])
def test_a_frozen_store_is_refused_within_the_timeout(server: RedisServer, is_via: bool) -> None:
    server.freeze()
    begun = time.monotonic()
    lines = examine(
        settings_for(server, timeout_ms=500, via="app1" if is_via else ""),
        opener=RelayingOpener() if is_via else None,
    )
    took_s = time.monotonic() - begun
    server.thaw()
    assert_refused(lines, "reach", "Timeout reading from")
    assert 0.4 < took_s < 10


def test_a_wrong_database_is_refused(server: RedisServer) -> None:
    lines = examine(settings_for(server, url=f"redis://127.0.0.1:{server.port}/99"))
    assert lines["authentication"].verdict is Verdict.OK
    assert_refused(lines, "database", "DB index is out of range")


def test_a_closed_port_is_refused() -> None:
    url = f"redis://127.0.0.1:{free_port()}/0"
    lines = examine(SessionStoreSettings(url=url))
    assert_refused(lines, "reach", "Connection refused")
    assert lines["the rest"].verdict is Verdict.NOT_CHECKED


def answering(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """A server of our own that treats its only connection as it likes."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            with contextlib.suppress(OSError):
                stream, _ = listener.accept()
                with stream:
                    serve(stream)

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield listener.getsockname()[1]


def test_a_store_that_trickles_is_given_up_at_the_deadline() -> None:
    is_over = threading.Event()

    def trickle(stream: socket.socket) -> None:
        stream.sendall(b"+")
        while not is_over.wait(0.05):
            stream.sendall(b"P")

    for port in answering(trickle):
        url = f"redis://127.0.0.1:{port}/0"
        begun = time.monotonic()
        lines = examine(SessionStoreSettings(url=url, timeout_ms=1_000, deadline_ms=1_500))
        took_s = time.monotonic() - begun
        is_over.set()
        assert_refused(lines, "reach", "not done within 1500 ms, the last command was PING")
        assert 1.4 < took_s < 10


def test_something_that_is_not_redis_is_refused() -> None:
    def speak_http(stream: socket.socket) -> None:
        stream.recv(4096)
        stream.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    for port in answering(speak_http):
        lines = examine(SessionStoreSettings(url=f"redis://127.0.0.1:{port}/0"))
        assert lines["reach"].verdict is Verdict.REFUSED


@pytest.mark.parametrize("url_user", [False, True])
def test_a_user_without_a_password_is_the_one_who_asks(*, url_user: bool) -> None:
    user = f"app on nopass ~{PREFIX}* +@all -@dangerous +info -set"
    with redis_server("--user", *user.split()) as server:
        told = examine(settings_for(server))
        assert told["canary write"].verdict is Verdict.OK
        if url_user:
            settings = settings_for(server, url=f"redis://app@127.0.0.1:{server.port}/0")
        else:
            settings = settings_for(server, username="app")
        told = examine(settings)
        assert told["authentication"].detail == "user `app`, without a password"
        assert_refused(told, "canary write", "permission")


def test_a_user_who_needs_a_password_is_refused_without_one() -> None:
    user = f"app on >{PASSWORD} ~* +@all"
    with redis_server("--user", *user.split()) as server:
        told = examine(settings_for(server, username="app"))
        assert_refused(told, "authentication", "invalid username-password pair")


def site_with(server: RedisServer, directory: Path) -> Site:
    store = f"session_store: {{url: {server.url}, asked_from: via}}\n"
    return Site(inventory_in(directory, INVENTORY + store), {})


def test_what_was_evicted_between_the_preflight_and_the_run_is_seen(tmp_path: Path) -> None:
    words = ("--maxmemory", "6mb", "--maxmemory-policy", "allkeys-lru")
    with redis_server(*words) as server, contextlib.closing(server.client()) as client:
        site = site_with(server, tmp_path)
        told = {c.name: c for c in FleetMachines(site).check_store()}
        assert told["evictions"].verdict is Verdict.OK
        wait_until(lambda: _evicts(client), "an eviction")
        client.config_set("maxmemory", "0")
        told = {c.name: c for c in FleetMachines(site).check_store()}
        assert_refused(told, "evictions", "evicted_keys rose from 0")


def _evicts(client: redis.Redis) -> bool:
    for _ in range(50):
        client.set(secrets.token_hex(8), b"x" * 20_000)
    return bool(client.info("stats")["evicted_keys"])


def test_a_status_says_that_it_did_not_check_writing(tmp_path: Path) -> None:
    with redis_server() as server:
        site = site_with(server, tmp_path)
        problems: list[str] = []
        unwritten = store_text(FleetMachines(site, canary=False).check_store(), problems)
        assert unwritten.startswith("reachable, writing not checked")
        written = store_text(FleetMachines(site).check_store(), problems)
        assert written.startswith("reachable")
        assert "not checked" not in written
        assert problems == []
