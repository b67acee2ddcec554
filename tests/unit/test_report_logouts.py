"""What is said of logged-out users: a line while they are, one at the end, and never a guess."""

from __future__ import annotations

from dataclasses import replace

from rolling_deploy.ports import Written
from rolling_deploy.report.logouts import logouts_lines, logouts_object
from rolling_deploy.report.summary import summary_lines, summary_object
from rolling_deploy.report.wording import event_text
from rolling_deploy.rollout.facts import Claimed, Fact, Marked, Purpose, Released, Watched
from rolling_deploy.rollout.fleet import Policy
from rolling_deploy.rollout.journal import Entry
from rolling_deploy.rollout.logouts import Logouts, Pace
from tests.values import opened, record

FIRST = opened(policy=Policy(watches_logouts=True))
BEFORE = Logouts(ends={"app1 /log": "7:1", "app2 /log": "8:1"}, pace=Pace(500, 75, 300_000))
QUIET = Logouts(read={"app1": 1_000, "app2": 234}, pace=Pace(500, 1, 5_000))
LINE = "java.io.InvalidClassException: Cart"
LOUD = replace(QUIET, lines={"app1": 2}, examples={"app1": (LINE,)})


def facts(seen: Logouts, before: Logouts = BEFORE) -> tuple[Fact, ...]:
    wave = (Claimed(1, ("app1",)), Marked(("app1",), ("app2",), before), Released(1, ()))
    return (*wave, Watched(1, seen))


def test_without_the_section_it_is_not_checked() -> None:
    lines = summary_lines((), record(opened()))
    assert "  logged-out users: not checked (no `logout_watch` is configured)" in lines
    assert summary_object((), record(opened()))["logouts"] is None


def test_without_a_wave_it_is_not_checked_either() -> None:
    assert logouts_lines(record(FIRST)) == [
        "logged-out users: not checked (no backend was stopped for the release)"
    ]


def test_where_no_wave_came_back_with_the_release_it_is_not_checked() -> None:
    before = facts(QUIET)[:2]
    assert logouts_lines(record(FIRST, *before)) == [
        "logged-out users: not checked (no wave was back in rotation with the release)"
    ]
    # What was seen all the same, right before the stop, is said.
    loud = (before[0], Marked(("app1",), ("app2",), replace(LOUD, ends=BEFORE.ends)))
    assert logouts_lines(record(FIRST, *loud))[0].startswith("users were logged out: app1 (2 lines")


def test_adopting_says_nothing_of_it() -> None:
    assert logouts_lines(record(opened(purpose=Purpose.ADOPT))) == []


def test_no_sign_is_said_with_what_was_looked_at() -> None:
    assert logouts_lines(record(FIRST, *facts(QUIET))) == [
        (
            "no sign of users logged out: the logs of app1, app2, 1,234 bytes read; "
            "sessions: 1 of 500 sampled are new within 5 s"
        )
    ]


def test_signs_are_said_at_once_and_at_the_end() -> None:
    after = record(FIRST, *facts(LOUD))
    said = f"app1 (2 lines say that a session cannot be read: {LINE})"
    told = event_text(Written(Entry(5, 5, 1, "laptop", Watched(1, LOUD)), after))
    assert told == ("", f"users may be logged out: {said}")
    assert logouts_lines(after)[0].startswith(f"users were logged out: {said}; the logs of app1")


def test_a_wave_without_a_sign_is_worth_no_line() -> None:
    after = record(FIRST, *facts(QUIET))
    assert event_text(Written(Entry(5, 5, 1, "laptop", Watched(1, QUIET)), after)) is None


def test_what_was_not_read_is_said_and_is_never_no_sign() -> None:
    gap = "app1: log not read: permission denied"
    none = Logouts(gaps=frozenset({gap}), pace=Pace(gap="no session store is configured"))
    lines = logouts_lines(record(FIRST, *facts(none, none)))
    assert lines == [
        f"not checked: {gap}",
        "not checked: how fast sessions come: no session store is configured",
        "logged-out users: not checked by any log",
    ]


def test_a_program_gets_all_of_it() -> None:
    assert logouts_object(record(FIRST, *facts(LOUD))) == {
        "lines": 2,
        "by_backend": {
            "app1": {"bytes_read": 1_000, "lines": 2, "examples": [LINE]},
            "app2": {"bytes_read": 234, "lines": 0, "examples": []},
        },
        "new_sessions": {"sampled": 500, "new": 1, "window_ms": 5_000},
        "new_sessions_before": {"sampled": 500, "new": 75, "window_ms": 300_000},
        "accepted": False,
        "not_checked": [],
    }
