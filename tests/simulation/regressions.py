"""Every scenario that ever broke a promise, cut down by `--shrink`. None is ever taken out.

They are written out because a seed means another scenario once the generator has changed.
"""

from __future__ import annotations

from rolling_deploy.rollout.facts import Purpose
from rolling_deploy.rollout.fleet import Policy
from tests.simulation.misfortune import Fault
from tests.simulation.scenario import Scenario
from tests.simulation.shape import Shape

REGRESSIONS: tuple[Scenario, ...] = (
    # An unadoption was aborted while one load balancer had its original on the disk and still
    # served ours: closed as aborted, with somebody's next reload to bring the original in.
    Scenario(
        631,
        Shape(3, 2),
        Policy(),
        Purpose.UNADOPT,
        faults=(Fault(16, "reload_fails", "lb1", 2), Fault(55, "reload_fails", "lb2", 2)),
        answers=("resume", "stop"),
    ),
)
