"""What a preflight learns of a real nginx, without changing anything."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from rolling_deploy.remote.nginx_facts import NginxFacts, checks
from rolling_deploy.rollout.observed import Verdict
from rolling_deploy.rollout.step import Outcome
from tests.local_connection import LocalConnection
from tests.nginx_machine import (  # noqa: F401 # `machine` is a fixture
    WORKERS,
    NginxMachine,
    is_alive,
    machine,
    pause,
    until,
)
from tests.programs import write_program

pytestmark = pytest.mark.timeout(120)


def facts_of(
    machine: NginxMachine, connection: LocalConnection | None = None, **changes: object
) -> NginxFacts:
    facts = machine.nginx(connection, **changes).facts()
    assert isinstance(facts, NginxFacts), facts
    return facts


def verdicts(
    machine: NginxMachine, facts: NginxFacts, **how: bool
) -> dict[str, tuple[Verdict, str]]:
    return {
        check.name: (check.verdict, check.detail)
        for check in checks(facts, machine.settings(), **how)
    }


def test_a_sound_nginx_has_nothing_refused(machine: NginxMachine) -> None:
    machine.publish("g1")
    connection = LocalConnection()
    facts = facts_of(machine, connection)
    assert connection.commands == 1
    assert facts.version.startswith("nginx/")
    assert (facts.master, facts.workers, facts.retiring) == (machine.master, WORKERS, 0)
    assert facts.exe == os.path.realpath(machine.binary)
    assert (facts.is_exe_changed, facts.pid_state, facts.test_passed) == (False, "ok", True)
    assert facts.dump is not None
    assert facts.dump.startswith(f"# configuration file {machine.config}:\n")
    assert f"# configuration file {machine.file}:\n{machine.text('g1').decode()}" in facts.dump
    assert (facts.edited, facts.touched, facts.live) == ((), (), "g1")
    (machine.root / "now").touch()
    assert abs(facts.clock_ms / 1000 - (machine.root / "now").stat().st_mtime) < 60
    said = verdicts(machine, facts)
    assert {verdict for verdict, _ in said.values()} <= {Verdict.OK, Verdict.WARNING}


def test_facts_change_nothing(machine: NginxMachine) -> None:
    def everything() -> dict[str, tuple[float, int]]:
        return {
            str(path): (path.stat().st_mtime, path.stat().st_ino)
            for path in machine.root.rglob("*")
            if path.is_file()
        }

    before, workers = everything(), machine.workers()
    facts_of(machine)
    machine.nginx().look()
    assert everything() == before
    assert machine.workers() == workers
    assert not machine.state_dir.exists()


def test_an_edit_not_loaded_yet_is_refused_until_a_person_accepts_it(
    machine: NginxMachine,
) -> None:
    pause(0.2)
    (machine.conf_d / "new.conf").write_text("upstream later { server 127.0.0.1:9; }\n")
    facts = facts_of(machine)
    assert facts.edited == (str(machine.conf_d / "new.conf"),)
    assert verdicts(machine, facts)["edits not loaded yet"][0] is Verdict.REFUSED
    accepted = verdicts(machine, facts, load_pending=True)["edits not loaded yet"]
    assert accepted[0] is Verdict.WARNING
    machine.reload()
    assert facts_of(machine).edited == ()


def test_an_edit_is_seen_although_a_worker_was_born_after_it(machine: NginxMachine) -> None:
    """A worker that crashed is born anew with the configuration in its master's memory."""
    pause(0.2)
    (machine.conf_d / "new.conf").write_text("upstream later { server 127.0.0.1:9; }\n")
    pause(0.2)
    victim = machine.workers()[0]
    os.kill(victim, signal.SIGKILL)
    until(lambda: len(machine.workers()) == WORKERS and victim not in machine.workers())
    assert facts_of(machine).edited == (str(machine.conf_d / "new.conf"),)


def test_a_copy_that_keeps_its_age_is_at_least_a_warning(machine: NginxMachine) -> None:
    other = with_another_site(machine)
    older = machine.root / "older"
    older.write_text("upstream older { server 127.0.0.1:9; }\n")
    os.utime(older, (1_000_000, 1_000_000))
    shutil.copystat(older, other)
    facts = facts_of(machine)
    assert (facts.edited, facts.touched, facts.rearranged) == ((), (str(other),), ())
    assert verdicts(machine, facts)["edits not loaded yet"][0] is Verdict.WARNING


