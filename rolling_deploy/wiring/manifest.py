"""A set of files by what is in them: which paths, and the digest of each, or that it is absent."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass

ABSENT = "-"
_PATH = re.compile(r"[A-Za-z0-9_+@-][A-Za-z0-9._+@-]*(/[A-Za-z0-9_+@-][A-Za-z0-9._+@-]*)*")
"""No blank, no `..`, and no hidden file: it is one word of a remote script."""


def is_plain_path(path: str) -> bool:
    """Answers whether this can be the relative path of a file of a wiring."""
    return _PATH.fullmatch(path) is not None


@dataclass(frozen=True, slots=True)
class Manifest:
    """Which files, by their path below CATALINA_BASE; `ABSENT` for one that is not there."""

    digests: Mapping[str, str]

    @property
    def text(self) -> str:
        """Answers a line `DIGEST PATH` of each, by path."""
        return "".join(f"{self.digests[path]} {path}\n" for path in sorted(self.digests))

    @property
    def name(self) -> str:
        """Answers what the set is called: the sha256 of its text."""
        return hashlib.sha256(self.text.encode()).hexdigest()
