"""Is the session store such that no session is lost, as far as one place can see.

PING proves next to nothing: of twenty faults tried on a real server it did not notice ten. So
the check logs in as the application does, writes and reads as it does, and asks the servers
about everything that loses sessions without an error.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

from rolling_deploy.parallel import at_once
from rolling_deploy.remote.session_store import Store, hidden, store_of
from rolling_deploy.remote.session_store_address import Form, shown
from rolling_deploy.remote.session_store_canary import COUNT, canary_names, check_canary
from rolling_deploy.remote.session_store_checks import (
    ENDED_EARLY,
    NO_CANARY,
    Access,
    Examination,
)
from rolling_deploy.remote.session_store_cluster import (
    Cluster,
    ClusterLink,
    names_for_each,
)
from rolling_deploy.remote.session_store_info import (
    CLUSTER_SLOTS,
    Sample,
    line,
    merged,
    unserved,
)
from rolling_deploy.remote.session_store_link import Link, LinkLost
from rolling_deploy.remote.session_store_sentinel import elect
from rolling_deploy.rollout.observed import Check, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

    from rolling_deploy.remote.opener import Opener
    from rolling_deploy.settings import SessionStoreSettings

T = TypeVar("T")
REST = "the rest"


def check_session_store(
    settings: SessionStoreSettings,
    opener: Opener | None,
    *,
    canary: bool,
    previous: Sample | None,
    seen_from: str = "",
) -> tuple[tuple[Check, ...], Sample]:
    """Answers a line for everything that was checked, and a sample for the next check.

    Takes `deadline_ms` at the most, whatever the servers do. Nothing is tried twice. Changes
    nothing but the canary keys, which expire by themselves.

    Args:
        settings: where the store is, and the limits.
        opener: through the SSH host that `via` names; None when there is no such connection
            (refused if `via` is set, direct otherwise).
        canary: write the canary keys; without, writing is not checked.
        previous: the sample of the check before, to see evictions between the two.
        seen_from: what the opener's machine is called, where it is not `via`.

    Crash: the canary keys expire within a minute.
    """
    if not settings.url:
        return (line("session store", Verdict.NOT_CHECKED, "not configured"),), Sample()
    way = seen_from or settings.via
    if way and opener is None:
        reason = f"should be reached via {way}, which is not connected"
        return (line("reach", Verdict.REFUSED, reason),), Sample()
    try:
        store = store_of(settings, opener)
    except LinkLost as error:
        return (line("authentication", Verdict.REFUSED, str(error)),), Sample()
    except ValueError as error:
        return (line("reach", Verdict.REFUSED, str(error)),), Sample()
    until = time.monotonic() + settings.deadline_ms / 1000
    check = _Check(store, settings, way, canary, previous, until)
    lines, sample = check.run()
    return tuple(_without(store, told) for told in lines), sample


@dataclass(frozen=True, slots=True)
class _Check:
    """One check on its way.

    Attributes:
        way: the machine it is seen from, empty for ours.
        until: when it must be over, on the monotonic clock.
    """

    store: Store
    settings: SessionStoreSettings
    way: str
    canary: bool
    previous: Sample | None
    until: float

    def run(self) -> tuple[list[Check], Sample]:
        """Examine the store by its form."""
        match self.store.address.form:
            case Form.SINGLE:
                return self.single(self.store.address.servers[0])
            case Form.SENTINEL:
                return self.by_sentinels()
            case Form.CLUSTER:
                return self.cluster()

    def single(self, server: tuple[str, int]) -> tuple[list[Check], Sample]:
        """Examine one server that holds all sessions."""
        names = tuple(islice(canary_names(self.settings.key_prefix), COUNT))
        return self._examine(server, names if self.canary else None, self.previous)

    def by_sentinels(self) -> tuple[list[Check], Sample]:
        """Ask the sentinels for the master, and examine it."""
        store, address = self.store, self.store.address
        asked = partial(elect, store.dial, address.servers, address.master, store.sentinel_login)
        election = self._in_time(asked, "the sentinels")
        if isinstance(election, str):
            return [line("sentinels", Verdict.REFUSED, election), _the_rest()], Sample()
        if election.master is None:
            return [election.check, _the_rest()], Sample()
        lines, sample = self.single(election.master)
        return [election.check, *(_as_elected(told) for told in lines)], sample

    def cluster(self) -> tuple[list[Check], Sample]:
        """Examine every master, and write a canary key on each."""
        store = self.store
        try:
            found = self._in_time(store.find_cluster, "the cluster")
        except LinkLost as error:
            found = str(error)
        if isinstance(found, str):
            return [line("reach", Verdict.REFUSED, found), _the_rest()], Sample()
        before = self.previous.masters if self.previous else {}
        # A cluster whose slots nobody has names no master: then the one that says so is asked.
        servers = list(found.masters) or [found.said_by]
        came = at_once(
            {
                shown(server): partial(self._examine, server, (), before.get(shown(server)))
                for server in servers
            }
        )
        of_masters = merged({name: got for name, (got, _) in came.items()})
        lines = [_servers(found), _slots(found)]
        lines += [told for told in of_masters if told.name != REST]
        lines += self._canary_in(found)
        if any(told.verdict is Verdict.REFUSED for told in lines):
            lines.append(_the_rest())
        return lines, Sample(masters={name: sample for name, (_, sample) in came.items()})

    def _canary_in(self, found: Cluster) -> list[Check]:
        name = "canary write"
        if not self.canary:
            return [line(name, Verdict.NOT_CHECKED, NO_CANARY)]
        names = names_for_each(found, canary_names(self.settings.key_prefix))
        names = names or list(islice(canary_names(self.settings.key_prefix), 1))
        link = ClusterLink(self.store.dial, found, self.store.login)
        try:
            told = self._in_time(lambda: check_canary(link, names), link, link)
        except LinkLost as error:
            told = str(error)
        finally:
            link.close()
        if isinstance(told, str):
            return [line(name, Verdict.REFUSED, told)]
        lines = list(told)
        if link.followed:
            detail = f"{link.followed} answers sent us on: slots are being moved"
            lines.append(line("canary redirects", Verdict.WARNING, detail))
        return lines

    def _examine(
        self, server: tuple[str, int], names: tuple[str, ...] | None, previous: Sample | None
    ) -> tuple[list[Check], Sample]:
        """Examine one server, and leave it behind at the deadline.

        Socket timeouts alone do not bound it: a server that sends a byte now and then never times
        out.
        """
        link = self.store.dial(*server)
        login = self.store.login
        place = f"{shown(server)} via {self.way}" if self.way else shown(server)
        examination = Examination(
            link,
            replace(self.settings, username=login.username),
            access=Access(place, login.password, login.db),
            names=names,
            previous=previous,
        )
        late = self._in_time(examination.run, link, link)
        lines, sample, at = list(examination.lines), examination.sample, examination.at
        if isinstance(late, str):
            lines += [line(at, Verdict.REFUSED, late), _the_rest()]
        return lines, sample

    def _in_time(
        self, work: Callable[[], T], asking: str | Link, link: Link | None = None
    ) -> T | str:
        """Answers what the work gave, or why it is given up; the link is closed either way."""
        came: list[T] = []
        raised: list[BaseException] = []

        def run() -> None:
            try:
                came.append(work())
            except BaseException as error:  # noqa: BLE001 - raised again in the thread that asked, if in time
                raised.append(error)

        thread = threading.Thread(target=run, name="session-store", daemon=True)
        thread.start()
        thread.join(max(0.0, self.until - time.monotonic()))
        is_late = thread.is_alive()
        last = asking if isinstance(asking, str) else f"the last command was {asking.asking}"
        if link is not None:
            link.close()
        if is_late:
            return f"not done within {self.settings.deadline_ms} ms, {last}"
        if raised:
            raise raised[0]
        return came[0]


def _the_rest() -> Check:
    return line(REST, Verdict.NOT_CHECKED, ENDED_EARLY)


def _without(store: Store, check: Check) -> Check:
    """Answers the line with the password hidden, should a server ever repeat it."""
    return replace(check, detail=hidden(store, check.detail))


def _as_elected(told: Check) -> Check:
    """A replica that the sentinels still call master: they have not agreed on another yet."""
    if told.name != "role" or told.verdict is not Verdict.REFUSED:
        return told
    detail = f"{told.detail}; the sentinels name it as master: a failover is under way"
    return replace(told, detail=detail)


def _servers(found: Cluster) -> Check:
    masters = ", ".join(shown(server) for server in found.masters) or "none"
    detail = f"{len(found.masters)} masters ({masters}), by {shown(found.said_by)}"
    if found.silent:
        silent = "; ".join(found.silent)
        return line("cluster servers", Verdict.WARNING, f"{detail}; not answered: {silent}")
    return line("cluster servers", Verdict.OK, detail)


def _slots(found: Cluster) -> Check:
    """Every slot has a master; whether it serves is what the canary and `cluster` say."""
    missing = unserved(one for ranges in found.masters.values() for one in ranges)
    if not missing:
        return line("slots", Verdict.OK, f"all {CLUSTER_SLOTS} slots have a master")
    ranges = ", ".join(f"{first}-{last}" for first, last in missing)
    detail = f"slots {ranges} have no master: sessions whose keys are there cannot be written"
    return line("slots", Verdict.REFUSED, detail)
