"""Reaching and trusting a machine: host keys, logins, and the reasons when it does not work."""

from __future__ import annotations

import base64
import os
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from rolling_deploy.remote.connection import CannotReach
from rolling_deploy.remote.ssh import SshConnection
from rolling_deploy.remote.ssh_hosts import HostKey, HostKeyRefused, KnownHosts
from rolling_deploy.settings import HostTarget
from tests.sshd import KINDS, SshServer, free_port, make_key, running, why_not

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module", params=KINDS)
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SshServer]:
    if why_not(request.param):
        pytest.skip(why_not(request.param))
    with running(request.param, tmp_path_factory.mktemp("sshd")) as one:
        yield one


@pytest.fixture(autouse=True)
def without_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)


def refusal(target: HostTarget) -> str:
    """Answers why the machine is not reached."""
    connection = SshConnection(target, KnownHosts(target.known_hosts))
    with pytest.raises(CannotReach) as caught:
        connection.connect()
    answer = connection.run(["true"], limit_ms=20_000)
    assert (answer.is_complete, answer.was_started) == (False, False)
    return str(caught.value)


def can_log_in(target: HostTarget) -> bool:
    connection = SshConnection(target, KnownHosts(target.known_hosts))
    try:
        return connection.run(["true"], limit_ms=20_000).is_complete
    finally:
        connection.close()


def test_an_unknown_host_key_is_refused_with_the_command_that_adds_it(
    server: SshServer, tmp_path: Path
) -> None:
    known = tmp_path / "a folder" / "known_hosts"
    reason = refusal(server.target(known_hosts=str(known)))
    assert not known.exists()
    command = reason.split("add it: `")[1].split("`")[0]
    known.parent.mkdir()
    subprocess.run(["sh", "-c", command], check=True)
    assert can_log_in(server.target(known_hosts=str(known)))


def test_the_fingerprint_shown_is_the_one_that_ssh_keygen_prints(
    server: SshServer, tmp_path: Path
) -> None:
    if shutil.which("ssh-keygen") is None:
        pytest.skip("no ssh-keygen on this machine")
    argv = ["ssh-keygen", "-lf", str(server.host_key.path)]
    printed = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split()[1]
    assert printed in refusal(server.target(known_hosts=str(tmp_path / "none")))


def test_accept_new_remembers_the_key_once_and_strict_takes_it_from_then_on(
    server: SshServer, tmp_path: Path
) -> None:
    known = tmp_path / "ssh" / "known_hosts"
    target = server.target(known_hosts=str(known), host_keys="accept-new")
    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(lambda _: can_log_in(target), range(8)))
    assert known.read_text() == server.known_hosts.read_text()
    assert known.stat().st_mode & 0o777 == 0o600
    assert can_log_in(server.target(known_hosts=str(known)))


def test_accept_new_keeps_what_the_file_holds_and_mends_a_missing_line_end(
    server: SshServer, tmp_path: Path
) -> None:
    known = tmp_path / "known_hosts"
    known.write_text("# a comment\nother ssh-ed25519 AAAA")
    assert can_log_in(server.target(known_hosts=str(known), host_keys="accept-new"))
    added = server.known_hosts.read_text()
    assert known.read_text() == "# a comment\nother ssh-ed25519 AAAA\n" + added


@pytest.mark.parametrize("host_keys", ["strict", "accept-new"])
def test_a_changed_host_key_is_refused_with_both_fingerprints(
    server: SshServer, tmp_path: Path, host_keys: str
) -> None:
    known = tmp_path / "known_hosts"
    other = make_key(tmp_path / "other")
    text = f"[127.0.0.1]:{server.port} {other.public}\n"
    known.write_text(text)
    reason = refusal(server.target(known_hosts=str(known), host_keys=host_keys))
    assert "has changed" in reason
    assert fingerprint(other.public) in reason
    assert fingerprint(server.host_key.public) in reason
    assert "ssh-keygen" in reason
    assert known.read_text() == text


@pytest.mark.parametrize("host_keys", ["strict", "accept-new"])
def test_a_key_of_another_kind_than_the_known_one_is_refused(
    server: SshServer, tmp_path: Path, host_keys: str
) -> None:
    known = tmp_path / "known_hosts"
    known.write_text(f"[127.0.0.1]:{server.port} ecdsa-sha2-nistp256 AAAA\n")
    reason = refusal(server.target(known_hosts=str(known), host_keys=host_keys))
    assert "has changed" in reason


