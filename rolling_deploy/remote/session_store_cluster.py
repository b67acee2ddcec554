"""A cluster as one store: its masters, and a link that takes every key to the server it is on."""

from __future__ import annotations

import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rolling_deploy.remote.session_store_address import Server, shown
from rolling_deploy.remote.session_store_info import CLUSTER_SLOTS
from rolling_deploy.remote.session_store_link import Dial, Link, LinkLost, Login, Said, Why, enter

if TYPE_CHECKING:
    from collections.abc import Iterable

REDIRECTS_MAX = 4
"""For one key: a slot moves once at a time, so the second answer is nearly always the last."""
NAMES_TRIED_MAX = 10_000
MOVED_WORDS = 3
SLOTS_WORDS = 3


@dataclass(frozen=True, slots=True)
class Cluster:
    """What one of its servers says of the cluster.

    Attributes:
        said_by: the server that said it.
        masters: which slots each serves, as first and last.
        silent: servers of the url that did not say anything, and why.
    """

    said_by: Server
    masters: Mapping[Server, tuple[tuple[int, int], ...]]
    silent: tuple[str, ...] = ()

    def master_of(self, slot: int) -> Server | None:
        """Answers who serves a slot; None when nobody does."""
        for server, ranges in self.masters.items():
            if any(first <= slot <= last for first, last in ranges):
                return server
        return None


def find_cluster(dial: Dial, seeds: Sequence[Server], login: Login) -> Cluster:
    """Ask the servers of the url, one after the other, until one knows the cluster.

    Raises:
        LinkLost: none does.
    """
    silent: list[str] = []
    for seed in seeds:
        link = dial(*seed)
        try:
            enter(link, login)
            said = link.ask(("CLUSTER", "SLOTS"))[0]
            if not said.is_error:
                return Cluster(seed, _masters(said.value, seed), tuple(silent))
            silent.append(f"{shown(seed)}: {said.error}")
        except LinkLost as error:
            silent.append(f"{shown(seed)}: {error}")
        finally:
            link.close()
    raise LinkLost("; ".join(silent))


def slot_of(key: str) -> int:
    """Answers the slot of a key: of what stands in its first `{}`, if anything does."""
    begin = key.find("{")
    end = key.find("}", begin + 1)
    hashed = key[begin + 1 : end] if begin >= 0 and end > begin + 1 else key
    # Redis Cluster's checksum is XMODEM's, which is this one.
    return binascii.crc_hqx(hashed.encode(), 0) % CLUSTER_SLOTS


def names_for_each(cluster: Cluster, names: Iterable[str]) -> list[str]:
    """Answers one name for each master, where the names' hash tags allow it."""
    chosen: dict[Server, str] = {}
    for tried, name in enumerate(names):
        server = cluster.master_of(slot_of(name))
        if server is not None:
            chosen.setdefault(server, name)
        if len(chosen) == len(cluster.masters) or tried >= NAMES_TRIED_MAX:
            break
    return list(chosen.values())


@dataclass
class ClusterLink:
    """Implements `Link`: each command is asked where its key is, following the cluster's answers.

    For commands whose second word is their key; others go to the server that told of the cluster.

    Attributes:
        followed: how many answers sent us to another server than the cluster's own map says.
    """

    dial: Dial
    cluster: Cluster
    login: Login
    followed: int = 0
    asking: str = "connecting"
    slowest: str = ""
    slowest_ms: int = 0
    _links: dict[Server, Link] = field(default_factory=dict)

    def connect(self) -> None:
        """Nothing yet: each server is connected to when it is asked first."""

    def ask(self, *commands: tuple[str | bytes, ...]) -> list[Said]:
        """Ask each command at the server of its key, those of one server in one round trip."""
        places: dict[Server, list[int]] = {}
        for number, command in enumerate(commands):
            places.setdefault(self._server_of(command), []).append(number)
        answers: dict[int, Said] = {}
        for server, numbers in places.items():
            came = self._ask_at(server, [commands[number] for number in numbers])
            answers.update(zip(numbers, came, strict=True))
        return [self._follow(commands[number], answers[number]) for number in range(len(commands))]

    def close(self) -> None:
        """Close every connection."""
        for link in list(self._links.values()):
            link.close()

    def _server_of(self, command: tuple[str | bytes, ...]) -> Server:
        if len(command) > 1 and command[0] != "INFO":
            key = command[1]
            text = key.decode("utf-8", "surrogateescape") if isinstance(key, bytes) else key
            return self.cluster.master_of(slot_of(text)) or self.cluster.said_by
        return self.cluster.said_by

    def _follow(self, command: tuple[str | bytes, ...], said: Said) -> Said:
        for _ in range(REDIRECTS_MAX):
            words = said.error.split()
            if said.why is not Why.ELSEWHERE or len(words) != MOVED_WORDS:
                return said
            self.followed += 1
            host, _, port = words[2].rpartition(":")
            server = (host.strip("[]") or self.cluster.said_by[0], int(port))
            if words[0] == "ASK":
                said = self._ask_at(server, [("ASKING",), command])[1]
            else:
                said = self._ask_at(server, [command])[0]
        return said

    def _ask_at(self, server: Server, commands: Sequence[tuple[str | bytes, ...]]) -> list[Said]:
        self.asking = f"{commands[-1][0]!s} at {shown(server)}"
        link = self._links.get(server)
        try:
            if link is None:
                link = self.dial(*server)
                self._links[server] = link
                enter(link, self.login)
            said = link.ask(*commands)
        except LinkLost as error:
            raise LinkLost(f"{shown(server)}: {error}") from error
        if link.slowest_ms >= self.slowest_ms:
            self.slowest, self.slowest_ms = f"{link.slowest} at {shown(server)}", link.slowest_ms
        return said


def _masters(said: object, seed: Server) -> dict[Server, tuple[tuple[int, int], ...]]:
    """Answers the masters out of CLUSTER SLOTS; an address without a host means the one asked."""
    found: dict[Server, tuple[tuple[int, int], ...]] = {}
    for entry in said if isinstance(said, list) else []:
        if not isinstance(entry, list) or len(entry) < SLOTS_WORDS:
            continue
        first, last, master = entry[0], entry[1], entry[2]
        host = _text(master[0]) if master[0] else ""
        server = (seed[0] if host in {"", "?"} else host, int(master[1]))
        found[server] = (*found.get(server, ()), (int(first), int(last)))
    return found


def _text(word: object) -> str:
    return word.decode("utf-8", "replace") if isinstance(word, bytes) else str(word)
