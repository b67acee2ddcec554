"""A configuration file as it may be shown: without the secrets that people keep in there."""

from __future__ import annotations

import re
from collections.abc import Iterable

MASK = "***"
SHORT = 6
"""A secret of fewer letters may be a part of any word: masked wherever it stands it would make the
text unreadable, and tell itself. It is masked by its place only."""
_TOLD_BY_NAME = r"[\w.-]*(?:pass|pwd|secret|token|credential)[\w.-]*"
_USER_INFO = re.compile(r"(\w://)[^\s/@\"']+@")

_IN_QUERY = re.compile(rf"""([?&;]{_TOLD_BY_NAME}=)[^\s&;"'<>]+""", re.IGNORECASE)
_DIRECTIVE = re.compile(
    r"(\b(?:proxy_set_header|add_header|set)[ \t]+\S*"
    r"(?:authorization|cookie|token|secret|key|pass|pwd)\S*[ \t]+"
    r"|\b(?:secure_link_md5|secure_link_secret|\w+_password)[ \t]+)"
    r"(?!\$\w+[ \t]*;)[^;\n]+",
    re.IGNORECASE,
)


def masked_directives(text: str) -> str:
    """Answers a text of nginx's configuration without what directives are told in secret."""
    return _USER_INFO.sub(rf"\1{MASK}@", _DIRECTIVE.sub(rf"\1{MASK}", text))


def masked(text: str, secrets: Iterable[str] = (), names: Iterable[str] = ()) -> str:
    """Answers the text without these secrets, and without what a name says to be secret.

    Args:
        secrets: values, wherever they stand, unless they are short.
        names: of further attributes and keys whose values are secret, short ones too.
    """
    for secret in sorted((one for one in secrets if len(one) >= SHORT), key=len, reverse=True):
        text = text.replace(secret, MASK)
    any_name = "|".join([_TOLD_BY_NAME, *map(re.escape, names)])
    attribute = rf"""((?<![\w.-])(?:{any_name})\s*=\s*)("[^"]*"|'[^']*')"""
    text = re.sub(attribute, rf'\1"{MASK}"', text, flags=re.IGNORECASE)
    key = rf"""^([ \t]*(?:-[ \t]+)?["']?(?:{any_name})["']?[ \t]*:)[ \t]*\S[^\r\n]*"""
    text = re.sub(key, rf'\1 "{MASK}"', text, flags=re.IGNORECASE | re.MULTILINE)
    return _USER_INFO.sub(rf"\1{MASK}@", _IN_QUERY.sub(rf"\1{MASK}", text))
