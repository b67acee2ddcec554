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
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rolling_deploy.rollout.fleet import Policy
from tests.simulation.misfortune import Fault
from tests.simulation.regressions import REGRESSIONS
from tests.simulation.scenario import Scenario, scenario_of
from tests.simulation.shape import Shape
from tests.simulation.simulate import simulate

ROOT = Path(__file__).resolve().parents[2]
SEEDS_MAX = 1500

EARLIER, SAFETY = "rolling_deploy/rollout/earlier.py", "rolling_deploy/rollout/safety.py"
CLAIMING, CAPACITY = "rolling_deploy/rollout/claiming.py", "rolling_deploy/rollout/capacity.py"
ROTATION, ACTIVATION = "rolling_deploy/rollout/rotation.py", "rolling_deploy/rollout/activation.py"
COUNTING, ENDING = "rolling_deploy/rollout/counting.py", "rolling_deploy/rollout/ending.py"
VIEW, FOLD = "rolling_deploy/rollout/view.py", "rolling_deploy/rollout/fold.py"
RUNNER, JOURNAL = "rolling_deploy/runner.py", "rolling_deploy/rollout/journal.py"
RECORD, LIFE = "rolling_deploy/operations/record.py", "rolling_deploy/operations/life.py"
OPENING = "rolling_deploy/operations/opening.py"
WORLD, THERE = "tests/simulation/world.py", "tests/simulation/fleet_commands.py"
MACHINES, COPIES = "tests/simulation/machines.py", "tests/simulation/record_commands.py"


@dataclass(frozen=True)
class Mutant:
    """One mistake.

    Attributes:
        edits: file, the text that stands there, the text instead.
    """

    name: str
    edits: tuple[tuple[str, str, str], ...]


def _skips(file: str, rule: str) -> tuple[str, str, str]:
    """The rule has nothing to say, ever."""
    return (
        file,
        f"def {rule}(view: View) -> Move | None:\n",
        f"def {rule}(view):\n    return None\n",
    )


_NO_DRAIN_IN_SAFETY = (SAFETY, "if balancer.earlier_workers != 0 and not is_drained:", "if False:")
_OWN_FILE_IN_SAFETY = (SAFETY, '"" if is_ours or found or is_back else', '"" if True else')

