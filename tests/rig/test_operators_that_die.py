"""An operator that is killed or interrupted: the site serves, and anybody can go on."""

from __future__ import annotations

import shutil
import signal
import time

import pytest

from tests.rig.fixtures import rig, stand_fixture
from tests.rig_tools import Matches, Rig, fact, intends, is_draining

__all__ = ["rig"]

stand = stand_fixture()

pytestmark = [pytest.mark.rig, pytest.mark.timeout(900)]

MOMENTS: dict[str, Matches] = {
    "staging": intends("Stage"),
    "taking out": intends("Apply"),
    "draining": is_draining,
    "activating": intends("Activate", "app1"),
    "warming up": intends("WarmUp", "app1"),
    "proved": fact("proved", backend="app1"),
    "in the second wave": intends("Activate", "app2"),
}


@pytest.mark.loopback
@pytest.mark.parametrize("moment", list(MOMENTS))
def test_a_killed_rollout_is_finished_from_another_machine(rig: Rig, moment: str) -> None:
    after = rig.next_release()
    with rig.users():
        first = rig.start("run", "--release", after, "--yes")
        first.at(MOMENTS[moment], lambda _: first.signal(signal.SIGKILL))
        assert first.end().exit_code == 128 + signal.SIGKILL
        # Its disk is gone with it; what the load balancers hold is all there is.
        shutil.rmtree(rig.states / "first")
        freed = rig.do("unlock", "--yes", by="second").must_be(0)
        assert "is unfinished" in freed.stdout
        resumed = rig.do("resume", "--yes", by="second").must_be(0)
        assert resumed.has(fact("takenover", lost=True))
        assert resumed.has(fact("closed", ending="done"))
    rig.expect_well(after)


STOP_LIMIT_S = 20.0
"""It should be two seconds; a machine under load may need a few of them for each."""


@pytest.mark.parametrize(
    "number",
    [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.every)],
    ids=lambda n: n.name,
)
@pytest.mark.parametrize(
    "moment", [pytest.param("draining", marks=pytest.mark.every), "activating"]
)
def test_an_interrupted_rollout_says_what_is_in_doubt_and_is_resumable_at_once(
    rig: Rig, number: signal.Signals, moment: str
) -> None:
    after = rig.next_release()
    with rig.users():
        first = rig.start("run", "--release", after, "--yes")
        told: list[float] = []

        def interrupt(_: object) -> None:
            told.append(time.monotonic())
            first.signal(number)

        ended = first.at(MOMENTS[moment], interrupt).end().must_be(128 + number)
        assert time.monotonic() - told[0] < STOP_LIMIT_S
        assert f"ended by signal {number.value}" in ended.message.what
        # Which wave it was depends on whether the first one had anything to wait for.
        assert "is out of rotation, the others serve" in ended.message.site
        again = f"rolling-deploy resume -i {rig.fleet.inventory_path}"
        assert ended.message.next.startswith(again)
        if moment == "activating" and not ended.has(fact("ended")):
            assert "in doubt: activate app1 release" in ended.message.what
        resumed = rig.do("resume", "--yes", by="second").must_be(0)
        assert resumed.has(fact("closed", ending="done"))
    rig.expect_well(after)
