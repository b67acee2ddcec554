"""Doing the same thing to many machines at the same time, on threads that never hold us up.

Daemon threads, not an executor: an executor's threads are joined when the interpreter exits, so
one machine that never answers would keep a finished or interrupted run from ending.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")

PARALLEL_MAX = 16
"""Measured on two cores: 8 to 16 SSH handshakes at once give the best wall time."""


_is_in_turn = False


@contextmanager
def in_turn() -> Iterator[None]:
    """While it lasts, everything is called in order on the caller's own thread: repeatable."""
    global _is_in_turn  # noqa: PLW0603 # one switch for the process, set before anything runs
    before, _is_in_turn = _is_in_turn, True
    try:
        yield
    finally:
        _is_in_turn = before


def at_once(calls: Mapping[K, Callable[[], T]], parallel: int = PARALLEL_MAX) -> dict[K, T]:
    """Call everything, at most `parallel` at a time, and answer what each gave, by its key.

    Raises:
        Exception: the first that any call raised, once all have ended.
    """
    if len(calls) == 1 or _is_in_turn:
        return {key: call() for key, call in calls.items()}
    answers: queue.SimpleQueue[tuple[K, T | None, Exception | None]] = queue.SimpleQueue()
    todo: queue.SimpleQueue[tuple[K, Callable[[], T]]] = queue.SimpleQueue()
    for item in calls.items():
        todo.put(item)
    for _ in range(min(parallel, len(calls))):
        threading.Thread(target=_work, args=(todo, answers), daemon=True, name="at-once").start()
    came: dict[K, T] = {}
    first: Exception | None = None
    for _ in calls:
        key, value, error = answers.get()
        if error is not None:
            first = first or error
        else:
            came[key] = value  # type: ignore[assignment] # no error, so it is what the call gave
    if first is not None:
        raise first
    return {key: came[key] for key in calls}


def _work(
    todo: queue.SimpleQueue[tuple[K, Callable[[], T]]],
    answers: queue.SimpleQueue[tuple[K, T | None, Exception | None]],
) -> None:
    while True:
        try:
            key, call = todo.get_nowait()
        except queue.Empty:
            return
        try:
            answers.put((key, call(), None))
        except Exception as error:  # noqa: BLE001 # raised again where it is waited for
            answers.put((key, None, error))
