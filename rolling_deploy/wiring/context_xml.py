"""The wanted elements in a `context.xml`: those that are missing are added, others of ours renewed.

An element is ours by its name and `className`. A commented-out one is none.
"""

from __future__ import annotations

from dataclasses import dataclass

from rolling_deploy.wiring.xml_edit import (
    Document,
    Edit,
    Element,
    NotMergeable,
    Span,
    apply,
    parse,
)

_STEP = "    "
_STANDARD_MANAGER = "org.apache.catalina.session.StandardManager"
"""What Tomcat takes for a Manager without a `className`."""
_BEFORE = "<Context>\n"


@dataclass(frozen=True, slots=True)
class Fragment:
    """Elements that are to stand in a Context.

    Attributes:
        texts: of each element, as written.
    """

    elements: tuple[Element, ...]
    texts: tuple[str, ...]

    @property
    def manager_class(self) -> str:
        """Answers the class of its Manager; empty when it has none."""
        found = [_class_of(one) for one in self.elements if one.name == "Manager"]
        return found[0] if found else ""

    def secrets_in(self, shown: Fragment) -> tuple[frozenset[str], frozenset[str]]:
        """Answers values, and names of attributes, that differ from those of its masked twin."""
        pairs = [
            pair
            for own, other in zip(self.elements, shown.elements, strict=True)
            for pair in zip(_attributes(own), _attributes(other), strict=True)
        ]
        hidden = [own for own, other in pairs if own != other]
        return frozenset(value for _, value in hidden), frozenset(name for name, _ in hidden)


def _attributes(element: Element) -> list[tuple[str, str]]:
    below = [pair for child in element.children for pair in _attributes(child)]
    return [*element.attributes.items(), *below]


def read_fragment(text: str) -> Fragment:
    """Answers the elements of a rendered fragment; comments and text between them are left out.

    Raises:
        NotMergeable: it is not well formed, or an element is there twice.
    """
    content = f"{_BEFORE}{text}\n</Context>".encode()
    try:
        root = parse(content).root
    except NotMergeable as wrong:
        raise NotMergeable(str(wrong), max(wrong.line - 1, 1)) from None
    seen: set[tuple[str, str]] = set()
    for element in root.children:
        is_second = element.name == "Manager" and any(name == "Manager" for name, _ in seen)
        if _key(element) in seen or is_second:
            raise NotMergeable(f"{_shown(element)} is there twice", element.line - 1)
        seen.add(_key(element))
    texts = (content[one.span.start : one.span.end].decode() for one in root.children)
    return Fragment(tuple(root.children), tuple(texts))


def merge_context(content: bytes, wanted: Fragment) -> bytes:
    """Answers the file with the wanted elements in its Context; the same bytes if they are there.

    Raises:
        NotMergeable: it is no `context.xml` that can be edited, one of the elements is there
            twice, or a Manager of another class stands in the way.
    """
    document = parse(content)
    if document.root.name != "Context":
        reason = f"the root should be `Context`, is `{document.root.name}`"
        raise NotMergeable(reason, document.root.line)
    edits, missing = [], []
    for element, text in zip(wanted.elements, wanted.texts, strict=True):
        found = _standing(document.root, element)
        if found is None:
            missing.append(text)
        elif found.meaning != element.meaning:
            edits.append(Edit(found.span, document.encoded(text)))
    if missing:
        edits.append(_added(document, missing))
    return apply(content, edits)


def renews_manager(content: bytes, wanted: Fragment) -> bool:
    """Answers whether merging replaces a Manager of the same class that says something else."""
    managers = [one for one in wanted.elements if one.name == "Manager"]
    standing = [(one, _standing(parse(content).root, one)) for one in managers]
    return any(there and there.meaning != one.meaning for one, there in standing)


def _standing(root: Element, wanted: Element) -> Element | None:
    found = [child for child in root.children if _key(child) == _key(wanted)]
    if wanted.name == "Manager":
        for child in root.children:
            if child.name == "Manager" and child not in found:
                reason = (
                    f"there is a Manager of another class already, {_class_of(child)!r}: a Context "
                    "has one; remove it first"
                )
                raise NotMergeable(reason, child.line)
    if len(found) > 1:
        raise NotMergeable(f"{_shown(wanted)} is there twice: remove one", found[1].line)
    return found[0] if found else None


def _added(document: Document, texts: list[str]) -> Edit:
    """The elements as last children, each on a line of its own."""
    root = document.root
    outer = document.indent_of(root)
    inner = document.indent_of(root.children[0]) if root.children else ""
    inner = inner or outer + _STEP
    lines = "".join(f"{inner}{text}\n" for text in texts)
    if root.closing is None:
        # `<Context/>` becomes a tag that is opened and closed; its own bytes stay.
        slash = document.content.rindex(b"/", root.tag.start, root.tag.end)
        return Edit(Span(slash, root.tag.end), document.encoded(f">\n{lines}{outer}</{root.name}>"))
    line = document.content[: root.closing.start].rpartition(b"\n")[2]
    begun = root.closing.start - len(line)
    if line.strip(b" \t") == b"" and begun >= root.tag.end:
        return Edit(Span(begun, begun), document.encoded(lines))
    at = root.closing.start
    return Edit(Span(at, at), document.encoded(f"\n{lines}{outer}"))


def _class_of(element: Element) -> str:
    standard = _STANDARD_MANAGER if element.name == "Manager" else ""
    return element.attributes.get("className", standard)


def _key(element: Element) -> tuple[str, str]:
    return element.name, _class_of(element)


def _shown(element: Element) -> str:
    return f"<{element.name} className={_class_of(element)!r}>"
