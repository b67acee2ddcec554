"""Secrets planted wherever one may be kept: none is ever written down, shown, or passed on."""

from __future__ import annotations

import base64
import gzip
import os
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

import pytest

from rolling_deploy.demo import readiness
from rolling_deploy.demo.artifacts import write_tar
from rolling_deploy.demo.fleet import FleetShape
from rolling_deploy.errors import InventoryWrong
from rolling_deploy.inventory import load_inventory
from rolling_deploy.remote.health_answer import judge, sent_secrets, without
from rolling_deploy.remote.http import HttpAnswer
from rolling_deploy.settings import HealthSettings, VersionSource
from tests.rig.fixtures import rig, stand_fixture
from tests.rig_tools import ROOT, Command, Ended, Rig

__all__ = ["rig"]

stand = stand_fixture(FleetShape(backends=2, load_balancers=2, start_delay_ms=50))

OPERATOR = "keeper-of-secrets"
"""Stands in the arguments of the one process that was given the secrets."""
STORE_VARIABLE = "SHOP_SESSION_PASSWORD"
SECRETS = {
    "session store password": "S3cr3t-store-9f1c77aa",
    "bearer token": "S3cr3t-bearer-51d0b2ce",
    "basic password": "S3cr3t-basic-7733ab10",
    "cookie": "S3cr3t-cookie-0a1b2c3d",
    "key of another header": "S3cr3t-apikey-deadbeef",
    "unrelated variable": "S3cr3t-cloud-4242cafe",
}
BASIC = base64.b64encode(f"probe:{SECRETS['basic password']}".encode()).decode()


def needles(rig: Rig) -> dict[str, bytes]:
    """Answers what must be found nowhere: the secrets as they stand, and as they are written."""
    found = {name: secret.encode() for name, secret in SECRETS.items()}
    found["basic credentials"] = BASIC.encode()
    found["basic password, encoded"] = BASIC.rstrip("=")[-20:].encode()
    key = (rig.fleet.directory / "ssh" / "id_ed25519").read_bytes().splitlines()
    found["private key"] = key[2]
    return found


def build_echo(folder: Path, version: str, *, is_broken: bool) -> None:
    """A release that repeats every header it was sent, in each answer, as debug pages do."""
    app = files("rolling_deploy.demo").joinpath("app.py").read_text(encoding="utf-8")
    plain = '{"status": "up", "version": self.version, "pid": os.getpid()}'
    assert plain in app
    loud = '{"heard": dict(request.headers), "version": self.version}'
    app = app.replace(plain, loud)
    if is_broken:
        begins = "        match request.method, request.path:\n"
        assert begins in app
        refusal = '        return Reply(401, {"heard": dict(request.headers)})\n'
        app = app.replace(begins, refusal + begins)
    with (folder / f"app-{version}.tar.gz").open("wb") as raw:
        with gzip.GzipFile("", "wb", 1, raw, mtime=0) as packed:
            write_tar(packed, {"app.py": app.encode(), "VERSION": f"{version}\n".encode()})


@dataclass
class Sampler:
    """Looks at the arguments and variables of every process on this machine, all the time."""

    wanted: Mapping[str, bytes]
    found: set[str] = field(default_factory=set)
    seen_ours: int = 0
    _is_over: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def watching(self) -> Iterator[None]:
        thread = threading.Thread(target=self._watch, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._is_over.set()
            thread.join(20)

    def _watch(self) -> None:
        while not self._is_over.wait(0.01):
            for folder in Path("/proc").glob("[0-9]*"):
                if int(folder.name) >= os.getpid() or folder.name == str(os.getpid()):
                    self._look(folder)

    def _look(self, folder: Path) -> None:
        with suppress(OSError):
            line = (folder / "cmdline").read_bytes()
            self.seen_ours += b"rolling-deploy:" in line
            self._search(f"arguments of {line[:80]!r}", line)
            # What the operator was given, it has; nobody it starts, and nothing over there, has.
            if OPERATOR.encode() not in line and int(folder.name) != os.getpid():
                self._search(f"variables of {line[:80]!r}", (folder / "environ").read_bytes())

    def _search(self, where: str, content: bytes) -> None:
        self.found |= {f"{name} in {where}" for name, x in self.wanted.items() if x in content}


@dataclass
class Scene:
    """A fleet with secrets in its inventory, and everything that its operator said."""

    rig: Rig
    inventory: Path
    sampler: Sampler
    said: list[tuple[str, Ended]] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)

    def do(self, *words: str, **variables: str) -> Ended:
        """Run a command as it is, with these variables more."""
        argv = [sys.executable, "-m", "rolling_deploy", *words, "-i", str(self.inventory)]
        argv += ["--state-dir", str(self.rig.states / OPERATOR)]
        ours = {n: v for n, v in os.environ.items() if not n.startswith(("GITHUB_", "GITLAB_"))}
        command = Command(argv, {**ours, "PYTHONPATH": str(ROOT), **self.environment, **variables})
        try:
            ended = command.end()
        finally:
            command.kill()
        self.said.append((" ".join(words), ended))
        return ended


