"""The shape of an inventory file: every key, its kind, its default and what it means.

No default is written here: each is taken from `settings` (or `Policy`), which is the one place
for them. Overrides use the same shapes as the defaults they override, so nothing but a key
that was given counts. A key that must be given is marked, and missed by `checks`, not by
pydantic: whether it is missing may depend on two sections.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from rolling_deploy.inventory import kinds
from rolling_deploy.inventory.fields import Shape, must, same, seconds, worked_out
from rolling_deploy.inventory.machine_shapes import (
    HostShape,
    LoadBalancerShape,
    NginxShape,
    ServerShape,
    SshShape,
    UpstreamShape,
)
from rolling_deploy.inventory.session_shapes import SessionCanaryShape, SessionStoreShape
from rolling_deploy.inventory.setup_shapes import SetupShape
from rolling_deploy.inventory.watch_shapes import LogoutWatchShape
from rolling_deploy.rollout.fleet import Policy
from rolling_deploy.settings import (
    AccessLogSettings,
    HealthSettings,
    LockSettings,
    ProberSettings,
    ReleaseSettings,
    TomcatSettings,
    WarmUpSettings,
)


class UpgradeShape(Shape):
    """What both strategies have. Given for all at the top, for one backend under its name."""

    state_dir: kinds.RemotePath = worked_out(
        "`.rolling-deploy` in `catalina_base` or `root`",
        "directory on the machine for staged and earlier artifacts; on the same file system",
    )
    stop_limit_s: kinds.Seconds = seconds(
        TomcatSettings, "stop_limit_ms", "how long the process may take to end"
    )
    start_limit_s: kinds.Seconds = seconds(
        TomcatSettings, "start_limit_ms", "how long the start command may take"
    )


class TomcatShape(UpgradeShape):
    """A WAR into a CATALINA_BASE."""

    strategy: Literal["tomcat"] = must("which of the strategies")
    artifact: kinds.War = must(
        "the WAR on this machine, relative to this file; `{release}` stands for the version that "
        "is deployed"
    )
    catalina_base: kinds.RemotePath = must("this Tomcat's CATALINA_BASE on its machine")
    context: kinds.Context = same(
        TomcatSettings, "context", "context path: `ROOT` for `/`, `a#b` for `/a/b`"
    )
    catalina_home: kinds.RemotePath = same(
        TomcatSettings, "catalina_home", "where Tomcat itself is installed"
    )
    java_home: kinds.RemotePath = same(
        TomcatSettings, "java_home", "JAVA_HOME for `catalina.sh`", "as on the machine"
    )
    unit: kinds.Unit = same(
        TomcatSettings,
        "unit",
        "systemd unit that is stopped and started",
        "none: `catalina.sh` is used",
    )
    stop: Annotated[list[kinds.Word], Field(min_length=1)] = same(
        TomcatSettings,
        "stop",
        "command that stops it, run as it stands",
        "`systemctl stop UNIT` with `unit`, else `catalina.sh stop`",
    )
    start: Annotated[list[kinds.Word], Field(min_length=1)] = same(
        TomcatSettings,
        "start",
        "command that starts it, run as it stands",
        "`systemctl start UNIT` with `unit`, else `catalina.sh start`",
    )
    process: kinds.Text = same(
        TomcatSettings,
        "process",
        "text in the command line of the process, to know it by",
        "`-Dcatalina.base=CATALINA_BASE`",
    )
    keep: kinds.Count = same(TomcatSettings, "keep", "how many earlier WARs stay on the machine")


class ReleaseShape(UpgradeShape):
    """An archive into `releases/VERSION`, and the link `current` to it."""

    strategy: Literal["release"] = must("which of the strategies")
    artifact: kinds.Archive = must(
        "the archive on this machine, relative to this file; `{release}` stands for the version "
        "that is deployed"
    )
    root: kinds.RemotePath = must("directory on the machine that holds `releases/` and `current`")
    stop: Annotated[list[kinds.Word], Field(min_length=1)] = same(
        ReleaseSettings,
        "stop",
        "command run before the link is switched, as it stands; together with `start`",
        "none: `restart` is used",
    )
    start: Annotated[list[kinds.Word], Field(min_length=1)] = same(
        ReleaseSettings,
        "start",
        "command run after the link is switched, as it stands; together with `stop`",
        "none: `restart` is used",
    )
    restart: Annotated[list[kinds.Word], Field(min_length=1)] = same(
        ReleaseSettings,
        "restart",
        "command run after the link is switched, as it stands; instead of `stop` and `start`",
        "none: `stop` and `start` are used",
    )
    process: kinds.Text = same(
        ReleaseSettings,
        "process",
        "text in the command line of the process, to know it by",
        "the process that listens on the backend's port",
    )
    keep: kinds.Count = same(
        ReleaseSettings, "keep", "how many earlier releases stay on the machine"
    )


Upgrade = Annotated[TomcatShape | ReleaseShape, Field(discriminator="strategy")]
STRATEGIES: dict[str, type[UpgradeShape]] = {"tomcat": TomcatShape, "release": ReleaseShape}


class VersionShape(Shape):
    """Where an answer says which version is served: exactly one of `header`, `json`, `pattern`."""

    header: kinds.HeaderName = worked_out("none", "name of a response header")
    # Under another name in the model: pydantic's own models have a method `json`.
    json_path: kinds.JsonPath = worked_out(
        "none", "dotted path into a JSON body, like `build.version`", alias="json"
    )
    pattern: kinds.VersionPattern = worked_out(
        "none", "regular expression with one group, searched in the body"
    )
    path: kinds.UrlPath = worked_out("the path of `health`", "path to ask for the version")


class HealthShape(Shape):
    """When a backend is good. Given for all at the top, for one backend under its name."""

    path: kinds.UrlPath = same(HealthSettings, "path", "path that is asked")
    scheme: Literal["http", "https"] = same(HealthSettings, "scheme", "`http` or `https`")
    host_header: kinds.HostHeader = same(
        HealthSettings, "host_header", "the `Host` header", "the backend's address"
    )
    headers: dict[kinds.HeaderName, kinds.HeaderValue] = same(
        HealthSettings, "headers", "further headers of the request"
    )
    status: Annotated[list[kinds.Status], Field(min_length=1)] = same(
        HealthSettings, "status", "statuses that count as good"
    )
    content: kinds.Regex = same(
        HealthSettings, "content", "regular expression that the body must match", "any body"
    )
    version: VersionShape = worked_out(
        "not checked, and said so", "where an answer says which version is served"
    )
    streak: kinds.Count = same(HealthSettings, "streak", "how many good answers in a row")
    interval_min_ms: kinds.Milliseconds = same(
        HealthSettings, "interval_min_ms", "first pause between two questions; it grows"
    )
    interval_max_ms: kinds.Milliseconds = same(
        HealthSettings, "interval_max_ms", "longest pause between two questions"
    )
    timeout_s: kinds.Seconds = seconds(
        HealthSettings, "timeout_ms", "how long one answer may take; it is asked again"
    )
    asked_from: Literal["load-balancers", "operator"] = same(
        HealthSettings,
        "asked_from",
        "where the question is asked: `load-balancers` takes nginx's own way through the network",
    )
    verify_tls: kinds.Flag = same(
        HealthSettings, "verify_tls", "with `https`: verify the certificate"
    )


class WarmUpShape(Shape):
    """Requests to a backend before users' traffic. Given for all, or for one backend."""

    paths: list[kinds.UrlPath] = same(
        WarmUpSettings, "paths", "paths to ask, in turn", "none: no warm-up"
    )
    requests_max: kinds.Count = same(
        WarmUpSettings, "requests_max", "give up after so many requests"
    )
    concurrency: kinds.Count = same(WarmUpSettings, "concurrency", "requests at the same time")
    last: kinds.Count = same(
        WarmUpSettings, "last", "it is warm when so many answers in a row are under `limit_ms`"
    )
    limit_ms: kinds.Milliseconds = same(WarmUpSettings, "limit_ms", "what counts as quick")
    timeout_s: kinds.Seconds = seconds(WarmUpSettings, "timeout_ms", "how long one may take")


