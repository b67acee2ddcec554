"""What several inventories want of one Tomcat: the mark that each leaves, and what clashes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from rolling_deploy.remote.wiring_files import (
    CONTEXT,
    EMPTY_CONTEXT,
    SERVER,
    Asked,
    Wanted,
)
from rolling_deploy.wiring import (
    NotMergeable,
    masked,
    merge_context,
    merge_server,
    read_fragment,
)

FORMAT = 1
_SHOWN_MAX = 300


@dataclass(frozen=True, slots=True)
class Mark:
    """What one inventory wants of a Tomcat, with its secrets masked.

    Attributes:
        inventory: its path on the machine of whoever ran it.
        jars: by their place, the sha256 of each.
        context: the elements for `conf/context.xml`; empty: none.
        files: further whole files.
        ports: those that `graceful_stop_ms` is for.
    """

    application: str
    inventory: str
    jars: Mapping[str, str] = field(default_factory=dict)
    context: str = ""
    files: Mapping[str, str] = field(default_factory=dict)
    graceful_stop_ms: int | None = None
    ports: tuple[int, ...] = ()

    @property
    def text(self) -> str:
        """Answers the mark as it lies on the machine, on one line, in ASCII."""
        return json.dumps({"format": FORMAT, **asdict(self)}, sort_keys=True) + "\n"


def mark_of(asked: Asked, application: str, inventory: str) -> Mark:
    """Answers the mark of what is asked. It holds no secret, as everybody there may read it."""
    shown = asked.shown
    return _without_secrets(
        Mark(
            application,
            inventory,
            {place: jar.sha256 for place, jar in asked.jars.items()},
            shown.context,
            {path: content.decode("utf-8", "replace") for path, content in shown.files.items()},
            shown.graceful_stop_ms,
            asked.ports if shown.graceful_stop_ms is not None else (),
        )
    )


def _without_secrets(mark: Mark) -> Mark:
    """Also without those that a person's own template names without a variable."""
    files = {path: masked(text) for path, text in mark.files.items()}
    return replace(mark, context=masked(mark.context), files=files)


def read_mark(text: str) -> Mark | None:
    """Answers the mark that this text is; None when it is none that we understand."""
    try:
        read = json.loads(text)
        if not isinstance(read, dict) or read.pop("format", None) != FORMAT:
            return None
        mark = Mark(**read)
    except (ValueError, TypeError, RecursionError):
        return None
    return mark if _is_sound(mark) else None


def _is_sound(mark: Mark) -> bool:
    """What its fields say they are, as anybody may have written the file."""
    read: dict[str, Any] = {name: getattr(mark, name) for name in Mark.__slots__}
    texts = [read[name] for name in ("application", "inventory", "context")]
    for name in ("jars", "files"):
        if not isinstance(read[name], dict):
            return False
        texts += read[name].values()
    if not isinstance(read["ports"], list | tuple):
        return False
    numbers = [*read["ports"], 0 if mark.graceful_stop_ms is None else mark.graceful_stop_ms]
    return all(isinstance(text, str) for text in texts) and all(type(n) is int for n in numbers)


def clashes(wanted: Wanted, own: Mark, other: Mark) -> tuple[str, ...]:
    """Answers what the other inventory wants that this one would undo, or be undone by."""
    other = _without_secrets(other)  # an earlier version wrote its mark with them
    found = [
        f"`{place}` with sha256 {digest[:12]}"
        for place, digest in other.jars.items()
        if own.jars.get(place, digest) != digest
    ]
    for path, text in other.files.items():
        if own.files.get(path, text) != text:
            lines = [line for line in text.splitlines() if line not in own.files[path].splitlines()]
            found.append(f"`{path}` with {_shortly(' '.join(lines))}")
    if (
        own.context
        and other.context
        and _undo_each_other(
            lambda content: merge_context(content, read_fragment(own.context)),
            lambda content: merge_context(content, read_fragment(other.context)),
            wanted.texts.get(CONTEXT, EMPTY_CONTEXT),
        )
    ):
        found.append(f"`{CONTEXT}` with {_shortly(other.context)}")
    if _stops_otherwise(wanted, other):
        found.append(f'`{SERVER}` with `gracefulStopAwaitMillis="{other.graceful_stop_ms}"`')
    return tuple(found)


def _stops_otherwise(wanted: Wanted, other: Mark) -> bool:
    ours, theirs = wanted.graceful_stop_ms, other.graceful_stop_ms
    if ours is None or theirs is None or SERVER not in wanted.texts:
        return False
    return _undo_each_other(
        lambda content: merge_server(content, wanted.asked.ports, ours),
        lambda content: merge_server(content, other.ports, theirs),
        wanted.texts[SERVER],
    )


def _undo_each_other(
    ours: Callable[[bytes], bytes], theirs: Callable[[bytes], bytes], content: bytes
) -> bool:
    """Whether there is no file that both leave as it is, as far as merging in turn finds one.

    Not where one of them alone cannot be had: what the other inventory wanted is out of date then,
    and of what this one wants the check of the merge says why.
    """
    try:
        theirs(content)
        with_ours = ours(content)
    except NotMergeable:
        return False
    try:
        both = theirs(with_ours)
        return ours(both) != both
    except NotMergeable:
        return True


def _shortly(text: str) -> str:
    line = " ".join(text.split())
    return f"`{line[:_SHOWN_MAX]}…`" if len(line) > _SHOWN_MAX else f"`{line}`"