def with_another_site(machine: NginxMachine) -> Path:
    """Add a file that is loaded, a moment before what a test does next."""
    other = machine.conf_d / "other.conf"
    other.write_text("upstream other { server 127.0.0.1:9; }\n")
    machine.reload()
    pause(0.2)
    return other


def test_a_file_that_was_removed_is_an_edit_not_loaded_yet(machine: NginxMachine) -> None:
    with_another_site(machine).unlink()
    facts = facts_of(machine)
    assert (facts.edited, facts.touched) == ((), ())
    assert facts.rearranged == (str(machine.conf_d),)
    verdict, detail = verdicts(machine, facts)["edits not loaded yet"]
    assert verdict is Verdict.REFUSED
    assert f"`{machine.conf_d}` (something was added, removed or renamed in it)" in detail
    machine.reload()
    assert facts_of(machine).rearranged == ()


def test_an_old_file_moved_in_is_an_edit_not_loaded_yet(machine: NginxMachine) -> None:
    older = machine.root / "older"
    older.write_text("upstream older { server 127.0.0.1:9; }\n")
    os.utime(older, (1_000_000, 1_000_000))
    pause(0.2)
    older.rename(machine.conf_d / "older.conf")
    assert facts_of(machine).rearranged == (str(machine.conf_d),)


@pytest.mark.parametrize("what", ["file", "folder"])
def test_a_link_that_leads_to_an_older_file_now_is_an_edit_not_loaded_yet(
    machine: NginxMachine, what: str
) -> None:
    for name in ("old", "new"):
        (machine.root / name).mkdir()
        text = f"upstream {name} {{ server 127.0.0.1:9; }}\n"
        (machine.root / name / "site.conf").write_text(text)
    link = machine.conf_d / "site.conf" if what == "file" else machine.root / "current"
    leaf = "/site.conf" if what == "file" else ""
    link.symlink_to(f"{machine.root}/new{leaf}")
    if what == "folder":
        included = f"include {machine.root}/current/*.conf;\n"
        (machine.conf_d / "current.conf").write_text(included)
    machine.reload()
    pause(0.2)
    assert facts_of(machine).edited == ()
    other = machine.root / "other"
    other.symlink_to(f"{machine.root}/old{leaf}")
    other.rename(link)
    facts = facts_of(machine)
    assert facts.edited == (str(link),)
    assert verdicts(machine, facts)["edits not loaded yet"][0] is Verdict.REFUSED


def test_what_we_wrote_ourselves_is_no_edit_and_hides_nobody_elses(machine: NginxMachine) -> None:
    other = with_another_site(machine)
    machine.publish("g1")
    until(lambda: not facts_of(machine).retiring)
    pause(0.2)
    for _ in range(2):
        assert machine.publish("g2", extra="nonsense;\n").outcome is Outcome.FAILED
    facts = facts_of(machine)
    assert (facts.edited, facts.touched, facts.rearranged) == ((), (), ())
    unloaded = machine.nginx(reload=("true",), prove_limit_ms=300)
    assert machine.publish("g3", nginx=unloaded).outcome is Outcome.FAILED
    facts = facts_of(machine)
    assert (facts.edited, facts.touched, facts.rearranged) == ((), (), ())
    other.unlink()
    assert facts_of(machine).rearranged == (str(machine.conf_d),)
    assert machine.publish("g2", extra="nonsense;\n").outcome is Outcome.FAILED
    assert facts_of(machine).rearranged == (str(machine.conf_d),)


def test_making_the_state_directory_among_the_sites_is_no_edit(machine: NginxMachine) -> None:
    pause(0.2)
    state = machine.conf_d / ".rolling-deploy" / "shop"
    state.mkdir(parents=True)
    if _born(state) == 0:
        pytest.skip("this file system keeps no time of birth")
    assert facts_of(machine, state_dir=str(state)).rearranged == ()


def _born(path: Path) -> int:
    said = subprocess.run(["stat", "-c", "%W", path], capture_output=True, check=True)
    return int(said.stdout)


