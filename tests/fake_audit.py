"""One checker per promise, on god's-eye truth. Shares nothing with the engine's own safety.

A broken promise is noted, not raised: what is raised inside a port would only look like one more
fault to the engine. Tests end with `world.assert_promises_kept()`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rolling_deploy.rollout.facts import (
    Closed,
    Decided,
    DeclaredOff,
    Ended,
    Ending,
    Forced,
    Intended,
    Opened,
    Purpose,
    Redirected,
    Released,
)
from rolling_deploy.rollout.journal import Entry, read_chain
from rolling_deploy.rollout.step import Activate, Goal, Outcome
from tests.fake_backend import version_of
from tests.fake_load_balancer import ORIGINAL, PERSON, US, FakeFile, FakeLoadBalancer

if TYPE_CHECKING:
    from tests.world import World


@dataclass
class Audit:
    """Everything that happened to the truth by our doing, and which promises it broke."""

    world: World
    opened: Opened | None = None
    off: frozenset[str] = frozenset()
    is_forced: bool = False
    decisions: int = 0
    skipped: frozenset[str] = frozenset()
    stops: Counter[tuple[str, Goal]] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    begun: Mapping[str, tuple[FakeFile, frozenset[str]]] = field(default_factory=dict)

    def _break(self, promise: str, text: str) -> None:
        self.broken.append(f"{self.world.now_ms} ms: {promise}: {text}")

    def _tell(self, text: str) -> None:
        self.log.append(f"{self.world.now_ms} ms: {text}")

    def counting(self) -> list[FakeLoadBalancer]:
        """Answers the load balancers that nobody declared off."""
        return [lb for name, lb in self.world.balancers.items() if name not in self.off]

    # --- what happens to the truth

    def stopping(self, backend: str, goal: Goal) -> None:
        """A backend is about to be stopped: no living worker may choose it, nor a person own it."""
        self._tell(f"{backend} stopped for {goal}")
        self.stops[(backend, goal)] += 1
        now_ms = self.world.now_ms
        for lb in self.counting():
            sends = lb.current.up if self.is_forced else lb.sends_to(now_ms)
            if backend in sends:
                self._break("a stopped backend gets nothing", f"{lb.name} may send to {backend}")
        if self.opened and backend in self.opened.parked:
            self._break("parked stays parked", f"{backend} was stopped")
        self._check_attempts(self.stops, "stopped")

    def wrote(self, lb: FakeLoadBalancer, old: FakeFile, new: FakeFile) -> None:
        """A file was replaced: a person's edit never is."""
        self._tell(f"{lb.name} file of {old.author} replaced by {new.author}")
        if old.author == PERSON:
            self._break("hand edits are never overwritten", lb.name)
        if old.author == ORIGINAL and new.author == US and lb.original != old:
            self._break("an adopted file is kept", lb.name)

    def loaded(self, lb: FakeLoadBalancer, before: frozenset[str], serving: dict[str, int]) -> None:
        """nginx loaded a file of ours: who came in must be good, and enough must be left."""
        after = lb.current.up
        self._tell(f"{lb.name} sends to {','.join(sorted(after))}")
        opened = self.opened
        if opened is None:
            return
        for backend in sorted(after - before):
            self._check_came_in(lb, backend, opened)
        for upstream, count in self.world.serving(lb).items():
            least = opened.policy.serving_min
            if count < least and count < serving[upstream]:
                self._break("enough keep serving", f"{lb.name} {upstream}: {count} left")
        if not opened.purpose.changes_backends and after != before:
            self._break("adopting changes nobody's traffic", lb.name)

    def _check_came_in(self, lb: FakeLoadBalancer, backend: str, opened: Opened) -> None:
        if backend in opened.parked:
            self._break("parked stays parked", f"{lb.name} sends to {backend} again")
        fake = self.world.backends[backend]
        was_stopped = any(name == backend for name, _ in self.stops)
        if not was_stopped and backend not in opened.left_out:
            return  # as it was when we came, whatever that is
        known = {opened.version_at(backend, goal) for goal in Goal}
        if not fake.is_healthy(self.world.now_ms) or fake.version not in known:
            text = f"{lb.name} sends to {backend}, which serves {fake.version}"
            self._break("only what is proven goes in", text)

    # --- what was written to the record

    def facts(self, entries: Iterable[Entry]) -> None:
        """Facts were written, on this disk at least."""
        for entry in entries:
            match entry.fact:
                case Opened() as opened:
                    self.opened = opened
                    self.begun = {
                        n: (b.file, b.current.up) for n, b in self.world.balancers.items()
                    }
                case DeclaredOff() as fact:
                    self.off = fact.load_balancers
                case Forced():
                    self.is_forced = True
                case Released():
                    self.is_forced = False
                case Decided() as fact:
                    self.decisions += 1
                    self.skipped |= set(fact.skip)
                case Redirected():
                    self.decisions += 1
                case Closed() as fact:
                    self._check_closed(fact)
                case _:
                    pass

    def check_intents(self) -> None:
        """Count the intents on a load balancer's copy: the others were never acted on."""
        copies = [lb.copy for lb in self.world.balancers.values()]
        longest: tuple[bytes, ...] = max(copies, key=len)
        chain = read_chain(b"".join(longest), "copy")
        not_sent = {
            e.fact.of
            for e in chain.entries
            if isinstance(e.fact, Ended) and e.fact.result.outcome is Outcome.NOT_SENT
        }
        sent = [e for e in chain.entries if e.seq not in not_sent]
        steps = [e.fact.step for e in sent if isinstance(e.fact, Intended)]
        counts = Counter((s.backend, s.goal) for s in steps if isinstance(s, Activate))
        self._check_attempts(counts, "intended")

    def _check_attempts(self, counts: Counter[tuple[str, Goal]], what: str) -> None:
        if self.opened is None:
            return
        most = self.opened.policy.attempts_max + self.decisions
        for (backend, goal), count in counts.items():
            if count > most:
                text = f"{backend} was {what} {count} times for {goal}, at most {most}"
                self._break("attempts are bounded", text)

    def _check_closed(self, closed: Closed) -> None:  # noqa: C901 # one case an ending
        opened = self.opened
        if opened is None:
            return
        match opened.purpose, closed.ending:
            case _, Ending.NOTHING_TOUCHED:
                self._check_nothing_touched()
            case ((Purpose.DEPLOY | Purpose.SETUP), Ending.DONE):
                order = [b for b in opened.order if b not in self.skipped]
                for backend in [*order, *opened.already]:
                    self._check_runs(backend, (opened.version_at(backend, Goal.RELEASE),))
            case ((Purpose.DEPLOY | Purpose.SETUP), _):
                for backend in opened.order:
                    if backend not in self.skipped:
                        before = opened.before[backend].version
                        self._check_runs(
                            backend, (opened.version_at(backend, Goal.RELEASE), before)
                        )
            case Purpose.ADOPT, Ending.DONE:
                self._check_files(US)
            case Purpose.UNADOPT, Ending.DONE:
                self._check_files(ORIGINAL)
            case Purpose.ADOPT, _:
                self._check_files(ORIGINAL)
            case _:
                pass
        self._check_live_is_on_disk()

    def _check_nothing_touched(self) -> None:
        for name, (file, up) in self.begun.items():
            lb = self.world.balancers[name]
            if lb.file.author == US and (lb.file, lb.current.up) != (file, up):
                self._break("nothing touched means nothing", name)
        if self.stops:
            self._break("nothing touched means nothing", str(dict(self.stops)))

    def _check_runs(self, backend: str, versions: tuple[str | None, ...]) -> None:
        fake = self.world.backends[backend]
        was_stopped = any(name == backend for name, _ in self.stops)
        good = fake.is_healthy(self.world.now_ms) and fake.version in versions
        right = not was_stopped or (
            fake.version is not None and version_of(fake.artifact or "") == fake.version
        )
        if not (good and right) and (was_stopped or len(versions) == 1):
            self._break("done means done", f"{backend} serves {fake.version} from {fake.artifact}")
        for lb in self.counting():
            is_out_before = self.opened and backend in self.opened.left_out and not was_stopped
            is_theirs = lb.file.author == PERSON  # in the instant after our last look
            if backend not in lb.current.up and not is_out_before and not is_theirs:
                self._break("done means done", f"{lb.name} sends nothing to {backend}")

    def _check_files(self, author: str) -> None:
        for lb in self.counting():
            if lb.file.author != author:
                self._break("done means done", f"the file on {lb.name} is of {lb.file.author}")

    def _check_live_is_on_disk(self) -> None:
        for lb in self.counting():
            stamp = lb.file.stamp
            if lb.file.author == PERSON:
                continue
            if lb.current.generation != (stamp.generation if stamp else None):
                self._break("done means done", f"{lb.name} serves {lb.current.generation}")
