"""Runs the small Java programs beside this file; each starts one Java and answers many things."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

PROGRAMS = Path(__file__).parent / "java"
LIMIT_S = 240.0
needs_java = pytest.mark.skipif(
    shutil.which("javac") is None, reason="no javac on this machine: nothing to compare with"
)


def run_java(program: str, *arguments: str | Path, class_path: Sequence[Path] = ()) -> str:
    """Answers what the program prints. It is compiled in memory, in the same start of Java."""
    argv = ["java", "-XX:TieredStopAtLevel=1", "-Dfile.encoding=UTF-8", "-Dstdout.encoding=UTF-8"]
    if class_path:
        argv += ["-cp", ":".join(map(str, class_path))]
    argv += [str(PROGRAMS / f"{program}.java"), *map(str, arguments)]
    done = subprocess.run(argv, capture_output=True, timeout=LIMIT_S, check=False)
    assert done.returncode == 0, done.stderr.decode(errors="replace")[-3000:]
    return done.stdout.decode()
