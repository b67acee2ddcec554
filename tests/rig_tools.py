"""The real command line in a process of its own, on a real fleet, and what may be asked of both.

A command is started as a person or a CI job starts it: `python -m rolling_deploy ...`, without a
terminal, with a state directory. What it does is read from its JSON events, how it ended from its
exit code and the four-part message on its standard error.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rolling_deploy.demo.fleet import FIRST_RELEASE, NEXT_RELEASE, DemoFleet
from rolling_deploy.demo.fleet_files import Balancer
from rolling_deploy.demo.load import Load, LoadShape
from rolling_deploy.demo.load_http import Ending
from rolling_deploy.demo.tally import Summary

ROOT = Path(__file__).resolve().parents[1]
LIMIT_S = 240.0
"""For anything that is waited for. Generous: it only ends what would hang."""
USERS = LoadShape(
    fast=5, slow=2, uploads=2, think_ms=150, slow_ms=(300, 700), upload_s=1.5, upload_pieces=12
)
"""Light: the tests of a fault need somebody who notices, not pressure."""
ACTING = ("run", "resume", "abort", "adopt", "unadopt")

Event = dict[str, Any]
Matches = Callable[[Event], bool]


def wait_until(holds: Callable[[], object], what: str, limit_s: float = LIMIT_S) -> None:
    """Return as soon as it holds."""
    until = time.monotonic() + limit_s
    while not holds():
        assert time.monotonic() < until, f"not within {limit_s:.0f} s: {what}"
        time.sleep(0.05)  # noqa: TID251 # a test asks again; there is nothing to wait on


def fact(kind: str, **expected: object) -> Matches:
    """Answers a test for an event of this kind whose fact has these values."""

    def matches(event: Event) -> bool:
        values = event.get("fact", {})
        is_kind = event["event"] == kind
        return is_kind and all(values.get(name) == value for name, value in expected.items())

    return matches


def intends(step: str, machine: str = "") -> Matches:
    """Answers a test for the intent of a step (`Apply`, `Activate`, ...), on any machine or one."""

    def matches(event: Event) -> bool:
        if event["event"] != "intended":
            return False
        planned = event["fact"]["step"]
        where = planned.get("load_balancer") or planned.get("backend")
        return bool(planned["type"] == step and machine in {"", where})

    return matches


def is_draining(event: Event) -> bool:
    """Answers whether the command waits for earlier nginx workers to go."""
    return event["event"] == "awaiting" and "earlier nginx workers" in event["why"]


@dataclass(frozen=True, slots=True)
class Message:
    """The four answers of an error message; all empty when there was none."""

    what: str = ""
    where: str = ""
    site: str = ""
    next: str = ""


def message_in(stderr: str) -> Message:
    """Answers the message at the end of what a command wrote for people."""
    found = re.search(r"^error: (?P<what>.*)\n(?P<rest>(?:  .*\n?)*)\Z", stderr, re.MULTILINE)
    if found is None:
        return Message()
    parts = dict(re.findall(r"^  (where|site|next): (.*)$", found["rest"], re.MULTILINE))
    return Message(
        found["what"], parts.get("where", ""), parts.get("site", ""), parts.get("next", "")
    )


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended, and everything it said."""

    exit_code: int
    stdout: str
    stderr: str
    events: tuple[Event, ...] = ()

    @property
    def message(self) -> Message:
        """Answers the four-part message."""
        return message_in(self.stderr)

    def must_be(self, exit_code: int) -> Ended:
        """Answers itself, after the exit code and, for a failure, the whole message is there."""
        assert self.exit_code == exit_code, f"{self.exit_code}, should be {exit_code}\n{self}"
        said = self.message
        if exit_code == 0:
            assert said == Message(), said
        else:
            assert said.what, self.stderr
            assert said.site, self.stderr
            assert said.next, self.stderr
        return self

    def has(self, matches: Matches) -> bool:
        """Answers whether an event of the kind was told."""
        return any(matches(event) for event in self.events)

    def __str__(self) -> str:
        told = (f"{e['event']} {e.get('where', '')} {e.get('text', '')}" for e in self.events)
        return "\n".join([*(list(told)[-40:] or [self.stdout[-4000:]]), self.stderr[-4000:]])


