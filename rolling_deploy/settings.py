"""What the inventory says, with every default applied: plain values that the adapters take.

The loader (`inventory`) makes them, `remote` and `upstreams` use them; neither knows the other.
All `_ms` are milliseconds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rolling_deploy.rollout.fleet import Fleet


@dataclass(frozen=True, slots=True)
class HostTarget:
    """How to reach one machine by SSH.

    Attributes:
        name: the name the inventory gives the machine.
        key: private key file; empty means the agent and the usual files.
        host_keys: `strict` refuses an unknown key, `accept-new` remembers it; a changed key is
            refused by both.
        sudo: run the few privileged commands through `sudo -n`: nginx's test and reload, installing
            the managed file, and stop and start where they go to a service manager. Other stop and
            start commands run as they are written, or the application would run as root.
        keepalive_s: SSH keepalive interval; a silent link is given up after three of them.
        jump: the machine through which this one is reached; None is directly.
    """

    name: str
    address: str
    port: int = 22
    user: str = ""
    key: str = ""
    known_hosts: str = "~/.ssh/known_hosts"
    host_keys: str = "strict"
    connect_timeout_ms: int = 10_000
    keepalive_s: int = 5
    sudo: bool = False
    jump: HostTarget | None = None


@dataclass(frozen=True, slots=True)
class LoadBalancerSettings:
    """One load balancer's nginx.

    Attributes:
        host: name of the SSH host it runs on.
        file: the managed file, absolute path on that machine. It holds the application's
            upstream blocks and nothing else.
        state_dir: where the lock, the fence and the copy of the record live on that machine.
        generation_port: loopback port of the generation endpoint; the same for all applications.
            18999 is above what common services listen on and below Linux's ephemeral ports
            (32768 and up), so no outgoing connection takes it by chance.
        binary, config, prefix, pid_file: empty means taken from the running master.
        test, reload: the commands, as argv; empty means built from the above (and `systemctl`
            where systemd runs nginx). `{config}`-like placeholders do not exist: what is written
            is run.
        other_masters: `refuse` a second nginx master on the machine, or `ignore` it (another,
            unrelated nginx that a person has acknowledged).
        acknowledged_routes: backend addresses that the running configuration names outside the
            managed file, and that a person has accepted.
        prove_limit_ms: how long a reload may take to be proved. 5 s covers 4,000 server blocks
            (measured 1.5 s) with room.
        address: `host:port` where its users' requests come in; the prober asks there. Empty means
            the machine's own address and the usual port of the prober's scheme.
        access_log: its own path of the log, in place of the one in `AccessLogSettings`.
    """

    name: str
    host: str
    file: str
    state_dir: str
    generation_port: int = 18_999
    binary: str = ""
    config: str = ""
    prefix: str = ""
    pid_file: str = ""
    test: tuple[str, ...] = ()
    reload: tuple[str, ...] = ()
    other_masters: str = "refuse"
    acknowledged_routes: tuple[str, ...] = ()
    prove_limit_ms: int = 5_000
    address: str = ""
    access_log: str = ""


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """One backend's line in one upstream.

    Attributes:
        address: what nginx connects to, `host:port`, exactly as it stands in the upstream.
        parameters: only those the inventory declares, as nginx writes them, in order
            (`weight=2`, `max_fails=3`, `backup`). What it does not declare stays as it was.
    """

    address: str
    parameters: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class UpstreamSettings:
    """One upstream block.

    Attributes:
        options: nginx directives of the block besides `server`, without the semicolon; used when
            there is no file on the load balancer yet (an existing block keeps its own).
    """

    name: str
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TomcatSettings:
    """The `tomcat` strategy: a WAR into a CATALINA_BASE.

    Attributes:
        artifact: local path of the WAR, with `{release}` filled in.
        catalina_base: on the backend's machine.
        context: context path, `ROOT` for `/` (`a#b` for `/a/b`, as Tomcat names it).
        stop, start: argv. Defaults: `systemctl stop|start UNIT` when `unit` is set, else the
            `catalina.sh` of `catalina_home` with this CATALINA_BASE.
        process: text that the process's command line holds, to find the process to wait for.
            Default `-Dcatalina.base=CATALINA_BASE`.
        stop_limit_ms, start_limit_ms: how long the commands and the process's end may take. 60 s
            is within the 90 s after which systemd gives a unit up, so the limit that is told is
            ours.
        keep: how many earlier WARs stay on the machine: the one to go back to, and two before it
            for a fault that is noticed late.
    """

    artifact: str
    catalina_base: str
    state_dir: str
    context: str = "ROOT"
    catalina_home: str = "/usr/share/tomcat10"
    java_home: str = ""
    unit: str = ""
    stop: tuple[str, ...] = ()
    start: tuple[str, ...] = ()
    process: str = ""
    stop_limit_ms: int = 60_000
    start_limit_ms: int = 60_000
    keep: int = 3


@dataclass(frozen=True, slots=True)
class ReleaseSettings:
    """The `release` strategy: an archive into `releases/VERSION`, and the `current` link.

    Attributes:
        artifact: local path of the archive (`.tar.gz`, `.tar` or `.zip`), with `{release}`.
        root: directory on the machine that holds `releases/` and `current`.
        stop, start: argv run before and after the link is switched; or
        restart: argv run after it instead of both.
        process: text that the process's command line holds; empty means the process that
            listens on the backend's port.
        stop_limit_ms, start_limit_ms: as for `tomcat`.
        keep: how many earlier releases stay on the machine; 5 as Capistrano, whose layout it is.
    """

    artifact: str
    root: str
    state_dir: str
    stop: tuple[str, ...] = ()
    start: tuple[str, ...] = ()
    restart: tuple[str, ...] = ()
    process: str = ""
    stop_limit_ms: int = 60_000
    start_limit_ms: int = 60_000
    keep: int = 5


@dataclass(frozen=True, slots=True)
class VersionSource:
    """Where an answer says which version is served. Exactly one is set, or none.

    Attributes:
        header: name of a response header.
        json: dotted path into a JSON body (`build.version`).
        pattern: regular expression with one group, searched in the body.
        path: where to ask, when it is not the health path.
    """

    header: str = ""
    json: str = ""
    pattern: str = ""
    path: str = ""

    @property
    def is_configured(self) -> bool:
        """Answers whether the version can be read from an answer at all."""
        return bool(self.header or self.json or self.pattern)


@dataclass(frozen=True, slots=True)
class HealthSettings:
    """How a backend's health is asked: on the application's own path, from the load balancers.

    Attributes:
        scheme, host_header: `host_header` empty means the backend's address.
        status: statuses that count as good.
        content: regular expression the body must match; empty means any.
        streak: how many good answers in a row.
        interval_min_ms, interval_max_ms: the pause between two questions grows from the first
            to the second.
        timeout_ms: of one question; short, and asked again (a lost packet costs no more).
        asked_from: `load-balancers` or `operator`.
    """

    path: str = "/"
    scheme: str = "http"
    host_header: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    status: tuple[int, ...] = (200,)
    content: str = ""
    version: VersionSource = VersionSource()
    streak: int = 3
    interval_min_ms: int = 30
    interval_max_ms: int = 1_000
    timeout_ms: int = 1_000
    asked_from: str = "load-balancers"
    verify_tls: bool = True


@dataclass(frozen=True, slots=True)
class WarmUpSettings:
    """Real requests to a node before users' traffic. No paths: no warm-up.

    The defaults tell a cold JVM from a warm one: its first requests took 4.3 s where warm ones
    took 0.11 s (measured with Tomcat 10).

    Attributes:
        requests_max: give up after this many; 200 is how often HotSpot calls a method before it
            first compiles it (`Tier3InvocationThreshold`).
        concurrency: 2, so that one slow first request does not hold up the rest.
        last: how many answers in a row must be under `limit_ms`; 10, so that one lucky answer
            from a cache is not taken for warm.
        limit_ms: between the two measured figures, with room for slow pages.
        timeout_ms: of one request: twice the slowest first one measured.
    """

    paths: tuple[str, ...] = ()
    requests_max: int = 200
    concurrency: int = 2
    last: int = 10
    limit_ms: int = 500
    timeout_ms: int = 10_000


@dataclass(frozen=True, slots=True)
class SessionStoreSettings:
    """The Redis that holds the sessions. No url: not checked, and said so.

    Attributes:
        url: `redis://host:port/db` without a password, as seen from `via` or the operator; or
            `redis+sentinel://...` or `redis+cluster://...`, see `session_store_address`.
        via: name of the SSH host the store is reached from; empty means directly.
        asked_from: `via` (or the operator without one), `backends` (each from its own machine), or
            `both`: what reaches the store from one place proves nothing of another's way there.
        failover_limit_ms: how long a wave waits for sentinels or a cluster that choose a master: a
            sentinel calls one dead after 30 s by default and needs some more for the rest.
        password_env: environment variable that holds the password.
        sentinel_password_env: that of the sentinels, which know no password of the master's.
        tls_ca: file on the operator's machine with an authority that is believed beside those that
            this machine trusts.
        tls_certificate: file there of our own certificate: Redis wants one unless told otherwise.
        tls_key: file there of its key; empty: it is in the same file.
        key_prefix: prefix of the session keys, so that the canary is judged by the same ACL.
        session_key: the key of one session, `{id}` for the value of its cookie; empty means that
            it is not known, so no session is looked at in the store.
        sample_max: how many stored sessions are read before a start to see whether the release can
            read them; 500 find a class that one session in a hundred has, nearly always. 0: none.
        incompatible: `refuse` or `warn`, when the release cannot read some of them.
        given_classes: how the names of classes begin that the nodes bring along beside the release.
        memory_used_max: share of maxmemory (0 to 1) above which it warns; the last tenth is what
            a rollout's new sessions may need before somebody can add memory.
        latency_max_ms: a single command slower than this warns: a session read this slow is felt
            in every request, while a far data centre's round trip stays well below it.
        timeout_ms: of connecting and of each command; retries are off.
        deadline_ms: of the whole check.
    """

    url: str = ""
    via: str = ""
    asked_from: str = "both"
    username: str = ""
    password_env: str = ""
    sentinel_password_env: str = ""
    tls_ca: str = ""
    tls_certificate: str = ""
    tls_key: str = ""
    key_prefix: str = ""
    session_key: str = ""
    sample_max: int = 500
    incompatible: str = "refuse"
    given_classes: tuple[str, ...] = ()
    memory_used_max: float = 0.9
    latency_max_ms: int = 500
    timeout_ms: int = 2_000
    deadline_ms: int = 10_000
    failover_limit_ms: int = 60_000


@dataclass(frozen=True, slots=True)
class CanaryRequest:
    """One request of the session canary.

    Attributes:
        form: sent as a browser sends a form. In a path, a form and a pattern `{marker}` stands for
            a word that only this session has, `{written}` for one that is written later.
        form_env: by form field, the environment variable that holds its value (a password).
        status: empty means 200 to 399, since a login usually answers with a redirect.
    """

    path: str = ""
    method: str = "GET"
    form: Mapping[str, str] = field(default_factory=dict)
    form_env: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    status: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class CsrfSettings:
    """The token that a page hides against forged requests, and where it is sent back.

    Attributes:
        path: the page; empty means that of `read`.
        pattern: regular expression with one group; empty means there is no token.
        field, header: where it goes; at least one of them.
    """

    path: str = ""
    pattern: str = ""
    field: str = ""
    header: str = ""


@dataclass(frozen=True, slots=True)
class CanarySettings:
    """Sessions of our own, made and read on both releases; without `create` there is no canary.

    Attributes:
        expect: regular expression that the answer to `read` must match with the session, and
            does not match without.
        written: the same after `write`; it says `{written}`.
        cookie: name of the session cookie.
        host_header: empty means that of `health`.
        headers: with every request, beside those of `health`; behind a load balancer that ends
            TLS, `X-Forwarded-Proto`.
        keep: how many sessions of the old release are kept for its last nodes.
        lifetime_share_min: a session must live at least this share of what it lived before; it
            counts from the last request, so a little less is seen.
        timeout_ms: of one request.
    """

    create: CanaryRequest = CanaryRequest()
    read: CanaryRequest = CanaryRequest()
    expect: str = ""
    write: CanaryRequest | None = None
    written: str = ""
    cookie: str = "JSESSIONID"
    csrf: CsrfSettings = CsrfSettings()
    host_header: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    keep: int = 3
    lifetime_share_min: float = 0.9
    timeout_ms: int = 10_000

    @property
    def is_configured(self) -> bool:
        """Answers whether there is a canary."""
        return bool(self.create.path)


@dataclass(frozen=True, slots=True)
class LogoutWatchSettings:
    """Where signs of logged-out users are looked for; how many are too many is in the policy.

    Attributes:
        logs: paths on the backends' machines, relative ones below `catalina_base` or `root`;
            `{date}` stands for a day (`2026-11-23`), the newest is the one in use. Empty means a
            Tomcat's own, of which those that are there are read.
        patterns: regular expressions beside the built-in ones.
        ignore: a line that one of these matches is no sign.
    """

    logs: tuple[str, ...] = ()
    patterns: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ProberSettings:
    """Requests of our own through every load balancer during a rollout, as a user would send them.

    Attributes:
        path: empty means there is no prober.
        host_header: empty means the load balancer's address. With `https` it is also the name the
            certificate is checked against.
        status: anything else counts as failed.
        interval_ms: from the beginning of one request to the next, on each load balancer; 200 ms
            sees what lasts longer than that and is no load.
        timeout_ms: of one request; nginx gives up an upstream after 60 s, a user much sooner.
        asked_from: `operator` or `load-balancers`: where the way through the network begins.
    """

    path: str = ""
    scheme: str = "http"
    host_header: str = ""
    status: tuple[int, ...] = (200,)
    interval_ms: int = 200
    timeout_ms: int = 10_000
    asked_from: str = "operator"
    verify_tls: bool = True


@dataclass(frozen=True, slots=True)
class AccessLogSettings:
    """The load balancers' own access logs.

    Attributes:
        is_read: they are to be read.
        path: empty means those that the running configuration has for our upstreams.
        format: name of the `log_format`; empty means the one the running configuration gives the
            path, or `combined`.
    """

    is_read: bool = False
    path: str = ""
    format: str = ""


@dataclass(frozen=True, slots=True)
class LossSettings:
    """How it is counted what users lose during a rollout. Neither: not counted, and said so.

    `max_errors` is in the fleet's policy.
    """

    prober: ProberSettings = ProberSettings()
    access_logs: AccessLogSettings = AccessLogSettings()

    @property
    def is_configured(self) -> bool:
        """Answers whether anything is counted."""
        return bool(self.prober.path) or self.access_logs.is_read


@dataclass(frozen=True, slots=True)
class LockSettings:
    """The lock that says who is at it. Read at every start and bound to no rollout.

    Attributes:
        expiry_s: a holder whose heart has not beaten for so long, by the load balancer's own
            clock, is taken for dead. 30 s outlives a network that is away for a moment and a
            laptop that changes its access point, and is short to wait for.
    """

    expiry_s: int = 30


StrategySettings = TomcatSettings | ReleaseSettings


@dataclass(frozen=True, slots=True)
class BackendSettings:
    """One backend: the machine it lives on, its lines, how it is upgraded and asked.

    Attributes:
        host: name of the SSH host.
        servers: by upstream name.
        probe_address: `host:port` that health, warm-up and the connection guard use; the address
            of the first upstream unless the inventory says otherwise.
        variables: for templates.
        ignore_connections_from: addresses (monitoring) whose open connections do not hold up
            the stop.
    """

    name: str
    host: str
    servers: Mapping[str, ServerSettings]
    probe_address: str
    strategy: StrategySettings
    health: HealthSettings
    warm_up: WarmUpSettings
    zone: str = ""
    variables: Mapping[str, Any] = field(default_factory=dict)
    ignore_connections_from: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Jar:
    """A local file that goes into a Tomcat's `lib`, and the sha256 that it must have."""

    path: str
    sha256: str


