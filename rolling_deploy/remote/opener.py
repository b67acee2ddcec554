"""Where a TCP stream comes from: this machine, or a machine that an SSH connection leads to.

What speaks HTTP or Redis takes an `Opener` and does not know which of the two it has.
"""

from __future__ import annotations

import socket
from typing import Protocol


class Opener(Protocol):
    """Opens a TCP stream; `Connection.open_stream` is one."""

    def __call__(self, host: str, port: int, *, timeout_ms: int) -> socket.socket:
        """Open a stream to `host:port` and give our end as a real socket.

        Raises:
            OSError: refused, no route, timed out; or what `Connection.open_stream` raises.
        """


def open_directly(host: str, port: int, *, timeout_ms: int) -> socket.socket:
    """Open a stream from this machine.

    Raises:
        OSError: refused, no route, unknown name, timed out.
    """
    try:
        stream = socket.create_connection((host, port), timeout=timeout_ms / 1000)
    except UnicodeError as error:  # a label of more than 63 characters, for one
        raise OSError(f"`{host}` cannot be the name of a machine") from error
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return stream
