"""Where the session store is asked from: one place for the whole check, and each node's own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import replace

from rolling_deploy.operations.site import Site
from rolling_deploy.parallel import at_once
from rolling_deploy.remote.session_store_address import Form, address_of
from rolling_deploy.remote.session_store_asked import check_session_store
from rolling_deploy.remote.session_store_info import Sample
from rolling_deploy.remote.session_store_places import Place, check_places
from rolling_deploy.rollout.observed import Check, Verdict

AGAIN_S = 1.0
"""Between two looks at a store that is choosing a master; one look costs it a few commands."""

PASSES = frozenset({"reach", "sentinels", "role", "commands", "loading", "cluster", "slots"})
"""Lines that are refused while another master is chosen, and may be well a moment later."""


SEVERAL = 2
NAMED_MAX = 3


def whole_from(site: Site) -> Place:
    """Answers where the whole check runs: `via`, this machine, or the first backend's.

    An address like `localhost` without `via` means the machine of each application, not ours.
    """
    store = site.inventory.session_store
    if store.via and store.asked_from != "backends":
        connection = site.connections.get(store.via)
        return Place(connection.open_stream if connection else None, name=store.via)
    if store.asked_from == "via" or not (store.asked_from == "backends" or _is_loopback(site)):
        return Place(None, name="this machine")
    hosts = [b.host for b in site.inventory.backends.values() if b.host in site.connections]
    host = next((host for host in hosts if host not in site.unreachable), "")
    if not host:
        return Place(None, name="a backend's machine", gap="no backend's machine is connected")
    return Place(site.connections[host].open_stream, name=host)


def check_store(
    site: Site, backends: Iterable[str], *, canary: bool, is_patient: bool
) -> tuple[Check, ...]:
    """Answers the session store's checks, from one place whole and from each backend's shortly.

    Keeps the sample in `site.store_sample` for the next.

    Args:
        backends: whose machines are asked from as well, where `asked_from` says so.
        canary: whether an expiring key may be written.
        is_patient: wait up to `failover_limit_ms` for a master that is being chosen.
    """
    settings = site.inventory.session_store
    readers = _readers(site, backends)
    begun = time.monotonic()
    waits = is_patient and settings.url and _has_failover(settings.url)
    until = begun + settings.failover_limit_ms / 1000 if waits else begun
    while True:
        checks, sample = _once(site, readers, canary=canary)
        if not _may_pass(checks) or time.monotonic() + AGAIN_S > until:
            break
        threading.Event().wait(AGAIN_S)
    if sample != Sample():  # what was seen before a store that says nothing is still the last
        site.store_sample = sample
    waited_s = round(time.monotonic() - begun)
    if waits and waited_s > AGAIN_S:
        checks = _having_waited(checks, waited_s)
    is_seen = bool(readers) or settings.asked_from == "via"
    return (*checks, *(_each_its_own(site, checks) if is_seen else ()))


def _each_its_own(site: Site, checks: tuple[Check, ...]) -> list[Check]:
    """An address that means whoever asks, on several machines, may well be as many stores.

    Nothing where they were seen to be the same one (a tunnel or a proxy on each machine).
    """
    store = site.inventory.session_store
    hosts = list(dict.fromkeys(backend.host for backend in site.inventory.backends.values()))
    if store.via or len(hosts) < SEVERAL or not _is_loopback(site):
        return []
    places = [check.verdict for check in checks if check.name.startswith("from ")]
    if places and all(verdict is Verdict.OK for verdict in places):
        return []
    named = ", ".join(hosts) if len(hosts) <= NAMED_MAX else f"{len(hosts)} machines"
    detail = (
        f"`{store.url}` means each machine itself, and the backends stand on {named}: with a Redis "
        "on each they share no sessions, and whoever is sent to another one is logged out; let "
        "`url`, and every backend's session manager, name one address that all of them reach; if "
        "they do and only this `url` is short for it, say with `via` whose `localhost` it is"
    )
    return [Check("session store", "address", Verdict.WARNING, detail)]


def _once(site: Site, readers: list[Place], *, canary: bool) -> tuple[tuple[Check, ...], Sample]:
    settings = site.inventory.session_store
    whole = whole_from(site)
    if whole.gap:
        return (Check("session store", "reach", Verdict.REFUSED, whole.gap),), Sample()
    found: dict[str, tuple[tuple[Check, ...], Sample]] = {}
    seen: dict[str, tuple[Check, ...]] = {}

    def ask_whole() -> None:
        found["whole"] = check_session_store(
            settings,
            whole.opener,
            canary=canary,
            previous=site.store_sample,
            seen_from=whole.name if whole.opener or settings.via else "",
        )

    def ask_places() -> None:
        seen["places"] = check_places(settings, whole, readers, canary=canary)

    calls: dict[str, Callable[[], None]] = {"whole": ask_whole}
    if readers and settings.url:
        calls["places"] = ask_places
    at_once(calls)
    checks, sample = found["whole"]
    return (*checks, *seen.get("places", ())), sample


def _readers(site: Site, backends: Iterable[str]) -> list[Place]:
    """Answers the machines of these backends, each once."""
    store = site.inventory.session_store
    if store.asked_from == "via":
        return []
    by_host: dict[str, list[str]] = {}
    for name in backends:
        by_host.setdefault(site.inventory.backends[name].host, []).append(name)
    is_loopback = _is_loopback(site)
    places = []
    for host, names in by_host.items():
        gap = ""
        connection = site.connections.get(host)
        if connection is None:
            gap = site.why_not(host)
        elif is_loopback and store.via and host != store.via:
            gap = f"the url means {store.via} itself, how it is reached from here is not known"
        places.append(Place(connection.open_stream if connection else None, tuple(names), gap=gap))
    return places


def _is_loopback(site: Site) -> bool:
    try:
        return address_of(site.inventory.session_store.url).is_loopback
    except ValueError:
        return False


def _has_failover(url: str) -> bool:
    try:
        return address_of(url).form is not Form.SINGLE
    except ValueError:
        return False


def _may_pass(checks: Iterable[Check]) -> bool:
    refused = [check.name for check in checks if check.verdict is Verdict.REFUSED]
    return any(name in PASSES or name.startswith("from ") for name in refused)


def _having_waited(checks: tuple[Check, ...], waited_s: int) -> tuple[Check, ...]:
    """Say of the first that is refused how long it has been waited for."""
    for number, check in enumerate(checks):
        if check.verdict is Verdict.REFUSED:
            detail = f"{check.detail} (after {waited_s} s of waiting for another master)"
            return (*checks[:number], replace(check, detail=detail), *checks[number + 1 :])
    return checks
