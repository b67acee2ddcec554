"""The one door to redis-py: is the session store such that no session is lost, as far as seen.

PING proves next to nothing: of twenty faults tried on a real server it did not notice ten. So
the check logs in as the application does, writes and reads as it does, and asks the server
about everything that loses sessions without an error.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import redis.connection
import redis.exceptions

from rolling_deploy.remote.connection import CannotReach, ForwardingRefused
from rolling_deploy.remote.opener import open_directly
from rolling_deploy.remote.session_store_checks import ENDED_EARLY, Access, Examination
from rolling_deploy.remote.session_store_info import Sample, line
from rolling_deploy.remote.session_store_link import LinkLost, Said, Why
from rolling_deploy.rollout.observed import Check, Verdict

if TYPE_CHECKING:
    import socket

    from rolling_deploy.remote.opener import Opener
    from rolling_deploy.settings import SessionStoreSettings

__all__ = ["Sample", "check_session_store"]

URL_SHAPE = "redis://host:port/db or rediss://host:port/db"
HIDDEN = "(hidden)"
NO_SUCH_KEY = -2
"""What PTTL answers for a key that is not there."""


def check_session_store(
    settings: SessionStoreSettings,
    opener: Opener | None,
    *,
    canary: bool,
    previous: Sample | None,
) -> tuple[tuple[Check, ...], Sample]:
    """Answers a line for everything that was checked, and a sample for the next check.

    Takes `deadline_ms` at the most, whatever the server does. Nothing is tried twice. Changes
    nothing but the canary keys, which expire by themselves.

    Args:
        settings: where the store is, and the limits.
        opener: through the SSH host that `via` names; None when there is no such connection
            (refused if `via` is set, direct otherwise).
        canary: write the canary keys; without, writing is not checked.
        previous: the sample of the check before, to see evictions between the two.

    Crash: the canary keys expire within a minute.
    """
    if not settings.url:
        return (line("session store", Verdict.NOT_CHECKED, "not configured"),), Sample()
    if settings.via and opener is None:
        reason = f"should be reached via {settings.via}, which is not connected"
        return (line("reach", Verdict.REFUSED, reason),), Sample()
    password = os.environ.get(settings.password_env) if settings.password_env else ""
    if password is None:
        reason = f"environment variable {settings.password_env} is not set"
        return (line("authentication", Verdict.REFUSED, reason),), Sample()
    try:
        place = _place_of(settings)
    except ValueError as error:
        return (line("reach", Verdict.REFUSED, str(error)),), Sample()
    link = RedisLink(place, opener or open_directly, settings.timeout_ms)
    examination = Examination(
        link,
        replace(settings, username=settings.username or place.username),
        access=Access(
            f"{place} via {settings.via}" if settings.via else f"{place}", password, place.db
        ),
        canary=canary,
        previous=previous,
    )
    lines, sample = _run_within(examination, link, settings.deadline_ms)
    return tuple(_without(password, check) for check in lines), sample


def remaining_ms(settings: SessionStoreSettings, opener: Opener | None, key: str) -> int | None:
    """Answers how long the store still keeps a key; None when it has none, or cannot be asked.

    A key that never expires answers as -1, as Redis does.
    """
    with suppress(LinkLost, ValueError):
        with open_link(settings, opener) as link:
            said = link.ask(("PTTL", key))[0]
            if isinstance(said.value, int) and said.value != NO_SUCH_KEY:
                return said.value
    return None


@contextmanager
def open_link(
    settings: SessionStoreSettings, opener: Opener | None, *, is_binary: bool = False
) -> Iterator[RedisLink]:
    """Enter the store as the application does: user, password, database.

    Args:
        is_binary: answers come as bytes instead of text.

    Raises:
        LinkLost: it cannot be reached or does not let us in.
        ValueError: the settings cannot be right.
    """
    password = os.environ.get(settings.password_env) if settings.password_env else ""
    if password is None:
        raise LinkLost(f"environment variable {settings.password_env} is not set")
    place = _place_of(settings)
    user = settings.username or place.username
    timeout_ms = settings.timeout_ms
    link = RedisLink(place, opener or open_directly, timeout_ms, is_binary=is_binary)
    try:
        link.connect()
        commands: list[tuple[str, ...]] = []
        if password or user:
            commands.append(("AUTH", *([user] if user else []), password))
        if place.db:
            commands.append(("SELECT", str(place.db)))
        for said in link.ask(*commands) if commands else ():
            if said.is_error:
                raise LinkLost(_hidden(password, said.error))
        yield link
    finally:
        link.close()


def _run_within(
    examination: Examination, link: RedisLink, deadline_ms: int
) -> tuple[list[Check], Sample]:
    """Run the examination, and leave it behind at the deadline.

    Socket timeouts alone do not bound it: a server that sends a byte now and then never times
    out.
    """
    bugs: list[BaseException] = []

    def run() -> None:
        try:
            examination.run()
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that asked, if in time
            bugs.append(error)

    thread = threading.Thread(target=run, name="session-store", daemon=True)
    thread.start()
    thread.join(deadline_ms / 1000)
    lines, sample, at = list(examination.lines), examination.sample, examination.at
    is_late = thread.is_alive()
    link.close()
    if bugs and not is_late:
        raise bugs[0]
    if is_late:
        reason = f"not done within {deadline_ms} ms, the last command was {link.asking}"
        lines.append(line(at, Verdict.REFUSED, reason))
        lines.append(line("the rest", Verdict.NOT_CHECKED, ENDED_EARLY))
    return lines, sample


def _without(password: str, check: Check) -> Check:
    """Answers the line with the password hidden, should a server ever repeat it."""
    if not password or password not in check.detail:
        return check
    return line(check.name, check.verdict, _hidden(password, check.detail))


def _hidden(password: str, text: str) -> str:
    return text.replace(password, HIDDEN) if password else text


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the store is, from its url."""

    host: str
    port: int
    db: int
    username: str
    tls: dict[str, Any] | None

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def _place_of(settings: SessionStoreSettings) -> _Place:
    """Answers where the url points.

    Raises:
        ValueError: it is not a url of a Redis server, or holds a password.
    """
    parts = urlsplit(settings.url)
    if parts.password:
        msg = "the url holds a password, should be in the variable that `password_env` names"
        raise ValueError(msg)
    digits = parts.path.strip("/") or "0"
    if parts.scheme not in {"redis", "rediss"} or not parts.hostname or not digits.isdecimal():
        msg = f"the url should be {URL_SHAPE}, is `{settings.url}`"
        raise ValueError(msg)
    tls = None
    if parts.scheme == "rediss":
        # redis-py's own reading of `?ssl_cert_reqs=none` and the like; the rest is not passed on.
        said = redis.connection.parse_url(settings.url)  # type: ignore[no-untyped-call] # not typed
        tls = {key: value for key, value in said.items() if key.startswith("ssl_")}
    return _Place(parts.hostname, parts.port or 6379, int(digits), parts.username or "", tls)