class DrainShape(Shape):
    """Waiting until nginx sends a backend nothing more."""

    limit_s: kinds.Seconds = seconds(
        Policy, "drain_limit_ms", "how long nginx's earlier workers may take to finish"
    )
    at_limit: Literal["halt", "force"] = Field(
        default=Policy().drain_at_limit.value,
        description="`halt` puts the backends back and stops there; `force` goes on, cuts what is "
        "still open, and reports it",
    )


class RolloutShape(Shape):
    """How a rollout goes through the fleet."""

    wave_size: kinds.Count = same(Policy, "wave_size", "backends taken out at the same time")
    serving_min: kinds.Count = same(
        Policy, "serving_min", "backends that keep serving in every upstream, whatever happens"
    )
    on_failure: Literal["halt", "back-node"] = Field(
        default=Policy().on_failure.value,
        description="when a backend does not become good: `halt` leaves it out and stops there, "
        "`back-node` brings back the release it ran before",
    )
    attempts_max: kinds.Count = same(
        Policy, "attempts_max", "how often one step is tried on one machine"
    )
    ready_limit_s: kinds.Seconds = seconds(
        Policy, "ready_limit_ms", "how long a started backend may take to become good"
    )
    busy_limit_s: kinds.Seconds = seconds(
        Policy, "busy_limit_ms", "how long an earlier command of ours may still run on a machine"
    )


class LockShape(Shape):
    """The lock on the load balancers that says who is at it; `unlock` frees it."""

    expiry_s: kinds.LockSeconds = same(
        LockSettings,
        "expiry_s",
        "a holder that has been silent for so long is taken for dead; it beats six times as often",
    )


