"""The prober: requests of our own through every load balancer, for as long as a rollout lasts.

Each goes over a fresh connection: so a load balancer that refuses connections is noticed, and a
kept one that a reload closes (as nginx may at any time) is not taken for a failure. Nothing is
asked twice, and no request is left unfinished: whoever ends the prober waits for its last answers.

What fails because our own way to the load balancer is broken is no failure of a user's: it is not
counted, and it is said that it was not asked.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from rolling_deploy.remote.http import HttpClient, NoAnswer, NoWay, Question
from rolling_deploy.remote.opener import Opener
from rolling_deploy.settings import ProberSettings

AGENT = "rolling-deploy-prober"
"""What the prober calls itself, so that its lines in an access log can be told from users'."""
FINISH_SLACK_S = 2.0
"""On top of one answer's limit, for a machine that is busy."""
WAY_LIMIT_MS = 5_000
"""How long our own way may take to prove whole after an answer that did not come."""


def whole() -> str:
    """Answers nothing: a way that needs no machine of ours in between."""
    return ""


@dataclass(frozen=True, slots=True)
class Way:
    """One load balancer as the prober asks it: from where, and which `host:port`.

    Attributes:
        why_broken: asks whether our own way as far as the opener's machine is whole; answers why
            not, or nothing.
    """

    opener: Opener
    address: str
    why_broken: Callable[[], str] = whole


@dataclass(frozen=True, slots=True)
class Asked:
    """What became of one request.

    Attributes:
        status: 0 without an answer.
        failure: why it failed, if it did.
        was_asked: False when our own way was broken: then it tells nothing about users.
    """

    status: int
    failure: str = ""
    was_asked: bool = True


@dataclass(frozen=True, slots=True)
class Probes:
    """What became of the requests through one load balancer.

    Attributes:
        answered_5xx: how many of the failed ones got an answer 5xx, which stands in its log too.
        why_unasked: why one could not be asked; those are counted nowhere.
        last_failure: of the last one that failed, for a person.
    """

    requests: int = 0
    failed: int = 0
    answered_5xx: int = 0
    last_failure: str = ""
    why_unasked: str = ""


class Prober:
    """Asks every load balancer at its own pace, each on a daemon thread of its own."""

    def __init__(self, settings: ProberSettings, ways: Mapping[str, Way]) -> None:
        self._lanes = {name: _Lane(settings, way) for name, way in ways.items()}

    def start(self) -> None:
        """Begin to ask, or go on; nothing when it asks already."""
        for name, lane in self._lanes.items():
            lane.start(name)

    def finish(self) -> frozenset[str]:
        """End once every request that was begun has its answer or its limit.

        Answers the load balancers whose last request did not come to its end all the same.
        """
        for lane in self._lanes.values():
            lane.ask_to_end()
        return frozenset(name for name, lane in self._lanes.items() if not lane.wait_for_end())

    def stop(self) -> None:
        """Begin nothing more, and do not wait."""
        for lane in self._lanes.values():
            lane.ask_to_end()

    def seen(self) -> dict[str, Probes]:
        """Answers what became of all requests that have ended so far, by load balancer."""
        return {name: lane.probes for name, lane in self._lanes.items()}


class _Lane:
    """One load balancer's requests, one after the other."""

    def __init__(self, settings: ProberSettings, way: Way) -> None:
        self._settings = settings
        self._way = way
        self._thread: threading.Thread | None = None
        self._end = threading.Event()
        self._counting = threading.Lock()
        self.probes = Probes()
        """Replaced as a whole, so whoever reads it sees one moment."""

    def start(self, name: str) -> None:
        if self._thread is not None and self._thread.is_alive() and not self._end.is_set():
            return
        self._end = threading.Event()
        self._thread = threading.Thread(
            target=self._ask, args=(self._end,), daemon=True, name=f"prober-{name}"
        )
        self._thread.start()

    def ask_to_end(self) -> None:
        self._end.set()

    def wait_for_end(self) -> bool:
        if self._thread is None:
            return True
        limit_ms = self._settings.timeout_ms + WAY_LIMIT_MS
        self._thread.join(limit_ms / 1000 + FINISH_SLACK_S)
        return not self._thread.is_alive()

    def _ask(self, end: threading.Event) -> None:
        settings = self._settings
        pause_s = settings.interval_ms / 1000
        # A page that begins a session begins one, not five a second that look like users' own.
        with HttpClient(
            self._way.opener, verify_tls=settings.verify_tls, keep_cookies=True
        ) as client:
            due = time.monotonic()
            while not end.is_set():
                self._take(self._ask_once(client))
                # What took longer than the pause is followed at once, by one, never by several.
                due = max(due + pause_s, time.monotonic())
                end.wait(max(0.0, due - time.monotonic()))

    def _ask_once(self, client: HttpClient) -> Asked:
        try:
            return ask_once(client, self._settings, self._way)
        except Exception as error:  # noqa: BLE001 # a prober that died in silence would find all well
            return Asked(0, f"{type(error).__name__}: {error}")

    def _take(self, asked: Asked) -> None:
        with self._counting:
            before = self.probes
            if not asked.was_asked:
                self.probes = replace(before, why_unasked=asked.failure)
                return
            has_failed = bool(asked.failure)
            self.probes = Probes(
                before.requests + 1,
                before.failed + has_failed,
                before.answered_5xx + (has_failed and asked.status >= 500),
                asked.failure or before.last_failure,
                before.why_unasked,
            )


def ask_once(client: HttpClient, settings: ProberSettings, way: Way) -> Asked:
    """Answers what became of one request.

    Without an answer our own way is asked after: a link that was cut in silence looks like a load
    balancer that does not answer.
    """
    address = way.address
    question = Question(
        address,
        settings.path,
        settings.timeout_ms,
        settings.scheme,
        settings.host_header,
        {"user-agent": AGENT},
    )
    try:
        status = client.ask(question).status
    except NoWay as error:
        return Asked(0, str(error), was_asked=False)
    except NoAnswer as error:
        broken = way.why_broken()
        if broken:
            return Asked(0, broken, was_asked=False)
        failure = f"no answer from {settings.scheme}://{address}{settings.path}: {error}"
        return Asked(0, failure)
    if status in settings.status:
        return Asked(status)
    wanted = " or ".join(str(each) for each in settings.status)
    return Asked(status, f"{settings.path}: status should be {wanted}, is {status}")
