"""The local file of a record: append-only, fsynced line by line, read back without repair."""

from __future__ import annotations

import errno
import fcntl
import os
import shlex
import stat
from collections.abc import Sequence
from pathlib import Path

from rolling_deploy.errors import RecordWrong, RolloutHeld
from rolling_deploy.rollout.journal import Chain, read_chain


def default_state_dir() -> Path:
    """Answers where records are kept unless `--state-dir` says otherwise (XDG base directories)."""
    root = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(root) / "rolling-deploy"


class Records:
    """The records of one application on this disk. Implements `ports.Records`."""

    def __init__(self, state_dir: Path, application: str) -> None:
        self._state_dir = state_dir
        self._application = application

    def file(self, rollout: str) -> RecordFile:
        """Answers one rollout's record, which need not be there."""
        return RecordFile(self._state_dir, self._application, rollout)

    def newest(self) -> str:
        """Answers the rollout that was opened last on this disk; empty when there is none."""
        folder = self._state_dir / self._application
        names = [path.stem for path in folder.glob("r-*.jsonl")] if folder.is_dir() else []
        return max(names, default="")


class RecordFile:
    """One rollout's record on this disk. Implements `ports.LocalRecord`.

    Held by one process at a time.

    Crash: a half-written last line is dropped, and overwritten by the next append.
    """

    def __init__(self, state_dir: Path, application: str, rollout: str) -> None:
        self.path = state_dir / application / f"{rollout}.jsonl"
        self._fd: int | None = None

    def read(self) -> Chain:
        """Answers the chain in the file; an empty one when there is no file.

        Raises:
            RecordWrong: it cannot be read, is a link, or was changed after it was written.
        """
        try:
            self._refuse_unless_private()
            # Like `hold`: a record elsewhere, under another name, would not be the one we hold.
            fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            with os.fdopen(fd, "rb") as file:
                content = file.read()
        except FileNotFoundError:
            return Chain()
        except OSError as error:
            raise self._wrong("cannot be read", error) from None
        return read_chain(content, str(self.path))

    def hold(self) -> None:
        """Take the file for this process until it ends; once it is held, nothing more.

        Raises:
            RolloutHeld: another process on this machine has it.
            RecordWrong: it cannot be created.
        """
        if self._fd is not None:
            return
        try:
            _make_private(self.path.parent)
            self._refuse_unless_private()
            is_new = not self.path.exists()
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            self._fd = os.open(self.path, flags, 0o600)
            if is_new:
                _sync_folder(self.path.parent)
        except OSError as error:
            raise self._wrong("cannot be written", error) from None
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.close()
            raise RolloutHeld(
                "another process on this machine is working on this rollout",
                where=str(self.path),
                site="whoever holds it answers for the site",
                next_step="rolling-deploy status",
                is_passing=True,
            ) from None

    def is_held_elsewhere(self) -> bool:
        """Answers whether a living process on this machine works on this rollout.

        The kernel gives the lock up with the process, so this is never stale.
        """
        try:
            fd = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return True
        _unlock_and_close(fd)
        return False

    def put(self, lines: Sequence[bytes], at: int) -> None:
        """Write lines at byte `at`, the end of what is valid, and sync them to the disk.

        Raises:
            RecordWrong: the disk did not take them; what was half written is cut off again.
        """
        if self._fd is None:
            self.hold()
        assert self._fd is not None  # noqa: S101 # narrows the type; hold() raises otherwise
        try:
            os.ftruncate(self._fd, at)
            os.lseek(self._fd, at, os.SEEK_SET)
            data = memoryview(b"".join(lines))
            while data:
                data = data[os.write(self._fd, data) :]
            os.fsync(self._fd)
        except OSError as error:
            self._cut(at)
            raise self._wrong("did not take the next entries", error) from None

    def _refuse_unless_private(self) -> None:
        """A record decides what is done, so nobody else may be able to put one there.

        Raises:
            RecordWrong: its directory belongs to another user, or everybody may write in it.
            OSError: it cannot be looked at.
        """
        folder = self.path.parent
        about = folder.stat()
        problem = ""
        if about.st_uid not in {0, os.geteuid()}:
            problem = f"belongs to another user (uid {about.st_uid})"
        elif about.st_mode & stat.S_IWOTH:
            problem = "may be written by everybody"
        if problem:
            raise RecordWrong(
                f"the directory of the local record {problem}",
                where=str(folder),
                site="nothing more was done; what served before this still serves",
                next_step=f"make it yours alone (`chmod 700 {shlex.quote(str(folder))}`), or use "
                "`--state-dir`",
            )

    def _cut(self, at: int) -> None:
        try:
            if self._fd is not None:
                os.ftruncate(self._fd, at)
        except OSError:
            return  # a torn last line is dropped when the record is read

    def _wrong(self, what: str, error: OSError) -> RecordWrong:
        if error.errno == errno.ELOOP:
            return RecordWrong(
                "the local record should be a file, is a link",
                where=str(self.path),
                site="nothing more was done; what served before this still serves",
                next_step="put the file itself there, or use `--state-dir`, then "
                "`rolling-deploy status`",
            )
        return RecordWrong(
            f"the local record {what}: {error.strerror or error}",
            where=str(self.path),
            site="nothing more was done; what served before this still serves",
            next_step="make room or use `--state-dir`, then `rolling-deploy resume`",
        )

    def close(self) -> None:
        """Give the file up."""
        if self._fd is not None:
            _unlock_and_close(self._fd)
            self._fd = None


def _unlock_and_close(fd: int) -> None:
    """A child that another thread has just forked may still have the file open: unlock it for all.

    Closing alone gives the lock up only with the last descriptor (flock(2)).
    """
    fcntl.flock(fd, fcntl.LOCK_UN)
    os.close(fd)


def _make_private(folder: Path) -> None:
    """Make a directory and those above it, private whatever the umask is."""
    if not folder.is_dir():
        _make_private(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
