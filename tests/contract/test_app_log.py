"""Signs of logged-out users in real files, by the real scripts: whatever becomes of the files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rolling_deploy.remote.app_log import (
    CHUNK_BYTES,
    TOMCAT_LOGS,
    Reading,
    Signs,
    find_files,
    read_app_logs,
    shown,
)
from tests.local_connection import LocalConnection

SIGN = "Caused by: java.io.InvalidClassException: com.example.Cart; local class incompatible"
CHANGED = "com.example.Cart; local class incompatible: stream classdesc serialVersionUID = -2643671"
SEEN = (
    f"INFO: Failed to load session [31230733F361B24B904D3E27941ABA82] due to [{CHANGED}]",
    "SEVERE: Loading session [31230733F361B24B904D3E27941ABA82] from the store failed",
    "SEVERE: Error deserializing Session [E77149C3DB99157EFB3F8B996DE11E89]",
    "SEVERE: Exception loading sessions from persistent storage",
    f"Caused by: java.io.InvalidClassException: {CHANGED}, local class serialVersionUID = 2",
    "Caused by: java.io.IOException: java.lang.ClassNotFoundException: com.example.Preferences",
)
"""As Tomcat 10.1.60 and Redisson 3.39.0 wrote them."""

USUAL = (
    "INFO: Deployment of web application archive [/srv/ROOT.war] has finished in [2,815] ms",
    "SEVERE: Servlet.service() for servlet [shop] in context with path [] threw exception",
    "java.lang.ClassNotFoundException: com.example.Plugin",
    "java.io.NotSerializableException: com.example.Cart",
    "WARNING: Cannot serialize session attribute [cart] for session [A1]",
    "INFO: Waiting [5,000] milliseconds for existing connections to complete and close.",
)


class Backend:
    """One backend's logs, and somebody who reads on in them."""

    def __init__(self, base: Path, logs: tuple[str, ...] = ("catalina.out",)) -> None:
        self.base = base
        self.logs = logs
        self.connection = LocalConnection()
        self.ends: dict[str, str] | None = None
        self.needs_all = True
        self.signs = Signs()

    def path(self, name: str = "catalina.out") -> Path:
        return self.base / name

    def write(self, *lines: str, to: str = "catalina.out") -> None:
        with self.path(to).open("a", encoding="utf-8") as file:
            file.write("".join(f"{line}\n" for line in lines))

    def look(self) -> Reading:
        logs = [str(self.base / log) for log in self.logs]
        read = read_app_logs(self.connection, logs, self.ends, self.signs, needs_all=self.needs_all)
        self.ends = {**(self.ends or {}), **read.ends}
        return read


@pytest.fixture
def backend(tmp_path: Path) -> Backend:
    made = Backend(tmp_path)
    made.write("from before", SIGN)
    return made


def test_what_stood_there_before_the_stop_is_no_sign(backend: Backend) -> None:
    assert backend.look().count == 0
    backend.write("fine")
    read = backend.look()
    assert (read.count, read.read, read.gaps) == (0, 5, ())


def test_what_is_written_after_it_is_read_once(backend: Backend) -> None:
    backend.look()
    backend.write("fine", SIGN, f"12:00:01 [exec-2] {SIGN}")
    read = backend.look()
    assert read.count == 2
    assert read.examples == (SIGN.removeprefix("Caused by: "),)
    assert backend.look().count == 0


@pytest.mark.parametrize("line", SEEN)
def test_a_line_that_was_seen_for_real_is_a_sign_and_shows_no_session_id(
    backend: Backend, line: str
) -> None:
    backend.look()
    backend.write(line)
    read = backend.look()
    assert read.count == 1
    assert "31230733F361B24B904D3E27941ABA82" not in str(read.examples)
    assert "E77149C3DB99157EFB3F8B996DE11E89" not in str(read.examples)


@pytest.mark.parametrize("line", USUAL)
def test_what_is_written_at_any_restart_is_none(backend: Backend, line: str) -> None:
    backend.look()
    backend.write(line)
    assert backend.look().count == 0


