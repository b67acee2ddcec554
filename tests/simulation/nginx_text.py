"""What a managed file makes nginx do, read without the production code, and how people edit it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

_UPSTREAM = re.compile(r"^upstream (\S+) \{\n(.*?)^\}", re.MULTILINE | re.DOTALL)
_SERVER = re.compile(r"^\s*server (\S+?)(\s[^;]*)?;", re.MULTILINE)
_GENERATION = re.compile(r'return 200 "([^"]*)"')

Sends = Mapping[str, frozenset[str]]
"""Addresses that each upstream sends to."""


@lru_cache(maxsize=4096)
def sends_of(text: str) -> Sends:
    """Answers whom nginx sends to once it has loaded this text."""
    return {
        name: frozenset(
            address
            for address, parameters in _SERVER.findall(block)
            if "down" not in parameters.split()
        )
        for name, block in _UPSTREAM.findall(text)
    }


@lru_cache(maxsize=4096)
def generation_of(text: str) -> str | None:
    """Answers what the generation endpoint says once nginx has loaded this text."""
    found = _GENERATION.search(text)
    return found.group(1) if found else None


def parked(text: str, address: str) -> str:
    """Answers the text with `down` on every line of this address."""
    return re.sub(rf"(server {re.escape(address)}(?![^;]*\bdown\b)[^;]*);", r"\1 down;", text)


def put_in(text: str, address: str) -> str:
    """Answers the text without `down` on any line of this address."""
    return re.sub(rf"(server {re.escape(address)}[^;]*?) down\b([^;]*;)", r"\1\2", text)


def remarked(text: str) -> str:
    """Answers the text with one more remark at its end."""
    return f"{text}# looked at\n"
