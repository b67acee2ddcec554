"""What a preflight of a backend says: each fact of its machine as one line for a person."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from rolling_deploy.remote.artifact import Artifact, ArtifactWrong
from rolling_deploy.remote.quoting import command_line, quote
from rolling_deploy.remote.script import Reply, number_of
from rolling_deploy.remote.service import Service
from rolling_deploy.remote.sudo_rights import (
    asking_for_all,
    asking_whether_allowed,
    asks_password,
    spelled_out,
)
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
        made = command_line(["sudo", "install", "-d", "-o", facts.one("user"), "-m", "700"])
        detail = (
            f"cannot write in `{service.state_dir}`: run "
            f"`{made} {quote(service.state_dir)}` there, or set `state_dir`"
        )
        yield lines.refused("state directory", detail)
    else:
        yield lines.ok("state directory", f"`{service.state_dir}`")
    yield _commands_line(service, facts)
    yield _process_line(service, facts)
    yield from _connections_line(service, facts)


def _commands_line(service: Service, facts: Reply) -> Check:
    lines = Lines(service.backend.name)
    commands = service.commands
    missing = ", ".join(f"`{program}`" for program in facts.all("program_missing"))
    if missing:
        return lines.refused("commands", f"not found: {missing}")
    said = [
        _sudo_line(service, argv)
        for argv in (commands.stop, commands.start)
        if argv and argv[0].rpartition("/")[2] in {"sudo", "doas"}
    ]
    for verdict in (Verdict.REFUSED, Verdict.NOT_CHECKED):
        found = [line for line in said if line.verdict is verdict]
        if found:
            return found[0]
    if said:
        return said[0]
    return lines.ok("commands", ", ".join(f"`{program}`" for program in commands.programs()))


def _sudo_line(service: Service, argv: Sequence[str]) -> Check:
    lines, shown = Lines(service.backend.name), f"`{command_line(argv)}`"
    asking = asking_whether_allowed(argv) if argv[0].endswith("sudo") else None
    if asking is None:
        return lines.not_checked("commands", f"whether {shown} is allowed there")
    allowed = service.connection.run(asking, limit_ms=SUDO_LIMIT_MS)
    if not allowed.is_complete:
        return lines.not_checked("commands", allowed.detail)
    if allowed.exit_status != 0:
        return lines.refused("commands", f"{shown} is not allowed there without a password")
    listed = service.connection.run(asking_for_all(argv), limit_ms=SUDO_LIMIT_MS)
    spelled = next(spelled_out(allowed.stdout), "")
    match asks_password(listed.stdout.decode("utf-8", "replace"), spelled):
        case True:
            return lines.refused("commands", f"{shown} asks for a password: add `NOPASSWD:` to it")
        case False:
            return lines.ok("commands", "allowed by sudo, without a password")
        case None:
            detail = f"{shown} is listed in sudoers; whether it asks for a password is not known"
            return lines.not_checked("commands", detail)


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
        case pids if facts.all("stranger"):
            others = ", ".join(facts.all("stranger"))
            detail = (
                f"pid {pids}; `{service.process}` also fits {others}, which has nothing to do with "
                f"port {port} and is not waited for: `process` should fit only the backend's own"
            )
            return lines.warning("process", detail)
        case _ if facts.all("unsorted"):
            found = ", ".join(facts.all("unsorted"))
            detail = (
                f"`{service.process}` fits {found}; none of them is seen to listen on port {port}, "
                "so the stop waits for all of them: `process` should fit only the backend's own"
            )
            return lines.warning("process", detail)
        case pids:
            return lines.ok("process", f"pid {pids}")


def _connections_line(service: Service, facts: Reply) -> Iterable[Check]:
    """The guard counts connections on this machine's own ports: it needs somebody to listen."""
    lines = Lines(service.backend.name)
    if facts.one("process") in {"none", "hidden"}:
        return
    if unlistened := ", ".join(facts.all("unlistened")):
        detail = (
            f"whether somebody is connected to port {unlistened}: nothing listens there on this "
            "machine, though the process runs"
        )
        yield lines.not_checked("open connections", detail)
        return
    yield lines.ok("open connections", f"counted on port {', '.join(service.guarded_ports)}")


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
    free_blocks = number_of(free_kb, -1)
    if free_blocks < 0:
        return lines.not_checked("disk space", "`df` gave no answer")
    free, needed = free_blocks / 1024, needed_bytes / MEGABYTE
    detail = f"needs {needed:.1f} MB, {free:.0f} MB are free"
    return lines.refused("disk space", detail) if needed >= free else lines.ok("disk space", detail)


def paths_line(lines: Lines, facts: Reply, place: str) -> Check:
    """Answers whether we may write where we must, and if not the commands that would let us."""
    unwritable = facts.all("unwritable")
    if not unwritable:
        return lines.ok("paths", f"`{place}`")
    user = facts.one("user")
    commands = dict.fromkeys(
        command_line(_letting_write(user, path, how))
        for path, how in zip_longest(
            unwritable, facts.all("unwritable_as")[: len(unwritable)], fillvalue="other"
        )
    )
    named = ", ".join(f"`{path}`" for path in unwritable)
    return lines.refused("paths", f"cannot write in {named}: run `{' && '.join(commands)}` there")


def _letting_write(user: str, path: str, how: str) -> list[str]:
    """The command after which `user` may write in `path`; a new login is needed for a group."""
    kind, _, group = how.partition(" ")
    match kind:
        case "absent":
            return ["sudo", "install", "-d", "-o", user, "-m", "755", path]
        case "group":
            return ["sudo", "usermod", "-aG", group, user]
        case _:
            return ["sudo", "setfacl", "-m", f"u:{user}:rwx", path]
