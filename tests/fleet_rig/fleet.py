"""The fleet of the rig: a machine each for everything, real servers on them, on two networks.

| machine | on it |
|---|---|
| `operator` | the command line, with a state directory of its own |
| `bastion` | the other host, from which `resume` is run, with another one |
| `lb1`, `lb2` | nginx |
| `web1`, `web2`, `web3` | the application: app1, app2, and app3 with app4 |
| `redis1`, `redis2` | redis-server and its replica; an address of their own moves between them |
| `client` | the users |

`mgmt` carries SSH and the operator's check of Redis, `site` the users' requests: cutting a
machine from one of them leaves the other alone. Every machine has its own disk, a small tmpfs.
`tests/fleet_rig/tomcats.py` puts real Tomcats in place of the application, `jumped.py` adds an
operator who reaches nothing but a jump host.
"""

from __future__ import annotations

import hashlib
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from importlib.resources import files
from pathlib import Path
from types import TracebackType
from typing import Self

from rolling_deploy.demo.artifacts import FLAWS, build_release
from rolling_deploy.demo.fleet import FIRST_RELEASE, NEXT_RELEASE
from rolling_deploy.demo.servers import Servers
from rolling_deploy.demo.ssh_access import make_key
from tests.fleet_rig import fleet_texts
from tests.fleet_rig.answers import await_answer, await_http, until
from tests.fleet_rig.fleet_texts import APPLICATION, APPS, BALANCERS, FLOATING, PLACES, SITE_PORT
from tests.fleet_rig.namespaces import Machine, Network
from tests.programs import write_program

HOSTS = ("lb1", "lb2", "web1", "web2", "web3")
"""The machines that the tool logs in to."""
DISK_BYTES = 64 << 20
SMALL_DISK_BYTES = 4 << 20
"""What holds an nginx's configuration and our state, and what holds an application."""


@dataclass(frozen=True, slots=True)
class Disk:
    """One small file system of a machine, which a test may fill."""

    machine: Machine
    folder: Path

    def fill(self) -> None:
        """Leave not one byte free."""
        ballast = self.machine.path(self.folder / ".ballast")
        with suppress(OSError), ballast.open("wb", buffering=0) as file:
            for size in (65_536, 4_096, 512, 1):
                with suppress(OSError):
                    while file.write(b"x" * size):
                        pass

    def free(self) -> None:
        """Give it all back."""
        self.machine.path(self.folder / ".ballast").unlink(missing_ok=True)


