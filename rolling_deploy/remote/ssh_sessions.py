"""How many commands run at once on one SSH connection."""

from __future__ import annotations

import threading
import time


class Sessions:
    """How many sessions may be open at once; learns when a machine allows fewer than we thought."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._open = 0
        self._changed = threading.Condition()

    def enter(self, deadline: float) -> bool:
        """Wait for a place; answers False when none was free before the deadline."""
        with self._changed:
            timeout = max(deadline - time.monotonic(), 0)
            if not self._changed.wait_for(lambda: self._open < self._most, timeout):
                return False
            self._open += 1
            return True

    def leave(self) -> None:
        """Give the place back."""
        with self._changed:
            self._open -= 1
            self._changed.notify()

    def queue_again(self, deadline: float) -> bool:
        """Note that the machine allows only what is open besides us, and wait for a place there.

        Answers False when that cannot help (nothing else is open) or took too long. The caller
        has its place in any case.
        """
        with self._changed:
            others = self._open - 1
            if others < 1:
                return False
            self._most = min(self._most, others)
            self._open -= 1
            self._changed.notify()
            timeout = max(deadline - time.monotonic(), 0)
            is_in = self._changed.wait_for(lambda: self._open < self._most, timeout)
            self._open += 1
            return is_in
