"""Prints what a roll costs with this tool and with a plain ssh script, with ratios.

Both roll releases over the same fleet of real servers in turn, under the same load. A run counts
only when every link and upstream file is right afterwards and the load saw no failure.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

from rolling_deploy.demo.fleet import FleetShape
from rolling_deploy.demo.servers import Servers, real_sshd
from rolling_deploy.errors import RollingDeployError
from tests.bench.contestants import SCRIPT, TOOL, Figures, measure, metered, tool_argv
from tests.bench.fleet import BenchFleet
from tests.bench.preflight import preflight

HELP_RATIO_MAX = 3.0
HELP_RUNS = 9
"""Of each, in turn. The real CPython cost is in the medians, other work on the machine is not."""
PROGRAMS = ("ssh", "bash", "curl", "redis-cli")

ROWS: tuple[tuple[str, str, Callable[[Figures, int], float | None]], ...] = (
    ("whole command", "s", lambda f, n: f.wall_s),
    ("waits that are nobody's fault", "s", lambda f, n: f.waits_s),
    ("over the waits", "s/node", lambda f, n: (f.wall_s - f.waits_s) / n),
    ("  of which from the first wave on", "s/node", lambda f, n: f.roll_s and f.roll_s / n),
    ("CPU here", "s/node", lambda f, n: f.cpu_s / n),
    ("peak memory here", "MB", lambda f, n: f.peak_mb),
    ("nginx reloads", "", lambda f, n: float(f.reloads)),
    ("SSH connections", "", lambda f, n: float(f.connections)),
    ("SSH channels with a command", "/node", lambda f, n: f.commands / n),
    ("SSH channels with a question to a node", "/node", lambda f, n: f.forwards / n),
)


def options() -> argparse.Namespace:
    """Answers what is to be measured; `make bench N=6` sets the size too."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    env = os.environ.get
    parser.add_argument("--backends", type=int, default=int(env("N", "3")))
    parser.add_argument("--load-balancers", type=int, default=int(env("LOAD_BALANCERS", "2")))
    parser.add_argument("--rounds", type=int, default=int(env("ROUNDS", "2")))
    parser.add_argument("--artifact-mb", type=float, default=5.0)
    parser.add_argument(
        "--preflight", type=int, nargs="+", metavar="HOSTS", help="only `plan` on so many machines"
    )
    parser.add_argument("--only", choices=(TOOL, SCRIPT), help="measure only one of the two")
    return parser.parse_args()


def missing() -> list[str]:
    """Answers what the comparison needs and this machine lacks."""
    absent = [name for name in PROGRAMS if shutil.which(name) is None]
    return absent if real_sshd() else ["sshd", *absent]


def rounds(fleet: BenchFleet, wanted: argparse.Namespace) -> dict[str, list[Figures]]:
    """Let both roll in turn, the other one first in every second round."""
    names = [wanted.only] if wanted.only else [TOOL, SCRIPT]
    runs: dict[str, list[Figures]] = {name: [] for name in names}
    for turn in range(wanted.rounds):
        for who in names if turn % 2 == 0 else reversed(names):
            number = sum(map(len, runs.values())) + 1
            figures = measure(fleet, who, number, int(wanted.artifact_mb * 1_000_000))
            runs[who].append(figures)
            over = (figures.wall_s - figures.waits_s) / wanted.backends
            state = f"does NOT count: {figures.wrong}" if figures.wrong else "counts"
            took = f"{figures.wall_s:.1f} s, {over:.2f} s/node over the waits"
            say(f"round {turn + 1}, {who}: {took}; {state}")
    return runs


def table(runs: dict[str, list[Figures]], backends: int) -> bool:
    """Print the medians of the runs that count; answers whether each has one."""
    valid = {who: [f for f in figures if not f.wrong] for who, figures in runs.items()}
    tool, script = valid.get(TOOL, []), valid.get(SCRIPT, [])
    say(f"\n{'':42}{TOOL:>22}{SCRIPT:>22}   ratio")
    for name, unit, value in ROWS:
        ours, ours_text = _median([value(f, backends) for f in tool])
        theirs, theirs_text = _median([value(f, backends) for f in script])
        ratio = f"{ours / theirs:.2f}" if ours is not None and theirs else "-"
        say(f"{name + (f' ({unit})' if unit else ''):42}{ours_text:>22}{theirs_text:>22}   {ratio}")
    say(f"runs that count: {len(tool)} and {len(script)}; median (min-max)")
    return all(valid.values())


def _median(values: list[float | None]) -> tuple[float | None, str]:
    known = sorted(value for value in values if value is not None)
    if not known:
        return None, "-"
    middle = statistics.median(known)
    return middle, f"{middle:.2f} ({known[0]:.2f}-{known[-1]:.2f})"


def help_ratio() -> float:
    """Answers how much longer `--help` takes than importing click, medians of runs in turn."""
    commands = {
        "rolling-deploy --help": [sys.executable, "-m", "rolling_deploy", "--help"],
        "python -c 'import click'": [sys.executable, "-c", "import click"],
    }
    took: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(HELP_RUNS):
        for name, argv in commands.items():
            began = time.perf_counter()
            subprocess.run(argv, stdout=subprocess.DEVNULL, timeout=60, check=True)
            took[name].append(time.perf_counter() - began)
    medians = {name: statistics.median(times) for name, times in took.items()}
    ours, theirs = medians.values()
    texts = [f"`{name}` {median * 1000:.0f} ms" for name, median in medians.items()]
    say(f"{' against '.join(texts)}: ratio {ours / theirs:.2f} (at most {HELP_RATIO_MAX:.0f})")
    return ours / theirs


def adopt(fleet: BenchFleet) -> None:
    """Make the upstream files ours once, before anything is measured."""
    argv = tool_argv(fleet, "adopt", "--yes", "--output", "plain")
    cost = metered(argv, fleet.directory / "adopt.out", fleet.directory / "adopt.json")
    if cost["status"] != 0:
        raise SystemExit((fleet.directory / "adopt.out").read_text(encoding="utf-8"))


def say(text: str) -> None:
    """Print a line at once."""
    print(text, flush=True)


def main() -> int:
    """Measure and print."""
    wanted = options()
    is_quick = help_ratio() <= HELP_RATIO_MAX
    absent = missing()
    if absent:
        say(f"no comparison: this machine lacks {', '.join(absent)} (`make servers` installs them)")
        return 0 if is_quick else 1
    if wanted.preflight:
        for hosts in wanted.preflight:
            say(preflight(hosts, wanted.rounds))
        return 0
    shape = FleetShape(backends=wanted.backends, load_balancers=wanted.load_balancers)
    with BenchFleet(None, Servers.find(), shape) as fleet:
        if fleet.ssh.sshd is None:
            say(f"no comparison: OpenSSH's sshd {fleet.ssh.refusal}")
            return 0 if is_quick else 1
        say("\n".join(fleet.servers.describe()))
        balancers = f"{wanted.load_balancers} load balancers"
        say(f"{wanted.backends} nodes, {balancers}, {wanted.rounds} rounds")
        adopt(fleet)
        is_whole = table(rounds(fleet, wanted), wanted.backends)
    return 0 if is_quick and is_whole else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except RollingDeployError as error:
        sys.exit(error.what)
