"""Kills a whole remote command at the n-th of the programs it runs: whatever it dies at."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from tests.local_connection import LocalConnection
from tests.programs import write_program


class Assassin:
    """Programs under their own names, in a folder of their own, that die with who called them.

    Attributes:
        calls: the file with a line for each call, the name and the arguments.
    """

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        folder.mkdir(exist_ok=True)
        self.folder, self.calls = folder, folder / "calls"
        wc, tr = shutil.which("wc"), shutil.which("tr")
        for name in names:
            real = shutil.which(name)
            assert real, name
            # Two of them may run at the same time, and each number is to be counted once.
            line = f"printf '%s ' {name} \"$@\" | {tr} '\\n' ' ' >&7; echo >&7"
            write_program(
                folder / name,
                f"#!/bin/sh\nsize=$( (flock 7; {line}; {wc} -l < {self.calls}) 7>>{self.calls})\n"
                f'if [ "$size" -eq "$RD_KILL_AT" ]; then kill -9 0; fi\nexec {real} "$@"\n',
            )

    def connection(self, at: int) -> LocalConnection:
        """Answers a connection whose commands die at call `at` (0: never)."""
        self.calls.write_bytes(b"")
        path = f"{self.folder}:{os.environ['PATH']}"
        return LocalConnection(environment={"PATH": path, "RD_KILL_AT": str(at)})

    def said(self) -> list[str]:
        """Answers the calls since the last connection was given."""
        return self.calls.read_text().splitlines()
