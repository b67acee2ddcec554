"""Editing files of one load balancer's nginx: all of them or none, tested by nginx, not loaded.

The scripts are `scripts/nginx_wiring*.sh`. Files are written as the managed file is: under the
machine's lock, through sudo where the machine asks for it, where symbolic links lead, with the
owner and mode they had, each by one rename. The originals are kept in `setup/backups` of the state
directory, in a folder named with the time, and never overwritten.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from time import monotonic

from rolling_deploy.remote.connection import Connection
from rolling_deploy.remote.nginx import COMMAND_LIMIT_MS, LOOK_LIMIT_MS, settings_arguments
from rolling_deploy.remote.script import Reply, run_script
from rolling_deploy.rollout.observed import Unreachable
from rolling_deploy.rollout.step import Outcome, Result
from rolling_deploy.settings import LoadBalancerSettings


@dataclass(frozen=True, slots=True)
class FileSeen:
    """One file of a load balancer.

    Attributes:
        real: where its path leads.
        data: its bytes; None when there is none, or it cannot be read (`closed` says so).
        closed: why it could not be written; empty when it could.
    """

    path: str
    real: str
    data: bytes | None
    closed: str


@dataclass(frozen=True, slots=True)
class FilesSeen:
    """What one look at a load balancer's files saw.

    Attributes:
        files: in the order they were asked for.
        edited: files that this tool edited and nobody touched since, and their folders, as left.
        unfinished: the folder of an edit that died in the middle; empty when there is none.
        is_busy: an earlier command of this tool still runs there.
    """

    files: tuple[FileSeen, ...]
    edited: frozenset[str] = frozenset()
    unfinished: str = ""
    is_busy: bool = False


@dataclass(frozen=True, slots=True)
class NewFile:
    """A file to be written.

    Attributes:
        old: sha256 of what it replaces, or `absent`.
    """

    path: str
    old: str
    data: bytes


class NginxWiring:
    """The files of one load balancer's nginx, for the one-time edits before its file is adopted."""

    def __init__(
        self, settings: LoadBalancerSettings, application: str, connection: Connection
    ) -> None:
        self._settings = settings
        self._application = application
        self._connection = connection

    def read(self, paths: Sequence[str]) -> FilesSeen | Unreachable:
        """Read these files byte for byte in one round trip; changes nothing, takes no lock."""
        reply = self._run("nginx_wiring_read", paths, limit_ms=LOOK_LIMIT_MS)
        if reply.outcome is not Outcome.DONE:
            return Unreachable(reply.detail)
        files = tuple(_seen(reply, number, path) for number, path in enumerate(paths, 1))
        return FilesSeen(
            files,
            frozenset(reply.all("edited")),
            reply.one("unfinished"),
            is_busy=reply.one("busy") == "1",
        )

    def apply(self, files: Sequence[NewFile]) -> Result:
        """Put all files in place or none, and ask nginx's own test; nothing is reloaded.

        Refused before anything is touched: a file is not the one that was seen, a file or folder
        cannot be written, or nginx refuses the configuration as it is already. Failed: nginx
        refused the result, or a file could not be written, and every file is back byte for byte.

        Crash: a journal in the state directory names the folder with the originals, the new texts
        and the digest of each. The next `apply` or `recover` ends it by what the digests say: all
        new and good in nginx's eyes counts as done, else all go back. Between two renames the
        files on disk may be ones that nginx refuses; the running nginx is not touched by that.
        """
        began = monotonic()
        words = [
            word
            for file in files
            for word in (
                file.path,
                file.old,
                hashlib.sha256(file.data).hexdigest(),
                str(len(file.data)),
            )
        ]
        stdin = b"".join(file.data for file in files)
        # Nginx's test may run three times: for an edit that died, before, and after.
        limit_ms = LOOK_LIMIT_MS + 3 * COMMAND_LIMIT_MS
        reply = self._run("nginx_wiring_apply", words, limit_ms=limit_ms, stdin=stdin)
        return _result(reply, began)

    def recover(self) -> Result:
        """Bring an edit that died in the middle to an end; done when there is none.

        The detail says what was done, and is empty when nothing had to be.

        Crash: as for `apply`; it can be repeated.
        """
        began = monotonic()
        limit_ms = LOOK_LIMIT_MS + COMMAND_LIMIT_MS
        return _result(self._run("nginx_wiring_recover", limit_ms=limit_ms), began)

    def _run(
        self, script: str, words: Sequence[str] = (), *, limit_ms: int, stdin: bytes = b""
    ) -> Reply:
        arguments = [*settings_arguments(self._settings, self._application), *words]
        return run_script(self._connection, script, arguments, stdin=stdin, limit_ms=limit_ms)


def _seen(reply: Reply, number: int, path: str) -> FileSeen:
    key = f"data{number}"
    data = reply.one(key).encode("utf-8", "surrogateescape") if key in reply.values else None
    return FileSeen(path, reply.one(f"real{number}"), data, reply.one(f"closed{number}"))


def _result(reply: Reply, began: float) -> Result:
    said = [text for text in (reply.one("recovered"), reply.detail) if text]
    return Result(reply.outcome, "; ".join(said), int((monotonic() - began) * 1000))
