"""The long form: `make fuzz SECONDS=60` searches every target for so long and prints figures.

With atheris the search is led by what code an input reaches; without it (it has no wheel for
every Python) inputs are changed blindly, and that is said.
"""

from __future__ import annotations

import argparse
import random
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.fuzz.targets import Target

ROOT = Path(__file__).resolve().parents[2]
MORE_S = 120
"""Beyond the time asked for: starting, loading, shrinking."""


def targets() -> dict[str, Target]:
    """Answers the targets. Not at the top: atheris must see our code being imported."""
    from tests.fuzz.targets import TARGETS

    return TARGETS


@dataclass(frozen=True, slots=True)
class Figures:
    """What came of one target."""

    executions: int
    seconds: float
    crashes: tuple[bytes, ...]
    said: str = ""


def search_blindly(name: str, seconds: float, seed: int) -> Figures:
    """Change inputs by chance."""
    from tests.fuzz.changing import changed

    target, chance = targets()[name], random.Random(seed)
    begun, count, crashes = time.monotonic(), 0, list[bytes]()
    while time.monotonic() - begun < seconds and len(crashes) < 10:
        data = changed(target, chance)
        count += 1
        try:
            target.run(data)
        except Exception as error:  # noqa: BLE001 # whatever a target must not raise
            crashes.append(data)
            print(f"  {type(error).__name__}: {error}", file=sys.stderr)
    return Figures(count, time.monotonic() - begun, tuple(crashes))


def search_led(name: str, seconds: float, seed: int) -> Figures:
    """Let atheris lead, in a process of its own: libFuzzer ends the one it runs in."""
    with tempfile.TemporaryDirectory() as place:
        corpus, found = Path(place, "corpus"), Path(place, "found")
        corpus.mkdir()
        found.mkdir()
        target = targets()[name]
        for number, data in enumerate(target.seeds):
            (corpus / str(number)).write_bytes(data)
        words = "".join(f'"{_escaped(word)}"\n' for word in target.words)
        Path(place, "words").write_text(words, encoding="ascii")
        argv = [sys.executable, "-m", "tests.fuzz", "--child", name, f"{corpus}"]
        argv += [f"-max_total_time={round(seconds)}", f"-seed={seed}", "-print_final_stats=1"]
        argv += [f"-artifact_prefix={found}/", "-timeout=30", "-rss_limit_mb=4096"]
        argv += [f"-dict={place}/words"] if words else []
        begun = time.monotonic()
        ran = subprocess.run(
            argv, cwd=ROOT, capture_output=True, check=False, timeout=seconds + MORE_S
        )
        said = ran.stderr.decode("utf-8", "replace")
        stat = re.search(r"number_of_executed_units: +(\d+)", said)
        crashes = tuple(path.read_bytes() for path in sorted(found.iterdir()))
        took_s = time.monotonic() - begun
        if stat is None and not crashes:
            raise SystemExit(f"{name}: atheris did not run\n{said[-2000:]}")
        return Figures(int(stat[1]) if stat else 0, took_s, crashes, said[-3000:])


def _escaped(word: bytes) -> str:
    """libFuzzer's own form of a dictionary."""
    return "".join(f"\\x{byte:02x}" for byte in word)


def child(name: str, arguments: list[str]) -> None:
    """Run libFuzzer over one target; ends this process."""
    # Not by name: it is there only where `make fuzz` could install it.
    atheris: Any = import_module("atheris")

    # Only our own code: what third parties do with an input leads nowhere that we could mend.
    with atheris.instrument_imports(include=["rolling_deploy"]):
        run = targets()[name].run

    def once(data: bytes) -> None:
        run(data)

    atheris.Setup([sys.argv[0], *arguments], once)
    atheris.Fuzz()


def main() -> int:
    """Search every target, or those that are named."""
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2], sys.argv[3:])
        return 0
    options = argparse.ArgumentParser(prog="python -m tests.fuzz")
    options.add_argument("--seconds", type=float, default=60, help="for each target")
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("names", nargs="*", metavar="TARGET", help=", ".join(targets()))
    chosen = options.parse_args()
    unknown = [name for name in chosen.names if name not in targets()]
    if unknown:
        options.error(f"no target {', '.join(unknown)}; there are {', '.join(targets())}")
    is_led = find_spec("atheris") is not None
    if not is_led:
        print("atheris is not installed (no wheel for this Python?): inputs are changed blindly")
    total, seconds, failed = 0, 0.0, 0
    for name in chosen.names or targets():
        search = search_led if is_led and targets()[name].is_led else search_blindly
        figures = search(name, chosen.seconds, chosen.seed)
        total, seconds = total + figures.executions, seconds + figures.seconds
        failed += len(figures.crashes)
        print(
            f"{name:22} {figures.executions:>10} executions {figures.seconds:>6.0f} s "
            f"{len(figures.crashes)} crashes",
            flush=True,
        )
        for data in figures.crashes:
            print(f'    ("{name}", {data!r}),\n{figures.said}')
    print(f"{total} executions in {seconds:.0f} s, {failed} crashes")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
