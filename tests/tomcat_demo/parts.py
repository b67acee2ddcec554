"""What `make demo-tomcat` is made of on this machine: looked for and fetched, nothing started."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from rolling_deploy.demo.free_ports import is_free
from rolling_deploy.demo.servers import Servers
from rolling_deploy.errors import PreflightRefused, UsageWrong
from tests.session_manager import CACHE, SESSION_MANAGER, NotHere, kept_path, session_manager_jars
from tests.strategies_fixture import TOMCAT_HOME
from tests.tomcat_fleet import TomcatFleet

USUAL_PORTS = (8080, 8081)
MISSING_NEXT = "make servers (Debian, as root; it starts none)"


def parts() -> tuple[Servers, list[Path]]:
    """Answers the servers and the session manager's jars; looks and fetches, starts nothing.

    Raises:
        UsageWrong: something is missing; the text says all that is, and what brings it.
    """
    lacks = []
    if not (TOMCAT_HOME / "bin" / "catalina.sh").exists():
        lacks.append(f"Tomcat 10 in `{TOMCAT_HOME}`")
    lacks += [program for program in ("java", "javac") if shutil.which(program) is None]
    servers = None
    try:
        servers = Servers.find()
    except PreflightRefused as refused:
        lacks.append(refused.what)
    if not all(kept_path(jar).exists() for jar in SESSION_MANAGER):
        if shutil.which("mvn") is None:
            lacks.append("mvn, which fetches the session manager once")
        elif not lacks:
            say(f"fetching Redisson's session manager from Maven Central, once, into `{CACHE}`")
    if lacks or servers is None:
        raise UsageWrong(f"missing on this machine: {'; '.join(lacks)}", next_step=MISSING_NEXT)
    try:
        return servers, session_manager_jars()
    except (NotHere, AssertionError) as problem:
        raise UsageWrong(
            f"the session manager's jars cannot be had: {problem}",
            next_step="run this again where Maven Central is reached; they are kept afterwards",
        ) from problem


def tomcat_ports() -> tuple[int | None, int | None]:
    """Answers the usual ports, or free ones where something else listens there."""
    taken = [port for port in USUAL_PORTS if not is_free(port)]
    if not taken:
        return USUAL_PORTS
    said = " and ".join(map(str, taken))
    say(f"{said} taken on this machine: the Tomcats get free ports instead")
    return None, None


def describe(fleet: TomcatFleet) -> list[str]:
    """Answers the lines that say what runs where."""
    manager = ", ".join(jar.name for jar in fleet.jars)
    return [
        *fleet.servers.describe(),
        f"load balancer lb1 at {fleet.balancers[0].url}: round robin, no stickiness",
        *(f"{node.name} at localhost:{node.tomcat.port}, {TOMCAT_HOME}" for node in fleet.nodes),
        f"sessions in Redis at localhost:{fleet.redis_port} by {manager}",
        f"everything in {fleet.directory}",
    ]


def say(text: str) -> None:
    """Tell a person something beside the data."""
    print(text, file=sys.stderr, flush=True)
