"""The files of a demo fleet, as text: what a person would have written on such machines."""

from __future__ import annotations

import os
import pwd
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rolling_deploy.demo.servers import Servers

APPLICATION = "shop"
TEMP_PATHS = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


@dataclass(frozen=True, slots=True)
class Machine:
    """One SSH host of the fleet: a name, a port, a directory of its own."""

    name: str
    ssh_port: int
    directory: Path


@dataclass(frozen=True, slots=True)
class AppNode:
    """One instance of the demo application and where it lives."""

    name: str
    machine: Machine
    port: int

    @property
    def root(self) -> Path:
        """Answers the folder that holds `releases/` and `current`."""
        return self.machine.directory / self.name

    @property
    def address(self) -> str:
        """Answers what nginx connects to."""
        return f"127.0.0.1:{self.port}"


@dataclass(frozen=True, slots=True)
class Balancer:
    """One nginx of the fleet and where it lives."""

    name: str
    machine: Machine
    port: int
    generation_port: int

    @property
    def prefix(self) -> Path:
        """Answers nginx's own folder."""
        return self.machine.directory / "nginx"

    @property
    def upstream_file(self) -> Path:
        """Answers the file that holds the upstream, at first written by hand."""
        return self.prefix / "conf.d" / f"{APPLICATION}.upstream.conf"

    @property
    def access_log(self) -> Path:
        """Answers the log with one JSON object for each request."""
        return self.prefix / "logs" / "access.log"

    @property
    def pid_file(self) -> Path:
        """Answers the file that the nginx master writes its process id into."""
        return self.prefix / "run" / "nginx.pid"

    @property
    def url(self) -> str:
        """Answers where users reach the site through this load balancer."""
        return f"http://127.0.0.1:{self.port}"


def nginx_main(balancer: Balancer, servers: Servers, keepalive_min_timeout_s: int) -> str:
    """Answers the main nginx.conf."""
    prefix = balancer.prefix
    user = f"user {pwd.getpwuid(0).pw_name};\n" if os.geteuid() == 0 else ""
    temp = "".join(
        f"    {kind}_temp_path {prefix}/temp/{kind};\n"
        for kind in TEMP_PATHS
        if f"--without-http_{kind}_module" not in servers.nginx.built_with
    )
    spares_idle = servers.keeps_idle_clients and keepalive_min_timeout_s > 0
    keepalive = f"    keepalive_min_timeout {keepalive_min_timeout_s}s;\n" if spares_idle else ""
    return f"""\
{user}worker_processes 2;
pid {balancer.pid_file};
error_log {prefix}/logs/error.log notice;

events {{
    worker_connections 1024;
}}

http {{
    log_format demo escape=json
        '{{"at":"$msec","request_id":"$request_id","method":"$request_method",'
        '"uri":"$request_uri","status":"$status","upstream_addr":"$upstream_addr",'
        '"upstream_status":"$upstream_status","took_s":"$request_time",'
        '"agent":"$http_user_agent","connection":"$connection",'
        '"connection_requests":"$connection_requests"}}';
    access_log {prefix}/logs/access.log demo;
{temp}{keepalive}    keepalive_timeout 65s;

    include {prefix}/conf.d/*.conf;
}}
"""


def nginx_site(balancer: Balancer) -> str:
    """Answers the site: one server that hands everything to the upstream."""
    return f"""\
server {{
    listen 127.0.0.1:{balancer.port} backlog=1024;
    server_name {APPLICATION}.example;
    client_max_body_size 64m;
    add_header X-Load-Balancer {balancer.name} always;
    add_header X-Upstream $upstream_addr always;

    location / {{
        proxy_pass http://{APPLICATION};
        proxy_set_header Host $host;
        proxy_set_header X-Request-Id $request_id;
        proxy_connect_timeout 2s;
        proxy_read_timeout 30s;
    }}
}}
"""


def nginx_upstream(nodes: Sequence[AppNode]) -> str:
    """Answers the upstream as somebody wrote it by hand: comments, and a weight on the first."""
    lines = [
        f"    server {node.address}{' weight=2' if index == 0 and len(nodes) > 1 else ''};"
        f"  # {node.name}"
        for index, node in enumerate(nodes)
    ]
    return "\n".join(
        [
            f"# The {APPLICATION}'s application nodes. {nodes[0].name} has the larger machine.",
            f"upstream {APPLICATION} {{",
            *lines,
            "}",
            "",
        ]
    )


def sshd_config(machine: Machine, authorized_keys: Path) -> str:
    """Answers the configuration of one machine's sshd; what is not here is the default."""
    return f"""\
ListenAddress 127.0.0.1
Port {machine.ssh_port}
HostKey {machine.directory}/ssh_host_key
PidFile {machine.directory}/sshd.pid
AuthorizedKeysFile {authorized_keys}
# The fleet lives in a folder of the user's choice, whose parents may be writable by others.
StrictModes no
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
PrintMotd no
# A machine of its own would not read this user's shell start-up files at every command either.
SetEnv HOME={machine.directory}
"""


def instance_env(node: AppNode, python: str, redis_port: int, start_delay_ms: int) -> str:
    """Answers what `appctl` needs to know about one instance."""
    return (
        f"NAME={node.name}\nPORT={node.port}\nREDIS=127.0.0.1:{redis_port}\n"
        f"START_DELAY_MS={start_delay_ms}\nPYTHON='{python}'\n"
    )
