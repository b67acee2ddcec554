"""What can go wrong, and what people do with their own hands: one function a kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from rolling_deploy.rollout.facts import Waiting
from rolling_deploy.rollout.journal import encode, read_chain
from rolling_deploy.rollout.observed import Check, Verdict
from tests.simulation import nginx_text
from tests.simulation.machines import PERSON, Balancer, Host, Workers
from tests.simulation.operator import Operator
from tests.simulation.world import World


@dataclass(frozen=True, slots=True)
class Fault:
    """One misfortune, or one thing that a person does.

    Attributes:
        at_turn: right before this turn of the scheduler.
        target: a machine, a host, or a backend; which, says the kind.
        ms: how long, or how far.
    """

    at_turn: int
    kind: str
    target: str = ""
    ms: int = 0


def _living(world: World) -> list[Operator]:
    return [op for op in world.operators if not op.is_over and not op.task.is_dying]


def _a_living(world: World, fault: Fault) -> Operator | None:
    """The operator that a fault hits; which, is the fault's own number."""
    living = _living(world)
    return living[fault.ms % len(living)] if living else None


def kill(world: World, fault: Fault) -> None:
    """`kill -9` of an operator."""
    victim = _a_living(world, fault)
    if victim:
        world.tell(victim.name, "is killed")
        victim.kill()


def blackout(world: World, fault: Fault) -> None:
    """An operator dies, and with it every command that runs anywhere."""
    kill(world, fault)
    for name in (*world.balancers, *world.nodes):
        kill_commands(world, Fault(0, "kill_commands", name))


def signal(world: World, fault: Fault) -> None:
    """SIGTERM to an operator."""
    victim = _a_living(world, fault)
    if victim:
        victim.desk.stop.request(15)


def freeze(world: World, fault: Fault) -> None:
    """SIGSTOP, and SIGCONT after a while, perhaps when somebody else has taken over."""
    victim = _a_living(world, fault)
    if victim:
        world.tell(victim.name, f"is frozen for {fault.ms} ms")
        victim.freeze(fault.ms)


def lose_disk(world: World, fault: Fault) -> None:
    """An operator's machine is gone with all that was on it: a CI runner."""
    victim = _a_living(world, fault)
    if victim:
        victim.kill()
        victim.host.records.clear()


def _host(world: World, fault: Fault) -> Host:
    names = sorted(world.hosts)
    return world.hosts[names[fault.at_turn % len(names)]]


def own_disk_full(world: World, fault: Fault) -> None:
    """An operator's disk takes nothing more for a while."""
    _host(world, fault).disk_full_until_ms = world.now_ms + fault.ms


def disk_full(world: World, fault: Fault) -> None:
    """A machine's disk takes nothing more for a while."""
    world.machine(fault.target).disk_full_until_ms = world.now_ms + fault.ms


def cut(world: World, fault: Fault) -> None:
    """No way from any operator to a machine for a while."""
    for host in world.hosts.values():
        host.cut[fault.target] = world.now_ms + fault.ms


def cut_one(world: World, fault: Fault) -> None:
    """No way from one operator's machine to a machine for a while."""
    _host(world, fault).cut[fault.target] = world.now_ms + fault.ms


def mute(world: World, fault: Fault) -> None:
    """Commands arrive at a machine for a while, their answers do not come back."""
    for host in world.hosts.values():
        host.mute[fault.target] = world.now_ms + fault.ms


def kill_commands(world: World, fault: Fault) -> None:
    """Every command that runs on a machine ends where it stands."""
    for task in tuple(world.machine(fault.target).commands):
        world.tell(fault.target, f"kills {task.name}")
        world.scheduler.kill(task)


def slow_commands(world: World, fault: Fault) -> None:
    """Every command that runs on a machine stands still for a while and then goes on."""
    for task in tuple(world.machine(fault.target).commands):
        world.scheduler.freeze(task, fault.ms)


def reload_fails(world: World, fault: Fault) -> None:
    """nginx takes the next reload for nothing."""
    lb = world.balancers[fault.target]
    lb.reloads_fail = 1 + fault.ms % 3


def backend_dies(world: World, fault: Fault) -> None:
    """A backend's process ends by itself, and somebody starts it again after a while."""
    node = world.nodes[fault.target]
    if node.serves is None:
        return
    node.hurt_at_ms = world.now_ms
    node.healthy_at_ms = world.now_ms + fault.ms
    world.tell(node.name, "dies by itself")


