"""What can honestly be said about a value that Kryo 5 wrote, as Redisson's default codec uses it.

Kryo writes no field names and no version. What it does write is the name of each class that is
not registered, once for each value: byte 1, the number of the name (0 for the first, then up), and
the name with the highest bit of its last letter set. That is looked for here. A class with a name
beyond ASCII is written otherwise and is not found; and a text that follows those two bytes by
chance and looks like a class name is taken for one. So a name found here is a hint, not a proof.
"""

from __future__ import annotations

import re

_NAME = re.compile(
    rb"\x01([\x00-\x7f])(\[*)([A-Za-z_$][A-Za-z0-9_$]*(?:\.[A-Za-z_$][A-Za-z0-9_$]*)*;?"
    rb"(?:[\xb0-\xb9\xc1-\xda\xe1-\xfa\xdf\xa4\xbb]))"
)
_FORM = re.compile(r"[A-Za-z_$][\w$]*(\.[A-Za-z_$][\w$]*)*", re.ASCII)
_GAP_MAX = 3
"""Names in between that were not found, for being beyond ASCII."""
_ONE_BYTE_LENGTHS = {4: 4, 5: 1, 6: 1, 7: 2, 8: 2, 10: 8}
"""What follows the number of a class that Kryo always knows: float, boolean, byte, char, ..."""
_INT, _STRING, _LONG = 2, 3, 9
_VALUE_BYTES_MAX = 16 << 20


def class_names(data: bytes) -> tuple[str, ...]:
    """Answers the names of classes, in the order in which they stand; for arrays, of the elements.

    Only names with a dot, whose last part begins with a capital letter: others cannot be told from
    texts, such as the names of users and hosts.
    """
    found: dict[str, None] = {}
    expected = at = 0
    while match := _NAME.search(data, at, _VALUE_BYTES_MAX):
        at = match.start() + 1
        number, name = match[1][0], _name(match[2], match[3])
        if name and expected <= number <= expected + _GAP_MAX:
            expected, at = number + 1, match.end()
            package, _, own = name.rpartition(".")
            if package and own.lstrip("$_")[:1].isupper():
                found[name] = None
    return tuple(found)


def _name(brackets: bytes, written: bytes) -> str:
    """Answers the class in what is written, or nothing where that is no class name."""
    text = (written[:-1] + bytes([written[-1] & 0x7F])).decode("ascii")
    if brackets:
        if not (text.startswith("L") and text.endswith(";")):
            return ""
        text = text[1:-1]
    return text if _FORM.fullmatch(text) else ""


def looks_like_kryo(data: bytes) -> bool:
    """Answers whether the value can be Kryo's: it begins with a class, or is one plain value."""
    if not data or len(data) > _VALUE_BYTES_MAX:
        return False
    first, rest = data[0], data[1:]
    if first == 1:
        match = _NAME.match(data)
        return match is not None and match[1] == b"\0" and _is_name(match)
    if first in _ONE_BYTE_LENGTHS:
        return len(rest) == _ONE_BYTE_LENGTHS[first]
    if first == _INT:
        return _is_number(rest, 5)
    if first == _LONG:
        return _is_number(rest, 9)
    return first == _STRING and (_is_text(rest) or (rest[:1] == b"\x01" and _is_text(rest[1:])))


def _is_name(match: re.Match[bytes]) -> bool:
    """Answers whether a value may begin so: a class, or an array of plain values."""
    return bool(match[2]) or _name(match[2], match[3]) != ""


def _is_number(rest: bytes, longest: int) -> bool:
    """Answers whether these bytes are one number: all but the last have their highest bit."""
    if not 1 <= len(rest) <= longest:
        return False
    goes_on = all(byte & 0x80 for byte in rest[:-1])
    return goes_on and (len(rest) == longest or not rest[-1] & 0x80)


def _is_text(rest: bytes) -> bool:
    """Answers whether these bytes are one text, to their end."""
    if rest and rest[:-1].isascii() and rest[-1] & 0x80:
        return True
    if not rest or not rest[0] & 0x80:
        return False
    length, shift, at, goes_on = rest[0] & 0x3F, 6, 1, rest[0] & 0x40
    while goes_on and at < len(rest) and shift < 32:
        length |= (rest[at] & 0x7F) << shift
        goes_on, shift, at = rest[at] & 0x80, shift + 7, at + 1
    text = rest[at:].decode("utf-8", "replace")
    units = len(text) + sum(char > "\uffff" for char in text)
    return "\ufffd" not in text and units == max(length - 1, 0)
