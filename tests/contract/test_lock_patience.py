"""Waiting for a lock on a real directory: what is waited for, what is told, and when it ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from rolling_deploy.errors import RolloutHeld
from rolling_deploy.inventory import load_inventory
from rolling_deploy.operations.desk import Desk, Footing
from rolling_deploy.operations.waiting import patiently
from rolling_deploy.ports import Event, FenceToken, Said
from rolling_deploy.remote.connection import CannotReach, Connection
from rolling_deploy.remote.record_copies import (
    Holder,
    Place,
    append_copy,
    held_by,
    hold,
    let_go,
    read_copies,
)
from rolling_deploy.settings import HostTarget
from tests.local_connection import LocalConnection

pytestmark = pytest.mark.timeout(180)

ANN = FenceToken("r1", 1, "ann")
INVENTORY = """\
application: shop
hosts: {lb1: {}, web1: {}}
load_balancers: [{name: lb1, nginx: {state_dir: STATE}}]
upstreams: [{name: tomcat}]
upgrade: {strategy: tomcat, artifact: "build/shop-{release}.war"}
backends:
  - {name: app1, host: web1, address: "10.0.0.11:8080", upgrade: {catalina_base: /srv/app1}}
  - {name: app2, host: web1, address: "10.0.0.11:8081", upgrade: {catalina_base: /srv/app2}}
"""


@dataclass
class Rollouts:
    """An operation that goes as long as nobody holds the lock, on a load balancer of its own."""

    place: Place
    desk: Desk
    told: list[str] = field(default_factory=list)
    tries: int = 0
    connected: list[str] = field(default_factory=list)

    def event(self, event: Event) -> None:
        assert isinstance(event, Said)
        self.told.append(event.text)

    def act(self) -> str:
        self.tries += 1
        copies, _ = read_copies({"lb1": self.place})
        if copies["lb1"].is_held:
            raise held_by("lb1", copies["lb1"].holder, copies["lb1"].step)
        return "done"


@pytest.fixture
def rollouts(tmp_path: Path) -> Rollouts:
    path = tmp_path / "inventory.yaml"
    path.write_text(INVENTORY.replace("STATE", str(tmp_path / "state")))
    place = Place(LocalConnection(), str(tmp_path / "state"))

    def opener(hosts: Sequence[HostTarget]) -> Mapping[str, Connection | CannotReach]:
        made.connected += [host.name for host in hosts]
        return {host.name: LocalConnection() for host in hosts}

    desk = Desk(
        load_inventory(path),
        tmp_path / "own",
        None,  # type: ignore[arg-type] # itself, once it is there
        lambda _: True,
        footing=Footing(opener=opener),
    )
    made = Rollouts(place, desk)
    desk.reporter = made
    return made


def take(place: Place, expiry_s: int = 30) -> None:
    hold({"lb1": place}, ANN, Holder("ann", "laptop", "", 1, "r1", "", expiry_s))


def later(delay_s: float, act: object) -> None:
    timer = threading.Timer(delay_s, act)  # type: ignore[arg-type] # whatever is done then
    timer.daemon = True
    timer.start()


def test_without_patience_the_first_answer_counts(rollouts: Rollouts) -> None:
    take(rollouts.place)
    with pytest.raises(RolloutHeld):
        patiently(rollouts.desk, rollouts.act)
    assert (rollouts.tries, rollouts.told, rollouts.connected) == (1, [], [])


def test_it_is_done_when_the_holder_has_gone(rollouts: Rollouts) -> None:
    take(rollouts.place)
    rollouts.desk.wait_ms = 90_000
    later(2, lambda: let_go({"lb1": rollouts.place}, "ann"))
    assert patiently(rollouts.desk, rollouts.act) == "done"
    assert rollouts.tries == 2
    assert len(rollouts.told) == 1
    assert rollouts.told[0].startswith("waiting, at most 1 min 30 s: ann on laptop holds rollout")
    assert rollouts.connected == ["lb1"]


def test_a_new_step_and_a_new_holder_are_told_once_each(rollouts: Rollouts) -> None:
    take(rollouts.place)
    rollouts.desk.wait_ms = 60_000
    place = rollouts.place
    bob = FenceToken("r1", 2, "bob")
    later(1, lambda: append_copy(place, ANN, [b"x\n"], size=0, tail=b"", step="activate app1"))
    later(
        4,
        lambda: hold({"lb1": place}, bob, Holder("bob", "ci", "", 1, "r1", ""), dead="ann"),
    )
    later(7, lambda: let_go({"lb1": place}, "bob"))
    assert patiently(rollouts.desk, rollouts.act) == "done"
    _, second, third = rollouts.told
    assert second.startswith("still waiting: ann on laptop")
    assert second.endswith("now at: activate app1")
    assert third.startswith("still waiting: bob on ci")


def test_a_dead_holder_is_waited_for_no_longer_than_the_lock_lives(rollouts: Rollouts) -> None:
    take(rollouts.place, expiry_s=3)
    rollouts.desk.wait_ms = 60_000
    began = time.monotonic()
    assert patiently(rollouts.desk, rollouts.act) == "done"
    assert 1 < time.monotonic() - began < 30


def test_at_the_limit_it_is_refused_with_the_holder_of_that_moment(rollouts: Rollouts) -> None:
    take(rollouts.place)
    rollouts.desk.wait_ms = 3_000
    began = time.monotonic()
    with pytest.raises(RolloutHeld, match="ann on laptop"):
        patiently(rollouts.desk, rollouts.act)
    assert time.monotonic() - began >= 3
    assert rollouts.tries == 2


def test_what_does_not_pass_is_not_waited_for(rollouts: Rollouts) -> None:
    """An unfinished rollout of another release, or having been taken over from."""
    rollouts.desk.wait_ms = 60_000
    began = time.monotonic()

    def act() -> None:
        rollouts.tries += 1
        raise RolloutHeld("rollout r1 to 2.0 is unfinished")

    with pytest.raises(RolloutHeld, match="is unfinished"):
        patiently(rollouts.desk, act)
    assert rollouts.tries == 1
    assert time.monotonic() - began < 30


def test_a_refusal_that_no_lock_explains_is_tried_again_with_a_pause(rollouts: Rollouts) -> None:
    """Another process on this machine holds the local record and not yet the lock, say."""
    rollouts.desk.wait_ms = 3_000

    def act() -> None:
        rollouts.tries += 1
        raise RolloutHeld("another run was here a moment ago", is_passing=True)

    with pytest.raises(RolloutHeld):
        patiently(rollouts.desk, act)
    assert rollouts.tries == 3
