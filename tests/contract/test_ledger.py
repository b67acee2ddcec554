"""Prober and access logs put together: every failed request once, over lives, with every gap."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from rolling_deploy.operations.log_sources import LogSources
from rolling_deploy.operations.losses import Ledger, loss_checks, ways_of
from rolling_deploy.operations.site import Site
from rolling_deploy.remote.connection import Answer, CannotReach
from rolling_deploy.rollout.losses import Count, Counting, Losses
from rolling_deploy.rollout.observed import Verdict
from rolling_deploy.settings import AccessLogSettings, LossSettings, ProberSettings
from rolling_deploy.upstreams.access_logs import AccessLog
from rolling_deploy.upstreams.log_format import LogFormat
from tests.local_connection import LocalConnection
from tests.misbehaving_app import App, Says, running_app
from tests.redis_server import free_port
from tests.rig_tools import wait_until
from tests.unit.test_inventory_load import SMALL, load

pytestmark = pytest.mark.timeout(120)

FULL = LogFormat("full", "$status $upstream_addr $http_user_agent")
BARE = LogFormat("bare", "$status $upstream_addr")
APP1, APP2 = "10.0.0.11:8080", "10.0.0.11:8081"
QUICK = ProberSettings(path="/home", interval_ms=20, timeout_ms=5_000)
READ = AccessLogSettings(is_read=True)


class Fading(LocalConnection):
    """A machine that does not answer while a test says so."""

    is_gone = False
    links_opened = 1

    def open_stream(self, host: str, port: int, *, timeout_ms: int) -> socket.socket:
        if self.is_gone:
            raise CannotReach("the line is dead")
        return super().open_stream(host, port, timeout_ms=timeout_ms)

    def run(self, argv: Sequence[str], **more: object) -> Answer:
        if self.is_gone:
            return Answer(False, None, b"", b"", "the line is dead")
        return super().run(argv, **more)  # type: ignore[arg-type] # passed on


class Place:
    """One load balancer with one log, as a rollout's looks see it."""

    def __init__(self, directory: Path, losses: LossSettings, log_format: LogFormat = FULL) -> None:
        self.path = directory / "access.log"
        self.path.write_text("200 - from before\n")
        self.machine = Fading()
        inventory = replace(load(directory, SMALL), losses=losses)
        self.site = Site(inventory, {"lb1": self.machine, "web1": LocalConnection()})
        backends = {APP1: "app1", APP2: "app2"}
        log = AccessLog(str(self.path), log_format)
        self.site.log_sources["lb1"] = LogSources((log,), backends, frozenset(backends))
        self.ledger = Ledger(self.site)

    def write(self, *lines: str) -> None:
        with self.path.open("a") as file:
            file.write("".join(f"{line}\n" for line in lines))

    def look(self, so_far: Losses | None = None, *, phase: int = 0, last: bool = False) -> Losses:
        return self.ledger.look(Counting(so_far or Losses(), phase, last))


def test_a_log_is_counted_from_the_first_look_on_by_phase(tmp_path: Path) -> None:
    place = Place(tmp_path, LossSettings(access_logs=READ))
    assert place.look().logged == Count()
    place.write(f"200 {APP1} a", f"502 {APP2} a")
    place.look(phase=1)
    place.write(f"200 {APP1}, {APP2} a")
    losses = place.look(phase=2)
    assert losses.by_backend == {"lb1 app1": Count(1, 0, 0, 1), "lb1 app2": Count(2, 1)}
    assert losses.by_phase == {"lb1 1": Count(2, 1), "lb1 2": Count(1, 0, 0, 1)}
    assert losses.gaps == frozenset()


def test_a_new_life_reads_on_where_the_record_says(tmp_path: Path) -> None:
    place = Place(tmp_path, LossSettings(access_logs=READ))
    first = place.look()
    place.write(f"502 {APP1} a")
    recorded = place.look(first)
    place.write(f"502 {APP1} a", f"200 {APP1} a")
    place.ledger = Ledger(place.site)
    assert place.look(recorded, phase=1).logged == Count(3, 2)


