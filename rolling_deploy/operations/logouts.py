"""Looking for signs that users are logged out: backends' own logs, and how fast sessions come."""

from __future__ import annotations

import posixpath
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

from rolling_deploy.operations.site import Site
from rolling_deploy.operations.store_places import whole_from
from rolling_deploy.parallel import at_once
from rolling_deploy.remote.app_log import (
    TAIL_BYTES,
    TOMCAT_LOGS,
    Files,
    Reading,
    Signs,
    find_files,
    read_app_logs,
    shown,
)
from rolling_deploy.remote.session_ages import sample_pace
from rolling_deploy.rollout.logouts import Logouts, Pace, Watching
from rolling_deploy.rollout.observed import Check, Verdict
from rolling_deploy.settings import TomcatSettings

BEFORE_MS = 300_000
"""Over how long it is seen how fast sessions come of themselves: long enough that a quiet site has
some, and short beside a morning's rise."""

APART_S = 0.5
"""Between two looks at the logs while a sign is waited for."""

SUBJECT = "logouts"

UNMARKED = "log read from now on only: where it ended before the stop was not seen"


class LogoutWatch:
    """The signs of one life of a rollout. Asked by one look at a time."""

    def __init__(self, site: Site) -> None:
        """Take the site's settings."""
        self.site = site
        settings = site.inventory.logout_watch
        self._signs = Signs(settings.patterns, settings.ignore)
        self._seen: Logouts | None = None
        self._lock = threading.Lock()
        self._ended = threading.Event()

    def look(self, watching: Watching, now_ms: int) -> Logouts:
        """Answers all that was seen up to now, over all lives of the rollout.

        The first look goes on in the logs where the record says, each other one where the last one
        ended. What cannot be read is a gap, and is tried again by the next look.
        """
        window_ms = max(1, now_ms - watching.since_ms) if watching.since_ms else BEFORE_MS
        return self._look(watching, watching.fresh, lambda: Logouts(pace=self.pace(window_ms)))

    def wait(self, watching: Watching, limit_ms: int) -> None:
        """Return when a log says more than the last look saw, at the limit at the latest."""
        until = time.monotonic() + limit_ms / 1000
        first = (self._seen or watching.so_far).count
        while (left_s := until - time.monotonic()) > 0:
            is_over = self._ended.wait(min(APART_S, left_s))
            if is_over or (left_s > APART_S and self._look(watching).count > first):
                return

    def close(self) -> None:
        """Wait for nothing more."""
        self._ended.set()

    def _look(
        self,
        watching: Watching,
        fresh: frozenset[str] = frozenset(),
        also: Callable[[], Logouts] | None = None,
    ) -> Logouts:
        with self._lock:
            seen = self._seen or watching.so_far
            calls: dict[str, Callable[[], Logouts]] = {
                name: partial(self._read, name, seen, is_fresh=name in fresh)
                for name in sorted(watching.backends)
            }
            if also is not None:
                calls[""] = also
            for one in at_once(calls).values():
                seen = seen.plus(one)
            self._seen = seen
            return seen

    def _read(self, name: str, before: Logouts, *, is_fresh: bool) -> Logouts:
        connection = self.site.connections.get(self.site.inventory.backends[name].host)
        logs, needs_all = logs_of(self.site, name)
        if connection is None or not logs:
            why = "it is not connected" if logs else "no log is configured"
            return _as_seen(name, Reading(gaps=(f"log not read: {why}",)))
        ends = {} if is_fresh else ends_of(before.ends, name)
        reading = read_app_logs(connection, logs, ends or None, self._signs, needs_all=needs_all)
        if not ends and not is_fresh:
            # Its machine gave no answer right before the stop: old lines would look like new ones.
            reading = replace(reading, gaps=(*reading.gaps, UNMARKED))
        return _as_seen(name, reading)

    def pace(self, window_ms: int) -> Pace:
        """Answers how many of the stored sessions are younger than that."""
        store, whole = self.site.inventory.session_store, whole_from(self.site)
        if store.url and (whole.gap or (store.via and whole.opener is None)):
            return Pace(gap=whole.gap or f"{store.via} is not connected")
        return sample_pace(store, whole.opener, window_ms)


