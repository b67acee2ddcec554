"""What a preflight learns of one load balancer's nginx, and the lines it prints about it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from rolling_deploy.remote.quoting import quote
from rolling_deploy.remote.script import Reply, number_of
from rolling_deploy.remote.sudo_rights import asks_password, sudoers_line
from rolling_deploy.rollout.observed import Check, Verdict
from rolling_deploy.settings import LoadBalancerSettings


@dataclass(frozen=True, slots=True)
class Master:
    """An nginx master process.

    Attributes:
        kin: `ours`, `upgrade` (one started the other: a binary upgrade under way) or `other`.
        title: its command line as nginx keeps it.
    """

    pid: int
    kin: str
    title: str


@dataclass(frozen=True, slots=True)
class NginxFacts:
    """One preflight look at a load balancer. Nothing was changed.

    Attributes:
        version: `nginx/1.22.1`; empty when no master was found.
        built_without: the program's `--without-…` build options.
        master: pid, 0 when none was found; then `no_master` says why.
        exe: path of the running program; empty when it cannot be read without root.
        is_exe_changed: the program on disk is another one. None when it cannot be told.
        workers: those that take connections, under our master.
        retiring: earlier ones that have not exited.
        orphans: pids of workers whose master is gone and that still take connections.
        pid_state: `ok`, `missing` or `stale`.
        pid_named: what a stale pid file names, with its command.
        test_passed: nginx's own test; None when it did not run.
        dump: text of `nginx -T`; None when it could not be had, then `dump_said` is its words.
        edited: files of the configuration written after it was loaded; None without a dump.
        touched: files whose content or attributes changed since, though their time of writing is
            older (a copy that keeps times, a change of mode).
        rearranged: directories of the configuration in which somebody added, removed or renamed
            something after it was loaded.
        live: the generation that is answered; `answers` is every different answer.
        is_port_taken: something that is not this nginx listens on the generation port.
        leads_to: where the managed file leads when it is a link.
        file_state: `readable`, `unreadable` or `absent`.
        has_sudo: the machine's privileged commands go through sudo.
        user: who we are there, where the privileged commands go through sudo.
        sudo_refused: commands that sudo does not list for us, each with its purpose.
        sudo_asking: commands that it lists and wants a password for.
        sudo_unsure: commands that it lists, and where that cannot be told.
        systemd: the unit that a default reload goes through; empty when there is none.
        hidepid: the mount option that hides other users' processes, or empty.
        clock_ms: that machine's clock.
    """

    version: str
    built_without: str
    master: int
    no_master: str
    exe: str
    is_exe_changed: bool | None
    masters: tuple[Master, ...]
    workers: int
    retiring: int
    orphans: tuple[int, ...]
    config: str
    prefix: str
    pid_file: str
    pid_state: str
    pid_named: str
    test_passed: bool | None
    test_said: str
    dump: str | None
    dump_said: str
    edited: tuple[str, ...] | None
    touched: tuple[str, ...]
    rearranged: tuple[str, ...]
    live: str
    answers: str
    is_port_taken: bool
    leads_to: str
    file_state: str
    is_state_writable: bool
    is_file_writable: bool
    has_sudo: bool
    user: str
    sudo_refused: tuple[str, ...]
    sudo_asking: tuple[str, ...]
    sudo_unsure: tuple[str, ...]
    tools_missing: str
    client: str
    systemd: str
    test_command: str
    reload_command: str
    hidepid: str
    clock_ms: int


def facts_from(reply: Reply, generation_port: int) -> NginxFacts:
    """Answers the facts that the lines of `nginx_facts.sh` tell."""
    one = reply.one
    binary = one("binary")
    dump = one("dump") if "dump" in reply.values else None
    named = one("pid_named")
    return NginxFacts(
        version=one("version"),
        built_without=one("built_without"),
        master=reply.number("master"),
        no_master=one("no_master"),
        exe=one("exe"),
        is_exe_changed=binary == "changed" if binary else None,
        masters=tuple(_master(line) for line in reply.all("master_seen")),
        workers=reply.number("workers"),
        retiring=reply.number("retiring"),
        orphans=tuple(sorted(number_of(pid) for pid in reply.all("orphan"))),
        config=one("config"),
        prefix=one("prefix"),
        pid_file=one("pid_file"),
        pid_state=one("pid_state"),
        pid_named=f"{named or 'nothing'} ({one('pid_command')})",
        test_passed=one("test_status") == "0" if "test_status" in reply.values else None,
        test_said=one("test_said").strip(),
        dump=dump,
        dump_said=one("dump_said"),
        edited=tuple(reply.all("edited")) if "loaded" in reply.values else None,
        touched=tuple(reply.all("touched")),
        rearranged=tuple(reply.all("rearranged")),
        live=one("live"),
        answers=one("answers"),
        is_port_taken=_is_port_taken(reply, dump, generation_port),
        leads_to=one("leads_to"),
        file_state=one("file_state"),
        is_state_writable=one("state_writable") == "yes",
        is_file_writable=one("file_writable") == "yes",
        has_sudo=one("sudo") == "1",
        user=one("user"),
        sudo_refused=tuple(reply.all("sudo_refused")),
        sudo_asking=_listed(reply, asks=True),
        sudo_unsure=_listed(reply, asks=None),
        tools_missing=one("tools_missing").strip(),
        client=one("client"),
        systemd=one("systemd"),
        test_command=_shown(reply, "test_command"),
        reload_command=_shown(reply, "reload_command"),
        hidepid=one("hidepid"),
        clock_ms=reply.number("clock_ms"),
    )


def _listed(reply: Reply, *, asks: bool | None) -> tuple[str, ...]:
    """The commands that sudo lists, and would ask a password for or not; root is never asked."""
    if "sudo_listing" not in reply.values:
        return ()
    listing, commands = reply.one("sudo_listing"), reply.all("sudo_listed")
    return tuple(command for command in commands if asks_password(listing, command) is asks)


def _shown(reply: Reply, key: str) -> str:
    """A command with the program's path, where the machine runs it through /proc."""
    return reply.one(key).replace(f"/proc/{reply.one('master')}/exe", reply.one("exe"))


