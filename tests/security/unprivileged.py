"""A fleet whose SSH user is nobody special: what needs root goes through a documented sudoers file.

The user, its sudoers file and a stand-in for `systemctl` exist only in a mount namespace of the
SSH server that is started for the test: nothing of the machine's own is touched, and nothing can
be left behind.
"""

from __future__ import annotations

import os
import pwd
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from rolling_deploy.demo import readiness
from rolling_deploy.demo.fleet import DemoFleet, FleetShape
from rolling_deploy.demo.servers import Servers
from rolling_deploy.demo.ssh_access import make_key
from tests.programs import write_program
from tests.rig_tools import ROOT, Rig
from tests.sshd import SSHD

USER = "rd-test-deploy"
DOCUMENT = ROOT / "docs" / "security.md"
SYSTEMCTL = Path("/usr/bin/systemctl")


def why_not() -> str:
    """Answers why it cannot be tested here, or nothing."""
    if os.geteuid() != 0:
        return "needs root: another user, and a mount namespace"
    if SSHD is None:
        return "no OpenSSH sshd on this machine"
    for program in ("sudo", "unshare", "visudo"):
        if shutil.which(program, path="/usr/bin:/usr/sbin") is None:
            return f"{program} is not installed"
    if not SYSTEMCTL.exists():
        return f"no {SYSTEMCTL} to put a stand-in over"
    tried = subprocess.run(["unshare", "-m", "true"], check=False, capture_output=True)
    return "" if tried.returncode == 0 else "no mount namespaces here"


def documented(number: int) -> list[str]:
    """Answers the entries of one sudoers block of the documentation, in order."""
    blocks = re.findall(
        r"^```sudoers\n(.*?)^```$", DOCUMENT.read_text("utf-8"), re.MULTILINE | re.DOTALL
    )
    return [line for line in blocks[number].splitlines() if line and not line.startswith("#")]


@dataclass
class Scene:
    """The fleet, and the entries of sudoers that its user has.

    Attributes:
        entries: as documented, with this fleet's places in them.
    """

    rig: Rig
    folder: Path
    entries: list[str]

    def allow(self, entries: list[str]) -> None:
        """Write the sudoers file: these entries and no others."""
        text = (
            'Defaults env_reset\nDefaults secure_path="/usr/sbin:/usr/bin:/sbin:/bin"\n'
            "root ALL=(ALL:ALL) ALL\n" + "".join(f"{entry}\n" for entry in entries)
        )
        # In place: the namespace shows this very file.
        with (self.folder / "sudoers").open("r+") as file:
            file.truncate()
            file.write(text)
        subprocess.run(
            ["visudo", "-c", "-q", "-f", str(self.folder / "sudoers")], check=True, timeout=30
        )


def _entries(fleet: DemoFleet) -> list[str]:
    (balancer,) = fleet.balancers
    nginx = f"{fleet.servers.nginx.path} -p {balancer.prefix} -c {balancer.prefix}/nginx.conf"
    places = (
        ("/usr/sbin/nginx -", f"{nginx} -"),
        # No systemd runs nginx here, so the reload is nginx's own.
        ("/usr/bin/systemctl reload nginx", f"{nginx} -s reload"),
        ("/etc/nginx/conf.d/", f"{balancer.upstream_file.parent}/"),
        ("shop.upstream.conf", balancer.upstream_file.name),
        ("deploy ALL=", f"{USER} ALL="),
    )
    text = "\n".join(documented(0))
    for old, new in places:
        text = text.replace(old, new)
    found = text.splitlines()
    for node in fleet.nodes:
        units = (entry.replace("deploy ", f"{USER} ", 1) for entry in documented(1))
        found += [entry.replace("shop.service", f"{node.name}.service") for entry in units]
    return found


def _inventory(fleet: DemoFleet, folder: Path, port: int) -> str:
    (balancer,) = fleet.balancers
    hosts = "".join(f"  {m.name}: {{address: 127.0.0.1, port: {port}}}\n" for m in fleet.machines)
    backends = "".join(
        f"  - name: {n.name}\n    host: {n.machine.name}\n    address: {n.address}\n"
        f"    upgrade:\n      strategy: release\n      root: {n.root}\n"
        f'      process: "--port {n.port}"\n'
        f"      stop: [systemctl, stop, {n.name}.service]\n"
        f"      start: [systemctl, start, {n.name}.service]\n"
        for n in fleet.nodes
    )
    return f"""\
application: shop
ssh:
  user: {USER}
  key: {folder}/id
  known_hosts: {folder}/known_hosts
  sudo: true
hosts:
{hosts}
nginx:
  other_masters: ignore
upgrade:
  strategy: release
  artifact: artifacts/app-{{release}}.tar.gz
health: {{path: /health, version: {{json: version}}}}
warm_up: {{paths: [/cart]}}
load_balancers:
  - name: lb1
    nginx:
      file: {balancer.upstream_file}
      generation_port: {balancer.generation_port}
      config: {balancer.prefix}/nginx.conf
      prefix: {balancer.prefix}
upstreams:
  - name: shop
backends:
{backends}"""


