"""Values to plain JSON and back, so that a record is written by value and read by type.

Only what the record's values are made of: dataclasses, enums, tuples, frozensets, mappings with
text keys, optionals and plain scalars. A union of dataclasses is told apart by `type`.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import StrEnum
from functools import cache
from typing import Any, Union, get_args, get_origin


class NotReadable(ValueError):
    """A plain value is not what the type asks for."""


def to_plain(value: object) -> Any:
    """Answers the value as JSON can carry it; sets are sorted so that the text is canonical."""
    if is_dataclass(value) and not isinstance(value, type):
        plain = {f.name: to_plain(getattr(value, f.name)) for f in fields(value)}
        return {"type": type(value).__name__, **plain}
    if isinstance(value, StrEnum):
        return value.value
    if isinstance(value, frozenset):
        return sorted(value)
    if isinstance(value, tuple | list):
        return [to_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {key: to_plain(item) for key, item in value.items()}
    return value


def from_plain(kind: Any, plain: Any) -> Any:
    """Answers the value of type `kind` that `plain` stands for.

    Raises:
        NotReadable: it does not stand for one; unknown fields count, missing ones too.
    """
    origin = get_origin(kind)
    if kind is Any:
        return plain
    if origin in (Union, types.UnionType):
        return _from_union(get_args(kind), plain)
    if isinstance(kind, type) and is_dataclass(kind):
        return _from_dataclass(kind, plain)
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return _from_enum(kind, plain)
    if origin is not None:
        return _from_container(origin, get_args(kind), plain)
    if kind is type(None) or kind is None:
        return _expect(plain is None, None, plain)
    if kind is float:
        return _expect(isinstance(plain, int | float) and not isinstance(plain, bool), plain, plain)
    if kind is int:
        return _expect(isinstance(plain, int) and not isinstance(plain, bool), plain, plain)
    return _expect(isinstance(plain, kind), plain, plain)


def _expect(is_right: bool, value: Any, plain: Any) -> Any:
    if not is_right:
        raise NotReadable(f"{plain!r:.80} is not of the right type")
    return value


def _from_enum(kind: type[StrEnum], plain: Any) -> StrEnum:
    try:
        return kind(plain)
    except ValueError as error:
        raise NotReadable(str(error)) from None


def _from_union(kinds: tuple[Any, ...], plain: Any) -> Any:
    if plain is None and type(None) in kinds:
        return None
    named = plain.get("type") if isinstance(plain, dict) else None
    for kind in kinds:
        if is_dataclass(kind):
            if named == kind.__name__:  # type: ignore[union-attr] # a dataclass is a class here
                return from_plain(kind, plain)
        elif kind is not type(None) and named is None:
            return from_plain(kind, plain)
    raise NotReadable(f"unknown kind {named!r}")


def _from_container(origin: Any, arguments: tuple[Any, ...], plain: Any) -> Any:
    if origin is tuple:
        _expect(isinstance(plain, list), None, plain)
        return tuple(from_plain(arguments[0], item) for item in plain)
    if origin is frozenset:
        _expect(isinstance(plain, list), None, plain)
        return frozenset(from_plain(arguments[0], item) for item in plain)
    _expect(isinstance(plain, dict), None, plain)
    return {key: from_plain(arguments[1], item) for key, item in plain.items()}


@cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _from_dataclass(kind: type, plain: Any) -> Any:
    _expect(isinstance(plain, dict) and plain.get("type") == kind.__name__, None, plain)
    hints = _hints(kind)
    names = {f.name for f in fields(kind)}
    if set(plain) - {"type"} != names:
        odd = sorted((set(plain) - {"type"}) ^ names)
        raise NotReadable(f"{kind.__name__} has other fields than expected: {', '.join(odd)}")
    return kind(**{name: from_plain(hints[name], plain[name]) for name in names})
