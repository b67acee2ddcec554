"""The parts of the upgrade strategies that need no machine."""

from __future__ import annotations

import io
import subprocess
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from rolling_deploy.errors import PreflightRefused
from rolling_deploy.remote.artifact import ArtifactWrong, read_archive, read_war
from rolling_deploy.remote.release import ReleaseStrategy
from rolling_deploy.remote.script import text_of
from rolling_deploy.remote.service import Service, kernel_forms, listening_end, peer_text
from rolling_deploy.remote.service_checks import Lines
from rolling_deploy.remote.strategy import strategy_of
from rolling_deploy.remote.sudo_rights import asking_whether_allowed, asks_password
from rolling_deploy.remote.tomcat import TomcatStrategy, commands_for
from rolling_deploy.remote.tomcat_config import graceful_lines
from rolling_deploy.rollout.observed import Verdict
from rolling_deploy.settings import ReleaseSettings, ServerSettings, TomcatSettings
from tests.local_connection import LocalConnection
from tests.strategies_fixture import backend_settings, write_archive

TOMCAT = TomcatSettings(artifact="{release}.war", catalina_base="/srv/tomcat/", state_dir="/s")


@pytest.mark.parametrize(
    ("address", "forms"),
    [
        ("127.0.0.1", ["0100007F", "0000000000000000FFFF00000100007F"]),
        ("::1", ["00000000000000000000000001000000"]),
        ("[::1]", ["00000000000000000000000001000000"]),
        ("app1.example", []),
    ],
)
def test_addresses_are_spelled_as_the_kernel_does(address: str, forms: list[str]) -> None:
    assert kernel_forms(address) == forms


@pytest.mark.parametrize(
    ("peer", "text"),
    [
        ("0100007F:1F90", "127.0.0.1:8080"),
        ("0000000000000000FFFF00000100007F:1F90", "127.0.0.1:8080"),
        ("00000000000000000000000001000000:0050", "[::1]:80"),
        ("nonsense", "nonsense"),
    ],
)
def test_peers_are_named_as_people_do(peer: str, text: str) -> None:
    assert peer_text(peer) == text


def test_a_tomcat_is_stopped_and_started_by_its_own_script_unless_told_otherwise() -> None:
    plain = commands_for(replace(TOMCAT, java_home="/jdk"))
    assert plain.stop == (
        "env",
        "CATALINA_BASE=/srv/tomcat",
        "CATALINA_HOME=/usr/share/tomcat10",
        "JAVA_HOME=/jdk",
        "/usr/share/tomcat10/bin/catalina.sh",
        "stop",
    )
    assert plain.start[-1] == "start"
    assert plain.is_catalina
    assert plain.programs() == ["/usr/share/tomcat10/bin/catalina.sh"]
    unit = commands_for(replace(TOMCAT, unit="tomcat10"))
    assert (unit.stop, unit.start) == (
        ("systemctl", "stop", "tomcat10"),
        ("systemctl", "start", "tomcat10"),
    )
    assert not unit.is_catalina
    own = commands_for(replace(TOMCAT, unit="tomcat10", stop=("halt-it",)))
    assert (own.stop, own.start) == (("halt-it",), ("systemctl", "start", "tomcat10"))


SUDO = ("sudo", "-n", "--")
"""What stands before a command that we run as root."""


@pytest.mark.parametrize(
    ("argv", "is_as_root"),
    [
        (("systemctl", "stop", "tomcat10"), True),
        (("/usr/bin/systemctl", "stop", "tomcat10"), True),
        (("service", "tomcat10", "stop"), True),
        (("rc-service", "tomcat10", "stop"), True),
        (("/srv/tomcat/bin/startup.sh",), False),
        (("env", "A=b", "/srv/tomcat/bin/startup.sh"), False),
        (("sudo", "-u", "tomcat", "/srv/tomcat/bin/startup.sh"), False),
        (("doas", "rc-service", "tomcat10", "stop"), False),
    ],
)
def test_only_a_service_manager_is_given_root(argv: tuple[str, ...], is_as_root: bool) -> None:
    through_sudo = commands_for(replace(TOMCAT, stop=argv, start=("halt",))).through_sudo()
    assert through_sudo.stop == ((*SUDO, *argv) if is_as_root else argv)
    assert through_sudo.start == ("halt",)