def _is_port_taken(reply: Reply, dump: str | None, port: int) -> bool:
    """Somebody listens there and it is not nginx, by its configuration or else by its answer."""
    if reply.one("listening") in {"", "0"}:
        return False
    if dump is None:
        return not reply.one("live")
    return re.search(rf"^\s*listen\s+[^;]*\b{port}\b", dump, re.MULTILINE) is None


def _master(line: str) -> Master:
    pid, _, rest = line.partition(" ")
    kin, _, title = rest.partition(" ")
    # One that cannot be placed is somebody else's: that refuses, where `ours` would not.
    return Master(number_of(pid), kin if kin in {"ours", "upgrade"} else "other", title)


def checks(
    facts: NginxFacts, settings: LoadBalancerSettings, *, load_pending: bool = False
) -> tuple[Check, ...]:
    """Answers the preflight's lines about this nginx.

    Args:
        load_pending: a person accepts that edits which are not loaded yet go live.
    """
    lines = [_tools(facts), _master_found(facts)]
    if facts.master:
        lines += [_masters(facts, settings), _orphans(facts), _pid_file(facts), _binary(facts)]
        lines += [_test(facts), _unloaded(facts, load_pending=load_pending), _reload(facts)]
        lines += [_earlier(facts), _port(facts, settings)]
    lines.append(_rights(facts, settings))
    return tuple(Check(settings.name, name, verdict, said) for name, verdict, said in lines)


_Line = tuple[str, Verdict, str]


def _tools(facts: NginxFacts) -> _Line:
    if facts.tools_missing:
        return "tools", Verdict.REFUSED, f"missing on that machine: {facts.tools_missing}"
    return "tools", Verdict.OK, f"all there; the generation is asked with {facts.client}"


def _master_found(facts: NginxFacts) -> _Line:
    if facts.master:
        said = f"{facts.version}, master {facts.master}, {facts.workers} workers"
        return "nginx", Verdict.OK, said
    said = facts.no_master
    if facts.pid_state == "stale":
        said += f"; the pid file `{facts.pid_file}` names process {facts.pid_named}"
    if not facts.masters and facts.hidepid:
        said += f"; `/proc` is mounted with {facts.hidepid}, which hides nginx from this user"
    return "nginx", Verdict.REFUSED, said


def _masters(facts: NginxFacts, settings: LoadBalancerSettings) -> _Line:
    upgrade = [m for m in facts.masters if m.kin == "upgrade"]
    others = [m for m in facts.masters if m.kin == "other"]
    if upgrade:
        said = f"a binary upgrade is under way ({_named(upgrade)}): finish it first"
        return "other nginx masters", Verdict.REFUSED, said
    if not others:
        return "other nginx masters", Verdict.OK, "none"
    if settings.other_masters == "ignore":
        said = f"left out, as the inventory says: {_named(others)}"
        return "other nginx masters", Verdict.WARNING, said
    said = (
        f"{_named(others)} may send to the backends too; if not, set `other_masters: ignore` for "
        f"{settings.name}"
    )
    return "other nginx masters", Verdict.REFUSED, said


def _named(masters: Sequence[Master]) -> str:
    return ", ".join(f"process {master.pid} (`{master.title}`)" for master in masters)


def _orphans(facts: NginxFacts) -> _Line:
    if not facts.orphans:
        return "workers without a master", Verdict.OK, "none"
    pids = " ".join(str(pid) for pid in facts.orphans)
    said = f"they serve an old configuration for ever: `sudo kill -QUIT {pids}`"
    return "workers without a master", Verdict.REFUSED, said


def _pid_file(facts: NginxFacts) -> _Line:
    if facts.pid_state == "ok":
        return "pid file", Verdict.OK, f"`{facts.pid_file}` names master {facts.master}"
    if facts.pid_state == "missing":
        said = f"`{facts.pid_file}` is missing, so a reload cannot find master {facts.master}"
        return "pid file", Verdict.REFUSED, said
    said = (
        f"`{facts.pid_file}` should name master {facts.master}, is {facts.pid_named}; a reload "
        "would signal that process"
    )
    return "pid file", Verdict.REFUSED, said


