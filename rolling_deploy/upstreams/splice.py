"""Changing a few statements of a configuration file, and no other byte of it.

Offsets are those of a text that was read exactly (`grammar.parse`). A file's bytes travel as text
with surrogates for what is not UTF-8, so encoding it again gives the same bytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rolling_deploy.upstreams.grammar import Item, Statement

_REST_OF_LINE = re.compile(r"[ \t]*(#[^\n]*)?(?=\r?\n)")


@dataclass(frozen=True, slots=True, order=True)
class Change:
    """What stands between two offsets of a text becomes `new`."""

    start: int
    end: int
    new: str


def text_from(data: bytes) -> str:
    """Answers a file's bytes as text, each undecodable byte as one surrogate."""
    return data.decode("utf-8", "surrogateescape")


def bytes_from(text: str) -> bytes:
    """Answers the bytes that `text_from` was given."""
    return text.encode("utf-8", "surrogateescape")


def changed(text: str, changes: Iterable[Change]) -> str:
    """Answers the text with all changes made; their offsets are those of the text as it is.

    Raises:
        ValueError: two of them overlap.
    """
    end = 0
    pieces: list[str] = []
    for change in sorted(set(changes)):
        if change.start < end:
            raise ValueError(f"two changes overlap at offset {change.start}")
        pieces += [text[end : change.start], change.new]
        end = change.end
    return "".join([*pieces, text[end:]])


def source_of(text: str, statement: Statement) -> str:
    """Answers a statement as it stands in the file, from its first word to its `;` or `}`."""
    return text[statement.words[0].start : statement.end]


def replacement(statement: Statement, new: str) -> Change:
    """Answers the change that puts `new` in a statement's place."""
    return Change(statement.words[0].start, statement.end, new)


def removal(text: str, statement: Statement) -> Change:
    """Answers the change that takes a statement away: whole lines where it has them to itself."""
    start, end = statement.words[0].start, statement.end
    line = text.rfind("\n", 0, start) + 1
    rest = _REST_OF_LINE.match(text, end)
    is_alone = not text[line:start].strip(" \t") and rest is not None and rest[1] is None
    if not is_alone or rest is None:
        return Change(start, end, "")
    return Change(line, text.index("\n", rest.end()) + 1, "")


def insertion(text: str, block: Statement, line: str) -> Change:
    """Answers the change that adds a directive to a block: after its last `include`, or at its end.

    Args:
        line: the directive with its semicolon.
    """
    children = _statements(block.block)
    includes = [child for child in children if child.name == "include"]
    if includes:
        return _after(text, includes[-1], line)
    closing = block.end - 1
    start = text.rfind("\n", 0, closing) + 1
    if text[start:closing].strip(" \t"):
        return Change(closing, closing, f" {line} ")
    return Change(start, start, f"{inner_indent(text, block)}{line}{line_end(text)}")


def _after(text: str, statement: Statement, line: str) -> Change:
    indent = indent_at(text, statement.words[0].start)
    rest = _REST_OF_LINE.match(text, statement.end)
    if indent is None or rest is None:
        return Change(statement.end, statement.end, f" {line}")
    return Change(rest.end(), rest.end(), f"{line_end(text)}{indent}{line}")


def contents(text: str, block: Statement, lines: Sequence[str]) -> Change:
    """Answers the change that makes these directives all that a block holds."""
    inside = text[block.opening + 1 : block.end - 1]
    start, end = block.opening + 1, block.end - 1
    if "\n" not in inside:
        return Change(start, end, f" {' '.join(lines)} ")
    indent, nl = inner_indent(text, block), line_end(text)
    closing = indent_at(text, end)
    last = closing if closing is not None else (indent_at(text, block.words[0].start) or "")
    return Change(start, end, "".join(f"{nl}{indent}{line}" for line in lines) + nl + last)


def indent_at(text: str, offset: int) -> str | None:
    """Answers the white space before the offset; None when something else precedes on its line."""
    before = text[text.rfind("\n", 0, offset) + 1 : offset]
    return None if before.strip(" \t") else before


def inner_indent(text: str, block: Statement) -> str:
    """Answers the indentation of what the block holds, or one step more than its own."""
    for child in _statements(block.block):
        indent = indent_at(text, child.words[0].start)
        if indent is not None:
            return indent
    own = indent_at(text, block.words[0].start) or ""
    return own + ("\t" if own.startswith("\t") else "    ")


def line_end(text: str) -> str:
    """Answers how the file ends its lines, told by the first."""
    first = text.find("\n")
    return "\r\n" if first > 0 and text[first - 1] == "\r" else "\n"


def _statements(items: Sequence[Item] | None) -> list[Statement]:
    return [item for item in items or () if isinstance(item, Statement)]
