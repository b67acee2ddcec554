"""`--every` is the long form of the rigs (`make rig`); what only it runs is skipped and told."""

from __future__ import annotations

import pytest

from rolling_deploy.demo.servers import Servers
from rolling_deploy.errors import PreflightRefused
from tests.fleet_rig.namespaces import why_not


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--every`."""
    parser.addoption(
        "--every",
        action="store_true",
        help="rig: at every record and before every remote command, not once for each kind",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip what belongs to the long form, and what machines of their own try already."""
    if config.getoption("--every"):
        return
    for item in items:
        if item.get_closest_marker("every"):
            item.add_marker(pytest.mark.skip(reason="the long form: make rig"))
    twins = [item for item in items if item.get_closest_marker("loopback")]
    if twins and _has_namespaces():
        reason = "tests/fleet_rig does the same on machines of their own; here in make rig"
        for item in twins:
            item.add_marker(pytest.mark.skip(reason=reason))


def _has_namespaces() -> bool:
    """Answers whether the rig of machines of their own runs here."""
    try:
        return not why_not() and Servers.find().is_real
    except PreflightRefused:
        return False
