"""What several fleets go through: an operator killed at a place, or frozen there and overtaken."""

from __future__ import annotations

import signal
from pathlib import Path

from tests.fleet_rig.answers import until
from tests.fleet_rig.rig import FleetRig
from tests.rig_tools import Command

KILLED = 128 + signal.SIGKILL
ENTRIES = (
    *("opened", "intended-stage", "ended", "claimed", "intended-apply", "intended-activate"),
    *("intended-warmup", "intended-continuity", "proved", "released", "closed"),
)
"""Every kind of entry that a rollout without a halt writes; `waiting` comes with a long drain."""
TOO_LATE = ("no load balancer could be given the record", "no load balancer gave the lock")
TAKEN_OVER = ("rollout over", "another run was here a moment ago")


def kill_and_resume(rig: FleetRig, scenario: str, moment: str) -> bool:
    """Kill a rollout there and finish it from the other host; answers whether it came to it."""
    after = rig.next_release()
    with rig.users(scenario):
        ended = rig.do("run", "--release", after, "--yes", doom=f"kill {moment}")
        if ended.exit_code == 0:
            rig.expect_well(after)
            return False
        assert ended.exit_code == KILLED, ended
        rig.figures.add(scenario, "kills")
        rig.finish(after)
    rig.expect_well(after)
    return True


def is_frozen_or_over(command: Command) -> bool:
    """Answers whether a command stands still, or has ended."""
    if command.is_over:
        return True
    stat = Path(f"/proc/{command.process.pid}/stat").read_text(encoding="ascii")
    return stat.rpartition(")")[2].split()[0] == "T"


def freeze_and_overtake(rig: FleetRig, scenario: str, place: str, release: str) -> bool:
    """Freeze there, finish elsewhere, thaw: it must change nothing. Answers whether it froze."""
    with rig.users(scenario):
        first = rig.start("run", "--release", release, "--yes", doom=f"freeze before {place}")
        until(lambda: is_frozen_or_over(first), "it stands still", 180)
        if first.is_over:
            first.end().must_be(0)
            rig.expect_well(release)
            return False
        rig.figures.add(scenario, "freezes")
        ended = rig.finish(release)
        is_late = ended.exit_code == 2
        now = release
        if is_late:
            # The rollout was closed before: the other one begins and ends the next.
            now = rig.next_release()
            rig.do("run", "--release", now, "--yes", on="bastion").must_be(0)
        rig.is_quiet()
        before = rig.snapshot()
        first.signal(signal.SIGCONT)
        woken = first.end()
        if is_late:
            assert woken.exit_code in {0, 5}, woken
        elif woken.exit_code == 4:
            # Its time was over when it woke: it gave up what it had not sent, and asked nobody.
            assert woken.message.what.startswith(TOO_LATE), woken
        else:
            woken.must_be(5)
            assert any(said in woken.message.what for said in TAKEN_OVER), woken
        assert rig.snapshot() == before
    rig.expect_well(now)
    return True
