"""The session canary in whole rollouts: a release that logs everybody out is stopped at its first
backend, and nobody is logged out.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from rolling_deploy.demo.fleet import NEXT_RELEASE
from tests.rig.fixtures import rig, stand_fixture
from tests.rig_tools import Rig, fact, rotation_of, versions_of

__all__ = ["rig"]

stand = stand_fixture()

pytestmark = [pytest.mark.rig, pytest.mark.timeout(600)]

LOGS_OUT = f"{NEXT_RELEASE}-logout"
CANARY = """\
session_canary:
  create: {path: /login, method: POST, form: {user: "canary-{marker}"}}
  read: {path: /cart}
  expect: '"user": "canary-{marker}"'
  cookie: SID
session_store:
"""


def with_canary(rig: Rig, *changes: tuple[str, str]) -> Path:
    """Answers the fleet's inventory with a canary, and its session's key."""
    key = '  session_key: "shop:session:{id}"\n'
    return rig.inventory("canary", ("session_store:\n", f"{CANARY}{key}"), *changes)


def test_a_compatible_release_rolls_and_says_what_was_proved(rig: Rig) -> None:
    after = rig.next_release()
    inventory = with_canary(rig)
    with rig.users():
        ended = rig.do("run", "--release", after, "--yes", inventory=inventory).must_be(0)
    details = [
        event["fact"]["result"]["detail"] for event in ended.events if event["event"] == "ended"
    ]
    first, last = [detail for detail in details if "sessions from before" in detail]
    assert "3 sessions from before are read on app1" in first
    assert "made on app2 and read on app1" in first
    assert "made on app1 and read on app2" in first
    assert "as before" in first
    assert last.startswith("3 sessions from before are read on app2")
    rig.expect_well(after)


def test_a_release_that_logs_everybody_out_stops_at_its_first_backend(rig: Rig) -> None:
    before, inventory = rig.release(), with_canary(rig)
    with rig.users():
        halted = rig.do("run", "--release", LOGS_OUT, "--yes", inventory=inventory).must_be(4)
        assert "before the rollout is not read on app1" in halted.message.what
        assert '"user": null' in halted.message.what
        assert not halted.has(fact("claimed", claim=2))
        seen = rig.status()
        assert rotation_of(seen)["app2"] == "in"
        assert versions_of(seen)["app2"] == before
        rig.do("abort", "--yes", inventory=inventory).must_be(0)
    rig.expect_well(before)


@pytest.mark.every
def test_with_a_policy_to_go_back_it_ends_as_gone_back(rig: Rig) -> None:
    before = rig.release()
    inventory = with_canary(rig, ("on_failure: halt", "on_failure: back-node"))
    with rig.users():
        ended = rig.do("run", "--release", LOGS_OUT, "--yes", inventory=inventory).must_be(9)
        assert ended.has(fact("turnedback", backend="app1"))
    rig.expect_well(before)


def test_the_plan_proves_beforehand_that_sessions_are_shared(rig: Rig) -> None:
    inventory = with_canary(rig)
    planned = rig.do("plan", "--release", rig.next_release(), inventory=inventory)
    assert planned.exit_code == 0, planned
    assert "a session made on" in planned.stdout or "sessions made on app1" in planned.stdout
    assert "app1 and app2 read each other's sessions first" in planned.stdout
    assert "a canary session was made with POST /login" in planned.stdout
    left = rig.do("plan", "--release", rig.next_release(), "--no-canary", inventory=inventory)
    assert "canary session was made" not in left.stdout
    rig.expect_well(rig.release())
