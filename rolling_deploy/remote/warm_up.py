"""Real requests to a node before users' traffic: the first answers of a cold one take seconds."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING

from rolling_deploy.remote.health_answer import sent_secrets, visible, without
from rolling_deploy.remote.http import HttpClient, NoAnswer, Question
from rolling_deploy.rollout.step import Outcome, Result

if TYPE_CHECKING:
    from rolling_deploy.remote.opener import Opener
    from rolling_deploy.settings import HealthSettings, WarmUpSettings

SERVED_MIN, SERVED_MAX = 200, 399
"""Redirects count: the paths are the application's own, and a login page is an answer."""
PAUSE_GROWTH = 1.5
GRACE_S = 0.25
SECOND_MS = 1_000


def warm_up(
    settings: WarmUpSettings,
    health: HealthSettings,
    address: str,
    opener: Opener,
    limit_ms: int,
) -> Result:
    """Send GET requests over the paths in turn until the last answers were all quick.

    Each of the `concurrency` lanes keeps its cookies, so that it makes one session and not one
    for each request. Ends as soon as it is decided, and at `limit_ms` at the latest.

    Args:
        settings: paths, and when the node counts as warm.
        health: scheme, host header and headers to send.
        address: `host:port` as seen from where the opener connects.
        opener: where the requests come from.
        limit_ms: after this the warm-up has failed.

    Returns:
        DONE, FAILED with the numbers, or NOT_CHECKED when no warm-up is configured.

    Crash: nothing is left behind; the sessions it made expire as any other.
    """
    if not settings.paths:
        return Result(Outcome.NOT_CHECKED, "no warm-up configured")
    warming = _Warming(settings, health, address, opener, limit_ms)
    return warming.run()


class _Warming:
    """One warm-up: lanes that share a count and a window of the last answers."""

    def __init__(
        self,
        settings: WarmUpSettings,
        health: HealthSettings,
        address: str,
        opener: Opener,
        limit_ms: int,
    ) -> None:
        self._settings = settings
        self._health = health
        self._secrets = sent_secrets(health.headers)
        self._address = address
        self._opener = opener
        self._limit_ms = limit_ms
        self._begun = time.monotonic()
        self._deadline = self._begun + limit_ms / 1000
        self._changed = threading.Condition()
        self._asked = 0
        self._answered = 0
        self._failed = 0
        self._last_failure = ""
        self._first_ms: int | None = None
        self._recent_ms: deque[int] = deque(maxlen=settings.last)
        self._quick_in_a_row = 0
        self._lanes_running = max(1, settings.concurrency)
        self._is_over = False
        self._bug: BaseException | None = None

    def run(self) -> Result:
        """Warm up, and answer how it went."""
        for number in range(max(1, self._settings.concurrency)):
            threading.Thread(target=self._lane, name=f"warm-up-{number}", daemon=True).start()
        with self._changed:
            try:
                self._changed.wait_for(
                    lambda: self._is_over or not self._lanes_running,
                    max(0.0, self._deadline - time.monotonic()) + GRACE_S,
                )
            finally:
                self._is_over = True
                self._changed.notify_all()
            if self._bug is not None:
                raise self._bug
            return self._result()

    def _lane(self) -> None:
        try:
            with HttpClient(
                self._opener, verify_tls=self._health.verify_tls, keep_cookies=True
            ) as client:
                self._keep_asking(client)
        except BaseException as error:  # noqa: BLE001 - raised again by `run`, in the thread that asked
            self._bug = error
        finally:
            with self._changed:
                self._lanes_running -= 1
                self._changed.notify_all()

    def _keep_asking(self, client: HttpClient) -> None:
        pause_ms = float(self._health.interval_min_ms)
        while (question := self._next_question()) is not None:
            try:
                answer = client.ask(question)
                status, took_ms, reason = answer.status, answer.took_ms, f"{answer.status}"
            except NoAnswer as error:
                status, took_ms, reason = None, 0, str(error)
            is_served = status is not None and SERVED_MIN <= status <= SERVED_MAX
            with self._changed:
                if self._is_over:
                    return
                if is_served:
                    self._hear(took_ms)
                    pause_ms = self._health.interval_min_ms
                    continue
                self._failed += 1
                self._quick_in_a_row = 0
                self._last_failure = f"{question.path}: {visible(without(self._secrets, reason))}"
                # Without a pause a node that refuses would use up every request in a blink.
                pause_s = min(pause_ms / 1000, max(0.0, self._deadline - time.monotonic()))
                self._changed.wait_for(lambda: self._is_over, pause_s)
                pause_ms = min(pause_ms * PAUSE_GROWTH, self._health.interval_max_ms)

    def _next_question(self) -> Question | None:
        with self._changed:
            left_ms = round((self._deadline - time.monotonic()) * 1000)
            if self._is_over or left_ms <= 0 or self._asked >= self._settings.requests_max:
                return None
            path = self._settings.paths[self._asked % len(self._settings.paths)]
            self._asked += 1
        return Question(
            self._address,
            path,
            min(self._settings.timeout_ms, left_ms),
            self._health.scheme,
            self._health.host_header,
            self._health.headers,
        )

    def _hear(self, took_ms: int) -> None:
        self._answered += 1
        if self._first_ms is None:
            self._first_ms = took_ms
        self._recent_ms.append(took_ms)
        is_quick = took_ms < self._settings.limit_ms
        self._quick_in_a_row = self._quick_in_a_row + 1 if is_quick else 0
        if self._quick_in_a_row >= self._settings.last:
            self._is_over = True
            self._changed.notify_all()

    def _result(self) -> Result:
        took_ms = round((time.monotonic() - self._begun) * 1000)
        is_warm = self._quick_in_a_row >= self._settings.last
        numbers = [f"{self._asked} requests"]
        if self._first_ms is not None:
            numbers.append(f"first {_duration(self._first_ms)}")
        if self._recent_ms:
            slowest = _duration(max(self._recent_ms) + 1)
            numbers.append(f"last {len(self._recent_ms)} under {slowest}")
        if self._failed:
            numbers.append(f"{self._failed} failed, the last one {self._last_failure}")
        if not is_warm:
            numbers.append(self._shortfall())
        return Result(Outcome.DONE if is_warm else Outcome.FAILED, ", ".join(numbers), took_ms)

    def _shortfall(self) -> str:
        why = (
            f"at most {self._settings.requests_max} requests"
            if self._asked >= self._settings.requests_max
            else f"{_duration(self._limit_ms)} are over"
        )
        return (
            f"should be {self._settings.last} in a row under "
            f"{_duration(self._settings.limit_ms)}, is {self._quick_in_a_row} ({why})"
        )


def _duration(ms: int) -> str:
    return f"{ms} ms" if ms < SECOND_MS else f"{ms / SECOND_MS:.2f} s"
