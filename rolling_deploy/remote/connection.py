"""What the rest of `remote` may ask of a machine, whatever carries it there.

`ssh.SshConnection` is the real one. Nothing else in `remote` knows paramiko.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from rolling_deploy.settings import HostTarget


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back from one remote command.

    Attributes:
        is_complete: the command ended and everything it wrote arrived. When False the outcome
            is unknown: it may have run, may still run, or may never have started.
        was_started: False only when it is certain that the machine never saw the command.
        exit_status: None when not complete.
        detail: why it is not complete, for a person.
    """

    is_complete: bool
    exit_status: int | None
    stdout: bytes
    stderr: bytes
    detail: str = ""
    was_started: bool = True


class CannotReach(Exception):
    """The machine cannot be reached; the text is the reason for a person."""


class ForwardingRefused(Exception):
    """The machine's sshd refuses TCP forwarding, or the far port refused the connection.

    Attributes:
        is_prohibited: sshd's policy forbids forwarding (as opposed to the far end refusing).
    """

    def __init__(self, detail: str, *, is_prohibited: bool) -> None:
        super().__init__(detail)
        self.is_prohibited = is_prohibited


class Connection(Protocol):
    """One machine, one connection for the whole run. Safe to use from several threads."""

    @property
    def target(self) -> HostTarget:
        """The machine this connection leads to."""

    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes | Iterable[bytes] = b"",
        limit_ms: int,
        holds_stdin: bool = False,
    ) -> Answer:
        """Run one command in one round trip and wait for its end.

        Every word of `argv` is quoted by `quoting.quote`. With `holds_stdin` the remote stdin
        stays open until the command ends, so that the remote side can notice that we are gone.
        Never raises for anything the network or the machine does; reconnects once if the
        connection was found dead before the command was sent.
        """

    def open_stream(self, host: str, port: int, *, timeout_ms: int) -> socket.socket:
        """Open a TCP stream from that machine to `host:port` and give our end as a real socket.

        Uses SSH forwarding, or a command on that machine where forwarding is refused by sshd.

        Raises:
            ForwardingRefused: the far end refused, or neither way works.
            CannotReach: the machine itself is not reached.
        """

    def close(self) -> None:
        """Close the connection; open commands end or go on by themselves."""
