"""The wiring on a real Tomcat with Redisson: sessions lie in Redis, after going back they do not.

A stock CATALINA_BASE: its `context.xml` and `server.xml` are those that Debian installs.
"""

from __future__ import annotations

import hashlib
import http.cookiejar
import shutil
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import redis

from rolling_deploy.remote.session_store_address import address_of
from rolling_deploy.remote.wiring import WiringStrategy
from rolling_deploy.rollout.observed import Verdict
from rolling_deploy.rollout.step import Outcome
from rolling_deploy.settings import (
    Jar,
    SessionManagerSettings,
    SessionStoreSettings,
    WiringSettings,
)
from rolling_deploy.upstreams.fragments import Passwords, render_wiring
from tests.counting_shop import write_shop_war
from tests.local_connection import LocalConnection
from tests.redis_server import BINARY, WHY_SKIPPED, RedisServer, redis_server
from tests.session_manager import NotHere, session_manager_jars
from tests.strategies_fixture import (
    TOKEN,
    TomcatBackend,
    backend_settings,
    make_tomcat,
    version_served,
    wait_until,
    why_no_tomcat,
)
from tests.wired_tomcat import LABEL, seen

STOCK = Path("/etc/tomcat10")
PASSWORD = "a ${user.home} \"'&<>{{#: \\u0041 ü☃"
"""Everything that XML, YAML, Tomcat and Redisson could mistake for something else."""

pytestmark = [
    pytest.mark.skipif(bool(why_no_tomcat()), reason=why_no_tomcat()),
    pytest.mark.skipif(not (STOCK / "context.xml").exists(), reason="no stock files of Tomcat 10"),
    pytest.mark.skipif(BINARY is None, reason=WHY_SKIPPED),
    pytest.mark.timeout(600),
]


@dataclass(frozen=True)
class Stock:
    """A Tomcat as installed, the Redis that it does not know yet, and the jars."""

    tomcat: TomcatBackend
    store: RedisServer
    jars: tuple[Jar, ...]

    def strategy(self) -> WiringStrategy:
        """Answers the strategy that wires it."""
        settings = self.tomcat.settings
        backend = backend_settings("tomcat1", self.tomcat.port, settings)
        store = SessionStoreSettings(
            url=f"redis://localhost:{self.store.port}/2", username="shop", key_prefix="shop:"
        )
        rendered = render_wiring(
            WiringSettings(SessionManagerSettings("redisson", self.jars), 5_000),
            store,
            address_of(store.url),
            Passwords(PASSWORD),
            backend.host,
        )
        return WiringStrategy(
            settings,
            backend,
            LocalConnection(),
            rendered.wiring,
            rendered.shown,
            application="shop",
            inventory="/operators/shop.yaml",
        )

    def session_keys(self) -> list[bytes]:
        """Answers the keys of the sessions in Redis."""
        with redis.Redis(port=self.store.port, db=2, username="shop", password=PASSWORD) as client:
            return list(client.scan_iter(match="shop:redisson:tomcat_session:*"))

    def conf(self) -> dict[str, bytes]:
        """Answers every file of `conf` and `lib`."""
        base = self.tomcat.base
        return {
            str(path.relative_to(base)): path.read_bytes()
            for folder in ("conf", "lib")
            for path in (base / folder).glob("*")
            if path.is_file()
        }

    def log_in(self) -> str:
        """Log somebody in; answers the id of the session."""
        jar = http.cookiejar.CookieJar()
        opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(jar))
        with opener.open(f"http://127.0.0.1:{self.tomcat.port}/login", b"user=ann", timeout=60):
            return next(str(cookie.value) for cookie in jar if cookie.name == "SID")

    def wait_until_up(self) -> None:
        """Wait until the shop answers."""
        wait_until(
            lambda: "up" in version_served(self.tomcat.port, "/health"), "an answer of the shop"
        )


@pytest.fixture
def stock(tmp_path: Path) -> Iterator[Stock]:
    try:
        paths = session_manager_jars()
    except NotHere as lacks:
        pytest.skip(f"no session manager for Tomcat: {lacks}")
    jars = tuple(Jar(str(path), hashlib.sha256(path.read_bytes()).hexdigest()) for path in paths)
    wars = tmp_path / "wars"
    wars.mkdir()
    tomcat = make_tomcat(tmp_path / "tomcat", wars)
    settings = replace(tomcat.settings, stop_limit_ms=120_000, start_limit_ms=120_000)
    tomcat = replace(tomcat, settings=settings)
    own = (tomcat.base / "conf" / "server.xml").read_text()
    shutdown = own.partition('Server port="')[2].partition('"')[0]
    server = (STOCK / "server.xml").read_text()
    server = server.replace('<Server port="-1"', f'<Server port="{shutdown}"')
    server = server.replace('<Server port="8005"', f'<Server port="{shutdown}"')
    server = server.replace('port="8080"', f'port="{tomcat.port}" address="127.0.0.1"')
    (tomcat.base / "conf" / "server.xml").write_text(server)
    shutil.copyfile(STOCK / "context.xml", tomcat.base / "conf" / "context.xml")
    write_shop_war(tomcat.base / "webapps" / "ROOT.war", "1.0")
    hashed = hashlib.sha256(PASSWORD.encode()).hexdigest()
    with redis_server() as store:
        with store.client() as admin:
            admin.execute_command("ACL", "SETUSER", "shop", "on", f"#{hashed}", "~*", "&*", "+@all")
            admin.execute_command("ACL", "SETUSER", "default", "off")
        try:
            yield Stock(tomcat, store, jars)
        finally:
            tomcat.end()


def test_a_stock_tomcat_is_wired_to_redis_and_back(stock: Stock) -> None:
    strategy = stock.strategy()
    refused = [check for check in strategy.preflight(LABEL) if check.verdict is Verdict.REFUSED]
    assert not refused, refused
    plain, stock_id = stock.conf(), str(seen(strategy).artifact)
    wired = strategy.artifact_id(LABEL)
    assert strategy.stage(LABEL, TOKEN).outcome is Outcome.DONE

    result = strategy.activate(wired, TOKEN)
    assert result.outcome is Outcome.DONE, result.detail
    stock.wait_until_up()
    session = stock.log_in()
    assert stock.session_keys() == [f"shop:redisson:tomcat_session:{session}".encode()]
    assert seen(strategy).is_restarted_since_swap is True
    assert stock.strategy().missing() == ()

    result = strategy.activate(stock_id, TOKEN)
    assert result.outcome is Outcome.DONE, result.detail
    stock.wait_until_up()
    assert stock.conf() == plain
    session = stock.log_in()
    assert not [key for key in stock.session_keys() if session.encode() in key], (
        "it is in Tomcat's memory"
    )
