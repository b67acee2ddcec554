"""What nginx's files lack so that one managed file rules the application's traffic, as edits.

Nothing is read or written here: the files come as `nginx -T` prints them, those to be edited with
their exact bytes too. Outside of what changes every byte stays, and planning on the result of a
plan gives nothing.
"""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Mapping, Sequence

from rolling_deploy.upstreams.grammar import Item, Statement, SyntaxWrong, parse, walk
from rolling_deploy.upstreams.inclusion import http_statements, reads, statements
from rolling_deploy.upstreams.layout import is_plain_word, text_of
from rolling_deploy.upstreams.merge import addresses_of, merge
from rolling_deploy.upstreams.reading import (
    FileNotUnderstood,
    NotOnlyUpstreams,
    layout_from_settings,
    read_layout,
)
from rolling_deploy.upstreams.routes import (
    Dump,
    Route,
    is_included,
    other_routes,
    upstream_elsewhere,
)
from rolling_deploy.upstreams.splice import (
    Change,
    bytes_from,
    changed,
    insertion,
    line_end,
    removal,
    replacement,
    source_of,
    text_from,
)
from rolling_deploy.upstreams.stamp import inspect
from rolling_deploy.upstreams.wiring_plan import ABSENT, ConfigFile, FileEdit, FilesPlan, Wanted
from rolling_deploy.upstreams.wiring_ways import (
    Refusal,
    Upstreams,
    locations_to,
    passes_to,
)


def files_to_read(dump: Dump, wanted: Wanted) -> tuple[str, ...]:
    """Answers the files whose exact bytes `plan_files` needs, the managed file first."""
    needed = {route.file for route in other_routes(dump, wanted.managed, wanted.addresses)}
    needed |= {path for path, _ in upstream_elsewhere(dump, set(wanted.upstreams), wanted.managed)}
    needed |= {posixpath.normpath(location.file) for location in wanted.locations}
    needed |= {path for path, statement in statements(dump) if statement.name == "http"}
    others = [path for path in dump.files if {path, posixpath.normpath(path)} & needed]
    return tuple(dict.fromkeys([wanted.balancer.file, *others]))


def plan_files(dump: Dump, wanted: Wanted, sources: Mapping[str, ConfigFile]) -> FilesPlan:
    """Answers the edits that bring the files to where `adopt` can take over.

    Args:
        sources: by path, the files that `files_to_read` names.

    Raises:
        InventoryWrong: a server line or an upstream cannot be written as the inventory says.
    """
    return _Planner(dump, wanted, sources).plan()


