"""Sessions as com.orangefunction's manager for Tomcat 7 stores them, on a real Redis.

Maven Central does not carry the manager. What it writes was taken down once, from version 2.0.0
built from its source (Tomcat 7.0.109, Jedis 2.5.2, commons-pool2 2.2, Java 17): one logged-in user
of the shop. `StoreForm.java` writes more of the same.
"""

from __future__ import annotations

import base64
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rolling_deploy.inventory import load_inventory
from rolling_deploy.operations.site import Site
from rolling_deploy.operations.stored_sessions import check_stored_sessions
from rolling_deploy.remote.session_sample import sample_sessions
from rolling_deploy.rollout.observed import Check, Verdict
from rolling_deploy.serialization import Form, read_value
from rolling_deploy.settings import SessionStoreSettings
from tests.redis_server import BINARY, WHY_SKIPPED, RedisServer, redis_server
from tests.shop_releases import (
    CLASS_CHANGED,
    COMPATIBLE,
    UID_CHANGED,
    ShopRelease,
    shop_classes,
    write_shop,
)
from tests.strategies_fixture import why_no_tomcat

pytestmark = [
    pytest.mark.skipif(BINARY is None, reason=WHY_SKIPPED),
    pytest.mark.timeout(300),
]
needs_shop = pytest.mark.skipif(bool(why_no_tomcat()), reason=why_no_tomcat())

SOURCES = Path(__file__).parents[1] / "tomcat_app" / "orangefunction"
LIMIT_S = 240
TIMEOUT_S = 1_800
SESSION_ID = "E8A6076AE5898793C8276BEAE64BA45E"
CREATED_MS, ACCESSED_MS = 1795394140375, 1795394140377
WRITTEN = base64.b64decode(
    "rO0ABXNyAERjb20ub3JhbmdlZnVuY3Rpb24udG9tY2F0LnJlZGlzc2Vzc2lvbnMuU2Vzc2lvblNlcmlhbGl6YXRpb25N"
    "ZXRhZGF0YULZ2fd2ottMAwABWwAVc2Vzc2lvbkF0dHJpYnV0ZXNIYXNodAACW0J4cHcUAAAAEKw4ror1RMqcpmi/LGhU"
    "5BR4c3IADmphdmEubGFuZy5Mb25nO4vkkMyPI98CAAFKAAV2YWx1ZXhyABBqYXZhLmxhbmcuTnVtYmVyhqyVHQuU4IsC"
    "AAB4cAAAAaIF1HjXc3EAfgADAAABogXUeNdzcgARamF2YS5sYW5nLkludGVnZXIS4qCk94GHOAIAAUkABXZhbHVleHEA"
    "fgAEAAAHCHNyABFqYXZhLmxhbmcuQm9vbGVhbs0gcoDVnPruAgABWgAFdmFsdWV4cAFxAH4ACnNxAH4AAwAAAaIF1HjZ"
    "dAAgRThBNjA3NkFFNTg5ODc5M0M4Mjc2QkVBRTY0QkE0NUVwcHNxAH4ABwAAAAN0AAtwcmVmZXJlbmNlc3NyABxjb20u"
    "ZXhhbXBsZS5zaG9wLlByZWZlcmVuY2Vz/9MNv1SgzIgCAAJMAAhjdXJyZW5jeXQAEkxqYXZhL2xhbmcvU3RyaW5nO0wA"
    "CGxhbmd1YWdldAASTGphdmEvdXRpbC9Mb2NhbGU7eHB0AANFVVJzcgAQamF2YS51dGlsLkxvY2FsZX74EWCcMPnsAwAG"
    "SQAIaGFzaGNvZGVMAAdjb3VudHJ5cQB+ABBMAApleHRlbnNpb25zcQB+ABBMAAhsYW5ndWFnZXEAfgAQTAAGc2NyaXB0"
    "cQB+ABBMAAd2YXJpYW50cQB+ABB4cP////90AAJERXQAAHQAAmRlcQB+ABdxAH4AF3h0AAR1c2Vyc3IAFWNvbS5leGFt"
    "cGxlLnNob3AuVXNlcgAAAAAAAAABAgABTAAEbmFtZXEAfgAQeHB0AANhbm50AARjYXJ0c3IAFWNvbS5leGFtcGxlLnNo"
    "b3AuQ2FydNtPynnLygSBAgABTAAFbGluZXN0ABBMamF2YS91dGlsL0xpc3Q7eHBzcgATamF2YS51dGlsLkFycmF5TGlz"
    "dHiB0h2Zx2GdAwABSQAEc2l6ZXhwAAAAAXcEAAAAAXNyABljb20uZXhhbXBsZS5zaG9wLkNhcnRMaW5lDU3NQ2R45xsC"
    "AAJJAAVjb3VudEwABGl0ZW1xAH4AEHhwAAAAAXQABmJvb2stMXh3CAAAAaIF1HjX"
)
"""The value under `SESSION_ID`; its key had 1,800 s to live."""
NULL = b"null"
"""What lies under the key of a session whose making was cut off; it has no time to live."""
INVENTORY = """\
application: shop
hosts: {{lb1: {{}}, web1: {{}}}}
load_balancers: [{{name: lb1}}]
upstreams: [{{name: tomcat}}]
upgrade: {{strategy: tomcat, artifact: "shop-{{release}}.war"}}
backends:
  - {{name: app1, host: web1, address: "10.0.0.11:8080", upgrade: {{catalina_base: /srv/app1}}}}
  - {{name: app2, host: web1, address: "10.0.0.11:8081", upgrade: {{catalina_base: /srv/app2}}}}
session_store:
  url: {url}
  asked_from: via
  session_key: "{{id}}"
"""

