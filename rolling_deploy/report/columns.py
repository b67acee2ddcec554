"""Plain columns, the same on a terminal, in a file and in a CI log."""

from __future__ import annotations

from collections.abc import Sequence


def counted(count: int, one: str, many: str) -> str:
    """Answers a number with its words: `1 check`, `2 checks`."""
    return f"{count} {one if count == 1 else many}"


def columns(rows: Sequence[Sequence[str]], indent: str = "  ") -> list[str]:
    """Answers the rows as lines, every column as wide as its widest cell but the last."""
    if not rows:
        return []
    count = max(len(row) for row in rows)
    widths = [max((len(row[i]) for row in rows if i < len(row)), default=0) for i in range(count)]
    lines = []
    for row in rows:
        cells = [cell.ljust(widths[i]) for i, cell in enumerate(row)]
        lines.append((indent + "  ".join(cells)).rstrip())
    return lines
