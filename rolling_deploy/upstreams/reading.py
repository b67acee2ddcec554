"""Reading an upstream file as it lies on a load balancer, a person's own or one of ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from rolling_deploy.errors import InventoryWrong, PreflightRefused
from rolling_deploy.settings import UpstreamSettings
from rolling_deploy.upstreams import stamp_lines
from rolling_deploy.upstreams.endpoint import FIRST_COMMENT, is_endpoint
from rolling_deploy.upstreams.grammar import Item, Remark, Statement, SyntaxWrong, parse
from rolling_deploy.upstreams.layout import (
    Comment,
    Directive,
    Entry,
    Layout,
    ServerLine,
    UpstreamLayout,
    is_plain_word,
    restored,
)

_FILE = "the upstream file"


@dataclass(frozen=True, slots=True)
class LinesToMove:
    """Lines of a file that belong into another one.

    Attributes:
        text: the lines as they stand in the file.
    """

    first: int
    last: int
    name: str
    text: str

    def __str__(self) -> str:
        """Answers `lines 3-7 (name)`."""
        lines = (
            f"line {self.first}" if self.first == self.last else f"lines {self.first}-{self.last}"
        )
        return f"{lines} (`{self.name}`)"


class FileNotUnderstood(PreflightRefused):
    """The file is not in nginx's grammar, or holds what cannot be kept faithfully."""


class NotOnlyUpstreams(PreflightRefused):
    """The file holds more than upstream blocks and comments.

    Attributes:
        upstreams: the lines to move into a file of their own.
        others: the lines that stay.
    """

    def __init__(
        self, label: str, upstreams: Sequence[LinesToMove], others: Sequence[LinesToMove]
    ) -> None:
        stays = ", ".join(map(str, others))
        super().__init__(
            f"the file holds more than upstream blocks: {stays}",
            where=label,
            next_step=_how_to_move(label, upstreams),
        )
        self.upstreams = tuple(upstreams)
        self.others = tuple(others)


def _how_to_move(label: str, upstreams: Sequence[LinesToMove]) -> str:
    if not upstreams:
        return "name a file of its own for the upstreams as `file` of the load balancer"
    lines = " and ".join(map(str, upstreams))
    text = "\n".join(part.text for part in upstreams)
    return (
        f"move {lines} of `{label}` into a file of their own, write `include` with its path in "
        f"their place, and name it as `file` of the load balancer; the lines to move:\n{text}"
    )


def read_layout(text: str, label: str = _FILE, *, as_it_is: bool = False) -> Layout:
    """Answers what an upstream file says, as it is when no rollout takes anything out.

    Our own stamp and generation endpoint are recognised and left out.

    Args:
        text: the file. Bytes that are not UTF-8 come as surrogates (`errors="surrogateescape"`).
        label: the file's path, for messages.
        as_it_is: keep `down` and `max_fails=0` where a rollout of ours has put them.

    Raises:
        FileNotUnderstood: a syntax error, or something that cannot be kept, with its line.
        NotOnlyUpstreams: there is more in the file, with the exact lines to move.
    """
    try:
        items = parse(text)
    except SyntaxWrong as error:
        raise FileNotUnderstood(
            f"cannot read line {error.line}: {error.reason}", where=f"{label}:{error.line}"
        ) from None
    items = _without_stamp(items)
    _refuse_others(items, text, label)
    layout = _layout(items, label)
    return layout if as_it_is else _restored(layout)


def layout_from_settings(upstreams: Mapping[str, UpstreamSettings]) -> Layout:
    """Answers the empty blocks for a load balancer that has no file yet; `merge` fills them.

    Raises:
        InventoryWrong: an option is not a directive, or a name is none for nginx.
    """
    problems: list[str] = []
    blocks = tuple(_block_from_settings(settings, problems) for settings in upstreams.values())
    if problems:
        raise InventoryWrong(
            "an upstream cannot be written as the inventory says", problems=problems
        )
    return Layout(blocks)


def _block_from_settings(settings: UpstreamSettings, problems: list[str]) -> UpstreamLayout:
    if not is_plain_word(settings.name):
        problems.append(f"upstreams: `{settings.name}` is not a name for an upstream")
    entries: list[Entry] = []
    for option in settings.options:
        try:
            items = parse(f"{option};")
        except SyntaxWrong as error:
            problems.append(f"upstreams: {settings.name}: option `{option}`: {error.reason}")
            continue
        match items:
            case (Statement(block=None, comments=()) as only,) if only.name not in {
                "server",
                "include",
            }:
                entries.append(Directive(only.text))
            case _:
                problems.append(
                    f"upstreams: {settings.name}: option `{option}`: should be one directive of "
                    "nginx without its semicolon"
                )
    return UpstreamLayout(settings.name, tuple(entries), (Comment(""),))


