"""What can go wrong at a port call, and the plan that says where it does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Crash(BaseException):
    """The operator's process is gone. No `except Exception` can survive it."""


class Fault(StrEnum):
    """One kind of misfortune. Which port calls it fits is in `FITS`."""

    CRASH_BEFORE = "dies before"
    CRASH_AFTER = "dies after"
    CRASH_HALF = "dies, and the command dies half way"
    CRASH_LATER = "dies, and the command goes on for a while"
    LOST_REQUEST = "the request is lost"
    LOST_ANSWER = "the answer is lost"
    HALF = "the connection and the command die half way"
    LATER = "the answer is lost, and the command goes on for a while"
    FAILED = "it fails"
    REFUSED = "it is refused"
    BALANCER_UNREACHABLE = "a load balancer does not answer"
    BACKENDS_UNREACHABLE = "no backend answers"
    NOTHING_REACHABLE = "nothing answers"
    RETURNS_EARLY = "the wait returns at once"
    DISK_FULL = "the disk is full"
    CRASH_TORN = "dies with half a line written"
    CRASH_UNCOPIED = "dies before a load balancer has it"
    NO_COPY = "no load balancer takes it"


CRASHES = (Fault.CRASH_BEFORE, Fault.CRASH_AFTER)

FITS: Mapping[str, tuple[Fault, ...]] = {
    "look": (
        *CRASHES,
        Fault.BALANCER_UNREACHABLE,
        Fault.BACKENDS_UNREACHABLE,
        Fault.NOTHING_REACHABLE,
    ),
    "wait": (*CRASHES, Fault.RETURNS_EARLY),
    "perform": (
        *CRASHES,
        Fault.CRASH_HALF,
        Fault.CRASH_LATER,
        Fault.LOST_REQUEST,
        Fault.LOST_ANSWER,
        Fault.HALF,
        Fault.LATER,
        Fault.FAILED,
        Fault.REFUSED,
    ),
    "append": (
        *CRASHES,
        Fault.DISK_FULL,
        Fault.CRASH_TORN,
        Fault.CRASH_UNCOPIED,
        Fault.NO_COPY,
    ),
}
"""The kinds of fault that each kind of port call can have."""


@dataclass
class Plan:
    """Where faults happen: at a call's number, or at the first call whose label holds a text.

    A fault of a text happens once, and so does one of a number, since numbers only rise.
    """

    by_number: dict[int, Fault] = field(default_factory=dict)
    by_text: list[tuple[str, Fault]] = field(default_factory=list)

    @staticmethod
    def fits(text: str, call: str) -> bool:
        """Answers whether a call's label holds the text; `$` is the end of the label."""
        return f"{call}$".find(text) >= 0

    def at(self, number: int, port: str, label: str) -> Fault | None:
        """Answers the fault of this call, if it has one that fits."""
        fault = self.by_number.get(number)
        if fault is not None and fault in FITS[port]:
            return fault
        for text, planned in self.by_text:
            if self.fits(text, f"{port} {label}") and planned in FITS[port]:
                self.by_text.remove((text, planned))
                return planned
        return None
