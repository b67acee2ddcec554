"""What two parts of a fleet must not share, and what must be left when a wave is out."""

from __future__ import annotations

import ipaddress
import posixpath
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass

from rolling_deploy.inventory.merge import Effective, given, place_key
from rolling_deploy.inventory.model import InventoryShape
from rolling_deploy.inventory.places import nginx_file
from rolling_deploy.inventory.problems import KeyPath, Problems, child, text_of
from rolling_deploy.rollout.fleet import Policy


@dataclass(frozen=True, slots=True)
class _Claim:
    """Something that one part of the fleet has for itself.

    Attributes:
        thing: what must differ.
        owner: whose it is, for the message to the second who claims it.
    """

    thing: Hashable
    path: KeyPath
    expected: str
    shown: str
    owner: str


def check_sharing(inventory: InventoryShape, backends: list[Effective], problems: Problems) -> None:
    """Note what is claimed twice."""
    _check_names(inventory, problems)
    _check_claims(_load_balancer_claims(inventory), problems)
    _check_claims(_backend_claims(inventory, backends), problems)


def _check_claims(claims: Iterable[_Claim], problems: Problems) -> None:
    first: dict[Hashable, _Claim] = {}
    for claim in claims:
        earlier = first.setdefault(claim.thing, claim)
        if earlier is not claim:
            line = problems.line_of(earlier.path)
            actual = f"{claim.shown}, which {text_of(earlier.owner)} has (line {line})"
            problems.add(claim.path, claim.expected, actual)


def _check_names(inventory: InventoryShape, problems: Problems) -> None:
    """Load balancers and backends share one space of names: messages say only the name."""
    named: list[tuple[str, str, int, str]] = []
    for section, group, names in (
        ("load_balancers", "machines", [item.name for item in inventory.load_balancers or []]),
        ("upstreams", "upstreams", [item.name for item in inventory.upstreams or []]),
        ("backends", "machines", [item.name for item in inventory.backends or []]),
    ):
        named += [(section, group, index, name or "") for index, name in enumerate(names)]
    first: dict[tuple[str, str], KeyPath] = {}
    for section, group, index, name in named:
        path: KeyPath = (section, index, "name")
        earlier = first.setdefault((group, name), path)
        if name and earlier != path:
            line = problems.line_of(earlier)
            problems.add(path, "a name of its own", f"{text_of(name)} as in line {line}")


def _machine(inventory: InventoryShape, host: str) -> Hashable:
    """Answers the machine itself: two names may lead to one."""
    shape = (inventory.hosts or {}).get(host)
    if shape is None:
        return host
    port = (given(inventory.ssh) | given(shape)).get("port", shape.port)
    return ((shape.address or host).lower(), port)


def _load_balancer_claims(inventory: InventoryShape) -> Iterator[_Claim]:
    for index, balancer in enumerate(inventory.load_balancers or []):
        host = balancer.host or balancer.name
        if not host:
            continue
        machine = _machine(inventory, host)
        nginx = given(inventory.nginx) | given(balancer.nginx)
        file = nginx.get("file") or nginx_file(inventory.application or "")
        own: KeyPath = ("load_balancers", index, "nginx")
        on = f"of its own on host {text_of(host)}"
        yield _Claim(
            ("file", machine, posixpath.normpath(file)),
            (*own, "file"),
            f"a file {on}",
            text_of(file),
            balancer.name or host,
        )
        port = nginx.get("generation_port")
        yield _Claim(
            ("port", machine, port),
            (*own, "generation_port"),
            f"a port {on}",
            f"`{port}`" if port else "the default",
            balancer.name or host,
        )


def _backend_claims(inventory: InventoryShape, backends: list[Effective]) -> Iterator[_Claim]:
    for backend in backends:
        index = backend.index or 0
        yield from _address_claims(inventory, backend, index)
        if backend.host and backend.upgrade:
            yield from _place_claims(inventory, backend)