@dataclass(frozen=True, slots=True)
class SessionManagerSettings:
    """The Tomcat session manager that `setup` wires.

    Attributes:
        kind: `redisson` or `orangefunction`; says which template of `context.xml` is used.
        jars: all that the manager needs.
        template: local path of an own template of the fragment in place of the built-in one.
        template_text: what it holds.
        lifetime_s: after how long without a request a session ends, where the manager is told.
    """

    kind: str
    jars: tuple[Jar, ...] = ()
    template: str = ""
    template_text: str = ""
    lifetime_s: int = 1_800


@dataclass(frozen=True, slots=True)
class LocationSettings:
    """A location of nginx's configuration that `setup` makes pass to the upstream.

    Attributes:
        file: the file on the load balancer that holds it.
        path: as written after `location`, modifier included (`/`, `= /app`).
        server_name: a name of its server; empty where the file has one server only.
        upstream: the upstream's name; empty where the inventory has one only.
    """

    file: str
    path: str = "/"
    server_name: str = ""
    upstream: str = ""


@dataclass(frozen=True, slots=True)
class WiringSettings:
    """What `setup` brings about, once. Everything is optional.

    Attributes:
        graceful_stop_ms: Tomcat's `gracefulStopAwaitMillis`, for requests that still run when it
            stops; `bindOnInit="false"` goes with it. None: left as it is.
    """

    session_manager: SessionManagerSettings | None = None
    graceful_stop_ms: int | None = None
    locations: tuple[LocationSettings, ...] = ()


