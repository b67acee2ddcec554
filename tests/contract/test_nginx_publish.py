"""Publishing on a real nginx: what is proved, what is refused, and what is put back."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pytest

from rolling_deploy.remote.connection import Answer
from rolling_deploy.rollout.step import Outcome, Result
from tests.local_connection import LocalConnection
from tests.nginx_machine import (  # noqa: F401 # `machine` is a fixture
    WORKERS,
    NginxMachine,
    binaries,
    digest,
    is_alive,
    looked,
    machine,
    token,
    until,
)
from tests.programs import write_program

pytestmark = pytest.mark.timeout(120)


def test_a_published_generation_is_served_by_new_workers(machine: NginxMachine) -> None:
    before = machine.workers()
    result = machine.publish("g1", down=1)
    assert result.outcome is Outcome.DONE, result
    assert machine.file.read_bytes() == machine.text("g1", down=1)
    assert machine.served() == "g1"
    assert not set(before) & set(machine.workers(retiring=False))
    look = looked(machine.nginx())
    until(lambda: looked(machine.nginx()).seen.earlier_workers == 0)
    assert (look.seen.live, look.seen.is_settled, look.fence.epoch) == ("g1", True, 1)
    assert look.text == machine.text("g1", down=1)


def test_publishing_is_one_round_trip_and_so_is_looking(machine: NginxMachine) -> None:
    connection = LocalConnection()
    machine.publish("g1", nginx=machine.nginx(connection))
    assert connection.commands == 1
    machine.nginx(connection).look()
    assert connection.commands == 2


def test_the_same_text_again_only_reloads(machine: NginxMachine) -> None:
    machine.publish("g1")
    inode = machine.file.stat().st_ino
    before = set(machine.workers(retiring=False))
    result = machine.publish("g1")
    assert result.outcome is Outcome.DONE, result
    assert machine.file.stat().st_ino == inode
    assert not before & set(machine.workers(retiring=False))


def test_a_file_that_nginx_does_not_include_is_not_proved(machine: NginxMachine) -> None:
    elsewhere = machine.root / "not-included" / "shop.upstream.conf"
    elsewhere.parent.mkdir()
    nginx = machine.nginx(file=str(elsewhere), prove_limit_ms=1_000)
    text = machine.text("g1")
    result = nginx.apply(text, replaces="absent", generation="g1", adopt=False, token=token())
    assert result.outcome is Outcome.FAILED
    assert "reload not proved: the generation endpoint" in result.detail
    look = looked(nginx)
    assert (look.text, look.seen.live) == (text, None)


def test_a_listen_port_taken_by_another_process_is_not_proved(machine: NginxMachine) -> None:
    other = machine.backends[0].address
    result = machine.publish(
        "g1",
        nginx=machine.nginx(prove_limit_ms=6_000),
        extra=f"server {{ listen {other}; }}\n",
    )
    assert result.outcome is Outcome.FAILED
    assert "no new worker process appeared" in result.detail
    assert "still could not bind()" in result.detail
    look = looked(machine.nginx())
    assert look.seen.live is None
    assert not look.seen.is_settled


def test_a_zone_changed_by_somebodys_unloaded_edit_is_not_proved(machine: NginxMachine) -> None:
    site = machine.conf_d / "other.conf"
    site.write_text("limit_req_zone $binary_remote_addr zone=a:64k rate=1r/s;\n")
    machine.reload()
    site.write_text("limit_req_zone $request_uri zone=a:64k rate=1r/s;\n")
    result = machine.publish("g1", nginx=machine.nginx(prove_limit_ms=1_500))
    assert result.outcome is Outcome.FAILED
    assert 'while previously it used the "$binary_remote_addr" key' in result.detail


def test_workers_that_die_at_their_start_are_seen_and_the_file_before_cures_it(
    machine: NginxMachine,
) -> None:
    """Every exit code is 0 here and the site is down: only looking at the workers tells."""
    machine.publish("g1")
    config = machine.config.read_text()
    machine.config.write_text(f"worker_rlimit_nofile 4;\n{config}")
    result = machine.publish("g2", nginx=machine.nginx(prove_limit_ms=2_500))
    assert result.outcome is Outcome.FAILED
    assert "reload not proved" in result.detail
    machine.config.write_text(config)
    back = machine.publish("g1")
    assert back.outcome is Outcome.DONE, back
    assert machine.served() == "g1"


def test_a_stale_pid_file_is_refused_and_the_process_it_names_lives(
    machine: NginxMachine,
) -> None:
    bystander = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        machine.pid_file.write_text(f"{bystander.pid}\n")
        for nginx in (machine.nginx(), machine.nginx(config="", pid_file=str(machine.pid_file))):
            result = machine.publish("g1", nginx=nginx)
            assert result.outcome is Outcome.REFUSED
            assert str(bystander.pid) in result.detail
        assert bystander.poll() is None
        assert machine.file.read_bytes() == machine.original
    finally:
        bystander.kill()
        bystander.wait(10)


def test_a_pid_file_that_names_nobody_is_refused(machine: NginxMachine) -> None:
    for content in ("", "999999999\n", "not a number\n"):
        machine.pid_file.write_text(content)
        assert machine.publish("g1").outcome is Outcome.REFUSED
    assert machine.file.read_bytes() == machine.original


def test_a_missing_pid_file_is_refused_before_anything_is_written(machine: NginxMachine) -> None:
    machine.pid_file.unlink()
    result = machine.publish("g1")
    assert result.outcome is Outcome.REFUSED
    assert "missing" in result.detail
    assert machine.file.read_bytes() == machine.original
    assert not machine.pid_file.exists()


def test_a_text_that_nginx_refuses_leaves_the_file_as_it_was(machine: NginxMachine) -> None:
    machine.file.chmod(0o604)
    if os.geteuid() == 0:
        os.chown(machine.file, 12_345, 12_346)
    before, workers = machine.file.stat(), machine.workers()
    result = machine.publish("g1", extra="no_such_directive on;\n")
    assert result.outcome is Outcome.FAILED
    assert 'unknown directive "no_such_directive"' in result.detail
    after = machine.file.stat()
    assert machine.file.read_bytes() == machine.original
    assert (after.st_mode, after.st_uid, after.st_gid) == (
        before.st_mode,
        before.st_uid,
        before.st_gid,
    )
    assert machine.workers() == workers


def test_a_refused_first_text_leaves_no_file_where_there_was_none(machine: NginxMachine) -> None:
    extra = machine.conf_d / "new.conf"
    nginx = machine.nginx(file=str(extra))
    result = nginx.apply(
        b"nonsense;\n", replaces="absent", generation="g1", adopt=False, token=token()
    )
    assert result.outcome is Outcome.FAILED
    assert not extra.exists()


def test_a_file_somebody_else_changed_is_not_overwritten(machine: NginxMachine) -> None:
    seen = machine.digest()
    theirs = machine.original + b"# a person was here\n"
    machine.file.write_bytes(theirs)
    result = machine.nginx().apply(
        machine.text("g1"), replaces=seen, generation="g1", adopt=True, token=token()
    )
    assert result.outcome is Outcome.REFUSED
    assert machine.file.read_bytes() == theirs


def meddling(machine: NginxMachine, program: str, before: str) -> LocalConnection:
    """A machine on which somebody does something right before a certain program runs once."""
    folder = machine.root / "meddling"
    folder.mkdir()
    write_program(
        folder / program,
        f'#!/bin/sh\nPATH="${{PATH#*:}}"\ncase "$*" in *.rolling-deploy*)\n'
        f"    if mkdir {folder}/once 2>/dev/null; then {before}; fi ;; esac\n"
        f'exec {program} "$@"\n',
    )
    return LocalConnection(environment={"PATH": f"{folder}:{os.environ['PATH']}"})


THEIRS = "# saved by a person\n"


@pytest.mark.parametrize("way", ["in place", "by a rename"])
@pytest.mark.parametrize("purpose", ["apply", "unadopt"])
def test_a_save_between_the_first_look_and_the_rename_is_left_as_it_is(
    machine: NginxMachine, way: str, purpose: str
) -> None:
    nginx = machine.nginx()
    adopted = nginx.apply(
        machine.text("g1"), replaces=machine.digest(), generation="g1", adopt=True, token=token()
    )
    assert adopted.outcome is Outcome.DONE, adopted
    save = {
        "in place": f"printf '{THEIRS}' >> {machine.file}",
        "by a rename": f"{{ cat {machine.file}; printf '{THEIRS}'; }} > {machine.root}/new; "
        f"/bin/mv {machine.root}/new {machine.file}",
    }[way]
    before, workers = machine.file.read_bytes(), machine.workers(retiring=False)
    slowly = machine.nginx(meddling(machine, "cp", save))
    if purpose == "apply":
        result = machine.publish("g2", nginx=slowly)
    else:
        result = slowly.unadopt(replaces=machine.digest(), token=token())
    assert result.outcome is Outcome.REFUSED, result
    assert "in this very moment; it is left as they saved it" in result.detail
    assert machine.file.read_bytes() == before + THEIRS.encode()
    assert machine.workers(retiring=False) == workers
    assert not list(machine.conf_d.glob(".*rolling-deploy"))


@pytest.mark.parametrize("purpose", ["apply", "unadopt"])
def test_a_save_into_the_file_while_it_is_being_renamed_over_is_put_back(
    machine: NginxMachine, purpose: str
) -> None:
    """Later than any look before the rename: seen afterwards, in what was replaced."""
    nginx = machine.nginx()
    nginx.apply(
        machine.text("g1"), replaces=machine.digest(), generation="g1", adopt=True, token=token()
    )
    before, workers = machine.file.read_bytes(), machine.workers(retiring=False)
    machine.file.chmod(0o604)
    slowly = machine.nginx(meddling(machine, "mv", f"printf '{THEIRS}' >> {machine.file}"))
    if purpose == "apply":
        result = machine.publish("g2", nginx=slowly)
    else:
        result = slowly.unadopt(replaces=machine.digest(), token=token())
    assert result.outcome is Outcome.REFUSED, result
    assert "in this very moment; it is as they saved it" in result.detail
    assert machine.file.read_bytes() == before + THEIRS.encode()
    assert machine.file.stat().st_mode & 0o777 == 0o604
    assert machine.workers(retiring=False) == workers
    assert machine.served() == "g1"


def test_a_save_over_ours_while_nginx_tests_it_is_not_replaced_by_the_file_before(
    machine: NginxMachine,
) -> None:
    machine.publish("g1")
    theirs = (
        "sh",
        "-c",
        f"echo '{THEIRS.strip()}' >> {machine.file}; echo no such directive; exit 1",
    )
    result = machine.publish("g2", nginx=machine.nginx(test=theirs))
    assert result.outcome is Outcome.FAILED
    assert "no such directive" in result.detail
    assert "it is left as they saved it" in result.detail
    assert machine.file.read_bytes() == machine.text("g2") + THEIRS.encode()


def test_a_file_that_appears_where_there_was_none_is_not_replaced(machine: NginxMachine) -> None:
    machine.file.unlink()
    slowly = machine.nginx(meddling(machine, "cp", f"printf '{THEIRS}' > {machine.file}"))
    result = machine.publish("g1", nginx=slowly)
    assert result.outcome is Outcome.REFUSED, result
    assert machine.file.read_bytes() == THEIRS.encode()


def test_a_lower_epoch_changes_nothing(machine: NginxMachine) -> None:
    nginx = machine.nginx()
    seen = machine.digest()
    newer = nginx.apply(
        machine.text("g1"), replaces=seen, generation="g1", adopt=True, token=token(5, "bob")
    )
    assert newer.outcome is Outcome.DONE
    for old in (token(4, "bob"), token(5, "ann")):
        for result in (
            nginx.apply(
                machine.text("g2"),
                replaces=machine.digest(),
                generation="g2",
                adopt=False,
                token=old,
            ),
            nginx.unadopt(replaces=machine.digest(), token=old),
        ):
            assert result.outcome is Outcome.REFUSED
            assert result.is_fenced
    assert machine.served() == "g1"
    assert (looked(nginx).fence.epoch, looked(nginx).fence.holder) == (5, "bob")


def test_of_two_operators_who_race_one_wins(machine: NginxMachine) -> None:
    machine.publish("g0")
    seen = machine.digest()
    results: dict[str, Result] = {}

    def apply(name: str, epoch: int) -> None:
        results[name] = machine.nginx().apply(
            machine.text(name),
            replaces=seen,
            generation=name,
            adopt=False,
            token=token(epoch, name),
        )

    racers = [threading.Thread(target=apply, args=(f"r{n}", 7)) for n in range(2)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join(60)
    won = [name for name, result in results.items() if result.outcome is Outcome.DONE]
    lost = [result for name, result in results.items() if name not in won]
    assert len(won) == 1
    assert [result.outcome for result in lost] == [Outcome.REFUSED]
    assert lost[0].is_fenced
    assert machine.served() == won[0]
    assert machine.file.read_bytes() == machine.text(won[0])


def test_a_symlinked_file_is_written_where_it_leads(machine: NginxMachine) -> None:
    real = machine.root / "sites" / "shop.conf"
    real.parent.mkdir()
    real.write_bytes(machine.original)
    real.chmod(0o640)
    machine.file.unlink()
    machine.file.symlink_to("../sites/shop.conf")
    result = machine.publish("g1")
    assert result.outcome is Outcome.DONE, result
    assert str(machine.file.readlink()) == "../sites/shop.conf"
    assert real.read_bytes() == machine.text("g1")
    assert real.stat().st_mode & 0o7777 == 0o640


def test_adopting_and_unadopting_gives_the_file_back_byte_for_byte(machine: NginxMachine) -> None:
    odd = machine.original + b"# caf\xc3\xa9 \xff, no newline at the end"
    machine.file.write_bytes(odd)
    machine.file.chmod(0o604)
    nginx = machine.nginx()
    machine.publish("g1")
    assert nginx.read_original() == odd
    machine.publish("g2", down=0)
    assert nginx.read_original() == odd
    result = nginx.unadopt(replaces=machine.digest(), token=token())
    assert result.outcome is Outcome.DONE, result
    assert machine.file.read_bytes() == odd
    assert machine.file.stat().st_mode & 0o7777 == 0o604
    assert machine.served() == ""
    assert looked(nginx).seen.live is None
    assert nginx.read_original() is None


def test_unadopting_without_an_original_is_refused(machine: NginxMachine) -> None:
    result = machine.nginx().unadopt(replaces=machine.digest(), token=token())
    assert result.outcome is Outcome.REFUSED
    assert "no original" in result.detail


def test_an_original_that_nginx_refuses_today_is_not_put_in_place(machine: NginxMachine) -> None:
    machine.publish("g1")
    machine.conf_d.joinpath("clash.conf").write_bytes(machine.original)
    machine.conf_d.joinpath("clash.conf").write_text("upstream later { server 127.0.0.1:9; }\n")
    (machine.state_dir / "original").write_bytes(machine.original + b"upstream later { }\n")
    result = machine.nginx().unadopt(replaces=machine.digest(), token=token())
    assert result.outcome is Outcome.FAILED
    assert machine.file.read_bytes() == machine.text("g1")
    assert machine.served() == "g1"


def test_a_second_adoption_keeps_what_was_there_then(machine: NginxMachine) -> None:
    machine.publish("g1")
    nginx = machine.nginx()
    nginx.unadopt(replaces=machine.digest(), token=token())
    edited = machine.original + b"# edited since\n"
    machine.file.write_bytes(edited)
    machine.publish("g2")
    assert nginx.read_original() == edited


def test_the_original_is_never_one_of_our_own_texts(machine: NginxMachine) -> None:
    """An adoption that died after its file was in place is asked for again, as an adoption."""
    machine.publish("g1")
    result = machine.nginx().apply(
        machine.text("g2"), replaces=machine.digest(), generation="g2", adopt=True, token=token()
    )
    assert result.outcome is Outcome.DONE
    assert machine.nginx().read_original() == machine.original


def test_nothing_that_nginx_would_include_is_left_beside_the_file(machine: NginxMachine) -> None:
    machine.publish("g1")
    machine.publish("g2", extra="nonsense;\n")
    assert sorted(path.name for path in machine.conf_d.iterdir()) == ["shop.upstream.conf"]


def test_the_original_is_kept_when_our_edited_text_is_adopted_again(machine: NginxMachine) -> None:
    def adopt(generation: str) -> None:
        result = machine.nginx().apply(
            b"# rolling-deploy stamp 1\n" + machine.text(generation),
            replaces=machine.digest(),
            generation=generation,
            adopt=True,
            token=token(),
        )
        assert result.outcome is Outcome.DONE, result

    adopt("g1")
    edited = machine.file.read_bytes() + b"# edited by hand\n"
    machine.file.write_bytes(edited)
    adopt("g2")
    assert (machine.state_dir / "edited").read_bytes() == edited
    result = machine.nginx().unadopt(replaces=machine.digest(), token=token())
    assert result.outcome is Outcome.DONE, result
    assert machine.file.read_bytes() == machine.original


def test_a_sender_that_stands_still_keeps_nobody_out(machine: NginxMachine) -> None:
    machine.publish("g0")
    stalled = StallingConnection()
    seen = machine.digest()
    results: list[Result] = []

    def publish() -> None:
        results.append(
            machine.nginx(stalled).apply(
                machine.text("g1"), replaces=seen, generation="g1", adopt=False, token=token()
            )
        )

    sender = threading.Thread(target=publish)
    sender.start()
    until(lambda: list(machine.state_dir.glob(".incoming.*")))
    assert not looked(machine.nginx()).seen.is_busy
    second = machine.nginx().apply(
        machine.text("g2"), replaces=seen, generation="g2", adopt=False, token=token(2, "bob")
    )
    assert second.outcome is Outcome.DONE, second
    stalled.goes_on.set()
    sender.join(60)
    assert [(result.outcome, result.is_fenced) for result in results] == [(Outcome.REFUSED, True)]
    assert machine.served() == "g2"
    assert not list(machine.state_dir.glob(".incoming.*"))


def test_what_a_killed_sender_left_is_removed_by_the_next(machine: NginxMachine) -> None:
    machine.state_dir.mkdir()
    gone = subprocess.run(["sh", "-c", "echo $$"], capture_output=True, text=True, check=True)
    left = machine.state_dir / f".incoming.{gone.stdout.strip()}"
    left.write_bytes(b"half a te")
    assert machine.publish("g1").outcome is Outcome.DONE
    assert not left.exists()


def own_command(machine: NginxMachine, first: str) -> tuple[str, ...]:
    """A test command that does something first and passes."""
    return ("sh", "-c", f"{first}; exec {machine.binary} -p {machine.root}/ -c {machine.config} -t")


@pytest.mark.parametrize("obstacle", ["snapshot", "pid file"])
def test_a_text_that_cannot_be_loaded_after_all_is_not_left_on_disk(
    machine: NginxMachine, obstacle: str
) -> None:
    machine.publish("g1")
    workers = machine.workers(retiring=False)
    moved = machine.root / "moved.pid"
    meanwhile = {
        "snapshot": f"mkdir {machine.state_dir}/generations/.g2",
        "pid file": f"mv {machine.pid_file} {moved}",
    }[obstacle]
    result = machine.publish("g2", nginx=machine.nginx(test=("sh", "-c", meanwhile)))
    if obstacle == "pid file":
        moved.rename(machine.pid_file)
    assert result.outcome is Outcome.FAILED
    assert "not reloaded, and the file before is back" in result.detail
    assert machine.file.read_bytes() == machine.text("g1")
    assert machine.served() == "g1"
    assert machine.workers(retiring=False) == workers


def test_words_that_cannot_be_kept_do_not_pass_for_a_refusal(machine: NginxMachine) -> None:
    (machine.state_dir / ".said").mkdir(parents=True)
    result = machine.publish("g1")
    assert result.outcome is Outcome.DONE, result
    refused = machine.publish("g2", extra="nonsense;\n")
    assert refused.outcome is Outcome.FAILED
    assert "its words could not be kept" in refused.detail


@pytest.mark.parametrize("locale", ["C.UTF-8", None])
def test_nginx_runs_with_the_umask_and_locale_of_who_logged_in(
    machine: NginxMachine, locale: str | None
) -> None:
    said = machine.root / "said"
    environment = {} if locale is None else {"LC_ALL": locale}
    connection = LocalConnection(environment=environment)
    asked = connection.run(["sh", "-c", "umask; echo ${LC_ALL-none}"], limit_ms=10_000)
    log = machine.root / "late.log"
    command = own_command(machine, f"(umask; echo ${{LC_ALL-none}}) > {said}")
    result = machine.publish(
        "g1",
        nginx=machine.nginx(connection, test=command),
        extra=f"server {{ listen 127.0.0.1:{machine.front_port}; access_log {log}; }}\n",
    )
    assert result.outcome is Outcome.DONE, result
    assert said.read_bytes() == asked.stdout
    umask = int(asked.stdout.split()[0], 8)
    assert log.stat().st_mode & 0o777 == 0o644 & ~umask


def test_nginx_does_not_inherit_the_lock(machine: NginxMachine) -> None:
    """A reload command that starts a process must not leave the machine locked for ever."""
    machine.state_dir.mkdir()
    pids = machine.root / "left-behind"
    command = machine.root / "reload.sh"
    write_program(
        command,
        f"#!/bin/sh\nsleep 30 & echo $! > {pids}\n"
        f"exec {machine.binary} -p {machine.root}/ -c {machine.config} -s reload\n",
    )
    result = machine.publish("g1", nginx=machine.nginx(reload=(str(command),)))
    left = int(pids.read_text())
    try:
        assert result.outcome is Outcome.DONE, result
        assert is_alive(left)
        assert not looked(machine.nginx()).seen.is_busy
    finally:
        os.kill(left, 9)


def test_a_reload_command_that_only_says_it_worked_is_not_proved(machine: NginxMachine) -> None:
    nginx = machine.nginx(reload=("true",), prove_limit_ms=500)
    result = machine.publish("g1", nginx=nginx)
    assert result.outcome is Outcome.FAILED
    assert "no new worker process" in result.detail
    look = looked(nginx)
    assert look.seen.file is not None
    assert not look.seen.is_settled
    assert look.seen.earlier_workers == WORKERS


def test_a_configured_test_command_decides_and_gives_its_words(machine: NginxMachine) -> None:
    nginx = machine.nginx(test=("sh", "-c", "echo our own words; exit 3"))
    result = machine.publish("g1", nginx=nginx)
    assert result.outcome is Outcome.FAILED
    assert "our own words" in result.detail
    assert machine.file.read_bytes() == machine.original


def test_only_fixed_commands_go_through_sudo(machine: NginxMachine, tmp_path: Path) -> None:
    said = tmp_path / "sudo.log"
    stand_in = tmp_path / "sudo"
    write_program(
        stand_in,
        f'#!/bin/sh\necho "$*" >> {said}\n[ "$1 $2" = "-n --" ] || exit 9\nshift 2\nexec "$@"\n',
    )
    path = f"{tmp_path}:{os.environ['PATH']}"
    connection = LocalConnection(sudo=True, environment={"PATH": path})
    result = machine.publish("g1", nginx=machine.nginx(connection))
    assert result.outcome is Outcome.DONE, result
    beside = f"{machine.conf_d}/.shop.upstream.conf.rolling-deploy"
    owner = f"-o {machine.conf_d.stat().st_uid} -g {machine.conf_d.stat().st_gid}"
    program = f"{machine.binary} -p {machine.root}/ -c {machine.config}"
    assert said.read_text().splitlines() == [
        f"-n -- install -m 640 {owner} {machine.state_dir}/.incoming {beside}",
        f"-n -- mv -f {beside} {machine.file}",
        f"-n -- {program} -t",
        f"-n -- {program} -s reload",
    ]


def sudo_that_preflight_asked(machine: NginxMachine) -> LocalConnection:
    """A sudo that runs nothing but what a preflight asked it about, word by word."""
    folder = machine.root / "bin"
    folder.mkdir()
    asked = folder / "asked"
    write_program(
        folder / "sudo",
        f'#!/bin/sh\nif [ "$1 $2" = "-n -l" ]; then shift 3; printf "%s\\n" "$*" >> {asked}\n'
        f'elif [ "$1 $2" = "-n --" ]; then shift 2\n'
        f'    grep -qxF -e "$*" {asked} || {{ echo "refused: $*" >&2; exit 1; }}\n    exec "$@"\n'
        "else exit 9; fi\n",
    )
    path = f"{folder}:{os.environ['PATH']}"
    return LocalConnection(sudo=True, environment={"PATH": path})


def test_going_back_needs_no_right_that_preflight_did_not_ask_for(machine: NginxMachine) -> None:
    nginx = machine.nginx(sudo_that_preflight_asked(machine))
    nginx.facts()
    refused = machine.publish("g1", nginx=nginx, extra="nonsense;\n")
    assert "the file before is back" in refused.detail
    assert machine.file.read_bytes() == machine.original
    assert machine.publish("g1", nginx=nginx).outcome is Outcome.DONE
    back = nginx.unadopt(replaces=machine.digest(), token=token())
    assert back.outcome is Outcome.DONE, back
    assert machine.file.read_bytes() == machine.original


@pytest.mark.skipif(os.geteuid() != 0, reason="the stand-in for sudo gives files to root")
def test_a_first_file_needs_no_right_that_preflight_did_not_ask_for(machine: NginxMachine) -> None:
    machine.file.unlink()
    machine.config.write_text(machine.config.read_text().replace("http://shop_app", "http://[::1]"))
    machine.reload()
    nginx = machine.nginx(sudo_that_preflight_asked(machine))
    nginx.facts()
    refused = machine.publish("g1", nginx=nginx, extra="nonsense;\n")
    assert "the file before is back" in refused.detail
    assert not machine.file.exists()
    for generation in ("g1", "g2"):
        result = machine.publish(generation, nginx=nginx)
        assert result.outcome is Outcome.DONE, result


class StallingConnection(LocalConnection):
    """A link whose sender stands still before the end of what it sends."""

    def __init__(self) -> None:
        super().__init__()
        self.goes_on = threading.Event()

    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes | Iterable[bytes] = b"",
        limit_ms: int,
        holds_stdin: bool = False,
    ) -> Answer:
        sent = stdin if isinstance(stdin, bytes) else b"".join(stdin)
        return super().run(
            argv, stdin=self._slowly(sent), limit_ms=limit_ms, holds_stdin=holds_stdin
        )

    def _slowly(self, sent: bytes) -> Iterator[bytes]:
        yield sent[:-7]
        self.goes_on.wait(60)
        yield sent[-7:]


class CuttingConnection(LocalConnection):
    """A link that loses the end of what is sent, and does not know it."""

    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes | Iterable[bytes] = b"",
        limit_ms: int,
        holds_stdin: bool = False,
    ) -> Answer:
        sent = stdin if isinstance(stdin, bytes) else b"".join(stdin)
        return super().run(argv, stdin=sent[:-7], limit_ms=limit_ms, holds_stdin=holds_stdin)


def test_a_text_cut_short_on_the_way_changes_nothing(machine: NginxMachine) -> None:
    result = machine.publish("g1", nginx=machine.nginx(CuttingConnection()))
    assert result.outcome is Outcome.FAILED
    assert "did not arrive whole" in result.detail
    assert machine.file.read_bytes() == machine.original


@pytest.mark.parametrize("client", ["bash", "curl", "wget", "python3"])
def test_the_generation_is_asked_with_whatever_the_machine_has(
    machine: NginxMachine, tmp_path: Path, client: str
) -> None:
    for folder in ("/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin", "/sbin"):
        for tool in Path(folder).glob("*") if Path(folder).is_dir() else ():
            link = tmp_path / tool.name
            if tool.name not in {"bash", "curl", "wget", "python3"} and not link.is_symlink():
                link.symlink_to(tool)
    places = [f"{folder}/{client}" for folder in ("/usr/bin", "/bin", "/usr/local/bin")]
    found = next((place for place in places if os.access(place, os.X_OK)), None)
    if client == "python3":
        found = sys.executable
    if found is None:
        pytest.skip(f"{client} is not installed")
    (tmp_path / client).symlink_to(found)
    connection = LocalConnection(environment={"PATH": str(tmp_path)})
    result = machine.publish("g1", nginx=machine.nginx(connection))
    assert result.outcome is Outcome.DONE, result
    assert looked(machine.nginx(connection)).seen.live == "g1"


def test_a_generation_name_that_would_leave_its_directory_is_refused(
    machine: NginxMachine,
) -> None:
    for name in ("../x", ".hidden", "", "a b"):
        result = machine.nginx().apply(
            b"", replaces=digest(machine.original), generation=name, adopt=True, token=token()
        )
        assert result.outcome is Outcome.REFUSED
