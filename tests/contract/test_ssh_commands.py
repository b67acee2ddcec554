"""Commands over SSH: one suite against a real sshd and against the embedded server."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from rolling_deploy.remote.connection import CannotReach
from rolling_deploy.remote.ssh import SshConnection, connect_all
from rolling_deploy.remote.ssh_login import BANNER_TRIES_MAX
from rolling_deploy.settings import HostTarget
from tests.sshd import KINDS, CutProxy, SshServer, free_port, running, wait_until, why_not

LIMIT_MS = 30_000
MEGABYTE = 1024 * 1024

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if why_not(name):
        pytest.skip(why_not(name))
    return name


@pytest.fixture(scope="module")
def server(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    with running(kind, tmp_path_factory.mktemp("sshd")) as one:
        yield one


@pytest.fixture
def own_server(kind: str, tmp_path: Path) -> Iterator[SshServer]:
    """A server that the test may kill."""
    with running(kind, tmp_path / "sshd") as one:
        yield one


@pytest.fixture(scope="module")
def gate(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    """A jump host."""
    with running(kind, tmp_path_factory.mktemp("gate")) as one:
        yield one


@pytest.fixture(params=["straight", pytest.param("through a jump host", marks=pytest.mark.every)])
def connection(request: pytest.FixtureRequest, server: SshServer) -> Iterator[SshConnection]:
    jump = None
    if request.param != "straight":
        gate: SshServer = request.getfixturevalue("gate")
        jump = gate.target(name="gate")
    one = SshConnection(server.target(jump=jump))
    yield one
    one.close()


@pytest.mark.parametrize("status", [0, 1, 7, 255])
def test_the_exit_status_of_a_command_comes_back(connection: SshConnection, status: int) -> None:
    answer = connection.run(["sh", "-c", f"exit {status}"], limit_ms=LIMIT_MS)
    assert (answer.is_complete, answer.exit_status) == (True, status)


def test_output_and_errors_come_back_apart(connection: SshConnection) -> None:
    answer = connection.run(["sh", "-c", "echo out; echo err >&2"], limit_ms=LIMIT_MS)
    assert (answer.stdout, answer.stderr) == (b"out\n", b"err\n")


@pytest.mark.parametrize(
    "word",
    [
        "",
        " ",
        "it's",
        'say "hi"',
        "$(touch /tmp/never)",
        "`id`",
        "$HOME",
        "a\nb\n",
        "tab\tand\rreturn",
        "-rf",
        "--",
        "*",
        "~",
        "!!",
        "a;b&c|d>e<f",
        "\\",
        "\\'",
        "Ünïcödé \U0001f600",
        "\udcff\udc80",
        "#no comment",
        "{a,b}",
        "x" * 100_000,
    ],
)
def test_a_word_arrives_as_it_was_given(connection: SshConnection, word: str) -> None:
    answer = connection.run(["printf", "<%s>", word], limit_ms=LIMIT_MS)
    assert answer.stdout == b"<" + word.encode("utf-8", "surrogateescape") + b">"


def test_a_word_with_a_nul_is_refused_before_anything_is_sent(connection: SshConnection) -> None:
    with pytest.raises(ValueError, match="NUL"):
        connection.run(["printf", "a\0b"], limit_ms=LIMIT_MS)


def test_ten_megabytes_go_both_ways_at_once(connection: SshConnection) -> None:
    data = bytes(range(256)) * (10 * MEGABYTE // 256)
    answer = connection.run(["tee", "/dev/stderr"], stdin=data, limit_ms=LIMIT_MS)
    assert answer.is_complete, answer.detail
    assert answer.stdout == data
    assert answer.stderr == data


def test_stdin_may_be_pieces_of_any_size(connection: SshConnection) -> None:
    pieces = [b"", b"a", b"b" * 300_000, b"c"]
    answer = connection.run(["cat"], stdin=iter(pieces), limit_ms=LIMIT_MS)
    assert answer.stdout == b"".join(pieces)


def test_a_command_that_does_not_read_its_stdin_still_ends_completely(
    connection: SshConnection,
) -> None:
    endless = (b"x" * 65536 for _ in range(10_000))
    answer = connection.run(["sh", "-c", "echo done; exit 4"], stdin=endless, limit_ms=LIMIT_MS)
    assert (answer.is_complete, answer.exit_status, answer.stdout) == (True, 4, b"done\n")


def test_input_that_cannot_be_read_is_no_end_of_file(connection: SshConnection) -> None:
    def broken() -> Iterator[bytes]:
        yield b"first"
        raise OSError("the disk is gone")

    answer = connection.run(["sh", "-c", "cat; sleep 1"], stdin=broken(), limit_ms=LIMIT_MS)
    assert not answer.is_complete
    assert "the disk is gone" in answer.detail


def test_a_limit_is_hard_and_leaves_the_outcome_unknown(connection: SshConnection) -> None:
    connection.connect()
    began = time.monotonic()
    answer = connection.run(["sh", "-c", "echo early; sleep 30"], limit_ms=500)
    assert (answer.is_complete, answer.exit_status, answer.was_started) == (False, None, True)
    assert answer.stdout == b"early\n"
    assert time.monotonic() - began < 10


def test_a_limit_ends_a_command_that_takes_no_input(connection: SshConnection) -> None:
    answer = connection.run(["sleep", "30"], stdin=b"x" * 8 * MEGABYTE, limit_ms=500)
    assert not answer.is_complete
    assert connection.run(["true"], limit_ms=LIMIT_MS).is_complete


def test_a_command_killed_by_a_signal_has_no_exit_status(connection: SshConnection) -> None:
    answer = connection.run(["sh", "-c", "echo before; exec sh -c 'kill -9 $$'"], limit_ms=LIMIT_MS)
    # A shell in between may turn the signal into a status of its own.
    assert answer.exit_status in {None, 137}
    assert answer.stdout == b"before\n"


def test_a_command_may_leave_something_running_with_its_output_open(
    connection: SshConnection,
) -> None:
    began = time.monotonic()
    answer = connection.run(["sh", "-c", "sleep 20 & echo started"], limit_ms=LIMIT_MS)
    assert (answer.is_complete, answer.stdout) == (True, b"started\n")
    assert time.monotonic() - began < 15


def test_held_stdin_stays_open_until_the_command_ends(connection: SshConnection) -> None:
    script = "read -r line; sleep 0.3; if read -t 0.1 -r more; then echo eof; fi; echo $line"
    answer = connection.run(
        ["bash", "-c", script], stdin=b"hello\n", limit_ms=LIMIT_MS, holds_stdin=True
    )
    assert answer.stdout == b"hello\n"


def test_a_remote_wait_ends_when_we_are_gone(server: SshServer, tmp_path: Path) -> None:
    connection = SshConnection(server.target())
    script = f"echo begun > {tmp_path}/begun; cat >/dev/null; echo over > {tmp_path}/over"
    waiting = threading.Thread(
        target=connection.run,
        args=(["sh", "-c", script],),
        kwargs={"limit_ms": LIMIT_MS, "holds_stdin": True},
    )
    waiting.start()
    wait_until((tmp_path / "begun").exists)
    assert not (tmp_path / "over").exists()
    connection.close()
    waiting.join(20)
    wait_until((tmp_path / "over").exists)


def test_eight_commands_run_at_once(connection: SshConnection, tmp_path: Path) -> None:
    # Each waits for all the others to have begun, so none could end if they took turns.
    script = 'touch "$1/$2"; n=0; until [ "$(ls "$1" | wc -l)" = 8 ]; do sleep 0.05; n=$((n+1)); '
    script += "[ $n -lt 400 ] || exit 9; done"
    with ThreadPoolExecutor(8) as pool:
        answers = pool.map(
            lambda i: connection.run(
                ["sh", "-c", script, "-", str(tmp_path), str(i)], limit_ms=LIMIT_MS
            ),
            range(8),
        )
        assert [answer.exit_status for answer in answers] == [0] * 8


def test_more_commands_than_sessions_take_turns(connection: SshConnection) -> None:
    with ThreadPoolExecutor(24) as pool:
        answers = list(
            pool.map(
                lambda i: connection.run(["sh", "-c", f"sleep 0.05; echo {i}"], limit_ms=LIMIT_MS),
                range(48),
            )
        )
    assert [answer.stdout for answer in answers] == [f"{i}\n".encode() for i in range(48)]


@pytest.mark.parametrize("sessions_max", [1, 3])
def test_a_machine_that_allows_few_sessions_is_used_with_few(
    kind: str, tmp_path: Path, sessions_max: int
) -> None:
    with running(kind, tmp_path, sessions_max=sessions_max) as server:
        connection = SshConnection(server.target())
        with ThreadPoolExecutor(8) as pool:
            answers = list(
                pool.map(lambda _: connection.run(["sleep", "0.05"], limit_ms=LIMIT_MS), range(16))
            )
        connection.close()
    assert [answer.detail for answer in answers if not answer.is_complete] == []


def test_a_killed_server_leaves_the_outcome_unknown(own_server: SshServer, tmp_path: Path) -> None:
    connection = SshConnection(own_server.target())
    script = f"echo begun > {tmp_path}/begun; sleep 1; echo over > {tmp_path}/over"
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(connection.run, ["sh", "-c", script], limit_ms=LIMIT_MS)
        wait_until((tmp_path / "begun").exists)
        own_server.drop_connections()
        result = answer.result(20)
    assert (result.is_complete, result.was_started) == (False, True)
    assert "lost" in result.detail
    # As with sshd: the command itself goes on.
    wait_until((tmp_path / "over").exists)
    connection.close()


def test_a_dead_connection_is_opened_again_before_the_next_command(own_server: SshServer) -> None:
    connection = SshConnection(own_server.target())
    # Often, because the thread that reads the link may not have seen its end yet.
    for _ in range(20 if own_server.kind == "openssh" else 3):
        assert connection.run(["true"], limit_ms=LIMIT_MS).is_complete
        own_server.drop_connections()
        answer = connection.run(["echo", "again"], limit_ms=LIMIT_MS)
        assert (answer.is_complete, answer.stdout) == (True, b"again\n"), answer.detail
    connection.close()


def test_a_machine_that_is_gone_was_certainly_not_asked(own_server: SshServer) -> None:
    connection = SshConnection(own_server.target(connect_timeout_ms=2_000))
    connection.connect()
    own_server.stop()
    answer = connection.run(["true"], limit_ms=LIMIT_MS)
    assert (answer.is_complete, answer.was_started) == (False, False)
    assert "refused" in answer.detail


def test_a_cut_network_ends_a_command_within_three_keepalives(server: SshServer) -> None:
    proxy = CutProxy(server.port)
    try:
        connection = SshConnection(
            server.target(port=proxy.port, keepalive_s=1, host_keys="accept-new")
        )
        connection.connect()
        threading.Timer(0.5, proxy.cut).start()
        began = time.monotonic()
        answer = connection.run(["sleep", "60"], limit_ms=60_000)
        assert (answer.is_complete, answer.was_started) == (False, True)
        assert "no sign of life" in answer.detail
        assert time.monotonic() - began < 20
        connection.close()
    finally:
        proxy.close()


def test_a_cut_network_ends_an_upload_too(server: SshServer) -> None:
    proxy = CutProxy(server.port)
    try:
        connection = SshConnection(
            server.target(port=proxy.port, keepalive_s=1, host_keys="accept-new")
        )
        connection.connect()

        def endless() -> Iterator[bytes]:
            for number in range(100_000):
                if number == 50:
                    proxy.cut()
                yield b"x" * 65536

        answer = connection.run(["sh", "-c", "cat >/dev/null"], stdin=endless(), limit_ms=60_000)
        assert (answer.is_complete, answer.was_started) == (False, True)
        assert "limit" not in answer.detail
        assert "no end within" not in answer.detail
        connection.close()
    finally:
        proxy.close()


def test_a_frozen_server_is_noticed(own_server: SshServer) -> None:
    connection = SshConnection(own_server.target(keepalive_s=1))
    connection.connect()
    threading.Timer(0.5, own_server.freeze).start()
    try:
        answer = connection.run(["sleep", "60"], limit_ms=60_000)
    finally:
        own_server.thaw()
    assert (answer.is_complete, answer.was_started) == (False, True)
    assert "no sign of life" in answer.detail
    connection.close()


def test_a_long_quiet_command_is_not_taken_for_silence(server: SshServer) -> None:
    connection = SshConnection(server.target(keepalive_s=1))
    answer = connection.run(["sleep", "5"], limit_ms=LIMIT_MS)
    assert (answer.is_complete, answer.exit_status) == (True, 0)
    connection.close()


def test_a_closed_connection_starts_nothing(server: SshServer) -> None:
    connection = SshConnection(server.target())
    connection.connect()
    connection.close()
    answer = connection.run(["true"], limit_ms=LIMIT_MS)
    assert (answer.is_complete, answer.was_started) == (False, False)


def test_all_machines_are_opened_at_once_and_each_failure_is_named(server: SshServer) -> None:
    targets = [server.target(name=f"app{i}") for i in range(6)]
    targets.append(server.target(name="gone", port=free_port()))
    found = connect_all(targets, parallel=3)
    assert list(found) == [target.name for target in targets]
    gone = found.pop("gone")
    assert isinstance(gone, CannotReach)
    assert "refused" in str(gone)
    for one in found.values():
        assert isinstance(one, SshConnection)
        assert one.run(["true"], limit_ms=LIMIT_MS).is_complete
        one.close()


def test_calls_that_wait_for_one_connection_share_its_failure() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=64) as other:
        taken: list[None] = []

        def hang_up() -> None:
            with suppress(OSError):
                while True:
                    other.accept()[0].close()
                    taken.append(None)

        threading.Thread(target=hang_up, daemon=True).start()
        port = other.getsockname()[1]
        connection = SshConnection(HostTarget("machine", "127.0.0.1", port, key="/dev/null"))
        with ThreadPoolExecutor(8) as pool:
            # Shorter than connecting may take: it fails long before all the same.
            calls = [pool.submit(connection.run, ["true"], limit_ms=9_000) for _ in range(8)]
            said = {call.result().detail for call in calls}
        connection.close()
    assert len(said) == 1, said
    assert "does not speak SSH" in said.pop()
    # What says nothing may be an sshd with too many logins, so each attempt is three.
    assert len(taken) < 3 * BANNER_TRIES_MAX, "calls tried by themselves"


def test_a_call_without_time_fails_for_itself_only(own_server: SshServer) -> None:
    connection = SshConnection(own_server.target())
    own_server.freeze()
    try:
        with ThreadPoolExecutor(2) as pool:
            short = pool.submit(connection.run, ["true"], limit_ms=700)
            threading.Event().wait(0.2)  # so that it is the one that connects
            long = pool.submit(connection.run, ["true"], limit_ms=LIMIT_MS)
            assert not short.result().is_complete
            own_server.thaw()
            answer = long.result()
            assert answer.is_complete, answer.detail
    finally:
        own_server.thaw()
    connection.close()


def test_no_machines_at_all_is_no_problem() -> None:
    assert connect_all([]) == {}


def test_each_command_takes_one_channel(connection: SshConnection) -> None:
    took = []
    for _ in range(100):
        began = time.perf_counter()
        assert connection.run(["true"], limit_ms=LIMIT_MS).is_complete
        took.append((time.perf_counter() - began) * 1000)
    took.sort()
    assert connection.channels_opened == 100
    print(f"100 commands: median {took[50]:.1f} ms, 95th {took[95]:.1f} ms")


def test_nothing_of_paramiko_reaches_the_terminal(
    own_server: SshServer, capfd: pytest.CaptureFixture[str]
) -> None:
    connection = SshConnection(own_server.target())
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(connection.run, ["sleep", "20"], limit_ms=LIMIT_MS)
        wait_until(lambda: connection.channels_opened == 1)
        own_server.drop_connections()
        assert not answer.result(20).is_complete
    connection.close()
    assert capfd.readouterr() == ("", "")
