"""`unlock`: what a dead run left undone, told before it is asked; a living one is left alone."""

from __future__ import annotations

import json
import signal

import pytest

from tests.rig.fixtures import rig, stand_fixture
from tests.rig.lock_audit import state_dirs
from tests.rig.slow_upload import SlowUpload
from tests.rig_tools import Event, Rig, fact, intends

__all__ = ["rig"]

stand = stand_fixture()

pytestmark = [pytest.mark.rig, pytest.mark.timeout(900)]


def is_draining(event: Event) -> bool:
    return event["event"] == "awaiting" and "earlier nginx worker" in str(event["why"])


def held_on(rig: Rig) -> set[str]:
    return {name for name, folder in state_dirs(rig).items() if (folder / "holder").exists()}


def test_what_a_dead_run_left_undone_is_told(rig: Rig) -> None:
    after = rig.next_release()
    with rig.users():
        rig.environment["GITHUB_ACTOR"] = "first-operator"
        first = rig.start("run", "--release", after, "--yes")
        rig.environment.clear()
        first.at(intends("Activate", "app1"), lambda _: first.signal(signal.SIGKILL))
        first.end()
        asked = rig.do("unlock", by="second")
        assert asked.exit_code == 2
        assert held_on(rig) == {"lb1", "lb2"}
        freed = rig.do("unlock", "--yes", by="second").must_be(0)
        assert held_on(rig) == set()
        for told in (asked.stdout, freed.stdout):
            assert "first-operator on " in told
            assert "ALIVE" not in told
            assert " s ago on lb1" in told
            assert "is unfinished (in wave 1: app1)" in told
            assert "in doubt: activate app1 release" in told
            assert "out of rotation: app1" in told
            assert "app2  serving" in told
            assert f"rolling-deploy resume -i {rig.fleet.inventory_path}" in told
        assert freed.stdout.endswith("unlocked\n")
        again = rig.do("unlock", "--yes", by="second").must_be(2)
        assert "nobody holds the rollout" in again.message.what
        rig.do("resume", "--yes", by="second").must_be(0)
    rig.expect_well(after)


@pytest.mark.every
def test_programs_read_it_as_json(rig: Rig) -> None:
    after = rig.next_release()
    first = rig.start("run", "--release", after, "--yes")
    first.at(intends("Activate", "app1"), lambda _: first.signal(signal.SIGKILL))
    first.end()
    freed = rig.do("unlock", "--yes", "--json", by="second").must_be(0)
    told = json.loads(freed.stdout)
    assert (told["is_unlocked"], told["is_alive"]) == (True, False)
    assert told["in_doubt"] == ["activate app1 release"]
    assert told["out"] == ["app1"]
    assert told["rollout"].startswith("r-")
    assert "app2" in told["backends"]
    rig.do("resume", "--yes", by="second").must_be(0)
    rig.expect_well(after)


@pytest.mark.every
def test_a_living_holder_is_left_alone_unless_it_is_forced(rig: Rig) -> None:
    after = rig.next_release()
    with rig.users(), SlowUpload(rig.balancer("lb1").port) as upload:
        first = rig.start("run", "--release", after, "--yes")
        first.wait_for(is_draining, "the drain")
        refused = rig.do("unlock", "--yes", by="second").must_be(5)
        assert "is alive" in refused.message.what
        assert "--force" in refused.message.next
        assert "ALIVE" in refused.stdout
        assert held_on(rig) == {"lb1", "lb2"}
        forced = rig.do("unlock", "--yes", "--force", by="second").must_be(0)
        assert "ALIVE" in forced.stdout
        assert held_on(rig) == set()
        upload.finish()
        # Nobody took it over, so it may finish.
        first.end().must_be(0)
        assert first.end().has(fact("closed", ending="done"))
    rig.expect_well(after)
