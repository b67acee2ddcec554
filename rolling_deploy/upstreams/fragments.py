"""The session manager's own configuration, rendered from the inventory for one Tomcat's machine.

XML and YAML have their own ways to write a value down; whatever is in it, it stays one value. A
message never holds the value, since it may be a password.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Protocol

from rolling_deploy.errors import InventoryWrong, TemplateWrong
from rolling_deploy.settings import (
    NodeWiring,
    SessionManagerSettings,
    SessionStoreSettings,
    WiringSettings,
)
from rolling_deploy.upstreams.template import Trusted, ValueWrong, Writing, run_template
from rolling_deploy.wiring import Fragment, NotMergeable, read_fragment
from rolling_deploy.wiring.masking import MASK

CONFIG_FILE = "conf/redisson.yaml"
_CANNOT = "this session store cannot be wired"
_NAMES = (
    "form",
    "addresses",
    "master",
    "host",
    "port",
    "database",
    "username",
    "password",
    "sentinel_password",
    "key_prefix",
    "lifetime_s",
    "config_path",
)
_NOT_IN_XML = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
_XML = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&apos;"})
_REDISSON_ADDS = "redisson:tomcat_session"
"""Its keys are `PREFIX:redisson:tomcat_session:ID`."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """What one Tomcat is to have.

    Attributes:
        shown: the same with every secret masked: what differs from `wiring` holds one.
    """

    wiring: NodeWiring = field(repr=False)
    shown: NodeWiring


class StoreAddress(Protocol):
    """Where the session store is, as its url says it."""

    @property
    def form(self) -> str:
        """Answers `single`, `sentinel` or `cluster`."""

    @property
    def servers(self) -> tuple[tuple[str, int], ...]:
        """Answers host and port of each, at least one."""

    @property
    def master(self) -> str:
        """Answers the name that the sentinels know the master by."""

    @property
    def db(self) -> int:
        """Answers the number of the database."""

    @property
    def username(self) -> str:
        """Answers the one in the url."""

    @property
    def is_tls(self) -> bool:
        """Answers whether it is asked through TLS."""

    @property
    def is_loopback(self) -> bool:
        """Answers whether it is the machine that asks."""


@dataclass(frozen=True, slots=True)
class Passwords:
    """Those of the session store and of its sentinels; empty for none."""

    store: str = field(default="", repr=False)
    sentinels: str = field(default="", repr=False)

    @property
    def masked(self) -> Passwords:
        """Answers what stands for them where they are shown."""
        return Passwords(*(MASK if one else "" for one in (self.store, self.sentinels)))


def render_wiring(
    settings: WiringSettings,
    store: SessionStoreSettings,
    address: StoreAddress | None,
    passwords: Passwords,
    machine: str,
) -> Rendered:
    """Answers the wiring of a Tomcat on this SSH host, without a session manager if none is asked.

    Args:
        address: what `store.url` says; None where there is none.

    Raises:
        InventoryWrong: the manager cannot use such a store, or the machine would not find it.
        TemplateWrong: the template cannot be rendered, or what it renders are no such elements.
    """
    manager = settings.session_manager
    if manager is None:
        plain = NodeWiring(graceful_stop_ms=settings.graceful_stop_ms)
        return Rendered(plain, plain)
    if address is None:
        problems = ["session_store.url: a session manager needs it, is missing"]
        raise InventoryWrong(_CANNOT, problems=problems)
    if problems := _problems(manager, store, address, machine):
        raise InventoryWrong(_CANNOT, problems=problems)
    values = _values(manager, store, address)
    wiring = _render(settings, manager, values | _secrets(passwords))
    return Rendered(wiring, _render(settings, manager, values | _secrets(passwords.masked)))


def _secrets(passwords: Passwords) -> dict[str, str]:
    return {"password": passwords.store, "sentinel_password": passwords.sentinels}


def _render(
    settings: WiringSettings, manager: SessionManagerSettings, values: Mapping[str, Any]
) -> NodeWiring:
    name = f"context-{manager.kind}.xml.j2"
    text = manager.template_text if manager.template else _shipped(name)
    context = run_template(text, manager.template or name, values, XML)
    fragment = _understood(manager.template or name, context)
    files = {}
    if manager.kind == "redisson":
        config = run_template(_shipped("redisson.yaml.j2"), "redisson.yaml.j2", values, YAML)
        files[CONFIG_FILE] = config.encode()
    return NodeWiring(
        jars=manager.jars,
        context=context,
        manager_class=fragment.manager_class,
        files=files,
        graceful_stop_ms=settings.graceful_stop_ms,
    )


def _understood(name: str, context: str) -> Fragment:
    what = "the session manager's template is wrong"
    try:
        fragment = read_fragment(context)
    except NotMergeable as wrong:
        # The line is one of what was rendered, which the reader does not see; the template they do.
        problem = f"{name}: line {wrong.line} of what it renders: {wrong}"
        raise TemplateWrong(what, problems=[problem], where=name) from None
    if not fragment.manager_class:
        problem = f"{name}: should render a Manager, renders none"
        raise TemplateWrong(what, problems=[problem], where=name)
    return fragment


def _values(
    manager: SessionManagerSettings, store: SessionStoreSettings, address: StoreAddress
) -> dict[str, Any]:
    scheme = "rediss" if address.is_tls else "redis"
    addresses = [
        f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
        for host, port in address.servers
    ]
    host, port = address.servers[0]
    return {
        "form": str(address.form),
        "addresses": addresses,
        "master": address.master,
        "host": host,
        "port": port,
        "database": address.db,
        "username": store.username or address.username,
        "key_prefix": _prefix(store.key_prefix),
        "lifetime_s": manager.lifetime_s,
        "config_path": Trusted(f"${{catalina.base}}/{CONFIG_FILE}"),
    }


def _problems(
    manager: SessionManagerSettings,
    store: SessionStoreSettings,
    address: StoreAddress,
    machine: str,
) -> list[str]:
    problems = []
    if store.via not in {"", machine} and address.is_loopback:
        problems.append(
            f"session_store.url: should be an address that `{machine}` reaches too, is "
            f"`{address.servers[0][0]}`, which is `{store.via}` itself"
        )
    if manager.kind != "orangefunction":
        return problems
    if address.form != "single":
        problems.append(f"session_store.url: this manager knows one server, no {address.form}")
    if address.is_tls:
        problems.append("session_store.url: should be `redis://`, as this manager has no TLS")
    if store.username or address.username:
        problems.append("session_store.username: this manager logs in with a password only")
    if store.key_prefix:
        problems.append("session_store.key_prefix: this manager's keys have no prefix")
    return problems


def _prefix(keys: str) -> str:
    """The manager's own part goes, as far as the inventory's prefix has it."""
    bare = keys.rstrip(":")
    bare = bare.removesuffix(_REDISSON_ADDS)
    return bare.rstrip(":")


def _in_xml(value: object) -> str:
    text = str(_plain(value))
    if _NOT_IN_XML.search(text):
        reason = "a value holds a character that XML cannot hold"
        raise ValueWrong(reason)
    if "${" in text:
        reason = "a value holds `${`, which Tomcat takes for the name of a property"
        raise ValueWrong(reason)
    return text.translate(_XML)


def _in_yaml(value: object) -> str:
    """A text as YAML's double-quoted word, in ASCII; nor does Redisson find a `${` to fill in."""
    plain = _plain(value)
    return str(plain) if isinstance(plain, int) else f'"{"".join(map(_yaml_letter, plain))}"'


def _yaml_letter(letter: str) -> str:
    code = ord(letter)
    if letter.isascii() and (letter.isalnum() or letter in " -_.,:;/@+*=()[]<>!?~^|%&#'"):
        return letter
    if 0xD800 <= code <= 0xDFFF:
        reason = "a value holds half a character"
        raise ValueWrong(reason)
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def _plain(value: object) -> str | int:
    if isinstance(value, str | int) and not isinstance(value, bool):
        return value
    kind = "null" if value is None else f"a {type(value).__name__}"
    reason = f"a value is {kind}, should be a text or a number"
    raise ValueWrong(reason)


XML = Writing(_in_xml, _NAMES)
YAML = Writing(_in_yaml, _NAMES)


def _shipped(name: str) -> str:
    """A template that comes with rolling-deploy; in a checkout they are at the top level."""
    packaged = resources.files("rolling_deploy") / "templates" / name
    place = packaged if packaged.is_file() else Path(__file__).parents[2] / "templates" / name
    return place.read_text("utf-8")