def asked(directory: Path, app: App, log_format: LogFormat) -> tuple[Place, list[str]]:
    """Answers a place whose prober asks the application, and the lines nginx would write."""
    place = Place(directory, LossSettings(prober=QUICK, access_logs=READ), log_format)
    balancer = replace(place.site.inventory.load_balancers["lb1"], address=app.address)
    inventory = replace(place.site.inventory, load_balancers={"lb1": balancer})
    place.site.inventory = inventory
    place.ledger = Ledger(place.site)
    place.look()
    wait_until(lambda: len(app.asked) >= 4, "four requests of the prober")
    place.ledger._prober.finish()
    agents = [one.headers["user-agent"] for one in app.asked]
    agent = " {}" if log_format.tells_agent else "{}"
    names = agents if log_format.tells_agent else [""] * len(agents)
    return place, [f"503 {APP1}{agent.format(name)}" for name in names]


def test_the_probers_failures_are_counted_once_where_the_log_tells_them_apart(
    tmp_path: Path,
) -> None:
    with running_app(lambda _: Says(503)) as app:
        place, lines = asked(tmp_path, app, FULL)
        place.write(*lines, f"503 {APP1} somebody")
        losses = place.look(last=True)
    assert losses.logged == Count(1, 1)
    assert losses.asked == Count(len(lines), len(lines))
    assert losses.failed == len(lines) + 1
    assert "status should be 200, is 503" in losses.last_failures["lb1"]
    assert losses.gaps == frozenset()


def test_the_probers_failures_are_counted_once_where_the_log_does_not(tmp_path: Path) -> None:
    with running_app(lambda _: Says(503)) as app:
        place, lines = asked(tmp_path, app, BARE)
        place.write(*lines, f"503 {APP1}")
        losses = place.look(last=True)
    assert losses.logged == Count(len(lines) + 1, len(lines) + 1)
    assert losses.asked == Count(len(lines), 0)
    assert losses.failed == len(lines) + 1
    assert any("the prober's own requests are among the users'" in gap for gap in losses.gaps)


def test_the_last_look_abandons_no_request(tmp_path: Path) -> None:
    with running_app(lambda _: Says(after_s=0.05)) as app:
        place = Place(tmp_path, LossSettings(prober=QUICK))
        balancer = replace(place.site.inventory.load_balancers["lb1"], address=app.address)
        place.site.inventory = replace(place.site.inventory, load_balancers={"lb1": balancer})
        place.ledger = Ledger(place.site)
        place.look()
        wait_until(lambda: len(app.asked) >= 2, "the second request")
        losses = place.look(last=True)
        assert losses.asked == Count(len(app.asked))
        assert losses.probed.keys() == {"lb1 0"}


def test_a_machine_that_is_silent_for_a_while_costs_nothing_but_at_the_ends(tmp_path: Path) -> None:
    place = Place(tmp_path, LossSettings(access_logs=READ))
    place.look()
    place.machine.is_gone = True
    place.write(f"502 {APP1} a")
    assert place.look().gaps == frozenset()
    place.machine.is_gone = False
    assert place.look().logged == Count(1, 1)
    place.machine.is_gone = True
    (gap,) = place.look(last=True).gaps
    assert gap == "lb1: access log: not read to its end: the line is dead"


def test_a_log_that_is_found_late_was_not_counted_from_the_beginning(tmp_path: Path) -> None:
    place = Place(tmp_path, LossSettings(access_logs=READ))
    place.machine.is_gone = True
    losses = place.look()
    assert losses.ends == {}
    assert losses.gaps == {"lb1: access log: not read from the beginning on: the line is dead"}
    place.write(f"502 {APP1} a")
    place.machine.is_gone = False
    place.look()
    place.write(f"200 {APP1} a")
    losses = place.look()
    assert losses.logged == Count(1)
    assert losses.gaps, "what was lost stays said"


def test_a_log_that_another_inventory_reads_no_more_is_said(tmp_path: Path) -> None:
    place = Place(tmp_path, LossSettings(access_logs=READ))
    before = Losses(ends={"lb1 /var/log/other.log": "7:70"})
    (gap,) = place.look(before).gaps
    assert "/var/log/other.log" in gap


def test_a_load_balancer_that_is_off_is_not_counted(tmp_path: Path) -> None:
    place = Place(tmp_path, LossSettings(prober=QUICK, access_logs=READ))
    place.site.off = frozenset({"lb1"})
    place.site.nginx.clear()
    losses = Ledger(place.site).look(Counting(Losses(), 0))
    assert losses.gaps == {"lb1: access log: not counted, it was declared off"}
    assert losses.probed == {}


