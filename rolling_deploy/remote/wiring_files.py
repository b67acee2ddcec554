"""What one Tomcat's wiring is now, what it is to be, and what lies between for a reader."""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import PurePosixPath
from xml.sax.saxutils import escape

from rolling_deploy.remote.tomcat_version import TomcatVersion
from rolling_deploy.settings import Jar, NodeWiring
from rolling_deploy.wiring import (
    ABSENT,
    Manifest,
    NotMergeable,
    is_plain_path,
    masked,
    merge_context,
    merge_server,
    read_fragment,
    renews_manager,
)

CONTEXT, SERVER = "conf/context.xml", "conf/server.xml"
EMPTY_CONTEXT = b'<?xml version="1.0" encoding="UTF-8"?>\n<Context>\n</Context>\n'
"""Of a Tomcat that has none, which it takes for an empty one."""
OURS = b"# Written by rolling-deploy"
"""How a file begins that is ours as a whole."""
_DIGEST = re.compile(r"[0-9a-f]{64}")
_UNSHOWN = re.compile(r"[^\t\x20-\x7e\xa1-\uffff]")


class NotWired(Exception):
    """What is wanted cannot be brought about there; the text is the reason for a person."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What is wanted of a Tomcat, as the inventory says it.

    Attributes:
        shown: `wiring` with its secrets masked.
        ports: those by which its requests come in.
    """

    wiring: NodeWiring = field(repr=False)
    shown: NodeWiring
    base: str
    ports: tuple[int, ...]

    @property
    def jars(self) -> Mapping[str, Jar]:
        """Answers the jars by their place."""
        return {f"lib/{PurePosixPath(jar.path).name}": jar for jar in self.wiring.jars}

    @property
    def texts(self) -> tuple[str, ...]:
        """Answers the files that are read and written as a whole, jars aside."""
        found = list(self.wiring.files)
        if self.wiring.context:
            found.append(CONTEXT)
        if self.wiring.graceful_stop_ms is not None:
            found.append(SERVER)
        return tuple(sorted(found))

    @property
    def paths(self) -> tuple[str, ...]:
        """Answers every file of the wiring, in the order of the manifest."""
        return tuple(sorted([*self.texts, *self.jars]))

    @property
    def private(self) -> tuple[str, ...]:
        """Answers the files that hold a secret."""
        files, shown = self.wiring.files, self.shown.files
        found = [path for path in files if files[path] != shown.get(path)]
        return tuple([*found, CONTEXT] if self.wiring.context != self.shown.context else found)

    def refuse_odd_paths(self) -> None:
        """Raise where a path would lead elsewhere, or would be two things at once.

        Raises:
            NotWired: the path is in the text.
        """
        for path in self.paths:
            if not is_plain_path(path):
                reason = "a plain relative path of letters, digits and `._+@-`"
                raise NotWired(f"`{path[:100]!a}` should be {reason}")
        if len(set(self.paths)) < len(self.paths) or self.wiring.files.keys() & {CONTEXT, SERVER}:
            raise NotWired("each file of the wiring should be named once")
        for place, jar in self.jars.items():
            if not _DIGEST.fullmatch(jar.sha256):
                raise NotWired(f"the sha256 of `{place}` should be 64 hexadecimal digits")


