"""What a stored session says about the classes that wrote it."""

from __future__ import annotations

import enum
from dataclasses import dataclass

ROOT = ""
"""The holder of what lies at the top of a value."""


_PRIMITIVES = {
    "B": "byte",
    "C": "char",
    "D": "double",
    "F": "float",
    "I": "int",
    "J": "long",
    "S": "short",
    "Z": "boolean",
}


class Flag(enum.IntFlag, boundary=enum.KEEP):
    """The flags of a class descriptor (Java Object Serialization specification, section 6.4.2)."""

    WRITE_METHOD = 0x01
    SERIALIZABLE = 0x02
    EXTERNALIZABLE = 0x04
    BLOCK_DATA = 0x08
    ENUM = 0x10


class Kind(enum.Enum):
    """What a class descriptor stands for."""

    SERIALIZABLE = "Serializable"
    EXTERNALIZABLE = "Externalizable"
    ENUM = "an enum"
    ARRAY = "an array"
    PROXY = "a proxy"
    PLAIN = "not Serializable"


@dataclass(frozen=True, slots=True)
class StoredField:
    """One field as the writer had it; `descriptor` as in class files: `I`, `Ljava/lang/String;`."""

    name: str
    descriptor: str

    @property
    def is_primitive(self) -> bool:
        """Answers whether it holds a number, a character or a truth value."""
        return self.descriptor[:1] not in {"L", "["}

    @property
    def java_type(self) -> str:
        """Answers its type as Java's source has it: `int`, `java.util.List`, `long[][]`."""
        element = self.descriptor.lstrip("[")
        arrays = "[]" * (len(self.descriptor) - len(element))
        if element.startswith("L"):
            return element[1:].removesuffix(";").replace("/", ".") + arrays
        return _PRIMITIVES.get(element, element) + arrays


@dataclass(frozen=True, slots=True)
class Place:
    """Where an instance was met.

    Attributes:
        holder: the class that has the field, the array class, or `ROOT`.
        field: empty for elements of arrays, for what a class wrote by hand, and at `ROOT`.
    """

    holder: str = ROOT
    field: str = ""


@dataclass(frozen=True, slots=True)
class StoredClass:
    """One class descriptor of a stored value. Names have dots; arrays are `[Lcom.shop.Line;`.

    Attributes:
        super_name: the next class above that was written too, or empty. Classes above that are
            not Serializable are not written.
        interfaces: of a proxy only.
        constants: of an enum only: those that were met, sorted.
        places: where instances (or the `Class` object itself) were met; empty for a class that
            was met only above another.
        has_objects: an object of exactly this class was met.
        by_hand: its own `writeObject` or `writeExternal` wrote something beside its fields.
    """

    name: str
    uid: int
    flags: Flag
    fields: tuple[StoredField, ...]
    super_name: str = ""
    kind: Kind = Kind.SERIALIZABLE
    interfaces: tuple[str, ...] = ()
    constants: tuple[str, ...] = ()
    places: frozenset[Place] = frozenset()
    has_objects: bool = False
    by_hand: bool = False
