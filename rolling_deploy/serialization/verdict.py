"""What becomes of stored objects of one class when another release reads them."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass

from rolling_deploy.serialization.stored import StoredField


class Fate(enum.Enum):
    """The answers, from the mildest to the worst."""

    GIVEN = "given by Java or the container, not judged"
    SURVIVES = "survives"
    LOSES = "survives, but data in it is dropped"
    UNKNOWN = "not known"
    MAY_FAIL = "may not survive"
    DIFFERS = "cannot be read"
    MISSING = "missing in the release"

    @property
    def loses_sessions(self) -> bool:
        """Answers whether every session that holds such an object is lost."""
        return self in {Fate.DIFFERS, Fate.MISSING}


_ORDER = list(Fate)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found about a class, and what follows from it alone."""

    fate: Fate
    reason: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer for one stored class.

    Attributes:
        reasons: what was found, the worst first; never empty unless it survives or is given.
        uid_stored: as the session has it; None where its form does not hold one (Kryo).
        uid_release: as the release has it; None where there is none, or it is not known.
        fields_removed: their data is dropped when the object is read.
        fields_added: they will be null or zero.
    """

    name: str
    fate: Fate
    reasons: tuple[str, ...] = ()
    uid_stored: int | None = None
    uid_release: int | None = None
    fields_removed: tuple[StoredField, ...] = ()
    fields_added: tuple[StoredField, ...] = ()


def worst(fates: Iterable[Fate]) -> Fate:
    """Answers the worst of them; none at all survives."""
    return max(fates, key=_ORDER.index, default=Fate.SURVIVES)


def severity(finding: Finding) -> int:
    """Answers what orders findings, the worst highest."""
    return _ORDER.index(finding.fate)
