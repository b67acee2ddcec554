"""A password of the canary that is not set is told before anything is touched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from rolling_deploy.errors import RolloutHalted, UsageWrong
from rolling_deploy.operations.balancer_checks import Acceptance
from rolling_deploy.operations.desk import Desk
from rolling_deploy.operations.in_hand import InHand
from rolling_deploy.operations.opening import places_of
from rolling_deploy.operations.rollouts import take_over
from rolling_deploy.operations.site import Site
from rolling_deploy.operations.survey import survey
from rolling_deploy.ports import Event
from rolling_deploy.rollout.facts import Direction, Fact, Redirected
from rolling_deploy.rollout.fleet import Policy
from rolling_deploy.rollout.observed import Check, Verdict
from rolling_deploy.settings import Inventory
from tests.misbehaving_app import Says, running_app
from tests.survey_fixture import inventory_in
from tests.values import opened, record

VARIABLE = "CANARY_PASSWORD_OF_THIS_TEST"
FLEET = """\
application: shop
hosts: {{lb1: {{}}, web1: {{}}}}
load_balancers: [{{name: lb1}}]
upstreams: [{{name: tomcat}}]
upgrade: {{strategy: tomcat, artifact: "shop-{{release}}.war"}}
health: {{path: /health, asked_from: operator, streak: 1}}
backends:
  - {{name: app1, host: web1, address: "{first}", upgrade: {{catalina_base: /srv/app1}}}}
  - {{name: app2, host: web1, address: "{second}", upgrade: {{catalina_base: /srv/app2}}}}
session_canary:
  create: {{path: /login, method: POST, form_env: {{password: {variable}}}}}
  read: {{path: /cart}}
  expect: "{{marker}}"
"""


def sharing(directory: Path, *, canary: bool = True) -> Check:
    """Answers what a preflight says of the canary."""
    with running_app(lambda _: Says()) as first, running_app(lambda _: Says()) as second:
        text = FLEET.format(first=first.address, second=second.address, variable=VARIABLE)
        inventory = inventory_in(directory, text)
        found = survey(Site(inventory, {}), "2.0", Acceptance(canary=canary))
    (check,) = [
        one for one in found.checks if (one.subject, one.name) == ("sessions", "continuity")
    ]
    return check


@pytest.mark.parametrize("value", [None, ""])
def test_the_preflight_refuses_and_names_the_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str | None
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    if value is not None:
        monkeypatch.setenv(VARIABLE, value)
    check = sharing(tmp_path)
    assert check.verdict is Verdict.REFUSED
    assert check.detail == f"the session canary's password should be in ${VARIABLE}, is not"


def test_with_the_password_the_preflight_goes_on_to_ask_who_serves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "a password")
    check = sharing(tmp_path)
    assert "fewer than two backends serve" in check.detail


def test_a_plan_that_makes_no_canary_session_needs_no_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    check = sharing(tmp_path, canary=False)
    assert check.verdict is Verdict.NOT_CHECKED


class Silent:
    """A reporter that tells nobody."""

    def event(self, event: Event) -> None:
        """Say nothing."""


def going_on(inventory: Inventory, answers: Sequence[Fact], *, proves: bool) -> None:
    """Go on with a rollout whose machines are not reached, up to where they would be touched."""
    first = replace(opened(policy=Policy(proves_sessions=proves)), places=places_of(inventory))
    hand = InHand(None, record(first), {}, True, 1, None, None, "", {})
    desk = Desk(inventory, Path("/nonexistent"), Silent(), lambda _: True)
    take_over(desk, Site(inventory, {}), hand, answers, load_pending=False)


@pytest.mark.parametrize("answers", [(), (Redirected(Direction.BACK, "someone"),)])
def test_to_go_on_or_back_without_the_password_is_refused_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answers: tuple[Fact, ...]
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    text = FLEET.format(first="127.0.0.1:1", second="127.0.0.1:2", variable=VARIABLE)
    inventory = inventory_in(tmp_path, text)
    with pytest.raises(UsageWrong, match=VARIABLE) as refused:
        going_on(inventory, answers, proves=True)
    assert "touched nothing" in str(refused.value.site)
    # What proves no sessions needs no password, and neither does who has it.
    with pytest.raises(RolloutHalted, match="gave the lock"):
        going_on(inventory, answers, proves=False)
    monkeypatch.setenv(VARIABLE, "a password")
    with pytest.raises(RolloutHalted, match="gave the lock"):
        going_on(inventory, answers, proves=True)
