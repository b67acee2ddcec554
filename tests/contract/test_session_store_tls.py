"""Sentinels and clusters that speak TLS only, by an authority of our own: what is seen and told."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from rolling_deploy.remote.session_sample import sample_sessions
from rolling_deploy.remote.session_store import open_link
from rolling_deploy.rollout.observed import Check, Verdict
from rolling_deploy.settings import SessionStoreSettings
from tests.certificate import Authority
from tests.contract.test_session_store_places import Fleet
from tests.redis_groups import MASTER, cluster, cluster_url, sentinel, watched
from tests.redis_server import BINARY, WHY_SKIPPED, RedisServer, Tls, redis_server, wait_until
from tests.session_store_lines import (
    ALL_LINES,
    PREFIX,
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
every = pytest.mark.every
HERE = "127.0.0.1"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.made_in(tmp_path_factory.mktemp("authority"))


def shows(authority: Authority, *names: str, **more: int) -> Tls:
    """Answers a server that shows a certificate for these names."""
    return Tls(*authority.sign(*names, **more), authority.certificate)


@pytest.fixture(scope="module")
def fitting(authority: Authority) -> Tls:
    return shows(authority, HERE)


@pytest.fixture(scope="module")
def servers(fitting: Tls) -> Iterator[tuple[RedisServer, ...]]:
    """A cluster of three masters that no test harms."""
    with cluster(tls=fitting) as running:
        yield running


def plainly(url: str) -> SessionStoreSettings:
    """Answers settings that know no authority of our own."""
    return SessionStoreSettings(url=url, key_prefix=PREFIX, latency_max_ms=5_000, timeout_ms=2_000)


def having(settings: SessionStoreSettings, **changes: object) -> SessionStoreSettings:
    return replace(settings, **changes)  # type: ignore[arg-type] # each test names real fields


def believing(authority: Authority, url: str, **changes: object) -> SessionStoreSettings:
    return having(plainly(url), tls_ca=str(authority.certificate), **changes)


def single(server: RedisServer) -> str:
    return f"rediss://{HERE}:{server.port}"


def test_a_master_is_found_by_its_sentinels_and_examined_through_tls(
    authority: Authority, fitting: Tls
) -> None:
    with watched(3, tls=fitting) as store:
        opener = RelayingOpener()
        lines = examine(believing(authority, store.url, via="web1"), opener=opener)
        assert with_verdict(lines, Verdict.OK) == ALL_LINES | {"sentinels"}, lines
        assert {port for _, port in opener.asked} == {
            store.master.port,
            *(one.port for one in store.sentinels),
        }
        plain = store.url.replace("rediss", "redis")
        assert_refused(examine(plainly(plain)), "sentinels", "none names")
        # Whom we do not know we do not believe; it is the certificate, not the sentinel.
        told = examine(plainly(store.url))["sentinels"]
        assert told.verdict is Verdict.REFUSED
        said = f"the certificate of {HERE}:{store.sentinels[0].port} does not fit: self-signed"
        assert said in told.detail
        assert "`session_store.tls_ca` can name the file" in told.detail


@every
def test_a_failover_inside_tls_is_followed(authority: Authority, fitting: Tls) -> None:
    with watched(3, tls=fitting) as store, contextlib.closing(store.sentinels[0].client()) as one:
        settings = believing(authority, store.url)
        assert with_verdict(examine(settings), Verdict.REFUSED) == set()
        one.execute_command("SENTINEL FAILOVER", MASTER)
        wait_until(
            lambda: {store.master_by(each) for each in store.sentinels} == {store.replica.port},
            "another master",
        )
        wait_until(lambda: not with_verdict(examine(settings), Verdict.REFUSED), "a whole store")
        assert f"{HERE}:{store.replica.port} is master" in examine(settings)["sentinels"].detail


def test_every_master_of_a_cluster_is_examined_and_sampled_through_tls(
    authority: Authority, servers: tuple[RedisServer, ...]
) -> None:
    settings = believing(authority, cluster_url(servers), session_key="sampled:{id}", sample_max=30)
    lines = examine(settings)
    assert with_verdict(lines, Verdict.OK) == ALL_LINES | {"cluster servers", "slots", "cluster"}
    with open_link(settings, None) as link:
        link.ask(*(("SET", f"sampled:{n}", "1", "EX", "60") for n in range(120)))
    sampled = sample_sessions(settings, None)
    assert (len(sampled.sessions), sampled.gap) == (30, "")


def test_a_store_inside_tls_is_asked_from_each_node(
    authority: Authority, servers: tuple[RedisServer, ...], tmp_path: Path
) -> None:
    # A relative path is beside the inventory.
    (tmp_path / "ca.pem").write_bytes(authority.certificate.read_bytes())
    fleet = Fleet(tmp_path, cluster_url(servers), ("web1", "web2"), ", tls_ca: ca.pem")
    assert fleet.places()["from app1, app2"][0] is Verdict.OK
    (tmp_path / "ca.pem").write_bytes(Authority.made_in(tmp_path, "other").certificate.read_bytes())
    told = {check.name: check for check in fleet.ask()}
    for name in ("reach", "from app1, app2"):
        assert told[name].verdict is Verdict.REFUSED
        assert f"the certificate of {HERE}:{servers[0].port} does not fit" in told[name].detail
        assert "`tls_ca` names another authority" in told[name].detail


UNFIT = {
    "for another name": (("redis.example",), {}, f"certificate is not valid for '{HERE}'"),
    "over": ((HERE,), {"days": -2}, "certificate has expired"),
}


@pytest.mark.parametrize("flaw", list(UNFIT))
def test_a_certificate_that_does_not_fit_is_said_as_such(
    authority: Authority, fitting: Tls, flaw: str
) -> None:
    names, more, said = UNFIT[flaw]
    unfit = shows(authority, *names, **more)
    with redis_server(tls=unfit) as server:
        lines = examine(believing(authority, single(server)))
        place = f"{HERE}:{server.port}"
        assert_refused(lines, "reach", f"the certificate of {place} does not fit: ")
        assert said in lines["reach"].detail
        # The sentinel's own fits: it is the master that is named.
        url = f"rediss+sentinel://{HERE}:%d/{MASTER}"
        with sentinel(server.port, quorum=1, down_after_ms=60_000, tls=fitting) as one:
            lines = examine(believing(authority, url % one.port))
            assert lines["sentinels"].verdict is Verdict.OK, lines
            assert_refused(lines, "reach", f"the certificate of {place} does not fit: ")
            is_hinted = "what it is called by the others" in lines["reach"].detail
            assert is_hinted is (flaw == "for another name")
    with redis_server(tls=fitting) as server:
        with sentinel(server.port, quorum=1, down_after_ms=60_000, tls=unfit) as one:
            lines = examine(believing(authority, url % one.port))
            place = f"{HERE}:{one.port}"
            assert_refused(lines, "sentinels", f"the certificate of {place} does not fit: ")
            assert said in lines["sentinels"].detail


def test_a_cluster_is_taken_by_the_names_that_its_certificates_are_for(
    authority: Authority,
) -> None:
    by_name = shows(authority, "localhost")
    words = ("--cluster-announce-hostname", "localhost")
    with cluster(2, *words, tls=by_name) as servers:
        url = cluster_url(servers).replace(HERE, "localhost")
        # It names itself by addresses, for which the certificate is not.
        lines = examine(believing(authority, url))
        assert_refused(lines, "reach", "certificate is not valid for '127.0.0.1'")
        assert "what it is called by the others" in lines["reach"].detail
        for server in servers:
            with contextlib.closing(server.client()) as client:
                client.config_set("cluster-preferred-endpoint-type", "hostname")
        lines = examine(believing(authority, url))
        assert with_verdict(lines, Verdict.REFUSED) == set(), lines
        # CLUSTER NODES says both; then it is the name that counts.
        for server in servers:
            with contextlib.closing(server.client()) as client:
                client.config_set("cluster-preferred-endpoint-type", "ip")
                client.execute_command("ACL", "SETUSER", "default", "-cluster|slots")
        lines = examine(believing(authority, url))
        assert with_verdict(lines, Verdict.REFUSED) == set(), lines
        assert "localhost:" in lines["cluster servers"].detail


def test_sentinels_may_name_the_master_by_its_name(authority: Authority) -> None:
    by_name = shows(authority, "localhost")
    with redis_server(tls=by_name) as server:
        more = "sentinel resolve-hostnames yes\nsentinel announce-hostnames yes\n"
        with sentinel(
            server.port, quorum=1, down_after_ms=60_000, tls=by_name, more=more, host="localhost"
        ) as one:
            url = f"rediss+sentinel://localhost:{one.port}/{MASTER}"
            lines = examine(believing(authority, url))
    assert f"localhost:{server.port} is master" in lines["sentinels"].detail
    assert with_verdict(lines, Verdict.REFUSED) == set(), lines


def test_a_certificate_of_ours_is_shown_where_it_is_wanted(
    authority: Authority, fitting: Tls, tmp_path: Path
) -> None:
    strict = replace(fitting, wants_certificate=True)
    certificate, key = authority.sign("operator")
    both = tmp_path / "both.pem"
    both.write_bytes(b"".join(file.read_bytes() for file in (certificate, key)))
    stranger = Authority.made_in(tmp_path, "stranger").sign("operator")
    with redis_server(tls=strict) as server:
        settings = believing(authority, single(server))
        told = examine(settings)["reach"]
        assert told.verdict is Verdict.REFUSED
        assert "tls_certificate" in told.detail, told
        for shown in ({"tls_certificate": certificate, "tls_key": key}, {"tls_certificate": both}):
            words = {name: str(file) for name, file in shown.items()}
            lines = examine(having(settings, **words))
            assert with_verdict(lines, Verdict.OK) == ALL_LINES, lines
        unknown = dict(zip(("tls_certificate", "tls_key"), map(str, stranger), strict=True))
        assert examine(having(settings, **unknown))["reach"].verdict is Verdict.REFUSED


def test_tls_to_a_server_without_is_told_from_a_server_that_is_slow(authority: Authority) -> None:
    with redis_server() as server:
        lines = examine(believing(authority, single(server), timeout_ms=700))
        assert_refused(lines, "reach", "does it speak TLS there?")
        server.freeze()
        lines = examine(settings_for(server, timeout_ms=500))
        server.thaw()
        assert_refused(lines, "reach", "Timeout reading from")
        assert "rediss" not in lines["reach"].detail


def test_no_tls_to_a_server_that_speaks_nothing_else_is_said(fitting: Tls) -> None:
    with redis_server(tls=fitting) as server:
        lines = examine(settings_for(server))
        assert_refused(lines, "reach", "the url should begin with `rediss`")


def refusal(settings: SessionStoreSettings) -> Check:
    (refused,) = [c for c in examine(settings).values() if c.verdict is Verdict.REFUSED]
    return refused


def test_files_that_cannot_be_used_are_named_and_nobody_is_asked(
    authority: Authority, tmp_path: Path
) -> None:
    settings = believing(authority, "rediss://127.0.0.1:1")
    other = tmp_path / "other"
    other.write_text("no certificate")
    certificate, key = map(str, authority.sign("operator"))
    _, wrong_key = map(str, authority.sign("operator"))
    for changes, said in (
        ({"tls_ca": "/nowhere/ca.pem"}, "`tls_ca` cannot be used: `/nowhere/ca.pem`: no such file"),
        ({"tls_ca": str(other)}, f"`tls_ca` cannot be used: `{other}`"),
        ({"tls_key": key}, "`tls_key` without `tls_certificate`"),
        ({"tls_certificate": certificate}, "`tls_certificate` cannot be used"),
        ({"tls_certificate": certificate, "tls_key": wrong_key}, "key values mismatch"),
        ({"url": "redis://127.0.0.1:1"}, "`tls_ca` is for a url that begins with `rediss`"),
    ):
        told = refusal(having(settings, **changes))
        assert (told.name, said in told.detail) == ("reach", True), told
