"""What is fuzzed: everything that reads bytes which somebody else wrote.

A target takes bytes and returns, or raises what it must never raise. Which outcomes are right is
said here, by target; anything else is a crash.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import random
import re
import socket
import tempfile
import threading
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rolling_deploy.errors import InventoryWrong, RecordWrong
from rolling_deploy.inventory import load_inventory
from rolling_deploy.ports import Written
from rolling_deploy.remote.health_answer import judge
from rolling_deploy.remote.http import HttpAnswer, HttpClient, NoAnswer, Question
from rolling_deploy.remote.record_copies import Holder
from rolling_deploy.remote.session_store_info import (
    fields_of,
    judge_cluster,
    judge_info,
    judge_replicas,
)
from rolling_deploy.remote.ssh_hosts import HostKey, HostKeyRefused, KnownHosts
from rolling_deploy.report.plain import event_line
from rolling_deploy.report.status import StatusView, status_lines
from rolling_deploy.report.summary import summary_lines
from rolling_deploy.rollout.fold import advance, fold
from rolling_deploy.rollout.journal import EPOCH_BELOW, GENESIS, read_chain
from rolling_deploy.settings import (
    HealthSettings,
    HostTarget,
    VersionSource,
)
from rolling_deploy.upstreams.routes import is_included, parse_dump, setting, would_be_included
from rolling_deploy.upstreams.stamp import inspect, parking_edit
from tests.fuzz.machines import (
    backend,
    balancer,
    facts,
    look,
    reply,
    server_xml,
    sudo_listing,
)
from tests.fuzz.sound import (
    ADDRESSES,
    BACKEND,
    CHUNKED,
    DUMP,
    FACTS,
    INFO,
    KEYS,
    LISTING,
    LOOK,
    MANAGED,
    RESPONSE,
    SOUND_INVENTORY,
    TOMCATS_XML,
    record_bytes,
    story_bytes,
    text_of,
)

HERE = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Target:
    """One thing to be fuzzed.

    Attributes:
        seeds: sound inputs, to be changed.
        words: what its grammar consists of, to be put in.
        is_led: atheris may lead the search; it makes what uses threads a hundred times slower.
    """

    run: Callable[[bytes], object]
    seeds: tuple[bytes, ...]
    words: tuple[bytes, ...] = ()
    is_led: bool = True


# The user's files


PROBLEM = re.compile(r"[^\n]*inventory\.yaml:[0-9]+: [^\n]*should be [^\n]+, is [^\n]+")


def _problems_of(path: Path) -> tuple[str, ...] | None:
    try:
        load_inventory(path)
    except InventoryWrong as wrong:
        return wrong.problems
    return None


def inventory(data: bytes) -> None:
    """An inventory, or every problem with its place."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "inventory.yaml")
        path.write_bytes(data)
        problems = _problems_of(path)
        assert problems is None or problems, "a refusal says what is wrong"
        for problem in problems or ():
            assert PROBLEM.fullmatch(problem), problem


