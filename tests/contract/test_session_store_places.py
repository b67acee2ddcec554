"""The session store asked from each node's own place, on a real redis-server."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from typing import TYPE_CHECKING

import pytest

from rolling_deploy.operations.machines import FleetMachines
from rolling_deploy.operations.site import Site
from rolling_deploy.operations.store_places import check_store
from rolling_deploy.remote.connection import CannotReach, ForwardingRefused
from rolling_deploy.rollout.observed import Check, Interest, Verdict
from tests.local_connection import LocalConnection
from tests.redis_groups import cluster, cluster_url, watched
from tests.redis_server import BINARY, WHY_SKIPPED, RedisServer, redis_server, wait_until
from tests.session_store_lines import PASSWORD, PASSWORD_ENV, PREFIX, RelayingOpener
from tests.survey_fixture import inventory_in

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

pytestmark = [
    pytest.mark.skipif(BINARY is None, reason=WHY_SKIPPED),
    pytest.mark.timeout(120),
]

FLEET = """\
application: shop
hosts: {{lb1: {{}}, {hosts}}}
load_balancers: [{{name: lb1}}]
upstreams: [{{name: tomcat}}]
upgrade: {{strategy: tomcat, artifact: "shop-{{release}}.war"}}
backends:
{backends}
session_store: {{url: "{url}", key_prefix: "{prefix}", timeout_s: 1, latency_max_ms: 5000{more}}}
"""


class Node(LocalConnection):
    """A node of its own place in the network: what it finds behind an address is its own.

    Attributes:
        asked: the ports that streams were opened to.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name=name)
        self.asked: list[int] = []
        self.finds: dict[int, int] = {}
        self.fails: dict[int, Exception] = {}
        self._relay = RelayingOpener()

    def open_stream(self, host: str, port: int, *, timeout_ms: int) -> socket.socket:
        """Open a stream to what this node finds there."""
        self.asked.append(port)
        if port in self.fails:
            raise self.fails[port]
        return self._relay(host, self.finds.get(port, port), timeout_ms=timeout_ms)


class Fleet:
    """Backends `app1`... on machines `web1`..., and the site that they are."""

    def __init__(self, directory: Path, url: str, machines: Sequence[str], more: str = "") -> None:
        backends = "\n".join(
            f"  - {{name: app{number}, host: {host}, address: '10.0.0.{number}:80', "
            f"upgrade: {{catalina_base: /srv/app{number}}}}}"
            for number, host in enumerate(machines, 1)
        )
        hosts = ", ".join(f"{host}: {{}}" for host in sorted(set(machines)))
        text = FLEET.format(hosts=hosts, backends=backends, url=url, prefix=PREFIX, more=more)
        self.nodes = {host: Node(host) for host in sorted(set(machines))}
        self.site = Site(inventory_in(directory, text), dict(self.nodes))

    def ask(self, *, canary: bool = True, is_patient: bool = False) -> tuple[Check, ...]:
        """Answers the lines about all backends, beside those of the whole check."""
        return check_store(
            self.site, self.site.inventory.backends, canary=canary, is_patient=is_patient
        )

    def places(self, **words: bool) -> dict[str, tuple[Verdict, str]]:
        """Answers the lines about the backends' places, by their names."""
        checks = self.ask(**words)
        told = {c.name: (c.verdict, c.detail) for c in checks if c.name.startswith("from ")}
        assert [c.name for c in checks if c.verdict is Verdict.REFUSED and c.name not in told] == []
        return told


THREE = ("web1", "web1", "web2", "web3")
VIA = ", asked_from: both, via: web1"


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with redis_server() as running:
        yield running


def named(server: RedisServer) -> str:
    """Answers a url that does not mean whoever asks."""
    return f"redis://store.example:{server.port}/0"


@pytest.fixture(autouse=True)
def store_example(monkeypatch: pytest.MonkeyPatch) -> None:
    """`store.example` is the loopback address, for us and for each node."""
    known = socket.getaddrinfo

    def look_up(host: object, *more: object, **words: object) -> object:
        return known("127.0.0.1" if host == "store.example" else host, *more, **words)  # type: ignore[arg-type] # as it was given

    monkeypatch.setattr(socket, "getaddrinfo", look_up)


