"""The fleets that are simulated: their inventories, as the production loader reads them."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path

from rolling_deploy.inventory.load import load_inventory
from rolling_deploy.rollout.fleet import Policy
from rolling_deploy.settings import AccessLogSettings, Inventory, LossSettings
from rolling_deploy.upstreams.merge import addresses_of, merge
from rolling_deploy.upstreams.reading import read_layout
from rolling_deploy.upstreams.render import Renderings, freeze
from tests.simulation import nginx_text

APPLICATION = "shop"


@dataclass(frozen=True)
class Shape:
    """How many machines, and who serves what.

    Attributes:
        has_two_upstreams: the second one has every backend but the first.
        is_version_checked: the health answer carries the version.
    """

    backends: int
    balancers: int
    has_two_upstreams: bool = False
    is_version_checked: bool = True

    @property
    def backend_names(self) -> tuple[str, ...]:
        """Answers `app1`…"""
        return tuple(f"app{n}" for n in range(1, self.backends + 1))

    @property
    def balancer_names(self) -> tuple[str, ...]:
        """Answers `lb1`…"""
        return tuple(f"lb{n}" for n in range(1, self.balancers + 1))

    def inventory(self, policy: Policy) -> Inventory:
        """Answers the fleet's inventory with this policy."""
        loaded = _loaded(self)
        losses = LossSettings(access_logs=AccessLogSettings(is_read=policy.counts_losses))
        return replace(loaded, fleet=replace(loaded.fleet, policy=policy), losses=losses)

    @cached_property
    def addresses(self) -> Mapping[str, Collection[str]]:
        """Answers every backend's addresses."""
        return addresses_of(_loaded(self).backends)

    @cached_property
    def found(self) -> str:
        """Answers a person's own file, before anything of ours."""
        lines = []
        for upstream in _loaded(self).upstreams:
            lines.append(f"upstream {upstream} {{")
            lines += [
                f"    server {b.servers[upstream].address};"
                for b in _loaded(self).backends.values()
                if upstream in b.servers
            ]
            lines.append("}")
        return "\n".join(lines) + "\n"

    def managed(
        self,
        balancer: str,
        out: frozenset[str] = frozenset(),
        parked: frozenset[str] = frozenset(),
    ) -> str:
        """Answers the file as an earlier rollout left it."""
        return _renderings(self, parked).text(balancer, out, "r-0", 3, "r-0.1.9")


@cache
def _loaded(shape: Shape) -> Inventory:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "inventory.yaml"
        path.write_text(_text(shape), encoding="utf-8")
        return load_inventory(path)


@cache
def _renderings(shape: Shape, parked: frozenset[str]) -> Renderings:
    inventory = _loaded(shape)
    text = shape.found
    for name in parked:
        text = nginx_text.parked(text, f"{name}:8080")
    layout = merge(read_layout(text, "the file"), inventory.upstreams, inventory.backends).layout
    return Renderings(freeze(inventory, dict.fromkeys(shape.balancer_names, layout)))


def _text(shape: Shape) -> str:
    names = [*shape.balancer_names, *shape.backend_names]
    hosts = "".join(f"  {name}: {{address: {name}}}\n" for name in names)
    lbs = "".join(f"  - {{name: {name}, host: {name}}}\n" for name in shape.balancer_names)
    backends = ""
    for number, name in enumerate(shape.backend_names):
        lines = [f'web: {{address: "{name}:8080"}}']
        if shape.has_two_upstreams and number:
            lines.append(f'api: {{address: "{name}:8080"}}')
        backends += f"  - {{name: {name}, host: {name}, servers: {{{', '.join(lines)}}}}}\n"
    version = ", version: {json: version}" if shape.is_version_checked else ""
    return f"""\
application: {APPLICATION}
hosts:
{hosts}
nginx: {{file: /etc/nginx/conf.d/shop.conf, state_dir: /var/lib/rolling-deploy/shop}}
load_balancers:
{lbs}
upstreams:
  - name: web
{"  - name: api" if shape.has_two_upstreams else ""}
upgrade:
  strategy: release
  root: /srv/shop
  artifact: "shop-{{release}}.tar.gz"
  start: [/srv/shop/start]
  stop: [/srv/shop/stop]
health: {{path: /health, streak: 1{version}}}
backends:
{backends}
"""
