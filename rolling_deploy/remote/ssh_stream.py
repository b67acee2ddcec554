"""TCP streams through a machine: a channel on one side, a real socket on the other."""

from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress

import paramiko

from rolling_deploy.remote.connection import ForwardingRefused
from rolling_deploy.remote.quoting import command_line
from rolling_deploy.remote.ssh_exec import FAILURES, close_quietly
from rolling_deploy.remote.ssh_login import ChannelRefused, Transport

PROHIBITED = 1
"""SSH_OPEN_ADMINISTRATIVELY_PROHIBITED of RFC 4254, section 5.1."""

PIECE_BYTES = 32 * 1024
POLL_MS = 1_000

# A relay says `+` once it is connected. Without a pty sshd does not end a command whose channel
# is gone, so each relay ends by itself when its stdin does; for that reason a half-close of our
# side is not passed on here, only the close of the whole stream. `kill 0` ends the relay's whole
# process group, which is its own: sshd starts every command as the leader of one. (`wait -n` in
# its place misses a child that ended before it.)
RELAY_BASH = r"""
exec 3<>"/dev/tcp/$1/$2" || exit 7
exec 4<&0
printf +
{ cat <&3; kill 0; } &
{ cat <&4 >&3; kill 0; } &
wait
"""

RELAY_PYTHON = r"""
import os, socket, sys, threading
try:
    far = socket.create_connection((sys.argv[1], int(sys.argv[2])))
except OSError as error:
    sys.exit(error.strerror)
def down():
    os.write(1, b"+")
    while True:
        data = far.recv(65536)
        if not data:
            os._exit(0)
        while data:
            data = data[os.write(1, data):]
threading.Thread(target=down, daemon=True).start()
while True:
    data = os.read(0, 65536)
    if not data:
        os._exit(0)
    far.sendall(data)
"""

RELAY = r"""
if command -v bash >/dev/null; then exec bash -c "$3" relay "$1" "$2"; fi
if command -v python3 >/dev/null; then exec python3 -c "$4" "$1" "$2"; fi
if command -v nc >/dev/null; then
    if why=$(nc -z "$1" "$2" 2>&1); then
        printf +
        exec 4<&0
        { cat <&4; kill 0; } | nc "$1" "$2"
        kill 0
    fi
    # busybox has an nc that can only connect blindly; it is not used.
    case $why in *option*) ;; *) echo "${why:-connection refused}" >&2; exit 7 ;; esac
fi
echo 'no bash, python3 or nc to relay with' >&2
exit 8
"""
RELAY_MISSING_STATUS = 8


def relay_line(host: str, port: int) -> bytes:
    """Answers the command that joins its stdin and stdout to `host:port` on the machine."""
    words = ["sh", "-c", RELAY, "rolling-deploy:relay", host, str(port), RELAY_BASH, RELAY_PYTHON]
    return command_line(words).encode()


def start_relay(channel: paramiko.Channel, host: str, port: int, timeout_ms: int) -> None:
    """Run a relay on a fresh session channel and wait until it is connected.

    Raises:
        ForwardingRefused: the far end refused, did not answer in time, or there is no relay.
        SSHException, EOFError, OSError: the connection was lost.
    """
    guard = threading.Timer(timeout_ms / 1000, close_quietly, (channel,))
    guard.daemon = True
    guard.start()
    try:
        channel.exec_command(relay_line(host, port))
        first = channel.recv(1)
    finally:
        guard.cancel()
    if first == b"+":
        return
    channel.status_event.wait(timeout_ms / 1000)
    close_quietly(channel)
    if channel.exit_status < 0:
        detail = f"{host}:{port} did not answer within {timeout_ms} ms"
        raise ForwardingRefused(detail, is_prohibited=False)
    said = channel.recv_stderr(PIECE_BYTES).decode("utf-8", "replace").strip().rsplit("\n")[-1]
    is_missing = channel.exit_status == RELAY_MISSING_STATUS
    reason = said.rsplit(": ")[-1].lower() or f"exit status {channel.exit_status}"
    raise ForwardingRefused(f"{host}:{port}: {reason}", is_prohibited=is_missing)


def open_forwarded(transport: Transport, host: str, port: int, timeout_ms: int) -> paramiko.Channel:
    """Open a direct-tcpip channel.

    Raises:
        ForwardingRefused: by policy (`is_prohibited`), or the far end refused.
        SSHException, EOFError, OSError: the connection was lost, or no answer in time.
    """
    try:
        return transport.open("direct-tcpip", (host, port), timeout_s=timeout_ms / 1000)
    except ChannelRefused as error:
        is_prohibited = error.code == PROHIBITED
        reason = "sshd forbids forwarding" if is_prohibited else str(error).lower()
        detail = f"{host}:{port}: {reason or 'connect failed'}"
        raise ForwardingRefused(detail, is_prohibited=is_prohibited) from error


def bridge(
    channel: paramiko.Channel, *, passes_half_close: bool, at_end: Callable[[], None]
) -> socket.socket:
    """Answers our end of the channel as a real socket.

    Two daemon threads carry the bytes. When our end is closed the channel is; when the far end
    closes, ours reads an end of file. `at_end` is called once, when both are through.
    """
    ours, inner = socket.socketpair()
    channel.settimeout(None)
    down = threading.Thread(
        target=_carry_down, args=(channel, inner), name="ssh stream down", daemon=True
    )

    def up() -> None:
        _carry_up(channel, inner, passes_half_close=passes_half_close)
        close_quietly(channel)
        down.join()
        inner.close()
        at_end()

    down.start()
    threading.Thread(target=up, name="ssh stream up", daemon=True).start()
    return ours


def _carry_down(channel: paramiko.Channel, inner: socket.socket) -> None:
    with suppress(*FAILURES):
        while data := channel.recv(PIECE_BYTES):
            inner.sendall(data)
    # `inner` may be shut down already, by the other side's close.
    with suppress(OSError):
        inner.shutdown(socket.SHUT_WR)


def _carry_up(channel: paramiko.Channel, inner: socket.socket, *, passes_half_close: bool) -> None:
    """Carry until our side is closed, or the channel is."""
    with suppress(*FAILURES):
        while data := inner.recv(PIECE_BYTES):
            channel.sendall(data)
        if passes_half_close:
            channel.shutdown_write()
    _wait_for_close(channel, inner)


def _wait_for_close(channel: paramiko.Channel, inner: socket.socket) -> None:
    """Return when the reader is gone for good, as opposed to having only finished writing."""
    poll = select.poll()
    poll.register(inner, 0)  # only hang-ups, which are always reported
    while not channel.closed:
        if poll.poll(POLL_MS):
            return


def left_ms(deadline: float) -> int:
    """Answers the milliseconds left until the deadline, at least one."""
    return max(int((deadline - time.monotonic()) * 1000), 1)
