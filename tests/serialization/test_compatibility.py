"""Each rule about changed classes, compared with what a real Java does with the same bytes."""

from __future__ import annotations

import base64
import io
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from rolling_deploy.serialization import Classes, Fate, Verdict, judge
from rolling_deploy.serialization.serial_version import nature_of, serial_version
from rolling_deploy.serialization.stream import read_stream
from tests.serialization.java_programs import needs_java, run_java
from tests.serialization.stories import STORIES, Story

pytestmark = needs_java
HEAD = "package {}; import java.io.*; import java.util.*;\n"
MAKE = """
class Make implements java.util.function.Supplier<Object> {{
    public Object get() {{ return {}; }}
}}"""


@dataclass(frozen=True)
class Told:
    """Attributes: `versions`: of each new class as Java answers it; None: not serializable."""

    stored: bytes
    answer: str
    release: Classes
    versions: dict[str, int | None]

    def verdicts(self) -> tuple[Verdict, ...]:
        return judge(read_stream(self.stored), self.release)


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Told]:
    """One Java compiles both versions of every story, writes with one and reads with the other."""
    root = tmp_path_factory.mktemp("stories")
    for name, story in STORIES.items():
        write(root / "old" / name, HEAD.format(name) + story.old + MAKE.format(story.makes))
        write(root / "new" / name, HEAD.format(name) + story.new)
    lines = run_java("Judge", root).splitlines()
    release = Classes(io.BytesIO(war(root / "new-classes")))
    versions = {
        name: None if uid == "none" else int(uid)
        for mark, name, uid in (line.split(" ", 2) for line in lines)
        if mark == "#"
    }
    told = {}
    for line in lines:
        if line.startswith("# "):
            continue
        name, text, answer = line.split(" ", 2)
        told[name] = Told(base64.b64decode(text), answer, release, versions)
    assert told.keys() == STORIES.keys()
    return told


def write(folder: Path, source: str) -> None:
    folder.mkdir(parents=True)
    (folder / "Story.java").write_text(source)


def war(folder: Path) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for path in sorted(folder.rglob("*.class")):
            archive.write(path, "WEB-INF/classes/" + path.relative_to(folder).as_posix())
    return packed.getvalue()


def subject(name: str, story: Story, verdicts: tuple[Verdict, ...]) -> Verdict:
    wanted = story.subject if "." in story.subject else f"{name}.{story.subject}"
    if story.subject.startswith("[L"):
        wanted = f"[L{name}.{story.subject[2:]};"
    if story.subject == "$Proxy":
        wanted = f"$Proxy({name}.Top)"
    return next(verdict for verdict in verdicts if verdict.name == wanted)


@pytest.mark.parametrize("name", STORIES)
def test_a_changed_class_fares_as_said(name: str, told: dict[str, Told]) -> None:
    story = STORIES[name]
    verdict = subject(name, story, told[name].verdicts())
    assert verdict.fate is story.fate, (verdict, told[name].answer)
    if story.fate not in {Fate.SURVIVES, Fate.GIVEN}:
        assert verdict.reasons


@pytest.mark.parametrize("name", STORIES)
def test_what_is_said_of_a_session_is_what_java_does_with_it(
    name: str, told: dict[str, Told]
) -> None:
    fates = {verdict.fate for verdict in told[name].verdicts()}
    answer, expected = told[name].answer, STORIES[name].reads
    assert answer.startswith("ok ") is (expected is not None), answer
    if expected is not None:
        assert expected in answer
        assert not any(fate.loses_sessions for fate in fates), (fates, answer)
    else:
        may = {Fate.DIFFERS, Fate.MISSING, Fate.MAY_FAIL, Fate.UNKNOWN}
        assert fates & may, answer


def test_every_class_of_the_stories_has_javas_version(told: dict[str, Told]) -> None:
    one = told["same"]
    wrong, unknown = [], []
    for name, uid in one.versions.items():
        nature = nature_of(name, one.release)
        found = one.release.find(name)
        assert found is not None
        version = serial_version(found, nature)
        if version.uid is None:
            unknown.append(name)
        elif version.uid != (uid or 0):
            wrong.append((name, uid, version, nature))
    assert wrong == []
    assert unknown == ["declared_by_code.Cart"]


def test_most_stories_are_decided_one_way_or_the_other(told: dict[str, Told]) -> None:
    open_ones = [s for s in STORIES.values() if s.fate in {Fate.MAY_FAIL, Fate.UNKNOWN}]
    refused = sum(each.answer.startswith("failed") for each in told.values())
    print(f"{len(told)} changes of classes: Java refuses {refused}, {len(open_ones)} left open")
    assert len(open_ones) < len(told) / 5
