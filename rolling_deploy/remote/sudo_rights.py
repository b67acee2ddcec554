"""Whether sudo runs a command without a password: what its own listing says, and no more than that.

`sudo -l COMMAND` answers only whether the command is allowed, also where a password is asked for.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

SUDO = ("sudo", "-n", "--")
"""What we put before a command; `-n` fails instead of asking."""
_UNTRANSLATED = ("env", "LC_ALL=C")
_PATTERN = re.compile(r"[*?\[\\^]|/$|^sha\d+:")
"""What makes an entry of sudoers more than a command to be compared."""
_AUTHENTICATE = re.compile(r"!?\bauthenticate\b")


@dataclass(frozen=True, slots=True)
class _Entry:
    users: frozenset[str]
    asks: bool
    commands: tuple[str, ...]


def asking_whether_allowed(argv: Sequence[str]) -> list[str] | None:
    """Answers the command that asks sudo whether it would run `argv`, which begins with `sudo`.

    None: `argv` has an option that cannot be asked about.
    """
    words, kept = list(argv[1:]), list[str]()
    while words and (words[0].startswith("-") or "=" in words[0]):
        word = words.pop(0)
        if word == "--":
            break
        if word in {"-u", "-g"} and words:
            kept += [word, words.pop(0)]
        elif word not in {"-n", "--non-interactive"}:
            return None
    return [*_UNTRANSLATED, argv[0], "-n", "-l", *kept, "--", *words] if words else None


def asking_for_all(argv: Sequence[str]) -> list[str]:
    """Answers the command that lists every entry for the user who runs it."""
    return [*_UNTRANSLATED, argv[0], "-n", "-ll"]


def asks_password(listing: str, command: str) -> bool | None:
    """Answers whether sudo wants a password for this command run as root; None: cannot be told.

    Args:
        listing: what `sudo -ll` said. In sudoers the last entry that fits decides.
        command: as `sudo -l COMMAND` spells it, with its full path.
    """
    before, *rest = re.split(r"^Sudoers entry:.*$", listing, flags=re.MULTILINE)
    if "ommand-specific" in before and "authenticate" in before:
        return None
    possible = set[bool]()
    for entry in reversed([_entry(text, is_asked=_asks(before, default=True)) for text in rest]):
        fits = [_fits(pattern, command) for pattern in entry.commands]
        if True in fits and entry.users & {"root", "ALL"}:
            possible.add(entry.asks)
            break
        if True in fits or None in fits:
            possible.add(entry.asks)
    return possible.pop() if len(possible) == 1 else None


def _entry(text: str, *, is_asked: bool) -> _Entry:
    named: dict[str, str] = {}
    commands: list[str] = []
    for line in text.splitlines():
        if line.startswith("\t"):
            commands.append(line.strip())
            continue
        key, _, value = line.strip().partition(":")
        named[key] = value
    users = frozenset(user.strip() for user in named.get("RunAsUsers", "root").split(","))
    asks = _asks(named.get("Options", ""), default=is_asked)
    return _Entry(users, asks, tuple(commands))


def _asks(options: str, *, default: bool) -> bool:
    found = _AUTHENTICATE.findall(options)
    return not found[-1].startswith("!") if found else default


def _fits(pattern: str, command: str) -> bool | None:
    """True or False where it is certain; a pattern, or another path of the same program, is not."""
    if pattern.startswith("!"):
        return False
    if pattern in {"ALL", command}:
        return True
    if _PATTERN.search(pattern):
        return None
    mine, wanted = _parts(pattern), _parts(command)
    if mine[0] == wanted[0] and not mine[2]:
        return True
    is_same_program = mine[1] == wanted[1] and (not mine[2] or mine[2] == wanted[2])
    return None if is_same_program else False


def _parts(command: str) -> tuple[str, str, str]:
    path, _, arguments = command.partition(" ")
    return path, path.rpartition("/")[2], arguments


def sudoers_line(user: str, command: str) -> str:
    """Answers the line of sudoers that lets this user run exactly this command as root.

    Args:
        command: the program's full path and its words, with a blank between each two.
    """
    return f"{user} ALL=(root) NOPASSWD: {_MEANT.sub(_escaped, command)}"


_MEANT = re.compile(r"[,:=\\#*?\[\]!]")
"""What sudoers reads as more than itself in the words of a command (sudoers(5))."""


def _escaped(sign: re.Match[str]) -> str:
    return f"\\{sign[0]}"


def spelled_out(answer: bytes) -> Iterator[str]:
    """Answers the lines in which `sudo -l COMMAND` names the command with its full path."""
    for line in answer.decode("utf-8", "replace").splitlines():
        if line.startswith("/"):
            yield line.strip()
