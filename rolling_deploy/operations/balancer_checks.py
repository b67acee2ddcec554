"""The checks of one load balancer: its file, its configuration, and the inventory together."""

from __future__ import annotations

from dataclasses import dataclass

from rolling_deploy.errors import InputWrong, RecordWrong
from rolling_deploy.operations.log_sources import sources_of
from rolling_deploy.operations.site import Site
from rolling_deploy.remote.nginx import Look
from rolling_deploy.remote.nginx_facts import NginxFacts, checks
from rolling_deploy.remote.record_copies import read_copies
from rolling_deploy.rollout.fold import fold
from rolling_deploy.rollout.observed import Check, Verdict
from rolling_deploy.upstreams.merge import Merged, addresses_of, merge
from rolling_deploy.upstreams.reading import (
    FileNotUnderstood,
    NotOnlyUpstreams,
    layout_from_settings,
    read_layout,
)
from rolling_deploy.upstreams.render import Frozen, Renderings
from rolling_deploy.upstreams.routes import (
    Dump,
    is_included,
    other_routes,
    parse_dump,
    setting,
    unclear_routes,
    upstream_elsewhere,
    users_of,
    would_be_included,
)
from rolling_deploy.upstreams.stamp import parking_edit

KEEPALIVE_MIN_TIMEOUT_SINCE = (1, 27, 4)
"""The first nginx that can leave idle clients a moment across a reload (its own change log)."""

EARLIER_WORKERS_MANY = 20
"""Ten reloads with websockets held left 22 workers; more are a memory risk on the machine."""


@dataclass(frozen=True, slots=True)
class BalancerSurvey:
    """What a preflight learnt of one load balancer.

    Attributes:
        merged: its file and the inventory together; None when the file cannot be used.
        is_ours: the file carries our stamp.
        is_adopted: it can be managed as it stands: ours and intact, or ours with nothing but
            parked servers changed by hand.
    """

    look: Look
    facts: NginxFacts
    merged: Merged | None
    is_ours: bool
    is_adopted: bool


@dataclass(frozen=True, slots=True)
class Acceptance:
    """What a person accepted on the command line.

    Attributes:
        load_pending: edits of nginx's files that are not loaded yet may go live.
        adopting: files that are not ours are about to be adopted, so they are no obstacle.
        canary: the session store's canary key, and canary sessions, may be written.
        unproved_sessions: the plan may go on where no backend of the other release serves.
        incompatible_sessions: and where the release cannot read some of the stored sessions.
    """

    load_pending: bool = False
    adopting: bool = False
    canary: bool = True
    unproved_sessions: bool = False
    incompatible_sessions: bool = False


