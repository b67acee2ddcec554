"""One value out of a session store: which form it is in, and which classes it names."""

from __future__ import annotations

import enum
import json
from collections.abc import Sequence
from dataclasses import dataclass

from rolling_deploy.serialization.java_types import MADE_WHILE_RUNNING
from rolling_deploy.serialization.kryo import class_names, looks_like_kryo
from rolling_deploy.serialization.not_readable import NotReadable
from rolling_deploy.serialization.release_class import Release
from rolling_deploy.serialization.stored import StoredClass
from rolling_deploy.serialization.stream import MAGIC, read_stream
from rolling_deploy.serialization.verdict import Fate, Verdict

_JSON_BEGINS = frozenset(b'{["-0123456789tfn')
_JSON_BYTES_MAX = 16 << 20
_PLACEHOLDER = b"null"


class Form(enum.Enum):
    """The forms that are told apart."""

    JAVA = "Java object stream"
    KRYO = "Kryo"
    JSON = "JSON"
    PLACEHOLDER = "the placeholder `null`"
    """What com.orangefunction's manager leaves where a session is being made."""
    UNKNOWN = "not known"


@dataclass(frozen=True, slots=True)
class StoredValue:
    """What one value says about classes.

    Attributes:
        classes: of a Java object stream.
        names: of Kryo: the names of classes that were recognised, nothing more.
    """

    form: Form
    classes: tuple[StoredClass, ...] = ()
    names: tuple[str, ...] = ()


def form_of(data: bytes) -> Form:
    """Answers which form a value is in. Any bytes have an answer."""
    if data.startswith(MAGIC):
        return Form.JAVA
    if data == _PLACEHOLDER:
        return Form.PLACEHOLDER
    if looks_like_kryo(data):
        return Form.KRYO
    return Form.JSON if _is_json(data) else Form.UNKNOWN


def read_value(data: bytes) -> StoredValue:
    """Answers what one value says about classes.

    Raises:
        NotReadable: it begins as a Java object stream and goes on as none.
    """
    form = form_of(data)
    if form is Form.JAVA:
        return StoredValue(form, read_stream(data))
    if form is Form.KRYO:
        return StoredValue(form, names=class_names(data))
    return StoredValue(form)


def judge_names(names: Sequence[str], release: Release) -> tuple[Verdict, ...]:
    """Answers for classes known by name only (Kryo) whether the release has them, in this order.

    Whether their fields still fit cannot be told from the value, and is not guessed.
    """
    return tuple(_judged(name, release) for name in names)


def _judged(name: str, release: Release) -> Verdict:
    """Answers for one name."""
    try:
        found = release.find(name) is not None
    except NotReadable as error:
        return Verdict(name, Fate.UNKNOWN, (f"the release has `{name}`, but broken: {error}",))
    if found:
        reason = "is in the release; Kryo does not store its fields' names, so whether they fit "
        return Verdict(name, Fate.UNKNOWN, (reason + "is not known",))
    if release.is_given(name):
        return Verdict(name, Fate.GIVEN)
    if release.unread:
        unread = ", ".join(release.unread)
        reason = f"`{name}` was not found, and these were not read: {unread}"
        return Verdict(name, Fate.UNKNOWN, (reason,))
    if MADE_WHILE_RUNNING.search(name):
        reason = f"`{name}` is made while the application runs"
        return Verdict(name, Fate.UNKNOWN, (reason,))
    reason = f"`{name}` looks like a class of the session, and the release has none of this name"
    return Verdict(name, Fate.MAY_FAIL, (reason,))


def _is_json(data: bytes) -> bool:
    """Answers whether all of it is one JSON value."""
    if not data or data[0] not in _JSON_BEGINS or len(data) > _JSON_BYTES_MAX:
        return False
    try:
        json.loads(data)
    except (ValueError, RecursionError):
        return False
    return True
