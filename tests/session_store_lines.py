"""What the tests of the session store's check share: settings, openers, and reading its lines."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

from rolling_deploy.remote.opener import open_directly
from rolling_deploy.remote.session_store_asked import check_session_store
from rolling_deploy.remote.session_store_info import Sample
from rolling_deploy.rollout.observed import Check, Verdict
from rolling_deploy.settings import SessionStoreSettings

if TYPE_CHECKING:
    from rolling_deploy.remote.opener import Opener
    from tests.redis_server import RedisServer

PREFIX = "app:session:"
PASSWORD_ENV = "ROLLING_DEPLOY_TEST_STORE_PASSWORD"
PASSWORD = "s3cr3t-but-not-really"
ALL_LINES = {
    "reach",
    "authentication",
    "loading",
    "role",
    "persistence",
    "memory",
    "eviction policy",
    "replicas",
    "canary write",
    "canary read",
    "canary expire",
    "canary delete",
    "evictions",
    "latency",
}


def settings_for(server: RedisServer, **changes: object) -> SessionStoreSettings:
    settings = SessionStoreSettings(
        url=server.url, key_prefix=PREFIX, latency_max_ms=5_000, timeout_ms=2_000
    )
    return replace(settings, **changes)  # type: ignore[arg-type] # each test names real fields


def examine(
    settings: SessionStoreSettings,
    *,
    opener: Opener | None = None,
    canary: bool = True,
    previous: Sample | None = None,
) -> dict[str, Check]:
    checks, _ = check_session_store(settings, opener, canary=canary, previous=previous)
    names = [check.name for check in checks]
    assert len(names) == len(set(names)), names
    assert all(check.subject == "session store" for check in checks)
    return {check.name: check for check in checks}


def assert_refused(lines: dict[str, Check], name: str, words: str) -> None:
    told = lines.get(name)
    assert told is not None, lines
    assert told.verdict is Verdict.REFUSED, told
    assert words in told.detail, told


def with_verdict(lines: dict[str, Check], verdict: Verdict) -> set[str]:
    return {name for name, told in lines.items() if told.verdict is verdict}


class RelayingOpener:
    """Opens streams as an SSH host would: our end is one half of a pair, a thread carries bytes.

    Attributes:
        asked: for whom it was asked.
    """

    def __init__(self) -> None:
        """Prepare; nothing is open yet."""
        self.asked: list[tuple[str, int]] = []

    def __call__(self, host: str, port: int, *, timeout_ms: int) -> socket.socket:
        """Open a stream."""
        self.asked.append((host, port))
        far = open_directly(host, port, timeout_ms=timeout_ms)
        ours, theirs = socket.socketpair()
        threading.Thread(target=_carry, args=(theirs, far), daemon=True).start()
        return ours


def _carry(one: socket.socket, other: socket.socket) -> None:
    across = {one: other, other: one}
    with one, other, contextlib.suppress(OSError):
        while True:
            ready, _, _ = select.select(list(across), [], [], 60)
            for source in ready:
                part = source.recv(65_536)
                if not part:
                    return
                across[source].sendall(part)
            if not ready:
                return
