"""`setup` on a real nginx: the seed's own files, edited all or none, and never loaded by it."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from rolling_deploy.operations.adoption import adopt
from rolling_deploy.operations.wire_balancers import (
    WiringPlan,
    edited_by_setup,
    plan_wiring,
    put_in_place,
    waits_only_for_us,
)
from rolling_deploy.remote.nginx_facts import NginxFacts
from rolling_deploy.remote.nginx_wiring import FilesSeen, NewFile, NginxWiring
from rolling_deploy.rollout.step import Outcome, Result
from tests.assassin import Assassin
from tests.local_connection import LocalConnection
from tests.nginx_machine import digest, system_nginx, until, wheel_nginx
from tests.programs import write_program
from tests.seed_machine import SeedMachine, desk_of, plan_of, site_of

CHANGING = ("cat", "chmod", "chown", "cp", "head", "mkdir", "mv", "rm", "sync", "timeout", "touch")
"""What an edit runs that changes something; `timeout` runs nginx's own test."""
POINTS_MAX = 90
NOBODY = 65_534

pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.skipif(not (system_nginx() or wheel_nginx()), reason="no nginx is installed"),
]
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")


@pytest.fixture
def seed() -> Iterator[SeedMachine]:
    """The seed's nginx, running."""
    with SeedMachine(system_nginx() or wheel_nginx() or "") as running:
        yield running


def wired(plan: WiringPlan) -> list[NewFile]:
    """Answers the files of a plan that has some."""
    assert not plan.refused, plan.refused
    assert plan.edits
    return [NewFile(edit.path, edit.old, edit.new) for edit in plan.edits]


def facts_of(machine: SeedMachine) -> NginxFacts:
    facts = machine.nginx().facts()
    assert isinstance(facts, NginxFacts), facts
    return facts


def seen_by(wiring: NginxWiring, *paths: str) -> FilesSeen:
    seen = wiring.read(paths)
    assert isinstance(seen, FilesSeen), seen
    return seen


def accepts(machine: SeedMachine) -> bool:
    """Whether nginx's own test passes on what lies there."""
    words = [machine.binary, "-t", "-p", f"{machine.root}/", "-c", str(machine.config)]
    return subprocess.run(words, capture_output=True, check=False).returncode == 0


def test_the_seeds_files_are_wired_without_a_reload_and_then_adopted(
    seed: SeedMachine, tmp_path: Path
) -> None:
    desk = desk_of(seed, tmp_path)
    site = site_of(desk, LocalConnection())
    before, workers = seed.files(), seed.workers()
    plan = plan_of(site)
    assert len(plan.missing) == 2
    shown = "\n".join(plan.differences)
    assert "-http {upstream tomcat {server localhost:" in shown
    assert "+        proxy_pass http://tomcat;" in shown
    assert seed.files() == before
    assert not seed.state_dir.exists()

    results = put_in_place(site, {"lb1": plan})
    assert results["lb1"].outcome is Outcome.DONE, results
    assert (seed.page(), seed.workers()) == ("welcome to nginx", workers)
    assert waits_only_for_us(facts_of(seed), edited_by_setup(site)["lb1"])
    kept = Path(results["lb1"].detail.rpartition(" ")[2])
    assert (kept / "2-nginx.conf").read_bytes() == seed.main
    assert (kept / "3-default.conf").read_bytes() == seed.stock
    after = seed.files()
    again = plan_of(site)
    assert (again.missing, again.refused, again.edits) == ((), (), ())

    assert adopt(desk, load_pending=True) is not None
    until(lambda: seed.page() == "ok")
    assert not set(workers) & set(seed.workers(retiring=False))
    assert {**seed.files(), str(seed.file): b""} == {**after, str(seed.file): b""}
    again = plan_of(site)
    assert (again.missing, again.refused, again.edits) == ((), (), ())
    assert adopt(desk) is None


