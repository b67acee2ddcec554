"""One load balancer: what it serves, and publishing so that the reload is proved.

nginx says nothing about the outcome of a reload, and its exit code is 0 for most failures. So
nothing here believes an exit code: success is new worker processes, no earlier one that still
takes connections, and the new generation answered on fresh connections. A drain is the exit of
every earlier worker; identity is pid and start time, so a pid given away again deceives nobody.

Everything is one round trip per operation; the scripts are `scripts/nginx_*.sh`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic

from rolling_deploy.ports import FenceToken
from rolling_deploy.remote.connection import Connection
from rolling_deploy.remote.nginx_facts import NginxFacts, facts_from
from rolling_deploy.remote.script import NotUnderstood, Reply, number_of, run_script
from rolling_deploy.rollout.observed import (
    Fence,
    LoadBalancerSeen,
    ManagedFile,
    Unreachable,
    Worker,
)
from rolling_deploy.rollout.step import Outcome, Result
from rolling_deploy.settings import LoadBalancerSettings, generation_host

LOOK_LIMIT_MS = 20_000
"""Three unanswered questions of two seconds, and a slow machine."""
COMMAND_LIMIT_MS = 60_000
"""What the scripts give nginx's test and the reload command each (`run_words`)."""
_WORKER = re.compile(r"[0-9]{1,18} [0-9]{1,18} [a-z]+ [^ ]+ (?:-|[0-9]{1,18})")
_GENERATION = re.compile(r"[A-Za-z0-9_:-][A-Za-z0-9._:-]*")


@dataclass(frozen=True, slots=True)
class EarlierWorker:
    """A worker of an earlier generation that has not exited.

    Attributes:
        is_retiring: it takes no new connections; otherwise it serves as if nothing happened.
        generation: the one it has loaded; empty when no snapshot tells.
        connections: established ones; None when they cannot be counted without root.
    """

    worker: Worker
    is_retiring: bool
    generation: str
    connections: int | None

    def describe(self) -> str:
        """Answers the worker in a few words, for a person."""
        parts = [f"worker {self.worker.pid}"]
        parts.append("retiring" if self.is_retiring else "still taking connections")
        if self.generation:
            parts.append(f"of generation {self.generation}")
        if self.connections is not None:
            parts.append(f"{self.connections} connections")
        return ", ".join(parts)


@dataclass(frozen=True, slots=True)
class Look:
    """One look at a load balancer.

    Attributes:
        seen: for the engine.
        text: the managed file's bytes; None when it does not exist.
        fence: the highest epoch seen there.
        master: the master's pid, 0 when none was found.
        earlier: the workers behind `seen.earlier_workers`; also filled, with the retiring ones,
            when that is None.
    """

    seen: LoadBalancerSeen
    text: bytes | None
    fence: Fence
    master: int
    earlier: tuple[EarlierWorker, ...] = ()