def test_half_a_line_of_a_process_that_was_killed_hides_nothing(backend: Backend) -> None:
    with backend.path().open("a") as file:
        file.write("half a li")
    assert backend.look().ends == {str(backend.path()): _end(backend.path(), -len("half a li"))}
    backend.write("", SIGN)
    read = backend.look()
    assert (read.count, read.gaps) == (1, ())


def _end(path: Path, more: int = 0) -> str:
    found = path.stat()
    return f"{found.st_ino}:{found.st_size + more}"


def test_a_new_file_of_the_same_name_is_read_from_its_beginning(backend: Backend) -> None:
    backend.look()
    backend.write("the last words")
    backend.path().rename(backend.path("catalina.out.1"))
    backend.write(SIGN)
    read = backend.look()
    assert (read.count, read.gaps) == (1, ())
    assert read.read == len("the last words\n") + len(SIGN) + 1


def test_of_a_file_that_is_gone_it_is_said_and_the_new_one_is_read(backend: Backend) -> None:
    backend.look()
    backend.path().rename(backend.path("somewhere-else"))
    backend.write(SIGN)
    read = backend.look()
    assert read.count == 1
    assert any("gone" in gap for gap in read.gaps)


def test_copytruncate_is_said_and_what_follows_is_read(backend: Backend) -> None:
    backend.write(*["long before"] * 50)
    backend.look()
    os.truncate(backend.path(), 0)
    backend.write(SIGN)
    read = backend.look()
    assert read.count == 1
    assert any("cut short" in gap for gap in read.gaps)


def test_a_file_that_was_written_anew_and_longer_is_not_called_fine(backend: Backend) -> None:
    backend.look()
    os.truncate(backend.path(), 0)
    backend.write("x" * 5_000)
    assert any("rewritten" in gap for gap in backend.look().gaps)


@pytest.mark.parametrize("why", ["there is no", "is no file"])
def test_a_log_that_is_not_there_is_not_checked(tmp_path: Path, why: str) -> None:
    backend = Backend(tmp_path)
    if why == "is no file":
        backend.path().mkdir()
    read = backend.look()
    assert not read.ends
    assert why in read.gaps[0]


@pytest.mark.skipif(os.geteuid() != 0, reason="another user is needed, which only root can be")
def test_a_log_that_may_not_be_read_is_not_checked_although_another_is_there(
    tmp_path: Path,
) -> None:
    backend = Backend(tmp_path, ("catalina.out", "localhost.log"))
    backend.needs_all = False
    backend.write("fine")
    backend.write(SIGN, to="localhost.log")
    backend.path("localhost.log").chmod(0o600)
    for folder in (tmp_path, *tmp_path.parents):
        if str(folder).startswith("/tmp/"):
            folder.chmod(0o755)
    backend.connection = LocalConnection(user=65_534)
    read = backend.look()
    assert list(read.ends) == [str(backend.path())]
    assert "permission denied" in read.gaps[0]


def test_a_log_that_comes_only_with_the_start_is_read_whole(backend: Backend) -> None:
    backend.logs, backend.needs_all = ("catalina.out", "localhost.log"), False
    backend.look()
    backend.write(SIGN, to="localhost.log")
    assert backend.look().count == 1


def test_of_tomcats_own_logs_the_newest_day_counts_and_a_new_day_is_read_too(
    tmp_path: Path,
) -> None:
    (tmp_path / "logs").mkdir()
    backend = Backend(tmp_path, TOMCAT_LOGS)
    backend.needs_all = False
    for day in ("2026-11-21", "2026-11-22"):
        backend.write(SIGN, to=f"logs/localhost.{day}.log")
    read = backend.look()
    assert list(read.ends) == [str(tmp_path / "logs/localhost.2026-11-22.log")]
    assert read.gaps == ()
    backend.write(SIGN, to="logs/localhost.2026-11-22.log")
    backend.write(SIGN, SIGN, to="logs/localhost.2026-11-23.log")
    assert backend.look().read == 3 * (len(SIGN) + 1)