def test_a_dozen_nodes_that_see_the_same_store_are_one_line(
    server: RedisServer, tmp_path: Path
) -> None:
    fleet = Fleet(tmp_path, named(server), [f"web{number}" for number in range(1, 13)])
    told = fleet.places()
    assert list(told) == ["from 12 backends"]
    verdict, detail = told["from 12 backends"]
    assert verdict is Verdict.OK
    assert detail.startswith("the same store: it answers, is master, and has the key")
    assert "12 backends on 12 machines" in detail


def test_backends_of_one_machine_are_asked_for_once(server: RedisServer, tmp_path: Path) -> None:
    fleet = Fleet(tmp_path, named(server), ["web1", "web1", "web1"])
    assert list(fleet.places()) == ["from app1, app2, app3"]
    assert fleet.nodes["web1"].asked == [server.port]


def test_a_node_that_is_cut_off_is_refused_with_who_sees_it_well(
    server: RedisServer, tmp_path: Path
) -> None:
    fleet = Fleet(tmp_path, named(server), THREE)
    fleet.nodes["web2"].fails[server.port] = ForwardingRefused(
        f"store.example:{server.port}: connection refused", is_prohibited=False
    )
    told = fleet.places()
    assert list(told) == ["from app3", "from app1, app2, app4"]
    verdict, detail = told["from app3"]
    assert verdict is Verdict.REFUSED
    assert "connection refused" in detail
    assert detail.endswith("from this machine and app1, app2, app4 it is well")
    assert told["from app1, app2, app4"][0] is Verdict.OK


def test_a_node_that_reaches_another_store_is_refused(server: RedisServer, tmp_path: Path) -> None:
    fleet = Fleet(tmp_path, named(server), THREE)
    with redis_server() as another:
        fleet.nodes["web3"].finds[server.port] = another.port
        verdict, detail = fleet.places()["from app4"]
        assert verdict is Verdict.REFUSED
        assert "another store answers: the canary key that was written is not in it" in detail
        verdict, detail = fleet.places(canary=False)["from app4"]
        assert verdict is Verdict.REFUSED
        assert "another store answers: its replication id differs" in detail


def test_a_node_that_reaches_a_replica_is_refused(server: RedisServer, tmp_path: Path) -> None:
    fleet = Fleet(tmp_path, named(server), THREE)
    with redis_server("--replicaof", "127.0.0.1", str(server.port)) as replica:
        with contextlib.closing(replica.client()) as client:
            wait_until(lambda: client.info()["master_link_status"] == "up", "replication")
        fleet.nodes["web3"].finds[server.port] = replica.port
        verdict, detail = fleet.places()["from app4"]
    assert verdict is Verdict.REFUSED
    assert "role should be master, is slave" in detail


def test_what_cannot_be_asked_is_not_checked(server: RedisServer, tmp_path: Path) -> None:
    fleet = Fleet(tmp_path, named(server), THREE)
    fleet.nodes["web2"].fails[server.port] = CannotReach("no route to host")
    fleet.nodes["web3"].fails[server.port] = ForwardingRefused(
        "sshd forbids forwarding", is_prohibited=True
    )
    told = fleet.places()
    assert told["from app3"][0] is told["from app4"][0] is Verdict.NOT_CHECKED
    assert "the machine is not reached: no route to host" in told["from app3"][1]
    assert "no stream can be opened from the machine" in told["from app4"][1]


def test_a_node_that_hangs_is_refused_at_the_deadline(server: RedisServer, tmp_path: Path) -> None:
    fleet = Fleet(tmp_path, named(server), THREE, ", deadline_s: 2")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        is_over = threading.Event()

        def trickle() -> None:
            with contextlib.suppress(OSError):
                stream, _ = silent.accept()
                with stream:
                    stream.sendall(b"+")
                    while not is_over.wait(0.2):
                        stream.sendall(b"P")

        threading.Thread(target=trickle, daemon=True).start()
        fleet.nodes["web2"].finds[server.port] = silent.getsockname()[1]
        begun = time.monotonic()
        told = fleet.places()
        took_s = time.monotonic() - begun
        is_over.set()
    assert took_s < 20
    assert told["from app3"][0] is Verdict.REFUSED
    assert "no answer within 2000 ms" in told["from app3"][1]
    assert told["from app1, app2, app4"][0] is Verdict.OK


