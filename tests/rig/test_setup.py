"""`setup` on a machine as people have it: real nginx, two real Tomcats, a real Redis, users."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rig_tools import Ended, intends
from tests.shop_releases import COMPATIBLE, PASSWORD
from tests.shop_site import PASSWORD_ENV
from tests.strategies_fixture import PAUSE
from tests.tomcat_fleet import APPLICATION
from tests.tomcat_rig import TomcatRig, servers_and_jars
from tests.unwired_fleet import STOCK_CONTEXT, UnwiredFleet, asking

pytestmark = [pytest.mark.rig, pytest.mark.timeout(900)]

MISSING = 10
MARK = f"conf/.rolling-deploy-{APPLICATION}.json"
TOLD_S = 4.0
"""A file that is written so long after the start of a process is told from one before it."""
TOUCHED = {"conf/context.xml", "conf/redisson.yaml", "conf/server.xml"}


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[UnwiredFleet]:
    """The fleet before its setup."""
    servers, jars = servers_and_jars()
    if not STOCK_CONTEXT.exists():
        pytest.skip(f"no {STOCK_CONTEXT} on this machine")
    with UnwiredFleet(tmp_path / "fleet", servers, jars) as one:
        yield one


@pytest.fixture
def rig(fleet: UnwiredFleet) -> Iterator[TomcatRig]:
    """Its operators."""
    one = TomcatRig(fleet)
    one.environment[PASSWORD_ENV] = PASSWORD
    yield one
    one.end_commands()


def check(rig: TomcatRig, exit_code: int) -> dict[str, list[str]]:
    """Ask what is missing; answers it by machine."""
    ended = rig.do("setup", "--check", "--json")
    assert ended.exit_code == exit_code, ended
    found: dict[str, list[str]] = {}
    for one in json.loads(ended.stdout)["missing"]:
        found.setdefault(one["subject"], []).append(one["what"])
    return found


def sentences(ended: Ended) -> str:
    return "\n".join(str(event.get("text", "")) for event in ended.events)


def is_shared(ended: Ended) -> bool:
    """Answers whether it was proved that one Tomcat reads what the other wrote."""
    verdicts = [e["verdict"] for e in ended.events if e.get("name") == "continuity"]
    return "ok" in verdicts


def test_an_unwired_site_is_set_up_while_it_serves_and_then_deployed_to(
    rig: TomcatRig, fleet: UnwiredFleet
) -> None:
    before = {node.name: fleet.config_of(node) for node in fleet.nodes}
    main = fleet.main_config.read_text("utf-8")

    missing = check(rig, MISSING)
    assert set(missing) == {"lb1", "tomcat1", "tomcat2"}
    assert any("stands in" in what and "nginx.conf" in what for what in missing["lb1"])
    assert any("redisson-tomcat" in what for what in missing["tomcat1"])
    assert {node.name: fleet.config_of(node) for node in fleet.nodes} == before
    assert fleet.main_config.read_text("utf-8") == main

    with asking(fleet):
        done = rig.do("setup", "--yes", "--json").must_be(0)
    assert is_shared(done), sentences(done)
    assert fleet.sessions() > 0
    assert "# the two Tomcats" in fleet.main_config.read_text("utf-8")
    for node in fleet.nodes:
        now = fleet.config_of(node)
        added = {f"lib/{jar.name}" for jar in fleet.to_install}
        added |= {"conf/redisson.yaml", MARK}
        assert set(now) - set(before[node.name]) == added
        assert {name for name in before[node.name] if now[name] != before[node.name][name]} == {
            "conf/context.xml",
            "conf/server.xml",
        }
        assert b"Uncomment this to enable session persistence" in now["conf/context.xml"]

    assert check(rig, 0) == {}
    seen = [node.seen for node in fleet.nodes]
    again = rig.do("setup", "--yes", "--json").must_be(0)
    assert "nothing to do" in sentences(again)
    assert [node.seen for node in fleet.nodes] == seen

    with asking(fleet):
        rig.run(COMPATIBLE.version).must_be(0)
    assert [node.name for node in fleet.nodes] == ["tomcat1", "tomcat2"]
    assert {rig.release_on(node.name) for node in fleet.nodes} == {COMPATIBLE.version}


@pytest.mark.every
def test_a_setup_that_dies_between_two_tomcats_is_gone_on_with(
    rig: TomcatRig, fleet: UnwiredFleet
) -> None:
    with asking(fleet):
        dying = rig.start("setup", "--yes", "--json")
        dying.at(intends("Activate", "tomcat2"), lambda _: dying.signal(signal.SIGKILL))
        dying.end()
        again = rig.do("setup", "--yes", "--json", "--wait", "60", by="second").must_be(0)
    assert "going on with rollout" in sentences(again)
    assert check(rig, 0) == {}


@pytest.mark.every
def test_a_setup_is_taken_back_byte_for_byte(rig: TomcatRig, fleet: UnwiredFleet) -> None:
    before = {node.name: fleet.config_of(node) for node in fleet.nodes}
    with asking(fleet):
        dying = rig.start("setup", "--yes", "--json")
        dying.at(intends("Activate", "tomcat2"), lambda _: dying.signal(signal.SIGKILL))
        dying.end()
        rig.do("abort", "--yes", "--wait", "60").must_be(0)
    assert {node.name: fleet.config_of(node) for node in fleet.nodes} == before


@pytest.mark.every
def test_a_tomcat_that_has_not_read_its_files_is_restarted_by_a_setup_and_no_other(
    rig: TomcatRig, fleet: UnwiredFleet
) -> None:
    rig.do("setup", "--yes", "--json").must_be(0)
    base = fleet.nodes[0].tomcat.base
    context = base / "conf" / "context.xml"
    PAUSE.wait(TOLD_S)
    context.write_bytes(context.read_bytes())
    assert check(rig, 0) == {}, "by its own notes it knows what was read"
    (base / ".rolling-deploy" / "wiring" / "swap").unlink()  # as if people had wired it
    (said,) = check(rig, MISSING)["tomcat1"]
    assert "is wired on disk, but its Tomcat runs since before `conf/context.xml`" in said
    files = [fleet.config_of(node) for node in fleet.nodes]
    seen = [node.seen for node in fleet.nodes]
    with asking(fleet):
        done = rig.do("setup", "--yes", "--json").must_be(0)
    assert is_shared(done), sentences(done)
    assert [fleet.config_of(node) for node in fleet.nodes] == files
    assert [node.seen == before for node, before in zip(fleet.nodes, seen, strict=True)] == [
        False,
        True,
    ]
    assert check(rig, 0) == {}


@pytest.mark.every
def test_what_people_edit_between_two_setups_is_shown_and_kept(
    rig: TomcatRig, fleet: UnwiredFleet
) -> None:
    rig.do("setup", "--yes", "--json").must_be(0)
    context = fleet.nodes[0].tomcat.base / "conf" / "context.xml"
    edited = context.read_text("utf-8").replace("</Context>", "  <!-- ours -->\n</Context>")
    edited = edited.replace("RedissonSessionManager", "SomeManager")
    context.write_text(edited)
    refused = rig.do("setup", "--yes", "--json").must_be(8)
    assert "SomeManager" in refused.message.where
    assert context.read_text("utf-8") == edited
