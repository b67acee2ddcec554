"""The mistakes that the simulator must notice: which text of the engine is replaced by which.

Flock, epoch, digest, guard and the age of an intent stand in shell scripts; in the simulator it is
their stand-ins that are broken, and the contract suite asks the scripts themselves.
"""

from __future__ import annotations

from dataclasses import dataclass

EARLIER, SAFETY = "rolling_deploy/rollout/earlier.py", "rolling_deploy/rollout/safety.py"
CLAIMING, CAPACITY = "rolling_deploy/rollout/claiming.py", "rolling_deploy/rollout/capacity.py"
ROTATION, ACTIVATION = "rolling_deploy/rollout/rotation.py", "rolling_deploy/rollout/activation.py"
COUNTING, ENDING = "rolling_deploy/rollout/counting.py", "rolling_deploy/rollout/ending.py"
VIEW, FOLD = "rolling_deploy/rollout/view.py", "rolling_deploy/rollout/fold.py"
RUNNER, JOURNAL = "rolling_deploy/runner.py", "rolling_deploy/rollout/journal.py"
RECORD, LIFE = "rolling_deploy/operations/record.py", "rolling_deploy/operations/life.py"
OPENING, DECIDE = "rolling_deploy/operations/opening.py", "rolling_deploy/rollout/decide.py"
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
_ASKED_BEFORE_THE_STOP_ONLY = (
    DECIDE,
    "    keep_capacity,\n    take_out,\n    drain,\n",
    "    take_out,\n    drain,\n    keep_capacity,\n",
)
_ALL_OF_A_WAVE_OUT = (VIEW, "in_service = claim.returned - ", "in_service = frozenset() - ")
_SERVING_NOT_ASKED_IN_SAFETY = (SAFETY, "if taken & serving:", "if False:")
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
    Mutant(
        "what is back and serves is taken out again",
        (_ALL_OF_A_WAVE_OUT, _SERVING_NOT_ASKED_IN_SAFETY),
    ),
    Mutant("what is back and serves is taken out again, and safety awake", (_ALL_OF_A_WAVE_OUT,)),
    Mutant(
        "what an earlier rollout left out counts as out though it is back",
        (
            (CAPACITY, "out_already = record.left_out - returned", "out_already = record.left_out"),
            (SAFETY, "(record.left_out - returned)", "record.left_out"),
        ),
    ),
    Mutant(
        "the others are asked before the stop only",
        (_ASKED_BEFORE_THE_STOP_ONLY, _SERVING_NOT_ASKED_IN_SAFETY),
    ),
    Mutant(
        "the others are asked before the stop only, and safety awake",
        (_ASKED_BEFORE_THE_STOP_ONLY,),
    ),
    Mutant(
        "what was forced once stays forced",
        ((FOLD, "is_forced=claim.is_forced and not back", "is_forced=claim.is_forced"),),
    ),
    Mutant(
        "a standstill is not noticed",
        ((RUNNER, "return self.stood_ms > STANDSTILL_MAX_MS", "return False"),),
    ),
    Mutant(
        "a standstill is not noticed once it is decided",
        (
            (
                RUNNER,
                "        if self.pulse.feel():\n            not_sent",
                "        if False:\n            not_sent",
            ),
        ),
    ),
    Mutant(
        "a standstill is not noticed before it is decided",
        ((RUNNER, "            if self.pulse.feel() and ", "            if False and "),),
    ),
    Mutant(
        "a standstill of half a minute is none",
        ((RUNNER, "STANDSTILL_MAX_MS = 5_000", "STANDSTILL_MAX_MS = 40_000"),),
    ),
    Mutant(
        "a command may come as late as it likes",
        ((THERE, "world.now_ms - lb.intent_at_ms > LATE_MS", "False"),),
    ),
    Mutant(
        "a command may come two minutes late", ((THERE, "LATE_MS = 75_000", "LATE_MS = 120_000"),)
    ),
)
