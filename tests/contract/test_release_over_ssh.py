"""The `release` strategy through a real sshd: nothing that is started may hold the channel."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from rolling_deploy.remote.release import ReleaseStrategy
from rolling_deploy.remote.ssh import SshConnection
from rolling_deploy.rollout.step import Outcome, Result
from tests import sshd
from tests.strategies_fixture import (
    BY_HAND,
    TOKEN,
    AppBackend,
    app,
    archives,
    backend_settings,
    seen,
    wait_for_version,
    wait_until,
)

__all__ = ["app", "archives"]


def over_ssh(app: AppBackend, connection: SshConnection) -> ReleaseStrategy:
    backend = backend_settings(app.root.name, app.port, app.settings)
    return ReleaseStrategy(app.settings, backend, connection)


@pytest.mark.parametrize("kind", ["openssh", "embedded"])
def test_an_activation_ends_when_the_process_is_there(
    app: AppBackend, kind: str, tmp_path: Path
) -> None:
    if sshd.why_not(kind):
        pytest.skip(sshd.why_not(kind))
    with sshd.running(kind, tmp_path / "sshd") as server:
        connection = SshConnection(server.target())
        try:
            strategy = over_ssh(app, connection)
            assert strategy.stage("2", TOKEN).outcome is Outcome.DONE
            result = strategy.activate(strategy.artifact_id("2"), TOKEN)
            assert result.outcome is Outcome.DONE, result.detail
            wait_for_version(app.port, "2")
            assert seen(strategy).is_restarted_since_swap is True
        finally:
            connection.close()


def test_a_connection_that_is_lost_in_the_middle_does_not_stop_what_was_begun(
    app: AppBackend, tmp_path: Path
) -> None:
    if sshd.why_not("openssh"):
        pytest.skip(sshd.why_not("openssh"))
    app.options(STOP_TAKES="1")
    with sshd.running("openssh", tmp_path / "sshd") as server:
        connection, other = SshConnection(server.target()), SshConnection(server.target())
        try:
            strategy = over_ssh(app, connection)
            assert strategy.stage("2", TOKEN).outcome is Outcome.DONE
            artifact = strategy.artifact_id("2")
            results: list[Result] = []
            thread = threading.Thread(
                target=lambda: results.append(strategy.activate(artifact, TOKEN))
            )
            thread.start()
            wait_until((app.root / "state" / "stop.log").exists, "the stop command")
            connection.close()
            thread.join(60)
            assert results[0].outcome is Outcome.UNKNOWN
            watching = over_ssh(app, other)
            found = seen(watching)
            assert (found.artifact, found.is_busy) == (BY_HAND, True)
            watching.wait_until_free(30_000)
            found = seen(watching)
            assert (found.artifact, found.is_busy) == (artifact, False)
            assert found.is_restarted_since_swap is True
        finally:
            connection.close()
            other.close()
