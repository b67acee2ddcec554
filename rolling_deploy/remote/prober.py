"""The prober: requests of our own through every load balancer, for as long as a rollout lasts.

Each goes over a fresh connection: so a load balancer that refuses connections is noticed, and a
kept one that a reload closes (as nginx may at any time) is not taken for a failure. Nothing is
asked twice, and no request is left unfinished: whoever ends the prober waits for its last answers.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass

from rolling_deploy.remote.http import HttpClient, NoAnswer, Question
from rolling_deploy.remote.opener import Opener
from rolling_deploy.settings import ProberSettings

AGENT = "rolling-deploy-prober"
"""What the prober calls itself, so that its lines in an access log can be told from users'."""
FINISH_SLACK_S = 2.0
"""On top of one answer's limit, for a machine that is busy."""


@dataclass(frozen=True, slots=True)
class Way:
    """One load balancer as the prober asks it: from where, and which `host:port`."""

    opener: Opener
    address: str


@dataclass(frozen=True, slots=True)
class Probes:
    """What became of the requests through one load balancer.

    Attributes:
        answered_5xx: how many of the failed ones got an answer 5xx, which stands in its log too.
        last_failure: of the last one that failed, for a person.
    """

    requests: int = 0
    failed: int = 0
    answered_5xx: int = 0
    last_failure: str = ""


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
        self._thread.join(self._settings.timeout_ms / 1000 + FINISH_SLACK_S)
        return not self._thread.is_alive()

    def _ask(self, end: threading.Event) -> None:
        settings = self._settings
        pause_s = settings.interval_ms / 1000
        with HttpClient(self._way.opener, verify_tls=settings.verify_tls) as client:
            due = time.monotonic()
            while not end.is_set():
                self._take(self._ask_once(client))
                # What took longer than the pause is followed at once, by one, never by several.
                due = max(due + pause_s, time.monotonic())
                end.wait(max(0.0, due - time.monotonic()))

    def _ask_once(self, client: HttpClient) -> tuple[int, str]:
        try:
            return ask_once(client, self._settings, self._way.address)
        except Exception as error:  # noqa: BLE001 # a prober that died in silence would find all well
            return 0, f"{type(error).__name__}: {error}"

    def _take(self, answer: tuple[int, str]) -> None:
        status, failure = answer
        with self._counting:
            before = self.probes
            self.probes = Probes(
                before.requests + 1,
                before.failed + bool(failure),
                before.answered_5xx + (bool(failure) and status >= 500),
                failure or before.last_failure,
            )


def ask_once(client: HttpClient, settings: ProberSettings, address: str) -> tuple[int, str]:
    """Answers the status of one request, 0 without an answer, and why it failed if it did."""
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
    except NoAnswer as error:
        return 0, f"no answer from {settings.scheme}://{address}{settings.path}: {error}"
    if status in settings.status:
        return status, ""
    wanted = " or ".join(str(each) for each in settings.status)
    return status, f"{settings.path}: status should be {wanted}, is {status}"
