"""Is a backend good: asked from the load balancers' place in the network, again and again."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rolling_deploy.remote.health_answer import Judged, judge, sent_secrets, without
from rolling_deploy.remote.http import HttpClient, NoAnswer, Question
from rolling_deploy.rollout.observed import Health

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rolling_deploy.remote.connection import Connection
    from rolling_deploy.remote.opener import Opener
    from rolling_deploy.settings import HealthSettings

INTERVAL_GROWTH = 1.5
GRACE_S = 0.25
"""How long after the limit a question that is just ending may still be heard."""


def probe(
    health: HealthSettings,
    address: str,
    sources: Mapping[str, Opener],
    *,
    streak: int,
    limit_ms: int,
    wanted_version: str | None = None,
) -> Health:
    """Ask the backend until it was good `streak` times in a row from every source.

    The sources ask at the same time and go on asking until all of them have their streak
    together. Takes `limit_ms` at the most, as soon as possible otherwise. Only reads, except for
    what the application itself does when it is asked.

    Args:
        health: what is asked and what counts as good.
        address: `host:port` as seen from the sources.
        sources: by name, where the questions come from.
        streak: how many good answers in a row; 1 with a small limit is the quick check.
        limit_ms: after this the backend is not good.
        wanted_version: count only answers of this version. Without it any version counts, but
            a streak is of one version, and the sources must agree.
    """
    if not sources:
        return Health(
            is_good=False,
            is_version_checked=health.version.is_configured,
            detail="not asked: no load balancer to ask from",
        )
    asking = _Asking(health, address, sources, streak, limit_ms, wanted_version)
    asking.run()
    return asking.verdict()


def describe_source(connection: Connection) -> str:
    """Answers how questions travel through this connection, or nothing when it does not say.

    `forwarded`: SSH forwarding, the path nginx uses. `relayed by command`: sshd refuses
    forwarding, a command on that machine carries the stream.
    """
    forwarding = getattr(connection, "forwarding", None)
    if forwarding is None:
        return ""
    if isinstance(forwarding, str):
        return forwarding
    return "forwarded" if forwarding else "relayed by command"


@dataclass(slots=True)
class _Lane:
    """What one source has heard. Used under the lock of `_Asking`."""

    good_in_a_row: int = 0
    version: str | None = None
    detail: str = "no answer yet"
    questions: int = 0
    cookies: frozenset[str] = frozenset()

    def hear(self, judged: Judged, *, is_cut_short: bool) -> None:
        """Take in one answer.

        With `is_cut_short` our own limit left the question less than its timeout: that nothing
        came tells a person less than the answer before it.
        """
        if not judged.is_good:
            self.good_in_a_row = 0
        elif self.good_in_a_row and judged.version != self.version:
            self.good_in_a_row = 1
        else:
            self.good_in_a_row += 1
        self.questions += 1
        self.cookies |= judged.cookies
        if judged.is_good or not is_cut_short or self.questions == 1:
            self.version = judged.version
            self.detail = judged.detail


class _Asking:
    """One probe: a thread for each source, and one lock that ends them all."""

    def __init__(
        self,
        health: HealthSettings,
        address: str,
        sources: Mapping[str, Opener],
        streak: int,
        limit_ms: int,
        wanted_version: str | None,
    ) -> None:
        self._health = health
        self._address = address
        self._sources = sources
        self._streak = streak
        self._limit_ms = limit_ms
        self._wanted_version = wanted_version if health.version.is_configured else None
        self._deadline = time.monotonic() + limit_ms / 1000
        self._lanes = {name: _Lane() for name in sources}
        self._changed = threading.Condition()
        self._is_over = False
        self._bug: BaseException | None = None

    def run(self) -> None:
        """Ask until it is decided, or the limit has come."""
        for name, opener in self._sources.items():
            threading.Thread(
                target=self._ask_from, args=(name, opener), name=f"health-{name}", daemon=True
            ).start()
        with self._changed:
            try:
                self._changed.wait_for(
                    lambda: self._is_over, max(0.0, self._deadline - time.monotonic()) + GRACE_S
                )
            finally:
                self._end()
        if self._bug is not None:
            raise self._bug

    def verdict(self) -> Health:
        """Answers what was heard."""
        with self._changed:
            lanes = self._lanes.items()
            short = [name for name, lane in lanes if lane.good_in_a_row < self._streak]
            versions = {lane.version for lane in self._lanes.values()}
            named = short or list(self._lanes)
            detail = "; ".join(f"from {name}: {self._told(name)}" for name in named)
            is_good = not short and len(versions) == 1
            return Health(
                is_good=is_good,
                version=versions.pop() if len(versions) == 1 else None,
                is_version_checked=self._health.version.is_configured,
                detail=detail if is_good or short else f"the answers differ; {detail}",
                cookies=frozenset().union(*(lane.cookies for lane in self._lanes.values())),
            )

    def _told(self, name: str) -> str:
        lane = self._lanes[name]
        told = lane.detail
        if lane.version is not None and lane.good_in_a_row:
            told = f"serves {lane.version}; {told}"
        if lane.good_in_a_row and lane.good_in_a_row < self._streak:
            had = f"{lane.good_in_a_row} of {self._streak} in a row"
            told = f"{had} within {self._limit_ms} ms; {told}"
        return told

    def _ask_from(self, name: str, opener: Opener) -> None:
        try:
            with HttpClient(opener, verify_tls=self._health.verify_tls) as client:
                self._keep_asking(name, client)
        except BaseException as error:  # noqa: BLE001 - raised again by `run`, in the thread that asked
            with self._changed:
                self._bug = error
                self._end()

    def _keep_asking(self, name: str, client: HttpClient) -> None:
        pause_ms = float(self._health.interval_min_ms)
        while (left_ms := self._left_ms()) > 0:
            judged = ask_once(
                client, self._health, self._address, self._wanted_version, left_ms=left_ms
            )
            with self._changed:
                if self._is_over:
                    return
                lane = self._lanes[name]
                lane.hear(judged, is_cut_short=left_ms < self._health.timeout_ms)
                if all(each.good_in_a_row >= self._streak for each in self._lanes.values()):
                    self._end()
                    return
                wait_ms = pause_ms
                if lane.good_in_a_row >= self._streak:
                    # It has its streak and waits for the others: a look now and then is enough.
                    wait_ms = self._health.interval_max_ms
                elif judged.is_good:
                    wait_ms = pause_ms = self._health.interval_min_ms
                else:
                    pause_ms = min(pause_ms * INTERVAL_GROWTH, self._health.interval_max_ms)
                self._changed.wait_for(
                    lambda: self._is_over, min(wait_ms, max(0, self._left_ms())) / 1000
                )
        with self._changed:
            self._end()

    def _left_ms(self) -> int:
        return round((self._deadline - time.monotonic()) * 1000)

    def _end(self) -> None:
        self._is_over = True
        self._changed.notify_all()


def ask_once(
    client: HttpClient,
    health: HealthSettings,
    address: str,
    wanted_version: str | None,
    *,
    left_ms: int,
) -> Judged:
    """Ask the health path, and the version's own path where it has one, once each."""
    timeout_ms = max(1, min(health.timeout_ms, left_ms))
    path = health.path
    try:
        answer = client.ask(_question(health, address, path, timeout_ms))
        version_answer = answer if health.version.is_configured else None
        if version_answer is not None and health.version.path not in {"", path}:
            path = health.version.path
            version_answer = client.ask(_question(health, address, path, timeout_ms))
    except NoAnswer as error:
        where = f"{health.scheme}://{address}{path}"
        reason = without(sent_secrets(health.headers), str(error))
        return Judged(is_good=False, version=None, detail=f"no answer from {where}: {reason}")
    return judge(health, answer, version_answer, wanted_version)


def _question(health: HealthSettings, address: str, path: str, timeout_ms: int) -> Question:
    return Question(address, path, timeout_ms, health.scheme, health.host_header, health.headers)
