"""A fleet of real servers on 127.0.0.1: Redis, application nodes, load balancers, SSH hosts."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import sys
import tempfile
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from types import TracebackType
from typing import Self

from rolling_deploy.demo import fleet_files, readiness
from rolling_deploy.demo.artifacts import FLAWS, build_release
from rolling_deploy.demo.fleet_files import AppNode, Balancer, Machine
from rolling_deploy.demo.fleet_inventory import InventoryFacts, inventory, losses
from rolling_deploy.demo.free_ports import ReservedPorts
from rolling_deploy.demo.keeper import Keeper, KeeperGone
from rolling_deploy.demo.servers import Servers
from rolling_deploy.demo.ssh_access import SshAccess
from rolling_deploy.errors import PreflightRefused

FIRST_RELEASE, NEXT_RELEASE = "1.0", "2.0"
START_LIMIT_S = 30.0
COMMAND_LIMIT_S = 60.0
PLAIN_PATH = re.compile(r"[A-Za-z0-9._/+-]+")
"""It stands in nginx's, sshd's and the shell's files, which quote in three different ways."""


@dataclass(frozen=True, slots=True)
class FleetShape:
    """How large the fleet is and how its parts behave.

    Attributes:
        backends_per_machine: several instances may share one SSH host.
        start_delay_ms: what each application needs before it accepts connections.
        keepalive_min_timeout_s: nginx >= 1.27.4 spares idle kept client connections for so long
            at a reload; 0 leaves it off. A retiring worker stays at least so long if clients
            keep connections, so it is kept short.
        wave_size, drain_limit_s, on_failure: what the inventory says.
        counts_losses, max_errors: whether the inventory has a prober and reads the access logs.
        more_inventory: whole lines at the end of the inventory, for what is not here.
    """

    backends: int = 3
    load_balancers: int = 1
    backends_per_machine: int = 1
    start_delay_ms: int = 500
    keepalive_min_timeout_s: int = 2
    wave_size: int = 1
    drain_limit_s: int = 120
    on_failure: str = "halt"
    counts_losses: bool = False
    max_errors: int | None = None
    more_inventory: str = ""


