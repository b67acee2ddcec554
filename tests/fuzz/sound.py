"""Sound inputs of every target, to be changed."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

from rolling_deploy.ports import FenceToken
from rolling_deploy.rollout.facts import (
    Cause,
    Claimed,
    Closed,
    Counted,
    Decided,
    DeclaredOff,
    Direction,
    Ended,
    Ending,
    Fact,
    Forced,
    GaveUp,
    Halted,
    Intended,
    Marked,
    Met,
    Proved,
    Redirected,
    Released,
    TakenOver,
    TurnedBack,
    Waiting,
    Watched,
)
from rolling_deploy.rollout.journal import GENESIS, Entry, encode
from rolling_deploy.rollout.logouts import Logouts, Pace
from rolling_deploy.rollout.losses import Losses
from rolling_deploy.rollout.observed import Stamp
from rolling_deploy.rollout.step import Activate, Apply, Goal, Outcome, Result, Stage
from rolling_deploy.upstreams.stamp_lines import to_lines
from tests.values import opened

TOKEN = FenceToken("r-1", 1, "ann")
ADDRESSES = {"app1": frozenset({"127.0.0.1:8080"}), "app2": frozenset({"127.0.0.1:8081"})}


def text_of(data: bytes) -> str:
    """Answers text as it comes from a machine: a byte that is no UTF-8 is a lone surrogate."""
    return data.decode("utf-8", "surrogateescape")


def _encoded(facts_: Iterable[Fact]) -> bytes:
    lines, previous = [], GENESIS
    for seq, fact in enumerate(facts_, 1):
        line, previous = encode(Entry(seq, seq, 1, "ann", fact), previous)
        lines.append(line)
    return b"".join(lines)


APPLY = Apply("lb1", frozenset({"app1"}), 1, "g1", "a" * 64)


def record_bytes() -> bytes:
    return _encoded((opened(), Claimed(1, ("app1",)), Intended(APPLY, 1)))


@cache
def story_bytes() -> bytes:
    """A record with every kind of fact in it."""
    return _encoded(
        (
            opened(),
            DeclaredOff(frozenset({"lb2"}), "ann"),
            Met("lb2", "d", {}),
            Intended(Stage("app1"), 1),
            Ended(4, Result(Outcome.DONE)),
            Claimed(1, ("app1",)),
            Intended(APPLY, 1),
            Ended(7, Result(Outcome.UNKNOWN, "cut")),
            TakenOver("bob", lost=True),
            Waiting("drain"),
            Forced(1, "a websocket"),
            Intended(Activate("app1", Goal.RELEASE), 1),
            Ended(12, Result(Outcome.FAILED, "no")),
            TurnedBack("app1", "no"),
            GaveUp(("app1",), Cause.BACKEND, "no"),
            Proved("app1", Goal.RELEASE, "gap"),
            Marked(("app1",), ("app2",), Logouts(ends={"app1 /log": "7:9"}, pace=Pace(9, 1, 5))),
            Released(1, ("app1",)),
            Counted(Losses(ends={"lb1": "5"}, gaps=frozenset({"lb2: no log"}))),
            Watched(1, Logouts({"app1": 1}, {"app1": ("lost",)}, {"app1": 40})),
            Halted(Cause.BACKEND, "no"),
            Decided("ann", ("app2",)),
            Redirected(Direction.BACK, "ann"),
            Closed(Ending.ABORTED, "asked"),
        )
    )


MANAGED = (
    to_lines(Stamp("shop", "r-1", 1, "g1", frozenset({"app1"}), "0" * 64))
    + "upstream shop {\n    # note\n"
    "    server 127.0.0.1:8080 weight=2 down; # rolling-deploy: out\n"
    '    server 127.0.0.1:8081;\n    keepalive "16";\n}\n'
).encode()
DUMP = (
    b"# configuration file /etc/nginx/nginx.conf:\nhttp {\n include conf.d/*.conf;\n"
    b" log_format main '$remote_addr \"$request\" $status';\n server { listen 80;\n"
    b"  location / { proxy_pass http://shop; } } }\n\n"
    b"# configuration file /etc/nginx/conf.d/shop.conf:\n" + MANAGED
)
LOOK = (
    b"busy=0\nfence=1 ann\nfile:=aGFsbG8=\nmaster=7\npid_state=ok\nsnapshot=g1\n"
    b"worker=8 99 current - -\nworker=9 98 retiring g0 3\nlive=g1\nanswers=200 g1\nend=done \n"
)
FACTS = (
    b"master_seen=7 ours nginx: master process nginx\norphan=5\nworkers=2\nretiring=0\nclock_ms=5\n"
    b"sudo=1\nuser=me\nsudo_refused=test: /usr/sbin/nginx -t\nsudo_listed=/usr/bin/mv\n"
    b"sudo_listing:=eA==\ntest_status=0\ntest_said:=b2s=\nloaded=1.0\nedited=/a\nlistening=1\n"
    b"pid_state=stale\ndump:=eA==\nend=done \n"
)
BACKEND = (
    b"artifact=x\nstaged=x\nrestarted=yes\nbusy=1\nmissing=tar\nfree_kb=100\nuser=me\n"
    b"unwritable=/a\nunwritable_as=group x\npeer=0100007F:1F90\nprocess=none\ndeployed_bytes=5\n"
    b"server_xml:=PGEvPg==\nunlistened=80\nlink=missing\nend=refused no\n"
)
KEYS = (
    b"end=",
    b"=",
    b"\n",
    b":=",
    b"done",
    b"refused ",
    b"unknown",
    b"-1",
    b"\xc2\xb2",
    b"9" * 30,
)
SOUND_INVENTORY = (
    b"application: shop\nssh: {user: deploy, sudo: true}\n"
    b"hosts: {lb1: {address: 10.0.0.1}, web1: {}}\n"
    b"load_balancers: [{name: lb1}]\nupstreams:\n  - {name: tomcat, options: [keepalive 16]}\n"
    b"upgrade: {strategy: tomcat, artifact: a.war}\n"
    b'health: {path: /, version: {header: X-Version}, headers: {A: "b"}}\n'
    b"backends:\n  - {name: app1, host: web1, address: '10.0.0.2:8080', "
    b"upgrade: {catalina_base: /srv/app1}}\nsession_store: {url: 'redis://localhost', via: web1}\n"
)
RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nSet-Cookie: a=b\r\nX-Version: 2\r\n\r\nhello"
CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Encoding: gzip\r\n\r\n"
    b"5\r\nhello\r\n0\r\n\r\n"
)
LISTING = (
    b"Matching Defaults entries for me on h:\n    env_reset\n\nUser me may run:\n\n"
    b"Sudoers entry:\n    RunAsUsers: root\n    Options: !authenticate\n    Commands:\n"
    b"\t/usr/bin/systemctl stop x\n"
)

TOMCATS_XML = (
    b'<?xml version="1.0" encoding="ISO-8859-1"?><Server><!-- \xe9 --><Service>'
    b'<Connector port="8080"/><Engine defaultHost="h"><Host name="h"/></Engine></Service></Server>'
)
INFO = (
    b"# Server\r\nrole:master\r\nloading:0\r\nused_memory:5\r\nmaxmemory:10\r\n"
    b"maxmemory_policy:noeviction\r\nevicted_keys:1\r\nmin_slaves_good_slaves:1\r\n"
    b"cluster_state:ok\r\ncluster_slots_ok:16384\r\nrdb_last_bgsave_status:ok\r\n"
)
