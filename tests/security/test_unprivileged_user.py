"""An SSH user without rights, the sudoers file of the documentation, and not one line more."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from rolling_deploy.demo.fleet import FIRST_RELEASE, NEXT_RELEASE
from tests.rig_tools import Rig, intends
from tests.security.unprivileged import Scene, documented, running, why_not

pytestmark = [
    pytest.mark.rig,
    pytest.mark.timeout(900),
    pytest.mark.skipif(bool(why_not()), reason=why_not()),
]


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    # Not pytest's own folder, which nobody else may enter.
    place = Path(tempfile.mkdtemp(prefix="rd-test-"))
    place.chmod(0o755)
    try:
        with running(place) as up:
            yield up
    finally:
        shutil.rmtree(place, ignore_errors=True)


def managed(rig: Rig) -> dict[str, tuple[bytes, int, int, int]]:
    """Answers the bytes, owner, group and mode of the managed files."""
    found = {}
    for balancer in rig.fleet.balancers:
        about = balancer.upstream_file.stat()
        content = balancer.upstream_file.read_bytes()
        found[balancer.name] = (content, about.st_uid, about.st_gid, about.st_mode & 0o7777)
    return found


def expect_refused(scene: Scene, missing: str, *words: str) -> str:
    """Without this entry the command ends before it touches anything; answers where and why."""
    rig = scene.rig
    before, workers = managed(rig), rig.workers()
    scene.allow([entry for entry in scene.entries if entry != missing])
    ended = rig.do(*words, "--yes").must_be(8)
    assert ended.message.site == "nothing was touched"
    assert managed(rig) == before
    rig.expect_no_reload(workers)
    assert not (scene.folder / "systemctl.log").exists()
    return ended.message.where


@pytest.mark.every
def test_a_missing_line_is_named_before_anything_is_touched(scene: Scene) -> None:
    for_balancers = scene.entries[: len(documented(0))]
    for missing in for_balancers:
        said = expect_refused(scene, missing, "adopt")
        assert f"add `{missing}`" in said, said
    scene.allow(for_balancers)
    scene.rig.do("adopt", "--yes").must_be(0)
    for missing in (for_balancers[-1], *scene.entries[len(for_balancers) :][1:3]):
        said = expect_refused(scene, missing, "run", "--release", NEXT_RELEASE)
        command = missing.partition("NOPASSWD: /usr/bin/")[2]
        if command.startswith("systemctl"):
            assert f"`sudo -n -- {command}` is not allowed there" in said, said
        else:
            assert f"add `{missing}`" in said, said
    scene.allow(scene.entries)
    scene.rig.do("unadopt", "--yes").must_be(0)


def test_the_documented_lines_are_all_that_a_rollout_and_its_resume_need(scene: Scene) -> None:
    rig = scene.rig
    scene.allow(scene.entries)
    before = managed(rig)
    with rig.users() as load:
        rig.do("adopt", "--yes").must_be(0)
        run = rig.start("run", "--release", NEXT_RELEASE, "--yes")
        run.at(intends("Activate", "app2"), lambda _: os.kill(run.process.pid, signal.SIGKILL))
        assert run.end().exit_code == 137
        rig.do("unlock", "--yes", by="second").must_be(0)
        rig.do("resume", "--yes", by="second").must_be(0)
        rig.expect_well(NEXT_RELEASE)
        # Root's file stays root's, with the mode it had.
        for name, (content, *owner) in managed(rig).items():
            assert owner == list(before[name][1:])
            assert content != before[name][0]
        rig.run(FIRST_RELEASE, by="second").must_be(0)
        rig.expect_well(FIRST_RELEASE)
        rig.do("unadopt", "--yes").must_be(0)
        assert managed(rig) == before
        seen = load.snapshot()
    print(f"{seen.requests} requests, 0 failed; {seen.sessions_followed} sessions, 0 lost")
    log = (scene.folder / "systemctl.log").read_text("utf-8").splitlines()
    assert {tuple(line.split()) for line in log} == {
        (word, f"{node.name}.service") for word in ("stop", "start") for node in rig.fleet.nodes
    }


def test_nothing_of_it_is_left_on_the_machine(scene: Scene) -> None:
    """Its user and its sudoers file exist in the SSH server's own mounts only."""
    for path in ("passwd", "group", "shadow", "sudoers"):
        assert "rd-test-" not in Path("/etc", path).read_text("utf-8")
    assert not [p for p in Path("/etc/sudoers.d").iterdir() if "rd-test" in p.name]
    assert "rd-test" not in Path("/proc/self/mounts").read_text("utf-8")
