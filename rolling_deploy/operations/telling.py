"""What `status` tells: every machine as it is now, and the rollout under way, from any machine."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from rolling_deploy.errors import RecordWrong
from rolling_deploy.operations.in_hand import InHand, find, silence_text
from rolling_deploy.operations.machines import FleetMachines
from rolling_deploy.operations.opening import machine
from rolling_deploy.operations.site import Site, connect
from rolling_deploy.parallel import at_once
from rolling_deploy.report.losses import losses_lines
from rolling_deploy.report.status import BackendStatus, BalancerRow, RolloutRow, StatusView
from rolling_deploy.report.wording import backend_state
from rolling_deploy.rollout.observed import (
    Check,
    Health,
    LoadBalancerSeen,
    Unreachable,
    Verdict,
)
from rolling_deploy.rollout.record import Record
from rolling_deploy.settings import Inventory
from rolling_deploy.state.record_file import Records

STATUS_HEALTH_MS = 3_000
"""For one good answer of each backend."""


def status(inventory: Inventory, state_dir: Path) -> StatusView:
    """Answers the state of the whole fleet. Reads only; what cannot be reached is said."""
    site = connect(inventory)
    try:
        return _status(site, Records(state_dir, inventory.application))
    finally:
        site.close()


def _status(site: Site, records: Records) -> StatusView:
    machines = FleetMachines(site, canary=False)
    inventory = site.inventory
    problems: list[str] = []
    hand = _hand(site, records, problems)
    balancers = at_once(
        {name: partial(machines.look_at_balancer, name) for name in inventory.load_balancers}
    )
    health = at_once(
        {
            name: partial(machines.health, name, None, 1, STATUS_HEALTH_MS)
            for name in inventory.backends
        }
    )
    store = machines.check_store()
    balancer_rows = tuple(_balancer(name, seen, problems) for name, seen in balancers.items())
    record = hand.record if hand and hand.is_open else None
    backend_rows = tuple(
        _backend(name, balancers, health[name], record, problems) for name in inventory.backends
    )
    versions = {h.version for h in health.values() if h.version}
    if len(versions) > 1 and record is None:
        problems.append(f"the backends serve different versions: {', '.join(sorted(versions))}")
    return StatusView(
        inventory.application,
        balancer_rows,
        backend_rows,
        store_text(store, problems),
        _rollout(hand, problems),
        tuple(problems),
    )


def _hand(site: Site, records: Records, problems: list[str]) -> InHand | None:
    try:
        return find(site, records, machine())
    except RecordWrong as error:
        problems.append(f"{error.what} ({error.where})")
        return None


def _balancer(name: str, seen: LoadBalancerSeen | Unreachable, problems: list[str]) -> BalancerRow:
    if isinstance(seen, Unreachable):
        problems.append(f"{name} cannot be reached: {seen.detail}")
        return BalancerRow(name, "not seen", "not seen", "", seen.detail)
    live = seen.live or "nothing of ours"
    disk, problem = "no file", ""
    if seen.file is not None:
        stamp = seen.file.stamp
        disk = stamp.generation if stamp else "a file that is not ours"
        if stamp is None:
            problem = "not adopted"
        elif not seen.file.is_intact:
            problem = "edited by hand"
        elif seen.live != stamp.generation or not seen.is_settled:
            problem = "what is on disk is not what is live"
    else:
        problem = "no managed file"
    if problem:
        problems.append(f"{name}: {problem}")
    earlier = seen.earlier_workers
    workers = "earlier workers not known" if earlier is None else f"{earlier} earlier workers"
    return BalancerRow(name, live, disk, workers, problem)


def _backend(
    name: str,
    balancers: dict[str, LoadBalancerSeen | Unreachable],
    health: Health,
    record: Record | None,
    problems: list[str],
) -> BackendStatus:
    down, ours = [], []
    for balancer, seen in balancers.items():
        if isinstance(seen, Unreachable) or seen.file is None:
            continue
        if name in seen.file.down:
            down.append(balancer)
            if seen.file.stamp and name in seen.file.stamp.out:
                ours.append(seen.file.stamp.rollout)
    rotation = "in"
    if down:
        by = f"by rollout {ours[0]}" if ours else "by a person"
        rotation = f"out on {', '.join(down)} {by}"
        problems.append(f"{name} is {rotation}")
    if not health.is_good:
        problems.append(f"{name} is not healthy: {health.detail}")
    version = health.version or "version not known"
    state = "healthy" if health.is_good else "NOT healthy"
    doing = backend_state(record, name) if record else ""
    return BackendStatus(name, rotation, version, state, doing)


def store_text(checks: tuple[Check, ...], problems: list[str]) -> str:
    """Answers the session store's state in one line, and adds what is wrong to the problems."""
    refused = [check for check in checks if check.verdict is Verdict.REFUSED]
    if refused:
        text = "; ".join(f"{check.name}: {check.detail}" for check in refused)
        problems.append(f"session store: {text}")
        return text
    if all(check.verdict is Verdict.NOT_CHECKED for check in checks):
        return "not checked: " + "; ".join(check.detail for check in checks)
    warnings = [f"{c.name}: {c.detail}" for c in checks if c.verdict is Verdict.WARNING]
    unchecked = "" if any(c.name == "canary read" for c in checks) else ", writing not checked"
    told = f" (warning: {'; '.join(warnings)})" if warnings else ""
    return f"reachable{unchecked}{told}"


def _rollout(hand: InHand | None, problems: list[str]) -> RolloutRow | None:
    if hand is None or hand.record is None or not hand.is_open:
        return None
    record = hand.record
    opened = record.opened
    if record.halted is not None:
        state = f"halted ({record.halted.cause}): {record.halted.reason}"
    elif record.claim is not None:
        state = f"in wave {record.claim.number}: {', '.join(record.claim.backends)}"
    else:
        state = "between waves"
    next_step = "" if hand.holder else "rolling-deploy resume"
    holder = ""
    if hand.holder:
        holder = hand.holder.describe()
    elif hand.dead_holder:
        dead = hand.dead_holder
        holder = f"{dead.describe()}; {silence_text(hand.copies)}"
    problems.append(
        f"rollout {opened.rollout} is under way"
        if hand.holder
        else f"rollout {opened.rollout} is unfinished"
    )
    return RolloutRow(
        opened.rollout,
        opened.release or opened.purpose,
        state,
        holder,
        hand.step,
        next_step,
        tuple(losses_lines(record)) if record.losses is not None else (),
    )
