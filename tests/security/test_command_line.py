"""What a person or a pipeline hands over, and a terminal of any encoding."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from rolling_deploy.cli import _with_options
from tests.rig_tools import ROOT
from tests.security.hostile import WORDS


def command(*words: str | bytes, **variables: str) -> subprocess.CompletedProcess[bytes]:
    """Run the command line in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    argv: list[str | bytes] = [sys.executable, "-m", "rolling_deploy", *words]
    return subprocess.run(argv, capture_output=True, check=False, timeout=120, env=environment)


def test_a_letter_that_the_terminal_lacks_does_not_end_the_command(tmp_path: Path) -> None:
    path = tmp_path / "inventar-\u00fc\u4e16.yaml"
    path.write_text("application: '\u00fc b'\n", "utf-8")
    for encoding in ("ascii", "latin-1", "utf-8"):
        ended = command("plan", "--release", "1", "-i", str(path), PYTHONIOENCODING=encoding)
        assert ended.returncode == 3, ended.stderr
        assert b"Traceback" not in ended.stderr
        assert b":1: application: should be a name" in ended.stderr


def test_an_inventory_of_any_name_is_named_and_steers_nothing(tmp_path: Path) -> None:
    for name in (b"a\x1b[31mb.yaml", b"a\nb::error::.yaml", b"a\xffb.yaml", b"##[error]x.yaml"):
        path = os.fsencode(tmp_path) + b"/" + name
        for words in (["plan", "--release", "1"], ["status"], ["run", "--release", "1", "--yes"]):
            ended = command(*words, b"-i", path)
            assert ended.returncode == 3, ended.stderr
            assert b"\x1b" not in ended.stderr
            assert b"##[" not in ended.stderr
            assert b"Traceback" not in ended.stderr
            assert not [row for row in ended.stderr.split(b"\n") if row.strip().startswith(b"::")]


@pytest.mark.parametrize("word", [w for w in WORDS if w and "\udcff" not in w and len(w) < 1_000])
def test_advice_to_paste_means_the_same_inventory_whatever_it_is_called(word: str) -> None:
    """Also with a backslash in its name, which a substitution would take for a reference."""
    advice = _with_options("rolling-deploy resume", Path(word), Path(f"/a/{word}"))
    assert advice.startswith("rolling-deploy resume -i ")
    script = f"{advice.replace('rolling-deploy', 'set --', 1)}\n" + 'printf "%s\\0" "$@"'
    said = subprocess.run(["sh", "-c", script], capture_output=True, check=True).stdout
    expected = ["resume", "-i", str(Path(word)), "--state-dir", str(Path(f"/a/{word}"))]
    assert said.split(b"\0")[:-1] == [one.encode() for one in expected]
