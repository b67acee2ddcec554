"""The same machines with real Tomcats as the backends: tomcat1 on `web1`, tomcat2 on `web2`.

Each has a CATALINA_BASE of its own on its machine's disk; Tomcat itself, Java and the jars of the
session manager are those of this machine, which all machines of the rig see. The sessions are
Tomcat's own, kept by Redisson in the rig's Redis, at the address that moves with it.
"""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest

from rolling_deploy.demo.fleet import FIRST_RELEASE, NEXT_RELEASE
from rolling_deploy.demo.servers import Servers
from tests.counting_shop import APP, KEY_PREFIX, write_shop_war
from tests.fleet_rig.answers import await_http
from tests.fleet_rig.figures import Figures
from tests.fleet_rig.fixtures import Stand, servers_here
from tests.fleet_rig.fleet import NamespacedFleet, digest
from tests.fleet_rig.fleet_texts import APPLICATION, FLOATING, PLACES, App, about_machines
from tests.session_manager import NotHere, session_manager_jars
from tests.strategies_fixture import TOMCAT_HOME, why_no_tomcat
from tests.tomcat_fleet import java_home

TOMCATS: Mapping[str, App] = {"tomcat1": App("web1", 8080), "tomcat2": App("web2", 8090)}
"""A port each, because the application's answers name themselves by it."""
SHUTDOWN_PORTS = {"tomcat1": 8005, "tomcat2": -1}
"""One is stopped over its shutdown port; the other has none, as hardened ones do."""
NEVER_HEALTHY = f"{NEXT_RELEASE}-never-healthy"
"""A WAR whose servlet cannot be initialised: Tomcat starts, and every answer is a 500."""
JAVA_OPTIONS = "-Xmx128m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -XX:-UsePerfData"
"""No performance data: its files in `/tmp` are named by pid, and each machine counts its own."""
SETTINGS = ("conf/server.xml", "conf/context.xml", "conf/redisson.yaml", "bin/setenv.sh")
PASSWORD_ENV = "SHOP_CANARY_PASSWORD"
START_LIMIT_S = 120.0
READY_LIMIT = "ready_limit_s: 120"


@dataclass
class NamespacedTomcats(NamespacedFleet):
    """The fleet of the rig with two Tomcats.

    Attributes:
        jars: the session manager, as every Tomcat's `lib` has it.
    """

    apps: Mapping[str, App] = field(default_factory=lambda: TOMCATS)
    environment: Mapping[str, str] = field(
        default_factory=lambda: {PASSWORD_ENV: "known to both operators"}
    )
    jars: Sequence[Path] = ()

    # Where things are.

    def artifact(self, release: str) -> Path:
        """Answers the WAR of a release, as it lies beside the inventory."""
        return self.folder / "artifacts" / f"shop-{release}.war"

    def war(self, app: str) -> Path:
        """Answers the WAR that a Tomcat has in its `webapps`, from here."""
        machine = self.machines[self.apps[app].machine]
        return machine.path(self.root(app) / "webapps" / "ROOT.war")

    def release_of(self, app: str) -> str:
        """Answers the release whose WAR a Tomcat has, by its digest."""
        found = digest(self.war(app))
        for path in self.artifact("*").parent.glob("shop-*.war"):
            if digest(path) == found:
                return path.stem.removeprefix("shop-")
        raise AssertionError(f"the WAR of {app} is none of ours: {found}")

    def pid_of(self, app: str) -> int:
        """Answers a Tomcat's process, as this machine's root sees it."""
        marker = f"-Dcatalina.base={self.root(app)}\0".encode()
        for pid in self.machines[self.apps[app].machine].processes("java"):
            if marker in Path(f"/proc/{pid}/cmdline").read_bytes():
                return pid
        raise AssertionError(f"{app} does not run")

    def settings_of(self, app: str) -> Sequence[Path]:
        """Answers a Tomcat's own settings, as its machine calls them."""
        return [self.root(app) / name for name in SETTINGS]

    def sessions(self) -> int:
        """Answers how many sessions of users lie in the Redis that is the master."""
        pattern = f"{KEY_PREFIX}*tomcat_session:*"
        return len(self.redis(self.redis_master, "KEYS", pattern).split())

    # Up.

    def build(self, version: str) -> None:
        """Make a good WAR, beside the inventory."""
        write_shop_war(self.artifact(version), version)

    def start_app(self, app: str) -> None:
        """Start a Tomcat and wait until it answers."""
        self._launch(app)
        self.await_app(app)

    def await_app(self, app: str) -> None:
        """Return when a Tomcat answers a load balancer."""
        url = f"http://{self.apps[app].address}"
        self.machines["lb1"].inside(partial(await_http, url, "/health", START_LIMIT_S))

    def _write_artifacts(self) -> None:
        (self.folder / "artifacts").mkdir()
        for version in (FIRST_RELEASE, NEXT_RELEASE):
            self.build(version)
        whole = self.artifact(NEXT_RELEASE)
        with (
            zipfile.ZipFile(whole) as good,
            zipfile.ZipFile(self.artifact(NEVER_HEALTHY), "w") as bad,
        ):
            for name in good.namelist():
                if not name.endswith("version.txt"):
                    bad.writestr(name, good.read(name))

    def _inventory(self) -> str:
        return inventory(self.folder)

    def _furnish_app(self, app: str) -> None:
        base = self.machines[self.apps[app].machine].path(self.root(app))
        for name in ("conf", "bin", "lib", "webapps", "work"):
            (base / name).mkdir()
        for name in ("logs", "temp"):
            # Beside what a snapshot takes: these move by themselves.
            elsewhere = self.root(app).with_name(f"{app}-{name}")
            base.with_name(elsewhere.name).mkdir()
            (base / name).symlink_to(elsewhere)
        for jar in self.jars:
            (base / "lib" / jar.name).symlink_to(jar)
        for name, text in settings(app).items():
            (base / name).write_text(text, encoding="utf-8")
        shutil.copyfile(self.artifact(FIRST_RELEASE), self.war(app))

    def _start_apps(self) -> None:
        for app in self.apps:
            self._launch(app)
        for app in self.apps:
            self.await_app(app)

    def _launch(self, app: str) -> None:
        catalina = (str(TOMCAT_HOME / "bin" / "catalina.sh"), "start")
        environment = {
            "CATALINA_BASE": str(self.root(app)),
            "CATALINA_HOME": str(TOMCAT_HOME),
            "JAVA_HOME": str(java_home()),
        }
        self.machines[self.apps[app].machine].run(*catalina, environment=environment)


