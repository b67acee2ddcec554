"""What a compiled Java class says about itself: its name, its relatives, its fields and methods.

Reads every version of the class file format up to Java 25 (and beyond, as long as the constant
pool knows no new kinds of entries). Only what decides about serialization is kept; code is skipped.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from rolling_deploy.serialization.cursor import Cursor
from rolling_deploy.serialization.modified_utf8 import decode
from rolling_deploy.serialization.not_readable import NotReadable

_MAGIC = 0xCAFEBABE
SIZE_MAX = 16 << 20
"""Bytes; a longer class file is refused. The largest seen in the field are below 1 MiB."""

_UTF8, _INTEGER, _FLOAT, _LONG, _DOUBLE, _CLASS = 1, 3, 4, 5, 6, 7
_SIZES = {
    _INTEGER: 4,
    _FLOAT: 4,
    _LONG: 8,
    _DOUBLE: 8,
    _CLASS: 2,
    8: 2,  # a string
    9: 4,  # a field
    10: 4,  # a method
    11: 4,  # a method of an interface
    12: 4,  # name and type
    15: 3,  # a method handle
    16: 2,  # a method type
    17: 4,  # a constant computed at run time
    18: 4,  # invokedynamic
    19: 2,  # a module
    20: 2,  # a package
}
"""Bytes of an entry of the constant pool after its tag (JVM specification, section 4.4)."""


class Access(enum.IntFlag, boundary=enum.KEEP):
    """The flags of classes, fields and methods that matter here (JVM specification, chapter 4)."""

    PUBLIC = 0x0001
    PRIVATE = 0x0002
    PROTECTED = 0x0004
    STATIC = 0x0008
    FINAL = 0x0010
    SYNCHRONIZED = 0x0020
    VOLATILE = 0x0040
    TRANSIENT = 0x0080
    NATIVE = 0x0100
    INTERFACE = 0x0200
    ABSTRACT = 0x0400
    STRICT = 0x0800
    ENUM = 0x4000


@dataclass(frozen=True, slots=True)
class Member:
    """A field or a method.

    Attributes:
        descriptor: its type as class files write it: `I`, `Ljava/lang/String;`, `(J)V`.
        constant: the value of a field that the compiler knew, if it is a whole number.
    """

    name: str
    descriptor: str
    access: Access
    constant: int | None = None


@dataclass(frozen=True, slots=True)
class ClassFile:
    """One class. Names have dots (`com.shop.Cart$Line`).

    Attributes:
        access: the modifiers as Java's reflection shows them; those of a nested class stand in
            the attribute `InnerClasses`, not in the head of the file.
        super_name: empty for `java.lang.Object` only.
        is_record: it carries the attribute `Record` and is a final child of `java.lang.Record`.
    """

    name: str
    access: Access
    super_name: str
    interfaces: tuple[str, ...]
    fields: tuple[Member, ...]
    methods: tuple[Member, ...]
    is_record: bool
    major: int

    @property
    def is_interface(self) -> bool:
        """Answers whether it is an interface or an annotation."""
        return Access.INTERFACE in self.access


class _Pool:
    """The constant pool: texts, whole numbers, and the names of classes."""

    def __init__(self, cursor: Cursor) -> None:
        self._texts: dict[int, bytes] = {}
        self._numbers: dict[int, int] = {}
        self._classes: dict[int, int] = {}
        count, index = cursor.unsigned(2), 1
        while index < count:
            index += self._read_entry(cursor, index)

    def _read_entry(self, cursor: Cursor, index: int) -> int:
        """Reads one entry and answers how many places it takes: two for a long or a double."""
        tag = cursor.unsigned(1)
        if tag == _UTF8:
            self._texts[index] = cursor.take(cursor.unsigned(2))
            return 1
        size = _SIZES.get(tag)
        if size is None:
            raise NotReadable(f"an entry of the constant pool is of kind {tag}, which is not known")
        body = cursor.take(size)
        if tag == _CLASS:
            self._classes[index] = int.from_bytes(body, "big")
        elif tag in {_INTEGER, _LONG}:
            self._numbers[index] = int.from_bytes(body, "big", signed=True)
        return 2 if tag in {_LONG, _DOUBLE} else 1

    def text(self, index: int) -> str:
        if index not in self._texts:
            raise NotReadable(f"entry {index} of the constant pool should be a text")
        return decode(self._texts[index])

    def class_name(self, index: int) -> str:
        if index not in self._classes:
            raise NotReadable(f"entry {index} of the constant pool should be a class")
        return self.text(self._classes[index]).replace("/", ".")

    def number(self, index: int) -> int | None:
        return self._numbers.get(index)


def read_class(data: bytes) -> ClassFile:
    """Answers what this class file says.

    Raises:
        NotReadable: the bytes are no class file, or a broken one.
    """
    if len(data) > SIZE_MAX:
        raise NotReadable(f"a class file of {len(data)} bytes is longer than {SIZE_MAX}")
    cursor = Cursor(data)
    if cursor.unsigned(4) != _MAGIC:
        raise NotReadable("the bytes do not begin as a class file does (CAFEBABE)")
    cursor.unsigned(2)  # the minor version decides nothing here
    major = cursor.unsigned(2)
    pool = _Pool(cursor)
    access = Access(cursor.unsigned(2))
    name = pool.class_name(cursor.unsigned(2))
    super_index = cursor.unsigned(2)
    super_name = pool.class_name(super_index) if super_index else ""
    interfaces = tuple(pool.class_name(cursor.unsigned(2)) for _ in range(cursor.unsigned(2)))
    fields = _members(cursor, pool)
    methods = _members(cursor, pool)
    attributes = _attributes(cursor, pool)
    return ClassFile(
        name,
        _own_access(access, name, attributes.get("InnerClasses"), pool),
        super_name,
        interfaces,
        fields,
        methods,
        "Record" in attributes and super_name == "java.lang.Record" and Access.FINAL in access,
        major,
    )


def _members(cursor: Cursor, pool: _Pool) -> tuple[Member, ...]:
    """Reads the fields, or the methods."""
    return tuple(_member(cursor, pool) for _ in range(cursor.unsigned(2)))


def _member(cursor: Cursor, pool: _Pool) -> Member:
    """Reads one field or method with its attributes."""
    access, name, descriptor = Access(cursor.unsigned(2)), cursor.unsigned(2), cursor.unsigned(2)
    constant = _attributes(cursor, pool).get("ConstantValue")
    value = None
    if constant is not None and len(constant) == 2:
        value = pool.number(int.from_bytes(constant, "big"))
    return Member(pool.text(name), pool.text(descriptor), access, value)


_WANTED = frozenset({"ConstantValue", "InnerClasses", "Record"})


def _attributes(cursor: Cursor, pool: _Pool) -> dict[str, bytes]:
    """Reads a table of attributes and answers those that matter."""
    found = {}
    for _ in range(cursor.unsigned(2)):
        name = pool.text(cursor.unsigned(2))
        body = cursor.take(cursor.unsigned(4))
        if name in _WANTED:
            found[name] = body
    return found


def _own_access(access: Access, name: str, inner: bytes | None, pool: _Pool) -> Access:
    """Answers the modifiers that reflection shows: a nested class has them in `InnerClasses`."""
    if inner is None:
        return access
    cursor = Cursor(inner)
    for _ in range(cursor.unsigned(2)):
        class_index, _outer, _name, flags = (cursor.unsigned(2) for _ in range(4))
        if class_index and pool.class_name(class_index) == name:
            return Access(flags)
    return access
