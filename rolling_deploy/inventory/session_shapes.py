"""The shapes of `session_store`, and of `session_canary`: requests that make and read sessions."""

from __future__ import annotations

from typing import Literal

from rolling_deploy.inventory import kinds
from rolling_deploy.inventory.fields import Shape, must, same, seconds, worked_out
from rolling_deploy.settings import (
    CanaryRequest,
    CanarySettings,
    CsrfSettings,
    SessionStoreSettings,
)


class CanaryRequestShape(Shape):
    """One request; `{marker}` in its path and form is a word that only this session has."""

    path: kinds.UrlPath = must("path that is asked")
    method: Literal["GET", "POST", "PUT"] = same(CanaryRequest, "method", "`GET`, `POST` or `PUT`")
    form: dict[kinds.Text, str] = same(
        CanaryRequest, "form", "fields, sent as a browser sends a form"
    )
    form_env: dict[kinds.Text, kinds.Environment] = same(
        CanaryRequest, "form_env", "fields whose value is in an environment variable (passwords)"
    )
    headers: dict[kinds.HeaderName, kinds.HeaderValue] = same(
        CanaryRequest, "headers", "further headers of this request"
    )
    status: list[kinds.Status] = same(
        CanaryRequest, "status", "statuses that count as good", "200 to 399"
    )


class CsrfShape(Shape):
    """The token that a page hides against forged requests; sent with what is not a `GET`."""

    path: kinds.UrlPath = same(CsrfSettings, "path", "page that shows it", "the path of `read`")
    pattern: kinds.VersionPattern = must("regular expression with one group, searched in the page")
    field: kinds.Text = same(CsrfSettings, "field", "form field that it is sent in", "none")
    header: kinds.HeaderName = same(CsrfSettings, "header", "header that it is sent in", "none")


class SessionCanaryShape(Shape):
    """Sessions of our own, made and read on both releases; left out, sessions are not proved."""

    create: CanaryRequestShape = must("request that makes a session: a login")
    read: CanaryRequestShape = must("request whose answer shows whose session it is")
    expect: kinds.Regex = must(
        "regular expression that the answer to `read` matches with the session, and not without; "
        "`{marker}` as in `create`"
    )
    write: CanaryRequestShape = worked_out(
        "none: writing is not proved",
        "request that changes the session; `{written}` is a new word each time",
    )
    written: kinds.Regex = same(
        CanarySettings,
        "written",
        "regular expression that the answer to `read` matches after `write`; it says `{written}`",
        "none",
    )
    cookie: kinds.HeaderName = same(CanarySettings, "cookie", "name of the session cookie")
    csrf: CsrfShape = worked_out("none", "token against forged requests, carried over")
    host_header: kinds.HostHeader = same(
        CanarySettings, "host_header", "the `Host` header, as nginx sends it", "that of `health`"
    )
    headers: dict[kinds.HeaderName, kinds.HeaderValue] = same(
        CanarySettings, "headers", "headers of every request, beside those of `health`"
    )
    keep: kinds.Count = same(
        CanarySettings, "keep", "how many sessions of the release in service are kept"
    )
    lifetime_share_min: kinds.Share = same(
        CanarySettings,
        "lifetime_share_min",
        "share of its time to live that a session must keep (with `session_store.session_key`)",
    )
    timeout_s: kinds.Seconds = seconds(
        CanarySettings, "timeout_ms", "how long one answer may take; it is not asked again"
    )


class SessionStoreShape(Shape):
    """The Redis that holds the sessions; left out, it is not checked, and said so."""

    url: kinds.RedisUrl = must(
        "the server, the sentinels with the name of the master, or some of a cluster's servers; "
        "`rediss` for TLS, with the sentinels too; never with a password"
    )
    via: kinds.Name = same(
        SessionStoreSettings,
        "via",
        "machine of `hosts` that it is reached from, where `url` may say `localhost`",
        "none: reached directly",
    )
    asked_from: Literal["both", "backends", "via"] = same(
        SessionStoreSettings,
        "asked_from",
        "where it is asked: whole from `via` (without it from this machine; from the first backend "
        "where `url` says `localhost`) and shortly from each backend's own machine, or one of both",
    )
    username: kinds.Text = same(
        SessionStoreSettings, "username", "the application's own user", "Redis's default user"
    )
    password_env: kinds.Environment = same(
        SessionStoreSettings,
        "password_env",
        "environment variable that holds the password",
        "no password",
    )
    sentinel_password_env: kinds.Environment = same(
        SessionStoreSettings,
        "sentinel_password_env",
        "environment variable that holds the password of the sentinels",
        "no password",
    )
    tls_ca: kinds.LocalPath = same(
        SessionStoreSettings,
        "tls_ca",
        "file on this machine with the certificate of an authority of your own, which is believed "
        "beside those that this machine trusts",
        "none",
    )
    tls_certificate: kinds.LocalPath = same(
        SessionStoreSettings,
        "tls_certificate",
        "file on this machine with our certificate, which Redis asks for by default",
        "none is shown",
    )
    tls_key: kinds.LocalPath = same(
        SessionStoreSettings,
        "tls_key",
        "file on this machine with its key, without a password",
        "`tls_certificate`",
    )
    key_prefix: kinds.Text = same(
        SessionStoreSettings,
        "key_prefix",
        "prefix of the session keys, so that the check may write where the application does",
        "none",
    )
    session_key: kinds.SessionKey = same(
        SessionStoreSettings,
        "session_key",
        "key of one session, `{id}` for the value of its cookie: "
        "`shop:redisson:tomcat_session:{id}` (Redisson), `{id}` (com.orangefunction)",
        "not known: no session is looked at in the store",
    )
    sample_max: kinds.CountOrNone = same(
        SessionStoreSettings,
        "sample_max",
        "how many stored sessions are read before a start, to see whether the release can read "
        "them; 0 reads none",
    )
    incompatible: Literal["refuse", "warn"] = same(
        SessionStoreSettings, "incompatible", "what to do when it cannot read some of them"
    )
    given_classes: list[kinds.Text] = same(
        SessionStoreSettings,
        "given_classes",
        "how the names of classes begin that the machines bring along beside the release, like "
        "`com.example.platform.`",
    )
    memory_used_max: kinds.Share = same(
        SessionStoreSettings, "memory_used_max", "share of `maxmemory` above which it warns"
    )
    latency_max_ms: kinds.Milliseconds = same(
        SessionStoreSettings, "latency_max_ms", "a command slower than this warns"
    )
    timeout_s: kinds.Seconds = seconds(
        SessionStoreSettings, "timeout_ms", "how long connecting and each command may take"
    )
    deadline_s: kinds.Seconds = seconds(
        SessionStoreSettings, "deadline_ms", "how long the whole check may take"
    )
    failover_limit_s: kinds.Seconds = seconds(
        SessionStoreSettings,
        "failover_limit_ms",
        "how long a wave waits for another master to be chosen, by sentinels or in a cluster",
    )
