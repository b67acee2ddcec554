"""`python -m tests.simulation`: many seeds, or one of them told turn by turn, or cut down.

python -m tests.simulation --seeds 2000        figures, and every seed that broke a promise
python -m tests.simulation --seed 631          the whole trace of one
python -m tests.simulation --seed 631 --shrink the smallest scenario that still breaks it
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field

from tests.simulation.promises import INVARIANTS
from tests.simulation.scenario import scenario_of
from tests.simulation.shrink import shrunk
from tests.simulation.simulate import Outcome, simulate

LEGEND = """\
Each line: milliseconds since the beginning, the turn, who, what.
  FAULT     a misfortune, or a person's hand, comes right before this turn
  BROKEN    a promise is broken here
  people    whoever starts the tool, waits, and answers halts
  E/N FACT  entry N of the record, written under epoch E
  -> STEP   how a step on a machine came out, as the operator heard it
"""
CHUNK = 20


@dataclass
class Figures:
    """What many simulations amount to."""

    seeds: int = 0
    rollouts: int = 0
    lives: int = 0
    turns: int = 0
    checked: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    broken: dict[int, tuple[str, ...]] = field(default_factory=dict)

    def add(self, outcome: Outcome) -> None:
        """Count one more."""
        self.seeds += 1
        self.rollouts += outcome.rollouts
        self.lives += outcome.lives
        self.turns += outcome.turns
        self.checked += outcome.checked
        self.ends += outcome.ends
        if outcome.broken:
            self.broken[outcome.scenario.seed] = outcome.broken

    def join(self, other: Figures) -> None:
        """Count what another process counted."""
        self.seeds += other.seeds
        self.rollouts += other.rollouts
        self.lives += other.lives
        self.turns += other.turns
        self.checked += other.checked
        self.ends += other.ends
        self.broken |= other.broken

    def text(self, took_s: float) -> str:
        """Answers the figures, one a line."""
        ends = ", ".join(f"{count} {end}" for end, count in self.ends.most_common())
        lines = [
            f"seeds: {self.seeds}, rollouts brought to an end: {self.rollouts}",
            f"operators' lives: {self.lives}, turns: {self.turns}",
            f"rollouts per second: {self.rollouts / took_s:.1f} ({took_s:.0f} s)",
            f"lives ended: {ends}",
            f"invariants checked: {self.checked.total()}",
            *(f"  {self.checked[name]:>9} {name}: {text}" for name, text in INVARIANTS.items()),
            f"violations: {len(self.broken)}",
        ]
        return "\n".join(lines)


def run_seeds(seeds: Iterable[int], *, stops_at_first: bool = False) -> Figures:
    """Answers the figures of these seeds."""
    figures = Figures()
    for seed in seeds:
        try:
            figures.add(simulate(scenario_of(seed)))
        except Exception as error:  # noqa: BLE001 # `--seed` raises it; the other seeds go on
            figures.seeds += 1
            figures.broken[seed] = (f"raised {type(error).__name__}: {error}",)
        if figures.broken and stops_at_first:
            break
    return figures


def _chunks(first: int, count: int) -> Iterator[range]:
    for begin in range(first, first + count, CHUNK):
        yield range(begin, min(begin + CHUNK, first + count))


def run_many(first: int, count: int, jobs: int, limit_s: float) -> Figures:
    """Answers the figures of many seeds, on several processes, within a time if there is one."""
    figures, began = Figures(), time.monotonic()
    with ProcessPoolExecutor(jobs) as pool:
        for part in pool.map(run_seeds, _chunks(first, count)):
            figures.join(part)
            if limit_s and time.monotonic() - began > limit_s:
                pool.shutdown(wait=False, cancel_futures=True)
                break
    return figures


def main() -> int:
    """Answers 1 when a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=2000, help="how many")
    parser.add_argument("--from", type=int, default=0, dest="first", help="the first seed")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seconds", type=float, default=0, help="stop after so long")
    parser.add_argument("--seed", type=int, help="tell this one turn by turn")
    parser.add_argument("--shrink", action="store_true", help="cut the one of --seed down first")
    parser.add_argument("--until-broken", action="store_true", help="stop at the first violation")
    words = parser.parse_args()
    if words.seed is not None:
        return _tell(words.seed, is_shrunk=words.shrink)
    began = time.monotonic()
    if words.until_broken:
        seeds = range(words.first, words.first + words.seeds)
        figures = run_seeds(seeds, stops_at_first=True)
    else:
        figures = run_many(words.first, words.seeds, words.jobs, words.seconds)
    print(figures.text(time.monotonic() - began))
    for seed, broken in sorted(figures.broken.items()):
        print(f"seed {seed}: {broken[0]}\n  python -m tests.simulation --seed {seed} --shrink")
    return 1 if figures.broken else 0


def _tell(seed: int, *, is_shrunk: bool) -> int:
    scenario = scenario_of(seed)
    if is_shrunk:
        scenario = shrunk(scenario)
    outcome = simulate(scenario)
    print(scenario.described(), LEGEND, *outcome.trace, sep="\n")
    print(*outcome.broken or ("no promise was broken",), sep="\n")
    print(f"\n{scenario!r}")
    return 1 if outcome.broken else 0


if __name__ == "__main__":
    sys.exit(main())
