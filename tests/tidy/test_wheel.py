"""What is installed holds every file that the program reads beside its own modules."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.docs import ROOT

LIMIT_S = 240
PACKAGE = ROOT / "rolling_deploy"
BUILDERS = ("pip", "hatchling")


@pytest.fixture(scope="module")
def contents(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of the wheel as it would be released, by their paths in it."""
    missing = [name for name in BUILDERS if find_spec(name) is None]
    if missing:
        pytest.skip(f"not installed, so that no wheel can be built: {', '.join(missing)}")
    place = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation"]
    build += ["--no-index", "--disable-pip-version-check", "--wheel-dir", str(place), str(ROOT)]
    ended = subprocess.run(
        build, check=False, capture_output=True, text=True, timeout=LIMIT_S, cwd=place
    )
    assert ended.returncode == 0, f"{ended.stdout[-2000:]}\n{ended.stderr[-2000:]}"
    (wheel,) = place.glob("rolling_deploy-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def expected(folder: Path, pattern: str) -> dict[str, bytes]:
    """Answers the files of the checkout as they should be in the wheel."""
    found = {
        f"rolling_deploy/{path.relative_to(folder).as_posix()}": path.read_bytes()
        for path in folder.glob(pattern)
    }
    assert found, f"nothing is {folder}/{pattern}"
    return found


@pytest.mark.parametrize("pattern", ["remote/scripts/*.sh", "demo/appctl.sh", "**/*.py"])
def test_every_file_of_the_package_is_in_the_wheel(
    contents: dict[str, bytes], pattern: str
) -> None:
    wanted = expected(PACKAGE, pattern)
    assert {name: contents.get(name) for name in wanted} == wanted


def test_the_template_is_in_the_wheel_where_the_program_looks_for_it(
    contents: dict[str, bytes],
) -> None:
    template = (ROOT / "templates" / "upstream.conf.j2").read_bytes()
    assert contents["rolling_deploy/templates/upstream.conf.j2"] == template


def test_the_wheel_holds_the_program_and_nothing_of_its_tests(contents: dict[str, bytes]) -> None:
    outside = {name for name in contents if not name.startswith("rolling_deploy")}
    assert not outside
    (entries,) = [text for name, text in contents.items() if name.endswith("entry_points.txt")]
    assert b"rolling-deploy = rolling_deploy.cli:main" in entries