def _binary(facts: NginxFacts) -> _Line:
    if facts.is_exe_changed is None:
        said = "the running program cannot be seen without root"
        return "running program", Verdict.NOT_CHECKED, said
    if facts.is_exe_changed:
        said = (
            f"`{facts.exe}` on disk is not the program that runs; a configuration that the new "
            "one accepts may be refused by the running one"
        )
        return "running program", Verdict.WARNING, said
    return "running program", Verdict.OK, f"`{facts.exe}`"


def _test(facts: NginxFacts) -> _Line:
    if facts.test_passed is None:
        said = "the test would create the missing pid file"
        return "nginx test", Verdict.NOT_CHECKED, said
    if facts.test_passed:
        return "nginx test", Verdict.OK, f"`{facts.test_command}`"
    return "nginx test", Verdict.REFUSED, f"`{facts.test_command}` said: {facts.test_said}"


def _unloaded(facts: NginxFacts, *, load_pending: bool) -> _Line:
    name = "edits not loaded yet"
    if facts.edited is None:
        reason = facts.dump_said or "the running configuration could not be read"
        return name, Verdict.NOT_CHECKED, reason
    pending = [f"`{path}`" for path in facts.edited]
    explained = {path.rpartition("/")[0] for path in facts.edited}
    pending += [
        f"`{path}` (something was added, removed or renamed in it)"
        for path in facts.rearranged
        if path not in explained
    ]
    if pending:
        files = ", ".join(pending)
        if load_pending:
            return name, Verdict.WARNING, f"go live with the first reload, as asked: {files}"
        said = f"would go live with our reload: {files}; load them first, or `--load-pending`"
        return name, Verdict.REFUSED, said
    if facts.touched:
        files = ", ".join(f"`{path}`" for path in facts.touched)
        said = f"replaced by a copy of the same age, or of another mode, since nginx read: {files}"
        return name, Verdict.WARNING, said
    return name, Verdict.OK, "none"


def _reload(facts: NginxFacts) -> _Line:
    through = f" (systemd unit {facts.systemd})" if facts.systemd else ""
    return "reload command", Verdict.OK, f"`{facts.reload_command}`{through}"


def _earlier(facts: NginxFacts) -> _Line:
    if not facts.retiring:
        return "earlier workers", Verdict.OK, "none"
    said = f"{facts.retiring} still finish what they have; the first drain waits for them"
    return "earlier workers", Verdict.WARNING, said


def _port(facts: NginxFacts, settings: LoadBalancerSettings) -> _Line:
    port = settings.generation_port
    if facts.is_port_taken:
        said = f"port {port} is taken by something else (it answered `{facts.answers}`)"
        return "generation port", Verdict.REFUSED, said
    if facts.live:
        return "generation port", Verdict.OK, f"port {port} answers `{facts.live}`"
    return "generation port", Verdict.OK, f"port {port} is free"


def _not_allowed(user: str, refused: str) -> str:
    purpose, _, command = refused.partition(": ")
    if not user or not command:
        return f"sudo does not allow `{refused}`"
    line = sudoers_line(user, command)
    return f"sudo does not allow this user to {_PURPOSES.get(purpose, purpose)}: add `{line}`"


_PURPOSES = {
    "write": "write beside the managed file",
    "rename": "put the managed file in place",
    "take back": "remove the managed file again",
    "test": "test the configuration",
    "reload": "reload nginx",
    "dump": "read the configuration as nginx does",
}


def _rights(facts: NginxFacts, settings: LoadBalancerSettings) -> _Line:
    wrong = [_not_allowed(facts.user, command) for command in facts.sudo_refused]
    wrong += [
        f"`sudo {command}` asks for a password: add `NOPASSWD:` to it"
        for command in facts.sudo_asking
    ]
    if facts.file_state == "unreadable":
        wrong.append(f"`{settings.file}` cannot be read")
    if not facts.is_state_writable:
        wrong.append(
            f"`{settings.state_dir}` cannot be written: on that machine "
            f'`sudo install -d -o "$(id -un)" -m 700 {quote(settings.state_dir)}`, '
            "or set `nginx.state_dir`"
        )
    if not facts.has_sudo and not facts.is_file_writable:
        wrong.append(f"the directory of `{facts.leads_to or settings.file}` cannot be written")
    if wrong:
        return "rights", Verdict.REFUSED, "; ".join(wrong)
    leads = f"; the managed file leads to `{facts.leads_to}`" if facts.leads_to else ""
    if facts.sudo_unsure:
        shown = ", ".join(f"`sudo {command}`" for command in facts.sudo_unsure)
        said = f"{shown} is listed in sudoers; whether it asks for a password is not known{leads}"
        return "rights", Verdict.NOT_CHECKED, said
    return "rights", Verdict.OK, f"file and state directory can be written{leads}"
