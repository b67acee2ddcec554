"""A `setup` that meets an unfinished rollout: what is halted waits for a person's answer."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from rolling_deploy.errors import RollingDeployError, RolloutHalted
from rolling_deploy.operations.desk import Desk, Footing
from rolling_deploy.operations.setup import setup
from rolling_deploy.ports import Event
from rolling_deploy.remote.connection import CannotReach, Connection
from rolling_deploy.rollout.facts import Cause, Fact, Halted, Purpose
from rolling_deploy.rollout.journal import GENESIS, Entry, encode
from rolling_deploy.settings import HostTarget
from tests.local_connection import LocalConnection
from tests.survey_fixture import INVENTORY, inventory_in
from tests.values import opened

ROLLOUT = "r-20261122-140501-3fa1"


@dataclass
class Told:
    """A reporter that keeps what it was told."""

    events: list[Event] = field(default_factory=list)

    def event(self, event: Event) -> None:
        self.events.append(event)


def desk_in(directory: Path) -> Desk:
    """Answers a desk whose machines are all this one."""
    text = f"{INVENTORY}setup: {{locations: [{{file: /nowhere/default.conf}}]}}\n"
    for name in ("lb1", "lb2"):
        nginx = f"nginx: {{file: {directory}/{name}.conf, state_dir: {directory}/{name}}}"
        text = text.replace(f"{{name: {name}}}", f"{{name: {name}, {nginx}}}", 1)

    def opener(hosts: Sequence[HostTarget]) -> Mapping[str, Connection | CannotReach]:
        return {host.name: LocalConnection() for host in hosts}

    inventory = inventory_in(directory, text)
    own = directory / "own"
    return Desk(inventory, own, Told(), lambda _: False, footing=Footing(opener=opener))


def keep_record(desk: Desk, *facts: Fact) -> None:
    """Write this record on the desk's own disk."""
    lines, previous = [], GENESIS
    for seq, fact in enumerate(facts, 1):
        line, previous = encode(Entry(seq, seq, 1, "me", fact), previous)
        lines.append(line)
    file = desk.records.file(ROLLOUT)
    file.put(lines, 0)
    file.close()


@pytest.mark.parametrize("purpose", [Purpose.ADOPT, Purpose.SETUP])
def test_a_setup_does_not_answer_a_halt_for_a_person(tmp_path: Path, purpose: Purpose) -> None:
    desk = desk_in(tmp_path)
    first = replace(opened(purpose=purpose), rollout=ROLLOUT, inventory=desk.inventory.digest)
    keep_record(desk, first, Halted(Cause.NOT_PROVED, "nginx did not load it"))
    before = sorted(path.name for path in tmp_path.rglob("*"))
    with pytest.raises(RolloutHalted) as raised:
        setup(desk)
    assert str(raised.value) == "nginx did not load it"
    assert ROLLOUT in raised.value.where
    assert "`rolling-deploy resume`" in raised.value.next_step
    assert sorted(path.name for path in tmp_path.rglob("*")) == before, "nothing was begun"


def test_a_setup_says_that_it_goes_on_with_an_adoption_that_died(tmp_path: Path) -> None:
    desk = desk_in(tmp_path)
    keep_record(desk, replace(opened(purpose=Purpose.ADOPT), rollout=ROLLOUT))
    with contextlib.suppress(RollingDeployError):
        setup(desk)
    assert isinstance(desk.reporter, Told)
    assert f"going on with rollout {ROLLOUT}" in repr(desk.reporter.events)
