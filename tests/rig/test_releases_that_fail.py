"""Releases that do not become good: the site serves, and there is a way on and a way back."""

from __future__ import annotations

import pytest

from rolling_deploy.demo.fleet import NEXT_RELEASE
from tests.rig.fixtures import rig, stand_fixture
from tests.rig_tools import Rig, fact, rotation_of, versions_of

__all__ = ["rig"]

stand = stand_fixture()

pytestmark = [pytest.mark.rig, pytest.mark.timeout(900)]

SOON = ("on_failure: halt", "on_failure: halt\n  ready_limit_s: 3")
BACK_SOON = ("on_failure: halt", "on_failure: back-node\n  ready_limit_s: 3")
SAID = {
    "never-healthy": "no whole answer within",
    "broken": "status should be 200, is 500",
    "wrong-version": f"serves 0.0-wrong, should be {NEXT_RELEASE}-wrong-version",
}


def only_in_the_long_form(*flaws: str) -> list[object]:
    """Answers every flaw, these marked."""
    return [pytest.param(f, marks=pytest.mark.every) if f in flaws else f for f in SAID]


@pytest.mark.parametrize("flaw", only_in_the_long_form("broken", "wrong-version"))
def test_a_release_that_does_not_become_good_halts_and_abort_goes_back(rig: Rig, flaw: str) -> None:
    before = rig.release()
    inventory = rig.inventory("soon", SOON)
    bad = f"{NEXT_RELEASE}-{flaw}"
    with rig.users():
        halted = rig.do("run", "--release", bad, "--yes", inventory=inventory).must_be(4)
        said = halted.message
        assert "app1" in said.what
        assert "not good within 3 s" in said.what
        assert SAID[flaw] in said.what
        assert said.site.startswith("app2 in rotation; app1 out of rotation")
        assert "rolling-deploy abort" in said.next
        seen = rig.status()
        rollout = seen["rollout"]["rollout"]
        assert rotation_of(seen) == {
            "app1": f"out on lb1, lb2 by rollout {rollout}",
            "app2": "in",
        }
        assert versions_of(seen)["app2"] == before
        assert "halted" in seen["rollout"]["state"]
        rig.do("abort", "--yes", by="second").must_be(0)
    rig.expect_well(before)


@pytest.mark.every
def test_a_halt_is_answered_by_resume_which_tries_once_more(rig: Rig) -> None:
    before = rig.release()
    inventory = rig.inventory("soon", SOON)
    bad = f"{NEXT_RELEASE}-broken"
    with rig.users():
        run = ("run", "--release", bad, "--yes")
        first = rig.do(*run, inventory=inventory).must_be(4)
        # A retried job is not a person's answer: the same halt again, and nothing is done.
        again = rig.do(*run, by="retried", inventory=inventory).must_be(4)
        assert again.message.what == first.message.what
        assert not again.has(fact("takenover"))
        resumed = rig.do("resume", "--yes", by="second", inventory=inventory).must_be(4)
        assert resumed.has(fact("decided"))
        assert resumed.message.what.startswith("app1: ")
        rig.do("abort", "--yes", by="third").must_be(0)
    rig.expect_well(before)


@pytest.mark.every
@pytest.mark.parametrize("flaw", only_in_the_long_form("never-healthy", "wrong-version"))
def test_a_release_that_does_not_become_good_goes_back_by_policy(rig: Rig, flaw: str) -> None:
    before = rig.release()
    inventory = rig.inventory("back", BACK_SOON)
    with rig.users():
        bad = f"{NEXT_RELEASE}-{flaw}"
        ended = rig.do("run", "--release", bad, "--yes", inventory=inventory).must_be(9)
        assert ended.has(fact("turnedback", backend="app1"))
        assert not ended.has(fact("claimed", claim=2))
        assert SAID[flaw] in ended.message.what
        assert "app1, app2 in rotation" in ended.message.site
    rig.expect_well(before)
