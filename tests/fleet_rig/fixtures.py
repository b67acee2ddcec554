"""One fleet for a module's scenarios, made anew when one of them left it unwell."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rolling_deploy.demo.servers import Servers
from rolling_deploy.errors import PreflightRefused
from tests.fleet_rig.figures import Figures
from tests.fleet_rig.fleet import NamespacedFleet
from tests.fleet_rig.namespaces import why_not
from tests.fleet_rig.rig import FleetRig


class Stand:
    """Where a module's fleet stands."""

    def __init__(
        self,
        folder: Path,
        servers: Servers,
        figures: Figures,
        make: Callable[[Path, Servers], NamespacedFleet] = NamespacedFleet,
    ) -> None:
        self.folder = folder
        self.servers = servers
        self.figures = figures
        self.make = make
        self.count = 0
        self.rig: FleetRig | None = None

    def well(self) -> FleetRig:
        """Answers a rig whose fleet is adopted and serves."""
        if self.rig is None or not self.rig.is_well:
            self.stop()
            self.count += 1
            fleet = self.make(self.folder / f"fleet{self.count}", self.servers)
            self.rig = FleetRig(fleet.start(), self.figures)
            self.rig.begin()
        self.rig.is_well = False
        return self.rig

    def stop(self) -> None:
        """End the fleet, if there is one."""
        if self.rig is not None:
            self.rig.end_commands()
            self.rig.fleet.stop()
            self.rig = None


def servers_here() -> Servers:
    """Answers the machine's own servers; skips, saying why, where the rig cannot be."""
    problem = why_not()
    if problem:
        pytest.skip(f"{problem}; tests/rig runs the same on one machine")
    try:
        servers = Servers.find()
    except PreflightRefused as refused:
        pytest.skip(f"{refused.what}; {refused.next_step}")
    if not servers.is_real:
        pytest.skip("the rig needs OpenSSH, nginx and redis-server; tests/rig runs embedded ones")
    return servers


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory, figures: Figures) -> Iterator[Stand]:
    """The place of a module's fleets."""
    place = Stand(tmp_path_factory.mktemp("fleet-rig"), servers_here(), figures)
    yield place
    place.stop()


LONG = pytest.mark.every
"""What `make rig` adds to the short form."""


def is_long(request: pytest.FixtureRequest) -> bool:
    """Answers whether this is the long form."""
    return bool(request.config.getoption("--every", default=False))


@pytest.fixture
def rig(stand: Stand) -> Iterator[FleetRig]:
    """A fleet that is well; a scenario that ends with `expect_well` hands it on."""
    given = stand.well()
    yield given
    given.end_commands()
