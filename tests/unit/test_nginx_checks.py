"""The preflight's lines about one nginx, from facts alone."""

from __future__ import annotations

import base64

import pytest

from rolling_deploy.remote.nginx_facts import checks, facts_from
from rolling_deploy.remote.script import parse_reply
from rolling_deploy.rollout.observed import Check, Verdict
from rolling_deploy.settings import LoadBalancerSettings

SETTINGS = LoadBalancerSettings(name="lb1", host="h", file="/f", state_dir="/s")
SOUND = {
    "master": "10", "version": "nginx/1.22.1", "workers": "2", "retiring": "0", "pid_state": "ok",
    "pid_file": "/run/nginx.pid", "exe": "/usr/sbin/nginx", "binary": "same", "test_status": "0",
    "loaded": "1.0", "live": "g1", "listening": "1", "client": "bash", "state_writable": "yes",
    "file_writable": "yes", "file_state": "readable", "master_seen": "10 ours nginx",
    "reload_command": "/proc/10/exe -s reload", "clock_ms": "1",
}  # fmt: skip
DUMP = "listen 127.0.0.1:18999;"


def lines(*more: str, dump: str | None = DUMP, **changes: str | None) -> dict[str, Check]:
    values = {**SOUND, **changes}
    said = [f"{key}={value}" for key, value in values.items() if value is not None]
    if dump is not None:
        said.append("dump:=" + base64.b64encode(dump.encode()).decode())
    reply = parse_reply("\n".join([*said, *more, "end=done"]).encode())
    return {check.name: check for check in checks(facts_from(reply, 18_999), SETTINGS)}


def test_a_sound_nginx_is_ok_in_every_line() -> None:
    told = lines()
    assert {check.verdict for check in told.values()} == {Verdict.OK}
    assert {check.subject for check in told.values()} == {"lb1"}
    assert told["reload command"].detail == "`/usr/sbin/nginx -s reload`"


@pytest.mark.parametrize(
    ("name", "changes", "verdict"),
    [
        ("tools", {"tools_missing": "flock "}, Verdict.REFUSED),
        ("nginx", {"master": "0", "no_master": "none"}, Verdict.REFUSED),
        ("pid file", {"pid_state": "stale"}, Verdict.REFUSED),
        ("pid file", {"pid_state": "missing"}, Verdict.REFUSED),
        ("running program", {"binary": None}, Verdict.NOT_CHECKED),
        ("running program", {"binary": "changed"}, Verdict.WARNING),
        ("nginx test", {"test_status": None}, Verdict.NOT_CHECKED),
        ("nginx test", {"test_status": "1"}, Verdict.REFUSED),
        ("edits not loaded yet", {"edited": "/a"}, Verdict.REFUSED),
        ("edits not loaded yet", {"touched": "/a"}, Verdict.WARNING),
        ("edits not loaded yet", {"rearranged": "/a"}, Verdict.REFUSED),
        ("edits not loaded yet", {"loaded": None}, Verdict.NOT_CHECKED),
        ("earlier workers", {"retiring": "1"}, Verdict.WARNING),
        ("workers without a master", {"orphan": "7"}, Verdict.REFUSED),
        ("rights", {"state_writable": "no"}, Verdict.REFUSED),
        ("rights", {"file_writable": "no"}, Verdict.REFUSED),
        ("rights", {"file_state": "unreadable"}, Verdict.REFUSED),
        ("rights", {"sudo": "1", "sudo_refused": "test: nginx -t"}, Verdict.REFUSED),
    ],
)
def test_each_fault_has_its_line(
    name: str, changes: dict[str, str | None], verdict: Verdict
) -> None:
    assert lines(**changes)[name].verdict is verdict


LISTED = "Sudoers entry:\n    RunAsUsers: root\n    {}Commands:\n\t/bin/mv {}\n"


@pytest.mark.parametrize(
    ("listing", "verdict"),
    [
        (LISTED.format("Options: !authenticate\n    ", "-f /a /b"), Verdict.OK),
        (LISTED.format("", "-f /a /b"), Verdict.REFUSED),
        (
            LISTED.format("Options: !authenticate\n    ", "-f /a /b") + LISTED.format("", "*"),
            Verdict.NOT_CHECKED,
        ),
    ],
)
def test_that_sudo_lists_a_command_does_not_prove_that_it_asks_for_no_password(
    listing: str, verdict: Verdict
) -> None:
    said = "sudo_listing:=" + base64.b64encode(listing.encode()).decode()
    told = lines(said, sudo="1", sudo_listed="/bin/mv -f /a /b")["rights"]
    assert told.verdict is verdict, told


def test_with_sudo_the_directory_need_not_be_writable() -> None:
    assert lines(sudo="1", file_writable="no")["rights"].verdict is Verdict.OK


def test_without_a_master_nothing_is_said_about_what_was_not_seen() -> None:
    assert set(lines(master="0", no_master="none")) == {"tools", "nginx", "rights"}


def test_a_listener_that_the_configuration_does_not_name_is_somebody_else() -> None:
    assert lines(dump="listen 80;")["generation port"].verdict is Verdict.REFUSED
    assert lines(dump=None, live="")["generation port"].verdict is Verdict.REFUSED
    assert lines(dump=None)["generation port"].verdict is Verdict.OK
    assert lines(dump="", listening="0", live="")["generation port"].verdict is Verdict.OK


def test_hidden_processes_are_given_as_a_reason() -> None:
    told = lines(master="0", no_master="none", master_seen=None, hidepid="rw,hidepid=2")
    assert "hidepid=2" in told["nginx"].detail


def test_a_state_directory_that_cannot_be_written_comes_with_the_command_that_makes_it() -> None:
    told = lines(state_writable="no", sudo="1")["rights"]
    assert '`sudo install -d -o "$(id -un)" -m 700 /s`' in told.detail
    assert "`nginx.state_dir`" in told.detail
