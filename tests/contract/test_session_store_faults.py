"""The session store's faults, on a real redis-server: each has its verdict and its words."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from typing import TYPE_CHECKING

import pytest

from rolling_deploy.remote.opener import open_directly
from rolling_deploy.remote.session_store_asked import check_session_store
from rolling_deploy.rollout.observed import Verdict
from tests.redis_server import BINARY, WHY_SKIPPED, RedisServer, free_port, redis_server, wait_until
from tests.session_store_lines import (
    ALL_LINES,
    assert_refused,
    examine,
    settings_for,
    with_verdict,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rolling_deploy.remote.opener import Opener

pytestmark = [
    pytest.mark.skipif(BINARY is None, reason=WHY_SKIPPED),
    pytest.mark.timeout(120),
]


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with redis_server() as running:
        yield running


def test_a_read_only_replica_is_refused(server: RedisServer) -> None:
    with redis_server("--replicaof", "127.0.0.1", str(server.port)) as replica:
        with contextlib.closing(replica.client()) as client:
            wait_until(lambda: client.info()["master_link_status"] == "up", "replication")
        lines = examine(settings_for(replica))
        assert_refused(lines, "role", "should be master, is slave")
        assert_refused(lines, "canary write", "You can't write against a read only replica.")


def test_a_replica_whose_master_is_gone_is_refused() -> None:
    gone = str(free_port())
    stale = ("--replica-serve-stale-data", "no")
    with redis_server("--replicaof", "127.0.0.1", gone, *stale) as replica:
        lines = examine(settings_for(replica))
        assert_refused(lines, "commands", "Link with MASTER is down")
        assert_refused(lines, "role", "master_link_status:down")


def fill(server: RedisServer, count: int, *, seconds: int | None) -> None:
    with contextlib.closing(server.client()) as client:
        for number in range(count):
            with contextlib.suppress(Exception):
                client.set(f"cache:{number}", b"x" * 10_000, ex=seconds)


def test_a_full_memory_without_eviction_is_refused() -> None:
    with redis_server("--maxmemory", "3mb", "--maxmemory-policy", "noeviction") as server:
        fill(server, 400, seconds=None)
        lines = examine(settings_for(server))
        assert_refused(lines, "canary write", "command not allowed when used memory > 'maxmemory'")
        assert lines["memory"].verdict in {Verdict.WARNING, Verdict.REFUSED}
        assert lines["eviction policy"].verdict is Verdict.OK
        assert examine(settings_for(server), canary=False)["memory"].verdict is not Verdict.OK


def test_a_memory_full_of_keys_that_cannot_be_evicted_is_refused() -> None:
    with redis_server("--maxmemory", "3mb", "--maxmemory-policy", "volatile-lru") as server:
        fill(server, 400, seconds=None)
        lines = examine(settings_for(server))
        assert_refused(lines, "canary write", "command not allowed when used memory > 'maxmemory'")
        assert lines["eviction policy"].verdict is Verdict.WARNING
        assert "is volatile-lru" in lines["eviction policy"].detail


def test_a_store_that_is_evicting_keys_is_refused_although_every_command_works() -> None:
    with redis_server("--maxmemory", "3mb", "--maxmemory-policy", "allkeys-lru") as server:
        fill(server, 400, seconds=600)
        quiet, sample = check_session_store(settings_for(server), None, canary=False, previous=None)
        told = {check.name: check for check in quiet}
        # Even a new connection takes memory, so a full server may evict because we look.
        assert told["evictions"].verdict in {Verdict.WARNING, Verdict.REFUSED}
        assert told["eviction policy"].verdict is Verdict.WARNING
        fill(server, 50, seconds=600)
        lines = examine(settings_for(server), previous=sample)
        assert lines["canary write"].verdict is Verdict.OK
        assert_refused(lines, "evictions", "evicted_keys rose from")


def test_a_store_that_was_restarted_between_two_looks_is_a_warning(server: RedisServer) -> None:
    _, sample = check_session_store(settings_for(server), None, canary=True, previous=None)
    same = examine(settings_for(server), previous=sample)
    assert same["evictions"].verdict is Verdict.OK
    with redis_server() as another:
        lines = examine(settings_for(another), previous=sample)
    assert lines["evictions"].verdict is Verdict.WARNING
    assert "restarted or replaced" in lines["evictions"].detail


def test_a_store_that_cannot_save_is_refused(tmp_path: Path) -> None:
    place = tmp_path / "data"
    place.mkdir()
    with redis_server("--dbfilename", "dump.rdb", directory=place) as server:
        with contextlib.closing(server.client()) as client:
            client.config_set("save", "3600 1")
            # A directory in the place of the file: saving fails for root too.
            (place / "dump.rdb").mkdir()
            client.set("something", "to save")
            client.bgsave()
            wait_until(lambda: client.info()["rdb_last_bgsave_status"] == "err", "a failed save")
        lines = examine(settings_for(server))
        assert lines["persistence"].verdict is Verdict.WARNING
        assert "rdb_last_bgsave_status should be ok, is err" in lines["persistence"].detail
        assert_refused(lines, "canary write", "MISCONF")


def test_a_store_that_is_still_loading_is_refused(tmp_path: Path) -> None:
    with redis_server(directory=tmp_path) as server:
        with contextlib.closing(server.client()) as client:
            client.eval("for i = 1, 4000 do redis.call('SET', 'k' .. i, i) end", 0)
            client.save()
    slowly = ("--key-load-delay", "5000", "--loading-process-events-interval-bytes", "1024")
    with redis_server(*slowly, directory=tmp_path) as server:
        lines = examine(settings_for(server))
        assert_refused(lines, "loading", "Redis is loading the dataset in memory")


def test_a_store_whose_writes_are_paused_is_refused_within_the_timeout(server: RedisServer) -> None:
    with contextlib.closing(server.client()) as client:
        client.client_pause(30_000, all=False)
        begun = time.monotonic()
        lines = examine(settings_for(server, timeout_ms=500))
        assert time.monotonic() - begun < 10
        assert lines["role"].verdict is Verdict.OK
        assert_refused(lines, "canary write", "Timeout reading from")
        assert lines["the rest"].verdict is Verdict.NOT_CHECKED


def test_a_store_whose_commands_are_all_paused_is_refused_within_the_timeout(
    server: RedisServer,
) -> None:
    with contextlib.closing(server.client()) as client:
        client.client_pause(30_000, all=True)
        lines = examine(settings_for(server, timeout_ms=500))
        assert_refused(lines, "reach", "Timeout reading from")


def test_a_store_without_enough_replicas_is_refused() -> None:
    with redis_server("--min-replicas-to-write", "1") as server:
        lines = examine(settings_for(server))
        assert_refused(lines, "replicas", "should be at least 1 (min-replicas-to-write), is 0")
        assert_refused(lines, "canary write", "NOREPLICAS Not enough good replicas to write.")


def test_a_cluster_that_serves_no_slots_is_refused() -> None:
    with redis_server("--cluster-enabled", "yes") as server:
        lines = examine(settings_for(server))
        assert_refused(lines, "cluster", "cluster_state:fail")
        assert_refused(lines, "canary write", "Hash slot not served")


def test_a_cluster_that_serves_half_of_its_slots_is_refused() -> None:
    half = ("--cluster-enabled", "yes", "--cluster-require-full-coverage", "no")
    with redis_server(*half) as server, contextlib.closing(server.client()) as client:
        client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 8191)
        wait_until(lambda: b"cluster_state:ok" in raw_cluster_info(client), "the cluster")
        lines = examine(settings_for(server))
        assert_refused(lines, "cluster", "8192 of 16384 slots")


def test_a_whole_cluster_of_one_raises_no_alarm() -> None:
    with redis_server("--cluster-enabled", "yes") as server:
        with contextlib.closing(server.client()) as client:
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
            wait_until(lambda: b"cluster_state:ok" in raw_cluster_info(client), "the cluster")
        lines = examine(settings_for(server))
        assert with_verdict(lines, Verdict.OK) == ALL_LINES | {"cluster"}, lines


def raw_cluster_info(client: object) -> bytes:
    said = client.execute_command("CLUSTER INFO")  # type: ignore[attr-defined] # redis-py's client
    return repr(said).replace("'cluster_state': 'ok'", "cluster_state:ok").encode()


def test_a_store_with_no_connection_left_is_refused() -> None:
    with redis_server("--maxclients", "1") as server:
        with contextlib.closing(server.client()) as client:
            client.ping()
            lines = examine(settings_for(server))
            assert_refused(lines, "reach", "max number of clients reached")


def test_a_store_busy_with_a_script_is_refused() -> None:
    with redis_server("--busy-reply-threshold", "50") as server:
        with contextlib.closing(server.client()) as client:
            busy = threading.Thread(target=run_for_ever, args=(client,), daemon=True)
            busy.start()
            with contextlib.closing(server.client()) as other:
                wait_until(lambda: is_busy(other), "a busy script")
                lines = examine(settings_for(server))
                other.script_kill()
            busy.join(20)
        assert_refused(lines, "commands", "BUSY Redis is busy running a script")
        assert_refused(lines, "canary write", "BUSY")
        assert lines["role"].verdict is Verdict.NOT_CHECKED


def run_for_ever(client: object) -> None:
    with contextlib.suppress(Exception):
        client.eval("while true do end", 0)  # type: ignore[attr-defined] # redis-py's client


def is_busy(client: object) -> bool:
    try:
        client.ping()  # type: ignore[attr-defined] # redis-py's client
    except Exception as error:  # noqa: BLE001 - only its words matter
        return "BUSY" in str(error)
    return False


def test_a_slow_command_is_a_warning() -> None:
    with redis_server("--enable-debug-command", "yes") as server:
        with contextlib.closing(server.client()) as client:
            client.ping()
            slow = threading.Thread(target=client.execute_command, args=("DEBUG", "SLEEP", "2"))
            slow.start()
            lines = examine(
                settings_for(server, latency_max_ms=200, timeout_ms=10_000, deadline_ms=30_000),
                opener=opener_after(0.3),
            )
            slow.join(20)
    assert lines["latency"].verdict is Verdict.WARNING, lines
    assert "should be at most 200 ms" in lines["latency"].detail
    assert with_verdict(lines, Verdict.REFUSED) == set()


def opener_after(seconds: float) -> Opener:
    def wait_and_open(host: str, port: int, *, timeout_ms: int) -> socket.socket:
        threading.Event().wait(seconds)
        return open_directly(host, port, timeout_ms=timeout_ms)

    return wait_and_open
