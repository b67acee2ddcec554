"""One inventory's machines, connected: the adapters that everything else is asked through."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from rolling_deploy.errors import MachineUnreachable, UsageWrong
from rolling_deploy.operations.log_sources import LogSources
from rolling_deploy.remote.connection import CannotReach, Connection
from rolling_deploy.remote.nginx import Nginx
from rolling_deploy.remote.record_copies import Place
from rolling_deploy.remote.session_store_info import Sample
from rolling_deploy.remote.ssh import SshConnection, connect_all
from rolling_deploy.remote.strategy import Strategy, strategy_of
from rolling_deploy.rollout.observed import ManagedFile
from rolling_deploy.settings import Inventory
from rolling_deploy.upstreams.merge import addresses_of
from rolling_deploy.upstreams.stamp import inspect

Connect = Callable[..., Mapping[str, "Connection | CannotReach"]]


@dataclass
class Site:
    """The machines of one inventory, each with one connection for the whole run.

    Attributes:
        unreachable: why some machines could not be reached at the start, by SSH host name. A
            load balancer among them is not asked again in this run; a backend is.
        off: load balancers that a person declared off; they are not connected to.
        store_sample: what the last check of the session store saw, so that the next one sees
            what was evicted since; the preflight's is the first.
        log_sources: the load balancers' access logs, as their running configuration was read.
        also_close: what must end before the connections do.
    """

    inventory: Inventory
    connections: Mapping[str, Connection]
    unreachable: Mapping[str, str] = field(default_factory=dict)
    off: frozenset[str] = frozenset()
    store_sample: Sample | None = None
    log_sources: dict[str, LogSources] = field(default_factory=dict)
    also_close: list[Callable[[], None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        inventory = self.inventory
        addresses = addresses_of(inventory.backends)

        # The same bytes mean the same, and between two publications every look finds the same.
        @lru_cache(maxsize=256)
        def look_at(content: bytes) -> ManagedFile:
            return inspect(content, inventory.application, addresses)

        self.nginx: dict[str, Nginx] = {}
        for name, settings in inventory.load_balancers.items():
            connection = self.connections.get(settings.host)
            if connection is None or name in self.off or settings.host in self.unreachable:
                continue
            self.nginx[name] = Nginx(settings, inventory.application, connection, look_at)
        self.strategies: dict[str, Strategy] = {}
        for name, backend in inventory.backends.items():
            connection = self.connections.get(backend.host)
            if connection is not None:
                self.strategies[name] = strategy_of(backend, connection)

    @property
    def places(self) -> dict[str, Place]:
        """Answers where the load balancers that are reached keep the record."""
        return {name: self.place_of(name) for name in self.nginx}

    def place_of(self, load_balancer: str) -> Place:
        """Answers where one load balancer keeps the record."""
        settings = self.inventory.load_balancers[load_balancer]
        return Place(self.connections[settings.host], settings.state_dir)

    @property
    def service_places(self) -> dict[str, Place]:
        """Answers where the backends that are reached keep their fence."""
        return {
            name: Place(self.connections[backend.host], backend.strategy.state_dir)
            for name, backend in self.inventory.backends.items()
            if backend.host in self.connections and backend.host not in self.unreachable
        }

    def why_not(self, host: str) -> str:
        """Answers why a machine could not be reached."""
        return self.unreachable.get(host, "not connected")

    def require(self, hosts: Mapping[str, str]) -> None:
        """Refuse to go on without these machines, given by SSH host name and what they are.

        Raises:
            MachineUnreachable: naming all that are missing.
        """
        missing = {host: what for host, what in hosts.items() if host in self.unreachable}
        if missing:
            by_reason: dict[str, list[str]] = {}  # one, where a jump host is what is not reached
            for host, what in missing.items():
                by_reason.setdefault(self.why_not(host), []).append(f"{host} ({what})")
            reasons = "; ".join(f"{', '.join(who)}: {why}" for why, who in by_reason.items())
            raise MachineUnreachable(
                f"cannot reach {', '.join(missing)}",
                where=reasons,
                next_step="mend the connection and run again; a load balancer that is really off "
                "is declared with `--without NAME`",
            )

    def require_all(self) -> None:
        """Refuse to go on without every machine that is not declared off."""
        self.require({**self.balancer_hosts(), **self._backend_hosts(), **self._store_hosts()})

    def balancer_hosts(self) -> dict[str, str]:
        """Answers the SSH hosts of the load balancers that count."""
        return {
            settings.host: f"load balancer {name}"
            for name, settings in self.inventory.load_balancers.items()
            if name not in self.off
        }

    def _backend_hosts(self) -> dict[str, str]:
        return {b.host: f"backend {name}" for name, b in self.inventory.backends.items()}

    def _store_hosts(self) -> dict[str, str]:
        via = self.inventory.session_store.via
        return {via: "the way to the session store"} if via else {}

    def close(self) -> None:
        """Close every connection."""
        for end in self.also_close:
            end()
        for connection in self.connections.values():
            connection.close()


def connect(
    inventory: Inventory, *, off: frozenset[str] = frozenset(), opener: Connect = connect_all
) -> Site:
    """Open one connection to every machine, all at the same time.

    Machines that cannot be reached are in `unreachable`; who needs them asks with `require`.
    """
    balancers = inventory.load_balancers
    odd = off - set(balancers)
    if odd:
        raise UsageWrong(
            f"no load balancer is named {', '.join(sorted(odd))}",
            where=inventory.path,
            next_step=f"name one of {', '.join(balancers)}",
        )
    wanted = {settings.host for name, settings in balancers.items() if name not in off}
    wanted |= {backend.host for backend in inventory.backends.values()}
    if inventory.session_store.via:
        wanted.add(inventory.session_store.via)
    opened = opener([inventory.hosts[name] for name in sorted(wanted)])
    connections: dict[str, Connection] = {}
    unreachable: dict[str, str] = {}
    for name, connection in opened.items():
        if isinstance(connection, CannotReach):
            unreachable[name] = str(connection)
            # It may come back while we wait for it: each use tries to connect again.
            connections[name] = SshConnection(inventory.hosts[name])
        else:
            connections[name] = connection
    return Site(inventory, connections, unreachable, off)
