"""The smallest fleet there is: one machine with an nginx, two Tomcats and their Redis.

Everything is real and on this machine: nginx in front of two Tomcat 10 with a CATALINA_BASE each,
their sessions in a Redis that all of them call `localhost`, kept there by Redisson's session
manager as `context.xml` names it. The upstream is as somebody wrote it by hand.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import redis

from rolling_deploy.demo import fleet_files, readiness
from rolling_deploy.demo.fleet_files import Balancer, Machine
from rolling_deploy.demo.free_ports import ReservedPorts
from rolling_deploy.demo.keeper import Keeper
from rolling_deploy.demo.servers import Servers
from rolling_deploy.demo.ssh_access import SshAccess
from tests.counting_shop import Application, counting_shop
from tests.session_manager import sha256_of
from tests.strategies_fixture import TOMCAT_HOME, TomcatBackend, make_tomcat

APPLICATION, UPSTREAM, MACHINE = "shop", "tomcat", "server"
START_LIMIT_S = 120.0
"""Two JVMs start at the same time, on a machine that may be busy."""


# The files of the machine


def nginx_site(balancer: Balancer) -> str:
    """Answers the site: everything goes to the upstream, each request to the next Tomcat."""
    return f"""\
server {{
    listen 127.0.0.1:{balancer.port} backlog=1024;
    server_name localhost;
    client_max_body_size 64m;
    # The load counts the requests for which a second Tomcat had to be asked.
    add_header X-Upstream $upstream_addr always;

    location / {{
        proxy_pass http://{UPSTREAM};
    }}
}}
"""


def nginx_upstream(tomcats: Sequence[TomcatBackend]) -> str:
    """Answers the upstream as somebody wrote it by hand."""
    servers = "".join(f"    server localhost:{tomcat.port};\n" for tomcat in tomcats)
    return f"upstream {UPSTREAM} {{\n{servers}}}\n"


def java_home() -> Path:
    """Answers where the machine's Java is installed."""
    java = shutil.which("java")
    assert java is not None, "no java on this machine"
    return Path(java).resolve().parents[1]


@dataclass(frozen=True, slots=True)
class TomcatNode:
    """One Tomcat of the fleet, by the name that the inventory gives it."""

    name: str
    tomcat: TomcatBackend

    @property
    def war(self) -> Path:
        """Answers the WAR that this Tomcat runs."""
        return self.tomcat.base / "webapps" / "ROOT.war"

    @property
    def seen(self) -> tuple[str, tuple[int, ...]]:
        """Answers the digest of its WAR and its processes: the same again means not touched."""
        return sha256_of(self.war), tuple(self.tomcat.pids())