class BackendShape(Shape):
    """One application process. Several may live on one machine."""

    name: kinds.Name = must("its name in plans, reports and commands")
    host: kinds.Name = worked_out("its name", "the machine it lives on, one of `hosts`")
    zone: kinds.Name = worked_out("none", "label of where it stands (rack, data centre)")
    variables: dict[kinds.Identifier, Any] = worked_out(
        "none", "values of its own for the template"
    )
    address: kinds.Address = worked_out(
        "from `servers`", "short for `servers` when there is exactly one upstream"
    )
    servers: dict[kinds.Name, ServerShape] = worked_out(
        "from `address`", "its line in each upstream, by the upstream's name"
    )
    probe_address: kinds.Address = worked_out(
        "the address in its first upstream",
        "`host:port` that health, warm-up and the check for open connections use",
    )
    ignore_connections_from: list[kinds.Ip] = worked_out(
        "none", "IP addresses (monitoring) whose open connections do not hold up the stop"
    )
    upgrade: Upgrade = worked_out("all from `upgrade`", "overrides of `upgrade` for this backend")
    health: HealthShape = worked_out("all from `health`", "overrides of `health` for this backend")
    warm_up: WarmUpShape = worked_out(
        "all from `warm_up`", "overrides of `warm_up` for this backend"
    )


class ProberShape(Shape):
    """Our own requests through each load balancer during a rollout, each on a fresh connection."""

    path: kinds.UrlPath = must("path that is asked, one that users ask too")
    scheme: Literal["http", "https"] = same(ProberSettings, "scheme", "`http` or `https`")
    host_header: kinds.HostHeader = same(
        ProberSettings, "host_header", "the `Host` header", "the load balancer's address"
    )
    status: Annotated[list[kinds.Status], Field(min_length=1)] = same(
        ProberSettings, "status", "statuses that are as they should be; all else has failed"
    )
    interval_ms: kinds.Milliseconds = same(
        ProberSettings, "interval_ms", "from one request to the next, on each load balancer"
    )
    timeout_s: kinds.Seconds = seconds(
        ProberSettings, "timeout_ms", "how long one answer may take; it is not asked again"
    )
    asked_from: Literal["load-balancers", "operator"] = same(
        ProberSettings,
        "asked_from",
        "where the request begins: this machine, or the load balancer itself through SSH",
    )
    verify_tls: kinds.Flag = same(
        ProberSettings, "verify_tls", "with `https`: verify the certificate"
    )


class AccessLogsShape(Shape):
    """The load balancers' own access logs; `{}` takes what their running configuration says."""

    path: kinds.RemoteFile = same(
        AccessLogSettings,
        "path",
        "the log on every load balancer",
        "what the running configuration has where our upstreams are used",
    )
    format: kinds.FormatName = same(
        AccessLogSettings,
        "format",
        "name of the `log_format` it is written in",
        "what the running configuration says of that path, else `combined`",
    )


class LossesShape(Shape):
    """Counting what users lose during a rollout; left out, it is not counted, and said so."""

    max_errors: kinds.CountOrNone = worked_out(
        "none: they are only counted",
        "more failed requests than this (of the prober, and 5xx in the access logs) halt the "
        "rollout",
    )
    prober: ProberShape = worked_out("none", "requests of our own during the rollout")
    access_logs: AccessLogsShape = worked_out(
        "not read", "the load balancers' own logs, read from where they end at the start"
    )


class InventoryShape(Shape):
    """The whole file."""

    application: kinds.Name = must("name of the application; it names files on the load balancers")
    variables: dict[kinds.Identifier, Any] = worked_out("none", "values for the template")
    ssh: SshShape = worked_out("as listed", "how machines are reached, unless `hosts` differs")
    hosts: dict[kinds.Name, HostShape] = must("the machines reached by SSH, by name")
    nginx: NginxShape = worked_out("as listed", "nginx on the load balancers, unless one differs")
    load_balancers: Annotated[list[LoadBalancerShape], Field(min_length=1)] = must(
        "the load balancers"
    )
    upstreams: Annotated[list[UpstreamShape], Field(min_length=1)] = must(
        "the upstream blocks of the managed file"
    )
    template: kinds.LocalPath = worked_out(
        "the one that comes with rolling-deploy",
        "template of the managed file, relative to this file",
    )
    upgrade: Upgrade = worked_out(
        "none: every backend has its own", "how a release is put in place, unless one differs"
    )
    health: HealthShape = worked_out("as listed", "when a backend is good, unless one differs")
    warm_up: WarmUpShape = worked_out("as listed", "warming up, unless one differs")
    drain: DrainShape = worked_out("as listed", "waiting until nginx sends nothing more")
    rollout: RolloutShape = worked_out("as listed", "how a rollout goes through the fleet")
    lock: LockShape = worked_out("as listed", "the lock that says who is at it")
    backends: Annotated[list[BackendShape], Field(min_length=1)] = must(
        "the backends, in the order a rollout takes them"
    )
    session_store: SessionStoreShape = worked_out(
        "none: not checked, and said so", "the Redis that holds the sessions"
    )
    session_canary: SessionCanaryShape = worked_out(
        "none: not proved, and said so", "sessions of our own that prove that users stay logged in"
    )
    setup: SetupShape = worked_out("nothing", "what `rolling-deploy setup` brings about")
    logout_watch: LogoutWatchShape = worked_out(
        "none: not looked for, and said so", "signs that users are being logged out"
    )
    losses: LossesShape = worked_out(
        "none: not counted, and said so", "counting what users lose during a rollout"
    )