def _system_files(folder: Path, uid: int) -> None:
    """The machine's own accounts and one more, and an sshd that lets that one in."""
    for name, line in (
        ("passwd", f"{USER}:x:{uid}:{uid}::{folder}/home:/bin/sh"),
        ("group", f"{USER}:x:{uid}:"),
        ("shadow", f"{USER}:*:19000:0:99999:7:::"),
    ):
        copy = folder / name
        copy.touch(mode=0o640 if name == "shadow" else 0o644)
        copy.write_text(Path("/etc", name).read_text("utf-8").rstrip("\n") + f"\n{line}\n", "utf-8")
        copy.chmod(0o640 if name == "shadow" else 0o644)
    (folder / "sudoers").touch()
    (folder / "sudoers").chmod(0o440)
    (folder / "home").mkdir()
    os.chown(folder / "home", uid, uid)


STAND_IN = """#!/bin/sh
# A service manager for units that are demo applications: `systemctl stop|start NAME.service`.
[ "$#" = 2 ] && [ "$(id -u)" = 0 ] || { echo "stand-in: not like this: $*" >&2; exit 1; }
echo "$*" >> FOLDER/systemctl.log
case $1 in stop | start) ;; *) exit 1 ;; esac
name=${2%.service}
for root in FLEET/*/"$name"; do exec FLEET/appctl "$root" "$1"; done
"""

START = """#!/bin/sh
set -e
for name in passwd group shadow sudoers; do mount --bind FOLDER/$name /etc/$name; done
mount -t tmpfs -o mode=755 none /etc/sudoers.d
mount --bind FOLDER/systemctl /usr/bin/systemctl
exec SSHD -D -e -f FOLDER/sshd_config
"""


def _start_sshd(fleet: DemoFleet, folder: Path, port: int) -> None:
    client, host = make_key(folder / "id"), make_key(folder / "host_key")
    (folder / "authorized_keys").write_text(client + "\n")
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {host}\n")
    (folder / "sshd_config").write_text(
        f"ListenAddress 127.0.0.1\nPort {port}\nHostKey {folder}/host_key\nPidFile none\n"
        f"AuthorizedKeysFile {folder}/authorized_keys\nStrictModes no\nUsePAM no\n"
        "PermitRootLogin no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n"
        f"AllowUsers {USER}\n"
    )
    assert SSHD is not None
    for name, text in (("systemctl", STAND_IN), ("start", START)):
        filled = text.replace("FOLDER", str(folder)).replace("FLEET", str(fleet.directory))
        write_program(folder / name, filled.replace("SSHD", SSHD))
    fleet.keeper.start(["unshare", "-m", str(folder / "start")], log=folder / "sshd.log")
    readiness.wait_for_ssh(port, 30)


def _give(fleet: DemoFleet, uid: int) -> None:
    """What the documentation says must be the user's own: the state directories, the releases."""
    for balancer in fleet.balancers:
        place = balancer.upstream_file.parent / ".rolling-deploy"
        place.mkdir(mode=0o700)
        os.chown(place, uid, uid)
        assert balancer.upstream_file.stat().st_uid == 0
        assert not balancer.upstream_file.parent.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    for node in fleet.nodes:
        for place in (node.root, node.root / "releases"):
            os.chown(place, uid, uid)


def _free_uid() -> int:
    taken = {entry.pw_uid for entry in pwd.getpwall()}
    return next(uid for uid in range(61_100, 61_900) if uid not in taken)


@contextmanager
def running(place: Path) -> Iterator[Scene]:
    """Bring the fleet up; `place` and what is above it can be entered by everybody."""
    servers = Servers.find("real")
    if servers.nginx.is_embedded:
        pytest.skip("no nginx of its own on this machine")
    shape = FleetShape(backends=3, load_balancers=1, start_delay_ms=50)
    fleet = DemoFleet(place / "fleet", servers, shape)
    folder, uid = place / "user", _free_uid()
    folder.mkdir(mode=0o755)
    with fleet:
        port = fleet._ports.take()
        _system_files(folder, uid)
        _give(fleet, uid)
        _start_sshd(fleet, folder, port)
        fleet.inventory_path.write_text(_inventory(fleet, folder, port), "utf-8")
        rig = Rig(fleet, place / "states")
        scene = Scene(rig, folder, _entries(fleet))
        try:
            yield scene
        finally:
            rig.end_commands()
            print((folder / "sshd.log").read_text("utf-8")[-2000:], file=sys.stderr)
