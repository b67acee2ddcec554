"""What a preflight of a wiring says: jars, the files to merge, places, and the way back."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from rolling_deploy.remote import artifact as local
from rolling_deploy.remote.artifact import ArtifactWrong
from rolling_deploy.remote.script import Reply, number_of
from rolling_deploy.remote.service_checks import Lines, paths_line, space_line
from rolling_deploy.remote.wiring_files import Asked, NotWired, Wanted
from rolling_deploy.rollout.observed import Check
from rolling_deploy.settings import Jar

RENEWED = (
    "this Manager stands in `conf/context.xml` with other settings, which are replaced as a whole: "
    "sessions under another prefix or in another database are not found any more"
)
_VERSIONED = re.compile(r"(?P<product>.+?)[-_]v?\d[\w.+-]*")
"""`redisson-all-3.50.0` is a version of `redisson-all`."""


def refuse_wrong_jar(jar: Jar) -> Path:
    """Answers the local file if it is the one that is meant.

    Raises:
        ArtifactWrong: it cannot be read, or has another sha256.
    """
    path = Path(jar.path)
    found = local.digest_of(path)
    if found != jar.sha256:
        raise ArtifactWrong(f"`{path}`: sha256 should be {jar.sha256}, is {found}")
    return path


def product_of(jar_name: str) -> str:
    """Answers what a jar is a version of: its name without `.jar` and a version at its end."""
    stem = jar_name.removesuffix(".jar")
    found = _VERSIONED.fullmatch(stem)
    return found["product"] if found else stem


def jar_line(lines: Lines, asked: Asked) -> Check:
    """Answers the line for the jars on this machine."""
    wrong = []
    for jar in asked.jars.values():
        try:
            refuse_wrong_jar(jar)
        except ArtifactWrong as reason:
            wrong.append(str(reason))
    if wrong:
        return lines.refused("jars", "; ".join(wrong))
    return lines.ok("jars", ", ".join(PurePosixPath(path).name for path in asked.jars))


def merged_line(lines: Lines, wanted: Wanted | NotWired) -> Check:
    """Answers the line for what is to be merged into the files there."""
    if isinstance(wanted, NotWired):
        return lines.refused("wiring", str(wanted))
    changed = ", ".join(f"`{path}`" for path in wanted.changed)
    return lines.ok("wiring", f"changes {changed}" if changed else "nothing is missing")


def machine_lines(
    lines: Lines, asked: Asked, facts: Reply, wanted: Wanted | NotWired
) -> Iterable[Check]:
    """Answers the lines for what the machine has."""
    if facts.one("conf"):
        yield lines.refused("paths", f"`{asked.base}/conf` should be a directory, is not")
        return
    yield paths_line(lines, facts, f"{asked.base}/conf")
    yield from _other_version_lines(lines, asked, facts)
    yield _space(lines, asked, facts, wanted)
    for path in facts.all("open"):
        detail = f"`{path}` holds a password and everybody may read it: run `chmod o-rwx {path}`"
        yield lines.warning("password", detail)
    for path in dict.fromkeys(facts.all("shared")):
        detail = f"`{path}` is the same file, and that Tomcat runs: give each a file of its own"
        yield lines.refused("shared files", detail)
    if isinstance(wanted, Wanted) and wanted.renews_manager:
        yield lines.warning("session manager", RENEWED)
    if asked.wiring.context:
        for descriptor in facts.all("descriptor"):
            detail = f"`{descriptor}` names a Manager too, and an application's own comes first"
            yield lines.warning("session manager", detail)
    if facts.one("unreadable"):
        yield lines.refused("going back", f"cannot read `{facts.one('unreadable')}`")
    else:
        yield lines.ok("going back", "a copy of every file is kept before it is changed")


def _other_version_lines(lines: Lines, asked: Asked, facts: Reply) -> Iterable[Check]:
    """Two versions of one library in one Tomcat: which classes are loaded would be chance."""
    products = {product_of(PurePosixPath(path).name): path for path in asked.jars}
    for jar in facts.all("jar"):
        name = PurePosixPath(jar).name
        own = products.get(product_of(name))
        if own is not None and PurePosixPath(own).name != name:
            detail = f"`{jar}` is another version of `{own}`: remove it first, with Tomcat stopped"
            yield lines.refused("other versions", detail)
    for said in facts.all("home_digest"):
        digest, _, jar = said.partition(" ")
        place = f"lib/{PurePosixPath(jar).name}"
        if place in asked.jars and digest != asked.jars[place].sha256:
            yield lines.refused("other versions", f"`{jar}` is another file of the same name")


def _space(lines: Lines, asked: Asked, facts: Reply, wanted: Wanted | NotWired) -> Check:
    """What is there is copied; what is new lies in the store and for a moment beside its place."""
    here = set(facts.all("here"))
    needed = sum(number_of(size) for size in facts.all("bytes"))
    changed = asked.paths if isinstance(wanted, NotWired) else wanted.changed
    for path in changed:
        jar = asked.jars.get(path)
        if jar is not None:
            size = _size_of(jar)
            needed += size if jar.sha256 in here else 2 * size
        elif isinstance(wanted, Wanted):
            needed += 2 * len(wanted.files[path])
    free = min((number_of(said, -1) for said in facts.all("free_kb")), default=-1)
    return space_line(lines, str(free) if free >= 0 else "", needed)


def _size_of(jar: Jar) -> int:
    try:
        return Path(jar.path).stat().st_size
    except OSError:
        return 0  # said by `jar_line`
