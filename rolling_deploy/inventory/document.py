"""YAML with the line of every key: plain values out of a file, and where each one stands.

The nodes are composed by ruamel.yaml (YAML 1.2, so `no` is text and `010` is ten) and turned
into values here, because only so are all duplicate keys found and every place known.
"""

from __future__ import annotations

import math
import re
import unicodedata
from dataclasses import dataclass
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.reader import ReaderError

from rolling_deploy.inventory.problems import KeyPath, Problems, label, text_of

VALUES_MAX = 200_000
"""A fleet of a thousand backends has some 20,000; aliases of aliases can grow without bound."""
DEPTH_MAX = 50
DIGITS_MAX = 18
"""Every whole number of so many digits fits into 64 bits."""
SIGNS_MAX = 400
"""Longer than the longest finite floating point number written out."""

_TAG = "tag:yaml.org,2002:"
_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")
_EXPLAINED = {
    "mapping values are not allowed here": (
        "a `:` where no key can stand (wrong indentation, or text that needs quotes)"
    ),
    "found character '\\t' that cannot start any token": "a tab (YAML indents with spaces)",
    "but found another document": "a second document after `---`",
}


@dataclass(slots=True)
class _Place:
    """Where the reader is: the path, and the nodes it came through (an alias may lead back)."""

    path: KeyPath = ()
    through: tuple[int, ...] = ()

    def into(self, key: str | int, node: Node) -> _Place:
        return _Place((*self.path, key), (*self.through, id(node)))


class _TooMuch(Exception):
    """The document grows beyond every use."""


@dataclass(slots=True)
class _Reader:
    problems: Problems
    count: int = 0

    def spend(self, place: _Place) -> None:
        """Count one more value; aliases of aliases are counted each time they are followed."""
        self.count += 1
        if self.count > VALUES_MAX or len(place.path) > DEPTH_MAX:
            raise _TooMuch

    def value(self, node: Node, place: _Place) -> Any:  # noqa: ANN401 # whatever the file holds
        self.spend(place)
        match node:
            case MappingNode():
                return self.mapping(node, place)
            case SequenceNode():
                return self.sequence(node, place)
            case _:
                return self.scalar(node, place.path)

    def mapping(self, node: MappingNode, place: _Place) -> dict[str, Any]:
        values: dict[str, Any] = {}
        merged: list[tuple[ScalarNode, Node]] = []
        for key_node, value_node in node.value:
            if key_node.tag == f"{_TAG}merge":
                merged += self.merged(value_node, place)
            elif (key := self.key(key_node, place.path)) in values:
                self.duplicate(key_node, (*place.path, key))
            else:
                self.enter(values, key, key_node, value_node, place)
        for key_node, value_node in merged:
            key = self.key(key_node, place.path)
            if key not in values:
                self.enter(values, key, key_node, value_node, place)
        return values

    def duplicate(self, node: Node, path: KeyPath) -> None:
        first = self.problems.lines[path]
        key = f"{label(path, None)}: "
        self.problems.at_line(_line(node), key, "written once", f"also in line {first}")

    def enter(
        self, values: dict[str, Any], key: str, key_node: Node, value_node: Node, place: _Place
    ) -> None:
        self.problems.lines[*place.path, key] = _line(key_node)
        if self.leads_back(value_node, place):
            self.problems.spoil((*place.path, key), *_ENDLESS)
            values[key] = None
        else:
            values[key] = self.value(value_node, place.into(key, value_node))

    def merged(self, node: Node, place: _Place) -> list[tuple[ScalarNode, Node]]:
        """Answers the keys that `<<` brings in, the nearest first."""
        sources = node.value if isinstance(node, SequenceNode) else [node]
        pairs: list[tuple[ScalarNode, Node]] = []
        for source in sources:
            self.spend(place)
            if not isinstance(source, MappingNode):
                self.problems.at_line(
                    _line(node), "`<<`: ", "an alias of a mapping", "something else"
                )
            elif self.leads_back(source, place):
                self.problems.at_line(_line(node), "`<<`: ", *_ENDLESS)
            else:
                own = [pair for pair in source.value if pair[0].tag != f"{_TAG}merge"]
                further = [pair[1] for pair in source.value if pair[0].tag == f"{_TAG}merge"]
                within = place.into("<<", source)
                self.spend(within)
                pairs += own
                for deeper in further:
                    pairs += self.merged(deeper, within)
                if len(pairs) > VALUES_MAX:
                    raise _TooMuch
        return pairs

    def leads_back(self, node: Node, place: _Place) -> bool:
        return id(node) in place.through

    def sequence(self, node: SequenceNode, place: _Place) -> list[Any]:
        values: list[Any] = []
        for index, item in enumerate(node.value):
            self.problems.lines[*place.path, index] = _line(item)
            if self.leads_back(item, place):
                self.problems.spoil((*place.path, index), *_ENDLESS)
                values.append(None)
            else:
                values.append(self.value(item, place.into(index, item)))
        return values

    def key(self, node: Node, path: KeyPath) -> str:
        """Answers the key as text; one that is not text is named as a problem."""
        if isinstance(node, ScalarNode):
            key = str(node.value)
            if node.tag not in _TEXT_TAGS:
                self.problems.damaged.add((*path, key))
                actual = f"{text_of(key)}: quote it" if key else "empty"
                self.problems.at_line(_line(node), "", "a key that is text", actual)
            return key
        key = f"(line {_line(node)}, column {node.start_mark.column + 1})"
        self.problems.damaged.add((*path, key))
        self.problems.at_line(_line(node), "", "a key that is text", "a list or a mapping")
        return key

    def scalar(self, node: Node, path: KeyPath) -> str | float | bool | None:
        match str(node.tag).removeprefix(_TAG):
            case "null":
                return None
            case "bool":
                return str(node.value).lower() == "true"
            case "int" | "float":
                return self.number(node, path)
            case "str" | "timestamp" | "value":  # A date is text here: releases look like dates.
                return str(node.value)
            case _:
                hint = "text that begins with `!` needs quotes"
                self.problems.spoil(path, "a value without a tag", "tagged", hint)
                return None

    def number(self, node: Node, path: KeyPath) -> str | float:
        number = _number(str(node.value))
        if isinstance(number, str):  # `!!int foo`
            return number
        if not math.isfinite(number) or (isinstance(number, int) and abs(number) >= 10**DIGITS_MAX):
            self.problems.spoil(path, f"a number of at most {DIGITS_MAX} digits", "out of bounds")
            return 0
        return number


