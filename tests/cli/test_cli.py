"""The command line without any machine: help, usage, bad input, where things are written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rolling_deploy.cli import cli

ROOT = Path(__file__).resolve().parent.parent.parent


def run(*words: str, cwd: Path | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    """Run the program as a person would, without a terminal."""
    return subprocess.run(
        [sys.executable, "-m", "rolling_deploy", *words],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=60,
        check=False,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), **env},
    )


def test_help_names_every_command() -> None:
    ended = run("--help")
    assert ended.returncode == 0
    assert all(name in ended.stdout for name in cli.commands)


def test_the_version_is_printed() -> None:
    ended = run("--version")
    assert ended.returncode == 0
    assert ended.stdout.startswith("rolling-deploy, version ")


@pytest.mark.parametrize("words", [(), ("--no-such-option",), ("no-such-command",), ("run",)])
def test_wrong_usage_ends_with_2_and_says_so_on_stderr(words: tuple[str, ...]) -> None:
    ended = run(*words)
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert "Usage" in ended.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("plan", "--release", "2.0"),
        ("run", "--release", "2.0", "--yes"),
        ("status",),
        ("resume", "--yes"),
        ("abort", "--yes"),
        ("adopt", "--yes"),
        ("unadopt", "--yes"),
        ("unlock", "--yes"),
    ],
)
def test_a_missing_inventory_ends_with_3_and_the_four_answers(
    words: tuple[str, ...], tmp_path: Path
) -> None:
    ended = run(*words, cwd=tmp_path)
    assert ended.returncode == 3
    assert ended.stdout == ""
    assert ended.stderr.startswith("error: ")
    assert "inventory.yaml" in ended.stderr
    assert "site: nothing was touched" in ended.stderr


def test_every_problem_of_the_inventory_is_told_at_once(tmp_path: Path) -> None:
    text = (ROOT / "inventory.example.yaml").read_text(encoding="utf-8")
    bad = tmp_path / "inventory.yaml"
    bad.write_text(text + "\nhelth: {}\nwaves: 2\n", encoding="utf-8")
    ended = run("plan", "--release", "2.0", cwd=tmp_path)
    assert ended.returncode == 3
    assert "did you mean `health`" in ended.stderr
    assert "waves" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_the_inventory_comes_from_the_environment_too(tmp_path: Path) -> None:
    ended = run("status", cwd=tmp_path, ROLLING_DEPLOY_INVENTORY="elsewhere.yaml")
    assert ended.returncode == 3
    assert "elsewhere.yaml" in ended.stderr


def test_with_json_the_error_is_on_stdout_for_programs_and_on_stderr_for_people(
    tmp_path: Path,
) -> None:
    inventory = tmp_path / "inventory.yaml"
    inventory.write_text(_unreachable(tmp_path), encoding="utf-8")
    words = ("run", "--release", "2.0", "--yes", "--json", "--state-dir", str(tmp_path / "state"))
    ended = run(*words, cwd=tmp_path)
    assert ended.returncode == 6, ended.stderr
    error = json.loads(ended.stdout.splitlines()[-1])
    assert error["event"] == "error"
    assert error["exit_code"] == 6
    assert error["site"] == "nothing was touched"
    assert error["next"]
    assert ended.stderr.startswith("error: cannot reach ")


def test_a_load_balancer_that_does_not_exist_cannot_be_declared_off(tmp_path: Path) -> None:
    inventory = tmp_path / "inventory.yaml"
    inventory.write_text(_unreachable(tmp_path), encoding="utf-8")
    words = ("plan", "--release", "2.0", "--without", "lb9", "--state-dir", str(tmp_path / "state"))
    ended = run(*words, cwd=tmp_path)
    assert ended.returncode == 2
    assert "lb9" in ended.stderr
    assert "lb1" in ended.stderr


def _unreachable(tmp_path: Path) -> str:
    """An inventory whose machines refuse every connection."""
    key = tmp_path / "key"
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True
    ) if Path("/usr/bin/ssh-keygen").exists() else key.write_text("")
    (tmp_path / "known_hosts").write_text("")
    return f"""
application: shop
ssh: {{user: deploy, key: {key}, known_hosts: {tmp_path / "known_hosts"}, connect_timeout_s: 2}}
hosts:
  lb1: {{address: 127.0.0.1, port: 1}}
  web1: {{address: 127.0.0.1, port: 1}}
nginx: {{file: /etc/nginx/conf.d/shop.upstream.conf}}
load_balancers: [{{name: lb1}}]
upstreams: [{{name: shop}}]
upgrade:
  strategy: release
  artifact: "app-{{release}}.tar.gz"
  root: /srv/app
  restart: ["appctl", "restart"]
health: {{path: /health}}
backends:
  - {{name: app1, host: web1, address: "10.0.0.1:8080", upgrade: {{root: /srv/app1}}}}
  - {{name: app2, host: web1, address: "10.0.0.1:8081", upgrade: {{root: /srv/app2}}}}
"""
