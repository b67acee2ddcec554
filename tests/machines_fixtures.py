"""The machines that the contract suite asks: fake ones, simulated ones, and real servers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from rolling_deploy.parallel import in_turn
from tests.machines_contract import SHAPE, Contract, FakeContract, RealContract, relays_before
from tests.rig.fixtures import Stand, servers_here
from tests.rig.tcp_relay import TcpRelay
from tests.simulation.contract import SimulatedContract
from tests.world import make_world


@pytest.fixture(scope="module")
def stands(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Stand]]:
    """The place of the real fleet, once a test asks for it."""
    made: list[Stand] = []
    yield made
    for stand in made:
        stand.stop()


@pytest.fixture(scope="module")
def relays() -> Iterator[dict[Path, dict[str, TcpRelay]]]:
    """What stands in front of the SSH servers of each real fleet, by the fleet's directory."""
    made: dict[Path, dict[str, TcpRelay]] = {}
    with ExitStack() as ends:
        yield made
        for relay in (relay for carrying in made.values() for relay in carrying.values()):
            ends.enter_context(relay)


@pytest.fixture(params=["fake", "simulated", "real"])
def fleet(
    request: pytest.FixtureRequest,
    stands: list[Stand],
    relays: dict[Path, dict[str, TcpRelay]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Contract]:
    """The machines; a real fleet that a test has upgraded or cut off is not used again."""
    if request.param == "fake":
        yield FakeContract(make_world(2, 1))
        return
    if request.param == "simulated":
        with in_turn():
            simulated = SimulatedContract()
            yield simulated
        simulated.world.scheduler.end()
        return
    if not stands:
        stands.append(Stand(tmp_path_factory.mktemp("machines"), SHAPE, servers_here()))
    rig = stands[0].well()
    assert rig.fleet is not None
    place = rig.fleet.directory
    if place not in relays:
        relays[place] = relays_before(rig.fleet)
    real = RealContract(rig.fleet, relays[place])
    try:
        yield real
        rig.is_well = not real.is_cut_off and real.is_as_it_was()
    finally:
        real.site.close()
