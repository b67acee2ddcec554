"""The `release` upgrade strategy: an archive into `releases/VERSION`, and the `current` link."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable

from rolling_deploy.errors import PreflightRefused
from rolling_deploy.ports import FenceToken
from rolling_deploy.remote import artifact as local
from rolling_deploy.remote.artifact import Artifact, ArtifactWrong
from rolling_deploy.remote.connection import Connection
from rolling_deploy.remote.files import send_file
from rolling_deploy.remote.script import Reply, fence_arguments
from rolling_deploy.remote.service import (
    LOOK_LIMIT_MS,
    STORE_LIMIT_MS,
    Commands,
    Service,
    took_ms,
)
from rolling_deploy.remote.service_checks import (
    Lines,
    artifact_line,
    paths_line,
    service_lines,
    space_line,
    was_answered,
)
from rolling_deploy.rollout.observed import BackendSeen, Check, Unreachable
from rolling_deploy.rollout.step import Outcome, Result
from rolling_deploy.settings import BackendSettings, ReleaseSettings

UPLOAD_LIMIT_MS = 3_600_000
"""Staging is before the first claim, so a slow line only takes time. A cut one ends earlier."""
DIGITS_IN_NAME = 12
"""Of the sha256, in an artifact's name: 48 bits tell the builds of one version apart."""
_VERSION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]{0,100}")


class ReleaseStrategy:
    """One application in a releases folder. An artifact is called `VERSION@sha256`, cut short."""

    def __init__(
        self, settings: ReleaseSettings, backend: BackendSettings, connection: Connection
    ) -> None:
        self._settings = settings
        self._lines = Lines(backend.name)
        self._root = settings.root.rstrip("/")
        self._service = Service(
            backend,
            connection,
            settings.state_dir,
            settings.process,
            is_exact=False,
            own_commands=Commands(
                () if settings.restart else settings.stop,
                settings.restart or settings.start,
                settings.stop_limit_ms,
                settings.start_limit_ms,
            ),
        )
        self._places = [f"root={self._root}"]

    def artifact_id(self, release: str) -> str:
        """Answers the version with the beginning of the archive's sha256.

        Raises:
            PreflightRefused: the archive cannot be read, or the version cannot name a directory.
        """
        try:
            path = local.path_for(self._settings.artifact, _version(release))
            return _name(release, local.digest_of(path))
        except ArtifactWrong as wrong:
            raise PreflightRefused(str(wrong), where=self._lines.backend) from wrong

    def look(self) -> BackendSeen | Unreachable:
        """Answers where the link points; a directory that is not ours is called `dir:NAME`."""
        return self._service.look("look_release", self._places)

    def stage(self, release: str, token: FenceToken) -> Result:
        """Send the archive and unpack it beside the other releases, unless it is there already.

        Crash: a part that was sent or unpacked has a dot-name.
        """
        began = time.monotonic()
        try:
            archive = self._read(release)
        except ArtifactWrong as wrong:
            return Result(Outcome.REFUSED, str(wrong), took_ms(began))
        named = [*self._places, f"artifact={_name(release, archive.digest)}"]
        ready = self._service.change("stage_release", token, named, limit_ms=STORE_LIMIT_MS)
        if ready.outcome is not Outcome.DONE:
            return ready.result(took_ms(began))
        if ready.one("here"):
            return Result(Outcome.DONE, "here already", took_ms(began))
        sent = self._send(archive, token)
        if sent.outcome is not Outcome.DONE:
            return sent.result(took_ms(began))
        unpacked = self._service.change(
            "unpack_release",
            token,
            [
                *named,
                f"version={release}",
                f"digest={archive.digest}",
                f"suffix={local.archive_suffix(archive.path)}",
            ],
            limit_ms=STORE_LIMIT_MS,
        )
        return unpacked.result(took_ms(began))

    def activate(self, artifact: str, token: FenceToken) -> Result:
        """Stop, switch the link, start; or switch the link and restart, where that is configured.

        Crash: the script goes on; if the machine itself dies, the link points at one release or
        the other, never at nothing, and doing this again finishes.
        """
        arguments = [*self._places, f"is_restart={int(bool(self._settings.restart))}"]
        return self._service.activate("activate_release", artifact, token, *arguments)

    def can_activate(self, artifact: str) -> bool:
        """Answers yes: the link can be pointed at any directory that is there."""
        return bool(artifact)

    def prune(self, keep: frozenset[str], token: FenceToken) -> Result:
        """Remove earlier releases of ours; the deployed one, `keep` and the newest few stay."""
        newest = self._settings.keep
        return self._service.prune("prune_release", keep, newest, token, *self._places)

    def wait_until_free(self, limit_ms: int) -> None:
        """Return as soon as no earlier command of ours runs there, at the limit at the latest."""
        self._service.wait_until_free(limit_ms)

    def preflight(self, release: str | None = None) -> tuple[Check, ...]:
        """Answers whether staging, activating and going back can work there. Changes nothing."""
        path = local.path_for(self._settings.artifact, release or "")
        facts = self._service.ask(
            "preflight_release",
            [*self._places, f"suffix={local.archive_suffix(path)}"],
            *self._service.commands.programs(),
            limit_ms=LOOK_LIMIT_MS,
        )
        archive = self._try_read(release)
        if not was_answered(facts):
            unseen = self._lines.not_checked("backend", facts.detail)
            return (artifact_line(self._lines, archive), unseen)
        found = archive if isinstance(archive, Artifact) else None
        return (
            artifact_line(self._lines, archive),
            *service_lines(self._service, facts),
            *self._machine_lines(facts, found, release or ""),
        )

    def _machine_lines(
        self, facts: Reply, archive: Artifact | None, release: str
    ) -> Iterable[Check]:
        lines = self._lines
        if facts.one("root"):
            yield lines.refused("paths", f"`{self._root}` should be a directory, is not")
            return
        yield paths_line(lines, facts, self._root)
        if archive is not None and _name(release, archive.digest) not in facts.all("here"):
            needed = archive.bytes_packed + archive.bytes_unpacked
            yield space_line(lines, facts.one("free_kb"), needed)
        link = f"`{self._root}/current`"
        match facts.one("link"):
            case "directory":
                yield lines.refused("going back", f"{link} should be a symbolic link, is not")
            case "dangling":
                yield lines.warning("going back", f"{link} points at nothing: no way back")
            case "missing":
                yield lines.warning("going back", f"there is no {link} yet: no way back")
            case _:
                yield lines.ok("going back", "the release that the link points at stays")

    def _send(self, archive: Artifact, token: FenceToken) -> Reply:
        suffix = local.archive_suffix(archive.path)
        return send_file(
            self._service.connection,
            archive.path,
            f"{self._root}/releases/.incoming/{archive.digest}{suffix}",
            mode=0o600,
            limit_ms=UPLOAD_LIMIT_MS,
            fence=fence_arguments(self._settings.state_dir, token),
        )

    def _read(self, release: str) -> Artifact:
        return local.read_archive(local.path_for(self._settings.artifact, _version(release)))

    def _try_read(self, release: str | None) -> Artifact | ArtifactWrong | None:
        if release is None:
            return None
        try:
            return self._read(release)
        except ArtifactWrong as wrong:
            return wrong


def _version(release: str) -> str:
    if not _VERSION.fullmatch(release):
        raise ArtifactWrong(
            f"release `{release}` should be letters, digits and `._+-`, as it names a directory"
        )
    return release


def _name(release: str, digest: str) -> str:
    return f"{release}@{digest[:DIGITS_IN_NAME]}"
