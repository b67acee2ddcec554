"""What the lines of a look mean: unknown never becomes fine."""

from __future__ import annotations

import base64

import pytest

from rolling_deploy.remote.nginx import Look, look_from, settings_arguments
from rolling_deploy.remote.script import parse_reply
from rolling_deploy.rollout.observed import Fence, ManagedFile, Stamp
from rolling_deploy.settings import LoadBalancerSettings

OURS = b"# ours \xff\n"


def inspect(text: bytes) -> ManagedFile:
    stamp = Stamp("shop", "r1", 1, "g2", frozenset(), "") if text == OURS else None
    return ManagedFile("d", stamp, is_intact=stamp is not None)


def look(*lines: str, file: bytes | None = OURS) -> Look:
    said = ["busy=0", "fence=3 ann", "master=10", "pid_state=ok", "live=g2", "answers=200 g2"]
    if file is not None:
        said.append("file:=" + base64.b64encode(file).decode())
    text = "\n".join([*said, *lines, "end=done", ""])
    return look_from(parse_reply(text.encode()), inspect)


def test_all_is_well_when_every_worker_is_of_the_generation_that_is_served() -> None:
    told = look("snapshot=g2", "worker=11 500 current - -", "worker=12 501 current - -")
    assert (told.seen.live, told.seen.is_settled, told.seen.earlier_workers) == ("g2", True, 0)
    assert told.seen.detail == ""
    assert (told.text, told.fence, told.master) == (OURS, Fence(3, "ann"), 10)


def test_earlier_workers_are_counted_and_described() -> None:
    told = look(
        "snapshot=g2",
        "worker=11 500 current - -",
        "worker=8 90 retiring g0 3",
        "worker=9 91 unretired - -",
    )
    assert told.seen.earlier_workers == 2
    assert not told.seen.is_settled
    assert told.seen.detail == (
        "worker 8, retiring, of generation g0, 3 connections; worker 9, still taking connections"
    )


@pytest.mark.parametrize(
    ("snapshot", "file"),
    [("", OURS), ("snapshot=g1", OURS), ("snapshot=g2", b"# theirs\n"), ("snapshot=g2", None)],
)
def test_without_the_snapshot_of_this_very_file_nothing_is_known(
    snapshot: str, file: bytes | None
) -> None:
    told = look(snapshot, "worker=11 500 current - -", file=file)
    assert told.seen.earlier_workers is None
    assert "no snapshot" in told.seen.detail


def test_without_a_master_nothing_is_known() -> None:
    told = look("master=0", "no_master=no running nginx master was found", "snapshot=g2")
    assert told.seen.earlier_workers is None
    assert not told.seen.is_settled
    assert "no running nginx master was found" in told.seen.detail


def test_only_retiring_workers_are_no_settled_nginx() -> None:
    assert not look("snapshot=g2", "worker=11 500 retiring - -").seen.is_settled


def test_another_masters_workers_settle_nothing() -> None:
    assert not look("snapshot=g2", "worker=11 500 other - -").seen.is_settled


def test_an_answer_that_this_application_never_published_is_not_live() -> None:
    assert look("snapshot=g2", "live=x9").seen.live is None
    assert look("snapshot=g2", "live=g1", "is_published=1").seen.live == "g1"


def test_answers_that_differ_are_shown_and_nothing_is_live() -> None:
    told = look("live=", "answers=200 g1 200 g2")
    assert told.seen.live is None
    assert "200 g1 200 g2" in told.seen.detail


def test_a_lock_that_is_held_is_seen() -> None:
    assert look("busy=1").seen.is_busy


def settings(**changes: object) -> LoadBalancerSettings:
    base = {"name": "lb1", "host": "h", "file": "/f", "state_dir": "/s"}
    return LoadBalancerSettings(**{**base, **changes})  # type: ignore[arg-type] # plain words


def test_the_application_is_asked_for_under_its_own_name() -> None:
    assert settings_arguments(settings(), "Shop")[3] == "shop.rolling-deploy.internal"


def test_the_words_of_a_command_travel_one_a_line() -> None:
    arguments = settings_arguments(settings(test=("nginx", "-t", "-c", "/a b")), "shop")
    assert arguments[9] == "nginx\n-t\n-c\n/a b"


@pytest.mark.parametrize("word", ["", "a\nb"])
def test_a_word_that_would_become_two_or_none_is_an_error(word: str) -> None:
    with pytest.raises(ValueError, match="nginx command"):
        settings_arguments(settings(reload=("nginx", word)), "shop")
