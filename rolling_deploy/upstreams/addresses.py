"""Whose address is it: comparing what nginx files write with what the inventory says."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Mapping
from functools import lru_cache

from rolling_deploy.errors import InventoryWrong

_PORT = re.compile(r"[0-9]{1,5}")


# A fleet of hundreds is compared with itself for each of its renderings.
@lru_cache(maxsize=4096)
def canonical(address: str) -> str:
    """Answers one spelling for the same address: lower case, and nginx's default port 80.

    `localhost` is `127.0.0.1`, an IPv6 address has one spelling, a dot at a name's end goes.
    Other names are not resolved.
    """
    if address.startswith("unix:"):
        return address
    host, port = host_and_port(address)
    return f"{host}:{port}" if port else host


def host_and_port(address: str) -> tuple[str, str]:
    """Answers the two in one spelling each; the port is empty where what stands there is none."""
    lower = address.lower()
    host, colon, port = lower.rpartition(":")
    if not colon or "]" in port:  # no port, or the colons are those of an IPv6 address
        return _one_spelling(lower), "80"
    if not _PORT.fullmatch(port):
        return lower, ""
    return _one_spelling(host), str(int(port))


def _one_spelling(host: str) -> str:
    try:
        ip = ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        name = host.removesuffix(".")
        return "127.0.0.1" if name == "localhost" else name
    return f"[{ip}]" if isinstance(ip, ipaddress.IPv6Address) else str(ip)


class Owners:
    """Which backend an address belongs to."""

    def __init__(self, addresses: Mapping[str, Collection[str]]) -> None:
        """Take the addresses of each backend, as the inventory writes them.

        Raises:
            InventoryWrong: two backends have one address. A line of it in a file could be
                either's: taking out one would leave it live, or take the other out with it.
        """
        self._owners: dict[str, str] = {}
        for name, texts in addresses.items():
            for text in texts:
                first = self._owners.setdefault(canonical(text), name)
                if first != name:
                    raise InventoryWrong(
                        "an address belongs to two backends",
                        problems=[f"backends: {first} and {name} both have {text}"],
                    )

    def of(self, address: str) -> str:
        """Answers the backend's name, or nothing for an address of somebody else."""
        return self._owners.get(canonical(address), "")