class TomcatFleet:
    """Brings the machine up, knows where everything is, ends everything.

    It has what a `Rig` asks of a fleet: `directory`, `inventory_path`, `urls`, `balancers`,
    `nodes` and `release_of`.
    """

    def __init__(
        self,
        directory: Path,
        servers: Servers,
        jars: Sequence[Path],
        application: Application | None = None,
        *,
        tomcat_ports: tuple[int | None, int | None] = (None, None),
        is_temporary: bool = False,
    ) -> None:
        """Choose ports and places; nothing is started or written yet.

        Args:
            tomcat_ports: None takes a free one.
            is_temporary: the directory goes with the fleet, also when this process is killed.
        """
        self.directory = directory
        self.tomcat_ports = tomcat_ports
        self.is_temporary = is_temporary
        self.application = application or counting_shop()
        self.servers = servers
        self.jars = jars
        self.ports = ReservedPorts()
        self.machine = Machine(MACHINE, self.ports.take(), directory / MACHINE)
        self.balancers = (Balancer("lb1", self.machine, self.ports.take(), self.ports.take()),)
        self.redis_port = self.ports.take()
        self.wars = directory / "wars"
        self.packed: list[str] = []
        self.inventory_path = directory / "inventory.yaml"
        self.ssh = SshAccess(directory / "ssh", (self.machine,), servers.sshd)
        self.nodes: tuple[TomcatNode, ...] = ()
        self._redis_pid = 0
        self._keeper: Keeper | None = None

    @property
    def urls(self) -> tuple[str, ...]:
        """Answers where users reach the site."""
        return (self.balancers[0].url,)

    @property
    def keeper(self) -> Keeper:
        """Answers the process that owns every server."""
        assert self._keeper is not None, "the fleet is not running"
        return self._keeper

    def node(self, name: str) -> TomcatNode:
        """Answers the Tomcat of this name."""
        return next(node for node in self.nodes if node.name == name)

    def war_of(self, release: str) -> Path:
        """Answers the artifact of a release, as it lies beside the inventory."""
        return self.wars / f"shop-{release}.war"

    def pack(self, *releases: str) -> None:
        """Put the artifacts of these releases beside the inventory, unless they lie there."""
        for release in releases:
            if release not in self.packed:
                self.application.write_war(self.war_of(release), release)
                self.packed.append(release)

    def release_of(self, name: str) -> str:
        """Answers the release whose WAR lies in a Tomcat's `webapps`, by its digest."""
        digests = {sha256_of(self.war_of(release)): release for release in self.packed}
        return digests[sha256_of(self.node(name).war)]

    def sessions(self) -> int:
        """Answers how many sessions lie in Redis."""
        keys = f"{self.application.key_prefix}*tomcat_session:*"
        with self.redis() as client:
            return sum(1 for _ in client.scan_iter(match=keys))

    def redis(self) -> Any:  # redis-py types its commands only in part
        """Answers a client of the session store; the caller closes it."""
        return redis.Redis(host="127.0.0.1", port=self.redis_port, socket_timeout=20)

    @contextmanager
    def forwarding_told(self) -> Iterator[Path]:
        """Let OpenSSH's log name every forwarded connection meanwhile; answers the log.

        Not always: at this level it also writes to the commands' standard error.
        """
        config = self.machine.directory / "sshd_config"
        plain = config.read_text(encoding="utf-8")
        self._restart_ssh(f"{plain}LogLevel DEBUG1\n")
        try:
            yield self.machine.directory / "sshd.log"
        finally:
            self._restart_ssh(plain)

    def _restart_ssh(self, config: str) -> None:
        (self.machine.directory / "sshd_config").write_text(config, encoding="utf-8")
        os.kill(self._ssh_pid, signal.SIGTERM)
        assert self.keeper.wait(self._ssh_pid, START_LIMIT_S) is not None
        self.ssh.start_one(self.keeper, self.machine)
        readiness.wait_for_ssh(self.machine.ssh_port, START_LIMIT_S)

    @property
    def _ssh_pid(self) -> int:
        return self.ssh._pids[MACHINE]

    # Up and down.

    def start(self) -> Self:
        """Write every file, start every server, return when the site answers."""
        try:
            self._write_files()
            self._keeper = Keeper(removes=self.directory if self.is_temporary else None)
            self.start_redis()
            self.ssh.start(self.keeper)
            self._start_tomcats()
            self._start_nginx()
            self.ssh.wait(self.keeper, START_LIMIT_S)
        except BaseException:
            self.stop()
            raise
        return self

    def start_redis(self) -> None:
        """Start the session store, also again; it begins empty."""
        folder = self.directory / "redis"
        argv = [self.servers.redis.path, "--port", str(self.redis_port), "--bind", "127.0.0.1"]
        argv += ["--save", "", "--dir", str(folder)]
        self._redis_pid = self.keeper.start(argv, log=folder / "redis.log")
        readiness.wait_for_redis(self.redis_port, START_LIMIT_S)

    def stop_redis(self) -> None:
        """End the session store."""
        os.kill(self._redis_pid, signal.SIGTERM)
        assert self.keeper.wait(self._redis_pid, START_LIMIT_S) is not None

    def stop(self) -> None:
        """End every server, whatever state it is in."""
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.stop()
        self.ports.release()
        if self.is_temporary:
            shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _start_tomcats(self) -> None:
        started = {}
        for node in self.nodes:
            base = node.tomcat.base
            environment = {
                "CATALINA_BASE": str(base),
                "CATALINA_HOME": str(TOMCAT_HOME),
                "JAVA_HOME": str(java_home()),
            }
            argv = [str(TOMCAT_HOME / "bin" / "catalina.sh"), "start"]
            log = base / "logs" / "start.log"
            started[node.name] = self.keeper.start(argv, log=log, environment=environment)
        for name, pid in started.items():
            assert self.keeper.wait(pid, START_LIMIT_S) == 0, f"{name} does not start"
        for node in self.nodes:
            readiness.wait_for_http(node.tomcat.port, "/health", START_LIMIT_S)

    def _start_nginx(self) -> None:
        prefix = self.balancers[0].prefix
        argv = [self.servers.nginx.path, "-p", f"{prefix}/", "-c", f"{prefix}/nginx.conf"]
        argv += ["-e", f"{prefix}/logs/error.log"]
        pid = self.keeper.start(argv, log=prefix / "logs" / "start.log")
        assert self.keeper.wait(pid, START_LIMIT_S) == 0, "nginx does not start"
        readiness.wait_for_http(self.balancers[0].port, "/health", START_LIMIT_S)

    # The files.

    def _write_files(self) -> None:
        for folder in (self.machine.directory, self.wars, self.directory / "redis"):
            folder.mkdir(parents=True)
        self.pack(*self.application.releases)
        # One is stopped over its shutdown port; the other has none, as hardened ones do.
        first, second = self.tomcat_ports
        self.nodes = (
            self._make_node("tomcat1", first, True),
            self._make_node("tomcat2", second, False),
        )
        self.ssh.write_files()
        self._write_nginx()
        self.inventory_path.write_text(self._inventory(), encoding="utf-8")

    def _make_node(self, name: str, port: int | None, has_shutdown_port: bool) -> TomcatNode:
        folder = self.machine.directory / name
        tomcat = make_tomcat(folder, self.wars, has_shutdown_port=has_shutdown_port, port=port)
        (folder / "lib").mkdir()
        for jar in self.jars:
            (folder / "lib" / jar.name).symlink_to(jar)
        for file, text in self.application.files.items():
            filled = text.replace("@REDIS_PORT@", str(self.redis_port))
            (folder / "conf" / file).write_text(filled)
        node = TomcatNode(name, tomcat)
        shutil.copyfile(self.war_of(self.application.releases[0]), node.war)
        return node

    def _write_nginx(self) -> None:
        balancer = self.balancers[0]
        for name in ("conf.d", "logs", "run", "temp"):
            (balancer.prefix / name).mkdir(parents=True)
        main = fleet_files.nginx_main(balancer, self.servers, 2)
        (balancer.prefix / "nginx.conf").write_text(main)
        (balancer.prefix / "conf.d" / "default.conf").write_text(nginx_site(balancer))
        tomcats = [node.tomcat for node in self.nodes]
        balancer.upstream_file.write_text(nginx_upstream(tomcats))

    def _inventory(self) -> str:
        balancer = self.balancers[0]
        backends = "".join(
            f"  - name: {node.name}\n"
            f"    host: {MACHINE}\n"
            f"    address: localhost:{node.tomcat.port}\n"
            f"    upgrade: {{catalina_base: {node.tomcat.base}}}\n"
            for node in self.nodes
        )
        return f"""\
application: {APPLICATION}
ssh:
  user: {self.ssh.user}
  key: ssh/id_ed25519
  known_hosts: ssh/known_hosts
hosts:
  {MACHINE}: {{address: 127.0.0.1, port: {self.machine.ssh_port}}}
nginx:
  file: {balancer.upstream_file}
  state_dir: {self.machine.directory}/state
  generation_port: {balancer.generation_port}
  binary: {self.servers.nginx.path}
  prefix: {balancer.prefix}
  config: {balancer.prefix}/nginx.conf
  pid_file: {balancer.pid_file}
  # Other tests of this machine run their own nginx.
  other_masters: ignore
load_balancers:
  - name: {balancer.name}
    host: {MACHINE}
upstreams:
  - name: {UPSTREAM}
upgrade:
  strategy: tomcat
  artifact: wars/shop-{{release}}.war
  catalina_home: {TOMCAT_HOME}
  java_home: {java_home()}
health:
  path: /health
  version: {{header: X-Version}}
warm_up:
  paths: [/cart]
rollout:
  on_failure: halt
  ready_limit_s: 120
backends:
{backends}session_store:
  url: redis://localhost:{self.redis_port}/0
  via: {MACHINE}
  key_prefix: "{self.application.key_prefix}"
{self.application.store}{self.application.inventory}"""
