"""What a Tomcat's `server.xml` says about stopping and deploying, as lines of a preflight."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterable

from rolling_deploy.remote.service_checks import Lines
from rolling_deploy.rollout.observed import Check


def graceful_lines(lines: Lines, server_xml: str, port: int) -> Iterable[Check]:
    """Answers the lines for a graceful stop, automatic deployment, and where applications lie.

    By default Tomcat cuts requests in flight when it stops and accepts connections seconds
    before it answers them; after a proven drain that costs no user anything, but a request from
    elsewhere (monitoring, a colleague) is lost.
    """
    if not server_xml:
        yield lines.not_checked("graceful stop", "`conf/server.xml` cannot be read there")
        return
    try:
        # As bytes: the file says itself how they are to be read, and need not be UTF-8.
        content = server_xml.encode("utf-8", "surrogateescape")
        root = ET.fromstring(content)  # noqa: S314 # expat bounds what entities may grow to
    except (ET.ParseError, ValueError, LookupError) as error:
        yield lines.not_checked("graceful stop", f"`conf/server.xml` is not understood: {error}")
        return
    yield _graceful_line(lines, root, port)
    yield from _host_lines(lines, root)


def _graceful_line(lines: Lines, root: ET.Element, port: int) -> Check:
    for service in root.iter("Service"):
        for connector in service.iter("Connector"):
            if connector.get("port") != str(port):
                continue
            missing = []
            if not service.get("gracefulStopAwaitMillis"):
                missing.append("`gracefulStopAwaitMillis` on the Service")
            if connector.get("bindOnInit", "true") != "false":
                missing.append('`bindOnInit="false"` on the Connector')
            if missing:
                return lines.warning("graceful stop", f"{' and '.join(missing)} should be set")
            return lines.ok("graceful stop")
    return lines.not_checked("graceful stop", f"no Connector with port {port} in `server.xml`")


def _host_lines(lines: Lines, root: ET.Element) -> Iterable[Check]:
    for engine in root.iter("Engine"):
        wanted = engine.get("defaultHost")
        for host in engine.iter("Host"):
            if host.get("name") != wanted:
                continue
            base = host.get("appBase", "webapps")
            if base != "webapps":
                detail = f"appBase should be `webapps`, is `{base}`: the WAR would not be seen"
                yield lines.refused("app base", detail)
            if host.get("autoDeploy", "true") != "false":
                detail = "on: whatever else is put into `webapps` goes live by itself"
                yield lines.warning("autoDeploy", detail)
