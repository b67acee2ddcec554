"""Which Tomcat a machine has, from the jar it is made of."""

from __future__ import annotations

import re
import struct
import zipfile
import zlib
from dataclasses import dataclass

FIRST_GRACEFUL = "8.5.76, 9.0.41 and 10.0.0"
"""The first with a Service's `gracefulStopAwaitMillis` (Tomcat's changelogs, bug 64080)."""
_SINCE = {8: (8, 5, 76), 9: (9, 0, 41)}
_ENTRY = b"org/apache/catalina/util/ServerInfo.properties"
_HEADER = struct.Struct("<4sHHH16xHH")
"""Of an entry in a zip file: magic, version, flags, method; lengths of name and extra field."""
_TEXT_MAX = 16_384
_INFO = re.compile(
    r"^server\.info=[^\n]*/([0-9]{1,4})\.([0-9]{1,4})\.([0-9]{1,4})(-M[0-9]+)?", re.MULTILINE
)


@dataclass(frozen=True, slots=True)
class TomcatVersion:
    """A release of Tomcat.

    Attributes:
        number: major, minor and patch.
        milestone: `-M3` of one before the first release of its line; else empty.
    """

    number: tuple[int, int, int]
    milestone: str = ""

    def __str__(self) -> str:
        return ".".join(map(str, self.number)) + self.milestone

    @property
    def stops_gracefully(self) -> bool:
        """Answers whether a Service knows `gracefulStopAwaitMillis`; others log a warning."""
        if self.number[0] >= 10:  # the line's own number
            return self.number > (10, 0, 0) or not self.milestone
        since = _SINCE.get(self.number[0])
        return since is not None and self.number >= since


def version_in(entry: bytes) -> TomcatVersion | None:
    """Answers the version that `ServerInfo.properties` names, as it is packed in `catalina.jar`.

    Args:
        entry: from the header of the entry on; what comes behind it does not matter.
    """
    if len(entry) < _HEADER.size:
        return None
    magic, _version, _flags, method, name_bytes, extra_bytes = _HEADER.unpack_from(entry)
    name = entry[_HEADER.size : _HEADER.size + name_bytes]
    if magic != b"PK\x03\x04" or name != _ENTRY:
        return None
    packed = entry[_HEADER.size + name_bytes + extra_bytes :]
    try:
        text = _unpacked(packed, method)
    except zlib.error:
        return None
    found = _INFO.search(text.decode("latin-1"))
    if found is None:
        return None
    return TomcatVersion((int(found[1]), int(found[2]), int(found[3])), found[4] or "")


def _unpacked(packed: bytes, method: int) -> bytes:
    match method:
        case zipfile.ZIP_STORED:
            return packed
        case zipfile.ZIP_DEFLATED:  # the stream says itself where it ends
            return zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, _TEXT_MAX)
        case _:
            return b""
