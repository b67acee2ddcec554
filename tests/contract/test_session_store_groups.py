"""Sentinels and clusters as session stores, real ones: what is seen, told and followed."""

from __future__ import annotations

import contextlib
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from rolling_deploy.operations.store_places import check_store
from rolling_deploy.remote.session_sample import sample_sessions
from rolling_deploy.remote.session_store import open_link, remaining_ms
from rolling_deploy.remote.session_store_asked import check_session_store
from rolling_deploy.remote.session_store_cluster import by_nodes, slot_of
from rolling_deploy.remote.session_store_link import LinkLost
from rolling_deploy.remote.session_store_sentinel import Answer, judge
from rolling_deploy.rollout.observed import Check, Verdict
from rolling_deploy.settings import SessionStoreSettings
from tests.contract.test_session_store_places import Fleet
from tests.redis_groups import (
    MASTER,
    Watched,
    cluster,
    cluster_info,
    cluster_url,
    sentinel,
    watched,
)
from tests.redis_server import BINARY, WHY_SKIPPED, RedisServer, redis_server, wait_until
from tests.session_store_lines import (
    ALL_LINES,
    PASSWORD,
    PASSWORD_ENV,
    RelayingOpener,
    assert_refused,
    examine,
    settings_for,
    with_verdict,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [
    pytest.mark.skipif(BINARY is None, reason=WHY_SKIPPED),
    pytest.mark.timeout(180),
]


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[RedisServer, ...]]:
    """A cluster of three masters that no test harms."""
    with cluster() as running:
        yield running


@pytest.fixture
def store() -> Iterator[Watched]:
    with watched() as running:
        yield running


def in_cluster(servers: tuple[RedisServer, ...], **changes: object) -> SessionStoreSettings:
    return settings_for(servers[0], **{"url": cluster_url(servers), **changes})


def by_sentinels(store: Watched, **changes: object) -> SessionStoreSettings:
    return settings_for(store.master, **{"url": store.url, **changes})


def test_a_master_is_found_by_its_sentinels_and_examined(store: Watched) -> None:
    opener = RelayingOpener()
    lines = examine(by_sentinels(store, via="web1"), opener=opener)
    assert with_verdict(lines, Verdict.OK) == ALL_LINES | {"sentinels"}, lines
    assert lines["sentinels"].detail == (
        f"3 of 3 say 127.0.0.1:{store.master.port} is master of `{MASTER}`"
    )
    # Everything went through the machine that was named.
    asked = {port for _, port in opener.asked}
    assert asked == {store.master.port, *(one.port for one in store.sentinels)}


def test_sentinels_that_are_down_are_told_from_a_master_that_is_down(store: Watched) -> None:
    settings = by_sentinels(store)
    store.sentinels[0].process.kill()
    store.sentinels[0].process.wait(10)
    lines = examine(settings)
    assert with_verdict(lines, Verdict.WARNING) == {"sentinels"}, lines
    assert "2 of 3 say" in lines["sentinels"].detail
    assert f"127.0.0.1:{store.sentinels[0].port}: " in lines["sentinels"].detail
    assert lines["canary write"].verdict is Verdict.OK
    store.sentinels[1].process.kill()
    store.sentinels[1].process.wait(10)
    assert_refused(examine(settings), "sentinels", "only 1 of 3 name a master of `mymaster`")
    with pytest.raises(LinkLost, match="only 1 of 3"), open_link(settings, None):
        pass


def test_a_master_that_is_gone_is_told_from_sentinels_that_are() -> None:
    with watched(down_after_ms=60_000) as store:
        store.master.process.kill()
        store.master.process.wait(10)
        lines = examine(by_sentinels(store))
    assert lines["sentinels"].verdict is Verdict.OK
    assert_refused(lines, "reach", "Connection refused")


def test_a_master_that_became_a_replica_is_a_failover_under_way() -> None:
    with redis_server() as master, redis_server() as other:
        with sentinel(master.port, quorum=1, down_after_ms=60_000) as one:
            with contextlib.closing(master.client()) as client:
                client.replicaof("127.0.0.1", other.port)
            url = f"redis+sentinel://127.0.0.1:{one.port}/{MASTER}"
            lines = examine(settings_for(master, url=url))
    assert_refused(lines, "role", "is slave")
    assert "the sentinels name it as master: a failover is under way" in lines["role"].detail


