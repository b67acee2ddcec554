"""The program where it is used: in the pipelines of the docs, at a terminal, with every option."""

from __future__ import annotations

import os
import pty
import re
import shutil
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from rolling_deploy.demo.fleet import NEXT_RELEASE, FleetShape
from tests.programs import write_program
from tests.rig.fixtures import rig, stand_fixture
from tests.rig_tools import LIMIT_S, ROOT, Ended, Rig, message_in, wait_until

__all__ = ["rig"]

stand = stand_fixture(FleetShape(backends=2, load_balancers=1, start_delay_ms=0))

pytestmark = pytest.mark.timeout(900)

SOON = ("on_failure: halt", "on_failure: halt\n  ready_limit_s: 3")
CI_VARIABLES = ("GITHUB_", "GITLAB_", "CI_", "ROLLING_DEPLOY_")
TERMINAL_VARIABLES = {"CI", "NO_COLOR", "FORCE_COLOR", "COLORTERM", "COLUMNS", "LINES"}
COLOUR = re.compile(r"\x1b\[(?:\d+;)*(?:[349][0-8]|10[0-7])(?:;\d+)*m")
HIDDEN_CURSOR, ERASED_LINE = "\x1b[?25l", "\x1b[2K"


def environment(**more: str) -> dict[str, str]:
    """Answers this process's environment without what a CI system or a terminal would add."""
    ours = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(CI_VARIABLES) and name not in TERMINAL_VARIABLES
    }
    return {**ours, "PYTHONPATH": str(ROOT), **more}


# In a pipeline.


def strings_in(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list):
        for each in value.values() if isinstance(value, Mapping) else value:
            yield from strings_in(each)


def commands_of_the_docs() -> dict[str, str]:
    """Answers the `rolling-deploy run` lines of the pipelines in the docs, by their output."""
    page = (ROOT / "docs" / "ci.md").read_text(encoding="utf-8")
    found = {}
    for block in re.findall(r"^```yaml\n(.*?)^```", page, re.MULTILINE | re.DOTALL):
        for text in strings_in(YAML(typ="safe").load(block)):
            if text.startswith("rolling-deploy run "):
                output = re.search(r"--output (\w+)", text)
                assert output, text
                found[output[1]] = text
    return found


def in_a_job(rig: Rig, line: str, tmp_path: Path, **variables: str) -> Ended:
    """Run a line of a pipeline as it stands, where the inventory is, without a terminal."""
    programs = tmp_path / "bin"
    programs.mkdir()
    program = programs / "rolling-deploy"
    write_program(program, f'#!/bin/sh\nexec "{sys.executable}" -m rolling_deploy "$@"\n')
    variables["PATH"] = f"{programs}:{os.environ['PATH']}"
    variables["ROLLING_DEPLOY_STATE_DIR"] = str(tmp_path / "state")
    ended = subprocess.run(
        [shutil.which("bash") or "/bin/sh", "-e", "-c", line],
        check=False,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=LIMIT_S,
        env=environment(**variables),
        cwd=rig.fleet.directory,
    )
    # Decoded here: a section's mark holds a carriage return, which is to stay one.
    return Ended(ended.returncode, ended.stdout.decode(), ended.stderr.decode())


def expect_report(report: str, release: str) -> None:
    """The text is the report of a rollout that brought both backends on the release."""
    for backend in ("app1", "app2"):
        assert re.search(rf"^\s*{backend}\s+serving {release}\b", report, re.MULTILINE), report


def test_the_docs_have_a_pipeline_for_each_ci_system() -> None:
    assert sorted(commands_of_the_docs()) == ["github", "gitlab"]


def test_the_github_job_of_the_docs_deploys_folds_waves_and_writes_the_summary(
    rig: Rig, tmp_path: Path
) -> None:
    after = rig.next_release()
    page = tmp_path / "summary.md"
    job = {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(page)}
    line = commands_of_the_docs()["github"]
    with rig.users():
        ended = in_a_job(rig, line, tmp_path, **job, GITHUB_REF_NAME=f"v{after}").must_be(0)
    marks = re.findall(r"^::.*$", ended.stderr, re.MULTILINE)
    assert marks == ["::group::wave 1", "::endgroup::", "::group::wave 2", "::endgroup::"]
    assert "::" not in ended.stdout
    expect_report(ended.stdout, after)
    assert page.read_text(encoding="utf-8") == f"```\n{ended.stdout}```\n"
    rig.expect_well(after)


@pytest.mark.every
def test_the_gitlab_job_of_the_docs_deploys_and_folds_waves(rig: Rig, tmp_path: Path) -> None:
    after = rig.next_release()
    line = commands_of_the_docs()["gitlab"]
    job = {"GITLAB_CI": "true", "CI_COMMIT_TAG": f"v{after}"}
    with rig.users():
        ended = in_a_job(rig, line, tmp_path, **job).must_be(0)
    marks = re.findall(r"\x1b\[0Ksection_(start|end):\d+:(\w+)\r\x1b\[0K", ended.stderr)
    waves = ("wave_1", "wave_2")
    assert marks == [(mark, wave) for wave in waves for mark in ("start", "end")]
    assert "section_" not in ended.stdout
    expect_report(ended.stdout, after)
    rig.expect_well(after)


