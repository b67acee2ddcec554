"""The way to one machine: its SSH connection, opened when it is needed and again when it is dead.

Where a machine lies behind a jump host, the connection to that one is opened first. There is one
to each jump host, which all machines behind it share.
"""

from __future__ import annotations

import threading
import time
from weakref import WeakSet, WeakValueDictionary

from rolling_deploy.remote.connection import CannotReach
from rolling_deploy.remote.ssh_exec import FAILURES
from rolling_deploy.remote.ssh_hosts import KnownHosts, known_hosts_at
from rolling_deploy.remote.ssh_login import (
    ChannelRefused,
    Transport,
    ends,
    loss_of,
    open_transport,
    place_of,
    user_of,
)
from rolling_deploy.remote.ssh_stream import PROHIBITED, left_ms
from rolling_deploy.remote.ssh_tunnel import Tunnel
from rolling_deploy.settings import HostTarget

SHORT_MS = 500
"""An attempt that failed with less than this left of its limit may have failed for lack of time; it
covers the pause for which `ssh_login` would try a machine that drops us once more."""


class Line:
    """One machine's transport, whichever connection carries it now. Safe to use from threads.

    Attributes:
        opened: how many connections were opened so far.
    """

    def __init__(self, target: HostTarget, known_hosts: KnownHosts | None = None) -> None:
        self.target = target
        self.closing = threading.Event()
        self.opened = 0
        self._known_hosts = known_hosts or known_hosts_at(target.known_hosts)
        self._transport: Transport | None = None
        self._connecting = threading.Lock()
        self._failure: tuple[float, CannotReach] | None = None
        self._jump = jump_host_at(target.jump) if target.jump else None
        if self._jump is not None:
            self._jump.enter(self)

    def transport(self, deadline: float | None = None, since: float | None = None) -> Transport:
        """Answers a transport that is alive as far as can be told, connecting if there is none.

        Args:
            since: on the monotonic clock; an attempt that failed after it, of this machine or of
                a jump host on the way, is not made again. Left out: now.

        Raises:
            CannotReach: connecting failed; whoever waited meanwhile gets the same reason.
        """
        asked = time.monotonic() if since is None else since
        wait_s = -1 if deadline is None else left_ms(deadline) / 1000
        if not self._connecting.acquire(timeout=wait_s):
            raise CannotReach(f"{place_of(self.target)}: still connecting at the end of the limit")
        try:
            return self._alive(asked, deadline)
        finally:
            self._connecting.release()

    def _alive(self, asked: float, deadline: float | None) -> Transport:
        if self.closing.is_set():
            raise CannotReach("the connection is closed")
        if self._transport is not None and self._transport.is_active():
            return self._transport
        if self._failure is not None and self._failure[0] > asked:
            raise CannotReach(str(self._failure[1]))
        is_whole = deadline is None or left_ms(deadline) >= connect_ms(self.target)
        try:
            self._transport = self._connected(deadline, asked)
        except CannotReach as error:
            # One that had too little time says nothing to another that has more.
            if is_whole or deadline is None or left_ms(deadline) > SHORT_MS:
                self._failure = (time.monotonic(), error)
            raise
        finally:
            if self.closing.is_set():
                self.hang_up()
        self.opened += 1
        return self._transport

    def _connected(self, deadline: float | None, asked: float) -> Transport:
        if self._jump is not None:
            self._jump.enter(self)
            self._jump.reach(deadline, asked)
        timeout_ms = self.target.connect_timeout_ms
        if deadline is not None:
            timeout_ms = min(timeout_ms, left_ms(deadline))
        return open_transport(self.target, self._known_hosts, timeout_ms, self._jump)

    def hang_up(self) -> None:
        """End the connection; the next use opens another one."""
        transport = self._transport
        try:
            if transport is not None:
                transport.close()
        finally:
            if self._jump is not None:
                self._jump.leave(self)

    def close(self) -> None:
        """End the connection for good."""
        self.closing.set()
        self.hang_up()


class JumpHost:
    """The one connection to a jump host. It lasts until the last machine behind it is closed.

    Implements `ssh_login.Through`. Needs no session over there: sshd's MaxSessions does not count
    forwarded streams, and an account without a shell will do.
    """

    def __init__(self, target: HostTarget) -> None:
        self._name = target.name
        self._line = Line(target)
        self._users: WeakSet[Line] = WeakSet()
        self._entering = threading.Lock()

    def enter(self, line: Line) -> None:
        """Note that a machine's line needs it."""
        with self._entering:
            self._users.add(line)

    def leave(self, line: Line) -> None:
        """Note that a machine's line does not need it any more; end it after the last one."""
        with self._entering:
            self._users.discard(line)
            if not self._users:
                self._line.hang_up()

    def reach(self, deadline: float | None, since: float | None = None) -> Transport:
        """Answers its transport, connecting if there is none; `since` as for `Line.transport`.

        Raises:
            CannotReach: naming it.
        """
        if not self._users:  # whoever is still connecting through it was closed meanwhile
            raise CannotReach("the connection is closed")
        try:
            return self._line.transport(deadline, since)
        except CannotReach as error:
            raise CannotReach(f"the jump host {self._name} is not reached: {error}") from error

    def open(self, address: str, port: int, *, timeout_s: float, silence_max_s: float) -> Tunnel:
        """Open a stream to a machine behind it; `address` is resolved over there.

        Raises:
            CannotReach: it is not reached, forbids forwarding, or does not reach the machine.
        """
        deadline = time.monotonic() + timeout_s
        for attempt in (1, 2):
            transport = self.reach(deadline)
            try:
                # What the machines behind send is written all the time, which puts off paramiko's
                # own keepalive: a jump host that is gone would never owe an answer.
                transport.ask()
                wait_s = left_ms(deadline) / 1000
                channel = transport.open("direct-tcpip", (address, port), timeout_s=wait_s)
            except ChannelRefused as refused:
                raise CannotReach(self._refusal(refused)) from refused
            except FAILURES as error:
                if not ends(transport, deadline):
                    text = f"the jump host {self._name} got no answer from there in time"
                    raise CannotReach(text) from error
                if attempt == 1:
                    continue
                raise CannotReach(f"the jump host {self._name} was lost") from error

            def why_lost(transport: Transport = transport) -> str:
                return (loss_of(transport) or "it hung up") if ends(transport) else ""

            return Tunnel(channel, self._name, silence_max_s, why_lost)
        raise CannotReach(f"the jump host {self._name} was lost twice")

    def _refusal(self, refused: ChannelRefused) -> str:
        if refused.code == PROHIBITED:
            user = user_of(self._line.target)
            return (
                f"the jump host {self._name} forbids forwarding there for user {user}: allow it "
                "with `AllowTcpForwarding` and `PermitOpen` of its sshd, and with the options of "
                "our key in its `authorized_keys` (`port-forwarding`, `permitopen`)"
            )
        reason = str(refused).lower() or "connecting failed"
        return f"the jump host {self._name} cannot connect to it: {reason}"


_JUMP_HOSTS: WeakValueDictionary[HostTarget, JumpHost] = WeakValueDictionary()
_MAKING = threading.RLock()


def jump_host_at(target: HostTarget) -> JumpHost:
    """Answers the one JumpHost of this process that is reached so."""
    with _MAKING:
        found = _JUMP_HOSTS.get(target)
        if found is None:
            found = _JUMP_HOSTS[target] = JumpHost(target)
        return found


def connect_ms(target: HostTarget | None) -> int:
    """Answers how long connecting may take, with every jump host on the way."""
    return 0 if target is None else target.connect_timeout_ms + connect_ms(target.jump)
