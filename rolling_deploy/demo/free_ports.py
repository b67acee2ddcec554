"""Free ports on 127.0.0.1 that stay ours while the fleet runs."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator

FIRST_PORT, LAST_PORT = 20_000, 32_700
"""Below Linux's default range for outgoing connections (32768 up): a port from that range may be
taken by any connection of the load while its application restarts."""


class ReservedPorts:
    """Ports that no other demo fleet on this machine takes, also while nothing listens on them.

    The reservation is an abstract unix socket: it ends with this process, whatever ends it.
    """

    def __init__(self) -> None:
        self._held: list[socket.socket] = []
        self._candidates = self._shuffled()

    @staticmethod
    def _shuffled() -> Iterator[int]:
        return iter(random.sample(range(FIRST_PORT, LAST_PORT), LAST_PORT - FIRST_PORT))

    def take(self) -> int:
        """Answers one more free port.

        Raises:
            OSError: none is left.
        """
        for port in self._candidates:
            reservation = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                reservation.bind(f"\0rolling-deploy-demo-port-{port}")
            except OSError:
                reservation.close()
                continue
            self._held.append(reservation)
            if is_free(port):
                return port
        raise OSError("no free port is left on 127.0.0.1")

    def release(self) -> None:
        """Give all of them back."""
        while self._held:
            self._held.pop().close()


def is_free(port: int) -> bool:
    """Answers whether nothing listens on the port of 127.0.0.1."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
