"""Our serialVersionUID against the one of a real Java, for every class that it can load."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from rolling_deploy.serialization import Classes
from rolling_deploy.serialization.class_file import ClassFile
from rolling_deploy.serialization.serial_version import Lookup, Nature, nature_of, serial_version
from tests.serialization.java_programs import needs_java, run_java
from tests.session_manager import CACHE

pytestmark = needs_java
FOLDERS = (Path("/usr/share/tomcat10/lib"), Path("/usr/share/java"), CACHE)


@dataclass(frozen=True)
class ClassPath:
    """Several archives, the first one that has a class gives it."""

    parts: Sequence[Classes]

    def find(self, name: str) -> ClassFile | None:
        return next((found for each in self.parts if (found := each.find(name))), None)


@dataclass(frozen=True)
class Answers:
    """What Java said: the uid of each class by name."""

    base: dict[str, int]
    jars: dict[str, int]
    base_path: Classes
    path: ClassPath


def jars() -> list[Path]:
    """Answers Tomcat's jars, those of the system and the session manager's, each once."""
    found = [path for folder in FOLDERS if folder.is_dir() for path in sorted(folder.glob("*.jar"))]
    by_file = {path.resolve(): path for path in found if path.is_file()}
    return sorted(by_file)


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Answers]:
    out = tmp_path_factory.mktemp("versions")
    assert "done" in run_java("Versions", out, *jars())
    with ExitStack() as opened:
        base = Classes(opened.enter_context((out / "base.jar").open("rb")))
        rest = [Classes(opened.enter_context(jar.open("rb"))) for jar in jars()]
        said, of_jars = said_in(out / "base.txt"), said_in(out / "jars.txt")
        yield Answers(said, of_jars, base, ClassPath([base, *rest]))


def said_in(path: Path) -> dict[str, int]:
    lines = (line.split(" ") for line in path.read_text(encoding="utf-8").splitlines())
    return {name: int(uid) for uid, name in lines}


def differences(said: dict[str, int], path: Lookup) -> tuple[list[str], int, int]:
    """Answers the classes where we differ, how many declare nothing, how many are not known."""
    wrong, computed, unknown = [], 0, 0
    for name, uid in said.items():
        found = path.find(name)
        assert found is not None, name
        version = serial_version(found, nature_of(name, path))
        computed += not version.declared and version.uid not in {0, None}
        unknown += version.uid is None
        if version.uid not in {uid, None}:
            wrong.append(f"{name}: Java says {uid}, we say {version.uid}")
    return wrong, computed, unknown


def test_every_serializable_class_of_java_base_has_javas_version(answers: Answers) -> None:
    wrong, computed, unknown = differences(answers.base, answers.base_path)
    print(f"java.base: {len(answers.base)} classes, {computed} computed, {unknown} set by code")
    assert wrong == []
    assert len(answers.base) > 500
    assert computed > 100
    assert unknown == 0


def test_every_serializable_class_of_the_jars_has_javas_version(answers: Answers) -> None:
    if not answers.jars:
        pytest.skip(f"no jars in {', '.join(map(str, FOLDERS))}")
    wrong, computed, unknown = differences(answers.jars, answers.path)
    counts = f"{len(answers.jars)} classes, {computed} computed, {unknown} set by code"
    print(f"{len(jars())} jars: {counts}")
    assert wrong == []
    assert computed > 0
    assert unknown * 100 <= len(answers.jars)


def test_exactly_the_serializable_classes_of_java_base_are_taken_for_serializable(
    answers: Answers,
) -> None:
    natures = {name: nature_of(name, answers.base_path) for name in answers.base_path.names()}
    assert Nature.UNKNOWN not in natures.values()
    ours = {name for name, nature in natures.items() if nature is not Nature.PLAIN}
    assert ours - {"module-info"} == set(answers.base)
