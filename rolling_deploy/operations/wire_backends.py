"""The Tomcats that `setup` wires: what each is to have, and the strategy that gives it to them."""

from __future__ import annotations

import os

from rolling_deploy.errors import UsageWrong
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
        wired[name] = WiringStrategy(settings, backend, connection, rendered.wiring, rendered.shown)
    site.strategies.update(wired)
    return wired


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
            next_step=f"set {variable} and run `rolling-deploy setup` again",
        )
    return password
