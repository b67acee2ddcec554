"""Sending a file to a machine: whole and verified, or not at all."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path

from rolling_deploy.remote.connection import Connection
from rolling_deploy.remote.script import Reply, run_script
from rolling_deploy.rollout.step import Outcome

CHUNK_BYTES = 128 * 1024
"""Between 32 and 256 KB the size made no difference to the speed of an upload."""

Progress = Callable[[int, int], None]
"""Told how many bytes have been handed to the connection, and of how many."""


def digest_of(local: Path) -> str:
    """Answers the sha256 of a local file in hex, computed once as long as the file is the same.

    Raises:
        OSError: it cannot be read.
    """
    state = local.stat()
    return _digest(str(local.absolute()), state.st_ino, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=64)
def _digest(path: str, _inode: int, _size: int, _changed_ns: int) -> str:
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def send_file(  # noqa: PLR0913 - all but three are keywords
    connection: Connection,
    local: Path,
    remote_path: str,
    *,
    mode: int,
    limit_ms: int,
    progress: Progress | None = None,
    fence: Sequence[str] = (),
) -> Reply:
    """Put a local file on the machine, in one round trip.

    The directory is created if it is missing (readable by all), a target that has the same
    sha256 is left alone except for its mode (`skipped` stands in the values then), and a
    symbolic link at `remote_path` is replaced, not followed.

    Args:
        remote_path: absolute.
        mode: the file's permissions, for instance `0o644`.
        progress: called from a thread of the connection's after each piece was handed over; when
            the file is skipped it stops early.
        fence: `script.fence_arguments`, to take the machine's lock and be refused when somebody
            has taken over; without it only the atomic rename protects.

    Crash: the target name holds what it held before, or the whole new file. A part that was left
    behind has a dot-name, and is removed by the next send to the same target.
    """
    try:
        size = local.stat().st_size
        digest = digest_of(local)
    except OSError as error:
        detail = f"cannot read `{local}`: {error.strerror}"
        return Reply(Outcome.FAILED, detail, was_started=False)
    suffix = secrets.token_hex(4)
    return run_script(
        connection,
        "receive",
        [remote_path, f"{mode:04o}", str(size), digest, suffix, *fence],
        stdin=_pieces(local, size, progress),
        limit_ms=limit_ms,
    )


def send_bytes(
    connection: Connection,
    content: bytes,
    remote_path: str,
    *,
    mode: int,
    limit_ms: int,
    fence: Sequence[str] = (),
) -> Reply:
    """Put these bytes on the machine as a file, as `send_file` does. They touch no local disk.

    Crash: as for `send_file`.
    """
    digest, suffix = hashlib.sha256(content).hexdigest(), secrets.token_hex(4)
    return run_script(
        connection,
        "receive",
        [remote_path, f"{mode:04o}", str(len(content)), digest, suffix, *fence],
        stdin=content,
        limit_ms=limit_ms,
    )


def _pieces(local: Path, size: int, progress: Progress | None) -> Iterator[bytes]:
    sent = 0
    with local.open("rb") as file:
        while piece := file.read(CHUNK_BYTES):
            yield piece
            sent += len(piece)
            if progress is not None:
                progress(sent, size)
