"""Where every element of an XML file begins and ends, in bytes, so that one can be edited alone.

The parser is expat, which says at which byte of the input it is. Its offsets and our looking for
quotes agree in encodings that hold ASCII as ASCII, so only those are taken.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from xml.parsers import expat

_ENCODING = re.compile(
    r"utf-?8|us-ascii|ascii|iso-?8859-?[0-9]{1,2}|latin-?1|windows-125[0-8]|cp125[0-8]",
    re.IGNORECASE,
)
_TAG_END = re.compile(rb"""(?:[^"'>]|"[^"]*"|'[^']*')*?(/?)>""")
_ATTRIBUTE = re.compile(rb"""\s+([^\s=/>"']+)\s*=\s*("[^"]*"|'[^']*')""")
_NAME_END = re.compile(rb"<[^\s/>]+")
_WIDE_MARKS = (b"\xff\xfe", b"\xfe\xff")
_SHOWN_MAX = 100


class NotMergeable(Exception):
    """The file cannot be edited as it stands.

    Attributes:
        line: where, from 1; 0 when it is the whole file.
    """

    def __init__(self, reason: str, line: int = 0) -> None:
        super().__init__(reason)
        self.line = line

    def at(self, path: str) -> str:
        """Answers `path:line: reason`."""
        return f"{path}:{self.line}: {self}" if self.line else f"{path}: {self}"


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes from `start` up to, but without, `end`."""

    start: int
    end: int


@dataclass(slots=True)
class Element:
    """One element and where it stands.

    Attributes:
        tag: its start tag, `<` and `>` included.
        closing: its end tag; None where the start tag closes itself.
        values: by attribute, where its value stands, without the quotes.
        attributes_end: behind the last attribute, or behind the name.
    """

    name: str
    attributes: Mapping[str, str]
    line: int
    tag: Span
    values: Mapping[str, Span]
    attributes_end: int
    children: list[Element] = field(default_factory=list)
    closing: Span | None = None

    @property
    def span(self) -> Span:
        """Answers where all of it stands."""
        return Span(self.tag.start, self.closing.end if self.closing else self.tag.end)

    @property
    def meaning(self) -> tuple[object, ...]:
        """Answers what two elements have in common that mean the same; attributes have no order."""
        children = tuple(child.meaning for child in self.children)
        return self.name, tuple(sorted(self.attributes.items())), children

    def every(self, name: str) -> Iterator[Element]:
        """Answers the elements of this name anywhere below, in the file's order."""
        for child in self.children:
            if child.name == name:
                yield child
            yield from child.every(name)


@dataclass(frozen=True, slots=True)
class Document:
    """A file that was understood.

    Attributes:
        encoding: as Python calls it.
    """

    content: bytes
    root: Element
    encoding: str

    @property
    def newline(self) -> str:
        """Answers how its lines end: as the first one does."""
        first = self.content.find(b"\n")
        return "\r\n" if first > 0 and self.content[first - 1 : first] == b"\r" else "\n"

    def encoded(self, text: str) -> bytes:
        """Answers this text as it is to be written into the file, in its encoding and lines."""
        lines = text.replace("\r\n", "\n").replace("\n", self.newline)
        return lines.encode(self.encoding, "xmlcharrefreplace")

    def indent_of(self, element: Element) -> str:
        """Answers the blanks before an element that begins its line; else nothing."""
        line = self.content[: element.tag.start].rpartition(b"\n")[2]
        return line.decode("ascii") if line.strip(b" \t") == b"" else ""


@dataclass(frozen=True, slots=True)
class Edit:
    """These bytes in place of that span."""

    span: Span
    text: bytes


def apply(content: bytes, edits: Iterable[Edit]) -> bytes:
    """Answers the content with every edit made; spans do not overlap."""
    parts, at = [], 0
    for edit in sorted(edits, key=lambda edit: (edit.span.start, edit.span.end)):
        parts += [content[at : edit.span.start], edit.text]
        at = edit.span.end
    return b"".join([*parts, content[at:]])


def parse(content: bytes) -> Document:
    """Answers the elements of a file.

    Raises:
        NotMergeable: not well formed, an encoding without ASCII, or a DTD that brings in more
            than is written here (no entity is ever followed).
    """
    if content.startswith(_WIDE_MARKS) or b"\0" in content:
        raise NotMergeable("the encoding should be UTF-8 or another that holds ASCII, is UTF-16", 1)
    reading = _Reading(content)
    try:
        reading.parser.Parse(content, True)
    except expat.ExpatError as error:
        reason = f"not well formed: {expat.ErrorString(error.code)}"
        raise NotMergeable(reason, error.lineno) from None
    except (LookupError, ValueError) as error:
        raise NotMergeable(f"not understood: {error}", 1) from None
    if reading.root is None:
        raise NotMergeable("it has no element", 1)
    return Document(content, reading.root, reading.encoding)


class _Reading:
    """What expat has said so far."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.encoding = "utf-8"
        self.root: Element | None = None
        self._open: list[Element] = []
        self.parser = expat.ParserCreate()
        self.parser.SetParamEntityParsing(expat.XML_PARAM_ENTITY_PARSING_NEVER)
        self.parser.XmlDeclHandler = self._declaration
        self.parser.StartDoctypeDeclHandler = self._doctype
        self.parser.EntityDeclHandler = self._entity
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end

    def _declaration(self, _version: str, encoding: str | None, _standalone: int) -> None:
        if encoding is None:
            return
        if not _ENCODING.fullmatch(encoding):
            shown = encoding[:_SHOWN_MAX]
            reason = f"the encoding should be UTF-8 or another that holds ASCII, is {shown!a}"
            raise NotMergeable(reason, 1)
        self.encoding = encoding.lower()

    def _doctype(self, name: str, system: str | None, _public: str | None, _subset: int) -> None:
        if system is not None:
            shown = system[:_SHOWN_MAX]
            reason = f"the DTD of `{name}` lies elsewhere ({shown!a}), which is not followed"
            raise NotMergeable(reason, self.parser.CurrentLineNumber)

    def _entity(self, name: str, *_rest: object) -> None:
        reason = f"the entity `{name[:_SHOWN_MAX]}` is declared; write out what it stands for"
        raise NotMergeable(reason, self.parser.CurrentLineNumber)

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        start, line = self.parser.CurrentByteIndex, self.parser.CurrentLineNumber
        found = _TAG_END.match(self.content, start)
        named = _NAME_END.match(self.content, start)
        if found is None or named is None:
            raise NotMergeable(f"the tag of `{name[:_SHOWN_MAX]}` is not understood", line)
        values, at = {}, named.end()
        while attribute := _ATTRIBUTE.match(self.content, at, found.end()):
            key = attribute[1].decode(self.encoding)
            values[key] = Span(attribute.start(2) + 1, attribute.end(2) - 1)
            at = attribute.end()
        if values.keys() != attributes.keys():
            raise NotMergeable(f"the attributes of `{name[:_SHOWN_MAX]}` are not understood", line)
        element = Element(name, attributes, line, Span(start, found.end()), values, at)
        if self._open:
            self._open[-1].children.append(element)
        else:
            self.root = element
        self._open.append(element)

    def _end(self, _name: str) -> None:
        element = self._open.pop()
        if self.content[element.tag.end - 2 : element.tag.end] == b"/>":
            return
        start = self.parser.CurrentByteIndex
        element.closing = Span(start, self.content.index(b">", start) + 1)
