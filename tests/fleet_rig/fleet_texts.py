"""The files of the rig's machines, as text, and where everything is on its two networks."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rolling_deploy.demo.fleet_files import TEMP_PATHS
from rolling_deploy.demo.servers import Servers

APPLICATION = "shop"
SITE_PORT = 80
BLOG_PORT = 9000
START_DELAY_MS = 150


@dataclass(frozen=True, slots=True)
class Place:
    """A machine's address on each network, empty where it is not on it."""

    mgmt: str = ""
    site: str = ""
    outside: str = ""

    @property
    def on(self) -> dict[str, str]:
        """Answers its addresses by network."""
        found = {"mgmt": self.mgmt, "site": self.site, "outside": self.outside}
        return {segment: address for segment, address in found.items() if address}


PLACES: Mapping[str, Place] = {
    "operator": Place("10.77.1.2"),
    "bastion": Place("10.77.1.3"),
    "lb1": Place("10.77.1.11", "10.77.2.11"),
    "lb2": Place("10.77.1.12", "10.77.2.12"),
    "web1": Place("10.77.1.21", "10.77.2.21"),
    "web2": Place("10.77.1.22", "10.77.2.22"),
    "web3": Place("10.77.1.23", "10.77.2.23"),
    "redis1": Place("10.77.1.31", "10.77.2.31"),
    "redis2": Place("10.77.1.32", "10.77.2.32"),
    "client": Place("", "10.77.2.9"),
}
FLOATING = {"mgmt": "10.77.1.30", "site": "10.77.2.30"}
"""Where Redis is, whichever machine is the master."""
BALANCERS = ("lb1", "lb2")


@dataclass(frozen=True, slots=True)
class App:
    """Where one application process lives."""

    machine: str
    port: int

    @property
    def address(self) -> str:
        """Answers what nginx connects to."""
        return f"{PLACES[self.machine].site}:{self.port}"


APPS: Mapping[str, App] = {
    "app1": App("web1", 8080),
    "app2": App("web2", 8080),
    "app3": App("web3", 8080),
    "app4": App("web3", 8081),
}


def sshd_config(name: str, shared: Path, home: Path, address: str = "") -> str:
    """Answers the configuration of one machine's sshd; what is not here is the default."""
    return f"""\
ListenAddress {address or PLACES[name].mgmt}
HostKey {shared}/ssh/host_key_{name}
PidFile /run/sshd.pid
AuthorizedKeysFile {shared}/ssh/authorized_keys
StrictModes no
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
PrintMotd no
SetEnv HOME={home}
"""


def instance_env(app: str, python: str) -> str:
    """Answers what `appctl` needs to know about one instance."""
    return (
        f"NAME={app}\nPORT={APPS[app].port}\nREDIS={FLOATING['site']}:6379\n"
        f"START_DELAY_MS={START_DELAY_MS}\nPYTHON='{python}'\nBIND={PLACES[APPS[app].machine].site}\n"
    )


