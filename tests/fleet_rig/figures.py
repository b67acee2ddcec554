"""What the scenarios amount to: the table at the end of `make rig`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from rolling_deploy.demo.load_http import Ending
from rolling_deploy.demo.tally import Summary

COLUMNS = ("scenario", "runs", "kills", "freezes", "requests", "5xx", "failed", "followed", "lost")


@dataclass
class Figures:
    """Counts by scenario, over a whole session of tests.

    Attributes:
        remarks: whole lines, such as a fault beside its control run.
    """

    counts: dict[str, Counter[str]] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)

    def note(self, scenario: str, seen: Summary) -> None:
        """Count one load that has ended."""
        self.counts.setdefault(scenario, Counter()).update(
            {
                "runs": 1,
                "requests": seen.requests,
                "5xx": seen.endings.get(Ending.STATUS_5XX, 0),
                "failed": seen.failed + seen.reused_closed,
                "followed": seen.sessions_followed,
                "lost": seen.sessions_lost + seen.writes_lost + seen.writes_repeated,
            }
        )

    def add(self, scenario: str, what: str) -> None:
        """Count a kill or a freeze."""
        self.counts.setdefault(scenario, Counter())[what] += 1

    def lines(self) -> Iterator[str]:
        """Answers the table and the remarks, a line each."""
        width = max((len(name) for name in self.counts), default=8)
        yield f"{COLUMNS[0]:{width}}" + "".join(f"{name:>10}" for name in COLUMNS[1:])
        total: Counter[str] = Counter()
        for scenario, counts in self.counts.items():
            total.update(counts)
            yield f"{scenario:{width}}" + "".join(f"{counts[c]:>10,}" for c in COLUMNS[1:])
        yield f"{'all':{width}}" + "".join(f"{total[c]:>10,}" for c in COLUMNS[1:])
        yield from self.remarks
