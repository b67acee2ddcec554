"""Whole fleets for tests: every test runs on the machine's own servers and on embedded ones.

A test module takes these fixtures with `from tests.fleet import ...`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from rolling_deploy.demo.fleet import DemoFleet, FleetShape
from rolling_deploy.demo.load import Load, LoadShape
from rolling_deploy.demo.servers import Servers
from rolling_deploy.errors import PreflightRefused

StartFleet = Callable[[FleetShape], DemoFleet]
StartLoad = Callable[[DemoFleet, LoadShape], Load]


def servers_or_skip(kind: str) -> Servers:
    """Answers the `real` or the `embedded` servers; skips the test where they are not there."""
    try:
        servers = Servers.find("real" if kind == "real" else "embedded")
    except PreflightRefused as refused:
        pytest.skip(f"{refused.what}; {refused.next_step}")
    if kind == "real" and not servers.is_real:
        pytest.skip(f"not all servers are this machine's own: {'; '.join(servers.describe())}")
    return servers


@pytest.fixture(params=["real", "embedded"])
def fleet_servers(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Servers:
    """The servers that the test's fleet is made of, one kind after the other."""
    monkeypatch.delenv("ROLLING_DEPLOY_DEMO_SERVERS", raising=False)
    return servers_or_skip(request.param)


@pytest.fixture
def start_fleet(fleet_servers: Servers, tmp_path: Path) -> Iterator[StartFleet]:
    """Bring a fleet of a shape up; it ends with the test."""
    with ExitStack() as until_end:
        count = 0

        def start(shape: FleetShape) -> DemoFleet:
            nonlocal count
            count += 1
            fleet = DemoFleet(tmp_path / f"fleet{count}", fleet_servers, shape)
            return until_end.enter_context(fleet)

        yield start


@pytest.fixture
def start_load() -> Iterator[StartLoad]:
    """Start a load on a fleet; it ends with the test, if the test has not ended it."""
    with ExitStack() as until_end:

        def start(fleet: DemoFleet, shape: LoadShape) -> Load:
            load = Load(fleet.urls, shape)
            load.start()
            until_end.callback(load.stop)
            return load

        yield start
