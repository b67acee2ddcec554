"""The class descriptors in a Java object stream, as session managers store them.

Reads the whole grammar of the Java Object Serialization specification (chapter 6), because a
descriptor may stand anywhere. javaobj-py3 0.6.1 was tried: its second reader refuses proxies and
arrays that hold themselves and ends a chain of objects in a RecursionError, its third one needs
Python 3.12.

Values are walked over, not kept. There is no recursion: what is begun stands on a list, and each
level of it cost at least a byte of input, so hostile nesting costs memory in proportion to its
length. A class whose `writeObject` left out its fields (against the specification, and seen in
the field) is recognised by what follows, or by trying.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Generator
from dataclasses import dataclass

from rolling_deploy.serialization.cursor import Cursor
from rolling_deploy.serialization.descriptor import Descriptor, kind_of, merged
from rolling_deploy.serialization.modified_utf8 import decode
from rolling_deploy.serialization.not_readable import NotReadable
from rolling_deploy.serialization.stored import Flag, Kind, Place, StoredClass, StoredField

MAGIC = b"\xac\xed\x00\x05"
VALUE_BYTES_MAX = 16 << 20
"""A longer value is not read: no session of a sample is worth more work."""
STEPS_MAX = 1_000_000
"""Of one value: some seconds. An object takes about five, and one more for each class above."""
_GUESSES_MAX, _GUESSED_BYTES_MAX = 12, 1 << 18
"""Readings of one value, each with another guess about which classes left out their fields; and
the length of a value up to which guessing is worth it."""
_FIRST_HANDLE = 0x7E0000
_WIDTHS = {"B": 1, "C": 2, "D": 8, "F": 4, "I": 4, "J": 8, "S": 2, "Z": 1}
"""Bytes of a plain value, by the letter of its type."""


class _Mark(enum.IntEnum):
    """The byte that everything begins with (`java.io.ObjectStreamConstants`)."""

    NULL = 0x70
    REFERENCE = 0x71
    CLASS_DESCRIPTOR = 0x72
    OBJECT = 0x73
    STRING = 0x74
    ARRAY = 0x75
    CLASS = 0x76
    BLOCK = 0x77
    END = 0x78
    RESET = 0x79
    BLOCK_LONG = 0x7A
    EXCEPTION = 0x7B
    STRING_LONG = 0x7C
    PROXY_DESCRIPTOR = 0x7D
    ENUM = 0x7E


_BY_HAND = frozenset({_Mark.BLOCK, _Mark.BLOCK_LONG, _Mark.END})
"""What only a `writeObject` of the class itself can have written in the place of a field."""

_Step = Generator["_Step", None, None]
"""A part of the reading; what it yields is read before it goes on."""


@dataclass(frozen=True, slots=True)
class _Text:
    """A string of the stream, by its place; decoded only where it names something."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class _Instance:
    """An object, an array, an enum constant or a `Class` object of the stream."""

    descriptor: Descriptor


@dataclass(slots=True)
class _Cell:
    """Where a part leaves its answer for the one that waits for it."""

    descriptor: Descriptor | None = None
    text: _Text | None = None


class _WriterFailed(Exception):
    """The writer's own mark that writing ended with an exception; what was begun is void."""


def read_stream(data: bytes) -> tuple[StoredClass, ...]:
    """Answers every class descriptor of the stream, in the order in which they are met.

    Several objects in a row are fine: session managers write a session piece by piece. A class
    described twice in the same way is answered once.

    Raises:
        NotReadable: the bytes are no Java object stream, are cut off, or cannot be told apart.
    """
    if data[: len(MAGIC)] != MAGIC:
        raise NotReadable("the value does not begin as a Java object stream does (AC ED 00 05)")
    if len(data) > VALUE_BYTES_MAX:
        raise NotReadable(f"the value of {len(data)} bytes is longer than {VALUE_BYTES_MAX}")
    readings, steps_left, guesses = 0, STEPS_MAX, [frozenset[str]()]
    failure: NotReadable | None = None
    while guesses and readings < (_GUESSES_MAX if len(data) <= _GUESSED_BYTES_MAX else 1):
        readings += 1
        reading = _Reading(data, guesses.pop(), steps_left)
        try:
            return reading.answer()
        except NotReadable as error:
            failure, steps_left = failure or error, reading.steps_left
            guesses += [reading.without_fields | {name} for name in reading.suspects]
    raise failure or NotReadable("the value cannot be read")


