"""Opening one SSH connection: reach the machine, check that it is the right one, log in.

`~/.ssh/config` is not read: what the inventory says is all there is. Host aliases and jump hosts
written there have no effect.
"""

from __future__ import annotations

import getpass
import logging
import socket
import threading
import time
from contextlib import closing
from typing import Protocol

import paramiko
from paramiko.common import cMSG_GLOBAL_REQUEST

from rolling_deploy.remote.connection import CannotReach
from rolling_deploy.remote.ssh_hosts import HostKey, HostKeyRefused, KnownHosts
from rolling_deploy.remote.ssh_keys import candidates
from rolling_deploy.remote.ssh_link import Carrier, open_link
from rolling_deploy.settings import HostTarget

# paramiko reports from its own threads, with tracebacks; what matters is in our own reasons.
logging.getLogger("paramiko").addHandler(logging.NullHandler())
logging.getLogger("paramiko").setLevel(logging.CRITICAL + 1)

KEX = (
    "curve25519-sha256@libssh.org",
    "mlkem768x25519-sha256",
    "ecdh-sha2-nistp256",
    "ecdh-sha2-nistp384",
    "ecdh-sha2-nistp521",
)
"""Measured CPU of a connection here: curve25519 4 ms; the Diffie-Hellman groups 29 to 91 ms, so
they are not offered at all (every OpenSSH since 5.7 has one of these)."""

CIPHERS_FIRST = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com")
"""For uploads: 0.82 s for 100 MB instead of 0.92 s with aes128-ctr."""

SILENT_INTERVALS = 3
"""A link without a sign of life for this many keepalive intervals is given up."""

AUTH_TRIES_MAX = 5
"""sshd drops the connection at its sixth attempt (MaxAuthTries)."""

BANNER_TRIES_MAX = 3
"""sshd drops new connections at random while many are logging in (MaxStartups 10:30:100)."""

BANNER_PAUSE_S = 0.3

DYING_S = 1.0
"""How long a link whose write failed is given to be seen as dead by its own thread, which a busy
machine may wake late. A live one costs this only where it has failed already."""


