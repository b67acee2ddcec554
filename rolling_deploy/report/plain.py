"""The plain log: one line an event, for CI and for files."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TextIO

from rolling_deploy.ports import Awaiting, Checked, Event, Said, Written
from rolling_deploy.report.wording import event_text


def clock_text(at_ms: int) -> str:
    """Answers the time of day in UTC, to the tenth of a second."""
    at = datetime.fromtimestamp(at_ms / 1000, tz=UTC)
    return f"{at:%H:%M:%S}.{at.microsecond // 100_000}"


def event_line(event: Event) -> str | None:
    """Answers the log line of an event, or None for what needs none."""
    said = event_text(event)
    if said is None:
        return None
    where, text = said
    place = f"{where}: " if where else ""
    return f"{clock_text(at_of(event))} {printable(place + text)}"


def at_of(event: Event) -> int:
    """Answers when the event happened."""
    match event:
        case Written():
            return event.entry.at_ms
        case Awaiting() | Checked() | Said():
            return event.at_ms


_COMMANDS_OF_CI = re.compile(r"##(?=\[)|^(\s*):(?=:.*?::)")
"""GitHub's runner obeys `::name ...::` at the beginning of a line, after blanks, and the older
`##[name]` anywhere in it (`ActionCommand.cs` in its sources). An IPv6 address has one `::` only."""


def printable(text: str) -> str:
    """Answers the text with everything that could steer a terminal or a CI system made visible.

    A text from a machine may hold escapes, marks that turn the direction of writing, and a CI
    system's own commands; what is answered is one line that holds none of them.
    """
    line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return _COMMANDS_OF_CI.sub(_spelled_out, line)


def _spelled_out(command: re.Match[str]) -> str:
    return "\\x23#" if command[0] == "##" else f"{command[1]}\\x3a"


class PlainReporter:
    """Writes the plain log to a stream. Repeated waits for the same thing are told once."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._waiting_for = ""

    def event(self, event: Event) -> None:
        """Write the event's line, if it has one."""
        if isinstance(event, Awaiting):
            # What changes within one wait (a counter, an answer) is not worth a line each.
            key = event.why.partition(":")[0]
            if key == self._waiting_for:
                return
            self._waiting_for = key
        elif isinstance(event, Written):
            self._waiting_for = ""
        line = event_line(event)
        if line is not None:
            self.write(line)

    def write(self, line: str) -> None:
        """Write one line and flush it, so that a CI log is never behind."""
        self._stream.write(line + "\n")
        self._stream.flush()

    def close(self) -> None:
        """Nothing is held."""


class MarkedReporter(PlainReporter):
    """The plain log with a CI system's own marks: waves fold, an end in trouble is an annotation.

    Args:
        begin, finish: make the marks around a wave from its title and time in seconds.
        alarm: makes the mark of an error.
    """

    def __init__(
        self,
        stream: TextIO,
        *,
        begin: Callable[[str, int], str],
        finish: Callable[[str, int], str],
        alarm: Callable[[str], str],
    ) -> None:
        super().__init__(stream)
        self._begin = begin
        self._finish = finish
        self._alarm = alarm
        self._open = ""

    def event(self, event: Event) -> None:
        """Write the event's line within its wave's fold."""
        kind = type(event.entry.fact).__name__ if isinstance(event, Written) else ""
        at_s = at_of(event) // 1000
        if kind in {"Claimed", "Halted", "Closed"}:
            self._end_fold(at_s)
        if kind == "Claimed" and isinstance(event, Written):
            self._open = f"wave {event.record.claims}"
            self.write(self._begin(self._open, at_s))
        super().event(event)
        if kind == "Halted":
            said = event_text(event)
            self.write(self._alarm(printable(said[1]) if said else ""))

    def _end_fold(self, at_s: int) -> None:
        if self._open:
            self.write(self._finish(self._open, at_s))
            self._open = ""


def github_reporter(stream: TextIO) -> MarkedReporter:
    """Answers a log with GitHub's workflow commands (groups and an error annotation)."""
    return MarkedReporter(
        stream,
        begin=lambda title, _: f"::group::{title}",
        finish=lambda _, __: "::endgroup::",
        alarm=lambda text: f"::error title=rolling-deploy::{github_value(text)}",
    )


def github_value(text: str) -> str:
    """GitHub's own escapes for the value of a workflow command."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def gitlab_reporter(stream: TextIO) -> MarkedReporter:
    """Answers a log with GitLab's collapsible sections."""

    def name(title: str) -> str:
        return title.replace(" ", "_")

    return MarkedReporter(
        stream,
        begin=lambda title, at_s: f"\x1b[0Ksection_start:{at_s}:{name(title)}\r\x1b[0K{title}",
        finish=lambda title, at_s: f"\x1b[0Ksection_end:{at_s}:{name(title)}\r\x1b[0K",
        alarm=lambda text: f"ERROR: {text}",
    )
