"""What the checks of the session store may ask of it, whatever carries it there.

`session_store.RedisLink` is the real one; nothing else knows redis-py.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol


class Why(StrEnum):
    """Why the server did not do a command."""

    DENIED = "denied"
    """The user may not run it, or not on this key."""
    NOT_LOGGED_IN = "not logged in"
    LOADING = "loading"
    ELSEWHERE = "elsewhere"
    """Another node of the cluster serves the key."""
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Said:
    """The server's answer to one command.

    Attributes:
        value: the answer, when there was no error.
        error: the server's own words, empty when it did the command.
    """

    value: object = None
    error: str = ""
    why: Why = Why.OTHER

    @property
    def is_error(self) -> bool:
        """Answers whether the server refused the command."""
        return bool(self.error)


class LinkLost(Exception):
    """No answer: timed out, closed, or never connected. The text is the reason for a person."""


class Link(Protocol):
    """One connection to the session store."""

    @property
    def asking(self) -> str:
        """The command that was asked last."""

    @property
    def slowest_ms(self) -> int:
        """The longest any round trip has taken, in milliseconds."""

    @property
    def slowest(self) -> str:
        """The command that took longest."""

    def connect(self) -> None:
        """Connect, without logging in.

        Raises:
            LinkLost: it did not come about.
        """

    def ask(self, *commands: tuple[str | bytes, ...]) -> list[Said]:
        """Send the commands in one round trip and give their answers in order.

        Raises:
            LinkLost: an answer did not come; the commands may have been done.
        """

    def close(self) -> None:
        """Close it; whoever waits on it gets an error at once."""


class Dial(Protocol):
    """Makes a link to one server of the store; nothing is connected yet."""

    def __call__(self, host: str, port: int) -> Link:
        """Answers the link."""


@dataclass(frozen=True, slots=True)
class Login:
    """What a server of the store is entered with; empty for what is not given."""

    username: str = ""
    password: str = field(default="", repr=False)
    db: int = 0

    def commands(self) -> list[tuple[str, ...]]:
        """Answers what must be asked first."""
        commands: list[tuple[str, ...]] = []
        if self.password or self.username:
            # Without a password too: a user with `nopass` may have fewer rights than the default.
            commands.append(("AUTH", *([self.username] if self.username else []), self.password))
        if self.db:
            commands.append(("SELECT", str(self.db)))
        return commands


def enter(link: Link, login: Login) -> None:
    """Connect and log in.

    Raises:
        LinkLost: it cannot be reached or does not let us in.
    """
    link.connect()
    commands = login.commands()
    for said in link.ask(*commands) if commands else ():
        if said.is_error:
            raise LinkLost(said.error)


def allowed(answers: list[Said]) -> list[Said]:
    """Answers the same, where the user may run these commands: what is denied is not empty.

    Raises:
        LinkLost: one is denied.
    """
    for said in answers:
        if said.why is Why.DENIED:
            raise LinkLost(said.error)
    return answers
