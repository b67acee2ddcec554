"""From what a preflight saw to the first fact of a record: everything a rollout is bound to."""

from __future__ import annotations

import getpass
import os
import posixpath
import secrets
import socket
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

from rolling_deploy import __version__
from rolling_deploy.operations.balancer_checks import BalancerSurvey
from rolling_deploy.operations.machines import now_ms
from rolling_deploy.operations.site import Site
from rolling_deploy.operations.survey import Survey
from rolling_deploy.operations.wire_backends import wired_backends
from rolling_deploy.parallel import at_once
from rolling_deploy.remote.nginx_facts import NginxFacts
from rolling_deploy.rollout.facts import FORMAT, Before, Opened, Purpose
from rolling_deploy.rollout.fleet import OnFailure, Policy
from rolling_deploy.rollout.observed import BackendSeen, Check, Verdict
from rolling_deploy.rollout.view import ABSENT
from rolling_deploy.settings import Inventory
from rolling_deploy.upstreams.layout import Layout
from rolling_deploy.upstreams.pretest import Surroundings, compiled_out, pretest_config
from rolling_deploy.upstreams.render import Frozen, Renderings, freeze
from rolling_deploy.upstreams.routes import (
    defined_variables,
    http_setting,
    parse_dump,
    setting,
)

WORKDIR = "@WORKDIR@"
"""The load balancer puts its throw-away directory here."""


def new_rollout_id(at_ms: int) -> str:
    """Answers an id that sorts by time and is unique: `r-20261122-140501-3fa1`."""
    at = datetime.fromtimestamp(at_ms / 1000, tz=UTC)
    return f"r-{at:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def who() -> str:
    """Answers who is acting, as a CI system says it or else this machine's user."""
    for variable in ("GITHUB_ACTOR", "GITLAB_USER_LOGIN", "BUILD_USER_ID"):
        if os.environ.get(variable):
            return os.environ[variable]
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def machine() -> str:
    """Answers this machine's name."""
    return socket.gethostname()


def ci_job() -> str:
    """Answers where the CI job can be seen, or an empty text outside of one."""
    env = os.environ
    if env.get("GITHUB_RUN_ID"):
        server, repository = env.get("GITHUB_SERVER_URL", ""), env.get("GITHUB_REPOSITORY", "")
        return f"{server}/{repository}/actions/runs/{env['GITHUB_RUN_ID']}"
    return env.get("CI_JOB_URL", "") or env.get("BUILD_URL", "")


def opened_from(
    site: Site,
    found: Survey,
    *,
    purpose: Purpose,
    release: str = "",
    reason: str = "",
    host: str = "",
) -> Opened:
    """Answers the first fact of a rollout.

    Args:
        host: what the machine we work on is called; empty means its own name.

    Raises:
        PreflightRefused: an artifact cannot be read.
    """
    inventory = site.inventory
    left_out = found.left_out & set(inventory.backends)
    parked = found.parked - left_out
    concerned = concerned_by(inventory, purpose)
    artifacts = _artifacts(site, release, concerned)
    before = {name: _before(seen) for name, seen in found.backends.items()}
    wanted_version = release if purpose is Purpose.DEPLOY else None
    already = tuple(
        name
        for name in inventory.backends
        if purpose.changes_backends
        and name not in parked | left_out
        and (name not in concerned or _is_on(found.backends[name], artifacts[name], wanted_version))
    )
    order = tuple(name for name in concerned if name not in parked and name not in already)
    return Opened(
        format=FORMAT,
        tool=__version__,
        rollout=new_rollout_id(now_ms()),
        application=inventory.application,
        purpose=purpose,
        release=release,
        inventory=inventory.digest,
        order=order,
        already=already,
        parked=parked,
        left_out=left_out,
        load_balancers=tuple(inventory.load_balancers),
        upstreams=serving_members(inventory, found.layouts()),
        policy=policy_of(inventory, purpose),
        artifacts=artifacts,
        before=before,
        initial={name: digest_of_file(one) for name, one in found.balancers.items()},
        originals={},
        frozen=freeze(inventory, found.layouts()).to_json(),
        by=f"{who()} on {host or machine()}",
        reason=reason,
        places=places_of(site.inventory),
    )


