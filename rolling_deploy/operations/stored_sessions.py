"""Which of the sessions that live now the new release cannot read; asked before a start."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from rolling_deploy.operations.site import Site
from rolling_deploy.operations.store_places import whole_from
from rolling_deploy.remote.artifact import path_for
from rolling_deploy.remote.session_sample import Sampled, sample_sessions
from rolling_deploy.remote.session_store_link import LinkLost
from rolling_deploy.rollout.observed import Check, Verdict
from rolling_deploy.serialization import (
    Classes,
    Fate,
    Form,
    NotReadable,
    judge,
    judge_names,
    read_value,
)
from rolling_deploy.serialization import Verdict as Judgement
from rolling_deploy.settings import SessionStoreSettings, TomcatSettings

SUBJECT = "stored sessions"
JUDGED = {Form.JAVA, Form.PLACEHOLDER}
NAMED_MAX = 5
"""Classes that are named; a release that breaks more than these breaks all."""
JUDGE_LIMIT_S = 20.0
"""For one release: 500 sessions of 50 KB, at about a megabyte a second."""


@dataclass
class Judged:
    """What the sample amounts to.

    Attributes:
        by_class: sessions by class and the worst that becomes of it, with the first reason.
        forms: values by the form they are in.
        lost, doubtful: sessions that will not be read, and that may not.
        damaged: values that begin as a Java stream and go on as none.
    """

    sessions: int = 0
    lost: int = 0
    doubtful: int = 0
    damaged: int = 0
    forms: Counter[Form] = field(default_factory=Counter)
    by_class: dict[tuple[Fate, str], set[bytes]] = field(default_factory=lambda: defaultdict(set))
    reasons: dict[tuple[Fate, str], str] = field(default_factory=dict)

    def add(self, key: bytes, values: Iterable[bytes], release: Classes) -> None:
        """Judge one session."""
        self.sessions += 1
        fates = set()
        for value in values:
            for one in self._verdicts(value, release):
                fates.add(one.fate)
                where = (one.fate, one.name)
                self.by_class[where].add(key)
                self.reasons.setdefault(where, one.reasons[0] if one.reasons else "")
        is_lost = any(fate.loses_sessions for fate in fates)
        self.lost += is_lost
        self.doubtful += not is_lost and Fate.MAY_FAIL in fates

    def _verdicts(self, value: bytes, release: Classes) -> Sequence[Judgement]:
        try:
            read = read_value(value)
        except NotReadable:
            self.damaged += 1
            return ()
        self.forms[read.form] += 1
        return judge(read.classes, release) or judge_names(read.names, release)


def check_stored_sessions(site: Site, release: str, *, is_accepted: bool) -> tuple[Check, ...]:
    """Sample the sessions that live now and judge them under the release's classes.

    Reads only, bounded by `sample_max` and `deadline_s`.

    Args:
        is_accepted: a person goes on although sessions will be lost.
    """
    store = site.inventory.session_store
    wars = {
        path_for(backend.strategy.artifact, release)
        for backend in site.inventory.backends.values()
        if isinstance(backend.strategy, TomcatSettings)
    }
    why_not = _why_not(store, has_wars=bool(wars))
    if why_not:
        return (_line("compatibility", Verdict.NOT_CHECKED, why_not),)
    whole = whole_from(site)
    if whole.gap or (store.via and whole.opener is None):
        reason = whole.gap or f"{store.via} is not connected"
        return (_line("compatibility", Verdict.NOT_CHECKED, reason),)
    try:
        sampled = sample_sessions(store, whole.opener)
    except (LinkLost, ValueError) as error:
        return (_line("sample", Verdict.NOT_CHECKED, str(error)),)
    if sampled.gap and not sampled.sessions:
        return (_line("sample", Verdict.NOT_CHECKED, sampled.gap),)
    lines = [_sample_line(sampled), *_poisoned(sampled)]
    if not sampled.sessions and sampled.skipped:
        reason = f"none of the {sampled.skipped} sampled sessions was read"
        return (*lines, _line("compatibility", Verdict.NOT_CHECKED, reason))
    for war in sorted(wars):
        try:
            with war.open("rb") as file:
                judged = _judged(sampled.sessions, Classes(file, given=store.given_classes))
        except (OSError, NotReadable) as error:
            lines.append(_line("compatibility", Verdict.NOT_CHECKED, f"`{war.name}`: {error}"))
            continue
        lines += _compatibility(judged, store, war.name, is_accepted=is_accepted)
        if judged.sessions < len(sampled.sessions):
            detail = f"{judged.sessions} of {len(sampled.sessions)} sampled sessions were judged "
            detail += f"within {JUDGE_LIMIT_S:.0f} s: they are large, `sample_max` may be less"
            lines.append(_line("judged", Verdict.WARNING, detail))
    return tuple(lines)


def _why_not(store: SessionStoreSettings, *, has_wars: bool) -> str:
    if not store.url:
        return "no session store is configured"
    if not store.session_key:
        return "`session_store.session_key` does not say how sessions are named"
    if not store.sample_max:
        return "`session_store.sample_max` is 0"
    return "" if has_wars else "only WARs (strategy `tomcat`) can be judged"


def _judged(sessions: Mapping[bytes, tuple[bytes, ...]], release: Classes) -> Judged:
    judged = Judged()
    until = time.monotonic() + JUDGE_LIMIT_S
    for key, values in sessions.items():
        if judged.sessions and time.monotonic() > until:
            break
        judged.add(key, values, release)
    return judged


def _sample_line(sampled: Sampled) -> Check:
    detail = (
        f"{len(sampled.sessions)} sessions read in {sampled.took_ms} ms; the slowest PING took "
        f"{sampled.latency_before_us / 1000:.1f} ms before and "
        f"{sampled.latency_during_us / 1000:.1f} ms meanwhile"
    )
    if sampled.skipped:
        detail += f"; {sampled.skipped} too large or of another type"
    if sampled.gap:
        return _line("sample", Verdict.WARNING, f"{detail}; it ended early: {sampled.gap}")
    return _line("sample", Verdict.OK, detail)


def _poisoned(sampled: Sampled) -> Iterable[Check]:
    """A key that holds `null` is of a first request that has not ended; with no expiry it stays."""
    count = sum(1 for values in sampled.sessions.values() if values == (b"null",))
    if count:
        share = f"{count} of {len(sampled.sessions)} sampled keys"
        detail = (
            f"{share} hold the placeholder `null`: whoever has such a cookie is a stranger, with "
            "an error in the log; those that never expire (`TTL` says -1) are of first requests "
            "that never ended: delete them"
        )
        yield _line("poisoned keys", Verdict.WARNING, detail)


def _compatibility(
    judged: Judged, store: SessionStoreSettings, war: str, *, is_accepted: bool
) -> list[Check]:
    name = "compatibility"
    if not judged.sessions:
        return [_line(name, Verdict.NOT_CHECKED, "no session is stored now")]
    shares = f"of {judged.sessions} sampled sessions"
    lines = []
    if judged.lost:
        lost = _share(judged.lost, judged.sessions)
        # Some managers read an attribute only when a page asks for it: so "hold", not "are lost".
        detail = f"{lost} {shares} hold what `{war}` cannot read: {_classes(judged, lost=True)}"
        is_refused = store.incompatible == "refuse" and not is_accepted
        hint = "; `--accept incompatible-sessions` goes on all the same" if is_refused else ""
        verdict = Verdict.REFUSED if is_refused else Verdict.WARNING
        lines.append(_line(name, verdict, f"{detail}{hint}"))
    if judged.doubtful:
        doubt = _share(judged.doubtful, judged.sessions)
        detail = f"{doubt} {shares} hold what `{war}` may fail to read: "
        detail += _classes(judged, lost=False)
        lines.append(_line(name, Verdict.WARNING, detail))
    if judged.damaged:
        detail = f"{judged.damaged} values are damaged, nobody can read them"
        lines.append(_line(name, Verdict.WARNING, detail))
    return lines or [_fine(judged, war)]


def _fine(judged: Judged, war: str) -> Check:
    """All that is known survives; but only a Java stream says enough to know it."""
    shares = f"of {judged.sessions} sampled sessions"
    forms = ", ".join(f"{form.value}: {count}" for form, count in judged.forms.most_common())
    java = judged.forms[Form.JAVA]
    if not java:
        detail = f"nothing {shares} is a Java object stream ({forms}): whether the release reads "
        return _line("compatibility", Verdict.NOT_CHECKED, f"{detail}them is not known")
    classes = sum(1 for fate, _ in judged.by_class if fate is not Fate.GIVEN)
    if judged.forms.keys() - JUDGED:
        detail = (
            f"not all values {shares} are Java object streams ({forms}): whether `{war}` reads "
        )
        return _line("compatibility", Verdict.NOT_CHECKED, f"{detail}the others is not known")
    detail = f"all {shares} can be read by `{war}`, by their {classes} classes of its own"
    dropped = [n for fate, n in judged.by_class if fate is Fate.LOSES]
    if dropped:
        names = ", ".join(sorted(dropped)[:NAMED_MAX])
        return _line("compatibility", Verdict.WARNING, f"{detail}; data is dropped of {names}")
    unknown = [n for fate, n in judged.by_class if fate is Fate.UNKNOWN]
    if unknown:
        detail += f"; not judged: {', '.join(sorted(unknown)[:NAMED_MAX])}"
    return _line("compatibility", Verdict.OK, detail)


def _classes(judged: Judged, *, lost: bool) -> str:
    found = [
        (len(keys), _reason(name, judged.reasons[fate, name]))
        for (fate, name), keys in judged.by_class.items()
        if (fate.loses_sessions if lost else fate is Fate.MAY_FAIL)
    ]
    found.sort(key=lambda one: (-one[0], one[1]))
    texts = [f"{reason} ({count} sessions)" for count, reason in found[:NAMED_MAX]]
    more = len(found) - NAMED_MAX
    return "; ".join([*texts, *([f"and {more} more classes"] if more > 0 else [])])


def _reason(name: str, reason: str) -> str:
    return reason if f"`{name}`" in reason else f"`{name}`: {reason}"


def _share(count: int, total: int) -> str:
    return f"{count} ({count / total:.0%})"


def _line(name: str, verdict: Verdict, detail: str) -> Check:
    return Check(SUBJECT, name, verdict, detail)
