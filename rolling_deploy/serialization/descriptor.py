"""A class descriptor while it is being read from a stream."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from rolling_deploy.serialization.not_readable import NotReadable
from rolling_deploy.serialization.stored import Flag, Kind, Place, StoredClass, StoredField

_ANCESTORS_MAX = 200
"""Classes above one class; Java's own deepest hierarchies have about ten."""
_NO_FLAGS = Flag(0)


@dataclass(slots=True)
class Descriptor:
    """Everything but the name is added as it is met. `above` is the super class, where written."""

    name: str
    uid: int = 0
    flags: Flag = _NO_FLAGS
    fields: list[StoredField] = field(default_factory=list)
    above: Descriptor | None = None
    kind: Kind = Kind.PLAIN
    interfaces: tuple[str, ...] = ()
    constants: set[str] = field(default_factory=set)
    places: set[Place] = field(default_factory=set)
    has_objects: bool = False
    by_hand: bool = False

    def line(self) -> list[Descriptor]:
        """Answers the classes whose parts an instance has, in the order of the stream.

        Raises:
            NotReadable: there is no end of them.
        """
        line: list[Descriptor] = []
        each: Descriptor | None = self
        while each is not None:
            line.append(each)
            if len(line) > _ANCESTORS_MAX:
                raise NotReadable(f"`{self.name}` has more than {_ANCESTORS_MAX} classes above it")
            each = each.above
        return line[::-1]

    def stored(self) -> StoredClass:
        """Answers what was read."""
        return StoredClass(
            self.name,
            self.uid,
            self.flags,
            tuple(self.fields),
            self.above.name if self.above is not None else "",
            self.kind,
            self.interfaces,
            tuple(sorted(self.constants)),
            frozenset(self.places),
            self.has_objects,
            self.by_hand,
        )


def kind_of(name: str, flags: Flag) -> Kind:
    """Answers what the flags say.

    Raises:
        NotReadable: they contradict each other; Java refuses them too.
    """
    if Flag.SERIALIZABLE in flags and Flag.EXTERNALIZABLE in flags:
        raise NotReadable(f"`{name}` says both Serializable and Externalizable")
    if Flag.ENUM in flags:
        return Kind.ENUM
    if name.startswith("["):
        return Kind.ARRAY
    if Flag.EXTERNALIZABLE in flags:
        return Kind.EXTERNALIZABLE
    return Kind.SERIALIZABLE if Flag.SERIALIZABLE in flags else Kind.PLAIN


def merged(descriptors: Iterable[Descriptor]) -> tuple[StoredClass, ...]:
    """Answers each description once: a stream that was reset describes its classes anew."""
    known: dict[StoredClass, StoredClass] = {}
    for each in descriptors:
        stored = each.stored()
        key = replace(stored, constants=(), places=frozenset(), has_objects=False, by_hand=False)
        before = known.get(key, key)
        known[key] = replace(
            stored,
            constants=tuple(sorted({*before.constants, *stored.constants})),
            places=before.places | stored.places,
            has_objects=before.has_objects or stored.has_objects,
            by_hand=before.by_hand or stored.by_hand,
        )
    return tuple(known.values())