def serving_members(
    inventory: Inventory, layouts: Mapping[str, Layout]
) -> dict[str, tuple[str, ...]]:
    """Answers the backends that carry traffic in each upstream, for the capacity guard.

    One that is `down` by a person there carries nothing, and a backup only where nobody else
    does. Where load balancers differ, each has its own entry, so that the guard holds on every
    one. What an earlier rollout left out counts: its lines come without our `down`, and the guard
    knows it by its name.
    """
    members: dict[str, tuple[str, ...]] = {}
    for upstream, declared in inventory.fleet.upstreams().items():
        each = {name: _carrying(layout, upstream) & declared for name, layout in layouts.items()}
        if len(set(each.values())) > 1:
            for name, carrying in each.items():
                members[f"{upstream} on {name}"] = tuple(sorted(carrying))
        else:
            carrying = next(iter(each.values()), declared)
            members[upstream] = tuple(sorted(carrying))
    return members


def _carrying(layout: Layout, upstream: str) -> frozenset[str]:
    lines = [
        line
        for block in layout.upstreams
        if block.name == upstream
        for line in block.servers
        if not line.is_down
    ]
    ordinary = frozenset(line.backend for line in lines if not line.is_backup)
    return ordinary or frozenset(line.backend for line in lines)


def places_of(inventory: Inventory) -> dict[str, str]:
    """Answers what a rollout is bound to in the inventory, by machine, for comparing."""
    places = {}
    for name, balancer in inventory.load_balancers.items():
        where = f"{balancer.file} {balancer.state_dir} {balancer.generation_port}"
        places[f"load balancer {name}"] = f"{inventory.hosts[balancer.host].address} {where}"
    for name, backend in inventory.backends.items():
        strategy = backend.strategy
        lines = " ".join(f"{u}={s.address}" for u, s in sorted(backend.servers.items()))
        where = f"{strategy.state_dir} {backend.probe_address} {lines}"
        places[f"backend {name}"] = f"{inventory.hosts[backend.host].address} {where}"
    return places


def concerned_by(inventory: Inventory, purpose: Purpose) -> tuple[str, ...]:
    """Answers the backends that a rollout of this purpose may change, in the inventory's order."""
    if purpose is Purpose.SETUP:
        return wired_backends(inventory)
    return tuple(inventory.backends) if purpose.changes_backends else ()


def policy_of(inventory: Inventory, purpose: Purpose) -> Policy:
    """Answers how such a rollout goes. While backends are being given their session manager, those
    with it and those without it share no sessions, so that is not what can be proved.
    """
    policy = inventory.fleet.policy
    return policy if purpose is Purpose.DEPLOY else replace(policy, proves_sessions=False)


def _artifacts(site: Site, release: str, concerned: Sequence[str]) -> dict[str, str]:
    calls = {
        name: partial(site.strategies[name].artifact_id, release)
        for name in concerned
        if name in site.strategies
    }
    return at_once(calls)


def _before(seen: object) -> Before:
    if not isinstance(seen, BackendSeen):
        return Before(None, None)
    return Before(seen.artifact, seen.health.version if seen.health else None)


def _is_on(seen: object, artifact: str, release: str | None) -> bool:
    """Whether a backend runs this very artifact already, and serves it well.

    Args:
        release: the version it is to serve; None where that is not what changes.
    """
    if not isinstance(seen, BackendSeen) or seen.health is None or not seen.health.is_good:
        return False
    is_served = release in (None, seen.health.version) or not seen.health.is_version_checked
    return is_served and seen.artifact == artifact and seen.is_restarted_since_swap is not False


def digest_of_file(balancer: BalancerSurvey) -> str:
    """Answers the digest of a load balancer's managed file."""
    file = balancer.look.seen.file
    return file.digest if file else ABSENT


def frozen_with(
    frozen: Mapping[str, Any], site: Site, name: str, balancer: BalancerSurvey
) -> dict[str, Any]:
    """Answers the frozen inputs of a rollout with one more load balancer's layout."""
    if balancer.merged is None:
        return dict(frozen)
    before = Frozen.from_json(frozen)
    port = site.inventory.load_balancers[name].generation_port
    return replace(
        before,
        layouts={**before.layouts, name: balancer.merged.layout},
        ports={**before.ports, name: port},
    ).to_json()