def test_one_thing_told_by_two_logs_counts_once(backend: Backend) -> None:
    backend.logs = ("catalina.out", "catalina.log")
    backend.write("other", to="catalina.log")
    backend.look()
    backend.write(SIGN, SIGN)
    backend.write(f"23-Nov-2026 SEVERE [exec-1] {SIGN}", to="catalina.log")
    assert backend.look().count == 2


def test_binary_junk_and_a_line_without_end_are_no_reason_to_fail(backend: Backend) -> None:
    backend.look()
    with backend.path().open("ab") as file:
        file.write(os.urandom(50_000).replace(b"\n", b"") + b"\n" + SIGN.encode() + b"\xff\n")
    assert backend.look().count == 1


def test_a_gigabyte_of_nothing_is_not_read_whole(backend: Backend) -> None:
    backend.look()
    with backend.path().open("r+b") as file:
        file.truncate(1_000_000_000)
    read = backend.look()
    assert read.read < CHUNK_BYTES
    assert any("holds a line of more than" in gap for gap in read.gaps)
    # It goes on in the middle of that line, which cannot be told from a file written anew.
    backend.write("")
    assert any("rewritten" in gap for gap in backend.look().gaps)
    backend.write(SIGN)
    assert backend.look().count == 1


def test_more_lines_than_one_look_takes_are_not_called_fine(backend: Backend) -> None:
    backend.look()
    with backend.path().open("a") as file:
        for _ in range(200):
            file.write(("y" * 99 + "\n") * 1_000)
    read = backend.look()
    assert any("not read to its end" in gap for gap in read.gaps)
    assert backend.look().gaps == ()


def test_patterns_of_ones_own_are_signs_and_what_is_ignored_is_none(backend: Backend) -> None:
    backend.signs = Signs(["basket of .* is lost"], ["reports"])
    backend.look()
    backend.write("the basket of bob is lost", f"{SIGN} in com.example.reports.Daily")
    read = backend.look()
    assert read.examples == ("basket of bob is lost",)


def test_patterns_with_flags_and_groups_of_their_own_stand_beside_each_other() -> None:
    signs = Signs(
        ("(?i)LOST A SESSION", r"(\w+) of (?P<who>\w+) and \1", "(?P<who>gone)"), ("(?i)TEST",)
    )
    lines = [
        b"we lost a session",
        b"cart of ann and cart",
        b"cart of ann and user",
        b"gone: a test",
    ]
    assert list(signs.found(lines)) == ["lost a session", "cart of ann and cart"]


def test_a_machine_that_does_not_answer_is_not_checked(backend: Backend) -> None:
    backend.look()
    backend.connection = LocalConnection(environment={"PATH": "/nowhere"})
    read = backend.look()
    assert read.count == 0
    assert "log not read" in read.gaps[0]


def test_the_end_of_a_log_is_brought_along_where_it_is_asked_for(backend: Backend) -> None:
    found = find_files(backend.connection, [str(backend.path())], tail_bytes=40)
    assert not isinstance(found, str)
    (tail,) = found.tails.values()
    assert tail == backend.path().read_bytes()[-40:]


def test_what_is_shown_is_short_and_steers_no_terminal() -> None:
    line = f"Can't read session object by id: {'A1' * 16} \x1b[31m{'z' * 900}"
    text = shown(line)
    assert "A1A1" not in text
    assert "\x1b" not in text
    assert len(text) <= 240


@pytest.mark.parametrize("name", ["SESSION", "JSESSIONID", "PHPSESSIONID", "connect.sid"])
def test_a_cookie_in_a_line_is_not_shown_whatever_its_form(name: str) -> None:
    assert shown(f"lost: {name}=ZTI3YjU4-x.y_z; path=/") == f"lost: {name}=...; path=/"


def test_a_serial_version_is_no_session_id() -> None:
    assert "-2643671831784323967" in shown("serialVersionUID = -2643671831784323967")
