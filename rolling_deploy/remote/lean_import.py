"""Importing a third party without a part of it that is optional there and heavy."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import cast


@contextmanager
def left_out(module: str) -> Iterator[None]:
    """Let this module look as if it were not installed, for as long as something is imported.

    Whoever imports it later gets it. Without effect when it is there already.
    """
    modules = cast("dict[str, ModuleType | None]", sys.modules)
    is_new = module not in modules
    if is_new:
        modules[module] = None  # Python's own way to say so; an import of it fails.
    try:
        yield
    finally:
        if is_new:
            del modules[module]
