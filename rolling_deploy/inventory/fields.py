"""How a key of the inventory is declared: its default, its meaning, whether it must be given."""

from __future__ import annotations

import dataclasses
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

MUST = "must"
"""The mark of a key that must be given."""
SHOWN = "shown"
"""The mark of a default that is worked out: the words for it."""


def must(meaning: str) -> Any:  # noqa: ANN401 # stands for a value of any type, as pydantic's Field
    """Answers a field that must be given."""
    return Field(default=None, description=meaning, json_schema_extra={MUST: True})


def worked_out(default: str, meaning: str, alias: str | None = None) -> Any:  # noqa: ANN401 # as above
    """Answers a field whose default follows from others; `default` says how."""
    return Field(default=None, alias=alias, description=meaning, json_schema_extra={SHOWN: default})


def default_of(settings: type, name: str) -> Any:  # noqa: ANN401 # as above
    """Answers a default as `settings` has it; a tuple as the list that YAML has."""
    for field in dataclasses.fields(settings):
        if field.name == name:
            if field.default_factory is not dataclasses.MISSING:
                return field.default_factory()
            return list(field.default) if isinstance(field.default, tuple) else field.default
    raise LookupError(name)


def same(settings: type, name: str, meaning: str, shown: str = "") -> Any:  # noqa: ANN401 # as above
    """Answers a field with the default of the setting `name`."""
    return Field(
        default=default_of(settings, name),
        description=meaning,
        json_schema_extra={SHOWN: shown} if shown else {},
    )


def seconds(settings: type, name: str, meaning: str) -> Any:  # noqa: ANN401 # as above
    """Answers a field in seconds with the default of a setting that is in milliseconds."""
    return Field(default=default_of(settings, name) / 1000, description=meaning)


class Shape(BaseModel):
    """A mapping in the file: the types as they are, and no key but these."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)
