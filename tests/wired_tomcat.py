"""A CATALINA_BASE to wire, before a tiny application that only stands in for Tomcat's process."""

from __future__ import annotations

import contextlib
import hashlib
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rolling_deploy.remote.session_store_address import address_of
from rolling_deploy.remote.wiring import WiringStrategy
from rolling_deploy.rollout.observed import BackendSeen, Unreachable
from rolling_deploy.rollout.step import Outcome
from rolling_deploy.settings import (
    Jar,
    SessionManagerSettings,
    SessionStoreSettings,
    TomcatSettings,
    WiringSettings,
)
from rolling_deploy.upstreams.fragments import Passwords, render_wiring
from tests.local_connection import LocalConnection
from tests.strategies_fixture import TOKEN, AppBackend, backend_settings, running_app

PASSWORD = 'op"en <sesame> & co'
CONTEXT = """<?xml version="1.0" encoding="ISO-8859-1"?>\r
<!-- Zürich: <Manager className="org.redisson.tomcat.RedissonSessionManager"/> -->\r
<Context>\r
  <WatchedResource>WEB-INF/web.xml</WatchedResource>\r
  <Resource name="jdbc/shop" password="of the database"/>\r
</Context>\r
""".encode("iso-8859-1")
SERVER = b"""<Server port="8005" shutdown="SHUTDOWN">
  <Service name="Catalina">
    <Connector port="%d" protocol="HTTP/1.1"/>
    <Engine name="Catalina" defaultHost="localhost">
      <Host name="localhost" autoDeploy="false"/>
    </Engine>
  </Service>
</Server>
"""
LABEL = "wiring"
SERVER_INFO = "org/apache/catalina/util/ServerInfo.properties"


@dataclass(frozen=True)
class WiredTomcat:
    """A CATALINA_BASE, the process that stands for its Tomcat, and the jars of the operator."""

    app: AppBackend
    base: Path
    home: Path
    jars: Path
    application: str = "shop"

    def strategy(
        self,
        connection: LocalConnection | None = None,
        *,
        password: str = PASSWORD,
        graceful_stop_ms: int | None = 5_000,
        names: tuple[str, ...] = ("redisson-all-3.50.0.jar", "redisson-tomcat-10-3.50.0.jar"),
        kind: str = "redisson",
        **changes: Any,  # any field of the settings
    ) -> WiringStrategy:
        """Answers its strategy, with another wiring where named."""
        jars = tuple(
            Jar(str(self.jars / name), hashlib.sha256((self.jars / name).read_bytes()).hexdigest())
            for name in names
        )
        return self.wired_by(
            SessionManagerSettings(kind, jars), connection, password, graceful_stop_ms, **changes
        )

    def wired_by(
        self,
        manager: SessionManagerSettings,
        connection: LocalConnection | None = None,
        password: str = PASSWORD,
        graceful_stop_ms: int | None = 5_000,
        **changes: Any,
    ) -> WiringStrategy:
        """Answers its strategy with this session manager."""
        control = str(self.app.root / "control")
        given: dict[str, Any] = {
            "artifact": "/nowhere/{release}.war",
            "catalina_base": str(self.base),
            "state_dir": f"{self.base}/.rolling-deploy",
            "catalina_home": str(self.home),
            "stop": (control, str(self.app.root), "stop"),
            "start": (control, str(self.app.root), "start"),
            "process": f"app.py --port {self.app.port}",
            "stop_limit_ms": 30_000,
            "start_limit_ms": 30_000,
        }
        settings = TomcatSettings(**given | changes)
        backend = backend_settings("tomcat1", self.app.port, settings)
        store = SessionStoreSettings(url="redis://127.0.0.1:6379/0")
        rendered = render_wiring(
            WiringSettings(manager, graceful_stop_ms),
            store,
            address_of(store.url),
            Passwords(password),
            backend.host,
        )
        return WiringStrategy(
            settings,
            backend,
            connection or LocalConnection(),
            rendered.wiring,
            rendered.shown,
            application=self.application,
            inventory=f"/operators/{self.application}.yaml",
        )

    def mark(self, application: str = "") -> str:
        """Answers where its setup leaves its mark, below the CATALINA_BASE."""
        return f"conf/.rolling-deploy-{application or self.application}.json"

    def files(self) -> Mapping[str, bytes]:
        """Answers every file of the CATALINA_BASE but ours."""
        return {
            str(path.relative_to(self.base)): path.read_bytes()
            for path in self.base.rglob("*")
            if path.is_file() and ".rolling-deploy" not in path.relative_to(self.base).parts
        }

    @property
    def store(self) -> Path:
        """Answers where the sets of files are kept."""
        return self.base / ".rolling-deploy" / "wiring"


def write_catalina_jar(path: Path, version: str) -> None:
    """Write what Tomcat's own jar says of its version, with other entries around it."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as jar:
        jar.writestr("org/apache/catalina/util/ServerInfo.class", SERVER_INFO.encode() * 9)
        text = f"# Licensed\nserver.info=Apache Tomcat/{version} (Debian)\nserver.number=1.2.3.0\n"
        jar.writestr(SERVER_INFO, text)
        jar.writestr("org/apache/catalina/util/StringUtil.class", b"others" * 500)


@contextlib.contextmanager
def wired_tomcat(folder: Path) -> Iterator[WiredTomcat]:
    """Answers a CATALINA_BASE that is as installed, with its process running."""
    with running_app(folder / "app", folder) as app:
        base, home, jars = folder / "base", folder / "home", folder / "jars"
        for place in (base / "conf", home / "lib", jars):
            place.mkdir(parents=True)
        (base / "conf" / "context.xml").write_bytes(CONTEXT)
        (base / "conf" / "server.xml").write_bytes(SERVER % app.port)
        (base / "conf" / "context.xml").chmod(0o644)
        (base / "conf" / "server.xml").chmod(0o640)
        write_catalina_jar(home / "lib" / "catalina.jar", "10.1.60")
        for name in ("redisson-all-3.50.0.jar", "redisson-tomcat-10-3.50.0.jar"):
            (jars / name).write_bytes(b"PK " + name.encode() * 1000)
        yield WiredTomcat(app, base, home, jars)


def seen(strategy: WiringStrategy) -> BackendSeen:
    """Answers a look that must succeed."""
    found = strategy.look()
    assert not isinstance(found, Unreachable), found.detail
    return found


def wire(strategy: WiringStrategy) -> str:
    """Stage and activate what the strategy wants; answers what it is called."""
    artifact = strategy.artifact_id(LABEL)
    for result in (strategy.stage(LABEL, TOKEN), strategy.activate(artifact, TOKEN)):
        assert result.outcome is Outcome.DONE, result.detail
    return artifact
