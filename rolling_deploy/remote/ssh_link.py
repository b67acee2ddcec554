"""The TCP link under an SSH connection: opened quickly, and noticed when it has gone silent."""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

UNSENT_BYTES_MAX = 128 * 1024
"""How much unsent data the kernel queues before a write waits. Keeps a keepalive from queueing
behind megabytes of an upload on a slow line, where it would look like silence."""


class Carrier(Protocol):
    """What carries one SSH connection: a `Link`, or a stream through a jump host."""

    def expect_answer(self) -> None:
        """From now on the other side has to show a sign of life."""

    def close(self) -> None:
        """Close, and wake whoever waits in a read."""


class Silence:
    """For how long the other side has owed a sign of life."""

    def __init__(self, most_s: float) -> None:
        self._most_s = most_s
        self._since: float | None = None
        self._is_full = False

    def expect(self) -> None:
        """From now on the other side has to show a sign of life."""
        if self._since is None:
            self._since = time.monotonic()

    def heard(self) -> None:
        """Something arrived."""
        self._since = None

    def watch(self, send: Callable[[], int]) -> int:
        """Answers what `send` does: how many bytes were taken.

        Raises:
            ConnectionAbortedError: nothing more could be sent, and the silence lasted too long.
            TimeoutError: nothing more could be sent; from now on room for it is owed as well.
        """
        try:
            taken = send()
        except TimeoutError:
            self._is_full = True
            self.expect()
            self.give_up_if_too_long()
            raise
        if self._is_full:
            # Room in a full buffer means that the other side acknowledged something.
            self._is_full = False
            self._since = None
        return taken

    def begin_again(self) -> None:
        """What is owed is owed from now on only."""
        if self._since is not None:
            self._since = time.monotonic()

    def give_up_if_too_long(self) -> None:
        """Raise ConnectionAbortedError when it has lasted too long."""
        since = self._since
        if since is not None and time.monotonic() - since > self._most_s:
            # Not ETIMEDOUT: Python makes that a TimeoutError, which readers take as "try again".
            raise ConnectionAbortedError(
                errno.ECONNABORTED, f"no sign of life for {self._most_s:.0f} s"
            )


class Link(socket.socket):
    """A TCP socket that fails as soon as the other side has been silent for too long.

    A cut network gives no error by itself: reads simply find nothing, for ever. After
    `expect_answer` something has to arrive (or, while the send buffer is full, be acknowledged)
    within `silence_max_s`; otherwise the next read or write raises ConnectionAbortedError. A
    process that was itself stopped and continued does not blame the other side: nothing was
    expected then, or the answer already lies in the kernel and is read first.
    """

    def __init__(self, plain: socket.socket, silence_max_s: float) -> None:
        """Take over `plain`, which is empty afterwards."""
        super().__init__(plain.family, plain.type, plain.proto, fileno=plain.detach())
        self._silence = Silence(silence_max_s)

    def expect_answer(self) -> None:
        """From now on the other side has to show a sign of life."""
        self._silence.expect()

    def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
        """As `socket.recv`; raises ConnectionAbortedError after too long a silence."""
        try:
            data = super().recv(bufsize, flags)
        except TimeoutError:
            self._silence.give_up_if_too_long()
            raise
        self._silence.heard()
        return data

    def send(self, data: ReadableBuffer, flags: int = 0, /) -> int:
        """As `socket.send`; raises ConnectionAbortedError after too long a silence."""
        return self._silence.watch(partial(super().send, data, flags))

    def close(self) -> None:
        """Close, and wake a thread that waits in `recv` at once."""
        with suppress(OSError):
            self.shutdown(socket.SHUT_RDWR)
        super().close()


def open_link(address: str, port: int, *, timeout_s: float, silence_max_s: float) -> Link:
    """Open a TCP connection with small writes sent at once (Nagle's algorithm off).

    Raises:
        OSError: as `socket.create_connection`.
    """
    try:
        plain = socket.create_connection((address, port), timeout=timeout_s)
    except UnicodeError as error:  # a label of more than 63 characters, for one
        raise OSError(f"`{address}` cannot be the name of a machine") from error
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    unsent = getattr(socket, "TCP_NOTSENT_LOWAT", None)
    if unsent is not None:
        plain.setsockopt(socket.IPPROTO_TCP, unsent, UNSENT_BYTES_MAX)
    return Link(plain, silence_max_s)
