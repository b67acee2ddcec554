"""Before a lock is freed its holder's heart is listened to; who was not heard is not dead."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from rolling_deploy.errors import MachineUnreachable, RolloutHeld
from rolling_deploy.inventory import load_inventory
from rolling_deploy.operations.desk import Desk, Footing
from rolling_deploy.operations.unlocking import unlock
from rolling_deploy.ports import Event, FenceToken, Said
from rolling_deploy.remote.connection import Answer, CannotReach, Connection
from rolling_deploy.remote.record_copies import Holder, Place, hold
from rolling_deploy.report.unlock import UnlockView
from rolling_deploy.settings import HostTarget
from tests.local_connection import LocalConnection

pytestmark = pytest.mark.timeout(120)

ANN = FenceToken("r1", 1, "ann")
EXPIRY_S = 6
"""Two and a half beats are three seconds."""
INVENTORY = """\
application: shop
hosts: {lb1: {}, lb2: {}, web1: {}}
load_balancers:
  - {name: lb1, nginx: {state_dir: STATE/lb1}}
  - {name: lb2, nginx: {state_dir: STATE/lb2}}
upstreams: [{name: tomcat}]
upgrade: {strategy: tomcat, artifact: "build/shop-{release}.war"}
backends:
  - {name: app1, host: web1, address: "10.0.0.11:8080", upgrade: {catalina_base: /srv/app1}}
  - {name: app2, host: web1, address: "10.0.0.11:8081", upgrade: {catalina_base: /srv/app2}}
"""


class Deaf(LocalConnection):
    """A machine whose link is lost while its lock is watched."""

    def run(self, argv: Sequence[str], **more: object) -> Answer:
        if "rolling-deploy:record_watch" in argv:
            return Answer(False, None, b"", b"", "the link was lost")
        return super().run(argv, **more)  # type: ignore[arg-type] # passed on


@dataclass
class Locked:
    """Two load balancers whose lock ann holds; lb2 cannot be listened to."""

    state: Path
    desk: Desk
    told: list[str] = field(default_factory=list)
    views: list[UnlockView] = field(default_factory=list)

    def event(self, event: Event) -> None:
        assert isinstance(event, Said)
        self.told.append(event.text)

    def unlock(self, *, is_forced: bool = False) -> UnlockView:
        return unlock(self.desk, self.views.append, is_forced=is_forced)

    def let_the_heart_be(self, name: str, age_s: int) -> None:
        at = time.time() - age_s  # noqa: TID251 # a file's time
        os.utime(self.state / name / "heartbeat", (at, at))

    @property
    def is_held(self) -> dict[str, bool]:
        return {name: (self.state / name / "holder").exists() for name in ("lb1", "lb2")}


@pytest.fixture
def locked(tmp_path: Path) -> Locked:
    path = tmp_path / "inventory.yaml"
    path.write_text(INVENTORY.replace("STATE", str(tmp_path)))
    places = {name: Place(LocalConnection(), str(tmp_path / name)) for name in ("lb1", "lb2")}
    hold(places, ANN, Holder("ann", "laptop", "", 1, "r1", "", EXPIRY_S))

    def opener(hosts: Sequence[HostTarget]) -> Mapping[str, Connection | CannotReach]:
        return {host.name: Deaf() if host.name == "lb2" else LocalConnection() for host in hosts}

    desk = Desk(
        load_inventory(path),
        tmp_path / "own",
        None,  # type: ignore[arg-type] # itself, once it is there
        lambda _: True,
        footing=Footing(opener=opener),
    )
    made = Locked(tmp_path, desk)
    desk.reporter = made
    return made


def test_a_holder_whose_heart_could_not_be_listened_to_is_not_taken_for_dead(
    locked: Locked,
) -> None:
    locked.let_the_heart_be("lb1", EXPIRY_S + 5)
    with pytest.raises(MachineUnreachable) as caught:
        locked.unlock()
    assert caught.value.where == "lb2: the link was lost"
    assert "--force" in caught.value.next_step
    assert locked.is_held == {"lb1": True, "lb2": True}
    assert locked.views == []


def test_forced_it_is_freed_and_told_that_nobody_listened(locked: Locked) -> None:
    locked.let_the_heart_be("lb1", EXPIRY_S + 5)
    assert locked.unlock(is_forced=True).is_unlocked
    assert "the holder may be alive: lb2: the link was lost" in locked.told[-1]
    assert locked.is_held == {"lb1": False, "lb2": False}


def test_one_beat_heard_elsewhere_says_that_the_holder_is_alive(locked: Locked) -> None:
    locked.let_the_heart_be("lb1", 2)
    heartbeat = locked.state / "lb1" / "heartbeat"
    beats = ["sh", "-c", 'for n in 1 2 3 4 5; do sleep 0.5; : > "$1"; done', "x", str(heartbeat)]
    heart = threading.Thread(target=lambda: LocalConnection().run(beats, limit_ms=60_000))
    heart.start()
    with pytest.raises(RolloutHeld, match="is alive"):
        locked.unlock()
    heart.join(60)
    assert locked.is_held == {"lb1": True, "lb2": True}


def test_a_dead_one_whose_silence_was_heard_out_is_freed(locked: Locked) -> None:
    locked.let_the_heart_be("lb2", EXPIRY_S + 5)
    assert locked.unlock().is_unlocked
    assert locked.is_held == {"lb1": False, "lb2": False}
