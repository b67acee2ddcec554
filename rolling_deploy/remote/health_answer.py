"""What one answer of a backend says: is it good, and which version served it. Pure."""

from __future__ import annotations

import base64
import json
import re
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rolling_deploy.remote.cookies import take_in

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rolling_deploy.remote.http import HttpAnswer
    from rolling_deploy.settings import HealthSettings, VersionSource

BODY_SHOWN_MAX = 200
BODY_LOOKED_AT = 16_384
"""Bytes of a body out of which the shown characters are taken."""
VERSION_MAX = 200
STATUS_OK_MIN, STATUS_OK_MAX = 200, 299


@dataclass(frozen=True, slots=True)
class Judged:
    """One question and what came of it.

    Attributes:
        version: what the answer says it serves; None when it says nothing, or is not asked.
        detail: the answer, for a person, safe to print.
        cookies: names of the cookies that the answers set.
    """

    is_good: bool
    version: str | None
    detail: str
    cookies: frozenset[str] = frozenset()


def visible(text: str | bytes, limit: int = BODY_SHOWN_MAX) -> str:
    r"""Answers the text on one line, with everything a terminal would act on spelled out.

    Runs of white space become one space; control characters, escapes and characters that turn
    the direction of writing appear as `\x1b`.
    """
    if isinstance(text, bytes):
        text = text[: limit * 8].decode("utf-8", "replace")
    line = re.sub(r"[ \t\r\n]+", " ", text).strip()
    shown = "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii")
        for letter in line[:limit]
    )
    return shown if len(line) <= limit else f"{shown}..."


_SENSITIVE_HEADER = re.compile(r"auth|cookie|token|secret|key|passw|credential", re.IGNORECASE)
_SHORT = 6
"""A shorter value of a header that is not sensitive by its name is no secret, and may be a word."""


def sent_secrets(headers: Mapping[str, str]) -> tuple[str, ...]:
    """Answers what of the configured headers must never be repeated to anybody, longest first.

    That is each value, its words (a token after `Bearer`, the values of cookies), and the name and
    password in `Basic`.
    """
    found: set[str] = set()
    for name, value in headers.items():
        is_sensitive = _SENSITIVE_HEADER.search(name) is not None
        words = (
            [value.strip(), *re.split(r"[\s;,=\"]+", value)] if is_sensitive else [value.strip()]
        )
        scheme, _, rest = value.strip().partition(" ")
        if scheme.lower() == "basic":
            with suppress(ValueError):
                plain = base64.b64decode(rest, validate=True).decode("utf-8", "replace")
                words += [plain, plain.partition(":")[2]]
        least = 3 if is_sensitive else _SHORT
        found.update(w for w in words if len(w) >= least and w.lower() not in _SCHEMES)
    return tuple(sorted(found, key=len, reverse=True))


_SCHEMES = frozenset({"basic", "bearer", "digest", "token", "apikey"})
HIDDEN = "(hidden)"


def without(secrets: Sequence[str], text: str) -> str:
    """Answers the text with every secret hidden, should a server ever repeat it."""
    for secret in secrets:
        text = text.replace(secret, HIDDEN)
    return text


def judge(
    settings: HealthSettings,
    answer: HttpAnswer,
    version_answer: HttpAnswer | None,
    wanted_version: str | None,
) -> Judged:
    """Answers whether the backend is good by this answer.

    Args:
        settings: what counts as good.
        answer: from the health path.
        version_answer: where the version is looked for; None when no source is configured.
        wanted_version: with it, only an answer of that version is good.
    """
    wrong = []
    if answer.status not in settings.status:
        wanted = " or ".join(str(status) for status in settings.status)
        wrong.append(f"status should be {wanted}, is {answer.status}")
    text = answer.body.decode("utf-8", "replace")
    if settings.content and not re.search(settings.content, text):
        wrong.append(f"the body should match `{visible(settings.content)}`, does not")
    version = None
    secrets = sent_secrets(settings.headers)
    if version_answer is not None:
        version = version_in(settings.version, version_answer)
        version = None if version is None else without(secrets, version)
        if version is not None or not wrong:
            wrong += _wrong_version(version, version_answer, wanted_version)
    shown = _shown(answer, secrets)
    cookies: dict[str, str] = {}
    for line in (*answer.set_cookies, *(version_answer.set_cookies if version_answer else ())):
        take_in(cookies, line)
    detail = "; ".join([*wrong, shown]) if wrong else shown
    return Judged(not wrong, version, detail, frozenset(cookies))


def version_in(source: VersionSource, answer: HttpAnswer) -> str | None:
    """Answers the version the answer carries, or None.

    A header counts with any status; a body only with a 2xx, so that an error page that happens
    to match is not taken for the application.
    """
    if source.header:
        found = answer.headers.get(source.header.lower())
        return _tidy(found)
    if not STATUS_OK_MIN <= answer.status <= STATUS_OK_MAX:
        return None
    text = answer.body.decode("utf-8", "replace")
    if source.json:
        return _tidy(_version_in_json(source.json, text))
    match = re.search(source.pattern, text) if source.pattern else None
    if match is None:
        return None
    return _tidy(match.group(1) if match.re.groups else match.group(0))


def _version_in_json(path: str, text: str) -> object:
    try:
        # Numbers stay as they are written: 1.10 is a version, not 1.1.
        body = json.loads(text, parse_float=str, parse_int=str)
    except (ValueError, RecursionError):
        return None
    return _at(body, path)


def _at(value: object, path: str) -> object:
    """Answers what stands at the dotted path; a key that itself holds dots is found too."""
    if not path:
        return value
    if isinstance(value, dict):
        if path in value:
            return value[path]
        key, _, rest = path.partition(".")
        return _at(value[key], rest) if rest and key in value else None
    key, _, rest = path.partition(".")
    if isinstance(value, list) and key.isdecimal() and int(key) < len(value):
        return _at(value[int(key)], rest)
    return None


def _tidy(found: object) -> str | None:
    if not isinstance(found, str) or not found.strip():
        return None
    return visible(found, VERSION_MAX)


def _wrong_version(
    version: str | None, answer: HttpAnswer, wanted_version: str | None
) -> list[str]:
    if wanted_version is None or version == wanted_version:
        return []
    if version is None:
        return [f"carries no version, should be {wanted_version} (status {answer.status})"]
    return [f"serves {version}, should be {wanted_version}"]


def _shown(answer: HttpAnswer, secrets: Sequence[str]) -> str:
    # Hidden before it is cut: a part of a secret is too much as well.
    text = without(secrets, answer.body[:BODY_LOOKED_AT].decode("utf-8", "replace"))
    body = f"`{visible(text)}`" if answer.body else "an empty body"
    return f"{answer.status} in {answer.took_ms} ms with {body}"
