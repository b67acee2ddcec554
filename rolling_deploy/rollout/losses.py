"""What was lost: requests seen, failed and retried, as values; nothing here counts them itself.

Sums are kept twice, by backend and by phase, never by both together: that would grow with the
square of the fleet. A phase is the number of claims so far, and a request belongs to the phase in
which its end was read. So no two clocks are compared, and a log without times will do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields

LAST_COUNT = "last count"
"""The wait for the prober's last answers, before an end. The next look does what it asks for."""

NOBODY = "-"
"""Instead of a backend: nginx answered by itself, or it is not known whose address it was."""
UNTOLD = "?"
"""Instead of a backend: the log tells neither backends nor retries."""


@dataclass(frozen=True, slots=True)
class Count:
    """How many requests, and what became of them.

    Attributes:
        failed: answered 5xx; of the prober's, whatever was not as it should be.
        closed: the client closed the connection before the answer (nginx's 499).
        retried: how often nginx asked this backend, then another one for the same request.
    """

    requests: int = 0
    failed: int = 0
    closed: int = 0
    retried: int = 0

    def plus(self, other: Count) -> Count:
        """Answers the sum."""
        return Count(
            self.requests + other.requests,
            self.failed + other.failed,
            self.closed + other.closed,
            self.retried + other.retried,
        )

    def minus(self, other: Count) -> Count:
        """Answers the difference."""
        return Count(
            self.requests - other.requests,
            self.failed - other.failed,
            self.closed - other.closed,
            self.retried - other.retried,
        )

    @property
    def is_nothing(self) -> bool:
        """Answers whether there is nothing in it."""
        return not any(getattr(self, f.name) for f in fields(self))


Counts = Mapping[str, Count]
"""By two words with a blank between: a load balancer, and a backend or a phase."""


@dataclass(frozen=True, slots=True)
class Losses:
    """What was counted, over all lives of a rollout or since a certain moment.

    Attributes:
        by_backend, by_phase: of the load balancers' access logs, without the prober's requests
            where its lines can be told apart.
        probed: of the prober, by phase.
        ends: how far each log was read; who goes on counting begins there. A load balancer whose
            log is not counted has none.
        gaps: what was not counted or not completely, a sentence each.
        last_failures: how the prober's last failed request ended, by load balancer.
    """

    by_backend: Counts = field(default_factory=dict)
    by_phase: Counts = field(default_factory=dict)
    probed: Counts = field(default_factory=dict)
    ends: Mapping[str, str] = field(default_factory=dict)
    gaps: frozenset[str] = frozenset()
    last_failures: Mapping[str, str] = field(default_factory=dict)

    @property
    def logged(self) -> Count:
        """Answers all that the access logs told."""
        return total(self.by_backend)

    @property
    def asked(self) -> Count:
        """Answers all that the prober saw."""
        return total(self.probed)

    @property
    def failed(self) -> int:
        """Answers how many requests failed, users' and the prober's."""
        return self.logged.failed + self.asked.failed

    def plus(self, other: Losses) -> Losses:
        """Answers both together; `other` was counted after this and says how far the logs are."""
        return Losses(
            _joined(self.by_backend, other.by_backend),
            _joined(self.by_phase, other.by_phase),
            _joined(self.probed, other.probed),
            {**self.ends, **other.ends},
            self.gaps | other.gaps,
            {**self.last_failures, **other.last_failures},
        )

    def since(self, earlier: Losses) -> Losses:
        """Answers what was counted after `earlier`, which is the beginning of this."""
        return Losses(
            _rest(self.by_backend, earlier.by_backend),
            _rest(self.by_phase, earlier.by_phase),
            _rest(self.probed, earlier.probed),
            _changed(self.ends, earlier.ends),
            self.gaps - earlier.gaps,
            _changed(self.last_failures, earlier.last_failures),
        )


@dataclass(frozen=True, slots=True)
class Counting:
    """How the next look is to count.

    Attributes:
        so_far: what the record holds; a new life goes on from there.
        phase: what is read now belongs to.
        is_last: the prober ends, with every request it has begun, before the logs are read.
    """

    so_far: Losses
    phase: int
    is_last: bool = False


def total(counts: Counts, *, of: str = "") -> Count:
    """Answers the sum, of all or of one load balancer."""
    result = Count()
    for key, count in counts.items():
        if not of or key.split(" ")[0] == of:
            result = result.plus(count)
    return result


def by_second(counts: Counts) -> dict[str, Count]:
    """Answers the sums over all load balancers, by backend or phase."""
    sums: dict[str, Count] = {}
    for key, count in counts.items():
        name = key.split(" ")[-1]
        sums[name] = sums.get(name, Count()).plus(count)
    # By number where they are phases, and the backends with those of shorter names first.
    return dict(sorted(sums.items(), key=lambda item: (len(item[0]), item[0])))


def phase_text(phase: str) -> str:
    """Answers a phase in words."""
    return "before wave 1" if phase == "0" else f"wave {phase}"


def failures_text(losses: Losses) -> str:
    """Answers where requests failed: per load balancer, with the backends and phases."""
    names = {key.split(" ")[0] for key in (*losses.by_phase, *losses.probed)}
    texts = []
    for name in sorted(names):
        ours = total(losses.probed, of=name).failed
        theirs = total(losses.by_backend, of=name).failed
        if not ours + theirs:
            continue
        parts = [_named(losses.by_backend, name, backend_text)]
        if ours:
            last = losses.last_failures.get(name, "")
            parts.append(f"the prober {ours}" + (f", the last one: {last}" if last else ""))
        phases = _named(_joined(losses.by_phase, losses.probed), name, phase_text)
        texts.append(f"{name} {ours + theirs} ({', '.join(p for p in parts if p)}; {phases})")
    return ", ".join(texts)


def backend_text(name: str) -> str:
    """Answers a backend in words."""
    return {NOBODY: "no backend", UNTOLD: "backend not told"}.get(name, name)


def _named(counts: Counts, load_balancer: str, text: Callable[[str], str]) -> str:
    return ", ".join(
        f"{text(key.split(' ')[-1])} {count.failed}"
        for key, count in sorted(counts.items())
        if key.split(" ")[0] == load_balancer and count.failed
    )


def _changed(now: Mapping[str, str], earlier: Mapping[str, str]) -> dict[str, str]:
    return {name: text for name, text in now.items() if earlier.get(name) != text}


def _joined(one: Counts, other: Counts) -> dict[str, Count]:
    return {**one, **{key: one.get(key, Count()).plus(count) for key, count in other.items()}}


def _rest(whole: Counts, earlier: Counts) -> dict[str, Count]:
    rest = {key: count.minus(earlier.get(key, Count())) for key, count in whole.items()}
    return {key: count for key, count in rest.items() if not count.is_nothing}
