"""Reading on in a real file with the real script: every line once, whatever becomes of the file."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from rolling_deploy.remote.access_log import Piece, read_logs
from tests.local_connection import LocalConnection


class Log:
    """One log that nginx, people and logrotate write to, and somebody who reads on in it."""

    def __init__(self, path: Path, connection: LocalConnection, chunk_bytes: int = 4_000) -> None:
        self.path = path
        self.connection = connection
        self.chunk_bytes = chunk_bytes
        self.end = ""

    def write(self, *lines: str, to: Path | None = None) -> None:
        with (to or self.path).open("a", encoding="utf-8") as file:
            file.write("".join(f"{line}\n" for line in lines))

    def look(self) -> Piece:
        """Read once; lines and gaps are those of this one answer."""
        found = read_logs(self.connection, {str(self.path): self.end}, chunk_bytes=self.chunk_bytes)
        assert isinstance(found, dict), found
        piece = found[str(self.path)]
        self.end = piece.end
        return piece

    def rest(self) -> tuple[list[str], list[str]]:
        """Read until there is no more; answers lines and gaps."""
        lines: list[str] = []
        gaps: list[str] = []
        for _ in range(100):
            piece = self.look()
            lines += [line.decode() for line in piece.lines]
            gaps += piece.gaps
            if not piece.has_more:
                return lines, gaps
        raise AssertionError("it never comes to an end")


@pytest.fixture
def log(tmp_path: Path) -> Log:
    path = tmp_path / "logs" / "access.log"
    path.parent.mkdir()
    path.write_text("from before\n")
    return Log(path, LocalConnection())


def test_what_was_there_before_the_first_look_is_not_read(log: Log) -> None:
    assert log.look().lines == ()
    assert log.rest() == ([], [])
    log.write("one", "two")
    assert log.rest() == (["one", "two"], [])
    assert log.rest() == ([], [])


def test_all_logs_of_a_machine_are_read_in_one_round_trip(log: Log, tmp_path: Path) -> None:
    other = tmp_path / "other.log"
    other.write_text("")
    ends = {str(log.path): "", str(other): ""}
    first = read_logs(log.connection, ends)
    assert isinstance(first, dict)
    log.write("one")
    other.write_text("two\n")
    sent = log.connection.commands
    second = read_logs(log.connection, {path: piece.end for path, piece in first.items()})
    assert isinstance(second, dict)
    assert log.connection.commands == sent + 1
    assert [piece.lines for piece in second.values()] == [(b"one",), (b"two",)]


def test_half_a_line_is_read_when_it_is_whole(log: Log) -> None:
    log.look()
    with log.path.open("a") as file:
        file.write("one\ntw")
        file.flush()
        assert log.rest() == (["one"], [])
        file.write("o\n")
    assert log.rest() == (["two"], [])


def test_more_than_fits_into_one_answer_is_read_in_several(log: Log) -> None:
    log.look()
    lines = [f"{number} {'x' * (number % 90)}" for number in range(1_000)]
    log.write(*lines)
    first = log.look()
    assert first.has_more
    assert sum(len(line) + 1 for line in first.lines) <= log.chunk_bytes
    rest, gaps = log.rest()
    assert [line.decode() for line in first.lines] + rest == lines
    assert gaps == []


def test_bytes_of_any_kind_come_as_they_are(log: Log) -> None:
    log.look()
    odd = bytes(range(1, 10)) + bytes(range(11, 256))
    with log.path.open("ab") as file:
        file.write(odd + b"\n")
    assert log.look().lines == (odd,)


@pytest.mark.parametrize("name", ["access.log.1", "access.log-20261122", "access-1.log"])
def test_a_rotation_in_the_middle_loses_no_line(log: Log, name: str) -> None:
    log.look()
    log.write("one")
    assert log.rest()[0] == ["one"]
    log.write("two")
    rotated = log.path.with_name(name)
    log.path.rename(rotated)
    log.write("three", to=rotated)  # nginx has not opened the new one yet
    assert log.rest() == (["two", "three"], [])
    log.write("four")  # the new one
    log.write("five", to=rotated)  # a worker that is still slower
    assert sorted(log.rest()[0]) == ["five", "four"]
    log.write("six", to=rotated)
    log.write("seven")
    lines, gaps = log.rest()
    assert sorted(lines) == ["seven", "six"]
    assert gaps == []


def rotate_twice(log: Log) -> Path:
    """Rotate with a line in each file; answers the one in the middle, hours older than the log."""
    log.write("one")
    oldest = log.path.rename(log.path.with_name("access.log.2"))
    os.utime(oldest, (1_000, 1_000))
    log.write("two")
    middle = log.path.rename(log.path.with_name("access.log.1"))
    log.write("three")
    return middle


def test_two_rotations_between_two_looks_lose_no_line(log: Log) -> None:
    log.look()
    log.path.with_name("access.log-other").write_text("another log\n")
    rotate_twice(log)
    lines, gaps = log.rest()
    assert sorted(lines) == ["one", "three", "two"]
    assert gaps == []
    log.write("four")
    assert log.rest() == (["four"], [])


def test_a_file_between_that_was_compressed_is_said_to_be_missing(log: Log) -> None:
    log.look()
    middle = rotate_twice(log)
    middle.rename(middle.with_name("access.log.1.gz"))
    lines, gaps = log.rest()
    assert sorted(lines) == ["one", "three"]
    assert "access.log.1.gz is compressed" in gaps[0]


def test_a_log_that_is_gone_is_said_to_be_not_complete(log: Log) -> None:
    log.look()
    log.write("one")
    log.path.unlink()
    log.write("two")
    lines, gaps = log.rest()
    assert lines == ["two"]
    assert len(gaps) == 1
    assert "not counted completely" in gaps[0]


def test_a_log_that_was_cut_short_is_read_from_its_beginning_and_said_so(log: Log) -> None:
    log.look()
    os.truncate(log.path, 0)
    log.write("one")
    lines, gaps = log.rest()
    assert lines == ["one"]
    assert "cut short" in gaps[0]


def test_a_log_that_was_rewritten_longer_than_it_was_is_noticed(log: Log) -> None:
    log.look()
    log.path.write_text("another text altogether, and longer than it was\n")
    lines, gaps = log.rest()
    assert lines == []
    assert "rewritten" in gaps[0]
    log.write("two")
    assert log.rest() == (["two"], [])


def test_an_old_file_that_is_compressed_later_is_no_loss(log: Log) -> None:
    log.look()
    rotated = log.path.with_name("access.log.1")
    log.path.rename(rotated)
    log.write("one")
    assert log.rest()[0] == ["one"]
    rotated.unlink()
    log.write("two")
    assert log.rest() == (["two"], [])


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to read as somebody else")
def test_a_log_that_may_not_be_read_gives_the_reason_and_no_lines(log: Log) -> None:
    for folder in (*log.path.parents,):
        if str(folder).startswith("/tmp/"):
            folder.chmod(0o755)
    log.path.chmod(0o600)
    log.connection = LocalConnection(user=65_534)
    piece = log.look()
    assert (piece.lines, piece.end) == ((), "")
    assert "permission denied" in piece.gaps[0]


def test_a_missing_log_a_folder_and_a_device_give_their_reasons(log: Log, tmp_path: Path) -> None:
    for path in (tmp_path / "none.log", tmp_path, Path("/dev/null")):
        found = read_logs(log.connection, {str(path): ""})
        assert isinstance(found, dict)
        assert found[str(path)].gaps[0]
        assert found[str(path)].end == ""


def test_a_machine_without_gzip_is_read_all_the_same(log: Log, tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("sh", "env", "stat", "tail", "head", "base64", "tr", "cat"):
        (tools / name).symlink_to(shutil.which(name) or name)
    log.connection = LocalConnection(environment={"PATH": str(tools)})
    log.look()
    log.write("one")
    assert log.rest() == (["one"], [])


def test_hostile_names_are_only_names(tmp_path: Path) -> None:
    path = tmp_path / "a $(touch pwned); 'b\" *.log"
    path.write_text("")
    log = Log(path, LocalConnection())
    log.look()
    log.write("one")
    assert log.rest() == (["one"], [])
    assert not (tmp_path / "pwned").exists()
