"""An inventory, a load balancer and a site that nobody is connected to, for preflight checks."""

from __future__ import annotations

import base64
from pathlib import Path

from rolling_deploy.inventory import load_inventory
from rolling_deploy.operations.balancer_checks import Acceptance, BalancerChecks, BalancerSurvey
from rolling_deploy.operations.site import Site
from rolling_deploy.remote.nginx import Look
from rolling_deploy.remote.nginx_facts import NginxFacts, facts_from
from rolling_deploy.remote.script import parse_reply
from rolling_deploy.rollout.observed import Check, Fence, LoadBalancerSeen, ManagedFile
from rolling_deploy.settings import Inventory
from rolling_deploy.upstreams.merge import addresses_of
from rolling_deploy.upstreams.stamp import inspect

FILE = "/etc/nginx/conf.d/shop.upstream.conf"
MAIN = "http { include /etc/nginx/conf.d/*.conf; }"
INVENTORY = """\
application: shop
hosts: {lb1: {}, lb2: {}, web1: {}}
load_balancers: [{name: lb1}, {name: lb2}]
upstreams: [{name: tomcat}]
upgrade: {strategy: tomcat, artifact: "shop-{release}.war"}
backends:
  - {name: app1, host: web1, address: "127.0.0.1:8080", upgrade: {catalina_base: /srv/app1}}
  - {name: app2, host: web1, address: "127.0.0.1:8081", upgrade: {catalina_base: /srv/app2}}
  - {name: app3, host: web1, address: "127.0.0.1:8082", upgrade: {catalina_base: /srv/app3}}
"""
UPSTREAM = """\
upstream tomcat {
    server 127.0.0.1:8080;
    server 127.0.0.1:8081;
    server 127.0.0.1:8082;
}
"""


def inventory_in(directory: Path, text: str = INVENTORY) -> Inventory:
    """Answers the inventory of this text."""
    file = directory / "inventory.yaml"
    file.write_text(text)
    return load_inventory(file)


def dump_of(**files: str) -> str:
    """Answers what `nginx -T` prints: the main file, and files of `conf.d` by their names."""
    texts = {"/etc/nginx/nginx.conf": files.pop("main", MAIN)}
    texts |= {f"/etc/nginx/conf.d/{name}.conf": text for name, text in files.items()}
    return "".join(f"# configuration file {path}:\n{text}\n" for path, text in texts.items())


def facts_of(dump: str, **changes: str) -> NginxFacts:
    """Answers the facts of a sound nginx with this configuration."""
    values = {
        "master": "10",
        "version": "nginx/1.22.1",
        "prefix": "/usr/share/nginx",
        "config": "/etc/nginx/nginx.conf",
        **changes,
    }
    said = [f"{key}={value}" for key, value in values.items()]
    said.append("dump:=" + base64.b64encode(dump.encode()).decode())
    return facts_from(parse_reply("\n".join([*said, "end=done"]).encode()), 18_999)


def surveyed(
    inventory: Inventory, text: str | None, dump: str, acceptance: Acceptance | None = None
) -> tuple[BalancerSurvey, list[Check]]:
    """Answers what a preflight learns of lb1 with this managed file, and its lines."""
    content = text.encode() if text is not None else None
    file: ManagedFile | None = None
    if content is not None:
        file = inspect(content, inventory.application, addresses_of(inventory.backends))
    live = file.stamp.generation if file and file.stamp else None
    look = Look(LoadBalancerSeen(file, live, True, 0), content, Fence(0, ""), 10)
    checks = BalancerChecks(
        Site(inventory, {}), "lb1", look, facts_of(dump), acceptance or Acceptance(adopting=True)
    )
    return checks.survey(), checks.lines


def details(lines: list[Check], name: str) -> dict[str, str]:
    """Answers the lines of one name: verdicts by their details."""
    return {line.detail: line.verdict.value for line in lines if line.name == name}
