"""Counting what users lose while a rollout lasts: the prober and the access logs, put together."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from functools import partial

from rolling_deploy.operations.log_sources import LogSources, Tally
from rolling_deploy.operations.site import Site
from rolling_deploy.parallel import at_once
from rolling_deploy.remote.access_log import read_logs
from rolling_deploy.remote.connection import Connection
from rolling_deploy.remote.http import HttpClient
from rolling_deploy.remote.opener import open_directly
from rolling_deploy.remote.prober import WAY_LIMIT_MS, Prober, Probes, Way, ask_once, whole
from rolling_deploy.rollout.losses import Count, Counting, Losses
from rolling_deploy.rollout.observed import Check, Verdict

ROUNDS_MAX = 8
"""Answers of 4 MB from one log within one look; what is left is read by the next look."""
LAST_ROUNDS_MAX = 250
"""The same at the end, when there is no next look: a gigabyte."""


class Ledger:
    """The losses of one life of a rollout. Asked by one look at a time."""

    def __init__(self, site: Site, *, asks: bool = True) -> None:
        """Take the site's settings.

        Args:
            asks: send the prober's requests; without, another one's are left out of the logs.
        """
        self.site = site
        self.settings = site.inventory.losses
        self._losses: Losses | None = None
        self._probed: dict[str, Probes] = {}
        has_prober = asks and bool(self.settings.prober.path)
        self._prober = Prober(self.settings.prober, ways_of(site) if has_prober else {})
        # One reason each for the whole life: they are kept in the record.
        self._unasked = why_no_way(site) if has_prober else {}

    def look(self, counting: Counting) -> Losses:
        """Answers all that was counted up to now, over all lives of the rollout.

        The first look starts the prober, and goes on in the logs where the record says. The last
        one ends it and waits for its answers before it reads the logs.
        """
        losses = self._losses or counting.so_far
        gaps: list[str] = []
        if counting.is_last:
            gaps += [
                f"{name}: the prober's last request did not come to its end"
                for name in sorted(self._prober.finish())
            ]
        else:
            self._prober.start()
        losses = losses.plus(self._new_probes(counting.phase))
        gaps += [
            f"the prober on {name} could not ask: {why}" for name, why in self._unasked.items()
        ]
        if self.settings.access_logs.is_read:
            losses = losses.plus(self._logs(losses, counting))
        self._losses = losses.plus(Losses(gaps=frozenset(gaps)))
        return self._losses

    def close(self) -> None:
        """Begin nothing more."""
        self._prober.stop()

    def _new_probes(self, phase: int) -> Losses:
        """What the prober saw since the last look.

        Where its requests stand in the access log among the users' and cannot be told from them,
        an answer 5xx is counted there.
        """
        counts: dict[str, Count] = {}
        last: dict[str, str] = {}
        for name, now in self._prober.seen().items():
            before = self._probed.get(name, Probes())
            failed = now.failed - before.failed
            if self._counts_prober_in_log(name):
                failed -= now.answered_5xx - before.answered_5xx
            if now.requests > before.requests:
                counts[f"{name} {phase}"] = Count(now.requests - before.requests, failed)
            if now.failed > before.failed:
                last[name] = now.last_failure
            if now.why_unasked:
                self._unasked.setdefault(name, now.why_unasked)
            self._probed[name] = now
        return Losses(probed=counts, last_failures=last)

    def _counts_prober_in_log(self, name: str) -> bool:
        sources = self.site.log_sources.get(name)
        if not self.settings.access_logs.is_read or sources is None or name not in self.site.nginx:
            return False
        return any(not log.format.tells_agent for log in sources.logs)

    def _logs(self, losses: Losses, counting: Counting) -> Losses:
        names = list(self.site.inventory.load_balancers)
        came = at_once({name: partial(self._log, name, losses.ends, counting) for name in names})
        added = Losses()
        for name in names:
            added = added.plus(came[name])
        return added

    def _log(self, name: str, ends: Mapping[str, str], counting: Counting) -> Losses:
        """What was added to one load balancer's logs since it was last read."""
        sources = self.site.log_sources.get(name)
        if name not in self.site.nginx or sources is None:
            off = "it was declared off" if name in self.site.off else "it was not reached"
            return _gap(name, f"not counted, {off}")
        gaps = {*sources.all_gaps}
        if self._prober.seen() and self._counts_prober_in_log(name):
            gaps.add("the prober's own requests are among the users', without `$http_user_agent`")
        here = {log.path: ends.get(f"{name} {log.path}", "") for log in sources.logs}
        for key in ends:
            owner, _, path = key.partition(" ")
            if owner == name and path not in here:
                gaps.add(f"`{path}` is written no more by the configuration, or read no more")
        tally = Tally()
        problem = self._read(name, sources, here, tally, is_last=counting.is_last)
        if problem:
            gaps.add(problem)
        if tally.has_odd_lines:
            gaps.add("some lines are not of its format, not counted")
        by_phase = {} if tally.total.is_nothing else {f"{name} {counting.phase}": tally.total}
        return Losses(
            {f"{name} {backend}": count for backend, count in tally.by_backend.items()},
            by_phase,
            {},
            {f"{name} {path}": end for path, end in here.items() if end},
            frozenset(f"{name}: access log: {gap}" for gap in gaps),
        )

    def _read(
        self, name: str, sources: LogSources, ends: dict[str, str], tally: Tally, *, is_last: bool
    ) -> str:
        """Read on from `ends`, which it sets anew; answers why it is not complete, if so."""
        connection = self.site.connections[self.site.inventory.load_balancers[name].host]
        formats = {log.path: log.format for log in sources.logs}
        gaps: dict[str, None] = {}
        for _ in range(LAST_ROUNDS_MAX if is_last else ROUNDS_MAX):
            came = read_logs(connection, ends) if ends else {}
            if isinstance(came, str):
                if not all(ends.values()):
                    return f"not read from the beginning on: {came}"
                # A look that failed is made up for by the next one, but for the last.
                return f"not read to its end: {came}" if is_last else ""
            for path, piece in came.items():
                ends[path] = piece.end or ends[path]
                gaps |= dict.fromkeys(piece.gaps)
                has_prober = bool(self.settings.prober.path)
                tally.add(sources, formats[path], piece.lines, has_prober=has_prober)
            if not any(piece.has_more for piece in came.values()):
                return "; ".join(gaps)
        if is_last:
            gaps["it grows faster than it can be read"] = None
        return "; ".join(gaps)


