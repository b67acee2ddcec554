"""The classes of a release: a WAR, an executable jar or a plain jar, found by name.

Nothing is unpacked to a disk. Archives inside the archive are opened in memory, one after the
other and only when a class was not found before them. What an archive claims about itself is not
believed: every size is counted while it is read, and what goes beyond a limit is left out and
named in `unread`, so that a class which is not found there is "not known" instead of "missing".
"""

from __future__ import annotations

import io
import lzma
import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import IO

from rolling_deploy.serialization.class_file import SIZE_MAX, ClassFile, read_class
from rolling_deploy.serialization.java_types import GIVEN_PREFIXES
from rolling_deploy.serialization.not_readable import NotReadable

JAR_BYTES_MAX = 256 << 20
"""Of one jar inside a release, unpacked; a longer one is not opened."""
RELEASE_BYTES_MAX = 2 << 30
"""Of all that is unpacked for one release: no archive makes us work for ever."""
KEPT_BYTES_MAX = 128 << 20
"""Of the jars kept in memory for the next question."""
ENTRIES_MAX = 1_000_000

_LAYOUTS = (("WEB-INF/classes/", "WEB-INF/lib/"), ("BOOT-INF/classes/", "BOOT-INF/lib/"), ("", ""))
"""Where classes and jars lie: in a WAR, in Spring Boot's jar, in a plain jar (it has no jars)."""
_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
"""The two that Java reads."""
_ZIP_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    OSError,
    ValueError,
    RuntimeError,  # `zipfile` says so of an encrypted entry
    NotImplementedError,
    OverflowError,
    IndexError,
    KeyError,
)
"""What `zipfile` was seen to raise on broken archives."""
_VERSIONS = "META-INF/versions/"


PRIMITIVES = frozenset(
    {"boolean", "byte", "char", "double", "float", "int", "long", "short", "void"}
)
"""A stream that holds `int.class` names it like a class."""


@dataclass(slots=True)
class _Budget:
    """How much may still be unpacked for this release."""

    left: int = RELEASE_BYTES_MAX

    def read(self, archive: zipfile.ZipFile, entry: zipfile.ZipInfo, limit: int) -> bytes:
        """Answers an entry's bytes; never more than the limits, whatever the archive claims."""
        limit = min(limit, self.left)
        if entry.compress_type not in _METHODS:
            raise NotReadable(f"`{entry.filename}` is packed in a way that Java does not read")
        try:
            with archive.open(entry) as file:
                data = file.read(limit + 1)
        except _ZIP_ERRORS as error:
            raise NotReadable(f"`{entry.filename}` cannot be unpacked: {error}") from None
        self.left -= min(len(data), limit)
        if len(data) > limit:
            raise NotReadable(f"`{entry.filename}` is longer than {limit} bytes")
        return data


class _Archive:
    """One archive and where each of its classes lies in it."""

    def __init__(self, file: IO[bytes], prefix: str | None, *, java: int | None) -> None:
        try:
            self.zip = zipfile.ZipFile(file)
            entries = self.zip.infolist()
        except _ZIP_ERRORS as error:
            raise NotReadable(f"the archive cannot be read: {error}") from None
        if len(entries) > ENTRIES_MAX:
            raise NotReadable(f"the archive has more than {ENTRIES_MAX} entries")
        self.prefix, self.jars_under = _layout(entries) if prefix is None else (prefix, "")
        self._entries = {entry.filename: entry for entry in entries}
        self._versioned = {} if self.prefix else _versioned(self._entries, java)

    def jars(self) -> list[zipfile.ZipInfo]:
        """Answers the jars beside the classes, by name."""
        under = self.jars_under
        return [
            entry
            for name, entry in sorted(self._entries.items())
            if under and name.startswith(under) and name.endswith(".jar")
        ]

    def entry_of(self, name: str) -> zipfile.ZipInfo | None:
        """Answers the entry that holds this class, if it is here."""
        path = name.replace(".", "/") + ".class"
        return self._versioned.get(path) or self._entries.get(self.prefix + path)

    def names(self) -> list[str]:
        """Answers the names of all classes here."""
        paths = [*self._versioned, *self._entries]
        start, end = len(self.prefix), -len(".class")
        return [
            path[start:end].replace("/", ".")
            for path in dict.fromkeys(paths)
            if path.startswith(self.prefix)
            and path.endswith(".class")
            and not path.startswith("META-INF/")
        ]


def _layout(entries: Sequence[zipfile.ZipInfo]) -> tuple[str, str]:
    """Answers where classes and jars lie in this archive."""
    names = [entry.filename for entry in entries]
    for classes, jars in _LAYOUTS[:-1]:
        if any(name.startswith((classes, jars)) for name in names):
            return classes, jars
    return _LAYOUTS[-1]


