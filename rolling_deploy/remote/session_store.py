"""The one door to redis-py: links to the session store, whatever form it has.

Of redis-py only the connection is used. Its clients for sentinels and clusters open sockets of
their own, try again by themselves and fold many faults into one error; here each command goes
through the stream that an SSH connection gave, once, and its answer is judged by itself.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import redis.connection
import redis.exceptions

from rolling_deploy.remote.connection import CannotReach, ForwardingRefused
from rolling_deploy.remote.opener import open_directly
from rolling_deploy.remote.session_store_address import Address, Form, address_of, is_name, shown
from rolling_deploy.remote.session_store_cluster import Cluster, ClusterLink, find_cluster
from rolling_deploy.remote.session_store_link import Link, LinkLost, Login, Said, Why, enter
from rolling_deploy.remote.session_store_sentinel import elect
from rolling_deploy.remote.session_store_tls import tls_options, trouble

if TYPE_CHECKING:
    import socket

    from rolling_deploy.remote.opener import Opener
    from rolling_deploy.settings import SessionStoreSettings

HIDDEN = "(hidden)"
SHORT = 6
NO_SUCH_KEY = -2
"""What PTTL answers for a key that is not there."""


@dataclass(frozen=True, slots=True)
class Store:
    """The store as one place reaches it.

    Attributes:
        login: for the servers that hold sessions.
        sentinel_login: for the sentinels.
        tls: options of redis-py for TLS; None: without.
        is_binary: answers come as bytes instead of text.
    """

    address: Address
    opener: Opener
    timeout_ms: int
    login: Login = field(repr=False)
    sentinel_login: Login = field(repr=False)
    tls: dict[str, Any] | None
    is_binary: bool = False

    def dial(self, host: str, port: int) -> RedisLink:
        """Answers a link to one server; nothing is connected yet."""
        return RedisLink(self, host, port)

    def find_cluster(self) -> Cluster:
        """Answers the cluster as one of the servers in the url says it.

        Raises:
            LinkLost: none does.
        """
        servers = self.address.servers
        # As the url names them: so it was thought of when the certificates were made.
        by_names = self.address.is_tls and any(is_name(host) for host, _ in servers)
        return find_cluster(self.dial, servers, self.login, by_names=by_names)


def store_of(
    settings: SessionStoreSettings, opener: Opener | None, *, is_binary: bool = False
) -> Store:
    """Answers the store as it is reached through `opener`; None: directly.

    Raises:
        LinkLost: a variable that holds a password is not set.
        ValueError: the settings cannot be right, or a file for TLS cannot be used.
    """
    address = address_of(settings.url)
    username = settings.username or address.username
    return Store(
        address,
        opener or open_directly,
        settings.timeout_ms,
        Login(username, _secret(settings.password_env), address.db),
        Login("", _secret(settings.sentinel_password_env)),
        tls_options(settings, address),
        is_binary,
    )


def _secret(variable: str) -> str:
    if not variable:
        return ""
    secret = os.environ.get(variable)
    if secret is None:
        msg = f"environment variable {variable} is not set"
        raise LinkLost(msg)
    return secret


def remaining_ms(settings: SessionStoreSettings, opener: Opener | None, key: str) -> int | None:
    """Answers how long the store still keeps a key; 0 when it has none, None when it cannot be
    asked.

    A key that never expires answers as -1, as Redis does.
    """
    with suppress(LinkLost, ValueError):
        with open_link(settings, opener) as link:
            said = link.ask(("PTTL", key))[0]
            if isinstance(said.value, int):
                return 0 if said.value == NO_SUCH_KEY else said.value
    return None


@contextmanager
def open_link(
    settings: SessionStoreSettings, opener: Opener | None, *, is_binary: bool = False
) -> Iterator[Link]:
    """Enter the store as the application does: at the master, or wherever a key is.

    Args:
        is_binary: answers come as bytes instead of text.

    Raises:
        LinkLost: it cannot be reached or does not let us in.
        ValueError: the settings cannot be right.
    """
    store = store_of(settings, opener, is_binary=is_binary)
    with _telling_no_secret(store):
        link = link_to(store)
    try:
        yield link
    finally:
        link.close()


@contextmanager
def open_masters(
    settings: SessionStoreSettings, opener: Opener | None
) -> Iterator[tuple[dict[str, Link], str]]:
    """Enter every server that holds sessions; answers come as bytes.

    Yields:
        The links by their addresses, and why some of a cluster's masters are not among them.

    Raises:
        LinkLost: the store cannot be reached, or none of its masters lets us in.
        ValueError: the settings cannot be right.
    """
    store = store_of(settings, opener, is_binary=True)
    links: dict[str, Link] = {}
    missing = []
    with ExitStack() as ends:
        if store.address.form is not Form.CLUSTER:
            with _telling_no_secret(store):
                link = link_to(store)
            ends.callback(link.close)
            yield {str(store.address): link}, ""
            return
        with _telling_no_secret(store):
            cluster = store.find_cluster()
        for server in cluster.masters:
            link = store.dial(*server)
            ends.callback(link.close)
            try:
                enter(link, store.login)
                links[shown(server)] = link
            except LinkLost as error:
                missing.append(f"{shown(server)}: {hidden(store, str(error))}")
        if not links:
            raise LinkLost("; ".join(missing) or "the cluster names no master")
        yield links, "; ".join(missing)


def link_to(store: Store) -> Link:
    """Answers an entered link to where the store's keys are; the caller closes it.

    Raises:
        LinkLost: there is none.
    """
    with _telling_no_secret(store):
        return _link_to(store)


def _link_to(store: Store) -> Link:
    address = store.address
    if address.form is Form.CLUSTER:
        cluster = store.find_cluster()
        return ClusterLink(store.dial, cluster, store.login)
    server = address.servers[0]
    if address.form is Form.SENTINEL:
        election = elect(store.dial, address.servers, address.master, store.sentinel_login)
        if election.master is None:
            raise LinkLost(f"sentinels: {election.check.detail}")
        server = election.master
    link = store.dial(*server)
    try:
        enter(link, store.login)
    except LinkLost as error:
        link.close()
        raise LinkLost(f"{shown(server)}: {error}") from error
    return link


def enter_each(store: Store, link: Link) -> None:
    """Ask every master of a cluster whether it answers, by a link that `link_to` gave.

    Raises:
        LinkLost: one does not.
    """
    if not isinstance(link, ClusterLink):
        return
    for server in link.cluster.masters:
        one = store.dial(*server)
        try:
            enter(one, store.login)
            one.ask(("PING",))
        except LinkLost as error:
            raise LinkLost(f"{shown(server)}: {error}") from error
        finally:
            one.close()


@contextmanager
def _telling_no_secret(store: Store) -> Iterator[None]:
    try:
        yield
    except LinkLost as error:
        raise LinkLost(hidden(store, str(error))) from error


def hidden(store: Store, text: str) -> str:
    """Answers the text without the passwords, should a server ever repeat one.

    A short one may be a part of any word: it is hidden only where it stands quoted.
    """
    for password in (store.login.password, store.sentinel_login.password):
        if len(password) >= SHORT:
            text = text.replace(password, HIDDEN)
        elif password:
            text = re.sub(rf"([`'\"]){re.escape(password)}\1", rf"\1{HIDDEN}\1", text)
    return text


class _OpenedConnection(redis.connection.Connection):
    """redis-py's connection over a socket that the opener makes, with nothing said on its own."""

    def __init__(self, *, opener: Opener, timeout_ms: int, **options: Any) -> None:
        self._opener = opener
        self._timeout_ms = timeout_ms
        self.is_reached = False
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
        self.is_reached = True
        return stream

    def _begin(self, _: object) -> None:
        # Instead of redis-py's own greeting: each command of ours is asked and judged by itself.
        self._parser.on_connect(self)


