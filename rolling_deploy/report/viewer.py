"""Choosing how a run is shown, and what goes where: data to stdout, everything else to stderr."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Protocol

from rolling_deploy.errors import InputWrong, RollingDeployError
from rolling_deploy.ports import Checked, Event, Reporter, Said, Written
from rolling_deploy.report.json_lines import JsonReporter, one_line
from rolling_deploy.report.plain import (
    PlainReporter,
    at_of,
    github_reporter,
    github_value,
    gitlab_reporter,
    printable,
)
from rolling_deploy.report.summary import summary_lines, summary_object
from rolling_deploy.rollout.facts import Halted
from rolling_deploy.rollout.journal import Entry
from rolling_deploy.rollout.observed import Verdict
from rolling_deploy.rollout.record import Record


class Closable(Reporter, Protocol):
    """A view that holds the terminal until it is closed."""

    def close(self) -> None:
        """Give the terminal back."""


class Viewer:
    """One view of a run. Implements `ports.Reporter`."""

    def __init__(self, kind: str, view: Closable) -> None:
        self.kind = kind
        self._view = view
        self._checks_ok = 0
        self._is_deaf = False
        self._has_alarmed = False

    def event(self, event: Event) -> None:
        """Show that something happened. Checks that are fine are counted, `plan` shows them."""
        if self.kind != "json":
            if isinstance(event, Checked) and event.check.verdict is Verdict.OK:
                self._checks_ok += 1
                return
            if self._checks_ok and not isinstance(event, Checked):
                self._show(Said(at_of(event), f"{self._checks_ok} checks ok"))
                self._checks_ok = 0
        self._show(event)

    def _show(self, event: Event) -> None:
        """A reader that has gone (a closed pipe, a full disk) must not end a rollout."""
        self._has_alarmed |= isinstance(event, Written) and isinstance(event.entry.fact, Halted)
        if self._is_deaf:
            return
        try:
            self._view.event(event)
        except OSError:
            self._is_deaf = True

    def pause(self) -> None:
        """Give the terminal back for a question; the next event takes it again."""
        self._view.close()

    def close(self) -> None:
        """End the view."""
        self._view.close()

    def summary(self, entries: Sequence[Entry], record: Record) -> None:
        """Show the report at the end, as data."""
        self._view.close()
        if self.kind == "json":
            sys.stdout.write(one_line(summary_object(entries, record)) + "\n")
        else:
            lines = summary_lines(entries, record)
            sys.stdout.write("\n".join(lines) + "\n")
            self._write_step_summary(lines)
        sys.stdout.flush()

    def _write_step_summary(self, lines: Sequence[str]) -> None:
        """GitHub shows what is written to this file on the job's page."""
        path = os.environ.get("GITHUB_STEP_SUMMARY")
        if self.kind != "github" or not path:
            return
        with open(path, "a", encoding="utf-8") as file:  # noqa: PTH123 # appending to CI's own file
            file.write("```\n" + "\n".join(lines) + "\n```\n")

    def failed(self, error: RollingDeployError) -> None:
        """Show an error where a program reads; people read it from the command's end."""
        self._view.close()
        if self.kind == "json":
            fault = {
                "event": "error",
                "exit_code": error.exit_code,
                "what": error.what,
                "where": error.where,
                "site": error.site,
                "next": error.next_step,
                "problems": list(error.problems) if isinstance(error, InputWrong) else [],
            }
            sys.stdout.write(one_line(fault) + "\n")
            sys.stdout.flush()
        elif self.kind == "github" and not self._has_alarmed:
            text = printable(f"{error.what} ({error.where})" if error.where else error.what)
            sys.stderr.write(f"::error title=rolling-deploy::{github_value(text)}\n")


def viewer(output: str) -> Viewer:
    """Answers the view for `--output`; `auto` goes by the terminal and by the CI system."""
    kind = _chosen() if output == "auto" else output
    match kind:
        case "rich":
            # Imported here: drawing costs 40 ms at the start that a CI job need not pay.
            from rich.console import Console

            from rolling_deploy.report.live import LiveReporter

            return Viewer(kind, LiveReporter(Console(stderr=True, highlight=False)))
        case "json":
            return Viewer(kind, JsonReporter(sys.stdout))
        case "github":
            return Viewer(kind, github_reporter(sys.stderr))
        case "gitlab":
            return Viewer(kind, gitlab_reporter(sys.stderr))
        case _:
            return Viewer("plain", PlainReporter(sys.stderr))


def _chosen() -> str:
    if os.environ.get("GITHUB_ACTIONS") == "true":
        return "github"
    if os.environ.get("GITLAB_CI") == "true":
        return "gitlab"
    return "rich" if sys.stderr.isatty() and os.environ.get("TERM") != "dumb" else "plain"
