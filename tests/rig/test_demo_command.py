"""`rolling-deploy demo` as a person tries it: one command, and the two lines that matter."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from rolling_deploy.demo.servers import PREFERENCE_VARIABLE
from tests.fleet import servers_or_skip
from tests.rig_tools import LIMIT_S, ROOT

pytestmark = pytest.mark.timeout(600)


@pytest.mark.parametrize("kind", ["as found", pytest.param("embedded", marks=pytest.mark.every)])
def test_the_demo_rolls_a_release_over_a_fleet_and_nobody_notices(kind: str) -> None:
    servers_or_skip("embedded")
    ours = {n: v for n, v in os.environ.items() if not n.startswith(("GITHUB_", "GITLAB_"))}
    ours.pop(PREFERENCE_VARIABLE, None)
    if kind == "embedded":
        ours[PREFERENCE_VARIABLE] = kind
    argv = [sys.executable, "-m", "rolling_deploy", "demo", "--backends", "2", "--output", "plain"]
    ended = subprocess.run(
        argv,
        check=False,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        env={**ours, "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
    )
    told = f"{ended.stdout[-4000:]}\n{ended.stderr[-4000:]}"
    assert ended.returncode == 0, told
    requests = re.search(r"^requests  ([\d,]+) seen, 0 failed, ", ended.stdout, re.MULTILINE)
    sessions = re.search(r"^sessions  (\d+) followed, 0 lost; ", ended.stdout, re.MULTILINE)
    assert requests, told
    assert sessions, told
    assert int(requests[1].replace(",", "")) > 0
    assert int(sessions[1]) > 0
    # The load balancers' access logs tell of exactly the requests that the clients sent.
    logs = re.search(r"^logs      ([\d,]+) seen, 0 failed, ", ended.stdout, re.MULTILINE)
    assert logs, told
    assert logs[1] == requests[1]
    assert re.search(r"^  prober: [\d,]+ requests, 0 failed$", ended.stdout, re.MULTILINE), told
    assert ("(embedded, " in ended.stderr) or kind == "as found", told
    for line in ("requests  ", "answers   "):
        assert not re.search(f"^{line}", ended.stderr, re.MULTILINE), "a report is data: stdout"