@dataclass(frozen=True)
class Wanted:
    """The wanted files, made from those that are there.

    Attributes:
        current: what is there.
        texts: the files there that are read as a whole; an absent one is missing.
        version: of Tomcat; None when it could not be read.
        is_older: Tomcat runs, and since before the files were what they are.
        stale: the files that were written or touched since it runs, as far as that is why.
    """

    asked: Asked
    current: Manifest
    texts: Mapping[str, bytes] = field(repr=False)
    version: TomcatVersion | None = None
    is_older: bool = False
    stale: tuple[str, ...] = ()

    @property
    def graceful_stop_ms(self) -> int | None:
        """Answers what the Service is to be told; None when nothing, or it would not know it."""
        is_known = self.version is None or self.version.stops_gracefully
        return self.asked.wiring.graceful_stop_ms if is_known else None

    @cached_property
    def files(self) -> Mapping[str, bytes]:
        """Answers what is to be in each text.

        Raises:
            NotWired: it cannot be merged, with the file and its line.
        """
        return self._merged(self.asked.wiring)

    @cached_property
    def manifest(self) -> Manifest:
        """Answers what is to be there.

        Raises:
            NotWired: as for `files`.
        """
        texts = {path: hashlib.sha256(text).hexdigest() for path, text in self.files.items()}
        return Manifest(texts | {path: jar.sha256 for path, jar in self.asked.jars.items()})

    @property
    def changed(self) -> tuple[str, ...]:
        """Answers the paths that are to become another file."""
        now, then = self.current.digests, self.manifest.digests
        return tuple(path for path in self.asked.paths if now[path] != then[path])

    @property
    def renews_manager(self) -> bool:
        """Answers whether a Manager of this class stands there already, with other settings."""
        if CONTEXT not in self.texts or not self.asked.wiring.context:
            return False
        return renews_manager(self.texts[CONTEXT], read_fragment(self.asked.wiring.context))

    def missing(self) -> tuple[str, ...]:
        """Answers a sentence for each file that is not as it is to be, or not read as it is."""
        found = tuple(self._sentence(path) for path in self.changed)
        return found or ((self.not_read,) if self.is_older else ())

    @property
    def not_read(self) -> str:
        """Answers the sentence for a Tomcat that has not read its files as they are."""
        written = ", ".join(f"`{path}`" for path in self.stale)
        why = f" {written} was written or touched" if written else ""
        return f"`{self.asked.base}` is wired on disk, but its Tomcat runs since before{why}"

    def differences(self) -> tuple[str, ...]:
        """Answers the lines of a unified diff without secrets, and one line for each jar."""
        changed = set(self.changed)
        lines = [line for path in self.asked.texts if path in changed for line in self._diff(path)]
        jars = (self._jar_line(path) for path in self.asked.jars if path in changed)
        return (*lines, *jars)

    def _merged(self, wiring: NodeWiring) -> dict[str, bytes]:
        files = dict(wiring.files)
        if wiring.context:
            content = self.texts.get(CONTEXT, EMPTY_CONTEXT)
            fragment = read_fragment(wiring.context)
            files[CONTEXT] = self._edited(CONTEXT, content, lambda c: merge_context(c, fragment))
        if wiring.graceful_stop_ms is not None:
            if SERVER not in self.texts:
                raise NotWired(f"there is no `{self.asked.base}/{SERVER}`")
            ports, limit = self.asked.ports, self.graceful_stop_ms
            files[SERVER] = self._edited(
                SERVER, self.texts[SERVER], lambda c: merge_server(c, ports, limit)
            )
        for path, wanted in wiring.files.items():
            self._refuse_foreign(path, wanted)
        return files

    def _edited(self, path: str, content: bytes, merge: Callable[[bytes], bytes]) -> bytes:
        """What an XML file is to be; read once more, as Tomcat will, before anybody restarts it.

        Raises:
            NotWired: it cannot be merged, or what comes of it could not be read.
        """
        name = f"{self.asked.base}/{path}"
        try:
            merged = merge(content)
        except NotMergeable as wrong:
            raise NotWired(wrong.at(name)) from None
        try:
            again = merge(merged)
        except NotMergeable as wrong:
            raise NotWired(f"Tomcat could not read the new {wrong.at(name)}") from None
        if again != merged:
            raise NotWired(f"`{name}` would not hold what was put into it")
        return merged

    def _refuse_foreign(self, path: str, wanted: bytes) -> None:
        """A whole file is written anew only where its first line says that it is ours.

        Raises:
            NotWired: it is somebody else's.
        """
        there = self.texts.get(path, wanted)
        if wanted.startswith(OURS) and not there.startswith(OURS):
            raise NotWired(
                f"`{self.asked.base}/{path}` was not written by rolling-deploy; with another "
                "codec, address or database than it names no session of today would be found: "
                "compare the two and move it away"
            )

    def _sentence(self, path: str) -> str:
        is_there = self.current.digests[path] != ABSENT
        place = f"`{self.asked.base}/{path}`"
        if path in self.asked.jars:
            return f"{place} is another file than the one asked for" if is_there else f"no {place}"
        if path == CONTEXT:
            return f"{place} lacks the session manager `{self.asked.wiring.manager_class}` as asked"
        if path == SERVER:
            lacking = '`gracefulStopAwaitMillis` or `bindOnInit="false"`'
            if self.graceful_stop_ms is None:
                lacking = '`bindOnInit="false"`'
            return f"{place} lacks {lacking} as asked, so a stop cuts requests off"
        return f"{place} differs from what is asked" if is_there else f"no {place}"

    def _jar_line(self, path: str) -> str:
        now, then = self.current.digests[path], self.manifest.digests[path]
        name = f"{self.asked.base}/{path}"
        if now == ABSENT:
            return f"new file {name}, sha256 {then[:12]}"
        return f"other file {name}, sha256 {now[:12]} becomes {then[:12]}"

    def _diff(self, path: str) -> Iterator[str]:
        name = f"{self.asked.base}/{path}"
        before = self._shown(self.texts.get(path, b""))
        after = self._shown(self._merged(self.asked.shown)[path])
        old = name if path in self.texts else "/dev/null"
        found = list(difflib.unified_diff(before, after, old, name, lineterm=""))
        yield from found or [f"{name}: what differs is a secret, or cannot be shown"]

    def _shown(self, content: bytes) -> list[str]:
        secrets, names = self._secrets
        text = masked(content.decode("utf-8", "replace"), secrets, names)
        return [_UNSHOWN.sub("?", line) for line in re.split("\r\n|\n|\r", text)]

    @cached_property
    def _secrets(self) -> tuple[frozenset[str], frozenset[str]]:
        """Values of attributes that the masked twin hides, in every writing, and their names.

        A value that stands in the twin all the same is an ordinary word, and hidden by its place.
        """
        if not self.asked.wiring.context:
            return frozenset(), frozenset()
        own = read_fragment(self.asked.wiring.context)
        values, names = own.secrets_in(read_fragment(self.asked.shown.context))
        values = frozenset(one for one in values if one not in self.asked.shown.context)
        quotes = {'"': "&quot;", "'": "&apos;"}
        ways = [{}, {'"': "&quot;"}, quotes]
        return values | {escape(value, way) for value in values for way in ways}, names
