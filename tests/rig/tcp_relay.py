"""A TCP relay on loopback that can be cut or frozen: a network between two machines that fails."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Self

PIECE_BYTES = 65_536


class TcpRelay:
    """Carries every connection to `target_port` of 127.0.0.1, until it is told otherwise.

    Cut, connections are reset and new ones are closed at once, as behind a machine that went
    down. Frozen, everything stays open and nothing is carried, as behind a network that drops
    all packets.
    """

    def __init__(self, port: int, target_port: int) -> None:
        self.port = port
        self.target_port = target_port
        self._server = socket.create_server(("127.0.0.1", port))
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._is_cut = False
        self._flows = threading.Event()
        self._flows.set()
        self._is_over = False
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """End what is open; close whatever comes."""
        with self._lock:
            self._is_cut = True
            ends = list(self._open)
        for end in ends:
            _hang_up(end)

    def freeze(self) -> None:
        """Carry nothing more, and close nothing."""
        self._flows.clear()

    def mend(self) -> None:
        """Carry everything again; what was cut stays closed."""
        with self._lock:
            self._is_cut = False
        self._flows.set()

    def _accept(self) -> None:
        while not self._is_over:
            try:
                near, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._carry, args=(near,), daemon=True).start()

    def _carry(self, near: socket.socket) -> None:
        self._flows.wait()
        with self._lock:
            if self._is_cut:
                near.close()
                return
            self._open.add(near)
        with near, socket.socket() as far:
            try:
                far.connect(("127.0.0.1", self.target_port))
            except OSError:
                return
            with self._lock:
                self._open.add(far)
            back = threading.Thread(target=self._pump, args=(far, near), daemon=True)
            back.start()
            self._pump(near, far)
            back.join()
        with self._lock:
            self._open -= {near, far}

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(PIECE_BYTES):
                self._flows.wait()
                target.sendall(data)
        _hang_up(source)
        _hang_up(target)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *ended: object) -> None:
        self._is_over = True
        _hang_up(self._server)
        self._server.close()
        self.cut()
        self._flows.set()


def _hang_up(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
