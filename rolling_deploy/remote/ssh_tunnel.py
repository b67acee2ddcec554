"""A stream through a jump host as paramiko takes it for a socket: what carries the SSH connection
to a machine that lies behind it.
"""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import paramiko

from rolling_deploy.remote.ssh_exec import close_quietly
from rolling_deploy.remote.ssh_link import Silence

STOOD_STILL_S = 1.0
"""Reads follow one another in a tenth of a second; after a longer gap it was this process that was
stopped, or its writes that waited for the jump host."""


class Tunnel:
    """One direct-tcpip channel in the place of a TCP socket; fails on silence as `Link` does.

    Unlike a link's, an answer may lie where it is not read first: in the link to the jump host.
    So a gap between two reads is not held against the machine.
    """

    def __init__(
        self,
        channel: paramiko.Channel,
        jump: str,
        silence_max_s: float,
        why_lost: Callable[[], str],
    ) -> None:
        """Take over a channel that is open.

        Args:
            jump: the jump host's name.
            why_lost: asked when the channel ended without the machine's doing; answers why the
                connection to the jump host is gone, or nothing when it is not.
        """
        self._channel = channel
        self._jump = jump
        self._silence = Silence(silence_max_s)
        self._why_lost = why_lost
        self._is_closing = False
        self._read_at = time.monotonic()

    @property
    def _closed(self) -> bool:
        # What paramiko asks of a socket while it ends a transport.
        return bool(self._channel.closed)

    def expect_answer(self) -> None:
        """From now on the machine has to show a sign of life."""
        self._silence.expect()

    def settimeout(self, timeout_s: float | None) -> None:
        """As `socket.settimeout`."""
        self._channel.settimeout(timeout_s)

    def recv(self, bufsize: int) -> bytes:
        """As `socket.recv`.

        Raises:
            ConnectionAbortedError: the machine was silent for too long, or the connection to the
                jump host was lost.
        """
        try:
            data: bytes = self._channel.recv(bufsize)
        except TimeoutError:
            before, self._read_at = self._read_at, time.monotonic()
            if self._read_at - before > STOOD_STILL_S:
                self._silence.begin_again()
            self._silence.give_up_if_too_long()
            raise
        self._read_at = time.monotonic()
        if data:
            self._silence.heard()
        elif not (self._is_closing or self._channel.eof_received):
            why = self._why_lost()
            if why:
                text = f"the jump host {self._jump} was lost: {why}"
                raise ConnectionAbortedError(errno.ECONNABORTED, text)
        return data

    def send(self, data: bytes) -> int:
        """As `socket.send`, and raises as `recv` does."""
        return self._silence.watch(partial(self._channel.send, data))

    def close(self) -> None:
        """Close, and wake a thread that waits in `recv` at once.

        The jump host is told from a thread of its own: a network that takes nothing would keep
        whoever closes for as long as it takes to be noticed.
        """
        if self._is_closing:
            return
        self._is_closing = True
        telling = threading.Thread(
            target=close_quietly, args=(self._channel,), name="ssh tunnel close", daemon=True
        )
        # No thread is to be had while the interpreter ends, or at the limit of the system: the
        # channel then ends with the connection to the jump host, and closing goes on.
        with suppress(RuntimeError):
            telling.start()