@pytest.fixture
def scene(rig: Rig, tmp_path: Path) -> Iterator[Scene]:
    fleet = rig.fleet
    port = fleet._ports.take()
    config = fleet.directory / "redis" / "locked.conf"
    password = SECRETS["session store password"]
    config.touch(mode=0o600)
    config.write_text(f'port {port}\nbind 127.0.0.1\nsave ""\nrequirepass {password}\n')
    log = fleet.directory / "redis" / "locked.log"
    pid = fleet.keeper.start([fleet.servers.redis.path, str(config)], log=log)
    readiness.wait_for("redis", port, b"PING\r\n", b"-NOAUTH", 60)
    build_echo(fleet.artifacts, "3.0-echo", is_broken=False)
    build_echo(fleet.artifacts, "3.1-broken", is_broken=True)
    headers = (
        f'  headers:\n    Authorization: "Bearer {SECRETS["bearer token"]}"\n'
        f'    Proxy-Authorization: "Basic {BASIC}"\n'
        f'    Cookie: "probe={SECRETS["cookie"]}; theme=dark"\n'
        f"    X-Api-Key: {SECRETS['key of another header']}\n"
    )
    inventory = rig.inventory(
        "secret",
        ("health:\n", f"health:\n{headers}"),
        (
            f"url: {fleet.redis_url}",
            f"url: redis://127.0.0.1:{port}/0\n  password_env: {STORE_VARIABLE}",
        ),
        ("rollout:\n", "rollout:\n  ready_limit_s: 4\n  attempts_max: 1\n"),
    )
    (tmp_path / "tmp").mkdir()
    environment = {
        STORE_VARIABLE: password,
        "CLOUD_SECRET_KEY": SECRETS["unrelated variable"],
        "TMPDIR": str(tmp_path / "tmp"),
        "GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md"),
    }
    sampler = Sampler(needles(rig))
    with sampler.watching():
        yield Scene(rig, inventory, sampler, environment=environment)
    os.kill(pid, 15)
    fleet.keeper.wait(pid, 10)


def expect_found_nowhere(scene: Scene, tmp_path: Path, since: float) -> None:
    """Look through everything that was said and written."""
    wanted = needles(scene.rig)
    leaks = []
    for words, ended in scene.said:
        for name, needle in wanted.items():
            if needle in (ended.stdout + ended.stderr).encode():
                leaks.append(f"{name} in what `{words}` said")
    planted = {scene.inventory.name, "locked.conf", "id_ed25519"}
    places = [scene.rig.fleet.directory, tmp_path]
    # Where a machine's `mktemp` puts things, whose life is short: nothing may be left.
    places += [p for p in Path("/tmp").glob("tmp.*") if p.stat().st_mtime >= since]
    count = 0
    for place in places:
        for path in [place, *place.rglob("*")]:
            if path.is_symlink() or not path.is_file() or path.name in planted:
                continue
            count += 1
            content = path.read_bytes()
            leaks += [f"{name} in {path}" for name, x in wanted.items() if x in content]
    assert not leaks, leaks
    assert count > 50, "the fleet's own files were looked at"
    assert not scene.sampler.found, scene.sampler.found
    assert scene.sampler.seen_ours > 0, "our remote commands were seen"
    print(f"{len(wanted)} secrets, {len(scene.said)} commands, {count} files: found nowhere")


