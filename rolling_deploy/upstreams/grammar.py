"""nginx's grammar as a tree of statements, each with its place in the text.

The tokens are crossplane's. Its lexer and nginx's own disagree in a few corners (exotic white
space, `${` with more than a name in it, text after a closing quote, a lone carriage return). A
file that we write or take over is read *exactly*: every token is found again in the text, and
where the two readings could differ the text is refused, so that nothing can hide there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from tempfile import NamedTemporaryFile

from crossplane.errors import (  # type: ignore[import-untyped] # it ships no types
    NgxParserBaseException,
)
from crossplane.lexer import lex  # type: ignore[import-untyped] # it ships no types

_SPACE = " \t\n\r"
_DEPTH_MAX = 40
_EXPANSION = re.compile(r"\$\{(?![A-Za-z0-9_]+\})")


class SyntaxWrong(ValueError):
    """The text is not nginx's grammar, or could be read in two ways."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(f"line {line}: {reason}")
        self.line = line
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Word:
    """One word of a statement.

    Attributes:
        text: the word without its quotes; `raw` is how it stands in the file.
        start: offset in the text, -1 when it was not read exactly.
    """

    text: str
    raw: str
    line: int
    start: int = -1


@dataclass(frozen=True, slots=True)
class Remark:
    """A comment, with its `#`."""

    text: str
    line: int


@dataclass(frozen=True, slots=True)
class Statement:
    """One directive: its words, and its block when it has one.

    Attributes:
        comments: those written between its words.
        opening: offset of its `{` in the text, -1 without a block or when not read exactly.
        end: offset after its `;` or `}`, -1 when not read exactly.
    """

    words: tuple[Word, ...]
    last_line: int
    block: tuple[Item, ...] | None = None
    comments: tuple[Remark, ...] = ()
    opening: int = field(default=-1, compare=False)
    end: int = field(default=-1, compare=False)

    @property
    def line(self) -> int:
        """Answers the line it begins on."""
        return self.words[0].line

    @property
    def name(self) -> str:
        """Answers the directive's name."""
        return self.words[0].text

    @property
    def text(self) -> str:
        """Answers the directive as it is written, in one line, without `;` or block."""
        return " ".join(word.raw for word in self.words)

    def arguments(self) -> tuple[str, ...]:
        """Answers the words after the name, without quotes."""
        return tuple(word.text for word in self.words[1:])


Item = Statement | Remark


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str  # "word", "comment", or the sign itself: "{", "}", ";"
    word: Word


# The same upstreams are rendered, checked and looked at again under every generation.
@lru_cache(maxsize=256)
def parse(text: str) -> tuple[Item, ...]:
    """Answers the statements of a text that was read exactly, comments kept.

    Raises:
        SyntaxWrong: not nginx's grammar, or not certain to be read by nginx as it is read here.
    """
    feed = _feed(text)
    return _tree(_placed(text, feed))


def parse_loosely(text: str) -> tuple[Item, ...]:
    """Answers the statements of any configuration file, Lua blocks included, for looking only.

    Raises:
        SyntaxWrong: crossplane cannot read it.
    """
    return _tree(_loose(_feed(text)))


def walk(items: tuple[Item, ...]) -> Iterator[Statement]:
    """Answers every statement, outer ones before what is in them."""
    for item in items:
        if isinstance(item, Statement):
            yield item
            if item.block is not None:
                yield from walk(item.block)


def _feed(text: str) -> str:
    """Answers a text of the same length that crossplane reads without changing a character."""
    if "\0" in text:
        raise SyntaxWrong(text[: text.index("\0")].count("\n") + 1, "there is a NUL character")
    # A byte that is not UTF-8 (a comment in Latin-1) is a surrogate here; one stand-in for each.
    feed = re.sub(r"[\ud800-\udfff]", "?", text).replace("\r\n", " \n")
    if (lone := feed.find("\r")) >= 0:
        raise SyntaxWrong(feed[:lone].count("\n") + 1, "there is a lone carriage return")
    return feed if feed.endswith("\n") else feed + "\n"


def _crossplane(feed: str) -> Iterator[tuple[str, int, bool]]:
    with NamedTemporaryFile("w", encoding="utf-8", newline="", suffix=".conf") as file:
        file.write(feed)
        file.flush()
        try:
            yield from lex(file.name)
        except NgxParserBaseException as error:
            raise SyntaxWrong(error.lineno or 1, error.strerror) from None