def nginx_files(
    name: str, home: Path, servers: Servers, apps: Mapping[str, App] = APPS
) -> dict[str, str]:
    """Answers every file of a load balancer's nginx, by path below its own folder.

    The upstream is as somebody wrote it by hand: comments, a weight, a server that a person took
    out long ago. `blog` is another application, of other people.
    """
    temp = "".join(
        f"    {kind}_temp_path {home}/temp/{kind};\n"
        for kind in TEMP_PATHS
        if f"--without-http_{kind}_module" not in servers.nginx.built_with
    )
    listen = f"{PLACES[name].site}:{SITE_PORT}"
    servers_by_hand = "".join(
        f"    server {place.address}{' weight=2' if app == next(iter(apps)) else ''};  # {app}\n"
        for app, place in apps.items()
    )
    return {
        "etc/nginx.conf": (
            "user root;\nworker_processes 2;\n"
            f"pid {home}/run/nginx.pid;\nerror_log {home}/logs/error.log notice;\n"
            "events {\n    worker_connections 1024;\n}\n"
            f"http {{\n    access_log {home}/logs/access.log;\n{temp}"
            f"    keepalive_timeout 65s;\n    include {home}/etc/conf.d/*.conf;\n}}\n"
        ),
        f"etc/conf.d/{APPLICATION}.conf": (
            f"server {{\n    listen {listen} default_server backlog=1024;\n"
            f"    server_name {APPLICATION}.example;\n"
            "    client_max_body_size 64m;\n"
            "    add_header X-Upstream $upstream_addr always;\n\n"
            f"    location / {{\n        proxy_pass http://{APPLICATION};\n"
            "        proxy_set_header Host $host;\n        proxy_connect_timeout 2s;\n"
            "        proxy_read_timeout 30s;\n    }\n}\n"
        ),
        f"etc/conf.d/{APPLICATION}.upstream.conf": (
            f"# The {APPLICATION}'s application nodes. {next(iter(apps))} has the larger machine.\n"
            f"upstream {APPLICATION} {{\n{servers_by_hand}}}\n"
        ),
        "etc/conf.d/blog.upstream.conf": (
            f"upstream blog {{\n    server {PLACES['web2'].site}:{BLOG_PORT};\n"
            f"    server 10.77.2.98:{BLOG_PORT} down;\n}}\n"
        ),
        "etc/conf.d/blog.conf": (
            f"server {{\n    listen {listen};\n    server_name blog.example;\n"
            "    location / {\n        proxy_pass http://blog;\n        proxy_http_version 1.1;\n"
            "        proxy_set_header Upgrade $http_upgrade;\n"
            '        proxy_set_header Connection "upgrade";\n    }\n}\n'
        ),
    }


def persons_lines(text: str) -> list[str]:
    """Answers the lines of a managed file's upstream block; spaces count as one."""
    block = re.search(rf"^upstream {APPLICATION} \{{$.*?^\}}$", text, re.MULTILINE | re.DOTALL)
    assert block is not None, text
    return [" ".join(line.split()) for line in block[0].splitlines()]


def inventory(shared: Path) -> str:
    """Answers the inventory as a person would write it; tests replace texts in it."""
    backends = "".join(
        f"  - name: {app}\n    host: {place.machine}\n    address: {place.address}\n"
        f"    upgrade:\n      strategy: release\n      root: {shared}/{place.machine}/{app}\n"
        f"      stop: [{shared}/appctl, {shared}/{place.machine}/{app}, stop]\n"
        f"      start: [{shared}/appctl, {shared}/{place.machine}/{app}, start]\n"
        for app, place in APPS.items()
    )
    return f"""\
{about_machines(shared, ("web1", "web2", "web3"))}
upgrade:
  strategy: release
  artifact: artifacts/app-{{release}}.tar.gz

health:
  path: /health
  version:
    json: version
  streak: 2

warm_up:
  paths: [/cart]

rollout:
  wave_size: 2
  serving_min: 1
  on_failure: halt

session_store:
  url: redis://{FLOATING["mgmt"]}:6379/0
  key_prefix: "{APPLICATION}:session:"

backends:
{backends}"""


def about_machines(shared: Path, webs: Sequence[str]) -> str:
    """Answers what an inventory says whatever runs on the backends' machines, and of the lock.

    `other_masters` is not set: each nginx is alone on its machine.
    """
    hosts = "".join(f"  {name}: {{address: {PLACES[name].mgmt}}}\n" for name in (*BALANCERS, *webs))
    balancers = "".join(
        f"  - name: {name}\n    nginx:\n"
        f"      file: {shared}/{name}/etc/conf.d/{APPLICATION}.upstream.conf\n"
        f"      state_dir: {shared}/{name}/etc/state\n"
        for name in BALANCERS
    )
    return f"""\
application: {APPLICATION}

ssh:
  user: root
  key: ssh/id_ed25519
  known_hosts: ssh/known_hosts
  host_keys: strict
  keepalive_s: 1
  connect_timeout_s: 2

drain:
  limit_s: 60

lock:
  expiry_s: 6

hosts:
{hosts}
load_balancers:
{balancers}
upstreams:
  - name: {APPLICATION}
"""
