"""The command line with an end that is chosen to the entry: `python -m tests.fleet_rig.doomed`.

Run as a process of its own in place of `rolling_deploy`; `DOOM` says what happens to it:

| `DOOM` | what |
|---|---|
| `kill written N` | SIGKILL when entry N of the record is on this disk, and nowhere else |
| `kill told N` | SIGKILL when every load balancer that can be reached was given what is new in |
| | the record for the Nth time |
| `kill answered N` | SIGKILL when the Nth command that changes something has ended over there, |
| | before anything is written about it |
| `kill sent N` | SIGKILL shortly after the Nth command that changes something was sent |
| `freeze before N` | SIGSTOP right before the Nth command that changes something |
| `count` | nothing; at the end the counts are written to `DOOM_COUNTS` |

`N` may also be a name: the first entry of this kind, the first command that runs this script.

Nothing of the product knows of this. Entries are put on the disk one by one here, so that the
record can end between two that are usually written together.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rolling_deploy import cli
from rolling_deploy.operations.record import RecordJournal
from rolling_deploy.remote.connection import Answer
from rolling_deploy.remote.ssh import SshConnection
from rolling_deploy.rollout.facts import Fact
from rolling_deploy.rollout.journal import Entry
from rolling_deploy.state.record_file import RecordFile

READS = (
    *("look_", "preflight_", "nginx_facts", "nginx_generation", "nginx_look", "nginx_original"),
    *("nginx_pretest", "nginx_wait", "record_read", "service_free"),
)
"""Scripts that change nothing. Every other one counts, the record's and the lock's too."""
BEATS = "record_beat"
"""Comes by the clock, so it is left out: the counts would differ from run to run."""
SENT_S = 0.03
"""Long enough that sshd has started the command, short enough that most have not ended."""


class Doom:
    """What is to happen, and the counts."""

    def __init__(self, words: Sequence[str]) -> None:
        self.act, self.moment, self.place = (*words, "", "")[:3]
        self.kinds: list[str] = []
        self.told: list[str] = []
        self.scripts: list[str] = []
        self._lock = threading.Lock()

    def note_entry(self, kind: str) -> int:
        """Count an entry of the record; answers its number."""
        self.kinds.append(kind)
        return len(self.kinds)

    def note_script(self, name: str) -> int:
        """Count a command that changes something; answers its number."""
        with self._lock:
            self.scripts.append(name)
            return len(self.scripts)

    def is_here(self, moment: str, number: int, names: Sequence[str]) -> bool:
        """Answers whether this is the place; `names` are all so far, this one at its number."""
        name = names[number - 1]
        is_first = name == self.place and name not in names[: number - 1]
        return self.moment == moment and (is_first or self.place == str(number))

    def comes(self, moment: str, number: int, names: Sequence[str]) -> None:
        """End or stand still here, with every thread, if this is the place."""
        if self.is_here(moment, number, names):
            os.kill(os.getpid(), signal.SIGKILL if self.act == "kill" else signal.SIGSTOP)

    def soon(self, moment: str, number: int, names: Sequence[str]) -> None:
        """End shortly from now, whatever happens meanwhile, if this is the place."""
        if self.is_here(moment, number, names):
            timer = threading.Timer(SENT_S, os.kill, (os.getpid(), signal.SIGKILL))
            timer.daemon = True
            timer.start()


def script_in(argv: Sequence[str]) -> str:
    """Answers the script that a remote command runs, if it changes something."""
    for word in argv:
        name = word.removeprefix("rolling-deploy:")
        if name != word:
            return "" if name.startswith(READS) or name == BEATS else name
    return ""


def kind_of(line: bytes) -> str:
    """Answers the kind of the fact in a line of the record, with the step of an intent."""
    fact = json.loads(line)["fact"]
    step = f"-{fact['step']['type']}" if "step" in fact else ""
    return f"{fact['type']}{step}".lower()


def watch_record(doom: Doom) -> None:
    """Have every entry of the record counted."""
    put, append = RecordFile.put, RecordJournal.append

    def put_one_by_one(self: RecordFile, lines: Sequence[bytes], at: int) -> None:
        for line in lines:
            put(self, [line], at)
            at += len(line)
            doom.comes("written", doom.note_entry(kind_of(line)), doom.kinds)
        if not lines:
            put(self, lines, at)

    def append_and_tell(
        self: RecordJournal, facts: Sequence[Fact], *, before_acting: bool
    ) -> Sequence[Entry]:
        before = len(doom.kinds)
        entries = append(self, facts, before_acting=before_acting)
        if before_acting:
            doom.told.append(doom.kinds[before])
            doom.comes("told", len(doom.told), doom.told)
        return entries

    RecordFile.put = put_one_by_one  # type: ignore[method-assign]
    RecordJournal.append = append_and_tell  # type: ignore[method-assign]


def watch_commands(doom: Doom) -> None:
    """Have every remote command that changes something counted."""
    run = SshConnection.run

    def run_watched(
        self: SshConnection,
        argv: Sequence[str],
        *,
        stdin: bytes | Iterable[bytes] = b"",
        limit_ms: int,
        holds_stdin: bool = False,
    ) -> Answer:
        name = script_in(argv)
        if not name:
            return run(self, argv, stdin=stdin, limit_ms=limit_ms, holds_stdin=holds_stdin)
        number = doom.note_script(name)
        doom.comes("before", number, doom.scripts)
        doom.soon("sent", number, doom.scripts)
        answer = run(self, argv, stdin=stdin, limit_ms=limit_ms, holds_stdin=holds_stdin)
        doom.comes("answered", number, doom.scripts)
        return answer

    SshConnection.run = run_watched  # type: ignore[method-assign]


def main() -> Any:
    """Be the command line, until it comes."""
    doom = Doom(os.environ.get("DOOM", "count").split())
    watch_record(doom)
    watch_commands(doom)
    try:
        return cli.main()
    finally:
        counts = os.environ.get("DOOM_COUNTS", "")
        if counts:
            told = {"kinds": doom.kinds, "scripts": doom.scripts}
            Path(counts).write_text(json.dumps(told), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
