"""A value of the inventory is refused with its line, or arrives exactly as it was written."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rolling_deploy.errors import InventoryWrong
from rolling_deploy.inventory import load_inventory
from rolling_deploy.settings import Inventory, ReleaseSettings, ServerSettings
from tests.security.hostile import SHOWN_HARM, WORDS

Get = Callable[[Inventory], Any]
VALUES = sorted({*WORDS, *SHOWN_HARM, "x" * 300, f"{'a' * 64}.example", "a\tb", "a/../b", "/a\\tb"})


def release_of(inventory: Inventory) -> ReleaseSettings:
    strategy = inventory.backends["app1"].strategy
    assert isinstance(strategy, ReleaseSettings)
    return strategy


def server_of(inventory: Inventory) -> ServerSettings:
    return inventory.backends["app1"].servers["shop"]


SLOTS: dict[str, Get] = {
    "application": lambda i: i.application,
    "ssh.user": lambda i: i.hosts["lb1"].user,
    "hosts.lb1.address": lambda i: i.hosts["lb1"].address,
    "nginx.file": lambda i: i.load_balancers["lb1"].file,
    "nginx.state_dir": lambda i: i.load_balancers["lb1"].state_dir,
    "nginx.binary": lambda i: i.load_balancers["lb1"].binary,
    "nginx.config": lambda i: i.load_balancers["lb1"].config,
    "nginx.prefix": lambda i: i.load_balancers["lb1"].prefix,
    "nginx.pid_file": lambda i: i.load_balancers["lb1"].pid_file,
    "nginx.test[]": lambda i: i.load_balancers["lb1"].test[0],
    "nginx.reload[]": lambda i: i.load_balancers["lb1"].reload[0],
    "upstreams[].options[]": lambda i: i.upstreams["shop"].options[0],
    "backends[].zone": lambda i: i.backends["app1"].zone,
    "backends[].servers.shop.address": lambda i: server_of(i).address,
    "backends[].servers.shop.parameters[]": lambda i: server_of(i).parameters[0],
    "backends[].upgrade.root": lambda i: release_of(i).root,
    "backends[].upgrade.state_dir": lambda i: release_of(i).state_dir,
    "upgrade.process": lambda i: release_of(i).process,
    "upgrade.stop[]": lambda i: release_of(i).stop[0],
    "upgrade.start[]": lambda i: release_of(i).start[0],
    "health.path": lambda i: i.backends["app1"].health.path,
    "health.host_header": lambda i: i.backends["app1"].health.host_header,
    "health.headers.X-A": lambda i: i.backends["app1"].health.headers["X-A"],
    "health.content": lambda i: i.backends["app1"].health.content,
    "warm_up.paths[]": lambda i: i.backends["app1"].warm_up.paths[0],
    "session_store.username": lambda i: i.session_store.username,
    "session_store.key_prefix": lambda i: i.session_store.key_prefix,
    "session_store.password_env": lambda i: i.session_store.password_env,
    "variables.a": lambda i: i.variables["a"],
}
MULTI_LINE = {"variables.a"}
"""A template may want line breaks; it cannot print them into nginx's file without quoting."""


def document(slot: str, value: str) -> str:
    """Answers a sound inventory with the value in one place, each key on a line of its own."""

    def at(name: str, sound: str) -> str:
        return json.dumps(value) if slot == name else sound

    return f"""\
application: {at("application", "shop")}
variables:
  a: {at("variables.a", "b")}
ssh:
  user: {at("ssh.user", "deploy")}
hosts:
  lb1:
    address: {at("hosts.lb1.address", "10.0.0.1")}
  web1: {{}}
nginx:
  file: {at("nginx.file", "/etc/nginx/conf.d/shop.conf")}
  state_dir: {at("nginx.state_dir", "/var/lib/rd")}
  binary: {at("nginx.binary", "/usr/sbin/nginx")}
  config: {at("nginx.config", "/etc/nginx/nginx.conf")}
  prefix: {at("nginx.prefix", "/etc/nginx")}
  pid_file: {at("nginx.pid_file", "/run/nginx.pid")}
  test: [{at("nginx.test[]", "nginx")}, -t]
  reload: [{at("nginx.reload[]", "nginx")}, -s, reload]
load_balancers:
  - name: lb1
upstreams:
  - name: shop
    options: [{at("upstreams[].options[]", "keepalive 16")}]
upgrade:
  strategy: release
  artifact: app-{{release}}.tar.gz
  process: {at("upgrade.process", "app")}
  stop: [{at("upgrade.stop[]", "x")}]
  start: [{at("upgrade.start[]", "x")}]
health:
  path: {at("health.path", "/")}
  host_header: {at("health.host_header", "shop.example")}
  headers:
    X-A: {at("health.headers.X-A", "b")}
  content: {at("health.content", "ok")}
warm_up:
  paths: [{at("warm_up.paths[]", "/")}]
session_store:
  url: redis://localhost
  username: {at("session_store.username", "shop")}
  key_prefix: {at("session_store.key_prefix", "'s:'")}
  password_env: {at("session_store.password_env", "PASSWORD")}
backends:
  - name: app1
    host: web1
    zone: {at("backends[].zone", "z")}
    servers:
      shop:
        address: {at("backends[].servers.shop.address", "'10.0.0.2:80'")}
        parameters: [{at("backends[].servers.shop.parameters[]", "resolve")}]
    upgrade:
      root: {at("backends[].upgrade.root", "/srv/app1")}
      state_dir: {at("backends[].upgrade.state_dir", "/srv/app1/.rd")}
  - name: app2
    host: web1
    servers:
      shop:
        address: 10.0.0.2:81
    upgrade:
      root: /srv/app2
"""


def test_the_sound_document_is_sound(tmp_path: Path) -> None:
    inventory = sound_inventory(tmp_path / "inventory.yaml")
    assert all(get(inventory) for get in SLOTS.values())


def sound_inventory(path: Path) -> Inventory:
    path.write_text(document("", ""))
    return load_inventory(path)


def loaded(path: Path) -> tuple[Inventory | None, tuple[str, ...]]:
    try:
        return load_inventory(path), ()
    except InventoryWrong as wrong:
        return None, wrong.problems


@pytest.mark.parametrize("slot", SLOTS)
def test_a_hostile_value_is_refused_with_its_line_or_arrives_as_it_is(
    tmp_path: Path, slot: str
) -> None:
    path = tmp_path / "inventory.yaml"
    refused = 0
    sound = SLOTS[slot](sound_inventory(path))
    is_path = str(sound).startswith("/")
    for value in (f"/{value}" for value in VALUES) if is_path else VALUES:
        text = document(slot, value)
        path.write_text(text, "utf-8", "surrogatepass")
        line = next(
            (n for n, row in enumerate(text.splitlines(), 1) if json.dumps(value) in row), 0
        )
        assert line, "each value stands on one line"
        inventory, problems = loaded(path)
        if inventory is None:
            refused += 1
            at_line = re.compile(rf".*inventory\.yaml:{line}: ")
            assert any(at_line.match(problem) for problem in problems), (value, problems)
            assert all(problem.isprintable() for problem in problems), problems
            continue
        # Two slashes of a path mean the same as one.
        assert re.sub("/+", "/", SLOTS[slot](inventory)) == re.sub("/+", "/", value)
        allowed = "\n\t" if slot in MULTI_LINE else ""
        odd = [c for c in value if unicodedata.category(c) in {"Cc", "Cs"} and c not in allowed]
        assert not odd, f"{slot} took {value!a}"
    assert refused > 10
