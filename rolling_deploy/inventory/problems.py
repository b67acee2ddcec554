"""How a problem of the inventory is put to a person: `file:line: key: should be X, is Y`."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

KeyPath = tuple[str | int, ...]
"""The way to a value from the top of the document: keys of mappings, positions in lists."""

SHOWN_MAX = 60
"""Characters of a value that a message shows; a longer one is cut."""

_PLAIN = re.compile(r"[A-Za-z0-9_.\-]+")
_SENSITIVE = re.compile(
    r"passw|passphrase|pwd|secret|token|credential|api_?-?key|authorization|cookie", re.IGNORECASE
)
_NEVER_SHOWN = frozenset({"headers", "variables", "password_env"})
"""Keys under which people keep secrets, on purpose or by mistake."""
_USER_INFO = re.compile(r"//.*@", re.DOTALL)
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*://")

NEAR_CUTOFF = 0.6
NOT_SHOWN = "a value that is not shown"


def text_of(value: str) -> str:
    """Answers a text between backticks: on one line, cut when long, control characters escaped."""
    cut = value if len(value) <= SHOWN_MAX else f"{value[:SHOWN_MAX]}..."
    if not cut.isprintable():
        cut = json.dumps(cut)[1:-1]
    return f"`{cut}`"


def kind_of(value: object) -> str:
    """Answers what sort of value it is, without the value itself."""
    match value:
        case None:
            return "empty"
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return "text" if value else "empty text"
        case Mapping():
            return "a mapping" if value else "an empty mapping"
        case _:
            return "a list" if value else "an empty list"


def shown(value: object, at: KeyPath = ()) -> str:
    """Answers a value as a message shows it; what may be a secret is never shown.

    A value is taken for a secret by the keys it stands under, and user information in a URL
    (`redis://:password@host`) is always left out.
    """
    words = [key for key in at if isinstance(key, str)]
    if _NEVER_SHOWN.intersection(words) or any(_SENSITIVE.search(word) for word in words[-1:]):
        return NOT_SHOWN if value not in (None, "") else kind_of(value)
    if words[-1:] == ["url"] and isinstance(value, str) and value:
        # With a slip in it, any part may be the password.
        scheme = _SCHEME.match(value)
        return f"`{scheme[0]}...`" if scheme else NOT_SHOWN
    match value:
        case bool():
            return "`true`" if value else "`false`"
        case int() | float():
            return f"`{value}`"
        case str() if value:
            return text_of(_USER_INFO.sub("//...@", value))
        case _:
            return kind_of(value)


def listed(names: Iterable[str]) -> str:
    """Answers names in backticks, separated by commas."""
    return ", ".join(text_of(name) for name in names)


def near_miss(word: object, known: Iterable[str], *, cutoff: float = NEAR_CUTOFF) -> str:
    """Answers a question like "did you mean `health`?", or nothing when no name is near."""
    if not isinstance(word, str) or len(word) > SHOWN_MAX:
        return ""
    by_lower = {name.lower(): name for name in known}
    near = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=cutoff)
    return f"did you mean `{by_lower[near[0]]}`?" if near else ""


def label(path: KeyPath, data: object) -> str:
    """Answers the path as people write it; an item of a list goes by its name if it has one."""
    words: list[str] = []
    for key in path:
        data = child(data, key)
        if isinstance(key, int):
            words.append(f"[{_name_of(data) or key}]")
        else:
            plain = key if _PLAIN.fullmatch(key) else text_of(key)
            words.append(f".{plain}" if words else plain)
    return "".join(words)


def child(data: object, key: str | int) -> Any:  # noqa: ANN401 # whatever the file holds
    """Answers the value under a key or at a position; None where there is none."""
    if isinstance(data, dict):
        return data.get(key)
    if isinstance(data, list) and isinstance(key, int) and key < len(data):
        return data[key]
    return None


def _name_of(data: object) -> str:
    name = data.get("name") if isinstance(data, dict) else None
    is_usable = isinstance(name, str) and len(name) <= SHOWN_MAX and _PLAIN.fullmatch(name)
    return str(name) if is_usable else ""


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing that is wrong, and the line to go to."""

    line: int
    text: str


@dataclass(slots=True)
class Problems:
    """Collects everything that is wrong with one file.

    Attributes:
        file: the file's name, as the person gave it.
        lines: the line of every key and list item.
        data: the document, to name list items by.
        damaged: paths that were wrong and are left out of what is checked further.
    """

    file: str
    lines: dict[KeyPath, int] = field(default_factory=dict)
    data: object = None
    found: set[Problem] = field(default_factory=set)
    damaged: set[KeyPath] = field(default_factory=set)

    def add(self, path: KeyPath, expected: str, actual: str, hint: str = "") -> None:
        """Note that what stands at `path` should be one thing and is another."""
        key = label(path, self.data)
        self.at_line(self.line_of(path), f"{key}: " if key else "", expected, actual, hint)

    def spoil(self, path: KeyPath, expected: str, actual: str, hint: str = "") -> None:
        """Note a problem that makes a value useless for every further check."""
        self.add(path, expected, actual, hint)
        self.damaged.add(path)

    def at_line(self, line: int, key: str, expected: str, actual: str, hint: str = "") -> None:
        """Note a problem at a line, where there may be no key to name."""
        tail = f": {hint}" if hint else ""
        self.found.add(Problem(line, f"{key}should be {expected}, is {actual}{tail}"))

    def line_of(self, path: KeyPath) -> int:
        """Answers the line of a key; for one that is missing, of what it is missing from."""
        for end in range(len(path), 0, -1):
            if path[:end] in self.lines:
                return self.lines[path[:end]]
        return self.lines.get((), 1)

    def is_damaged(self, *sections: str) -> bool:
        """Answers whether anything in these sections was left out because it was wrong."""
        return any(not path or path[0] in sections for path in self.damaged)

    def texts(self) -> list[str]:
        """Answers every problem as a line of text, in the order of the file."""
        return [f"{self.file}:{problem.line}: {problem.text}" for problem in sorted(self.found)]
