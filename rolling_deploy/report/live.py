"""The live view on a terminal: every backend's state, what is being done, and the log above it."""

from __future__ import annotations

import time

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from rolling_deploy.ports import Awaiting, Event, Written
from rolling_deploy.report.plain import event_line, printable
from rolling_deploy.report.wording import backend_state, duration, step_text
from rolling_deploy.rollout.facts import Ended, Halted
from rolling_deploy.rollout.record import Record
from rolling_deploy.rollout.step import Outcome, machine_of


class LiveReporter:
    """Draws on a terminal. What has happened scrolls away above, what is stays below."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._record: Record | None = None
        self._waiting: Awaiting | None = None
        self._live = Live(
            console=console,
            refresh_per_second=8,
            transient=True,
            get_renderable=self._draw,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._started = False

    def event(self, event: Event) -> None:
        """Take the event into the view."""
        if not self._started:
            self._live.start()
            self._started = True
        if isinstance(event, Awaiting):
            self._waiting = event
            return
        if isinstance(event, Written):
            self._record = event.record
            self._waiting = None
        line = event_line(event)
        if line is not None:
            self._console.print(Text(line, style=_style(event)))

    def close(self) -> None:
        """End the view; the log stays on the terminal."""
        if self._started:
            self._live.stop()
            self._started = False

    def _draw(self) -> RenderableType:
        record = self._record
        if record is None:
            return Spinner("dots", "looking at the machines")
        table = Table(box=None, pad_edge=False, show_header=False)
        opened = record.opened
        for backend in (*opened.already, *opened.order, *sorted(opened.parked)):
            state = backend_state(record, backend)
            name = Text(f"  {printable(backend)}")
            table.add_row(name, Text(printable(state), style=_state_style(state)))
        return Group(Text(""), table, Spinner("dots", self._doing(record)))

    def _doing(self, record: Record) -> Text:
        if self._waiting is not None:
            left = max(0, self._waiting.until_ms - round(time.time() * 1000))  # noqa: TID251 # only drawn
            return Text(printable(f"{self._waiting.why} (at most {duration(left)} more)"))
        steps = [intent.step for intent in record.open_intents.values()]
        if steps:
            release = record.opened.release
            doing = "; ".join(f"{machine_of(s)}: {step_text(s, release)}" for s in steps)
            return Text(printable(doing))
        return Text("looking at the machines")


def _style(event: Event) -> str:
    if isinstance(event, Written):
        match event.entry.fact:
            case Halted():
                return "bold red"
            case Ended(result=result) if result.outcome in {Outcome.FAILED, Outcome.UNKNOWN}:
                return "yellow"
            case _:
                return ""
    return "dim"


def _state_style(state: str) -> str:
    if state.startswith(("out", "going out", "given up")):
        return "yellow"
    return "green" if "proven" in state else ""