def test_own_stop_leaves_the_start_of_the_unit_through_sudo() -> None:
    commands = commands_for(replace(TOMCAT, unit="tomcat10", stop=("halt-it",)))
    through_sudo = commands.through_sudo()
    assert through_sudo.stop == ("halt-it",)
    assert through_sudo.start == (*SUDO, "systemctl", "start", "tomcat10")
    assert through_sudo.programs() == ["halt-it", "sudo"]


def test_tomcat_is_never_started_as_root_by_its_own_script() -> None:
    plain = commands_for(TOMCAT)
    assert plain.through_sudo() == plain


def test_the_guard_looks_at_the_ports_of_every_upstream() -> None:
    servers = {
        "tomcat": ServerSettings("10.0.0.1:8080"),
        "api": ServerSettings("10.0.0.1:8443"),
        "named": ServerSettings("app1.example:9000"),
    }
    backend = replace(backend_settings("a", 8081, TOMCAT), servers=servers)
    commands = commands_for(TOMCAT)
    service = Service(backend, LocalConnection(), "/s", "", is_exact=False, own_commands=commands)
    assert service.guarded_ports == ["8081", "8080", "8443", "9000"]
    assert listening_end("app1.example:9000") == "9000", "a name may stand for any address"
    assert listening_end("[::1]:80") == "80/00000000000000000000000001000000"
    assert listening_end("unix:/run/app.sock") == ""


LISTING = """Matching Defaults entries for deploy on vm:
    env_reset, use_pty

User deploy may run the following commands on vm:
{}"""


def entry(*commands: str, options: str = "", users: str = "root") -> str:
    """As `sudo -ll` writes one."""
    said = f"\nSudoers entry:\n    RunAsUsers: {users}\n"
    said += f"    Options: {options}\n" if options else ""
    return said + "    Commands:\n" + "".join(f"\t{command}\n" for command in commands)


EVERYTHING = entry("ALL", users="ALL")
STOP = "/usr/bin/systemctl stop tomcat10"
FREE = entry(STOP, "/usr/bin/id", options="!authenticate")


@pytest.mark.parametrize(
    ("entries", "asks"),
    [
        (FREE, False),
        (EVERYTHING, True),
        (EVERYTHING + FREE, False),
        (FREE + EVERYTHING, True),
        (FREE + entry("/usr/bin/ls", options="authenticate"), False),
        (entry("/usr/bin/systemctl", options="!authenticate"), False),
        (entry("/usr/bin/systemctl * tomcat10", options="!authenticate"), False),
        (EVERYTHING + entry("/usr/bin/systemctl * tomcat10", options="!authenticate"), None),
        (EVERYTHING + entry("/bin/systemctl stop tomcat10", options="!authenticate"), None),
        (EVERYTHING + entry("ALL", users="tomcat", options="!authenticate"), None),
        (entry(f"!{STOP}", options="!authenticate"), None),
        ("", None),
        ("no words of sudo at all", None),
    ],
)
def test_whether_sudo_asks_for_a_password_is_read_from_its_listing(
    entries: str, asks: bool | None
) -> None:
    assert asks_password(LISTING.format(entries), STOP) is asks


def test_defaults_of_sudoers_say_whether_a_password_is_asked_for() -> None:
    listing = LISTING.format(EVERYTHING)
    assert asks_password(listing.replace("use_pty", "use_pty, !authenticate"), STOP) is False
    some = f"Runas and Command-specific defaults:\n    Defaults!{STOP} !authenticate\n{listing}"
    assert asks_password(some, STOP) is None


