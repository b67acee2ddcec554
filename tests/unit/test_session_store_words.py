"""What is said of a session store: its passwords never, and of TLS what a person can act on."""

from __future__ import annotations

import ssl

import pytest

from rolling_deploy.remote.session_store import hidden, store_of
from rolling_deploy.remote.session_store_address import address_of, is_name
from rolling_deploy.remote.session_store_tls import trouble
from rolling_deploy.settings import SessionStoreSettings

OURS = {"ssl_certfile": "/c.pem"}


@pytest.mark.parametrize(
    ("password", "said", "shown"),
    [
        ("longer-than-six", "no longer-than-six here", "no (hidden) here"),
        (
            "1",
            "1 of 3 sentinels: wrong password '1'",
            "1 of 3 sentinels: wrong password '(hidden)'",
        ),
        ("at", "cannot reach it at `at`", "cannot reach it at `(hidden)`"),
    ],
)
def test_a_password_is_hidden_and_a_short_one_garbles_no_other_word(
    monkeypatch: pytest.MonkeyPatch, password: str, said: str, shown: str
) -> None:
    monkeypatch.setenv("STORE_PASSWORD", password)
    settings = SessionStoreSettings(url="redis://127.0.0.1:1/0", password_env="STORE_PASSWORD")
    assert hidden(store_of(settings, None), said) == shown


def test_what_follows_a_question_mark_is_named_and_not_shown() -> None:
    with pytest.raises(ValueError, match="before its `\\?`") as raised:
        address_of("rediss://redis:6379/0?password=hunter2")
    assert "hunter2" not in str(raised.value)
    assert "`tls_ca`" in str(raised.value)


@pytest.mark.parametrize(
    ("reason", "options", "said"),
    [
        ("SSLV3_ALERT_HANDSHAKE_FAILURE", {}, "r:1 wants a certificate of ours"),
        ("SSLV3_ALERT_HANDSHAKE_FAILURE", OURS, "no TLS with r:1: sslv3 alert handshake failure"),
        ("TLSV1_ALERT_PROTOCOL_VERSION", OURS, "no TLS with r:1: tlsv1 alert protocol version"),
        ("TLSV1_ALERT_UNKNOWN_CA", OURS, "r:1 does not accept our certificate"),
        ("SSLV3_ALERT_BAD_CERTIFICATE", OURS, "r:1 does not accept our certificate"),
    ],
)
def test_an_alert_is_put_down_to_our_certificate_only_where_it_says_so(
    reason: str, options: dict[str, str], said: str
) -> None:
    error = ssl.SSLError(1, reason)
    error.reason = reason
    assert trouble(error, "r:1", is_named=True, options=dict(options)).startswith(said)


@pytest.mark.parametrize(
    ("host", "is_one"), [("redis-1.example", True), ("10.0.0.1", False), ("fd00::1", False)]
)
def test_an_address_is_told_from_a_name(host: str, is_one: bool) -> None:
    assert is_name(host) is is_one
