"""Whether the machine that answered is the one it should be: host keys and known_hosts files."""

from __future__ import annotations

import base64
import fcntl
import hashlib
import hmac
import os
import shlex
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

from rolling_deploy.settings import HostTarget


class HostKeyRefused(Exception):
    """The machine's host key is unknown, changed or revoked; the text says what to do."""


@dataclass(frozen=True, slots=True)
class HostKey:
    """A machine's public key: its kind (`ssh-ed25519`) and its bytes as SSH sends them."""

    kind: str
    blob: bytes

    @property
    def text(self) -> str:
        """Answers the key as known_hosts files write it."""
        return f"{self.kind} {base64.b64encode(self.blob).decode('ascii')}"

    @property
    def fingerprint(self) -> str:
        """Answers the fingerprint as `ssh-keygen -l` prints it."""
        digest = base64.b64encode(hashlib.sha256(self.blob).digest()).decode("ascii")
        return f"SHA256:{digest.rstrip('=')}"


@dataclass(frozen=True, slots=True)
class _Line:
    """One line of a known_hosts file that names a key."""

    names: tuple[str, ...]
    key: HostKey
    is_revoked: bool = False


@dataclass(slots=True)
class _Lines:
    """The lines of a file: those with plain names by name, the others to be searched."""

    by_name: dict[str, list[_Line]] = field(default_factory=dict)
    patterns: list[_Line] = field(default_factory=list)

    def add(self, line: _Line) -> None:
        if any(_is_pattern(name) for name in line.names):
            self.patterns.append(line)
            return
        for name in line.names:
            self.by_name.setdefault(name, []).append(line)

    def about(self, name: str) -> Iterator[_Line]:
        yield from self.by_name.get(name, ())
        yield from (line for line in self.patterns if _matches(line.names, name))


class KnownHosts:
    """One known_hosts file, read once per process and shared by every connection.

    Understands plain, hashed (`|1|...`) and wildcard names, negation, `[host]:port` and
    `@revoked`. `@cert-authority` lines are passed over. Safe to use from several threads.
    Get it by `known_hosts_at`, which shares it by path.
    """

    def __init__(self, path: str) -> None:
        self.path = Path(path).expanduser()
        self._lock = threading.Lock()
        self._lines: _Lines | None = None

    def kinds_for(self, target: HostTarget) -> tuple[str, ...]:
        """Answers which kinds of key are known for the machine, to ask for those first.

        Raises:
            HostKeyRefused: the file cannot be read.
        """
        with self._lock:
            lines = self._read()
            found = [line.key.kind for name in _names_of(target) for line in lines.about(name)]
        return tuple(dict.fromkeys(found))

    def check(self, target: HostTarget, key: HostKey) -> None:
        """Answers by returning that `key` may be trusted for the machine.

        With `accept-new` a key of a machine that the file does not name is appended to it, one
        line in one write under an exclusive lock on the file.

        Raises:
            HostKeyRefused: the key is unknown (and not to be accepted), changed or revoked.

        Crash: the file has either the whole new line or nothing new.
        """
        with self._lock:
            if _is_known(self._read(), target, key, self.path):
                return
            if target.host_keys != "accept-new":
                raise HostKeyRefused(_unknown(target, key, self.path))
            self._remember(target, key)

    def _read(self) -> _Lines:
        if self._lines is None:
            try:
                text = self.path.read_bytes() if self.path.exists() else b""
            except OSError as error:
                raise HostKeyRefused(f"cannot read `{self.path}`: {error.strerror}") from error
            self._lines = _parse(text)
        return self._lines

    def _remember(self, target: HostTarget, key: HostKey) -> None:
        line = f"{_names_of(target)[0]} {key.text}\n".encode()
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
            with os.fdopen(handle, "r+b", buffering=0) as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                # Another process may have met the machine since the file was read.
                before = file.read()
                self._lines = _parse(before)
                if _is_known(self._lines, target, key, self.path):
                    return
                file.write(line if not before or before.endswith(b"\n") else b"\n" + line)
                os.fsync(file.fileno())
        except OSError as error:
            raise HostKeyRefused(
                f"the new host key cannot be remembered in `{self.path}`: {error.strerror}"
            ) from error
        self._lines.add(_Line((_names_of(target)[0],), key))


