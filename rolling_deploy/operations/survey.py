"""The preflight: one look at everything, and every check that may refuse a start.

Reads only, except for the session store's expiring canary key.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from rolling_deploy.errors import RollingDeployError
from rolling_deploy.operations.balancer_checks import Acceptance, BalancerChecks, BalancerSurvey
from rolling_deploy.operations.continuity import missing_passwords
from rolling_deploy.operations.logouts import logout_checks
from rolling_deploy.operations.losses import loss_checks
from rolling_deploy.operations.machines import FleetMachines, now_ms
from rolling_deploy.operations.site import Site
from rolling_deploy.operations.stored_sessions import check_stored_sessions
from rolling_deploy.operations.wire_backends import wired_backends
from rolling_deploy.parallel import at_once
from rolling_deploy.remote.health import describe_source
from rolling_deploy.remote.nginx import Look
from rolling_deploy.remote.nginx_facts import NginxFacts
from rolling_deploy.rollout.facts import Purpose
from rolling_deploy.rollout.observed import (
    BackendSeen,
    Check,
    Health,
    LoadBalancerSeen,
    Seen,
    Unreachable,
    Verdict,
)
from rolling_deploy.rollout.step import Outcome
from rolling_deploy.upstreams.layout import Layout
from rolling_deploy.upstreams.render import Renderings, differences

ENOUGH_TO_SHARE = 2

USUAL_COOKIES = frozenset({"JSESSIONID", "SESSION"})
"""Of Tomcat and of Spring, where no session canary names another."""

HEALTH_LIMIT_MS = 5_000
"""For the configured streak of a backend that should be serving already."""


@dataclass(frozen=True, slots=True)
class Survey:
    """What a preflight learnt. `checks` hold everything that a person should know of it."""

    balancers: Mapping[str, BalancerSurvey]
    backends: Mapping[str, BackendSeen | Unreachable]
    store: tuple[Check, ...]
    checks: tuple[Check, ...]
    lossy: tuple[str, ...]

    def seen(self) -> Seen:
        """Answers the same as one turn of the loop would have seen it."""
        balancers: dict[str, LoadBalancerSeen | Unreachable] = {
            name: survey.look.seen for name, survey in self.balancers.items()
        }
        return Seen(now_ms(), balancers, self.backends, self.store)

    @property
    def parked(self) -> frozenset[str]:
        """Answers the backends that no load balancer sends anything to, by people's choice."""
        every = [s.merged.parked for s in self.balancers.values() if s.merged]
        return frozenset.intersection(*every) if every else frozenset()

    @property
    def left_out(self) -> frozenset[str]:
        """Answers the backends that an earlier rollout of ours left out."""
        names: set[str] = set()
        for survey in self.balancers.values():
            file = survey.look.seen.file
            if file and file.stamp:
                names |= file.stamp.out
        return frozenset(names)

    def layouts(self) -> dict[str, Layout]:
        """Answers the merged layout of each load balancer whose file can be used."""
        return {n: s.merged.layout for n, s in self.balancers.items() if s.merged}

    def refused(self) -> tuple[Check, ...]:
        """Answers what stands in the way."""
        return tuple(check for check in self.checks if check.verdict is Verdict.REFUSED)


def survey_balancers(
    site: Site, acceptance: Acceptance
) -> tuple[dict[str, BalancerSurvey], list[Check], list[str]]:
    """Look at every load balancer; see `survey`."""
    came: dict[tuple[str, str], Any] = at_once(
        {
            **{("look", name): nginx.look for name, nginx in site.nginx.items()},
            **{("facts", name): nginx.facts for name, nginx in site.nginx.items()},
        }
    )
    found: dict[str, BalancerSurvey] = {}
    lines: list[Check] = []
    lossy: list[str] = []
    for name in site.nginx:
        look, facts = came["look", name], came["facts", name]
        if not isinstance(look, Look) or not isinstance(facts, NginxFacts):
            lost = look if isinstance(look, Unreachable) else facts
            detail = lost.detail if isinstance(lost, Unreachable) else "no answer"
            lines.append(Check(name, "look", Verdict.REFUSED, detail))
            continue
        one = BalancerChecks(site, name, look, facts, acceptance)
        found[name] = one.survey()
        lines += one.lines
        lossy += one.lossy
    return found, lines, lossy


