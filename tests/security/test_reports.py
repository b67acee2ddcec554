"""Whatever a machine said, no view of it steers a terminal or a CI system."""

from __future__ import annotations

import contextlib
import io
import json
import re
import sys
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given, settings
from rich.console import Console

from rolling_deploy.cli import error_lines
from rolling_deploy.errors import InventoryWrong, PreflightRefused
from rolling_deploy.ports import Awaiting, Checked, Event, Said, Written
from rolling_deploy.report.json_lines import JsonReporter, one_line
from rolling_deploy.report.live import LiveReporter
from rolling_deploy.report.plain import (
    PlainReporter,
    github_reporter,
    gitlab_reporter,
    printable,
)
from rolling_deploy.report.plan import BackendRow, PlanView, plan_lines
from rolling_deploy.report.status import (
    BackendStatus,
    BalancerRow,
    RolloutRow,
    StatusView,
    status_lines,
)
from rolling_deploy.report.summary import summary_lines
from rolling_deploy.report.viewer import Viewer
from rolling_deploy.rollout.facts import (
    Cause,
    Claimed,
    Closed,
    Ended,
    Ending,
    Fact,
    Halted,
    Intended,
    Proved,
    TakenOver,
)
from rolling_deploy.rollout.fold import advance, fold
from rolling_deploy.rollout.journal import Entry
from rolling_deploy.rollout.move import Act, Halt
from rolling_deploy.rollout.observed import Check, Verdict
from rolling_deploy.rollout.step import Goal, Outcome, Result, Stage
from tests.security.hostile import ANY, SHOWN_HARM
from tests.values import opened

V2 = re.compile(r"^\s*::[^\n]*?::")
"""What GitHub's runner takes for a command, as its sources read a line."""
V1 = "##["


def expect_harmless(text: str, *, own: Sequence[str] = ()) -> None:
    """No line holds what a terminal, GitHub or GitLab would act on, but our `own` marks."""
    for line in text.split("\n"):
        left = line
        for mark in own:
            left = re.sub(mark, "", left)
        assert all(sign.isprintable() for sign in left), ascii(line)
        assert not V2.match(left), line
        assert V1 not in left, line


def story(text: str) -> Iterator[Event]:
    """Every kind of event, with the text wherever a machine's words may stand."""
    first = opened(order=("app1", "app2"))
    entries = [Entry(1, 0, 1, text, first)]
    record = fold(entries)
    yield Said(1, text)
    yield Checked(1, Check(text, text, Verdict.REFUSED, text))
    yield Awaiting(1, 2_000, text)
    stage = Stage("app1")
    facts: tuple[Fact, ...] = (
        TakenOver(text, reason=text),
        Intended(stage, 1),
        Ended(3, Result(Outcome.FAILED, text)),
        Claimed(1, ("app1",)),
        Proved("app1", Goal.RELEASE, text),
        Halted(Cause.BACKEND, text),
    )
    for number, fact in enumerate(facts, 2):
        entry = Entry(number, 0, 1, "me", fact)
        record = advance(record, entry)
        yield Written(entry, record)
    closed = Entry(9, 0, 1, "me", Closed(Ending.WENT_BACK, text))
    yield Written(closed, advance(record, closed))


@given(ANY)
def test_printable_gives_one_line_without_commands(text: str) -> None:
    shown = printable(text)
    assert "\n" not in shown
    expect_harmless(shown)
    assert printable(shown) == shown, "looking twice changes nothing"


@pytest.mark.parametrize("text", ["::1", "::1:8080 refused", "fe80::1 ::x", "1.2.3.4", "## a", "é"])
def test_what_harms_nobody_stays_as_it_is(text: str) -> None:
    assert printable(text) == text


@given(ANY)
def test_the_plain_log_is_harmless(text: str) -> None:
    stream = io.StringIO()
    reporter = PlainReporter(stream)
    for event in story(text):
        reporter.event(event)
    expect_harmless(stream.getvalue())
    assert stream.getvalue().count("\n") >= 8


@given(ANY)
def test_githubs_log_holds_no_command_but_ours(text: str) -> None:
    stream = io.StringIO()
    reporter = github_reporter(stream)
    for event in story(text):
        reporter.event(event)
    ours = [r"^::group::wave \d+$", r"^::endgroup::$", r"^::error title=rolling-deploy::"]
    lines = stream.getvalue().split("\n")
    expect_harmless(stream.getvalue(), own=ours)
    assert sum(line.startswith("::group::") for line in lines) == 1
    assert sum(line.startswith("::error ") for line in lines) == 1


