"""What a halt says of the site: only what was seen is told as seen."""

from __future__ import annotations

from rolling_deploy.operations.life import site_text
from rolling_deploy.rollout.observed import Seen
from tests.values import FOUND, START_MS, opened, record, runs, seen


def test_who_was_not_asked_in_the_last_look_is_named() -> None:
    look = Seen(START_MS, FOUND, {"app1": runs("r1")})
    assert site_text(record(opened()), look) == (
        "app1, app2, app3 in rotation; app2, app3 not asked lately"
    )
    assert site_text(record(opened()), seen(FOUND)) == "app1, app2, app3 in rotation"


def test_of_very_many_some_are_named() -> None:
    names = tuple(f"app{number:03}" for number in range(100))
    first = opened(order=names)
    text = site_text(record(first), Seen(START_MS, FOUND, {names[0]: runs("r1")}))
    assert text.endswith("; app001, app002, app003, app004, app005 and 94 others not asked lately")
