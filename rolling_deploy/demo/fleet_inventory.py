"""The inventory of a demo fleet, as a person would write it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rolling_deploy.demo.fleet_files import APPLICATION, AppNode, Balancer, Machine


@dataclass(frozen=True, slots=True)
class InventoryFacts:
    """What the inventory says beyond the machines themselves.

    Attributes:
        user: the user to log in as.
        losses: the section that counts what users lose; empty leaves it out.
        more: whole lines of further sections, for a fleet that differs.
    """

    user: str
    directory: Path
    nginx: str
    redis_url: str
    wave_size: int
    drain_limit_s: int
    on_failure: str
    losses: str = ""
    more: str = ""


def inventory(
    facts: InventoryFacts,
    machines: Sequence[Machine],
    balancers: Sequence[Balancer],
    nodes: Sequence[AppNode],
) -> str:
    """Answers the inventory file of the fleet."""
    hosts = "".join(f"  {m.name}: {{address: 127.0.0.1, port: {m.ssh_port}}}\n" for m in machines)
    return (
        f"{general(facts)}\nhosts:\n{hosts}\n"
        f"load_balancers:\n{''.join(load_balancer(b, facts.nginx) for b in balancers)}\n"
        f"upstreams:\n  - name: {APPLICATION}\n\n"
        f"backends:\n{''.join(backend(n, facts.directory) for n in nodes)}"
        f"{facts.losses}{facts.more}"
    )


def general(facts: InventoryFacts) -> str:
    """Answers the part that is the same for every machine."""
    return f"""\
# The demo fleet. Every machine is this one: it has its own SSH port and its own folder.
application: {APPLICATION}

ssh:
  user: {facts.user}
  key: ssh/id_ed25519
  known_hosts: ssh/known_hosts
  host_keys: strict

nginx:
  # All "machines" share one process table, so each sees the nginx of the others.
  other_masters: ignore

upgrade:
  strategy: release
  artifact: artifacts/app-{{release}}.tar.gz

health:
  path: /health
  version:
    json: version
  streak: 3

warm_up:
  paths: [/cart]

drain:
  limit_s: {facts.drain_limit_s}

rollout:
  wave_size: {facts.wave_size}
  on_failure: {facts.on_failure}

session_store:
  url: {facts.redis_url}
  key_prefix: "{APPLICATION}:session:"
"""


def losses(max_errors: int | None) -> str:
    """Answers the section that counts what users lose: a prober, and the access logs."""
    gate = "" if max_errors is None else f"  max_errors: {max_errors}\n"
    return f"""
losses:
{gate}  prober:
    path: /health
    host_header: {APPLICATION}.example
    interval_ms: 100
  access_logs: {{}}
"""


def load_balancer(balancer: Balancer, nginx: str) -> str:
    """Answers one load balancer's entry."""
    prefix = balancer.prefix
    return f"""\
  - name: {balancer.name}
    host: {balancer.machine.name}
    address: 127.0.0.1:{balancer.port}
    nginx:
      file: {balancer.upstream_file}
      state_dir: {balancer.machine.directory}/state
      generation_port: {balancer.generation_port}
      binary: {nginx}
      prefix: {prefix}
      config: {prefix}/nginx.conf
      pid_file: {balancer.pid_file}
"""


def backend(node: AppNode, directory: Path) -> str:
    """Answers one backend's entry."""
    return f"""\
  - name: {node.name}
    host: {node.machine.name}
    address: {node.address}
    upgrade:
      strategy: release
      root: {node.root}
      stop: [{directory}/appctl, {node.root}, stop]
      start: [{directory}/appctl, {node.root}, start]
"""
