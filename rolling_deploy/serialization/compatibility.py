"""Which stored classes the classes of another release can still read, by the rules of Java.

The rules are those of `java.io.ObjectInputStream` and `ObjectStreamClass`; each was compared with
what a real Java does (`tests/serialization/test_compatibility.py`):

- another serialVersionUID: nothing of the class can be read (arrays, enums and records aside);
- a field that is gone: its data is dropped; a new field is null or zero; a field whose plain type
  changed: nothing can be read; one whose object type changed: it depends on the object;
- a class that is gone: every session that holds an object of it is lost, unless the object lies
  only in fields that are dropped anyway;
- a class above that is gone, or was moved out of the line: what it held is dropped;
- Serializable, Externalizable, enum: one cannot be read as another.

What a class does in its own `readObject`, `readResolve` or `readExternal` is not judged.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from rolling_deploy.serialization.class_file import Access
from rolling_deploy.serialization.java_types import MADE_WHILE_RUNNING
from rolling_deploy.serialization.not_readable import NotReadable
from rolling_deploy.serialization.release_class import (
    Release,
    ReleaseClass,
    can_hold,
    class_of,
    missing_constructor,
    release_class,
)
from rolling_deploy.serialization.serial_version import Nature
from rolling_deploy.serialization.stored import (
    ROOT,
    Kind,
    StoredClass,
    StoredField,
)
from rolling_deploy.serialization.verdict import Fate, Finding, Verdict, severity, worst

_ANCESTORS_MAX = 200
_LAMBDA = "java.lang.invoke.SerializedLambda"
_WRITTEN_AS = {
    Kind.SERIALIZABLE: Nature.SERIALIZABLE,
    Kind.EXTERNALIZABLE: Nature.EXTERNALIZABLE,
    Kind.ENUM: Nature.ENUM,
    Kind.PLAIN: Nature.PLAIN,
}


@dataclass(frozen=True, slots=True)
class _Case:
    """One stored class and what the release has under its name.

    Attributes:
        beside: the other classes of the same value, by name.
        found: None where the release does not have it; the reason where it is broken.
    """

    stored: StoredClass
    beside: Mapping[str, StoredClass]
    found: ReleaseClass | NotReadable | None


def judge(stored: Sequence[StoredClass], release: Release) -> tuple[Verdict, ...]:
    """Answers for each stored class what becomes of it in the release, in the same order.

    Args:
        stored: the classes of one stored session (or one value), as `read_stream` answers them.
            Together, because whether a class that is gone does harm depends on where its objects
            lie.
        release: the classes of the release that shall read it.
    """
    beside = {each.name: each for each in stored}
    cases = [_Case(each, beside, _found(each, release)) for each in stored]
    dropped = {case.stored.name: _dropped(case, release) for case in cases}
    needed = _needed(stored, dropped)
    return tuple(_verdict(case, release, needed=case.stored.name in needed) for case in cases)


def _found(stored: StoredClass, release: Release) -> ReleaseClass | NotReadable | None:
    """Answers what the release has under this name, or why that is not known."""
    try:
        return release_class(stored.name, release)
    except NotReadable as error:
        return error


def _verdict(case: _Case, release: Release, *, needed: bool) -> Verdict:
    """Answers the verdict for one class."""
    stored, found = case.stored, case.found
    try:
        findings = sorted(_findings(case, release, needed=needed), key=severity, reverse=True)
    except NotReadable as error:
        findings = [Finding(Fate.UNKNOWN, str(error))]
    known = found if isinstance(found, ReleaseClass) else None
    fields = (known.fields or ()) if known is not None else ()
    names = {field.name for field in stored.fields}
    reads_fields = known is not None and stored.kind is Kind.SERIALIZABLE
    return Verdict(
        stored.name,
        worst(finding.fate for finding in findings),
        tuple(dict.fromkeys(finding.reason for finding in findings if finding.reason)),
        stored.uid,
        known.version.uid if known is not None else None,
        tuple(field for field in stored.fields if field.name in _dropped(case, release)),
        tuple(field for field in fields if field.name not in names) if reads_fields else (),
    )


def _dropped(case: _Case, release: Release) -> frozenset[str]:
    """Answers the fields whose data the release does not read."""
    stored, found = case.stored, case.found
    if found is None and not release.is_given(stored.name):
        return frozenset(field.name for field in stored.fields)
    if not isinstance(found, ReleaseClass) or found.fields is None:
        return frozenset()
    kept = {field.name for field in found.fields}
    return frozenset(field.name for field in stored.fields if field.name not in kept)


def _needed(stored: Sequence[StoredClass], dropped: Mapping[str, frozenset[str]]) -> frozenset[str]:
    """Answers the classes of which a part is read into something that is kept.

    A class is needed where an object of it lies at the top, in a field that is kept of a class
    that is needed, or by hand in one; and every class above one that is needed is so too.
    """
    needed: set[str] = set()
    while True:
        more = {
            each.name
            for each in stored
            for place in each.places
            if place.holder == ROOT
            or place.holder not in dropped
            or (place.holder in needed and place.field not in dropped[place.holder])
        }
        more |= {each.super_name for each in stored if each.name in needed | more}
        if more <= needed:
            return frozenset(needed)
        needed |= more


# The findings about one class


def _findings(case: _Case, release: Release, *, needed: bool) -> Iterator[Finding]:
    """Answers all that can be said of one class."""
    stored, found = case.stored, case.found
    if stored.name == _LAMBDA:
        yield Finding(Fate.UNKNOWN, "a lambda: whether it can be made again is known to code alone")
    elif stored.kind is Kind.ARRAY:
        yield from _of_array(stored, release, needed=needed)
    elif stored.kind is Kind.PROXY:
        for name in stored.interfaces:
            yield from _there(name, release, needed=needed)
    elif isinstance(found, NotReadable):
        yield Finding(Fate.UNKNOWN, f"the release has `{stored.name}`, but broken: {found}")
    elif found is None and not stored.places and not release.is_given(stored.name):
        yield from _gone_above(stored, release)
    elif found is None:
        yield from _there(stored.name, release, needed=needed)
    else:
        yield from _of_class(case, found, release)


def _of_array(stored: StoredClass, release: Release, *, needed: bool) -> Iterator[Finding]:
    """Answers for an array: the class of its elements must be there, and nothing is compared."""
    element = stored.name.lstrip("[")
    if element.startswith("L"):
        yield from _there(class_of(element), release, needed=needed)
    else:
        yield Finding(Fate.GIVEN, "")


def _there(name: str, release: Release, *, needed: bool) -> Iterator[Finding]:
    """Answers for a class of which only its being there matters."""
    if release.find(name) is not None:
        return
    if release.is_given(name):
        yield Finding(Fate.GIVEN, "")
    elif release.unread:
        unread = ", ".join(release.unread)
        yield Finding(Fate.UNKNOWN, f"`{name}` was not found, and these were not read: {unread}")
    elif MADE_WHILE_RUNNING.search(name):
        yield Finding(Fate.UNKNOWN, f"`{name}` is made while the application runs")
    elif needed:
        yield Finding(Fate.MISSING, f"`{name}` is not in the release")
    else:
        yield Finding(
            Fate.LOSES, f"`{name}` is not in the release, nor is what its objects were kept in"
        )


def _gone_above(stored: StoredClass, release: Release) -> Iterator[Finding]:
    """Answers for a class that only stood above others and is gone: Java skips its part."""
    if release.unread:
        yield from _there(stored.name, release, needed=True)
    elif stored.fields or stored.by_hand:
        yield Finding(Fate.LOSES, f"`{stored.name}` is gone, and what it held with it")


def _of_class(case: _Case, found: ReleaseClass, release: Release) -> Iterator[Finding]:
    """Answers for a class that the release has."""
    stored = case.stored
    nature = _WRITTEN_AS[stored.kind] if found.nature is Nature.UNKNOWN else found.nature
    yield from _line_findings(case, found, release)
    if Nature.ENUM in {nature, _WRITTEN_AS[stored.kind]}:
        yield from _of_enum(stored, found, nature)
        return
    was, is_now = stored.kind is not Kind.PLAIN, nature is not Nature.PLAIN
    if was == is_now:
        if not found.file.is_record:
            yield from _of_version(stored, found)
        if was and _WRITTEN_AS[stored.kind] is not nature:
            yield Finding(Fate.DIFFERS, f"was {stored.kind.value}, is {nature.value}")
    elif stored.has_objects:
        yield Finding(Fate.DIFFERS, f"was {stored.kind.value}, is {nature.value}")
    elif was and (stored.fields or stored.by_hand):
        yield Finding(Fate.LOSES, f"`{stored.name}` is not Serializable any more: its part is lost")
    if stored.has_objects:
        yield from _of_making(found, release)
    if nature is Nature.SERIALIZABLE and stored.kind is Kind.SERIALIZABLE:
        yield from _of_fields(stored, found, release)


def _line_findings(case: _Case, found: ReleaseClass, release: Release) -> Iterator[Finding]:
    """Answers for the classes above: what the session has of one that is no longer there."""
    ends_in = found.line_ends_in
    if ends_in and not release.is_given(ends_in):
        yield Finding(Fate.UNKNOWN, f"`{ends_in}`, which it extends, is not in the release")
        return
    above, steps = case.stored.super_name, 0
    while above and steps < _ANCESTORS_MAX:
        stored = case.beside.get(above)
        held = stored is None or stored.fields or stored.by_hand
        if held and above not in found.line and not (ends_in and release.is_given(above)):
            reason = f"does not extend `{above}` any more: what that held is dropped"
            yield Finding(Fate.LOSES, reason)
        above, steps = stored.super_name if stored is not None else "", steps + 1


def _of_enum(stored: StoredClass, found: ReleaseClass, nature: Nature) -> Iterator[Finding]:
    """Answers for an enum: its constants are found by their names."""
    if _WRITTEN_AS[stored.kind] is not nature:
        yield Finding(Fate.DIFFERS, f"was {stored.kind.value}, is {nature.value}")
        return
    gone = [name for name in stored.constants if name not in found.constants]
    if gone:
        names = ", ".join(f"`{name}`" for name in gone)
        yield Finding(Fate.DIFFERS, f"the enum has no {names} any more")


def _of_version(stored: StoredClass, found: ReleaseClass) -> Iterator[Finding]:
    """Answers what the two serialVersionUIDs say."""
    version = found.version
    if version.uid is None:
        yield Finding(Fate.UNKNOWN, version.why_not)
    elif version.uid != stored.uid:
        now = f"the release declares {version.uid}"
        if not version.declared:
            now = f"the release declares none, which makes it {version.uid}"
        advice = f"to be read, the class has to declare {stored.uid}L"
        reason = f"serialVersionUID is {stored.uid} in the session; {now}; {advice}"
        yield Finding(Fate.DIFFERS, reason)


def _of_making(found: ReleaseClass, release: Release) -> Iterator[Finding]:
    """Answers whether Java could make an object of the class at all."""
    if found.file.access & (Access.ABSTRACT | Access.INTERFACE):
        yield Finding(Fate.DIFFERS, "is abstract now: no object of it can be made")
    elif not found.file.is_record:
        without = missing_constructor(found, release)
        if without:
            reason = f"`{without}` has no constructor without arguments that Java could call"
            yield Finding(Fate.DIFFERS, reason)


def _of_fields(stored: StoredClass, found: ReleaseClass, release: Release) -> Iterator[Finding]:
    """Answers for what the session holds of each field."""
    if found.fields is None:
        yield Finding(Fate.UNKNOWN, "its code decides which fields are read")
        return
    if stored.by_hand and not found.has_method("readObject", "(Ljava/io/ObjectInputStream;)V"):
        yield Finding(Fate.LOSES, "what its `writeObject` added is not read")
    now = {field.name: field for field in found.fields}
    for was in stored.fields:
        field = now.get(was.name)
        if field is None:
            yield Finding(Fate.LOSES, f"the data of its field `{was.name}` is dropped")
        elif field.descriptor != was.descriptor:
            yield from _of_types(was, field, release)


def _of_types(was: StoredField, field: StoredField, release: Release) -> Iterator[Finding]:
    """Answers for a field whose type changed."""
    change = f"its field `{was.name}` was `{was.java_type}`, is `{field.java_type}`"
    if was.is_primitive or field.is_primitive:
        yield Finding(Fate.DIFFERS, change)
    elif not can_hold(field.descriptor, was.descriptor, release):
        yield Finding(Fate.MAY_FAIL, f"{change}: it depends on what lies there")
