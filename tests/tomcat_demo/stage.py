"""The fleet of `make demo-tomcat`, its users, and what they notice while a release is tried."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rolling_deploy.demo.load import LoadShape
from rolling_deploy.demo.tally import Summary
from rolling_deploy.errors import InvariantBroken
from tests.shop_releases import CLASS_CHANGED, COMPATIBLE, OTHER_PREFIX, PASSWORD
from tests.shop_site import PASSWORD_ENV
from tests.shop_users import ShopLoad
from tests.tomcat_demo.parts import say
from tests.tomcat_fleet import TomcatFleet

THINK_MS = 10
"""Of each user for every user there is: about a hundred requests a second, however many click."""
CLICKS = 3
"""Of each user, on average, before and after a release."""
WAIT_LIMIT_S = 240.0
LOAD_LIMIT_S = 3_600.0
FAREWELL_S = 5.0
"""A command that was interrupted may finish its step for so long before it is ended."""
DONE, HALTED, REFUSED = 0, 4, 8


@dataclass(frozen=True, slots=True)
class Act:
    """One release, and how it has to end."""

    release: str
    flaw: str
    exit_code: int
    outcome: str


ACTS = (
    Act(COMPATIBLE.version, "sessions as before", DONE, "rolled"),
    Act(
        CLASS_CHANGED.version,
        "a field more in a class without serialVersionUID",
        REFUSED,
        "refused by the preflight, nothing touched",
    ),
    Act(
        OTHER_PREFIX.version,
        "looks for sessions under another prefix",
        HALTED,
        "halted at tomcat1 by the canary, taken back",
    ),
)


@dataclass(frozen=True, slots=True)
class Noticed:
    """What users noticed while a release was tried."""

    act: Act
    requests: int
    failed: int
    logged_out: int
    items_lost: int

    @classmethod
    def between(cls, act: Act, before: Summary, after: Summary) -> Noticed:
        """Answers what came about between two looks at the load."""

        def more(count: Callable[[Summary], int]) -> int:
            return count(after) - count(before)

        return cls(
            act,
            more(lambda seen: seen.requests),
            more(lambda seen: seen.failed),
            more(lambda seen: seen.sessions_lost),
            more(lambda seen: seen.writes_lost + seen.writes_repeated),
        )

    @property
    def is_nothing(self) -> bool:
        """Answers whether nobody noticed anything."""
        return not (self.failed or self.logged_out or self.items_lost)


class Stage:
    """The fleet, its users, and the commands of a person."""

    def __init__(self, fleet: TomcatFleet, users: int, output: str) -> None:
        shape = LoadShape(users, 0, 0, think_ms=THINK_MS * users, limit_s=LOAD_LIMIT_S)
        self.load = ShopLoad(fleet.urls, shape)
        self.fleet = fleet
        self.users = users
        self.output = output

    def log_everybody_in(self) -> int:
        """Start the users; answers how many are logged in."""
        self.load.start()
        self._wait_until(lambda seen: seen.sessions_followed >= self.users, "all are logged in")
        self.let_click()
        return self.load.snapshot().sessions_followed

    def let_click(self) -> None:
        """Return when everybody has clicked a few times more."""
        reached = self.load.snapshot().requests + CLICKS * self.users
        self._wait_until(lambda seen: seen.requests >= reached, "everybody has clicked")

    def _wait_until(self, holds: Callable[[Summary], bool], what: str) -> None:
        until = time.monotonic() + WAIT_LIMIT_S
        while not holds(self.load.snapshot()):
            if time.monotonic() > until:
                raise broken(f"not within {WAIT_LIMIT_S:.0f} s: {what}")
            threading.Event().wait(0.05)

    def play(self, act: Act) -> Noticed:
        """Try one release, and take it back if it was halted; answers what users noticed."""
        before = self.load.snapshot()
        tomcats = self.tomcats()
        self.command("run", "--release", act.release, "--yes", ends=act.exit_code)
        self._expect(act, tomcats)
        if act.exit_code == HALTED:
            self.command("abort", "--yes", ends=DONE)
        self.let_click()
        return Noticed.between(act, before, self.load.snapshot())

    def tomcats(self) -> list[object]:
        """Answers WAR and process of every Tomcat: the same again means not touched."""
        return [node.seen for node in self.fleet.nodes]

    def _expect(self, act: Act, before: list[object]) -> None:
        """Look whether the outcome that is told is the one that came about.

        Raises:
            InvariantBroken: it is another one.
        """
        touched = [now != then for now, then in zip(self.tomcats(), before, strict=True)]
        serves = [self.fleet.release_of(node.name) == act.release for node in self.fleet.nodes]
        is_so = {
            DONE: serves == [True, True],
            REFUSED: touched == [False, False],
            HALTED: (touched, serves) == ([True, False],) * 2 and self._halted_for() == "sessions",
        }[act.exit_code]
        if not is_so:
            raise broken(f"{act.release} should be {act.outcome}; on the Tomcats it is not so")

    def _halted_for(self) -> str:
        """Answers whether the rollout under way was halted for its `sessions`, as status says."""
        argv = self._argv(("status", "--json"), self.fleet.directory / "another-state")
        said = subprocess.run(argv, env=environment(), capture_output=True, check=False)
        state = json.loads(said.stdout)["rollout"]["state"]
        return "sessions" if "a session made on" in state else state

    def command(self, *words: str, ends: int) -> None:
        """Run the real command on this terminal.

        Raises:
            InvariantBroken: it ended otherwise than it has to.
        """
        say(f"\n$ rolling-deploy {shlex.join(words)}")
        argv = [*self._argv(words, self.fleet.directory / "state"), "--output", self.output]
        process = subprocess.Popen(argv, env=environment(), stdin=subprocess.DEVNULL)
        try:
            ended = process.wait()
        except BaseException:
            end_politely(process)
            raise
        if ended != ends:
            told = f"`rolling-deploy {shlex.join(words)}`"
            raise broken(f"{told} should end with {ends}, ended with {ended}")

    def _argv(self, words: tuple[str, ...], state: Path) -> list[str]:
        places = ["-i", str(self.fleet.inventory_path), "--state-dir", str(state)]
        return [sys.executable, "-m", "rolling_deploy", *words, *places]


def broken(what: str) -> InvariantBroken:
    """Answers that the demo did not go as it has to."""
    return InvariantBroken(
        what,
        where="the demo's fleet",
        site="the demo's fleet is gone; nothing else was touched",
        next_step="report this with what stands above",
    )


def environment() -> dict[str, str]:
    """Answers what a command needs beside ours: this checkout, and the canary's password."""
    root = Path(__file__).resolve().parents[1]
    return {**os.environ, "PYTHONPATH": str(root), PASSWORD_ENV: PASSWORD}


def end_politely(process: subprocess.Popen[bytes]) -> None:
    """Let an interrupted command end its step, then end it: a second signal ends it at once."""
    for number in (None, signal.SIGTERM, signal.SIGTERM, signal.SIGKILL):
        if number is not None:
            process.send_signal(number)
        try:
            process.wait(FAREWELL_S)
        except subprocess.TimeoutExpired:
            continue
        return
