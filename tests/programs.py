"""Small programs that tests write and then run."""

from __future__ import annotations

import subprocess
from pathlib import Path

_WRITE = 'cat > "$1" && chmod 755 "$1"'


def write_program(path: Path, text: str) -> None:
    """Write an executable file that can be run at once, whatever else this process does.

    Written by a child: a file that this process has open for writing is also open, for a moment,
    in whatever another thread forks just then, and the kernel runs no file that is open for
    writing ("Text file busy").
    """
    subprocess.run(["sh", "-c", _WRITE, "sh", str(path)], input=text.encode(), check=True)