class _OpenedConnection(redis.connection.Connection):
    """redis-py's connection over a socket that the opener makes, with nothing said on its own."""

    def __init__(self, *, opener: Opener, timeout_ms: int, **options: Any) -> None:
        self._opener = opener
        self._timeout_ms = timeout_ms
        super().__init__(  # type: ignore[no-untyped-call] # not typed
            socket_timeout=timeout_ms / 1000,
            socket_connect_timeout=timeout_ms / 1000,
            retry=None,
            protocol=2,
            encoding_errors="replace",
            redis_connect_func=self._begin,
            **options,
        )

    def _connect(self) -> socket.socket:
        try:
            stream = self._opener(self.host, self.port, timeout_ms=self._timeout_ms)
        except (CannotReach, ForwardingRefused) as error:
            raise redis.exceptions.ConnectionError(str(error)) from error
        stream.settimeout(self._timeout_ms / 1000)
        return stream

    def _begin(self, _: object) -> None:
        # Instead of redis-py's own greeting: each command of ours is asked and judged by itself.
        self._parser.on_connect(self)


class _OpenedTlsConnection(redis.connection.SSLConnection, _OpenedConnection):
    """The same inside TLS: SSLConnection wraps whatever the next class connects."""


class RedisLink:
    """The real link. Not for several threads, but `close` may come from another."""

    def __init__(
        self, place: _Place, opener: Opener, timeout_ms: int, *, is_binary: bool = False
    ) -> None:
        """Prepare; nothing is connected yet."""
        kind = _OpenedConnection if place.tls is None else _OpenedTlsConnection
        # Any: redis-py types its client, but not the connection below it.
        self._connection: Any = kind(
            opener=opener,
            timeout_ms=timeout_ms,
            host=place.host,
            port=place.port,
            decode_responses=not is_binary,
            **(place.tls or {}),
        )
        self._timeout_ms = timeout_ms
        self.asking = "connecting"
        self.slowest = ""
        self.slowest_ms = 0

    def connect(self) -> None:
        """Connect, without logging in."""
        try:
            self._connection.connect()
        except redis.exceptions.RedisError as error:
            raise LinkLost(str(error)) from error

    def ask(self, *commands: tuple[str | bytes, ...]) -> list[Said]:
        """Send the commands in one round trip and give their answers in order."""
        self.asking = str(commands[0][0])
        begun = time.monotonic()
        try:
            self._connection.send_packed_command(self._connection.pack_commands(commands))
            return [self._read() for _ in commands]
        except (redis.exceptions.RedisError, OSError, ValueError) as error:
            raise LinkLost(f"{error} ({self.asking})") from error
        finally:
            took_ms = round((time.monotonic() - begun) * 1000)
            if took_ms >= self.slowest_ms:
                self.slowest, self.slowest_ms = self.asking, took_ms

    def close(self) -> None:
        """Close the connection; whoever waits on it gets an error at once."""
        self._connection.disconnect()

    def _read(self) -> Said:
        try:
            return Said(self._connection.read_response(disconnect_on_error=False))
        except redis.exceptions.NoPermissionError as error:
            return Said(error=str(error), why=Why.DENIED)
        except redis.exceptions.AuthenticationError as error:
            return Said(error=str(error), why=Why.NOT_LOGGED_IN)
        except redis.exceptions.BusyLoadingError as error:
            return Said(error=str(error), why=Why.LOADING)
        except redis.exceptions.ResponseError as error:
            text = str(error)
            is_elsewhere = text.startswith(("MOVED ", "ASK "))
            return Said(error=text, why=Why.ELSEWHERE if is_elsewhere else Why.OTHER)
