"""Machines behind a jump host: one connection to it for all of them, and every failure its own."""

from __future__ import annotations

import base64
import hashlib
import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from rolling_deploy.remote.connection import Answer, CannotReach, ForwardingRefused
from rolling_deploy.remote.files import send_file
from rolling_deploy.remote.ssh import FORWARDED, RELAYED, SshConnection, connect_all
from rolling_deploy.remote.ssh_hosts import HostKey
from rolling_deploy.rollout.step import Outcome
from rolling_deploy.settings import HostTarget
from tests.rig_tools import ROOT
from tests.sshd import CutProxy, SshServer, free_port, make_key, running, wait_until, why_not

LIMIT_MS = 60_000
MEGABYTE = 1024 * 1024

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(autouse=True)
def without_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)


EMBEDDED = pytest.param("embedded", marks=() if why_not("openssh") else pytest.mark.every)


@pytest.fixture(scope="module", params=["openssh", EMBEDDED])
def kind(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if why_not(name):
        pytest.skip(why_not(name))
    return name


@pytest.fixture(scope="module")
def server(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    """The machine behind the jump host."""
    with running(kind, tmp_path_factory.mktemp("sshd")) as one:
        yield one


@pytest.fixture
def gate(kind: str, tmp_path: Path) -> Iterator[SshServer]:
    """The jump host, which the test may kill."""
    with running(kind, tmp_path / "gate") as one:
        yield one


def through(gate: SshServer, **changes: object) -> HostTarget:
    """Answers the jump host as a machine behind it names it."""
    return gate.target(name="gate", **changes)


@pytest.fixture
def connection(server: SshServer, gate: SshServer) -> Iterator[SshConnection]:
    one = SshConnection(server.target(jump=through(gate)))
    yield one
    one.close()


def refusal(target: HostTarget) -> str:
    """Answers why the machine is not reached."""
    connection = SshConnection(target)
    try:
        with pytest.raises(CannotReach) as caught:
            connection.connect()
        answer = connection.run(["true"], limit_ms=20_000)
        assert (answer.is_complete, answer.was_started) == (False, False)
    finally:
        connection.close()
    return str(caught.value)


# What goes through.


def test_many_machines_share_one_connection_to_a_jump_host_that_allows_one_session(
    kind: str, server: SshServer, tmp_path: Path
) -> None:
    with running(kind, tmp_path / "gate", sessions_max=1) as gate:
        proxy = CutProxy(gate.port)
        way = through(gate, port=proxy.port, host_keys="accept-new")
        found = connect_all([server.target(name=f"app{i}", jump=way) for i in range(12)])
        connections = [one for one in found.values() if isinstance(one, SshConnection)]
        assert len(connections) == 12, found
        with ThreadPoolExecutor(12) as pool:
            said = pool.map(lambda c: c.run(["echo", "in"], limit_ms=LIMIT_MS).stdout, connections)
            assert list(said) == [b"in\n"] * 12
        assert proxy.accepted == 1
        for one in connections:
            one.close()
        proxy.close()


def test_the_connection_to_the_jump_host_ends_with_the_last_one_through_it(
    server: SshServer, gate: SshServer
) -> None:
    if server.kind != "openssh":
        pytest.skip("only OpenSSH has a process for each connection to look at")
    first, second = (
        SshConnection(server.target(name=name, jump=through(gate))) for name in ("app1", "app2")
    )
    first.connect()
    second.connect()
    first.close()
    assert second.run(["true"], limit_ms=LIMIT_MS).is_complete
    assert second.links_opened == 1
    assert len(gate.pids()) > 1
    second.close()
    wait_until(lambda: len(gate.pids()) == 1)
    third = SshConnection(server.target(jump=through(gate)))
    assert third.run(["true"], limit_ms=LIMIT_MS).is_complete
    third.close()
    wait_until(lambda: len(gate.pids()) == 1)


def test_much_data_goes_both_ways_at_once(connection: SshConnection) -> None:
    data = os.urandom(MEGABYTE) * 20
    answer = connection.run(["tee", "/dev/stderr"], stdin=data, limit_ms=LIMIT_MS)
    assert answer.is_complete, answer.detail
    assert answer.stdout == data
    assert answer.stderr == data


def test_files_sent_at_the_same_time_arrive_whole(
    server: SshServer, gate: SshServer, tmp_path: Path
) -> None:
    artifact = tmp_path / "app.war"
    artifact.write_bytes(os.urandom(7 * MEGABYTE + 17))
    targets = [server.target(name=f"app{i}", jump=through(gate)) for i in range(4)]

    def send(target: HostTarget) -> Outcome:
        connection = SshConnection(target)
        (tmp_path / target.name).mkdir()
        place = tmp_path / target.name / "app.war"
        reply = send_file(connection, artifact, str(place), mode=0o644, limit_ms=LIMIT_MS)
        # As the tool does: see the known limits of docs/reliability.md.
        open_until_the_end.append(connection)
        return reply.outcome

    open_until_the_end: list[SshConnection] = []
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(send, targets)) == [Outcome.DONE] * 4
    for connection in open_until_the_end:
        connection.close()
    for target in targets:
        assert (tmp_path / target.name / "app.war").read_bytes() == artifact.read_bytes()


def serve_upper() -> socket.socket:
    """Answers a service on loopback that gives back what it got in capitals, at the end of it."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)

    def serve(one: socket.socket) -> None:
        with one:
            one.sendall(b"".join(iter(lambda: one.recv(65536), b"")).upper())

    def accept() -> None:
        try:
            while True:
                one, _ = listener.accept()
                threading.Thread(target=serve, args=(one,), daemon=True).start()
        except OSError:
            return

    threading.Thread(target=accept, daemon=True).start()
    return listener


def send_all(stream: socket.socket, text: bytes) -> None:
    stream.sendall(text)
    stream.shutdown(socket.SHUT_WR)


def test_streams_from_the_machine_go_through_and_half_closes_with_them(
    connection: SshConnection,
) -> None:
    with serve_upper() as service:
        port = service.getsockname()[1]

        def ask(number: int) -> bytes:
            text = f"question {number} ".encode() * 20_000
            with connection.open_stream("127.0.0.1", port, timeout_ms=LIMIT_MS) as stream:
                stream.settimeout(60)
                threading.Thread(target=send_all, args=(stream, text), daemon=True).start()
                said = b"".join(iter(lambda: stream.recv(65536), b""))
            return said if said == text.upper() else b"another answer"

        with ThreadPoolExecutor(12) as pool:
            answers = list(pool.map(ask, range(12)))
        assert b"another answer" not in answers
        assert connection.forwarding == FORWARDED
        with pytest.raises(ForwardingRefused) as caught:
            connection.open_stream("127.0.0.1", free_port(), timeout_ms=LIMIT_MS)
        assert not caught.value.is_prohibited


def test_a_machine_that_forbids_forwarding_relays_its_streams_behind_a_jump_host_too(
    kind: str, gate: SshServer, tmp_path: Path
) -> None:
    with running(kind, tmp_path / "machine", forwarding=False) as server, serve_upper() as service:
        connection = SshConnection(server.target(jump=through(gate)))
        stream = connection.open_stream("127.0.0.1", service.getsockname()[1], timeout_ms=LIMIT_MS)
        stream.close()
        assert connection.forwarding == RELAYED
        connection.close()


def test_a_jump_host_may_lie_behind_another_one(
    kind: str, server: SshServer, gate: SshServer, tmp_path: Path
) -> None:
    with running(kind, tmp_path / "inner") as inner:
        way = inner.target(name="inner", jump=through(gate))
        connection = SshConnection(server.target(jump=way))
        digest = hashlib.sha256(b"x" * MEGABYTE).hexdigest()
        answer = connection.run(["sha256sum"], stdin=b"x" * MEGABYTE, limit_ms=LIMIT_MS)
        assert answer.stdout.split()[:1] == [digest.encode()]
        gate.stop()
        answer = connection.run(["true"], limit_ms=LIMIT_MS)
        assert not answer.is_complete
        assert "the jump host inner is not reached: the jump host gate is not reached" in (
            answer.detail
        )
        connection.close()


def test_a_key_that_may_only_be_jumped_with_is_enough_for_the_jump_host(
    server: SshServer, gate: SshServer
) -> None:
    if gate.kind != "openssh":
        pytest.skip("options of a key are OpenSSH's")
    key = gate.authorized_keys.read_text()
    options = 'restrict,port-forwarding,command="/bin/false"'
    gate.authorized_keys.write_text(f'{options},permitopen="127.0.0.1:{server.port}" {key}')
    connection = SshConnection(server.target(jump=through(gate)))
    assert connection.run(["echo", "in"], limit_ms=LIMIT_MS).stdout == b"in\n"
    connection.close()
    gate.authorized_keys.write_text(f'{options},permitopen="127.0.0.1:1" {key}')
    assert "the jump host gate forbids forwarding there" in refusal(
        server.target(jump=through(gate))
    )


# What is refused.


def fingerprint(public: str) -> str:
    kind, text = public.split()[:2]
    return HostKey(kind, base64.b64decode(text)).fingerprint


def test_an_unknown_host_key_of_the_jump_host_is_refused_with_the_command_that_adds_it(
    server: SshServer, gate: SshServer, tmp_path: Path
) -> None:
    known = tmp_path / "known_hosts"
    target = server.target(jump=through(gate, known_hosts=str(known)))
    reason = refusal(target)
    assert reason.startswith("the jump host gate is not reached: ")
    assert fingerprint(gate.host_key.public) in reason
    command = reason.split("add it: `")[1].split("`")[0]
    assert known.name in shlex.split(command)[-1]
    assert f"[127.0.0.1]:{gate.port} " in command


def test_a_changed_host_key_of_the_jump_host_is_refused_and_nothing_goes_through_it(
    server: SshServer, gate: SshServer, tmp_path: Path
) -> None:
    proxy = CutProxy(server.port)
    known = tmp_path / "known_hosts"
    known.write_text(f"[127.0.0.1]:{gate.port} {make_key(tmp_path / 'other').public}\n")
    way = through(gate, known_hosts=str(known), host_keys="accept-new")
    reason = refusal(server.target(port=proxy.port, host_keys="accept-new", jump=way))
    assert reason.startswith("the jump host gate is not reached: ")
    assert f"the host key of [127.0.0.1]:{gate.port} has changed" in reason
    assert proxy.accepted == 0
    proxy.close()


def test_the_host_key_of_a_machine_behind_is_verified_under_its_own_name(
    server: SshServer, gate: SshServer, tmp_path: Path
) -> None:
    known = tmp_path / "known_hosts"
    other = make_key(tmp_path / "other")
    known.write_text(f"[127.0.0.1]:{server.port} {other.public}\n{gate.known_hosts.read_text()}")
    both = {"known_hosts": str(known), "host_keys": "accept-new"}
    reason = refusal(server.target(jump=through(gate, **both), **both))
    assert f"127.0.0.1 port {server.port} through gate: the host key of" in reason
    assert f"[127.0.0.1]:{server.port} has changed" in reason
    assert fingerprint(other.public) in reason


def test_accept_new_remembers_the_jump_host_and_the_machine_behind_it(
    server: SshServer, gate: SshServer, tmp_path: Path
) -> None:
    known = tmp_path / "known_hosts"
    both = {"known_hosts": str(known), "host_keys": "accept-new"}
    connection = SshConnection(server.target(jump=through(gate, **both), **both))
    connection.connect()
    connection.close()
    lines = [f"[127.0.0.1]:{one.port} {one.host_key.public}\n" for one in (gate, server)]
    assert known.read_text() == "".join(lines)


def test_a_jump_host_that_takes_no_key_of_ours_is_named_with_the_user(
    server: SshServer, gate: SshServer, tmp_path: Path
) -> None:
    stranger = make_key(tmp_path / "stranger")
    reason = refusal(server.target(jump=through(gate, key=str(stranger.path), user="jumper")))
    assert reason.startswith("the jump host gate is not reached: jumper@127.0.0.1")
    assert f"authentication failed for user jumper with `{stranger.path}`" in reason


def test_no_message_shows_what_lies_in_a_key_file(
    server: SshServer, gate: SshServer, tmp_path: Path
) -> None:
    secret = tmp_path / "notes"
    secret.write_text("hunter2\n")
    private = [word for word in server.key.read_text().splitlines() if "-" not in word]
    said = [
        refusal(server.target(jump=through(gate, key=str(secret)))),
        refusal(server.target(key=str(secret), jump=through(gate))),
        refusal(server.target(jump=through(gate, port=free_port()))),
    ]
    assert "not a private key" in said[0]
    assert not [text for text in said for word in ("hunter2", *private) if word in text]


def test_a_jump_host_that_forbids_forwarding_says_what_to_allow(
    kind: str, server: SshServer, tmp_path: Path
) -> None:
    with running(kind, tmp_path / "gate", forwarding=False) as gate:
        reason = refusal(server.target(jump=through(gate, user="root")))
    assert f"127.0.0.1 port {server.port} through gate: the jump host gate forbids" in reason
    assert "for user root" in reason
    assert "`AllowTcpForwarding`" in reason
    assert "`permitopen`" in reason


def test_a_jump_host_where_nothing_listens_is_said_to_be_what_is_not_reached(
    server: SshServer, gate: SshServer
) -> None:
    way = through(gate, port=free_port())
    targets = [server.target(name=f"app{i}", jump=way) for i in range(3)]
    reasons = {str(one) for one in connect_all(targets).values()}
    (reason,) = reasons
    assert reason.startswith("the jump host gate is not reached: ")
    assert f"127.0.0.1 port {way.port}: connection refused" in reason


def test_a_jump_host_that_says_nothing_is_given_up_in_time_and_the_others_are_reached(
    server: SshServer, gate: SshServer
) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=16) as silent:
        way = through(gate, port=silent.getsockname()[1], connect_timeout_ms=1_000)
        began = time.monotonic()
        found = connect_all(
            [server.target(name="straight"), server.target(name="behind", jump=way)]
        )
        assert time.monotonic() - began < 30
    assert isinstance(found["straight"], SshConnection)
    found["straight"].close()
    assert "the jump host gate is not reached" in str(found["behind"])
    assert "no answer within 1000 ms" in str(found["behind"])


def accepting(listener: socket.socket) -> list[socket.socket]:
    """Answers the connections that a service takes, without ever saying anything on them."""
    taken: list[socket.socket] = []

    def accept() -> None:
        try:
            while True:
                taken.append(listener.accept()[0])
        except OSError:
            return

    threading.Thread(target=accept, daemon=True).start()
    return taken


def test_a_jump_host_that_is_not_reached_is_tried_once_for_all_machines_behind_it() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=64) as silent:
        tries = accepting(silent)
        port = silent.getsockname()[1]
        gate = HostTarget("gate", "127.0.0.1", port, key="/dev/null", connect_timeout_ms=700)
        inner = HostTarget("inner", "127.0.0.1", 9, key="/dev/null", jump=gate)
        targets = [HostTarget(f"app{i}", "127.0.0.1", 9, jump=gate) for i in range(20)]
        targets += [HostTarget(f"db{i}", "127.0.0.1", 9, jump=inner) for i in range(10)]
        found = connect_all(targets, parallel=4)
        assert len(tries) == 1
        for one in tries:
            one.close()
    assert all("the jump host gate is not reached" in str(found[one.name]) for one in targets)


def test_a_jump_host_that_was_not_reached_at_the_start_is_tried_again_later(
    server: SshServer, gate: SshServer
) -> None:
    earlier = SshConnection(server.target(name="earlier", jump=through(gate)))
    gate.stop()
    found = connect_all([server.target(name=f"app{i}", jump=through(gate)) for i in range(3)])
    assert all(isinstance(one, CannotReach) for one in found.values())
    gate.start()
    answer = earlier.run(["true"], limit_ms=LIMIT_MS)
    assert answer.is_complete, answer.detail
    earlier.close()


def test_a_machine_where_nothing_listens_is_not_taken_for_the_jump_host(
    server: SshServer, connection: SshConnection, gate: SshServer
) -> None:
    connection.connect()
    reason = refusal(server.target(port=free_port(), jump=through(gate)))
    assert "through gate: the jump host gate cannot connect to it: " in reason
    if gate.kind == "openssh":
        assert "refused" in reason
    assert connection.run(["true"], limit_ms=LIMIT_MS).is_complete
    assert connection.links_opened == 1


def test_a_name_is_looked_up_by_the_jump_host(server: SshServer, gate: SshServer) -> None:
    reason = refusal(server.target(address="no-such-machine.invalid", jump=through(gate)))
    assert "no-such-machine.invalid" in reason
    assert "the jump host gate cannot connect to it" in reason


def test_a_machine_that_says_nothing_is_given_up_in_time(
    server: SshServer, gate: SshServer
) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=16) as silent:
        port = silent.getsockname()[1]
        reason = refusal(server.target(port=port, connect_timeout_ms=700, jump=through(gate)))
    assert f"port {port} through gate: no answer within 700 ms" in reason


# What breaks in the middle.


def test_a_killed_jump_host_leaves_outcomes_unknown_and_is_connected_to_once_more(
    server: SshServer, gate: SshServer, tmp_path: Path
) -> None:
    proxy = CutProxy(gate.port)
    way = through(gate, port=proxy.port, host_keys="accept-new")
    connections = [SshConnection(server.target(name=f"app{i}", jump=way)) for i in range(3)]

    def begin(number: int) -> threading.Thread:
        script = f"echo begun > {tmp_path}/begun{number}; sleep 2; echo over > {tmp_path}/over"
        argv = ["sh", "-c", script]
        answers = ended.setdefault(number, [])
        work = threading.Thread(
            target=lambda: answers.append(connections[number].run(argv, limit_ms=LIMIT_MS))
        )
        work.start()
        return work

    ended: dict[int, list[Answer]] = {}
    threads = [begin(number) for number in range(3)]
    for number in range(3):
        wait_until((tmp_path / f"begun{number}").exists)
    gate.stop()
    for thread in threads:
        thread.join(30)
    for (answer,) in ended.values():
        assert (answer.is_complete, answer.was_started) == (False, True)
        assert "the jump host gate was lost" in answer.detail
    gone = connections[0].run(["true"], limit_ms=LIMIT_MS)
    assert (gone.is_complete, gone.was_started) == (False, False)
    assert "the jump host gate is not reached" in gone.detail
    gate.start()
    before = proxy.accepted
    with ThreadPoolExecutor(3) as pool:
        again = list(pool.map(lambda c: c.run(["echo", "x"], limit_ms=LIMIT_MS), connections))
    assert [answer.stdout for answer in again] == [b"x\n"] * 3, again
    assert proxy.accepted == before + 1
    assert [one.links_opened for one in connections] == [2, 2, 2]
    wait_until((tmp_path / "over").exists)  # as with sshd: the commands themselves went on
    for one in connections:
        one.close()
    proxy.close()


def test_a_dead_jump_host_is_found_dead_before_the_next_command(
    server: SshServer, gate: SshServer
) -> None:
    connection = SshConnection(server.target(jump=through(gate)))
    # Often, because the threads that read the links may not have seen their end yet.
    for _ in range(10 if gate.kind == "openssh" else 3):
        assert connection.run(["true"], limit_ms=LIMIT_MS).is_complete
        gate.drop_connections()
        answer = connection.run(["echo", "again"], limit_ms=LIMIT_MS)
        assert (answer.is_complete, answer.stdout) == (True, b"again\n"), answer.detail
    connection.close()


def test_a_machine_behind_that_drops_us_costs_no_new_connection_to_the_jump_host(
    kind: str, gate: SshServer, tmp_path: Path
) -> None:
    proxy = CutProxy(gate.port)
    with running(kind, tmp_path / "machine") as server:
        way = through(gate, port=proxy.port, host_keys="accept-new")
        connection = SshConnection(server.target(jump=way))
        connection.connect()
        server.drop_connections()
        answer = connection.run(["echo", "again"], limit_ms=LIMIT_MS)
        assert answer.stdout == b"again\n", answer.detail
        assert (connection.links_opened, proxy.accepted) == (2, 1)
        connection.close()
    proxy.close()


@pytest.mark.parametrize("cut_at", ["the jump host", "the machine"])
def test_a_cut_network_ends_a_command_within_three_keepalives(
    server: SshServer, gate: SshServer, cut_at: str
) -> None:
    proxy = CutProxy(gate.port if cut_at == "the jump host" else server.port)
    ours = {"keepalive_s": 1, "host_keys": "accept-new"}
    if cut_at == "the jump host":
        target = server.target(keepalive_s=1, jump=through(gate, port=proxy.port, **ours))
    else:
        target = server.target(port=proxy.port, jump=through(gate, keepalive_s=1), **ours)
    connection = SshConnection(target)
    try:
        connection.connect()
        threading.Timer(0.5, proxy.cut).start()
        began = time.monotonic()
        answer = connection.run(["sleep", "60"], limit_ms=60_000)
        assert (answer.is_complete, answer.was_started) == (False, True)
        assert "no sign of life" in answer.detail
        assert time.monotonic() - began < 30
        began = time.monotonic()
        connection.close()
        assert time.monotonic() - began < 10
    finally:
        proxy.close()


def test_a_dead_link_to_the_jump_host_is_noticed_while_many_machines_keep_trying_through_it(
    server: SshServer, gate: SshServer
) -> None:
    if server.kind != "openssh":
        pytest.skip("only OpenSSH has processes of their own for the connections to stop")
    ours = {"keepalive_s": 1, "connect_timeout_ms": 2_000}
    way = through(gate, **ours)
    found = connect_all([server.target(name=f"app{i}", jump=way, **ours) for i in range(16)])
    connections = [one for one in found.values() if isinstance(one, SshConnection)]
    assert len(connections) == 16, found
    end = threading.Event()
    for one in connections:
        # Out of step, so that something is written to the jump host all the time.
        end.wait(0.09)
        assert one.run(["true"], limit_ms=LIMIT_MS).is_complete

    def poll(number: int) -> bool:
        """Answers whether the machine was reached again."""
        end.wait(0.17 * number)
        while not end.is_set():
            if connections[number].run(["true"], limit_ms=20_000).is_complete:
                return True
            end.wait(0.1)
        return False

    with gate.frozen_connections(), ThreadPoolExecutor(16) as pool:
        limit = threading.Timer(30, end.set)
        limit.start()
        assert list(pool.map(poll, range(16))) == [True] * 16
        limit.cancel()
    for one in connections:
        one.close()


def test_a_long_quiet_command_is_not_taken_for_silence(server: SshServer, gate: SshServer) -> None:
    connection = SshConnection(server.target(keepalive_s=1, jump=through(gate, keepalive_s=1)))
    answer = connection.run(["sleep", "5"], limit_ms=LIMIT_MS)
    assert (answer.is_complete, answer.exit_status) == (True, 0), answer.detail
    assert connection.links_opened == 1
    connection.close()


ASLEEP = """
import sys
from concurrent.futures import ThreadPoolExecutor
from rolling_deploy.remote.ssh import connect_all
from rolling_deploy.settings import HostTarget
port, key, known, gate_port, gate_key, gate_known = sys.argv[1:]
gate = HostTarget("gate", "127.0.0.1", int(gate_port), key=gate_key, known_hosts=gate_known,
                  keepalive_s=1)
found = connect_all(HostTarget(f"m{i}", "127.0.0.1", int(port), key=key, known_hosts=known,
                               keepalive_s=1, jump=gate) for i in range(12))
print("in", flush=True)
with ThreadPoolExecutor(12) as pool:
    ended = pool.map(lambda one: one.run(["sleep", "12"], limit_ms=60000), found.values())
    print([answer.detail for answer in ended if not answer.is_complete], flush=True)
"""


@pytest.mark.every
def test_an_operator_that_was_stopped_does_not_blame_the_machines_behind(
    server: SshServer, gate: SshServer
) -> None:
    argv = [sys.executable, "-c", ASLEEP]
    for one in (server, gate):
        argv += [str(one.port), str(one.key), str(one.known_hosts)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "in\n"
        threading.Event().wait(2)
        # The machines owe an answer when the operator is stopped, and give it meanwhile.
        server.freeze()
        try:
            threading.Event().wait(1.5)
            process.send_signal(signal.SIGSTOP)
        finally:
            server.thaw()
        threading.Event().wait(4)
        process.send_signal(signal.SIGCONT)
        said = process.stdout.read()
    assert said == "[]\n"


# What is ended.


def test_closing_ends_a_connection_that_is_being_made_through_a_jump_host(
    server: SshServer, gate: SshServer
) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=16) as silent:
        port = silent.getsockname()[1]
        connection = SshConnection(
            server.target(port=port, connect_timeout_ms=60_000, jump=through(gate))
        )
        work = threading.Thread(
            target=connection.run, args=(["true"],), kwargs={"limit_ms": 60_000}
        )
        work.start()
        accepted, _ = silent.accept()
        connection.close()
        work.join(20)
        assert not work.is_alive()
        accepted.close()
    if gate.kind == "openssh":
        wait_until(lambda: len(gate.pids()) == 1)


def test_closing_lets_the_jump_host_go_where_no_thread_is_to_be_had(
    server: SshServer, gate: SshServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    if gate.kind != "openssh":
        pytest.skip("only OpenSSH has a process for each connection to look at")
    connection = SshConnection(server.target(jump=through(gate)))
    connection.connect()
    start = threading.Thread.start

    def start_few(thread: threading.Thread) -> None:
        if thread.name == "ssh tunnel close":
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_few)
    connection.close()
    wait_until(lambda: len(gate.pids()) == 1)


INVENTORY = """\
application: shop
ssh: {{user: root, key: {key}, known_hosts: {known_hosts}, jump: gate}}
hosts:
  gate: {{address: 127.0.0.1, port: {port}, connect_timeout_s: 60}}
  lb1: {{address: 127.0.0.1, port: 9}}
  web1: {{address: 127.0.0.1, port: 9}}
load_balancers: [{{name: lb1}}]
upstreams: [{{name: shop}}]
upgrade: {{strategy: tomcat, artifact: "a-{{release}}.war"}}
backends:
  - {{name: app1, host: web1, address: "127.0.0.1:8080", upgrade: {{catalina_base: /srv/app1}}}}
  - {{name: app2, host: web1, address: "127.0.0.1:8081", upgrade: {{catalina_base: /srv/app2}}}}
"""


def test_an_interrupt_while_connecting_through_a_jump_host_ends_the_command_at_once(
    tmp_path: Path,
) -> None:
    key = make_key(tmp_path / "key").path
    with socket.create_server(("127.0.0.1", 0), backlog=16) as silent:
        file = tmp_path / "inventory.yaml"
        file.write_text(
            INVENTORY.format(key=key, known_hosts=tmp_path / "known", port=silent.getsockname()[1])
        )
        argv = [sys.executable, "-m", "rolling_deploy", "run", "--release", "1", "--yes"]
        argv += ["-i", str(file), "--state-dir", str(tmp_path / "state")]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        with subprocess.Popen(
            argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
        ) as process:
            accepted, _ = silent.accept()
            threading.Event().wait(0.3)
            began = time.monotonic()
            process.send_signal(signal.SIGINT)
            said, _ = process.communicate(timeout=60)
        accepted.close()
    assert time.monotonic() - began < 20
    assert process.returncode == 130, said
    assert "nothing was touched" in said


def test_nothing_of_paramiko_reaches_the_terminal(
    server: SshServer, gate: SshServer, capfd: pytest.CaptureFixture[str]
) -> None:
    connection = SshConnection(server.target(jump=through(gate)))
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(connection.run, ["sleep", "20"], limit_ms=LIMIT_MS)
        wait_until(lambda: connection.channels_opened == 1)
        gate.stop()
        assert not answer.result(30).is_complete
    connection.close()
    assert capfd.readouterr() == ("", "")
