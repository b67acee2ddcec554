"""The one loop: fold, look, check, decide, write the intent, act, write the outcome, again.

`run` and `resume` both come here, and there is no other way for anything to be done. Nothing in
this file cleans up: a death at any line leaves the same kind of record as a death at any other.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar, cast

from rolling_deploy.errors import Interrupted, InvariantBroken, RolloutHeld
from rolling_deploy.ports import (
    Awaiting,
    Clock,
    FenceToken,
    Journal,
    Machines,
    Reporter,
    Said,
    Written,
)
from rolling_deploy.rollout.decide import decide, interest
from rolling_deploy.rollout.facts import Closed, Ended, Fact, Halted, Intended, Opened
from rolling_deploy.rollout.fold import advance, fold, step_key
from rolling_deploy.rollout.forecast import ahead
from rolling_deploy.rollout.journal import Entry
from rolling_deploy.rollout.move import Act, Finish, Halt, Note, Wait
from rolling_deploy.rollout.observed import Interest, Seen
from rolling_deploy.rollout.record import Record
from rolling_deploy.rollout.safety import check
from rolling_deploy.rollout.step import Outcome, Result, Step, changes_something, machine_of
from rolling_deploy.rollout.view import wanted_out

TURNS_MAX = 1_000_000
"""A bound on the loop. A rollout of 300 backends takes about 4,000 turns, waits of hours some
thousands more."""

POLL_S = 0.2
"""How often a signal is asked for while something slow runs."""

STANDSTILL_MAX_MS = 5_000
"""Who stood still for longer looks again before anything else: a process that was stopped or got
no time, a laptop that was suspended. Far more than a busy machine takes between two polls, and so
little that what people do meanwhile is no more than what they do between any look and its act."""

LOOKS_AGAIN_MAX = 5
"""How often in a row it looks again before it decides: on a machine that gets hardly any time the
last look is the newest there will be. What is sent is asked once more."""

NOT_SENT_MAX = 10
"""How often in one life a step may cost no try because it was not sent; then it costs one, so that
a machine that never gets time comes to a halt."""

GRACE_S = 1.0
"""What runs when a signal comes gets this long to answer; nothing new starts."""

T = TypeVar("T")
A = TypeVar("A")

WAIT_SLICE_MS = 30_000
"""The longest single wait before looking again, so that a person's edit is noticed meanwhile."""


@dataclass
class Stop:
    """Set by a signal handler; asked by the loop wherever it may stop."""

    signal_number: int = 0
    is_heard: bool = False
    """The loop runs and will hear a request; before that a signal may end the program itself."""
    _set: threading.Event = field(default_factory=threading.Event)

    def request(self, signal_number: int) -> None:
        """Ask the loop to stop: nothing new starts from now on."""
        self.signal_number = signal_number
        self._set.set()

    @property
    def is_requested(self) -> bool:
        """Answers whether a signal came."""
        return self._set.is_set()


Work = Callable[[], None]


def in_thread(work: Work, name: str) -> None:
    """Do the work on a thread of its own."""
    threading.Thread(target=work, daemon=True, name=name).start()


@dataclass
class Pulse:
    """Tells whether this process stood still. It is felt at every poll, so whoever only waits for
    slow machines did not.
    """

    clock: Clock
    stood_ms: int = 0
    """The longest time between two beats since the beginning."""
    _last: tuple[int, int] | None = None

    def begin(self) -> None:
        """Forget what was before: a look begins."""
        self.stood_ms, self._last = 0, None
        self.feel()

    def feel(self) -> bool:
        """Answers whether it stood still for long since the beginning.

        By both clocks: the wall clock may have been set back, and on some systems the other one
        stands still while the machine sleeps. One that was set ahead costs a look too many.
        """
        now = (self.clock.now_ms(), self.clock.steady_ms())
        for before, after in zip(self._last or now, now, strict=True):
            self.stood_ms = max(self.stood_ms, after - before)
        self._last = now
        return self.stood_ms > STANDSTILL_MAX_MS


