"""What each remote command really does to the fake machines, whole, by half, or later."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from rolling_deploy.ports import FenceToken
from rolling_deploy.rollout.facts import Opened
from rolling_deploy.rollout.observed import Fence, Stamp
from rolling_deploy.rollout.step import (
    Activate,
    Apply,
    Continuity,
    Goal,
    Keep,
    Outcome,
    Result,
    Stage,
    Step,
    Unadopt,
    WarmUp,
    machine_of,
)
from tests.fake_backend import FakeBackend, version_of
from tests.fake_faults import Fault
from tests.fake_load_balancer import US, FakeFile, FakeLoadBalancer, body_of

if TYPE_CHECKING:
    from tests.world import World

GOES_ON_MS = 2_000
"""How long a command that outlives its operator holds the machine's lock."""

LOST = Result(Outcome.UNKNOWN, "connection lost")
DONE = Result(Outcome.DONE)


def run_command(
    world: World, step: Step, opened: Opened, token: FenceToken, fault: Fault | None
) -> Result:
    """Answers what the operator is told, after having done what really happens."""
    name = machine_of(step)
    machine = world.backends.get(name) or world.balancers[name]
    if not machine.is_reachable or fault is Fault.LOST_REQUEST:
        return LOST
    if not isinstance(step, WarmUp | Keep | Continuity):
        if not raise_fence(machine, token):
            return Result(Outcome.REFUSED, "a higher epoch was seen", is_fenced=True)
        if world.now_ms < machine.busy_until_ms:
            return Result(Outcome.REFUSED, "an earlier command holds the lock")
    if fault is Fault.REFUSED:
        return Result(Outcome.REFUSED, "the guard said no")
    if fault is Fault.FAILED:
        if isinstance(step, Activate) and not _instead(world, step, opened):
            _stop(world, world.backends[name], step)
        return Result(Outcome.FAILED, "exit 1")
    if fault in (Fault.LATER, Fault.CRASH_LATER):
        return _goes_on(world, machine, step, opened)
    result = _do(world, step, opened, is_half=fault in (Fault.HALF, Fault.CRASH_HALF))
    return LOST if fault in (Fault.LOST_ANSWER, Fault.HALF) else result


def raise_fence(machine: FakeLoadBalancer | FakeBackend, token: FenceToken) -> bool:
    """Answers whether a machine takes this token; from then on it refuses lower ones."""
    highest = machine.fence
    if token.epoch < highest.epoch:
        return False
    if token.epoch == highest.epoch and token.holder != highest.holder:
        return False
    machine.fence = Fence(token.epoch, token.holder)
    return True


def _goes_on(
    world: World, machine: FakeBackend | FakeLoadBalancer, step: Step, opened: Opened
) -> Result:
    if isinstance(step, Activate):
        is_over = _instead(world, step, opened) or _stop(world, world.backends[step.backend], step)
        if is_over:
            return LOST
    machine.busy_until_ms = world.now_ms + GOES_ON_MS
    is_stopped = isinstance(step, Activate)
    world.later.append(
        (machine.busy_until_ms, lambda: _do(world, step, opened, is_stopped=is_stopped))
    )
    return LOST


def _do(
    world: World, step: Step, opened: Opened, *, is_half: bool = False, is_stopped: bool = False
) -> Result:
    match step:
        case Stage():
            if not is_half:
                fake = world.backends[step.backend]
                fake.secure()
                fake.staged.add(opened.artifacts[step.backend])
            return DONE
        case Apply():
            return _apply(world, step, opened, is_half=is_half)
        case Unadopt():
            return _unadopt(world, step, is_half=is_half)
        case Activate():
            return _activate(world, step, opened, is_half=is_half, is_stopped=is_stopped)
        case WarmUp():
            fake = world.backends[step.backend]
            is_warm = fake.is_healthy(world.now_ms) and fake.version not in fake.cold_on
            return DONE if is_warm else Result(Outcome.FAILED, "slow to the last")
        case Keep():
            return replace(DONE, kept="sealed")
        case Continuity():
            if not opened.policy.proves_sessions:
                return Result(Outcome.NOT_CHECKED)
            return _prove(world, step)


def _prove(world: World, step: Continuity) -> Result:
    """Sessions survive between two releases unless one of them reads no others'."""
    fake = world.backends[step.backend]
    if not fake.is_healthy(world.now_ms):
        return Result(Outcome.UNKNOWN, "does not answer")
    if fake.version in fake.forgets_on:
        return Result(Outcome.FAILED, "a session made on the others is not read")
    return DONE


def _apply(world: World, step: Apply, opened: Opened, *, is_half: bool) -> Result:
    lb = world.balancers[step.load_balancer]
    if lb.file.digest != step.replaces:
        return Result(Outcome.REFUSED, "the file is another one")
    down = step.out | opened.parked
    stamp = Stamp(
        opened.application,
        opened.rollout,
        step.claim,
        step.generation,
        step.out,
        body_of(down, lb.name),
    )
    if step.adopt:
        lb.original = lb.file
    _write(world, lb, FakeFile(down, stamp, US, lb.name), is_half=is_half)
    lb.has_snapshot = True
    return DONE


def _unadopt(world: World, step: Unadopt, *, is_half: bool) -> Result:
    lb = world.balancers[step.load_balancer]
    if lb.file.digest != step.replaces or lb.original is None:
        return Result(Outcome.REFUSED, "the file is another one")
    _write(world, lb, lb.original, is_half=is_half)
    return DONE


def _write(world: World, lb: FakeLoadBalancer, file: FakeFile, *, is_half: bool) -> None:
    """Publish, and reload unless the command died in between."""
    world.audit.wrote(lb, lb.file, file)
    lb.file = lb.known[file.digest] = file
    if is_half:
        return
    up, serving = lb.current.up, world.serving(lb)
    lb.reload(world.now_ms)
    world.audit.loaded(lb, up, serving)


def _stop(world: World, fake: FakeBackend, step: Activate) -> str:
    """Answers why the guard refuses, or stops the process."""
    if fake.is_connected:
        return "somebody is connected"
    if world.has_guard and any(
        fake.name in lb.sends_to(world.now_ms) for lb in world.balancers.values()
    ):
        return "somebody is connected"
    world.audit.stopping(fake.name, step.goal)
    fake.stop()
    return ""


def _artifact(step: Activate, opened: Opened) -> str | None:
    if step.goal is Goal.RELEASE:
        return opened.artifacts[step.backend]
    return opened.before[step.backend].artifact


def _instead(world: World, step: Activate, opened: Opened) -> Result | None:
    """Answers how the command ends before it would stop anything, or None when it goes on."""
    fake = world.backends[step.backend]
    artifact = _artifact(step, opened)
    if artifact is None:
        return Result(Outcome.REFUSED, "nothing to go back to")
    if fake.artifact == artifact and fake.version and fake.is_restarted_since_swap:
        return DONE
    if artifact not in {fake.artifact, *fake.staged}:
        return Result(Outcome.REFUSED, "the artifact is not on the machine")
    return None


def _activate(
    world: World, step: Activate, opened: Opened, *, is_half: bool, is_stopped: bool
) -> Result:
    fake = world.backends[step.backend]
    if not is_stopped:
        instead = _instead(world, step, opened)
        if instead:
            return instead
        refused = _stop(world, fake, step)
        if refused:
            return Result(Outcome.REFUSED, refused)
    artifact = _artifact(step, opened) or ""
    fake.secure()
    fake.swap(artifact)
    if not is_half:
        fake.start(version_of(artifact), world.now_ms)
    return DONE
