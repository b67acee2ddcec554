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
from rolling_deploy.remote.service import kernel_forms, peer_text
from rolling_deploy.remote.service_checks import Lines
from rolling_deploy.remote.strategy import strategy_of
from rolling_deploy.remote.tomcat import TomcatStrategy, commands_for
from rolling_deploy.remote.tomcat_config import graceful_lines
from rolling_deploy.rollout.observed import Verdict
from rolling_deploy.settings import ReleaseSettings, TomcatSettings
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
    assert (plain.is_service, plain.is_catalina) == (False, True), "never as root"
    assert plain.programs() == ["/usr/share/tomcat10/bin/catalina.sh"]
    unit = commands_for(replace(TOMCAT, unit="tomcat10"))
    assert (unit.stop, unit.start) == (
        ("systemctl", "stop", "tomcat10"),
        ("systemctl", "start", "tomcat10"),
    )
    assert (unit.is_service, unit.is_catalina) == (True, False)
    own = commands_for(replace(TOMCAT, unit="tomcat10", stop=("halt-it",)))
    assert (own.stop, own.start) == (("halt-it",), ("systemctl", "start", "tomcat10"))


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
    script += '\nstate=$1 as_service=1; shift; launch "$state/log" 2 3 "$@"; wait "$launched"'
    words = ["a b", "$x", "printf", "<%s>", "it's; $(one) *", "tail", ""]
    command = ["sh", "-c", script, "sh", str(tmp_path), *words]
    subprocess.run(command, check=True, timeout=30)
    assert (tmp_path / "log").read_text() == "<it's; $(one) *>"
