"""The one function through which every word of a remote command goes."""

from __future__ import annotations

import shlex
from collections.abc import Sequence


def quote(word: str) -> str:
    """Answers the word so that any POSIX shell reads it back unchanged.

    Raises:
        ValueError: the word holds a NUL, which no command line can carry.
    """
    if "\0" in word:
        raise ValueError("a word of a remote command holds a NUL byte")
    return shlex.quote(word)


def command_line(argv: Sequence[str]) -> str:
    """Answers the command line for `argv`, every word quoted."""
    return " ".join(quote(word) for word in argv)
