"""Running one of our remote scripts: one round trip; its answer is believed, or not at all."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files

from rolling_deploy.ports import FenceToken
from rolling_deploy.remote.connection import Connection
from rolling_deploy.rollout.step import Outcome, Result


@cache
def text_of(name: str) -> str:
    """Answers the whole text of a remote script: the prelude, its parts, then the script itself.

    A script whose first line is `# with: PART PART` is preceded by `scripts/PART.sh` of each.
    """
    folder = files("rolling_deploy.remote").joinpath("scripts")
    script = folder.joinpath(f"{name}.sh").read_text(encoding="utf-8")
    first, _, _ = script.partition("\n")
    parts = first.removeprefix("# with:").split() if first.startswith("# with:") else []
    texts = [folder.joinpath(f"{part}.sh").read_text(encoding="utf-8") for part in parts]
    return "".join([folder.joinpath("prelude.sh").read_text(encoding="utf-8"), *texts, script])


class NotUnderstood(ValueError):
    """A machine said something that the script does not say; the text is for a person."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What a remote script said.

    Attributes:
        outcome: from its `end` line; UNKNOWN when there was none.
        detail: the reason after the outcome, or why there was no answer.
        values: every `key=value` line in order (base64 values decoded), a list per key.
        was_started: False only when it is certain that the machine never saw the command.
    """

    outcome: Outcome
    detail: str
    values: Mapping[str, Sequence[str]] = field(default_factory=dict)
    was_started: bool = True

    def one(self, key: str, default: str = "") -> str:
        """Answers the last value said for `key`."""
        said = self.values.get(key)
        return said[-1] if said else default

    def number(self, key: str, default: int = 0) -> int:
        """Answers the last value said for `key` as a whole number, or the default if it is none."""
        return number_of(self.one(key), default)

    def all(self, key: str) -> Sequence[str]:
        """Answers every value said for `key`, in order."""
        return self.values.get(key, ())

    @property
    def is_fenced(self) -> bool:
        """Answers whether the machine refused because somebody has taken over."""
        return self.outcome is Outcome.REFUSED and "fenced" in self.values

    def result(self, took_ms: int = 0) -> Result:
        """Answers the same as a step's result."""
        return Result(self.outcome, self.detail, took_ms, self.is_fenced)


_NUMBER = re.compile(r"[0-9]{1,18}")
"""Never more digits than 64 bits hold, and no digits of other scripts."""


def number_of(text: str, default: int = 0) -> int:
    """Answers a whole number that a machine said, or the default when it is none."""
    return int(text) if _NUMBER.fullmatch(text) else default


def run_script(
    connection: Connection,
    name: str,
    arguments: Sequence[str] = (),
    *,
    stdin: bytes | Iterable[bytes] = b"",
    limit_ms: int,
    holds_stdin: bool = False,
) -> Reply:
    """Run `scripts/NAME.sh` on the machine with these arguments (`$1`…).

    Args:
        limit_ms: after this the outcome is unknown; the script may go on over there.

    Crash: a script that changes something holds the machine's lock to its end, so a later look
    sees it as busy.
    """
    text = text_of(name)
    sudo = f"RD_SUDO={int(connection.target.sudo)}"
    argv = ["env", sudo, "sh", "-c", text, f"rolling-deploy:{name}", *arguments]
    answer = connection.run(argv, stdin=stdin, limit_ms=limit_ms, holds_stdin=holds_stdin)
    if not answer.is_complete:
        return Reply(Outcome.UNKNOWN, answer.detail, {}, answer.was_started)
    return parse_reply(answer.stdout, answer.stderr, answer.exit_status)


def parse_reply(stdout: bytes, stderr: bytes = b"", exit_status: int | None = 0) -> Reply:
    """Answers what the script's lines say; anything not understood makes it UNKNOWN.

    A last line without its line end was cut off, and counts as not said. What the script's
    commands wrote as errors is added to the reason of a refusal or failure.
    """
    values: dict[str, list[str]] = {}
    for line in stdout.decode("utf-8", "replace").split("\n")[:-1]:
        key, equals, value = line.partition("=")
        if not equals:
            continue
        if key.endswith(":"):
            key = key[:-1]
            try:
                value = base64.b64decode(value, validate=True).decode("utf-8", "surrogateescape")
            except ValueError:  # no base64, or not even ASCII
                return Reply(Outcome.UNKNOWN, f"the answer's `{key}` is not base64", values)
        values.setdefault(key, []).append(value)
    ends = values.pop("end", [])
    tail = " ".join(stderr.decode("utf-8", "replace").split())[-400:]
    if len(ends) != 1:
        detail = f"no end in the answer (exit status {exit_status}): {tail}"
        return Reply(Outcome.UNKNOWN, detail, values)
    word, _, detail = ends[0].partition(" ")
    if word not in {Outcome.DONE, Outcome.REFUSED, Outcome.FAILED}:
        return Reply(Outcome.UNKNOWN, f"the answer ends with `{word}`", values)
    detail = detail.strip()
    if tail and word != Outcome.DONE:
        detail = f"{detail} ({tail})"
    return Reply(Outcome(word), detail, values)


def fence_arguments(state_dir: str, token: FenceToken) -> list[str]:
    """Answers the arguments that `enter` takes first: directory, epoch, holder.

    White space in the holder becomes single blanks, as the machine keeps it on one line.
    """
    return [state_dir, str(token.epoch), " ".join(token.holder.split()) or "-"]
