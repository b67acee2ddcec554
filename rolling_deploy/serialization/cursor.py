"""Bytes in order: every read stays within them, or is refused."""

from __future__ import annotations

from rolling_deploy.serialization.not_readable import NotReadable


class Cursor:
    """A place in some bytes. All numbers are big-endian, as Java writes them.

    Attributes:
        data: the bytes.
        at: the place of the next read.
    """

    def __init__(self, data: bytes, at: int = 0) -> None:
        self.data = data
        self.at = at

    @property
    def left(self) -> int:
        """Answers how many bytes come after the place."""
        return len(self.data) - self.at

    def skip(self, count: int) -> None:
        """Goes on by so many bytes.

        Raises:
            NotReadable: there are not so many.
        """
        if not 0 <= count <= self.left:
            raise NotReadable(f"the bytes are cut off or broken at byte {self.at}")
        self.at += count

    def take(self, count: int) -> bytes:
        """Answers so many bytes and goes on."""
        start = self.at
        self.skip(count)
        return self.data[start : self.at]

    def peek(self) -> int:
        """Answers the next byte and stays before it."""
        if self.left < 1:
            raise NotReadable(f"the bytes are cut off at byte {self.at}")
        return self.data[self.at]

    def unsigned(self, size: int) -> int:
        """Answers a number of so many bytes that is never negative."""
        return int.from_bytes(self.take(size), "big")

    def signed(self, size: int) -> int:
        """Answers a number of so many bytes that may be negative."""
        return int.from_bytes(self.take(size), "big", signed=True)

    def count(self, size: int, each_min: int) -> int:
        """Answers how many things follow, of which each takes at least so many bytes."""
        count = self.unsigned(2) if size == 2 else self.signed(size)
        if count < 0 or count * each_min > self.left:
            raise NotReadable(f"the bytes are cut off or broken at byte {self.at}")
        return count
