"""The sample of stored sessions, on a real Redis: what it says, and that it changes nothing."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from rolling_deploy.inventory import load_inventory
from rolling_deploy.operations import stored_sessions
from rolling_deploy.operations.site import Site
from rolling_deploy.operations.stored_sessions import check_stored_sessions
from rolling_deploy.remote.session_sample import sample_sessions
from rolling_deploy.rollout.observed import Check, Verdict
from rolling_deploy.settings import SessionStoreSettings
from tests.redis_server import BINARY, WHY_SKIPPED, RedisServer, redis_server
from tests.serialization.kept_streams import CIRCLE, OWN

pytestmark = pytest.mark.skipif(BINARY is None, reason=WHY_SKIPPED)

MANY = 100_000
INVENTORY = """\
application: shop
hosts: {{lb1: {{}}, web1: {{}}}}
load_balancers: [{{name: lb1}}]
upstreams: [{{name: tomcat}}]
upgrade: {{strategy: tomcat, artifact: "shop-{{release}}.war"}}
backends:
  - {{name: app1, host: web1, address: "10.0.0.11:8080", upgrade: {{catalina_base: /srv/app1}}}}
  - {{name: app2, host: web1, address: "10.0.0.11:8081", upgrade: {{catalina_base: /srv/app2}}}}
