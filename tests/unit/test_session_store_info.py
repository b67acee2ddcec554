"""What the server says about itself, and the verdict on it."""

from __future__ import annotations

import pytest

from rolling_deploy.remote.session_store_info import (
    Sample,
    fields_of,
    judge_cluster,
    judge_evictions,
    judge_info,
    judge_replicas,
    sample_of,
)
from rolling_deploy.rollout.observed import Check, Verdict

HEALTHY = {
    "loading": "0",
    "role": "master",
    "rdb_last_bgsave_status": "ok",
    "aof_last_write_status": "ok",
    "used_memory": "1000",
    "maxmemory": "10000",
    "maxmemory_policy": "noeviction",
    "run_id": "a",
    "evicted_keys": "0",
}


def judged(**changes: str) -> dict[str, Check]:
    return {check.name: check for check in judge_info({**HEALTHY, **changes}, 0.9)}


def test_a_healthy_server_has_no_line_that_is_not_ok() -> None:
    assert {check.verdict for check in judged().values()} == {Verdict.OK}


@pytest.mark.parametrize(
    ("name", "changes", "verdict"),
    [
        ("loading", {"loading": "1"}, Verdict.REFUSED),
        ("role", {"role": "slave"}, Verdict.REFUSED),
        ("persistence", {"rdb_last_bgsave_status": "err"}, Verdict.WARNING),
        ("persistence", {"aof_last_write_status": "err"}, Verdict.WARNING),
        ("memory", {"used_memory": "9100"}, Verdict.WARNING),
        ("memory", {"used_memory": "10001"}, Verdict.REFUSED),
        ("memory", {"used_memory": "10001", "maxmemory_policy": "allkeys-lru"}, Verdict.WARNING),
        ("memory", {"used_memory": "10001", "mem_not_counted_for_evict": "9000"}, Verdict.OK),
        ("memory", {"maxmemory": "0"}, Verdict.OK),
        ("eviction policy", {"maxmemory_policy": "volatile-ttl"}, Verdict.WARNING),
        ("eviction policy", {"maxmemory_policy": "allkeys-lru"}, Verdict.WARNING),
        ("eviction policy", {"maxmemory_policy": "allkeys-lru", "maxmemory": "0"}, Verdict.OK),
    ],
)
def test_each_field_has_its_verdict(name: str, changes: dict[str, str], verdict: Verdict) -> None:
    lines = judged(**changes)
    assert lines[name].verdict is verdict, lines[name]
    others = {line.verdict for key, line in lines.items() if key not in {name, "eviction policy"}}
    assert others == {Verdict.OK}


def test_what_is_not_said_is_not_checked() -> None:
    assert {check.verdict for check in judge_info({}, 0.9)} == {Verdict.NOT_CHECKED}
    assert judge_replicas({}, None, "denied").verdict is Verdict.NOT_CHECKED
    assert judge_evictions({}, {}, None).verdict is Verdict.NOT_CHECKED


@pytest.mark.parametrize(
    ("good", "minimum", "verdict"),
    [
        ("0", 1, Verdict.REFUSED),
        ("1", 1, Verdict.OK),
        ("2", None, Verdict.NOT_CHECKED),
    ],
)
def test_writes_need_their_replicas(good: str, minimum: int | None, verdict: Verdict) -> None:
    info = {**HEALTHY, "min_slaves_good_slaves": good}
    assert judge_replicas(info, minimum, "denied").verdict is verdict


def test_a_cluster_is_fine_only_with_every_slot_served() -> None:
    whole = {"cluster_state": "ok", "cluster_slots_ok": "16384"}
    assert judge_cluster(whole).verdict is Verdict.OK
    assert judge_cluster({**whole, "cluster_slots_ok": "16383"}).verdict is Verdict.REFUSED
    assert judge_cluster({**whole, "cluster_state": "fail"}).verdict is Verdict.REFUSED
    assert judge_cluster({}).verdict is Verdict.REFUSED


def evictions(start: int, end: int, previous: Sample | None = None) -> Verdict:
    info = {**HEALTHY, "evicted_keys": str(start)}
    return judge_evictions(info, {"evicted_keys": str(end)}, previous).verdict


def test_evictions_between_two_looks_are_refused_and_old_ones_a_warning() -> None:
    assert evictions(0, 0) is Verdict.OK
    assert evictions(5, 5) is Verdict.WARNING
    assert evictions(5, 6) is Verdict.REFUSED
    assert evictions(6, 6, Sample("a", 5)) is Verdict.REFUSED
    assert evictions(5, 5, Sample("a", 5)) is Verdict.WARNING
    assert evictions(0, 0, Sample("a", None)) is Verdict.OK


def test_another_server_process_is_a_warning_even_without_evictions() -> None:
    assert evictions(0, 0, Sample("b", 0)) is Verdict.WARNING


def test_the_next_check_compares_with_the_end_of_this_one() -> None:
    assert sample_of(HEALTHY, {"evicted_keys": "7"}) == Sample("a", 7)
    assert sample_of(HEALTHY, {}) == Sample("a", 0)
    assert sample_of({}, {}) == Sample()


def test_the_fields_are_read_without_headings_and_line_ends() -> None:
    text = "# Server\r\nrun_id:abc\r\n\r\n# Memory\r\nexecutable:/usr/bin/redis:7\r\n"
    assert fields_of(text) == {"run_id": "abc", "executable": "/usr/bin/redis:7"}