class BalancerChecks:
    """The checks of one load balancer that need its file, its configuration and the inventory."""

    def __init__(
        self, site: Site, name: str, look: Look, facts: NginxFacts, acceptance: Acceptance
    ) -> None:
        self.site = site
        self.name = name
        self.look = look
        self.facts = facts
        self.acceptance = acceptance
        self.settings = site.inventory.load_balancers[name]
        self.lines: list[Check] = []
        self.lossy: list[str] = []

    def survey(self) -> BalancerSurvey:
        """Run every check and answer what was learnt."""
        self.lines += checks(self.facts, self.settings, load_pending=self.acceptance.load_pending)
        file = self.look.seen.file
        is_ours = file is not None and file.stamp is not None
        merged = self._merged()
        is_adopted = merged is not None and self._management(merged)
        if self.facts.dump is not None:
            dump = parse_dump(self.facts.dump)
            self._configuration(dump)
            if self.site.inventory.losses.access_logs.is_read:
                prefix = self.settings.prefix or self.facts.prefix
                sources = sources_of(self.site.inventory, self.name, dump, prefix)
                self.site.log_sources[self.name] = sources
        else:
            self._add("configuration", Verdict.REFUSED, f"`nginx -T`: {self.facts.dump_said}")
        return BalancerSurvey(self.look, self.facts, merged, is_ours, is_adopted)

    def _add(self, name: str, verdict: Verdict, detail: str = "") -> None:
        self.lines.append(Check(self.name, name, verdict, detail))

    @property
    def _managed(self) -> list[str]:
        paths = [self.settings.file]
        return [*paths, self.facts.leads_to] if self.facts.leads_to else paths

    def _merged(self) -> Merged | None:
        inventory = self.site.inventory
        if self.look.text is None:
            layout = layout_from_settings(inventory.upstreams)
        else:
            text = self.look.text.decode("utf-8", "surrogateescape")
            try:
                layout = read_layout(text, f"{self.name}:{self.settings.file}")
            except (FileNotUnderstood, NotOnlyUpstreams) as error:
                self._add("managed file", Verdict.REFUSED, str(error))
                return None
        return merge(layout, inventory.upstreams, inventory.backends)

    def _management(self, merged: Merged) -> bool:
        """Whether the file may be worked with; says why not."""
        file = self.look.seen.file
        if file is None or file.stamp is None:
            self._first_contact(merged)
            return False
        if file.stamp.application != self.site.inventory.application:
            other = file.stamp.application
            self._add("managed file", Verdict.REFUSED, f"is managed for application {other}")
            return False
        if not file.is_intact and not self._is_only_parked():
            verdict = Verdict.OK if self.acceptance.adopting else Verdict.REFUSED
            self._add(
                "managed file",
                verdict,
                "was edited by hand since it was written; "
                "`rolling-deploy adopt` accepts it as it stands",
            )
            return False
        seen = self.look.seen
        if seen.live != file.stamp.generation or not seen.is_settled:
            live = seen.live or "nothing"
            self._add(
                "live",
                Verdict.REFUSED,
                f"serves {live}, on disk is {file.stamp.generation}; reload nginx and look again",
            )
        else:
            self._add("managed file", Verdict.OK, f"ours, {file.stamp.generation} is live")
        self._say_differences(merged, Verdict.WARNING)
        if (seen.earlier_workers or 0) > EARLIER_WORKERS_MANY:
            self._add("earlier workers", Verdict.REFUSED, f"{seen.earlier_workers} are still there")
        return True

    def _is_only_parked(self) -> bool:
        """A person who parks a backend edits our file: only `down` differs from what we wrote.

        What we wrote is rendered again from what that rollout froze; its record lies beside it.
        """
        file = self.look.seen.file
        if file is None or file.stamp is None or self.look.text is None:
            return False
        stamp = file.stamp
        copies, _ = read_copies({self.name: self.site.place_of(self.name)}, stamp.rollout)
        chain = copies[self.name].chain if self.name in copies else None
        if chain is None or not chain.entries:
            return False
        try:
            opened = fold(chain.entries).opened
            rendered = Renderings(Frozen.from_json(opened.frozen)).text(
                self.name, stamp.out, stamp.rollout, stamp.claim, stamp.generation
            )
        except (InputWrong, RecordWrong, KeyError, ValueError):
            return False
        text = self.look.text.decode("utf-8", "surrogateescape")
        return parking_edit(text, rendered, addresses_of(self.site.inventory.backends)) is not None

    def _first_contact(self, merged: Merged) -> None:
        if self.acceptance.adopting:
            self._add("managed file", Verdict.OK, "will be adopted")
            # Adopting publishes the same upstream; anything else is a person's decision first.
            self._say_differences(merged, Verdict.REFUSED)
            return
        what = "does not exist" if self.look.text is None else "is not managed by rolling-deploy"
        self._add(
            "managed file",
            Verdict.REFUSED,
            f"{self.settings.file} {what}; look at the difference with `rolling-deploy plan`, then "
            "`rolling-deploy adopt` (or `run --adopt`)",
        )

    def _say_differences(self, merged: Merged, verdict: Verdict) -> None:
        is_new = self.look.text is None
        for missing in merged.missing if not is_new else ():
            self._add(
                "upstream",
                verdict,
                f"{missing.upstream} has no line for {missing.backend} ({missing.address})",
            )
        for odd in merged.differences:
            now = odd.in_file or "nothing"
            self._add(
                "upstream",
                verdict,
                f"{odd.upstream}, {odd.backend}: the file says {now}, the inventory {odd.declared}",
            )
        for name in merged.added_upstreams if not is_new else ():
            self._add("upstream", verdict, f"the file has no upstream {name}")
        for foreign in merged.foreign:
            self._add(
                "upstream",
                Verdict.WARNING,
                f"{foreign.upstream} has {foreign.address}, which is not in the inventory: kept",
            )
        for line in merged.undeclared:
            self._add(
                "upstream",
                Verdict.WARNING,
                f"{line.upstream} has {line.address} of {line.backend}, which the inventory does "
                "not say: kept, and taken out with it",
            )
        for name in merged.foreign_upstreams:
            self._add(
                "upstream",
                Verdict.WARNING,
                f"the file has an upstream {name}, which is not in the inventory: kept",
            )

    def _configuration(self, dump: Dump) -> None:
        inventory = self.site.inventory
        names = set(inventory.upstreams)
        self._inclusion(dump)
        for path, lines in upstream_elsewhere(dump, names, self._managed):
            self._add(
                "upstream",
                Verdict.REFUSED,
                f"defined in {path} too; move lines {lines.first}-{lines.last} to "
                f"{self.settings.file}",
            )
        self._ways(dump)
        unused = [name for name, users in users_of(dump, names).items() if not users]
        for name in unused:
            self._add("upstream", Verdict.WARNING, f"no proxy_pass uses {name}")
        self._lossless(dump)

    def _inclusion(self, dump: Dump) -> None:
        """A file that nginx does not read could be published for ever without effect."""
        file, seen = self.settings.file, self.look.seen
        stamp = seen.file.stamp if seen.file else None
        if stamp is not None and seen.live == stamp.generation:
            return  # what it says is served, whatever nginx calls it
        if self.look.text is None:
            is_read = would_be_included(dump, self._managed)
        else:
            is_read = is_included(dump, self._managed)
        if not is_read:
            self._add(
                "include",
                Verdict.REFUSED,
                f"nginx does not read {file}; add `include {file};` to the `http` block of "
                f"{self.facts.config or 'its configuration'} and reload, or name the file as "
                "nginx does",
            )

    def _ways(self, dump: Dump) -> None:
        """Every way to a backend besides the managed file, and what could not be told to be one."""
        addresses = {
            a for each in addresses_of(self.site.inventory.backends).values() for a in each
        }
        routes = other_routes(dump, self._managed, addresses)
        for route in routes:
            is_accepted = route.address in self.settings.acknowledged_routes
            self._add(
                "other ways",
                Verdict.WARNING if is_accepted else Verdict.REFUSED,
                f"{route.file}:{route.line}: {route.text} reaches {route.address}"
                + (" (acknowledged)" if is_accepted else "; acknowledge it or remove it"),
            )
        known = {(route.file, route.line) for route in routes}
        unclear = [
            f"{route.file}:{route.line}: {route.text}: whether it reaches a backend is not known"
            for route in unclear_routes(dump, addresses)
            if (route.file, route.line) not in known
        ]
        unclear += [
            f"{path} cannot be read as nginx does; it was only searched for the addresses"
            for path in dump.unparsed_files()
        ]
        for detail in unclear:
            self._add("other ways", Verdict.NOT_CHECKED, detail)
        if not routes and not unclear:
            self._add("other ways", Verdict.OK, "no other way to a backend in the configuration")

    def _lossless(self, dump: Dump) -> None:
        """What a reload costs here, whoever does it."""
        minimum = setting(dump, "keepalive_min_timeout")
        timeouts = setting(dump, "keepalive_timeout")
        has_keepalive = not timeouts or any(
            t.arguments[:1] not in (("0",), ("0s",)) for t in timeouts
        )
        if has_keepalive and not minimum:
            version = _version(self.facts.version)
            can = version >= KEEPALIVE_MIN_TIMEOUT_SINCE
            advice = "set `keepalive_min_timeout`" if can else "needs nginx 1.27.4 or newer"
            self.lossy.append(
                f"{self.name}: {self.facts.version} closes idle kept-alive clients at each reload; "
                f"a request sent at that moment is reset ({advice})"
            )
        for found in setting(dump, "worker_shutdown_timeout"):
            self.lossy.append(
                f"{self.name}: worker_shutdown_timeout {' '.join(found.arguments)} "
                f"({found.file}:{found.line}) cuts requests that take longer, at each reload"
            )
        for found in setting(dump, "proxy_next_upstream"):
            if "non_idempotent" in found.arguments:
                self.lossy.append(
                    f"{self.name}: proxy_next_upstream non_idempotent ({found.file}:{found.line}) "
                    "may execute a POST twice"
                )


def _version(text: str) -> tuple[int, ...]:
    """`nginx/1.22.1` as numbers; what is no number counts as 0."""
    words = text.rpartition("/")[2].split(" ")[0].split(".")
    return tuple(int(word) if word.isdigit() else 0 for word in words)
