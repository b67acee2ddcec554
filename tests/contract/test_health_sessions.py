"""A health page that begins a session with every question is told before a start."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from rolling_deploy.operations.balancer_checks import Acceptance
from rolling_deploy.operations.site import Site
from rolling_deploy.operations.survey import survey
from rolling_deploy.rollout.observed import Check, Verdict
from tests.misbehaving_app import Says, running_app
from tests.survey_fixture import inventory_in

if TYPE_CHECKING:
    from pathlib import Path

FLEET = """\
application: shop
hosts: {{lb1: {{}}, web1: {{}}}}
load_balancers: [{{name: lb1}}]
upstreams: [{{name: tomcat}}]
upgrade: {{strategy: tomcat, artifact: "shop-{{release}}.war"}}
health: {{path: /health, asked_from: operator, streak: 3}}
backends:
  - {{name: app1, host: web1, address: "{first}", upgrade: {{catalina_base: /srv/app1}}}}
  - {{name: app2, host: web1, address: "{second}", upgrade: {{catalina_base: /srv/app2}}}}
"""
CANARY = """\
session_canary:
  {{create: {{path: /login}}, read: {{path: /}}, expect: "{{marker}}", cookie: {cookie}}}
"""


def told(directory: Path, cookie: str, canary: str = "") -> list[Check]:
    """Answers the lines about two backends, of which the first sets a cookie on its health page."""
    sets = Says(headers={"Set-Cookie": f"{cookie}=1F0A; Path=/; HttpOnly"} if cookie else {})
    with running_app(lambda _: sets) as first, running_app(lambda _: Says()) as second:
        text = FLEET.format(first=first.address, second=second.address)
        inventory = inventory_in(directory, text + canary)
        found = survey(Site(inventory, {}), "2.0", Acceptance(canary=False))
        assert [len(app.asked) for app in (first, second)] == [3, 3], "nothing more is asked"
    return [check for check in found.checks if check.name == "health sessions"]


@pytest.mark.parametrize("cookie", ["JSESSIONID", "SESSION"])
def test_a_health_page_that_begins_sessions_is_a_warning_with_what_to_do(
    tmp_path: Path, cookie: str
) -> None:
    (check,) = told(tmp_path, cookie)
    assert (check.subject, check.verdict) == ("app1", Verdict.WARNING)
    assert check.detail.startswith(f"`/health` sets `{cookie}`: each health check begins a session")
    assert "let `health.path` be a page that begins none" in check.detail


@pytest.mark.parametrize("cookie", ["", "theme"])
def test_a_health_page_without_sessions_is_no_line(tmp_path: Path, cookie: str) -> None:
    assert told(tmp_path, cookie) == []


def test_the_cookie_is_the_one_that_the_session_canary_names(tmp_path: Path) -> None:
    canary = CANARY.format(cookie="SID")
    assert [check.subject for check in told(tmp_path, "SID", canary)] == ["app1"]
    assert told(tmp_path, "JSESSIONID", canary) == []
