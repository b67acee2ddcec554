"""The last lines of a run: what was counted, and what was not, never as none."""

from __future__ import annotations

from rolling_deploy.report.losses import losses_lines, losses_object, requests_object
from rolling_deploy.report.summary import summary_lines, summary_object
from rolling_deploy.rollout.facts import Counted, Purpose
from rolling_deploy.rollout.fleet import Policy
from rolling_deploy.rollout.losses import NOBODY, UNTOLD, Count, Losses
from tests.unit.test_report import told
from tests.values import opened, record

FIRST = opened(policy=Policy(counts_losses=True, max_errors=10))
ALL = Losses(
    {
        "lb1 app1": Count(900, 0, 2, 1),
        "lb1 app2": Count(1_100, 3),
        f"lb2 {NOBODY}": Count(500, 1),
    },
    {"lb1 0": Count(1_000), "lb1 2": Count(1_000, 3, 2, 1), "lb2 1": Count(500, 1)},
    {"lb1 1": Count(40, 1), "lb2 1": Count(40)},
    {"lb1 /a.log": "1:2", "lb2 /b.log": "1:2"},
    last_failures={"lb1": "/home: is 502"},
)


def test_without_the_opt_in_the_last_line_says_why_nothing_was_counted() -> None:
    lines = summary_lines((), record(opened()))
    assert lines[-1] == "  losses: not counted (no prober, no access logs configured)"
    assert losses_object(record(opened())) is None
    assert requests_object(record(opened())) is None


def test_adopting_does_not_count_and_does_not_blame_the_inventory() -> None:
    adopting = opened(purpose=Purpose.ADOPT, policy=Policy(counts_losses=True))
    (line,) = losses_lines(record(adopting))
    assert line == "losses: not counted (only while backends are taken out)"


def test_the_sums_are_the_last_lines_with_who_and_when_before_them() -> None:
    lines = losses_lines(record(FIRST, Counted(ALL)))
    assert lines == [
        (
            "by backend: no backend 1 failed, 0 retried; app1 0 failed, 1 retried; "
            "app2 3 failed, 0 retried"
        ),
        "by phase: wave 1 1 failed, 0 retried; wave 2 3 failed, 1 retried",
        (
            "requests: 2,500 seen, 4 failed, 1 retried by nginx, 2 given up by the client "
            "(access logs of lb1, lb2)"
        ),
        "prober: 80 requests, 1 failed (the last one on lb1: /home: is 502)",
    ]


def test_a_program_gets_all_of_it() -> None:
    report = summary_object((), record(FIRST, Counted(ALL)))
    assert report["requests"] == {
        "seen": 2_500,
        "failed": 4,
        "given_up_by_client": 2,
        "retried": 1,
    }
    losses = report["losses"]
    assert losses["failed"] == 5
    assert losses["max_errors"] == 10
    assert losses["not_counted"] == []
    logs = losses["access_logs"]
    assert logs["by_backend"]["app2"]["failed"] == 3
    assert logs["by_load_balancer"]["lb2"]["seen"] == 500
    assert logs["by_phase"]["before wave 1"]["seen"] == 1_000
    assert losses["prober"]["by_phase"] == {"wave 1": {"requests": 80, "failed": 1}}


def test_retries_that_no_log_tells_are_not_counted_rather_than_none() -> None:
    untold = Losses({f"lb1 {UNTOLD}": Count(9)}, {"lb1 0": Count(9)}, ends={"lb1 /a": "1:2"})
    held = record(FIRST, Counted(untold))
    assert "retries not counted" in losses_lines(held)[-1]
    assert requests_object(held) == {
        "seen": 9,
        "failed": 0,
        "given_up_by_client": 0,
        "retried": None,
    }


def test_a_log_that_could_not_be_read_is_no_log_without_requests() -> None:
    gap = "lb1: access log: /var/log/a.log cannot be read: permission denied"
    held = record(FIRST, Counted(Losses(gaps=frozenset({gap}))))
    assert losses_lines(held) == [f"not counted: {gap}"]
    assert requests_object(held) is None
    told_to_programs = losses_object(held)
    assert told_to_programs is not None
    assert told_to_programs["access_logs"] is None
    assert told_to_programs["prober"] is None
    assert told_to_programs["not_counted"] == [gap]


def test_only_bad_news_has_a_line_while_it_runs() -> None:
    good = Losses({"lb1 app1": Count(50)}, {"lb1 1": Count(50)})
    bad = Losses({"lb1 app1": Count(50, 2)}, {"lb1 1": Count(50, 2)})
    assert len(told(Counted(good))) == len(told())
    line = told(Counted(good), Counted(bad))[-1]
    assert line.endswith("2 requests failed, 2 in all: lb1 2 (app1 2; wave 1 2)")
