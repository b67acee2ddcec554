"""What people do to the fleet with their own hands."""

from __future__ import annotations

from dataclasses import replace

from tests.world import World


def edit(world: World, balancer: str) -> None:
    """Somebody changes a file in an editor and does not reload."""
    lb = world.balancers[balancer]
    lb.edit(replace(lb.file, remark=f"{lb.file.remark} edited"))


def park(world: World, backend: str) -> None:
    """Somebody marks a backend down everywhere and reloads."""
    for lb in world.balancers.values():
        lb.edit(replace(lb.file, down=lb.file.down | {backend}))
        lb.reload(world.now_ms)


def put_in(world: World, backend: str) -> None:
    """Somebody takes the `down` off a backend everywhere and reloads."""
    for lb in world.balancers.values():
        lb.edit(replace(lb.file, down=lb.file.down - {backend}))
        lb.reload(world.now_ms)


def reload(world: World, balancer: str) -> None:
    """Somebody reloads nginx, for reasons of their own."""
    lb = world.balancers[balancer]
    lb.reload(world.now_ms)
