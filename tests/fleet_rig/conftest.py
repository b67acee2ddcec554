"""Both forms of the rig end with the figures."""

from __future__ import annotations

import pytest

from tests.fleet_rig.figures import Figures

FIGURES = pytest.StashKey[Figures]()


def pytest_configure(config: pytest.Config) -> None:
    """Begin the figures."""
    config.stash[FIGURES] = Figures()


@pytest.fixture(scope="session")
def figures(pytestconfig: pytest.Config) -> Figures:
    """Counts over all scenarios."""
    return pytestconfig.stash[FIGURES]


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Print the table, where anything was counted."""
    counted = config.stash[FIGURES]
    if counted.counts:
        terminalreporter.section("the rig of real machines")
        for line in counted.lines():
            terminalreporter.write_line(line)