session_store:
  url: {url}
  asked_from: via
{more}
"""
KEY = '  session_key: "shop:session[1]:{id}"'
READING = {"scan", "type", "strlen", "hlen", "get", "hvals", "ping"}


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with redis_server("--save", "") as running:
        yield running


@pytest.fixture(autouse=True)
def _empty(server: RedisServer) -> None:
    with server.client() as client:
        client.flushall()
        client.config_resetstat()


def store(server: RedisServer, values: dict[str, bytes]) -> None:
    with server.client() as client, client.pipeline(transaction=False) as pipe:
        for key, value in values.items():
            pipe.set(f"shop:session[1]:{key}", value, ex=1_800)
        pipe.execute()
        client.config_resetstat()


def checked(
    server: RedisServer, folder: Path, more: str = KEY, *, is_accepted: bool = False
) -> dict[str, Check]:
    with zipfile.ZipFile(folder / "shop-2.0.war", "w") as war:
        war.writestr("WEB-INF/web.xml", "<web-app/>")
    file = folder / "inventory.yaml"
    file.write_text(INVENTORY.format(url=server.url, more=more))
    site = Site(load_inventory(file), {})
    lines = check_stored_sessions(site, "2.0", is_accepted=is_accepted)
    return {line.name: line for line in lines}


def test_sessions_of_a_class_that_the_release_lacks_are_refused_with_their_share(
    server: RedisServer, tmp_path: Path
) -> None:
    store(server, {f"{n}": OWN if n % 4 == 0 else CIRCLE for n in range(40)})
    line = checked(server, tmp_path)["compatibility"]
    assert line.verdict is Verdict.REFUSED
    assert "10 (25%) of 40 sampled sessions hold what `shop-2.0.war` cannot read: " in line.detail
    assert "`Samples$Cart` is not in the release (10 sessions)" in line.detail
    assert line.detail.endswith("`--accept incompatible-sessions` goes on all the same")


def test_a_person_or_the_policy_may_go_on_all_the_same(server: RedisServer, tmp_path: Path) -> None:
    store(server, {"a": OWN})
    accepted = checked(server, tmp_path, is_accepted=True)["compatibility"]
    assert accepted.verdict is Verdict.WARNING
    warned = checked(server, tmp_path, f"{KEY}\n  incompatible: warn")["compatibility"]
    assert warned.verdict is Verdict.WARNING
    assert "1 (100%) of 1" in warned.detail


def test_sessions_that_the_release_can_read_are_fine(server: RedisServer, tmp_path: Path) -> None:
    store(server, {f"{n}": CIRCLE for n in range(7)})
    lines = checked(server, tmp_path)
    assert lines["compatibility"].verdict is Verdict.OK
    assert "all of 7 sampled sessions can be read" in lines["compatibility"].detail
    assert "7 sessions read" in lines["sample"].detail


def test_classes_that_the_machines_bring_along_are_not_missed(
    server: RedisServer, tmp_path: Path
) -> None:
    store(server, {"a": OWN})
    line = checked(server, tmp_path, f"{KEY}\n  given_classes: [Samples]")["compatibility"]
    assert line.verdict is Verdict.OK, line


def test_judging_ends_in_time_and_says_how_far_it_came(
    server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored_sessions, "JUDGE_LIMIT_S", 0.0)
    store(server, {"a": CIRCLE, "b": CIRCLE, "c": CIRCLE})
    lines = checked(server, tmp_path)
    assert lines["judged"].verdict is Verdict.WARNING
    assert lines["judged"].detail.startswith("1 of 3 sampled sessions were judged within 0 s")


def test_sessions_kept_as_hashes_are_read_value_by_value(
    server: RedisServer, tmp_path: Path
) -> None:
    with server.client() as client:
        client.hset("shop:session[1]:a", mapping={"cart": OWN, "user": CIRCLE})
    line = checked(server, tmp_path)["compatibility"]
    assert "1 (100%) of 1 sampled sessions hold what `shop-2.0.war` cannot read" in line.detail


def test_a_session_of_few_but_huge_fields_is_left_out(server: RedisServer, tmp_path: Path) -> None:
    with server.client() as client:
        client.hset("shop:session[1]:a", mapping={"cart": b"x" * 1_500_000})
        client.config_resetstat()
        lines = checked(server, tmp_path)
        assert "cmdstat_hvals" not in client.info("commandstats")
    assert "0 sessions read" in lines["sample"].detail
    assert lines["compatibility"].detail == "none of the 1 sampled sessions was read"


@pytest.mark.parametrize("denied", ["type", "strlen", "get", "scan"])
def test_what_the_user_may_not_ask_is_not_called_an_empty_store(
    server: RedisServer, tmp_path: Path, denied: str
) -> None:
    store(server, {"a": CIRCLE})
    with server.client() as client:
        client.acl_setuser("app", enabled=True, nopass=True, keys=["*"], commands=["+@all"])
        client.execute_command("ACL", "SETUSER", "app", f"-{denied}")
        try:
            lines = checked(server, tmp_path, f"{KEY}\n  username: app")
        finally:
            client.acl_deluser("app")
    assert [(name, line.verdict) for name, line in lines.items()] == [
        ("sample", Verdict.NOT_CHECKED)
    ]
    assert f"'{denied}' command" in lines["sample"].detail


def test_a_server_that_does_not_tell_sizes_in_memory_is_sampled_all_the_same(
    server: RedisServer, tmp_path: Path
) -> None:
    with server.client() as client:
        client.hset("shop:session[1]:a", mapping={"cart": CIRCLE})
        client.acl_setuser("app", enabled=True, nopass=True, keys=["*"], commands=["+@all"])
        client.execute_command("ACL", "SETUSER", "app", "-memory|usage")
        try:
            lines = checked(server, tmp_path, f"{KEY}\n  username: app")
        finally:
            client.acl_deluser("app")
    assert "1 sessions read" in lines["sample"].detail


def test_a_store_of_other_keys_does_not_hold_us_beyond_the_deadline(server: RedisServer) -> None:
    with server.client() as client, client.pipeline(transaction=False) as pipe:
        for number in range(1_000):
            pipe.set(f"other:{number}", "value")
        pipe.execute()
        client.config_resetstat()
    settings = SessionStoreSettings(server.url, session_key="shop:{id}", deadline_ms=0)
    assert sample_sessions(settings, None).gap == "the time for the check was over"
    with server.client() as client:
        assert "cmdstat_scan" not in client.info("commandstats")


def test_poisoned_keys_are_counted(server: RedisServer, tmp_path: Path) -> None:
    store(server, {"a": b"null", "b": b"null", "c": CIRCLE})
    lines = checked(server, tmp_path)
    assert lines["poisoned keys"].verdict is Verdict.WARNING
    assert lines["poisoned keys"].detail.startswith("2 of 3 sampled keys hold the placeholder")


def test_damaged_values_are_told_and_stop_nothing(server: RedisServer, tmp_path: Path) -> None:
    store(server, {"a": CIRCLE[:-7]})
    line = checked(server, tmp_path)["compatibility"]
    assert line.verdict is Verdict.WARNING
    assert "1 values are damaged" in line.detail


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ("", "`session_store.session_key` does not say how sessions are named"),
        (f"{KEY}\n  sample_max: 0", "`session_store.sample_max` is 0"),
    ],
)
def test_what_is_not_asked_for_is_not_checked(
    server: RedisServer, tmp_path: Path, more: str, why: str
) -> None:
    line = checked(server, tmp_path, more)["compatibility"]
    assert (line.verdict, line.detail) == (Verdict.NOT_CHECKED, why)


def test_without_a_session_or_with_others_only_nothing_is_claimed(
    server: RedisServer, tmp_path: Path
) -> None:
    assert checked(server, tmp_path)["compatibility"].detail == "no session is stored now"
    store(server, {"a": b'{"user": "ann"}'})
    line = checked(server, tmp_path)["compatibility"]
    assert line.verdict is Verdict.NOT_CHECKED
    assert "JSON: 1" in line.detail


def test_values_of_which_nothing_is_known_are_not_called_readable(
    server: RedisServer, tmp_path: Path
) -> None:
    store(server, {"a": CIRCLE, "b": b'{"user": "ann"}'})
    line = checked(server, tmp_path)["compatibility"]
    assert line.verdict is Verdict.NOT_CHECKED
    assert "not all values of 2 sampled sessions are Java object streams" in line.detail


def test_a_store_that_lets_nobody_in_is_not_called_empty(tmp_path: Path) -> None:
    with redis_server("--save", "", "--requirepass", "secret") as server:
        lines = checked(server, tmp_path)
        unset = checked(server, tmp_path, f"{KEY}\n  password_env: NOT_SET_ANYWHERE")
    assert list(lines) == list(unset) == ["sample"]
    assert lines["sample"].verdict is Verdict.NOT_CHECKED
    assert "environment variable NOT_SET_ANYWHERE is not set" in unset["sample"].detail


def test_a_store_that_does_not_answer_is_not_checked_and_does_not_hold_us(tmp_path: Path) -> None:
    with redis_server("--save", "") as server:
        server.freeze()
        try:
            line = checked(server, tmp_path, f"{KEY}\n  timeout_s: 0.5")["sample"]
        finally:
            server.thaw()
    assert line.verdict is Verdict.NOT_CHECKED


def test_a_hundred_thousand_sessions_are_sampled_by_reading_only_and_in_few_round_trips(
    server: RedisServer,
) -> None:
    store(server, {f"{n}": CIRCLE for n in range(MANY)})
    with server.client() as client:
        client.set("another:key", "value")
        client.config_resetstat()
    settings = SessionStoreSettings(server.url, session_key="shop:session[1]:{id}")
    sampled = sample_sessions(settings, None)
    with server.client() as client:
        asked = {
            name.removeprefix("cmdstat_"): c for name, c in client.info("commandstats").items()
        }
        assert client.dbsize() == MANY + 1
        assert 1_700 < client.ttl("shop:session[1]:5") <= 1_800
    print(
        f"{len(sampled.sessions)} of {MANY:,} sessions in {sampled.took_ms} ms, slowest PING "
        f"{sampled.latency_before_us} us before, {sampled.latency_during_us} us meanwhile"
    )
    assert len(sampled.sessions) == 500
    assert all(values == (CIRCLE,) for values in sampled.sessions.values())
    assert sampled.gap == ""
    used = {name for name in asked if not name.startswith(("config|", "info", "client|", "hello"))}
    assert used <= READING, used
    assert asked["scan"]["calls"] <= 5
