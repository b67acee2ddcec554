"""What several operators left behind, judged from outside: the record, the fences, the files.

None of it asks the program under test who acted; it reads what lies on the machines.
"""

from __future__ import annotations

import contextlib
import json
import re
import threading
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from rolling_deploy.rollout.facts import Closed, Opened, TakenOver
from rolling_deploy.rollout.journal import Chain, read_chain
from tests.rig_tools import Rig

PAUSE_S = 0.02
_GENERATION = re.compile(rb'^# generation: "(?P<rollout>[^".]+)\.(?P<epoch>[0-9]+)\.', re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Life:
    """One operator's part of a record, from its first fact to its last."""

    epoch: int
    holder: str
    begins: object
    ends: object


@dataclass(frozen=True, slots=True)
class Told:
    """One rollout's record as all machines have it."""

    rollout: str
    chain: Chain
    lives: Sequence[Life]


def read_record(rig: Rig, *, disks: Sequence[str] = ()) -> Told:
    """Answers the record of the rollout in hand, after it was found to be one chain everywhere.

    Every life must have an epoch above the one before, and be the only one with it.

    Args:
        disks: operators whose own records must be a part of it too.
    """
    copies: dict[str, Chain] = {}
    rollouts = set()
    for name, folder in state_dirs(rig).items():
        rollout = (folder / "current").read_text(encoding="utf-8").strip()
        rollouts.add(rollout)
        copies[name] = read_chain((folder / f"{rollout}.jsonl").read_bytes(), name)
    assert len(rollouts) == 1, rollouts
    rollout = rollouts.pop()
    for name in disks:
        path = rig.states / name / "shop" / f"{rollout}.jsonl"
        if path.exists():
            copies[name] = read_chain(path.read_bytes(), name)
    longest = max(copies.values(), key=lambda chain: len(chain.lines))
    for name, chain in copies.items():
        assert chain.is_prefix_of(longest), f"{name} holds another record"
    return Told(rollout, longest, lives_in(longest))


def lives_in(chain: Chain) -> list[Life]:
    """Answers the lives in order; fails when one of them writes after another took over."""
    lives: list[Life] = []
    for entry in chain.entries:
        begins = isinstance(entry.fact, Opened | TakenOver)
        if begins:
            assert not lives or entry.epoch > lives[-1].epoch, "a takeover without a higher epoch"
            lives.append(Life(entry.epoch, entry.holder, entry.fact, entry.fact))
            continue
        last = lives[-1]
        assert (entry.epoch, entry.holder) == (last.epoch, last.holder), (
            f"entry {entry.seq} is of {entry.holder} (epoch {entry.epoch}), "
            f"after {last.holder} (epoch {last.epoch}) took over"
        )
        lives[-1] = Life(last.epoch, last.holder, last.begins, entry.fact)
    assert len({life.holder for life in lives}) == len(lives)
    assert not any(isinstance(life.ends, Closed) for life in lives[:-1])
    return lives


def state_dirs(rig: Rig) -> dict[str, Path]:
    """Answers where each load balancer keeps the lock, the fence and its copy of the record."""
    return {b.name: b.machine.directory / "state" for b in rig.fleet.balancers}


def fences(rig: Rig) -> dict[str, tuple[int, str]]:
    """Answers the highest epoch each machine has seen, and whose it is."""
    places = {**state_dirs(rig), **{n.name: n.root / ".rolling-deploy" for n in rig.fleet.nodes}}
    found = {}
    for name, folder in places.items():
        with contextlib.suppress(FileNotFoundError):
            epoch, _, holder = (folder / "fence").read_text(encoding="utf-8").strip().partition(" ")
            if epoch:
                found[name] = (int(epoch), holder)
    return found


class Watch:
    """Looks at every fence and managed file all the time, and keeps each thing that it saw."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self.fences: dict[str, list[tuple[int, str]]] = defaultdict(list)
        self.published: dict[str, list[tuple[str, int]]] = defaultdict(list)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join(30)

    def _look(self) -> None:
        while True:
            is_last = self._over.wait(PAUSE_S)
            for name, fence in fences(self._rig).items():
                _note(self.fences[name], fence)
            for name, text in self._rig.managed().items():
                found = _GENERATION.search(text)
                if found:
                    whose = (found["rollout"].decode(), int(found["epoch"]))
                    _note(self.published[name], whose)
            if is_last:
                return

    def expect_one_at_a_time(self) -> None:
        """On no machine did anything of a lower epoch follow one of a higher, nor two share one."""
        assert self.fences
        for name, seen in self.fences.items():
            epochs = [epoch for epoch, _ in seen]
            assert epochs == sorted(set(epochs)), f"the fence of {name} went {seen}"
        for name, files in self.published.items():
            epochs = [epoch for _, epoch in files]
            assert epochs == sorted(epochs), f"the file of {name} went {files}"
        self._expect_the_same_holders()

    def _expect_the_same_holders(self) -> None:
        """An epoch is one holder's on every machine where anybody got that far."""
        holders: dict[int, set[str]] = defaultdict(set)
        for seen in self.fences.values():
            for epoch, holder in seen:
                holders[epoch].add(holder)
        shared = {epoch: names for epoch, names in holders.items() if len(names) > 1}
        assert not shared, shared


def _note(
    seen: list[tuple[int, str]] | list[tuple[str, int]], value: tuple[object, object]
) -> None:
    if not seen or seen[-1] != value:
        seen.append(value)  # type: ignore[arg-type] # each list holds one kind


def said(events: Sequence[Mapping[str, object]]) -> list[str]:
    """Answers what a command told that is no fact of a record."""
    return [str(event["text"]) for event in events if event["event"] == "said"]


def events_of(lines: str) -> list[dict[str, object]]:
    """Answers the events in a command's standard output."""
    return [json.loads(line) for line in lines.splitlines() if line.startswith('{"')]