Write = Callable[[str, int, int], bytes]


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with redis_server("--save", "") as running:
        yield running


@pytest.fixture(autouse=True)
def _empty(server: RedisServer) -> None:
    with server.client() as client:
        client.flushall()


@pytest.fixture(scope="module")
def write(tmp_path_factory: pytest.TempPathFactory) -> Write:
    """Answers a writer of sessions, by a real Java's serialization."""
    folder = tmp_path_factory.mktemp("store-form")
    for name, code in shop_classes((), ()).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(code)
    argv = ["javac", "-cp", str(folder), "-d", str(folder), *map(str, SOURCES.glob("*.java"))]
    subprocess.run(argv, check=True, timeout=LIMIT_S)

    def written(session_id: str, created_ms: int, accessed_ms: int) -> bytes:
        argv = ["java", "-cp", str(folder), "StoreForm", session_id, f"{created_ms}"]
        done = subprocess.run(
            [*argv, f"{accessed_ms}"], capture_output=True, check=True, timeout=LIMIT_S
        )
        return base64.b64decode(done.stdout)

    return written


def store(server: RedisServer, *sessions: tuple[str, bytes]) -> None:
    """Put sessions where the manager puts them: claimed with `null`, written, then timed."""
    with server.client() as client:
        for session_id, value in sessions:
            assert client.setnx(session_id, NULL)
            if value != NULL:
                client.set(session_id, value)
                client.expire(session_id, TIMEOUT_S)


def checked(server: RedisServer, folder: Path, release: ShopRelease) -> dict[str, Check]:
    write_shop(folder / f"shop-{release.version}.war", release.version)
    file = folder / "inventory.yaml"
    file.write_text(INVENTORY.format(url=server.url))
    site = Site(load_inventory(file), {})
    lines = check_stored_sessions(site, release.version, is_accepted=False)
    return {line.name: line for line in lines}


@needs_shop
def test_our_store_form_is_byte_for_byte_what_the_manager_wrote(write: Write) -> None:
    assert write(SESSION_ID, CREATED_MS, ACCESSED_MS) == WRITTEN


def test_every_class_of_a_session_is_read_and_its_digest_is_no_obstacle() -> None:
    value = read_value(WRITTEN)
    assert value.form is Form.JAVA
    found = {one.name: one for one in value.classes}
    manager = found["com.orangefunction.tomcat.redissessions.SessionSerializationMetadata"]
    assert [field.name for field in manager.fields] == ["sessionAttributesHash"]
    assert manager.by_hand
    shops = {name: one.uid for name, one in found.items() if name.startswith("com.example.shop.")}
    assert shops == {
        "com.example.shop.Cart": -2643671831784323967,
        "com.example.shop.CartLine": 958647985031931675,
        "com.example.shop.Preferences": -12651258542240632,
        "com.example.shop.User": 1,
    }
    assert [field.name for field in found["com.example.shop.CartLine"].fields] == ["count", "item"]


def test_sessions_under_plain_keys_are_sampled_with_their_time_to_live_left_alone(
    server: RedisServer,
) -> None:
    store(server, (SESSION_ID, WRITTEN), ("0BADC0DE.tomcat1", NULL))
    sampled = sample_sessions(SessionStoreSettings(server.url, session_key="{id}"), None)
    with server.client() as client:
        assert TIMEOUT_S - 60 < client.ttl(SESSION_ID) <= TIMEOUT_S
        assert client.ttl("0BADC0DE.tomcat1") == -1
    assert sampled.sessions == {SESSION_ID.encode(): (WRITTEN,), b"0BADC0DE.tomcat1": (NULL,)}


@needs_shop
def test_a_compatible_release_reads_every_session_of_the_manager(
    server: RedisServer, tmp_path: Path, write: Write
) -> None:
    mine = "A" * 32
    store(server, (SESSION_ID, WRITTEN), (mine, write(mine, CREATED_MS, ACCESSED_MS)))
    lines = checked(server, tmp_path, COMPATIBLE)
    assert lines["compatibility"].verdict is Verdict.OK, lines["compatibility"]
    assert "all of 2 sampled sessions can be read" in lines["compatibility"].detail
    assert "poisoned keys" not in lines


@needs_shop
@pytest.mark.parametrize(("release", "lost"), [(CLASS_CHANGED, "Cart"), (UID_CHANGED, "User")])
def test_an_incompatible_release_is_refused_by_the_sessions_of_the_manager(
    server: RedisServer, tmp_path: Path, release: ShopRelease, lost: str
) -> None:
    store(server, (SESSION_ID, WRITTEN))
    line = checked(server, tmp_path, release)["compatibility"]
    assert line.verdict is Verdict.REFUSED, line
    assert "1 (100%) of 1 sampled sessions hold what" in line.detail
    assert f"`com.example.shop.{lost}`" in line.detail
    assert "com.orangefunction" not in line.detail


@needs_shop
def test_placeholders_are_counted_and_take_nothing_from_the_verdict_on_the_others(
    server: RedisServer, tmp_path: Path
) -> None:
    store(server, (SESSION_ID, WRITTEN), ("B" * 32, NULL), ("C" * 32, NULL))
    lines = checked(server, tmp_path, CLASS_CHANGED)
    assert lines["poisoned keys"].verdict is Verdict.WARNING
    assert lines["poisoned keys"].detail.startswith("2 of 3 sampled keys hold the placeholder")
    assert lines["compatibility"].verdict is Verdict.REFUSED
    print(lines["poisoned keys"].detail, lines["compatibility"].detail, sep="\n")