class ChannelRefused(Exception):
    """The machine refused to open a channel.

    Attributes:
        code: the reason's number in RFC 4254, section 5.1.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class Through(Protocol):
    """A jump host on the way to a machine; `ssh_line.JumpHost` is the real one."""

    def open(self, address: str, port: int, *, timeout_s: float, silence_max_s: float) -> Carrier:
        """Open a stream from the jump host to `address:port`.

        Raises:
            CannotReach: the jump host is not reached, refuses, or does not reach it.
        """


class Transport(paramiko.Transport):
    """A paramiko transport over a carrier, with keepalives that demand an answer.

    paramiko keeps the reason of a refused channel in one place for all threads, where one thread
    takes another's; `open` gives each its own.
    """

    def __init__(self, carrier: Carrier) -> None:
        super().__init__(carrier)  # type: ignore[arg-type] # the stubs know fewer of its sockets
        self._carrier = carrier
        self._opening = threading.local()
        self._refusals: dict[int, ChannelRefused] = {}
        options = self.get_security_options()
        options.kex = tuple(name for name in KEX if name in options.kex)
        others = tuple(name for name in options.ciphers if name not in CIPHERS_FIRST)
        options.ciphers = CIPHERS_FIRST + others

    def open(
        self, kind: str, destination: tuple[str, int] | None = None, *, timeout_s: float
    ) -> paramiko.Channel:
        """Open a channel.

        Raises:
            ChannelRefused: the machine said no.
            SSHException, EOFError, OSError: the connection was lost, or no answer in time.
        """
        source = ("127.0.0.1", 0) if destination else None
        try:
            return self.open_channel(kind, destination, source, timeout=timeout_s)
        except (paramiko.SSHException, EOFError, OSError) as error:
            refusal = self._refusals.pop(getattr(self._opening, "number", -1), None)
            if refusal is not None:
                raise refusal from error
            if isinstance(error, paramiko.ChannelException):  # of another thread's channel
                raise paramiko.SSHException("the channel was not opened") from error
            raise

    def _next_channel(self) -> int:
        number: int = super()._next_channel()  # type: ignore[misc] # missing in the stubs
        self._opening.number = number
        return number

    def _parse_channel_open_failure(self, message: paramiko.Message) -> None:
        number, code, reason = message.get_int(), message.get_int(), message.get_text()
        message.rewind()
        self._refusals[number] = ChannelRefused(code, reason)
        super()._parse_channel_open_failure(message)  # type: ignore[misc] # missing in the stubs

    def demand_answers(self, interval_s: float) -> None:
        """Ask the machine for a sign of life whenever nothing was sent for `interval_s`."""
        self.packetizer.set_keepalive(interval_s, self.ask)

    def ask(self) -> None:
        """Ask the machine for a sign of life now, from when on silence counts.

        Raises:
            SSHException, EOFError, OSError: the connection is lost.
        """
        # paramiko's own thread calls it too, which must not wait for a key exchange that only it
        # can finish.
        if not self.clear_to_send.is_set():
            return
        message = paramiko.Message()
        message.add_byte(cMSG_GLOBAL_REQUEST)
        message.add_string("keepalive@openssh.com")
        message.add_boolean(True)
        self._carrier.expect_answer()
        self._send_user_message(message)  # type: ignore[attr-defined] # missing in the stubs


def ends(transport: paramiko.Transport, deadline: float | None = None) -> bool:
    """Answers whether the transport is dead, or is before `DYING_S` and the deadline are over."""
    transport.join(DYING_S if deadline is None else min(DYING_S, _left(deadline)))
    return not transport.is_alive()


def loss_of(transport: paramiko.Transport) -> str:
    """Answers why a transport that is dead died, as far as it is known."""
    error = transport.saved_exception
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error or "")


class _Dropped(Exception):
    """The machine closed the connection before it said anything."""


def place_of(target: HostTarget) -> str:
    """Answers where a machine is, for a person."""
    way = f" through {target.jump.name}" if target.jump else ""
    return f"{user_of(target)}@{target.address} port {target.port}{way}"


def user_of(target: HostTarget) -> str:
    """Answers the user to log in as; without one in the inventory, the local user's name."""
    return target.user or getpass.getuser()


def open_transport(
    target: HostTarget,
    known_hosts: KnownHosts,
    timeout_ms: int,
    through: Through | None = None,
) -> Transport:
    """Open and log in to one connection.

    Args:
        timeout_ms: for everything together: name, TCP, key exchange, login.
        through: the jump host, where the machine is not reached directly.

    Raises:
        CannotReach: with the reason; the connection is closed then.
    """
    deadline = time.monotonic() + timeout_ms / 1000
    place = place_of(target)
    for attempt in range(1, BANNER_TRIES_MAX + 1):
        try:
            return _open_once(target, known_hosts, deadline, through)
        except _Dropped as dropped:
            if attempt == BANNER_TRIES_MAX or time.monotonic() + BANNER_PAUSE_S > deadline:
                raise CannotReach(f"{place}: {dropped}") from dropped
            time.sleep(BANNER_PAUSE_S * attempt)  # noqa: TID251 - sshd tells nobody when it has room
        except CannotReach as error:
            raise CannotReach(f"{place}: {error}") from error
        except HostKeyRefused as error:
            raise CannotReach(f"{place}: {error}") from error
        except (paramiko.SSHException, EOFError, OSError) as error:
            raise CannotReach(f"{place}: {_reason(error, timeout_ms)}") from error
    raise CannotReach(f"{place}: no connection")


def _reason(error: Exception, timeout_ms: int) -> str:
    """Answers what a network or protocol error means for a person."""
    match error:
        case socket.gaierror():
            reason = "the name is not found"
        case ConnectionRefusedError():
            reason = "connection refused, nothing listens there"
        case TimeoutError():
            reason = f"no answer within {timeout_ms} ms"
        case paramiko.ssh_exception.IncompatiblePeer():
            reason = f"no common algorithm: {error}"
        case EOFError():
            reason = "the machine closed the connection"
        case OSError():
            reason = error.strerror or str(error)
        case _:
            reason = str(error)
    return reason or type(error).__name__


