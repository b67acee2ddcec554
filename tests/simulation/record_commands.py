"""What the record's remote commands do on a simulated load balancer, each as its script does it.

The names and arguments are those of `remote/scripts/record_*.sh`.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Sequence

from tests.simulation import requests
from tests.simulation.machines import Balancer, Machine
from tests.simulation.world import Failed, Refused, World

HALF = 0.5


class Spoken(Exception):
    """A script's refusal with the lines it says before its end."""

    def __init__(self, detail: str, lines: Sequence[str]) -> None:
        super().__init__(detail)
        self.lines = lines


Script = Callable[[World, Machine, Sequence[str], bytes], list[str]]


def said(key: str, value: bytes) -> str:
    """Answers a line whose value is base64."""
    return f"{key}:={base64.b64encode(value).decode()}"


def read(world: World, machine: Machine, words: Sequence[str], stdin: bytes) -> list[str]:
    """`record_read DIR [ROLLOUT]`."""
    del stdin
    lines = [f"fence={machine.fence.epoch} {machine.fence.holder}"]
    if not isinstance(machine, Balancer):
        return [*lines, "current="]
    if machine.held_by:
        lines += [said("holder", machine.holder), f"held_by={machine.held_by}"]
        lines.append(f"step={machine.step}")
        if machine.beats_at_ms is not None:
            lines.append(f"heartbeat_age={_age_s(world, machine)}")
    current = words[1] if len(words) > 1 else machine.current_record
    lines.append(f"current={current}")
    if current in machine.records:
        lines.append(said("record", machine.records[current]))
    return lines


def _clock_ms(world: World, machine: Balancer) -> int:
    return world.now_ms + machine.clock_ms


def _age_s(world: World, machine: Balancer) -> int:
    return (_clock_ms(world, machine) - (machine.beats_at_ms or 0)) // 1000


def _sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def append(world: World, machine: Machine, words: Sequence[str], stdin: bytes) -> list[str]:
    """`record_append DIR EPOCH HOLDER ROLLOUT SIZE TAIL_SHA NEW_SHA STEP LOOSE_SHA < lines`."""
    assert isinstance(machine, Balancer)
    _, epoch, holder, rollout, size_text, tail_sha, new_sha, step, loose = words
    assert _sha(stdin) == new_sha
    world.enter(machine, int(epoch), holder)
    size = int(size_text)
    before = machine.records.get(rollout, b"")
    if len(before) < size:
        raise Spoken(f"behind: this copy holds {len(before)} bytes", [f"size={len(before)}"])
    if size and _sha(before[:size].splitlines(keepends=True)[-1]) != tail_sha:
        raise Refused("differs: this copy of the record goes on otherwise")
    extra = before[size:]
    if extra and _sha(extra) != loose and not stdin.startswith(extra):
        raise Refused("differs: this copy of the record goes on otherwise")
    if machine.disk_full_until_ms > world.now_ms:
        raise Failed("cannot write (disk full?)")
    # Killed in the middle, a part of the lines is there.
    half = before[:size] + stdin[: int(len(stdin) * HALF)]
    machine.records[rollout] = half
    world.scheduler.pause()
    if machine.records.get(rollout) == half:
        machine.records[rollout] = before[:size] + stdin
    # Else it was exchanged or removed meanwhile, and the rest went into a file without a name.
    world.audit.copied(machine, rollout, before, before[:size] + stdin)
    world.scheduler.pause()
    machine.current_record, machine.step = rollout, step
    machine.intent_at_ms = world.now_ms
    world.audit.named(rollout)
    machine.beats_at_ms = _clock_ms(world, machine)
    return [f"size={len(before[:size]) + len(stdin)}"]


def _refuse_if_held(world: World, machine: Balancer, holder: str, dead: str) -> None:
    if not world.has_lock or not machine.held_by or machine.beats_at_ms is None:
        return
    age_s = _age_s(world, machine)
    if machine.held_by in (holder, dead) or age_s >= machine.expiry_s:
        return
    if age_s <= -machine.expiry_s:
        # The clock was set back since: the expiry counts from now on.
        machine.beats_at_ms = _clock_ms(world, machine)
    raise Spoken("held", [f"held={age_s}", said("holder", machine.holder), f"step={machine.step}"])


def hold(world: World, machine: Machine, words: Sequence[str], stdin: bytes) -> list[str]:
    """`record_hold DIR EPOCH HOLDER EXPIRY_S ROLLOUT DEAD < holder`."""
    assert isinstance(machine, Balancer)
    _, epoch, holder, expiry_s, _, dead = words
    _refuse_if_held(world, machine, holder, dead)
    world.enter(machine, int(epoch), holder)
    world.scheduler.pause()
    _refuse_if_held(world, machine, holder, dead)
    machine.holder, machine.held_by, machine.expiry_s = stdin, holder, int(expiry_s)
    machine.beats_at_ms = _clock_ms(world, machine)
    return []


def beat(world: World, machine: Machine, words: Sequence[str], stdin: bytes) -> list[str]:
    """`record_beat DIR HOLDER`."""
    assert isinstance(machine, Balancer)
    del stdin
    if machine.held_by != words[1]:
        raise Refused("held by somebody else")
    machine.beats_at_ms = _clock_ms(world, machine)
    return []


def let_go(world: World, machine: Machine, words: Sequence[str], stdin: bytes) -> list[str]:
    """`record_let_go DIR HOLDER`."""
    assert isinstance(machine, Balancer)
    del stdin, world
    if machine.held_by != words[1]:
        raise Refused("held by somebody else")
    machine.holder, machine.held_by, machine.step = b"", "", ""
    machine.beats_at_ms = machine.intent_at_ms = None
    return []


def watch(world: World, machine: Machine, words: Sequence[str], stdin: bytes) -> list[str]:
    """`record_watch DIR HOLDER STEP BEAT LIMIT_S`."""
    assert isinstance(machine, Balancer)
    del stdin
    _, holder, step, beat, limit_s = words
    for _ in range(int(limit_s) + 1):
        if not machine.held_by or machine.beats_at_ms is None:
            return []
        is_dead = _age_s(world, machine) >= machine.expiry_s
        is_as_known = (machine.held_by, machine.step) == (holder, step)
        has_beaten = bool(beat) and beat != str(machine.beats_at_ms // 1000)
        if is_dead or not is_as_known or has_beaten:
            break
        world.scheduler.sleep(1000)
    if not machine.held_by or machine.beats_at_ms is None:
        return []
    return [
        said("holder", machine.holder),
        f"held_by={machine.held_by}",
        f"step={machine.step}",
        f"beat={machine.beats_at_ms // 1000}",
        f"heartbeat_age={_age_s(world, machine)}",
    ]


def access_log(world: World, machine: Machine, words: Sequence[str], stdin: bytes) -> list[str]:
    """`access_log BYTES PATH POSITIONS`."""
    assert isinstance(machine, Balancer)
    del stdin
    machine.log.ask(world.now_ms, next(iter(world.nodes.values())).address)
    lines = ["packed=none"]
    for key, value in requests.read_on(machine.log, words):
        lines.append(said(key, value) if isinstance(value, bytes) else f"{key}={value}")
    return lines


SCRIPTS: dict[str, Script] = {
    "record_read": read,
    "record_append": append,
    "record_hold": hold,
    "record_beat": beat,
    "record_let_go": let_go,
    "record_watch": watch,
    "access_log": access_log,
}