def _without_stamp(items: Sequence[Item]) -> tuple[Item, ...]:
    """Answers the items without our stamp (whole or damaged) and our endpoint."""
    kept = stamp_lines.without_stamp(items)
    return tuple(
        item
        for item in kept
        if not (isinstance(item, Statement) and is_endpoint(item))
        and not (isinstance(item, Remark) and item.text == FIRST_COMMENT)
    )


def _refuse_others(items: Sequence[Item], text: str, label: str) -> None:
    lines = text.split("\n")
    upstreams: list[LinesToMove] = []
    others: list[LinesToMove] = []
    for item in items:
        if isinstance(item, Statement):
            is_upstream = item.name == "upstream" and item.block is not None
            (upstreams if is_upstream else others).append(lines_of(item, lines))
            upstreams += _inner_upstreams(item, lines)
    if others:
        raise NotOnlyUpstreams(label, upstreams, others)


def _inner_upstreams(statement: Statement, lines: Sequence[str]) -> list[LinesToMove]:
    """Answers upstream blocks inside an `http` block."""
    return [
        lines_of(item, lines)
        for item in statement.block or ()
        if isinstance(item, Statement) and item.name == "upstream" and item.block is not None
    ]


def lines_of(statement: Statement, lines: Sequence[str]) -> LinesToMove:
    """Answers where a statement stands in its file, with the lines' text."""
    last = max(statement.last_line, statement.line)
    return LinesToMove(
        statement.line, last, statement.text, "\n".join(lines[statement.line - 1 : last])
    )


def _layout(items: Sequence[Item], label: str) -> Layout:
    upstreams: list[UpstreamLayout] = []
    waiting: list[Comment] = []
    line = items[0].line if items else 1
    for item in items:
        if item.line - line > 1:
            waiting.append(Comment(""))
        if isinstance(item, Remark):
            waiting.append(Comment(item.text))
            line = item.line
        else:
            upstreams.append(replace(_upstream(item, label), before=tuple(waiting)))
            waiting = []
            line = item.last_line
    names = [upstream.name for upstream in upstreams]
    for name in names:
        if names.count(name) > 1:
            raise FileNotUnderstood(f"the upstream `{name}` is there twice", where=label)
    return Layout(tuple(upstreams), tuple(waiting))


def _upstream(statement: Statement, label: str) -> UpstreamLayout:
    arguments = statement.arguments()
    if len(arguments) != 1 or not is_plain_word(arguments[0]):
        raise _not_kept(statement, label, "the upstream's name should be one plain word")
    entries: list[Entry] = [Comment(remark.text) for remark in statement.comments]
    line = statement.line
    for item in statement.block or ():
        if item.line - line > 1 and entries:
            entries.append(Comment(""))
        if isinstance(item, Statement):
            entries += [Comment(remark.text) for remark in item.comments]
            entries.append(_entry(item, label))
            line = max(item.last_line, item.line)
        else:
            _add_remark(entries, item, line)
            line = item.line
    return UpstreamLayout(arguments[0], tuple(entries))


def _add_remark(entries: list[Entry], remark: Remark, line: int) -> None:
    """Add a comment: to the directive it stands beside, or as a line of its own."""
    last = entries[-1] if entries else None
    if isinstance(last, Directive | ServerLine) and remark.line == line and not last.comment:
        entries[-1] = replace(last, comment=remark.text)
    else:
        entries.append(Comment(remark.text))


def _entry(statement: Statement, label: str) -> Entry:
    if statement.block is not None or statement.name.endswith("_by_lua_block"):
        raise _not_kept(statement, label, "a block inside an upstream decides by itself")
    if statement.name == "include":
        raise _not_kept(statement, label, "an include hides server lines; write them here")
    if any("\n" in word.raw for word in statement.words):
        raise _not_kept(statement, label, "a quoted value goes over several lines")
    if statement.name != "server":
        return Directive(statement.text)
    arguments = statement.arguments()
    if not arguments or not all(map(is_plain_word, arguments)):
        raise _not_kept(statement, label, "a server line should be made of plain words")
    parameters = tuple(word for word in arguments[1:] if word != "down")
    return ServerLine(arguments[0], parameters, is_down="down" in arguments[1:])


def _not_kept(statement: Statement, label: str, why: str) -> FileNotUnderstood:
    return FileNotUnderstood(
        f"cannot keep `{statement.text}` in line {statement.line}: {why}",
        where=f"{label}:{statement.line}",
    )


def _restored(layout: Layout) -> Layout:
    return replace(
        layout,
        upstreams=tuple(
            upstream.with_servers([restored(line) for line in upstream.servers])
            for upstream in layout.upstreams
        ),
    )
