"""The promises about lost requests: what a record tells of them, and what was done about it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rolling_deploy.rollout.facts import Cause, Claimed, Closed, Counted, Ending, Fact, Opened
from rolling_deploy.rollout.journal import read_chain
from tests.simulation.requests import Told, told_by

if TYPE_CHECKING:
    from tests.simulation.audit import Audit
    from tests.simulation.operator import Operator


def judge_losses(audit: Audit, by: Operator, facts: Sequence[Fact]) -> None:
    """Check, at each fact that tells of lost requests or goes on in spite of them."""
    opened = audit.opened
    if opened is None or not opened.policy.counts_losses:
        return
    for fact in facts:
        is_about_errors = getattr(fact, "cause", None) is Cause.ERRORS
        if not (is_about_errors or isinstance(fact, Counted | Claimed | Closed)):
            continue
        told = told_by(read_chain(by.host.records[opened.rollout], by.name).entries)
        if isinstance(fact, Counted):
            _counted(audit, told)
        elif is_about_errors:
            _ended(audit, told, opened)
        elif isinstance(fact, Claimed) or (isinstance(fact, Closed) and fact.ending is Ending.DONE):
            _went_on(audit, by, told, opened)


def _counted(audit: Audit, told: Told) -> None:
    audit.check("counted", not told.is_negative, "a count is below nothing")
    for name, first in told.firsts.items():
        log = audit.world.balancers[name].log
        asked, said = log.told(first, told.lasts[name]), told.since_first(name)
        audit.check("counted", asked == said, f"{name}: {said}, was {asked}")


def _ended(audit: Audit, told: Told, opened: Opened) -> None:
    now_ms, lbs = audit.world.now_ms, audit.world.balancers
    failed = sum(
        lbs[name].log.failed_since(first, now_ms) + told.bases[name][1]
        for name, first in told.firsts.items()
    )
    most = opened.policy.max_errors
    is_more = most is not None and failed - told.forgiven > most
    audit.check("gate", is_more, f"ended for {failed} - {told.forgiven} failures of {most}")


def _went_on(audit: Audit, by: Operator, told: Told, opened: Opened) -> None:
    """What failed a while ago, where it could be read, was looked at before this."""
    most = opened.policy.max_errors
    if most is None or not told.is_forward:
        return
    until_ms, failed = audit.unseen_ms(by), 0
    for name, first in told.firsts.items():
        lb = audit.world.balancers[name]
        is_read = name not in audit.off and not audit.is_cut_off(lb, by)
        asked = lb.log.failed_since(first, until_ms) if is_read else 0
        failed += max(asked + told.bases[name][1], told.sums.get(name, (0, 0))[1])
    is_fine = told.is_forgiving or failed - told.forgiven <= most
    audit.check("gate", is_fine, f"goes on with {failed} - {told.forgiven} failures of {most}")