_TEXT_TAGS = frozenset(f"{_TAG}{name}" for name in ("str", "timestamp", "value"))
_ENDLESS = ("a value of its own", "an alias of what it stands in")


def _number(text: str) -> str | float:
    if len(text) > SIGNS_MAX:
        return math.inf
    plain = text.replace("_", "").lower().replace(".inf", "inf").replace(".nan", "nan")
    for read in (int, lambda word: int(word, 0), float):
        try:
            return read(plain)
        except ValueError:
            continue
    return text


def _line(node: Node) -> int:
    return int(node.start_mark.line) + 1


def read_document(content: bytes, problems: Problems) -> bool:
    """Read the document into `problems.data` and its places into `problems.lines`.

    Returns:
        Whether there is a mapping to go on with. Whatever is wrong is noted in `problems`, and
        a document with duplicate keys or tags is still read to its end.
    """
    root = _compose(content, problems)
    if root is None:
        return False
    reader = _Reader(problems)
    try:
        data = reader.value(root, _Place((), (id(root),)))
    except _TooMuch:
        problems.at_line(1, "", "an inventory", "too large or too deeply nested to be one")
        return False
    problems.data = data
    if not isinstance(data, dict):
        problems.at_line(1, "", "a mapping that begins with `application: NAME`", "not a mapping")
        return False
    _check_characters(data, (), problems)
    return True


def _compose(content: bytes, problems: Problems) -> Node | None:
    before = len(problems.found)
    root: Node | None = None
    text = ""
    try:
        text = content.decode("utf-8-sig")
        root = YAML(typ="safe", pure=True).compose(text)
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        problems.at_line(
            line, "", "UTF-8 text", f"a byte that is not, 0x{content[error.start]:02x}"
        )
    except ReaderError as error:
        line = text[: error.position].count("\n") + 1
        sign = text[error.position : error.position + 1] or "\0"
        actual = f"one with U+{ord(sign):04X}"
        problems.at_line(line, "", "text without control characters", actual)
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        problems.at_line(mark.line + 1 if mark else 1, "", "YAML", f"not: {_explained(error)}")
    except RecursionError:
        problems.at_line(1, "", "an inventory", "too large or too deeply nested to be one")
    except (ValueError, TypeError, LookupError, AttributeError, NotImplementedError):
        # The composer trips over some malformed input in ways of its own.
        problems.at_line(1, "", "YAML", "not")
    if root is None and len(problems.found) == before:
        problems.at_line(1, "", "a mapping that begins with `application: NAME`", "empty")
    return root


def _explained(error: YAMLError) -> str:
    """Answers the parser's reason, without any word of the file: it may be a password."""
    reason = str(getattr(error, "problem", None) or "it cannot be read")
    if reason.startswith("found undefined alias"):
        return "an alias without its anchor (text that begins with `*` needs quotes)"
    return _EXPLAINED.get(reason) or _QUOTED.sub(_sign_or_nothing, reason)


def _sign_or_nothing(quoted: re.Match[str]) -> str:
    inner = quoted[0][1:-1]
    is_of_yaml = len(inner) <= 1 or inner.startswith("<")
    return f"`{inner}`" if is_of_yaml else "something else"


def _check_characters(value: object, path: KeyPath, problems: Problems) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            _check_text(key, (*path, key), problems)
            _check_characters(item, (*path, key), problems)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _check_characters(item, (*path, index), problems)
    elif isinstance(value, str):
        # A template may want line breaks and tabs; nothing else has a use for them.
        _check_text(value, path, problems, allowed="\n\t" if "variables" in path[:-1] else "")


def _check_text(text: str, path: KeyPath, problems: Problems, *, allowed: str = "") -> None:
    """Refuse what could break a command, a log line or an nginx file."""
    for sign in text:
        if unicodedata.category(sign) in {"Cc", "Cs", "Zl", "Zp"} and sign not in allowed:
            where = f"one with U+{ord(sign):04X}"
            problems.spoil(path, "text without control characters", where)
            return
