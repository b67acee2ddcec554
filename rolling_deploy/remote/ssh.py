"""The SSH connection to a machine: one for the whole run, many commands and streams at once.

paramiko does the protocol. `~/.ssh/config` is not read (see `ssh_login`): jump hosts and aliases
written there have no effect; `HostTarget.jump` has (see `ssh_line`).
"""

from __future__ import annotations

import queue
import socket
import threading
import time
from collections.abc import Iterable, Mapping, Sequence

from rolling_deploy.remote.connection import Answer, CannotReach, ForwardingRefused
from rolling_deploy.remote.lean_import import left_out

with left_out("invoke"):  # paramiko runs `Match exec` of ~/.ssh/config with it, which is not read
    import paramiko

from rolling_deploy.remote.quoting import command_line
from rolling_deploy.remote.ssh_exec import FAILURES, Input, run_on
from rolling_deploy.remote.ssh_hosts import KnownHosts
from rolling_deploy.remote.ssh_line import Line, connect_ms
from rolling_deploy.remote.ssh_login import ChannelRefused, ends, loss_of
from rolling_deploy.remote.ssh_sessions import Sessions
from rolling_deploy.remote.ssh_stream import bridge, left_ms, open_forwarded, start_relay
from rolling_deploy.settings import HostTarget

SESSIONS_MAX = 8
"""Commands at once on one connection; sshd's MaxSessions is 10 unless set lower."""

RELAYS_MAX = 4
"""Streams relayed by command at once, so that they never use up all the sessions."""

REFUSALS_MAX = 10
REFUSAL_PAUSE_S = 0.05

PARALLEL_DEFAULT = 12
"""Connections opened at once: 8 to 16 were best for 100 machines, more only cost CPU."""

FORWARDED = "forwarded"
RELAYED = "relayed by command"


class SshConnection:
    """One machine over SSH; implements `connection.Connection`.

    Connects at the first use, or by `connect`. A connection that is found dead before something
    is sent is opened again, once per call.

    Attributes:
        channels_opened: how many channels were opened so far, for measurements.
    """

    def __init__(self, target: HostTarget, known_hosts: KnownHosts | None = None) -> None:
        self._line = Line(target, known_hosts)
        self._is_prohibited = False
        self._sessions = Sessions(SESSIONS_MAX)
        self._relays = threading.Semaphore(RELAYS_MAX)
        self._counting = threading.Lock()
        self.channels_opened = 0

    @property
    def target(self) -> HostTarget:
        """The machine this connection leads to."""
        return self._line.target

    @property
    def links_opened(self) -> int:
        """Answers how many connections were opened so far; more than before, and what went over
        the earlier one was lost.
        """
        return self._line.opened

    @property
    def forwarding(self) -> str:
        """Answers how streams are opened, as far as it is known: `forwarded` until refused."""
        return RELAYED if self._is_prohibited else FORWARDED

    def connect(self, since: float | None = None) -> None:
        """Connect now.

        Args:
            since: on the monotonic clock; a jump host that was tried in vain after it is not
                tried again. Left out: now.

        Raises:
            CannotReach: with the reason.
        """
        self._line.transport(since=since)

    def close(self) -> None:
        """Close the connection for good; commands that run go on by themselves.

        With it goes the one to its jump host, unless another machine's needs that.
        """
        self._line.close()

    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes | Iterable[bytes] = b"",
        limit_ms: int,
        holds_stdin: bool = False,
    ) -> Answer:
        """Run one command and wait for its end; see `Connection.run`.

        `limit_ms` covers everything, including a wait for a free session and a new connection.
        An iterable is read from a thread of its own. A command that leaves something running
        with its output open is taken as complete one quiet second after its own end.

        Raises:
            ValueError: a word holds a NUL.

        Crash: the command goes on over there with its stdin at an end.
        """
        line = command_line(argv).encode("utf-8", "surrogateescape")
        deadline = time.monotonic() + limit_ms / 1000
        if not self._sessions.enter(deadline):
            return _not_started(f"no free session within {limit_ms} ms")
        try:
            channel = self._open_session(deadline)
            return run_on(
                channel,
                line,
                Input(stdin, holds_stdin),
                deadline=deadline,
                why_lost=lambda: self._why_lost(channel),
            )
        except CannotReach as error:
            return _not_started(str(error))
        finally:
            self._sessions.leave()

    def open_stream(self, host: str, port: int, *, timeout_ms: int) -> socket.socket:
        """Open a TCP stream from that machine to `host:port`; see `Connection.open_stream`.

        Half-close is passed on when forwarded, but not when relayed by command. A relayed stream
        takes one of `RELAYS_MAX` places until it is closed.
        """
        deadline = time.monotonic() + timeout_ms / 1000
        if not self._is_prohibited:
            try:
                return self._forward(host, port, deadline)
            except ForwardingRefused as error:
                if not error.is_prohibited:
                    raise
                self._is_prohibited = True
        return self._relay(host, port, deadline)

    def _forward(self, host: str, port: int, deadline: float) -> socket.socket:
        for attempt in (1, 2):
            transport = self._line.transport(deadline)
            try:
                channel = open_forwarded(transport, host, port, left_ms(deadline))
            except FAILURES as error:
                if not ends(transport, deadline):
                    detail = f"{host}:{port}: no answer in time"
                    raise ForwardingRefused(detail, is_prohibited=False) from error
                if attempt == 1:
                    continue
                raise CannotReach(f"the connection was lost: {error}") from error
            self._count()
            return bridge(channel, passes_half_close=True, at_end=lambda: None)
        raise CannotReach("the connection was lost twice")

    def _relay(self, host: str, port: int, deadline: float) -> socket.socket:
        timeout_ms = left_ms(deadline)
        if not self._relays.acquire(timeout=timeout_ms / 1000):
            detail = f"{RELAYS_MAX} relayed streams are open already"
            raise ForwardingRefused(detail, is_prohibited=True)
        if not self._sessions.enter(deadline):
            self._relays.release()
            detail = f"no free session within {timeout_ms} ms"
            raise ForwardingRefused(detail, is_prohibited=True)
        try:
            channel = self._open_session(deadline)
            start_relay(channel, host, port, left_ms(deadline))
        except BaseException as error:
            self._leave_relay()
            if isinstance(error, FAILURES):
                raise CannotReach(f"the connection was lost: {error}") from error
            raise
        return bridge(channel, passes_half_close=False, at_end=self._leave_relay)

    def _leave_relay(self) -> None:
        self._sessions.leave()
        self._relays.release()

    def _open_session(self, deadline: float) -> paramiko.Channel:
        """Open a session channel, over a new connection if the old one turns out to be dead.

        Nothing has been asked of the machine before this returns.

        Raises:
            CannotReach: no connection, or no session before the deadline.
        """
        attempts, refusals = 2, 0
        while True:
            transport = self._line.transport(deadline)
            try:
                channel = transport.open("session", timeout_s=left_ms(deadline) / 1000)
            except ChannelRefused as error:
                refusals += 1
                if not self._sessions.queue_again(deadline) and refusals > REFUSALS_MAX:
                    raise CannotReach(f"it refuses to open a session: {error}") from error
                # A session that just ended may not be counted out over there yet.
                self._line.closing.wait(min(REFUSAL_PAUSE_S, left_ms(deadline) / 1000))
            except FAILURES as error:
                attempts -= 1
                # A write to a dead link fails here before the thread that reads it has noticed.
                if not attempts or not ends(transport, deadline):
                    raise CannotReach(f"no session could be opened: {error}") from error
            else:
                self._count()
                return channel

    def _count(self) -> None:
        with self._counting:
            self.channels_opened += 1

    def _why_lost(self, channel: paramiko.Channel) -> str:
        """Answers why the link under the channel is gone, or nothing when it is not."""
        if self._line.closing.is_set():
            return "we closed the connection"
        transport = channel.get_transport()
        # paramiko closes the channels first when a link breaks; its thread ends right after.
        if channel.eof_received or not ends(transport):
            return ""
        reason = loss_of(transport)
        return f"the connection was lost: {reason}" if reason else "the connection was lost"