def _gap(name: str, text: str) -> Losses:
    return Losses(gaps=frozenset({f"{name}: access log: {text}"}))


def ways_of(site: Site) -> dict[str, Way]:
    """Answers how the prober asks each load balancer that it can ask."""
    prober = site.inventory.losses.prober
    is_from_there = prober.asked_from == "load-balancers"
    unreached = why_no_way(site)
    ways: dict[str, Way] = {}
    for name, settings in site.inventory.load_balancers.items():
        if name in site.off or name in unreached:
            continue
        port = 443 if prober.scheme == "https" else 80
        host = site.inventory.hosts[settings.host].address
        place = f"[{host}]" if ":" in host else host
        address = settings.address or f"{place}:{port}"
        if is_from_there:
            there = _There(site.connections[settings.host])
            ways[name] = Way(there.open_stream, address, there.why_broken)
        else:
            ways[name] = Way(open_directly, address, whole)
    return ways


def why_no_way(site: Site) -> dict[str, str]:
    """Answers which load balancers the prober cannot ask, and why.

    One that was not reached at the start is not asked again in this run.
    """
    if site.inventory.losses.prober.asked_from != "load-balancers":
        return {}
    return {
        name: site.why_not(settings.host)
        for name, settings in site.inventory.load_balancers.items()
        if name not in site.off and settings.host in site.unreachable
    }


class _There:
    """A load balancer that one prober asks from, one request at a time."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._link = 0

    def open_stream(self, host: str, port: int, *, timeout_ms: int) -> socket.socket:
        """Open a stream from there; raises what `Connection.open_stream` raises."""
        try:
            return self._connection.open_stream(host, port, timeout_ms=timeout_ms)
        finally:
            # A refusal came over this one too, also where the call had to connect anew.
            self._link = self._links_opened()

    def why_broken(self) -> str:
        """Answers why the last request cannot have come through, or nothing if it may have."""
        before = self._link
        answer = self._connection.run(["true"], limit_ms=WAY_LIMIT_MS)
        if not answer.is_complete:
            return answer.detail or "the connection was lost"
        # Found dead and opened again, by this or by somebody else's question.
        return "the connection was lost" if self._links_opened() != before else ""

    def _links_opened(self) -> int:
        # Only what has a network has a link that can be lost.
        return getattr(self._connection, "links_opened", 0)


def loss_checks(site: Site) -> list[Check]:
    """Answers, before a start, what will be counted: every way of the prober, every log.

    A prober that fails now would fail for ever: with a gate that is a reason not to begin.
    """
    losses = site.inventory.losses
    if not losses.is_configured:
        detail = "no prober, no access logs configured"
        return [Check("losses", "counted", Verdict.NOT_CHECKED, detail)]
    checks: list[Check] = []
    if losses.prober.path:
        ways = ways_of(site)
        came = at_once({name: partial(_probe_check, site, name, way) for name, way in ways.items()})
        checks += came.values()
    if losses.access_logs.is_read:
        logs = at_once({name: partial(_log_checks, site, name) for name in site.nginx})
        checks += [check for each in logs.values() for check in each]
    return checks


def _probe_check(site: Site, name: str, way: Way) -> Check:
    prober = site.inventory.losses.prober
    with HttpClient(way.opener, verify_tls=prober.verify_tls) as client:
        asked = ask_once(client, prober, way)
    failure = asked.failure
    if not failure:
        where = f"{prober.scheme}://{way.address}{prober.path}"
        return Check(name, "prober", Verdict.OK, f"{where} answers {asked.status}")
    if not asked.was_asked:
        failure = f"it could not ask: {failure}"
    elif not asked.status and prober.asked_from == "operator":
        failure += "; asked from here, `asked_from: load-balancers` asks from there"
    has_gate = site.inventory.fleet.policy.max_errors is not None
    return Check(name, "prober", Verdict.REFUSED if has_gate else Verdict.WARNING, failure)


def _log_checks(site: Site, name: str) -> list[Check]:
    sources = site.log_sources.get(name)
    if sources is None:
        detail = "its configuration was not read"
        return [Check(name, "access log", Verdict.NOT_CHECKED, detail)]
    checks = [Check(name, "access log", Verdict.NOT_CHECKED, gap) for gap in sources.all_gaps]
    connection = site.connections[site.inventory.load_balancers[name].host]
    ends = {log.path: "" for log in sources.logs}
    came = read_logs(connection, ends) if ends else {}
    if isinstance(came, str):
        return [*checks, Check(name, "access log", Verdict.NOT_CHECKED, came)]
    for log in sources.logs:
        piece = came[log.path]
        checks += [Check(name, "access log", Verdict.NOT_CHECKED, gap) for gap in piece.gaps]
        if piece.end:
            detail = f"`{log.path}` (log_format `{log.format.name}`) is read from its end"
            checks.append(Check(name, "access log", Verdict.OK, detail))
    return checks
