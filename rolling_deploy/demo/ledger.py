"""The demo's proof of the counting: what its clients saw, beside what the access logs tell."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Self

from rolling_deploy.demo.load_http import Ending
from rolling_deploy.demo.tally import Summary
from rolling_deploy.errors import InvariantBroken
from rolling_deploy.operations.balancer_checks import Acceptance
from rolling_deploy.operations.losses import Ledger
from rolling_deploy.operations.site import connect
from rolling_deploy.operations.survey import survey_balancers
from rolling_deploy.rollout.losses import Count, Counting, Losses
from rolling_deploy.settings import Inventory

LATE_LIMIT_S = 5.0
"""nginx writes a line right after the answer, on a busy machine some time after."""
AGAIN_S = 0.1


class LogBook:
    """Counts the load balancers' access logs from its beginning on, the prober's lines left out."""

    def __init__(self, inventory: Inventory) -> None:
        self._site = connect(inventory)
        # Nothing is adopted yet; only what the configuration says of logs is taken from this.
        survey_balancers(self._site, Acceptance(adopting=True))
        self._ledger = Ledger(self._site, asks=False)
        self.counted()

    def __enter__(self) -> Self:
        """Answers itself; the logs are read from here on."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the connections."""
        self._site.close()

    def counted(self) -> Losses:
        """Answers everything up to now."""
        return self._ledger.look(Counting(Losses(), 0))

    def compared(self, seen: Summary) -> str:
        """Answers, for clients that have finished, what the logs tell, in one line.

        Raises:
            InvariantBroken: the clients saw nothing wrong, and the logs tell something else.
        """
        again = threading.Event()
        losses = self.counted()
        for _ in range(int(LATE_LIMIT_S / AGAIN_S)):
            if losses.logged.requests >= seen.requests:
                break
            again.wait(AGAIN_S)
            losses = self.counted()
        count = losses.logged
        text = f"{count.requests:,} seen, {count.failed} failed, {count.retried} retried by nginx"
        if not seen.is_clean or seen.endings.get(Ending.UNFINISHED):
            return f"logs      {text}"
        if losses.gaps or count != Count(seen.requests, 0, 0, seen.retried):
            gaps = f" ({'; '.join(sorted(losses.gaps))})" if losses.gaps else ""
            raise InvariantBroken(
                f"the access logs tell of {text}{gaps}; the clients sent {seen.requests:,}, "
                f"{seen.retried} retried",
                where="the demo's own load",
                site="the demo's fleet is gone; nothing else was touched",
                next_step="report this with what stands above",
            )
        return f"logs      {text}: the load balancers' access logs say the same"