def survey(
    site: Site, release: str, acceptance: Acceptance, purpose: Purpose = Purpose.DEPLOY
) -> Survey:
    """Look at every machine and check everything that can be checked before a start.

    Args:
        purpose: before a `setup` nothing is asked about sessions, which are not shared yet.

    Raises:
        InputWrong: the inventory or the template cannot give what it should.
    """
    balancers, lines, lossy = survey_balancers(site, acceptance)
    machines = FleetMachines(site, canary=acceptance.canary)
    every = set(site.inventory.backends)
    concerned = every if purpose is Purpose.DEPLOY else set(wired_backends(site.inventory))
    store, backends, backend_lines = _survey_backends(
        site, machines, release, concerned, _asking_store(site, balancers)
    )
    lines += backend_lines
    lines += _ways_of_asking(site)
    lines += store
    if purpose is Purpose.DEPLOY:
        lines.append(_sharing(site, machines, balancers, backends, acceptance))
        lines += check_stored_sessions(site, release, is_accepted=acceptance.incompatible_sessions)
        lines += logout_checks(site)
    lines += loss_checks(site)
    found = Survey(balancers, backends, tuple(store), tuple(lines), tuple(lossy))
    return replace(found, checks=(*found.checks, *_parking_checks(found)))


def _sharing(
    site: Site,
    machines: FleetMachines,
    balancers: Mapping[str, BalancerSurvey],
    backends: Mapping[str, BackendSeen | Unreachable],
    acceptance: Acceptance,
) -> Check:
    """Two backends that serve now share sessions; otherwise no release could keep them."""
    subject, name = "sessions", "continuity"
    if not site.inventory.canary.is_configured:
        return Check(subject, name, Verdict.NOT_CHECKED, "no session canary is configured")
    if not acceptance.canary:
        return Check(subject, name, Verdict.NOT_CHECKED, "--no-canary")
    if missing := missing_passwords(site.inventory):
        return Check(subject, name, Verdict.REFUSED, missing)
    out = {b for one in balancers.values() if one.merged for b in one.merged.parked}
    serving = [
        b
        for b, seen in backends.items()
        if b not in out and isinstance(seen, BackendSeen) and seen.health and seen.health.is_good
    ]
    if len(serving) < ENOUGH_TO_SHARE:
        detail = "fewer than two backends serve: that sessions are shared cannot be seen"
        return Check(subject, name, Verdict.NOT_CHECKED, detail)
    result = machines.sessions.check(serving[0], serving[1])
    verdict = Verdict.OK if result.outcome is Outcome.DONE else Verdict.REFUSED
    return Check(subject, name, verdict, result.detail)


def _asking_store(site: Site, balancers: Mapping[str, BalancerSurvey]) -> list[str]:
    """Answers the backends whose way to the session store matters: not those people parked."""
    found = Survey(balancers, {}, (), (), ())
    out = found.parked - found.left_out
    return [name for name in site.inventory.backends if name not in out]