FROM_THERE = replace(QUICK, asked_from="load-balancers", timeout_ms=300)


def asking_from_there(directory: Path, address: str) -> Place:
    """Answers a place whose prober asks from the load balancer itself."""
    place = Place(directory, LossSettings(prober=FROM_THERE))
    balancer = replace(place.site.inventory.load_balancers["lb1"], address=address)
    place.site.inventory = replace(place.site.inventory, load_balancers={"lb1": balancer})
    place.ledger = Ledger(place.site)
    return place


def why_unasked(place: Place) -> str:
    place.look()
    return place.ledger._prober.seen()["lb1"].why_unasked


def test_a_cut_line_to_a_load_balancer_is_a_gap_and_no_failed_request(tmp_path: Path) -> None:
    with running_app(lambda _: Says()) as app:
        place = asking_from_there(tmp_path, app.address)
        place.look()
        wait_until(lambda: app.asked, "a request")
        place.machine.is_gone = True
        wait_until(lambda: why_unasked(place), "it could not ask")
        losses = place.look(last=True)
    assert losses.asked == Count(len(app.asked))
    assert losses.gaps == {"the prober on lb1 could not ask: the line is dead"}


def test_a_load_balancer_that_refuses_while_its_line_is_whole_has_failed(tmp_path: Path) -> None:
    place = asking_from_there(tmp_path, f"127.0.0.1:{free_port()}")
    place.look()
    wait_until(lambda: place.ledger._prober.seen()["lb1"].failed >= 2, "two failures")
    losses = place.look(last=True)
    assert losses.asked.failed == losses.asked.requests
    assert losses.gaps == frozenset()


def test_a_request_that_was_lost_with_its_line_is_not_counted_though_the_line_is_back(
    tmp_path: Path,
) -> None:
    with running_app(lambda _: Says(after_s=60)) as app:
        place = asking_from_there(tmp_path, app.address)
        place.look()
        wait_until(lambda: app.asked, "a request")
        place.machine.links_opened += 1
        wait_until(lambda: why_unasked(place), "it was not answered")
        place.ledger.close()
    assert why_unasked(place) == "the connection was lost"


def test_a_load_balancer_that_was_not_reached_at_the_start_is_a_gap(tmp_path: Path) -> None:
    place = Place(tmp_path, LossSettings(prober=FROM_THERE))
    host = place.site.inventory.load_balancers["lb1"].host
    place.site.unreachable = {host: "no route to host"}
    assert ways_of(place.site) == {}
    place.ledger = Ledger(place.site)
    losses = place.look(last=True)
    assert losses.gaps == {"the prober on lb1 could not ask: no route to host"}
    assert losses.probed == {}
    directly = replace(place.site.inventory.losses, prober=QUICK)
    place.site.inventory = replace(place.site.inventory, losses=directly)
    assert ways_of(place.site).keys() == {"lb1"}, "asked from here, it needs no SSH"


def test_before_a_start_it_is_said_what_will_be_counted(tmp_path: Path) -> None:
    nothing = Place(tmp_path, LossSettings())
    (check,) = loss_checks(nothing.site)
    assert check.verdict is Verdict.NOT_CHECKED
    place = Place(tmp_path, LossSettings(access_logs=READ), BARE)
    (check,) = loss_checks(place.site)
    assert check.verdict is Verdict.OK
    place.path.unlink()
    (check,) = loss_checks(place.site)
    assert check.verdict is Verdict.NOT_CHECKED
    assert "there is no" in check.detail


@pytest.mark.parametrize("max_errors", [None, 0])
def test_a_prober_that_fails_before_the_start_is_refused_only_with_a_gate(
    tmp_path: Path, max_errors: int | None
) -> None:
    place = Place(tmp_path, LossSettings(prober=QUICK))
    inventory = place.site.inventory
    fleet = inventory.fleet
    balancer = replace(inventory.load_balancers["lb1"], address=f"127.0.0.1:{free_port()}")
    place.site.inventory = replace(
        inventory,
        load_balancers={"lb1": balancer},
        fleet=replace(fleet, policy=replace(fleet.policy, max_errors=max_errors)),
    )
    (check,) = loss_checks(place.site)
    assert check.verdict is (Verdict.WARNING if max_errors is None else Verdict.REFUSED)
    assert "no answer from http://127.0.0.1" in check.detail