@pytest.mark.parametrize(
    ("argv", "asked"),
    [
        ((*SUDO, "systemctl", "stop", "x"), "sudo -n -l -- systemctl stop x"),
        (("sudo", "systemctl", "stop", "x"), "sudo -n -l -- systemctl stop x"),
        (("/bin/sudo", "-u", "tomcat", "/x/stop.sh"), "/bin/sudo -n -l -u tomcat -- /x/stop.sh"),
        (("sudo", "-E", "/x/stop.sh"), None),
        (("sudo", "A=b", "/x/stop.sh"), None),
        (("sudo",), None),
    ],
)
def test_sudo_is_asked_about_what_is_run_and_nothing_else(
    argv: tuple[str, ...], asked: str | None
) -> None:
    assert asking_whether_allowed(argv) == (asked and ["env", "LC_ALL=C", *asked.split()])


def test_the_strategy_is_the_one_the_inventory_names() -> None:
    release = ReleaseSettings(artifact="a", root="/r", state_dir="/s")
    connection = LocalConnection()
    first = strategy_of(backend_settings("a", 1, TOMCAT), connection)
    second = strategy_of(backend_settings("b", 2, release), connection)
    assert isinstance(first, TomcatStrategy)
    assert isinstance(second, ReleaseStrategy)


@pytest.mark.parametrize("release", ["../1", "a/b", "", ".hidden", "-rf", "a b", "1\n2"])
def test_a_release_that_cannot_name_a_directory_is_refused(release: str, tmp_path: Path) -> None:
    write_archive(tmp_path / "app.tar.gz", "1")
    settings = ReleaseSettings(f"{tmp_path}/app.tar.gz", "/r", "/s")
    strategy = ReleaseStrategy(settings, backend_settings("a", 1, settings), LocalConnection())
    with pytest.raises(PreflightRefused, match="names a directory"):
        strategy.artifact_id(release)


def test_the_name_of_an_artifact_follows_its_bytes(tmp_path: Path) -> None:
    settings = ReleaseSettings(f"{tmp_path}/app-{{release}}.tar.gz", "/r", "/s")
    strategy = ReleaseStrategy(settings, backend_settings("a", 1, settings), LocalConnection())
    with pytest.raises(PreflightRefused, match="cannot read"):
        strategy.artifact_id("2.1.0")
    write_archive(tmp_path / "app-2.1.0.tar.gz", "1")
    first = strategy.artifact_id("2.1.0")
    assert first.startswith("2.1.0@")
    write_archive(tmp_path / "app-2.1.0.tar.gz", "other")
    assert strategy.artifact_id("2.1.0") != first


def test_a_war_that_is_cut_off_or_empty_or_no_file_is_refused(tmp_path: Path) -> None:
    war = tmp_path / "app.war"
    with zipfile.ZipFile(war, "w") as archive:
        archive.writestr("index.html", "x" * 5_000)
    assert read_war(war).bytes_unpacked == 5_000
    war.write_bytes(war.read_bytes()[:-30])
    with pytest.raises(ArtifactWrong, match="should be a WAR"):
        read_war(war)
    with zipfile.ZipFile(war, "w"):
        pass
    with pytest.raises(ArtifactWrong, match="empty"):
        read_war(war)
    with pytest.raises(ArtifactWrong, match="should be a file"):
        read_war(tmp_path)


@pytest.mark.parametrize("kind", ["climbs", "link"])
def test_a_zip_that_reaches_outside_is_refused(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "app.zip"
    with zipfile.ZipFile(path, "w") as archive:
        if kind == "climbs":
            archive.writestr("a/../../b", "x")
        else:
            member = zipfile.ZipInfo("link")
            member.external_attr = 0o120777 << 16
            archive.writestr(member, "../../etc/passwd")
    with pytest.raises(ArtifactWrong, match="outside"):
        read_archive(path)


def test_links_inside_a_release_are_fine(tmp_path: Path) -> None:
    path = tmp_path / "app.tar"
    with tarfile.open(path, "w") as archive:
        data = tarfile.TarInfo("./lib/app.so.1")
        data.size = 3
        archive.addfile(data, io.BytesIO(b"abc"))
        for name, kind, target in (
            ("lib/app.so", tarfile.SYMTYPE, "app.so.1"),
            ("bin/app", tarfile.SYMTYPE, "../lib/app.so"),
            ("hard", tarfile.LNKTYPE, "lib/app.so.1"),
        ):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, target
            archive.addfile(member)
    assert read_archive(path).bytes_unpacked == 3


def test_an_archive_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "app.tar.gz"
    write_archive(path, "1", {"more": bytes(range(256)) * 40})
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ArtifactWrong, match="should be an archive"):
        read_archive(path)