def _address_claims(inventory: InventoryShape, backend: Effective, index: int) -> Iterator[_Claim]:
    """One address is one backend's, in whatever upstream, and so is the address it is asked at.

    Else a line of one would stay live while the other is out, or the health of one would be
    taken for the other's.
    """
    shape = (inventory.backends or [])[index]
    own: KeyPath = ("backends", index)
    claimed: set[str] = set()
    written = [
        ((*own, "servers", name, "address") if shape.servers else (*own, "address"), s.address)
        for name, s in backend.servers.items()
    ]
    for path, address in [*written, ((*own, "probe_address"), shape.probe_address)]:
        if address and (thing := canonical_address(address)) not in claimed:
            claimed.add(thing)
            expected = "an address of its own in the whole fleet"
            yield _Claim(("address", thing), path, expected, text_of(address), backend.name)


def _place_claims(inventory: InventoryShape, backend: Effective) -> Iterator[_Claim]:
    machine = _machine(inventory, backend.host)
    own: KeyPath = ("backends", backend.index or 0, "upgrade")
    on = f"of its own on host {text_of(backend.host)}"
    key = place_key(backend.upgrade)
    if place := backend.upgrade.get(key):
        claim = ("place", machine, posixpath.normpath(place))
        yield _Claim(claim, (*own, key), f"a directory {on}", text_of(place), backend.name)
    if state := backend.upgrade.get("state_dir"):
        claim = ("state", machine, posixpath.normpath(state))
        yield _Claim(claim, (*own, "state_dir"), f"a directory {on}", text_of(state), backend.name)
    if unit := backend.upgrade.get("unit"):
        claim = ("unit", machine, str(unit).removesuffix(".service"))
        yield _Claim(claim, (*own, "unit"), f"a unit {on}", text_of(unit), backend.name)


def canonical_address(address: str) -> str:
    """Answers an address so that two ways to write it are equal."""
    host, _, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]").lower()
    try:
        host = str(ipaddress.ip_address(host))
    except ValueError:
        host = "127.0.0.1" if host == "localhost" else host.removesuffix(".")
    return f"{host} {int(port)}"


def check_waves(inventory: InventoryShape, backends: list[Effective], problems: Problems) -> None:
    """Note upstreams that a wave would leave with too few.

    A wave may be any of the backends, since those that are done already are passed over.
    """
    rollout = given(inventory.rollout)
    wave = rollout.get("wave_size", Policy().wave_size)
    serving = rollout.get("serving_min", Policy().serving_min)
    for index, upstream in enumerate(inventory.upstreams or []):
        lines = [b.servers[upstream.name] for b in backends if upstream.name in b.servers]
        count = sum(not line.backup for line in lines)
        if not lines or count >= wave + serving:
            continue
        _note_too_small(index, count, wave, serving, problems)


def _note_too_small(index: int, count: int, wave: int, serving: int, problems: Problems) -> None:
    """Note what to change: the rollout's numbers where that is enough, else the upstream."""
    name = child(child(child(problems.data, "upstreams"), index), "name")
    has = f"because upstream {text_of(name)} has {count} backends that are no backup"
    if wave > 1 and count > serving:
        expected = f"at most {count - serving}, {has} and `serving_min` is {serving}"
        problems.add(("rollout", "wave_size"), expected, f"`{wave}`")
    elif serving > 1 and count > wave:
        expected = f"at most {count - wave}, {has} and a wave takes {wave}"
        problems.add(("rollout", "serving_min"), expected, f"`{serving}`")
    elif count > 1:
        expected = f"at most {count} together with `serving_min`, {has}"
        problems.add(("rollout", "wave_size"), expected, f"{wave} with {serving}")
    else:
        expected = "served by two or more backends that are no backup, so that one keeps serving"
        problems.add(("upstreams", index), expected, f"served by {count or 'none'}")
