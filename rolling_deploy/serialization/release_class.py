"""One class as the release has it, seen as Java's serialization sees it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from rolling_deploy.serialization.class_file import Access, ClassFile, Member
from rolling_deploy.serialization.serial_version import (
    Lookup,
    Nature,
    SerialVersion,
    nature_of,
    of_release_or_java,
    relatives_of,
    serial_version,
)
from rolling_deploy.serialization.stored import StoredField

_LINE_MAX = 200
_TOP = "java.lang.Object"
_OF_ARRAYS = {_TOP, "java.lang.Cloneable", "java.io.Serializable"}


class Release(Lookup, Protocol):
    """The classes of a release, as far as this package asks for them.

    Attributes:
        unread: its parts that could not be read, each with the reason.
    """

    unread: tuple[str, ...]

    def is_given(self, name: str) -> bool:
        """Answers whether Java, the container or the session manager brings this class along."""


@dataclass(frozen=True, slots=True)
class ReleaseClass:
    """One class of the release.

    Attributes:
        line: the names of the classes from this one upwards.
        line_ends_in: why the line is not known to its end, or empty.
        fields: those that Java reads and writes by itself; None where code decides which.
    """

    file: ClassFile
    nature: Nature
    version: SerialVersion
    line: tuple[str, ...]
    line_ends_in: str
    fields: tuple[StoredField, ...] | None

    @property
    def constants(self) -> frozenset[str]:
        """Answers the constants of an enum."""
        return frozenset(f.name for f in self.file.fields if Access.ENUM in f.access)

    def has_method(self, name: str, descriptor: str) -> bool:
        """Answers whether the class itself has this private method that Java calls by name."""
        return any(
            (m.name, m.descriptor) == (name, descriptor) and Access.PRIVATE in m.access
            for m in self.file.methods
        )


def release_class(name: str, release: Lookup) -> ReleaseClass | None:
    """Answers the class as the release has it, or None where it is not there.

    Raises:
        NotReadable: it is there, and it or a relative is broken.
    """
    found = release.find(name)
    if found is None:
        return None
    nature = nature_of(name, release)
    line, ends_in = _line(found, release)
    fields = _serial_fields(found, nature)
    return ReleaseClass(found, nature, serial_version(found, nature), line, ends_in, fields)


def _line(found: ClassFile, release: Lookup) -> tuple[tuple[str, ...], str]:
    """Answers the class and those above it, and where the knowledge of them ends."""
    line = [found.name]
    above = found.super_name
    while above and len(line) < _LINE_MAX:
        line.append(above)
        next_one = of_release_or_java(above, release)
        if next_one is None:
            return tuple(line), above
        above = next_one.super_name
    return tuple(line), ""


def _serial_fields(found: ClassFile, nature: Nature) -> tuple[StoredField, ...] | None:
    """Answers the fields that Java writes for this class."""
    if nature in {Nature.ENUM, Nature.EXTERNALIZABLE, Nature.PLAIN}:
        return ()
    own_choice = any(
        (f.name, f.descriptor) == ("serialPersistentFields", "[Ljava/io/ObjectStreamField;")
        and Access.PRIVATE | Access.STATIC | Access.FINAL in f.access
        for f in found.fields
    )
    if own_choice and not found.is_record:
        return None
    return tuple(StoredField(f.name, f.descriptor) for f in found.fields if _is_written(f))


def _is_written(field: Member) -> bool:
    return not field.access & (Access.STATIC | Access.TRANSIENT)


def can_hold(target: str, value: str, release: Lookup) -> bool | None:
    """Answers whether a field of one type can hold all that a field of another could.

    Args:
        target: the descriptor of the release's field, of a reference type.
        value: the descriptor of the stored field, of a reference type.
        release: where the types are looked up.

    Answers None where the types are not at hand.
    """
    while target.startswith("[") and value.startswith("["):
        target, value = target[1:], value[1:]
    if target == value:
        return True
    if not target.startswith("L"):
        return False
    wanted = class_of(target)
    if value.startswith("["):
        return wanted in _OF_ARRAYS
    if not value.startswith("L"):
        return False
    if wanted == _TOP:
        return True
    relatives, complete = relatives_of(class_of(value), release)
    return True if wanted in relatives else (False if complete else None)


def class_of(descriptor: str) -> str:
    """Answers the class in `Lcom/shop/Line;`, with dots."""
    return descriptor[1:].removesuffix(";").replace("/", ".")


def missing_constructor(found: ReleaseClass, release: Lookup) -> str:
    """Answers the class whose constructor without arguments Java needs and does not find.

    An Externalizable class needs a public one itself. For others it is the nearest class above
    that is not Serializable. Empty where it is there, or not at hand.

    Raises:
        NotReadable: a class above is broken.
    """
    if found.nature is Nature.EXTERNALIZABLE:
        return "" if _has_constructor(found.file, found.file, public=True) else found.file.name
    for name in found.line:
        if nature_of(name, release) is not Nature.PLAIN:
            continue
        above = release.find(name)
        fits = above is None or _has_constructor(above, found.file, public=False)
        return "" if fits else name
    return ""


def _has_constructor(above: ClassFile, below: ClassFile, *, public: bool) -> bool:
    """Answers whether Java may call the constructor without arguments for the class below."""
    own = next((m for m in above.methods if (m.name, m.descriptor) == ("<init>", "()V")), None)
    if own is None or Access.PRIVATE in own.access:
        return False
    if public or own.access & (Access.PUBLIC | Access.PROTECTED):
        return Access.PUBLIC in own.access or not public
    return above.name.rpartition(".")[0] == below.name.rpartition(".")[0]
