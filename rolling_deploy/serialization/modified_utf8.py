"""Java's own encoding of text (modified UTF-8), as class files and object streams hold it.

A zero is two bytes, and a character beyond the basic plane is a pair of surrogates with three
bytes each. Lone surrogates are possible in Java and are kept.
"""

from __future__ import annotations

from rolling_deploy.serialization.not_readable import NotReadable


def decode(data: bytes) -> str:
    """Answers the text.

    Raises:
        NotReadable: the bytes are no modified UTF-8.
    """
    if data.isascii():
        return data.decode("ascii")
    try:
        units = data.replace(b"\xc0\x80", b"\0").decode("utf-8", "surrogatepass")
        return units.encode("utf-16-be", "surrogatepass").decode("utf-16-be", "surrogatepass")
    except UnicodeError:
        raise NotReadable("a text is not in Java's encoding (modified UTF-8)") from None


def encode(text: str) -> bytes:
    """Answers the bytes, without their length. Any text can be written."""
    if text.isascii() and "\0" not in text:
        return text.encode("ascii")
    units = text.encode("utf-16-be", "surrogatepass")
    chars = (units[i : i + 2].decode("utf-16-be", "surrogatepass") for i in range(0, len(units), 2))
    return b"".join(
        b"\xc0\x80" if char == "\0" else char.encode("utf-8", "surrogatepass") for char in chars
    )


def sort_key(text: str) -> bytes:
    """Answers what orders texts as Java's `String.compareTo` does: by UTF-16 units."""
    return text.encode("utf-16-be", "surrogatepass")
