"""The wiring of a Tomcat as an upgrade strategy: session manager, its jars, a graceful stop.

What is deployed is a set of files: those that setup touches, no others. It is called by the sha256
of a manifest that names each path and its digest, so that going back is another set of the same
paths, byte for byte, and what setup added is gone again.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterable

from rolling_deploy.errors import PreflightRefused
from rolling_deploy.ports import FenceToken
from rolling_deploy.remote.artifact import ArtifactWrong
from rolling_deploy.remote.connection import Connection
from rolling_deploy.remote.files import send_bytes, send_file
from rolling_deploy.remote.script import Reply, fence_arguments
from rolling_deploy.remote.service import LOOK_LIMIT_MS, STORE_LIMIT_MS, took_ms
from rolling_deploy.remote.service_checks import Lines, service_lines, was_answered
from rolling_deploy.remote.tomcat import UPLOAD_LIMIT_MS, service_of
from rolling_deploy.remote.tomcat_version import version_in
from rolling_deploy.remote.wiring_checks import (
    Shared,
    graceful_stop_lines,
    jar_line,
    machine_lines,
    merged_line,
    refuse_wrong_jar,
    sharing_lines,
)
from rolling_deploy.remote.wiring_files import Asked, NotWired, Wanted
from rolling_deploy.remote.wiring_marks import mark_of
from rolling_deploy.rollout.observed import BackendSeen, Check, Unreachable
from rolling_deploy.rollout.step import Outcome, Result
from rolling_deploy.settings import BackendSettings, NodeWiring, TomcatSettings
from rolling_deploy.wiring import Manifest

_HEX = frozenset("0123456789abcdef")


class WiringStrategy:
    """The wiring of one Tomcat. Safe to use from several threads."""

    def __init__(  # noqa: PLR0913 # all but five are keywords
        self,
        settings: TomcatSettings,
        backend: BackendSettings,
        connection: Connection,
        wiring: NodeWiring,
        shown: NodeWiring,
        *,
        application: str,
        inventory: str,
    ) -> None:
        """Take the wiring for this machine, and the same with its secrets masked.

        Args:
            application, inventory: whose wiring it is, for the setups of other inventories.
        """
        self._settings = settings
        self._lines = Lines(backend.name)
        self._service = service_of(settings, backend, connection)
        base = settings.catalina_base.rstrip("/")
        ports = tuple(int(port) for port in self._service.guarded_ports)
        self._asked = Asked(wiring, shown, base, ports)
        self._mark = mark_of(self._asked, application, inventory)
        self._places = [
            f"application={application}",
            f"base={base}",
            f"home={settings.catalina_home.rstrip('/')}",
            f"context={settings.context}",
            f"paths={' '.join(self._asked.paths)}",
            f"private={' '.join(self._asked.private)}",
        ]
        self._guard = threading.Lock()
        self._wanted: Wanted | None = None

    # The strategy.

    def artifact_id(self, release: str) -> str:  # noqa: ARG002 # a label; the files are what counts
        """Answers what the files are called once nothing is missing; what they are now if so.

        The machine is asked once. A wiring that is made anew from itself is the same, so another
        life of the rollout gets the same answer, also when only some files are in place.

        Raises:
            PreflightRefused: the files cannot be read or merged; the file and line are in it.
        """
        return self._make().manifest.name

    def look(self) -> BackendSeen | Unreachable:
        """Answers which set of files is in place, and which lie ready."""
        return self._service.look("look_wiring", self._places)

    def stage(self, release: str, token: FenceToken) -> Result:
        """Secure the files as they are, send what is missing; refused if one was edited meanwhile.

        Crash: a part that was sent has a dot-name in the store.
        """
        began = time.monotonic()
        try:
            planned = self.artifact_id(release)
            wanted, _ = self._read()
            if wanted.manifest.name != planned:
                names = ", ".join(f"`{path}`" for path in self._edited(wanted)) or "a file"
                reason = f"{names} was changed since the wiring was planned: plan it again"
                return Result(Outcome.REFUSED, f"{reason}; nothing was changed", took_ms(began))
        except (NotWired, PreflightRefused) as wrong:
            return Result(Outcome.REFUSED, str(wrong), took_ms(began))
        reply = self._service.change(
            "stage_wiring",
            token,
            [
                *self._places,
                f"expected={wanted.current.name}",
                f"artifact={wanted.manifest.name}",
                f"wanted={wanted.manifest.text}",
                f"mark={self._mark.text}",
            ],
            limit_ms=STORE_LIMIT_MS,
        )
        if reply.outcome is not Outcome.DONE:
            return reply.result(took_ms(began))
        return self._send_missing(wanted, reply, token, began)

    def activate(self, artifact: str, token: FenceToken) -> Result:
        """Stop Tomcat, put each file of the set in place, start Tomcat.

        Crash: the script goes on; if the machine itself dies, Tomcat may be stopped with some of
        the files in place, and doing this again, or with the earlier set, finishes.
        """
        return self._service.activate("activate_wiring", artifact, token, *self._places)

    def can_activate(self, artifact: str) -> bool:
        """Answers whether it is the name of a set of files."""
        return len(artifact) == 64 and set(artifact) <= _HEX

    def prune(self, keep: frozenset[str], token: FenceToken) -> Result:
        """Remove earlier sets; the one in place, those in `keep` and the newest `keep` stay."""
        newest = self._settings.keep
        return self._service.prune("prune_wiring", keep, newest, token, *self._places)

    def wait_until_free(self, limit_ms: int) -> None:
        """Return as soon as no earlier command of ours runs there, at the limit at the latest."""
        self._service.wait_until_free(limit_ms)

    def preflight(self, release: str | None = None) -> tuple[Check, ...]:  # noqa: ARG002 # as above
        """Answers whether staging, activating and going back can work there. Changes nothing."""
        return tuple(self._checks())

    # What setup shows before it asks.

    def differences(self) -> tuple[str, ...]:
        """Answers a unified diff, secrets masked, and a line for each jar; empty: nothing to do.

        Raises:
            PreflightRefused: as for `artifact_id`.
        """
        return self._make().differences()

    def missing(self) -> tuple[str, ...]:
        """Answers a sentence for each file that is not as asked, or that Tomcat has not read.

        Raises:
            PreflightRefused: as for `artifact_id`.
        """
        return self._make().missing()

    def _make(self) -> Wanted:
        """What is wanted, made from what is there; asked once."""
        with self._guard:
            if self._wanted is None:
                try:
                    wanted, _ = self._read()
                    _ = wanted.manifest
                except NotWired as wrong:
                    raise PreflightRefused(str(wrong), where=self._lines.backend) from wrong
                self._wanted = wanted
            return self._wanted

    def _read(self) -> tuple[Wanted, Shared]:
        """What is there now, asked anew, and who else has to do with it."""
        self._asked.refuse_odd_paths()
        reply = self._service.ask(
            "read_wiring",
            [*self._places, f"shown={' '.join(self._asked.texts)}"],
            limit_ms=LOOK_LIMIT_MS,
        )
        if reply.outcome is not Outcome.DONE:
            raise NotWired(reply.detail)
        lines = (line.partition(" ") for line in reply.all("digest"))
        current = Manifest({path: digest for digest, _, path in lines})
        contents = (text.encode("utf-8", "surrogateescape") for text in reply.all("content"))
        texts = dict(zip(reply.all("path"), contents, strict=True))
        if current.digests.keys() != set(self._asked.paths):
            raise NotWired("the machine's answer about the files is not understood")
        for path, text in texts.items():
            if hashlib.sha256(text).hexdigest() != current.digests[path]:
                raise NotWired(f"`{self._asked.base}/{path}` was changed while it was read")
        versions = (
            version_in(said.encode("utf-8", "surrogateescape")) for said in reply.all("tomcat")
        )
        wanted = Wanted(
            self._asked,
            current,
            texts,
            version=next(filter(None, versions), None),
            is_older=bool(reply.one("older")),
            stale=tuple(reply.all("stale")),
        )
        marks = tuple(zip(reply.all("mark_path"), reply.all("mark"), strict=False))
        return wanted, Shared(self._mark, marks, tuple(reply.all("undated")))

    def _edited(self, now: Wanted) -> list[str]:
        before = self._make().current.digests
        return [path for path, digest in now.current.digests.items() if before[path] != digest]

    def _send_missing(
        self, wanted: Wanted, staged: Reply, token: FenceToken, began: float
    ) -> Result:
        fence = fence_arguments(self._settings.state_dir, token)
        lacking = dict.fromkeys(staged.all("missing"))
        if not lacking:
            return Result(Outcome.DONE, staged.detail or "here already", took_ms(began))
        digests = wanted.manifest.digests
        for path in wanted.changed:
            if digests[path] not in lacking:
                continue
            del lacking[digests[path]]
            target = f"{staged.one('store')}/{digests[path]}.blob"
            reply = self._send(wanted, path, target, fence)
            if reply.outcome is not Outcome.DONE:
                return reply.result(took_ms(began))
        if lacking:
            detail = "the machine asks for files that are not of this wiring"
            return Result(Outcome.FAILED, detail, took_ms(began))
        return Result(Outcome.DONE, "", took_ms(began))

    def _send(self, wanted: Wanted, path: str, target: str, fence: Iterable[str]) -> Reply:
        connection = self._service.connection
        jar = self._asked.jars.get(path)
        if jar is None:
            return send_bytes(
                connection,
                wanted.files[path],
                target,
                mode=0o600,
                limit_ms=STORE_LIMIT_MS,
                fence=tuple(fence),
            )
        try:
            jar_path = refuse_wrong_jar(jar)
        except ArtifactWrong as wrong:
            return Reply(Outcome.REFUSED, f"{wrong}; nothing was changed", was_started=False)
        return send_file(
            connection,
            jar_path,
            target,
            mode=0o600,
            limit_ms=UPLOAD_LIMIT_MS,
            fence=tuple(fence),
        )

    def _checks(self) -> Iterable[Check]:
        facts = self._service.ask(
            "preflight_wiring",
            self._places,
            *self._service.commands.programs(),
            limit_ms=LOOK_LIMIT_MS,
        )
        if self._asked.jars:
            yield jar_line(self._lines, self._asked)
        if not was_answered(facts):
            yield self._lines.not_checked("backend", facts.detail)
            return
        yield from service_lines(self._service, facts)
        wanted: Wanted | NotWired
        try:
            wanted, shared = self._read()
            yield from sharing_lines(self._lines, wanted, shared)
            yield from graceful_stop_lines(self._lines, wanted, self._settings)
            _ = wanted.manifest
        except NotWired as wrong:
            wanted = wrong
        yield merged_line(self._lines, wanted)
        yield from machine_lines(self._lines, self._asked, facts, wanted)