def test_sentinels_that_disagree_are_refused_with_what_each_says() -> None:
    with redis_server() as one, redis_server() as two:
        with sentinel(one.port, quorum=1) as first, sentinel(two.port, quorum=1) as second:
            url = f"redis+sentinel://127.0.0.1:{first.port},127.0.0.1:{second.port}/{MASTER}"
            lines = examine(settings_for(one, url=url))
            assert_refused(lines, "sentinels", "they disagree who is master of `mymaster`")
            for at, master in ((first, one), (second, two)):
                said = f"127.0.0.1:{at.port} says 127.0.0.1:{master.port}"
                assert said in lines["sentinels"].detail
            assert lines["the rest"].verdict is Verdict.NOT_CHECKED


def test_a_name_that_the_sentinels_do_not_know_is_refused(store: Watched) -> None:
    url = store.url.replace(MASTER, "another")
    assert_refused(examine(by_sentinels(store, url=url)), "sentinels", "it knows no master `anoth")


def test_a_master_that_is_being_replaced_is_refused() -> None:
    at = ("10.0.0.1", 6379)
    fine = Answer(("10.0.0.8", 26379), at, flags=frozenset({"master"}))
    told = judge((fine, replace(fine, flags=frozenset({"master", "s_down", "o_down"}))), MASTER)
    assert told.check.verdict is Verdict.REFUSED
    assert "they call it o_down: a failover is under way" in told.check.detail
    suspected = replace(fine, flags=frozenset({"master", "s_down"}))
    assert judge((fine, suspected), MASTER).master == at


def test_what_a_sentinel_may_not_be_asked_is_said_and_not_taken_for_fine() -> None:
    master = ("10.0.0.1", 6379)
    denied = Answer(("10.0.0.7", 26379), master, unsaid="no permissions to run 'sentinel|ckquorum'")
    check = judge((denied,), "shop").check
    assert check.verdict is Verdict.OK
    assert "not checked: whether they could choose another or are about to (no perm" in check.detail
    assert "not checked" not in judge((replace(denied, unsaid=""),), "shop").check.detail


def test_sentinels_with_a_password_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PASSWORD_ENV, PASSWORD)
    with redis_server() as master:
        with sentinel(master.port, quorum=1, more=f"requirepass {PASSWORD}\n") as one:
            url = f"redis+sentinel://127.0.0.1:{one.port}/{MASTER}/0"
            lines = examine(settings_for(master, url=url))
            assert_refused(lines, "sentinels", "Authentication required")
            settings = settings_for(master, url=url, sentinel_password_env=PASSWORD_ENV)
            lines = examine(settings)
    assert lines["sentinels"].verdict is Verdict.OK, lines
    assert lines["canary write"].verdict is Verdict.OK


def test_a_failover_before_a_wave_is_waited_for_and_followed(
    store: Watched, tmp_path: Path
) -> None:
    fleet = Fleet(tmp_path, store.url, ("web1", "web2"), ", asked_from: both, failover_limit_s: 30")
    assert refused(fleet.ask()) == []
    replaced = store.replica.port
    store.master.process.kill()
    store.master.process.wait(10)
    # Once only, as in a preflight: it is seen and told at once.
    assert refused(fleet.ask())
    checks = fleet.ask(is_patient=True)
    assert refused(checks) == []
    told = {check.name: check for check in checks}
    assert f"say 127.0.0.1:{replaced} is master" in told["sentinels"].detail
    assert told["from app1, app2"].verdict is Verdict.OK
    # Sessions that the old master took last may be gone: that is said.
    assert "restarted or replaced" in told["evictions"].detail


def test_a_master_that_nobody_replaces_is_waited_for_no_longer_than_allowed(
    tmp_path: Path,
) -> None:
    with redis_server() as master, sentinel(master.port, quorum=1, down_after_ms=60_000) as one:
        url = f"redis+sentinel://127.0.0.1:{one.port}/{MASTER}"
        fleet = Fleet(tmp_path, url, ("web1", "web1"), ", failover_limit_s: 3")
        master.process.kill()
        master.process.wait(10)
        begun = time.monotonic()
        first = refused(fleet.ask(is_patient=True))[0]
        assert 2 < time.monotonic() - begun < 15
    assert "s of waiting for another master)" in first.detail


def test_a_wrong_password_is_not_waited_for(
    store: Watched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PASSWORD_ENV, PASSWORD)
    more = f", failover_limit_s: 60, password_env: {PASSWORD_ENV}"
    fleet = Fleet(tmp_path, store.url, ("web1", "web1"), more)
    begun = time.monotonic()
    checks = check_store(fleet.site, (), canary=True, is_patient=True)
    assert time.monotonic() - begun < 15
    assert [check.name for check in refused(checks)] == ["authentication"]


def refused(checks: tuple[Check, ...]) -> list[Check]:
    return [check for check in checks if check.verdict is Verdict.REFUSED]


