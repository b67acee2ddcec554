"""Targets: what machines say, to everything that asks them."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterable, Sequence

from rolling_deploy.errors import RolloutHeld
from rolling_deploy.remote.connection import Answer
from rolling_deploy.remote.nginx import Nginx, look_from
from rolling_deploy.remote.nginx_facts import NginxFacts, checks, facts_from
from rolling_deploy.remote.record_copies import Holder, Place, hold, read_copies
from rolling_deploy.remote.release import ReleaseStrategy
from rolling_deploy.remote.script import NotUnderstood, parse_reply
from rolling_deploy.remote.service_checks import Lines
from rolling_deploy.remote.sudo_rights import asks_password, spelled_out
from rolling_deploy.remote.tomcat import TomcatStrategy
from rolling_deploy.remote.tomcat_config import graceful_lines
from rolling_deploy.rollout.observed import ManagedFile
from rolling_deploy.rollout.step import Outcome
from rolling_deploy.settings import (
    BackendSettings,
    HealthSettings,
    HostTarget,
    LoadBalancerSettings,
    ReleaseSettings,
    ServerSettings,
    TomcatSettings,
    WarmUpSettings,
)
from rolling_deploy.upstreams.stamp import inspect
from tests.fuzz.sound import (
    ADDRESSES,
    TOKEN,
    text_of,
)


class Saying:
    """A machine that answers every command with the same bytes. Implements `Connection`."""

    def __init__(self, said: bytes, *, sudo: bool = False) -> None:
        self._said = said
        self._target = HostTarget("web1", "127.0.0.1", sudo=sudo)

    @property
    def target(self) -> HostTarget:
        return self._target

    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes | Iterable[bytes] = b"",
        limit_ms: int,
        holds_stdin: bool = False,
    ) -> Answer:
        return Answer(True, 0, self._said, self._said[:100])

    def open_stream(self, host: str, port: int, *, timeout_ms: int) -> socket.socket:
        raise OSError("refused")

    def close(self) -> None:
        """Nothing is held."""


def reply(data: bytes) -> None:
    """A script's answer is believed whole, or not at all."""
    found = parse_reply(data, data[:50])
    ends = [line for line in data.split(b"\n")[:-1] if line.startswith(b"end=")]
    if found.outcome is not Outcome.UNKNOWN:
        assert len(ends) == 1, "exactly one line says the end"


BALANCER = LoadBalancerSettings("lb1", "lb1", "/etc/nginx/conf.d/shop.conf", "/var/lib/rd")


def _inspect(text: bytes) -> ManagedFile:
    return inspect(text, "shop", ADDRESSES)


def look(data: bytes) -> None:
    """A look at a load balancer, or a refusal to guess."""
    with contextlib.suppress(NotUnderstood):
        look_from(parse_reply(data), _inspect)


def facts(data: bytes) -> None:
    """Facts of a preflight, and a line for each."""
    found = facts_from(parse_reply(data), 18_999)
    checks(found, BALANCER)


def balancer(data: bytes) -> None:
    """Every question to a load balancer and every change of one ends in an answer."""
    nginx = Nginx(BALANCER, "shop", Saying(data, sudo=True), _inspect)
    nginx.look()
    found = nginx.facts()
    if isinstance(found, NginxFacts):
        checks(found, BALANCER)
    nginx.apply(b"x", replaces="absent", generation="g1", adopt=True, token=TOKEN)
    nginx.unadopt(replaces="absent", token=TOKEN)
    nginx.pretest("")
    with contextlib.suppress(OSError):
        nginx.read_original()
    place = {"lb1": Place(Saying(data), "/var/lib/rd")}
    copies, _ = read_copies(place)
    for copy in copies.values():
        if copy.holder is not None:
            copy.holder.describe()
    with contextlib.suppress(RolloutHeld):
        hold(place, TOKEN, Holder("me", "here", "", 1, "r-1", ""))


def _backend(strategy: TomcatSettings | ReleaseSettings) -> BackendSettings:
    return BackendSettings(
        "app1",
        "web1",
        {"shop": ServerSettings("127.0.0.1:8080")},
        "127.0.0.1:8080",
        strategy,
        HealthSettings(),
        WarmUpSettings(),
    )


RELEASE = ReleaseSettings("app.tar.gz", "/srv", "/srv/.rd", start=("sudo", "x"), stop=("doas", "x"))
TOMCAT = TomcatSettings("app.war", "/srv/tomcat", "/srv/.rd", unit="tomcat10")


def backend(data: bytes) -> None:
    """The same for a backend, with both strategies."""
    saying = Saying(data, sudo=True)
    for strategy in (
        ReleaseStrategy(RELEASE, _backend(RELEASE), saying),
        TomcatStrategy(TOMCAT, _backend(TOMCAT), saying),
    ):
        strategy.look()
        strategy.preflight("2.0")
        strategy.preflight()
        strategy.activate("x", TOKEN)
        strategy.prune(frozenset({"x"}), TOKEN)


def server_xml(data: bytes) -> None:
    """Tomcat's own file, in whatever encoding."""
    list(graceful_lines(Lines("app1"), text_of(data), 8080))


def sudo_listing(data: bytes) -> None:
    """What sudo lists, for a command that stands in it or not."""
    for command in ("/usr/bin/systemctl stop x", *list(spelled_out(data))[:3]):
        asks_password(data.decode("utf-8", "replace"), command)
