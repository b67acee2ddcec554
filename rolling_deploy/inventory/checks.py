"""What must hold between the parts of an inventory: references, names, and what is missing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePath
from typing import Any

from rolling_deploy.inventory.fields import MUST
from rolling_deploy.inventory.jumps import check_jumps
from rolling_deploy.inventory.merge import Effective, defaults, effective, given
from rolling_deploy.inventory.model import (
    STRATEGIES,
    InventoryShape,
    UpgradeShape,
    VersionShape,
)
from rolling_deploy.inventory.problems import (
    KeyPath,
    Problems,
    child,
    listed,
    near_miss,
    text_of,
)
from rolling_deploy.inventory.session_shapes import CanaryRequestShape
from rolling_deploy.inventory.sharing import check_sharing, check_waves
from rolling_deploy.inventory.walk import keys_of, mappings
from rolling_deploy.settings import HealthSettings, WarmUpSettings

SET = "set"
MISSING = "missing"


def check(inventory: InventoryShape, problems: Problems) -> None:
    """Note everything that is wrong between the parts of the inventory."""
    backends = effective(inventory)
    _check_missing(problems)
    _check_hosts(inventory, backends, problems)
    check_jumps(inventory, problems)
    are_lines_sound = _check_servers(inventory, problems)
    _check_upgrades(backends, problems)
    for backend in (defaults(inventory), *backends):
        _check_health(backend, problems)
        _check_warm_up(backend, problems)
    _check_losses(inventory, problems)
    _check_canary(inventory, problems)
    _check_setup(inventory, backends, problems)
    check_sharing(inventory, backends, problems)
    if are_lines_sound and not problems.is_damaged("backends", "upstreams", "rollout"):
        check_waves(inventory, backends, problems)


def _raw(problems: Problems, path: KeyPath) -> object:
    value = problems.data
    for key in path:
        value = child(value, key)
    return value


def _check_missing(problems: Problems) -> None:
    for shape, path, value in mappings(InventoryShape, problems.data):
        if issubclass(shape, UpgradeShape):
            continue  # What is missing there may be given in the other place.
        for key, field in keys_of(shape).items():
            extra = field.json_schema_extra
            if isinstance(extra, dict) and MUST in extra and key not in value:
                problems.add((*path, key), SET, MISSING)


def _check_losses(inventory: InventoryShape, problems: Problems) -> None:
    """A gate without anything that counts would never close; a log that is not read is none."""
    losses = _raw(problems, ("losses",))
    if isinstance(losses, dict) and not losses.keys() & {"prober", "access_logs"}:
        problems.add(("losses",), "`prober` or `access_logs` or both", "neither of them")
    logs = _raw(problems, ("losses", "access_logs"))
    own = [balancer.access_log for balancer in inventory.load_balancers or []]
    if not isinstance(logs, dict):
        for index, path in enumerate(own):
            if path:
                hint = "only `losses.access_logs` reads it"
                place = ("load_balancers", index, "access_log")
                problems.add(place, "left out without `losses.access_logs`", SET, hint)
    elif "format" in logs and "path" not in logs and not any(own):
        hint = "without a path the running configuration says both"
        problems.add(("losses", "access_logs", "format"), "left out without `path`", SET, hint)


def _check_setup(
    inventory: InventoryShape, backends: Sequence[Effective], problems: Problems
) -> None:
    """A session manager needs a store and a Tomcat; a location needs to know its upstream."""
    setup = given(inventory.setup)
    if not setup or problems.is_damaged("setup"):
        return
    _check_session_manager(inventory, setup, problems)
    nodes = setup.keys() & {"session_manager", "graceful_stop_s"}
    strategies = {backend.upgrade.get("strategy") for backend in backends}
    if nodes and strategies == {"release"}:
        hint = "only Tomcat has a session manager and a graceful stop of this kind"
        problems.add(("setup", min(nodes)), "with a backend of the strategy `tomcat`", SET, hint)
    known = [upstream.name for upstream in inventory.upstreams or []]
    for index, location in enumerate(setup.get("locations", ())):
        where = ("setup", "locations", index, "upstream")
        if location.upstream and known and location.upstream not in known:
            hint = near_miss(location.upstream, known)
            problems.add(where, f"{listed(known)}", f"`{location.upstream}`", hint)
        elif not location.upstream and len(known) > 1:
            problems.add(where, SET, MISSING, "the application has several upstreams")


def _check_session_manager(
    inventory: InventoryShape, setup: Mapping[str, Any], problems: Problems
) -> None:
    """It needs a store, each jar once, and nothing that it would not use."""
    place = ("setup", "session_manager")
    if setup.get("session_manager") is None:
        return
    if not given(inventory.session_store).get("url"):
        problems.add(place, "beside a `session_store.url`", "without one")
    told = given(setup["session_manager"])
    if "lifetime_s" in told and told.get("kind") == "redisson" and "template" not in told:
        hint = "Redisson's manager takes it from the application's `session-timeout`"
        problems.add((*place, "lifetime_s"), "left out, or used by a `template`", SET, hint)
    names = [PurePath(jar.file).name for jar in setup["session_manager"].jars]
    for index, name in enumerate(names):
        if name in names[:index]:
            problems.add((*place, "jars", index, "file"), "named once", f"`{name}` again")


def _check_canary(inventory: InventoryShape, problems: Problems) -> None:
    """What is written has to be looked for, and a token has to be sent somewhere."""
    canary, place = inventory.session_canary, ("session_canary",)
    if "session_canary" not in given(inventory) or problems.is_damaged("session_canary"):
        return
    write, csrf = given(canary).get("write"), given(canary).get("csrf")
    token = given(csrf).keys() & {"field", "header"}
    if (write is None) != (not canary.written):
        hint = "`write` changes the session, `written` finds it again"
        problems.add(place, "`write` and `written`, or neither", "one of them", hint)
    elif canary.written and "{written}" not in canary.written:
        hint = "otherwise it would be found without having been written"
        problems.add((*place, "written"), "a pattern with `{written}`", canary.written, hint)
    if csrf is not None and not token:
        problems.add((*place, "csrf"), "`field` or `header` or both", "neither of them")
    for name, request in given(canary).items():
        is_get = isinstance(request, CanaryRequestShape) and request.method == "GET"
        if is_get and (request.form or request.form_env):
            hint = "a `GET` carries no form"
            problems.add((*place, name, "method"), "`POST` or `PUT`", "GET", hint)


def _check_hosts(
    inventory: InventoryShape, backends: Iterable[Effective], problems: Problems
) -> None:
    written = _raw(problems, ("hosts",))
    if not isinstance(written, dict):
        return  # Noted already.
    names = list(written)
    used: list[tuple[KeyPath, str]] = [
        (("load_balancers", index, "host"), balancer.host or balancer.name or "")
        for index, balancer in enumerate(inventory.load_balancers or [])
        if ("load_balancers", index, "host") not in problems.damaged
    ]
    used += [
        (("backends", backend.index or 0, "host"), backend.host)
        for backend in backends
        if ("backends", backend.index, "host") not in problems.damaged
    ]
    store = given(inventory.session_store)
    used.append((("session_store", "via"), store.get("via", "")))
    if store.get("via") and store.get("asked_from") == "backends":
        hint = "it is asked from the backends alone"
        problems.add(("session_store", "via"), "left out beside `asked_from: backends`", SET, hint)
    for path, host in used:
        if host and host not in names:
            hint = near_miss(host, names) or (f"there are {listed(names[:12])}" if names else "")
            problems.add(path, "a name in `hosts`", text_of(host), hint)


def _check_servers(inventory: InventoryShape, problems: Problems) -> bool:
    """Every backend has a line in an upstream that exists, and every upstream a backend.

    Returns:
        Whether the lines can be counted on; a misspelt one would count as none.
    """
    before = len(problems.found)
    upstreams = [upstream.name for upstream in inventory.upstreams or [] if upstream.name]
    used: set[str] = set()
    for index, backend in enumerate(inventory.backends or []):
        written = _raw(problems, ("backends", index))
        if isinstance(written, dict):
            _check_lines(("backends", index), written, upstreams, problems)
        used |= set(upstreams if backend.address else backend.servers or ())
    if problems.is_damaged("upstreams", "backends") or not used <= set(upstreams):
        return False  # Perhaps the backend of an upstream is only misspelt.
    for index, upstream in enumerate(inventory.upstreams or []):
        if inventory.backends and upstream.name and upstream.name not in used:
            problems.add(("upstreams", index), "used by a backend", "used by none")
    return len(problems.found) == before


def _check_lines(
    path: KeyPath, written: dict[str, object], upstreams: list[str], problems: Problems
) -> None:
    """Note what is wrong with a backend's lines in the upstreams."""
    is_short, is_long = "address" in written, "servers" in written
    if is_short and is_long:
        problems.add((*path, "address"), "left out beside `servers`", SET)
    elif is_short and len(upstreams) > 1:
        hint = f"say in `servers` which of {listed(upstreams)}"
        problems.add((*path, "address"), "left out where there are several upstreams", SET, hint)
    elif not is_short and not is_long:
        problems.add((*path, "servers"), SET, MISSING, "or `address`, with one upstream")
    servers = written.get("servers")
    if servers == {}:
        problems.add((*path, "servers"), "a line in at least one upstream", "an empty mapping")
    if problems.is_damaged("upstreams") or not isinstance(servers, dict):
        return
    for name in servers:
        if upstreams and name not in upstreams:
            hint = near_miss(name, upstreams) or f"there are {listed(upstreams)}"
            problems.add((*path, "servers", name), "a name in `upstreams`", text_of(name), hint)