class Command:
    """A command that runs. Its events are read as they come, on a thread of their own."""

    def __init__(self, argv: Sequence[str], environment: Mapping[str, str]) -> None:
        self.argv = argv
        self.events: list[Event] = []
        self._lines: list[str] = []
        self._errors: list[str] = []
        self._changed = threading.Condition()
        self._first: list[tuple[Matches, Callable[[Event], None]]] = []
        self.process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=ROOT,
            start_new_session=True,
        )
        self._threads = [threading.Thread(target=self._read), threading.Thread(target=self._hear)]
        for thread in self._threads:
            thread.daemon = True
            thread.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.append(line)
            if not line.startswith('{"'):
                continue
            event = json.loads(line)
            with self._changed:
                self.events.append(event)
                due = [pair for pair in self._first if pair[0](event)]
                self._first = [pair for pair in self._first if pair not in due]
                self._changed.notify_all()
            for _, act in due:
                act(event)

    def _hear(self) -> None:
        assert self.process.stderr is not None
        self._errors.extend(self.process.stderr)

    def at(self, matches: Matches, act: Callable[[Event], None]) -> Command:
        """Do something at the first event of a kind, as soon as it is told."""
        with self._changed:
            self._first.append((matches, act))
        return self

    def wait_for(self, matches: Matches, what: str) -> Event:
        """Answers the first event of a kind, waiting for it if it has not been told yet."""

        def found() -> Event | None:
            return next((event for event in self.events if matches(event)), None)

        with self._changed:
            self._changed.wait_for(lambda: found() or self.process.poll() is not None, LIMIT_S)
            event = found()
        assert event is not None, f"no event told {what}\n{self.end() if self.is_over else ''}"
        return event

    @property
    def is_over(self) -> bool:
        """Answers whether the process has ended."""
        return self.process.poll() is not None

    def signal(self, number: signal.Signals) -> None:
        """Send the process a signal; nothing when it has ended."""
        self.process.send_signal(number)

    def end(self) -> Ended:
        """Wait for the end and answer how it was.

        A signal that could not be caught is answered as a shell would: 128 + its number.
        """
        try:
            code = self.process.wait(LIMIT_S)
        except subprocess.TimeoutExpired:
            self.kill()
            late = f"not over within {LIMIT_S:.0f} s: {' '.join(self.argv)}"
            raise AssertionError(late) from None
        self._close()
        ended = 128 - code if code < 0 else code
        return Ended(ended, "".join(self._lines), "".join(self._errors), tuple(self.events))

    def kill(self) -> None:
        """End it whatever state it is in, so that no test leaves one behind."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)
        self._close()

    def _close(self) -> None:
        for thread in self._threads:
            thread.join(10)
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()


@dataclass
class Rig:
    """A running fleet and the commands that a test starts on it.

    Attributes:
        states: where each operator of the test has a state directory of their own.
        is_well: a test proved at its end that the fleet can be used by the next one.
    """

    fleet: DemoFleet
    states: Path
    is_well: bool = True
    environment: dict[str, str] = field(default_factory=dict)
    _commands: list[Command] = field(default_factory=list)
    _until_end: ExitStack = field(default_factory=ExitStack)

    def start(
        self,
        *words: str,
        by: str = "first",
        inventory: Path | None = None,
        program: str = "rolling_deploy",
    ) -> Command:
        """Start a command; `by` names the operator, each on a machine of their own."""
        more = ["--inventory", str(inventory or self.fleet.inventory_path)]
        more += ["--state-dir", str(self.states / by)]
        if words[0] in ACTING:
            more += ["--output", "json"]
        argv = [sys.executable, "-m", program, *words, *more]
        ours = {n: v for n, v in os.environ.items() if not n.startswith(("GITHUB_", "GITLAB_"))}
        ours["PYTHONPATH"] = str(ROOT)
        command = Command(argv, {**ours, **self.environment})
        self._commands.append(command)
        return command

    def do(self, *words: str, by: str = "first", inventory: Path | None = None) -> Ended:
        """Run a command to its end."""
        return self.start(*words, by=by, inventory=inventory).end()

    def run(self, release: str, *words: str, by: str = "first") -> Ended:
        """Deploy a release, unattended."""
        return self.do("run", "--release", release, "--yes", *words, by=by)

    def status(self, inventory: Path | None = None) -> dict[str, Any]:
        """Answers what a machine that has never seen this rollout says of the fleet."""
        told = self.do("status", "--json", by="somebody-else", inventory=inventory)
        assert told.exit_code in {0, 1}, told
        seen: dict[str, Any] = json.loads(told.stdout)
        assert told.exit_code == int(seen["is_degraded"]), told
        return seen

    def expect_well(self, *releases: str) -> None:
        """The fleet is as it should be between two rollouts, every backend on its release.

        With one release given, that is every backend's; else one for each, in order.
        """
        seen = self.status()
        assert seen["problems"] == [], seen["problems"]
        assert seen["rollout"] is None
        versions = [backend["version"] for backend in seen["backends"]]
        expected = releases if len(releases) > 1 else releases * len(versions)
        assert versions == list(expected)
        assert all(backend["rotation"] == "in" for backend in seen["backends"])
        assert [self.release_on(node.name) for node in self.fleet.nodes] == list(expected)
        self.is_well = True

    def next_release(self) -> str:
        """Answers a good release that the fleet does not run now."""
        return FIRST_RELEASE if self.release() == NEXT_RELEASE else NEXT_RELEASE

    def release(self) -> str:
        """Answers the release that the fleet runs now."""
        return self.release_on(self.fleet.nodes[0].name)

    def release_on(self, backend: str) -> str:
        """Answers the release that a backend's `current` link leads to, as its own file says."""
        current = self.fleet.node(backend).root / "current"
        return (current / "VERSION").read_text(encoding="utf-8").strip()

    def inventory(self, name: str, *changes: tuple[str, str]) -> Path:
        """Write the fleet's inventory with texts replaced, beside it; answers its path."""
        text = self.fleet.inventory_path.read_text(encoding="utf-8")
        for old, new in changes:
            assert old in text, f"the inventory holds no {old!r}"
            text = text.replace(old, new)
        path = self.fleet.directory / f"inventory-{name}.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    @contextmanager
    def users(self, shape: LoadShape = USERS, urls: Sequence[str] | None = None) -> Iterator[Load]:
        """Let people use the site meanwhile; afterwards none of them may have noticed anything."""
        load = Load(urls or self.fleet.urls, shape)
        load.start()
        try:
            wait_until(lambda: load.snapshot().sessions_followed == shape.fast, "all are logged in")
            yield load
        finally:
            seen = load.stop()
        # Not reached when the test failed: its own reason is the one to be told.
        assert_nobody_noticed(seen)

    def managed(self) -> dict[str, bytes]:
        """Answers the bytes of every load balancer's managed file."""
        return {b.name: b.upstream_file.read_bytes() for b in self.fleet.balancers}

    def workers(self) -> dict[str, frozenset[int]]:
        """Answers the worker processes of every load balancer's nginx: new ones mean a reload."""
        return {b.name: workers_of(b) for b in self.fleet.balancers}

    def expect_no_reload(self, before: Mapping[str, frozenset[int]]) -> None:
        """No nginx has a worker that it did not have before; some may have retired since."""
        for name, workers in self.workers().items():
            assert workers <= before[name], f"{name} was reloaded"

    def balancer(self, name: str) -> Balancer:
        """Answers the load balancer of this name."""
        return next(b for b in self.fleet.balancers if b.name == name)

    def reload_by_hand(self, name: str) -> None:
        """Reload one nginx as a person does, and return when a new worker serves."""
        balancer = self.balancer(name)
        before = workers_of(balancer)
        os.kill(master_of(balancer), signal.SIGHUP)
        wait_until(lambda: workers_of(balancer) - before, f"{name} has new workers")

    def end_commands(self) -> None:
        """End what a failed test left running."""
        for command in self._commands:
            command.kill()
        self._commands.clear()