def _survey_backends(
    site: Site,
    machines: FleetMachines,
    release: str,
    concerned: Collection[str],
    asking_store: Collection[str],
) -> tuple[list[Check], dict[str, BackendSeen | Unreachable], list[Check]]:
    names = list(site.inventory.backends)
    store = partial(machines.check_store, asking_store)
    calls: dict[tuple[str, str], Callable[[], Any]] = {("store", ""): store}
    for name in names:
        calls["disk", name] = partial(machines.look_at_disk, name)
        calls["health", name] = partial(machines.health, name, None, None, HEALTH_LIMIT_MS)
    for name, strategy in site.strategies.items():
        calls["checks", name] = partial(strategy.preflight, release if name in concerned else None)
    came = at_once(calls)
    lines: list[Check] = []
    backends: dict[str, BackendSeen | Unreachable] = {}
    for name in names:
        seen = came["disk", name]
        health = came["health", name]
        lines += came.get(("checks", name), ())
        if isinstance(seen, Unreachable):
            lines.append(Check(name, "look", Verdict.REFUSED, seen.detail))
        else:
            seen = replace(seen, health=health)
        backends[name] = seen
        verdict = Verdict.OK if health.is_good else Verdict.WARNING
        lines.append(Check(name, "health", verdict, health.detail))
        lines += _sessions_begun(site, name, health)
        if not health.is_version_checked:
            lines.append(
                Check(
                    name,
                    "version",
                    Verdict.NOT_CHECKED,
                    "no version source is configured; "
                    "what lies on the disk and a new process are the weaker proof",
                )
            )
    return list(came["store", ""]), backends, lines


def _sessions_begun(site: Site, name: str, health: Health) -> list[Check]:
    """Each question for the health of a backend that begins a session leaves one in the store."""
    usual = {site.inventory.canary.cookie} if site.inventory.canary.is_configured else USUAL_COOKIES
    begun = sorted(usual & health.cookies)
    if not begun:
        return []
    asked = site.inventory.backends[name].health
    paths = " or ".join(
        f"`{path}`" for path in dict.fromkeys((asked.path, asked.version.path)) if path
    )
    detail = (
        f"{paths} sets `{begun[0]}`: each health check begins a session, which is kept as long as "
        "a user's, and hides how many users begin one; let `health.path` be a page that begins "
        'none (in a JSP `<%@ page session="false" %>`, in a servlet `getSession(false)`)'
    )
    return [Check(name, "health sessions", Verdict.WARNING, detail)]


def _ways_of_asking(site: Site) -> list[Check]:
    """Answers, once questions were asked, how they travelled from each load balancer."""
    if all(b.health.asked_from == "operator" for b in site.inventory.backends.values()):
        return []
    lines = []
    for name, settings in site.inventory.load_balancers.items():
        how = describe_source(site.connections[settings.host]) if name in site.nginx else ""
        if how:
            lines.append(Check(name, "health questions", Verdict.OK, f"{how} from there"))
    return lines


def _parking_checks(found: Survey) -> list[Check]:
    lines = []
    for name in sorted(found.parked - found.left_out):
        detail = "parked by a person: stays out and is not upgraded"
        lines.append(Check(name, "rotation", Verdict.WARNING, detail))
    for name in sorted(found.left_out):
        detail = "left out by an earlier rollout: will be taken over"
        lines.append(Check(name, "rotation", Verdict.WARNING, detail))
    partly = {n for s in found.balancers.values() if s.merged for n in s.merged.partly_parked}
    differing = {
        n for s in found.balancers.values() if s.merged for n in s.merged.parked
    } - found.parked
    for name in sorted((partly | differing) - found.left_out):
        detail = "down in some places by a person's choice: those stay as they are"
        lines.append(Check(name, "rotation", Verdict.WARNING, detail))
    return lines


def file_differences(
    site: Site, found: Survey, renderings: Renderings
) -> list[tuple[str, tuple[str, ...]]]:
    """Answers, per load balancer, how the file with nothing out differs from the one there."""
    diffs = []
    for name, one in found.balancers.items():
        if one.merged is None:
            continue
        try:
            new = renderings.text(name, frozenset(), "PLAN", 0, "PLAN")
        except RollingDeployError:
            continue
        old = (one.look.text or b"").decode("utf-8", "surrogateescape")
        path = site.inventory.load_balancers[name].file
        lines = differences(old, new, f"{name}:{path}", with_stamp=not one.is_ours)
        if lines:
            diffs.append(
                (
                    f"{name}: what adopting or the first publication changes besides `down`",
                    tuple(lines),
                )
            )
    return diffs
