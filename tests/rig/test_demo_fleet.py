"""The demo's fleet and load: they come up, they see every failure, nothing of them stays."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from urllib.request import urlopen

import pytest

from rolling_deploy.demo.artifacts import FLAWS
from rolling_deploy.demo.fleet import DemoFleet, FleetShape
from rolling_deploy.demo.load import Load, LoadShape
from rolling_deploy.demo.load_http import Client, Ending, Request
from rolling_deploy.demo.servers import Program, Servers
from rolling_deploy.errors import PreflightRefused
from rolling_deploy.inventory import load_inventory
from rolling_deploy.remote.ssh import SshConnection
from tests.fleet import (
    StartFleet,
    StartLoad,
    fleet_servers,
    servers_or_skip,
    start_fleet,
    start_load,
)

__all__ = ["fleet_servers", "start_fleet", "start_load"]

pytestmark = pytest.mark.timeout(180)

TWO_AND_TWO = FleetShape(backends=2, load_balancers=2, start_delay_ms=100)
QUICK = LoadShape(fast=6, slow=2, uploads=1, slow_ms=(300, 600), upload_s=1.0)
LIMIT_S = 30.0


def wait_until(holds: Callable[[], object], what: str) -> None:
    until = time.monotonic() + LIMIT_S
    while not holds():
        assert time.monotonic() < until, f"not within {LIMIT_S:.0f} s: {what}"
        time.sleep(0.02)  # noqa: TID251 # what other processes do sends us no event


def put(fleet: DemoFleet, name: str, release: str) -> None:
    """Switch one node to a release by hand, without any drain."""
    node = fleet.node(name)
    folder = node.root / "releases" / release
    folder.mkdir()
    archive = fleet.artifacts / f"app-{release}.tar.gz"
    shutil.unpack_archive(archive, folder)
    assert fleet.appctl(name, "stop") == 0
    (node.root / "current").unlink()
    (node.root / "current").symlink_to(Path("releases") / release)
    assert fleet.appctl(name, "start") == 0


def is_running(pid: int) -> bool:
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def ports_of(fleet: DemoFleet) -> list[int]:
    ports = [fleet.redis_port, *(node.port for node in fleet.nodes)]
    ports += [balancer.port for balancer in fleet.balancers]
    return ports + [machine.ssh_port for machine in fleet.machines]


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_a_load_without_a_rollout_sees_no_failure(
    start_fleet: StartFleet, start_load: StartLoad
) -> None:
    fleet = start_fleet(TWO_AND_TWO)
    load = start_load(fleet, QUICK)
    time.sleep(3)  # noqa: TID251 # for so long nothing may fail
    seen = load.stop()
    assert seen.is_clean, seen.lines()
    assert seen.ok == seen.requests
    assert seen.requests > 30
    assert seen.sessions_followed == QUICK.fast
    assert set(seen.backends) == {"app1", "app2"}
    assert set(seen.versions) == {"1.0"}
    assert {"cart", "slow", "upload"} == set(seen.kinds)
    assert sum(bucket.requests for bucket in seen.timeline) == seen.requests
    assert json.loads(json.dumps(seen.to_json()))["endings"] == {"ok": seen.requests}


def test_a_backend_killed_without_a_drain_is_seen_by_the_load(
    start_fleet: StartFleet, start_load: StartLoad
) -> None:
    fleet = start_fleet(TWO_AND_TWO)
    load = start_load(fleet, LoadShape(fast=4, slow=12, uploads=0, slow_ms=(1_500, 2_000)))
    # So many slow requests are under way that some are POSTs at app1, which nginx cannot repeat.
    wait_until(lambda: load.snapshot().requests > 60, "the load is under way")
    fleet.kill("app1")
    wait_until(lambda: not is_running(fleet.pid_of("app1")), "the application is gone")
    assert fleet.appctl("app1", "start") == 0
    seen = load.stop()
    assert seen.endings[Ending.STATUS_5XX] > 0
    assert seen.retried > 0
    assert seen.failed >= seen.endings[Ending.STATUS_5XX]
    assert not seen.is_clean
    assert any("502" in example for example in seen.examples)


def test_a_release_with_other_sessions_loses_them_while_every_answer_is_200(
    start_fleet: StartFleet, start_load: StartLoad
) -> None:
    fleet = start_fleet(TWO_AND_TWO)
    put(fleet, "app1", "2.0-logout")
    wait_until(lambda: listens(fleet.node("app1").port), "the application listens")
    load = start_load(fleet, LoadShape(fast=6, slow=0, uploads=0))
    wait_until(lambda: load.snapshot().sessions_lost > 0, "a session is lost")
    seen = load.stop()
    assert set(seen.versions) == {"1.0", "2.0-logout"}
    assert seen.failed == 0
    assert not seen.is_clean


def test_a_session_store_that_forgets_is_seen_by_the_load(
    start_fleet: StartFleet, start_load: StartLoad
) -> None:
    fleet = start_fleet(FleetShape(backends=1, start_delay_ms=0))
    load = start_load(fleet, LoadShape(fast=2, slow=0, uploads=0))
    wait_until(lambda: load.snapshot().sessions_followed == 2, "all are logged in")
    with socket.create_connection(("127.0.0.1", fleet.redis_port)) as redis:
        redis.sendall(b"FLUSHALL\r\n")
        assert redis.recv(16) == b"+OK\r\n"
    wait_until(lambda: load.snapshot().sessions_followed == 4, "all are logged in again")
    seen = load.stop()
    assert seen.sessions_lost == 2
    assert seen.failed == 0


def test_the_application_finishes_requests_in_flight_before_it_ends(
    start_fleet: StartFleet, start_load: StartLoad
) -> None:
    fleet = start_fleet(FleetShape(backends=2, start_delay_ms=0))
    shape = LoadShape(fast=0, slow=8, uploads=0, slow_ms=(600, 900))
    load = start_load(fleet, shape)
    wait_until(lambda: load.snapshot().requests > 8, "the load is under way")
    assert fleet.appctl("app1", "stop") == 0
    assert fleet.appctl("app1", "status") == 3
    seen = load.stop()
    assert seen.failed == 0, seen.lines()


def test_a_slow_start_refuses_connections_until_it_is_ready(start_fleet: StartFleet) -> None:
    fleet = start_fleet(FleetShape(backends=2, start_delay_ms=700))
    assert fleet.appctl("app2", "restart") == 0
    assert not listens(fleet.node("app2").port)
    wait_until(lambda: listens(fleet.node("app2").port), "the application listens")
    events = (fleet.node("app2").root / "log" / "events.log").read_text().splitlines()
    names = [json.loads(line)["event"] for line in events]
    assert names[-2:] == ["start", "ready"]


@pytest.mark.parametrize("flaw", ["", *FLAWS])
def test_each_release_behaves_as_it_says(flaw: str, tmp_path: Path) -> None:
    servers = servers_or_skip("real")
    release = f"2.0-{flaw}" if flaw else "2.0"
    with DemoFleet(tmp_path, servers, FleetShape(backends=1, start_delay_ms=0)) as fleet:
        put(fleet, "app1", release)
        port = fleet.node("app1").port
        wait_until(lambda: listens(port), "the application listens")
        request = Request("GET", "/health", {})
        exchange = ask(f"http://127.0.0.1:{port}", request)
        if flaw == "never-healthy":
            assert exchange == (Ending.TIMED_OUT, "")
        elif flaw == "broken":
            assert exchange[0] is Ending.STATUS_5XX
        else:
            said = "0.0-wrong" if flaw == "wrong-version" else release
            assert exchange == (Ending.OK, said)
        assert fleet.appctl("app1", "stop") == 0


def ask(url: str, request: Request) -> tuple[Ending, str]:
    """Answers how one request ended and the version that answered."""
    exchange = asyncio.run(Client(keeps_alive=False).send(url, request, 2.0))
    version = exchange.answer.headers.get("x-version", "") if exchange.answer else ""
    return exchange.ending, version


def test_the_written_inventory_is_a_right_one(start_fleet: StartFleet) -> None:
    fleet = start_fleet(FleetShape(backends=3, load_balancers=2, backends_per_machine=2))
    inventory = load_inventory(fleet.inventory_path)
    assert inventory.application == "shop"
    assert list(inventory.load_balancers) == ["lb1", "lb2"]
    assert list(inventory.backends) == ["app1", "app2", "app3"]
    assert inventory.backends["app1"].host == inventory.backends["app2"].host == "web1"
    for name, host in inventory.hosts.items():
        connection = SshConnection(host)
        try:
            answer = connection.run(["echo", name], limit_ms=10_000)
        finally:
            connection.close()
        assert answer.stdout.decode().strip() == name, answer


def test_nothing_is_left_when_a_fleet_is_stopped(start_fleet: StartFleet) -> None:
    fleet = start_fleet(TWO_AND_TWO)
    frozen = fleet.pid_of("app1")
    # A daemon of a daemon, and a process that does not react: both must go as well.
    fleet.keeper.start(["sh", "-c", "setsid sleep 300 & exit 0"], log=fleet.directory / "x.log")
    fleet.kill("app1", signal.SIGSTOP)
    pids = [fleet.keeper.pid, *fleet.keeper.processes()]
    ports = ports_of(fleet)
    assert frozen in pids
    assert len(pids) > len(ports)
    fleet.stop()
    assert [pid for pid in pids if is_running(pid)] == []
    assert [port for port in ports if listens(port)] == []


OWNER = """
import signal, sys, time
# A shell that starts the tests in the background has it ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
from pathlib import Path
from rolling_deploy.demo.fleet import DemoFleet, FleetShape
from rolling_deploy.demo.servers import Servers
fleet = DemoFleet(None, Servers.find(sys.argv[1]), FleetShape(backends=2, start_delay_ms=0))
fleet.start()
fleet.appctl("app1", "restart")
print(fleet.directory, fleet.keeper.pid, *fleet.keeper.processes(), flush=True)
time.sleep(300)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_nothing_is_left_when_the_owner_of_a_fleet_is_ended(
    fleet_servers: Servers, number: signal.Signals
) -> None:
    kind = "real" if fleet_servers.is_real else "embedded"
    argv = [sys.executable, "-c", OWNER, kind]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=environment) as owner:
        try:
            assert owner.stdout is not None
            directory, *pids = owner.stdout.readline().split()
            assert len(pids) > 5
            owner.send_signal(number)
            owner.wait(LIMIT_S)
        finally:
            owner.kill()
    wait_until(lambda: not any(is_running(int(pid)) for pid in pids), "every process is gone")
    wait_until(lambda: not Path(directory).exists(), "its folder is gone")