def check_renderings(site: Site, found: Survey, opened: Opened) -> tuple[Check, ...]:
    """Render every variant on the planned path and every single-backend one, and have each load
    balancer's own nginx test them all, before anything is touched.

    Raises:
        TemplateWrong, PreflightRefused: a variant cannot be rendered.
    """
    if not found.layouts():
        return ()
    renderings = Renderings(freeze(site.inventory, found.layouts()))
    variants = planned_variants(opened)
    calls = {}
    for name, survey in found.balancers.items():
        if survey.merged is not None:
            texts = {
                renderings.body_digest(name, out): renderings.text(
                    name, out, opened.rollout, 0, f"{opened.rollout}.0.{number}"
                )
                for number, out in enumerate(variants)
            }
            calls[name] = partial(_pretest, site, found, name, list(texts.values()))
    return tuple(at_once(calls).values())


def planned_variants(opened: Opened) -> list[frozenset[str]]:
    """Answers what may be out at once: nothing, every wave, every single backend.

    A backend whose going out alone would leave an upstream with nobody is not among them: no
    rollout takes it out alone.
    """
    size = opened.policy.wave_size
    order = opened.order
    waves = [frozenset(order[i : i + size]) for i in range(0, len(order), size)]
    members = [set(m) - opened.parked for m in opened.upstreams.values()]
    singles = [frozenset({b}) for b in order if all(m - {b} for m in members if b in m)]
    left = [opened.left_out] if opened.left_out else []
    return list(dict.fromkeys([frozenset(), *left, *waves, *singles]))


def _pretest(site: Site, found: Survey, name: str, texts: list[str]) -> Check:
    config = pretest_config(texts, WORKDIR, surroundings_of(found.balancers[name].facts))
    passed, said = site.nginx[name].pretest(config)
    what = f"{len(texts)} renderings"
    if passed:
        return Check(name, "renderings", Verdict.OK, f"{what} tested by its nginx")
    return Check(name, "renderings", Verdict.REFUSED, f"{what}: {said}")


def surroundings_of(facts: NginxFacts) -> Surroundings:
    """Answers what of a load balancer's own configuration the renderings depend on."""
    dump = parse_dump(facts.dump or "")
    # Relative to nginx's prefix, which the test has one of its own for.
    modules = [
        posixpath.join(facts.prefix, s.arguments[0])
        for s in setting(dump, "load_module")
        if s.arguments
    ]
    users = [" ".join(s.arguments) for s in setting(dump, "user")]
    return Surroundings(
        modules,
        users[0] if users else "",
        compiled_out(facts.built_without),
        defined_variables(dump),
        http_setting(dump, "resolver"),
    )


def check_going_back(site: Site, opened: Opened) -> tuple[Check, ...]:
    """Answers whether the policy's way back exists."""
    if opened.policy.on_failure is not OnFailure.BACK_NODE:
        return ()
    lines = []
    for name in opened.order:
        artifact = opened.before[name].artifact
        if artifact is None:
            detail = "nothing is deployed that could be gone back to"
        elif name in site.strategies and not site.strategies[name].can_activate(artifact):
            detail = f"`{artifact}` is deployed, which cannot be put in place again"
        else:
            continue
        lines.append(Check(name, "going back", Verdict.REFUSED, detail))
    return tuple(lines)


def check_provable(opened: Opened, *, is_accepted: bool) -> tuple[Check, ...]:
    """Answers whether the first wave finds a backend of the release in service to share sessions
    with; without one no direction can be proved before the new release is alone.
    """
    if not opened.policy.proves_sessions or not opened.order:
        return ()
    every = {backend for members in opened.upstreams.values() for backend in members}
    wave = set(opened.order[: opened.policy.wave_size])
    others = every - opened.parked - opened.left_out - wave - set(opened.already)
    subject, name = "sessions", "provable"
    if others:
        detail = f"{', '.join(sorted(wave))} and {min(others)} read each other's sessions first"
        return (Check(subject, name, Verdict.OK, detail),)
    detail = (
        f"not provable: with {', '.join(sorted(wave))} out, no backend of the release in service "
        "serves, so nobody can see whether users stay logged in"
    )
    if is_accepted:
        return (Check(subject, name, Verdict.WARNING, f"{detail} (accepted)"),)
    hint = "`--accept unproved-sessions` goes on all the same"
    return (Check(subject, name, Verdict.REFUSED, f"{detail}; {hint}"),)


def with_originals(opened: Opened, originals: Mapping[str, str]) -> Opened:
    """Answers the opening of an `unadopt`: what is put back, per load balancer."""
    return replace(opened, originals=dict(originals))
