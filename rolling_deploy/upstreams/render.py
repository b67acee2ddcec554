"""Rendering the managed file for any set of backends taken out, from frozen inputs only."""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rolling_deploy.errors import InventoryWrong, RecordWrong
from rolling_deploy.rollout.observed import Stamp
from rolling_deploy.settings import Inventory
from rolling_deploy.upstreams import stamp_lines
from rolling_deploy.upstreams.endpoint import endpoint, is_application, is_generation, neutral
from rolling_deploy.upstreams.layout import (
    Directive,
    Layout,
    ServerLine,
    UpstreamLayout,
    text_of,
)
from rolling_deploy.upstreams.merge import addresses_of
from rolling_deploy.upstreams.takeout import take_out
from rolling_deploy.upstreams.template import Trusted, run_template
from rolling_deploy.upstreams.verify import verify


@dataclass(frozen=True, slots=True)
class BackendFacts:
    """What rendering has to know of a backend."""

    addresses: frozenset[str]
    zone: str = ""
    variables: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Frozen:
    """Everything that rendering depends on, and nothing else: no connection data, no passwords.

    Attributes:
        layouts: per load balancer, merged with the inventory.
        ports: per load balancer, of its generation endpoint.
    """

    application: str
    template: str
    template_name: str
    layouts: Mapping[str, Layout]
    ports: Mapping[str, int]
    backends: Mapping[str, BackendFacts]
    variables: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Answers plain values for the record.

        Raises:
            InventoryWrong: a variable is something that JSON has no writing for.
        """
        plain = {
            "application": self.application,
            "template": self.template,
            "template_name": self.template_name,
            "layouts": {name: layout.to_json() for name, layout in self.layouts.items()},
            "ports": dict(self.ports),
            "backends": {
                name: {
                    "addresses": sorted(facts.addresses),
                    "zone": facts.zone,
                    "variables": dict(facts.variables),
                }
                for name, facts in self.backends.items()
            },
            "variables": dict(self.variables),
        }
        try:
            thawed: dict[str, Any] = json.loads(json.dumps(plain, allow_nan=False))
        except (TypeError, ValueError) as error:
            reason = f"a variable cannot be kept in the record: {error}"
            raise InventoryWrong(reason, next_step="write it as a quoted text") from None
        return thawed

    @staticmethod
    def from_json(plain: Mapping[str, Any]) -> Frozen:
        """Answers what `to_json` wrote.

        Raises:
            RecordWrong: it is something else.
        """
        try:
            return Frozen(
                plain["application"],
                plain["template"],
                plain["template_name"],
                {name: Layout.from_json(layout) for name, layout in plain["layouts"].items()},
                dict(plain["ports"]),
                {
                    name: BackendFacts(
                        frozenset(facts["addresses"]), facts["zone"], facts["variables"]
                    )
                    for name, facts in plain["backends"].items()
                },
                plain["variables"],
            )
        except (KeyError, TypeError, AttributeError) as error:
            reason = f"the record's rendering inputs cannot be read: {error!r}"
            raise RecordWrong(reason) from None


def freeze(inventory: Inventory, layouts: Mapping[str, Layout]) -> Frozen:
    """Answers the inputs of every rendering of a rollout.

    Args:
        layouts: per load balancer, `merge(...).layout`.
    """
    addresses = addresses_of(inventory.backends)
    return Frozen(
        application=inventory.application,
        template=inventory.template,
        template_name=inventory.template_name,
        layouts=dict(layouts),
        ports={name: inventory.load_balancers[name].generation_port for name in layouts},
        backends={
            name: BackendFacts(addresses[name], backend.zone, backend.variables)
            for name, backend in inventory.backends.items()
        },
        variables=inventory.variables,
    )


@dataclass(frozen=True, slots=True)
class ServerView:
    """A server line, as templates see it."""

    line: str
    backend: str
    address: str
    parameters: tuple[str, ...]
    is_down: bool
    comment: str
    zone: str
    variables: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class UpstreamView:
    """An upstream block, as templates see it."""

    name: str
    before: tuple[str, ...]
    entries: tuple[str, ...]
    options: tuple[str, ...]
    servers: tuple[ServerView, ...]


class Renderings:
    """The managed file in every variant. The same inputs give the same bytes, always."""

    def __init__(self, frozen: Frozen) -> None:
        """Take the inputs.

        Raises:
            InventoryWrong: the application's name cannot be part of a server name.
        """
        if not is_application(frozen.application):
            reason = (
                f"application: `{frozen.application!a}` should be letters, digits, `-`, `_`, `.`"
            )
            raise InventoryWrong("the application's name cannot be used", problems=[reason])
        self.frozen = frozen
        self._bodies: dict[tuple[str, frozenset[str]], str] = {}

    def text(
        self,
        load_balancer: str,
        out: frozenset[str],
        rollout: str,
        claim: int,
        generation: str,
    ) -> str:
        """Answers the whole file, stamp and endpoint included, rendered and verified.

        Characters that stand for undecodable bytes are surrogates: encode the text with
        `errors="surrogateescape"`.

        Raises:
            TemplateWrong: the template fails, or does not render what is wanted.
            NothingLive: nothing would be left to answer.
            ValueError: the generation holds more than letters, digits and `._:-`.
        """
        if not is_generation(generation):
            raise ValueError(generation)
        digest = self.body_digest(load_balancer, out)
        stamp = Stamp(self.frozen.application, rollout, claim, generation, out, digest)
        port = self.frozen.ports[load_balancer]
        tail = endpoint(self.frozen.application, port, generation)
        return f"{stamp_lines.to_lines(stamp)}{self._upstreams(load_balancer, out)}\n{tail}"

    def body_digest(self, load_balancer: str, out: frozenset[str]) -> str:
        """Answers the sha256 of the file without its stamp and the value of its generation."""
        port = self.frozen.ports[load_balancer]
        tail = endpoint(self.frozen.application, port, "")
        return digest_of_body(f"{self._upstreams(load_balancer, out)}\n{tail}")

    def _upstreams(self, load_balancer: str, out: frozenset[str]) -> str:
        key = (load_balancer, out)
        if key not in self._bodies:
            self._bodies[key] = self._render(load_balancer, out)
        return self._bodies[key]

    def _render(self, load_balancer: str, out: frozenset[str]) -> str:
        frozen = self.frozen
        wanted = take_out(frozen.layouts[load_balancer], out, load_balancer)
        values = {
            "application": frozen.application,
            "load_balancer": load_balancer,
            "variables": frozen.variables,
            "upstreams": tuple(self._view(upstream) for upstream in wanted.upstreams),
            "after": tuple(Trusted(comment.text) for comment in wanted.after),
        }
        text = _tidy(run_template(frozen.template, frozen.template_name, values))
        # A backend that left the inventory since may be in the stamp of the file that is there.
        gone = {a for name in out & set(frozen.backends) for a in frozen.backends[name].addresses}
        verify(text, wanted, frozen.template_name, load_balancer, gone)
        return text

    def _view(self, upstream: UpstreamLayout) -> UpstreamView:
        return UpstreamView(
            upstream.name,
            tuple(Trusted(comment.text) for comment in upstream.before),
            tuple(Trusted(text_of(entry)) for entry in upstream.entries),
            tuple(Trusted(text_of(e)) for e in upstream.entries if isinstance(e, Directive)),
            tuple(self._server_view(line) for line in upstream.servers),
        )

    def _server_view(self, line: ServerLine) -> ServerView:
        facts = self.frozen.backends.get(line.backend, BackendFacts(frozenset()))
        return ServerView(
            Trusted(text_of(line)),
            line.backend,
            line.address,
            line.parameters,
            line.is_down,
            Trusted(line.comment),
            facts.zone,
            facts.variables,
        )


def digest_of_body(body: str) -> str:
    """Answers the digest that a stamp carries, for a file without its stamp."""
    return hashlib.sha256(neutral(body).encode("utf-8", "surrogateescape")).hexdigest()


def _tidy(text: str) -> str:
    """Answers the text without empty lines at its ends and spaces at the ends of lines."""
    return re.sub(r"[ \t\r]+$", "", text, flags=re.MULTILINE).strip("\n") + "\n"


def differences(old: str, new: str, label: str, *, with_stamp: bool = False) -> list[str]:
    """Answers a unified diff of two versions of a file, without newlines at the lines' ends.

    Args:
        with_stamp: show the stamp and the generation too, which differ every time.
    """
    if not with_stamp:
        old, new = (neutral(stamp_lines.split(text)[1]) for text in (old, new))
    lines = difflib.unified_diff(
        old.splitlines(), new.splitlines(), f"{label} (now)", f"{label} (new)", lineterm=""
    )
    return list(lines)