def known_hosts(data: bytes) -> None:
    """A known_hosts file trusts a key or refuses it; a line that cannot be read is passed over."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "known_hosts")
        path.write_bytes(data)
        target = HostTarget("web1", "web1.example", known_hosts=str(path))
        for port in (22, 2222):
            file = KnownHosts(str(path))
            file.kinds_for(replace(target, port=port))
            with contextlib.suppress(HostKeyRefused):
                file.check(replace(target, port=port), HostKey("ssh-ed25519", b"key"))


# The record


def _judged(content: bytes) -> None:
    try:
        chain = read_chain(content, "lb1:r-1.jsonl")
        assert all(0 < entry.epoch < EPOCH_BELOW for entry in chain.entries)
        record = fold(chain.entries)
    except RecordWrong:
        return
    assert chain.size + chain.torn == len(content)
    summary_lines(chain.entries, record)
    so_far = fold(chain.entries[:1])
    for entry in chain.entries[1:]:
        so_far = advance(so_far, entry)
        event_line(Written(entry, so_far))


def record(data: bytes) -> None:
    """A chain, or a refusal; what is taken can be folded and told."""
    _judged(data)


def record_sealed(data: bytes) -> None:
    """The same behind right hashes, as whoever may write the file could make them."""
    previous, lines = GENESIS, []
    for seq, line in enumerate(data.split(b"\n"), 1):
        try:
            plain = json.loads(line)
        except (ValueError, RecursionError):
            break
        if not isinstance(plain, dict):
            break
        plain = {**plain, "seq": seq, "prev": previous}
        plain.pop("hash", None)
        previous = hashlib.sha256(_canonical(plain)).hexdigest()
        lines.append(_canonical({**plain, "hash": previous}) + b"\n")
    _judged(b"".join(lines))


ODD: tuple[object, ...] = (
    None, True, -1, 0, 10**30, 1.5, "", "app1", "app9", "lb9", "release", "\ud800", [], {},
    ["app1"], [[]], {"type": "Closed"}, {"app1": "release"}, {"type": "Stage", "backend": "app1"},
)  # fmt: skip


def record_of_odd_facts(data: bytes) -> None:
    """The same with some values of sound facts exchanged, which the bytes choose."""
    chance = random.Random(data)
    lines = [json.loads(line) for line in story_bytes().splitlines()]
    for _ in range(chance.randint(1, 4)):
        _exchange(chance.choice(lines), chance)
    if chance.random() < 0.3:
        chance.shuffle(lines)
    record_sealed(b"\n".join(_canonical(line) for line in lines))


def _exchange(value: Any, chance: random.Random) -> None:
    """Put an odd value somewhere into a plain value, at any depth."""
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    if not keys:
        return
    key = chance.choice(keys)
    if isinstance(value[key], dict | list) and value[key] and chance.random() < 0.8:
        _exchange(value[key], chance)
    elif isinstance(value, dict) and chance.random() < 0.1:
        del value[key]
    else:
        value[key] = deepcopy(chance.choice(ODD))


def _canonical(plain: dict[str, Any]) -> bytes:
    return json.dumps(plain, sort_keys=True, separators=(",", ":")).encode("ascii")


def holder(data: bytes) -> None:
    """Whoever holds the lock can be described, or is not known."""
    found = Holder.from_json(text_of(data))
    if found is not None:
        found.describe()


# nginx's files


def managed(data: bytes) -> None:
    """Looking at a managed file never fails, and believes no stamp but a right one."""
    found = inspect(data, "shop", ADDRESSES)
    assert found.digest == hashlib.sha256(data).hexdigest()
    if found.is_intact:
        assert found.stamp is not None
    text = text_of(data)
    parking_edit(text, text_of(MANAGED), ADDRESSES)


def dump(data: bytes) -> None:
    """A whole configuration as nginx prints it."""
    found = parse_dump(text_of(data))
    is_included(found, ["/etc/nginx/conf.d/shop.conf"])
    would_be_included(found, ["/etc/nginx/conf.d/shop.conf"])
    list(setting(found, "include"))


# What applications and the session store answer


VERSIONS = (
    VersionSource(),
    VersionSource(header="x-version"),
    VersionSource(json="build.version.0"),
    VersionSource(pattern=r"version=(\S*)"),
)


def health(data: bytes) -> None:
    """One answer of an application: what is shown of it is printable."""
    status, _, body = data.partition(b"\n")
    answer = HttpAnswer(int.from_bytes(status[:2], "big"), {"x-version": text_of(status)}, body, 1)
    for version in VERSIONS:
        settings = HealthSettings(
            content="ok", version=version, headers={"Authorization": "Bearer abcdef"}
        )
        judged = judge(settings, answer, answer, "2.0")
        assert judged.detail.isprintable()
        assert judged.version is None or judged.version.isprintable()


def store_info(data: bytes) -> None:
    """INFO of a session store."""
    info = fields_of(text_of(data))
    judge_info(info, 0.9)
    judge_replicas(info, 1, "")
    judge_cluster(info)


def http(data: bytes) -> None:
    """An HTTP answer, or none."""

    def opener(host: str, port: int, *, timeout_ms: int) -> socket.socket:
        ours, theirs = socket.socketpair()

        def say() -> None:
            with contextlib.suppress(OSError), theirs:
                theirs.sendall(data)
                theirs.shutdown(socket.SHUT_WR)
                while theirs.recv(4096):
                    pass

        threading.Thread(target=say, daemon=True).start()
        return ours

    with HttpClient(opener, keep_cookies=True) as client:
        with contextlib.suppress(NoAnswer):
            client.ask(Question("web1:8080", "/health", 2_000))


def shown(data: bytes) -> None:
    """Any text in any place of a status."""
    text = text_of(data)
    view = StatusView(text, (), (), text, None, (text,))
    assert all(line.isprintable() for line in status_lines(view))


TARGETS: dict[str, Target] = {
    "inventory": Target(
        inventory,
        (SOUND_INVENTORY, (HERE / "inventory.example.yaml").read_bytes()),
        (b": ", b"- ", b"&a", b"*a", b"<<: ", b"!!int ", b"{", b"[", b"'", b'"', b"|\n", b"\t"),
    ),
    "known_hosts": Target(
        known_hosts,
        (
            b"web1.example,10.0.0.1 ssh-ed25519 a2V5\n@revoked * ssh-rsa AAAA\n",
            b"|1|c2FsdA==|aGFzaA== ssh-ed25519 a2V5 note\n[web1.example]:2222 ssh-ed25519 a2V5\n",
        ),
        (b"|1|", b"!", b"*", b"?", b"@revoked ", b"@cert-authority ", b",", b"["),
    ),
    "record": Target(record, (record_bytes(),), (b"}\n{", b"null", b"[", b"1e999")),
    "record, sealed": Target(
        record_sealed, (record_bytes(),), (b"null", b"[]", b"{}", b"-1", b'"x"')
    ),
    "record of odd facts": Target(record_of_odd_facts, (b"a", b"bc", b"def")),
    "holder": Target(
        holder,
        (Holder("ann", "laptop", "job", 1_000, "r-1", "why").to_json(),),
        (b"null", b"1e30", b"-1", b"[]", b"{}"),
    ),
    "reply": Target(reply, (LOOK, FACTS), KEYS),
    "look": Target(look, (LOOK,), (*KEYS, b"worker=", b"master=", b"fence=")),
    "facts": Target(facts, (FACTS,), KEYS),
    "load balancer": Target(balancer, (LOOK, FACTS, b"fence=1 a\nholder:=e30=\nend=done \n"), KEYS),
    "backend": Target(backend, (BACKEND,), KEYS),
    "server.xml": Target(
        server_xml,
        (
            TOMCATS_XML,
            b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>',
        ),
        (b"<!ENTITY x 'y'>", b"&b;", b"encoding='utf-16'", b"\x00", b"<!--", b"]]>"),
    ),
    "sudo listing": Target(sudo_listing, (LISTING,), (b"Sudoers entry:", b"!authenticate", b"\t/")),
    "managed file": Target(
        managed, (MANAGED,), (b"{", b"}", b";", b"#", b'"', b"\\", b"server ", b"# out: ")
    ),
    "nginx dump": Target(dump, (DUMP,), (b"{", b"}", b";", b"# configuration file /a:\n", b"'")),
    "health answer": Target(
        health,
        (b"\x00\xc8\n" + b'{"build": {"version": ["2.0"]}, "ok": 1}', b"2.0\nversion=2.0 ok"),
        (b"[" * 3_000, b"\x1b[", b"Bearer abcdef", b"9" * 5_000, b"1e999", b"NaN"),
    ),
    "session store": Target(
        store_info,
        (INFO,),
        (b":-1\r\n", b":1e5\r\n", b":\r\n", b"used_memory:", b"maxmemory:0\r\n"),
    ),
    "http": Target(
        http,
        (RESPONSE, CHUNKED),
        (b"\r\n", b"HTTP/1.1 100 \r\n\r\n", b"Content-Length: 99\r\n", b"Location: x\r\n", b"\x00"),
        is_led=False,
    ),
    "shown": Target(shown, (b"plain", "\u202e\x1b".encode()), (b"::error::", b"##[", b"\x1b[")),
}
