"""Real sentinels, and a real cluster of masters, on free loopback ports, for one test."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.redis_server import (
    BINARY,
    WHY_SKIPPED,
    RedisServer,
    Tls,
    end,
    free_port,
    redis_server,
    wait_until,
    wait_until_it_accepts,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

MASTER = "mymaster"
SLOTS = 16_384


@dataclass(frozen=True, slots=True)
class Watched:
    """A master, its replica, and the sentinels that watch them."""

    master: RedisServer
    replica: RedisServer
    sentinels: tuple[RedisServer, ...]

    @property
    def url(self) -> str:
        """Answers the url of the store."""
        named = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        return f"{'rediss' if self.master.tls else 'redis'}+sentinel://{named}/{MASTER}/0"

    def master_by(self, sentinel: RedisServer) -> int:
        """Answers the port of the master that one sentinel names."""
        with contextlib.closing(sentinel.client()) as client:
            return int(client.execute_command("SENTINEL GET-MASTER-ADDR-BY-NAME", MASTER)[1])


@contextlib.contextmanager
def sentinel(
    master_port: int,
    *,
    quorum: int = 2,
    down_after_ms: int = 1_000,
    more: str = "",
    tls: Tls | None = None,
    host: str = "127.0.0.1",
) -> Iterator[RedisServer]:
    """Run one sentinel that watches a master, until the block ends.

    Args:
        tls: it is asked through TLS, and asks the others so.
    """
    assert BINARY is not None, WHY_SKIPPED
    with tempfile.TemporaryDirectory(prefix="sentinel-", ignore_cleanup_errors=True) as folder:
        place, port = Path(folder), free_port()
        file = place / "sentinel.conf"
        listens = f"port {port}\n"
        if tls is not None:
            options = {"port": "0", "tls-port": str(port), **tls.settings}
            listens = "".join(f"{name} {value}\n" for name, value in options.items())
        file.write_text(
            f"{listens}bind 127.0.0.1\ndir {place}\nlogfile {place / 'redis.log'}\n{more}"
            f"sentinel monitor {MASTER} {host} {master_port} {quorum}\n"
            f"sentinel down-after-milliseconds {MASTER} {down_after_ms}\n"
            f"sentinel failover-timeout {MASTER} 5000\n"
        )
        process = subprocess.Popen([BINARY, str(file), "--sentinel"], stdout=subprocess.DEVNULL)
        try:
            running = RedisServer(port, process, place, tls.of_a_client if tls else {})
            wait_until_it_accepts(running)
            yield running
        finally:
            end(process)


@contextlib.contextmanager
def watched(
    count: int = 3,
    *,
    down_after_ms: int = 1_000,
    words: tuple[str, ...] = (),
    tls: Tls | None = None,
    sentinel_tls: Tls | None = None,
) -> Iterator[Watched]:
    """Run a master, a replica that follows it, and sentinels that know each other.

    Args:
        tls: all of them speak TLS only.
        sentinel_tls: what the sentinels show instead of the same.
    """
    with contextlib.ExitStack() as ends:
        master = ends.enter_context(redis_server(*words, tls=tls))
        replica = ends.enter_context(
            redis_server("--replicaof", "127.0.0.1", str(master.port), *words, tls=tls)
        )
        with contextlib.closing(replica.client()) as client:
            wait_until(lambda: client.info()["master_link_status"] == "up", "replication")
        sentinels = tuple(
            ends.enter_context(
                sentinel(master.port, down_after_ms=down_after_ms, tls=sentinel_tls or tls)
            )
            for _ in range(count)
        )
        for one in sentinels:
            wait_until(lambda one=one: _knows(one, count - 1), "sentinels that know each other")
        yield Watched(master, replica, sentinels)


def _knows(sentinel: RedisServer, others: int) -> bool:
    with contextlib.closing(sentinel.client(decode_responses=True)) as client:
        words = client.execute_command("SENTINEL MASTER", MASTER)
    fields = words if isinstance(words, dict) else dict(zip(words[::2], words[1::2], strict=True))
    return int(fields["num-other-sentinels"]) == others and int(fields["num-slaves"]) == 1


@contextlib.contextmanager
def cluster(
    count: int = 3, *words: str, tls: Tls | None = None
) -> Iterator[tuple[RedisServer, ...]]:
    """Run masters that share all the slots, and have heard of each other."""
    options = ("--cluster-enabled", "yes", "--cluster-node-timeout", "1500", *words)
    with contextlib.ExitStack() as ends:
        servers = tuple(ends.enter_context(redis_server(*options, tls=tls)) for _ in range(count))
        share = SLOTS // count
        for number, server in enumerate(servers):
            last = SLOTS - 1 if number == count - 1 else (number + 1) * share - 1
            with contextlib.closing(server.client()) as client:
                client.execute_command("CLUSTER", "ADDSLOTSRANGE", number * share, last)
                for other in servers[:number]:
                    client.execute_command("CLUSTER", "MEET", "127.0.0.1", other.port)
        for server in servers:
            wait_until(lambda server=server: is_whole(server), "the cluster")
        yield servers


def is_whole(server: RedisServer) -> bool:
    """Answers whether a server of a cluster says that all is well."""
    return cluster_info(server).get("cluster_state") == "ok"


def cluster_info(server: RedisServer) -> dict[str, str]:
    """Answers what a server says of its cluster."""
    with contextlib.closing(server.client(decode_responses=True)) as client:
        said = client.execute_command("CLUSTER INFO")
    if isinstance(said, dict):
        return said
    return dict(row.split(":", 1) for row in str(said).splitlines() if ":" in row)


def cluster_url(servers: tuple[RedisServer, ...]) -> str:
    """Answers the url of the cluster, by all its servers."""
    scheme = "rediss" if servers[0].tls else "redis"
    return f"{scheme}+cluster://" + ",".join(f"127.0.0.1:{server.port}" for server in servers)
