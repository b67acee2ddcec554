"""A backend with what is on its disk, what its process serves, and how long it takes."""

from __future__ import annotations

from dataclasses import dataclass, field

from rolling_deploy.rollout.observed import BackendSeen, Fence, Health


def artifact_of(version: str) -> str:
    """Answers what `deployed` is called for a version."""
    return f"{version}.war"


WIRED = "wired "
"""Before what a backend runs: the same version with its wiring."""


def version_of(artifact: str) -> str:
    """Answers the version that an artifact serves."""
    return artifact.removeprefix(WIRED).removesuffix(".war")


@dataclass
class FakeBackend:
    """God's-eye truth about one backend.

    Attributes:
        version: what the process serves; None while it is stopped.
        start_ms: from the start of the process to its first good answer.
        sick_on: versions that never become healthy here.
        instead: version really served, by the version asked for (a release that lies).
        cold_on: versions whose warm-up fails here.
        forgets_on: versions that read no session of another one.
        is_version_checked: a version source is configured.
    """

    name: str
    artifact: str | None
    version: str | None
    start_ms: int = 30
    healthy_at_ms: int = 0
    is_restarted_since_swap: bool = True
    staged: set[str] = field(default_factory=set)
    is_secured: bool = True
    sick_on: set[str] = field(default_factory=set)
    instead: dict[str, str] = field(default_factory=dict)
    cold_on: set[str] = field(default_factory=set)
    forgets_on: set[str] = field(default_factory=set)
    is_version_checked: bool = True
    fence: Fence = field(default_factory=lambda: Fence(0, ""))
    is_reachable: bool = True
    busy_until_ms: int = 0
    is_connected: bool = False
    """Somebody holds a connection to its port: the machine's own guard says no."""

    def is_healthy(self, now_ms: int) -> bool:
        """Answers whether a request would get a good answer now."""
        is_up = self.version is not None and now_ms >= self.healthy_at_ms
        return is_up and self.version not in self.sick_on

    def stop(self) -> None:
        """The process is gone."""
        self.version = None

    def secure(self) -> None:
        """What is deployed lies ready to be gone back to, where that is possible at all."""
        if self.is_secured and self.artifact:
            self.staged.add(self.artifact)

    def swap(self, artifact: str) -> None:
        """The artifact lies in place; the process is not new."""
        self.artifact = artifact
        self.is_restarted_since_swap = False

    def start(self, version: str, now_ms: int) -> None:
        """A new process serves what lies in place."""
        self.version = self.instead.get(version, version)
        self.healthy_at_ms = now_ms + self.start_ms
        self.is_restarted_since_swap = True

    def look(self, now_ms: int, *, with_health: bool) -> BackendSeen:
        """Answers what a look sees."""
        good = self.is_healthy(now_ms)
        health = Health(
            good,
            self.version if self.is_version_checked and good else None,
            self.is_version_checked,
            f"200 {self.version}" if good else "503" if self.version else "connection refused",
        )
        return BackendSeen(
            self.artifact,
            frozenset(self.staged),
            self.is_restarted_since_swap if self.version else None,
            health if with_health else None,
            now_ms < self.busy_until_ms,
        )
