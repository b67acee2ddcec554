"""From the shape of a sound inventory to the settings that the rest of the tool takes."""

from __future__ import annotations

import dataclasses
import posixpath
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from rolling_deploy.inventory.fields import Shape
from rolling_deploy.inventory.jumps import jumps
from rolling_deploy.inventory.kinds import SERVER_KEYS
from rolling_deploy.inventory.machine_shapes import LoadBalancerShape, ServerShape
from rolling_deploy.inventory.merge import Effective, Given, effective, given, place_key
from rolling_deploy.inventory.model import InventoryShape, LossesShape
from rolling_deploy.inventory.places import (
    backend_state_dir,
    load_balancer_state_dir,
    local,
    nginx_file,
)
from rolling_deploy.inventory.session_shapes import CanaryRequestShape, SessionCanaryShape
from rolling_deploy.inventory.setup_shapes import SessionManagerShape
from rolling_deploy.inventory.watch_shapes import LogoutWatchShape
from rolling_deploy.rollout.fleet import (
    Backend,
    DrainAtLimit,
    Fleet,
    LoadBalancer,
    OnFailure,
    Policy,
)
from rolling_deploy.settings import (
    AccessLogSettings,
    BackendSettings,
    CanaryRequest,
    CanarySettings,
    CsrfSettings,
    HealthSettings,
    HostTarget,
    Inventory,
    Jar,
    LoadBalancerSettings,
    LocationSettings,
    LockSettings,
    LogoutWatchSettings,
    LossSettings,
    ProberSettings,
    ReleaseSettings,
    ServerSettings,
    SessionManagerSettings,
    SessionStoreSettings,
    StrategySettings,
    TomcatSettings,
    UpstreamSettings,
    VersionSource,
    WarmUpSettings,
    WiringSettings,
)

T = TypeVar("T")

REMOTE_PATHS = frozenset(
    {"file", "state_dir", "binary", "config", "prefix", "pid_file", "catalina_base"}
    | {"catalina_home", "java_home", "root"}
)
LOCAL_PATHS = frozenset({"key", "known_hosts", "artifact", "tls_ca", "tls_certificate", "tls_key"})


@dataclasses.dataclass(frozen=True, slots=True)
class Source:
    """The file an inventory is made from, and the template it names."""

    path: Path
    digest: str
    template_name: str
    template: str
    manager_template: str = ""
    """Text of the template that `setup.session_manager` names."""


def build(shape: InventoryShape, source: Source) -> Inventory:
    """Answers the inventory with every default applied. The shape has been checked."""
    backends = effective(shape)
    load_balancers = {b.name: _load_balancer(b, shape) for b in shape.load_balancers}
    settings = {
        shape.backends[index].name: _backend(backend, shape, source)
        for index, backend in enumerate(backends)
    }
    store = shape.session_store
    used = {balancer.host for balancer in load_balancers.values()}
    used |= {backend.host for backend in settings.values()}
    used |= {given(store).get("via", "")} - {""}
    through = jumps(shape)
    return Inventory(
        path=str(source.path.absolute()),
        digest=source.digest,
        application=shape.application,
        fleet=_fleet(shape, settings),
        hosts={name: _host(name, shape, source, through) for name in shape.hosts if name in used},
        load_balancers=load_balancers,
        upstreams={
            upstream.name: settings_of(UpstreamSettings, given(upstream))
            for upstream in shape.upstreams
        },
        backends=settings,
        session_store=settings_of(SessionStoreSettings, given(store), None, source),
        template=source.template,
        template_name=source.template_name,
        variables=shape.variables or {},
        losses=_losses(shape.losses),
        canary=_canary(shape.session_canary),
        logout_watch=settings_of(LogoutWatchSettings, given(shape.logout_watch)),
        wiring=_wiring(shape, source),
        lock=settings_of(LockSettings, given(shape.lock)),
    )


def settings_of(
    settings: type[T],
    values: Given,
    computed: Mapping[str, Any] | None = None,
    source: Source | None = None,
) -> T:
    """Answers settings from given keys; a key `x_s` fills `x_ms`, what is not given stays default.

    `computed` holds what does not stand under a key of the same name. With a `source`, local
    paths are made absolute, their defaults too.
    """
    fields = {field.name: field.default for field in dataclasses.fields(settings)}  # type: ignore[arg-type] # T is a dataclass
    filled: dict[str, Any] = {}
    for key, value in values.items():
        milliseconds = f"{key.removesuffix('_s')}_ms"
        if key in fields:
            filled[key] = _plain(key, value)
        elif milliseconds in fields:
            filled[milliseconds] = round(value * 1000)
    filled |= computed or {}
    for key in LOCAL_PATHS & fields.keys() if source else ():
        path = filled.get(key, fields[key])
        if path and source:
            filled[key] = local(path, source.path)
    return settings(**filled)


def _plain(key: str, value: object) -> object:
    if isinstance(value, list):
        return tuple(value)
    if isinstance(value, Shape):
        return settings_of(VersionSource, given(value))
    if key in REMOTE_PATHS and isinstance(value, str) and value:
        return posixpath.normpath(value)
    return value


def _host(
    name: str, shape: InventoryShape, source: Source, through: Mapping[str, str]
) -> HostTarget:
    own = shape.hosts[name]
    jump = _host(through[name], shape, source, through) if name in through else None
    computed = {"name": name, "address": own.address or name, "jump": jump}
    return settings_of(HostTarget, given(shape.ssh) | given(own), computed, source)


