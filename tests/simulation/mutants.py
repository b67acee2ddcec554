"""The engine with one thing wrong, many times over: what the simulator must notice.

A mutant is the source with one text replaced by another, in a copy of its own; the simulator runs
there unchanged until a promise is broken. `python -m tests.simulation.mutants` prints which seed
catches each; one that is not caught is a hole in the simulator, or no mistake at all.
"""

from __future__ import annotations

import itertools
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.simulation.mistakes import MUTANTS, Mutant
from tests.simulation.noticed import HINTS, SCENARIOS
from tests.simulation.scenario import scenario_of
from tests.simulation.simulate import simulate

ROOT = Path(__file__).resolve().parents[2]
SEEDS_MAX = 1500


@contextmanager
def mutated(mutant: Mutant) -> Iterator[Path]:
    """A copy of the sources with the mistake in it.

    Raises:
        ValueError: the text to be replaced is not there: the mutant is out of date.
    """
    with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
        copy = Path(folder)
        for part in ("rolling_deploy", "templates", "tests/simulation"):
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / part, copy / part, ignore=ignored)
        for name, there, instead in mutant.edits:
            path = copy / name
            text = path.read_text(encoding="utf-8")
            if there not in text:
                raise ValueError(f"mutant `{mutant.name}`: `{there}` is not in {name}")
            path.write_text(text.replace(there, instead), encoding="utf-8")
        yield copy


def caught_by(mutant: Mutant, seeds_max: int = SEEDS_MAX) -> str:
    """Answers which seed notices the mutant and how it says so; empty when none does."""
    with mutated(mutant) as copy:
        argv = [sys.executable, "-m", "tests.simulation.mutants", CHILD, mutant.name]
        done = subprocess.run(
            [*argv, str(seeds_max)],
            cwd=copy,
            env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(copy)},
            capture_output=True,
            text=True,
            check=False,
            timeout=900,
        )
    said = done.stdout.strip()
    # A mutant that cannot even run proves nothing: only a promise that was seen broken counts.
    return said if done.returncode == 1 and said.startswith("seed ") else ""


CHILD = "--in-a-copy"


def look_for(name: str, seeds_max: int) -> int:
    """Run, in a copy that has the mistake, until a promise is broken; answers 1 when one was."""
    first = list(SCENARIOS.get(name, ()))
    first += [scenario_of(HINTS[name])] if name in HINTS else []
    for scenario in itertools.chain(first, map(scenario_of, range(seeds_max))):
        broken = simulate(scenario).broken
        if broken:
            print(f"seed {scenario.seed}: {broken[0]}")
            return 1
    return 0


def main() -> int:
    """Answers 1 when a mutant was not caught."""
    wanted = sys.argv[1:]
    if wanted[:1] == [CHILD]:
        return look_for(wanted[1], int(wanted[2]))
    alive = 0
    for mutant in MUTANTS:
        if wanted and not any(word in mutant.name for word in wanted):
            continue
        said = caught_by(mutant)
        alive += not said
        print(f"{'caught' if said else 'ALIVE '}  {mutant.name}: {said[:150]}", flush=True)
    print(f"{len(MUTANTS)} mutants, {alive} alive")
    return 1 if alive else 0


if __name__ == "__main__":
    sys.exit(main())