MUTANTS: tuple[Mutant, ...] = (
    Mutant("no flock", ((WORLD, "while self.is_busy(machine):", "while False:"),)),
    Mutant("no epoch", ((WORLD, "if epoch < highest.epoch or is_other:", "if False:"),)),
    Mutant(
        "the epoch does not rise with a new life",
        (
            (
                LIFE,
                "token = FenceToken(record.opened.rollout, hand.epoch + 1",
                "token = FenceToken(record.opened.rollout, hand.epoch",
            ),
        ),
    ),
    Mutant("no digest compare", ((THERE, "if sha(lb.text) != step.replaces:", "if False:"),)),
    Mutant("no guard", ((THERE, "if not world.has_guard:", "if True:"),)),
    Mutant(
        "record after acting",
        (
            (
                RUNNER,
                "        tried = record.attempts\n",
                """        tried = record.attempts
        for early in steps:
            self.machines.perform(early, record.opened, self.token)
""",
            ),
        ),
    ),
    Mutant(
        "an intent is on the own disk only",
        ((RECORD, "        if before_acting:\n", "        if False:\n"),),
    ),
    Mutant(
        "an intent is on the load balancers only",
        ((RECORD, "        self.file.put(lines, self._size)\n", ""),),
    ),
    Mutant(
        "redo instead of look",
        (
            (EARLIER, "move import Free, ", "move import Act, Free, "),
            (
                EARLIER,
                "    doubt = Result(Outcome.IN_DOUBT",
                """    return Act(tuple(i.step for i in open_intents.values()))
    doubt = Result(Outcome.IN_DOUBT""",
            ),
        ),
    ),
    Mutant(
        "trust the exit code of a reload",
        (
            (VIEW, "is_live = seen.live == stamp.generation and seen.is_settled", "is_live = True"),
            (
                SAFETY,
                "if balancer.live != stamp.generation or not balancer.is_settled:",
                "if False:",
            ),
        ),
    ),
    Mutant(
        "ignore parked", ((OPENING, "parked = found.parked - left_out", "parked = frozenset()"),)
    ),
    Mutant(
        "skip the capacity guard",
        (
            (CAPACITY, '    if claimed <= out_already:\n        return ""', '    return ""'),
            (SAFETY, "if len(left) < record.opened.policy.serving_min:", "if False:"),
        ),
    ),
    Mutant(
        "forget an older generation",
        (
            (
                MACHINES,
                "for workers in self.living(now_ms) if",
                "for workers in self.living(now_ms) if workers in self.retiring[-1:] and",
            ),
        ),
    ),
    Mutant("no drain", (_skips(ROTATION, "drain"), _NO_DRAIN_IN_SAFETY)),
    Mutant("no drain, and safety awake", (_skips(ROTATION, "drain"),)),
    Mutant(
        "what cannot be told of workers is taken for none",
        (
            (ROTATION, "seen.earlier_workers != 0", "(seen.earlier_workers or 0) != 0"),
            (ROTATION, "also_unknown and seen.earlier_workers is None", "False"),
            (SAFETY, "balancer.earlier_workers != 0", "(balancer.earlier_workers or 0) != 0"),
        ),
    ),
    Mutant(
        "put back without a proof",
        (
            (
                VIEW,
                "        if seen is None or not self.is_on_target(backend) or seen.health is None:",
                """        return True
        if seen is None or not self.is_on_target(backend) or seen.health is None:""",
            ),
        ),
    ),
    Mutant(
        "a healthy answer of any version is good",
        ((VIEW, "return seen.health.version == wanted", "return True"),),
    ),
    Mutant(
        "put back what is not proven",
        (
            (
                VIEW,
                "return others | (record.unproven & backends)",
                "return others",
            ),
            (SAFETY, "    back = record.unproven - step.out\n", "    back = ()\n"),
        ),
    ),
    Mutant(
        "attempts begin anew with each life",
        (
            (
                FOLD,
                "def _taken_over(record: Record, at_ms: int) -> Record:\n",
                "def _taken_over(record, at_ms):\n    record = replace(record, attempts={})\n",
            ),
        ),
    ),
    Mutant(
        "a load balancer that is cut off counts as out",
        (
            (
                VIEW,
                "if lb not in self.record.off)",
                "if lb not in self.record.off and name_seen(self, lb))",
            ),
            (
                VIEW,
                "@dataclass(frozen=True)\nclass View:",
                """def name_seen(view, name):
    return not isinstance(view.seen.load_balancers.get(name), Unreachable)


@dataclass(frozen=True)
class View:""",
            ),
            (SAFETY, 'return f"{name} was not seen"', "continue"),
        ),
    ),
    Mutant(
        "a hand edit is written over",
        (
            (ROTATION, "if seen is None or name in view.edited:", "if seen is None:"),
            _OWN_FILE_IN_SAFETY,
        ),
    ),
    Mutant("the original is not kept", ((THERE, "    if step.adopt:\n", "    if False:\n"),)),
    Mutant(
        "an adopted file is not taken for an original",
        ((ROTATION, "adopts = opened.purpose is Purpose.ADOPT and", "adopts = False and"),),
    ),
    Mutant("a command that still runs is not waited for", (_skips(EARLIER, "await_earlier"),)),
    Mutant("of two records the longer one wins", ((JOURNAL, "    if odd:\n", "    if False:\n"),)),
    Mutant(
        "a copy is added to without looking",
        (
            (
                COPIES,
                "if size and _sha(before[:size].splitlines(keepends=True)[-1]) != tail_sha:",
                "if False:",
            ),
            (
                COPIES,
                "if extra and _sha(extra) != loose and not stdin.startswith(extra):",
                "if False:",
            ),
        ),
    ),
    Mutant(
        "the session store is not asked", ((CLAIMING, "check.verdict is Verdict.REFUSED", "False"),)
    ),
    Mutant("no warm-up", (_skips(ACTIVATION, "warm_up"),)),
    Mutant(
        "pruning forgets the release to go back to",
        ((LIFE, "*([before] if before else [])", ""),),
    ),
    Mutant("nothing is put back before the end", (_skips(ROTATION, "put_back"),)),
    Mutant(
        "an aborted unadoption leaves an original unserved",
        (
            (
                ROTATION,
                "isinstance(step, Unadopt) and step.replaces == originals.get(step.load_balancer)",
                "False",
            ),
        ),
    ),
    Mutant(
        "a rollout is done though a load balancer is off",
        ((ENDING, "    if record.off:\n", "    if False:\n"),),
    ),
    Mutant(
        "once declared off, a load balancer is off for ever",
        ((LIFE, "    if desk.off != record.off:\n", "    if desk.off:\n"),),
    ),
    Mutant(
        "a load balancer that was off is not met",
        (
            (
                LIFE,
                "lost=not hand.is_local, reason=desk.reason), *met]",
                "lost=not hand.is_local, reason=desk.reason)]",
            ),
        ),
    ),
    Mutant(
        "a new life counts requests from its own beginning",
        ((COUNTING, "Counting(record.losses or Losses(), ", "Counting(Losses(), "),),
    ),
    Mutant(
        "what was counted is written once more",
        (
            (
                COUNTING,
                "return Note((Counted(news), *move.facts))",
                "return Note((Counted(view.seen.losses), *move.facts))",
            ),
        ),
    ),
    Mutant(
        "failed requests halt nothing", ((COUNTING, "    if failed <= limit:\n", "    if True:\n"),)
    ),
    Mutant(
        "a person's answer forgives no failed requests",
        (
            (
                FOLD,
                "forgiven = losses.failed if record.is_forgiving else record.forgiven",
                "forgiven = record.forgiven",
            ),
        ),
    ),
)


