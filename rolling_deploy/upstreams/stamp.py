"""Looking at a managed file: is it ours, is it as we wrote it, what does it keep out."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from rolling_deploy.rollout.observed import ManagedFile, Stamp
from rolling_deploy.upstreams import stamp_lines
from rolling_deploy.upstreams.addresses import Owners
from rolling_deploy.upstreams.endpoint import FIRST_COMMENT, generations_in, neutral
from rolling_deploy.upstreams.layout import Layout, ServerLine
from rolling_deploy.upstreams.reading import FileNotUnderstood, NotOnlyUpstreams, read_layout
from rolling_deploy.upstreams.render import digest_of_body


def inspect(
    content: bytes | str, application: str, addresses: Mapping[str, Collection[str]]
) -> ManagedFile:
    """Answers what an upstream file on a load balancer is. Never fails, whatever is in it.

    Intact means: the stamp is whole, of this application, its digest is that of the body, and the
    endpoint says the stamp's generation. The digest leaves out the stamp and the generation's
    value, so that the same upstreams have the same digest under every rollout.

    Args:
        addresses: every address of each backend (`merge.addresses_of`), to tell who is down. A
            backend without any line counts as down: nothing is sent to it.
    """
    raw = content if isinstance(content, bytes) else content.encode("utf-8", "surrogateescape")
    text = raw.decode("utf-8", "surrogateescape")
    stamp, body = stamp_lines.split(text)
    return ManagedFile(
        hashlib.sha256(raw).hexdigest(),
        stamp,
        stamp is not None and _is_intact(stamp, body, application),
        _down(neutral(body), addresses),
    )


def _is_intact(stamp: Stamp, body: str, application: str) -> bool:
    return (
        stamp.application == application
        and stamp.body == digest_of_body(body)
        and generations_in(body) == (stamp.generation,)
    )


def _down(text: str, addresses: Mapping[str, Collection[str]]) -> frozenset[str]:
    """Answers which backends get nothing; none when the file cannot be read."""
    try:
        layout = read_layout(text, as_it_is=True)
    except (FileNotUnderstood, NotOnlyUpstreams):
        return frozenset()
    owners = Owners(addresses)
    live = {owners.of(line.address) for line in _lines(layout) if not line.is_down}
    return frozenset(addresses) - live


@dataclass(frozen=True, slots=True)
class ParkingEdit:
    """A hand edit that did nothing but set or remove `down` on server lines.

    Attributes:
        parked, unparked: backends, or the address where a line is no backend's.
    """

    parked: frozenset[str]
    unparked: frozenset[str]


def parking_edit(
    text: str, rendered: str, addresses: Mapping[str, Collection[str]]
) -> ParkingEdit | None:
    """Answers who was parked or put back by hand, or None when something else was edited too.

    Args:
        rendered: the file as we wrote it, from the frozen inputs and the stamp's `out`.
    """
    try:
        now, ours = (read_layout(each, as_it_is=True) for each in (text, rendered))
    except (FileNotUnderstood, NotOnlyUpstreams):
        return None
    if _ours(text) != _ours(rendered):
        return None
    if _without_down(now) != _without_down(ours):
        return None
    owners = Owners(addresses)
    parked: set[str] = set()
    unparked: set[str] = set()
    for line, before in zip(_lines(now), _lines(ours), strict=True):
        if line.is_down != before.is_down:
            (parked if line.is_down else unparked).add(owners.of(line.address) or line.address)
    return ParkingEdit(frozenset(parked), frozenset(unparked))


def _ours(text: str) -> tuple[Stamp | None, str]:
    """Answers the parts of a file that are ours alone: the stamp and the endpoint."""
    stamp, body = stamp_lines.split(text)
    return stamp, body.partition(FIRST_COMMENT)[2]


def _lines(layout: Layout) -> list[ServerLine]:
    return [line for upstream in layout.upstreams for line in upstream.servers]


def _without_down(layout: Layout) -> Layout:
    upstreams = tuple(
        upstream.with_servers([replace(line, is_down=False) for line in upstream.servers])
        for upstream in layout.upstreams
    )
    return replace(layout, upstreams=upstreams)