@dataclass(frozen=True, slots=True)
class NodeWiring:
    """What one Tomcat is to have besides what it has: the settings, rendered for its machine.

    Attributes:
        context: the elements for `conf/context.xml`, without their parent; empty: none.
        manager_class: class name of the Manager among them; empty: none.
        files: further whole files, by their path below CATALINA_BASE; they may hold secrets.
        graceful_stop_ms: None: left as it is.
    """

    jars: tuple[Jar, ...] = ()
    context: str = field(default="", repr=False)
    manager_class: str = ""
    files: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    graceful_stop_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Inventory:
    """Everything one inventory file says.

    Attributes:
        path: the file, absolute.
        digest: sha256 of the file's bytes.
        fleet: the same for the pure core.
        hosts: every SSH host that a load balancer, a backend or the session store uses.
        template: text of the upstream template; `template_name` is its path for messages.
        variables: the application's own, for templates.
    """

    path: str
    digest: str
    application: str
    fleet: Fleet
    hosts: Mapping[str, HostTarget]
    load_balancers: Mapping[str, LoadBalancerSettings]
    upstreams: Mapping[str, UpstreamSettings]
    backends: Mapping[str, BackendSettings]
    session_store: SessionStoreSettings
    template: str
    template_name: str
    variables: Mapping[str, Any] = field(default_factory=dict)
    lock: LockSettings = LockSettings()
    losses: LossSettings = LossSettings()
    canary: CanarySettings = CanarySettings()
    logout_watch: LogoutWatchSettings = LogoutWatchSettings()
    wiring: WiringSettings = WiringSettings()


_LABEL_MAX = 22
"""nginx refuses a second, longer name on one port unless `server_names_hash_bucket_size` is raised
(measured with 1.22 and 1.31 on x86, where it is 64)."""


def generation_host(application: str) -> str:
    """Answers the `Host` that the application's generation endpoint answers to."""
    label = application.lower()
    if len(label) > _LABEL_MAX:
        digest = hashlib.sha256(label.encode()).hexdigest()[:10]
        label = f"{label[:11]}-{digest}"
    return f"{label}.rolling-deploy.internal"