def _kind(token: str, *, is_quoted: bool) -> str:
    if is_quoted:
        return "word"
    if token.startswith("#"):
        return "comment"
    return token if token in {"{", "}", ";"} else "word"


def _loose(feed: str) -> Iterator[_Token]:
    for token, line, is_quoted in _crossplane(feed):
        yield _Token(_kind(token, is_quoted=is_quoted), Word(token, token, line))


def _placed(text: str, feed: str) -> Iterator[_Token]:
    cursor = 0
    line = 1
    for token, line, is_quoted in _crossplane(feed):
        cursor = _skip_space(feed, cursor)
        kind = _kind(token, is_quoted=is_quoted)
        end = _end_of(feed, cursor, token, kind, line, is_quoted=is_quoted)
        yield _Token(kind, Word(token, text[cursor:end].rstrip("\r"), line, cursor))
        cursor = end
    rest = _skip_space(feed, cursor)
    if rest < len(feed):
        at = feed[:rest].count("\n") + 1
        raise SyntaxWrong(at, "a quote is not closed, or a `;` is missing, at the end of the file")


def _skip_space(feed: str, cursor: int) -> int:
    while cursor < len(feed) and feed[cursor] in _SPACE:
        cursor += 1
    return cursor


def _end_of(  # everything that is known of one token
    feed: str, start: int, token: str, kind: str, line: int, *, is_quoted: bool
) -> int:
    """Answers where the token ends in the text, or refuses what nginx might read otherwise."""
    if kind == "comment":
        end = feed.index("\n", start)
        if feed[start:end] in {token, token + "\\"}:
            return end
    elif is_quoted:
        end = _closing_quote(feed, start)
        if end > start and feed[end] not in _SPACE + ";{":
            raise SyntaxWrong(line, f"text follows the closing quote of {feed[start:end]}")
        inner = re.sub(r"\\(.)", lambda m: m[1] if m[1] == feed[start] else m[0], feed[start:end])
        if end > start and inner[1:-1] == token:
            return end
    elif feed.startswith(token, start):
        if _EXPANSION.search(token) or ("${" in token and "\\" in token):
            raise SyntaxWrong(line, f"`{token}` is not certain to be read as one word")
        return start + len(token)
    raise SyntaxWrong(line, "there is a character here that nginx may read in another way")


def _closing_quote(feed: str, start: int) -> int:
    """Answers the offset after the closing quote, or `start` when there is none."""
    if feed[start] not in "\"'":
        return start
    cursor = start + 1
    while cursor < len(feed) and feed[cursor] != feed[start]:
        cursor += 2 if feed[cursor] == "\\" else 1
    return cursor + 1 if cursor < len(feed) - 1 else start


def _tree(tokens: Iterator[_Token]) -> tuple[Item, ...]:
    items, _, _ = _block(tokens, 0)
    return items


def _block(tokens: Iterator[_Token], depth: int) -> tuple[tuple[Item, ...], int, int]:
    """Answers the items up to the closing brace (or the end), that brace's line and its end."""
    items: list[Item] = []
    line = 1
    for token in tokens:
        line = token.word.line
        if depth > _DEPTH_MAX:
            raise SyntaxWrong(line, "blocks are nested too deeply")
        match token.kind:
            case "comment":
                items.append(Remark(token.word.raw.rstrip(), line))
            case "}":
                return tuple(items), line, _after(token)
            case "{" | ";":
                raise SyntaxWrong(line, f"unexpected `{token.kind}`")
            case _:
                items.append(_statement(token.word, tokens, depth))
    return tuple(items), line, -1


def _after(sign: _Token) -> int:
    """Answers the offset after a sign of one character; -1 when it was not read exactly."""
    return sign.word.start + 1 if sign.word.start >= 0 else -1


def _statement(first: Word, tokens: Iterator[_Token], depth: int) -> Statement:
    words = [first]
    comments: list[Remark] = []
    for token in tokens:
        line = token.word.line
        match token.kind:
            case "comment":
                comments.append(Remark(token.word.raw.rstrip(), line))
            case ";":
                return Statement(tuple(words), line, None, tuple(comments), end=_after(token))
            case "{":
                block, last_line, end = _block(tokens, depth + 1)
                opening = token.word.start
                return Statement(tuple(words), last_line, block, tuple(comments), opening, end)
            case "}":
                raise SyntaxWrong(line, f"`{first.raw}` is not terminated by `;`")
            case _:
                words.append(token.word)
    raise SyntaxWrong(first.line, f"`{first.raw}` is not terminated by `;`")
