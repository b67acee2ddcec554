"""The serialVersionUID of a class, as Java's `ObjectStreamClass` and `serialver` would answer it.

Read from the class file alone, without a Java machine. A class that declares none gets the first
eight bytes of a SHA-1 over its shape: name, modifiers, interfaces, fields, static initialiser,
constructors and methods, each in the order and with the corrections of
`ObjectStreamClass.computeDefaultSUID`. Synthetic members count, as they do there.
"""

from __future__ import annotations

import enum
import hashlib
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from rolling_deploy.serialization.class_file import Access, ClassFile, Member
from rolling_deploy.serialization.java_types import known_type
from rolling_deploy.serialization.modified_utf8 import encode, sort_key
from rolling_deploy.serialization.not_readable import NotReadable

FIELD = "serialVersionUID"
_WHOLE_NUMBERS = frozenset("BCSIJ")
"""The types of that field which Java's reflection widens to a long; others are ignored."""

_OF_CLASSES = Access.PUBLIC | Access.FINAL | Access.INTERFACE | Access.ABSTRACT
_VISIBILITY = Access.PUBLIC | Access.PRIVATE | Access.PROTECTED
_OF_FIELDS = _VISIBILITY | Access.STATIC | Access.FINAL | Access.VOLATILE | Access.TRANSIENT
_OF_METHODS = (
    _VISIBILITY
    | Access.STATIC
    | Access.FINAL
    | Access.SYNCHRONIZED
    | Access.NATIVE
    | Access.ABSTRACT
    | Access.STRICT
)
_RELATIVES_MAX = 1000
"""Looked at for one class; hostile class files end here."""


class Lookup(Protocol):
    """Where relatives of a class are found."""

    def find(self, name: str) -> ClassFile | None:
        """Answers the class with this name, or None where it is not there.

        Raises:
            NotReadable: it is there, and broken.
        """


class Nature(enum.Enum):
    """What Java's serialization sees in a class."""

    SERIALIZABLE = "Serializable"
    EXTERNALIZABLE = "Externalizable"
    ENUM = "an enum"
    PLAIN = "not Serializable"
    UNKNOWN = "not known"
    """A relative that is not at hand decides."""


@dataclass(frozen=True, slots=True)
class SerialVersion:
    """A serialVersionUID, or why it is not known.

    Attributes:
        uid: None where only running the class would tell.
        declared: the class names it itself, so that a change of the class does not change it.
    """

    uid: int | None
    declared: bool
    why_not: str = ""


_DECIDING = {
    "java.lang.Enum": Nature.ENUM,
    "java.io.Externalizable": Nature.EXTERNALIZABLE,
    "java.io.Serializable": Nature.SERIALIZABLE,
}


def nature_of(name: str, classes: Lookup) -> Nature:
    """Answers how instances of the class with this name are written.

    Raises:
        NotReadable: a relative is there, and broken.
    """
    relatives, complete = relatives_of(name, classes)
    for relative, nature in _DECIDING.items():
        if relative in relatives and (complete or nature is not Nature.SERIALIZABLE):
            return nature
    return Nature.PLAIN if complete else Nature.UNKNOWN


def relatives_of(name: str, classes: Lookup) -> tuple[frozenset[str], bool]:
    """Answers the class itself and all that it extends and implements, and whether those are all.

    They are not all where one of them is not in the release and not known of Java's own.

    Raises:
        NotReadable: a relative is there, and broken.
    """
    seen, waiting, complete = {name}, [name], True
    while waiting:
        found = of_release_or_java(waiting.pop(), classes)
        if found is None:
            complete = False
            continue
        kin = {each for each in (found.super_name, *found.interfaces) if each} - seen
        seen |= kin
        waiting += kin
        if len(seen) > _RELATIVES_MAX:
            raise NotReadable(f"`{name}` has more than {_RELATIVES_MAX} relatives")
    return frozenset(seen), complete


def of_release_or_java(name: str, classes: Lookup) -> ClassFile | None:
    """Answers the class as the release has it, or what is known of it as one of Java's own."""
    return classes.find(name) or known_type(name)


def serial_version(found: ClassFile, nature: Nature) -> SerialVersion:
    """Answers the serialVersionUID that Java compares with the one in a stored session.

    Args:
        found: the class.
        nature: as `nature_of` answers it. UNKNOWN counts as Serializable: the question is asked
            about classes whose instances are stored.
    """
    if nature in {Nature.ENUM, Nature.PLAIN}:
        return SerialVersion(0, declared=False)
    own = next((field for field in found.fields if _counts(field)), None)
    if own is not None and own.constant is not None:
        return SerialVersion(own.constant, declared=True)
    if own is not None:
        why = f"`{FIELD}` of `{found.name}` is set by code, not by a constant"
        return SerialVersion(None, declared=True, why_not=why)
    if found.is_record:
        return SerialVersion(0, declared=False)
    return SerialVersion(default_uid(found), declared=False)


def _counts(field: Member) -> bool:
    """Answers whether Java takes this field for the declaration."""
    fixed = Access.STATIC | Access.FINAL
    return (
        field.name == FIELD and field.descriptor in _WHOLE_NUMBERS and field.access & fixed == fixed
    )


def default_uid(found: ClassFile) -> int:
    """Answers the serialVersionUID that Java computes for a class which declares none."""
    digest = hashlib.sha1(b"".join(_shape(found)), usedforsecurity=False).digest()
    return int.from_bytes(digest[:8], "little", signed=True)


def _shape(found: ClassFile) -> Iterator[bytes]:
    """Answers what Java hashes, piece by piece."""
    plain = [m for m in found.methods if m.name not in {"<init>", "<clinit>"}]
    yield _utf(found.name)
    yield _int(_class_modifiers(found, has_methods=bool(plain)))
    for name in sorted(found.interfaces, key=sort_key):
        yield _utf(name)
    for field in sorted(found.fields, key=lambda field: sort_key(field.name)):
        hidden = field.access & (Access.STATIC | Access.TRANSIENT)
        if Access.PRIVATE not in field.access or not hidden:
            yield _utf(field.name) + _int(field.access & _OF_FIELDS) + _utf(field.descriptor)
    if any(method.name == "<clinit>" for method in found.methods):
        yield _utf("<clinit>") + _int(Access.STATIC) + _utf("()V")
    yield from _callables(method for method in found.methods if method.name == "<init>")
    yield from _callables(plain)


def _class_modifiers(found: ClassFile, *, has_methods: bool) -> int:
    """Answers the modifiers; `abstract` of an interface depends on whether it has methods.

    Compilers once disagreed about that flag, so Java sets it anew.
    """
    modifiers = found.access & _OF_CLASSES
    if found.is_interface:
        modifiers &= ~Access.ABSTRACT
        if has_methods:
            modifiers |= Access.ABSTRACT
    return int(modifiers)


def _callables(methods: Iterable[Member]) -> Iterator[bytes]:
    """Answers the pieces of methods or constructors that are not private, in Java's order."""
    for method in sorted(methods, key=lambda m: (sort_key(m.name), sort_key(m.descriptor))):
        if Access.PRIVATE not in method.access:
            signature = method.descriptor.replace("/", ".")
            yield _utf(method.name) + _int(method.access & _OF_METHODS) + _utf(signature)


def _utf(text: str) -> bytes:
    """Answers the text as `DataOutput.writeUTF` writes it."""
    body = encode(text)
    return struct.pack(">H", len(body) & 0xFFFF) + body


def _int(value: int) -> bytes:
    """Answers the number as `DataOutput.writeInt` writes it."""
    return struct.pack(">i", value)