def test_what_nginx_refuses_goes_back_byte_for_byte_with_its_time(seed: SeedMachine) -> None:
    before, wiring = seed.files(), seed.wiring()
    times = {path: Path(path).stat().st_mtime_ns for path in before}
    broken = [
        NewFile(str(seed.file), "absent", b"upstream tomcat2 { server 127.0.0.1:9; }\n"),
        NewFile(str(seed.default), digest(seed.stock), b"server { listen 80 nonsense; }\n"),
    ]
    result = wiring.apply(broken)
    assert result.outcome is Outcome.FAILED
    assert "nonsense" in result.detail
    assert "every file is back" in result.detail
    assert seed.files() == before
    assert {path: Path(path).stat().st_mtime_ns for path in before} == times
    seen = seen_by(wiring)
    assert not seen.unfinished
    # The folder was written after nginx was loaded, and by nobody but us.
    assert waits_only_for_us(facts_of(seed), seen.edited)


def test_a_configuration_that_is_broken_already_is_not_touched(seed: SeedMachine) -> None:
    (seed.conf_d / "z.conf").write_text("half a file {\n")
    before = seed.files()
    result = seed.wiring().apply([NewFile(str(seed.file), "absent", b"# nothing\n")])
    assert result.outcome is Outcome.REFUSED
    assert "as it is already" in result.detail
    assert seed.files() == before


def test_a_hand_edit_after_the_plan_is_never_overwritten(seed: SeedMachine, tmp_path: Path) -> None:
    site = site_of(desk_of(seed, tmp_path), LocalConnection())
    plan = plan_of(site)
    seed.default.write_bytes(seed.stock + b"# Ann was here\n")
    before = seed.files()
    result = put_in_place(site, {"lb1": plan})["lb1"]
    assert result.outcome is Outcome.REFUSED
    assert f"{seed.default} is not the one that was seen" in result.detail
    assert seed.files() == before


def test_a_hand_edit_while_nginx_is_asked_is_seen(seed: SeedMachine, tmp_path: Path) -> None:
    files = wired(plan_of(site_of(desk_of(seed, tmp_path), LocalConnection())))
    before = seed.files()
    edits = ("sh", "-c", f"echo '# Ann was here' >> {seed.default}")
    result = seed.wiring(test=edits).apply(files)
    assert result.outcome is Outcome.REFUSED
    assert f"{seed.default} is not the one that was seen" in result.detail
    assert seed.files() == {**before, str(seed.default): seed.stock + b"# Ann was here\n"}


def test_a_hand_edit_at_the_last_moment_stays_and_the_rest_goes_back(
    seed: SeedMachine, tmp_path: Path
) -> None:
    files = wired(plan_of(site_of(desk_of(seed, tmp_path), LocalConnection())))
    before = seed.files()
    programs = tmp_path / "programs"
    programs.mkdir()
    # The first file is in place then.
    write_program(
        programs / "sync",
        f'#!/bin/sh\ncase $1 in *conf.d) echo "# Ann was here" >> {seed.default};; esac\n'
        f'exec {shutil.which("sync")} "$@"\n',
    )
    path = f"{programs}:{os.environ['PATH']}"
    result = seed.wiring(LocalConnection(environment={"PATH": path})).apply(files)
    assert result.outcome is Outcome.FAILED
    assert f"{seed.default} (it was edited just now); every file is back" in result.detail
    now = seed.files()
    assert now.pop(str(seed.default)).startswith(seed.stock + b"# Ann was here\n")
    del before[str(seed.default)]
    assert now == before
    seen = seen_by(seed.wiring())
    assert not seen.unfinished
    assert not waits_only_for_us(facts_of(seed), seen.edited)


