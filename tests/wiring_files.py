"""A load balancer's files as texts, and what they are after a plan of `setup`."""

from __future__ import annotations

from collections.abc import Mapping

from rolling_deploy.settings import (
    BackendSettings,
    HealthSettings,
    LoadBalancerSettings,
    LocationSettings,
    ReleaseSettings,
    ServerSettings,
    UpstreamSettings,
    WarmUpSettings,
)
from rolling_deploy.upstreams.routes import Dump, parse_dump
from rolling_deploy.upstreams.splice import text_from
from rolling_deploy.upstreams.wiring import files_to_read, plan_files
from rolling_deploy.upstreams.wiring_plan import ConfigFile, FilesPlan, Wanted

MAIN = "/etc/nginx/nginx.conf"
DEFAULT = "/etc/nginx/conf.d/default.conf"
MANAGED = "/etc/nginx/conf.d/shop.upstream.conf"

SEED = (
    b"worker_processes 1;\nevents {}\n"
    b"http {upstream tomcat {server localhost:8080; server localhost:8081; } "
    b"include /etc/nginx/mime.types; default_type application/octet-stream; "
    b"include /etc/nginx/conf.d/*.conf; }\n"
)
"""The seed's own lines: the whole `http` block on one line."""

STOCK = b"""\
server {
    listen       80;
    server_name  localhost;

    #access_log  /var/log/nginx/host.access.log  main;

    location / {
        root   /usr/share/nginx/html;
        index  index.html index.htm;
    }

    error_page   500 502 503 504  /50x.html;
    location = /50x.html {
        root   /usr/share/nginx/html;
    }
}
"""
"""`conf.d/default.conf` as nginx's own packages bring it."""


def backend(name: str, *servers: tuple[str, str]) -> BackendSettings:
    """Answers a backend with these lines: upstream and address."""
    return BackendSettings(
        name,
        name,
        {upstream: ServerSettings(address) for upstream, address in servers},
        servers[0][1],
        ReleaseSettings("a.tar.gz", "/srv/app", "/srv/state"),
        HealthSettings(),
        WarmUpSettings(),
    )


def wanted(
    *,
    file: str = MANAGED,
    upstream: str = "tomcat",
    locations: tuple[LocationSettings, ...] = (),
    backends: tuple[BackendSettings, ...] = (),
    acknowledged: tuple[str, ...] = (),
) -> Wanted:
    """Answers what the seed's inventory wants: one upstream with ports 8080 and 8081."""
    given = backends or (
        backend("app1", (upstream, "127.0.0.1:8080")),
        backend("app2", (upstream, "127.0.0.1:8081")),
    )
    names = dict.fromkeys(name for one in given for name in one.servers)
    settings = LoadBalancerSettings(
        "lb1", "lb1", file, "/var/lib/rd", acknowledged_routes=acknowledged
    )
    return Wanted(
        "shop",
        settings,
        {name: UpstreamSettings(name) for name in names},
        {one.name: one for one in given},
        locations,
    )


def dump_of(files: Mapping[str, bytes]) -> Dump:
    """Answers the configuration as `nginx -T` prints these files."""
    return parse_dump(
        "".join(
            f"# configuration file {path}:\n{text_from(data)}\n" for path, data in files.items()
        )
    )


def planned(
    files: Mapping[str, bytes], want: Wanted, *, unread: Mapping[str, bytes] | None = None
) -> FilesPlan:
    """Answers the plan for files that nginx reads, and others that only lie there."""
    dump = dump_of(files)
    on_disk = {**files, **(unread or {})}
    sources = {
        path: ConfigFile(path, path, on_disk.get(path)) for path in files_to_read(dump, want)
    }
    return plan_files(dump, want, sources)


def carried_out(files: Mapping[str, bytes], plan: FilesPlan) -> dict[str, bytes]:
    """Answers the files after the plan's edits, none of which may be refused."""
    assert not plan.refused, plan.refused
    return {**files, **{edit.path: edit.new for edit in plan.edits}}


def refusals(plan: FilesPlan) -> str:
    """Answers what the plan refuses, which must be something, and that it edits nothing then."""
    assert plan.refused
    assert not plan.edits
    return "\n".join(map(str, plan.refused))
