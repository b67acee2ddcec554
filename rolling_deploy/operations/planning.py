"""What `plan` shows: the same preflight and the same `decide` as a run, and nothing touched."""

from __future__ import annotations

from collections.abc import Sequence

from rolling_deploy.errors import PreflightRefused
from rolling_deploy.operations.balancer_checks import Acceptance
from rolling_deploy.operations.desk import Desk
from rolling_deploy.operations.in_hand import InHand, find
from rolling_deploy.operations.opening import (
    check_going_back,
    check_provable,
    check_renderings,
    opened_from,
)
from rolling_deploy.operations.site import Site
from rolling_deploy.operations.survey import Survey, file_differences, survey
from rolling_deploy.report.plan import BackendRow, PlanView
from rolling_deploy.rollout.facts import (
    Claimed,
    DeclaredOff,
    Ending,
    Fact,
    Opened,
    Purpose,
    Released,
)
from rolling_deploy.rollout.fold import fold
from rolling_deploy.rollout.forecast import Forecast, forecast
from rolling_deploy.rollout.journal import Entry
from rolling_deploy.rollout.move import Act, Finish, Halt
from rolling_deploy.rollout.observed import BackendSeen, Check, Unreachable, Verdict
from rolling_deploy.rollout.record import Record
from rolling_deploy.rollout.step import Apply
from rolling_deploy.upstreams.render import Renderings, differences, freeze


def plan(desk: Desk, release: str, acceptance: Acceptance) -> PlanView:
    """Answers what a run would do, against the real machines, read-only.

    Raises:
        MachineUnreachable: a machine that the plan depends on.
        RollingDeployError: as for a run.
    """
    site = desk.connect()
    try:
        site.require_all()
        hand = find(site, desk.records, desk.footing.host())
        found = survey(site, release, acceptance)
        try:
            host = desk.footing.host()
            opened = opened_from(site, found, purpose=Purpose.DEPLOY, release=release, host=host)
        except PreflightRefused:
            if not found.refused():
                raise
            return _without_steps(desk, site, release, found)
        return _plan(desk, site, hand, found, opened, acceptance)
    finally:
        site.close()


def _without_steps(desk: Desk, site: Site, release: str, found: Survey) -> PlanView:
    rows = tuple(_row(site, found, name, None, release) for name in site.inventory.backends)
    inventory = desk.inventory
    return PlanView(inventory.application, release, inventory.path, found.checks, rows)


def _plan(  # everything a plan is made of
    desk: Desk, site: Site, hand: InHand, found: Survey, opened: Opened, acceptance: Acceptance
) -> PlanView:
    inventory = desk.inventory
    renderings = Renderings(freeze(inventory, found.layouts()))
    checks = (
        *found.checks,
        *check_renderings(site, found, opened),
        *check_going_back(site, opened),
        *check_provable(opened, is_accepted=acceptance.unproved_sessions),
        *_in_the_way(hand, opened),
    )
    steps = _forecast(desk, site, hand, opened, found)
    checks = (*checks, *_ends_well(steps))
    expected = _expected(hand.chain.entries if hand.chain else (), len(opened.order), opened)
    return PlanView(
        inventory.application,
        opened.release,
        inventory.path,
        checks,
        tuple(_row(site, found, name, opened, opened.release) for name in inventory.backends),
        steps.moves if opened.order else (),
        tuple(_diffs(site, found, renderings, steps)),
        steps.reloads if opened.order else {},
        expected[0],
        expected[1],
        found.lossy,
        tuple(_gaps(site)),
        tuple(_notes(site, acceptance)),
    )


def _forecast(desk: Desk, site: Site, hand: InHand, opened: Opened, found: Survey) -> Forecast:
    """The engine's own moves, from a record that is opened in memory only; or from where an
    unfinished rollout of the same release stands, which is what a run would go on with.
    """
    facts: list[Fact] = [opened]
    if desk.off:
        facts.append(DeclaredOff(desk.off, opened.by))
    record = fold(Entry(n, 0, 1, "plan", fact) for n, fact in enumerate(facts, start=1))
    if hand.record is not None and hand.is_open and _is_same(hand.record, opened):
        record = hand.record
    silent = set() if site.inventory.canary.is_configured else {"Continuity"}
    if not any(b.warm_up.paths for b in site.inventory.backends.values()):
        silent.add("WarmUp")
    return forecast(record, found.seen(), not_checked=frozenset(silent))


def _ends_well(steps: Forecast) -> list[Check]:
    """A rollout that could not end well even if every step had its effect must not be begun."""
    last = steps.moves[-1]
    match last:
        case Halt():
            return [Check("rollout", "ends", Verdict.REFUSED, last.halted.reason)]
        case Finish() if last.closed.ending is not Ending.DONE:
            return [Check("rollout", "ends", Verdict.REFUSED, last.closed.reason)]
        case _:
            return []


def _is_same(record: Record, opened: Opened) -> bool:
    same = record.opened.release == opened.release
    return same and record.opened.inventory == opened.inventory


