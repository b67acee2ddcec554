"""The `tomcat` upgrade strategy: a WAR into a CATALINA_BASE, with Tomcat stopped."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path

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
from rolling_deploy.remote.tomcat_config import graceful_lines
from rolling_deploy.rollout.observed import BackendSeen, Check, Unreachable
from rolling_deploy.rollout.step import Outcome, Result
from rolling_deploy.settings import BackendSettings, TomcatSettings

UPLOAD_LIMIT_MS = 3_600_000
"""Staging is before the first claim, so a slow line only takes time. A cut one ends earlier."""


class TomcatStrategy:
    """One application in one Tomcat. An artifact is called by the sha256 of the WAR."""

    def __init__(
        self, settings: TomcatSettings, backend: BackendSettings, connection: Connection
    ) -> None:
        self._settings = settings
        self._lines = Lines(backend.name)
        self._base = settings.catalina_base.rstrip("/")
        self._service = service_of(settings, backend, connection)
        self._places = [f"base={self._base}", f"context={settings.context}"]

    def artifact_id(self, release: str) -> str:
        """Answers the sha256 of the local WAR.

        Raises:
            PreflightRefused: it cannot be read.
        """
        try:
            return local.digest_of(self._path(release))
        except ArtifactWrong as wrong:
            raise PreflightRefused(str(wrong), where=self._lines.backend) from wrong

    def look(self) -> BackendSeen | Unreachable:
        """Answers what is deployed and what lies ready; a `dir:` has no WAR."""
        return self._service.look("look_tomcat", self._places)

    def stage(self, release: str, token: FenceToken) -> Result:
        """Secure the deployed WAR, send the new one beside it unless it is there already.

        Crash: a part that was sent has a dot-name, outside `webapps`.
        """
        began = time.monotonic()
        try:
            war = local.read_war(self._path(release))
        except ArtifactWrong as wrong:
            return Result(Outcome.REFUSED, str(wrong), took_ms(began))
        reply = self._service.change(
            "stage_tomcat",
            token,
            [*self._places, f"artifact={war.digest}"],
            limit_ms=STORE_LIMIT_MS,
        )
        if reply.outcome is not Outcome.DONE:
            return reply.result(took_ms(began))
        if reply.one("here"):
            return Result(Outcome.DONE, "here already", took_ms(began))
        return self._send(war, reply.one("store"), token).result(took_ms(began))

    def activate(self, artifact: str, token: FenceToken) -> Result:
        """Stop Tomcat, clear what it unpacked, put the WAR in place, start Tomcat.

        Crash: the script goes on; if the machine itself dies, Tomcat may be stopped with either
        WAR in place, and doing this again finishes.
        """
        return self._service.activate("activate_tomcat", artifact, token, *self._places)

    def can_activate(self, artifact: str) -> bool:
        """Answers whether it is a WAR; a directory without one cannot be kept and put back."""
        return not artifact.startswith("dir:")

    def prune(self, keep: frozenset[str], token: FenceToken) -> Result:
        """Remove earlier WARs; the deployed one, those in `keep` and the newest `keep` stay."""
        newest = self._settings.keep
        return self._service.prune("prune_tomcat", keep, newest, token, *self._places)

    def wait_until_free(self, limit_ms: int) -> None:
        """Return as soon as no earlier command of ours runs there, at the limit at the latest."""
        self._service.wait_until_free(limit_ms)

    def preflight(self, release: str | None = None) -> tuple[Check, ...]:
        """Answers whether staging, activating and going back can work there. Changes nothing."""
        facts = self._service.ask(
            "preflight_tomcat",
            self._places,
            *self._service.commands.programs(),
            limit_ms=LOOK_LIMIT_MS,
        )
        war = self._read_war(release)
        if not was_answered(facts):
            unseen = self._lines.not_checked("backend", facts.detail)
            return (artifact_line(self._lines, war), unseen)
        return (artifact_line(self._lines, war), *self._machine_lines(facts, war))

    def _machine_lines(self, facts: Reply, war: Artifact | ArtifactWrong | None) -> Iterable[Check]:
        lines, webapps = self._lines, f"{self._base}/webapps"
        yield from service_lines(self._service, facts)
        yield from _war_lines(lines, facts)
        if facts.one("webapps"):
            yield lines.refused("paths", f"`{webapps}` should be a directory, is not")
            return
        yield self._place_line(facts, webapps)
        deployed_bytes = facts.number("deployed_bytes")
        if isinstance(war, Artifact):
            # The staged WAR, the copy that is renamed, what Tomcat unpacks, and the way back.
            is_here = war.digest in facts.all("here")
            needed = war.bytes_packed * (1 if is_here else 2) + war.bytes_unpacked
            yield space_line(lines, facts.one("free_kb"), needed + deployed_bytes)
        yield self._way_back_line(facts)
        port = self._service.backend.probe_address.rpartition(":")[2]
        yield from graceful_lines(lines, facts.one("server_xml"), int(port))

    def _place_line(self, facts: Reply, webapps: str) -> Check:
        if facts.one("elsewhere"):
            detail = (
                f"`{webapps}` is on another file system than `{self._base}`, so a WAR cannot be "
                "put there in one move"
            )
            return self._lines.refused("paths", detail)
        if facts.one("descriptor"):
            detail = f"`{facts.one('descriptor')}` has a docBase, so Tomcat ignores the WAR"
            return self._lines.refused("paths", detail)
        return paths_line(self._lines, facts, f"{webapps}/{self._settings.context}.war")

    def _way_back_line(self, facts: Reply) -> Check:
        lines = self._lines
        if facts.one("unreadable"):
            return lines.refused("going back", f"cannot read `{facts.one('unreadable')}`")
        if facts.one("directory_only"):
            detail = f"`{facts.one('directory_only')}` has no WAR beside it: no way back to it"
            return lines.warning("going back", detail)
        if facts.one("war_is_link"):
            detail = f"the WAR is a link to `{facts.one('war_is_link')}` and becomes a file"
            return lines.warning("going back", detail)
        if not facts.one("deployed_bytes"):
            return lines.warning("going back", "nothing is deployed yet: no way back")
        return lines.ok("going back", "a copy of the deployed WAR is kept")

    def _send(self, war: Artifact, store: str, token: FenceToken) -> Reply:
        # The store is private; the copy that Tomcat reads gets the mode of the WAR it replaces.
        return send_file(
            self._service.connection,
            war.path,
            f"{store}/{war.digest}.war",
            mode=0o600,
            limit_ms=UPLOAD_LIMIT_MS,
            fence=fence_arguments(self._settings.state_dir, token),
        )

    def _path(self, release: str) -> Path:
        local.refuse_odd_release(release)
        return local.path_for(self._settings.artifact, release)

    def _read_war(self, release: str | None) -> Artifact | ArtifactWrong | None:
        if release is None:
            return None
        try:
            return local.read_war(self._path(release))
        except ArtifactWrong as wrong:
            return wrong


def _war_lines(lines: Lines, facts: Reply) -> Iterable[Check]:
    """Answers the lines for what Tomcat could not read, and what we could not clear away."""
    if facts.one("next_war_unreadable"):
        detail = (
            f"the deployed WAR is {facts.one('next_war_unreadable')}; `{facts.one('user')}` may "
            "not give the next one the same owner or group, so Tomcat could not read it: run "
            "`chmod o+r` on the deployed one, or log in as Tomcat's user or one of its group"
        )
        yield lines.refused("new WAR", detail)
    for work in facts.all("not_removable"):
        detail = f"`{work}` can only be moved aside: remove its `.gone-` copies by hand"
        yield lines.warning("work directory", detail)


def service_of(
    settings: TomcatSettings, backend: BackendSettings, connection: Connection
) -> Service:
    """Answers the process of this Tomcat, and how it is stopped and started."""
    marker = f"-Dcatalina.base={settings.catalina_base.rstrip('/')}"
    process = settings.process or marker
    return Service(
        backend,
        connection,
        settings.state_dir,
        process.rstrip("/") if process.startswith("-Dcatalina.base=") else process,
        process.rstrip("/") == marker,
        commands_for(settings),
    )


def commands_for(settings: TomcatSettings) -> Commands:
    """Answers stop and start: the inventory's own, the unit's, or those of `catalina.sh`."""
    unit = settings.unit
    script = [
        "env",
        f"CATALINA_BASE={settings.catalina_base.rstrip('/')}",
        f"CATALINA_HOME={settings.catalina_home}",
        *([f"JAVA_HOME={settings.java_home}"] if settings.java_home else []),
        f"{settings.catalina_home}/bin/catalina.sh",
    ]

    def argv(own: tuple[str, ...], word: str) -> tuple[str, ...]:
        return own or (("systemctl", word, unit) if unit else (*script, word))

    return Commands(
        argv(settings.stop, "stop"),
        argv(settings.start, "start"),
        settings.stop_limit_ms,
        settings.start_limit_ms,
        is_catalina=not (unit or settings.stop),
    )
