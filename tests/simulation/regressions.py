"""Every scenario that ever broke a promise, cut down by `--shrink`. None is ever taken out.

They are written out because a seed means another scenario once the generator has changed.
"""

from __future__ import annotations

from rolling_deploy.rollout.facts import Purpose
from rolling_deploy.rollout.fleet import DrainAtLimit, OnFailure, Policy
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
    # A person parked a backend between the machine's comparing of digests and its rename: their
    # file was replaced. Now it is compared again right before, and what was replaced right after.
    Scenario(
        20426,
        Shape(3, 3),
        Policy(
            wave_size=1,
            serving_min=1,
            drain_limit_ms=200,
            drain_at_limit=DrainAtLimit.FORCE,
            on_failure=OnFailure.HALT,
            attempts_max=2,
            ready_limit_ms=2000,
            busy_limit_ms=10000,
        ),
        Purpose.DEPLOY,
        has_snapshot=False,
        faults=(Fault(314, "park", "app2", 12703),),
        answers=("skip", "resume", "resume", "stop"),
        has_guard=True,
    ),
    # The same with an edit in an editor.
    Scenario(
        23416,
        Shape(4, 2),
        Policy(
            wave_size=1,
            serving_min=2,
            drain_limit_ms=5000,
            drain_at_limit=DrainAtLimit.HALT,
            on_failure=OnFailure.HALT,
            attempts_max=1,
            ready_limit_ms=2000,
            busy_limit_ms=10000,
        ),
        Purpose.DEPLOY,
        faults=(Fault(307, "edit", "lb2", 607),),
        answers=("back", "skip", "back", "resume"),
        has_guard=True,
    ),
    # The checker's: a person put an older file back, which nobody loaded, and the operator slept
    # for 12 s and closed with nothing touched. What people do is theirs, however long ago.
    Scenario(
        30635,
        Shape(2, 3),
        Policy(
            wave_size=1,
            serving_min=1,
            drain_limit_ms=5000,
            drain_at_limit=DrainAtLimit.FORCE,
            on_failure=OnFailure.HALT,
            attempts_max=2,
            ready_limit_ms=2000,
            busy_limit_ms=10000,
        ),
        Purpose.DEPLOY,
        faults=(Fault(185, "older_file", "lb2", 587), Fault(190, "freeze", "app1", 12200)),
        answers=("resume", "resume", "resume", "back"),
        has_guard=True,
    ),
    # The people's: a file was edited before an adoption and during it, and what they put back in
    # the end was what lay there before the first edit, not what the adoption had found.
    Scenario(
        20208,
        Shape(2, 2),
        Policy(
            wave_size=2,
            serving_min=2,
            drain_limit_ms=200,
            drain_at_limit=DrainAtLimit.FORCE,
            on_failure=OnFailure.BACK_NODE,
            attempts_max=2,
            ready_limit_ms=2000,
            busy_limit_ms=10000,
        ),
        Purpose.ADOPT,
        faults=(Fault(1, "edit", "lb2", 51302), Fault(72, "edit", "lb2", 49810)),
        answers=("back", "resume", "resume", "stop"),
        has_guard=True,
    ),
    # The people's: where they looked why it had halted, a copy held half of its first line.
    Scenario(
        77737,
        Shape(3, 2, is_version_checked=False),
        Policy(
            wave_size=2,
            serving_min=1,
            drain_limit_ms=200,
            drain_at_limit=DrainAtLimit.FORCE,
            on_failure=OnFailure.HALT,
            attempts_max=2,
            ready_limit_ms=2000,
            busy_limit_ms=10000,
        ),
        Purpose.DEPLOY,
        faults=(
            Fault(112, "kill_commands", "lb1", 810),
            Fault(140, "blackout", "app1", 647),
            Fault(193, "blackout", "app1", 126),
        ),
        answers=("back", "stop", "resume", "back"),
    ),
    # The people's: an operator died between a load balancer's taking the record of a new rollout
    # and its naming it as the one in hand. Nothing was begun, and they resumed it for ever.
    Scenario(
        900011,
        Shape(3, 3),
        Policy(
            wave_size=2,
            serving_min=1,
            drain_limit_ms=200,
            drain_at_limit=DrainAtLimit.FORCE,
            on_failure=OnFailure.HALT,
            attempts_max=2,
            ready_limit_ms=2000,
            busy_limit_ms=10000,
        ),
        oddities=(Oddity(start_ms=1000), Oddity(), Oddity(start_ms=0)),
        drains_ms=((40, None, 40, 40), (None, 40, 0), (40, 1000, 40, 40)),
        faults=(Fault(164, "freeze", "app2", 71), Fault(1245, "blackout", "app1", 89770)),
        second=((988, "other"),),
        answers=("resume", "resume", "skip", "resume"),
        rollouts=2,
    ),
    # The checker's: a load balancer that was off at the opening was met in the middle of a life,
    # which had counted its requests from where only it knew.
    Scenario(
        41789,
        Shape(2, 3),
        Policy(
            wave_size=1,
            serving_min=1,
            drain_limit_ms=200,
            drain_at_limit=DrainAtLimit.HALT,
            on_failure=OnFailure.HALT,
            attempts_max=3,
            ready_limit_ms=2000,
            busy_limit_ms=10000,
            counts_losses=True,
            max_errors=0,
        ),
        Purpose.DEPLOY,
        oddities=(
            Oddity(sick_on="r1", cold_on="", lies=False, is_secured=True, start_ms=30),
            Oddity(sick_on="", cold_on="", lies=True, is_secured=True, start_ms=0),
        ),
        drains_ms=((None, 0, 1000, None), (1000, None, 0, 40), (40, 40, 0, 1000)),
        faults=(
            Fault(0, "goes_off", "lb3", 12666),
            Fault(277, "blackout", "app2", 8),
            Fault(297, "store_fails", "app1", 6),
            Fault(455, "blackout", "app1", 5),
            Fault(1067, "blackout", "app1", 825),
        ),
        elsewhere=True,
        answers=("resume", "skip", "stop", "stop"),
        has_guard=False,
        rollouts=1,
    ),
    # Ours: a wave was half back when its reload failed on lb1. Answered, all of it was taken out
    # once more, also what was proven good and served behind lb2, and nobody had asked the others
    # since the claim: one of them was being restarted.
    Scenario(
        77997,
        Shape(5, 2),
        Policy(
            wave_size=2,
            serving_min=2,
            drain_limit_ms=5000,
            drain_at_limit=DrainAtLimit.FORCE,
            on_failure=OnFailure.HALT,
            attempts_max=3,
            ready_limit_ms=2000,
            busy_limit_ms=10000,
        ),
        parked=frozenset({"app3"}),
        oddities=(Oddity(lies=True, start_ms=0), Oddity(), Oddity(), Oddity(), Oddity()),
        drains_ms=((40,), (40,)),
        faults=(
            Fault(398, "reload_fails", "lb1", 9195),
            Fault(419, "reboot", "app4", 8470),
            Fault(654, "signal", "app1", 1029),
            Fault(845, "signal", "app1", 12),
        ),
        answers=("resume", "resume", "resume", "skip"),
        has_guard=True,
    ),
    # Ours: what an earlier rollout had left out was proven good and back behind two of three when
    # it was aborted. It was taken out for the way back as if it were still out, and nobody else
    # was well.
    Scenario(
        79800,
        Shape(2, 3, is_version_checked=False),
        Policy(
            wave_size=1,
            serving_min=1,
            drain_limit_ms=5000,
            drain_at_limit=DrainAtLimit.HALT,
            on_failure=OnFailure.HALT,
            attempts_max=1,
            ready_limit_ms=2000,
            busy_limit_ms=500,
        ),
        left_out=frozenset({"app1"}),
        oddities=(Oddity(), Oddity(sick_on="r1", is_secured=False, start_ms=0)),
        drains_ms=((40,), (40,), (40,)),
        faults=(Fault(238, "reload_fails", "lb3", 57184),),
        answers=("skip", "back", "resume", "skip"),
    ),
    # Ours: an operator died between a claim and taking it out, and another backend with it. Who
    # went on took the claim out first and asked the others only before the stop.
    Scenario(
        5,
        Shape(3, 2),
        Policy(wave_size=1, serving_min=2),
        faults=(
            Fault(240, "kill", "app1", 0),
            Fault(241, "backend_dies", "app3", 60000),
            Fault(241, "cut", "lb1", 9000),
            Fault(241, "cut", "lb2", 9000),
        ),
    ),
    # Ours: a wave was forced at the drain's limit, put back, and then aborted by somebody whose
    # copy did not hold the end of that claim: taken out again, it was stopped without a drain.
    Scenario(
        99436,
        Shape(4, 2),
        Policy(
            wave_size=1,
            serving_min=2,
            drain_limit_ms=5000,
            drain_at_limit=DrainAtLimit.FORCE,
            on_failure=OnFailure.HALT,
            attempts_max=2,
            ready_limit_ms=2000,
            busy_limit_ms=10000,
        ),
        parked=frozenset({"app1"}),
        oddities=(Oddity(), Oddity(start_ms=0), Oddity(), Oddity()),
        drains_ms=((None, 1000), (40,)),
        faults=(
            Fault(142, "copy_is_lost", "lb1", 71543),
            Fault(154, "copy_is_lost", "lb2", 144),
        ),
        second=((487, "abort"), (356, "other")),
        answers=("resume", "back", "back", "resume"),
    ),
    # The checker's: a backend whose artifact serves another version than its name says was taken
    # back to just that one, which is what it had served when the rollout came.
    Scenario(
        97336,
        Shape(5, 2),
        Policy(
            wave_size=1,
            serving_min=1,
            drain_limit_ms=200,
            drain_at_limit=DrainAtLimit.FORCE,
            on_failure=OnFailure.HALT,
            attempts_max=2,
            ready_limit_ms=2000,
            busy_limit_ms=10000,
        ),
        oddities=(Oddity(), Oddity(lies=True), Oddity(), Oddity(), Oddity()),
        drains_ms=((40,), (40,)),
        has_snapshot=False,
        faults=(Fault(2225, "mute", "app3", 14152),),
        answers=("skip", "resume", "back", "back"),
        rollouts=2,
    ),
    # The people's: they reloaded nginx with an older file, put the right one back and did not load
    # it, which is what every preflight told them to do.
    Scenario(
        104791,
        Shape(3, 1),
        Policy(
            wave_size=2,
            serving_min=1,
            drain_limit_ms=5000,
            drain_at_limit=DrainAtLimit.FORCE,
            on_failure=OnFailure.HALT,
            attempts_max=2,
            ready_limit_ms=2000,
            busy_limit_ms=10000,
        ),
        drains_ms=((40,), (40,)),
        faults=(
            Fault(116, "older_file", "lb1", 13),
            Fault(184, "nginx_reloads", "lb1", 106),
            Fault(191, "older_file", "lb1", 6570),
        ),
        answers=("back", "resume", "stop", "resume"),
        has_guard=True,
        rollouts=2,
    ),
    # The checker's: an operator slept for 20 s between its look and the reload, and a backend died
    # in that sleep.
    Scenario(
        6,
        Shape(3, 2),
        Policy(wave_size=1, serving_min=2),
        faults=(Fault(240, "backend_dies", "app3", 60000), Fault(241, "freeze", "app1", 20000)),
    ),
    # The people's: an abort reached nobody's disk but their own, so that `run` met a rollout that
    # was on its way back, and they never did what it told them.
    Scenario(
        80669,
        Shape(2, 1),
        Policy(
            wave_size=1,
            serving_min=1,
            drain_limit_ms=5000,
            drain_at_limit=DrainAtLimit.HALT,
            on_failure=OnFailure.BACK_NODE,
            attempts_max=1,
            ready_limit_ms=2000,
            busy_limit_ms=10000,
            counts_losses=True,
            max_errors=2,
        ),
        oddities=(Oddity(), Oddity()),
        drains_ms=((40,),),
        faults=(
            Fault(25, "cut", "app2", 1325),
            Fault(120, "cut", "lb1", 11),
            Fault(168, "cut", "lb1", 1091),
        ),
        answers=("back", "resume", "back", "resume"),
        are_patient=True,
    ),
    # The checker's: a machine was restarted in the 5 ms between the last look at its backend and
    # the line that says it is proved.
    Scenario(
        84525,
        Shape(5, 2),
        Policy(
            wave_size=1,
            serving_min=1,
            drain_limit_ms=5000,
            drain_at_limit=DrainAtLimit.FORCE,
            on_failure=OnFailure.HALT,
            attempts_max=1,
            ready_limit_ms=2000,
            busy_limit_ms=10000,
        ),
        oddities=(Oddity(), Oddity(), Oddity(), Oddity(), Oddity()),
        drains_ms=((40, 40, 40, None), (0, 0, 0)),
        faults=(Fault(251, "reboot", "app4", 5192), Fault(806, "reboot", "app1", 32804)),
        answers=("resume", "resume", "skip", "back"),
        rollouts=2,
    ),
    # The checker's: a load balancer was switched off between the last look and the last line.
    Scenario(
        306560,
        Shape(2, 3),
        Policy(
            wave_size=1,
            serving_min=1,
            drain_limit_ms=5000,
            drain_at_limit=DrainAtLimit.HALT,
            on_failure=OnFailure.BACK_NODE,
            attempts_max=3,
            ready_limit_ms=2000,
            busy_limit_ms=500,
        ),
        oddities=(Oddity(), Oddity()),
        drains_ms=((40,), (40,), (40,)),
        has_snapshot=False,
        faults=(Fault(250, "goes_off", "lb3", 5298), Fault(705, "goes_off", "lb1", 501)),
        second=((502, "abort"),),
        answers=("stop", "skip", "resume", "skip"),
    ),
    # The checker's: a person undid their own edit between two lives of a rollout that had touched
    # nothing, and put back what the rollout had found.
    Scenario(
        500597,
        Shape(3, 1),
        Policy(
            wave_size=1,
            serving_min=1,
            drain_limit_ms=200,
            drain_at_limit=DrainAtLimit.HALT,
            on_failure=OnFailure.BACK_NODE,
            attempts_max=2,
            ready_limit_ms=2000,
            busy_limit_ms=500,
        ),
        parked=frozenset({"app1"}),
        oddities=(Oddity(), Oddity(), Oddity(sick_on="r1")),
        drains_ms=((40,),),
        faults=(Fault(68, "park", "app3", 605), Fault(108, "cut", "lb1", 11160)),
        second=((43, "resume"),),
        elsewhere=True,
        answers=("resume", "skip", "stop", "resume"),
        has_guard=True,
    ),
    # The simulation's: somebody exchanged a copy while lines were being written to it, and the rest
    # of these was written over what they had put there; the checker still looked for two records.
    Scenario(
        440124,
        Shape(4, 2),
        Policy(
            wave_size=2,
            serving_min=1,
            drain_limit_ms=200,
            drain_at_limit=DrainAtLimit.HALT,
            on_failure=OnFailure.BACK_NODE,
            attempts_max=2,
            ready_limit_ms=2000,
            busy_limit_ms=10000,
        ),
        oddities=(Oddity(), Oddity(), Oddity(), Oddity()),
        drains_ms=((40,), (None, 0, None)),
        has_snapshot=False,
        faults=(Fault(189, "forge", "lb1", 9),),
        answers=("resume", "stop", "skip", "back"),
    ),
    # The checker's: the load balancer whose copy was exchanged was cut off after whoever acted had
    # connected, and before it read the copies.
    Scenario(
        405445,
        Shape(3, 3, is_version_checked=False),
        Policy(
            wave_size=1,
            serving_min=1,
            drain_limit_ms=200,
            drain_at_limit=DrainAtLimit.FORCE,
            on_failure=OnFailure.HALT,
            attempts_max=2,
            ready_limit_ms=2000,
            busy_limit_ms=10000,
        ),
        oddities=(Oddity(), Oddity(), Oddity()),
        drains_ms=((40,), (40,), (0, 1000)),
        faults=(Fault(453, "forge", "lb3", 10), Fault(590, "cut", "lb3", 12322)),
        answers=("resume", "back", "stop", "stop"),
    ),
    # The checker's: that a forced wave was released stood on one disk only, and whoever took over
    # went on from where it is still forced.
    Scenario(
        426513,
        Shape(4, 3),
        Policy(
            wave_size=1,
            serving_min=1,
            drain_limit_ms=200,
            drain_at_limit=DrainAtLimit.FORCE,
            on_failure=OnFailure.HALT,
            attempts_max=3,
            ready_limit_ms=2000,
            busy_limit_ms=500,
            counts_losses=True,
            max_errors=2,
        ),
        oddities=(
            Oddity(sick_on="r1", start_ms=0),
            Oddity(start_ms=0),
            Oddity(cold_on="r2", start_ms=1000),
            Oddity(),
        ),
        drains_ms=((40,), (40,), (None,)),
        second=((1485, "abort"), (1128, "unlock")),
        answers=("back", "skip", "resume", "resume"),
    ),
    # The checker's: the only load balancer lost its copy, and a machine that never had one began.
    Scenario(
        444450,
        Shape(2, 1),
        Policy(
            wave_size=1,
            serving_min=1,
            drain_limit_ms=200,
            drain_at_limit=DrainAtLimit.HALT,
            on_failure=OnFailure.HALT,
            attempts_max=1,
            ready_limit_ms=2000,
            busy_limit_ms=500,
        ),
        left_out=frozenset({"app1"}),
        oddities=(Oddity(start_ms=0), Oddity(sick_on="r2", start_ms=0)),
        drains_ms=((40,),),
        faults=(Fault(358, "copy_is_lost", "lb1", 11),),
        second=((148, "run"),),
        answers=("resume", "stop", "resume", "back"),
        has_guard=True,
        are_patient=True,
    ),
    # The people's: of three machines only one could go on, and whatever they answered they told the
    # two that could not; and ours: these need not have refused (`is_left_behind`).
    Scenario(
        415152,
        Shape(3, 2),
        Policy(
            wave_size=1,
            serving_min=2,
            drain_limit_ms=5000,
            drain_at_limit=DrainAtLimit.FORCE,
            on_failure=OnFailure.BACK_NODE,
            attempts_max=2,
            ready_limit_ms=2000,
            busy_limit_ms=500,
        ),
        left_out=frozenset({"app1"}),
        oddities=(Oddity(), Oddity(), Oddity()),
        drains_ms=((40,), (40,)),
        has_snapshot=False,
        faults=(
            Fault(45, "disk_full", "lb1", 53336),
            Fault(173, "disk_full", "lb2", 1159),
            Fault(510, "disk_full", "lb1", 9),
        ),
        answers=("skip", "stop", "skip", "resume"),
        elsewhere=True,
    ),
    Scenario(
        456161,
        Shape(2, 1, is_version_checked=False),
        Policy(
            wave_size=1,
            serving_min=1,
            drain_limit_ms=200,
            drain_at_limit=DrainAtLimit.FORCE,
            on_failure=OnFailure.HALT,
            attempts_max=3,
            ready_limit_ms=2000,
            busy_limit_ms=10000,
        ),
        oddities=(Oddity(start_ms=1000), Oddity(start_ms=1000)),
        drains_ms=((40,),),
        faults=(Fault(774, "disk_full", "lb1", 608),),
        answers=("resume", "resume", "skip", "resume"),
        elsewhere=True,
        rollouts=2,
    ),
)