@pytest.mark.every
def test_a_plain_job_has_no_marks_of_any_ci_system(rig: Rig, tmp_path: Path) -> None:
    after = rig.next_release()
    page = tmp_path / "summary.md"
    line = commands_of_the_docs()["github"].replace("--output github", "--output plain")
    job = {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(page)}
    ended = in_a_job(rig, line, tmp_path, **job, GITHUB_REF_NAME=f"v{after}").must_be(0)
    assert not re.search(r"^::", ended.stderr, re.MULTILINE)
    assert "\x1b" not in ended.stderr + ended.stdout
    assert re.search(r"^\d\d:\d\d:\d\d\.\d wave 1: app1$", ended.stderr, re.MULTILINE)
    assert not page.exists()
    expect_report(ended.stdout, after)
    rig.expect_well(after)


@pytest.mark.every
def test_a_job_that_halts_is_annotated_and_ends_with_4(rig: Rig, tmp_path: Path) -> None:
    before = rig.release()
    inventory = rig.inventory("soon", SOON)
    bad = f"{NEXT_RELEASE}-broken"
    line = commands_of_the_docs()["github"].replace("inventory.yaml", inventory.name)
    job = {"GITHUB_ACTIONS": "true", "GITHUB_REF_NAME": f"v{bad}"}
    ended = in_a_job(rig, line, tmp_path, **job).must_be(4)
    alarms = re.findall(r"^::error title=rolling-deploy::(.*)$", ended.stderr, re.MULTILINE)
    assert alarms
    assert all("app1" in alarm and "status should be 200, is 500" in alarm for alarm in alarms)
    assert ended.stderr.count("::group::") == ended.stderr.count("::endgroup::") == 1
    assert ended.stderr.index("::endgroup::") < ended.stderr.index("::error ")
    assert inventory.name in ended.message.next, "what is pasted has to mean this inventory"
    rig.do("abort", "--yes", by="a-person").must_be(0)
    rig.expect_well(before)


# At a terminal.


class Terminal:
    """A command with a terminal of its own for input and output, and who sits before it."""

    def __init__(self, rig: Rig, *words: str, **variables: str) -> None:
        self._seen = bytearray()
        self._master, slave = pty.openpty()
        termios.tcsetwinsize(slave, (40, 160))
        where = ("-i", str(rig.fleet.inventory_path), "--state-dir", str(rig.states / "terminal"))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "rolling_deploy", *words, *where],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=environment(TERM="xterm-256color", **variables),
            cwd=ROOT,
            start_new_session=True,
        )
        os.close(slave)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        # The last program gone, a terminal's reader gets an input/output error.
        with suppress(OSError):
            while piece := os.read(self._master, 65_536):
                self._seen += piece

    @property
    def text(self) -> str:
        """Answers everything that was written to the terminal."""
        return bytes(self._seen).decode("utf-8", "replace")

    def answer(self, question: str, answer: str) -> None:
        """Wait for the question, then type."""
        wait_until(lambda: question in self.text or self.process.poll() is not None, question)
        assert question in self.text, self.text
        os.write(self._master, f"{answer}\n".encode())

    def end(self) -> int:
        """Wait for the end and answer the exit code."""
        try:
            code = self.process.wait(LIMIT_S)
            self._reader.join(10)
        finally:
            self.close()
        return code

    def close(self) -> None:
        """Take the terminal away, whatever the command is at; safe to call again."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)
        self._reader.join(10)
        if self._master >= 0:
            os.close(self._master)
            self._master = -1


@contextmanager
def terminal(rig: Rig, *words: str, **variables: str) -> Iterator[Terminal]:
    """A command at a terminal; it ends with the test."""
    opened = Terminal(rig, *words, **variables)
    try:
        yield opened
    finally:
        opened.close()


def test_a_person_who_answers_no_has_touched_nothing(rig: Rig) -> None:
    before, files, workers = rig.release(), rig.managed(), rig.workers()
    with terminal(rig, "run", "--release", rig.next_release()) as screen:
        screen.answer("[y/N]", "n")
        assert screen.end() == 0, screen.text
        assert message_in(screen.text.replace("\r\n", "\n")).what == ""
    assert rig.managed() == files
    rig.expect_no_reload(workers)
    rig.expect_well(before)


def test_a_person_who_answers_yes_sees_the_rollout_live_and_in_colour(rig: Rig) -> None:
    after = rig.next_release()
    with rig.users():
        with terminal(rig, "run", "--release", after) as screen:
            screen.answer("[y/N]", "y")
            assert screen.end() == 0, screen.text
    _, _, asked = screen.text.partition("[y/N]")
    assert HIDDEN_CURSOR in asked
    assert ERASED_LINE in asked
    assert COLOUR.search(asked)
    expect_report(screen.text.replace("\r\n", "\n"), after)
    rig.expect_well(after)


def test_who_wants_no_colour_gets_the_live_view_without(rig: Rig) -> None:
    after = rig.next_release()
    with terminal(rig, "run", "--release", after, "--yes", NO_COLOR="1") as screen:
        assert screen.end() == 0, screen.text
    assert ERASED_LINE in screen.text
    found = COLOUR.search(screen.text)
    assert found is None, repr(found)
    rig.expect_well(after)
