"""What people did before us and do beside us: kept, given back, never overwritten."""

from __future__ import annotations

import re

import pytest

from rolling_deploy.demo import fleet_files
from rolling_deploy.demo.fleet import FleetShape
from tests.rig.fixtures import rig, stand_fixture
from tests.rig_tools import Rig, fact, is_draining, rotation_of, versions_of

__all__ = ["rig"]

stand = stand_fixture(FleetShape(backends=3, load_balancers=2, start_delay_ms=100))

pytestmark = [pytest.mark.rig, pytest.mark.timeout(900)]


def park(rig: Rig, name: str, *, is_parked: bool) -> None:
    """Take a backend out, or in again, by hand: on every load balancer, and loaded."""
    address = re.escape(rig.fleet.node(name).address)
    for balancer in rig.fleet.balancers:
        text = balancer.upstream_file.read_text(encoding="utf-8")
        if is_parked:
            text, count = re.subn(rf"(server {address}[^;]*);", r"\1 down;", text)
        else:
            text, count = re.subn(rf"(server {address}[^;]*?) down\b", r"\1", text)
        assert count == 1, text
        balancer.upstream_file.write_text(text, encoding="utf-8")
        rig.reload_by_hand(balancer.name)


def test_an_adopted_file_is_given_back_byte_for_byte(rig: Rig) -> None:
    now = rig.release()
    rig.do("unadopt", "--yes").must_be(0)
    text = fleet_files.nginx_upstream(rig.fleet.nodes)
    originals: dict[str, bytes] = {}
    for balancer in rig.fleet.balancers:
        # As people leave files: a remark of their own, odd blanks, no line break at the end.
        original = f"# on {balancer.name}, ask Ann\t \n\n{text}\n\n# end".encode()
        originals[balancer.name] = original
        balancer.upstream_file.write_bytes(original)
        rig.reload_by_hand(balancer.name)
    with rig.users():
        rig.do("adopt", "--yes").must_be(0)
        assert not set(originals.values()) & set(rig.managed().values())
        rig.do("unadopt", "--yes", by="second").must_be(0)
        assert rig.managed() == originals
        seen = rig.status()
        assert seen["problems"] == ["lb1: not adopted", "lb2: not adopted"]
        refused = rig.run(rig.next_release()).must_be(8)
        assert "rolling-deploy adopt" in refused.message.where
        assert rig.managed() == originals
        rig.do("adopt", "--yes").must_be(0)
        workers = rig.workers()
        again = rig.do("adopt", "--yes").must_be(0)
        assert any("nothing to do" in event.get("text", "") for event in again.events)
        rig.expect_no_reload(workers)
    rig.expect_well(now)


@pytest.mark.every
def test_a_server_parked_before_adoption_stays_parked_and_is_reported(rig: Rig) -> None:
    before, after = rig.release(), rig.next_release()
    rig.do("unadopt", "--yes").must_be(0)
    park(rig, "app3", is_parked=True)
    with rig.users():
        ended = rig.run(after, "--adopt").must_be(0)
        assert ended.events[-1]["backends"]["app3"] == "parked by a person, not touched"
        assert not ended.has(fact("proved", backend="app3"))
        seen = rig.status()
        rotation = {"app1": "in", "app2": "in", "app3": "out on lb1, lb2 by a person"}
        assert rotation_of(seen) == rotation
        assert versions_of(seen) == {"app1": after, "app2": after, "app3": before}
        park(rig, "app3", is_parked=False)
        # Back in by the same hands; the next run brings it along.
        only = rig.run(after).must_be(0)
        assert [e["fact"]["backends"] for e in only.events if e["event"] == "claimed"] == [["app3"]]
    rig.expect_well(after)


@pytest.mark.every
def test_a_server_parked_in_the_managed_file_stays_parked(rig: Rig) -> None:
    before, after = rig.release(), rig.next_release()
    park(rig, "app2", is_parked=True)
    with rig.users():
        ended = rig.run(after).must_be(0)
        assert ended.events[-1]["backends"]["app2"] == "parked by a person, not touched"
        seen = rig.status()
        assert rotation_of(seen)["app2"] == "out on lb1, lb2 by a person"
        assert versions_of(seen) == {"app1": after, "app2": before, "app3": after}
        park(rig, "app2", is_parked=False)
        rig.run(after).must_be(0)
    rig.expect_well(after)


@pytest.mark.every
def test_a_hand_edit_meanwhile_halts_and_is_not_overwritten(rig: Rig) -> None:
    after = rig.next_release()
    balancer = rig.balancer("lb1")
    edits: list[tuple[bytes, bytes]] = []

    def edit(_: object) -> None:
        ours = balancer.upstream_file.read_bytes()
        theirs = ours + b"# somebody was here\n"
        balancer.upstream_file.write_bytes(theirs)
        edits.append((ours, theirs))

    with rig.users():
        run = rig.start("run", "--release", after, "--yes")
        ended = run.at(is_draining, edit).end()
        ours, theirs = edits[0]
        ended.must_be(4)
        assert "lb1 was changed by somebody else" in ended.message.what
        assert balancer.upstream_file.read_bytes() == theirs
        workers = rig.workers()
        again = rig.do("resume", "--yes", by="second").must_be(4)
        assert "lb1" in again.message.what + again.message.where
        assert balancer.upstream_file.read_bytes() == theirs
        rig.expect_no_reload(workers)
        balancer.upstream_file.write_bytes(ours)
        rig.reload_by_hand("lb1")
        rig.do("resume", "--yes", by="second").must_be(0)
    rig.expect_well(after)
