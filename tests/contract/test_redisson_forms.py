"""Redisson's own configuration for sentinels and for a cluster, run by a real Tomcat.

Rendered from the templates as `setup` does; the sessions have to be where the store's checks look
for them, and to outlive the Tomcat, and the master where another one is chosen.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.cookiejar import CookieJar
from pathlib import Path

import pytest

from rolling_deploy.remote.session_store import open_masters, remaining_ms
from rolling_deploy.remote.session_store_address import address_of
from rolling_deploy.settings import (
    Jar,
    SessionManagerSettings,
    SessionStoreSettings,
    WiringSettings,
)
from rolling_deploy.upstreams.fragments import Passwords, render_wiring
from tests.counting_shop import write_shop_war
from tests.redis_groups import MASTER, cluster, cluster_url, sentinel, watched
from tests.redis_server import BINARY, WHY_SKIPPED, RedisServer, redis_server, wait_until
from tests.session_manager import NotHere, session_manager_jars
from tests.strategies_fixture import TOMCAT_HOME, TomcatBackend, make_tomcat, why_no_tomcat

PASSWORD, SENTINEL_PASSWORD = 'of "the" shop: #1', "of: the {sentinels}"
PASSWORD_ENV, SENTINEL_PASSWORD_ENV = "FORMS_TEST_PASSWORD", "FORMS_TEST_SENTINEL_PASSWORD"
START_LIMIT_S = 120.0
RIGHTS = ("~shop:*", "~redisson*", "~{redisson*", "&*", "+@all", "-cluster", "+cluster|nodes")
"""What Redisson needs: of a cluster it asks for the nodes only."""

pytestmark = [
    pytest.mark.every,
    pytest.mark.skipif(bool(why_no_tomcat()), reason=why_no_tomcat()),
    pytest.mark.skipif(BINARY is None, reason=WHY_SKIPPED),
    pytest.mark.timeout(600),
]


@dataclass
class Shop:
    """One Tomcat whose sessions are where `settings` says, and one user with a browser."""

    settings: SessionStoreSettings
    tomcat: TomcatBackend
    cookies: CookieJar = field(default_factory=CookieJar)

    def start(self) -> None:
        """Start the Tomcat, and wait until it serves."""
        base = self.tomcat.base
        environment = {**os.environ, "CATALINA_BASE": str(base), "CATALINA_HOME": str(TOMCAT_HOME)}
        with (base / "logs" / "start.log").open("ab") as log:
            argv = [str(TOMCAT_HOME / "bin" / "catalina.sh"), "start"]
            subprocess.run(argv, env=environment, stdout=log, stderr=log, check=True, timeout=60)
        wait_until(lambda: self._says("/health"), "the shop is up", START_LIMIT_S)

    def restart(self) -> None:
        """Kill it, so that it can save nothing, and start it again."""
        self.tomcat.end()
        wait_until(lambda: not self.tomcat.pids(), "its end")
        self.start()

    def ask(self, path: str, form: bytes | None = None) -> dict[str, object]:
        """Answers what the shop says to the user."""
        opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(self.cookies))
        with opener.open(f"http://127.0.0.1:{self.tomcat.port}{path}", form, 30) as answer:
            return dict(json.load(answer))

    def _says(self, path: str) -> dict[str, object] | None:
        with contextlib.suppress(OSError):
            return self.ask(path)
        return None

    def shows(self, count: int) -> bool:
        """Answers whether the cart is there with so many things in it."""
        return self._says("/cart") == {"user": "ann", "counter": count}

    @property
    def key(self) -> str:
        """Answers the key of the user's session in the store."""
        session = next(str(cookie.value) for cookie in self.cookies if cookie.name == "SID")
        return f"shop:redisson:tomcat_session:{session}"

    @property
    def log(self) -> str:
        """Answers what the Tomcat has logged."""
        return (self.tomcat.base / "logs" / "catalina.out").read_text()


Wire = Callable[[SessionStoreSettings], Shop]