def reboot(world: World, fault: Fault) -> None:
    """A backend's machine starts anew: commands end, and what lies in place is served again."""
    node = world.nodes[fault.target]
    kill_commands(world, fault)
    world.tell(node.name, "is rebooted")
    node.hurt_at_ms = world.now_ms
    node.serves = None
    if node.artifact:
        node.is_restarted_since_swap = True
        node.start(world.now_ms + fault.ms)


def clock_jumps(world: World, fault: Fault) -> None:
    """An operator's clock is wrong from now on, by minutes, ahead or behind."""
    _host(world, fault).clock_ms += _jump_ms(fault)


def _jump_ms(fault: Fault) -> int:
    far_ms = 60_000 + 4 * fault.ms
    return far_ms if fault.at_turn % 2 else -far_ms


def their_clock_jumps(world: World, fault: Fault) -> None:
    """A load balancer's clock is wrong from now on, by minutes, ahead or behind."""
    world.balancers[fault.target].clock_ms += _jump_ms(fault)


def store_fails(world: World, fault: Fault) -> None:
    """The session store's checks refuse for a while."""
    world.store = (Check("session store", "write", Verdict.REFUSED, "READONLY"),)
    world.store_failed_ms = world.now_ms

    def heal() -> None:
        world.scheduler.sleep(fault.ms)
        world.store = ()

    world.scheduler.spawn("store", heal)


def copy_is_lost(world: World, fault: Fault) -> None:
    """Somebody empties the directory where a load balancer keeps the record."""
    lb = world.balancers[fault.target]
    lb.records.clear()
    lb.current_record = lb.held_by = ""
    lb.beats_at_ms = lb.intent_at_ms = None


def forge(world: World, fault: Fault) -> None:
    """Somebody puts another record, valid in itself, in place of a load balancer's copy."""
    lb = world.balancers[fault.target]
    content = lb.records.get(lb.current_record, b"")
    lines = content.splitlines(keepends=True)
    if len(lines) < 3 or not lines[-1].endswith(b"\n") or world.forged:  # opened
        return
    last = read_chain(content, lb.name).entries[-1]
    before = read_chain(b"".join(lines[:-1]), lb.name).last_hash
    line, _ = encode(replace(last, fact=Waiting("forged")), before)
    lb.records[lb.current_record] = b"".join([*lines[:-1], line])
    world.forged = (lb.name, world.now_ms, lb.current_record)


def nginx_restarts(world: World, fault: Fault) -> None:
    """A person restarts nginx: what lies there is served, every worker is new."""
    lb = world.balancers[fault.target]
    _touched(world, lb, "is restarted by a person")
    lb.restart()


def nginx_reloads(world: World, fault: Fault) -> None:
    """A person reloads nginx, for reasons of their own."""
    lb = world.balancers[fault.target]
    _touched(world, lb, "is reloaded by a person")
    lb.reload(world.now_ms)


def _touched(world: World, lb: Balancer, what: str) -> None:
    world.tell(lb.name, what)
    world.audit.hands[lb.name] = world.now_ms


def _edit(world: World, lb: Balancer, text: str) -> None:
    _touched(world, lb, "is edited by a person")
    lb.write(text, PERSON)


def edit(world: World, fault: Fault) -> None:
    """A person changes the file in an editor and does not reload."""
    lb = world.balancers[fault.target]
    _edit(world, lb, nginx_text.remarked(lb.text))


def park(world: World, fault: Fault) -> None:
    """A person marks a backend down everywhere and reloads."""
    address = world.nodes[fault.target].address
    for lb in world.balancers.values():
        _edit(world, lb, nginx_text.parked(lb.text, address))
        lb.reload(world.now_ms)


def put_in(world: World, fault: Fault) -> None:
    """A person takes the `down` off a backend everywhere and reloads."""
    address = world.nodes[fault.target].address
    for lb in world.balancers.values():
        _edit(world, lb, nginx_text.put_in(lb.text, address))
        lb.reload(world.now_ms)


def put_in_late(world: World, fault: Fault) -> None:
    """A person puts a backend back in the very moment before a command of ours stops it."""
    del fault

    def hand(name: str) -> None:
        put_in(world, Fault(0, "put_in", name))

    world.before_stop = hand


def older_file(world: World, fault: Fault) -> None:
    """Configuration management puts back a text that the file had before, and does not reload."""
    lb = world.balancers[fault.target]
    texts = list(lb.authors)
    _edit(world, lb, texts[fault.ms % len(texts)])


def goes_off(world: World, fault: Fault) -> None:
    """A load balancer's machine is switched off; the last one that is on never."""
    lb = world.balancers[fault.target]
    if lb.is_away or len(world.away) + 1 == len(world.balancers):
        return
    world.tell(lb.name, "is switched off")
    kill_commands(world, fault)
    lb.is_away = True
    lb.current, lb.retiring = Workers(None, {}, ""), []
    if fault.ms % 2:
        return

    def later() -> None:
        world.scheduler.sleep(fault.ms)
        come_back(world, lb)

    world.scheduler.spawn(f"{lb.name} off", later)


