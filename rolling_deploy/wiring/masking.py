"""A configuration file as it may be shown: without the secrets that people keep in there."""

from __future__ import annotations

import re
from collections.abc import Iterable

MASK = "***"
_TOLD_BY_NAME = r"[\w.-]*(?:pass|pwd|secret|token|credential)[\w.-]*"
_USER_INFO = re.compile(r"(\w://)[^\s/@\"']+@")


def masked(text: str, secrets: Iterable[str] = (), names: Iterable[str] = ()) -> str:
    """Answers the text without these secrets, and without what a name says to be secret.

    Args:
        secrets: values, wherever they stand.
        names: of further attributes and keys whose values are secret.
    """
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        text = text.replace(secret, MASK)
    any_name = "|".join([_TOLD_BY_NAME, *map(re.escape, names)])
    attribute = rf"""((?<![\w.-])(?:{any_name})\s*=\s*)("[^"]*"|'[^']*')"""
    text = re.sub(attribute, rf'\1"{MASK}"', text, flags=re.IGNORECASE)
    key = rf"""^([ \t]*(?:-[ \t]+)?["']?(?:{any_name})["']?[ \t]*:)[ \t]*\S[^\r\n]*"""
    text = re.sub(key, rf'\1 "{MASK}"', text, flags=re.IGNORECASE | re.MULTILINE)
    return _USER_INFO.sub(rf"\1{MASK}@", text)