def test_one_key_is_written_for_all_the_nodes_and_is_gone_afterwards(
    server: RedisServer, tmp_path: Path
) -> None:
    fleet = Fleet(tmp_path, named(server), THREE)
    with contextlib.closing(server.client(decode_responses=True)) as client:
        fleet.places()
        alone = client.info("commandstats")["cmdstat_set"]["calls"]
        check_store(fleet.site, (), canary=True, is_patient=False)
        whole = client.info("commandstats")["cmdstat_set"]["calls"] - alone
        assert alone == whole + 1
        assert client.dbsize() == 0
        fleet.places(canary=False)
        assert client.info("commandstats")["cmdstat_set"]["calls"] == alone + whole


def test_without_a_key_the_identity_of_the_data_says_it(
    server: RedisServer, tmp_path: Path
) -> None:
    told = Fleet(tmp_path, named(server), THREE).places(canary=False)
    verdict, detail = told["from 4 backends"]
    assert verdict is Verdict.OK
    assert "its replication id is the same" in detail


def test_neither_a_key_nor_its_identity_is_not_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PASSWORD_ENV, PASSWORD)
    user = f"app on >{PASSWORD} ~{PREFIX}* +@all -info"
    with redis_server("--user", *user.split()) as server:
        more = f", username: app, password_env: {PASSWORD_ENV}"
        fleet = Fleet(tmp_path, named(server), THREE, more)
        assert fleet.places()["from 4 backends"][0] is Verdict.OK
        verdict, detail = fleet.places(canary=False)["from 4 backends"]
    assert verdict is Verdict.NOT_CHECKED
    assert "whether it is the same store is not seen: --no-canary" in detail


def test_the_password_reaches_a_node_in_the_stream_and_in_no_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PASSWORD_ENV, PASSWORD)
    with redis_server("--requirepass", PASSWORD) as server:
        fleet = Fleet(tmp_path, named(server), THREE, f", password_env: {PASSWORD_ENV}")
        told = fleet.places()
        assert told["from 4 backends"][0] is Verdict.OK
        assert [node.commands for node in fleet.nodes.values()] == [0, 0, 0]
        monkeypatch.setenv(PASSWORD_ENV, "quite-another")
        lines = repr(fleet.ask())
        assert "invalid username-password pair" in lines
        assert "quite-another" not in lines


def test_localhost_means_each_node_itself(server: RedisServer, tmp_path: Path) -> None:
    fleet = Fleet(tmp_path, f"redis://localhost:{server.port}/0", ["web1", "web1", "web2"])
    assert list(fleet.places()) == ["from app1, app2, app3"]
    reach = next(check for check in fleet.ask() if check.name == "reach")
    assert reach.detail == f"localhost:{server.port} via web1 answers"
    with redis_server() as another:
        fleet.nodes["web2"].finds[server.port] = another.port
        verdict, detail = fleet.places()["from app3"]
        assert verdict is Verdict.REFUSED
        assert "another store answers" in detail


def address_line(fleet: Fleet, **words: bool) -> Check | None:
    """Answers the line about what `localhost` means to several machines, if there is one."""
    return next((check for check in fleet.ask(**words) if check.name == "address"), None)


def test_localhost_on_several_machines_is_told_to_be_as_many_stores(
    server: RedisServer, tmp_path: Path
) -> None:
    url = f"redis://localhost:{server.port}/0"
    fleet = Fleet(tmp_path, url, ["web1", "web1", "web2"])
    # A tunnel on each machine leads to the same one: that was seen.
    assert address_line(fleet) is None
    with redis_server() as another:
        fleet.nodes["web2"].finds[server.port] = another.port
        told = address_line(fleet)
        assert told is not None
        assert told.verdict is Verdict.WARNING
        assert f"`{url}` means each machine itself" in told.detail
        assert "the backends stand on web1, web2" in told.detail
        assert "name one address that all of them reach" in told.detail
        assert address_line(fleet, canary=False) is not None
        # A status asks from one place and cannot tell.
        status = check_store(fleet.site, (), canary=False, is_patient=False)
        assert [check.name for check in status if check.name == "address"] == []
        # Not asked from there: then nobody has seen that it is the same.
        assert address_line(Fleet(tmp_path, url, ["web1", "web2"], ", asked_from: via")) is not None
    fleet.nodes["web2"].fails[server.port] = ForwardingRefused("refused", is_prohibited=True)
    assert address_line(fleet) is not None


