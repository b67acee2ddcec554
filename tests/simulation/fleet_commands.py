"""What the commands that change the fleet do on the simulated machines, effect by effect.

Between two effects others have their turn, and the command may be killed: then what it did so far
stands, and the lock is free.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from rolling_deploy.ports import FenceToken
from rolling_deploy.rollout.step import Activate, Apply, Stage, Step, Unadopt
from rolling_deploy.rollout.view import ABSENT
from tests.simulation.machines import US, Balancer, Node
from tests.simulation.world import Failed, Refused, World

if TYPE_CHECKING:
    from tests.simulation.operator import Operator

LATE_MS = 75_000
"""So long after its intent a command is good on a load balancer (`late_s` in the real script)."""


def sha(text: str) -> str:
    """Answers the digest of a file with this text."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest() if text else ABSENT


def publish(world: World, by: Operator, lb: Balancer, step: Apply, text: str) -> None:
    """Put a rendering in place of the file, reload nginx, prove the generation.

    Raises:
        Refused: the fence, the lock, or the file is another one.
        Failed: nginx did not take it.
    """
    token = _enter(world, by, lb, step)
    _refuse_late(world, lb)
    world.audit.goes_ahead(lb, by)
    _refuse_another(lb, step)
    world.scheduler.pause()
    if lb.disk_full_until_ms > world.now_ms:
        raise Failed("no space left on device")
    lb.has_snapshot = True
    if step.adopt:
        lb.original = lb.text
    # People take no lock. Whoever saves before the rename is seen by a second compare right before
    # it, and whoever saves into the file during it by a third one, of what was replaced.
    _refuse_another(lb, step)
    _put(world, lb, text, token)
    _reload(world, by, lb, token)
    if lb.current.generation != step.generation:
        raise Failed("the reload was not proved")


def put_original_back(world: World, by: Operator, lb: Balancer, step: Unadopt) -> None:
    """The original, byte for byte.

    Raises:
        Refused, Failed: as for `publish`.
    """
    token = _enter(world, by, lb, step)
    _refuse_late(world, lb)
    world.audit.goes_ahead(lb, by)
    _refuse_another(lb, step)
    if lb.original is None:
        raise Refused("no original is kept")
    world.scheduler.pause()
    _refuse_another(lb, step)
    _put(world, lb, lb.original, token)
    _reload(world, by, lb, token)
    if lb.current.text != lb.original:
        raise Failed("the reload was not proved")


def _refuse_another(lb: Balancer, step: Apply | Unadopt) -> None:
    if sha(lb.text) != step.replaces:
        raise Refused("the file is another one")


def _refuse_late(world: World, lb: Balancer) -> None:
    if not lb.current_record:
        return
    if lb.intent_at_ms is None or world.now_ms - lb.intent_at_ms > LATE_MS:
        raise Refused("too late")


def _enter(world: World, by: Operator, machine: Balancer | Node, step: Step) -> FenceToken:
    token = by.token
    assert token is not None
    world.enter(machine, token.epoch, token.holder)
    world.audit.entered(machine, token, step)
    world.scheduler.pause()
    return token


def _put(world: World, lb: Balancer, text: str, token: FenceToken) -> None:
    world.audit.effect(lb, token)
    world.audit.replacing(lb, text)
    lb.write(text, US)
    lb.ours_last = text
    world.scheduler.sleep(world.rng.randrange(20))  # nginx tests it


def _reload(world: World, by: Operator, lb: Balancer, token: FenceToken) -> None:
    world.audit.effect(lb, token)
    world.audit.reloading(lb, by)
    before, serving = world.sending(lb), world.audit.serving(lb, by)
    if lb.reload(world.now_ms):
        world.audit.loaded(lb, by, before, serving)
    world.scheduler.sleep(world.rng.randrange(20))  # the new workers come up


def stage(world: World, by: Operator, node: Node, step: Stage, artifact: str) -> None:
    """The artifact lies ready; what runs is secured.

    Raises:
        Refused: the fence or the lock.
        Failed: the disk is full.
    """
    world.scheduler.sleep(world.rng.randrange(50))  # it is sent before the lock is taken
    token = _enter(world, by, node, step)
    if node.disk_full_until_ms > world.now_ms:
        raise Failed("no space left on device")
    world.audit.effect(node, token)
    node.secure()
    world.scheduler.pause()
    node.staged.add(artifact)


def activate(world: World, by: Operator, node: Node, step: Activate, artifact: str) -> None:
    """Stop, swap, start; refused where the guard sees that somebody may be connected.

    Raises:
        Refused: the fence, the lock, the guard, or the artifact is not there.
    """
    token = _enter(world, by, node, step)
    if node.artifact == artifact and node.serves and node.is_restarted_since_swap:
        return
    if artifact not in {node.artifact, *node.staged}:
        raise Refused("the artifact is not on the machine")
    if world.before_stop:
        hand, world.before_stop = world.before_stop, None
        hand(node.name)
    _refuse_if_connected(world, node)
    node.secure()
    world.audit.effect(node, token)
    world.audit.stopping(node, step.goal)
    node.serves = None
    world.scheduler.sleep(world.rng.randrange(200))
    _swap(world, node, artifact, token)
    world.scheduler.pause()
    world.audit.effect(node, token)
    node.is_restarted_since_swap = True
    node.start(world.now_ms)


def _refuse_if_connected(world: World, node: Node) -> None:
    if not world.has_guard:
        return
    if any(lb.may_choose(node.address, world.now_ms) for lb in world.balancers.values()):
        raise Refused("somebody is connected")


def _swap(world: World, node: Node, artifact: str, token: FenceToken) -> None:
    world.audit.effect(node, token)
    world.audit.swapping(node, artifact)
    node.artifact = artifact
    node.is_restarted_since_swap = False


def warm(world: World, node: Node) -> None:
    """Real requests until they are quick.

    Raises:
        Failed: they never are.
    """
    world.scheduler.sleep(world.rng.randrange(50))
    if not node.is_healthy(world.now_ms) or node.serves in node.cold_on:
        raise Failed("slow to the last")
    node.is_warm = True
