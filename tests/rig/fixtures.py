"""The fleets of the rig: one for a module's tests, brought up again when a test left it unwell."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rolling_deploy.demo.fleet import DemoFleet, FleetShape
from rolling_deploy.demo.servers import Servers
from rolling_deploy.errors import PreflightRefused
from tests.rig_tools import Rig, wait_until

LOCK_S = 12
"""When a silent holder is taken for dead: short to wait for, and still longer than a command of a
second operator takes to start on a machine that has much else to do."""

TWO_AND_TWO = FleetShape(
    backends=2,
    load_balancers=2,
    start_delay_ms=100,
    more_inventory=f"\nlock:\n  expiry_s: {LOCK_S}\n",
)


class Stand:
    """Where a module's fleet stands; the next test gets the same one if it is well."""

    def __init__(self, directory: Path, shape: FleetShape, servers: Servers) -> None:
        self.directory = directory
        self.shape = shape
        self.servers = servers
        self.count = 0
        self.fleet: DemoFleet | None = None
        self.rig: Rig | None = None

    def well(self) -> Rig:
        """Answers a rig whose fleet is adopted and serves."""
        if self.rig is None or not self.rig.is_well:
            self.stop()
            self.count += 1
            self.fleet = DemoFleet(self.directory / f"fleet{self.count}", self.servers, self.shape)
            self.fleet.start()
            self.rig = Rig(self.fleet, self.fleet.directory / "states", is_well=False)
            wait_until(self._is_adopted, "nobody else's nginx is in the way")
        self.rig.environment.clear()
        self.rig.is_well = False
        return self.rig

    def _is_adopted(self) -> bool:
        """Adopt; False while another test's nginx has just lost its master on this machine.

        All machines of a fleet are this one, and share its processes with whatever else runs.
        """
        assert self.rig is not None
        ended = self.rig.do("adopt", "--yes")
        if ended.exit_code == 8 and "workers without a master" in ended.message.where:
            return False
        ended.must_be(0)
        return True

    def stop(self) -> None:
        """End the fleet, if there is one."""
        if self.rig is not None:
            self.rig.end_commands()
        if self.fleet is not None:
            self.fleet.stop()
        self.fleet = self.rig = None


def servers_here() -> Servers:
    """Answers the machine's own servers, embedded ones where it has none; skips without either."""
    try:
        return Servers.find()
    except PreflightRefused as refused:
        pytest.skip(f"{refused.what}; {refused.next_step}")


def stand_fixture(shape: FleetShape = TWO_AND_TWO) -> Callable[..., Iterator[Stand]]:
    """Answers the fixture `stand` for a module whose tests share fleets of one shape."""

    @pytest.fixture(scope="module", name="stand")
    def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
        place = Stand(tmp_path_factory.mktemp("rig"), shape, servers_here())
        yield place
        place.stop()

    return stand


@pytest.fixture
def rig(stand: Stand) -> Iterator[Rig]:
    """A fleet that is well, on any release; a test that ends with `expect_well` hands it on."""
    given = stand.well()
    yield given
    given.end_commands()
