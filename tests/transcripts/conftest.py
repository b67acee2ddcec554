"""`pytest tests/transcripts --rewrite` writes what happens now into the stories."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--rewrite`."""
    parser.addoption(
        "--rewrite", action="store_true", help="rewrite the transcripts; read the difference"
    )
