"""The process that owns every server of a demo fleet, and ends them all when it should.

It is a process of its own because only a parent can be sure of its children: it is the reaper
of everything that starts below it, also of daemons that an SSH session has left behind. When
its stdin closes, which is what any death of its owner does, it ends all of them.

`Keeper` is the owner's side; `python -m rolling_deploy.demo.keeper` is the process.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
TERM_LIMIT_S = 3.0
KILL_LIMIT_S = 5.0
REPLY_SLACK_S = 10.0


class KeeperGone(Exception):
    """The keeper process has ended."""


class Keeper:
    """The owner's side: starts programs below the keeper and asks how they ended."""

    def __init__(self, *, removes: Path | None = None) -> None:
        """Start the keeper process.

        Args:
            removes: a directory that it deletes after everything has ended.
        """
        argv = [sys.executable, "-m", "rolling_deploy.demo.keeper"]
        self._process = subprocess.Popen(  # ourselves
            [*argv, str(removes)] if removes else argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # Ctrl-C reaches the whole foreground group; the keeper has to outlive its owner.
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        )
        self._lock = threading.Lock()

    @property
    def pid(self) -> int:
        """Answers the keeper's own process id."""
        return self._process.pid

    def start(
        self, argv: Sequence[str], *, log: Path, environment: Mapping[str, str] | None = None
    ) -> int:
        """Start a program, its output appended to the log; answers its process id.

        Raises:
            OSError: it cannot be started.
            KeeperGone: there is no keeper any more.
        """
        reply = self._ask(
            {"do": "start", "argv": list(argv), "log": str(log), "env": dict(environment or {})}
        )
        if "error" in reply:
            raise OSError(reply["error"])
        return int(reply["pid"])

    def wait(self, pid: int, limit_s: float) -> int | None:
        """Answers the exit status of a program started here, None when it still runs then."""
        status = self._ask({"do": "wait", "pid": pid, "limit_s": limit_s})["status"]
        return None if status is None else int(status)

    def processes(self) -> list[int]:
        """Answers every process that runs below the keeper now."""
        return [int(pid) for pid in self._ask({"do": "list"})["pids"]]

    def stop(self) -> bool:
        """End everything and the keeper; answers False when it had been killed before."""
        try:
            left = self._ask({"do": "stop"})["left"]
        except KeeperGone:
            left = [self.pid]
        self._close()
        return not left

    def _close(self) -> None:
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        try:
            self._process.wait(TERM_LIMIT_S + KILL_LIMIT_S + REPLY_SLACK_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None or stdin.closed:
            raise KeeperGone("the fleet is not running")
        with self._lock:
            try:
                stdin.write(json.dumps(request).encode() + b"\n")
                stdin.flush()
                line = stdout.readline()
            except OSError:
                line = b""
        if not line:
            raise KeeperGone("the process that keeps the fleet's servers has ended")
        reply: dict[str, Any] = json.loads(line)
        return reply


class Reaper:
    """The keeper process's side."""

    def __init__(self, wakeup: int) -> None:
        """Take the pipe that gets a byte for each signal."""
        self.wakeup = wakeup
        self.is_told_to_end = False
        self.statuses: dict[int, int] = {}

    def sleep(self, limit_s: float, *others: int) -> list[int]:
        """Wait for a signal, or for something to read from the others; answers which of these.

        Children that have ended meanwhile are reaped.
        """
        ready, _, _ = select.select([self.wakeup, *others], [], [], max(limit_s, 0))
        if self.wakeup in ready:
            ready.remove(self.wakeup)
            self.is_told_to_end |= signal.SIGTERM in os.read(self.wakeup, 512)
        self.reap()
        return ready

    def start(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Start what is asked for; answers its pid or the error."""
        try:
            with Path(request["log"]).open("ab") as log:
                # This process has one thread, so the code between fork and exec is safe.
                child = subprocess.Popen(  # argv comes from our own fleet
                    request["argv"],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env={**os.environ, **request["env"]},
                    start_new_session=True,
                    preexec_fn=end_with_parent,  # noqa: PLW1509 # see above
                )
        except OSError as problem:
            return {"error": str(problem)}
        # We reap by ourselves; Popen must not.
        child.returncode = 0
        return {"pid": child.pid}

    def reap(self) -> None:
        """Take note of every child that has ended, ours by birth or by adoption."""
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if not pid:
                    return
                self.statuses[pid] = os.waitstatus_to_exitcode(status)

    def end_all(self) -> list[int]:
        """End every process below us, first politely; answers what is left."""
        for number, limit_s in ((signal.SIGTERM, TERM_LIMIT_S), (signal.SIGKILL, KILL_LIMIT_S)):
            until = time.monotonic() + limit_s
            signalled: set[int] = set()
            while pids := descendants(os.getpid()):
                for pid in pids if number == signal.SIGKILL else set(pids) - signalled:
                    signalled.add(pid)
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, number)
                        os.kill(pid, signal.SIGCONT)  # a frozen process would never see the TERM
                if time.monotonic() > until:
                    break
                # The end of a child wakes us; that of a grandchild does not.
                self.sleep(0.05)
        self.reap()
        return descendants(os.getpid())

    def wait(self, pid: int, limit_s: float) -> int | None:
        """Answers the exit status of a child, None when it has none within the limit."""
        until = time.monotonic() + limit_s
        while pid not in self.statuses and not self.is_told_to_end:
            # The owner sends nothing while it waits: something to read is its end.
            if time.monotonic() > until or self.sleep(until - time.monotonic(), 0):
                break
        return self.statuses.get(pid)

    def obey(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Answers one request of the owner."""
        match request["do"]:
            case "start":
                return self.start(request)
            case "wait":
                return {"status": self.wait(request["pid"], request["limit_s"])}
            case "list":
                return {"pids": descendants(os.getpid())}
            case "stop":
                return {"left": self.end_all()}
            case unknown:
                return {"error": f"unknown request {unknown}"}


def prctl(option: int, value: int) -> None:
    """Set one of Linux's process options for this process."""
    ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def end_with_parent() -> None:
    """Have this process ended by the kernel when its parent dies. Runs between fork and exec."""
    prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def descendants(root: int) -> list[int]:
    """Answers every living process below this one, zombies left out."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                # pid (name) state ppid …; the name may hold blanks and brackets
                state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
                if state != "Z":
                    children.setdefault(int(parent), []).append(int(folder.name))
    found: list[int] = []
    pending = [root]
    while pending:
        below = children.get(pending.pop(), [])
        found += below
        pending += below
    return sorted(found)


def serve(reaper: Reaper) -> None:
    """Obey the owner until it asks to stop or goes away."""
    pending = b""
    while not reaper.is_told_to_end:
        if not reaper.sleep(1.0, 0):
            continue
        data = os.read(0, 65_536)
        if not data:
            return
        *lines, pending = (pending + data).split(b"\n")
        for line in lines:
            reply = reaper.obey(json.loads(line))
            with contextlib.suppress(OSError):
                os.write(1, json.dumps(reply).encode() + b"\n")


def main() -> None:
    """Be the keeper: own what is started, end it when the owner is gone."""
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    wakeup, wakeup_end = os.pipe()
    for end in (wakeup, wakeup_end):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(wakeup_end, warn_on_full_buffer=False)
    # Handlers that do nothing, not SIG_IGN: ignoring would be inherited by every server.
    for name in ("SIGTERM", "SIGCHLD", "SIGINT", "SIGHUP", "SIGPIPE"):
        signal.signal(signal.Signals[name], lambda *_: None)
    reaper = Reaper(wakeup)
    try:
        serve(reaper)
    finally:
        reaper.end_all()
        if len(sys.argv) > 1:
            shutil.rmtree(sys.argv[1], ignore_errors=True)


if __name__ == "__main__":
    main()
