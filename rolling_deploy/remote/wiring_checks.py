"""What a preflight of a wiring says: jars, the files to merge, places, who else, the way back."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from rolling_deploy.remote import artifact as local
from rolling_deploy.remote.artifact import ArtifactWrong
from rolling_deploy.remote.quoting import quote
from rolling_deploy.remote.script import Reply, number_of
from rolling_deploy.remote.service_checks import Lines, paths_line, space_line
from rolling_deploy.remote.tomcat_version import FIRST_GRACEFUL
from rolling_deploy.remote.wiring_files import Asked, NotWired, Wanted
from rolling_deploy.remote.wiring_marks import Mark, clashes, read_mark
from rolling_deploy.rollout.observed import Check
from rolling_deploy.settings import Jar, TomcatSettings

RENEWED = (
    "this Manager stands in `conf/context.xml` with other settings, which are replaced as a whole: "
    "sessions under another prefix or in another database are not found any more"
)
_VERSIONED = re.compile(r"(?P<product>.+?)[-_]v?\d[\w.+-]*")
"""`redisson-all-3.50.0` is a version of `redisson-all`."""


@dataclass(frozen=True, slots=True)
class Shared:
    """Whose a Tomcat is besides ours, and what its machine cannot tell.

    Attributes:
        own: what this inventory wants of it.
        marks: path and text of what the setups of other inventories left there.
        undated: files whose time is later than now.
    """

    own: Mark
    marks: tuple[tuple[str, str], ...] = ()
    undated: tuple[str, ...] = ()


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
    if not wanted.changed and wanted.is_older:
        return lines.warning("wiring", wanted.not_read)
    changed = ", ".join(f"`{path}`" for path in wanted.changed)
    return lines.ok("wiring", f"changes {changed}" if changed else "nothing is missing")


def sharing_lines(lines: Lines, wanted: Wanted, shared: Shared) -> Iterable[Check]:
    """Answers the lines for other inventories that wire this Tomcat, and what cannot be told."""
    for path, text in shared.marks:
        other = read_mark(text)
        if other is None:
            detail = f"`{path}` is not understood: whether another inventory wires this Tomcat too"
            yield lines.not_checked("other inventories", detail)
        elif wishes := clashes(wanted, shared.own, other):
            detail = (
                f"`{other.application}` (inventory `{other.inventory}`) wires this Tomcat too, and "
                f"wants {'; '.join(wishes)}: each would undo the other; give both one `setup`, "
                f"or one of them none; or, if `{other.application}` is gone or does not want "
                f"this any more, remove `{path}` there"
            )
            yield lines.refused("other inventories", detail)
    for path in shared.undated:
        detail = f"whether Tomcat has read `{path}`, which is dated later than that machine's now"
        yield lines.not_checked("restart", detail)


def graceful_stop_lines(lines: Lines, wanted: Wanted, settings: TomcatSettings) -> Iterable[Check]:
    """Answers the lines for a graceful stop: whether this Tomcat knows it, and we wait for it."""
    asked_ms, limit_ms = wanted.asked.wiring.graceful_stop_ms, settings.stop_limit_ms
    if asked_ms is None:
        return
    if wanted.version is None:
        detail = (
            f"which Tomcat this is: `{settings.catalina_home}/lib/catalina.jar` does not tell; "
            f"before {FIRST_GRACEFUL} `gracefulStopAwaitMillis` does nothing"
        )
        yield lines.not_checked("graceful stop", detail)
    elif wanted.graceful_stop_ms is None:
        detail = (
            f"Tomcat {wanted.version} does not know `gracefulStopAwaitMillis` (those from "
            f"{FIRST_GRACEFUL} on do): it is left out, and a stop does not wait for requests"
        )
        yield lines.warning("graceful stop", detail)
    if asked_ms < limit_ms:
        yield lines.ok("stop limit")
        return
    detail = (
        f"`setup.graceful_stop_s` should be below `stop_limit_s` ({limit_ms / 1000:g}), is "
        f"{asked_ms / 1000:g}: a stop that waits for its requests would count as failed"
    )
    yield lines.refused("stop limit", detail)


def machine_lines(
    lines: Lines, asked: Asked, facts: Reply, wanted: Wanted | NotWired
) -> Iterable[Check]:
    """Answers the lines for what the machine has."""
    if facts.one("conf"):
        yield lines.refused("paths", f"`{asked.base}/conf` should be a directory, is not")
        return
    yield paths_line(lines, facts, f"{asked.base}/conf")
    for link in facts.all("astray"):
        detail = f"`{link}` is a link that leads nowhere: mend it, or remove it"
        yield lines.refused("links", detail)
    if isinstance(wanted, Wanted):
        yield from _next_lines(lines, facts, wanted)
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


def _next_lines(lines: Lines, facts: Reply, wanted: Wanted) -> Iterable[Check]:
    """What the next versions would be on the disk: never somebody else's, nor closed to Tomcat.

    A new file takes the place of the old one by a rename, so that none is ever half written; only
    root may give it the old one's owner.
    """
    base, changed = wanted.asked.base, set(wanted.changed)
    befores, afters = facts.all("unkept_before"), facts.all("unkept_after")
    for path, before, after in zip(facts.all("unkept"), befores, afters, strict=False):
        if path in changed:
            detail = (
                f"`{base}/{path}` belongs to `{before}`, and `{facts.one('user')}` could only "
                f"write one of `{after}`: log in as its owner or as root, or, if it may be "
                f"`{after}`'s, run `sudo chown {quote(after)} {quote(f'{base}/{path}')}` there"
            )
            yield lines.refused("owner", detail)
    for said in facts.all("unreadable_next"):
        path, _, how = said.partition(" ")
        if path in changed:
            detail = (
                f"Tomcat could not read the new `{base}/{path}`, which would be {how}: log in as "
                "Tomcat's user or one of its group"
            )
            yield lines.refused("new files", detail)


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
