"""The stamp as the first lines of a managed file: readable by people, and by us without doubt."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from rolling_deploy.rollout.observed import Stamp
from rolling_deploy.upstreams.grammar import Item, Remark

FIRST = "# rolling-deploy stamp 1"
LAST = "# rolling-deploy end of stamp"
_FIRST_OF_ANY = "# rolling-deploy stamp "
_PROSE = (
    "# This file is written by rolling-deploy, which halts when it finds it edited by hand.",
    "# Who takes part, and what is under way: `rolling-deploy status`.",
    "# The file as it was before: `rolling-deploy unadopt`.",
)
_KEYS = {"application": str, "rollout": str, "claim": int, "generation": str, "body": str}
_LINES_MAX = 40


def to_lines(stamp: Stamp) -> str:
    """Answers the stamp as comment lines, with the newline at their end."""
    values: dict[str, Any] = {key: getattr(stamp, key) for key in _KEYS} | {
        "out": sorted(stamp.out)
    }
    said = [f"# {key}: {json.dumps(values[key])}" for key in sorted(values)]
    return "\n".join((FIRST, *_PROSE, *said, LAST, ""))


def split(text: str) -> tuple[Stamp | None, str]:
    """Answers the stamp and the body after it; no stamp (none, or a damaged one): all is body."""
    lines = text.split("\n", _LINES_MAX)
    if lines[0] != FIRST or LAST not in lines[:_LINES_MAX]:
        return None, text
    end = lines.index(LAST)
    stamp = _stamp(lines[1:end])
    return (stamp, "\n".join(lines[end + 1 :])) if stamp else (None, text)


def _stamp(lines: Sequence[str]) -> Stamp | None:
    """Answers the stamp that the lines say, or None when one is missing, doubled or nonsense."""
    values: dict[str, Any] = {}
    for line in lines:
        key, colon, said = line.removeprefix("# ").partition(": ")
        if key in _KEYS.keys() | {"out"} and colon:
            if key in values:
                return None
            try:
                values[key] = json.loads(said)
            except (ValueError, RecursionError):
                return None
    out = values.pop("out", None)
    if not isinstance(out, list) or not all(isinstance(name, str) for name in out):
        return None
    if values.keys() != _KEYS.keys():
        return None
    if any(type(value) is not _KEYS[key] for key, value in values.items()):
        return None
    return Stamp(out=frozenset(out), **values)


def without_stamp(items: Sequence[Item]) -> tuple[Item, ...]:
    """Answers a file's items without the lines of a stamp at its top, even a damaged one."""
    first = items[0] if items else None
    if not (isinstance(first, Remark) and first.text.startswith(_FIRST_OF_ANY)):
        return tuple(items)
    for index, item in enumerate(items):
        if not isinstance(item, Remark):
            break
        if item.text == LAST:
            return tuple(items[index + 1 :])
    known = ("# rolling-deploy stamp ", *_PROSE, *(f"# {key}: " for key in (*_KEYS, "out")))
    return tuple(
        item for item in items if not (isinstance(item, Remark) and item.text.startswith(known))
    )