def _check_upgrades(backends: list[Effective], problems: Problems) -> None:
    overridden = [b for b in backends if _raw(problems, ("backends", b.index or 0, "upgrade"))]
    if ("upgrade",) in problems.damaged or not backends:
        return
    if not overridden and _raw(problems, ("upgrade",)) is None:
        problems.add(("upgrade",), SET, MISSING)
        return
    for backend in backends:
        own: KeyPath = ("backends", backend.index or 0, "upgrade")
        if own in problems.damaged or own[:2] in problems.damaged:
            continue
        if not backend.upgrade:
            hint = "there is no `upgrade` at the top level to take it from"
            problems.add(own, SET, MISSING, hint)
            continue
        present = _present(backend, own, problems)
        for key, field in keys_of(STRATEGIES[backend.upgrade["strategy"]]).items():
            extra = field.json_schema_extra
            if isinstance(extra, dict) and MUST in extra and key not in present:
                _note_missing(own, key, backend, problems)
        if backend.upgrade["strategy"] == "release":
            _check_restart(own, present, problems)


def _note_missing(own: KeyPath, key: str, backend: Effective, problems: Problems) -> None:
    """Note the artifact once, at the top, where all would have it from; a place under its own."""
    strategy = child(_raw(problems, ("upgrade",)), "strategy")
    if key == "artifact" and strategy == backend.upgrade["strategy"]:
        problems.add(("upgrade", key), SET, MISSING, "here or under every backend")
    else:
        problems.add((*own, key), SET, MISSING, "here or in `upgrade` at the top level")


