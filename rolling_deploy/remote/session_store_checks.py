"""The order in which the session store is examined, and what each refusal means.

What it says about itself comes before the canary, so that a write that hangs still leaves the
lines that explain it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rolling_deploy.remote.session_store_canary import check_canary
from rolling_deploy.remote.session_store_info import (
    Sample,
    fields_of,
    judge_cluster,
    judge_evictions,
    judge_info,
    judge_replicas,
    line,
    not_checked_info,
    sample_of,
    with_memory_explained,
)
from rolling_deploy.remote.session_store_link import Link, LinkLost, Said, Why
from rolling_deploy.rollout.observed import Check, Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rolling_deploy.settings import SessionStoreSettings

ENDED_EARLY = "the examination ended early, see above"
NO_CANARY = "--no-canary"


@dataclass(frozen=True, slots=True)
class Access:
    """Where the store is and what it is entered with.

    Attributes:
        place: for a person.
        password: empty for none.
        db: number of the database.
    """

    place: str
    password: str = field(repr=False)
    db: int


class Examination:
    """One check of the session store; its lines grow as it goes on.

    Attributes:
        lines: what is known so far. Whoever loses patience takes a copy.
        at: the line that is being worked on.
        sample: for the next check.
    """

    def __init__(
        self,
        link: Link,
        settings: SessionStoreSettings,
        *,
        access: Access,
        names: Sequence[str] | None,
        previous: Sample | None,
    ) -> None:
        """Prepare; nothing is asked yet.

        Args:
            link: not connected.
            settings: user, prefix and limits.
            access: where it is, and what it is entered with.
            names: canary keys to write; None when none may be written, empty when that is
                somebody else's to do.
            previous: what the check before this one saw.
        """
        self.lines: list[Check] = []
        self.at = "reach"
        self.sample = Sample()
        self._link = link
        self._settings = settings
        self._place = access.place
        self._password = access.password
        self._db = access.db
        self._names = names
        self._previous = previous

    def run(self) -> None:
        """Examine the store from reaching it to its latency. Never raises for what it does."""
        try:
            if self._enter():
                self._examine()
        except LinkLost as error:
            self._add(Verdict.REFUSED, str(error))
        if any(check.verdict is Verdict.REFUSED for check in self.lines) and self.at != "latency":
            self.at = "the rest"
            self._add(Verdict.NOT_CHECKED, ENDED_EARLY)

    def _enter(self) -> bool:
        """Connect, log in and choose the database. Answers whether commands are answered."""
        self._link.connect()
        login = self._login()
        ping = login if login.is_error else self._link.ask(("PING",))[0]
        self._add(Verdict.OK, f"{self._place} answers")
        self.at = "authentication"
        if login.is_error or (ping.is_error and ping.why is Why.NOT_LOGGED_IN):
            self._add(Verdict.REFUSED, (login.error or ping.error))
            return False
        self._add(Verdict.OK, self._who())
        if self._db and not self._choose_database():
            return False
        return self._answers(ping)

    def _login(self) -> Said:
        user = [self._settings.username] if self._settings.username else []
        if not self._password and not user:
            return Said("OK")
        # Without a password too: a user with `nopass` may have fewer rights than the default one.
        return self._link.ask(("AUTH", *user, self._password))[0]

    def _who(self) -> str:
        user = f"user `{self._settings.username or 'default'}`"
        if self._password:
            return user
        if self._settings.username:
            return f"{user}, without a password"
        return "no password configured, and none asked for"

    def _choose_database(self) -> bool:
        self.at = "database"
        said = self._link.ask(("SELECT", str(self._db)))[0]
        if said.is_error:
            self._add(Verdict.REFUSED, f"database {self._db}: {said.error}")
            return False
        self._add(Verdict.OK, f"database {self._db}")
        return True

    def _answers(self, ping: Said) -> bool:
        """Answers whether it is worth asking on after this answer to PING."""
        if not ping.is_error or ping.why is Why.DENIED:
            return True
        self.at = "loading" if ping.why is Why.LOADING else "commands"
        self._add(Verdict.REFUSED, ping.error)
        # The server answers, but not as it should: INFO may still say why.
        return ping.why is not Why.LOADING

    def _examine(self) -> None:
        self.at = "info"
        said = self._link.ask(("INFO",))[0]
        info = fields_of(str(said.value)) if not said.is_error else {}
        self.sample = sample_of(info, {})
        if said.is_error:
            self.lines.extend(not_checked_info(said.error))
        else:
            self.lines.extend(judge_info(info, self._settings.memory_used_max))
        self._examine_replicas(info, said.error)
        self._examine_cluster(info, said.error)
        self._examine_writing(info)
        self._examine_evictions(info, said.error)
        self.at = "latency"
        self._add(*self._latency())

    def _examine_replicas(self, info: dict[str, str], reason: str) -> None:
        self.at = "replicas"
        minimum = None
        if "min_slaves_good_slaves" in info:
            said = self._link.ask(("CONFIG", "GET", "min-replicas-to-write"))[0]
            reason = said.error or "the server does not say `min-replicas-to-write`"
            if isinstance(said.value, list) and len(said.value) > 1:
                minimum = int(said.value[1])
        self.lines.append(judge_replicas(info, minimum, reason))

    def _examine_cluster(self, info: dict[str, str], reason: str) -> None:
        self.at = "cluster"
        if not info:
            self._add(Verdict.NOT_CHECKED, reason)
        elif info.get("cluster_enabled") == "1":
            said = self._link.ask(("CLUSTER", "INFO"))[0]
            if said.is_error:
                self._add(Verdict.NOT_CHECKED, said.error)
            else:
                self.lines.append(judge_cluster(fields_of(str(said.value))))

    def _examine_writing(self, info: dict[str, str]) -> None:
        self.at = "canary write"
        if self._names is None:
            self._add(Verdict.NOT_CHECKED, NO_CANARY)
        elif self._names:
            said = check_canary(self._link, self._names)
            self.lines.extend(with_memory_explained(told, info) for told in said)

    def _examine_evictions(self, info: dict[str, str], reason: str) -> None:
        self.at = "evictions"
        if not info:
            self._add(Verdict.NOT_CHECKED, reason)
            return
        said = self._link.ask(("INFO", "stats"))[0]
        after = fields_of(str(said.value)) if not said.is_error else {}
        self.lines.append(judge_evictions(info, after, self._previous))
        self.sample = sample_of(info, after)

    def _latency(self) -> tuple[Verdict, str]:
        slowest, limit = self._link.slowest_ms, self._settings.latency_max_ms
        detail = f"the slowest command was {self._link.slowest}, {slowest} ms"
        if slowest > limit:
            return Verdict.WARNING, f"{detail}, should be at most {limit} ms"
        return Verdict.OK, detail

    def _add(self, verdict: Verdict, detail: str) -> None:
        self.lines.append(line(self.at, verdict, detail))
