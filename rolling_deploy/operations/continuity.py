"""Sessions of our own over a rollout: kept from before it, proved on every backend."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from rolling_deploy.errors import UsageWrong
from rolling_deploy.operations.site import Site
from rolling_deploy.operations.store_places import whole_from
from rolling_deploy.remote.canary_seal import NotSealable, seal
from rolling_deploy.remote.canary_seal import opened as unsealed
from rolling_deploy.remote.canary_session import Node, Session, unset
from rolling_deploy.remote.opener import Opener
from rolling_deploy.remote.session_canary import keep, prove
from rolling_deploy.remote.session_store import remaining_ms
from rolling_deploy.rollout.facts import Opened, Purpose
from rolling_deploy.rollout.step import Continuity, Goal, Keep, Outcome, Result
from rolling_deploy.settings import Inventory

NOT_CONFIGURED = Result(Outcome.NOT_CHECKED, "no session canary is configured")
NOT_YET = Result(Outcome.NOT_CHECKED, "not shared before every backend is set up")


def missing_passwords(inventory: Inventory) -> str:
    """Answers which of the canary's own passwords are not set here, or an empty text.

    Without them no node lets it in: that would be taken for the fault of a release.
    """
    missing = ", ".join(f"${name}" for name in unset(inventory.canary))
    return f"the session canary's password should be in {missing}, is not" if missing else ""


def require_passwords(inventory: Inventory, opened: Opened) -> None:
    """Raise when a rollout that proves sessions could not be gone on with from here.

    Raises:
        UsageWrong: a password of the canary is not set.
    """
    said = missing_passwords(inventory) if opened.policy.proves_sessions else ""
    if said:
        raise UsageWrong(
            said,
            where=f"{inventory.path}: session_canary",
            site="this run touched nothing; the rollout stands where it stood",
            next_step="set it and run the same command again",
        )


@dataclass
class Sessions:
    """The canary of one life.

    Attributes:
        opener_of: where questions to a backend come from.
    """

    site: Site
    opener_of: Callable[[str], Opener]
    _kept: tuple[Session, ...] = ()
    """Of this life, with the cookies as the last backend left them."""

    def keep(self, step: Keep, opened: Opened) -> Result:
        """Make sessions on one backend of the release in service, have another one read them."""
        canary = self.site.inventory.canary
        if not canary.is_configured:
            return NOT_CONFIGURED
        made_on = self._node(step.backend, opened, Goal.PREVIOUS)
        read_on = self._node(step.read_on, opened, Goal.PREVIOUS)
        result, kept = keep(canary, made_on, read_on, count=canary.keep)
        if result.outcome is not Outcome.DONE:
            return result
        self._kept = kept
        if step.read_on == step.backend:
            gap = "; not checked: that they are shared (no other backend of that release serves)"
            result = replace(result, detail=f"{result.detail}{gap}")
        try:
            return replace(result, kept=seal(kept, canary, opened.rollout))
        except NotSealable as error:
            only_here = f"kept only while this run lasts ({error})"
            return replace(result, detail=f"{result.detail}; {only_here}")

    def prove(self, step: Continuity, opened: Opened) -> Result:
        """Prove that sessions survive between a backend and the others."""
        canary = self.site.inventory.canary
        if not canary.is_configured:
            return NOT_CONFIGURED
        if opened.purpose is not Purpose.DEPLOY:
            return NOT_YET
        gap = ""
        if not self._kept and step.kept:
            try:
                self._kept = unsealed(step.kept, canary, opened.rollout)
            except NotSealable as error:
                gap = f"; not checked: sessions from before ({error})"
        elif not self._kept:
            gap = "; not checked: sessions from before (none are at hand in this run)"
        here = self._node(step.backend, opened, step.goal)
        other = Goal.PREVIOUS if step.goal is Goal.RELEASE else Goal.RELEASE
        there = self._node(step.other, opened, other) if step.other else None
        goes_back = step.goal is Goal.PREVIOUS
        result = prove(canary, here, there, self._kept, self._lifetime, goes_back=goes_back)
        return replace(result, detail=f"{result.detail}{gap}")

    def check(self, made_on: str, read_on: str) -> Result:
        """Prove, before anything is opened, that two backends share sessions."""
        canary = self.site.inventory.canary
        return keep(canary, self._plain(made_on, ""), self._plain(read_on, ""), count=1)[0]

    def _node(self, name: str, opened: Opened, goal: Goal) -> Node:
        is_new = goal is Goal.RELEASE
        before = opened.before.get(name)
        release = opened.release if is_new else (before.version if before else None)
        return self._plain(name, release or "")

    def _plain(self, name: str, release: str) -> Node:
        backend, canary = self.site.inventory.backends[name], self.site.inventory.canary
        health = backend.health
        return Node(
            name,
            release,
            backend.probe_address,
            self.opener_of(name),
            health.scheme,
            canary.host_header or health.host_header,
            {**health.headers, **canary.headers},
            health.verify_tls,
        )

    def _lifetime(self, session: Session) -> int | None:
        """How long the store still keeps a session, where the form of its key is known."""
        store, canary = self.site.inventory.session_store, self.site.inventory.canary
        if not store.url or not store.session_key:
            return None
        whole = whole_from(self.site)
        if whole.gap or (store.via and whole.opener is None):
            return None
        key = store.session_key.replace("{id}", session.cookies.get(canary.cookie, ""))
        return remaining_ms(store, whole.opener, key)
