"""Sessions that nobody owns: written, read, prolonged and deleted as the application would.

Every key expires by itself from its first moment, so whatever becomes of us, nothing stays.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from rolling_deploy.remote.session_store_info import line
from rolling_deploy.remote.session_store_link import Said, Why
from rolling_deploy.rollout.observed import Check, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rolling_deploy.remote.session_store_link import Link

KEY_MARK = "rolling-deploy:canary:"
"""Stands in every canary's key, after the application's own prefix."""
COUNT = 4
"""Keys of one check: random names fall into different slots of a cluster."""
EXPIRES_S = 30
PROLONGED_S = 60


def canary_names(key_prefix: str) -> Iterator[str]:
    """Answers names of canary keys without end, as the application would name a session."""
    while True:
        yield f"{key_prefix}{KEY_MARK}{secrets.token_hex(8)}"


def check_canary(link: Link, names: Sequence[str]) -> tuple[Check, ...]:
    """Write, read, prolong and delete a few canary keys, and answer a line for each.

    The first line that is not well ends the check; the keys are deleted as far as it goes.

    Raises:
        LinkLost: an answer did not come.

    Crash: the keys expire within `PROLONGED_S`.
    """
    values = {name: secrets.token_hex(16) for name in names}
    written = link.ask(*(("SET", name, values[name], "EX", str(EXPIRES_S), "NX") for name in names))
    elsewhere = [said for said in written if said.why is Why.ELSEWHERE and said.is_error]
    here = [n for n, said in zip(names, written, strict=True) if said not in elsewhere]
    if not here:
        detail = f"every key belongs to another node of the cluster ({elsewhere[0].error})"
        return (line("canary write", Verdict.NOT_CHECKED, detail),)
    checks = _steps(link, here, values, [said for said in written if said not in elsewhere])
    if elsewhere and all(check.verdict is Verdict.OK for check in checks):
        detail = f"{len(elsewhere)} of {len(names)} keys belong to other nodes of the cluster"
        checks.append(line("canary elsewhere", Verdict.NOT_CHECKED, detail))
    return tuple(checks)


def _steps(
    link: Link, names: Sequence[str], values: dict[str, str], written: Sequence[Said]
) -> list[Check]:
    checks = [_said_by_all("canary write", written, ["OK"] * len(names))]
    if checks[-1].verdict is not Verdict.OK:
        _delete(link, names)
        return checks
    read = link.ask(*(("GET", name) for name in names))
    checks.append(_said_by_all("canary read", read, [values[name] for name in names]))
    checks.append(_prolong(link, names))
    deleted = _delete(link, names)
    done = _keys(len(names)) if _all_ones(deleted) else ""
    checks.append(_allowed_or_warn("canary delete", deleted, done))
    return checks


def _prolong(link: Link, names: Sequence[str]) -> Check:
    """Answers whether the expiry of a key can be moved, and is then as asked."""
    answers = link.ask(
        *(("EXPIRE", name, str(PROLONGED_S)) for name in names), *(("TTL", name) for name in names)
    )
    moved, left = answers[: len(names)], answers[len(names) :]
    is_right = _all_ones(moved) and all(
        isinstance(said.value, int) and EXPIRES_S < said.value <= PROLONGED_S for said in left
    )
    done = f"moved from {EXPIRES_S} to {PROLONGED_S} s" if is_right else ""
    return _allowed_or_warn("canary expire", answers, done)


def _delete(link: Link, names: Sequence[str]) -> list[Said]:
    return link.ask(*(("DEL", name) for name in names))


def _keys(count: int) -> str:
    return "1 key" if count == 1 else f"{count} keys"


def _all_ones(answers: Sequence[Said]) -> bool:
    return all(said.value == 1 for said in answers)


def _said_by_all(name: str, answers: Sequence[Said], wanted: Sequence[str]) -> Check:
    for said, value in zip(answers, wanted, strict=True):
        if said.is_error:
            return line(name, Verdict.REFUSED, said.error)
        if said.value != value:
            detail = f"should be `{value}`, is `{said.value}`"
            return line(name, Verdict.REFUSED, detail)
    return line(name, Verdict.OK, _keys(len(answers)))


def _allowed_or_warn(name: str, answers: Sequence[Said], done: str) -> Check:
    """Answers OK, or a warning where the user may not do it: an application may not need to.

    `done` says what came about, and is empty when it did not.
    """
    for said in answers:
        if said.is_error and said.why is Why.DENIED:
            detail = f"{said.error} (the keys expire by themselves within {PROLONGED_S} s)"
            return line(name, Verdict.WARNING, detail)
        if said.is_error:
            return line(name, Verdict.REFUSED, said.error)
    if not done:
        told = ", ".join(str(said.value) for said in answers)
        return line(name, Verdict.REFUSED, f"the server did not do what it was asked: {told}")
    return line(name, Verdict.OK, done)