def _around(turn: int, *kinds: tuple[str, str, int], attempts_max: int = 2) -> tuple[Scenario, ...]:
    """A rollout of two backends with these faults at about this turn: a turn is another moment as
    soon as anything takes one turn more.
    """
    return tuple(
        Scenario(
            1,
            Shape(2, 1),
            Policy(attempts_max=attempts_max),
            faults=tuple(
                Fault(at + later, kind, target, ms)
                for later, (kind, target, ms) in enumerate(kinds)
            ),
        )
        for at in range(turn - 60, turn + 100, 2)
    )


SCENARIOS: Mapping[str, tuple[Scenario, ...]] = {
    # A command stands still for a minute, its operator dies, somebody takes over, it goes on.
    "no flock": _around(338, ("slow_commands", "lb1", 60_000), ("kill", "", 0)),
    # The power fails while a backend is stopped, and only one attempt is allowed.
    "attempts begin anew with each life": _around(402, ("blackout", "", 0), attempts_max=1),
    # The operator dies while a backend is stopped; that command goes on, and somebody takes over.
    "a command that still runs is not waited for": _around(
        398, ("slow_commands", "app2", 20_000), ("kill", "", 0)
    ),
    # An unadoption is aborted while a load balancer still serves ours.
    # A person saves the file between the first compare and the rename.
    "no digest compare": REGRESSIONS[2:3],
    "an aborted unadoption leaves an original unserved": REGRESSIONS[:1],
}
"""What is made to show one mistake; tried first."""

HINTS: Mapping[str, int] = {
    "a rollout is done though a load balancer is off": 12,
    "once declared off, a load balancer is off for ever": 9,
    "a load balancer that was off is not met": 9,
    "a new life counts requests from its own beginning": 11,
    "what was counted is written once more": 26,
    "failed requests halt nothing": 46,
    "a person's answer forgives no failed requests": 11,
    "no epoch": 1104,
    "the epoch does not rise with a new life": 2,
    "no guard": 86,
    "redo instead of look": 22,
    "trust the exit code of a reload": 26,
    "ignore parked": 9,
    "skip the capacity guard": 1,
    "forget an older generation": 21,
    "no drain": 9,
    "no drain, and safety awake": 7,
    "what cannot be told of workers is taken for none": 503,
    "put back without a proof": 20,
    "a healthy answer of any version is good": 20,
    "put back what is not proven": 11,
    "a hand edit is written over": 77,
    "of two records the longer one wins": 109,
    "a copy is added to without looking": 109,
    "the session store is not asked": 459,
    "no warm-up": 7,
    "pruning forgets the release to go back to": 7,
    "a load balancer that is cut off counts as out": 331,
}
"""A seed that is known to notice a mutant; tried next, so that the short form is short."""


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