@dataclass
class Runner:
    """Drives one rollout from wherever its record stands to a halt or its end."""

    machines: Machines
    journal: Journal
    clock: Clock
    reporter: Reporter
    token: FenceToken
    stop: Stop = field(default_factory=Stop)
    last_seen: Seen | None = field(default=None, init=False)
    spawn: Callable[[Work, str], None] = in_thread
    """How slow work is started. Doing it in place instead makes every run repeatable."""
    pulse: Pulse = field(init=False)
    _looks_again: int = field(default=0, init=False)
    """In a row."""
    _not_sent: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.pulse = Pulse(self.clock)

    def open(self, facts: Sequence[Fact]) -> None:
        """Write the first facts of this life, and tell them.

        Raises:
            RolloutHeld, RolloutHalted, RecordWrong: see `ports.Journal.append`.
        """
        self.stop.is_heard = True
        before = self.journal.entries()
        record = fold(before) if before else None
        for entry in self.journal.append(facts, before_acting=True):
            record = fold((entry,)) if record is None else advance(record, entry)
            self.reporter.event(Written(entry, record))

    def run(self) -> tuple[Record, Halted | Closed]:
        """Go on until the rollout is halted or closed, and answer which.

        Raises:
            Interrupted: a signal came; what ran remotely is in doubt and named.
            RolloutHeld: somebody has taken over.
            InvariantBroken: a bug; nothing was done about it.
        """
        try:
            self.stop.is_heard = True
            return self._run()
        finally:
            self.stop.is_heard = False

    def _run(self) -> tuple[Record, Halted | Closed]:
        record = fold(self.journal.entries())
        seen, asked = self._look(record)
        for _ in range(TURNS_MAX):
            # What was noted may ask for more than was looked at; then look again first.
            if not asked.covers(interest(record)):
                seen, asked = self._look(record)
            self._leave_if_asked(record)
            if self.pulse.feel() and self._looks_again < LOOKS_AGAIN_MAX:
                seen, asked = self._look_again(record)
                continue
            self._looks_again = 0
            move = decide(record, seen)
            match move:
                case Note():
                    record = self._write(record, move.facts)
                case Act():
                    check(record, seen, move.steps)
                    record, is_anything_done = self._act(record, move.steps)
                    seen, asked = self._look(record) if is_anything_done else (seen, asked)
                case Wait():
                    self._wait(move, record)
                    seen, asked = self._look(record)
                case Halt():
                    return self._ended(record, move.halted, is_new=move.is_new), move.halted
                case Finish():
                    return self._ended(record, move.closed, is_new=move.is_new), move.closed
        raise InvariantBroken(f"no end after {TURNS_MAX} turns")

    def _ended(self, record: Record, end: Halted | Closed, *, is_new: bool) -> Record:
        return self._write(record, (end,), before_acting=True) if is_new else record

    def _look_again(self, record: Record) -> tuple[Seen, Interest]:
        """The world went on while we stood still: nothing is decided on what was seen before."""
        self._looks_again += 1
        self.reporter.event(Said(self.clock.now_ms(), f"{self._standstill()}; looking again"))
        return self._look(record)

    def _standstill(self) -> str:
        seconds = f"{self.pulse.stood_ms / 1000:.0f} s"
        return f"this process stood still for {seconds} after it looked, or its clock was set"

    def _look(self, record: Record) -> tuple[Seen, Interest]:
        asked = ahead(record)
        self.pulse.begin()
        seen = self._in_thread(lambda: self.machines.look(asked), record)
        self.last_seen = seen
        return seen, asked

    def _write(
        self, record: Record, facts: Sequence[Fact], *, before_acting: bool = False
    ) -> Record:
        entries = self._in_thread(
            lambda: self.journal.append(facts, before_acting=before_acting), record
        )
        for entry in entries:
            record = self._advance(record, entry)
        return record

    def _advance(self, record: Record, entry: Entry) -> Record:
        record = advance(record, entry)
        self.reporter.event(Written(entry, record))
        return record

    def _act(self, record: Record, steps: tuple[Step, ...]) -> tuple[Record, bool]:
        """Persist every intent, then do the steps at the same time, each on its own machine.

        Outcomes are written as they come, so that a death in between leaves in doubt only what
        really is. Answers also whether anything was done: a step that is not configured leaves
        what was seen as it was.
        """
        tried = record.attempts
        facts = [Intended(s, tried.get(step_key(s, record.claims), 0) + 1) for s in steps]
        # What only reads needs no witness elsewhere: its intent travels with the next that does.
        acts = any(changes_something(step) for step in steps)
        entries = self._in_thread(lambda: self.journal.append(facts, before_acting=acts), record)
        for entry in entries:
            record = self._advance(record, entry)
            # Whoever reads what is told may be slow: that is felt for each line, not for all.
            self.pulse.feel()
        # An intent that was written and not begun is in doubt, and looked at: that is safe.
        self._leave_if_asked(record)
        if self.pulse.feel():
            not_sent = self._none_was_sent()
            return self._write(record, [Ended(entry.seq, not_sent) for entry in entries]), True
        answers: queue.Queue[tuple[int, Result | BaseException]] = queue.Queue()
        for entry, step in zip(entries, steps, strict=True):
            self._start(entry.seq, step, record.opened, answers)
        is_fenced = is_anything_done = False
        for _ in steps:
            seq, result = self._interruptible(answers, record)
            if isinstance(result, BaseException):
                raise result
            is_fenced = is_fenced or result.is_fenced
            is_anything_done |= result.outcome is not Outcome.NOT_CHECKED
            # After a refusal by the fence the record is no longer ours to write.
            if not is_fenced:
                record = self._write(record, (Ended(seq, result),))
        if is_fenced:
            raise RolloutHeld(
                "somebody else has taken this rollout over",
                where=", ".join(machine_of(step) for step in steps),
                site="whoever holds it now answers for the site; this run changed nothing more",
                next_step="rolling-deploy status",
            )
        return record, is_anything_done

    def _none_was_sent(self) -> Result:
        """It stood still after the intents were written: what they rest on is too old."""
        self._not_sent += 1
        outcome = Outcome.NOT_SENT if self._not_sent <= NOT_SENT_MAX else Outcome.REFUSED
        return Result(outcome, f"nothing was sent: {self._standstill()}")

    def _start(
        self,
        seq: int,
        step: Step,
        opened: Opened,
        answers: queue.Queue[tuple[int, Result | BaseException]],
    ) -> None:
        def perform() -> None:
            try:
                answers.put((seq, self._timed(step, opened)))
            except BaseException as error:  # noqa: BLE001 # who says nothing is waited for for ever
                answers.put((seq, error))

        self.spawn(perform, machine_of(step))

    def _timed(self, step: Step, opened: Opened) -> Result:
        began = self.clock.now_ms()
        try:
            result = self.machines.perform(step, opened, self.token)
        except Exception as error:  # noqa: BLE001 # one machine must answer; the bug is in the text
            result = Result(Outcome.UNKNOWN, f"{type(error).__name__}: {error}")
        return replace(result, took_ms=result.took_ms or self.clock.now_ms() - began)

    def _wait(self, wait: Wait, record: Record) -> None:
        """Wait on the machines, in slices, so that what people do meanwhile is seen too."""
        now_ms = self.clock.now_ms()
        self.reporter.event(Awaiting(now_ms, wait.until_ms, wait.why))
        limit_ms = max(0, min(wait.until_ms - now_ms, WAIT_SLICE_MS))
        self._in_thread(lambda: self.machines.wait(wait.condition, limit_ms), record)

    def _in_thread(self, call: Callable[[], T], record: Record) -> T:
        """Do something slow on a thread, so that a signal is heard while it lasts."""
        answers: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue()

        def work() -> None:
            try:
                answers.put((call(), None))
            except BaseException as error:  # noqa: BLE001 # raised again where it is waited for
                answers.put((None, error))

        self.spawn(work, "look")
        value, error = self._interruptible(answers, record)
        if error is not None:
            raise error
        return cast("T", value)

    def _interruptible(self, answers: queue.Queue[A], record: Record) -> A:
        """Answers the next of `answers`; on a signal, gives what runs a moment and then leaves.

        Raises:
            Interrupted: naming what is in doubt.
        """
        while True:
            try:
                return answers.get(timeout=GRACE_S if self.stop.is_requested else POLL_S)
            except queue.Empty:
                self.pulse.feel()
                if self.stop.is_requested:
                    raise self._interrupted(record) from None

    def _interrupted(self, record: Record) -> Interrupted:
        open_steps = [
            step_key(intent.step, record.claims) for intent in record.open_intents.values()
        ]
        doubt = f"; in doubt: {', '.join(open_steps)}" if open_steps else ""
        out = ", ".join(sorted(wanted_out(record)))
        return Interrupted(
            f"ended by signal {self.stop.signal_number}{doubt}",
            signal_number=self.stop.signal_number,
            where=f"rollout {record.opened.rollout}",
            site=f"{out} is out of rotation, the others serve" if out else "nobody is out by us",
            next_step="rolling-deploy resume",
        )

    def _leave_if_asked(self, record: Record) -> None:
        if self.stop.is_requested:
            raise self._interrupted(record)
