"""Which keys may log in to a machine: the one that is named, or the agent's and the usual files."""

from __future__ import annotations

import shlex
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import paramiko

from rolling_deploy.remote.connection import CannotReach
from rolling_deploy.settings import HostTarget


@dataclass(frozen=True, slots=True)
class Candidate:
    """A key to try, and how to name it to a person."""

    label: str
    key: paramiko.PKey


def candidates(target: HostTarget) -> Generator[Candidate, None, None]:
    """Answers the keys to try: only the named one, or the agent's and then the usual files."""
    if target.key:
        yield from _named_key(Path(target.key).expanduser())
        return
    with _agent() as agent_keys:
        for key in agent_keys:
            yield Candidate(f"the agent's {key.get_name()} {key.fingerprint}", key)
    for kind in ("ed25519", "ecdsa", "rsa"):
        path = Path.home() / ".ssh" / f"id_{kind}"
        try:
            yield Candidate(f"`{path}`", _load(str(path)))
        except (OSError, ValueError, paramiko.SSHException):
            continue


def _named_key(path: Path) -> Iterator[Candidate]:
    """Answers the key of the inventory; from the agent when the file has a passphrase.

    Raises:
        CannotReach: it cannot be read, or needs a passphrase that we do not ask for.
    """
    try:
        yield Candidate(f"`{path}`", _load(str(path)))
    except paramiko.PasswordRequiredException:
        yield from _from_agent(path)
    except OSError as error:
        raise CannotReach(f"cannot read the key `{path}`: {error.strerror}") from error
    except (ValueError, paramiko.SSHException) as error:
        raise CannotReach(f"`{path}` is not a private key this tool can use") from error


def _from_agent(path: Path) -> Iterator[Candidate]:
    try:
        public = path.with_name(path.name + ".pub").read_text(encoding="utf-8").split()[1]
    except (OSError, IndexError):
        public = ""
    with _agent() as agent_keys:
        for key in agent_keys:
            if key.get_base64() == public:
                yield Candidate(f"`{path}` (in the agent)", key)
                return
    raise CannotReach(
        f"the key `{path}` needs a passphrase; put it into the agent: "
        f"`ssh-add {shlex.quote(str(path))}`"
    )


@contextmanager
def _agent() -> Iterator[tuple[paramiko.AgentKey, ...]]:
    """Answers the agent's keys, which can sign as long as the block lasts."""
    try:
        agent = paramiko.Agent()
    except (paramiko.SSHException, OSError):
        yield ()
        return
    try:
        yield agent.get_keys()
    finally:
        agent.close()


@cache
def _load(path: str) -> paramiko.PKey:
    """Answers the private key of a file, read once per process.

    Raises:
        PasswordRequiredException: it has a passphrase.
    """
    try:
        return paramiko.PKey.from_path(path)
    except TypeError as error:  # how `cryptography` says that a passphrase is missing
        raise paramiko.PasswordRequiredException(path) from error
