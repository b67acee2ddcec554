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
NODES_WORDS = 8
"""Of one server in the answer, before its slots."""

Masters = dict[Server, tuple[tuple[int, int], ...]]
"""Which slots each serves, as first and last."""


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


def find_cluster(
    dial: Dial, seeds: Sequence[Server], login: Login, *, by_names: bool = False
) -> Cluster:
    """Ask the servers of the url, one after the other, until one knows the cluster.

    Args:
        by_names: where a server says both its address and its name, take the name, which is what
            a certificate is for.

    Raises:
        LinkLost: none does.
    """
    silent: list[str] = []
    for seed in seeds:
        link = dial(*seed)
        try:
            enter(link, login)
            masters = _ask(link, seed, login, by_names=by_names)
            return Cluster(seed, masters, tuple(silent))
        except LinkLost as error:
            silent.append(f"{shown(seed)}: {error}")
        finally:
            link.close()
    raise LinkLost("; ".join(silent))


def _ask(link: Link, seed: Server, login: Login, *, by_names: bool) -> Masters:
    """Answers the masters by whichever of the two commands the user may run.

    Raises:
        LinkLost: neither, or the server is none of a cluster.
    """
    slots = link.ask(("CLUSTER", "SLOTS"))[0]
    if not slots.is_error:
        return _by_slots(slots.value, seed)
    if slots.why is not Why.DENIED:
        raise LinkLost(slots.error)
    nodes = link.ask(("CLUSTER", "NODES"))[0]
    if not nodes.is_error:
        return by_nodes(_text(nodes.value), seed, by_names=by_names)
    if nodes.why is not Why.DENIED:
        raise LinkLost(nodes.error)
    user = login.username or "default"
    raise LinkLost(
        f"user `{user}` may run neither CLUSTER SLOTS nor CLUSTER NODES, one of which says where "
        f"the keys are: `ACL SETUSER {user} +cluster|slots` on every server of the cluster"
    )


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


def _by_slots(said: object, seed: Server) -> Masters:
    """Answers the masters out of CLUSTER SLOTS; an address without a host means the one asked."""
    found: Masters = {}
    for entry in said if isinstance(said, list) else []:
        if not isinstance(entry, list) or len(entry) < SLOTS_WORDS:
            continue
        first, last, master = entry[0], entry[1], entry[2]
        host = _text(master[0]) if master[0] else ""
        server = (seed[0] if host in {"", "?"} else host, int(master[1]))
        found[server] = (*found.get(server, ()), (int(first), int(last)))
    return found


def by_nodes(said: str, seed: Server, *, by_names: bool) -> Masters:
    """Answers the masters out of CLUSTER NODES: a line each,
    `id ip:port@bus,name flags master ping pong epoch link slots...`.

    In the order of their slots. Of one that moves (`[5->-id]`) only who has it now is told here.
    """
    found: Masters = {}
    for row in said.splitlines():
        words = row.split()
        if len(words) < NODES_WORDS or "master" not in words[2].split(","):
            continue
        address, _, names = words[1].partition(",")
        host, _, port = address.partition("@")[0].rpartition(":")
        name = names.partition(",")[0]
        if by_names and name and name != "?":
            host = name
        ranges = tuple(_slots(word) for word in words[NODES_WORDS:] if not word.startswith("["))
        if ranges and port.isdigit():
            found[host.strip("[]") or seed[0], int(port)] = ranges
    return dict(sorted(found.items(), key=lambda one: one[1]))


def _slots(word: str) -> tuple[int, int]:
    first, _, last = word.partition("-")
    return int(first), int(last or first)


def _text(word: object) -> str:
    return word.decode("utf-8", "replace") if isinstance(word, bytes) else str(word)