def test_daemons_end_even_when_the_keeper_was_killed(start_fleet: StartFleet) -> None:
    fleet = start_fleet(TWO_AND_TWO)
    pids = fleet.keeper.processes()
    os.kill(fleet.keeper.pid, signal.SIGKILL)
    fleet.stop()
    wait_until(lambda: not any(map(is_running, pids)), "every process is gone")


def test_a_fleet_whose_server_does_not_start_says_why_and_leaves_nothing(
    fleet_servers: Servers, tmp_path: Path
) -> None:
    fleet = DemoFleet(tmp_path / "fleet", fleet_servers, FleetShape(backends=1, start_delay_ms=0))
    with socket.create_server(("127.0.0.1", fleet.balancers[0].port)):
        with pytest.raises(PreflightRefused) as refused:
            fleet.start()
        assert "nginx of lb1" in refused.value.what
    assert [port for port in ports_of(fleet) if listens(port)] == []


def test_a_folder_with_a_blank_in_its_path_is_refused(
    fleet_servers: Servers, tmp_path: Path
) -> None:
    with pytest.raises(PreflightRefused, match="plain path"):
        DemoFleet(tmp_path / "a b", fleet_servers)


def test_missing_servers_are_named_with_the_way_to_get_them() -> None:
    with pytest.raises(PreflightRefused) as refused:
        Servers.made_of(None, None, None)
    assert "nginx and redis-server" in refused.value.what
    assert "pip install 'rolling-deploy[demo]'" in refused.value.next_step
    assert "make servers" in refused.value.next_step
    with pytest.raises(PreflightRefused, match="needs redis-server: "):
        Servers.made_of(Program("/usr/sbin/nginx", "1.22.1", is_embedded=False), None, None)


