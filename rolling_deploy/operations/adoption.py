"""First contact with an upstream file as people have it, and giving it back.

Both are rollouts of the same engine that upgrade nothing: the same lock, record, fence and proof.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from rolling_deploy.errors import MachineUnreachable, PreflightRefused, UsageWrong
from rolling_deploy.operations.balancer_checks import Acceptance
from rolling_deploy.operations.desk import Desk
from rolling_deploy.operations.in_hand import InHand, find
from rolling_deploy.operations.life import Run, begin, go_on
from rolling_deploy.operations.machines import now_ms
from rolling_deploy.operations.opening import check_renderings, opened_from, with_originals
from rolling_deploy.operations.rollouts import refuse
from rolling_deploy.operations.site import Site
from rolling_deploy.operations.survey import (
    Survey,
    file_differences,
    survey_balancers,
)
from rolling_deploy.parallel import at_once
from rolling_deploy.ports import Checked
from rolling_deploy.remote.record_copies import held_by
from rolling_deploy.rollout.facts import Purpose
from rolling_deploy.upstreams.merge import addresses_of
from rolling_deploy.upstreams.render import Renderings, differences, freeze
from rolling_deploy.upstreams.stamp import inspect


def survey_for_adoption(site: Site, *, load_pending: bool) -> Survey:
    """Answers what adopting needs to know: the load balancers only."""
    acceptance = Acceptance(load_pending=load_pending, adopting=True)
    balancers, checks, lossy = survey_balancers(site, acceptance)
    return Survey(balancers, {}, (), tuple(checks), tuple(lossy))


def adopt(desk: Desk, *, load_pending: bool = False) -> Run | None:
    """Take the upstream files over: kept, published unchanged with stamp and endpoint, proved.

    Answers None when all are adopted already, or a person answered no.

    Raises:
        RollingDeployError: each cause has its own class.
    """
    site = desk.connect()
    try:
        site.require(site.balancer_hosts())
        return adopt_on(desk, site, load_pending=load_pending)
    finally:
        site.close()


def adopt_on(desk: Desk, site: Site, *, load_pending: bool = False) -> Run | None:
    """The same, over connections that are open."""
    hand = _free_hand(desk, site, Purpose.ADOPT)
    if hand.is_open:
        return go_on(desk, site, hand, ())
    found = survey_for_adoption(site, load_pending=load_pending)
    todo = [name for name, one in found.balancers.items() if not one.is_adopted]
    host = desk.footing.host()
    opened = opened_from(site, found, purpose=Purpose.ADOPT, reason=desk.reason, host=host)
    checks = [*found.checks, *check_renderings(site, found, opened)]
    for check in checks:
        desk.reporter.event(Checked(now_ms(), check))
    refuse(checks)
    if not todo:
        desk.say("nothing to do: every load balancer's file is managed already")
        return None
    renderings = Renderings(freeze(site.inventory, found.layouts()))
    for title, lines in file_differences(site, found, renderings):
        # A line each: a view shows a line break within one as text.
        for line in (title, *lines):
            desk.say(line)
    if not desk.confirm(f"adopt the upstream files on {', '.join(todo)}?"):
        return None
    return begin(desk, site, hand, opened)


def unadopt(desk: Desk, *, load_pending: bool = False) -> Run | None:
    """Put the original files back byte for byte, and prove that ours are served no more.

    Raises:
        PreflightRefused: a load balancer keeps no original.
    """
    site = desk.connect()
    try:
        site.require(site.balancer_hosts())
        hand = _free_hand(desk, site, Purpose.UNADOPT)
        if hand.is_open:
            return go_on(desk, site, hand, ())
        found = survey_for_adoption(site, load_pending=load_pending)
        originals = _originals(site)
        _show_going_back(desk, site, found, originals)
        out = sorted(found.left_out)
        if out:
            raise PreflightRefused(
                f"{', '.join(out)} is out of rotation by a rollout; the original would put it back",
                next_step="bring it back with `rolling-deploy run --release VERSION` first",
            )
        host = desk.footing.host()
        opened = opened_from(site, found, purpose=Purpose.UNADOPT, reason=desk.reason, host=host)
        digests = {name: hashlib.sha256(text).hexdigest() for name, text in originals.items()}
        opened = with_originals(opened, digests)
        if not desk.confirm(f"put the original files back on {', '.join(originals)}?"):
            return None
        return begin(desk, site, hand, opened)
    finally:
        site.close()


def _show_going_back(desk: Desk, site: Site, found: Survey, originals: Mapping[str, bytes]) -> None:
    """Tell the checks and what the originals change; refuse to undo what people did since.

    Raises:
        PreflightRefused: a check refused, or a backend that is parked now serves in the original.
    """
    for check in found.checks:
        desk.reporter.event(Checked(now_ms(), check))
    refuse([check for check in found.checks if check.name != "upstream"])
    addresses = addresses_of(site.inventory.backends)
    for name, original in originals.items():
        look = found.balancers[name].look
        now = (look.text or b"").decode("utf-8", "surrogateescape")
        then = original.decode("utf-8", "surrogateescape")
        for line in differences(now, then, f"{name}: the original"):
            desk.say(line)
        before = inspect(original, site.inventory.application, addresses)
        file = look.seen.file
        back = (file.down if file else frozenset()) - before.down
        if back:
            raise PreflightRefused(
                f"{', '.join(sorted(back))} is parked on {name} now and serves in the original",
                next_step="unpark it first, or keep the file managed",
            )


def _originals(site: Site) -> dict[str, bytes]:
    try:
        kept = at_once({name: nginx.read_original for name, nginx in site.nginx.items()})
    except OSError as error:
        raise MachineUnreachable(
            f"the originals cannot be read: {error}", next_step="run it again"
        ) from None
    missing = [name for name, original in kept.items() if original is None]
    if missing:
        raise PreflightRefused(
            f"no original is kept on {', '.join(missing)}",
            next_step="a file that was never adopted needs no `unadopt`",
        )
    return {name: text or b"" for name, text in kept.items()}


def _free_hand(desk: Desk, site: Site, purpose: Purpose) -> InHand:
    hand = find(site, desk.records, desk.footing.host())
    if hand.holder is not None:
        raise held_by("the load balancers", hand.holder, hand.step)
    record = hand.record
    if hand.is_open and record is not None and record.opened.purpose is not purpose:
        raise UsageWrong(
            f"rollout {record.opened.rollout} is unfinished",
            next_step="`rolling-deploy resume` or `rolling-deploy abort` first",
        )
    return hand
