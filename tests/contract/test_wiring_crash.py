"""Killed in the middle of an activation: whatever it dies at, it is finished or taken back."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from rolling_deploy.rollout.step import Outcome
from tests.assassin import Assassin
from tests.documents import read_xml
from tests.session_manager import sha256_of
from tests.strategies_fixture import TOKEN, wait_until
from tests.wired_tomcat import LABEL, WiredTomcat, seen, wired_tomcat

CHANGING = ("chgrp", "chmod", "chown", "cp", "mkdir", "mv", "rm", "sync")
"""What these scripts run that changes something; stop and start have their own tests."""
STEP = 8
"""In the short form every eighth call is tried, and each of those that put a file in place."""

pytestmark = pytest.mark.timeout(900)


@pytest.fixture
def tomcat(tmp_path: Path) -> Iterator[WiredTomcat]:
    with wired_tomcat(tmp_path) as made:
        yield made


def _has_what_it_names(tomcat: WiredTomcat) -> bool:
    """Whoever starts Tomcat in the middle starts it with all that its `context.xml` asks for."""
    files = tomcat.files()
    added = {"conf/redisson.yaml", *(f"lib/{path.name}" for path in tomcat.jars.iterdir())}
    return read_xml(files["conf/context.xml"]).find("Manager") is None or added <= files.keys()


def _is_whole(tomcat: WiredTomcat, artifact: str) -> bool:
    manifest = tomcat.store / f"{artifact}.manifest"
    if not manifest.exists():
        return False
    digests = {line.split()[0] for line in manifest.read_text().splitlines()}
    here = {path.stem for path in tomcat.store.glob("*.blob") if sha256_of(path) == path.stem}
    return digests <= here


def _points(calls: list[str], is_long: bool) -> list[int]:
    """The numbers of the calls to die at."""
    placing = [
        at for at, call in enumerate(calls, 1) if call.startswith(("mv -f -T --", "rm -f --"))
    ]
    spread = range(1, len(calls) + 1, 1 if is_long else STEP)
    return sorted({*placing, *spread})


@pytest.mark.parametrize(
    "is_long", [False, pytest.param(True, marks=pytest.mark.every)], ids=["short", "long"]
)
@pytest.mark.parametrize("way", ["forth", pytest.param("back", marks=pytest.mark.every)])
def test_whatever_command_an_activation_dies_at_it_can_be_finished_or_taken_back(
    tomcat: WiredTomcat, tmp_path: Path, way: str, is_long: bool
) -> None:
    assassin = Assassin(tmp_path / "assassin", CHANGING)
    strategy = tomcat.strategy()
    stock, plain = str(seen(strategy).artifact), tomcat.files()
    wired = strategy.artifact_id(LABEL)
    assert strategy.stage(LABEL, TOKEN).outcome is Outcome.DONE
    start, goal = (stock, wired) if way == "forth" else (wired, stock)
    # Once there and back, as the first time makes a directory and raises the fence.
    for artifact in (wired, stock, start):
        assert strategy.activate(artifact, TOKEN).outcome is Outcome.DONE
    files = {start: tomcat.files()}
    first = tomcat.strategy(assassin.connection(0)).activate(goal, TOKEN)
    assert first.outcome is Outcome.DONE, first
    files[goal] = tomcat.files()
    assert files[stock] == plain
    calls = assassin.said()
    mixed = 0
    for index, at in enumerate(_points(calls, is_long)):
        assert strategy.activate(start, TOKEN).outcome is Outcome.DONE, at
        before = set(tomcat.app.pids())
        died = tomcat.strategy(assassin.connection(at)).activate(goal, TOKEN)
        assert died.outcome is Outcome.UNKNOWN, (at, died)
        wait_until(lambda: not seen(strategy).is_busy, "the end of what was begun")
        look = seen(strategy)
        mixed += look.artifact not in {stock, wired}
        assert _has_what_it_names(tomcat), at
        if look.artifact == goal:
            now = set(tomcat.app.pids())
            assert look.is_restarted_since_swap is bool(now - before), at
        assert {stock, wired} <= look.staged, at
        assert tomcat.strategy().artifact_id(LABEL) == wired, "another life wants the same"
        onward = goal if index % 2 else start
        result = strategy.activate(onward, TOKEN)
        assert result.outcome is Outcome.DONE, (at, result)
        after = seen(strategy)
        assert (after.artifact, after.is_restarted_since_swap) == (onward, True), at
        assert tomcat.files() == files[onward], at
    assert mixed, "some of the deaths leave one file new and another old"
    assert not list(tomcat.base.glob("**/.*.rolling-deploy"))


def test_an_edit_of_half_placed_files_stops_whoever_would_finish(
    tomcat: WiredTomcat, tmp_path: Path
) -> None:
    assassin = Assassin(tmp_path / "assassin", CHANGING)
    strategy = tomcat.strategy()
    stock = str(seen(strategy).artifact)
    wired = strategy.artifact_id(LABEL)
    strategy.stage(LABEL, TOKEN)
    tomcat.strategy(assassin.connection(0)).activate(wired, TOKEN)
    placing = [at for at, call in enumerate(assassin.said(), 1) if call.startswith("mv -f -T --")]
    strategy.activate(stock, TOKEN)
    tomcat.strategy(assassin.connection(placing[2])).activate(wired, TOKEN)
    wait_until(lambda: not seen(strategy).is_busy, "the end of what was begun")
    assert seen(strategy).artifact not in {stock, wired}
    context = tomcat.base / "conf" / "context.xml"
    before = context.read_bytes()
    context.write_bytes(before + b"<!-- mine -->")
    for artifact in (wired, stock):
        result = strategy.activate(artifact, TOKEN)
        assert result.outcome is Outcome.REFUSED
        assert str(context) in result.detail
    assert context.read_bytes() == before + b"<!-- mine -->"
    context.write_bytes(before)
    assert strategy.activate(stock, TOKEN).outcome is Outcome.DONE


@pytest.mark.parametrize(
    "is_long", [False, pytest.param(True, marks=pytest.mark.every)], ids=["short", "long"]
)
def test_whatever_command_a_staging_dies_at_it_is_ready_whole_or_not_at_all(
    tomcat: WiredTomcat, tmp_path: Path, is_long: bool
) -> None:
    assassin = Assassin(tmp_path / "assassin", CHANGING)
    before = tomcat.files()
    strategy = tomcat.strategy()
    wired = strategy.artifact_id(LABEL)
    tomcat.strategy(assassin.connection(0)).stage(LABEL, TOKEN)
    deaths, points = 0, range(1, len(assassin.said()) + 1, 1 if is_long else STEP)
    for at in points:
        shutil.rmtree(tomcat.store)
        died = tomcat.strategy(assassin.connection(at)).stage(LABEL, TOKEN)
        if died.outcome is Outcome.DONE:
            # It had answered already; or only the first one came so far, as it raised the fence.
            assert wired in seen(strategy).staged, at
            continue
        wait_until(lambda: not seen(strategy).is_busy, "the end of what was begun")
        # It counts as ready if, and only if, all of it is here.
        is_ready = wired in seen(strategy).staged
        assert is_ready == _is_whole(tomcat, wired), at
        deaths += not is_ready
        assert strategy.stage(LABEL, TOKEN).outcome is Outcome.DONE, at
        assert wired in seen(strategy).staged, at
        assert tomcat.files() == before, at
    assert deaths > len(points) / 2
    assert strategy.activate(wired, TOKEN).outcome is Outcome.DONE