def test_every_master_of_a_cluster_is_examined_and_written_to(
    servers: tuple[RedisServer, ...],
) -> None:
    written = [sets(server) for server in servers]
    lines = examine(in_cluster(servers))
    of_clusters = {"cluster servers", "slots", "cluster"}
    assert with_verdict(lines, Verdict.OK) == ALL_LINES | of_clusters, lines
    assert lines["role"].detail == "master (all 3 masters)"
    assert [sets(server) - before for server, before in zip(servers, written, strict=True)] == [
        1,
        1,
        1,
    ]
    for server in servers:
        with contextlib.closing(server.client()) as client:
            assert client.keys("*canary*") == []


def sets(server: RedisServer) -> int:
    with contextlib.closing(server.client()) as client:
        return int(client.info("commandstats").get("cmdstat_set", {}).get("calls", 0))


def test_a_hash_tag_in_the_prefix_keeps_the_canary_where_the_sessions_are(
    servers: tuple[RedisServer, ...],
) -> None:
    lines = examine(in_cluster(servers, key_prefix="{shop}:session:"))
    assert lines["canary write"].detail == "1 key"
    assert with_verdict(lines, Verdict.REFUSED) == set()


SEES_NO_SLOTS = "~* +@all -cluster +cluster|info"
"""What a user may do who was made for Redisson, but for the command that it asks."""


def with_user(servers: tuple[RedisServer, ...], name: str, rights: str) -> None:
    for server in servers:
        with contextlib.closing(server.client()) as admin:
            admin.execute_command("ACL", "SETUSER", name, "reset", "on", "nopass", *rights.split())


def test_a_user_who_may_only_ask_for_the_nodes_of_a_cluster_is_enough(
    servers: tuple[RedisServer, ...],
) -> None:
    with_user(servers, "app", f"{SEES_NO_SLOTS} +cluster|nodes")
    settings = in_cluster(servers, username="app")
    lines = examine(settings)
    of_clusters = {"cluster servers", "slots", "cluster"}
    assert with_verdict(lines, Verdict.OK) == ALL_LINES | of_clusters, lines
    asked = examine(in_cluster(servers))
    for name in ("cluster servers", "slots", "canary write"):
        assert lines[name].detail == asked[name].detail, "the same as by CLUSTER SLOTS"


def test_what_a_user_lacks_who_may_ask_nothing_of_a_cluster_is_said(
    servers: tuple[RedisServer, ...], tmp_path: Path
) -> None:
    with_user(servers, "blind", SEES_NO_SLOTS)
    lines = examine(in_cluster(servers, username="blind"))
    said = "user `blind` may run neither CLUSTER SLOTS nor CLUSTER NODES"
    assert_refused(lines, "reach", said)
    assert "`ACL SETUSER blind +cluster|slots`" in lines["reach"].detail
    fleet = Fleet(tmp_path, cluster_url(servers), ("web1", "web2"), ", username: blind")
    told = {check.name: check for check in fleet.ask()}
    assert_refused(told, "from app1, app2", said)


def test_a_server_of_no_cluster_is_said_to_be_none() -> None:
    with redis_server() as alone:
        lines = examine(in_cluster((alone,)))
    assert_refused(lines, "reach", "cluster support disabled")


@pytest.mark.parametrize("by_names", [False, True])
def test_the_nodes_of_a_cluster_are_read_as_every_release_of_redis_writes_them(
    *, by_names: bool
) -> None:
    seed = ("seed", 7000)
    said = """\
a1 10.0.0.1:7000@17000,r1.example master - 0 1 1 connected 0-99 200
b2 10.0.0.2:7000@17000,r2.example slave a1 0 1 1 connected
c3 :7002@17002,,shard-id=x myself,master - 0 0 3 connected 100-199 [7->-a1] [8-<-b2]
d4 fd00::4:7003@17003 master,fail - 1 1 4 disconnected 300-16383
e5 10.0.0.5:7000 master - 0 1 5 connected
f6 :0@0 master,noaddr - 0 1 6 disconnected
"""
    first = "r1.example" if by_names else "10.0.0.1"
    assert by_nodes(said, seed, by_names=by_names) == {
        (first, 7000): ((0, 99), (200, 200)),
        ("seed", 7002): ((100, 199),),
        ("fd00::4", 7003): ((300, 16383),),
    }


@pytest.mark.parametrize("key", ["", "plain", "{shop}:1", "a{b}c{d}", "{}x", "x{y", "ü{ö}ä"])
def test_slots_are_those_of_redis(servers: tuple[RedisServer, ...], key: str) -> None:
    with contextlib.closing(servers[0].client()) as client:
        assert slot_of(key) == client.execute_command("CLUSTER KEYSLOT", key)