class _Reading:
    """One reading of one value.

    Attributes:
        without_fields: the classes that are taken to have left out their fields.
        steps_left: how much work is still granted.
        suspects: those that may have done so too, the likeliest last.
    """

    def __init__(self, data: bytes, without_fields: frozenset[str], steps_left: int) -> None:
        self._bytes = Cursor(data, len(MAGIC))
        self._handles: list[Descriptor | _Text | _Instance] = []
        self._descriptors: list[Descriptor] = []
        self.steps_left = steps_left
        self.without_fields = without_fields
        self.suspects: dict[str, None] = {}

    def answer(self) -> tuple[StoredClass, ...]:
        """Reads to the end and answers what was met."""
        while self._bytes.left:
            if self._bytes.peek() == _Mark.RESET:
                self._bytes.skip(1)
                self._handles.clear()
                continue
            try:
                self._drive(self._content(Place()))
            except _WriterFailed:
                self._exception()
        return merged(self._descriptors)

    def _exception(self) -> None:
        """Reads the exception that ended the writing; it stands between two resets."""
        self._handles.clear()
        try:
            self._drive(self._content(Place()))
        except _WriterFailed:
            raise NotReadable(f"writing failed twice before byte {self._bytes.at}") from None
        self._handles.clear()

    def _drive(self, first: _Step) -> None:
        """Runs a part and all that it waits for, without recursion."""
        begun = [first]
        while begun:
            self._spend(1)
            step = next(begun[-1], None)
            if step is None:
                begun.pop()
            else:
                begun.append(step)

    def _spend(self, steps: int) -> None:
        """Counts what was done: no bytes make us work for ever."""
        self.steps_left -= steps
        if self.steps_left < 0:
            raise NotReadable(f"the value takes more than {STEPS_MAX} steps to read")

    # What may stand where anything may stand

    def _content(self, place: Place, cell: _Cell | None = None, *, blocks: bool = True) -> _Step:
        """Reads one thing, whatever it is. A string is left in the cell, when there is one."""
        at, mark = self._bytes.at, self._bytes.unsigned(1)
        if mark in _INSTANCES:
            yield _INSTANCES[mark](self, place)
            return
        match mark:
            case _Mark.NULL:
                pass
            case _Mark.REFERENCE:
                self._reference(place, cell)
            case _Mark.CLASS_DESCRIPTOR | _Mark.PROXY_DESCRIPTOR:
                yield self._descriptor(mark, _Cell())
            case _Mark.STRING | _Mark.STRING_LONG:
                self._string(mark, cell or _Cell())
            case _Mark.EXCEPTION:
                raise _WriterFailed
            case _Mark.BLOCK | _Mark.BLOCK_LONG if blocks:
                size = 1 if mark == _Mark.BLOCK else 4
                self._bytes.skip(self._bytes.unsigned(size))
            case _:
                raise NotReadable(f"byte {at} should begin an object, is {mark:#04x}")

    def _target(self) -> Descriptor | _Text | _Instance:
        """Reads a pointer and answers what it points to."""
        at, number = self._bytes.at, self._bytes.unsigned(4) - _FIRST_HANDLE
        if not 0 <= number < len(self._handles):
            raise NotReadable(f"byte {at} points to nothing")
        return self._handles[number]

    def _reference(self, place: Place, cell: _Cell | None) -> None:
        """Reads a pointer to something that was read before."""
        target = self._target()
        if isinstance(target, _Instance):
            target.descriptor.places.add(place)
        elif isinstance(target, _Text) and cell is not None:
            cell.text = target

    def _string(self, mark: int, cell: _Cell) -> None:
        """Reads a string into the cell, without decoding it."""
        length = self._bytes.unsigned(2 if mark == _Mark.STRING else 8)
        start = self._bytes.at
        self._bytes.skip(length)
        cell.text = _Text(start, self._bytes.at)
        self._handles.append(cell.text)

    def _annotation(self, place: Place) -> _Step:
        """Reads what a class wrote by hand, up to its end mark."""
        while self._bytes.peek() != _Mark.END:
            yield self._content(place)
        self._bytes.skip(1)

    # Class descriptors

    def _any_descriptor(self, cell: _Cell) -> _Step:
        """Reads a class descriptor, a pointer to one, or none, into the cell."""
        at, mark = self._bytes.at, self._bytes.unsigned(1)
        match mark:
            case _Mark.NULL:
                pass
            case _Mark.REFERENCE:
                target = self._target()
                if not isinstance(target, Descriptor):
                    raise NotReadable(f"byte {at} should point to a class descriptor")
                cell.descriptor = target
            case _Mark.CLASS_DESCRIPTOR | _Mark.PROXY_DESCRIPTOR:
                yield self._descriptor(mark, cell)
            case _Mark.EXCEPTION:
                raise _WriterFailed
            case _:
                raise NotReadable(f"byte {at} should begin a class descriptor, is {mark:#04x}")

    def _descriptor(self, mark: int, cell: _Cell) -> _Step:
        """Reads a class descriptor into the cell."""
        found = Descriptor("")
        self._descriptors.append(found)
        if mark == _Mark.PROXY_DESCRIPTOR:
            self._handles.append(found)
            self._proxy(found)
        else:
            found.name, found.uid = self._name(), self._bytes.signed(8)
            self._handles.append(found)
            found.flags = Flag(self._bytes.unsigned(1))
            found.kind = kind_of(found.name, found.flags)
            yield self._fields(found)
        yield self._annotation(Place())
        above = _Cell()
        yield self._any_descriptor(above)
        found.above = above.descriptor
        cell.descriptor = found

    def _proxy(self, found: Descriptor) -> None:
        """Reads which interfaces a proxy has; it has no name that counts."""
        count = self._bytes.count(4, each_min=2)
        found.interfaces = tuple(self._name() for _ in range(count))
        found.name = f"$Proxy({', '.join(found.interfaces)})"
        found.flags, found.kind = Flag.SERIALIZABLE, Kind.PROXY

    def _fields(self, found: Descriptor) -> _Step:
        """Reads names and types of the fields."""
        for _ in range(self._bytes.count(2, each_min=3)):
            code, name = chr(self._bytes.unsigned(1)), self._name()
            if code in _WIDTHS:
                found.fields.append(StoredField(name, code))
                continue
            cell = _Cell()
            yield self._content(Place(), cell, blocks=False)
            descriptor = self._named(cell)
            if code not in {"L", "["} or not descriptor.startswith(code):
                raise NotReadable(f"the type of `{found.name}.{name}` is broken: {code!a}")
            found.fields.append(StoredField(name, descriptor))

    def _name(self) -> str:
        """Reads a name that stands by itself."""
        return _speakable(self._bytes.take(self._bytes.unsigned(2)))

    def _named(self, cell: _Cell) -> str:
        """Answers the name in the cell."""
        if cell.text is None:
            raise NotReadable(f"a name is missing before byte {self._bytes.at}")
        return _speakable(self._bytes.data[cell.text.start : cell.text.end])

    # Instances

    def _begin(self, place: Place, cell: _Cell) -> _Step:
        """Reads the descriptor of what begins here into the cell, and gives it its handle."""
        yield self._any_descriptor(cell)
        found = _begun(cell)
        found.places.add(place)
        self._handles.append(_Instance(found))

    def _class(self, place: Place) -> _Step:
        """Reads a `Class` object: the name of a class and nothing of it."""
        yield self._begin(place, _Cell())

    def _enum(self, place: Place) -> _Step:
        """Reads an enum constant."""
        cell = _Cell()
        yield self._begin(place, cell)
        yield self._content(place, cell, blocks=False)
        _begun(cell).constants.add(self._named(cell))

    def _array(self, place: Place) -> _Step:
        """Reads an array; elements that are plain values are skipped at once."""
        cell = _Cell()
        yield self._begin(place, cell)
        name = _begun(cell).name
        element = name[1:2] if name.startswith("[") else ""
        if element in _WIDTHS:
            width = _WIDTHS[element]
            self._bytes.skip(self._bytes.count(4, each_min=width) * width)
        elif element in {"L", "["}:
            inside = Place(name)
            for _ in range(self._bytes.count(4, each_min=1)):
                yield self._content(inside, blocks=False)
        else:
            raise NotReadable(f"`{name}` is no name of an array class")

    def _object(self, place: Place) -> _Step:
        """Reads an object: for each class from the top down what that class wrote."""
        cell = _Cell()
        yield self._begin(place, cell)
        _begun(cell).has_objects = True
        line = _begun(cell).line()
        self._spend(len(line))
        for each in line:
            if Flag.EXTERNALIZABLE in each.flags:
                if Flag.BLOCK_DATA not in each.flags:
                    why = "is Externalizable in the old protocol, which only the class can read"
                    raise NotReadable(f"`{each.name}` {why}")
                yield self._hand_written(each)
            elif Flag.SERIALIZABLE in each.flags:
                if not self._left_out(each):
                    yield self._values(each)
                if Flag.WRITE_METHOD in each.flags:
                    yield self._hand_written(each)

    def _hand_written(self, each: Descriptor) -> _Step:
        """Reads what the class wrote beside its fields."""
        each.by_hand = each.by_hand or self._bytes.peek() != _Mark.END
        yield self._annotation(Place(each.name))

    def _left_out(self, each: Descriptor) -> bool:
        """Answers whether the class wrote none of its fields here, but only by hand."""
        begin = self._bytes.peek() if Flag.WRITE_METHOD in each.flags and each.fields else 0
        if not _Mark.NULL <= begin <= _Mark.ENUM:
            return False
        if begin in _BY_HAND and not any(one.is_primitive for one in each.fields):
            return True
        if each.name not in self.without_fields:
            self.suspects.pop(each.name, None)
            self.suspects[each.name] = None
            return False
        return True

    def _values(self, found: Descriptor) -> _Step:
        """Reads the values of the fields: first the plain ones, then the objects."""
        self._bytes.skip(sum(_WIDTHS[one.descriptor] for one in found.fields if one.is_primitive))
        for one in found.fields:
            if not one.is_primitive:
                yield self._content(Place(found.name, one.name), blocks=False)


_INSTANCES: dict[int, Callable[[_Reading, Place], _Step]] = {
    _Mark.OBJECT: _Reading._object,  # noqa: SLF001 - the table belongs to the class
    _Mark.ARRAY: _Reading._array,  # noqa: SLF001 - the same
    _Mark.CLASS: _Reading._class,  # noqa: SLF001 - the same
    _Mark.ENUM: _Reading._enum,  # noqa: SLF001 - the same
}


def _begun(cell: _Cell) -> Descriptor:
    """Answers the descriptor in the cell; every instance has one."""
    if cell.descriptor is None:
        raise NotReadable("an object has no class")
    return cell.descriptor


def _speakable(name: bytes) -> str:
    """Answers a name that can be printed; no compiler makes one that cannot."""
    text = decode(name)
    if not text.isprintable():
        raise NotReadable(f"a name holds what cannot be printed: {text[:40]!a}")
    return text