@pytest.mark.parametrize("host_keys", ["strict", "accept-new"])
def test_a_revoked_host_key_is_refused(server: SshServer, tmp_path: Path, host_keys: str) -> None:
    known = tmp_path / "known_hosts"
    known.write_text(server.known_hosts.read_text() + f"@revoked * {server.host_key.public}\n")
    assert "revoked" in refusal(server.target(known_hosts=str(known), host_keys=host_keys))


def test_a_key_that_cannot_be_remembered_is_not_accepted(server: SshServer) -> None:
    target = server.target(known_hosts="/proc/version/known_hosts", host_keys="accept-new")
    assert "cannot" in refusal(target)


def test_a_key_that_the_machine_does_not_take_is_named_with_the_user(
    server: SshServer, tmp_path: Path
) -> None:
    stranger = make_key(tmp_path / "stranger")
    reason = refusal(server.target(key=str(stranger.path), user="root"))
    assert "authentication failed for user root" in reason
    assert str(stranger.path) in reason


def test_a_missing_key_file_is_named(server: SshServer, tmp_path: Path) -> None:
    reason = refusal(server.target(key=str(tmp_path / "no key")))
    assert f"cannot read the key `{tmp_path}/no key`: No such file" in reason


def test_a_file_that_is_no_key_is_named_and_not_shown(server: SshServer, tmp_path: Path) -> None:
    secret = tmp_path / "notes"
    secret.write_text("hunter2\n")
    reason = refusal(server.target(key=str(secret)))
    assert "not a private key" in reason
    assert "hunter2" not in reason


def test_a_key_with_a_passphrase_says_how_to_go_on(server: SshServer, tmp_path: Path) -> None:
    locked = make_key(tmp_path / "my key", b"correct horse")
    assert f"`ssh-add '{locked.path}'`" in refusal(server.target(key=str(locked.path)))


