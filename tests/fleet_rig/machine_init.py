"""The first process of a machine of the rig: reaps what is orphaned, ends when its owner is gone.

Run by its path with nothing but the standard library. The kernel ends every other process of the
machine with this one, and its network and mounts with the last of them.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import sys


def reap() -> None:
    """Take note of every child that has ended."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def main() -> None:
    """Say `up`, then live until standard input ends."""
    socket.sethostname(sys.argv[1])
    signal.signal(signal.SIGCHLD, lambda *_: None)
    wakeup, wakeup_end = os.pipe()
    for end in (wakeup, wakeup_end):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(wakeup_end, warn_on_full_buffer=False)
    os.write(1, b"up\n")
    while True:
        ready, _, _ = select.select([0, wakeup], [], [])
        if wakeup in ready:
            os.read(wakeup, 512)
            reap()
        if 0 in ready and not os.read(0, 512):
            return


if __name__ == "__main__":
    main()
