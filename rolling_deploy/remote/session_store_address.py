"""Where the session store is, as its url says it: one server, sentinels, or a cluster."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import unquote

PORT = 6379
SENTINEL_PORT = 26_379
"""What Redis and its sentinels listen on by default."""
PORT_MAX = 65_535

URL_SHAPE = (
    "redis://host:port/db, redis+sentinel://host:port,host:port/master/db or "
    "redis+cluster://host:port,host:port (rediss for TLS)"
)
_URL = re.compile(
    r"(?P<tls>rediss?)(?:\+(?P<form>sentinel|cluster))?://(?:(?P<user>[^@/?#]*)@)?"
    r"(?P<servers>[^@/?#]+)(?P<path>/[^?#]*)?"
)
_SERVER = re.compile(r"(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<host>[^:\[\]]+))(?::(?P<port>[0-9]+))?")

Server = tuple[str, int]
"""Host and port."""


class Form(StrEnum):
    """How the store is run."""

    SINGLE = "single"
    SENTINEL = "sentinel"
    CLUSTER = "cluster"


@dataclass(frozen=True, slots=True)
class Address:
    """What a url says.

    Attributes:
        servers: the one server; or the sentinels; or some of the cluster.
        master: the name that the sentinels know the master by.
    """

    form: Form
    servers: tuple[Server, ...]
    master: str
    db: int
    username: str
    is_tls: bool

    def __str__(self) -> str:
        """Answers it for a person."""
        named = ", ".join(shown(server) for server in self.servers)
        if self.form is Form.SENTINEL:
            return f"`{self.master}` by the sentinels {named}"
        return f"the cluster at {named}" if self.form is Form.CLUSTER else named

    @property
    def is_loopback(self) -> bool:
        """Answers whether it means the machine that asks, whichever that is."""
        return all(_is_loopback(host) for host, _ in self.servers)


def shown(server: Server) -> str:
    """Answers `host:port`."""
    host, port = server
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def address_of(url: str) -> Address:
    """Answers where the url points.

    Raises:
        ValueError: it is not a url of a session store, or holds a password.
    """
    matched = _URL.fullmatch(url)
    user, colon, _ = (matched["user"] or "").partition(":") if matched else ("", "", "")
    if colon or (matched is None and "@" in url):
        msg = "the url holds a password, should be in the variable that `password_env` names"
        raise ValueError(msg)
    if "?" in url:
        msg = "the url should end before its `?`; `tls_ca`, `tls_certificate` and `tls_key` set TLS"
        raise ValueError(msg)
    if matched is None:
        raise ValueError(_unlike(url))
    form = Form(matched["form"] or "single")
    usual = SENTINEL_PORT if form is Form.SENTINEL else PORT
    servers = tuple(_server(text, usual, url) for text in matched["servers"].split(","))
    master, digits = _path(form, (matched["path"] or "").strip("/"), url)
    if form is Form.SINGLE and len(servers) > 1:
        raise ValueError(_unlike(url))
    return Address(
        form,
        servers,
        master,
        int(digits),
        unquote(user),
        matched["tls"] == "rediss",
    )


def _path(form: Form, path: str, url: str) -> tuple[str, str]:
    """Answers the master's name, and the database's number in digits."""
    words = [unquote(word) for word in path.split("/")] if path else []
    master = words.pop(0) if form is Form.SENTINEL and words else ""
    if form is Form.SENTINEL and not master:
        msg = f"the url names no master, should be {URL_SHAPE}, is `{url}`"
        raise ValueError(msg)
    digits = words.pop(0) if words else "0"
    if words or not re.fullmatch(r"[0-9]{1,4}", digits):
        raise ValueError(_unlike(url))
    if form is Form.CLUSTER and int(digits):
        msg = f"a cluster has database 0 only, the url says {digits}"
        raise ValueError(msg)
    return master, digits


def _server(text: str, usual_port: int, url: str) -> Server:
    matched = _SERVER.fullmatch(text.strip())
    port = int(matched["port"] or usual_port) if matched else 0
    if matched is None or not 1 <= port <= PORT_MAX:
        raise ValueError(_unlike(url))
    return matched["six"] or matched["host"], port


def _unlike(url: str) -> str:
    return f"the url should be {URL_SHAPE}, is `{url}`"


def is_name(host: str) -> bool:
    """Answers whether it is a name, not an address."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return True
    return False


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
