"""The reference of every inventory key, out of the shapes (run this module to print it)."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from rolling_deploy.inventory.fields import MUST, SHOWN, Shape
from rolling_deploy.inventory.kinds import Kind
from rolling_deploy.inventory.machine_shapes import HostShape
from rolling_deploy.inventory.model import InventoryShape
from rolling_deploy.inventory.walk import is_choice, keys_of, shapes_in, tag_of

HEAD = """\
# The inventory, key by key

This page is printed by `python -m rolling_deploy.inventory.reference`; a test holds it to the
code. `inventory.example.yaml` shows every key in its place.

One YAML 1.2 file describes one application. So `no` is text, not false; anchors, aliases and `<<`
may be used; a key written twice is refused. Durations carry their unit in the key: `_s` is
seconds (fractions are fine), `_ms` whole milliseconds. Paths on this machine are relative to the
inventory file and may begin with `~`; paths on other machines are absolute. A list must have at
least one entry where an empty one would mean nothing.

`ssh`, `nginx`, `upgrade`, `health` and `warm_up` hold for all; under one machine, load balancer
or backend the same keys override them, key by key. A key that is given replaces the whole value,
a list or `version` included. An `upgrade` with another `strategy` inherits nothing, and `restart`
displaces an inherited `stop` and `start` (and the other way round).

Every problem of a file is reported at once, each as `file:line: key: should be X, is Y`, with
exit code 3, before anything is touched.
"""


def reference() -> str:
    """Answers the whole page as Markdown."""
    parts = [HEAD]
    for title, shape in _sections():
        parts.append(f"## {title}\n\n{_introduction(shape)}\n\n{_table(shape)}")
    return "\n".join(parts)


def _sections() -> Iterator[tuple[str, type[Shape]]]:
    """Answers every shape once, under the first place it is accepted at."""
    seen: set[type[Shape]] = {InventoryShape}
    yield "The top level", InventoryShape
    waiting: list[tuple[str, type[Shape]]] = [("", InventoryShape)]
    while waiting:
        path, shape = waiting.pop(0)
        for key, field in keys_of(shape).items():
            for inner in shapes_in(field.annotation):
                if inner in seen:
                    continue
                seen.add(inner)
                place = f"{path}{key}{_item(field.annotation)}"
                title = f"`{place}`"
                if is_choice(field.annotation):
                    title += f", strategy `{tag_of(inner)}`"
                yield title, inner
                waiting.append((f"{place}.", inner))


def _item(annotation: object) -> str:
    if get_origin(annotation) is Annotated:
        return _item(get_args(annotation)[0])
    origin = get_origin(annotation)
    return "[]" if origin is list else ".NAME" if origin is dict else ""


def _introduction(shape: type[Shape]) -> str:
    text = " ".join((shape.__doc__ or "").split())
    return f"{text} The keys of `ssh`, and:" if shape is HostShape else text


def _table(shape: type[Shape]) -> str:
    rows = ["| key | should be | default | meaning |", "|---|---|---|---|"]
    own = inspect.get_annotations(shape)
    fields = [(key, name) for key, name in _names(shape) if name in own]
    if shape is not HostShape:
        fields += [(key, name) for key, name in _names(shape) if name not in own]
    for key, name in fields:
        field = shape.model_fields[name]
        words = (_kind(field.rebuild_annotation()), _default(field), field.description or "")
        rows.append("| " + " | ".join([f"`{key}`", *(w.replace("|", "\\|") for w in words)]) + " |")
    return "\n".join(rows) + "\n"


def _names(shape: type[Shape]) -> list[tuple[str, str]]:
    return list(zip(keys_of(shape), shape.model_fields, strict=True))


def _default(field: FieldInfo) -> str:
    extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
    if MUST in extra:
        return "**required**"
    if SHOWN in extra:
        return str(extra[SHOWN])
    value = field.default
    match value:
        case bool():
            return f"`{str(value).lower()}`"
        case float():
            return f"`{value:g}`"
        case [] | {} if not value:
            return "none"
        case _:
            return f"`{value}`"


def _kind(annotation: Any) -> str:  # noqa: ANN401 # types are values here
    inner = get_args(annotation)
    match get_origin(annotation):
        case origin if origin is Annotated:
            words = [part.words for part in inner[1:] if isinstance(part, Kind)]
            return words[0] if words else _kind(inner[0])
        case origin if origin is Literal:
            return " or ".join(f"`{choice}`" for choice in inner)
        case origin if origin is list:
            return f"list, each {_kind(inner[0])}" if not shapes_in(annotation) else "list"
        case origin if origin is dict and inner[1] is not Any and not shapes_in(annotation):
            return f"mapping; each key {_kind(inner[0])}, each value {_kind(inner[1])}"
        case origin if origin is dict:
            return f"mapping; each key {_kind(inner[0])}"
        case _:
            return "mapping"


if __name__ == "__main__":
    sys.stdout.write(reference())