def _in_the_way(hand: InHand, opened: Opened) -> list[Check]:
    record = hand.record
    if hand.holder is not None:
        who = f"{hand.holder.who} on {hand.holder.machine} holds {hand.holder.rollout}"
        return [Check("rollout", "lock", Verdict.REFUSED, who)]
    if record is None or record.closed is not None:
        return []
    if _is_same(record, opened):
        detail = f"{record.opened.rollout} is unfinished; a run goes on with it"
        return [Check("rollout", "unfinished", Verdict.WARNING, detail)]
    detail = f"{record.opened.rollout} to {record.opened.release} is unfinished"
    return [Check("rollout", "unfinished", Verdict.REFUSED, detail)]


def _row(site: Site, found: Survey, name: str, opened: Opened | None, release: str) -> BackendRow:
    backend = site.inventory.backends[name]
    seen = found.backends.get(name)
    return BackendRow(name, backend.host, backend.zone, _now(seen), _becomes(name, opened, release))


def _now(seen: BackendSeen | Unreachable | None) -> str:
    if not isinstance(seen, BackendSeen):
        return "not seen"
    health = seen.health
    if health is None:
        return "not asked"
    version = f"serves {health.version}" if health.version else "version not known"
    return f"{version}, {'healthy' if health.is_good else 'NOT healthy'}"


def _becomes(name: str, opened: Opened | None, release: str) -> str:
    if opened is None:
        return "refused, see the checks"
    if name in opened.parked:
        return "parked by a person: not touched"
    if name in opened.already:
        return f"runs {release} already"
    return f"{release}, and into rotation again" if name in opened.left_out else release


def _diffs(
    site: Site, found: Survey, renderings: Renderings, steps: Forecast
) -> list[tuple[str, tuple[str, ...]]]:
    """Every rendered difference: what the first publication changes anyway, then wave by wave."""
    diffs = file_differences(site, found, renderings)
    balancers = list(found.layouts())
    if not balancers:
        return diffs
    shown: set[frozenset[str]] = set()
    for move in steps.moves:
        for step in move.steps if isinstance(move, Act) else ():
            if not isinstance(step, Apply) or not step.out or step.out in shown:
                continue
            shown.add(step.out)
            diffs += _wave_diffs(site, renderings, balancers, step.out)
    return diffs


def _wave_diffs(
    site: Site, renderings: Renderings, balancers: Sequence[str], out: frozenset[str]
) -> list[tuple[str, tuple[str, ...]]]:
    """The difference on every load balancer; the same one is shown once, with all their names."""
    same: dict[tuple[str, ...], list[str]] = {}
    for name in balancers:
        nothing = renderings.text(name, frozenset(), "PLAN", 0, "PLAN")
        taken = renderings.text(name, out, "PLAN", 0, "PLAN")
        file = site.inventory.load_balancers[name].file
        same.setdefault(tuple(differences(nothing, taken, file)), []).append(name)
    names = ", ".join(sorted(out))
    return [(f"{', '.join(on)}: with {names} out", lines) for lines, on in same.items()]


def _gaps(site: Site) -> list[str]:
    backends = site.inventory.backends.values()
    gaps = []
    if not site.inventory.canary.is_configured:
        gaps.append("session continuity (no session canary is configured)")
    if not any(b.warm_up.paths for b in backends):
        gaps.append("warm-up (no paths are configured)")
    if any(not b.health.version.is_configured for b in backends):
        gaps.append("the version served, where no version source is configured (weaker proof)")
    if not site.inventory.session_store.url:
        gaps.append("the session store (none is configured)")
    losses = site.inventory.losses
    if not losses.prober.path:
        gaps.append("requests of users while it lasts, by requests of our own (no prober)")
    if not losses.access_logs.is_read:
        gaps.append("requests of users while it lasts, by the access logs (none configured)")
    gaps.append("sessions of users while it lasts (they are not followed)")
    return gaps


def _notes(site: Site, acceptance: Acceptance) -> list[str]:
    notes = []
    if site.inventory.session_store.url:
        prefix = site.inventory.session_store.key_prefix
        notes.append(
            f"an expiring canary key `{prefix}rolling-deploy:canary:…` was written to the session "
            "store (`--no-canary` leaves it out)"
            if acceptance.canary
            else "no canary key was written to the session store"
        )
    canary = site.inventory.canary
    if canary.is_configured and acceptance.canary:
        notes.append(
            f"a canary session was made with {canary.create.method} {canary.create.path} and read "
            "on two backends (`--no-canary` leaves it out)"
        )
    prober = site.inventory.losses.prober
    if prober.path:
        notes.append(f"one request for {prober.path} was sent through every load balancer")
    for name, machine in sorted(site.connections.items()):
        forwarding = getattr(machine, "forwarding", "")
        if forwarding and "relay" in forwarding:
            notes.append(f"{name}: sshd refuses forwarding; health is asked by a command there")
    return notes


def _expected(entries: Sequence[Entry], backends: int, opened: Opened) -> tuple[int | None, str]:
    """The time to expect: from how long the waves of the last rollout took, if there was one."""
    waves = -(-backends // opened.policy.wave_size)
    began: dict[int, int] = {}
    took: list[int] = []
    for entry in entries:
        match entry.fact:
            case Claimed():
                began[entry.fact.claim] = entry.at_ms
            case Released() if entry.fact.claim in began:
                took.append(entry.at_ms - began[entry.fact.claim])
            case _:
                pass
    if not took:
        return None, "not known before the first rollout of this application"
    took.sort()
    median = took[len(took) // 2]
    return (
        median * waves,
        f"{waves} waves as long as the last rollout's ({median / 1000:.1f} s each)",
    )
