"""What the session store says about itself: one line for each thing that could lose sessions.

Pure: it reads the fields of INFO, and judges. A field that is not there is not checked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from rolling_deploy.rollout.observed import Check, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

SUBJECT = "session store"
NO_EVICTION = "noeviction"
OUT_OF_MEMORY = "used memory > 'maxmemory'"
CLUSTER_SLOTS = 16_384


@dataclass(frozen=True, slots=True)
class Sample:
    """What one check has to know of the one before it. None where it could not be read.

    Attributes:
        run_id: the server process's own identity; it changes with a restart or a failover.
        evicted_keys: keys evicted since that process started.
        masters: of a cluster, the same for each of its masters, by its address.
    """

    run_id: str | None = None
    evicted_keys: int | None = None
    masters: Mapping[str, Sample] = field(default_factory=dict)


def line(name: str, verdict: Verdict, detail: str) -> Check:
    """Answers one line about the session store."""
    return Check(SUBJECT, name, verdict, detail)


def fields_of(text: str) -> dict[str, str]:
    """Answers the `key:value` lines of INFO or CLUSTER INFO."""
    pairs = (row.partition(":") for row in text.splitlines() if not row.startswith("#"))
    return {key: value.strip() for key, colon, value in pairs if colon}


def merged(by_server: Mapping[str, Sequence[Check]]) -> list[Check]:
    """Answers one line for each name out of several servers' lines: the worst, and whose it is."""
    names = list(dict.fromkeys(check.name for checks in by_server.values() for check in checks))
    return [
        _merged(
            name,
            {
                server: check
                for server, checks in by_server.items()
                for check in checks
                if check.name == name
            },
        )
        for name in names
    ]


WORST_FIRST = (Verdict.REFUSED, Verdict.WARNING, Verdict.NOT_CHECKED, Verdict.OK)


def _merged(name: str, checks: Mapping[str, Check]) -> Check:
    verdict = min((check.verdict for check in checks.values()), key=WORST_FIRST.index)
    concerned: dict[str, list[str]] = {}
    for server, check in checks.items():
        if check.verdict is verdict:
            concerned.setdefault(check.detail.removeprefix(server).strip(), []).append(server)
    if len(checks) > 1 and list(map(len, concerned.values())) == [len(checks)]:
        return line(name, verdict, f"{next(iter(concerned))} (all {len(checks)} masters)")
    told = "; ".join(f"{', '.join(who)}: {detail}" for detail, who in concerned.items())
    return line(name, verdict, told)


def judge_info(info: Mapping[str, str], memory_used_max: float) -> tuple[Check, ...]:
    """Answers a line each for loading, role, persistence, memory and eviction policy."""
    return (
        _loading(info),
        _role(info),
        _persistence(info),
        _memory(info, memory_used_max),
        _eviction_policy(info),
    )


def not_checked_info(reason: str) -> tuple[Check, ...]:
    """Answers the same lines when the server does not let us read INFO."""
    names = ("loading", "role", "persistence", "memory", "eviction policy")
    return tuple(line(name, Verdict.NOT_CHECKED, reason) for name in names)


def judge_replicas(info: Mapping[str, str], minimum: int | None, reason: str) -> Check:
    """Answers whether enough replicas follow for writes to be accepted.

    Args:
        info: fields of INFO.
        minimum: `min-replicas-to-write`; None when it could not be read.
        reason: why it could not.
    """
    good = _number(info, "min_slaves_good_slaves")
    if good is None:
        if "role" in info:
            return line("replicas", Verdict.OK, "writes do not depend on replicas")
        return line("replicas", Verdict.NOT_CHECKED, reason)
    if minimum is None:
        return line("replicas", Verdict.NOT_CHECKED, f"{good} good replicas; {reason}")
    if good < minimum:
        return line(
            "replicas",
            Verdict.REFUSED,
            f"good replicas should be at least {minimum} (min-replicas-to-write), is {good}: "
            "writes are refused",
        )
    return line("replicas", Verdict.OK, f"{good} good replicas, {minimum} needed for writes")