def verdicts(server_xml: str) -> dict[str, Verdict]:
    return {line.name: line.verdict for line in graceful_lines(Lines("a"), server_xml, 8080)}


SERVER_XML = """<Server><Service gracefulStopAwaitMillis="9">
  <Connector port="8080" bindOnInit="false"/><Connector port="8009"/>
  <Engine defaultHost="h"><Host name="h" appBase="webapps" autoDeploy="false"/></Engine>
</Service></Server>"""


def test_a_tomcat_that_stops_gracefully_and_deploys_nothing_by_itself_is_ok() -> None:
    assert verdicts(SERVER_XML) == {"graceful stop": Verdict.OK}


@pytest.mark.parametrize(
    ("taken_away", "name", "verdict"),
    [
        (' gracefulStopAwaitMillis="9"', "graceful stop", Verdict.WARNING),
        (' bindOnInit="false"', "graceful stop", Verdict.WARNING),
        (' port="8080"', "graceful stop", Verdict.NOT_CHECKED),
        (' autoDeploy="false"', "autoDeploy", Verdict.WARNING),
        ("</Server>", "graceful stop", Verdict.NOT_CHECKED),
    ],
)
def test_what_is_missing_in_server_xml_is_named(
    taken_away: str, name: str, verdict: Verdict
) -> None:
    assert verdicts(SERVER_XML.replace(taken_away, ""))[name] is verdict


def test_another_app_base_is_refused_and_no_file_is_not_checked() -> None:
    other = SERVER_XML.replace('appBase="webapps"', 'appBase="apps"')
    assert verdicts(other)["app base"] is Verdict.REFUSED
    assert verdicts("") == {"graceful stop": Verdict.NOT_CHECKED}


@pytest.mark.parametrize(
    ("text", "line", "is_held"),
    [
        ("--name app1", "python app.py --name app1", True),
        ("--name app1", "python app.py --name app10", False),
        ("--name app1", "python app.py --name app1 --port 1", True),
        ("app.jar", "java -jar /opt/app.jar", True),
        ("app.jar", "java -jar /opt/myapp.jar", False),
        ("/srv/app", "python /srv/app/run.py", True),
        ("/srv/app", "python /srv/app2/run.py", False),
        ("[*]", "python x", False),
    ],
)
def test_the_text_of_a_process_is_held_as_whole_words(text: str, line: str, is_held: bool) -> None:
    script = text_of("look_release").partition('named "$@"\nrelease_places')[0]
    script += '\nprocess=$1; holds_words " $2 "'
    command = ["sh", "-c", script, "sh", text, line]
    found = subprocess.run(command, check=False, timeout=30)
    assert (found.returncode == 0) is is_held


def test_a_command_is_picked_out_of_a_list_of_words_unchanged(tmp_path: Path) -> None:
    script = text_of("activate_release").partition('named "$@"\nshift')[0]
    script += '\nstate=$1; shift; launch starting log 2 3 "$@"; wait "$launched"'
    words = ["a b", "$x", "printf", "<%s>", "it's; $(one) *", "tail", ""]
    command = ["sh", "-c", script, "sh", str(tmp_path), *words]
    subprocess.run(command, check=True, timeout=30)
    assert (tmp_path / "log").read_text() == "<it's; $(one) *>"


def test_a_directory_without_a_war_is_nothing_that_tomcat_can_be_given_again() -> None:
    strategy = strategy_of(backend_settings("app1", 8080, TOMCAT), LocalConnection())
    assert not strategy.can_activate("dir:ROOT")
    assert strategy.can_activate("0" * 64)
