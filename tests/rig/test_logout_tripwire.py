"""The tripwire on two real Tomcats: nobody has configured a canary, a person has accepted what the
preflight said, and the release logs users out while every health check says that all is well.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.rig.test_sessions_survive import Site, other_release, place, site
from tests.rig_tools import fact, rotation_of, versions_of
from tests.shop_releases import CLASS_CHANGED, OTHER_COOKIE
from tests.shop_site import CANARY

__all__ = ["place", "site"]

pytestmark = [pytest.mark.rig, pytest.mark.timeout(900)]

WATCH = """
logout_watch:
  watch_s: 5
"""
BY_SESSIONS = """
logout_watch:
  # Nothing is said in the log, so only the sessions tell. So few users come to few sessions.
  ratio: 3
  new_min: 5
  watch_s: 8
"""


def watching(site: Site, watch: str) -> Path:
    """Answers an inventory with a watch and without a canary."""
    return site.rig.inventory("watching", (CANARY, watch))


@pytest.mark.every
def test_a_compatible_release_trips_nothing_and_the_report_says_what_was_read(site: Site) -> None:
    new, inventory = other_release(site), watching(site, WATCH)
    with site.users():
        argv = ("run", "--release", new, "--yes")
        ended = site.rig.do(*argv, inventory=inventory).must_be(0)
    (report,) = [e["logouts"] for e in ended.events if e["event"] == "summary"]
    print(f"\n{report}")
    assert report["lines"] == 0
    assert report["not_checked"] == []
    assert set(report["by_backend"]) == {"tomcat1", "tomcat2"}
    # A Tomcat that stops and starts writes some two thousand bytes.
    assert all(read["bytes_read"] > 1_000 for read in report["by_backend"].values())
    assert report["new_sessions"]["sampled"] >= site.users_count
    site.rig.expect_well(new)


def test_a_release_that_cannot_read_sessions_halts_after_its_first_wave(site: Site) -> None:
    site.fleet.pack(CLASS_CHANGED.version)
    old, inventory = site.rig.release(), watching(site, WATCH)
    untouched = site.fleet.node("tomcat2").seen
    argv = ("--release", CLASS_CHANGED.version, "--yes", "--accept", "incompatible-sessions")
    with site.clicking():
        halted = site.rig.do("run", *argv, inventory=inventory).must_be(4)
        print(f"\n{halted.message}")
        assert "users are being logged out: tomcat1 (" in halted.message.what
        assert "java.io.InvalidClassException: com.example.shop.Cart" in halted.message.what
        assert "(sessions)" in halted.message.where
        assert "rolling-deploy abort" in halted.message.next
        assert not halted.has(fact("claimed", claim=2))
        assert site.fleet.node("tomcat2").seen == untouched
        told = site.rig.status()
        assert versions_of(told) == {"tomcat1": CLASS_CHANGED.version, "tomcat2": old}
        assert set(rotation_of(told).values()) == {"in"}
        # From another machine, which has nothing but the load balancer's copy.
        site.rig.do("abort", "--yes", by="second", inventory=inventory).must_be(0)
    site.rig.expect_well(old)


@pytest.mark.every
def test_a_release_that_says_nothing_is_told_by_the_sessions_that_come(site: Site) -> None:
    site.fleet.pack(OTHER_COOKIE.version)
    old, inventory = site.rig.release(), watching(site, BY_SESSIONS)
    with site.clicking():
        argv = ("run", "--release", OTHER_COOKIE.version, "--yes")
        halted = site.rig.do(*argv, inventory=inventory).must_be(4)
        print(f"\n{halted.message}")
        assert "sessions come at" in halted.message.what
        assert not halted.has(fact("claimed", claim=2))
        site.rig.do("abort", "--yes", inventory=inventory).must_be(0)
    site.rig.expect_well(old)


@pytest.mark.every
@pytest.mark.timeout(1800)
def test_twenty_compatible_rolls_trip_nothing(site: Site) -> None:
    inventory = watching(site, WATCH)
    with site.users():
        for _ in range(20):
            argv = ("run", "--release", other_release(site), "--yes")
            site.rig.do(*argv, inventory=inventory).must_be(0)
    site.rig.expect_well(site.rig.release())
