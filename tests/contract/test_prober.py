"""The prober against an application that misbehaves on purpose: every request counted once."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from rolling_deploy.remote.connection import CannotReach, ForwardingRefused
from rolling_deploy.remote.opener import open_directly
from rolling_deploy.remote.prober import AGENT, Prober, Probes, Way
from rolling_deploy.settings import ProberSettings
from tests.misbehaving_app import App, Asked, Says, running_app
from tests.redis_server import free_port
from tests.rig_tools import wait_until

pytestmark = pytest.mark.timeout(120)

QUICK = ProberSettings(path="/home", host_header="shop.example", interval_ms=5, timeout_ms=5_000)


def prober(app: App, settings: ProberSettings = QUICK) -> Prober:
    return Prober(settings, {"lb1": Way(open_directly, app.address)})


def test_every_request_is_counted_and_says_whose_it_is() -> None:
    with running_app(lambda _: Says()) as app:
        asking = prober(app)
        asking.start()
        wait_until(lambda: asking.seen()["lb1"].requests >= 5, "five requests")
        assert asking.finish() == frozenset()
        seen = asking.seen()["lb1"]
        assert seen == Probes(len(app.asked))
        assert {asked.path for asked in app.asked} == {"/home"}
        assert {asked.headers["user-agent"] for asked in app.asked} == {AGENT}
        assert {asked.headers["host"] for asked in app.asked} == {"shop.example"}


def test_a_page_that_begins_a_session_begins_one_and_not_one_for_each_request() -> None:
    sets = {"set-cookie": "JSESSIONID=0123ABCD; Path=/; HttpOnly"}
    with running_app(lambda a: Says(headers={} if "cookie" in a.headers else sets)) as app:
        asking = prober(app)
        asking.start()
        wait_until(lambda: asking.seen()["lb1"].requests >= 5, "five requests")
        asking.finish()
        assert [a.headers.get("cookie") for a in app.asked][:3] == [
            None,
            "JSESSIONID=0123ABCD",
            "JSESSIONID=0123ABCD",
        ]


def test_a_request_that_was_begun_is_finished_and_counted() -> None:
    may_answer = threading.Event()

    def slowly(asked: Asked) -> Says:
        may_answer.wait(30)
        return Says(503)

    with running_app(slowly) as app:
        asking = prober(app)
        asking.start()
        wait_until(lambda: app.asked, "the request has come")
        threading.Timer(0.3, may_answer.set).start()
        assert asking.finish() == frozenset()
        assert asking.seen()["lb1"].requests == len(app.asked) == 1
        assert asking.seen()["lb1"].answered_5xx == 1


def test_what_is_not_as_it_should_be_has_failed_whatever_the_reason() -> None:
    answers = {0: Says(200), 1: Says(404), 2: Says(503), 3: Says(302)}
    with running_app(lambda asked: answers.get(asked.number % 4, Says())) as app:
        asking = prober(app)
        asking.start()
        wait_until(lambda: asking.seen()["lb1"].requests >= 8, "eight requests")
        asking.finish()
        numbers = [asked.number % 4 for asked in app.asked]
    seen = asking.seen()["lb1"]
    assert seen.failed == sum(number != 0 for number in numbers)
    assert seen.answered_5xx == sum(number == 2 for number in numbers)
    assert "status should be 200, is " in seen.last_failure


def test_a_status_that_is_expected_has_not_failed() -> None:
    with running_app(lambda _: Says(301)) as app:
        asking = prober(app, replace(QUICK, status=(200, 301)))
        asking.start()
        wait_until(lambda: asking.seen()["lb1"].requests >= 3, "three requests")
        asking.finish()
    assert asking.seen()["lb1"].failed == 0


def test_a_load_balancer_that_refuses_and_one_that_never_answers_have_failed() -> None:
    with running_app(lambda _: Says(after_s=60)) as app:
        ways = {
            "lb1": Way(open_directly, f"127.0.0.1:{free_port()}"),
            "lb2": Way(open_directly, app.address),
        }
        asking = Prober(replace(QUICK, timeout_ms=200), ways)
        asking.start()
        wait_until(lambda: all(p.failed >= 2 for p in asking.seen().values()), "both failed twice")
        assert asking.finish() == frozenset()
    seen = asking.seen()
    assert seen["lb1"].failed == seen["lb1"].requests
    assert seen["lb2"].failed == seen["lb2"].requests
    assert "no answer from http://" in seen["lb1"].last_failure
    assert "no whole answer within 200 ms" in seen["lb2"].last_failure


def test_a_way_that_breaks_in_an_unknown_manner_has_failed_and_is_asked_again() -> None:
    def broken(host: str, port: int, *, timeout_ms: int) -> object:
        raise RuntimeError("a bug")

    asking = Prober(QUICK, {"lb1": Way(broken, "127.0.0.1:80")})  # type: ignore[arg-type] # broken
    asking.start()
    wait_until(lambda: asking.seen()["lb1"].failed >= 2, "two failures")
    asking.finish()
    assert "RuntimeError: a bug" in asking.seen()["lb1"].last_failure


def test_after_its_end_nothing_is_asked_until_it_is_started_again() -> None:
    with running_app(lambda _: Says()) as app:
        asking = prober(app)
        asking.start()
        asking.start()  # one at a time all the same
        wait_until(lambda: app.asked, "a request")
        asking.finish()
        asked = len(app.asked)
        assert asking.seen()["lb1"].requests == asked
        asking.start()
        wait_until(lambda: len(app.asked) > asked, "more requests")
        asking.finish()
        assert asking.seen()["lb1"].requests == len(app.asked)


@pytest.mark.parametrize(
    ("error", "has_failed"),
    [
        (CannotReach("the connection was lost"), False),
        (ForwardingRefused("sshd forbids forwarding", is_prohibited=True), False),
        (ForwardingRefused("connection refused", is_prohibited=False), True),
    ],
)
def test_what_could_not_be_asked_has_not_failed_but_a_refusal_over_there_has(
    error: Exception, has_failed: bool
) -> None:
    def opener(host: str, port: int, *, timeout_ms: int) -> object:
        raise error

    asking = Prober(QUICK, {"lb1": Way(opener, "127.0.0.1:80")})  # type: ignore[arg-type] # raises
    asking.start()
    wait_until(
        lambda: asking.seen()["lb1"].failed >= 2 or asking.seen()["lb1"].why_unasked, "it was tried"
    )
    asking.finish()
    seen = asking.seen()["lb1"]
    if has_failed:
        assert (seen.failed, seen.why_unasked) == (seen.requests, "")
        assert "connection refused" in seen.last_failure
    else:
        assert seen == Probes(why_unasked=str(error))


def test_no_answer_over_a_way_that_turns_out_to_be_broken_has_not_failed() -> None:
    is_cut = threading.Event()

    def answer(asked: Asked) -> Says:
        return Says(after_s=60) if is_cut.is_set() else Says()

    with running_app(answer) as app:
        way = Way(open_directly, app.address, lambda: "cut" if is_cut.is_set() else "")
        asking = Prober(replace(QUICK, timeout_ms=200), {"lb1": way})
        asking.start()
        wait_until(lambda: asking.seen()["lb1"].requests >= 2, "two requests")
        is_cut.set()
        wait_until(lambda: asking.seen()["lb1"].why_unasked, "it was not asked")
        asking.finish()
    seen = asking.seen()["lb1"]
    assert (seen.failed, seen.why_unasked) == (0, "cut")