def test_the_embedded_servers_can_be_forced(monkeypatch: pytest.MonkeyPatch) -> None:
    servers_or_skip("embedded")
    monkeypatch.setenv("ROLLING_DEPLOY_DEMO_SERVERS", "embedded")
    found = Servers.find("real")
    assert found.nginx.is_embedded
    assert found.redis.is_embedded
    assert found.sshd is None


def test_kept_connections_closed_before_use_are_not_blamed_on_anybody(
    start_fleet: StartFleet, start_load: StartLoad
) -> None:
    fleet = start_fleet(FleetShape(backends=2, start_delay_ms=0))
    load = start_load(fleet, LoadShape(fast=4, slow=0, uploads=0, keep_alive=True, think_ms=400))
    wait_until(lambda: load.snapshot().sessions_followed == 4, "all are logged in")
    for _ in range(5):
        requests = load.snapshot().requests
        os.kill(int(fleet.balancers[0].pid_file.read_text()), signal.SIGHUP)
        wait_until(lambda: load.snapshot().requests > requests + 4, "the load goes on")  # noqa: B023
    seen = load.stop()
    # Five reloads closed some twenty idle connections; all but a rare race were noticed.
    assert seen.failed == 0, seen.lines()
    assert seen.reused_closed <= 2, seen.lines()


