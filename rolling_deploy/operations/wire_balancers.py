"""The load balancers' half of `setup`: nginx's files brought to where `adopt` takes over.

Three steps, each for all load balancers at once: look and plan, put the edits in place without
loading them, and say which edits that wait to be loaded are ours and no person's.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import partial

from rolling_deploy.operations.site import Site
from rolling_deploy.parallel import at_once
from rolling_deploy.remote.nginx_facts import NginxFacts, checks
from rolling_deploy.remote.nginx_wiring import FilesSeen, NewFile, NginxWiring
from rolling_deploy.rollout.observed import Check, Unreachable, Verdict
from rolling_deploy.rollout.step import Outcome, Result
from rolling_deploy.upstreams.render import differences
from rolling_deploy.upstreams.routes import Dump, parse_dump
from rolling_deploy.upstreams.splice import text_from
from rolling_deploy.upstreams.wiring import files_to_read, plan_files
from rolling_deploy.upstreams.wiring_plan import ConfigFile, FileEdit, Wanted
from rolling_deploy.wiring import masked_directives

CHECK = "wiring"
BUSY = "another `setup` edits nginx's files there right now: run it again when it is over"


@dataclass(frozen=True, slots=True)
class WiringPlan:
    """What one load balancer's nginx lacks.

    Attributes:
        missing: a sentence for each thing; empty when nothing is.
        refused: what stands in the way; then nothing is edited.
        edits: the files to write, in this order.
        unfinished: an earlier `setup` died there in the middle and nobody has ended it; then
            nothing was planned.
        mended: how such an edit was ended before this plan was made; empty when there was none.
        spreads: requests that went to one backend alone will go to all of an upstream.
    """

    balancer: str
    missing: tuple[str, ...] = ()
    refused: tuple[Check, ...] = ()
    edits: tuple[FileEdit, ...] = ()
    unfinished: bool = False
    mended: str = ""
    spreads: bool = False

    @property
    def differences(self) -> tuple[str, ...]:
        """Answers the lines of a unified diff of every file, without secrets."""
        return tuple(
            line
            for edit in self.edits
            for line in differences(
                masked_directives(text_from(edit.before)),
                masked_directives(text_from(edit.new)),
                f"{self.balancer}:{edit.path}",
                with_stamp=True,
            )
        )


def plan_wiring(site: Site, *, recovers: bool, load_pending: bool = False) -> dict[str, WiringPlan]:
    """Answers what each load balancer that is reached lacks, with the edits for it.

    Args:
        recovers: first end what an earlier `setup` left half done; False changes nothing at all.
        load_pending: a person accepts that edits of other people go live with ours.

    Raises:
        InventoryWrong: an upstream cannot be written as the inventory says.
    """
    return at_once(
        {
            name: partial(_plan, site, name, recovers=recovers, load_pending=load_pending)
            for name in site.nginx
        }
    )


def put_in_place(site: Site, plans: Mapping[str, WiringPlan]) -> dict[str, Result]:
    """Write the edits on every load balancer that has any; nginx's test must pass, nothing loads.

    A load balancer where it failed is as it was before; the others keep what they got, which a
    further `setup` finds done.

    Raises:
        ValueError: one of the plans is refused.

    Crash: per load balancer all files or none, once the next `setup` has looked.
    """
    if refused := [name for name, plan in plans.items() if plan.refused or plan.unfinished]:
        raise ValueError(f"not to be put in place: {', '.join(refused)}")
    return at_once(
        {
            name: partial(
                _wiring(site, name).apply,
                [NewFile(edit.path, edit.old, edit.new) for edit in plan.edits],
            )
            for name, plan in plans.items()
            if plan.edits
        }
    )


def edited_by_setup(site: Site) -> dict[str, frozenset[str]]:
    """Answers, for each load balancer, the files that `setup` edited and nobody touched since.

    Now or in an earlier run; with their folders, as long as they are as we left them. Empty for
    one that does not answer: nothing there counts as ours then.
    """
    seen = at_once({name: partial(_wiring(site, name).read, ()) for name in site.nginx})
    return {
        name: look.edited if isinstance(look, FilesSeen) else frozenset()
        for name, look in seen.items()
    }


def waits_only_for_us(facts: NginxFacts, edited: Collection[str]) -> bool:
    """Answers whether all that waits to be loaded are edits of `setup`.

    Args:
        edited: what `edited_by_setup` answers for this load balancer.
    """
    return facts.edited is not None and {*facts.edited, *facts.rearranged} <= set(edited)


def _wiring(site: Site, name: str) -> NginxWiring:
    settings = site.inventory.load_balancers[name]
    return NginxWiring(settings, site.inventory.application, site.connections[settings.host])


def _plan(site: Site, name: str, *, recovers: bool, load_pending: bool) -> WiringPlan:
    wiring = _wiring(site, name)
    mended = ""
    if recovers:
        ended = wiring.recover()
        if ended.outcome is not Outcome.DONE:
            return _refused(name, [_check(name, ended.detail)])
        mended = ended.detail
    else:
        before = wiring.read(())
        if isinstance(before, FilesSeen) and before.unfinished:
            return _unfinished(name, before)
    facts = site.nginx[name].facts()
    if isinstance(facts, Unreachable):
        return _refused(name, [_check(name, facts.detail)], mended)
    if facts.dump is None:
        lines = checks(facts, site.inventory.load_balancers[name])
        said = _check(name, f"`nginx -T`: {facts.dump_said or 'was not asked'}")
        return _refused(name, [said, *_stopping(lines)], mended)
    dump = parse_dump(facts.dump)
    wanted = _wanted(site, name, facts)
    seen = wiring.read(files_to_read(dump, wanted))
    if isinstance(seen, Unreachable):
        return _refused(name, [_check(name, seen.detail)], mended)
    if seen.unfinished and recovers:
        # Begun since ours was ended, so by somebody who is at it.
        return _refused(name, [_check(name, BUSY)], mended)
    if seen.unfinished:
        return _unfinished(name, seen)
    return _judged(site, wanted, facts, dump, seen, mended, load_pending=load_pending)


def _judged(  # noqa: PLR0913 # all that was learnt of one load balancer
    site: Site,
    wanted: Wanted,
    facts: NginxFacts,
    dump: Dump,
    seen: FilesSeen,
    mended: str,
    *,
    load_pending: bool,
) -> WiringPlan:
    name = wanted.balancer.name
    # Edits that we made are ours to load; anybody else's are a person's decision, as for a rollout.
    is_accepted = load_pending or waits_only_for_us(facts, seen.edited)
    refused = _stopping(
        checks(facts, site.inventory.load_balancers[name], load_pending=is_accepted)
    )
    hidden = [file for file in seen.files if file.data is None and file.path in dump.files]
    refused += [_check(name, f"{file.path}: {file.closed or 'is gone'}") for file in hidden]
    if hidden:
        return _refused(name, refused, mended)
    sources = {file.path: ConfigFile(file.path, file.real, file.data) for file in seen.files}
    found = plan_files(dump, wanted, sources)
    refused += [_check(name, str(refusal)) for refusal in found.refused]
    closed = {file.path: file.closed for file in seen.files if file.closed}
    refused += [
        _check(name, f"{edit.path} cannot be edited: {closed[edit.path]}")
        for edit in found.edits
        if edit.path in closed
    ]
    edits = () if refused else found.edits
    return WiringPlan(
        name, found.missing, tuple(refused), edits, mended=mended, spreads=found.spreads
    )


def _wanted(site: Site, name: str, facts: NginxFacts) -> Wanted:
    inventory = site.inventory
    return Wanted(
        inventory.application,
        inventory.load_balancers[name],
        inventory.upstreams,
        inventory.backends,
        inventory.wiring.locations,
        facts.leads_to,
    )


def _stopping(lines: Collection[Check]) -> list[Check]:
    return [check for check in lines if check.verdict is Verdict.REFUSED]


def _check(name: str, detail: str) -> Check:
    return Check(name, CHECK, Verdict.REFUSED, detail)


def _unfinished(name: str, seen: FilesSeen) -> WiringPlan:
    ended = "an earlier `setup` ended in the middle; the next one brings it to an end first"
    return WiringPlan(name, (BUSY if seen.is_busy else ended,), unfinished=True)


def _refused(name: str, refused: Collection[Check], mended: str = "") -> WiringPlan:
    return WiringPlan(name, refused=tuple(refused), mended=mended)