def test_a_configuration_that_fails_its_test_is_refused_in_nginxs_words(
    machine: NginxMachine,
) -> None:
    (machine.conf_d / "new.conf").write_text("nonsense;\n")
    facts = facts_of(machine)
    assert facts.test_passed is False
    assert facts.dump is None
    verdict, detail = verdicts(machine, facts)["nginx test"]
    assert verdict is Verdict.REFUSED
    assert 'unknown directive "nonsense"' in detail


def test_a_missing_pid_file_is_refused_and_not_created(machine: NginxMachine) -> None:
    machine.pid_file.unlink()
    facts = facts_of(machine)
    said = verdicts(machine, facts)
    assert facts.pid_state == "missing"
    assert said["pid file"][0] is Verdict.REFUSED
    assert said["nginx test"][0] is Verdict.NOT_CHECKED
    assert not machine.pid_file.exists()


def test_a_stale_pid_file_is_refused_and_names_the_process(machine: NginxMachine) -> None:
    bystander = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        machine.pid_file.write_text(str(bystander.pid))
        verdict, detail = verdicts(machine, facts_of(machine))["pid file"]
        assert verdict is Verdict.REFUSED
        assert f"{bystander.pid} (" in detail
        assert "time.sleep" in detail
    finally:
        bystander.kill()
        bystander.wait(10)


def test_no_nginx_at_all_is_refused(machine: NginxMachine) -> None:
    os.kill(machine.master, signal.SIGTERM)
    until(lambda: not is_alive(machine.master))
    assert verdicts(machine, facts_of(machine))["nginx"][0] is Verdict.REFUSED


def test_a_second_master_is_refused_unless_a_person_said_to_ignore_it(
    machine: NginxMachine,
) -> None:
    with NginxMachine(machine.binary) as other:
        facts = facts_of(machine)
        assert other.master in {master.pid for master in facts.masters if master.kin == "other"}
        ignored = checks(facts, machine.settings(other_masters="ignore"))
        strict = checks(facts, machine.settings(other_masters="refuse"))
        name = "other nginx masters"
        assert [c.verdict for c in ignored if c.name == name] == [Verdict.WARNING]
        assert [c.verdict for c in strict if c.name == name] == [Verdict.REFUSED]


def test_a_binary_upgrade_under_way_is_refused_always(machine: NginxMachine) -> None:
    old = machine.master
    os.kill(old, signal.SIGUSR2)
    until(
        lambda: (
            machine.pid_file.exists() and machine.pid_file.read_text().strip() not in ("", str(old))
        )
    )
    machine.master = int(machine.pid_file.read_text())
    try:
        until(lambda: len(machine.workers()) == WORKERS)
        verdict, detail = verdicts(machine, facts_of(machine))["other nginx masters"]
        assert verdict is Verdict.REFUSED
        assert str(old) in detail
    finally:
        os.kill(old, signal.SIGTERM)
        until(lambda: not is_alive(old))


def test_a_program_replaced_on_disk_is_a_warning_and_the_running_one_tests(
    machine: NginxMachine, tmp_path: Path
) -> None:
    copy = tmp_path / "nginx"
    shutil.copy(machine.binary, copy)
    with NginxMachine(str(copy)) as other:
        copy.unlink()
        shutil.copy("/bin/false", copy)
        facts = facts_of(other)
        assert facts.is_exe_changed is True
        assert facts.test_passed is True
        assert verdicts(other, facts)["running program"][0] is Verdict.WARNING
        assert other.publish("g1").outcome.value == "done"


def test_a_generation_port_taken_by_something_else_is_refused(machine: NginxMachine) -> None:
    port = int(machine.backends[0].address.rpartition(":")[2])
    settings = machine.settings(generation_port=port)
    facts = facts_of(machine, generation_port=port)
    said = {check.name: check for check in checks(facts, settings)}
    assert facts.is_port_taken
    assert said["generation port"].verdict is Verdict.REFUSED
    assert not facts_of(machine).is_port_taken


def test_a_retiring_worker_is_told_beforehand(machine: NginxMachine) -> None:
    tunnel = machine.open_tunnel()
    machine.reload()
    facts = facts_of(machine)
    assert facts.retiring == 1
    assert verdicts(machine, facts)["earlier workers"][0] is Verdict.WARNING
    tunnel.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user needs root")
