"""The Tomcats that `setup` wires: what each is to have, and the strategy that gives it to them."""

from __future__ import annotations

import os
from collections.abc import Collection

from rolling_deploy.errors import InventoryWrong, UsageWrong
from rolling_deploy.operations.site import Site
from rolling_deploy.remote.session_store_address import address_of
from rolling_deploy.remote.wiring import WiringStrategy
from rolling_deploy.settings import Inventory, TomcatSettings
from rolling_deploy.upstreams.fragments import Passwords, render_wiring


def wired_backends(inventory: Inventory) -> tuple[str, ...]:
    """Answers the backends that `setup` concerns: every Tomcat, if one is to be wired at all."""
    wiring = inventory.wiring
    if wiring.session_manager is None and wiring.graceful_stop_ms is None:
        return ()
    backends = inventory.backends.items()
    return tuple(name for name, one in backends if isinstance(one.strategy, TomcatSettings))


def wire_backends(site: Site) -> dict[str, WiringStrategy]:
    """Let every Tomcat be given its wiring, from now on, where a release would be put in place.

    Raises:
        UsageWrong: the password of the session store is not at hand.
        InventoryWrong, TemplateWrong: the wiring cannot be rendered.
    """
    inventory = site.inventory
    wired = {}
    for name in wired_backends(inventory):
        backend = inventory.backends[name]
        connection = site.connections.get(backend.host)
        settings = backend.strategy
        if connection is None or not isinstance(settings, TomcatSettings):
            continue
        store = inventory.session_store
        address = address_of(store.url) if store.url else None
        passwords = _passwords(inventory)
        rendered = render_wiring(inventory.wiring, store, address, passwords, backend.host)
        wired[name] = WiringStrategy(
            settings,
            backend,
            connection,
            rendered.wiring,
            rendered.shown,
            application=inventory.application,
            inventory=inventory.path,
        )
    site.strategies.update(wired)
    return wired


def rewire_backends(site: Site, backends: Collection[str]) -> None:
    """The same for a setup that was opened with these backends.

    Raises:
        InventoryWrong: also if the inventory wires one of them no more; a look would take a
            release's files for what it was being given.
    """
    if odd := sorted(set(backends) - wire_backends(site).keys()):
        raise InventoryWrong(
            "the section `setup` is not the one that this setup was opened with",
            problems=[f"{name}: is to be given nothing any more" for name in odd],
            where=site.inventory.path,
            site="this run touched nothing; the rollout stands where it stood",
            next_step="go on with the inventory of the opening",
        )


def _passwords(inventory: Inventory) -> Passwords:
    """Those that the session manager will use; they go into a file on each node."""
    return Passwords(
        _password(inventory, "password_env"), _password(inventory, "sentinel_password_env")
    )


def _password(inventory: Inventory, key: str) -> str:
    variable = str(getattr(inventory.session_store, key))
    if inventory.wiring.session_manager is None or not variable:
        return ""
    password = os.environ.get(variable, "")
    if not password:
        raise UsageWrong(
            f"the password of the session store should be in ${variable}, is not",
            where=f"{inventory.path}: session_store.{key}",
            next_step=f"set {variable} and run it again",
        )
    return password
