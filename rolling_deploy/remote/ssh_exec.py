"""One command on one channel: everything in and out at once, to its end or its deadline."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass

import paramiko

from rolling_deploy.remote.connection import Answer

INLINE_BYTES_MAX = 32 * 1024
"""Up to this much stdin is sent before reading; it always fits the window sshd offers (2 MB)."""

CHUNK_BYTES = 128 * 1024
READ_BYTES = 256 * 1024

LINGER_MS = 1_000
"""How long output may be quiet after the command's end while something that it left running still
holds its output open. Only such commands ever wait for this."""

FAILURES = (paramiko.SSHException, EOFError, OSError)
"""What paramiko raises when the network, or the other side, fails."""


@dataclass(frozen=True, slots=True)
class Input:
    """What goes into the command.

    Attributes:
        is_held: keep stdin open after `data` until the command ends.
    """

    data: bytes | Iterable[bytes]
    is_held: bool


class _Wake(threading.Event):
    """Set by either output pipe of a channel; only `take` clears it.

    paramiko clears the event of a pipe that has run empty, which must not hide that the other
    pipe has data.
    """

    def clear(self) -> None:
        """Do nothing; see the class."""

    def take(self, timeout_s: float) -> None:
        """Wait until something happened since the last take, or the time is up."""
        self.wait(timeout_s)
        super().clear()


def close_quietly(channel: paramiko.Channel) -> None:
    """Close the channel; whoever waits for it wakes, even when the network takes nothing."""
    with suppress(*FAILURES):
        channel.close()


class _Run:
    """The state of one command that runs."""

    def __init__(self, channel: paramiko.Channel, source: Input, deadline: float) -> None:
        self._channel = channel
        self._source = source
        self._deadline = deadline
        self._out: list[bytes] = []
        self._err: list[bytes] = []
        self._quiet_since = time.monotonic()
        self._failure = ""
        self._has_lingered = False
        self._wake = _Wake()

    def start(self, line: bytes) -> None:
        """Send the command; raises what paramiko raises."""
        self._channel.exec_command(line)
        self._channel.in_buffer.set_event(self._wake)
        self._channel.in_stderr_buffer.set_event(self._wake)

    def feed(self) -> None:
        """Send stdin: a little at once, much from a thread while the output is read."""
        data = self._source.data
        if isinstance(data, bytes):
            if len(data) <= min(INLINE_BYTES_MAX, self._channel.out_window_size):
                self._send([data] if data else [])
                return
            chunks: Iterable[bytes] = _pieces_of(data)
        else:
            chunks = data
        threading.Thread(target=self._send, args=(chunks,), name="ssh stdin", daemon=True).start()

    def _send(self, chunks: Iterable[bytes]) -> None:
        iterator = iter(chunks)
        while True:
            try:
                chunk = next(iterator, None)
            except Exception as error:  # noqa: BLE001 - whatever the caller's iterable raises
                # Not an end of file: over there it would look like all there was.
                self._failure = f"what was to be sent could not be read: {error}"
                close_quietly(self._channel)
                return
            try:
                if chunk is None:
                    if not self._source.is_held:
                        self._channel.shutdown_write()
                    return
                self._channel.sendall(chunk)
            except FAILURES:
                return  # The command ended without reading it all, or the channel is lost.

    def drain(self) -> bool:
        """Read until the end; answers whether it was reached before the deadline."""
        while True:
            # Asked before reading: what is read after the close is all there ever was.
            is_closed = self._channel.closed
            self._read()
            if is_closed or self._is_lingering():
                return True
            left = self._deadline - time.monotonic()
            if left <= 0:
                return False
            self._wake.take(min(left, LINGER_MS / 2000))

    def _read(self) -> None:
        for pipe, ready, receive in (
            (self._out, self._channel.recv_ready, self._channel.recv),
            (self._err, self._channel.recv_stderr_ready, self._channel.recv_stderr),
        ):
            while ready():
                try:
                    pipe.append(receive(READ_BYTES))
                except FAILURES as error:
                    # Bytes may have been taken out of the buffer and lost.
                    self._failure = f"output was lost with the connection: {error}"
                    return
                self._quiet_since = time.monotonic()

    def _is_lingering(self) -> bool:
        has_ended = self._channel.status_event.is_set() and self._channel.exit_status >= 0
        is_quiet = time.monotonic() - self._quiet_since > LINGER_MS / 1000
        self._has_lingered = has_ended and is_quiet
        return self._has_lingered

    def answer(self, why_lost: str) -> Answer:
        """Answers what came back: complete with an exit status and the end of the output."""
        status = self._channel.exit_status
        # sshd may send the status before the last of the output, and the link may break between.
        is_whole = bool(self._channel.eof_received) or self._has_lingered
        is_complete = is_whole and status >= 0 and not why_lost and not self._failure
        detail = "" if is_complete else why_lost or self._failure
        return Answer(
            is_complete=is_complete,
            exit_status=status if is_complete else None,
            stdout=b"".join(self._out),
            stderr=b"".join(self._err),
            detail=detail,
        )


def _pieces_of(data: bytes) -> Iterator[bytes]:
    for begin in range(0, len(data), CHUNK_BYTES):
        yield data[begin : begin + CHUNK_BYTES]


def run_on(
    channel: paramiko.Channel,
    line: bytes,
    source: Input,
    *,
    deadline: float,
    why_lost: Callable[[], str],
) -> Answer:
    """Run one command on a fresh channel and close the channel.

    Args:
        deadline: on the monotonic clock; hard, also when the network takes nothing any more.
        why_lost: asked when the channel ended without an exit status.

    Crash: the command goes on over there; its stdin ends.
    """
    run = _Run(channel, source, deadline)
    is_late = threading.Event()

    def give_up() -> None:
        is_late.set()
        close_quietly(channel)

    # Every step that could wait for the network wakes when the channel is closed under it.
    began = time.monotonic()
    guard = threading.Timer(max(deadline - began, 0), give_up)
    guard.daemon = True
    guard.start()
    try:
        try:
            run.start(line)
        except FAILURES as error:
            return _not_accepted(channel, error, is_late=is_late.is_set(), why_lost=why_lost)
        with suppress(*FAILURES):
            run.feed()
        is_at_end = run.drain() and not is_late.is_set()
        if not is_at_end:
            return run.answer(f"no end within {(deadline - began) * 1000:.0f} ms")
        answer = run.answer("")
        if answer.is_complete or answer.detail:
            return answer
        return run.answer(why_lost() or "it ended without an exit status: killed over there")
    finally:
        guard.cancel()
        close_quietly(channel)


def _not_accepted(
    channel: paramiko.Channel, error: Exception, *, is_late: bool, why_lost: Callable[[], str]
) -> Answer:
    """Answers for a request that was sent but not confirmed.

    Only a refusal by the machine (it closed the channel itself, over a link that works) is a
    proof that nothing was started; after a lost link the request may have arrived.
    """
    is_refused = bool(channel.eof_sent) and not is_late
    if is_refused:
        return Answer(False, None, b"", b"", "the machine refused to run a command", False)
    reason = "no answer in time" if is_late else why_lost() or str(error)
    return Answer(False, None, b"", b"", f"the command was sent, but not confirmed: {reason}")
