"""Every scenario that ever broke a promise, cut down by `--shrink`. None is ever taken out.

They are written out because a seed means another scenario once the generator has changed.
"""

from __future__ import annotations

from rolling_deploy.rollout.facts import Purpose
from rolling_deploy.rollout.fleet import DrainAtLimit, Policy
from tests.simulation.misfortune import Fault
from tests.simulation.scenario import Oddity, Scenario
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
    # Both load balancers' disks were full, and three machines took over in turn, each for itself:
    # two of them refused for ever after that (exit 7), though nothing had been done.
    Scenario(
        8112,
        Shape(3, 2, is_version_checked=False),
        Policy(
            drain_limit_ms=200,
            drain_at_limit=DrainAtLimit.FORCE,
            attempts_max=3,
            ready_limit_ms=2000,
            busy_limit_ms=10_000,
        ),
        Purpose.DEPLOY,
        oddities=(
            Oddity(start_ms=30),
            Oddity(start_ms=30),
            Oddity(cold_on="r2", start_ms=1000),
        ),
        drains_ms=((40,), (40,)),
        has_snapshot=False,
        faults=(
            Fault(1085, "disk_full", "lb1", 58175),
            Fault(1289, "disk_full", "lb2", 12496),
        ),
        answers=("resume", "stop", "resume", "resume"),
        elsewhere=True,
    ),
)
