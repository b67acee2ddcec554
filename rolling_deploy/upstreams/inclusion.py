"""Which files of nginx's configuration are read where: what stands directly in `http`."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence

from rolling_deploy.upstreams.grammar import Statement, walk
from rolling_deploy.upstreams.routes import Dump, matches


def statements(dump: Dump) -> list[tuple[str, Statement]]:
    """Answers every statement of the configuration with its file."""
    return [(path, s) for path, items in dump.parsed.items() for s in walk(items or ())]


def http_statements(dump: Dump) -> tuple[Statement, ...]:
    """Answers what stands directly in `http`, in its own file or in files included there."""
    todo = [
        item
        for _, statement in statements(dump)
        if statement.name == "http"
        for item in statement.block or ()
    ]
    found: list[Statement] = []
    seen: set[str] = set()
    while todo:
        item = todo.pop(0)
        if not isinstance(item, Statement):
            continue
        found.append(item)
        if item.name == "include" and item.block is None:
            pattern = _pattern(dump, item)
            for path in dump.files:
                if path not in seen and matches(posixpath.normpath(path), pattern):
                    seen.add(path)
                    todo += dump.parsed[path] or ()
    return tuple(found)


def _pattern(dump: Dump, include: Statement) -> str:
    folder = posixpath.dirname(next(iter(dump.files), ""))
    return posixpath.normpath(posixpath.join(folder, *include.arguments()[:1]))


def reads(dump: Dump, managed: Sequence[str]) -> bool:
    """Answers whether an `include` in `http` covers the managed file, there already or not."""
    patterns = [
        _pattern(dump, statement)
        for statement in http_statements(dump)
        if statement.name == "include"
    ]
    paths = [posixpath.normpath(path) for path in managed]
    return any(matches(path, pattern) for path in paths for pattern in patterns)
