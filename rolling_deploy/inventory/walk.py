"""Ways through the shapes: which keys a place accepts, and which shape a path leads to."""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from rolling_deploy.inventory.fields import Shape
from rolling_deploy.inventory.model import InventoryShape
from rolling_deploy.inventory.problems import KeyPath


def keys_of(shape: type[Shape]) -> dict[str, FieldInfo]:
    """Answers the keys of a shape as they are written in the file."""
    return {field.alias or name: field for name, field in shape.model_fields.items()}


def shapes_in(annotation: object) -> tuple[type[Shape], ...]:
    """Answers the shapes that a value of this type, or its items, may have."""
    if isinstance(annotation, type) and issubclass(annotation, Shape):
        return (annotation,)
    return tuple(shape for inner in get_args(annotation) for shape in shapes_in(inner))


def sections() -> Iterator[tuple[str, type[Shape]]]:
    """Answers every section at the top of the file that has keys, with its shape."""
    for name, field in keys_of(InventoryShape).items():
        for shape in shapes_in(field.annotation):
            yield name, shape


def shape_at(location: tuple[str | int, ...]) -> type[Shape] | None:
    """Answers the shape that pydantic's location leads to (with the strategy as one step)."""
    annotation: Any = InventoryShape
    for step in location:
        annotation = _step(annotation, step)
    return annotation if isinstance(annotation, type) and issubclass(annotation, Shape) else None


def _step(annotation: Any, step: str | int) -> Any:  # noqa: ANN401 # types are values here
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if isinstance(annotation, type) and issubclass(annotation, Shape):
        field = keys_of(annotation).get(str(step))
        return field.annotation if field else None
    if is_choice(annotation):
        by_tag = {tag_of(shape): shape for shape in shapes_in(annotation)}
        return by_tag.get(str(step))
    inner = get_args(annotation)
    return inner[-1] if get_origin(annotation) in (list, dict) else None


def is_choice(annotation: object) -> bool:
    """Answers whether the value has one of several shapes, told apart by `strategy`."""
    return get_origin(annotation) in (Union, types.UnionType)


def tag_of(shape: type[Shape]) -> str:
    """Answers the `strategy` that chooses this shape."""
    return str(get_args(shape.model_fields["strategy"].annotation)[0])


def mappings(
    annotation: Any,  # noqa: ANN401 # as above
    value: object,
    path: KeyPath = (),
) -> Iterator[tuple[type[Shape], KeyPath, dict[str, Any]]]:
    """Answers every mapping of the document that has a shape, with that shape and its path."""
    shapes = shapes_in(annotation)
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from mappings(annotation, item, (*path, index))
    elif not shapes or not isinstance(value, dict):
        return
    elif _is_keyed_by_name(annotation):
        for name, item in value.items():
            yield from mappings(shapes[0], item, (*path, name))
    else:
        shape = next(
            (s for s in shapes if len(shapes) == 1 or tag_of(s) == value.get("strategy")), None
        )
        if shape is not None:
            yield shape, path, value
            for key, field in keys_of(shape).items():
                if key in value:
                    yield from mappings(field.annotation, value[key], (*path, key))


def _is_keyed_by_name(annotation: object) -> bool:
    return get_origin(annotation) is dict