class _Planner:
    """One plan in the making: changes by file, what is said of them, and what is refused."""

    def __init__(self, dump: Dump, wanted: Wanted, sources: Mapping[str, ConfigFile]) -> None:
        self.dump = dump
        self.wanted = wanted
        self.sources = sources
        self.file = wanted.balancer.file
        self.changes: dict[str, list[Change]] = {}
        self.missing: list[str] = []
        self.refused: list[Refusal] = []
        self.trees: dict[str, tuple[Item, ...]] = {}
        self.moved: list[tuple[str, Statement]] = []
        self.managed_text = ""
        self.spreads = False

    def plan(self) -> FilesPlan:
        self._read()
        if self.refused:
            return FilesPlan(refused=tuple(self.refused))
        self._ways()
        self._upstreams()
        if self.refused:
            return FilesPlan(tuple(self.missing), tuple(dict.fromkeys(self.refused)))
        texts = self._results()
        self._verify(texts)
        if self.refused:
            return FilesPlan(tuple(self.missing), tuple(dict.fromkeys(self.refused)))
        edits = tuple(self._edit(path, text) for path, text in texts.items())
        return FilesPlan(tuple(self.missing), (), edits, self.spreads)

    def _refuse(self, where: str, detail: str, next_step: str) -> None:
        self.refused.append(Refusal(where, detail, next_step))

    def _text(self, path: str) -> str:
        return text_from(self.sources[path].data or b"")

    def _read(self) -> None:
        """Read the files exactly; refuse one that is another now than nginx was asked about."""
        managed = self.sources[self.file]
        if not is_plain_word(self.file) or set(self.file) & set("*?["):
            self._refuse(self.file, "the managed file's path needs quoting", "give it a plain name")
        for path, source in self.sources.items():
            if path in self.dump.files:
                text = None if source.data is None else text_from(source.data)
                if text is None or text.rstrip("\n") != self.dump.files[path].rstrip("\n"):
                    said = "was changed while it was looked at"
                    self._refuse(path, said, "run it again when nobody edits it")
                    continue
            if path != self.file and source.real == managed.real:
                self._refuse(
                    path, f"leads to {self.file}", f"name `{path}` as `file` of the load balancer"
                )
            try:
                self.trees[path] = parse(text_from(source.data or b""))
            except SyntaxWrong as error:
                said = f"cannot be edited safely: {error.reason}"
                self._refuse(f"{path}:{error.line}", said, "make the edits of this file by hand")

    def _ways(self) -> None:
        """`proxy_pass` lines and locations that must use the upstream."""
        wanted = self.wanted
        upstreams = Upstreams(wanted.upstreams, wanted.backends)
        accepted = set(wanted.balancer.acknowledged_routes)
        routes = [
            route
            for route in other_routes(self.dump, wanted.managed, wanted.addresses)
            if route.address not in accepted
        ]
        around = http_statements(self.dump)
        passes = passes_to(routes, self.trees, upstreams, around)
        self.spreads = bool(passes.changes)
        for found in (
            passes,
            locations_to(wanted.locations, self.trees, self._text, upstreams, around, routes),
        ):
            for path, change in found.changes:
                self.changes.setdefault(path, []).append(change)
            self.missing += found.missing
            self.refused += found.refused

    def _upstreams(self) -> None:
        """The upstream blocks belong into the managed file, and nginx must read that."""
        names = dict.fromkeys(self.wanted.upstreams)
        here = _upstream_blocks(self.trees[self.file])
        elsewhere = [
            (path, statement)
            for path, tree in self.trees.items()
            if path != self.file
            for statement in _upstream_blocks(tree)
            if statement.arguments()[0] in names
        ]
        own = {statement.arguments()[0] for statement in here}
        for path, statement in elsewhere:
            name = statement.arguments()[0]
            if name in own:
                said = f"the upstream {name} is in {self.file} too"
                self._refuse(f"{path}:{statement.line}", said, "remove the one that is wrong")
            own.add(name)
        self.moved = elsewhere
        absent = [name for name in names if name not in own]
        self.managed_text = self._managed(absent)
        self._reading()

    def _managed(self, absent: Sequence[str]) -> str:
        """Answers the managed file with what moves into it, and what is nowhere yet."""
        text = self._text(self.file)
        nl = line_end(text)
        for path, statement in self.moved:
            text = _with_line_end(text, nl) + source_of(self._text(path), statement) + nl
        if absent:
            wanted = {name: self.wanted.upstreams[name] for name in absent}
            written = merge(layout_from_settings(wanted), wanted, self.wanted.backends).layout
            for block in written.upstreams:
                lines = [f"    {text_of(entry)}" for entry in block.entries]
                whole = nl.join([f"upstream {block.name} {{", *lines, "}"])
                text = _with_line_end(text, nl) + whole + nl
                self.missing.append(
                    f"no upstream `{block.name}`: written to `{self.file}` as the inventory says"
                )
        return text

    def _reading(self) -> None:
        """Cut what moves, and see to it that nginx reads the managed file exactly once."""
        line = f"include {self.file};"
        is_read = self._is_read(self.dump)
        if not is_read:
            self.missing.append(f"nginx does not read `{self.file}`: `{line}` is added")
        for path, statement in self.moved:
            text, name = self._text(path), statement.arguments()[0]
            change = removal(text, statement) if is_read else replacement(statement, line)
            is_read = True
            self.changes.setdefault(path, []).append(change)
            self.missing.append(
                f"the upstream `{name}` stands in `{path}:{statement.line}`: moved to "
                f"`{self.file}` as it is"
            )
        if not is_read:
            self._include(line)

    def _is_read(self, dump: Dump) -> bool:
        """Whether nginx has read the file, or an `include` of the configuration covers it."""
        return is_included(self.dump, self.wanted.managed) or reads(dump, self.wanted.managed)

    def _include(self, line: str) -> None:
        blocks = [
            (path, item)
            for path, tree in self.trees.items()
            for item in walk(tree)
            if item.name == "http" and item.block is not None
        ]
        if len(blocks) != 1:
            said = f"there are {len(blocks)} `http` blocks to add `{line}` to"
            where = next(iter(self.dump.files), self.file)
            self._refuse(where, said, f"write `{line}` into one by hand")
            return
        path, block = blocks[0]
        self.changes.setdefault(path, []).append(insertion(self._text(path), block, line))

    def _results(self) -> dict[str, str]:
        """Answers every file that changes, with its new text: the managed file first."""
        texts: dict[str, str] = {}
        if self.managed_text != self._text(self.file):
            texts[self.file] = self.managed_text
        for path in self.sources:
            if path in self.changes:
                texts[path] = changed(self._text(path), self.changes[path])
        reals: dict[str, str] = {}
        for path, text in list(texts.items()):
            first = reals.setdefault(self.sources[path].real, path)
            if first != path and texts[first] == text:
                del texts[path]
            elif first != path:
                self._refuse(path, f"is the same file as {first}", "edit it by hand")
        return texts

    def _verify(self, texts: Mapping[str, str]) -> None:
        """Judge the result by the rules of the preflight, before a byte is written."""
        files = {**self.dump.files, self.file: self.managed_text, **texts}
        try:
            parsed = {**self.dump.parsed, **{path: parse(files[path]) for path in texts}}
            parsed[self.file] = parse(self.managed_text)
        except SyntaxWrong as error:
            self._refuse(self.file, f"the result cannot be read: {error}", "edit by hand")
            return
        self._verify_managed()
        result = Dump(files, parsed)
        if not self._is_read(result):
            said = "nginx would not read the managed file"
            self._refuse(self.file, said, f"write `include {self.file};` into the `http` block")
        for path, lines in upstream_elsewhere(
            result, set(self.wanted.upstreams), self.wanted.managed
        ):
            said = f"`{lines.name}` cannot be moved to {self.file}"
            self._refuse(f"{path}:{lines.first}", said, "move it there by hand")
        self._verify_ways(result)

    def _verify_ways(self, result: Dump) -> None:
        """Refuse every other way to a backend that is left, with its place in the file now."""
        managed, addresses = self.wanted.managed, self.wanted.addresses
        left = [_named(route) for route in other_routes(result, managed, addresses)]
        accepted = set(self.wanted.balancer.acknowledged_routes)
        for route in other_routes(self.dump, managed, addresses):
            if _named(route) in left and route.address not in accepted:
                left.remove(_named(route))
                self._refuse(
                    f"{route.file}:{route.line}",
                    f"`{route.text}` reaches {route.address} past the upstream",
                    f"let it pass to the upstream, or name {route.address} in "
                    "`acknowledged_routes` of the load balancer",
                )

    def _verify_managed(self) -> None:
        """`adopt` must be able to take the file over as it will be."""
        wanted = self.wanted
        addresses = addresses_of(wanted.backends)
        if inspect(bytes_from(self.managed_text), wanted.application, addresses).stamp:
            return
        try:
            layout = read_layout(self.managed_text, self.file)
        except (FileNotUnderstood, NotOnlyUpstreams) as error:
            self.refused.append(Refusal(error.where, error.what, error.next_step))
            return
        places = {s.arguments()[0]: f"{path}:{s.line}" for path, s in self.moved}
        merged = merge(layout, wanted.upstreams, wanted.backends)
        for lack in merged.missing:
            said = f"the upstream {lack.upstream} has no line for {lack.backend}"
            where = places.get(lack.upstream, self.file)
            self._refuse(where, said, f"write `server {lack.address};` into it")
        for odd in merged.differences:
            self._refuse(
                places.get(odd.upstream, self.file),
                f"the upstream {odd.upstream} says {odd.in_file or 'nothing'} for {odd.backend}, "
                f"the inventory {odd.declared}",
                "make the two say the same",
            )

    def _edit(self, path: str, text: str) -> FileEdit:
        data = self.sources[path].data
        old = ABSENT if data is None else hashlib.sha256(data).hexdigest()
        return FileEdit(path, old, bytes_from(text), data or b"")


def _named(route: Route) -> tuple[str, str, str]:
    return route.file, route.text, route.address


def _with_line_end(text: str, nl: str) -> str:
    return text if not text or text.endswith("\n") else text + nl


def _upstream_blocks(tree: Sequence[Item]) -> list[Statement]:
    return [
        statement
        for statement in walk(tuple(tree))
        if statement.name == "upstream" and statement.block is not None and statement.arguments()
    ]