def unserved(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Answers the ranges of slots that none of these holds, first and last."""
    missing, free = [], 0
    for first, last in sorted(ranges):
        if first > free:
            missing.append((free, first - 1))
        free = max(free, last + 1)
    return [*missing, (free, CLUSTER_SLOTS - 1)] if free < CLUSTER_SLOTS else missing


def judge_cluster(state: Mapping[str, str]) -> Check:
    """Answers whether every slot of the cluster is served, from CLUSTER INFO."""
    said = state.get("cluster_state", "unknown")
    served = _number(state, "cluster_slots_ok") or 0
    detail = f"cluster_state:{said}, {served} of {CLUSTER_SLOTS} slots served"
    if said == "ok" and served == CLUSTER_SLOTS:
        return line("cluster", Verdict.OK, detail)
    return line(
        "cluster", Verdict.REFUSED, f"{detail}: sessions in the other slots cannot be written"
    )


def with_memory_explained(told: Check, info: Mapping[str, str]) -> Check:
    """Answers the line; where memory is full, with why nothing could be thrown away for a write."""
    policy = info.get("maxmemory_policy", "")
    if OUT_OF_MEMORY not in told.detail or not policy:
        return told
    if policy == NO_EVICTION:
        reason = "noeviction throws nothing away"
    elif policy.startswith("volatile"):
        reason = f"it is full of keys that never expire, which {policy} keeps"
    else:
        reason = f"{policy} found nothing to throw away"
    return replace(told, detail=f"{told.detail}; {reason}")


def judge_evictions(
    info: Mapping[str, str], after: Mapping[str, str], previous: Sample | None
) -> Check:
    """Answers whether keys were evicted between two looks: sessions may be among them.

    Args:
        info: fields of INFO at the start of this check.
        after: fields of INFO at its end.
        previous: from the check before this one, which may be a whole wave ago.
    """
    start, end = _number(info, "evicted_keys"), _number(after, "evicted_keys")
    if start is None or end is None:
        return line("evictions", Verdict.NOT_CHECKED, "the server does not say `evicted_keys`")
    before = start
    if previous is not None and previous.evicted_keys is not None:
        if previous.run_id != info.get("run_id"):
            return line(
                "evictions",
                Verdict.WARNING,
                "the server was restarted or replaced since the last look, evictions are counted "
                "anew: were the sessions kept?",
            )
        before = previous.evicted_keys
    if end > before:
        return line(
            "evictions",
            Verdict.REFUSED,
            f"evicted_keys rose from {before} to {end} while we looked: sessions are lost when "
            "they are among them",
        )
    if end:
        return line("evictions", Verdict.WARNING, f"{end} keys evicted since the server started")
    return line("evictions", Verdict.OK, "no key was evicted since the server started")


def sample_of(info: Mapping[str, str], after: Mapping[str, str]) -> Sample:
    """Answers what the next check compares with."""
    evicted = _number(after, "evicted_keys")
    return Sample(
        run_id=info.get("run_id"),
        evicted_keys=_number(info, "evicted_keys") if evicted is None else evicted,
    )


def _number(info: Mapping[str, str], key: str) -> int | None:
    try:
        return int(info[key])
    except (KeyError, ValueError):
        return None


def _loading(info: Mapping[str, str]) -> Check:
    said = info.get("loading")
    if said is None:
        return line("loading", Verdict.NOT_CHECKED, "the server does not say `loading`")
    if said == "0":
        return line("loading", Verdict.OK, "the data set is in memory")
    return line("loading", Verdict.REFUSED, "loading should be 0, is 1: it still reads its data")


def _role(info: Mapping[str, str]) -> Check:
    said = info.get("role")
    if said is None:
        return line("role", Verdict.NOT_CHECKED, "the server does not say `role`")
    if said == "master":
        return line("role", Verdict.OK, "master")
    link = info.get("master_link_status", "unknown")
    return line(
        "role", Verdict.REFUSED, f"role should be master, is {said} (master_link_status:{link})"
    )


def _persistence(info: Mapping[str, str]) -> Check:
    names = ("rdb_last_bgsave_status", "aof_last_write_status")
    said = {name: info[name] for name in names if name in info}
    if not said:
        return line("persistence", Verdict.NOT_CHECKED, f"the server does not say `{names[0]}`")
    wrong = [f"{name} should be ok, is {value}" for name, value in said.items() if value != "ok"]
    if wrong:
        # Whether writes are refused because of it is the canary's to say.
        return line("persistence", Verdict.WARNING, "; ".join(wrong))
    return line("persistence", Verdict.OK, "the last writes to disk went well")


def _memory(info: Mapping[str, str], used_max: float) -> Check:
    used, limit = _number(info, "used_memory"), _number(info, "maxmemory")
    if used is None or limit is None:
        return line("memory", Verdict.NOT_CHECKED, "the server does not say `maxmemory`")
    if limit == 0:
        return line("memory", Verdict.OK, f"{_megabytes(used)} used, maxmemory is not set")
    # The server leaves replication buffers out before it compares, and so do we.
    counted = max(0, used - (_number(info, "mem_not_counted_for_evict") or 0))
    share = counted / limit
    detail = f"{share:.0%} of maxmemory {_megabytes(limit)} used"
    if share > 1 and info.get("maxmemory_policy") == NO_EVICTION:
        return line("memory", Verdict.REFUSED, f"{detail}: full, and writes are refused")
    if share > used_max:
        return line("memory", Verdict.WARNING, f"{detail}, should be at most {used_max:.0%}")
    return line("memory", Verdict.OK, detail)


def _eviction_policy(info: Mapping[str, str]) -> Check:
    name = "eviction policy"
    policy = info.get("maxmemory_policy")
    if policy is None:
        return line(name, Verdict.NOT_CHECKED, "the server does not say `maxmemory_policy`")
    if _number(info, "maxmemory") == 0:
        return line(name, Verdict.OK, f"{policy}, without effect: maxmemory is not set")
    if policy == NO_EVICTION:
        return line(name, Verdict.OK, policy)
    return line(
        name,
        Verdict.WARNING,
        f"should be {NO_EVICTION}, is {policy}: when memory is full, sessions are thrown away",
    )


def _megabytes(count: int) -> str:
    return f"{count / 1_048_576:.1f} MB"