@pytest.fixture
def wire(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Wire]:
    """Answers what wires a Tomcat to a store as `setup` would, and ends it."""
    try:
        jars = session_manager_jars()
    except NotHere as lacks:
        pytest.skip(f"no session manager for Tomcat: {lacks}")
    (tmp_path / "wars").mkdir()
    tomcat = make_tomcat(tmp_path / "tomcat", tmp_path / "wars")
    monkeypatch.setenv(PASSWORD_ENV, PASSWORD)
    monkeypatch.setenv(SENTINEL_PASSWORD_ENV, SENTINEL_PASSWORD)

    def wired(settings: SessionStoreSettings) -> Shop:
        settings = replace(settings, key_prefix="shop:")
        known = tuple(Jar(str(p), hashlib.sha256(p.read_bytes()).hexdigest()) for p in jars)
        wiring = render_wiring(
            WiringSettings(SessionManagerSettings("redisson", known), 5_000),
            settings,
            address_of(settings.url),
            Passwords(
                PASSWORD if settings.password_env else "",
                SENTINEL_PASSWORD if settings.sentinel_password_env else "",
            ),
            "here",
        ).wiring
        context = f'<Context>{wiring.context}<JarScanner scanClassPath="false"/></Context>'
        (tomcat.base / "conf" / "context.xml").write_text(context)
        for name, text in wiring.files.items():
            (tomcat.base / name).write_bytes(text)
        (tomcat.base / "lib").mkdir()
        for jar in jars:
            (tomcat.base / "lib" / jar.name).symlink_to(jar)
        write_shop_war(tomcat.base / "webapps" / "ROOT.war", "1.0")
        shop = Shop(settings, tomcat)
        shop.start()
        return shop

    yield wired
    tomcat.end()


def with_user(server: RedisServer) -> None:
    """Make the user that the shop logs in as; nobody else may write."""
    hashed = hashlib.sha256(PASSWORD.encode()).hexdigest()
    with contextlib.closing(server.client()) as admin:
        admin.execute_command("ACL", "SETUSER", "shop", "reset", "on", f"#{hashed}", *RIGHTS)
        admin.execute_command("ACL", "SETUSER", "default", "-@write", "-@scripting")


def lives_on(shop: Shop) -> None:
    """Log in, fill the cart, and find it again once the Tomcat was killed and started."""
    assert shop.ask("/login", b"user=ann") == {"user": "ann", "counter": 0}
    assert shop.ask("/cart", b"") == {"user": "ann", "counter": 1}
    left_ms = remaining_ms(shop.settings, None, shop.key)
    assert left_ms is not None, "the store is asked with the same settings"
    assert left_ms > 60_000, shop.key
    shop.restart()
    assert shop.shows(1), shop.log[-4000:]
    assert shop.ask("/cart", b"") == {"user": "ann", "counter": 2}


def test_a_tomcat_finds_its_sessions_by_sentinels_and_follows_them_to_another_master(
    wire: Wire,
) -> None:
    with watched(3, down_after_ms=2_000) as store:
        # The replica's copies are asynchronous; a session that was just changed could be lost.
        shop = wire(SessionStoreSettings(url=store.url.removesuffix("/0") + "/2"))
        lives_on(shop)
        with contextlib.closing(store.master.client()) as client:
            assert client.wait(1, 10_000) == 1
        store.master.process.kill()
        store.master.process.wait(10)
        wait_until(lambda: shop.shows(2), "the cart, by the other master", 120.0)
        assert store.master_by(store.sentinels[0]) == store.replica.port
        assert shop.ask("/cart", b"") == {"user": "ann", "counter": 3}
        assert remaining_ms(shop.settings, None, shop.key)


def test_one_sentinel_with_a_password_and_a_user_are_enough(wire: Wire) -> None:
    with redis_server() as master:
        with_user(master)
        more = f"requirepass {json.dumps(SENTINEL_PASSWORD)}\n"
        with sentinel(master.port, quorum=1, more=more) as one:
            shop = wire(
                SessionStoreSettings(
                    url=f"redis+sentinel://127.0.0.1:{one.port}/{MASTER}/0",
                    username="shop",
                    password_env=PASSWORD_ENV,
                    sentinel_password_env=SENTINEL_PASSWORD_ENV,
                )
            )
            lives_on(shop)


def test_a_tomcat_finds_its_sessions_in_a_cluster(wire: Wire) -> None:
    with cluster() as servers:
        for server in servers:
            with_user(server)
        shop = wire(
            SessionStoreSettings(
                url=cluster_url(servers), username="shop", password_env=PASSWORD_ENV
            )
        )
        lives_on(shop)
        first = shop.key
        for _ in range(20):
            shop.cookies.clear()
            shop.ask("/login", b"user=ann")
        found = []
        with open_masters(shop.settings, None) as (links, missing):
            for link in links.values():
                said = link.ask(("KEYS", "shop:redisson:tomcat_session:*"))[0].value
                assert isinstance(said, list)
                found.append({key.decode() for key in said})
        assert missing == ""
        assert first in set().union(*found)
        assert sum(map(len, found)) == 21
        assert all(found), "each master has some"