def test_a_key_with_a_passphrase_is_taken_from_the_agent(
    server: SshServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if shutil.which("ssh-agent") is None or shutil.which("ssh-keygen") is None:
        pytest.skip("no ssh-agent on this machine")
    socket_path = tmp_path / "agent"
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", str(socket_path)], stdout=subprocess.DEVNULL)
    try:
        for _ in range(500):
            if socket_path.exists():
                break
            threading.Event().wait(0.01)
        monkeypatch.setenv("SSH_AUTH_SOCK", str(socket_path))
        subprocess.run(["ssh-add", "-q", str(server.key)], check=True)
        locked = tmp_path / "locked"
        shutil.copy(server.key, locked)
        locked.chmod(0o600)
        shutil.copy(f"{server.key}.pub", f"{locked}.pub")
        change = ["ssh-keygen", "-q", "-p", "-N", "correct horse", "-P", "", "-f", str(locked)]
        subprocess.run(change, check=True)
        assert can_log_in(server.target(key=str(locked)))
        assert can_log_in(server.target(key=""))
    finally:
        os.kill(agent.pid, signal.SIGTERM)
        agent.wait(10)


def test_without_key_and_agent_the_usual_files_are_tried(
    server: SshServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert "no key to log in with" in refusal(server.target(key=""))
    (tmp_path / ".ssh").mkdir()
    shutil.copy(server.key, tmp_path / ".ssh" / "id_ed25519")
    assert can_log_in(server.target(key=""))


def test_nothing_listening_is_said_as_such() -> None:
    target = HostTarget("machine", "127.0.0.1", free_port(), key="/dev/null")
    reason = refusal(target)
    assert "connection refused" in reason
    assert f"127.0.0.1 port {target.port}" in reason


def test_a_name_that_does_not_exist_is_said_as_such() -> None:
    target = HostTarget("machine", "no-such-machine.invalid", key="/dev/null")
    assert "the name is not found" in refusal(target)


def test_a_machine_that_says_nothing_is_given_up_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        target = HostTarget("machine", "127.0.0.1", port, key="/dev/null", connect_timeout_ms=700)
        assert "no answer within" in refusal(target)


def test_something_that_is_no_ssh_server_is_said_as_such() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        threading.Thread(target=_hang_up, args=(other,), daemon=True).start()
        port = other.getsockname()[1]
        target = HostTarget("machine", "127.0.0.1", port, key="/dev/null", connect_timeout_ms=5_000)
        assert "does not speak SSH" in refusal(target)


def _hang_up(listener: socket.socket) -> None:
    try:
        while True:
            one, _ = listener.accept()
            one.close()
    except OSError:
        return


def fingerprint(public: str) -> str:
    kind, text = public.split()[:2]
    return HostKey(kind, base64.b64decode(text)).fingerprint


KEY = HostKey("ssh-ed25519", b"\0\0\0\x0bssh-ed25519 and so on")


def known(tmp_path: Path, lines: str, target: HostTarget) -> bool:
    path = tmp_path / "known_hosts"
    path.write_text(lines.replace("KEY", KEY.text))
    try:
        KnownHosts(str(path)).check(target, KEY)
    except HostKeyRefused:
        return False
    return True


AT_22 = HostTarget("m", "App1.example.org")
AT_2222 = HostTarget("m", "app1.example.org", 2222)


@pytest.mark.parametrize(
    ("line", "target", "is_known"),
    [
        ("app1.example.org KEY\n", AT_22, True),
        ("10.0.0.1,app1.example.org KEY a comment\n", AT_22, True),
        ("app1.example.org,10.0.0.1\tKEY\r\n", AT_22, True),
        ("*.example.org KEY\n", AT_22, True),
        ("app?.example.org KEY\n", AT_22, True),
        ("*.example.org,!app1.example.org KEY\n", AT_22, False),
        ("!app1.example.org,*.example.org KEY\n", AT_22, False),
        ("app10.example.org KEY\n", AT_22, False),
        ("[app1.example.org]:2222 KEY\n", AT_2222, True),
        ("[app1.example.org]:2222 KEY\n", AT_22, False),
        ("[*.example.org]:2222 KEY\n", AT_2222, True),
        ("[*.example.org]:22 KEY\n", AT_2222, False),
        ("app1.example.org KEY\n", AT_2222, True),
        ("#app1.example.org KEY\n", AT_22, False),
        ("@cert-authority *.example.org KEY\n", AT_22, False),
        ("app1.example.org ssh-ed25519 not*base64\n", AT_22, False),
        ("nonsense\n\n\napp1.example.org KEY\n", AT_22, True),
        ("|1|bad|worse KEY\napp1.example.org KEY\n", AT_22, True),
        ("app1.example.org ssh-ed25519 AAAA\napp1.example.org KEY\n", AT_22, True),
    ],
)
def test_a_line_of_known_hosts_means_what_it_means_to_openssh(
    tmp_path: Path, line: str, target: HostTarget, is_known: bool
) -> None:
    assert known(tmp_path, line, target) is is_known


def test_hashed_names_are_understood(tmp_path: Path) -> None:
    if shutil.which("ssh-keygen") is None:
        pytest.skip("no ssh-keygen on this machine")
    pair = make_key(tmp_path / "key")
    path = tmp_path / "known_hosts"
    path.write_text(f"[app1.example.org]:2222 {pair.public}\nother {pair.public}\n")
    argv = ["ssh-keygen", "-H", "-f", str(path)]
    subprocess.run(argv, check=True, capture_output=True)
    assert "app1" not in path.read_text()
    kind, text = pair.public.split()[:2]
    key = HostKey(kind, base64.b64decode(text))
    KnownHosts(str(path)).check(AT_2222, key)
    assert KnownHosts(str(path)).kinds_for(AT_2222) == ("ssh-ed25519",)
    with pytest.raises(HostKeyRefused):
        KnownHosts(str(path)).check(AT_22, key)


def test_a_thousand_lines_are_read_once_and_quickly_enough_to_share(tmp_path: Path) -> None:
    path = tmp_path / "known_hosts"
    path.write_text("".join(f"app{i}.example.org {KEY.text}\n" for i in range(1000)))
    hosts = KnownHosts(str(path))
    hosts.check(AT_22, KEY)
    path.unlink()
    for i in range(1000):
        hosts.check(HostTarget("m", f"app{i}.example.org"), KEY)