def _versioned(entries: dict[str, zipfile.ZipInfo], java: int | None) -> dict[str, zipfile.ZipInfo]:
    """Answers the classes that a multi-release jar replaces for this Java (or the newest)."""
    best: dict[str, tuple[int, zipfile.ZipInfo]] = {}
    for name, entry in entries.items():
        if not name.startswith(_VERSIONS):
            continue
        number, _, path = name.removeprefix(_VERSIONS).partition("/")
        if not (number.isascii() and number.isdigit() and len(number) <= 4):
            continue
        version = int(number)
        fits = java is None or version <= java
        if fits and path.endswith(".class") and version > best.get(path, (8, entry))[0]:
            best[path] = (version, entry)
    return {path: entry for path, (_, entry) in best.items()}


class Classes:
    """The classes of one release, read when they are asked for and remembered.

    Not for several threads at once: the open file has one position.

    Attributes:
        unread: the parts that could not be read, each with the reason; grows as questions reach
            them.
    """

    def __init__(
        self, file: IO[bytes], *, java: int | None = None, given: Sequence[str] = ()
    ) -> None:
        """Opens the release's archive, which stays the caller's to close.

        Args:
            file: the archive, open for reading at any position.
            java: the major version of Java that will run it (17, 21); it decides which classes
                of a multi-release jar count. Without it the newest do.
            given: how names begin that the nodes bring along beside Java, Tomcat and the known
                session managers: a company's jar in Tomcat's own `lib`, say.

        Raises:
            NotReadable: it is no zip archive, or a broken one.
        """
        self.unread: tuple[str, ...] = ()
        self._java = java
        self._given = (*GIVEN_PREFIXES, *given)
        self._budget = _Budget()
        self._outer = _Archive(file, None, java=java)
        self._waiting = self._outer.jars()
        self._where: dict[str, zipfile.ZipInfo] = {}
        self._open: dict[str, _Archive] = {}
        self._known: dict[str, ClassFile | NotReadable | None] = {}

    def find(self, name: str) -> ClassFile | None:
        """Answers the class with this name, or None where it is not in the release.

        The classes beside the jars come first, then the jars by name.

        Raises:
            NotReadable: the class is there, and broken.
        """
        if name not in self._known:
            self._known[name] = _caught(lambda: self._find(name))
        known = self._known[name]
        if isinstance(known, NotReadable):
            raise NotReadable(str(known))
        return known

    def is_given(self, name: str) -> bool:
        """Answers whether Java, the container or the session manager brings this class along."""
        return name in PRIMITIVES or name.startswith(self._given)

    def names(self) -> list[str]:
        """Answers the names of all classes; opens every jar."""
        while self._waiting:
            self._open_next()
        return list(dict.fromkeys([*self._outer.names(), *self._where]))

    def _find(self, name: str) -> ClassFile | None:
        """Reads the class, opening jars until it is found."""
        entry = self._outer.entry_of(name)
        if entry is not None:
            return self._read(self._outer, entry)
        while name not in self._where and self._waiting:
            self._open_next()
        if name not in self._where:
            return None
        jar = self._where[name]
        archive = self._open.get(jar.filename) or self._opened(jar)
        inner = archive.entry_of(name)
        return None if inner is None else self._read(archive, inner)

    def _read(self, archive: _Archive, entry: zipfile.ZipInfo) -> ClassFile:
        """Reads one class."""
        return read_class(self._budget.read(archive.zip, entry, SIZE_MAX))

    def _open_next(self) -> None:
        """Opens the next jar and notes which classes it has that no earlier one had."""
        jar = self._waiting.pop(0)
        try:
            archive = self._opened(jar)
        except NotReadable as error:
            self.unread = (*self.unread, f"`{jar.filename}`: {error}")
            return
        for name in archive.names():
            self._where.setdefault(name, jar)

    def _opened(self, jar: zipfile.ZipInfo) -> _Archive:
        """Unpacks a jar into memory; the ones opened before make room when they are too many."""
        data = self._budget.read(self._outer.zip, jar, JAR_BYTES_MAX)
        archive = _Archive(io.BytesIO(data), "", java=self._java)
        kept = sum(self._outer.zip.getinfo(name).file_size for name in self._open)
        if kept + len(data) > KEPT_BYTES_MAX:
            self._open.clear()
        self._open[jar.filename] = archive
        return archive


def _caught(read: Callable[[], ClassFile | None]) -> ClassFile | NotReadable | None:
    """Answers what was read, or why it could not be."""
    try:
        return read()
    except NotReadable as error:
        return error