class _OpenedTlsConnection(redis.connection.SSLConnection, _OpenedConnection):
    """The same inside TLS: SSLConnection wraps whatever the next class connects."""


class RedisLink:
    """The real link. Not for several threads, but `close` may come from another."""

    def __init__(self, store: Store, host: str, port: int) -> None:
        """Prepare; nothing is connected yet."""
        kind = _OpenedConnection if store.tls is None else _OpenedTlsConnection
        # Any: redis-py types its client, but not the connection below it.
        self._connection: Any = kind(
            opener=store.opener,
            timeout_ms=store.timeout_ms,
            host=host,
            port=port,
            decode_responses=not store.is_binary,
            **(store.tls or {}),
        )
        self._store = store
        self._server = (host, port)
        self._has_answered = False
        self.asking = "connecting"
        self.slowest = ""
        self.slowest_ms = 0

    def connect(self) -> None:
        """Connect, without logging in."""
        try:
            self._connection.connect()
        except redis.exceptions.RedisError as error:
            raise LinkLost(self._told(error)) from error

    def ask(self, *commands: tuple[str | bytes, ...]) -> list[Said]:
        """Send the commands in one round trip and give their answers in order."""
        self.asking = str(commands[0][0])
        begun = time.monotonic()
        try:
            self._connection.send_packed_command(self._connection.pack_commands(commands))
            return [self._read() for _ in commands]
        except (redis.exceptions.RedisError, OSError, ValueError) as error:
            raise LinkLost(f"{self._told(error)} ({self.asking})") from error
        finally:
            took_ms = round((time.monotonic() - begun) * 1000)
            if took_ms >= self.slowest_ms:
                self.slowest, self.slowest_ms = self.asking, took_ms

    def close(self) -> None:
        """Close the connection; whoever waits on it gets an error at once."""
        self._connection.disconnect()

    def _told(self, error: Exception) -> str:
        """Answers what is lost, for a person; of TLS more than OpenSSL says."""
        tls, place = self._store.tls, shown(self._server)
        is_late = isinstance(error, redis.exceptions.TimeoutError)
        if tls is not None:
            is_named = self._server in self._store.address.servers
            if said := trouble(error, place, is_named=is_named, options=tls):
                return said
            if is_late and self.asking == "connecting" and self._connection.is_reached:
                return f"{place} is reached, but TLS is not begun in time: does it speak TLS there?"
        if self._has_answered or is_late or not self._connection.is_reached:
            return str(error)
        if tls is None:
            return f"{error}; if it speaks TLS only, the url should begin with `rediss`"
        hint = "" if "ssl_certfile" in tls else "; it may want a certificate, `tls_certificate`"
        return f"{error}{hint}"

    def _read(self) -> Said:
        said = self._answer()
        self._has_answered = True
        return said

    def _answer(self) -> Said:
        try:
            return Said(self._connection.read_response(disconnect_on_error=False))
        except redis.exceptions.NoPermissionError as error:
            return Said(error=str(error), why=Why.DENIED)
        except redis.exceptions.AuthenticationError as error:
            return Said(error=str(error), why=Why.NOT_LOGGED_IN)
        except redis.exceptions.BusyLoadingError as error:
            return Said(error=str(error), why=Why.LOADING)
        except redis.exceptions.AskError as error:  # MovedError is one too
            word = "MOVED" if isinstance(error, redis.exceptions.MovedError) else "ASK"
            return Said(error=f"{word} {error}", why=Why.ELSEWHERE)
        except redis.exceptions.ResponseError as error:
            return Said(error=str(error))
