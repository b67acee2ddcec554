"""What can be counted from one load balancer's access logs, and counting their lines."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from rolling_deploy.remote.prober import AGENT
from rolling_deploy.rollout.losses import NOBODY, UNTOLD, Count
from rolling_deploy.settings import Inventory
from rolling_deploy.upstreams.access_logs import (
    AccessLog,
    Found,
    is_by_number,
    log_at,
    logs_of,
    servers_in,
)
from rolling_deploy.upstreams.addresses import canonical
from rolling_deploy.upstreams.log_format import Line, LogFormat
from rolling_deploy.upstreams.merge import addresses_of
from rolling_deploy.upstreams.routes import Dump

CLIENT_CLOSED = 499
"""nginx's own status: the client had gone before the answer."""
FAILED_FROM = 500


@dataclass(frozen=True, slots=True)
class LogSources:
    """One load balancer's logs, and whose addresses they may name.

    Attributes:
        backends: by canonical address.
        ours: canonical addresses of every server of our upstreams, and the upstreams' names
            (which nginx logs when no server was left). None when they cannot be told from others'.
        gaps: what is in none of the logs, and why.
    """

    logs: tuple[AccessLog, ...]
    backends: Mapping[str, str] = field(default_factory=dict)
    ours: frozenset[str] | None = None
    gaps: tuple[str, ...] = ()

    @property
    def all_gaps(self) -> tuple[str, ...]:
        """Answers what will not be counted, whatever the logs hold."""
        gaps = list(self.gaps)
        for log in self.logs:
            name = f"`{log.path}` (log_format `{log.format.name}`)"
            gaps += [f"`{log.path}`: {gap}" for gap in log.gaps]
            if not log.format.tells_servers:
                gaps.append(f"{name}: retries and backends: not counted, without `$upstream_addr`")
            elif self.ours is None:
                gaps.append(
                    f"{name}: backends: not counted, the upstream has names and the log addresses"
                )
        return tuple(gaps)


def sources_of(inventory: Inventory, name: str, dump: Dump, prefix: str) -> LogSources:
    """Answers what the running configuration and the inventory say of one load balancer's logs."""
    wanted = inventory.losses.access_logs
    path = inventory.load_balancers[name].access_log or wanted.path
    names = frozenset(inventory.upstreams)
    found = logs_of(dump, names, prefix=prefix)
    if path:
        one = log_at(dump, path, wanted.format)
        has_log = isinstance(one, AccessLog)
        found = Found((one,)) if has_log else Found((), (f"`{path}` {one}",))  # type: ignore[arg-type] # by has_log
    addresses = addresses_of(inventory.backends)
    every = servers_in(dump, names) | {a for each in addresses.values() for a in each}
    is_told = all(is_by_number(address) for address in every)
    owners = {canonical(a): name for name, each in addresses.items() for a in each}
    ours = frozenset({canonical(address) for address in every} | names) if is_told else None
    return LogSources(found.logs, owners, ours, found.gaps)


@dataclass
class Tally:
    """What the lines of one load balancer add up to, in one phase."""

    by_backend: dict[str, Count] = field(default_factory=dict)
    has_odd_lines: bool = False

    @property
    def total(self) -> Count:
        """Answers the sum over all backends."""
        whole = Count()
        for count in self.by_backend.values():
            whole = whole.plus(count)
        return whole

    def add(
        self,
        sources: LogSources,
        log_format: LogFormat,
        lines: Iterable[bytes],
        *,
        has_prober: bool,
    ) -> None:
        """Count lines; those of other applications, and of our own prober, are left out."""
        for raw in lines:
            line = log_format.read(raw)
            if line is None:
                self.has_odd_lines = True
                continue
            if has_prober and line.agent == AGENT:
                continue  # the prober knows itself what became of it
            self._add(sources, line)

    def _add(self, sources: LogSources, line: Line) -> None:
        count = Count(1, int(line.status >= FAILED_FROM), int(line.status == CLIENT_CLOSED))
        if line.servers is None:
            self._count(UNTOLD, count)
            return
        asked = [canonical(server) for server in line.servers]
        if asked and sources.ours is not None and sources.ours.isdisjoint(asked):
            return  # another application's, in the same log
        self._count(sources.backends.get(asked[-1], NOBODY) if asked else NOBODY, count)
        for server in line.retried:
            self._count(sources.backends.get(canonical(server), NOBODY), Count(retried=1))

    def _count(self, backend: str, count: Count) -> None:
        self.by_backend[backend] = self.by_backend.get(backend, Count()).plus(count)
