"""What users lose, counted: the totals of clients that finish their requests equal ours exactly."""

from __future__ import annotations

import http.client
import json
import os
import random
import signal
import socket
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from rolling_deploy.demo.fleet import DemoFleet, FleetShape
from rolling_deploy.demo.load import Load, LoadShape
from tests.rig.fixtures import servers_here
from tests.rig_tools import USERS, Command, Ended, Rig, fact, master_of, wait_until, workers_of

pytestmark = [pytest.mark.rig, pytest.mark.timeout(900)]

SHAPE = FleetShape(backends=2, load_balancers=2, start_delay_ms=1_500, counts_losses=True)
"""The slow start leaves the clients time to finish before the rollout does."""
CLIENTS = 6
PATHS = ("/cart", "/cart", "/health", "/unavailable", "/nowhere", "/slow?ms=20")
DEAD = "127.0.0.1:9"
"""The discard port: nobody listens there, so nginx asks the next server."""


class Clients:
    """Users that send every request once, on a connection of its own, and count what they see."""

    def __init__(self, urls: Sequence[str]) -> None:
        self.urls = urls
        self.seen: Counter[str] = Counter()
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._use, args=(n,)) for n in range(CLIENTS)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def finish(self) -> dict[str, int]:
        """Let everybody finish what they have begun; answers what they saw in all."""
        self._stop.set()
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive()
        return dict(self.seen)

    def _use(self, number: int) -> None:
        chance = random.Random(number)
        while not self._stop.is_set():
            place = urlsplit(chance.choice(self.urls))
            host, port = place.hostname or "", place.port or 80
            if chance.random() < 0.1:
                saw = self._give_up(host, port)
            else:
                saw = self._ask(host, port, chance.choice(PATHS))
            with self._lock:
                self.seen.update(["requests", *saw])
            self._stop.wait(chance.random() / 20)

    def _ask(self, host: str, port: int, path: str) -> list[str]:
        connection = http.client.HTTPConnection(host, port, timeout=60)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            answer.read()
        finally:
            connection.close()
        saw = ["failed"] if answer.status >= 500 else []
        return saw + (["retried"] if "," in (answer.headers["X-Upstream"] or "") else [])

    def _give_up(self, host: str, port: int) -> list[str]:
        """Ask for something slow and go away without an answer, which nginx calls 499."""
        with socket.create_connection((host, port), timeout=60) as stream:
            stream.sendall(b"GET /slow?ms=1500 HTTP/1.1\r\nHost: shop.example\r\n\r\n")
            stream.settimeout(0.1)
            with pytest.raises(TimeoutError):
                stream.recv(1)
        return ["given_up_by_client"]


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    """An adopted fleet whose nginx answers 503 at one place and knows a server that is dead."""
    with DemoFleet(tmp_path / "fleet", servers_here(), SHAPE) as fleet:
        rig = Rig(fleet, tmp_path / "states")
        for balancer in fleet.balancers:
            site = balancer.prefix / "conf.d" / "shop.conf"
            text = site.read_text()
            extra = "location = /unavailable { return 503; }\n    location / {"
            site.write_text(text.replace("location / {", extra))
            upstream = balancer.upstream_file.read_text()
            dead = f"    server {DEAD} max_fails=0;\n}}"
            balancer.upstream_file.write_text(upstream.replace("\n}", f"\n{dead}"))
            rig.reload_by_hand(balancer.name)
        wait_until(lambda: rig.do("adopt", "--yes").exit_code == 0, "it is adopted")
        yield rig
        rig.end_commands()


def retried_unseen(rig: Rig) -> int:
    """Answers how often nginx retried for a client that had gone: nobody but its log knows."""
    files = [path for b in rig.fleet.balancers for path in b.access_log.parent.glob("access.log*")]
    lines = [json.loads(line) for path in files for line in path.read_text().splitlines()]
    return sum(line["status"] == "499" and "," in line["upstream_addr"] for line in lines)


@contextmanager
def clients_during(rig: Rig, command: Command) -> Iterator[Clients]:
    """Clients that begin once the logs' ends are noted; the block says when they finish."""
    clients = Clients(rig.fleet.urls)
    command.wait_for(fact("counted"), "where the logs ended")
    clients.start()
    try:
        yield clients
    finally:
        clients.finish()


def summary_of(ended: Ended) -> dict[str, Any]:
    """Answers the report."""
    return next(event for event in ended.events if event["event"] == "summary")


def counted(ended: Ended) -> dict[str, Any]:
    """Answers what the report says of requests."""
    summary = summary_of(ended)
    assert summary["losses"]["not_counted"] == []
    told: dict[str, Any] = summary["requests"]
    return {("requests" if key == "seen" else key): value for key, value in told.items()}


def probed(ended: Ended) -> dict[str, int]:
    losses = summary_of(ended)["losses"]["prober"]
    return {"requests": losses["requests"], "failed": losses["failed"]}


