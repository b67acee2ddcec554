"""`make demo-tomcat` as a person tries it: three releases, and the table at the end."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.rig_tools import LIMIT_S, ROOT, wait_until
from tests.strategies_fixture import pids_with
from tests.tomcat_demo.parts import USUAL_PORTS
from tests.tomcat_rig import servers_and_jars

pytestmark = [pytest.mark.rig, pytest.mark.timeout(600)]

USERS = 4


def start(folder: Path, *words: str, **changed: str) -> subprocess.Popen[bytes]:
    """Start the demo in a process group of its own, as a terminal does."""
    ours = {n: v for n, v in os.environ.items() if not n.startswith(("GITHUB_", "GITLAB_"))}
    environment: Mapping[str, str] = {**ours, "PYTHONPATH": str(ROOT), **changed}
    with (folder / "out").open("wb") as out, (folder / "err").open("wb") as err:
        return subprocess.Popen(
            [sys.executable, "-m", "tests.tomcat_demo", "--output", "plain", *words],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            process_group=0,
        )


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Where the demo makes its own folder and what it says is kept; it must leave nothing."""
    yield tmp_path
    assert pids_with(f"{tmp_path}/rolling-deploy-demo-tomcat-") == []
    assert list(tmp_path.glob("rolling-deploy-demo-tomcat-*")) == []


def play(folder: Path, *words: str) -> tuple[list[tuple[str, ...]], str]:
    """Run the demo to its good end; answers the rows of its table, and what it said on the way."""
    servers_and_jars()
    demo = start(folder, "--users", str(USERS), *words, TMPDIR=str(folder))
    try:
        code = demo.wait(2 * LIMIT_S)
    finally:
        demo.kill()
    said, told = (folder / "out").read_text(), (folder / "err").read_text()
    print(said)
    assert code == 0, f"{said[-4000:]}\n{told[-4000:]}"
    assert f"users logged in at the start: {USERS}\n" in said
    usual = all(f"localhost:{port}, " in told for port in USUAL_PORTS)
    assert usual or "taken on this machine" in told
    rows = re.findall(r"^(\S+) +([\d,]+) +(\d+) +(\d+)  (\w+)", said, re.MULTILINE)
    assert all(int(count.replace(",", "")) >= USERS for _, count, *_ in rows)
    seen: list[tuple[str, ...]] = [
        (release, failed, out, what) for release, _, failed, out, what in rows
    ]
    return seen, f"{told}\n{said}"


@pytest.mark.every
def test_the_demo_shows_a_release_being_refused_and_nobody_being_logged_out(folder: Path) -> None:
    rows, told = play(folder, "--only", "2.0-class")
    assert rows == [("2.0-class", "0", "0", "refused")]
    assert "`com.example.shop.Cart`: serialVersionUID is -26" in told


@pytest.mark.every
def test_the_demo_rolls_one_release_and_stops_two_and_nobody_is_logged_out(folder: Path) -> None:
    rows, told = play(folder)
    assert rows == [
        ("2.0", "0", "0", "rolled"),
        ("2.0-class", "0", "0", "refused"),
        ("2.0-prefix", "0", "0", "halted"),
    ]
    # What a person sees on the way: the reasons, in the words of the command itself.
    assert "before the rollout is not read on tomcat1 (2.0-prefix)" in told
    assert "aborted: tomcat1: back on what ran before, serving" in told
    # And what was read of their logs while the first one rolled.
    assert "whether users are logged out, by the logs of tomcat1, tomcat2" in told
    assert re.search(r"no sign of users logged out: the logs of tomcat1, tomcat2, [\d,]{4,}", told)
    assert "logged-out users: not checked (no wave was back in rotation with the release)" in told


@pytest.mark.every
def test_an_interrupted_demo_leaves_nothing_behind(folder: Path) -> None:
    servers_and_jars()
    demo = start(folder, "--users", str(USERS), TMPDIR=str(folder))
    try:
        wait_until(lambda: "wave 1: tomcat1" in (folder / "err").read_text(), "a wave has begun")
        assert pids_with(f"{folder}/rolling-deploy-demo-tomcat-")
        os.killpg(demo.pid, signal.SIGINT)
        assert demo.wait(LIMIT_S) == 128 + signal.SIGINT
    finally:
        demo.kill()
    assert "interrupted; every server was ended" in (folder / "err").read_text()


def test_what_is_missing_is_told_at_once_and_nothing_is_started(folder: Path) -> None:
    nothing = folder / "nothing"
    nothing.mkdir()
    home = {"HOME": str(nothing), "PATH": str(nothing), "TMPDIR": str(folder)}
    assert start(folder, **home).wait(LIMIT_S) == 2
    told = (folder / "err").read_text()
    assert (folder / "out").read_text() == ""
    what, rest = told.split("\n", 1)
    assert what.startswith("error: missing on this machine: ")
    for program in ("java", "javac", "mvn, which fetches the session manager once"):
        assert program in what
    assert "  site: nothing was touched\n" in rest
    assert "  next: make servers " in rest
