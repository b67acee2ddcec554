"""One checker per promise, on god's-eye truth; they share nothing with the engine's own safety.

A broken promise is noted, not raised: what is raised inside a command would only look like one
more fault to the engine. `INVARIANTS` is the list that figures and docs speak of.
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
from rolling_deploy.rollout.facts import (
    Cause,
    Claimed,
    Closed,
    Decided,
    DeclaredOff,
    Ending,
    Fact,
    Forced,
    Halted,
    Intended,
    Met,
    Opened,
    Proved,
    Purpose,
    Redirected,
    Released,
)
from rolling_deploy.rollout.step import Activate, Goal, Step
from tests.simulation.fleet_commands import sha
from tests.simulation.gate import judge_losses
from tests.simulation.machines import (
    ORIGINAL,
    PERSON,
    US,
    Balancer,
    Machine,
    Node,
    artifact_of,
)

if TYPE_CHECKING:
    from tests.simulation.operator import Operator
    from tests.simulation.world import World

INVARIANTS: Mapping[str, str] = {
    "stopped": "a backend is stopped only when no worker of any generation may send to it",
    "capacity": "no reload of ours leaves an upstream with fewer than the policy asks for",
    "proven": "what we changed gets traffic only running, healthy, and on a known release",
    "parked": "what a person parked stays parked, and is not stopped",
    "hands": "a person's file is never replaced",
    "original": "an adopted original is kept, and comes back byte for byte",
    "kept": "pruning removes neither what runs nor what could be gone back to",
    "halt": "a halt leaves nobody out whom we took out and did not change",
    "attempts": "a backend is stopped at most as often as the policy and people allow",
    "fence": "nothing is changed under a token lower than the highest one the machine has seen",
    "fork": "nobody acts on a record of which two different ones are there",
    "store": "no backend is claimed while the session store's checks refuse",
    "alone": "two commands never change one machine at the same time",
    "intent": "nothing is changed before its intent is on the own disk and on a load balancer",
    "chain": "a copy only grows, or loses the loose end of a life that was taken over",
    "one rollout": "no rollout begins while another is unfinished",
    "staged": "only an artifact that lies there whole is put in place",
    "reload": "nginx is not reloaded while it serves just what is wanted",
    "truth": "what the record says is proved or released is so",
    "ending": "a rollout that is closed is what it says: done, back, aborted, nothing touched",
    "off": "a load balancer declared off is left alone until it is met; nothing is done before",
    "counted": "what the record counts of requests is what was asked, each once, over all lives",
    "gate": "more failed requests than the policy allows end it, before a next wave; fewer do not",
    "end": "once the misfortune ends the rollout does, and no command of ours still runs",
}

ABOUT_BACKENDS = frozenset(
    {Cause.DRAIN, Cause.CAPACITY, Cause.STORE, Cause.BACKEND, Cause.ASKED, Cause.ERRORS}
)
"""Causes of a halt that no load balancer has a part in."""

RECENT_MS = 5_000
"""Misfortune this young may not have been seen by the last look."""


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
    decisions: int = 0
    is_going_back: bool = False
    skipped: frozenset[str] = frozenset()
    stops: Counter[tuple[str, Goal]] = field(default_factory=Counter)
    begun: Mapping[str, tuple[str, object]] = field(default_factory=dict)
    was: Mapping[str, str] = field(default_factory=dict)
    """What each backend's artifact serves, when the rollout began."""
    lay: Mapping[str, str] = field(default_factory=dict)
    """The artifact that lay in place on each then; one that lies serves another version."""
    hands: dict[str, int] = field(default_factory=dict)
    """When a person last touched a load balancer."""
    _proved_ms: dict[str, int] = field(default_factory=dict)
    """When each that is noted as proved was seen to be so."""
    _answered_ms: dict[str, int] = field(default_factory=dict)
    """When each last answered well to an operator who asked, since its last stop."""
    _meant: set[str] = field(default_factory=set)
    _highest: dict[str, tuple[int, str]] = field(default_factory=dict)
    _known: set[str] = field(default_factory=set)
    _lines: set[bytes] = field(default_factory=set)
    _local: Counter[tuple[str, int, Step]] = field(default_factory=Counter)
    _copied: Counter[tuple[str, int, Step]] = field(default_factory=Counter)
    _begun: Counter[tuple[str, int, Step]] = field(default_factory=Counter)
    """Intents on an operator's disk and on a load balancer, and commands, by what they are for."""
    _copied_lines: set[bytes] = field(default_factory=set)
    _off_of: dict[int, frozenset[str]] = field(default_factory=dict)
    """Who was off in each life of the rollout in hand."""
    _met: set[str] = field(default_factory=set)
    _written_ms: dict[str, int] = field(default_factory=dict)
    """When this rollout last wrote on a load balancer."""

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
            is_on = machine.name not in self._off_of.get(token.epoch, frozenset())
            is_known = machine.name in self._met
            self.check("off", is_on and is_known, f"{machine.name}: {step}")

    def shown(self, machine: Machine, epoch: int, holder: str) -> None:
        """A token was shown to a machine and accepted."""
        if epoch > self._highest.get(machine.name, (0, ""))[0]:
            self._highest[machine.name] = epoch, holder

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
        others = [
            lb for lb in self.world.balancers.values() if lb.name not in (name, *by.cut_at_start)
        ]
        is_seen = rollout in by.knew or any(rollout in lb.records for lb in others)
        is_it = rollout == token.rollout and is_seen
        return is_it and by.began_ms > at_ms and name not in by.cut_at_start

    def stopping(self, node: Node, goal: Goal) -> None:
        """A backend is about to be stopped by us."""
        world, opened = self.world, self.opened
        world.tell(node.name, f"is stopped for {goal}")
        self.stops[node.name, goal] += 1
        self._proved_ms.pop(node.name, None)
        self._answered_ms.pop(node.name, None)
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
        self._answered_ms[node.name] = self.world.now_ms

    def swapping(self, node: Node, artifact: str) -> None:
        """An artifact is put in place."""
        is_whole = artifact in {*node.staged, node.artifact}
        self.check("staged", is_whole, f"{node.name}: {artifact}")

    def replacing(self, lb: Balancer, text: str) -> None:
        """The managed file is about to be replaced by us."""
        author = lb.authors[lb.text]
        self.world.tell(lb.name, f"file of {author} is replaced")
        self._written_ms[lb.name] = self.world.now_ms
        self.check("hands", author != PERSON, lb.name)
        if author == ORIGINAL and lb.authors.get(text, US) == US:
            self.check("original", lb.original == lb.text, f"{lb.name}: it is not kept")

    def reloading(self, lb: Balancer) -> None:
        """nginx is about to be reloaded by us."""
        is_same = lb.current.text == lb.text and not lb.earlier(self.world.now_ms)
        is_needless = is_same and lb.authors[lb.text] == US and not self._is_theirs(lb)
        self.check("reload", not is_needless, lb.name)

    def serving(self, lb: Balancer) -> dict[str, int]:
        """Answers how many backends serve each upstream there, or did until a moment ago."""
        world, now_ms = self.world, self.world.now_ms
        seen_ms = (world.frozen_ms if self.is_dazed() else now_ms) - RECENT_MS
        good = {
            n.name for n in world.nodes.values() if n.is_healthy(now_ms) or n.hurt_at_ms > seen_ms
        }
        return {name: len(members & good) for name, members in world.sending(lb).items()}

    def _is_theirs(self, lb: Balancer) -> bool:
        """A person has just been there: in the instant after our last look."""
        return self.hands.get(lb.name, 0) > self.world.now_ms - RECENT_MS

    def loaded(
        self, lb: Balancer, before: Mapping[str, frozenset[str]], serving: Mapping[str, int]
    ) -> None:
        """nginx has loaded a file that we put there."""
        world, opened = self.world, self.opened
        up = world.up(lb)
        world.tell(lb.name, f"sends to {','.join(sorted(up)) or 'nobody'}")
        if opened is None:
            return
        came = sorted(up - frozenset().union(*before.values()))
        self.forced -= set(came)
        for backend in came:
            self._came_in(lb, world.nodes[backend], opened)
        for upstream, count in self.serving(lb).items():
            least = opened.policy.serving_min
            is_less = count < min(least, serving.get(upstream, 0))
            is_fine = not is_less or self._is_theirs(lb)
            self.check("capacity", is_fine, f"{lb.name} {upstream}: {count} left")

    def _came_in(self, lb: Balancer, node: Node, opened: Opened) -> None:
        is_parked = node.name in opened.parked and not self._is_theirs(lb)
        self.check("parked", not is_parked, f"{lb.name} sends to {node.name} again")
        was_stopped = any(name == node.name for name, _ in self.stops)
        if not was_stopped and node.name not in opened.left_out:
            return  # as it was when we came, whatever that is
        known = (opened.release, self.was[node.name])
        is_good = self._is_well(node, known)
        self.check("proven", is_good, f"{lb.name} to {node.name}: {node.serves}")

    def is_dazed(self) -> bool:
        """Answers whether an operator wakes about now, who writes what it saw before its sleep."""
        return self.world.thawed_ms > self.world.now_ms - RECENT_MS

    def _is_hurt(self, node: Node) -> bool:
        """Answers whether misfortune has made it ill since it was proven, or a moment ago."""
        proved_ms = self._proved_ms.get(node.name, self.world.now_ms)
        return node.hurt_at_ms > min(proved_ms, self.world.now_ms - RECENT_MS)

    # --- the record

    def written(self, by: Operator, rollout: str, lines: Iterable[bytes]) -> None:
        """These lines are on an operator's disk."""
        new = [line for line in lines if line not in self._lines]
        self._lines |= set(new)
        for line in lines:
            epoch, fact = fact_of(line)
            if line in new and not isinstance(fact, Opened):
                self._off_of.setdefault(epoch, self.off)
            if line in new and isinstance(fact, Intended):
                self._local[rollout, epoch, fact.step] += 1
                if isinstance(fact.step, Activate):
                    self._meant.add(fact.step.backend)
            elif line in new:
                self._fact(fact)
                if isinstance(fact, DeclaredOff):
                    self._off_of[epoch] = self.off
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

    def _fact(self, fact: Fact) -> None:  # noqa: C901 # one case a fact
        match fact:
            case Opened():
                self._begin(fact)
            case DeclaredOff():
                self.off = fact.load_balancers
            case Met():
                self._met.add(fact.load_balancer)
                self._accept(fact.load_balancer, fact.digest, Purpose.DEPLOY)
            case Claimed():
                age_ms = self.world.now_ms - self.world.store_failed_ms
                is_young = age_ms < RECENT_MS or self.is_dazed()
                # On the way back it is not asked: going back may be the cure.
                is_well = not self.world.store or is_young or self.is_going_back
                self.check("store", is_well, f"{fact.backends} are claimed")
                self.claimed[fact.claim] = frozenset(fact.backends)
            case Forced():
                self.forced = self.claimed[fact.claim]
            case Proved():
                self._proved(fact)
            case Released():
                self.forced = frozenset()
                self._released(fact)
            case Decided():
                self.decisions += 1
                self.skipped |= set(fact.skip)
            case Redirected():
                self.decisions += 1
                self.is_going_back = True
            case Halted():
                self._halted(fact)
            case Closed():
                self.is_closed = True
                self._closed(fact)
            case _:
                pass

    def _begin(self, opened: Opened) -> None:
        is_free = self.is_closed or not self.is_known_anywhere()
        self.check("one rollout", is_free, f"{opened.rollout} begins")
        self.opened, self.is_closed = opened, False
        self.off, self.forced, self.decisions = frozenset(), frozenset(), 0
        self.skipped, self.stops = frozenset(), Counter()
        self.is_going_back = False
        self._proved_ms.clear()
        self._meant.clear()
        self.lay = {n.name: n.artifact or "" for n in self.world.nodes.values()}
        self.was = {n.name: n.version_in(self.lay[n.name]) for n in self.world.nodes.values()}
        lbs = self.world.balancers
        self.begun = {name: (lb.text, lb.current.text) for name, lb in lbs.items()}
        self._off_of.clear()
        self._written_ms.clear()
        self._met = set(opened.initial)
        for name, digest in opened.initial.items():
            self._accept(name, digest, opened.purpose)

    def _accept(self, name: str, digest: str, purpose: Purpose) -> None:
        """What was found, looked at and accepted is what may be replaced."""
        lb = self.world.balancers[name]
        for text, author in lb.authors.items():
            if author == PERSON and sha(text) == digest:
                lb.authors[text] = ORIGINAL if purpose is Purpose.ADOPT else US

    def came_back(self, lb: Balancer) -> None:
        """A load balancer that was off when the rollout began is on."""
        if lb.name in self.begun:
            self.begun = {**self.begun, lb.name: (self.begun[lb.name][0], lb.current.text)}

    def text_before_hands(self, lb: Balancer) -> str:
        """Answers what a person puts back who undoes what people did to a file."""
        found = self.opened.initial.get(lb.name) if self.opened else None
        if lb.name not in self._written_ms and found is not None:
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

    def _proved(self, fact: Proved) -> None:
        node, opened = self.world.nodes[fact.backend], self.opened
        assert opened is not None
        wanted, artifact = opened.release, artifact_of(opened.release)
        if fact.goal is Goal.PREVIOUS:
            wanted, artifact = self.was[fact.backend], self.lay[fact.backend]
        is_warm = node.is_warm or self._is_hurt(node)
        is_so = self._is_well(node, (wanted,)) and node.artifact == artifact
        # What makes it ill between that look and this line could not be seen.
        now_ms = self.world.now_ms
        self._proved_ms[node.name] = self._answered_ms.get(node.name, now_ms)
        is_so = is_so or self.is_dazed()
        self.check("truth", is_so, f"{fact.backend} is proved, serves {node.serves}")
        self.check("proven", is_warm, f"{fact.backend} is proved and cold")

    def _is_well(self, node: Node, versions: Sequence[str]) -> bool:
        """Answers whether it serves one of these well, or did until misfortune made it ill."""
        is_hurt = self._is_hurt(node)
        is_up = node.is_healthy(self.world.now_ms) or is_hurt
        return is_up and (node.serves in versions or (is_hurt and node.serves is None))

    def _released(self, fact: Released) -> None:
        for lb in self.counting():
            up = self.world.up(lb)
            is_so = not set(fact.out) & up or self._is_theirs(lb)
            self.check("truth", is_so, f"claim {fact.claim} leaves {fact.out} out of {lb.name}")

    # --- how it ended

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

    def _halted(self, fact: Halted) -> None:
        """A halt that is not about a load balancer leaves them all in line."""
        opened = self.opened
        assert opened is not None
        if fact.cause not in ABOUT_BACKENDS:
            return
        touched = self._meant  # an intent in doubt may have come about
        for lb in self.counting():
            is_odd = lb.authors[lb.text] == PERSON or self._is_theirs(lb)
            if is_odd or lb.current.text != lb.text or self.is_cut_off(lb):
                continue
            members = frozenset().union(*map(frozenset, opened.upstreams.values()))
            wanted = members - opened.parked - opened.left_out - touched
            lost = wanted - self.world.up(lb)
            self.check("halt", not lost, f"{lb.name} sends nothing to {sorted(lost)}")

    def is_cut_off(self, lb: Balancer) -> bool:
        """Answers whether an operator could not reach it a moment ago."""
        young_ms = self.world.now_ms - RECENT_MS
        ways = [host.cut.get(lb.name, 0) for host in self.world.hosts.values()]
        ways += [host.mute.get(lb.name, 0) for host in self.world.hosts.values()]
        return lb.is_away or max(*ways, lb.back_ms) > young_ms

    def served_at_the_end(self) -> None:
        """When all is over every upstream is served, unless what serves it is ill by nature."""
        for lb in self.counting():
            if lb.name in self.hands:
                continue  # people may have parked everybody there
            for upstream, members in self.world.sending(lb).items():
                nodes = [self.world.nodes[name] for name in members]
                odd = any(n.sick_on or n.instead for n in self.world.nodes.values())
                good = any(n.is_healthy(self.world.now_ms) for n in nodes)
                self.check("end", good or odd, f"{lb.name} {upstream} is served by nobody")

    def _closed(self, fact: Closed) -> None:
        opened = self.opened
        assert opened is not None
        self.world.tell("record", f"closed: {fact.ending}")
        order = [b for b in opened.order if b not in self.skipped]
        match opened.purpose, fact.ending:
            case _, Ending.NOTHING_TOUCHED:
                self._nothing_touched()
            case Purpose.DEPLOY, Ending.DONE:
                for name in [*order, *opened.already]:
                    self._runs(name, (opened.release,))
            case Purpose.DEPLOY, _:
                for name in order:
                    self._runs(name, (opened.release, self.was[name]))
            case Purpose.ADOPT, Ending.DONE:
                self._files_are(US)
            case Purpose.UNADOPT, Ending.DONE:
                self._files_are(ORIGINAL)
            case Purpose.ADOPT, _:
                self._files_are(ORIGINAL)
            case _:
                pass
        is_done = fact.ending is Ending.DONE
        self.check("off", not (is_done and self.off), f"done without {sorted(self.off)}")
        for lb in self.counting():
            is_live = lb.current.text == lb.text or self._is_left_to_people(lb, fact)
            self.check("ending", is_live, f"{lb.name} serves another file than lies there")

    def _is_left_to_people(self, lb: Balancer, closed: Closed) -> bool:
        """Answers whether what a load balancer serves is no business of ours at this end."""
        if self._is_theirs(lb) or lb.authors[lb.text] == PERSON or lb.is_away:
            return True
        # Where nothing was touched, whatever people did since is theirs, however long ago.
        is_later = self.hands.get(lb.name, 0) > self._written_ms.get(lb.name, 0)
        return closed.ending is Ending.NOTHING_TOUCHED and is_later

    def _nothing_touched(self) -> None:
        self.check("ending", not self.stops, f"nothing touched, but stopped {dict(self.stops)}")
        for name, found in self.begun.items():
            lb = self.world.balancers[name]
            is_ours = lb.authors[lb.text] == US and not self._is_theirs(lb) and not lb.is_away
            same = (lb.text, lb.current.text) == found
            self.check("ending", same or not is_ours, f"nothing touched, but {name}")

    def _runs(self, name: str, versions: Sequence[str]) -> None:
        node = self.world.nodes[name]
        opened = self.opened
        assert opened is not None
        was_stopped = any(stopped == name for stopped, _ in self.stops)
        is_good = self._is_well(node, versions)
        release = (opened.release, artifact_of(opened.release))
        wanted = (release, (self.was[name], self.lay[name]))[: len(versions)]
        is_good = is_good and (not was_stopped or (node.serves, node.artifact) in wanted)
        if was_stopped or len(versions) == 1:
            self.check("ending", is_good, f"{name} serves {node.serves}")
        is_out_before = name in opened.left_out and not was_stopped
        for lb in self.counting():
            is_in = name in self.world.up(lb) or self._is_theirs(lb)
            is_edited = lb.authors[lb.text] == PERSON
            # Switched off since the last look: nobody saw it, and it sends nothing to anybody.
            is_fine = is_in or is_out_before or is_edited or lb.is_away
            self.check("ending", is_fine, f"{lb.name} sends nothing to {name}")

    def _files_are(self, author: str) -> None:
        for lb in self.counting():
            is_so = lb.authors[lb.text] == author or self._is_theirs(lb)
            self.check("ending", is_so, f"the file on {lb.name} is of {lb.authors[lb.text]}")
