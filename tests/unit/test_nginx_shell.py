"""The shell that reads nginx's processes and configuration, run by a real sh."""

from __future__ import annotations

import subprocess
from importlib.resources import files

import pytest

PARTS = ("prelude", "nginx_settings", "nginx_processes", "nginx_generation", "nginx_publish")


def run(commands: str, *, config: str = "", prefix: str = "", old: str = "") -> list[str]:
    """Run shell commands after all the shared parts, with plain settings."""
    folder = files("rolling_deploy.remote").joinpath("scripts")
    text = "".join(folder.joinpath(f"{part}.sh").read_text() for part in PARTS)
    settings = ["/s", "/f", "1", "h", "ignore", "", config, prefix, "", "", "", "1000"]
    done = subprocess.run(
        ["sh", "-c", text + commands, "sh", *settings, old],
        capture_output=True,
        check=True,
        text=True,
    )
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    ("title", "said"),
    [
        ("nginx", ["nginx", "", "", ""]),
        (
            "/usr/sbin/nginx -g daemon on; master_process on;",
            ["/usr/sbin/nginx", "", "", "daemon on; master_process on;"],
        ),
        (
            "/opt/nginx -p /opt/n/ -c conf/a.conf -g pid /run/a.pid; -e stderr",
            ["/opt/nginx", "conf/a.conf", "/opt/n/", "pid /run/a.pid;"],
        ),
        ("nginx -c/etc/a.conf -p/opt/n", ["nginx", "/etc/a.conf", "/opt/n", ""]),
        ("nginx -c /etc/*.conf", ["nginx", "/etc/*.conf", "", ""]),
    ],
)
def test_a_masters_title_tells_how_it_was_started(title: str, said: list[str]) -> None:
    shown = 'printf "%s\\n" "$m_word" "$m_config" "$m_prefix" "$m_globals"'
    assert run(f"read_title 1 'nginx: master process {title}'; {shown}") == said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("pid /run/a.pid;\n", ["pid /run/a.pid"]),
        ("user a; pid  '/run/a.pid'; # pid /no;\n", ["pid /run/a.pid"]),
        (
            "# pid /no;\n  error_log /l warn;\n\tpid /run/b.pid ;\n",
            ["error_log /l", "pid /run/b.pid"],
        ),
        ("rapid /no;\n", []),
    ],
)
def test_the_pid_file_and_the_log_are_found_in_the_configuration(
    tmp_path_factory: pytest.TempPathFactory, text: str, said: list[str]
) -> None:
    path = tmp_path_factory.mktemp("config") / "nginx.conf"
    path.write_text(text)
    assert run(f"m_globals=''; m_config={path}; main_values") == said


def test_a_relative_path_is_read_beneath_the_prefix() -> None:
    shown = 'printf "%s\\n" "$rd_path"'
    commands = f"m_prefix=/opt/n/; beneath logs/a.pid; {shown}; beneath /b; {shown}"
    assert run(commands) == ["/opt/n/logs/a.pid", "/b"]


@pytest.mark.parametrize("text", ["", "x", "12x", "-1", " "])
def test_a_pid_file_that_holds_no_number_names_nobody(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    path = tmp_path_factory.mktemp("pid") / "nginx.pid"
    path.write_text(text)
    assert run(f'named_in {path}; printf "[%s]\\n" "$rd_named"') == ["[]"]


MASTER, OLD, FOREIGN = 100, 90, 70
PROCESSES = f"""\
{MASTER} {OLD} 90 1000 master nginx: master process nginx
101 {MASTER} 90 1001 worker nginx: worker process
102 {MASTER} 90 1002 other nginx: cache manager process
{OLD} 1 90 900 master nginx: master process nginx
91 {OLD} 90 901 retiring nginx: worker process is shutting down
92 {OLD} 90 902 worker nginx: worker process
{FOREIGN} 1 70 700 master nginx: master process other
71 {FOREIGN} 70 701 worker nginx: worker process
72 {FOREIGN} 70 702 retiring nginx: worker process is shutting down
60 1 60 600 worker nginx: worker process
61 1 60 601 retiring nginx: worker process is shutting down
"""


def judged(policy: str, *snapshot: str, tmp: str) -> dict[str, str]:
    lines = run(
        f"policy={policy} master={MASTER} m_pid_file=/none processes='{PROCESSES}'\n"
        f"printf '%s\\n' {' '.join(repr(line) for line in ('sequence=1', *snapshot))} > {tmp}\n"
        f"judge_workers {tmp}"
    )
    return {line.split()[0]: line.split()[2] for line in lines}


def test_a_master_that_started_ours_and_orphans_count_and_an_ignored_one_does_not(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    tmp = str(tmp_path_factory.mktemp("s") / "g1")
    assert judged("ignore", "worker 92 902", "worker 60 600", tmp=tmp) == {
        "101": "current",
        "91": "retiring",
        "92": "unretired",
        "60": "unretired",
        "61": "retiring",
    }


def test_every_master_counts_when_none_is_ignored(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    tmp = str(tmp_path_factory.mktemp("s") / "g1")
    said = judged("refuse", "worker 71 701", tmp=tmp)
    assert (said["71"], said["72"], said["60"]) == ("unretired", "retiring", "other")


def test_a_pid_given_to_another_worker_is_not_the_one_in_the_snapshot(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    tmp = str(tmp_path_factory.mktemp("s") / "g1")
    assert judged("ignore", "worker 101 5", tmp=tmp)["101"] == "current"


@pytest.mark.parametrize(
    ("said", "live"),
    [
        ("200 g1\\n200 g1\\n", "g1"),
        ("200 g1\\n200 g2\\n", ""),
        ("200 g1\\n000 no answer\\n", ""),
        ("404 g1\\n", ""),
        ("", ""),
    ],
)
def test_only_answers_that_all_agree_are_live(said: str, live: str) -> None:
    ask = f"ask_generation() {{ printf '{said}'; }}; n_current=2; ask_live; echo \"[$live]\""
    assert run(ask) == [f"[{live}]"]


def test_a_master_started_by_debians_unit_is_tested_without_its_start_options() -> None:
    globals_ = "daemon on; master_process on;"
    commands = f"m_exe=/usr/sbin/nginx m_said_prefix='' m_said_config='' m_globals='{globals_}'"
    assert run(f"{commands}; master_words") == ["/usr/sbin/nginx"]
    assert run(f"{commands}' pid /a;'; master_words") == ["/usr/sbin/nginx", "-g", "pid /a;"]
