"""The same store, seen from many places: what one place reaches proves nothing of another's way.

One place writes a key that expires; each of the others logs in, asks for the server's role and
reads that key. A store that answers but does not have it is another store.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from rolling_deploy.parallel import at_once
from rolling_deploy.remote.connection import CannotReach, ForwardingRefused
from rolling_deploy.remote.session_store import Store, enter_each, hidden, link_to, store_of
from rolling_deploy.remote.session_store_address import Form
from rolling_deploy.remote.session_store_canary import EXPIRES_S, canary_names
from rolling_deploy.remote.session_store_info import fields_of, line
from rolling_deploy.remote.session_store_link import Link, LinkLost, Why
from rolling_deploy.rollout.observed import Check, Verdict

if TYPE_CHECKING:
    import socket

    from rolling_deploy.remote.opener import Opener
    from rolling_deploy.settings import SessionStoreSettings

NAMED_MAX = 3
"""Backends that a line names; more are counted, so that a fleet that is well is one line."""


@dataclass(frozen=True, slots=True)
class Place:
    """A machine that the store is asked from.

    Attributes:
        backends: those that run on it; empty for the machine that the whole check ran from.
        name: what it is called when it has no backends.
        gap: why it cannot be asked from there; empty when it can.
    """

    opener: Opener | None
    backends: tuple[str, ...] = ()
    name: str = ""
    gap: str = ""


@dataclass(frozen=True, slots=True)
class Mark:
    """The key that one place wrote, or why none is there to be read.

    Attributes:
        server: identity of the master's data, where no key may be written; empty when not known.
    """

    key: str = ""
    value: str = field(default="", repr=False)
    server: str = ""
    gap: str = ""


@dataclass(frozen=True, slots=True)
class Heard:
    """What came of asking from one place."""

    verdict: Verdict
    detail: str


def check_places(
    settings: SessionStoreSettings, writer: Place, readers: Sequence[Place], *, canary: bool
) -> tuple[Check, ...]:
    """Answers a line for all the backends that see the same store, and one for each other story.

    Takes `deadline_ms` at the most. All places are asked at the same time, none twice.

    Args:
        writer: where the key is written, and the whole check runs.
        readers: machines of backends, each once.
        canary: whether a key may be written. Without, a single store is known by the identity of
            its data.

    Crash: the key expires within half a minute.
    """
    until = time.monotonic() + settings.deadline_ms / 1000
    heard: dict[int, Heard] = {}
    is_over = threading.Event()

    def ask() -> None:
        _with_mark(
            settings, writer, lambda mark: _ask_all(settings, readers, mark, heard), canary=canary
        )
        is_over.set()

    threading.Thread(target=ask, name="session-store-places", daemon=True).start()
    is_over.wait(max(0.0, until - time.monotonic()))
    late = Heard(Verdict.REFUSED, f"no answer within {settings.deadline_ms} ms")
    told = {number: heard.get(number, late) for number in range(len(readers))}
    return _lines(writer, [(place, told[number]) for number, place in enumerate(readers)])


def _with_mark(
    settings: SessionStoreSettings, writer: Place, use: Callable[[Mark], None], *, canary: bool
) -> None:
    """Write the key, call `use` with it, and delete it again."""
    link: Link | None = None
    try:
        store = store_of(settings, writer.opener)
        link = link_to(store)
        mark = _write(store, link, settings.key_prefix, canary=canary)
    except (LinkLost, ValueError) as error:
        mark = Mark(gap=str(error))
    use(mark)
    if link is not None:
        with suppress(LinkLost):  # Only deleting is left, and the key expires.
            if mark.key:
                link.ask(("DEL", mark.key))
        link.close()


def _write(store: Store, link: Link, key_prefix: str, *, canary: bool) -> Mark:
    server = "" if store.address.form is Form.CLUSTER else _identity(link)[1]
    if not canary:
        return Mark(server=server, gap="--no-canary")
    key, value = next(canary_names(key_prefix)), secrets.token_hex(16)
    said = link.ask(("SET", key, value, "EX", str(EXPIRES_S), "NX"))[0]
    if said.is_error:
        return Mark(server=server, gap=hidden(store, said.error))
    return Mark(key, value, server)


def _ask_all(
    settings: SessionStoreSettings, readers: Sequence[Place], mark: Mark, heard: dict[int, Heard]
) -> None:
    def ask(number: int, place: Place) -> None:
        heard[number] = _ask(settings, place, mark)

    at_once({number: partial(ask, number, place) for number, place in enumerate(readers)})


class _Unreachable:
    """An opener that remembers when it was the machine itself, not the store, that failed."""

    def __init__(self, opener: Opener) -> None:
        self._opener = opener
        self.reason = ""

    def __call__(self, host: str, port: int, *, timeout_ms: int) -> socket.socket:
        """Open a stream from the machine."""
        try:
            return self._opener(host, port, timeout_ms=timeout_ms)
        except CannotReach as error:
            self.reason = f"the machine is not reached: {error}"
            raise
        except ForwardingRefused as error:
            if error.is_prohibited:
                self.reason = f"no stream can be opened from the machine: {error}"
            raise


def _ask(settings: SessionStoreSettings, place: Place, mark: Mark) -> Heard:
    """Ask from one place: where none can ask it is not checked, a bad answer is refused."""
    if place.gap or place.opener is None:
        return Heard(Verdict.NOT_CHECKED, place.gap or "not connected")
    opener = _Unreachable(place.opener)
    try:
        store = store_of(settings, opener)
        link = link_to(store)
    except (LinkLost, ValueError) as error:
        if opener.reason:
            return Heard(Verdict.NOT_CHECKED, opener.reason)
        return Heard(Verdict.REFUSED, str(error))
    try:
        if store.address.form is Form.CLUSTER:
            enter_each(store, link)
        return _judge(store, link, mark)
    except LinkLost as error:
        return Heard(Verdict.REFUSED, hidden(store, str(error)))
    finally:
        link.close()


def _judge(store: Store, link: Link, mark: Mark) -> Heard:
    ping = link.ask(("PING",))[0]
    if ping.is_error and ping.why is not Why.DENIED:
        return Heard(Verdict.REFUSED, hidden(store, ping.error))
    role, server = ("master", "") if store.address.form is Form.CLUSTER else _identity(link)
    if role not in {"", "master"}:
        return Heard(Verdict.REFUSED, f"role should be master, is {role}")
    if not mark.key:
        return _by_identity(server, mark)
    said = link.ask(("GET", mark.key))[0]
    if said.is_error:
        return Heard(Verdict.REFUSED, hidden(store, said.error))
    if said.value != mark.value:
        return Heard(
            Verdict.REFUSED, "another store answers: the canary key that was written is not in it"
        )
    return Heard(Verdict.OK, "the same store: it answers, is master, and has the key")


def _by_identity(server: str, mark: Mark) -> Heard:
    if not server or not mark.server:
        return Heard(
            Verdict.NOT_CHECKED, f"it answers; whether it is the same store is not seen: {mark.gap}"
        )
    if server != mark.server:
        return Heard(Verdict.REFUSED, "another store answers: its replication id differs")
    return Heard(Verdict.OK, "it answers, is master, and its replication id is the same")


def _identity(link: Link) -> tuple[str, str]:
    """Answers the server's role and the identity of its data; empty where it may not be asked."""
    said = link.ask(("INFO", "replication"))[0]
    fields = fields_of(str(said.value)) if not said.is_error else {}
    return fields.get("role", ""), fields.get("master_replid", "")


def _lines(writer: Place, told: Sequence[tuple[Place, Heard]]) -> tuple[Check, ...]:
    groups: dict[Heard, list[str]] = {}
    for place, heard in told:
        groups.setdefault(heard, []).extend(place.backends)
    good = [name for heard, names in groups.items() for name in names if heard.verdict is _OK]
    seen = [_named(good)] if good else []
    if any(heard.verdict is _OK for heard in groups) and writer.name:
        seen.insert(0, writer.name)
    checks = []
    for heard, names in groups.items():
        detail = heard.detail
        if heard.verdict is _OK:
            machines = sum(1 for _, one in told if one == heard)
            detail += f" ({_counted(len(names), 'backend')} on {_counted(machines, 'machine')})"
        elif heard.verdict is Verdict.REFUSED and seen:
            detail += f"; from {' and '.join(seen)} it is well"
        checks.append(line(f"from {_named(names)}", heard.verdict, detail))
    return tuple(sorted(checks, key=lambda check: check.verdict is not Verdict.REFUSED))


_OK = Verdict.OK


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _named(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= NAMED_MAX else f"{len(names)} backends"