def receive_request(connection: socket.socket) -> None:
    """Read one whole request: closing with a part unread would be a reset, too early."""
    with connection.makefile("rb") as stream:
        length = 0
        while (line := stream.readline()) != b"\r\n":
            name, _, value = line.partition(b":")
            length = int(value) if name.lower() == b"content-length" else length
        stream.read(length)


def test_a_connection_closed_under_a_request_is_counted_by_whether_it_was_kept() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        load = Load(
            [f"http://127.0.0.1:{server.getsockname()[1]}"],
            LoadShape(fast=1, slow=0, uploads=0, keep_alive=True, think_ms=20),
        )
        load.start()
        first, _ = server.accept()
        receive_request(first)
        body = b'{"user": "user0", "counter": 0}'
        head = b"HTTP/1.1 200 OK\r\nSet-Cookie: SID=1\r\nContent-Length: %d\r\n\r\n" % len(body)
        first.sendall(head + body)
        receive_request(first)  # on the kept connection
        first.close()
        second, _ = server.accept()
        receive_request(second)  # on a fresh one
        second.close()
        wait_until(lambda: load.snapshot().requests >= 3, "three requests ended")
        server.close()
        seen = load.stop()
    assert seen.endings[Ending.OK] == 1
    assert seen.reused_closed == 1
    assert seen.failed == seen.endings[Ending.BROKEN] >= 1


def test_the_demo_answers_who_served_a_request(start_fleet: StartFleet) -> None:
    fleet = start_fleet(FleetShape(backends=1, start_delay_ms=0))
    with urlopen(fleet.urls[0] + "/health", timeout=10) as answer:  # our own
        assert answer.headers["X-Version"] == "1.0"
        assert answer.headers["X-Backend"] == "app1"
        assert answer.headers["X-Upstream"] == fleet.node("app1").address
        assert json.load(answer)["version"] == "1.0"
    line = json.loads(fleet.balancers[0].access_log.read_text().splitlines()[-1])
    assert line["upstream_addr"] == fleet.node("app1").address
    assert line["request_id"]
