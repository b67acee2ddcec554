"""Who runs next: tasks that take turns on one thread, in simulated time, from one seed.

A task is anything that happens by itself: an operator's process, its heartbeat, a remote command
(which may outlive whoever sent it), a person. Time passes only while everybody sleeps. Two runs
of the same seed take the same turns, to the last one.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from greenlet import getcurrent, greenlet

START_MS = 1_700_000_000_000
"""When a simulation begins, in milliseconds since the epoch."""


class Killed(BaseException):
    """The task's process is gone. No `except Exception` can survive it."""


@dataclass(eq=False)
class Task:
    """Something that happens by itself.

    Attributes:
        frozen_until_ms: it gets no turn before.
        is_dying: its next turn is its last.
        error: what it raised, if it ended so.
    """

    name: str
    runs: greenlet
    ticket: int = 0
    frozen_until_ms: int = 0
    is_dying: bool = False
    error: BaseException | None = None

    @property
    def is_over(self) -> bool:
        """Answers whether it has ended, well or not."""
        return bool(self.runs.dead)


@dataclass
class Scheduler:
    """Takes turns until nobody wants one, or a bound is reached.

    Attributes:
        turns: how many turns were taken; faults name the turn that they come before.
        before_turn: called before each turn, by the loop itself.
    """

    rng: Random
    now_ms: int = START_MS
    turns: int = 0
    before_turn: Callable[[], None] = lambda: None
    _hub: greenlet = field(default_factory=getcurrent)
    _queue: list[tuple[int, float, int, int, Task]] = field(default_factory=list)
    _numbers: itertools.count[int] = field(default_factory=itertools.count)
    _tasks: dict[greenlet, Task] = field(default_factory=dict)

    def spawn(self, name: str, work: Callable[[], object]) -> Task:
        """Begin something; its first turn comes when everybody else has had a chance."""

        def run() -> None:
            try:
                work()
            except Killed:
                pass
            except BaseException as error:  # noqa: BLE001 # kept for whoever drives
                task.error = error

        task = Task(name, greenlet(run, parent=self._hub))
        self._tasks[task.runs] = task
        self._push(task, self.now_ms)
        return task

    @property
    def current(self) -> Task:
        """Answers the task whose turn it is."""
        return self._tasks[getcurrent()]

    def sleep(self, ms: int) -> None:
        """Give the turn away for so long.

        Raises:
            Killed: somebody killed this task meanwhile.
        """
        task = self.current
        self._push(task, self.now_ms + max(0, ms))
        self._hub.switch()
        if task.is_dying:
            raise Killed(task.name)

    def pause(self) -> None:
        """A moment in which others may have their turn: 0 to 3 ms."""
        self.sleep(self.rng.randrange(4))

    def wake(self, task: Task) -> None:
        """Give a sleeping task its turn now."""
        if not task.is_over:
            self._push(task, self.now_ms)

    def kill(self, task: Task) -> None:
        """End a task where it stands; whatever it still tries does not happen."""
        task.is_dying = True
        task.frozen_until_ms = 0
        self.wake(task)

    def freeze(self, task: Task, ms: int) -> None:
        """Stop a task for so long; nothing tells it."""
        task.frozen_until_ms = max(task.frozen_until_ms, self.now_ms + ms)

    def thaw(self, task: Task) -> None:
        """A task that was frozen goes on."""
        if task.frozen_until_ms > self.now_ms:
            task.frozen_until_ms = 0
            self.wake(task)

    def _push(self, task: Task, at_ms: int) -> None:
        task.ticket += 1
        tie = self.rng.random()
        heapq.heappush(self._queue, (at_ms, tie, next(self._numbers), task.ticket, task))

    @staticmethod
    def _is_stale(ticket: int, task: Task) -> bool:
        return ticket != task.ticket

    def run(self, is_over: Callable[[], bool], turns_max: int) -> None:
        """Take turns until `is_over`, nobody wants one any more, or the bound is reached."""
        while self._queue and self.turns < turns_max and not is_over():
            at_ms, _, _, ticket, task = heapq.heappop(self._queue)
            if task.is_over or self._is_stale(ticket, task):
                continue
            self.now_ms = max(self.now_ms, at_ms)
            self.turns += 1
            self.before_turn()
            if self._is_stale(ticket, task):
                continue  # woken or killed right now: it has a newer turn
            if task.frozen_until_ms > self.now_ms:
                self._push(task, task.frozen_until_ms)
                continue
            task.runs.switch()
            if task.runs.dead:
                del self._tasks[task.runs]

    def end(self) -> None:
        """Kill whatever is left, so that nothing stays behind in this process."""
        for task in list(self._tasks.values()):
            task.is_dying = True
            for _ in range(100):
                if task.is_over:
                    break
                task.runs.switch()
        self._tasks.clear()
        self._queue.clear()
