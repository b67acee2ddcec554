"""One checker per promise, on god's-eye truth; they share nothing with the engine's own safety.

A broken promise is noted, not raised: what is raised inside a command would only look like one
more fault to the engine. Here stand those about commands on machines and the lines of the record;
what the facts of a record say is judged in `record_truth`, ends in `endings`, losses in `gate`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

from rolling_deploy.ports import FenceToken
from rolling_deploy.rollout.codec import from_plain
from rolling_deploy.rollout.facts import DeclaredOff, Fact, Intended, Opened
from rolling_deploy.rollout.step import Activate, Goal, Step
from tests.simulation.fleet_commands import sha
from tests.simulation.gate import judge_losses
from tests.simulation.machines import ORIGINAL, PERSON, US, Balancer, Machine, Node, artifact_of
from tests.simulation.promises import (
    INVARIANTS,
    RECENT_MS,
    STOOD_MAX_MS,
    STOOD_THERE_MAX_MS,
)
from tests.simulation.record_truth import DECIDED, judge_fact

if TYPE_CHECKING:
    from tests.simulation.operator import Operator
    from tests.simulation.world import World


@lru_cache(maxsize=8192)
def fact_of(line: bytes) -> tuple[int, Fact]:
    """Answers the epoch and the fact of one line of a record."""
    plain = json.loads(line)
    return plain["epoch"], from_plain(Fact, plain["fact"])


@dataclass
class Audit:
    """What was done to the truth, and which promises that broke.

    Attributes:
        checked: how often each invariant was checked.
        opened: the rollout in hand.
    """

    world: World
    broken: list[str] = field(default_factory=list)
    checked: Counter[str] = field(default_factory=Counter)
    opened: Opened | None = None
    is_closed: bool = True
    off: frozenset[str] = frozenset()
    claimed: dict[int, frozenset[str]] = field(default_factory=dict)
    forced: frozenset[str] = frozenset()
    """Whom the policy allowed to be cut off by what still drains; no more once they are back."""
    was_forced: frozenset[str] = frozenset()
    """Of whom a line said that this is over, which a later life may not know; none is back."""
    decisions: int = 0
    is_going_back: bool = False
    skipped: frozenset[str] = frozenset()
    stops: Counter[tuple[str, Goal]] = field(default_factory=Counter)
    begun: Mapping[str, tuple[str, object]] = field(default_factory=dict)
    begun_ms: int = 0
    was: Mapping[str, str] = field(default_factory=dict)
    """What each backend's artifact serves, when the rollout began."""
    lay: Mapping[str, str] = field(default_factory=dict)
    """The artifact that lay in place on each then; one that lies serves another version."""
    hands: dict[str, int] = field(default_factory=dict)
    """When a person last touched a load balancer."""
    proved_ms: dict[str, int] = field(default_factory=dict)
    """When each that is noted as proved was seen to be so."""
    answered_ms: dict[str, int] = field(default_factory=dict)
    """When each last answered well to an operator who asked, since its last stop."""
    meant: set[str] = field(default_factory=set)
    """Backends of which a stop was ever intended in the rollout in hand."""
    _highest: dict[str, tuple[int, str]] = field(default_factory=dict)
    _known: set[str] = field(default_factory=set)
    _lines: set[bytes] = field(default_factory=set)
    _local: Counter[tuple[str, int, Step]] = field(default_factory=Counter)
    _copied: Counter[tuple[str, int, Step]] = field(default_factory=Counter)
    _begun: Counter[tuple[str, int, Step]] = field(default_factory=Counter)
    """Intents on an operator's disk and on a load balancer, and commands, by what they are for."""
    _copied_lines: set[bytes] = field(default_factory=set)
    off_of: dict[int, frozenset[str]] = field(default_factory=dict)
    """Who was off in each life of the rollout in hand."""
    met: set[str] = field(default_factory=set)
    """Load balancers that were seen at the opening, or met since."""
    written_ms: dict[str, int] = field(default_factory=dict)
    """When this rollout last wrote on a load balancer, or reloaded it."""

    def check(self, promise: str, is_kept: bool, text: str) -> None:
        """Count the check, and note it when the promise is broken."""
        assert promise in INVARIANTS
        self.checked[promise] += 1
        if not is_kept:
            self.broken.append(f"{promise}: {text} ({INVARIANTS[promise]})")
            self.world.tell("BROKEN", f"{promise}: {text}")

    def counting(self) -> list[Balancer]:
        """Answers the load balancers that nobody declared off."""
        return [lb for name, lb in self.world.balancers.items() if name not in self.off]

    # --- commands on machines

    def entered(self, machine: Machine, token: FenceToken, step: Step) -> None:
        """A command that changes something is about to begin."""
        key = (token.rollout, token.epoch, step)
        self._begun[key] += 1
        is_written = min(self._local[key], self._copied[key]) >= self._begun[key]
        self.check("intent", is_written, f"{machine.name}: {step} under {token.epoch}")
        if isinstance(machine, Balancer) and self.opened and token.rollout == self.opened.rollout:
            is_on = machine.name not in self.off_of.get(token.epoch, frozenset())
            is_known = machine.name in self.met
            self.check("off", is_on and is_known, f"{machine.name}: {step}")

    def shown(self, machine: Machine, epoch: int, holder: str) -> None:
        """A token was shown to a machine and accepted."""
        if epoch > self._highest.get(machine.name, (0, ""))[0]:
            self._highest[machine.name] = epoch, holder

    def goes_ahead(self, lb: Balancer, by: Operator) -> None:
        """A command has passed what the load balancer asks before it changes anything."""
        stood_ms = by.stood_ms(self.world.now_ms)
        is_fresh = stood_ms <= STOOD_THERE_MAX_MS
        self.check("fresh", is_fresh, f"{lb.name}: {by.name} stood still for {stood_ms} ms")

    def sends(self, by: Operator, step: Step) -> None:
        """An operator sends commands for what it has written down."""
        self._is_fresh(by, f"{step} is sent")

    def _is_fresh(self, by: Operator, what: str) -> None:
        stood_ms = by.stood_ms(by.acted_ms)
        is_fresh = stood_ms <= STOOD_MAX_MS
        self.check("fresh", is_fresh, f"{what} by {by.name}, which stood still for {stood_ms} ms")

    def effect(self, machine: Machine, token: FenceToken) -> None:
        """A command changes something now."""
        highest = self._highest[machine.name]
        is_newest = (token.epoch, token.holder) == highest
        self.check("fence", is_newest, f"{machine.name}: {token.epoch}, was shown {highest[0]}")
        self.check("fork", not self._is_on_a_fork(token), f"{machine.name}: by {token.holder}")
        is_alone = machine.lock is self.world.scheduler.current
        self.check("alone", is_alone, f"{machine.name} has been entered by another")

    def _is_on_a_fork(self, token: FenceToken) -> bool:
        """Answers whether this life began when two different records could be seen."""
        forged = self.world.forged
        by = next((op for op in self.world.operators if op.token == token), None)
        if forged is None or by is None:
            return False
        name, at_ms, rollout = forged
        others = [lb for lb in self.world.balancers.values() if lb.name not in (name, *by.unread)]
        is_seen = rollout in by.knew or any(rollout in lb.records for lb in others)
        is_it = rollout == token.rollout and is_seen
        return is_it and by.began_ms > at_ms and name not in by.unread

    def stopping(self, node: Node, goal: Goal) -> None:
        """A backend is about to be stopped by us."""
        world, opened = self.world, self.opened
        world.tell(node.name, f"is stopped for {goal}")
        self.stops[node.name, goal] += 1
        self.proved_ms.pop(node.name, None)
        self.answered_ms.pop(node.name, None)
        for lb in self.counting():
            if node.name in self.forced:
                may_choose = lb.current.may_choose(node.address)
            else:
                may_choose = lb.may_choose(node.address, world.now_ms)
            self.check("stopped", not may_choose, f"{lb.name} to {node.name}")
        if opened:
            self.check("parked", node.name not in opened.parked, f"{node.name} was stopped")
            most = opened.policy.attempts_max + self.decisions
            count = self.stops[node.name, goal]
            self.check("attempts", count <= most, f"{node.name}: {count} of {most} for {goal}")

    def answered_well(self, node: Node) -> None:
        """A backend tells an operator who asks that it is well."""
        self.answered_ms[node.name] = self.world.now_ms

    def swapping(self, node: Node, artifact: str) -> None:
        """An artifact is put in place."""
        is_whole = artifact in {*node.staged, node.artifact}
        self.check("staged", is_whole, f"{node.name}: {artifact}")

    def replacing(self, lb: Balancer, text: str) -> None:
        """The managed file is about to be replaced by us."""
        author = lb.authors[lb.text]
        self.world.tell(lb.name, f"file of {author} is replaced")
        self.written_ms[lb.name] = self.world.now_ms
        self.check("hands", author != PERSON, lb.name)
        if author == ORIGINAL and lb.authors.get(text, US) == US:
            self.check("original", lb.original == lb.text, f"{lb.name}: it is not kept")

    def reloading(self, lb: Balancer, by: Operator) -> None:
        """nginx is about to be reloaded by us."""
        self.written_ms[lb.name] = self.world.now_ms
        is_same = lb.current.text == lb.text and not lb.earlier(self.world.now_ms)
        is_needless = is_same and lb.authors[lb.text] == US and not self.is_theirs(lb, by)
        self.check("reload", not is_needless, lb.name)

    def serving(self, lb: Balancer, by: Operator) -> dict[str, int]:
        """Answers how many backends serve each upstream there, or did until a moment ago."""
        world, now_ms = self.world, self.world.now_ms
        unseen_ms = self.unseen_ms(by)
        good = {
            n.name for n in world.nodes.values() if n.is_healthy(now_ms) or n.hurt_at_ms > unseen_ms
        }
        return {name: len(members & good) for name, members in world.sending(lb).items()}

    def is_theirs(self, lb: Balancer, by: Operator) -> bool:
        """A person has been there since this operator's look."""
        return self.hands.get(lb.name, 0) > self.unseen_ms(by)

    def loaded(
        self,
        lb: Balancer,
        by: Operator,
        before: Mapping[str, frozenset[str]],
        serving: Mapping[str, int],
    ) -> None:
        """nginx has loaded a file that we put there."""
        world, opened = self.world, self.opened
        up = world.up(lb)
        world.tell(lb.name, f"sends to {','.join(sorted(up)) or 'nobody'}")
        if opened is None:
            return
        came = sorted(up - frozenset().union(*before.values()))
        self.forced -= set(came)
        self.was_forced -= set(came)
        for backend in came:
            self._came_in(lb, world.nodes[backend], opened, by)
        for upstream, count in self.serving(lb, by).items():
            least = opened.policy.serving_min
            is_less = count < min(least, serving.get(upstream, 0))
            is_fine = not is_less or self.is_theirs(lb, by)
            self.check("capacity", is_fine, f"{lb.name} {upstream}: {count} left")

    def _came_in(self, lb: Balancer, node: Node, opened: Opened, by: Operator) -> None:
        is_parked = node.name in opened.parked and not self.is_theirs(lb, by)
        self.check("parked", not is_parked, f"{lb.name} sends to {node.name} again")
        was_stopped = any(name == node.name for name, _ in self.stops)
        if not was_stopped and node.name not in opened.left_out:
            return  # as it was when we came, whatever that is
        known = (opened.release, self.was[node.name])
        is_good = self.is_well(node, known, by)
        self.check("proven", is_good, f"{lb.name} to {node.name}: {node.serves}")

    def unseen_ms(self, by: Operator) -> int:
        """Answers since when things may have happened that this operator need not know of.

        Since its last look. Who stood still after that, and decides or sends without another, is
        excused for nothing: it had to look again.
        """
        young_ms = self.world.now_ms - RECENT_MS
        is_fresh = by.stood_ms(by.acted_ms) <= STOOD_MAX_MS
        return min(by.looked_ms, young_ms) if is_fresh else young_ms

    def is_hurt(self, node: Node, by: Operator) -> bool:
        """Answers whether misfortune has made it ill since it was proven, or seen last."""
        proved_ms = self.proved_ms.get(node.name, self.world.now_ms)
        return node.hurt_at_ms > min(proved_ms, self.unseen_ms(by))

    # --- the record

    def written(self, by: Operator, rollout: str, lines: Iterable[bytes]) -> None:
        """These lines are on an operator's disk."""
        new = [line for line in lines if line not in self._lines]
        self._lines |= set(new)
        for line in lines:
            epoch, fact = fact_of(line)
            if line in new and not isinstance(fact, Opened):
                self.off_of.setdefault(epoch, self.off)
            if line in new and isinstance(fact, Intended):
                self._local[rollout, epoch, fact.step] += 1
                by.is_to_send = True
                self._is_fresh(by, f"{fact.step} is intended")
                if isinstance(fact.step, Activate):
                    self.meant.add(fact.step.backend)
            elif line in new:
                if isinstance(fact, DECIDED):
                    self._is_fresh(by, f"{fact} is decided")
                judge_fact(self, fact, by)
                if isinstance(fact, DeclaredOff):
                    self.off_of[epoch] = self.off
        # What is of somebody else's rollout was judged when that was written.
        if new and self.opened and self.opened.rollout == rollout:
            judge_losses(self, by, [fact_of(line)[1] for line in new])

    def copied(self, lb: Balancer, rollout: str, before: bytes, after: bytes) -> None:
        """A load balancer's copy has grown."""
        old, new = before.splitlines(keepends=True), after.splitlines(keepends=True)
        lost = [line for line, other in zip(old, [*new, *old], strict=False) if line != other]
        whole = [line for line in lost if line.endswith(b"\n")]
        newest = fact_of(new[-1])[0]
        is_loose = all(fact_of(line)[0] < newest for line in whole)
        self.check("chain", is_loose, f"{lb.name} lost {len(whole)} lines of {rollout}")
        for line in new:
            epoch, fact = fact_of(line)
            if line not in self._copied_lines and isinstance(fact, Intended):
                self._copied[rollout, epoch, fact.step] += 1
        self._copied_lines |= set(new)

    def named(self, rollout: str) -> None:
        """A load balancer says from now on that this rollout is the one in hand."""
        self._known.add(rollout)

    def came_back(self, lb: Balancer) -> None:
        """A load balancer that was off when the rollout began is on."""
        if lb.name in self.begun:
            self.begun = {**self.begun, lb.name: (self.begun[lb.name][0], lb.current.text)}

    def text_before_hands(self, lb: Balancer) -> str:
        """Answers what a person puts back who undoes what people did to a file."""
        found = self.opened.initial.get(lb.name) if self.opened else None
        if lb.name not in self.written_ms and found is not None:
            for text in lb.authors:
                if sha(text) == found:
                    return text
        return lb.ours_last or lb.first

    def is_known_anywhere(self) -> bool:
        """Answers whether a load balancer ever named the rollout in hand.

        Until then nothing was done, and nobody who comes later hears of it.
        """
        rollout = self.opened.rollout if self.opened else ""
        return rollout in self._known

    def is_well(self, node: Node, versions: Sequence[str], by: Operator) -> bool:
        """Answers whether it serves one of these well, or did until misfortune made it ill."""
        is_hurt = self.is_hurt(node, by)
        is_up = node.is_healthy(self.world.now_ms) or is_hurt
        return is_up and (node.serves in versions or (is_hurt and node.serves is None))

    def pruned(self, node: Node, before: frozenset[str]) -> None:
        """Old artifacts were removed by us."""
        opened = self.opened
        if opened is None:
            return
        needed = {node.artifact, artifact_of(opened.release)}
        if node.is_secured:
            needed.add(self.lay[node.name])
        lost = needed & before - node.staged
        self.check("kept", not lost, f"{node.name} has lost {sorted(map(str, lost))}")

    def is_cut_off(self, lb: Balancer, by: Operator) -> bool:
        """Answers whether an operator could not reach it when this one looked, or since."""
        unseen_ms = self.unseen_ms(by)
        ways = [host.cut.get(lb.name, 0) for host in self.world.hosts.values()]
        ways += [host.mute.get(lb.name, 0) for host in self.world.hosts.values()]
        return lb.is_away or max(*ways, lb.back_ms) > unseen_ms