class Nginx:
    """The nginx of one load balancer, for one application.

    `inspect` turns the managed file's bytes into what the engine knows of it.
    """

    def __init__(
        self,
        settings: LoadBalancerSettings,
        application: str,
        connection: Connection,
        inspect: Callable[[bytes], ManagedFile],
    ) -> None:
        self.settings = settings
        self._application = application
        self._connection = connection
        self._inspect = inspect

    def look(self) -> Look | Unreachable:
        """Look once, in one round trip, changing nothing. No privileges needed.

        `Unreachable` when the command did not complete, or the file cannot be read.
        """
        reply = self._run("nginx_look", limit_ms=LOOK_LIMIT_MS)
        if reply.outcome is not Outcome.DONE:
            return Unreachable(reply.detail)
        try:
            return look_from(reply, self._inspect)
        except NotUnderstood as error:
            return Unreachable(str(error))

    def apply(
        self,
        text: bytes,
        *,
        replaces: str,
        generation: str,
        adopt: bool,
        token: FenceToken,
    ) -> Result:
        """Put the text in place of the file whose digest is `replaces`, reload, and prove it.

        When the file is right already, only reload and prove. When nginx's test fails, the file
        before is put back under the same lock. When the reload is not proved the new file stays,
        and another `apply` decides what becomes of it.

        Args:
            generation: what the text's endpoint answers once it is loaded.
            replaces: sha256, or `absent`.
            adopt: the file replaced is a person's own; keep it for `unadopt`.

        Crash: the file is the old or the new one, whole. The workers that count as earlier are
        noted before the new one can become live by anybody's reload, so a look tells the truth.
        """
        if not _GENERATION.fullmatch(generation):
            return Result(Outcome.REFUSED, f"`{generation}` cannot be a generation's name")
        digest = hashlib.sha256(text).hexdigest()
        words = [replaces, generation, str(int(adopt)), str(len(text)), digest]
        return self._change("nginx_apply", words, token, text)

    def unadopt(self, *, replaces: str, token: FenceToken) -> Result:
        """Put the original back byte for byte, reload, and prove that ours is served no more.

        Refused when no original is kept. The original stays in the state directory, renamed.

        Crash: as for `apply`; until the proof the original counts as kept, so it can be repeated.
        """
        return self._change("nginx_unadopt", [replaces], token, b"")

    def wait_drained(self, limit_ms: int) -> None:
        """Return when no earlier worker is left, when that cannot be told, or at the limit.

        Waits on that machine. Which of the three it was, the next look says.
        """
        self._run("nginx_wait", [str(limit_ms)], limit_ms=limit_ms + LOOK_LIMIT_MS, waits=True)

    def wait_free(self, limit_ms: int) -> None:
        """Return when no command of ours holds that machine's lock any more, or at the limit."""
        seconds = f"{limit_ms / 1000:.3f}"
        self._run("nginx_wait_free", [seconds], limit_ms=limit_ms + LOOK_LIMIT_MS, waits=True)

    def read_original(self) -> bytes | None:
        """Answers the original that an adoption kept, or None when there is none.

        Raises:
            OSError: it could not be read, or the machine did not answer.
        """
        reply = self._run("nginx_original", limit_ms=LOOK_LIMIT_MS)
        if reply.outcome is not Outcome.DONE:
            raise OSError(reply.detail)
        return _bytes_of(reply, "original")

    def facts(self) -> NginxFacts | Unreachable:
        """Everything a preflight asks of this machine, read-only, in one round trip.

        nginx's own test and dump run only where the pid file exists (they would create one).
        """
        limit_ms = LOOK_LIMIT_MS + 2 * COMMAND_LIMIT_MS
        reply = self._run("nginx_facts", limit_ms=limit_ms)
        if reply.outcome is not Outcome.DONE:
            return Unreachable(reply.detail)
        return facts_from(reply, self.settings.generation_port)

    def pretest(self, config_text: str) -> tuple[bool, str]:
        """Answers whether nginx over there accepts this whole configuration, and its words.

        It is tested in a directory of its own, put in place of `@WORKDIR@`, that is removed
        whatever happens. Runs without sudo.
        """
        stdin = config_text.encode("utf-8", "surrogateescape")
        limit_ms = LOOK_LIMIT_MS + COMMAND_LIMIT_MS
        reply = self._run("nginx_pretest", limit_ms=limit_ms, stdin=stdin)
        if reply.outcome is not Outcome.DONE:
            return False, reply.detail
        return reply.one("status") == "0", reply.one("said").strip()

    def _change(self, script: str, words: Sequence[str], token: FenceToken, stdin: bytes) -> Result:
        began = monotonic()
        limit_ms = LOOK_LIMIT_MS + 2 * COMMAND_LIMIT_MS + self.settings.prove_limit_ms
        carried = [str(token.epoch), token.holder, *words]
        reply = self._run(script, carried, limit_ms=limit_ms, stdin=stdin)
        return reply.result(int((monotonic() - began) * 1000))

    def _run(
        self,
        script: str,
        words: Sequence[str] = (),
        *,
        limit_ms: int,
        stdin: bytes = b"",
        waits: bool = False,
    ) -> Reply:
        arguments = [*settings_arguments(self.settings, self._application), *words]
        return run_script(
            self._connection,
            script,
            arguments,
            stdin=stdin,
            limit_ms=limit_ms,
            holds_stdin=waits,
        )


