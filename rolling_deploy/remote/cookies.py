"""What an answer's `Set-Cookie` lines leave behind, as far as it matters to us."""

from __future__ import annotations

from contextlib import suppress
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

EPOCH_YEAR = 1970
"""A cookie is dropped by a date long gone; servers take the beginning of their time."""


def take_in(cookies: dict[str, str], line: str) -> None:
    """Keep what one `Set-Cookie` says, or drop what it drops.

    `Secure`, `Domain` and `Path` are not looked at: behind a load balancer that ends TLS we ask
    the node directly, and what a browser would send there has to arrive.
    """
    pair, *rest = line.split(";")
    name, equals, value = pair.partition("=")
    if not equals:
        return
    attributes = {
        key.strip().lower(): text.strip() for key, _, text in (one.partition("=") for one in rest)
    }
    if _is_over(attributes):
        cookies.pop(name.strip(), None)
    else:
        cookies[name.strip()] = value.strip()


def _is_over(attributes: Mapping[str, str]) -> bool:
    with suppress(ValueError):
        if "max-age" in attributes:
            return int(attributes["max-age"]) <= 0
        if "expires" in attributes:
            until = parsedate_to_datetime(attributes["expires"])
            return until.year <= EPOCH_YEAR
    return False