def test_a_hand_edit_on_top_of_ours_stays_when_the_rest_goes_back(
    seed: SeedMachine, tmp_path: Path
) -> None:
    files = wired(plan_of(site_of(desk_of(seed, tmp_path), LocalConnection())))
    before, mark = seed.files(), tmp_path / "asked once"
    second = f"echo '# Ann was here' >> {seed.default}; exit 1"
    test = ("sh", "-c", f"if [ -e '{mark}' ]; then {second}; fi; touch '{mark}'")
    result = seed.wiring(test=test).apply(files)
    assert result.outcome is Outcome.FAILED
    assert f"(edited meanwhile: {seed.default}): the originals are in" in result.detail
    theirs = {**before, str(seed.default): files[2].data + b"# Ann was here\n"}
    assert seed.files() == theirs
    # nginx accepts what is there, so it is left to Ann.
    ended = seed.wiring().recover()
    assert ended.outcome is Outcome.DONE
    assert "all files stay as they are" in ended.detail
    assert seed.files() == theirs
    assert not seen_by(seed.wiring()).unfinished


def test_of_two_at_once_one_wins(seed: SeedMachine, tmp_path: Path) -> None:
    files = wired(plan_of(site_of(desk_of(seed, tmp_path), LocalConnection())))
    other = [*files[:2], replace(files[2], data=files[2].data + b"# the other\n")]
    results: list[Result] = []
    threads = [
        threading.Thread(target=lambda each=each: results.append(seed.wiring().apply(each)))
        for each in (files, other)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert sorted(result.outcome for result in results) == [Outcome.DONE, Outcome.REFUSED]
    now = seed.default.read_bytes()
    assert now in {files[2].data, other[2].data}


def test_a_linked_file_stays_a_link_and_what_it_leads_to_is_edited(
    seed: SeedMachine, tmp_path: Path
) -> None:
    available = seed.root / "sites-available"
    available.mkdir()
    target = available / "default"
    target.write_bytes(seed.stock)
    target.chmod(0o640)
    seed.default.unlink()
    seed.default.symlink_to("../sites-available/default")
    seed.reload()
    site = site_of(desk_of(seed, tmp_path), LocalConnection())
    until(lambda: facts_of(seed).edited == ())
    assert put_in_place(site, {"lb1": plan_of(site)})["lb1"].outcome is Outcome.DONE
    assert seed.default.readlink() == Path("../sites-available/default")
    assert b"proxy_pass http://tomcat;" in target.read_bytes()
    assert target.stat().st_mode & 0o777 == 0o640
    again = plan_of(site)
    assert (again.missing, again.refused, again.edits) == ((), (), ())


def test_somebody_elses_unloaded_edit_stops_the_plan(seed: SeedMachine, tmp_path: Path) -> None:
    site = site_of(desk_of(seed, tmp_path), LocalConnection())
    until(lambda: facts_of(seed).edited == ())
    seed.config.write_bytes(seed.main + b"# not loaded\n")
    plan = plan_of(site)
    assert [check.name for check in plan.refused] == ["edits not loaded yet"]
    assert not plan.edits
    assert plan_wiring(site, recovers=False, load_pending=True)["lb1"].edits


def test_our_own_unloaded_edit_counts_no_more_once_somebody_touched_it(
    seed: SeedMachine, tmp_path: Path
) -> None:
    site = site_of(desk_of(seed, tmp_path), LocalConnection())
    put_in_place(site, {"lb1": plan_of(site)})
    assert not plan_of(site).refused
    seed.default.write_bytes(seed.default.read_bytes() + b"# and more\n")
    assert str(seed.default) not in edited_by_setup(site)["lb1"]
    assert [check.name for check in plan_of(site).refused] == ["edits not loaded yet"]


@as_root
def test_what_cannot_be_written_is_refused_by_its_path_beforehand(seed: SeedMachine) -> None:
    seed.state_dir.mkdir()
    os.chown(seed.state_dir, NOBODY, NOBODY)
    connection = LocalConnection(user=NOBODY)
    before = seed.files()
    closed = {file.closed for file in seen_by(seed.wiring(connection), str(seed.file)).files}
    assert closed == {f"the folder {seed.conf_d} cannot be written"}
    files = [NewFile(str(seed.file), "absent", b"# nothing\n")]
    result = seed.wiring(connection, test=("true",)).apply(files)
    assert result.outcome is Outcome.REFUSED
    assert f"{seed.file} cannot be edited: the folder {seed.conf_d} cannot be" in result.detail
    assert seed.files() == before


@as_root
@pytest.mark.skipif(not shutil.which("sudo"), reason="there is no sudo")
def test_through_sudo_the_files_belong_to_root_and_come_back(
    seed: SeedMachine, tmp_path: Path
) -> None:
    connection = LocalConnection(sudo=True)
    site = site_of(desk_of(seed, tmp_path), connection)
    files = wired(plan_of(site))
    broken = [*files, NewFile(str(seed.root / "mime.types"), "absent", b"")]
    assert seed.wiring(connection).apply(broken).outcome is Outcome.REFUSED
    bad = [files[0], replace(files[1], data=b"nonsense;\n")]
    before = seed.files()
    assert seed.wiring(connection).apply(bad).outcome is Outcome.FAILED
    assert seed.files() == before
    assert waits_only_for_us(facts_of(seed), edited_by_setup(site)["lb1"])
    assert seed.wiring(connection).apply(files).outcome is Outcome.DONE
    assert seed.file.stat().st_mode & 0o777 == 0o644
    assert not plan_of(site).edits


@as_root
def test_a_sudo_that_does_not_allow_it_is_told_with_the_command(
    seed: SeedMachine, tmp_path: Path
) -> None:
    write_program(tmp_path / "sudo", "#!/bin/sh\nexit 1\n")
    path = f"{tmp_path}:{os.environ['PATH']}"
    connection = LocalConnection(sudo=True, environment={"PATH": path})
    before = seed.files()
    files = [NewFile(str(seed.file), "absent", b"# nothing\n")]
    result = seed.wiring(connection).apply(files)
    assert result.outcome is Outcome.REFUSED
    assert f"sudo does not allow `{shutil.which('install')} -m 644 -o 0 -g 0" in result.detail
    assert seed.files() == before


def test_whatever_command_an_edit_dies_at_the_next_one_brings_it_to_an_end(
    seed: SeedMachine, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    # In the short form every third of its calls is tried.
    stride = 1 if pytestconfig.getoption("--every") else 3
    assassin = Assassin(tmp_path, CHANGING)
    before = seed.files()
    site = site_of(desk_of(seed, tmp_path), LocalConnection())
    files = wired(plan_of(site))
    after = {**before, **{file.path: file.data for file in files}}
    ends = {"back": 0, "kept": 0}
    for at in range(1, POINTS_MAX, stride):
        result = seed.wiring(assassin.connection(at)).apply(files)
        if result.outcome is Outcome.DONE:
            assert ends["back"] * stride > len(files)
            assert ends["kept"]
            assert seed.files() == after
            return
        assert result.outcome is Outcome.UNKNOWN, (at, result)
        if seen_by(seed.wiring()).unfinished:
            assert plan_of(site).unfinished, at
        ended = seed.wiring().recover()
        assert ended.outcome is Outcome.DONE, (at, ended)
        _is_whole(seed, before, after, ends, at)
    pytest.fail(f"an edit makes more than {POINTS_MAX} calls")


def _is_whole(
    seed: SeedMachine,
    before: dict[str, bytes],
    after: dict[str, bytes],
    ends: dict[str, int],
    at: int,
) -> None:
    """All files are back, or all are in place; nginx accepts them, and nobody's edit waits."""
    now = _without_own(seed.files())
    assert now in (before, after), at
    ends["back" if now == before else "kept"] += 1
    assert accepts(seed), at
    assert not seen_by(seed.wiring()).unfinished, at
    assert waits_only_for_us(facts_of(seed), seen_by(seed.wiring()).edited), at
    if now == after:
        for path, data in before.items():
            Path(path).write_bytes(data)
        seed.file.unlink()
        shutil.rmtree(seed.state_dir)
        seed.reload()
        until(lambda: facts_of(seed).edited == ())


def _without_own(files: dict[str, bytes]) -> dict[str, bytes]:
    """Answers the files without those whose names nginx's patterns never see."""
    return {p: d for p, d in files.items() if not p.endswith(".rolling-deploy")}


def test_a_recovery_that_dies_can_be_done_again(seed: SeedMachine, tmp_path: Path) -> None:
    folder = tmp_path / "programs"
    folder.mkdir()
    assassin = Assassin(folder, CHANGING)
    before = seed.files()
    files = wired(plan_of(site_of(desk_of(seed, tmp_path), LocalConnection())))
    for at in range(1, POINTS_MAX):
        _leave_half(seed, files)
        result = seed.wiring(assassin.connection(at)).recover()
        if result.outcome is Outcome.DONE:
            assert at > len(files)
            assert "its files are back" in result.detail
            return
        assert result.outcome is Outcome.UNKNOWN, (at, result)
        assert seed.wiring().recover().outcome is Outcome.DONE, at
        assert _without_own(seed.files()) == before, at
    pytest.fail(f"a recovery makes more than {POINTS_MAX} calls")


def _leave_half(seed: SeedMachine, files: Sequence[NewFile]) -> None:
    """The first two files in place, the third not, and nobody there any more."""
    kept = seed.state_dir / "setup" / "backups" / "then"
    shutil.rmtree(seed.state_dir, ignore_errors=True)
    kept.mkdir(parents=True, mode=0o700)
    seed.state_dir.chmod(0o700)
    lines = []
    for number, file in enumerate(files, 1):
        path = Path(file.path)
        (kept / f"new-{number}").write_bytes(file.data)
        if path.exists():
            shutil.copy2(path, kept / f"{number}-{path.name}")
        owner = "644 0 0" if path.exists() else "644 - -"
        lines.append(f"{number} {file.old} {digest(file.data)} {owner} {file.path}\n")
    (kept / "list").write_text("".join(lines))
    for file in files[:2]:
        Path(file.path).write_bytes(file.data)
    (seed.state_dir / "setup" / "journal").write_text(f"{kept}\n")


def test_a_plan_first_ends_what_was_left_half_done_when_it_may(
    seed: SeedMachine, tmp_path: Path
) -> None:
    site = site_of(desk_of(seed, tmp_path), LocalConnection())
    before = seed.files()
    files = wired(plan_of(site))
    _leave_half(seed, files)
    half = seed.files()
    looked = plan_of(site)
    assert looked.unfinished
    assert looked.missing
    assert not looked.edits
    assert seed.files() == half
    with pytest.raises(ValueError, match="lb1"):
        put_in_place(site, {"lb1": looked})
    plan = plan_of(site, recovers=True)
    assert "its files are back" in plan.mended
    assert seed.files() == before
    assert wired(plan) == files


def test_a_hand_edit_of_a_half_state_is_kept_or_asked_about(
    seed: SeedMachine, tmp_path: Path
) -> None:
    files = wired(plan_of(site_of(desk_of(seed, tmp_path), LocalConnection())))
    _leave_half(seed, files)
    seed.config.write_bytes(seed.config.read_bytes() + b"nonsense;\n")
    broken = seed.files()
    result = seed.wiring().recover()
    assert result.outcome is Outcome.REFUSED
    assert str(seed.config) in result.detail
    assert "the originals are in" in result.detail
    assert seed.files() == broken
    mended = seed.config.read_bytes().replace(b"nonsense;\n", b"# mended by Ann\n")
    seed.config.write_bytes(mended)
    assert seed.wiring().recover().outcome is Outcome.DONE
    assert seed.config.read_bytes() == mended
    assert not seen_by(seed.wiring()).unfinished
    assert str(seed.config) not in seen_by(seed.wiring()).edited
