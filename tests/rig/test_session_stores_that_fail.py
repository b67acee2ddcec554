"""A session store that cannot hold sessions: nothing is touched, and the reason is named."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from rolling_deploy.demo import readiness
from tests.rig.fixtures import rig, stand_fixture
from tests.rig_tools import Rig, fact, intends

__all__ = ["rig"]

stand = stand_fixture()

pytestmark = [pytest.mark.rig, pytest.mark.timeout(900)]

PASSWORD = "RIG_SESSION_STORE_PASSWORD"
START_LIMIT_S = 60.0


@dataclass(frozen=True, slots=True)
class Store:
    """A redis-server beside the one that holds the users' sessions, so that these go on."""

    port: int
    pid: int

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"


class Stores:
    """Starts session stores of any kind; all end with the test."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.pids: list[int] = []

    def start(self, *options: str, says: bytes = b"+PONG") -> Store:
        fleet = self.rig.fleet
        port = fleet._ports.take()
        folder = fleet.directory / "redis"
        argv = [fleet.servers.redis.path, "--port", str(port), "--bind", "127.0.0.1"]
        argv += ["--save", "", "--dir", str(folder), *options]
        pid = fleet.keeper.start(argv, log=folder / f"redis-{port}.log")
        self.pids.append(pid)
        readiness.wait_for("redis", port, b"PING\r\n", says, START_LIMIT_S)
        return Store(port, pid)


@pytest.fixture
def stores(rig: Rig) -> Iterator[Stores]:
    opened = Stores(rig)
    yield opened
    for pid in opened.pids:
        os.kill(pid, signal.SIGCONT)
        os.kill(pid, signal.SIGTERM)
        rig.fleet.keeper.wait(pid, 10)


def frozen(stores: Stores) -> tuple[Store, str, str]:
    store = stores.start()
    os.kill(store.pid, signal.SIGSTOP)
    return store, "", "timeout reading"


def read_only(stores: Stores) -> tuple[Store, str, str]:
    fleet = stores.rig.fleet
    store = stores.start("--replicaof", f"127.0.0.1 {fleet.redis_port}")
    return store, "", "replica"


def locked(stores: Stores) -> tuple[Store, str, str]:
    store = stores.start("--requirepass", "right", says=b"-NOAUTH")
    stores.rig.environment[PASSWORD] = "wrong"
    return store, f"\n  password_env: {PASSWORD}", "password"


@pytest.mark.parametrize("broken", [frozen, read_only, locked], ids=lambda f: f.__name__)
def test_a_session_store_that_cannot_be_used_is_refused_and_nothing_is_touched(
    rig: Rig, stores: Stores, broken: object
) -> None:
    assert callable(broken)
    store, more, reason = broken(stores)
    inventory = rig.inventory("store", (f"url: {rig.fleet.redis_url}", f"url: {store.url}{more}"))
    files, workers, before = rig.managed(), rig.workers(), rig.release()
    with rig.users():
        run = ("run", "--release", rig.next_release(), "--yes")
        ended = rig.do(*run, inventory=inventory).must_be(8)
        assert "session store" in ended.message.where
        assert reason in ended.message.where.lower()
        assert ended.message.site == "nothing was touched"
        assert not ended.has(fact("opened"))
        assert rig.managed() == files
        rig.expect_no_reload(workers)
    rig.environment.clear()
    rig.expect_well(before)


def test_a_session_store_that_freezes_meanwhile_stops_the_next_wave(
    rig: Rig, stores: Stores
) -> None:
    store = stores.start()
    inventory = rig.inventory("store", (f"url: {rig.fleet.redis_url}", f"url: {store.url}"))
    before, after = rig.release(), rig.next_release()
    with rig.users():
        run = rig.start("run", "--release", after, "--yes", inventory=inventory)
        run.at(intends("WarmUp", "app1"), lambda _: os.kill(store.pid, signal.SIGSTOP))
        ended = run.end().must_be(4)
        assert "session store" in ended.message.what
        assert not ended.has(fact("claimed", claim=2))
        seen = rig.status(inventory=inventory)
        assert [b["rotation"] for b in seen["backends"]] == ["in", "in"]
        assert [b["version"] for b in seen["backends"]] == [after, before]
        os.kill(store.pid, signal.SIGCONT)
        rig.do("resume", "--yes", by="second", inventory=inventory).must_be(0)
    rig.expect_well(after)
