"""What the reader sees, in every form."""

from __future__ import annotations

import io
import json

import pytest

from rolling_deploy.errors import InventoryWrong, RolloutHalted
from rolling_deploy.ports import Awaiting, Checked, Event, Said, Written
from rolling_deploy.report.columns import columns
from rolling_deploy.report.json_lines import JsonReporter, event_object
from rolling_deploy.report.plain import (
    PlainReporter,
    event_line,
    github_reporter,
    gitlab_reporter,
    printable,
)
from rolling_deploy.report.plan import BackendRow, PlanView, plan_lines, plan_object
from rolling_deploy.report.summary import summary_lines, summary_object
from rolling_deploy.report.viewer import Viewer, viewer
from rolling_deploy.report.wording import backend_state, closed_text, duration
from rolling_deploy.rollout.facts import (
    Cause,
    Claimed,
    Closed,
    Decided,
    DeclaredOff,
    Ending,
    Fact,
    Forced,
    GaveUp,
    Halted,
    Proved,
    Released,
    TakenOver,
)
from rolling_deploy.rollout.fold import advance, fold
from rolling_deploy.rollout.journal import Entry
from rolling_deploy.rollout.observed import Check, Verdict
from rolling_deploy.rollout.step import Goal
from tests.values import activated, opened, record


def told(*facts: Fact) -> list[str]:
    """The log lines of a rollout that begins with `opened()` and goes on with these facts."""
    stream = io.StringIO()
    reporter = PlainReporter(stream)
    for event in events(*facts):
        reporter.event(event)
    return stream.getvalue().splitlines()


def events(*facts: Fact) -> list[Event]:
    entries = [Entry(n, n * 1000, 1, "me", f) for n, f in enumerate((opened(), *facts), start=1)]
    current = fold(entries[:1])
    found: list[Event] = [Written(entries[0], current)]
    for entry in entries[1:]:
        current = advance(current, entry)
        found.append(Written(entry, current))
    return found


@pytest.mark.parametrize(
    ("took_ms", "text"),
    [(0, "0 ms"), (999, "999 ms"), (1500, "1.5 s"), (59_900, "59.9 s"), (245_000, "4 min 05 s")],
)
def test_durations_are_said_as_people_read_them(took_ms: int, text: str) -> None:
    assert duration(took_ms) == text


def test_a_good_rollout_reads_as_a_story() -> None:
    first = opened()
    proofs = (Proved("app1", Goal.RELEASE, "session continuity: not checked"), Released(1, ()))
    lines = told(*activated(first, "app1"), *proofs)
    text = "\n".join(lines)
    assert "rollout roll: shop r2 on app1, app2, app3" in lines[0]
    assert "wave 1: app1" in text
    assert "lb1: publish with app1 down, reload: done" in text
    assert "app1: stop, put r2 in place, start: done" in text
    assert "app1: proven good on r2 (session continuity: not checked)" in text
    assert lines[-1].endswith("wave 1 back in rotation, proved on every load balancer")


def test_a_load_balancer_that_is_off_is_never_called_proved() -> None:
    lines = told(DeclaredOff(frozenset({"lb2"}), "me"), Claimed(1, ("app1",)), Released(1, ()))
    assert lines[-1].endswith("proved on every load balancer but lb2, which was declared off")


@pytest.mark.parametrize(
    ("fact", "text"),
    [
        (TakenOver("me", lost=True), "from a load balancer's copy of the record"),
        (TakenOver("me", reason="it hung"), "because it hung"),
        (Decided("me", ("app2",)), "leaving out app2"),
        (Halted(Cause.DRAIN, "not drained"), "halted (drain): not drained"),
        (Closed(Ending.NOTHING_TOUCHED, "no"), "nothing touched: no"),
        (Closed(Ending.WENT_BACK, "bad"), "failed and went back: bad"),
    ],
)
def test_every_end_and_answer_has_its_line(fact: Fact, text: str) -> None:
    assert text in told(fact)[-1]


def test_done_names_everybody_who_is_not_on_the_release() -> None:
    first = opened(order=("app1", "app2"), parked=frozenset({"app3"}))
    done = fold([Entry(1, 0, 1, "me", first), Entry(2, 0, 1, "me", Decided("me", ("app2",)))])
    text = closed_text(done, Closed(Ending.DONE))
    assert "every backend" not in text
    assert "app3: parked by a person" in text
    assert "app2" in text


def test_what_could_steer_a_terminal_is_made_visible() -> None:
    assert printable("a\x1b[31mb\nc\u202e") == "a\\x1b[31mb\\nc\\u202e"
    line = event_line(Said(0, "evil\x1b]0;title\x07"))
    assert line is not None
    assert "\x1b" not in line


def test_a_wait_is_told_once_until_something_happens() -> None:
    stream = io.StringIO()
    reporter = PlainReporter(stream)
    for count in range(5):
        reporter.event(Awaiting(count, 60_000, f"app1: answer {count}"))
    assert len(stream.getvalue().splitlines()) == 1
    reporter.event(events()[0])
    reporter.event(Awaiting(9, 60_000, "app1: answer 9"))
    assert len(stream.getvalue().splitlines()) == 3


