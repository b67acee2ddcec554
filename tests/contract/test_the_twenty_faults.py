"""Twenty faults of a session store, each on a real one, and the line that tells it from the rest.

`docs/session-store.md` shows the same table.
"""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from rolling_deploy.remote.session_store_asked import check_session_store
from rolling_deploy.remote.session_store_info import Sample
from rolling_deploy.rollout.observed import Check, Verdict
from rolling_deploy.settings import SessionStoreSettings
from tests.contract.test_session_store_faults import fill, is_busy, opener_after, run_for_ever
from tests.docs import ROOT
from tests.redis_groups import cluster_info, sentinel
from tests.redis_server import BINARY, WHY_SKIPPED, free_port, redis_server, wait_until
from tests.session_store_lines import PASSWORD, PASSWORD_ENV, PREFIX, settings_for

pytestmark = [
    pytest.mark.skipif(BINARY is None, reason=WHY_SKIPPED),
    pytest.mark.timeout(120),
]

PAGE = ROOT / "docs" / "session-store.md"


@dataclass(frozen=True)
class Stand:
    """A store with a fault, and how it is asked.

    Attributes:
        previous: what the check before it saw.
        delay_s: before it is connected to.
    """

    settings: SessionStoreSettings
    previous: Sample | None = None
    delay_s: float = 0.0

    def lines(self) -> tuple[Check, ...]:
        opener = opener_after(self.delay_s) if self.delay_s else None
        return check_session_store(self.settings, opener, canary=True, previous=self.previous)[0]


Made = Callable[[Path], AbstractContextManager[Stand]]


@dataclass(frozen=True)
class Fault:
    """One row: what is wrong, how it is made, and the line that no other fault leads to."""

    name: str
    made: Made
    line: str
    verdict: Verdict
    words: str

    def is_told_by(self, lines: tuple[Check, ...]) -> bool:
        """Answers whether the line is among these."""
        return any(
            (check.name, check.verdict) == (self.line, self.verdict) and self.words in check.detail
            for check in lines
        )


def store(*words: str, **changes: object) -> Made:
    @contextmanager
    def made(_: Path) -> Iterator[Stand]:
        with redis_server(*words) as server:
            yield Stand(settings_for(server, **changes))

    return made


def as_user(rights: str) -> Made:
    words = ("--user", "app", "on", f">{PASSWORD}", *rights.split())
    return store(*words, username="app", password_env=PASSWORD_ENV)


@contextmanager
def replica(_: Path) -> Iterator[Stand]:
    with redis_server() as master:
        with redis_server("--replicaof", "127.0.0.1", str(master.port)) as server:
            with contextlib.closing(server.client()) as client:
                wait_until(lambda: client.info()["master_link_status"] == "up", "replication")
            yield Stand(settings_for(server))


@contextmanager
def orphan(_: Path) -> Iterator[Stand]:
    words = ("--replicaof", "127.0.0.1", str(free_port()), "--replica-serve-stale-data", "no")
    with redis_server(*words) as server:
        yield Stand(settings_for(server))


def full(policy: str) -> Made:
    @contextmanager
    def made(_: Path) -> Iterator[Stand]:
        with redis_server("--maxmemory", "3mb", "--maxmemory-policy", policy) as server:
            fill(server, 400, seconds=600 if policy.startswith("allkeys") else None)
            settings = settings_for(server)
            before = check_session_store(settings, None, canary=False, previous=None)[1]
            fill(server, 50, seconds=600 if policy.startswith("allkeys") else None)
            yield Stand(settings, previous=before)

    return made


@contextmanager
def cannot_save(directory: Path) -> Iterator[Stand]:
    with redis_server("--dbfilename", "dump.rdb", directory=directory) as server:
        with contextlib.closing(server.client()) as client:
            client.config_set("save", "3600 1")
            # A directory in the place of the file: saving fails for root too.
            (directory / "dump.rdb").mkdir()
            client.set("something", "to save")
            client.bgsave()
            wait_until(lambda: client.info()["rdb_last_bgsave_status"] == "err", "a failed save")
        yield Stand(settings_for(server))


@contextmanager
def loading(directory: Path) -> Iterator[Stand]:
    with redis_server(directory=directory) as server:
        with contextlib.closing(server.client()) as client:
            client.eval("for i = 1, 4000 do redis.call('SET', 'k' .. i, i) end", 0)
            client.save()
    slowly = ("--key-load-delay", "5000", "--loading-process-events-interval-bytes", "1024")
    with redis_server(*slowly, directory=directory) as server:
        yield Stand(settings_for(server))


@contextmanager
def writes_paused(_: Path) -> Iterator[Stand]:
    with redis_server() as server, contextlib.closing(server.client()) as client:
        client.client_pause(30_000, all=False)
        yield Stand(settings_for(server, timeout_ms=500))


@contextmanager
def frozen(_: Path) -> Iterator[Stand]:
    with redis_server() as server:
        server.freeze()
        try:
            yield Stand(settings_for(server, timeout_ms=500))
        finally:
            server.thaw()


@contextmanager
def half_a_cluster(_: Path) -> Iterator[Stand]:
    with redis_server("--cluster-enabled", "yes") as server:
        with contextlib.closing(server.client()) as client:
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 8191)
        wait_until(lambda: cluster_info(server)["cluster_slots_ok"] == "8192", "the slots")
        url = f"redis+cluster://127.0.0.1:{server.port}"
        yield Stand(settings_for(server, url=url))