# The files, as text.


def settings(app: str) -> dict[str, str]:
    """Answers what a person would have configured, by path below the CATALINA_BASE."""
    place = TOMCATS[app]
    here = f'<Connector port="{place.port}" address="{PLACES[place.machine].site}"'
    server = (APP / "server.xml").read_text(encoding="utf-8")
    server = server.replace('<Connector port="@PORT@" address="127.0.0.1"', here)
    server = server.replace("@SHUTDOWN_PORT@", str(SHUTDOWN_PORTS[app]))
    context = (APP / "context.xml").read_text(encoding="utf-8")
    redisson = (APP / "redisson.yaml").read_text(encoding="utf-8")
    texts = (
        server,
        context.replace("@KEY_PREFIX@", KEY_PREFIX.rstrip(":")),
        redisson.replace("localhost:@REDIS_PORT@", f"{FLOATING['site']}:6379"),
        f'CATALINA_OPTS="{JAVA_OPTIONS}"\n',
    )
    written = dict(zip(SETTINGS, texts, strict=True))
    assert not any("@" in written[name] for name in SETTINGS), "a place was not filled in"
    return written


def inventory(shared: Path) -> str:
    """Answers the inventory as a person would write it; tests replace texts in it."""
    backends = "".join(
        f"  - name: {app}\n    host: {place.machine}\n    address: {place.address}\n"
        f"    upgrade: {{catalina_base: {shared}/{place.machine}/{app}}}\n"
        for app, place in TOMCATS.items()
    )
    machines = about_machines(shared, [place.machine for place in TOMCATS.values()])
    return f"""\
{machines}
upgrade:
  strategy: tomcat
  artifact: artifacts/{APPLICATION}-{{release}}.war
  catalina_home: {TOMCAT_HOME}
  java_home: {java_home()}

health:
  path: /health
  version: {{header: X-Version}}
  streak: 2

warm_up:
  paths: [/cart]

rollout:
  on_failure: halt
  {READY_LIMIT}

session_store:
  url: redis://{FLOATING["mgmt"]}:6379/0
  key_prefix: "{KEY_PREFIX}"

session_canary:
  create:
    path: /login
    method: POST
    form: {{user: "canary{{marker}}"}}
    form_env: {{password: {PASSWORD_ENV}}}
  read: {{path: /cart}}
  expect: "canary{{marker}}"
  cookie: SID

backends:
{backends}"""


# The place of a module's fleets.


def jars_here() -> Sequence[Path]:
    """Answers the session manager; skips, saying why, where no Tomcat with it can be had."""
    if lacking := why_no_tomcat():
        pytest.skip(lacking)
    try:
        return session_manager_jars()
    except NotHere as lacks:
        pytest.skip(f"no session manager for Tomcat: {lacks}")


@pytest.fixture(scope="module", name="stand")
def tomcat_stand(tmp_path_factory: pytest.TempPathFactory, figures: Figures) -> Iterator[Stand]:
    """The place of a module's fleets, each with two Tomcats."""
    servers, jars = servers_here(), jars_here()

    def make(folder: Path, servers: Servers) -> NamespacedTomcats:
        return NamespacedTomcats(folder, servers, jars=jars)

    place = Stand(tmp_path_factory.mktemp("tomcat-rig"), servers, figures, make)
    yield place
    place.stop()
