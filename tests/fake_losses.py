"""The fake load balancers' access logs: a status for each request, read on from where one was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rolling_deploy.rollout.losses import NOBODY, Count, Counting, Losses


def read_on(logs: Mapping[str, Sequence[int]], counting: Counting, before: Losses | None) -> Losses:
    """Answers what was counted over all lives, as the real look does.

    Args:
        before: what this life's last look answered; None at its first.
    """
    losses = before or counting.so_far
    for name, log in logs.items():
        new = log[int(losses.ends.get(name, len(log))) :]
        failed, closed = sum(status >= 500 for status in new), new.count(499)
        count = Count(len(new), failed, closed)
        ends = {name: str(len(log))}
        if new:
            phase = {f"{name} {counting.phase}": count}
            losses = losses.plus(Losses({f"{name} {NOBODY}": count}, phase, ends=ends))
        else:
            losses = losses.plus(Losses(ends=ends))
    return losses
