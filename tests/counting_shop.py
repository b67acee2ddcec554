"""What a fleet of Tomcats runs: by default the shop that counts in its session."""

from __future__ import annotations

import functools
import subprocess
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from rolling_deploy.demo.fleet import FIRST_RELEASE, NEXT_RELEASE
from tests.strategies_fixture import TOMCAT_HOME

APP = Path(__file__).parent / "tomcat_app"
SOURCES = (APP / "shop" / "ReleaseServlet.java", APP / "CountingServlet.java")
KEY_PREFIX = "shop:"
WRONG_RELEASE, WHAT_IT_SAYS = "3.0", "2.9"
"""A WAR that was packed with another version in it."""


@dataclass(frozen=True, slots=True)
class Application:
    """What a fleet of Tomcats runs, and how its sessions are kept.

    Attributes:
        releases: packed when the fleet is brought up; the first one is deployed by hand.
        write_war: writes the WAR of a release.
        files: what lies in each Tomcat's `conf`; `@REDIS_PORT@` is filled in.
        key_prefix: of its sessions' keys in Redis.
        store: further lines of the inventory's `session_store`.
        inventory: further sections of the inventory.
    """

    releases: tuple[str, ...]
    write_war: Callable[[Path, str], None]
    files: Mapping[str, str]
    key_prefix: str
    store: str = ""
    inventory: str = ""


@functools.cache
def shop_classes(folder: Path) -> dict[str, bytes]:
    """Answers the compiled classes, by their path in the WAR; compiled once for each folder."""
    jar = TOMCAT_HOME / "lib" / "servlet-api.jar"
    classes = folder / "classes"
    argv = ["javac", "-cp", str(jar), "-d", str(classes), *map(str, SOURCES)]
    subprocess.run(argv, check=True, timeout=300)
    found = sorted(classes.rglob("*.class"))
    return {path.relative_to(classes).as_posix(): path.read_bytes() for path in found}


def write_shop_war(path: Path, release: str) -> None:
    """Write a WAR of the shop that says it is this version, or another one if it is the wrong."""
    version = WHAT_IT_SAYS if release == WRONG_RELEASE else release
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as war:
        for name, code in shop_classes(path.parent).items():
            war.writestr(f"WEB-INF/classes/{name}", code)
        war.writestr("WEB-INF/classes/version.txt", version)
        war.write(APP / "counting-web.xml", "WEB-INF/web.xml")


def counting_shop() -> Application:
    """Answers the shop that counts in its session, for the users of the demo's load."""
    context = (APP / "context.xml").read_text().replace("@KEY_PREFIX@", KEY_PREFIX.rstrip(":"))
    return Application(
        (FIRST_RELEASE, NEXT_RELEASE, WRONG_RELEASE),
        write_shop_war,
        {"context.xml": context, "redisson.yaml": (APP / "redisson.yaml").read_text()},
        KEY_PREFIX,
    )
