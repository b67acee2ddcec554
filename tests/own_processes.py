"""Calls a function in a container of sorts, where it can leave what others would mind."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.fleet_rig.namespaces import why_not

CALL = """
import subprocess, sys
from importlib import import_module
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
module, name, *words = sys.argv[1:]
getattr(import_module(module), name)(*words)
"""
READY = "ready\n"


@contextmanager
def called_alone(function: Callable[..., None], *words: str) -> Iterator[None]:
    """Call it in namespaces of its own and go on when it says that it is `ready`.

    It is told that the block is over by the end of its standard input. What it leaves running ends
    with it. Only where `why_not` has no reason.

    Args:
        function: of a module, so that it can be found by its name.

    Raises:
        AssertionError: it raised; what it printed stands above.
    """
    assert not why_not()
    unshare = shutil.which("unshare")
    assert unshare
    alone = [unshare, "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]
    called = [sys.executable, "-c", CALL, function.__module__, function.__name__, *words]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [*alone, *called],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdin
        assert child.stdout
        try:
            assert child.stdout.readline() == READY
            yield
        finally:
            child.stdin.close()
            rest = child.stdout.read()
    assert child.returncode == 0, rest


def await_the_end() -> None:
    """Say that all is ready, and return when whoever called is done with it."""
    print(READY, end="", flush=True)
    sys.stdin.read()