@contextmanager
def without_quorum(_: Path) -> Iterator[Stand]:
    with redis_server() as server, sentinel(server.port, quorum=2) as one:
        url = f"redis+sentinel://127.0.0.1:{one.port}/mymaster/0"
        yield Stand(settings_for(server, url=url))


@contextmanager
def no_connection_left(_: Path) -> Iterator[Stand]:
    with redis_server("--maxclients", "1") as server:
        with contextlib.closing(server.client()) as client:
            client.ping()
            yield Stand(settings_for(server))


@contextmanager
def busy(_: Path) -> Iterator[Stand]:
    with redis_server("--busy-reply-threshold", "50") as server:
        with contextlib.closing(server.client()) as client:
            script = threading.Thread(target=run_for_ever, args=(client,), daemon=True)
            script.start()
            with contextlib.closing(server.client()) as other:
                wait_until(lambda: is_busy(other), "a busy script")
                yield Stand(settings_for(server))
                other.script_kill()
            script.join(20)


@contextmanager
def slow(_: Path) -> Iterator[Stand]:
    with redis_server("--enable-debug-command", "yes") as server:
        with contextlib.closing(server.client()) as client:
            client.ping()
            sleep = threading.Thread(target=client.execute_command, args=("DEBUG", "SLEEP", "2"))
            sleep.start()
            limits = {"latency_max_ms": 200, "timeout_ms": 10_000, "deadline_ms": 30_000}
            yield Stand(settings_for(server, **limits), delay_s=0.3)
            sleep.join(20)


@contextmanager
def wrong_database(_: Path) -> Iterator[Stand]:
    with redis_server() as server:
        yield Stand(settings_for(server, url=f"redis://127.0.0.1:{server.port}/99"))


R, W = Verdict.REFUSED, Verdict.WARNING
FAULTS = (
    Fault("a replica instead of the master", replica, "role", R, "is slave (master_link_status:up"),
    Fault("a replica whose master is gone", orphan, "commands", R, "Link with MASTER is down"),
    Fault(
        "memory full, `noeviction`",
        full("noeviction"),
        "canary write",
        R,
        "noeviction throws nothing away",
    ),
    Fault(
        "memory full of keys without expiry, `volatile-lru`",
        full("volatile-lru"),
        "canary write",
        R,
        "full of keys that never expire",
    ),
    Fault(
        "sessions thrown away, `allkeys-lru`",
        full("allkeys-lru"),
        "evictions",
        R,
        "evicted_keys rose from",
    ),
    Fault(
        "no password",
        store("--requirepass", PASSWORD),
        "authentication",
        R,
        "Authentication required",
    ),
    Fault(
        "a wrong password",
        store("--requirepass", "another", password_env=PASSWORD_ENV),
        "authentication",
        R,
        "invalid username-password pair or user is disabled",
    ),
    Fault(
        "a user without the right to the keys",
        as_user("~other:* +@all"),
        "canary write",
        R,
        "no permissions to access one of the keys",
    ),
    Fault(
        "a user who may only read",
        as_user("~* +@read +@connection +info"),
        "canary write",
        R,
        "no permissions to run the 'set' command",
    ),
    Fault("the disk refuses the data", cannot_save, "canary write", R, "MISCONF"),
    Fault("loading its data", loading, "loading", R, "Redis is loading the dataset in memory"),
    Fault("writes paused (a failover)", writes_paused, "canary write", R, "Timeout reading from"),
    Fault("frozen", frozen, "reach", R, "Timeout reading from"),
    Fault(
        "too few replicas",
        store("--min-replicas-to-write", "1"),
        "replicas",
        R,
        "should be at least 1 (min-replicas-to-write), is 0",
    ),
    Fault("slots of the cluster not served", half_a_cluster, "slots", R, "8192-16383 have no"),
    Fault(
        "sentinels without a quorum", without_quorum, "sentinels", R, "they could choose no other"
    ),
    Fault("no connection left", no_connection_left, "reach", R, "max number of clients reached"),
    Fault("busy with a script", busy, "commands", R, "BUSY Redis is busy running a script"),
    Fault("slow", slow, "latency", W, "should be at most 200 ms"),
    Fault(
        "a database that is not there", wrong_database, "database", R, "DB index is out of range"
    ),
)


@pytest.fixture(autouse=True)
def password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PASSWORD_ENV, PASSWORD)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_the_twenty_faults_are_told_apart(fault: Fault, tmp_path: Path) -> None:
    with fault.made(tmp_path) as stand:
        lines = stand.lines()
    assert [one.name for one in FAULTS if one.is_told_by(lines)] == [fault.name], lines


def test_a_store_that_is_well_is_told_from_all_twenty() -> None:
    user = f"app on >{PASSWORD} ~{PREFIX}* +@all -@dangerous"
    with redis_server("--user", *user.split()) as server:
        settings = settings_for(server, username="app", password_env=PASSWORD_ENV)
        for changed in (settings, replace(settings, username="", password_env="")):
            lines = Stand(changed).lines()
            assert [one.name for one in FAULTS if one.is_told_by(lines)] == []
            assert not [check for check in lines if check.verdict in {R, W}], lines


def test_the_table_in_the_docs_is_this_one() -> None:
    assert len(FAULTS) == 20
    rows = re.findall(
        r"^\| (.+?) \| `(.+?)` \| (refused|warning) \| `(.+?)` \|$", PAGE.read_text(), re.MULTILINE
    )
    assert rows == [(one.name, one.line, one.verdict.value, one.words) for one in FAULTS]
