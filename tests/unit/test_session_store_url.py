"""What the session store's check answers without asking any server."""

from __future__ import annotations

import pytest

from rolling_deploy.remote.session_store import check_session_store
from rolling_deploy.remote.session_store_info import Sample
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
    ["http://store:6379/0", "redis:///0", "redis://store/zero", "redis://store:port/0", "store"],
)
def test_a_url_of_something_else_is_refused(url: str) -> None:
    verdict, _ = only_line(SessionStoreSettings(url=url))
    assert verdict is Verdict.REFUSED


def test_a_password_in_the_url_is_refused_and_not_repeated() -> None:
    verdict, detail = only_line(SessionStoreSettings(url="redis://app:hunter2@store:6379/0"))
    assert verdict is Verdict.REFUSED
    assert "`password_env`" in detail
    assert "hunter2" not in detail
