"""The record on this disk: kept line by line, held by one process, never repaired in silence."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from rolling_deploy.errors import RecordWrong, RolloutHeld
from rolling_deploy.rollout.facts import TakenOver
from rolling_deploy.rollout.journal import GENESIS, Entry, encode
from rolling_deploy.state.record_file import RecordFile, default_state_dir
from tests.values import opened


def lines(count: int) -> list[bytes]:
    """The lines of a record with this many entries."""
    found, previous = [], GENESIS
    for seq in range(1, count + 1):
        fact = opened() if seq == 1 else TakenOver(f"life {seq}")
        line, previous = encode(Entry(seq, seq, 1, "me", fact), previous)
        found.append(line)
    return found


@pytest.fixture
def file(tmp_path: Path) -> RecordFile:
    return RecordFile(tmp_path / "state", "shop", "r-1")


def test_what_is_put_is_read_back(file: RecordFile) -> None:
    one, two, three = lines(3)
    file.put([one, two], 0)
    file.put([three], len(one) + len(two))
    assert file.read().lines == (one, two, three)


def test_no_file_is_an_empty_record(file: RecordFile) -> None:
    assert file.read().lines == ()


def test_a_torn_last_line_is_dropped_and_overwritten(file: RecordFile) -> None:
    one, two = lines(2)
    file.put([one], 0)
    file.close()
    with file.path.open("ab") as torn:
        torn.write(two[:-10])
    assert file.read().lines == (one,)
    assert file.read().torn == len(two) - 10
    file.put([two], len(one))
    assert file.read().lines == (one, two)
    assert file.read().torn == 0


def test_a_line_that_was_changed_is_refused_with_its_place(file: RecordFile) -> None:
    file.put(lines(2), 0)
    content = file.path.read_bytes()
    file.path.write_bytes(content.replace(b"life 2", b"life 3"))
    with pytest.raises(RecordWrong) as caught:
        file.read()
    assert caught.value.where == f"{file.path}:2"


def test_only_its_owner_can_read_it(file: RecordFile) -> None:
    file.put(lines(1), 0)
    assert file.path.stat().st_mode & 0o777 == 0o600
    assert file.path.parent.stat().st_mode & 0o777 == 0o700


def test_two_processes_never_hold_one_record(file: RecordFile, tmp_path: Path) -> None:
    file.hold()
    other = RecordFile(tmp_path / "state", "shop", "r-1")
    assert other.is_held_elsewhere()
    with pytest.raises(RolloutHeld):
        other.hold()
    file.close()
    assert not other.is_held_elsewhere()
    other.hold()
    other.close()


def test_holding_twice_is_holding_once(file: RecordFile) -> None:
    file.hold()
    file.hold()
    file.close()


def test_what_is_given_up_is_free_although_a_child_has_it_open(file: RecordFile) -> None:
    file.hold()
    fd = file._fd
    assert fd is not None
    inherited = os.dup(fd)  # what a child has between fork and exec
    try:
        file.close()
        again = RecordFile(file.path.parents[1], file.path.parent.name, file.path.stem)
        again.hold()
        again.close()
    finally:
        os.close(inherited)


def test_a_holder_that_was_killed_holds_nothing(tmp_path: Path) -> None:
    script = (
        "import sys, pathlib, time\n"
        "from rolling_deploy.state.record_file import RecordFile\n"
        "f = RecordFile(pathlib.Path(sys.argv[1]), 'shop', 'r-1'); f.hold()\n"
        "print('held', flush=True); sys.stdin.read()\n"
    )
    root = Path(__file__).resolve().parent.parent.parent
    holder = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    other = RecordFile(tmp_path, "shop", "r-1")
    assert other.is_held_elsewhere()
    holder.kill()
    holder.communicate()
    assert not other.is_held_elsewhere()


def test_a_link_in_place_of_the_record_is_refused_by_whoever_reads_or_holds(
    file: RecordFile, tmp_path: Path
) -> None:
    file.put(lines(1), 0)
    file.close()
    file.path.rename(tmp_path / "elsewhere")
    file.path.symlink_to(tmp_path / "elsewhere")
    for use in (file.read, file.hold):
        with pytest.raises(RecordWrong, match="should be a file, is a link") as caught:
            use()
        assert caught.value.where == str(file.path)
    assert (tmp_path / "elsewhere").read_bytes() == lines(1)[0]


def test_a_full_disk_leaves_the_record_as_it_was(tmp_path: Path) -> None:
    """The limit on a file's size stands for the full disk: the same short write, then an error."""
    one, two = lines(2)
    file = RecordFile(tmp_path, "shop", "r-1")
    file.put([one], 0)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(one) + 20, hard))
    try:
        with pytest.raises(RecordWrong) as caught:
            file.put([two], len(one))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert "resume" in caught.value.next_step
    assert file.read().lines == (one,)
    assert file.read().torn == 0


def test_the_default_place_follows_the_base_directories(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/somewhere")
    assert default_state_dir() == Path("/somewhere/rolling-deploy")
