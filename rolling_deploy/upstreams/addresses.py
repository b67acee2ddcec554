"""Whose address is it: comparing what nginx files write with what the inventory says."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

_PORT = re.compile(r"[0-9]{1,5}")


def canonical(address: str) -> str:
    """Answers one spelling for the same address: lower case, and nginx's default port 80.

    Names are not resolved: `localhost` is not `127.0.0.1`.
    """
    if address.startswith("unix:"):
        return address
    lower = address.lower()
    host, colon, port = lower.rpartition(":")
    if not colon or "]" in port:  # no port, or the colons are those of an IPv6 address
        return f"{lower}:80"
    return f"{host}:{int(port)}" if _PORT.fullmatch(port) else lower


class Owners:
    """Which backend an address belongs to."""

    def __init__(self, addresses: Mapping[str, Collection[str]]) -> None:
        """Take the addresses of each backend, as the inventory writes them."""
        self._exact = {text: name for name, texts in addresses.items() for text in texts}
        self._canonical = {canonical(text): name for text, name in self._exact.items()}

    def of(self, address: str) -> str:
        """Answers the backend's name, or nothing for an address of somebody else."""
        return self._exact.get(address) or self._canonical.get(canonical(address), "")
