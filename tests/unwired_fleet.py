"""Two Tomcats and an nginx as people have them before: the upstream in nginx.conf, no store.

The stock `context.xml` of Tomcat's package, no session manager in `lib`, and the whole `http` block
of nginx written as somebody's article shows it: on few lines, the upstream in the middle.
"""

from __future__ import annotations

import http.client
import threading
import zipfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Self

from rolling_deploy.demo.servers import Servers
from tests.session_manager import sha256_of
from tests.shop_site import shop
from tests.tomcat_fleet import TomcatFleet, TomcatNode

STOCK_CONTEXT = Path("/etc/tomcat10/context.xml")
GRACEFUL_STOP_S = 20
TIMEOUT_S = 20


def write_without_manager(path: Path, release: str) -> None:
    """Write a WAR of the shop that leaves its session manager to the Tomcat it runs in."""
    shop().write_war(path, release)
    with zipfile.ZipFile(path) as war:
        members = {name: war.read(name) for name in war.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as war:
        for name, data in members.items():
            if name != "META-INF/context.xml":
                war.writestr(name, data)


class UnwiredFleet(TomcatFleet):
    """The shop's fleet with nothing of what `setup` brings about; its inventory asks for it all."""

    def __init__(self, directory: Path, servers: Servers, jars: list[Path]) -> None:
        stock = {"context.xml": STOCK_CONTEXT.read_text("utf-8")}
        unwired = replace(shop(), files=stock, write_war=write_without_manager)
        super().__init__(directory, servers, (), unwired)
        self.to_install = jars

    @property
    def main_config(self) -> Path:
        """Answers nginx's main configuration."""
        return self.balancers[0].prefix / "nginx.conf"

    def config_of(self, node: TomcatNode) -> dict[str, bytes]:
        """Answers every file of a Tomcat that `setup` touches, by its name; absent ones are not."""
        places = [node.tomcat.base / "conf", node.tomcat.base / "lib"]
        return {
            str(path.relative_to(node.tomcat.base)): path.read_bytes()
            for place in places
            for path in sorted(place.iterdir())
            if path.is_file()
        }

    def _write_nginx(self) -> None:
        super()._write_nginx()
        balancer = self.balancers[0]
        upstream = balancer.upstream_file.read_text("utf-8")
        balancer.upstream_file.unlink()
        on_one_line = " ".join(upstream.split())
        text = self.main_config.read_text("utf-8")
        written = text.replace("http {\n", f"http {{ {on_one_line} # the two Tomcats\n", 1)
        assert written != text
        self.main_config.write_text(written)

    def _inventory(self) -> str:
        jars = "".join(
            f"      - {{file: {jar}, sha256: {sha256_of(jar)}}}\n" for jar in self.to_install
        )
        return f"""{super()._inventory()}
setup:
  session_manager:
    kind: redisson
    jars:
{jars}  graceful_stop_s: {GRACEFUL_STOP_S}
"""


class Asking:
    """Asks the site again and again on new connections, as a user without a session does."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask, daemon=True)
        self.answers: Counter[str] = Counter()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(TIMEOUT_S * 2)

    def _ask(self) -> None:
        while not self._stop.wait(0.02):
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=TIMEOUT_S)
            try:
                connection.request("GET", "/health")
                self.answers[str(connection.getresponse().status)] += 1
            except (OSError, http.client.HTTPException) as error:
                self.answers[repr(error)] += 1
            finally:
                connection.close()


@contextmanager
def asking(fleet: UnwiredFleet) -> Iterator[Asking]:
    """Ask the site meanwhile; afterwards every answer must have been a good one."""
    with Asking(fleet.balancers[0].port) as one:
        yield one
    assert set(one.answers) == {"200"}, one.answers
    print(f"\nasked meanwhile: {one.answers['200']}, all answered")