def _present(backend: Effective, own: KeyPath, problems: Problems) -> set[str]:
    """Answers the keys that hold, with those that were given and are wrong."""
    present = set(backend.upgrade)
    for place in (own, ("upgrade",)):
        for path in problems.damaged:
            if path[:-1] == place:
                present.add(str(path[-1]))
    return present


def _check_restart(own: KeyPath, present: set[str], problems: Problems) -> None:
    has_pair = present & {"stop", "start"}
    if "restart" in present and has_pair:
        problems.add((*own, "restart"), "left out beside `stop` and `start`", SET)
    elif not has_pair and "restart" not in present:
        problems.add((*own, "restart"), SET, MISSING, "or `stop` and `start` together")
    elif len(has_pair) == 1:
        missing = ({"stop", "start"} - present).pop()
        problems.add((*own, missing), f"set with `{has_pair.pop()}`", MISSING)


def _place(backend: Effective, section: str, key: str, problems: Problems) -> KeyPath:
    """Answers where a value that holds for the backend is written."""
    own: KeyPath = ("backends", backend.index or 0, section, key)
    return own if backend.index is not None and own in problems.lines else (section, key)


def _check_health(backend: Effective, problems: Problems) -> None:
    standard = HealthSettings()
    low = backend.health.get("interval_min_ms", standard.interval_min_ms)
    high = backend.health.get("interval_max_ms", standard.interval_max_ms)
    if low > high:
        is_low = "interval_min_ms" in backend.health
        key = "interval_min_ms" if is_low else "interval_max_ms"
        expected = f"at most `interval_max_ms` ({high})" if is_low else f"at least {low}"
        path = _place(backend, "health", key, problems)
        problems.add(path, expected, f"`{low if is_low else high}`")
    version = backend.health.get("version")
    if isinstance(version, VersionShape):
        path = _place(backend, "health", "version", problems)
        _check_version(path, problems)


def _check_version(path: KeyPath, problems: Problems) -> None:
    written = _raw(problems, path)
    sources = [key for key in ("header", "json", "pattern") if child(written, key) is not None]
    if len(sources) != 1:
        actual = f"{len(sources)} of them ({listed(sources)})" if sources else "none of them"
        problems.add(path, "exactly one of `header`, `json`, `pattern`", actual)


def _check_warm_up(backend: Effective, problems: Problems) -> None:
    standard = WarmUpSettings()
    last = backend.warm_up.get("last", standard.last)
    most = backend.warm_up.get("requests_max", standard.requests_max)
    if last > most:
        is_last = "last" in backend.warm_up
        key = "last" if is_last else "requests_max"
        expected = f"at most `requests_max` ({most})" if is_last else f"at least `last` ({last})"
        path = _place(backend, "warm_up", key, problems)
        problems.add(path, expected, f"`{last if is_last else most}`")
