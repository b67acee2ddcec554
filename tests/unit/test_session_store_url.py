"""What the session store's check answers without asking any server."""

from __future__ import annotations

import pytest

from rolling_deploy.remote.session_store_address import Form, address_of
from rolling_deploy.remote.session_store_asked import check_session_store
from rolling_deploy.remote.session_store_info import CLUSTER_SLOTS, Sample, unserved
from rolling_deploy.rollout.observed import Verdict
from rolling_deploy.settings import SessionStoreSettings


def only_line(settings: SessionStoreSettings) -> tuple[Verdict, str]:
    checks, sample = check_session_store(settings, None, canary=True, previous=None)
    assert sample == Sample()
    (check,) = checks
    return check.verdict, check.detail


def test_no_url_is_not_checked_and_says_so() -> None:
    assert only_line(SessionStoreSettings()) == (Verdict.NOT_CHECKED, "not configured")


@pytest.mark.parametrize(
    "url",
    [
        "http://store:6379/0",
        "redis:///0",
        "redis://store/zero",
        "redis://store:port/0",
        "redis://store:70000",
        "redis://one,two/0",
        "redis+sentinel://one,two",
        "redis+sentinel://one/mymaster/zero",
        "redis+cluster://one,two/1",
        "redis+cluster://one,,two",
        "store",
    ],
)
def test_a_url_of_something_else_is_refused(url: str) -> None:
    verdict, _ = only_line(SessionStoreSettings(url=url))
    assert verdict is Verdict.REFUSED


def test_a_password_in_the_url_is_refused_and_not_repeated() -> None:
    verdict, detail = only_line(SessionStoreSettings(url="redis://app:hunter2@store:6379/0"))
    assert verdict is Verdict.REFUSED
    assert "`password_env`" in detail
    assert "hunter2" not in detail


def test_sentinels_and_clusters_are_named_by_several_servers() -> None:
    said = address_of("rediss+sentinel://app@s1:5000,s2,[::1]:7/mymaster/3")
    assert said.form is Form.SENTINEL
    assert said.servers == (("s1", 5000), ("s2", 26379), ("::1", 7))
    assert (said.master, said.db, said.username, said.is_tls) == ("mymaster", 3, "app", True)
    assert str(said) == "`mymaster` by the sentinels s1:5000, s2:26379, [::1]:7"
    said = address_of("redis+cluster://r1,r2:7001")
    assert (said.form, said.servers) == (Form.CLUSTER, (("r1", 6379), ("r2", 7001)))
    assert (said.db, said.is_tls) == (0, False)


@pytest.mark.parametrize(
    ("url", "is_loopback"),
    [
        ("redis://localhost", True),
        ("redis://127.0.0.2:1/0", True),
        ("redis://[::1]/0", True),
        ("redis://store.localhost", True),
        ("redis://10.0.0.1", False),
        ("redis+sentinel://localhost,s2/mymaster", False),
        ("redis+cluster://localhost:1,127.0.0.1:2", True),
    ],
)
def test_a_url_that_means_whoever_asks_is_known(url: str, *, is_loopback: bool) -> None:
    assert address_of(url).is_loopback is is_loopback


def test_slots_that_nobody_has_are_named() -> None:
    last = CLUSTER_SLOTS - 1
    assert unserved([(0, 99), (50, last)]) == []
    assert unserved([(200, 299), (0, 99)]) == [(100, 199), (300, last)]
    assert unserved([]) == [(0, last)]