def test_a_seed_that_is_down_is_a_warning_as_long_as_another_answers(
    servers: tuple[RedisServer, ...],
) -> None:
    url = cluster_url(servers).replace("redis+cluster://", "redis+cluster://127.0.0.1:1,")
    lines = examine(in_cluster(servers, url=url))
    assert with_verdict(lines, Verdict.WARNING) == {"cluster servers"}, lines
    assert "127.0.0.1:1: " in lines["cluster servers"].detail


def test_a_master_of_a_cluster_that_dies_is_named_and_so_are_its_slots() -> None:
    with cluster() as servers:
        settings = in_cluster(servers)
        servers[1].process.kill()
        servers[1].process.wait(10)
        lines = examine(settings)
        assert_refused(lines, "reach", f"127.0.0.1:{servers[1].port}")
        assert lines["the rest"].verdict is Verdict.NOT_CHECKED
        wait_until(lambda: cluster_info(servers[0])["cluster_state"] == "fail", "its fall")
        assert_refused(examine(settings), "cluster", "cluster_state:fail, 10923 of 16384 slots")


def test_a_slot_that_is_moved_is_followed() -> None:
    with cluster(2) as servers:
        with contextlib.ExitStack() as ends:
            first, second = (ends.enter_context(contextlib.closing(s.client())) for s in servers)
            key = next(f"k{n}" for n in range(10_000) if slot_of(f"k{n}") < 8192)
            settings = in_cluster(servers)
            with open_link(settings, None) as link:
                there = second.execute_command("CLUSTER MYID")
                moving = slot_of(key)
                # The map was read; now the slot's keys are asked for elsewhere (ASK)...
                here = first.execute_command("CLUSTER MYID")
                second.execute_command("CLUSTER SETSLOT", moving, "IMPORTING", here)
                first.execute_command("CLUSTER SETSLOT", moving, "MIGRATING", there)
                assert link.ask(("SET", key, "1", "EX", "60"))[0].value == "OK"
                # ...and then it has moved (MOVED).
                for client in (second, first):
                    client.execute_command("CLUSTER SETSLOT", moving, "NODE", there)
                assert link.ask(("GET", key))[0].value == "1"
                assert second.get(key) == b"1"
            assert remaining_ms(settings, None, key) is not None


def test_stored_sessions_are_sampled_from_every_master(servers: tuple[RedisServer, ...]) -> None:
    settings = in_cluster(servers, session_key="sampled:{id}", sample_max=60)
    with open_link(settings, None) as link:
        link.ask(*(("SET", f"sampled:{n}", f"{n}", "EX", "60") for n in range(300)))
    sampled = sample_sessions(settings, None)
    assert len(sampled.sessions) == 60
    found = [slot_of(key.decode()) * 3 // 16384 for key in sampled.sessions]
    assert {third: found.count(third) for third in (0, 1, 2)} == {0: 20, 1: 20, 2: 20}
    assert sampled.gap == ""


def test_a_master_that_cannot_be_sampled_is_named() -> None:
    with cluster() as servers:
        settings = in_cluster(servers, session_key="s:{id}")
        servers[2].process.kill()
        servers[2].process.wait(10)
        sampled = sample_sessions(settings, None)
    assert f"not sampled: 127.0.0.1:{servers[2].port}" in sampled.gap


def test_a_frozen_sentinel_does_not_hold_the_check_up(store: Watched) -> None:
    store.sentinels[2].freeze()
    begun = time.monotonic()
    lines = examine(by_sentinels(store, timeout_ms=500))
    store.sentinels[2].thaw()
    assert time.monotonic() - begun < 10
    assert lines["sentinels"].verdict is Verdict.WARNING
    assert lines["canary write"].verdict is Verdict.OK


def test_evictions_are_compared_master_by_master() -> None:
    words = ("--maxmemory", "4mb", "--maxmemory-policy", "allkeys-lru")
    with cluster(2, *words) as servers:
        settings = in_cluster(servers)
        _, sample = check_session_store(settings, None, canary=False, previous=None)
        with open_link(settings, None) as link:
            for number in range(600):
                link.ask(("SET", f"k{number}", "x" * 20_000, "EX", "600"))
        lines = examine(settings, previous=sample)
    assert_refused(lines, "evictions", "evicted_keys rose from")


def test_two_checks_at_once_do_not_disturb_each_other(servers: tuple[RedisServer, ...]) -> None:
    told: list[dict[str, Check]] = []
    asking = [
        threading.Thread(target=lambda: told.append(examine(in_cluster(servers)))) for _ in range(4)
    ]
    for one in asking:
        one.start()
    for one in asking:
        one.join(30)
    assert [with_verdict(lines, Verdict.REFUSED) for lines in told] == [set()] * 4
