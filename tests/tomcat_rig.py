"""A rig on two Tomcats, and what such a fleet is made of on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest

from rolling_deploy.demo.fleet import DemoFleet
from rolling_deploy.demo.servers import Servers
from rolling_deploy.errors import PreflightRefused
from tests.rig_tools import Rig
from tests.session_manager import NotHere, session_manager_jars
from tests.strategies_fixture import why_no_tomcat
from tests.tomcat_fleet import TomcatFleet


class TomcatRig(Rig):
    """A rig on two Tomcats. Of a fleet it uses nothing that this one has not, but the release."""

    def __init__(self, fleet: TomcatFleet) -> None:
        super().__init__(cast("DemoFleet", fleet), fleet.directory / "states")
        self.tomcats = fleet

    def release_on(self, backend: str) -> str:
        """Answers the release whose WAR lies in a Tomcat's `webapps`."""
        return self.tomcats.release_of(backend)


def servers_and_jars() -> tuple[Servers, list[Path]]:
    """Answers what a fleet is made of; skips the test, saying why, where it cannot be had."""
    if lacking := why_no_tomcat():
        pytest.skip(lacking)
    try:
        return Servers.find(), session_manager_jars()
    except PreflightRefused as refused:
        pytest.skip(f"{refused.what}; {refused.next_step}")
    except NotHere as lacks:
        pytest.skip(f"no session manager for Tomcat: {lacks}")
