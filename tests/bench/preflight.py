"""What a preflight costs beside plain ssh: both ask every machine of a large fleet, in turn.

Plain ssh is the least anybody can pay: log in to every machine, 16 at a time, run one command
there, and take its answer. The preflight logs in as well, and then checks everything it checks.
"""

from __future__ import annotations

import shlex
import statistics

from rolling_deploy.demo.artifacts import build_release
from rolling_deploy.demo.fleet import FleetShape
from rolling_deploy.demo.servers import Servers
from tests.bench.contestants import metered, tool_argv
from tests.bench.fleet import BenchFleet, ssh_config

AT_ONCE = 16
"""As many as the tool opens at once."""
RELEASE = "9.0"


def preflight(hosts: int, rounds: int) -> str:
    """Answers one line: the medians of `plan` and of plain ssh on so many machines, their ratio.

    Raises:
        SystemExit: one of them did not do what it should.
    """
    shape = FleetShape(backends=hosts - 2, load_balancers=2)
    with BenchFleet(None, Servers.find(), shape) as fleet:
        build_release(fleet.artifacts, RELEASE)
        _run(fleet, "adopt", tool_argv(fleet, "adopt", "--yes", "--output", "plain"))
        config = fleet.directory / "ssh_config"
        # A connection of its own each time, as the tool's are.
        text = ssh_config(fleet).replace("ControlMaster auto", "ControlMaster no")
        config.write_text(text, encoding="utf-8")
        names = " ".join(machine.name for machine in fleet.machines)
        ssh = f"ssh -n -F {shlex.quote(str(config))} HOST uptime"
        loop = f"printf '%s\\n' {names} | xargs -P {AT_ONCE} -I HOST {ssh}"
        commands = {
            "plan": tool_argv(fleet, "plan", "--release", RELEASE),
            "ssh": ["bash", "-c", f"set -o pipefail; {loop}"],
        }
        took: dict[str, list[dict[str, float]]] = {name: [] for name in commands}
        for number in range(rounds):
            for name, argv in commands.items():
                took[name].append(_run(fleet, f"{name}-{number}", argv))
    wall = {name: statistics.median(run["wall_s"] for run in runs) for name, runs in took.items()}
    cpu = {name: statistics.median(run["cpu_s"] for run in runs) for name, runs in took.items()}
    texts = [f"{name} {wall[name]:.1f} s (CPU {cpu[name]:.1f} s)" for name in commands]
    ratio = wall["plan"] / wall["ssh"]
    return f"preflight of {hosts} machines: {' against '.join(texts)}, ratio {ratio:.2f}"


def _run(fleet: BenchFleet, name: str, argv: list[str]) -> dict[str, float]:
    said = fleet.directory / f"{name}.out"
    cost = metered(argv, said, fleet.directory / f"{name}.json")
    if cost["status"] != 0:
        raise SystemExit(f"{argv}: {said.read_text(errors='replace')[-2000:]}")
    return cost