@pytest.mark.parametrize(
    ("host", "machines", "more"),
    [
        ("localhost", ("web1", "web1"), ""),
        ("localhost", ("web1", "web2"), ", via: web1"),
        ("store.example", ("web1", "web2"), ""),
    ],
)
def test_an_address_that_is_one_place_is_no_line(
    server: RedisServer, tmp_path: Path, host: str, machines: tuple[str, ...], more: str
) -> None:
    fleet = Fleet(tmp_path, f"redis://{host}:{server.port}/0", machines, more)
    assert address_line(fleet) is None
    for node in fleet.nodes.values():
        node.fails[server.port] = ForwardingRefused("refused", is_prohibited=False)
    assert address_line(fleet) is None


def test_localhost_on_the_named_machine_is_nobody_elses(
    server: RedisServer, tmp_path: Path
) -> None:
    fleet = Fleet(tmp_path, f"redis://localhost:{server.port}/0", THREE, ", via: web1")
    told = fleet.places()
    assert told["from app1, app2"][0] is Verdict.OK
    assert told["from app3, app4"] == (
        Verdict.NOT_CHECKED,
        "the url means web1 itself, how it is reached from here is not known",
    )
    assert fleet.nodes["web2"].asked == []


@pytest.mark.parametrize("asked_from", ["via", "backends"])
def test_one_of_the_two_can_be_left_out(
    server: RedisServer, tmp_path: Path, asked_from: str
) -> None:
    more = f", asked_from: {asked_from}"
    fleet = Fleet(tmp_path, named(server), THREE, more)
    told = fleet.places()
    assert bool(told) is (asked_from == "backends")
    # The whole check and the key, and the short one.
    wanted = [3, 1, 1] if asked_from == "backends" else [0, 0, 0]
    assert [len(node.asked) for node in fleet.nodes.values()] == wanted


def test_a_look_before_a_wave_asks_from_the_wave_and_from_those_who_carry_the_load(
    server: RedisServer, tmp_path: Path
) -> None:
    fleet = Fleet(tmp_path, named(server), ["web1", "web2", "web3"])
    machines = FleetMachines(fleet.site)
    interest = Interest(frozenset(), frozenset({"app1"}), frozenset({"app3"}), store=True)
    store = machines.look(interest).store
    assert store is not None
    assert [check.name for check in store if check.name.startswith("from")] == ["from app1, app3"]
    assert fleet.nodes["web2"].asked == []


def test_a_node_that_cannot_reach_one_master_of_a_cluster_is_refused(tmp_path: Path) -> None:
    with cluster() as servers:
        fleet = Fleet(tmp_path, cluster_url(servers).replace("127.0.0.1", "store.example"), THREE)
        assert fleet.places()["from 4 backends"][0] is Verdict.OK
        for server in servers:
            # Whichever master the key is on: its sessions are on all of them.
            refusal = ForwardingRefused("timed out", is_prohibited=False)
            fleet.nodes["web2"].fails = {server.port: refusal}
            verdict, detail = fleet.places()["from app3"]
            assert verdict is Verdict.REFUSED
            assert f"127.0.0.1:{server.port}: timed out" in detail


def test_a_node_that_cannot_reach_the_sentinels_is_refused(tmp_path: Path) -> None:
    with watched(2) as store:
        url = store.url.replace("127.0.0.1", "store.example")
        fleet = Fleet(tmp_path, url, THREE)
        assert fleet.places()["from 4 backends"][0] is Verdict.OK
        for one in store.sentinels:
            fleet.nodes["web3"].fails[one.port] = ForwardingRefused("refused", is_prohibited=False)
        verdict, detail = fleet.places()["from app4"]
    assert verdict is Verdict.REFUSED
    assert "none names a master" in detail