def settings_arguments(settings: LoadBalancerSettings, application: str) -> list[str]:
    """Answers the arguments that `nginx_settings.sh` reads first, in its order.

    Raises:
        ValueError: a word of a command is empty or holds a line break; words travel one a line.
    """
    return [
        settings.state_dir,
        settings.file,
        str(settings.generation_port),
        generation_host(application),
        settings.other_masters,
        settings.pid_file,
        settings.config,
        settings.prefix,
        settings.binary,
        _one_a_line(settings.test),
        _one_a_line(settings.reload),
        str(settings.prove_limit_ms),
    ]


def _one_a_line(argv: Sequence[str]) -> str:
    for word in argv:
        if not word or "\n" in word:
            raise ValueError(f"`{word}` cannot be a word of an nginx command")
    return "\n".join(argv)


def look_from(reply: Reply, inspect: Callable[[bytes], ManagedFile]) -> Look:
    """Answers what the lines of `nginx_look.sh` mean.

    Which workers are earlier is known only when a snapshot was taken for these very bytes, under
    the generation they are stamped with, and nginx's processes can be seen at all.

    Raises:
        NotUnderstood: a line about a worker is not what the script says; nothing is guessed.
    """
    text = _bytes_of(reply, "file")
    file = None if text is None else inspect(text)
    generation = file.stamp.generation if file and file.stamp else ""
    rows = [_worker_row(line) for line in reply.all("worker")]
    current = sum(row[2] == "current" for row in rows)
    unretired = sum(row[2] == "unretired" for row in rows)
    earlier = tuple(_earlier(row) for row in rows if row[2] in {"unretired", "retiring"})
    master = reply.number("master")
    is_known = bool(generation) and reply.one("snapshot") == generation and master != 0
    live = reply.one("live")
    is_ours = live == generation or reply.one("is_published") == "1"
    seen = LoadBalancerSeen(
        file=file,
        live=live if live and is_ours else None,
        is_settled=master != 0 and current > 0 and unretired == 0,
        earlier_workers=len(earlier) if is_known else None,
        is_busy=reply.one("busy") == "1",
        detail="; ".join(_details(reply, earlier, is_ours=is_ours, is_known=is_known)),
    )
    return Look(seen, text, _fence_of(reply), master, earlier)


def _details(
    reply: Reply, earlier: Sequence[EarlierWorker], *, is_ours: bool, is_known: bool
) -> list[str]:
    """What a person needs to see: only what is not as it should be."""
    said: list[str] = []
    if reply.one("no_master"):
        said.append(reply.one("no_master"))
    elif reply.one("pid_state") != "ok":
        said.append(f"the pid file is {reply.one('pid_state')}")
    if reply.one("dangling"):
        said.append("the managed file is a link that leads nowhere")
    live, answers = reply.one("live"), reply.one("answers")
    if live and not is_ours:
        said.append(f"the generation endpoint answers for another application ({live})")
    elif not live:
        said.append(f"the generation endpoint answered `{answers}`")
    if not is_known:
        said.append("no snapshot tells which workers are of an earlier generation")
    return said + [worker.describe() for worker in earlier]


def _worker_row(line: str) -> list[str]:
    if not _WORKER.fullmatch(line):
        raise NotUnderstood(f"its answer is not understood: `worker={line[:80]}`")
    return line.split(" ")


def _earlier(row: Sequence[str]) -> EarlierWorker:
    pid, start, verdict, generation, connections = row
    return EarlierWorker(
        Worker(int(pid), int(start)),
        verdict == "retiring",
        "" if generation == "-" else generation,
        None if connections == "-" else int(connections),
    )


def _fence_of(reply: Reply) -> Fence:
    epoch, _, holder = reply.one("fence", "0 -").partition(" ")
    return Fence(number_of(epoch), holder or "-")


def _bytes_of(reply: Reply, key: str) -> bytes | None:
    if key not in reply.values:
        return None
    return reply.one(key).encode("utf-8", "surrogateescape")
