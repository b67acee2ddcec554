"""The settings of a graceful stop in a `server.xml`: attributes only.

With `gracefulStopAwaitMillis` a Service waits for requests in flight when it stops, but only on
connectors with `bindOnInit="false"` is the port closed to new ones meanwhile, and opened only once
the applications answer. One without the other is half of it.
"""

from __future__ import annotations

from collections.abc import Collection

from rolling_deploy.wiring.xml_edit import Document, Edit, Element, NotMergeable, Span, apply, parse

SERVICE_ATTRIBUTE = "gracefulStopAwaitMillis"
CONNECTOR_ATTRIBUTE = "bindOnInit"


def merge_server(content: bytes, ports: Collection[int], graceful_stop_ms: int | None) -> bytes:
    """Answers the file with a graceful stop for every Service that listens on one of the ports.

    Args:
        graceful_stop_ms: None for a Tomcat that does not know the Service's attribute, which is
            left as it is then.

    Raises:
        NotMergeable: it is no `server.xml` that can be edited, or nothing in it listens there.
    """
    document = parse(content)
    if document.root.name != "Server":
        reason = f"the root should be `Server`, is `{document.root.name}`"
        raise NotMergeable(reason, document.root.line)
    wanted_ports = {str(port) for port in ports}
    edits: list[Edit] = []
    for service in document.root.every("Service"):
        ours = [
            connector
            for connector in service.every("Connector")
            if connector.attributes.get("port") in wanted_ports
        ]
        if not ours:
            continue
        if graceful_stop_ms is not None:
            edits += _set(document, service, SERVICE_ATTRIBUTE, str(graceful_stop_ms))
        for connector in ours:
            edits += _set(document, connector, CONNECTOR_ATTRIBUTE, "false")
    if not _ports_of(document) & wanted_ports:
        raise _nothing_listens(document, wanted_ports)
    return apply(content, edits)


def _ports_of(document: Document) -> set[str]:
    services = document.root.every("Service")
    return {
        connector.attributes.get("port", "")
        for service in services
        for connector in service.every("Connector")
    }


def _nothing_listens(document: Document, ports: Collection[str]) -> NotMergeable:
    shown = " or ".join(sorted(ports, key=int))
    written = ", ".join(f"`{port[:50]}`" for port in sorted(_ports_of(document)) if port)
    has = f"has {written}" if written else "has none"
    return NotMergeable(f"a Connector should have port {shown}; the file {has}")


def _set(document: Document, element: Element, name: str, value: str) -> list[Edit]:
    if element.attributes.get(name) == value:
        return []
    if name in element.values:
        return [Edit(element.values[name], document.encoded(value))]
    at = element.attributes_end
    return [Edit(Span(at, at), document.encoded(f' {name}="{value}"'))]