def _load_balancer(balancer: LoadBalancerShape, shape: InventoryShape) -> LoadBalancerSettings:
    nginx = given(shape.nginx) | given(balancer.nginx)
    file = posixpath.normpath(nginx.get("file") or nginx_file(shape.application))
    state_dir = load_balancer_state_dir(file, shape.application)
    computed = {
        "name": balancer.name,
        "host": balancer.host or balancer.name,
        "file": file,
        "state_dir": posixpath.normpath(nginx.get("state_dir") or state_dir),
        "address": balancer.address or "",
        "access_log": balancer.access_log or "",
    }
    return settings_of(LoadBalancerSettings, nginx, computed)


def _backend(backend: Effective, shape: InventoryShape, source: Source) -> BackendSettings:
    own = shape.backends[backend.index or 0]
    servers = {
        upstream: ServerSettings(address=server.address, parameters=_parameters(server))
        for upstream, server in backend.servers.items()
    }
    first = next(iter(servers.values())).address
    return BackendSettings(
        name=backend.name,
        host=backend.host,
        servers=servers,
        probe_address=own.probe_address or first,
        strategy=_strategy(backend, source),
        health=settings_of(HealthSettings, backend.health),
        warm_up=settings_of(WarmUpSettings, backend.warm_up),
        zone=own.zone or "",
        variables=own.variables or {},
        ignore_connections_from=tuple(own.ignore_connections_from or ()),
    )


def _parameters(server: ServerShape) -> tuple[str, ...]:
    """Answers the declared parameters as nginx writes them."""
    values = given(server)
    words = [f"{key}={values[key]}" for key in SERVER_KEYS if key in values and key != "backup"]
    words += ["backup"] if server.backup else []
    return (*words, *(server.parameters or ()))


def _strategy(backend: Effective, source: Source) -> StrategySettings:
    upgrade = backend.upgrade
    state_dir = upgrade.get("state_dir") or backend_state_dir(upgrade[place_key(upgrade)])
    computed = {"state_dir": posixpath.normpath(state_dir)}
    if upgrade["strategy"] == "tomcat":
        return settings_of(TomcatSettings, upgrade, computed, source)
    return settings_of(ReleaseSettings, upgrade, computed, source)


def _losses(losses: LossesShape | None) -> LossSettings:
    """Answers what is counted: a section that is written, even an empty one, is asked for."""
    if losses is None:
        return LossSettings()
    is_read = losses.access_logs is not None
    return LossSettings(
        settings_of(ProberSettings, given(losses.prober)),
        settings_of(AccessLogSettings, given(losses.access_logs), {"is_read": is_read}),
    )


def _canary(canary: SessionCanaryShape | None) -> CanarySettings:
    if canary is None:
        return CanarySettings()
    plain = {key: value for key, value in given(canary).items() if not isinstance(value, Shape)}
    write = given(canary).get("write")
    parts = {
        "create": _request(canary.create),
        "read": _request(canary.read),
        "write": _request(write) if write else None,
        "csrf": settings_of(CsrfSettings, given(canary.csrf)),
    }
    return settings_of(CanarySettings, plain, parts)


def _request(request: CanaryRequestShape) -> CanaryRequest:
    return settings_of(CanaryRequest, given(request))


def _wiring(shape: InventoryShape, source: Source) -> WiringSettings:
    setup = given(shape.setup)
    if not setup:
        return WiringSettings()
    seconds = setup.get("graceful_stop_s")
    return WiringSettings(
        _session_manager(setup.get("session_manager"), source),
        None if seconds is None else round(seconds * 1000),
        tuple(settings_of(LocationSettings, given(one)) for one in setup.get("locations", ())),
    )


def _session_manager(
    manager: SessionManagerShape | None, source: Source
) -> SessionManagerSettings | None:
    if manager is None:
        return None
    jars = tuple(Jar(local(jar.file, source.path), jar.sha256.lower()) for jar in manager.jars)
    plain = {key: value for key, value in given(manager).items() if key != "jars"}
    template = local(manager.template, source.path) if manager.template else ""
    computed = {"jars": jars, "template": template, "template_text": source.manager_template}
    return settings_of(SessionManagerSettings, plain, computed)


def _watching(watch: LogoutWatchShape | None) -> dict[str, object]:
    """Answers the policy's part: a section that is written, even an empty one, is asked for."""
    values = given(watch)
    names = {"watch_s": "watch_s"} | {k: f"logout_{k}" for k in ("lines_max", "ratio", "new_min")}
    told = {names[key]: value for key, value in values.items() if key in names}
    return {"watches_logouts": watch is not None, **told}


def _fleet(shape: InventoryShape, backends: Mapping[str, BackendSettings]) -> Fleet:
    drain, rollout = given(shape.drain), given(shape.rollout)
    values = rollout | {f"drain_{key}": value for key, value in drain.items()}
    if "drain_at_limit" in values:
        values["drain_at_limit"] = DrainAtLimit(values["drain_at_limit"])
    if "on_failure" in values:
        values["on_failure"] = OnFailure(values["on_failure"])
    values["counts_losses"] = _losses(shape.losses).is_configured
    values["proves_sessions"] = shape.session_canary is not None
    values |= _watching(shape.logout_watch)
    values["max_errors"] = given(shape.losses).get("max_errors")
    return Fleet(
        application=shape.application,
        load_balancers=tuple(LoadBalancer(balancer.name) for balancer in shape.load_balancers),
        backends=tuple(
            Backend(name=name, upstreams=frozenset(backend.servers), zone=backend.zone)
            for name, backend in backends.items()
        ),
        policy=settings_of(Policy, values),
    )
