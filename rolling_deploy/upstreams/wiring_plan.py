"""What goes into a plan of edits of nginx's files, and what comes out of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rolling_deploy.settings import (
    BackendSettings,
    LoadBalancerSettings,
    LocationSettings,
    UpstreamSettings,
)
from rolling_deploy.upstreams.merge import addresses_of
from rolling_deploy.upstreams.wiring_ways import Refusal

ABSENT = "absent"
"""In place of a digest: there is no such file."""


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """One file as it lies on the load balancer.

    Attributes:
        real: where its path leads; the same for two names of one file.
        data: None when there is none.
    """

    path: str
    real: str
    data: bytes | None


@dataclass(frozen=True, slots=True)
class FileEdit:
    """One file to write.

    Attributes:
        old: sha256 of the bytes it has, or `absent`.
        before: those bytes, for showing the difference.
    """

    path: str
    old: str
    new: bytes
    before: bytes


@dataclass(frozen=True, slots=True)
class FilesPlan:
    """What has to be done to nginx's files.

    Attributes:
        missing: what is missing and what is done for it, a sentence each.
        refused: what stands in the way; then there are no edits.
        edits: files that nothing of the configuration needs yet come first.
        spreads: requests that went to one backend alone will go to all of an upstream.
    """

    missing: tuple[str, ...] = ()
    refused: tuple[Refusal, ...] = ()
    edits: tuple[FileEdit, ...] = ()
    spreads: bool = False


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the inventory wants of one load balancer.

    Attributes:
        leads_to: where the managed file's path leads when it is a link, or empty.
    """

    application: str
    balancer: LoadBalancerSettings
    upstreams: Mapping[str, UpstreamSettings]
    backends: Mapping[str, BackendSettings]
    locations: Sequence[LocationSettings] = ()
    leads_to: str = ""

    @property
    def managed(self) -> tuple[str, ...]:
        """Answers every path of the managed file that is known."""
        file = self.balancer.file
        return (file, self.leads_to) if self.leads_to else (file,)

    @property
    def addresses(self) -> frozenset[str]:
        """Answers the addresses of all backends."""
        return frozenset(a for each in addresses_of(self.backends).values() for a in each)
