"""What people tell an operator's process to do, through the production operations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

from rolling_deploy.errors import PreflightRefused, RolloutHeld, UsageWrong
from rolling_deploy.operations import waiting
from rolling_deploy.operations.balancer_checks import BalancerSurvey
from rolling_deploy.operations.life import Run, begin, go_on, halted, record_of
from rolling_deploy.operations.opening import (
    digest_of_file,
    frozen_with,
    opened_from,
    with_originals,
)
from rolling_deploy.operations.rollouts import in_hand, refuse_held, refuse_other_places
from rolling_deploy.operations.site import Site
from rolling_deploy.operations.survey import Survey
from rolling_deploy.remote.nginx import Look
from rolling_deploy.remote.record_copies import let_go
from rolling_deploy.rollout.facts import (
    Decided,
    Direction,
    Fact,
    Met,
    Opened,
    Purpose,
    Redirected,
)
from rolling_deploy.rollout.observed import Interest, Unreachable
from rolling_deploy.rollout.record import Record
from rolling_deploy.upstreams.merge import merge
from rolling_deploy.upstreams.reading import read_layout
from tests.simulation.fleet_commands import sha
from tests.simulation.operator import Operator

Order = Callable[[Operator], Run | None]

PATIENCE_MS = 90_000
"""How long people wait for somebody who holds the rollout: longer than a lock lives."""


def _survey(by: Operator, site: Site, purpose: Purpose) -> Survey:
    """What a preflight would learn; refuses what a preflight refuses."""
    inventory = by.desk.inventory
    balancers = {}
    for name in site.nginx:
        balancers[name] = _survey_balancer(by, site, name, purpose)
    machines = by.desk.footing.machines(site)
    names = frozenset(inventory.backends)
    backends = {}
    if purpose is Purpose.DEPLOY:
        disks = machines.look(Interest(frozenset(), names)).backends
        answers = machines.look(Interest(frozenset(), frozenset(), names)).backends
        for name in names:
            disk, answer = disks[name], answers[name]
            if isinstance(disk, Unreachable) or isinstance(answer, Unreachable):
                raise PreflightRefused(f"{name} was not seen")
            node = by.world.nodes[name]
            artifact = disk.artifact if node.is_secured else None
            backends[name] = replace(disk, health=answer.health, artifact=artifact)
    return Survey(balancers, backends, (), (), ())


def _survey_balancer(by: Operator, site: Site, name: str, purpose: Purpose) -> BalancerSurvey:
    inventory, look = by.desk.inventory, site.nginx[name].look()
    if not isinstance(look, Look) or look.text is None or look.seen.file is None:
        raise PreflightRefused(f"{name} was not seen")
    file = look.seen.file
    if purpose is not Purpose.ADOPT and (file.stamp is None or not file.is_intact):
        raise PreflightRefused(f"the file on {name} is not as we left it")
    if look.seen.live != (file.stamp.generation if file.stamp else None):
        raise PreflightRefused(f"{name} does not serve what lies there")
    merged = merge(read_layout(look.text.decode(), name), inventory.upstreams, inventory.backends)
    is_ours = file.stamp is not None
    # What a preflight knows of nginx itself is not simulated.
    facts = cast("Any", None)
    return BalancerSurvey(look, facts, merged, is_ours, is_ours)


def _met(by: Operator, site: Site, record: Record) -> tuple[Met, ...]:
    """The load balancers that were off at the opening and are reached for the first time."""
    met = []
    frozen = record.opened.frozen
    for name in site.nginx:
        if name in record.opened.initial:
            continue
        found = _survey_balancer(by, site, name, record.opened.purpose)
        frozen = frozen_with(frozen, site, name, found)
        met.append(Met(name, digest_of_file(found), frozen))
    return tuple(met)


def patiently(order: Order) -> Order:
    """The same with `--wait`."""

    def wait(by: Operator) -> Run | None:
        by.desk.wait_ms = PATIENCE_MS
        return waiting.patiently(by.desk, lambda: order(by))

    return wait


def deploy(release: str) -> Order:
    """`run`: begin, or go on with the same one."""
    return lambda by: _run(by, Purpose.DEPLOY, release)


def adopt(by: Operator) -> Run | None:
    """`adopt`."""
    return _run(by, Purpose.ADOPT, "")


def unadopt(by: Operator) -> Run | None:
    """`unadopt`."""
    return _run(by, Purpose.UNADOPT, "")


def _run(by: Operator, purpose: Purpose, release: str) -> Run | None:
    desk, site = by.desk, by.connect()
    hand = in_hand(desk, site)
    if hand.is_open:
        record = record_of(hand)
        refuse_held(hand)
        is_same = (record.opened.purpose, record.opened.release) == (purpose, release)
        if not is_same or record.direction is not Direction.FORWARD:
            raise RolloutHeld("another rollout is unfinished")
        if record.halted is not None:
            raise halted(record, record.halted)
        return go_on(desk, site, hand, (), _met(by, site, record))
    refuse_held(hand)
    site.require_all()
    first = opened(by, site, purpose, release)
    if purpose is Purpose.DEPLOY and not first.order:
        return None
    return begin(desk, site, hand, first)


def opened(by: Operator, site: Site, purpose: Purpose, release: str) -> Opened:
    """Answers the first fact of a rollout of the fleet as it is found."""
    world = by.world
    found = _survey(by, site, purpose)
    first = opened_from(site, found, purpose=purpose, release=release)
    if purpose is Purpose.UNADOPT:
        originals = {name: sha(lb.original or "") for name, lb in world.balancers.items()}
        first = with_originals(first, originals)
    world.numbers += 1
    return replace(first, rollout=f"r-{world.numbers:06}")


def resume(*skip: str) -> Order:
    """`resume`, which is also a person's answer to a halt."""

    def order(by: Operator) -> Run | None:
        desk, site = by.desk, by.connect()
        hand = in_hand(desk, site)
        if not hand.is_open:
            raise UsageWrong("no rollout is unfinished")
        refuse_held(hand)
        record = record_of(hand)
        refuse_other_places(desk.inventory, record.opened)
        known = tuple(name for name in skip if name in record.opened.order)
        facts: list[Fact] = []
        if record.halted is not None or known:
            facts.append(Decided("someone", known))
        return go_on(desk, site, hand, facts, _met(by, site, record))

    return order


def abort(direction: Direction) -> Order:
    """`abort`, with or without leaving what is changed."""

    def order(by: Operator) -> Run | None:
        desk, site = by.desk, by.connect()
        hand = in_hand(desk, site)
        if not hand.is_open:
            raise UsageWrong("no rollout is unfinished")
        refuse_held(hand)
        met = _met(by, site, record_of(hand))
        return go_on(desk, site, hand, (Redirected(direction, "someone"),), met)

    return order


def unlock(by: Operator) -> None:
    """`unlock`, though the holder may be alive."""
    for name, place in by.connect().places.items():
        let_go({name: place}, by.world.balancers[name].held_by)
