"""What a preflight of a backend says: each fact of its machine as one line for a person."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from rolling_deploy.remote.artifact import Artifact, ArtifactWrong
from rolling_deploy.remote.script import Reply
from rolling_deploy.remote.service import Service
from rolling_deploy.rollout.observed import Check, Verdict
from rolling_deploy.rollout.step import Outcome

SUDO_LIMIT_MS = 15_000
MEGABYTE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Lines:
    """Makes the lines of one backend."""

    backend: str

    def ok(self, name: str, detail: str = "") -> Check:
        """Answers a line for what is fine."""
        return Check(self.backend, name, Verdict.OK, detail)

    def warning(self, name: str, detail: str) -> Check:
        """Answers a line for what a person should know."""
        return Check(self.backend, name, Verdict.WARNING, detail)

    def refused(self, name: str, detail: str) -> Check:
        """Answers a line for what must be changed first."""
        return Check(self.backend, name, Verdict.REFUSED, detail)

    def not_checked(self, name: str, detail: str) -> Check:
        """Answers a line for what could not be looked at."""
        return Check(self.backend, name, Verdict.NOT_CHECKED, detail)


def was_answered(reply: Reply) -> bool:
    """Answers whether the facts came back at all."""
    return reply.outcome is Outcome.DONE


def service_lines(service: Service, facts: Reply) -> Iterable[Check]:
    """Answers the lines that every backend has: tools, state directory, commands, process."""
    lines = Lines(service.backend.name)
    missing = ", ".join(f"`{tool}`" for tool in facts.all("missing"))
    yield lines.refused("tools", f"not found: {missing}") if missing else lines.ok("tools")
    if facts.one("state"):
        yield lines.refused("state directory", f"cannot write in `{service.state_dir}`")
    else:
        yield lines.ok("state directory", f"`{service.state_dir}`")
    yield _commands_line(service, facts)
    yield _process_line(service, facts)


def _commands_line(service: Service, facts: Reply) -> Check:
    lines = Lines(service.backend.name)
    commands = service.commands
    if service.needs_sudo:
        for argv in filter(None, (commands.stop, commands.start)):
            words = ["sudo", "-n", "-l", "--", *argv]
            answer = service.connection.run(words, limit_ms=SUDO_LIMIT_MS)
            if not answer.is_complete:
                return lines.not_checked("commands", answer.detail)
            if answer.exit_status != 0:
                return lines.refused("commands", f"`sudo -n {' '.join(argv)}` is not allowed there")
        return lines.ok("commands", "allowed through `sudo -n`")
    missing = ", ".join(f"`{program}`" for program in facts.all("program_missing"))
    if missing:
        return lines.refused("commands", f"not found: {missing}")
    return lines.ok("commands", ", ".join(f"`{program}`" for program in commands.programs()))


def _process_line(service: Service, facts: Reply) -> Check:
    lines = Lines(service.backend.name)
    port = service.backend.probe_address.rpartition(":")[2]
    wanted = f"with `{service.process}` in its command line" if service.process else "to be seen"
    match facts.one("process"):
        case "hidden":
            detail = (
                f"port {port} is listened on, but no process {wanted}: its end could not be "
                "waited for; set `process` to what `ps` shows of it"
            )
            return lines.refused("process", detail)
        case "none":
            return lines.warning("process", f"not running: nothing listens on port {port}")
        case pids:
            return lines.ok("process", f"pid {pids}")


def artifact_line(lines: Lines, found: Artifact | ArtifactWrong | None) -> Check:
    """Answers the line for the file on the operator's disk."""
    if found is None:
        return lines.not_checked("artifact", "no release was named")
    if isinstance(found, ArtifactWrong):
        return lines.refused("artifact", str(found))
    size = f"{found.bytes_packed / MEGABYTE:.1f} MB"
    return lines.ok("artifact", f"`{found.path}`, {size}, sha256 {found.digest[:12]}")


def space_line(lines: Lines, free_kb: str, needed_bytes: int) -> Check:
    """Answers whether what is to be put on the machine fits."""
    if not free_kb.isdigit():
        return lines.not_checked("disk space", "`df` gave no answer")
    free, needed = int(free_kb) / 1024, needed_bytes / MEGABYTE
    detail = f"needs {needed:.1f} MB, {free:.0f} MB are free"
    return lines.refused("disk space", detail) if needed >= free else lines.ok("disk space", detail)


def paths_line(lines: Lines, facts: Reply, place: str) -> Check:
    """Answers whether we may write where we must."""
    unwritable = ", ".join(f"`{path}`" for path in facts.all("unwritable"))
    if unwritable:
        return lines.refused("paths", f"cannot write in {unwritable}")
    return lines.ok("paths", f"`{place}`")
