"""The document against its shapes: every wrong type, unknown key and wrong value in one reading.

What is wrong is noted and left out, and the rest is read again, so that the checks between
sections can run over everything that is right.
"""

from __future__ import annotations

import copy
import difflib
import re
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from rolling_deploy.inventory.fields import Shape
from rolling_deploy.inventory.kinds import SHOULD
from rolling_deploy.inventory.model import STRATEGIES, InventoryShape
from rolling_deploy.inventory.problems import (
    KeyPath,
    Problems,
    child,
    kind_of,
    listed,
    near_miss,
    shown,
    text_of,
)
from rolling_deploy.inventory.walk import keys_of, sections, shape_at

ROUNDS_MAX = 20
"""Each round takes out at least one level of what is wrong; the shapes are five deep."""
NEAR_ENOUGH = 0.75
LISTED_MAX = 12
"""So many accepted keys are listed in a message; more are to be looked up."""

_LISTS = ("load_balancers", "upstreams", "backends")
_KEY = "[key]"
_ANY_STRATEGY = " or ".join(f"`{name}`" for name in STRATEGIES)


def read_shape(problems: Problems) -> InventoryShape:
    """Answers the document in its shape, without the parts that `problems` now names."""
    data = copy.deepcopy(problems.data)
    for path in tuple(problems.damaged):
        _leave_out(data, path, problems)
    inherit_strategy(data, problems)
    for _ in range(ROUNDS_MAX):
        try:
            return InventoryShape.model_validate(data)
        except ValidationError as error:
            details = error.errors(include_url=False)
        for detail in details:
            _leave_out(data, _note(detail, problems), problems)
    problems.damaged.add(())
    return InventoryShape()


def inherit_strategy(data: Any, problems: Problems) -> None:  # noqa: ANN401 # whatever the file holds
    """Give every override of `upgrade` the strategy it overrides, so that its keys are known."""
    strategy = child(data.get("upgrade"), "strategy")
    known = difflib.get_close_matches(strategy, STRATEGIES) if isinstance(strategy, str) else []
    backends = data.get("backends")
    for index, backend in enumerate(backends if isinstance(backends, list) else []):
        override = child(backend, "upgrade")
        if not isinstance(override, dict) or "strategy" in override:
            continue
        if known:
            override["strategy"] = known[0]
        elif "upgrade" in data:  # One mistake there is not as many as there are backends.
            _leave_out(data, ("backends", index, "upgrade"), problems)


def _leave_out(data: Any, path: KeyPath, problems: Problems) -> None:  # noqa: ANN401 # as above
    """Take the value at `path` out of the document; items of a list keep their places."""
    is_item = len(path) == 2 and path[0] in _LISTS  # a section and a place in it
    while path and isinstance(path[-1], int) and not is_item:
        path = path[:-1]
    parent = data
    for key in path[:-1]:
        parent = child(parent, key)
    problems.damaged.add(path)
    if is_item and isinstance(parent, list):
        parent[int(path[-1])] = {}
    elif isinstance(parent, dict):
        parent.pop(path[-1], None)


def _note(detail: ErrorDetails, problems: Problems) -> KeyPath:
    """Note one of pydantic's errors in the words of the inventory; answers where it is."""
    location = detail["loc"]
    is_key = detail["type"] == SHOULD and location[-1] == _KEY
    path = _path(location[:-1] if is_key else location)
    value = detail["input"]
    match detail["type"]:
        case str(kind) if kind == SHOULD:
            _note_value(path, detail, problems, is_key=is_key)
        case "extra_forbidden":
            _note_unknown(path, shape_at(location[:-1]), problems)
        case "literal_error":
            choices = detail["ctx"]["expected"]
            hint = near_miss(value, re.findall(r"'([^']+)'", choices))
            problems.add(path, choices.replace("'", "`"), shown(value, path), hint)
        case "union_tag_invalid" | "union_tag_not_found":
            _note_strategy(path, problems)
        case "list_type":
            hint = "put it in `[ ]`, separated by commas" if isinstance(value, str) else ""
            problems.add(path, "a list", kind_of(value), hint)
        case "too_short":
            problems.add(path, "a list with at least one entry", kind_of(value))
        case _:
            hint = "" if value is not None else "leave the key out, or write `{}`"
            problems.add(path, "a mapping", kind_of(value), hint)
    return path


def _path(location: tuple[int | str, ...]) -> KeyPath:
    """Answers the path in the document: pydantic names the strategy as a step of its own."""
    at_top, in_backend = location[:1] == ("upgrade",), location[:1] == ("backends",)
    place = 1 if at_top else 3
    is_upgrade = at_top or (in_backend and location[2:3] == ("upgrade",))
    if is_upgrade and len(location) > place and location[place] in STRATEGIES:
        return location[:place] + location[place + 1 :]
    return location


def _note_value(path: KeyPath, detail: ErrorDetails, problems: Problems, *, is_key: bool) -> None:
    context, value = detail["ctx"], detail["input"]
    hint = str(context["hint"])
    is_quoted_number = (
        isinstance(value, str)
        and "number" in context["words"]
        and re.fullmatch(r"[0-9.]+", value) is not None
    )
    if is_quoted_number:
        hint = "write it without quotes"
    problems.add(path, context["words"], shown(value, () if is_key else path), hint)


def _note_strategy(path: KeyPath, problems: Problems) -> None:
    value: Any = problems.data
    for key in path:
        value = child(value, key)
    given = child(value, "strategy")
    is_missing = not isinstance(value, dict) or "strategy" not in value
    actual = "missing" if is_missing else shown(given, (*path, "strategy"))
    problems.add((*path, "strategy"), _ANY_STRATEGY, actual, near_miss(given, STRATEGIES))


def _note_unknown(path: KeyPath, shape: type[Shape] | None, problems: Problems) -> None:
    """Note a key that is not known here, with the key that was probably meant."""
    key, known = str(path[-1]), keys_of(shape) if shape else {}
    elsewhere = [name for name, other in sections() if key in keys_of(other)]
    others = [name for name, other in STRATEGIES.items() if key in keys_of(other)]
    if shape in STRATEGIES.values() and others:
        hint = f"it belongs to the strategy {listed(others)}"
    else:
        hint = near_miss(key, known, cutoff=NEAR_ENOUGH)
    if not hint and key in keys_of(InventoryShape):
        hint = "it belongs at the top level"
    if not hint and elsewhere:
        hint = f"it belongs under {listed(dict.fromkeys(elsewhere))}"
    hint = hint or near_miss(key, known)
    if not hint and known and len(known) <= LISTED_MAX:
        hint = f"the keys here are {listed(known)}"
    problems.add(path, "a known key", "not", hint or f"{text_of(key)} means nothing here")