def _not_started(detail: str) -> Answer:
    return Answer(False, None, b"", b"", detail, was_started=False)


def connect_all(
    targets: Iterable[HostTarget], parallel: int = PARALLEL_DEFAULT
) -> dict[str, SshConnection | CannotReach]:
    """Open the connections to all machines, `parallel` at a time.

    Answers, by machine name, the connection or why there is none. A jump host that cannot be
    reached is tried once for all machines behind it. Bounded: a machine whose
    connecting hangs beyond its limits (a resolver, an agent) is given up and named.
    """
    waiting: queue.SimpleQueue[SshConnection] = queue.SimpleQueue()
    arrived: queue.SimpleQueue[tuple[str, CannotReach | None]] = queue.SimpleQueue()
    # All are there from the beginning, so that a jump host's connection outlasts every failure.
    wanted = {target.name: SshConnection(target) for target in targets}
    began = time.monotonic()
    for connection in wanted.values():
        waiting.put(connection)

    def work() -> None:
        while True:
            try:
                connection = waiting.get_nowait()
            except queue.Empty:
                return
            arrived.put((connection.target.name, _why_not(connection, began)))

    workers = min(parallel, len(wanted))
    for number in range(workers):
        threading.Thread(target=work, name=f"ssh connect {number + 1}", daemon=True).start()
    failures = _gather(wanted, arrived, workers)
    for name in failures:
        wanted[name].close()
    return {name: failures.get(name, connection) for name, connection in wanted.items()}


def _why_not(connection: SshConnection, began: float) -> CannotReach | None:
    try:
        connection.connect(since=began)
    except CannotReach as error:
        return error
    return None


def _gather(
    wanted: Mapping[str, SshConnection],
    arrived: queue.SimpleQueue[tuple[str, CannotReach | None]],
    workers: int,
) -> dict[str, CannotReach]:
    """Answers why some failed, waiting at most twice what each round of workers may take."""
    found: dict[str, CannotReach | None] = {}
    slowest_s = max((connect_ms(c.target) for c in wanted.values()), default=0) / 1000
    rounds = -(-len(wanted) // max(workers, 1))
    deadline = time.monotonic() + 2 * slowest_s * rounds
    while len(found) < len(wanted):
        try:
            name, failure = arrived.get(timeout=max(deadline - time.monotonic(), 0.01))
        except queue.Empty:
            break
        found[name] = failure
    hangs = CannotReach("connecting hangs (name resolution, or the SSH agent)")
    reasons = {name: found.get(name, hangs) for name in wanted}
    return {name: reason for name, reason in reasons.items() if reason is not None}
