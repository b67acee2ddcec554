"""The shop whose sessions have to survive, in releases that differ in how they treat sessions.

All are the one application in `tomcat_app/shop`, with the lines changed that a release changes.
The session manager travels in the WAR (`META-INF/context.xml`), so a release can change that too.
"""

from __future__ import annotations

import functools
import subprocess
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from tests.strategies_fixture import TOMCAT_HOME

SHOP = Path(__file__).parent / "tomcat_app" / "shop"
PASSWORD = "open sesame"
"""The one that the shop takes, of everybody."""
COOKIE, KEY_PREFIX, TIMEOUT_MIN = "JSESSIONID", "shop", 30
COMPILE_LIMIT_S = 300


@dataclass(frozen=True, slots=True)
class Edit:
    """One text of a source file that a release has changed."""

    file: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class ShopRelease:
    """One release of the shop, by what it has changed.

    Attributes:
        edits: lines of the sources that it has changed since the first release.
        without: classes that it no longer has.
    """

    version: str
    edits: tuple[Edit, ...] = ()
    without: tuple[str, ...] = ()
    cookie: str = COOKIE
    key_prefix: str = KEY_PREFIX
    timeout_min: int = TIMEOUT_MIN
    read_mode: str = "REDIS"

    def write(self, path: Path) -> None:
        """Write the WAR."""
        words = {
            "@COOKIE@": self.cookie,
            "@KEY_PREFIX@": self.key_prefix,
            "@TIMEOUT_MIN@": str(self.timeout_min),
            "@READ_MODE@": self.read_mode,
        }
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as war:
            for name, code in shop_classes(self.edits, self.without).items():
                war.writestr(f"WEB-INF/classes/{name}", code)
            war.writestr("WEB-INF/classes/version.txt", self.version)
            war.writestr("WEB-INF/web.xml", _filled("web.xml", words))
            war.writestr("META-INF/context.xml", _filled("context.xml", words))


GREETS = Edit("ShopServlet", "</h1>\\n<ul>", "</h1>\\n<p>Nice to see you</p>\\n<ul>")
"""What has nothing to do with sessions, and makes another WAR of it."""

FIRST = ShopRelease("1.0")
COMPATIBLE = ShopRelease("2.0", (GREETS,))
CLASS_CHANGED = ShopRelease(
    "2.0-class",
    (
        GREETS,
        Edit(
            "Cart", "    public void add", '    private String coupon = "";\n\n    public void add'
        ),
    ),
)
"""A field more in a class that declares no serialVersionUID: Java works out another one."""

_NICKNAME = Edit(
    "User",
    "    private final String name;",
    "    private final String name;\n    private String nick;",
)
CLASS_CHANGED_WITH_UID = ShopRelease("2.0-uid", (GREETS, _NICKNAME))
"""A field more in a class that declares its serialVersionUID and keeps it: compatible."""
UID_CHANGED = ShopRelease(
    "2.0-uid-changed",
    (GREETS, _NICKNAME, Edit("User", "serialVersionUID = 1L", "serialVersionUID = 2L")),
)
ATTRIBUTE_REMOVED = ShopRelease(
    "2.0-removed",
    (
        GREETS,
        Edit(
            "ShopServlet", '        session.setAttribute("preferences", new Preferences());\n', ""
        ),
        Edit(
            "ShopServlet",
            'Preferences preferences = (Preferences) session.getAttribute("preferences");\n',
            "\n",
        ),
        Edit("ShopServlet", '" + preferences.currency() + "', "EUR"),
    ),
    without=("Preferences",),
)
"""It neither sets nor reads an attribute that the first release relies on; its class is gone."""
CLASS_REMOVED = ShopRelease(
    "2.0-moved",
    (
        GREETS,
        Edit("ShopServlet", "new Preferences()", 'java.util.Currency.getInstance("EUR")'),
        Edit("ShopServlet", "Preferences preferences = (Preferences)", "Object currency ="),
        Edit("ShopServlet", "preferences.currency()", "currency"),
    ),
    without=("Preferences",),
)
"""It reads the attribute still, as something else; the class that is in the store is gone."""
OTHER_COOKIE = ShopRelease("2.0-cookie", (GREETS,), cookie="SHOPSESSION")
OTHER_PREFIX = ShopRelease("2.0-prefix", (GREETS,), key_prefix="shop2")
SHORTER = ShopRelease("2.0-short", (GREETS,), timeout_min=1)

SHOP_RELEASES = {
    release.version: release
    for release in (
        FIRST,
        COMPATIBLE,
        CLASS_CHANGED,
        CLASS_CHANGED_WITH_UID,
        UID_CHANGED,
        ATTRIBUTE_REMOVED,
        CLASS_REMOVED,
        OTHER_COOKIE,
        OTHER_PREFIX,
        SHORTER,
    )
}


def write_shop(path: Path, version: str) -> None:
    """Write the WAR of a release."""
    SHOP_RELEASES[version].write(path)


@functools.cache
def shop_classes(edits: tuple[Edit, ...], without: tuple[str, ...]) -> dict[str, bytes]:
    """Answers the compiled classes, by their path in the WAR; compiled once in a test session."""
    with tempfile.TemporaryDirectory(prefix="shop-") as folder:
        sources, classes = Path(folder) / "sources", Path(folder) / "classes"
        sources.mkdir()
        for source in SHOP.glob("*.java"):
            if source.stem not in without:
                (sources / source.name).write_text(_edited(source, edits), encoding="utf-8")
        jar = TOMCAT_HOME / "lib" / "servlet-api.jar"
        argv = ["javac", "-cp", str(jar), "-d", str(classes)]
        argv += sorted(map(str, sources.iterdir()))
        subprocess.run(argv, check=True, timeout=COMPILE_LIMIT_S)
        found = sorted(classes.rglob("*.class"))
        return {path.relative_to(classes).as_posix(): path.read_bytes() for path in found}


def _edited(source: Path, edits: tuple[Edit, ...]) -> str:
    text = source.read_text(encoding="utf-8")
    for edit in edits:
        if edit.file == source.stem:
            assert text.count(edit.old) == 1, f"{source.name} should hold {edit.old!r} once"
            text = text.replace(edit.old, edit.new)
    return text


def _filled(name: str, words: dict[str, str]) -> str:
    text = (SHOP / name).read_text(encoding="utf-8")
    for word, value in words.items():
        text = text.replace(word, value)
    return text
