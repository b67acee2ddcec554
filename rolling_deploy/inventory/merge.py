"""Overrides laid over defaults: what holds for each backend, with nothing but given keys.

A key that is given replaces the whole value of the default, a list or `version` too. Two rules
go beyond that: an override with another strategy inherits nothing, and `restart` displaces an
inherited `stop` and `start`, as they displace it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rolling_deploy.inventory.fields import Shape
from rolling_deploy.inventory.machine_shapes import ServerShape
from rolling_deploy.inventory.model import BackendShape, InventoryShape, ReleaseShape, UpgradeShape

Given = Mapping[str, Any]
"""Keys as written in the file, only those that are given."""

_EXCLUSIVE = (frozenset({"restart"}), frozenset({"stop", "start"}))


@dataclass(frozen=True, slots=True)
class Effective:
    """What holds for one backend.

    Attributes:
        index: its place in the file's list; None for the defaults alone.
        upgrade: holds `strategy`, or is empty when no strategy is known.
        servers: by upstream, in the order of the file.
    """

    index: int | None
    name: str
    host: str
    servers: Mapping[str, ServerShape]
    upgrade: Given
    health: Given
    warm_up: Given


def given(shape: Shape | None) -> dict[str, Any]:
    """Answers the keys that the file gives, and their values."""
    if shape is None:
        return {}
    fields = type(shape).model_fields
    return {
        fields[name].alias or name: getattr(shape, name)
        for name in fields
        if name in shape.model_fields_set
    }


def effective(inventory: InventoryShape) -> list[Effective]:
    """Answers what holds for each backend, in the order of the file."""
    return [
        Effective(
            index=index,
            name=backend.name or "",
            host=backend.host or backend.name or "",
            servers=_servers(inventory, backend),
            upgrade=_upgrade(inventory.upgrade, backend.upgrade),
            health=given(inventory.health) | given(backend.health),
            warm_up=given(inventory.warm_up) | given(backend.warm_up),
        )
        for index, backend in enumerate(inventory.backends or [])
    ]


def defaults(inventory: InventoryShape) -> Effective:
    """Answers what holds for a backend without overrides."""
    return Effective(
        index=None,
        name="",
        host="",
        servers={},
        upgrade=_upgrade(inventory.upgrade, None),
        health=given(inventory.health),
        warm_up=given(inventory.warm_up),
    )


def _servers(inventory: InventoryShape, backend: BackendShape) -> Mapping[str, ServerShape]:
    upstreams = inventory.upstreams or []
    if backend.address and not backend.servers and len(upstreams) == 1:
        return {upstreams[0].name or "": ServerShape(address=backend.address)}
    return backend.servers or {}


def _upgrade(default: UpgradeShape | None, override: UpgradeShape | None) -> Given:
    if override is None:
        return given(default)
    if default is None or type(default) is not type(override):
        return given(override)
    inherited, own = given(default), given(override)
    if isinstance(override, ReleaseShape):
        for kept, displaced in (_EXCLUSIVE, _EXCLUSIVE[::-1]):
            if kept & own.keys() and not displaced & own.keys():
                inherited = {key: inherited[key] for key in inherited.keys() - displaced}
    return inherited | own


def place_key(upgrade: Given) -> str:
    """Answers the key that says where on the machine the backend lives."""
    return "catalina_base" if upgrade.get("strategy") == "tomcat" else "root"