@pytest.mark.rig
@pytest.mark.timeout(900)
def test_no_secret_is_found_anywhere_after_good_and_bad_rollouts(
    scene: Scene, tmp_path: Path
) -> None:
    since = time.time()  # noqa: TID251 # compared with the times of files
    good, bad = "3.0-echo", "3.1-broken"
    plan = scene.do("plan", "--release", good)
    assert plan.exit_code == 0, plan
    scene.do("plan", "--release", good, "--json")
    done = scene.do("run", "--release", good, "--yes", "--output", "plain")
    assert done.exit_code == 0, done
    assert "session store" not in done.stderr.lower() or "not checked" not in done.stderr
    status = scene.do("status")
    assert status.exit_code == 0, status
    scene.do("status", "--json")
    halted = scene.do("run", "--release", bad, "--yes", "--output", "github")
    assert halted.exit_code == 4, halted
    assert "(hidden)" in halted.stderr, "the answer that repeats what it was sent was shown"
    assert "should be 200, is 401" in halted.stderr
    scene.do("status", ROLLING_DEPLOY_DEBUG="1")
    again = scene.do("resume", "--yes", "--output", "json", ROLLING_DEPLOY_DEBUG="1")
    assert again.exit_code == 4, again
    back = scene.do("abort", "--yes", "--output", "gitlab")
    assert back.exit_code == 0, back
    # The wrong password, and none: the server's refusal is told, what was sent is not.
    wrong = {STORE_VARIABLE: SECRETS["unrelated variable"]}
    refused = scene.do("run", "--release", bad, "--yes", "--output", "json", **wrong)
    assert refused.exit_code == 8, refused
    expect_found_nowhere(scene, tmp_path, since)


def test_the_search_finds_what_is_there(scene: Scene, tmp_path: Path) -> None:
    """The same search, with one secret let out: it must be found."""
    (tmp_path / "leak").write_text(f"x {SECRETS['cookie']} y")
    scene.do("status")
    with pytest.raises(AssertionError, match="cookie in"):
        expect_found_nowhere(scene, tmp_path, 0)


HEADERS = {
    "Authorization": f"Basic {BASIC}",
    "Cookie": f"sid={SECRETS['cookie']}; theme=dark",
    "X-Api-Key": SECRETS["key of another header"],
    "Accept": "application/json",
    "X-Probe": "1",
}


def test_what_is_hidden_is_every_value_that_was_sent_and_its_parts() -> None:
    hidden = sent_secrets(HEADERS)
    for part in (BASIC, SECRETS["basic password"], SECRETS["cookie"], f"Basic {BASIC}"):
        assert part in hidden
    assert "1" not in hidden
    assert "Basic" not in hidden
    assert without(hidden, "1 Basic x") == "1 Basic x"


@pytest.mark.parametrize("at", [0, 150, 190, 5_000])
def test_an_answer_that_repeats_what_it_was_sent_is_shown_without_it(at: int) -> None:
    """Also where the answer is cut for showing: not even the beginning of a secret is left."""
    body = b"x" * at + f"you sent {SECRETS['cookie']} and {SECRETS['basic password']}".encode()
    body += b'{"version": "' + SECRETS["key of another header"].encode() + b'"}'
    health = HealthSettings(
        headers=HEADERS, version=VersionSource(pattern='"version": "([^"]*)"'), status=(200,)
    )
    for status in (200, 500):
        judged = judge(health, HttpAnswer(status, {}, body, 1), HttpAnswer(200, {}, body, 1), "2")
        for secret in SECRETS.values():
            assert secret[:10] not in judged.detail
            assert secret not in str(judged)


@pytest.mark.parametrize(
    ("wrong", "key"),
    [
        ("url: redis://:{secret}@localhost/0", "session_store"),
        ("url: redis://user:{secret}@localhost:x/0", "session_store"),
        ("url: {secret}", "session_store"),
        ("url: redis://localhost\n  password: {secret}", "session_store"),
        ("url: redis://localhost\n  password_env: '{secret}!'", "session_store"),
        ("headers: {{Authorization: 'Bearer {secret}\u00e9'}}", "health"),
        ("headers: {{'X:Y': {secret}}}", "health"),
        ("headers: [{secret}]", "health"),
        ("path: '/a b'\n  headers: {{A: [{secret}]}}", "health"),
    ],
)
def test_a_wrong_inventory_is_told_without_its_secrets(
    tmp_path: Path, wrong: str, key: str
) -> None:
    path = tmp_path / "inventory.yaml"
    secret = SECRETS["bearer token"]
    path.write_text(f"application: shop\n{key}:\n  {wrong.format(secret=secret)}\n", "utf-8")
    with pytest.raises(InventoryWrong) as caught:
        load_inventory(path)
    told = "\n".join([str(caught.value), caught.value.where, *caught.value.problems])
    assert "inventory.yaml:" in told
    assert secret not in told
