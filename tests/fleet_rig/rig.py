"""What a scenario asks of the rig: commands on its hosts, users on the site, what must be so."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rolling_deploy.demo.fleet import FIRST_RELEASE, NEXT_RELEASE
from rolling_deploy.demo.load import LoadShape
from rolling_deploy.demo.tally import Summary
from tests.fleet_rig.answers import until
from tests.fleet_rig.figures import Figures
from tests.fleet_rig.fleet import NamespacedFleet, tree
from tests.fleet_rig.fleet_texts import BALANCERS, persons_lines
from tests.fleet_rig.load import USERS, UsersOn
from tests.rig_tools import ACTING, ROOT, Command, Ended, assert_nobody_noticed, fact

PLAIN, DOOMED = "rolling_deploy", "tests.fleet_rig.doomed"


@dataclass
class FleetRig:
    """A running fleet, and the commands that a scenario starts on its hosts.

    Attributes:
        is_well: the last scenario proved that the next one can use the fleet.
        others: digests of everything that is not ours, as it was at the beginning.
        upstream: the lines of the hand-written upstream, by load balancer.
    """

    fleet: NamespacedFleet
    figures: Figures
    is_well: bool = True
    others: Mapping[str, str] = field(default_factory=dict)
    upstream: Mapping[str, Sequence[str]] = field(default_factory=dict)
    inventory: Path | None = None
    built: int = 0
    _commands: list[Command] = field(default_factory=list)

    def begin(self) -> None:
        """Take the fleet over, as a person does once, and remember what is not ours."""
        self.others = self.fleet.of_others()
        self.upstream = {name: self.fleet.persons_lines(name) for name in BALANCERS}
        self.do("adopt", "--yes").must_be(0)

    # Commands.

    def start(
        self, *words: str, on: str = "operator", doom: str = "", environment: Mapping[str, str] = {}
    ) -> Command:
        """Start a command on a host; with `doom` the one whose end is chosen (`doomed`)."""
        more = ["--inventory", str(self.inventory_of(on))]
        more += ["--state-dir", str(self.state_dir(on))]
        if words[0] in ACTING:
            more += ["--output", "json"]
        module = DOOMED if doom else PLAIN
        argv = self.fleet.machines[on].entering(sys.executable, "-m", module, *words, *more)
        ours = {n: v for n, v in os.environ.items() if not n.startswith(("GITHUB_", "GITLAB_"))}
        ours |= {"PYTHONPATH": str(ROOT), "DOOM": doom, **self.fleet.environment, **environment}
        command = Command(argv, ours)
        self._commands.append(command)
        return command

    def do(self, *words: str, on: str = "operator", doom: str = "") -> Ended:
        """Run a command to its end."""
        return self.start(*words, on=on, doom=doom).end()

    def inventory_of(self, host: str) -> Path:
        """Answers the inventory that a host's operator uses: their own, or everybody's."""
        own = self.fleet.folder / f"inventory-{host}.yaml"
        return own if own.exists() else self.inventory or self.fleet.inventory_path

    def state_dir(self, host: str) -> Path:
        """Answers a host's own state directory."""
        return self.fleet.folder / "states" / host

    def changed(self, *changes: tuple[str, str]) -> None:
        """Use an inventory in which texts are replaced, until the scenario ends."""
        text = self.fleet.inventory_path.read_text(encoding="utf-8")
        for old, new in changes:
            assert old in text, f"the inventory holds no {old!r}"
            text = text.replace(old, new)
        self.inventory = self.fleet.folder / "inventory-changed.yaml"
        self.inventory.write_text(text, encoding="utf-8")

    def finish(self, after: str) -> Ended:
        """Whatever another operator left behind, the bastion brings it to its end.

        Whoever was at it is dead or frozen for certain, so its lock is freed.
        """
        self.do("unlock", "--yes", on="bastion")
        ended = self.do("resume", "--yes", on="bastion")
        if ended.exit_code != 2:
            ended.must_be(0)
            assert ended.has(fact("takenover")), ended
            assert ended.has(fact("closed", ending="done")), ended
        elif self.release() != after:
            # Only the other one's own disk knew of it, so nothing had been done: begun anew.
            assert "no rollout is unfinished" in ended.message.what
            ended = self.do("run", "--release", after, "--yes", on="bastion").must_be(0)
        return ended

    # What is so.

    def status(self, on: str = "bastion") -> dict[str, Any]:
        """Answers what `status` says there; its exit code must say the same."""
        told = self.do("status", "--json", on=on)
        assert told.exit_code in {0, 1}, told
        seen: dict[str, Any] = json.loads(told.stdout)
        assert told.exit_code == int(seen["is_degraded"]), told
        return seen

    def release(self) -> str:
        """Answers the release of the first application."""
        return self.fleet.release_of(next(iter(self.fleet.apps)))

    def next_release(self) -> str:
        """Answers a good release that the fleet does not run now."""
        return FIRST_RELEASE if self.release() == NEXT_RELEASE else NEXT_RELEASE

    def snapshot(self) -> Snapshot:
        """Answers everything that an operator could change, as it is now."""
        fleet = self.fleet
        places = [fleet.seen(name, "etc") for name in BALANCERS]
        places += [fleet.machines[a.machine].path(fleet.root(app)) for app, a in fleet.apps.items()]
        return Snapshot(
            dict(tree(places, lambda path: path.name in {"heartbeat", "step"})),
            {app: fleet.pid_of(app) for app in fleet.apps},
            {name: tuple(fleet.machines[name].processes("nginx")) for name in BALANCERS},
        )

    def is_quiet(self) -> None:
        """Wait until what earlier configurations left in nginx has gone, so that nothing moves."""

        def retired() -> bool:
            pids = [p for n in BALANCERS for p in self.fleet.machines[n].processes("nginx")]
            lines = [Path(f"/proc/{pid}/cmdline") for pid in pids]
            return not any(b"shutting down" in line.read_bytes() for line in lines if line.exists())

        until(retired, "earlier nginx workers have gone")

    def is_in_order(self) -> None:
        """Nothing of anybody else's was touched; between the marks the upstream is as it was."""
        assert self.fleet.of_others() == self.others
        for name in BALANCERS:
            text = self.fleet.managed(name).read_text(encoding="utf-8")
            assert persons_lines(text) == self.upstream[name], text

    def expect_well(self, release: str) -> None:
        """All is as between two rollouts: one release, nobody out, `status` and disks agree."""
        seen = self.status()
        assert seen["problems"] == [], seen["problems"]
        assert seen["rollout"] is None, seen["rollout"]
        expected = dict.fromkeys(self.fleet.apps, release)
        assert {b["name"]: b["version"] for b in seen["backends"]} == expected
        assert {b["rotation"] for b in seen["backends"]} == {"in"}
        assert {app: self.fleet.release_of(app) for app in self.fleet.apps} == expected
        self.is_in_order()
        self.is_well = True

    def new_release(self) -> str:
        """Answers a good release that no machine has ever had."""
        self.built += 1
        version = f"2.{self.built}"
        self.fleet.build(version)
        return version

    @contextmanager
    def users(self, scenario: str, shape: LoadShape = USERS) -> Iterator[UsersOn]:
        """Let people use the site meanwhile; afterwards none of them may have noticed anything."""
        with self.watched_users(scenario, shape) as told:
            yield told.load
        assert told.seen is not None
        assert_nobody_noticed(told.seen)

    @contextmanager
    def watched_users(self, scenario: str, shape: LoadShape = USERS) -> Iterator[Watched]:
        """The same for faults that hurt by themselves: what was seen is the caller's to judge."""
        load = UsersOn(self.fleet.machines["client"], self.fleet.urls, shape)
        load.start()
        watched = Watched(load)
        try:
            until(lambda: load.snapshot().sessions_followed >= shape.fast, "all are logged in")
            yield watched
        finally:
            watched.seen = load.stop()
            self.figures.note(scenario, watched.seen)

    def end_commands(self) -> None:
        """End what a failed scenario left running, and go back to the plain inventory."""
        for command in self._commands:
            command.kill()
        self._commands.clear()
        self.inventory = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Files with their digests, applications with their processes, nginx's processes."""

    files: Mapping[str, str]
    apps: Mapping[str, int]
    workers: Mapping[str, Sequence[int]]


@dataclass
class Watched:
    """A load, and at its end what it saw."""

    load: UsersOn
    seen: Summary | None = None

    @property
    def summary(self) -> Summary:
        """Answers what was seen in all."""
        assert self.seen is not None
        return self.seen
