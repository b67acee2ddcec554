"""Jump hosts: which machine is reached through which, and that every way has an end."""

from __future__ import annotations

from collections.abc import Mapping

from rolling_deploy.inventory.merge import given
from rolling_deploy.inventory.model import InventoryShape
from rolling_deploy.inventory.problems import KeyPath, Problems, listed, near_miss, text_of

HOPS_MAX = 8
"""Every one encrypts once more what goes through it."""


def jumps(inventory: InventoryShape) -> dict[str, str]:
    """Answers the jump host of each machine in `hosts` that has one.

    What `ssh` names holds for all machines but those that are on the way to it: else it would be
    reached through itself.
    """
    own = {
        name: shape.jump or ""
        for name, shape in (inventory.hosts or {}).items()
        if "jump" in given(shape)
    }
    default = given(inventory.ssh).get("jump") or ""
    on_the_way = set(way_from(default, own)) if default else set()
    found = {
        name: own.get(name, "" if name in on_the_way else default) for name in inventory.hosts or {}
    }
    return {name: jump for name, jump in found.items() if jump}


def way_from(name: str, jumps: Mapping[str, str]) -> list[str]:
    """Answers the machine, its jump host, that one's, ...; a loop ends with its first again."""
    way = [name]
    met = {name}
    while following := jumps.get(way[-1], ""):
        way.append(following)
        if following in met:
            break
        met.add(following)
    return way


def check_jumps(inventory: InventoryShape, problems: Problems) -> None:
    """Note jump hosts that are none of `hosts`, and ways that lead back or go on for too long."""
    names = list(inventory.hosts or {})
    default = given(inventory.ssh).get("jump") or ""
    if default and default not in names:
        _note_unknown(("ssh", "jump"), default, names, problems)
    found = jumps(inventory)
    in_loops: set[str] = set()
    for name in names:
        place: KeyPath = ("hosts", name, "jump")
        own = (inventory.hosts or {})[name].jump
        way = way_from(name, found)
        if own and own not in names:
            _note_unknown(place, own, names, problems)
        elif own and way[-1] == name and not in_loops & set(way) and len(way) > 1:
            in_loops |= set(way)
            expected = "a machine that is not reached through this one itself"
            problems.add(place, expected, f"{text_of(own)}: {' through '.join(way)}")
        elif len(way) == len(set(way)) and len(way) - 1 > HOPS_MAX:
            where = place if own else ("ssh", "jump")
            expected = f"a way over at most {HOPS_MAX} jump hosts"
            problems.add(where, expected, "a longer one")


def _note_unknown(path: KeyPath, jump: str, names: list[str], problems: Problems) -> None:
    hint = near_miss(jump, names) or (f"there are {listed(names[:12])}" if names else "")
    problems.add(path, "a name in `hosts`", text_of(jump), hint)
