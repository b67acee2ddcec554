"""How a backend gets another artifact: what every upgrade strategy can do, and which one it is."""

from __future__ import annotations

from typing import Protocol

from rolling_deploy.ports import FenceToken
from rolling_deploy.remote.connection import Connection
from rolling_deploy.remote.release import ReleaseStrategy
from rolling_deploy.remote.tomcat import TomcatStrategy
from rolling_deploy.rollout.observed import BackendSeen, Check, Unreachable
from rolling_deploy.rollout.step import Result
from rolling_deploy.settings import BackendSettings, ReleaseSettings, TomcatSettings


class Strategy(Protocol):
    """One backend's upgrade strategy. Safe to use from several threads.

    An artifact has a name that says what it is, made by the strategy; the record, a look and the
    steps use that name, so that going back needs no file on the operator's disk.
    """

    def artifact_id(self, release: str) -> str:
        """Answers what `deployed` is called once this release is.

        Raises:
            PreflightRefused: the local artifact cannot be read, or the release cannot be a name.
        """

    def look(self) -> BackendSeen | Unreachable:
        """Answers what is deployed and what lies ready, in one round trip; health is not asked.

        What is deployed stands in `staged` too once it is secured: then it can be gone back to.
        """

    def stage(self, release: str, token: FenceToken) -> Result:
        """Make the release lie ready, verified, and secure what runs now. Can be done again.

        Crash: a part that was sent has a dot-name; nothing that runs has changed.
        """

    def activate(self, artifact: str, token: FenceToken) -> Result:
        """Stop, put the artifact in place, start; refused while somebody is connected.

        Crash: what was begun goes on over there to its end, and a look says busy until then.
        """

    def can_activate(self, artifact: str) -> bool:
        """Answers whether an artifact of this name can be put in place at all, once staged."""

    def prune(self, keep: frozenset[str], token: FenceToken) -> Result:
        """Remove earlier artifacts, never the deployed one nor one that `keep` names."""

    def wait_until_free(self, limit_ms: int) -> None:
        """Return as soon as no earlier command of ours runs there, at the limit at the latest."""

    def preflight(self, release: str | None = None) -> tuple[Check, ...]:
        """Answers whether all of the above can work there. Changes nothing.

        Without a release what concerns the local artifact is "not checked".
        """


def strategy_of(backend: BackendSettings, connection: Connection) -> Strategy:
    """Answers the strategy that the inventory names for this backend."""
    match backend.strategy:
        case TomcatSettings():
            return TomcatStrategy(backend.strategy, backend, connection)
        case ReleaseSettings():
            return ReleaseStrategy(backend.strategy, backend, connection)