def come_back(world: World, lb: Balancer) -> None:
    """A machine that was off starts, and nginx with what lies there."""
    if lb.is_away:
        world.tell(lb.name, "is switched on")
        lb.is_away, lb.back_ms = False, world.now_ms
        lb.restart()
        world.audit.came_back(lb)


def requests_fail(world: World, fault: Fault) -> None:
    """A few users are answered 502, whoever's fault that is."""
    lb = world.balancers[fault.target]
    if not lb.is_away:
        address = sorted(node.address for node in world.nodes.values())[fault.ms % len(world.nodes)]
        count = 1 + fault.ms % 5
        world.tell(lb.name, f"answers 502, {count} times")
        lb.log.fail(world.now_ms, address, count)


def log_rotates(world: World, fault: Fault) -> None:
    """A load balancer's access log is renamed, and nginx begins a new one."""
    world.balancers[fault.target].log.rotate()


Kind = Callable[[World, Fault], None]

ON_OPERATORS: Mapping[str, Kind] = {
    one.__name__: one
    for one in (kill, blackout, signal, freeze, lose_disk, own_disk_full, clock_jumps)
}
ON_MACHINES: Mapping[str, Kind] = {
    one.__name__: one for one in (cut, cut_one, mute, kill_commands, slow_commands, disk_full)
}
ON_BALANCERS: Mapping[str, Kind] = {
    one.__name__: one for one in (reload_fails, their_clock_jumps, copy_is_lost, forge)
}
ON_BACKENDS: Mapping[str, Kind] = {one.__name__: one for one in (backend_dies, reboot)}
ON_STORE: Mapping[str, Kind] = {one.__name__: one for one in (store_fails,)}
HANDS_ON_BALANCERS: Mapping[str, Kind] = {
    one.__name__: one for one in (nginx_restarts, nginx_reloads, edit, older_file)
}
HANDS_ON_BACKENDS: Mapping[str, Kind] = {one.__name__: one for one in (park, put_in, put_in_late)}

DRAWN: Mapping[str, Kind] = {
    **ON_OPERATORS,
    **ON_MACHINES,
    **ON_BALANCERS,
    **ON_BACKENDS,
    **ON_STORE,
    **HANDS_ON_BALANCERS,
    **HANDS_ON_BACKENDS,
}
"""What a seed draws from first. A second operator is not among them: `simulate` starts one."""
ON_LOGS: Mapping[str, Kind] = {one.__name__: one for one in (requests_fail, log_rotates)}
KINDS: Mapping[str, Kind] = {**DRAWN, **ON_LOGS, "goes_off": goes_off}
"""Every kind; what came later is drawn by itself, so that older seeds mean what they meant."""


def heal(world: World) -> None:
    """The misfortune is over: what is cut is joined, what is full is emptied, clocks are right."""
    if world.forged:
        # As the message says: a person compares the copies and removes the wrong one.
        world.balancers[world.forged[0]].records.clear()
        world.forged = None
    for host in world.hosts.values():
        host.cut.clear()
        host.mute.clear()
        host.disk_full_until_ms = 0
        host.clock_ms = 0
    for machine in (*world.balancers.values(), *world.nodes.values()):
        machine.disk_full_until_ms = 0
        machine.clock_ms = 0
        for task in tuple(machine.commands):
            world.scheduler.thaw(task)
    for lb in world.balancers.values():
        come_back(world, lb)
        lb.reloads_fail = 0
        lb.drains_ms = [40]
        for workers in lb.retiring:
            workers.ends_at_ms = workers.ends_at_ms or world.now_ms + 40
    for node in world.nodes.values():
        node.healthy_at_ms = min(node.healthy_at_ms, world.now_ms + node.start_ms)
    world.store = ()


def put_right(world: World) -> None:
    """What people did to a file they undo as the advice says: what was written last is put back and
    loaded; where nothing was written yet, what the rollout found. Only where they were; everything
    else is the engine's to mend.
    """
    for lb in world.balancers.values():
        wanted = world.audit.text_before_hands(lb)
        # Between rollouts nobody but they brings in what already lies there as it should.
        is_unloaded = world.audit.is_closed and lb.current.text != lb.text
        if lb.name in world.audit.hands and (lb.text != wanted or is_unloaded):
            _touched(world, lb, "is put right by a person")
            lb.write(wanted, PERSON)
            lb.reload(world.now_ms)
