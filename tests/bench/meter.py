"""Run a command and write down what it cost: time, CPU of everything it started, memory.

A process of its own (`python meter.py REPORT ARGV...`), because it adopts what the command leaves
behind: the masters of ssh go into the background, and only whoever waits for them learns what
they cost.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36
SAMPLE_S = 0.05


def descendants(pid: int) -> Iterator[int]:
    """Answers every process below this one."""
    try:
        text = " ".join(p.read_text() for p in Path(f"/proc/{pid}/task").glob("*/children"))
    except OSError:
        return
    for child in map(int, text.split()):
        yield child
        yield from descendants(child)


def resident_kb(pid: int) -> int:
    """Answers the resident memory of a process, 0 when it is gone."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0
    return pages * resource.getpagesize() // 1024


def watch_memory(stop: threading.Event, peak_kb: list[int]) -> None:
    """Keep the highest sum over everything below this process in `peak_kb`."""
    while not stop.wait(SAMPLE_S):
        peak_kb[0] = max(peak_kb[0], sum(resident_kb(pid) for pid in descendants(os.getpid())))


def reap_all() -> None:
    """Wait until nothing that the command left behind is left."""
    try:
        while True:
            os.wait()
    except ChildProcessError:
        return


def main() -> int:
    """Run the command and write the report."""
    report, *argv = sys.argv[1:]
    if ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        return 1
    stop, peak_kb = threading.Event(), [0]
    watching = threading.Thread(target=watch_memory, args=(stop, peak_kb))
    began = time.monotonic()
    process = subprocess.Popen(argv)
    watching.start()
    status = process.wait()
    wall_s = time.monotonic() - began
    reap_all()
    stop.set()
    watching.join()
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    said = {
        "status": status,
        "wall_s": wall_s,
        "cpu_s": used.ru_utime + used.ru_stime,
        "peak_kb": max(peak_kb[0], used.ru_maxrss),
    }
    Path(report).write_text(json.dumps(said), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