def test_every_event_is_one_json_object_a_line() -> None:
    stream = io.StringIO()
    reporter = JsonReporter(stream)
    check = Check("lb1", "nginx test", Verdict.REFUSED, "no\n\x1b")
    for event in [*events(*activated(opened(), "app1")), Checked(1, check), Said(2, "x")]:
        reporter.event(event)
    objects = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert objects[0]["event"] == "opened"
    assert "frozen" not in objects[0]["fact"]
    assert objects[-2] == {
        "event": "checked",
        "at_ms": 1,
        "subject": "lb1",
        "name": "nginx test",
        "verdict": "refused",
        "detail": "no\n\x1b",
    }
    assert stream.getvalue().isascii()
    assert {o["event"] for o in objects} >= {"intended", "ended", "claimed", "said"}


def test_a_waiting_event_says_until_when() -> None:
    assert event_object(Awaiting(1, 2, "why"))["until_ms"] == 2


def test_github_folds_waves_and_marks_an_error() -> None:
    stream = io.StringIO()
    reporter = github_reporter(stream)
    for event in events(
        Claimed(1, ("app1",)), GaveUp(("app1",), Cause.ASKED, "no"), Halted(Cause.DRAIN, "50% left")
    ):
        reporter.event(event)
    lines = stream.getvalue().splitlines()
    assert "::group::wave 1" in lines
    assert lines.index("::endgroup::") > lines.index("::group::wave 1")
    assert lines[-1] == "::error title=rolling-deploy::halted (drain): 50%25 left"


def test_gitlab_gets_sections_that_open_and_close() -> None:
    stream = io.StringIO()
    reporter = gitlab_reporter(stream)
    for event in events(Claimed(1, ("app1",)), Closed(Ending.DONE)):
        reporter.event(event)
    text = stream.getvalue()
    assert "section_start:2:wave_1" in text
    assert "section_end:3:wave_1" in text


class Deaf:
    """A view whose reader has gone."""

    def event(self, event: Event) -> None:
        raise BrokenPipeError

    def close(self) -> None:
        """Nothing is held."""


def test_a_reader_that_has_gone_does_not_end_a_rollout() -> None:
    view = Viewer("plain", Deaf())
    for event in events():
        view.event(event)


class Kept:
    """A view that keeps what it is given."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def event(self, event: Event) -> None:
        self.events.append(event)

    def close(self) -> None:
        """Nothing is held."""


def test_checks_that_are_fine_are_counted_and_the_others_shown() -> None:
    kept = Kept()
    view = Viewer("plain", kept)
    fine = Checked(1, Check("lb1", "tools", Verdict.OK))
    odd = Checked(1, Check("lb1", "port", Verdict.NOT_CHECKED, "why"))
    for event in (fine, odd, fine, *events()):
        view.event(event)
    assert kept.events[0] == odd
    assert kept.events[1] == Said(1000, "2 checks ok")
    assert fine not in kept.events


def test_auto_is_plain_without_a_terminal_and_marked_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("GITHUB_ACTIONS", "GITLAB_CI"):
        monkeypatch.delenv(variable, raising=False)
    assert viewer("auto").kind == "plain"
    monkeypatch.setenv("GITLAB_CI", "true")
    assert viewer("auto").kind == "gitlab"
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    assert viewer("auto").kind == "github"
    assert viewer("json").kind == "json"


def test_an_error_is_an_object_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    viewer("json").failed(InventoryWrong("wrong", problems=["a:1: b"], next_step="mend it"))
    error = json.loads(capsys.readouterr().out)
    assert error["exit_code"] == 3
    assert error["problems"] == ["a:1: b"]
    assert error["site"] == "nothing was touched"


def test_an_error_is_an_annotation_on_github(capsys: pytest.CaptureFixture[str]) -> None:
    viewer("github").failed(RolloutHalted("halt\x1b", where="lb1"))
    assert capsys.readouterr().err == "::error title=rolling-deploy::halt\\x1b (lb1)\n"


def test_the_report_names_what_was_not_checked_and_what_was_forced() -> None:
    facts = (
        *activated(opened(), "app1"),
        Forced(1, "2 workers on lb1"),
        Proved("app1", Goal.RELEASE, "session continuity: not checked"),
        Released(1, ()),
        Closed(Ending.DONE),
    )
    entries = [e.entry for e in events(*facts) if isinstance(e, Written)]
    report = summary_object(entries, fold(entries))
    assert report["reloads"] == {"lb1": 1, "lb2": 1}
    assert report["forced"] == ["2 workers on lb1"]
    assert "session continuity (app1)" in report["not_checked"]
    assert report["backends"]["app1"] == "serving r2"
    assert report["ending"] == "done"
    lines = "\n".join(summary_lines(entries, fold(entries)))
    assert "not checked: sessions of users" in lines
    assert lines.endswith("losses: not counted (no prober, no access logs configured)")


def test_a_claimed_backend_is_never_called_serving() -> None:
    current = record(opened(), *activated(opened(), "app1"))
    assert backend_state(current, "app1").startswith("out")
    assert backend_state(current, "app2") == "serving r1, staged"


def test_a_plan_that_is_refused_says_so_last() -> None:
    check = Check("lb1", "nginx test", Verdict.REFUSED, "unknown directive")
    row = BackendRow("app1", "web1", "a", "serves r1, healthy", "r2")
    plan = PlanView("shop", "r2", "inventory.yaml", (check,), (row,))
    lines = plan_lines(plan)
    assert lines[-1].startswith("refused: 1 check stands in the way")
    assert any("unknown directive" in line for line in lines)
    assert plan_object(plan)["is_refused"] is True
    assert plan_object(plan)["has_changes"] is False


def test_columns_line_up_and_end_without_blanks() -> None:
    assert columns([["a", "bb", ""], ["ccc", "d", "e"]]) == ["  a    bb", "  ccc  d   e"]
