"""A plain rollout over the machines of the rig."""

from __future__ import annotations

import pytest

from tests.fleet_rig.fixtures import rig, stand
from tests.fleet_rig.rig import FleetRig
from tests.rig_tools import fact

__all__ = ["rig", "stand"]

pytestmark = [pytest.mark.rig, pytest.mark.timeout(600)]


def test_nobody_notices_a_rollout(rig: FleetRig) -> None:
    after = rig.next_release()
    with rig.users("plain rollout"):
        ended = rig.do("run", "--release", after, "--yes").must_be(0)
        assert ended.has(fact("closed", ending="done"))
    rig.expect_well(after)
