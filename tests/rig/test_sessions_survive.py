"""Releases that treat sessions differently, on two real Tomcats, under people who are logged in.

Java's own serialization lies in a real Redis, put there by Redisson's session manager; the health
checks of every release say that all is well.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from rolling_deploy.demo.load import LoadShape
from rolling_deploy.demo.tally import Summary
from tests.rig_tools import (
    Ended,
    assert_nobody_noticed,
    outcomes,
    rotation_of,
    versions_of,
    wait_until,
)
from tests.shop_releases import (
    ATTRIBUTE_REMOVED,
    CLASS_CHANGED,
    CLASS_CHANGED_WITH_UID,
    CLASS_REMOVED,
    COMPATIBLE,
    FIRST,
    OTHER_COOKIE,
    OTHER_PREFIX,
    PASSWORD,
    SHORTER,
    UID_CHANGED,
    ShopRelease,
)
from tests.shop_site import CANARY, PASSWORD_ENV, shop
from tests.shop_users import ShopLoad
from tests.tomcat_fleet import TomcatFleet
from tests.tomcat_rig import TomcatRig, servers_and_jars

pytestmark = [pytest.mark.rig, pytest.mark.timeout(900)]

FEW, SIXTY = 12, 60
REACHED = 3
"""So many clicks of each user on a fleet that stays as it is, on average."""


class Site:
    """The fleet and its operators."""

    def __init__(self, fleet: TomcatFleet, users: int) -> None:
        self.fleet = fleet
        self.users_count = users
        self.rig = TomcatRig(fleet)
        self.rig.environment[PASSWORD_ENV] = PASSWORD
        self.rig.do("adopt", "--yes").must_be(0)

    @contextmanager
    def users(self) -> Iterator[Callable[[], Summary]]:
        """Let everybody log in and click; afterwards all are still logged in, with their cart."""
        with self.clicking() as load:
            yield load.snapshot
        seen = load.snapshot()
        assert_nobody_noticed(seen)
        assert seen.sessions_followed == self.users_count, "somebody had to log in again"

    @contextmanager
    def clicking(self) -> Iterator[ShopLoad]:
        """Let everybody log in and click, whatever becomes of them."""
        think_ms = 10 * self.users_count
        count = self.users_count
        load = ShopLoad(self.fleet.urls, LoadShape(count, 0, 0, think_ms=think_ms, limit_s=1700))
        load.start()
        try:
            wait_until(lambda: load.snapshot().sessions_followed >= count, "all are logged in")
            self.let_click(load.snapshot)
            yield load
            self.let_click(load.snapshot)
        finally:
            seen = load.stop()
            print("\n" + "\n".join(seen.lines()))

    def let_click(self, snapshot: Callable[[], Summary]) -> None:
        reached = snapshot().requests + REACHED * self.users_count
        wait_until(lambda: snapshot().requests >= reached, "everybody has clicked")

    def seen(self) -> dict[str, object]:
        """Answers WAR and process of every Tomcat."""
        return {node.name: node.seen for node in self.fleet.nodes}


@pytest.fixture(scope="module")
def place() -> Iterator[list[Site]]:
    """The one fleet of all tests, brought up again when one left it unwell."""
    here: list[Site] = []
    yield here
    for site in here:
        site.rig.end_commands()
        site.fleet.stop()


@pytest.fixture
def site(
    place: list[Site], tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config
) -> Iterator[Site]:
    """The adopted fleet, on a release whose sessions all good ones understand."""
    if place and not place[0].rig.is_well:
        place[0].rig.end_commands()
        place.pop().fleet.stop()
    if not place:
        servers, jars = servers_and_jars()
        directory = tmp_path_factory.mktemp("shop") / "fleet"
        fleet = TomcatFleet(directory, servers, jars, shop()).start()
        try:
            place.append(Site(fleet, SIXTY if pytestconfig.getoption("--every") else FEW))
        except BaseException:
            fleet.stop()
            raise
    given = place[0]
    given.rig.is_well = False
    yield given
    given.rig.end_commands()


def deploy(site: Site, release: str) -> Ended:
    """Roll a release that keeps everybody logged in; answers what was told."""
    ended = site.rig.run(release).must_be(0)
    assert outcomes(ended.events, "Continuity") == ["done", "done"]
    return ended


def proofs(ended: Ended) -> list[str]:
    """Answers what the canary proved, in order."""
    steps = {e["seq"]: e["fact"]["step"]["type"] for e in ended.events if e["event"] == "intended"}
    return [
        event["fact"]["result"]["detail"]
        for event in ended.events
        if event["event"] == "ended" and steps.get(event["fact"]["of"]) in {"Keep", "Continuity"}
    ]


def other_release(site: Site) -> str:
    """Answers the compatible release that does not run now."""
    return FIRST.version if site.rig.release() == COMPATIBLE.version else COMPATIBLE.version


def refuses(site: Site, release: ShopRelease, unreadable: str) -> tuple[str, str]:
    """Deploy a release whose classes do not fit what is stored: it is refused and nothing is
    touched. Answers how a person accepts that.
    """
    before = site.seen()
    refused = site.rig.run(release.version).must_be(8)
    print(f"\n{refused.message.where}")
    assert "stored sessions: compatibility" in refused.message.where
    assert f"com.example.shop.{unreadable}" in refused.message.where
    assert "--accept incompatible-sessions" in refused.message.where
    assert site.seen() == before
    return ("--accept", "incompatible-sessions")


def halts(site: Site, release: ShopRelease, *expected: str, unreadable: str = "") -> Ended:
    """Deploy a release that does not keep people logged in: it is halted at the first Tomcat, and
    the old one is brought back there; nobody notices either.

    Args:
        unreadable: the class for which it is refused before the start, until a person accepts.
    """
    site.fleet.pack(release.version)
    before, old = site.seen(), site.rig.release()
    with site.users():
        accepted = refuses(site, release, unreadable) if unreadable else ()
        halted = site.rig.run(release.version, *accepted).must_be(4)
        print(f"\n{halted.message}")
        assert site.fleet.node("tomcat2").seen == before["tomcat2"], "tomcat2 was touched"
        assert site.fleet.release_of("tomcat1") == release.version
        told = site.rig.status()
        assert versions_of(told) == {"tomcat1": release.version, "tomcat2": old}
        assert rotation_of(told)["tomcat2"] == "in"
        assert rotation_of(told)["tomcat1"].startswith("out on lb1 by rollout ")
        for text in expected:
            assert text in halted.message.what, halted.message
        assert "rolling-deploy abort" in halted.message.next
        back = site.rig.do("abort", "--yes", by="second").must_be(0)
        print("\n".join(proofs(back)))
        assert outcomes(back.events, "Continuity") == ["done"]
        assert site.fleet.node("tomcat2").seen == before["tomcat2"], "tomcat2 was touched"
    site.rig.expect_well(old)
    return halted


@pytest.mark.every
def test_a_compatible_release_rolls_and_everybody_stays_logged_in(site: Site) -> None:
    old, new = site.rig.release(), other_release(site)
    with site.users() as snapshot:
        ended = deploy(site, new)
        site.let_click(snapshot)
        assert set(snapshot().versions) == {old, new}
    kept, first, last = proofs(ended)
    print(kept, first, last, sep="\n")
    assert kept == f"sessions made on tomcat1 ({old}) are read on tomcat2 ({old})"
    for proved in (
        f"3 sessions from before are read on tomcat1 ({new})",
        "made on tomcat2 and read on tomcat1",
        "written on tomcat1 and read on tomcat2",
        "made on tomcat1 and read on tomcat2",
        "as before",
    ):
        assert proved in first
    assert "not checked" not in first
    # Nobody of the old release is left: what was kept has been through the new one meanwhile.
    assert last.startswith(f"3 sessions from before are read on tomcat2 ({new})")
    site.rig.expect_well(new)


def test_a_class_changed_without_a_serial_version_halts_at_the_first_tomcat(site: Site) -> None:
    halted = halts(
        site,
        CLASS_CHANGED,
        "before the rollout is not read on tomcat1 (2.0-class)",
        "Hello canary-",
        unreadable="Cart",
    )
    assert "500" in halted.message.what
    log = site.fleet.node("tomcat1").tomcat.base / "logs"
    said = "\n".join(path.read_text(errors="replace") for path in log.iterdir())
    assert "java.io.InvalidClassException: com.example.shop.Cart" in said


@pytest.mark.every
def test_sessions_that_live_less_long_halt_at_the_first_tomcat(site: Site) -> None:
    halted = halts(site, SHORTER)
    said = r"a session made on tomcat1 \(2\.0-short\) lives 1[12]\d s, should live about 18\d\d s "
    assert re.search(said + r"as on tomcat2 ", halted.message.what), halted.message


@pytest.mark.every
def test_a_class_changed_with_its_serial_version_kept_rolls(site: Site) -> None:
    site.fleet.pack(CLASS_CHANGED_WITH_UID.version)
    old = site.rig.release()
    with site.users():
        deploy(site, CLASS_CHANGED_WITH_UID.version)
        deploy(site, old)
    site.rig.expect_well(old)


READS_NOT = "before the rollout is not read on tomcat1"
INCOMPATIBLE = {
    "another serial version is declared": (UID_CHANGED, READS_NOT, "User"),
    "an attribute is no longer set": (
        ATTRIBUTE_REMOVED,
        "a session made on tomcat1 (2.0-removed) is not read on tomcat2",
        "Preferences",
    ),
    "the class of an attribute is gone": (CLASS_REMOVED, READS_NOT, "Preferences"),
    "another cookie": (OTHER_COOKIE, READS_NOT, ""),
    "another key prefix": (OTHER_PREFIX, READS_NOT, ""),
}


@pytest.mark.every
@pytest.mark.parametrize("flaw", INCOMPATIBLE)
def test_an_incompatible_release_halts_at_the_first_tomcat(site: Site, flaw: str) -> None:
    release, said, unreadable = INCOMPATIBLE[flaw]
    halts(site, release, said, unreadable=unreadable)


@pytest.mark.every
def test_without_a_canary_everybody_is_logged_out_and_all_looks_well(site: Site) -> None:
    site.fleet.pack(OTHER_PREFIX.version)
    old = site.rig.release()
    bare = site.rig.inventory("bare", (CANARY, ""))
    with site.clicking() as load:
        site.rig.do("run", "--release", OTHER_PREFIX.version, "--yes", inventory=bare).must_be(0)
    seen = load.snapshot()
    assert seen.failed == 0
    assert seen.sessions_lost >= site.users_count
    site.rig.do("run", "--release", old, "--yes", inventory=bare).must_be(0)
    site.rig.expect_well(old)


@pytest.mark.every
@pytest.mark.timeout(1800)
def test_twenty_compatible_rolls_raise_no_false_alarm(site: Site) -> None:
    with site.users():
        for _ in range(20):
            deploy(site, other_release(site))
    site.rig.expect_well(site.rig.release())
