"""The record and what was seen, together: the questions that the rules ask of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from rolling_deploy.rollout.facts import Direction, Purpose
from rolling_deploy.rollout.fold import step_key
from rolling_deploy.rollout.observed import (
    BackendSeen,
    LoadBalancerSeen,
    Seen,
    Unreachable,
)
from rolling_deploy.rollout.record import Claim, Record
from rolling_deploy.rollout.step import (
    Activate,
    Goal,
    Outcome,
    Result,
    Step,
    machine_of,
)

ABSENT = "absent"
"""The digest of a file that does not exist."""


@dataclass(frozen=True)
class View:
    """The record and what was seen, with the questions that the rules ask of them."""

    record: Record
    seen: Seen

    @cached_property
    def load_balancers(self) -> tuple[str, ...]:
        """The load balancers that count: all but those a person declared off."""
        return tuple(lb for lb in self.record.opened.load_balancers if lb not in self.record.off)

    @property
    def claim(self) -> Claim:
        """The wave in hand. Only for rules that run when there is one."""
        assert self.record.claim is not None  # noqa: S101 # narrows the type; rules check before
        return self.record.claim

    def balancer(self, name: str) -> LoadBalancerSeen | None:
        """What was seen of a load balancer, or None when it was not reached."""
        seen = self.seen.load_balancers.get(name)
        return seen if isinstance(seen, LoadBalancerSeen) else None

    def backend(self, name: str) -> BackendSeen | None:
        """What was seen of a backend, or None when it was not reached."""
        seen = self.seen.backends.get(name)
        return seen if isinstance(seen, BackendSeen) else None

    def is_known(self, name: str) -> bool:
        """Answers whether the file there is the one we found, or one this rollout wrote."""
        seen = self.balancer(name)
        if seen is None:
            return False
        opened = self.record.opened
        if seen.file is None:
            return opened.initial.get(name) == ABSENT
        if seen.file.digest in (opened.initial.get(name), opened.originals.get(name)):
            return True
        stamp = seen.file.stamp
        return stamp is not None and seen.file.is_intact and stamp.rollout == opened.rollout

    def is_in_line(self, name: str, out: frozenset[str]) -> bool:
        """Answers whether this load balancer serves exactly what is wanted, proved.

        For a deployment the file that we found is in line while nothing is to be taken out: a
        rollout that touches nothing reloads nothing.
        """
        seen = self.balancer(name)
        if seen is None:
            return False
        opened = self.record.opened
        if self.is_unadopting:
            return self.is_original(name)
        if seen.file is None or seen.file.stamp is None or not seen.file.is_intact:
            return False
        stamp = seen.file.stamp
        is_live = seen.live == stamp.generation and seen.is_settled
        if stamp.rollout == opened.rollout:
            return is_live and stamp.out == out
        found = seen.file.digest == opened.initial.get(name)
        return is_live and found and stamp.out == out and opened.purpose.changes_backends

    @property
    def is_unadopting(self) -> bool:
        """Answers whether the originals are to come back: asked for, or an adoption aborted."""
        purpose, direction = self.record.opened.purpose, self.record.direction
        is_undone = purpose is Purpose.ADOPT and direction is not Direction.FORWARD
        return purpose is Purpose.UNADOPT or is_undone

    def is_original(self, name: str) -> bool:
        """Answers whether this load balancer has the file from before adoption, and serves it."""
        seen = self.balancer(name)
        if seen is None:
            return False
        opened = self.record.opened
        originals = opened.initial if opened.purpose is Purpose.ADOPT else opened.originals
        digest = seen.file.digest if seen.file else ABSENT
        return digest == originals.get(name) and seen.live is None

    @cached_property
    def cut_off(self) -> dict[str, str]:
        """Load balancers that do not answer, with the reason."""
        return {
            name: seen.detail
            for name in self.load_balancers
            if isinstance(seen := self.seen.load_balancers.get(name), Unreachable)
        }

    @cached_property
    def edited(self) -> tuple[str, ...]:
        """Load balancers whose file is neither what we found nor what we wrote."""
        return tuple(
            name for name in self.load_balancers if self.balancer(name) and not self.is_known(name)
        )

    def goal_of(self, backend: str) -> Goal:
        """Where a claimed backend is to be taken."""
        if self.record.direction is Direction.BACK or backend in self.claim.turned_back:
            return Goal.PREVIOUS
        return Goal.RELEASE

    def artifact_of(self, backend: str) -> str | None:
        """What is deployed on the backend once it is where it is to be."""
        opened = self.record.opened
        if self.goal_of(backend) is Goal.RELEASE:
            return opened.artifacts[backend]
        return opened.before[backend].artifact

    def version_of(self, backend: str) -> str | None:
        """The version the backend must serve there; None when it was not known before."""
        return self.record.opened.version_at(backend, self.goal_of(backend))

    def is_on_target(self, backend: str) -> bool:
        """Answers whether the disk holds what it should and the process is not from before."""
        seen = self.backend(backend)
        return (
            seen is not None
            and seen.artifact is not None
            and seen.artifact == self.artifact_of(backend)
            and seen.is_restarted_since_swap is not False
        )

    def has_come_about(self, backend: str) -> bool:
        """Answers whether the last activation of this claim need not be tried again.

        What the machine did not report as done is believed only when the new process, or the
        version it serves, was seen; a restart of what is out of rotation harms nobody.
        """
        goal = self.goal_of(backend)
        seen = self.backend(backend)
        if self.claim.heading.get(backend) is not goal or not self.is_on_target(backend):
            return False
        last = self.record.last.get(step_key(Activate(backend, goal), self.claim.number))
        is_done = last is not None and last.outcome is Outcome.DONE
        is_new = seen is not None and seen.is_restarted_since_swap is True
        return is_done or is_new or self.is_ready(backend)

    def is_ready(self, backend: str) -> bool:
        """Answers whether it runs the asked version and is healthy, observed.

        Without a version source the weaker proof must be complete: what lies on the disk, and a
        process that started after it was put there.
        """
        seen = self.backend(backend)
        if seen is None or not self.is_on_target(backend) or seen.health is None:
            return False
        if not seen.health.is_good:
            return False
        wanted = self.version_of(backend)
        if seen.health.is_version_checked and wanted is not None:
            return seen.health.version == wanted
        return seen.is_restarted_since_swap is True

    def is_spent(self, step: Step) -> bool:
        """Answers whether this step may not be tried again without a person.

        A failure is definite: the same thing would fail again. What is unknown or refused may be
        tried again within the budget, which counts intents over all lives.
        """
        record = self.record
        key = step_key(step, record.claims)
        budget = record.opened.policy.attempts_max + record.extra_attempts.get(machine_of(step), 0)
        last = record.last.get(key)
        failed = last is not None and last.outcome is Outcome.FAILED
        return failed or record.attempts.get(key, 0) >= budget

    def why(self, step: Step) -> str:
        """Answers how the last try of a step came out, for a person."""
        key = step_key(step, self.record.claims)
        last = self.record.last.get(key, Result(Outcome.UNKNOWN))
        tried = self.record.attempts.get(key, 0)
        return (
            f"{last.outcome} after {tried} {'try' if tried == 1 else 'tries'}: {last.detail}"
            if last.detail
            else f"{last.outcome}"
        )

    def began(self, what: str) -> int | None:
        """Answers when a wait began, or None if it has not."""
        claim = self.record.claim
        return (claim.waits if claim else self.record.waits).get(what)

    @cached_property
    def pending(self) -> tuple[str, ...]:
        """The backends that are still to be taken, in order."""
        record = self.record
        order = [b for b in record.opened.order if b not in record.skipped]
        if record.direction is Direction.STOP:
            return ()
        if record.direction is Direction.BACK:
            changed = [b for b in reversed(order) if b in record.changed]
            return tuple(b for b in changed if record.done.get(b) is not Goal.PREVIOUS)
        return tuple(b for b in order if record.done.get(b) is not Goal.RELEASE)


def wanted_out(record: Record) -> frozenset[str]:
    """Answers which backends this rollout marks down now.

    All of the claim until every one of it is proven good or given up; then only those that were
    changed and are not proven good. A backend that was given up unchanged goes back in.

    Once they are on their way back a person's answer may make some of them be tried again: the
    others stay where they are, since the rest of the fleet was last asked before all that.
    """
    claim = record.claim
    if claim is None:
        return record.left_out
    backends = frozenset(claim.backends)
    others = record.left_out - backends
    if not claim.unsettled:
        return others | (record.unproven & backends)
    in_service = claim.returned - record.unproven - frozenset(claim.unsettled)
    return others | (backends - in_service)


def untouched_of(view: View) -> tuple[str, ...]:
    """Answers what of the wave in hand was never changed by us: it may go back in as it is."""
    claim = view.record.claim
    return tuple(b for b in claim.unsettled if b not in claim.activated) if claim else ()


def cut_off_text(view: View) -> str:
    """Answers which load balancers cannot be reached and why, for a person."""
    each = [f"{name} ({detail})" for name, detail in sorted(view.cut_off.items())]
    return f"cannot reach {', '.join(each)}, which counts as still sending"


def edited_text(view: View) -> str:
    """Answers whose managed file is no longer ours, for a person."""
    names = ", ".join(view.edited)
    return f"the managed file on {names} was changed by somebody else"
