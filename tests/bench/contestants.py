"""The two that are compared, each as a command, and what one run of each came to."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rolling_deploy.demo.artifacts import build_release
from rolling_deploy.demo.load import Load, LoadShape
from rolling_deploy.inventory import load_inventory
from tests.bench.fleet import BenchFleet, DrainWatch, app_waits_ms, plan, ssh_config

HERE = Path(__file__).parent
RUN_LIMIT_S = 900
SCRIPT_DRAIN_S = 1.0
TOOL, SCRIPT = "rolling-deploy", "plain ssh"
LOAD = LoadShape(fast=8, slow=2, uploads=0, slow_ms=(200, 400))
"""Nothing longer than the script's fixed drain, or it would fail its users."""


@dataclass(frozen=True, slots=True)
class Figures:
    """One run.

    Attributes:
        waits_s: what no tool could have saved: drain, the applications' stop and start, and what
            is configured (health streak, warm-up, the script's sleep).
        roll_s: from the first wave to the end, without those waits; None for the script.
        wrong: why the run does not count, or empty.
    """

    wall_s: float
    waits_s: float
    cpu_s: float
    peak_mb: float
    reloads: int
    connections: int
    commands: int
    forwards: int
    roll_s: float | None = None
    wrong: str = ""


def measure(fleet: BenchFleet, who: str, number: int, artifact_bytes: int) -> Figures:
    """Roll a release that no machine has seen over the fleet, under load."""
    release = f"9.{number}"
    artifact = build_release(fleet.artifacts, release, padding_bytes=artifact_bytes)
    files, events, counts = fleet.upstream_files(), fleet.app_events(), fleet.counts()
    load, watch = Load(fleet.urls, LOAD), DrainWatch(fleet)
    load.start()
    output = fleet.directory / f"bench-{number}.out"
    if who == TOOL:
        argv = tool_argv(fleet, "run", "--release", release, "--yes", "--output", "json")
    else:
        argv = script_argv(fleet, release, artifact)
    cost = metered(argv, output, fleet.directory / f"bench-{number}.json")
    summary = load.stop()
    watch.stop()
    apps_ms = app_waits_ms(events, fleet.app_events())
    now = fleet.counts()
    if who == TOOL:
        waits_ms, roll_ms = tool_waits(fleet, output, watch)
    else:
        waits_ms, roll_ms = round(SCRIPT_DRAIN_S * 1000) * len(fleet.nodes), None
    waits_s = (apps_ms + waits_ms) / 1000
    wrong = "" if cost["status"] == 0 else f"it ended with {cost['status']}: {_tail(output)}"
    wrong = wrong or not_right(fleet, release, files, is_tool=who == TOOL)
    if not wrong and not summary.is_clean:
        wrong = "; ".join(summary.lines())
    figures = Figures(
        wall_s=cost["wall_s"],
        waits_s=waits_s,
        cpu_s=cost["cpu_s"],
        peak_mb=cost["peak_kb"] / 1024,
        reloads=now["reloads"] - counts["reloads"],
        connections=now["connections"] - counts["connections"],
        commands=now["commands"] - counts["commands"],
        forwards=now["forwards"] - counts["forwards"],
        wrong=wrong,
    )
    return figures if roll_ms is None else replace(figures, roll_s=(roll_ms - apps_ms) / 1000)


def tool_argv(fleet: BenchFleet, command: str, *words: str) -> list[str]:
    """Answers a command of ours as a CI job gives it."""
    places = ("--inventory", str(fleet.inventory_path), "--state-dir", f"{fleet.directory}/state")
    return [sys.executable, "-m", "rolling_deploy", command, *places, *words]


def script_argv(fleet: BenchFleet, release: str, artifact: Path) -> list[str]:
    """Answers the script's command."""
    config, assignments = fleet.directory / "ssh_config", fleet.directory / "plan.sh"
    config.write_text(ssh_config(fleet), encoding="utf-8")
    assignments.write_text(plan(fleet, config, SCRIPT_DRAIN_S), encoding="utf-8")
    return ["bash", str(HERE / "plain_ssh.sh"), str(assignments), release, str(artifact)]


def metered(argv: list[str], output: Path, report: Path) -> dict[str, Any]:
    """Run it under the meter, everything it says into `output`; answers the meter's report."""
    meter = [sys.executable, "-I", "-S", str(HERE / "meter.py"), str(report), *argv]
    # As an installed package: its modules are compiled once and kept, outside the checkout.
    env = {**os.environ, "PYTHONPYCACHEPREFIX": str(output.parent / "pycache")}
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    with output.open("wb") as said:
        subprocess.run(meter, stdout=said, stderr=said, env=env, timeout=RUN_LIMIT_S, check=True)
    found: dict[str, Any] = json.loads(report.read_text(encoding="utf-8"))
    return found


def not_right(fleet: BenchFleet, release: str, files: Mapping[str, bytes], *, is_tool: bool) -> str:
    """Answers what is not as it should be after a run, or nothing.

    The script has to leave the very bytes it found; the tool stamps its file anew, so there what
    nginx reads has to be the same.
    """
    for node in fleet.nodes:
        if fleet.release_of(node.name) != release:
            return f"{node.name} is on {fleet.release_of(node.name)}, should be on {release}"
    for name, now in fleet.upstream_files().items():
        read = servers_of if is_tool else bytes
        if read(now) != read(files[name]):
            return f"the upstream file of {name} is not as it was"
    return ""


def servers_of(content: bytes) -> bytes:
    """Answers the lines that name an application node."""
    lines = content.splitlines()
    return b"\n".join(line for line in lines if line.strip().startswith(b"server 127."))


def tool_waits(fleet: BenchFleet, output: Path, watch: DrainWatch) -> tuple[int, int]:
    """Answers the waits of the rollout beside the applications' own, and the roll without them.

    The drain counts for as long as a retiring worker was really there between the end of taking
    out and the intent to stop, not for as long as the tool waited.
    """
    events = [json.loads(line) for line in output.read_text().splitlines() if line[:1] == "{"]
    streak_ms = sum(
        (b.health.streak - 1) * b.health.interval_min_ms
        for b in load_inventory(fleet.inventory_path).backends.values()
    )
    drain_ms = warm_ms = began_ms = ended_ms = 0
    out_at: int | None = None
    steps: dict[int, str] = {}
    for event in events:
        fact, at = event.get("fact", {}), event.get("at_ms", 0)
        kind = event["event"]
        began_ms = began_ms or (at if kind == "claimed" else 0)
        ended_ms = at if kind == "closed" else ended_ms
        if kind == "intended":
            steps[event["seq"]] = fact["step"]["type"]
            if fact["step"]["type"] == "Activate" and out_at is not None:
                drain_ms += watch.within(out_at, at)
                out_at = None
        elif kind == "ended":
            step = steps.get(fact["of"], "")
            if step == "Apply":
                out_at = at
            elif step == "WarmUp":
                warm_ms += fact["result"]["took_ms"]
    waits_ms = drain_ms + streak_ms + warm_ms
    return waits_ms, ended_ms - began_ms - waits_ms


def _tail(output: Path) -> str:
    return " | ".join(output.read_text(errors="replace").splitlines()[-4:])[-1200:]