class DemoFleet:
    """Brings a fleet up, knows where everything is, ends everything.

    Use it as a context manager, or call `start` and `stop`. Whatever happens to this process,
    every server ends with it: they all live below a keeper process that notices.
    """

    def __init__(
        self,
        directory: Path | None,
        servers: Servers,
        shape: FleetShape = FleetShape(),
    ) -> None:
        """Choose names, ports and places; nothing is started or written yet.

        Args:
            directory: where everything goes, made if needed; None takes a temporary one that is
                removed at the end.
        """
        self.is_temporary = directory is None
        place = directory or Path(tempfile.mkdtemp(prefix="rolling-deploy-demo-"))
        self.directory = place.resolve()
        if not PLAIN_PATH.fullmatch(str(self.directory)):
            raise PreflightRefused(
                f"the demo's folder should have a plain path, is `{self.directory}`",
                next_step="choose one of letters, digits and any of ._/+-",
            )
        self.servers = servers
        self.shape = shape
        self._ports = ReservedPorts()
        self.redis_port = self._ports.take()
        self.nodes = self._lay_out_nodes()
        self.balancers = self._lay_out_balancers()
        self._keeper: Keeper | None = None
        self.ssh = SshAccess(self.directory / "ssh", self.machines, servers.sshd)

    def _lay_out_nodes(self) -> tuple[AppNode, ...]:
        each = self.shape.backends_per_machine
        machines = [self._machine(f"web{n + 1}") for n in range(-(-self.shape.backends // each))]
        return tuple(
            AppNode(f"app{index + 1}", machines[index // each], self._ports.take())
            for index in range(self.shape.backends)
        )

    def _lay_out_balancers(self) -> tuple[Balancer, ...]:
        return tuple(
            Balancer(name, self._machine(name), self._ports.take(), self._ports.take())
            for name in (f"lb{index + 1}" for index in range(self.shape.load_balancers))
        )

    def _machine(self, name: str) -> Machine:
        return Machine(name, self._ports.take(), self.directory / name)

    # What a user of the fleet asks.

    @property
    def urls(self) -> tuple[str, ...]:
        """Answers where users reach the site: one address for each load balancer."""
        return tuple(balancer.url for balancer in self.balancers)

    @property
    def machines(self) -> tuple[Machine, ...]:
        """Answers every SSH host, each once, load balancers first."""
        hosts = [balancer.machine for balancer in self.balancers]
        hosts += [node.machine for node in self.nodes]
        return tuple(dict.fromkeys(hosts))

    @property
    def inventory_path(self) -> Path:
        """Answers the inventory file to use with `--inventory`."""
        return self.directory / "inventory.yaml"

    @property
    def artifacts(self) -> Path:
        """Answers the folder of `app-VERSION.tar.gz`; the bad ones are `2.0-broken` and so on."""
        return self.directory / "artifacts"

    @property
    def redis_url(self) -> str:
        """Answers where the sessions are."""
        return f"redis://127.0.0.1:{self.redis_port}/0"

    @property
    def keeper(self) -> Keeper:
        """Answers the process that owns all servers, to start more below it.

        Raises:
            KeeperGone: the fleet is not running.
        """
        if self._keeper is None:
            raise KeeperGone("the fleet is not running")
        return self._keeper

    def node(self, name: str) -> AppNode:
        """Answers the application node of this name."""
        return next(node for node in self.nodes if node.name == name)

    def pid_of(self, name: str) -> int:
        """Answers the process id of an application node."""
        return int((self.node(name).root / "run" / "app.pid").read_text(encoding="utf-8"))

    def release_of(self, name: str) -> str:
        """Answers the release that a node's `current` link leads to."""
        return (self.node(name).root / "current").resolve().name

    def appctl(self, name: str, command: str) -> int | None:
        """Run `appctl` for a node as its machine would; answers its exit status."""
        node = self.node(name)
        argv = [str(self.directory / "appctl"), str(node.root), command]
        pid = self.keeper.start(argv, log=node.root / "log" / "appctl.log")
        return self.keeper.wait(pid, COMMAND_LIMIT_S)

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to a node's process, without asking anybody."""
        os.kill(self.pid_of(name), number)

    def describe(self) -> tuple[str, ...]:
        """Answers the lines that say what runs where."""
        return (
            *self.servers.describe()[:2],
            f"{len(self.machines)} SSH hosts, {self.ssh.describe()}",
            *(f"load balancer {b.name} at {b.url}" for b in self.balancers),
            *(f"backend {n.name} at {n.address} on {n.machine.name}" for n in self.nodes),
            f"everything in {self.directory}",
        )

    # Up.

    def start(self) -> Self:
        """Write every file, start every server, return when all of them answer.

        Raises:
            PreflightRefused: something does not come up; everything else is ended again.
        """
        try:
            self._write_files()
            self._keeper = Keeper(removes=self.directory if self.is_temporary else None)
            self._start_servers()
        except (OSError, KeeperGone) as problem:
            self.stop()
            raise PreflightRefused(
                f"the demo fleet does not come up: {problem}", where=str(self.directory)
            ) from problem
        except BaseException:
            self.stop()
            raise
        return self

    def _write_files(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        appctl = self.directory / "appctl"
        appctl.write_bytes(files("rolling_deploy.demo").joinpath("appctl.sh").read_bytes())
        appctl.chmod(0o755)
        build_release(self.artifacts, FIRST_RELEASE)
        build_release(self.artifacts, NEXT_RELEASE)
        for flaw in FLAWS:
            build_release(self.artifacts, f"{NEXT_RELEASE}-{flaw}", flaw)
        (self.directory / "redis").mkdir(exist_ok=True)
        for machine in self.machines:
            machine.directory.mkdir(exist_ok=True)
        self.ssh.write_files()
        for node in self.nodes:
            self._write_node(node)
        for balancer in self.balancers:
            self._write_balancer(balancer)
        facts = InventoryFacts(
            user=self.ssh.user,
            directory=self.directory,
            nginx=self.servers.nginx.path,
            redis_url=self.redis_url,
            wave_size=self.shape.wave_size,
            drain_limit_s=self.shape.drain_limit_s,
            on_failure=self.shape.on_failure,
            losses=losses(self.shape.max_errors) if self.shape.counts_losses else "",
            more=self.shape.more_inventory,
        )
        text = inventory(facts, self.machines, self.balancers, self.nodes)
        self.inventory_path.write_text(text, encoding="utf-8")

    def _write_node(self, node: AppNode) -> None:
        release = node.root / "releases" / FIRST_RELEASE
        for folder in (release, node.root / "run", node.root / "log"):
            folder.mkdir(parents=True, exist_ok=True)
        shutil.unpack_archive(self.artifacts / f"app-{FIRST_RELEASE}.tar.gz", release)
        current = node.root / "current"
        current.unlink(missing_ok=True)
        current.symlink_to(Path("releases") / FIRST_RELEASE)
        text = fleet_files.instance_env(
            node, sys.executable, self.redis_port, self.shape.start_delay_ms
        )
        (node.root / "instance.env").write_text(text, encoding="utf-8")

    def _write_balancer(self, balancer: Balancer) -> None:
        for name in ("conf.d", "logs", "run", "temp"):
            (balancer.prefix / name).mkdir(parents=True, exist_ok=True)
        main = fleet_files.nginx_main(balancer, self.servers, self.shape.keepalive_min_timeout_s)
        (balancer.prefix / "nginx.conf").write_text(main, encoding="utf-8")
        site = balancer.prefix / "conf.d" / f"{fleet_files.APPLICATION}.conf"
        site.write_text(fleet_files.nginx_site(balancer), encoding="utf-8")
        balancer.upstream_file.write_text(fleet_files.nginx_upstream(self.nodes), encoding="utf-8")

    def _start_servers(self) -> None:
        redis = ["--port", str(self.redis_port), "--bind", "127.0.0.1", "--save", "", "--dir"]
        folder = self.directory / "redis"
        self.keeper.start([self.servers.redis.path, *redis, str(folder)], log=folder / "redis.log")
        self.ssh.start(self.keeper)
        starting = {
            f"nginx of {balancer.name}": self.start_nginx(balancer) for balancer in self.balancers
        }
        readiness.wait_for_redis(self.redis_port, START_LIMIT_S)
        for node in self.nodes:
            argv = [str(self.directory / "appctl"), str(node.root), "start"]
            starting[node.name] = self.keeper.start(argv, log=node.root / "log" / "appctl.log")
        for name, pid in starting.items():
            status = self.keeper.wait(pid, START_LIMIT_S)
            if status != 0:
                raise OSError(f"starting {name} ended with {status}; see the logs in its folder")
        for port in (*(n.port for n in self.nodes), *(b.port for b in self.balancers)):
            readiness.wait_for_http(port, "/health", START_LIMIT_S)
        self.ssh.wait(self.keeper, START_LIMIT_S)

    def start_nginx(self, balancer: Balancer) -> int:
        """Start a load balancer's nginx, a daemon as everywhere; answers the starter's pid.

        Also for tests that have ended it: the starter exits when nginx listens.
        """
        prefix = balancer.prefix
        argv = [self.servers.nginx.path, "-p", f"{prefix}/", "-c", f"{prefix}/nginx.conf"]
        argv += ["-e", f"{prefix}/logs/error.log"]
        return self.keeper.start(argv, log=prefix / "logs" / "start.log")

    # Down.

    def stop(self) -> None:
        """End every server, whatever state it is in; safe to call again.

        Crash: the keeper ends them when this process is gone.
        """
        keeper, self._keeper = self._keeper, None
        if keeper is not None and not keeper.stop():
            end_stragglers(self.directory)
        self._ports.release()
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


def end_stragglers(directory: Path) -> None:
    """End the daemons that name the fleet's directory, for the case that the keeper was killed.

    What the keeper had started itself has ended with it; nginx and the applications had not.
    """
    marker = f"{directory}/".encode()
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                line = (folder / "cmdline").read_bytes()
                is_daemon = line.startswith(b"nginx: master") or b"/app.py\0--port" in line
                if marker in line and is_daemon:
                    os.kill(int(folder.name), signal.SIGTERM)