def _open_once(
    target: HostTarget, known_hosts: KnownHosts, deadline: float, through: Through | None
) -> Transport:
    interval_s = max(target.keepalive_s, 1)
    reach = open_link if through is None else through.open
    carrier = reach(
        target.address,
        target.port,
        timeout_s=_left(deadline),
        silence_max_s=interval_s * (SILENT_INTERVALS - 1),
    )
    transport = Transport(carrier)
    try:
        _prefer_known_kinds(transport, known_hosts.kinds_for(target))
        _negotiate(transport, deadline)
        offered = transport.get_remote_server_key()
        known_hosts.check(target, HostKey(offered.get_name(), offered.asbytes()))
        _log_in(transport, target, deadline)
        transport.demand_answers(interval_s)
    except BaseException:
        transport.close()
        carrier.close()
        raise
    return transport


def _left(deadline: float) -> float:
    """Answers the seconds left, never quite none, so that time-outs end by themselves."""
    return max(deadline - time.monotonic(), 0.01)


def _prefer_known_kinds(transport: Transport, kinds: tuple[str, ...]) -> None:
    """Ask for the kinds of host key we know first, as a machine has several."""
    options = transport.get_security_options()
    signatures = {"ssh-rsa": ("rsa-sha2-512", "rsa-sha2-256")}
    known = tuple(name for kind in kinds for name in signatures.get(kind, (kind,)))
    known = tuple(name for name in known if name in options.key_types)
    options.key_types = known + tuple(name for name in options.key_types if name not in known)


def _negotiate(transport: Transport, deadline: float) -> None:
    """Exchange keys.

    Raises:
        _Dropped: closed before the machine said anything.
        TimeoutError: not done in time.
    """
    transport.banner_timeout = transport.handshake_timeout = _left(deadline)
    try:
        transport.start_client(timeout=_left(deadline))
    except paramiko.SSHException as error:
        if "banner" not in str(error):
            raise
        if time.monotonic() >= deadline:
            raise TimeoutError from error
        raise _Dropped("it does not speak SSH, or dropped us (sshd's MaxStartups?)") from error
    except OSError as error:
        raise _Dropped("the machine closed the connection at once") from error
    if not transport.initial_kex_done:
        raise TimeoutError


def _log_in(transport: Transport, target: HostTarget, deadline: float) -> None:
    """Try the keys in turn.

    Raises:
        CannotReach: none was taken, or a passphrase is needed.
    """
    tried: list[str] = []
    with closing(candidates(target)) as keys:
        for candidate in keys:
            if len(tried) == AUTH_TRIES_MAX or not transport.is_active():
                break
            tried.append(candidate.label)
            transport.auth_timeout = _left(deadline)
            if _is_taken(transport, user_of(target), candidate.key):
                return
    raise CannotReach(_not_taken(target, tried))


def _is_taken(transport: Transport, user: str, key: paramiko.PKey) -> bool:
    """Answers whether the key logged us in.

    Raises:
        CannotReach: no key alone would do.
        TimeoutError: no answer in time.
    """
    try:
        further = transport.auth_publickey(user, key)
    except paramiko.BadAuthenticationType as error:
        allowed = ", ".join(error.allowed_types) or "nothing"
        raise CannotReach(f"it takes no keys, only {allowed}") from error
    except paramiko.SSHException as error:
        if "timeout" in str(error).lower():
            raise TimeoutError from error
        return False
    if transport.is_authenticated():
        return True
    raise CannotReach(f"a key alone is not enough, it also asks for {', '.join(further)}")


def _not_taken(target: HostTarget, tried: list[str]) -> str:
    if not tried:
        return (
            "no key to log in with: no agent, no usable `~/.ssh/id_*`; name one with `key` in "
            "the inventory"
        )
    return f"authentication failed for user {user_of(target)} with {', '.join(tried)}"