@cache
def known_hosts_at(path: str) -> KnownHosts:
    """Answers the one shared KnownHosts of this path."""
    return KnownHosts(path)


def _names_of(target: HostTarget) -> tuple[str, ...]:
    """Answers the names the machine may stand under, the one we would write first."""
    address = target.address.lower()
    if target.port == 22:
        return (address,)
    return (f"[{address}]:{target.port}", address)


def _is_known(lines: _Lines, target: HostTarget, key: HostKey, path: Path) -> bool:
    """Answers whether the lines name the machine with this key; raises if with another."""
    names = _names_of(target)
    about = [line for name in names for line in lines.about(name)]
    if any(line.is_revoked and line.key == key for line in about):
        raise HostKeyRefused(
            f"the host key {key.kind} {key.fingerprint} is marked as revoked in `{path}`"
        )
    if any(line.key == key for line in about if not line.is_revoked):
        return True
    # A machine known by the bare address may have another sshd on another port, so only lines
    # under the exact name speak against the key. A key of another kind counts as changed:
    # whoever stands in between could simply offer a kind that was never seen.
    others = [line.key for line in lines.about(names[0]) if not line.is_revoked]
    if others:
        raise HostKeyRefused(_changed(names[0], key, others, path))
    return False


def _changed(name: str, key: HostKey, others: list[HostKey], path: Path) -> str:
    known = ", ".join(f"{other.kind} {other.fingerprint}" for other in others)
    return (
        f"the host key of {name} has changed: should be {known} (from `{path}`), is {key.kind} "
        f"{key.fingerprint}; somebody may be between you and the machine. If the machine was "
        f"really reinstalled: `ssh-keygen -f {shlex.quote(str(path))} -R {shlex.quote(name)}`"
    )


def _unknown(target: HostTarget, key: HostKey, path: Path) -> str:
    line = f"{_names_of(target)[0]} {key.text}"
    return (
        f"the host key is not in `{path}`: it is {key.kind} {key.fingerprint}. Compare that with "
        f"the machine's own (`ssh-keygen -lf` on its `/etc/ssh/ssh_host_*_key.pub`), then add "
        f"it: `echo {shlex.quote(line)} >> {shlex.quote(str(path))}`"
    )


def _parse(text: bytes) -> _Lines:
    """Answers the lines that can be read; OpenSSH passes over the others too."""
    lines = _Lines()
    for raw in text.decode("utf-8", "replace").splitlines():
        words = raw.split()
        marker = words.pop(0) if words and words[0].startswith("@") else ""
        if len(words) < 3 or words[0].startswith("#") or marker not in {"", "@revoked"}:
            continue
        try:
            key = HostKey(words[1], base64.b64decode(words[2], validate=True))
        except ValueError:  # no base64, or not even ASCII
            continue
        names = tuple(name.lower() if name[0] != "|" else name for name in _split(words[0]))
        lines.add(_Line(names, key, is_revoked=bool(marker)))
    return lines


def _split(names: str) -> list[str]:
    return [name for name in names.split(",") if name]


def _is_pattern(name: str) -> bool:
    return name.startswith(("|", "!")) or "*" in name or "?" in name


def _matches(patterns: tuple[str, ...], name: str) -> bool:
    """Answers whether the name is meant: some pattern fits and no negated one does."""
    fits = False
    for pattern in patterns:
        if pattern.startswith("!"):
            if _fits(pattern[1:], name):
                return False
        elif _fits(pattern, name):
            fits = True
    return fits


def _fits(pattern: str, name: str) -> bool:
    if pattern.startswith("|1|"):
        return _is_hash_of(pattern, name)
    # fnmatch knows sets in brackets, known_hosts does not: there they stand around an address.
    return fnmatchcase(name, pattern.replace("[", "[[]"))


def _is_hash_of(pattern: str, name: str) -> bool:
    salt, _, digest = pattern[3:].partition("|")
    try:
        expected = base64.b64decode(digest)
        actual = hmac.digest(base64.b64decode(salt), name.encode(), "sha1")
    except ValueError:
        return False
    return hmac.compare_digest(expected, actual)
