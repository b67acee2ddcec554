"""A running nginx as the seed's guide leaves it, and the site that `setup` sees it as."""

from __future__ import annotations

import http.client
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rolling_deploy.inventory import load_inventory
from rolling_deploy.operations.desk import Desk, Footing
from rolling_deploy.operations.site import Site
from rolling_deploy.operations.wire_balancers import WiringPlan, plan_wiring
from rolling_deploy.ports import Event
from rolling_deploy.remote.connection import CannotReach, Connection
from rolling_deploy.remote.nginx_wiring import NginxWiring
from rolling_deploy.settings import HostTarget
from tests.local_connection import LocalConnection
from tests.nginx_machine import APPLICATION, NginxMachine
from tests.wiring_files import STOCK

INVENTORY = """\
application: shop
hosts: {lb1: {}, web1: {}}
load_balancers:
  - name: lb1
    nginx:
      file: FILE
      state_dir: STATE
      config: CONFIG
      generation_port: PORT
      other_masters: ignore
upstreams: [{name: tomcat}]
upgrade: {strategy: tomcat, artifact: "shop-{release}.war"}
backends:
  - {name: app1, host: web1, address: "127.0.0.1:ONE", upgrade: {catalina_base: /srv/app1}}
  - {name: app2, host: web1, address: "127.0.0.1:TWO", upgrade: {catalina_base: /srv/app2}}
setup:
  locations: [{file: DEFAULT}]
"""


class SeedMachine(NginxMachine):
    """The `http` block on one line with the upstream in it, and the stock `default.conf`.

    Attributes:
        default: what nginx reads as `default.conf`.
        stock: its bytes as the package brings them.
    """

    def _write(self) -> None:
        self.default = self.conf_d / "default.conf"
        front = f"127.0.0.1:{self.front_port}".encode()
        html = f"{self.root}/html".encode()
        self.stock = STOCK.replace(b"80;", front + b";", 1).replace(b"/usr/share/nginx/html", html)
        (self.root / "html").mkdir()
        (self.root / "html" / "index.html").write_text("welcome to nginx\n")
        (self.root / "mime.types").write_text("types { text/html html; }\n")
        ports = [backend.address.rpartition(":")[2] for backend in self.backends]
        who = "user root; " if os.geteuid() == 0 else ""
        temporary = " ".join(
            f"{name}_temp_path {self.root}/{name};"
            for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        self.main = (
            f"worker_processes 2;\npid {self.pid_file};\nerror_log {self.error_log};\n"
            f"{who}events {{ worker_connections 128; }}\n"
            f"http {{upstream tomcat {{server localhost:{ports[0]}; "
            f"server localhost:{ports[1]}; }} "
            f"include {self.root}/mime.types; default_type application/octet-stream; "
            f"{temporary} access_log off; include {self.conf_d}/*.conf; }}\n"
        ).encode()
        self.config.write_bytes(self.main)
        self.default.write_bytes(self.stock)

    def page(self) -> str:
        """Answers what a user sees at `/`."""
        link = http.client.HTTPConnection("127.0.0.1", self.front_port, timeout=5)
        try:
            link.request("GET", "/")
            return link.getresponse().read().decode().strip()
        finally:
            link.close()

    def files(self) -> dict[str, bytes]:
        """Answers every file that nginx is configured by."""
        found = [self.config, *sorted(self.conf_d.rglob("*"))]
        return {str(path): path.read_bytes() for path in found if path.is_file()}

    def wiring(self, connection: Connection | None = None, **changes: object) -> NginxWiring:
        """Answers the adapter under test."""
        return NginxWiring(self.settings(**changes), APPLICATION, connection or LocalConnection())


@dataclass
class Told:
    """A reporter that keeps what it was told."""

    events: list[Event] = field(default_factory=list)

    def event(self, event: Event) -> None:
        self.events.append(event)


def desk_of(machine: SeedMachine, directory: Path) -> Desk:
    """Answers a desk whose machines are all this one."""
    ports = [backend.address.rpartition(":")[2] for backend in machine.backends]
    text = INVENTORY
    for word, value in {
        "FILE": machine.file,
        "STATE": machine.state_dir,
        "CONFIG": machine.config,
        "PORT": machine.generation_port,
        "ONE": ports[0],
        "TWO": ports[1],
        "DEFAULT": machine.default,
    }.items():
        text = text.replace(word, str(value), 1)
    path = directory / "inventory.yaml"
    path.write_text(text)

    def opener(hosts: Sequence[HostTarget]) -> Mapping[str, Connection | CannotReach]:
        return {host.name: LocalConnection() for host in hosts}

    return Desk(
        load_inventory(path),
        directory / "own",
        Told(),
        lambda _: True,
        footing=Footing(opener=opener),
    )


def site_of(desk: Desk, connection: Connection) -> Site:
    """Answers the desk's site over this one connection."""
    return Site(desk.inventory, dict.fromkeys(desk.inventory.hosts, connection))


def plan_of(site: Site, *, recovers: bool = False) -> WiringPlan:
    """Answers the plan for the only load balancer."""
    return plan_wiring(site, recovers=recovers)["lb1"]