@given(ANY)
def test_gitlabs_log_holds_no_section_but_ours(text: str) -> None:
    stream = io.StringIO()
    reporter = gitlab_reporter(stream)
    for event in story(text):
        reporter.event(event)
    told = stream.getvalue()
    ours = [r"\x1b\[0Ksection_(start|end):\d+:wave_\d+\r\x1b\[0K"]
    expect_harmless(told, own=ours)
    assert len(re.findall(ours[0], told)) == 2


@given(ANY)
def test_the_json_stream_is_one_ascii_object_a_line_and_loses_nothing(text: str) -> None:
    stream = io.StringIO()
    reporter = JsonReporter(stream)
    events = list(story(text))
    for event in events:
        reporter.event(event)
    lines = stream.getvalue().splitlines()
    assert len(lines) == len(events)
    for line in lines:
        assert line.isascii()
        expect_harmless(line)
    assert json.loads(lines[0])["text"] == text
    assert json.loads(one_line({"a": text})) == {"a": text}


@settings(max_examples=40)
@given(ANY)
def test_the_live_view_draws_text_and_nothing_else(text: str) -> None:
    stream = io.StringIO()
    # No terminal: rich adds no escapes of its own, so any that is there is the machine's.
    console = Console(file=stream, highlight=False, force_terminal=False, width=20_000)
    reporter = LiveReporter(console)
    with contextlib.closing(reporter):
        for event in story(text):
            reporter.event(event)
            console.print(reporter._draw())
    expect_harmless(stream.getvalue())
    if "[bold red]" in text:
        assert "[bold red]markup[/bold red]" in stream.getvalue(), "shown, not obeyed"


def hostile_plan(text: str) -> PlanView:
    return PlanView(
        application=text,
        release=text,
        inventory=text,
        checks=(Check(text, text, Verdict.REFUSED, text),),
        backends=(BackendRow(text, text, text, text, text),),
        moves=(Act((Stage(text),)), Halt(Halted(Cause.BACKEND, text))),
        diffs=((text, (text, f"+{text}", f" {text}")),),
        reloads={text: 1},
        expected_from=text,
        lossy=(text,),
        gaps=(text,),
        notes=(text,),
    )


@given(ANY)
def test_the_plan_and_its_differences_are_harmless(text: str) -> None:
    lines = plan_lines(hostile_plan(text))
    assert all("\n" not in line for line in lines)
    expect_harmless("\n".join(lines))


@given(ANY)
def test_the_status_is_harmless(text: str) -> None:
    view = StatusView(
        text,
        (BalancerRow(text, text, text, text, text),),
        (BackendStatus(text, text, text, text, text),),
        text,
        RolloutRow(text, text, text, text, text, text),
        (text,),
    )
    expect_harmless("\n".join(status_lines(view)))


@given(ANY)
def test_the_report_at_the_end_is_harmless(text: str) -> None:
    entries = [event.entry for event in story(text) if isinstance(event, Written)]
    last = [event.record for event in story(text) if isinstance(event, Written)][-1]
    expect_harmless("\n".join(summary_lines(entries, last)))


@given(ANY)
def test_an_errors_message_is_harmless(text: str) -> None:
    errors = (
        PreflightRefused(text, where=text, site=text, next_step=text),
        InventoryWrong(text, problems=[text, text], where=text),
    )
    for error in errors:
        expect_harmless("\n".join(error_lines(error)))


@pytest.mark.parametrize("text", SHOWN_HARM)
def test_githubs_annotation_of_an_error_is_one_line(
    text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Viewer("github", github_reporter(sys.stderr)).failed(PreflightRefused(text, where=text))
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    expect_harmless(said, own=[r"^::error title=rolling-deploy::"])


def test_a_file_that_is_no_utf8_can_be_shown_in_a_plan() -> None:
    """A comment in another encoding must not end the plan with a traceback."""
    lines = plan_lines(hostile_plan(b"# caf\xe9".decode("utf-8", "surrogateescape")))
    "\n".join(lines).encode("utf-8")