def _as_seen(name: str, reading: Reading) -> Logouts:
    return Logouts(
        {name: reading.count} if reading.count else {},
        {name: reading.examples} if reading.examples else {},
        {name: reading.read},
        {f"{name} {path}": end for path, end in reading.ends.items()},
        frozenset(f"{name}: {gap}" for gap in reading.gaps),
    )


def ends_of(ends: Mapping[str, str], name: str) -> dict[str, str]:
    """Answers where one backend's files are to be read on, by their path."""
    return {
        path: end
        for key, end in ends.items()
        for owner, _, path in [key.partition(" ")]
        if owner == name
    }


def logs_of(site: Site, name: str) -> tuple[tuple[str, ...], bool]:
    """Answers a backend's logs, and whether each of them has to be there: a Tomcat's own are not
    all written everywhere.
    """
    configured = site.inventory.logout_watch.logs
    strategy = site.inventory.backends[name].strategy
    base = strategy.catalina_base if isinstance(strategy, TomcatSettings) else strategy.root
    if configured:
        return tuple(posixpath.join(base, log) for log in configured), True
    if isinstance(strategy, TomcatSettings):
        return tuple(posixpath.join(base, log) for log in TOMCAT_LOGS), False
    return (), True


def logout_checks(site: Site) -> list[Check]:
    """Answers, before a start, what will be watched; and what stands in the logs already, which
    would halt a rollout that has nothing to do with it.
    """
    if not site.inventory.fleet.policy.watches_logouts:
        detail = "no `logout_watch` is configured"
        return [Check(SUBJECT, "watched", Verdict.NOT_CHECKED, detail)]
    signs = Signs(site.inventory.logout_watch.patterns, site.inventory.logout_watch.ignore)
    calls = {name: partial(_log_checks, site, name, signs) for name in site.inventory.backends}
    checks = [check for lines in at_once(calls).values() for check in lines]
    pace = LogoutWatch(site).pace(BEFORE_MS)
    verdict = Verdict.NOT_CHECKED if pace.gap else Verdict.OK
    return [*checks, Check(SUBJECT, "new sessions", verdict, pace.gap or pace.text)]


def _log_checks(site: Site, name: str, signs: Signs) -> list[Check]:
    subject = "application log"
    connection = site.connections.get(site.inventory.backends[name].host)
    logs, needs_all = logs_of(site, name)
    if connection is None or not logs:
        why = site.why_not(site.inventory.backends[name].host)
        detail = why if logs else "`logout_watch.logs` is not set, and this is no Tomcat"
        return [Check(name, subject, Verdict.NOT_CHECKED, detail)]
    found = find_files(connection, logs, tail_bytes=TAIL_BYTES)
    if isinstance(found, str):
        return [Check(name, subject, Verdict.NOT_CHECKED, found)]
    lines = [
        Check(name, subject, Verdict.NOT_CHECKED, reason)
        for reason in found.missing.values()
        if needs_all or not found.ends or "permission denied" in reason
    ]
    if found.ends:
        read = ", ".join(f"`{path}`" for path in found.ends)
        lines.append(Check(name, subject, Verdict.OK, f"{read} will be read from its end"))
    return [*lines, *_usual(name, found, signs)]


def _usual(name: str, found: Files, signs: Signs) -> list[Check]:
    """What is said already, by the release in service."""
    lines = []
    for path, tail in found.tails.items():
        counts = signs.found(tail.split(b"\n"))
        if counts:
            detail = (
                f"`{path}` says so already, {counts.total()} times in its last "
                f"{len(tail):,} bytes: {shown(counts.most_common(1)[0][0])}; such a line halts the "
                "rollout, unless `logout_watch.ignore` matches it"
            )
            lines.append(Check(name, "application log", Verdict.WARNING, detail))
    return lines