def test_the_totals_of_clients_that_finish_equal_ours(rig: Rig) -> None:
    command = rig.start("run", "--release", "2.0", "--yes")
    with clients_during(rig, command) as clients:
        command.wait_for(fact("claimed", claim=2), "the second wave")
        seen = clients.finish()
        assert not command.is_over
    ended = command.end().must_be(0)
    # Not before: nginx writes the line of a client that has gone when it comes to notice.
    seen["retried"] += retried_unseen(rig)
    assert min(seen.values()) > 0
    assert set(seen) == {"requests", "failed", "retried", "given_up_by_client"}
    assert counted(ended) == seen
    losses = summary_of(ended)["losses"]
    by_backend = losses["access_logs"]["by_backend"]
    assert set(by_backend) >= {"app1", "app2", "no backend"}
    for name in ("by_backend", "by_load_balancer", "by_phase"):
        sums = Counter[str]()
        for told in losses["access_logs"][name].values():
            sums.update(told)
        assert sums["seen"] == seen["requests"]
        assert sums["failed"] == seen["failed"]
        assert sums["retried"] == seen["retried"]
    assert probed(ended)["failed"] == 0
    assert probed(ended)["requests"] > 20
    # The prober's own requests are in the logs too, and none of them was abandoned.
    agents = [b.access_log.read_text().count("rolling-deploy-prober") for b in rig.fleet.balancers]
    assert sum(agents) - len(agents) == probed(ended)["requests"]  # one each before the start


@pytest.mark.every
def test_rotation_and_the_operators_death_lose_no_request(rig: Rig) -> None:
    command = rig.start("run", "--release", "2.0", "--yes")
    with clients_during(rig, command) as clients:
        command.wait_for(fact("claimed", claim=1), "the first wave")
        for balancer in rig.fleet.balancers:
            balancer.access_log.rename(balancer.access_log.with_name("access.log.1"))
        command.wait_for(fact("proved", backend="app1"), "the first backend is good")
        for balancer in rig.fleet.balancers:
            os.kill(master_of(balancer), signal.SIGUSR1)
            wait_until(balancer.access_log.exists, "nginx has opened the new one")
        command.wait_for(fact("claimed", claim=2), "the second wave")
        command.signal(signal.SIGKILL)
        command.end()
        wait_until(lambda: rig.do("unlock", "--yes", by="second").exit_code == 0, "it is free")
        resumed = rig.start("resume", "--yes", by="second")
        resumed.wait_for(fact("takenover"), "the second life")
        seen = clients.finish()
        seen["retried"] += retried_unseen(rig)
    ended = resumed.end().must_be(0)
    assert counted(ended) == seen


def test_a_release_that_fails_users_trips_the_gate_and_goes_back(rig: Rig) -> None:
    inventory = rig.inventory("gate", ("losses:\n", "losses:\n  max_errors: 5\n"))
    shape = LoadShape(fast=6, slow=0, uploads=2, think_ms=60, upload_s=2.5, upload_pieces=10)
    load = Load(rig.fleet.urls, shape)
    load.start()
    try:
        wait_until(lambda: load.snapshot().sessions_followed == shape.fast, "all are logged in")
        run = ("run", "--release", "2.0-read-only", "--yes")
        halted = rig.do(*run, inventory=inventory).must_be(4)
        assert "should be at most 5" in halted.message.what
        assert "app1" in halted.message.what
        assert "wave" in halted.message.what
        assert "(errors)" in halted.message.where
        assert "rolling-deploy abort" in halted.message.next
        assert summary_of(halted)["losses"]["failed"] > 5
        assert rig.release_on("app2") == "1.0"
        assert halted.message.site.startswith("app1, app2 in rotation")
        told = rig.status(inventory)["rollout"]["losses"]
        assert any(line.startswith("requests: ") for line in told), told
        # The same job again: the same halt, and nothing is done.
        again = rig.do(*run, by="retried", inventory=inventory).must_be(4)
        assert again.message.what == halted.message.what
        rig.do("abort", "--yes", by="second", inventory=inventory).must_be(0)
    finally:
        seen = load.stop()
    assert seen.failed > 5
    rig.expect_well("1.0")


@pytest.mark.every
def test_a_log_that_cannot_be_read_is_said_and_never_counted_as_none(rig: Rig) -> None:
    logs = "access_logs: {path: /nowhere/access.log}"
    inventory = rig.inventory("nowhere", ("access_logs: {}", logs))
    ended = rig.do("run", "--release", "2.0", "--yes", inventory=inventory).must_be(0)
    summary = summary_of(ended)
    assert summary["requests"] is None
    assert summary["losses"]["access_logs"] is None
    assert summary["losses"]["prober"]["requests"] > 0
    for name in ("lb1", "lb2"):
        gaps = [gap for gap in summary["losses"]["not_counted"] if gap.startswith(name)]
        assert any("there is no /nowhere/access.log" in gap for gap in gaps)


@pytest.mark.every
def test_the_users_of_a_rollout_are_the_ones_of_the_usual_load_too(rig: Rig) -> None:
    command = rig.start("run", "--release", "2.0", "--yes")
    command.wait_for(fact("counted"), "where the logs ended")
    load = Load(rig.fleet.urls, USERS)
    load.start()
    command.wait_for(fact("claimed", claim=2), "the second wave")
    seen = load.stop()
    ended = command.end().must_be(0)
    assert seen.is_clean, seen.lines()
    assert counted(ended)["requests"] == seen.requests
    assert counted(ended)["retried"] == seen.retried
    assert workers_of(rig.fleet.balancers[0])