@dataclass
class NamespacedFleet:
    """Brings it all up below a folder, knows where everything is, ends everything.

    Attributes:
        folder: inventory, keys and artifacts; the machines' own folders lie below it too, each
            seen by that machine only.
        apps: the backends, in the order of the inventory.
        places: every machine, and where it is on the networks.
        environment: what the inventory names, as operators have it set.
        redis_master: the machine that has the floating addresses now.
    """

    folder: Path
    servers: Servers
    apps: Mapping[str, fleet_texts.App] = field(default_factory=lambda: APPS)
    places: Mapping[str, fleet_texts.Place] = field(default_factory=lambda: PLACES)
    environment: Mapping[str, str] = field(default_factory=dict)
    machines: dict[str, Machine] = field(default_factory=dict)
    network: Network = field(init=False)
    redis_master: str = "redis1"

    # Where things are.

    @property
    def urls(self) -> tuple[str, ...]:
        """Answers where users reach the site: one address for each load balancer."""
        return tuple(f"http://{PLACES[name].site}:{SITE_PORT}" for name in BALANCERS)

    @property
    def inventory_path(self) -> Path:
        """Answers the inventory."""
        return self.folder / "inventory.yaml"

    def home(self, machine: str) -> Path:
        """Answers a machine's own folder, as that machine calls it."""
        return self.folder / machine

    def root(self, app: str) -> Path:
        """Answers the folder of `releases/` and `current`, as its machine calls it."""
        return self.home(self.apps[app].machine) / app

    def seen(self, machine: str, *below: str) -> Path:
        """Answers where something in a machine's own folder is found from here."""
        return self.machines[machine].path(self.home(machine).joinpath(*below))

    def managed(self, balancer: str) -> Path:
        """Answers the managed file, from here."""
        return self.seen(balancer, "etc", "conf.d", f"{APPLICATION}.upstream.conf")

    def disk_of(self, name: str) -> Disk:
        """Answers the disk of a load balancer's configuration and state, or of an application."""
        if name in BALANCERS:
            return Disk(self.machines[name], self.home(name) / "etc")
        return Disk(self.machines[self.apps[name].machine], self.root(name))

    def pid_of(self, app: str) -> int:
        """Answers an application's process, as this machine's root sees it."""
        machine = self.machines[self.apps[app].machine]
        marker = f"--port\0{self.apps[app].port}\0".encode()
        for pid in machine.processes():
            with suppress(OSError):
                if marker in Path(f"/proc/{pid}/cmdline").read_bytes():
                    return pid
        raise AssertionError(f"{app} does not run")

    def release_of(self, app: str) -> str:
        """Answers the release that `current` leads to, as its own file says."""
        current = self.machines[self.apps[app].machine].path(self.root(app) / "current")
        version = current.parent / current.readlink() / "VERSION"
        return version.read_text(encoding="utf-8").strip()

    # Up.

    def start(self) -> Self:
        """Make every machine, start every server, return when all of them answer."""
        try:
            self._write_shared()
            self._make_machines()
            self._start_servers()
        except BaseException:
            self.stop()
            raise
        return self

    def build(self, version: str) -> None:
        """Make a good release, beside the inventory."""
        build_release(self.folder / "artifacts", version)

    def _write_artifacts(self) -> None:
        for version in (FIRST_RELEASE, NEXT_RELEASE):
            self.build(version)
        for flaw in FLAWS:
            build_release(self.folder / "artifacts", f"{NEXT_RELEASE}-{flaw}", flaw)
        script = files("rolling_deploy.demo").joinpath("appctl.sh").read_text()
        write_program(self.folder / "appctl", script)

    def _inventory(self) -> str:
        return fleet_texts.inventory(self.folder)

    def _write_shared(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._write_artifacts()
        ssh = self.folder / "ssh"
        ssh.mkdir(mode=0o700)
        (ssh / "authorized_keys").write_text(make_key(ssh / "id_ed25519") + "\n", encoding="utf-8")
        known = [f"{PLACES[h].mgmt} {make_key(ssh / f'host_key_{h}')}\n" for h in HOSTS]
        (ssh / "known_hosts").write_text("".join(known), encoding="utf-8")
        self.inventory_path.write_text(self._inventory(), encoding="utf-8")

    def _make_machines(self) -> None:
        self.machines = {name: Machine(name) for name in ("switch", *self.places)}
        for machine in self.machines.values():
            machine.await_up()
        self.network = Network(self.machines["switch"])
        plan: dict[str, list[tuple[Machine, str]]] = {}
        for name, place in self.places.items():
            for segment, address in place.on.items():
                plan.setdefault(segment, []).append((self.machines[name], address))
        self.network.lay(plan)
        for name in (*HOSTS, "redis1", "redis2"):
            self._furnish(name)

    def _furnish(self, name: str) -> None:
        """Give a machine its disks and files. `/run` is its own too, as after a boot."""
        machine = self.machines[name]
        machine.run("mount", "-t", "tmpfs", "-o", "size=4m,mode=755", "tmpfs", "/run")
        machine.path("/run/sshd").mkdir(mode=0o755)
        self._mount(machine, self.home(name), DISK_BYTES)
        if name in BALANCERS:
            self._mount(machine, self.home(name) / "etc", SMALL_DISK_BYTES)
            self._furnish_balancer(name)
        for app, place in self.apps.items():
            if place.machine == name:
                self._mount(machine, self.root(app), SMALL_DISK_BYTES)
                self._furnish_app(app)
        if name in HOSTS:
            config = fleet_texts.sshd_config(name, self.folder, self.home(name))
            self.seen(name, "sshd_config").write_text(config, encoding="utf-8")

    @staticmethod
    def _mount(machine: Machine, folder: Path, size_bytes: int) -> None:
        machine.run("mkdir", "-p", str(folder))
        options = f"size={size_bytes},mode=755"
        machine.run("mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder))

    def _furnish_balancer(self, name: str) -> None:
        for folder in ("etc/conf.d", "logs", "run", "temp", "sbin"):
            self.seen(name, folder).mkdir(parents=True)
        shutil.copy(self.servers.nginx.path, self.seen(name, "sbin", "nginx"))
        for path, text in self._nginx_files(name).items():
            self.seen(name, path).write_text(text, encoding="utf-8")

    def _nginx_files(self, name: str) -> Mapping[str, str]:
        return fleet_texts.nginx_files(name, self.home(name), self.servers, self.apps)

    def _furnish_app(self, app: str) -> None:
        machine = self.machines[self.apps[app].machine]
        root = machine.path(self.root(app))
        release = root / "releases" / FIRST_RELEASE
        release.mkdir(parents=True)
        shutil.unpack_archive(self.folder / "artifacts" / f"app-{FIRST_RELEASE}.tar.gz", release)
        (root / "current").symlink_to(Path("releases") / FIRST_RELEASE)
        for folder in ("log", "run"):
            # Beside the small disk: a full one stops no application from starting or logging.
            elsewhere = self.root(app).with_name(f"{app}-{folder}")
            machine.path(elsewhere).mkdir()
            (root / folder).symlink_to(elsewhere)
        env = fleet_texts.instance_env(app, sys.executable)
        (root / "instance.env").write_text(env, encoding="utf-8")

    def _start_servers(self) -> None:
        self.start_redis("redis1")
        self.start_redis("redis2", replica_of="redis1")
        self.take_address("redis1")
        for name in HOSTS:
            self.start_sshd(name)
        self._start_apps()
        for name in BALANCERS:
            self.start_nginx(name)
        for url in self.urls:
            self.machines["client"].inside(partial(await_http, url, "/health"))
        for name in HOSTS:
            self.await_sshd(name)

    def start_sshd(self, name: str) -> None:
        """Start a machine's sshd, also again."""
        sshd = self.servers.sshd
        assert sshd is not None
        log = str(self.home(name) / "sshd.log")
        self.machines[name].run(sshd.path, "-f", str(self.home(name) / "sshd_config"), "-E", log)

    def await_sshd(self, name: str) -> None:
        """Return when a machine's sshd introduces itself to the operator."""
        address = (PLACES[name].mgmt, 22)
        self.machines["operator"].inside(partial(await_answer, address, b"", b"SSH-2.0"))

    def start_nginx(self, name: str) -> None:
        """Start a load balancer's nginx, a daemon as everywhere; back when it listens."""
        home = self.home(name)
        self.machines[name].run(
            *(f"{home}/sbin/nginx", "-p", f"{home}/", "-c", f"{home}/etc/nginx.conf"),
            *("-e", f"{home}/logs/error.log"),
        )

    def appctl(self, app: str, command: str) -> str:
        """Run `appctl` as its machine would."""
        argv = (str(self.folder / "appctl"), str(self.root(app)), command)
        return self.machines[self.apps[app].machine].run(*argv)

    def _start_apps(self) -> None:
        for app in self.apps:
            self.start_app(app)

    def start_app(self, app: str) -> None:
        """Start an application and wait until it answers; nothing when it runs."""
        self.appctl(app, "start")
        self.await_app(app)

    def await_app(self, app: str) -> None:
        """Return when an application answers a load balancer."""
        place = self.apps[app]
        url = f"http://{PLACES[place.machine].site}:{place.port}"
        self.machines["lb1"].inside(partial(await_http, url, "/health"))

    # Redis and its replica.

    def start_redis(self, name: str, replica_of: str = "") -> None:
        """Start a machine's redis-server."""
        argv = [self.servers.redis.path, "--port", "6379", "--bind", "*", "--save", ""]
        argv += ["--protected-mode", "no", "--daemonize", "yes", "--dir", str(self.home(name))]
        argv += ["--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1"]
        argv += ["--logfile", str(self.home(name) / "redis.log")]
        if replica_of:
            argv += ["--replicaof", PLACES[replica_of].site, "6379"]
        self.machines[name].run(*argv)
        wanted = "master_link_status:up" if replica_of else "role:master"
        until(lambda: wanted in self.redis(name, "INFO", "replication"), f"{name} is {wanted}")

    def redis(self, name: str, *words: str) -> str:
        """Answers what a machine's own redis-server says to a command."""
        return self.machines[name].run("redis-cli", *words, may_fail=True)

    def take_address(self, name: str) -> None:
        """Have the floating addresses lead to this machine, at once."""
        for segment, address in FLOATING.items():
            for one in ("redis1", "redis2"):
                words = ("ip", "addr", "add" if one == name else "del")
                self.machines[one].run(*words, f"{address}/24", "dev", segment, may_fail=True)
        for machine in ("operator", "bastion", "web1", "web2", "web3"):
            # What the new holder would tell everybody by itself (a gratuitous ARP).
            self.machines[machine].run("ip", "neigh", "flush", "all")
        self.redis_master = name

    def fail_over(self) -> None:
        """Kill the master, promote the replica, move the address; the old one comes back later."""
        old = self.redis_master
        new = "redis2" if old == "redis1" else "redis1"
        self.machines[old].kill("redis-server")
        self.redis(new, "REPLICAOF", "NO", "ONE")
        self.take_address(new)

    def bring_back_replica(self) -> None:
        """Start the one that was killed again, as the replica of the other."""
        other = "redis2" if self.redis_master == "redis1" else "redis1"
        if not self.machines[other].processes("redis-server"):
            self.start_redis(other, replica_of=self.redis_master)

    # What belongs to others.

    def of_others(self) -> Mapping[str, str]:
        """Answers the digest of every file that is not ours to change, by machine and path."""
        kept: dict[str, str] = {}
        for name in BALANCERS:
            for path in self._nginx_files(name):
                if not path.endswith(f"{APPLICATION}.upstream.conf"):
                    kept[f"{name}:{path}"] = digest(self.seen(name, path))
        for app, place in self.apps.items():
            for file in self.settings_of(app):
                kept[f"{app}:{file}"] = digest(self.machines[place.machine].path(file))
        return kept

    def settings_of(self, app: str) -> Sequence[Path]:
        """Answers an application's own settings, as its machine calls them."""
        return (self.root(app) / "instance.env",)

    def persons_lines(self, balancer: str) -> list[str]:
        """Answers the managed file's upstream without what we write into it."""
        return fleet_texts.persons_lines(self.managed(balancer).read_text(encoding="utf-8"))

    # Down.

    def stop(self) -> None:
        """End every machine with all that runs on it; safe to call again."""
        for machine in self.machines.values():
            machine.end()
        self.machines.clear()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


def digest(path: Path) -> str:
    """Answers a file's sha256, or `absent`."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else "absent"


def tree(folders: Sequence[Path], leaves_out: Callable[[Path], bool]) -> Iterator[tuple[str, str]]:
    """Answers every file and link below these folders with its digest or target."""
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if leaves_out(path):
                continue
            if path.is_symlink():
                yield str(path), str(path.readlink())
            elif path.is_file():
                yield str(path), digest(path)