def master_of(balancer: Balancer) -> int:
    """Answers a load balancer's nginx master by its command line; its pid file may lie."""
    wanted = f"-p {balancer.prefix}/ "
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                line = (folder / "cmdline").read_bytes().decode("utf-8", "replace")
                if line.startswith("nginx: master process") and wanted in line:
                    return int(folder.name)
    raise AssertionError(f"nginx of {balancer.name} does not run")


def workers_of(balancer: Balancer) -> frozenset[int]:
    """Answers the children of a load balancer's nginx master."""
    master = master_of(balancer)
    children = Path(f"/proc/{master}/task/{master}/children").read_text(encoding="utf-8")
    return frozenset(map(int, children.split()))


def assert_nobody_noticed(seen: Summary) -> None:
    """No answer 5xx, none failed in any other way, no session or write lost or repeated."""
    assert seen.requests > 0
    assert seen.endings.get(Ending.STATUS_5XX, 0) == 0, seen.lines()
    assert seen.sessions_lost == 0, seen.lines()
    assert seen.is_clean, seen.lines()


def rotation_of(status: dict[str, Any]) -> dict[str, str]:
    """Answers, per backend, whether it is in or out and by whom."""
    return {backend["name"]: backend["rotation"] for backend in status["backends"]}


def versions_of(status: dict[str, Any]) -> dict[str, str]:
    """Answers, per backend, the version it serves."""
    return {backend["name"]: backend["version"] for backend in status["backends"]}


def outcomes(events: Sequence[Event], step: str) -> list[str]:
    """Answers how each step of a kind came out, in order of their ends."""
    steps = {e["seq"]: e["fact"]["step"]["type"] for e in events if e["event"] == "intended"}
    return [
        e["fact"]["result"]["outcome"]
        for e in events
        if e["event"] == "ended" and steps.get(e["fact"]["of"]) == step
    ]