def test_what_an_ordinary_user_may_not_is_told_beforehand(machine: NginxMachine) -> None:
    facts = facts_of(machine, LocalConnection(user=65_534))
    said = verdicts(machine, facts)
    assert said["rights"][0] is Verdict.REFUSED
    assert "cannot be read" in said["rights"][1]
    assert said["running program"][0] is Verdict.NOT_CHECKED
    assert said["edits not loaded yet"][0] is Verdict.NOT_CHECKED


def test_what_sudo_refuses_is_told_beforehand(machine: NginxMachine, tmp_path: Path) -> None:
    stand_in = tmp_path / "sudo"
    write_program(
        stand_in,
        '#!/bin/sh\n[ "$1" = -n ] || exit 9\nif [ "$2" = -l ]; then\n'
        '    case "$*" in *"-s reload"*) exit 1 ;; *) exit 0 ;; esac\nfi\nshift 2\nexec "$@"\n',
    )
    connection = LocalConnection(
        sudo=True, environment={"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    )
    facts = facts_of(machine, connection)
    assert [command.split(":")[0] for command in facts.sudo_refused] == ["reload"]
    assert verdicts(machine, facts)["rights"][0] is Verdict.REFUSED


FREE = "\nSudoers entry:\n    RunAsUsers: ALL\n    Options: !authenticate\n    Commands:\n\tALL\n"
ASKING = "\nSudoers entry:\n    RunAsUsers: ALL\n    Commands:\n\tALL\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user needs root")
@pytest.mark.parametrize(
    ("listing", "asks"), [(FREE, False), (ASKING, True), (FREE + ASKING, True)]
)
def test_a_password_that_sudo_would_ask_for_is_told_beforehand(
    machine: NginxMachine, listing: str, asks: bool
) -> None:
    """`sudo -l COMMAND` succeeds also for what needs a password."""
    folder = machine.root / "bin"
    folder.mkdir()
    (folder / "listing").write_text(listing)
    stand_in = folder / "sudo"
    write_program(
        stand_in,
        f'#!/bin/sh\nif [ "$2" = -ll ]; then cat {folder}/listing\n'
        'elif [ "$2" = -l ]; then shift 3; echo "/usr/bin/$*"\nelse exit 1; fi\n',
    )
    path = f"{folder}:{os.environ['PATH']}"
    connection = LocalConnection(sudo=True, user=65_534, environment={"PATH": path})
    facts = facts_of(machine, connection)
    assert facts.sudo_refused == ()
    assert facts.sudo_unsure == ()
    assert any("/mv -f " in command for command in facts.sudo_asking) is asks
    assert ("asks for a password" in verdicts(machine, facts)["rights"][1]) is asks


def test_tools_that_are_missing_are_named(machine: NginxMachine, tmp_path: Path) -> None:
    for folder in ("/usr/bin", "/bin", "/usr/sbin", "/sbin"):
        for tool in Path(folder).glob("*"):
            link = tmp_path / tool.name
            if (
                tool.name not in {"flock", "bash", "curl", "wget", "python3"}
                and not link.is_symlink()
            ):
                link.symlink_to(tool)
    facts = facts_of(machine, LocalConnection(environment={"PATH": str(tmp_path)}))
    assert facts.tools_missing.startswith("flock bash, curl, wget or python3")
    assert verdicts(machine, facts)["tools"][0] is Verdict.REFUSED


def test_a_link_is_said_to_lead_where_it_does(machine: NginxMachine) -> None:
    real = machine.root / "shop.real"
    shutil.move(machine.file, real)
    machine.file.symlink_to(real)
    assert facts_of(machine).leads_to == str(real)


def test_a_pretest_tells_in_nginxs_words_and_leaves_nothing(
    machine: NginxMachine, tmp_path: Path
) -> None:
    connection = LocalConnection(environment={"TMPDIR": str(tmp_path)})
    nginx = machine.nginx(connection)
    frame = (
        "pid @WORKDIR@/pid; error_log @WORKDIR@/error.log; events {{}} "
        "http {{ access_log off; {} }}"
    )
    good = nginx.pretest(frame.format("upstream shop_app { server 127.0.0.1:9 down; }"))
    bad = nginx.pretest(frame.format("upstream shop_app { server 127.0.0.1:9 sideways; }"))
    assert good[0], good
    assert not bad[0]
    assert 'invalid parameter "sideways"' in bad[1]
    assert "@WORKDIR@/nginx.conf" in bad[1]
    assert not list(tmp_path.iterdir())
