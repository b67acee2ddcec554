"""What a setup must know of a Tomcat before it touches it, and must not take for done."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rolling_deploy.errors import PreflightRefused
from rolling_deploy.remote.wiring import WiringStrategy
from rolling_deploy.rollout.observed import Check, Verdict
from rolling_deploy.rollout.step import Outcome
from rolling_deploy.settings import SessionManagerSettings
from tests.documents import read_xml
from tests.local_connection import LocalConnection
from tests.strategies_fixture import PAUSE, TOKEN, wait_for_version
from tests.wired_tomcat import (
    LABEL,
    WiredTomcat,
    seen,
    wire,
    wired_tomcat,
    write_catalina_jar,
)

NOBODY = 65534
TOLD_S = 4.0
"""A file that is written so long after the start of a process is told from one before it."""

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")


@pytest.fixture
def tomcat(tmp_path: Path) -> Iterator[WiredTomcat]:
    with wired_tomcat(tmp_path) as made:
        yield made


def checks_of(strategy: WiringStrategy) -> dict[str, Check]:
    return {check.name: check for check in strategy.preflight(LABEL)}


def refusals(strategy: WiringStrategy) -> list[str]:
    return [c.detail for c in strategy.preflight(LABEL) if c.verdict is Verdict.REFUSED]


def restart(tomcat: WiredTomcat) -> None:
    """As a person does it, with nothing of ours noted."""
    tomcat.app.control("restart")
    wait_for_version(tomcat.app.port, "1")


def write_again(path: Path) -> None:
    """The same bytes, some time after the process started."""
    PAUSE.wait(TOLD_S)
    path.write_bytes(path.read_bytes())


def with_tools(folder: Path, tools: Mapping[str, str], user: int | None = None) -> LocalConnection:
    """Answers this machine with these tools behind scripts, which call the real ones."""
    bin_dir = folder / "tools"
    bin_dir.mkdir()
    bin_dir.chmod(0o755)
    for name, text in tools.items():
        tool = bin_dir / name
        tool.write_text(f'#!/bin/sh\nPATH="${{PATH#*:}}"\n{text}')
        tool.chmod(0o755)
    path = f"{bin_dir}:{os.environ['PATH']}"
    return LocalConnection(user=user, environment={"PATH": path})


# Files that are right, and a Tomcat that has not read them.


def test_files_made_right_by_hand_after_tomcat_started_are_missing_until_it_is_restarted(
    tomcat: WiredTomcat,
) -> None:
    wire(tomcat.strategy())
    shutil.rmtree(tomcat.store)  # all that we know of it: now it was made by hand
    restart(tomcat)
    assert tomcat.strategy().missing() == ()
    assert seen(tomcat.strategy()).is_restarted_since_swap is None

    context = tomcat.base / "conf" / "context.xml"
    PAUSE.wait(TOLD_S)
    # Moved into place, with a time of long ago.
    shutil.copy2(context, context.with_name("edited.xml"))
    context.with_name("edited.xml").rename(context)

    strategy = tomcat.strategy()
    (said,) = strategy.missing()
    assert "Tomcat runs since before `conf/context.xml` was written or touched" in said
    assert strategy.differences() == ()
    assert seen(strategy).is_restarted_since_swap is False
    assert checks_of(strategy)["wiring"].verdict is Verdict.WARNING
    files, pids = tomcat.files(), tomcat.app.pids()
    artifact = str(seen(strategy).artifact)
    assert wire(strategy) == artifact
    assert set(pids).isdisjoint(tomcat.app.pids())
    assert files.items() <= tomcat.files().items()
    assert tomcat.strategy().missing() == ()
    assert seen(tomcat.strategy()).is_restarted_since_swap is True


def test_a_file_that_we_wired_and_somebody_wrote_again_as_it_was_restarts_nobody(
    tomcat: WiredTomcat,
) -> None:
    artifact = wire(tomcat.strategy())
    write_again(tomcat.base / "conf" / "redisson.yaml")
    context = tomcat.base / "conf" / "context.xml"
    later = context.stat().st_mtime + 3600
    os.utime(context, (later, later))
    strategy, pids = tomcat.strategy(), tomcat.app.pids()
    assert strategy.missing() == ()
    assert "restart" not in checks_of(strategy)
    assert seen(strategy).is_restarted_since_swap is True
    assert wire(strategy) == artifact
    assert tomcat.app.pids() == pids


def test_a_file_from_the_future_is_not_checked_and_restarts_nobody(
    tomcat: WiredTomcat, tmp_path: Path
) -> None:
    wire(tomcat.strategy())
    shutil.rmtree(tomcat.store)  # now it was made by hand
    restart(tomcat)
    # A file server whose clock is an hour ahead.
    stat = 'case "$*" in *%Z*context.xml) exec date -d "1 hour" +%s ;; esac\nexec stat "$@"\n'
    strategy = tomcat.strategy(with_tools(tmp_path, {"stat": stat}))
    assert strategy.missing() == ()
    line = checks_of(strategy)["restart"]
    assert (line.verdict, "`conf/context.xml`" in line.detail) == (Verdict.NOT_CHECKED, True)
    assert seen(strategy).is_restarted_since_swap is None


def test_a_stopped_tomcat_is_not_said_to_run(tomcat: WiredTomcat) -> None:
    wire(tomcat.strategy())
    tomcat.app.control("stop")
    assert tomcat.strategy().missing() == ()


# What Tomcat could not read.


def test_a_result_that_would_be_no_xml_is_refused_before_anything_is_touched(
    tomcat: WiredTomcat,
) -> None:
    # An attribute can hold any letter in any encoding, the name of an element cannot.
    template = '<Manager className="a.Manager"/><Žluť className="a.B"/>'
    manager = SessionManagerSettings("orangefunction", (), "mine.xml.j2", template)
    strategy = tomcat.wired_by(manager)
    line = checks_of(strategy)["wiring"]
    assert line.verdict is Verdict.REFUSED
    assert "Tomcat could not read the new" in line.detail
    assert "conf/context.xml:" in line.detail
    with pytest.raises(PreflightRefused, match="could not read the new"):
        strategy.artifact_id(LABEL)


def open_to_all(tomcat: WiredTomcat) -> None:
    """Everybody may write there, so that only owners are in the way."""
    folder = tomcat.base
    while folder != folder.parent and str(folder).startswith("/tmp/"):
        folder.chmod(0o777)
        folder = folder.parent
    for path in (tomcat.base / "conf", *tomcat.base.glob("conf/*")):
        path.chmod(0o777 if path.is_dir() else 0o644)
    for path in (tomcat.jars, *tomcat.jars.iterdir()):
        path.chmod(0o755)


@needs_root
def test_a_file_that_tomcat_could_not_read_is_refused_by_the_check_and_while_staging(
    tomcat: WiredTomcat, tmp_path: Path
) -> None:
    wire(tomcat.strategy())
    # Whoever is to read it is not there to be asked: then it is the group of what is there now.
    tomcat.app.control("stop")
    open_to_all(tomcat)
    (tomcat.base / "lib").chmod(0o777)
    (tomcat.base / "conf" / "redisson.yaml").unlink()
    other: dict[str, Any] = {"state_dir": str(tomcat.base / "another")}
    strategy = tomcat.strategy(LocalConnection(user=NOBODY), **other)
    refused = refusals(strategy)
    assert len(refused) == 1, refused
    assert "Tomcat could not read the new" in refused[0]
    assert f"{tomcat.base}/conf/redisson.yaml" in refused[0]
    result = strategy.stage(LABEL, TOKEN)
    assert result.outcome is Outcome.REFUSED
    assert "Tomcat could not read the new conf/redisson.yaml" in result.detail
    assert strategy.artifact_id(LABEL) not in seen(strategy).staged
    open_strategy = tomcat.strategy(LocalConnection(user=NOBODY), password="", **other)
    assert refusals(open_strategy) == []
    assert open_strategy.stage(LABEL, TOKEN).outcome is Outcome.DONE, "everybody may read it"


@needs_root
def test_a_file_is_never_taken_from_its_owner(tomcat: WiredTomcat) -> None:
    open_to_all(tomcat)
    strategy = tomcat.strategy(LocalConnection(user=NOBODY))
    context = tomcat.base / "conf" / "context.xml"
    owners = [c.detail for c in strategy.preflight(LABEL) if c.name == "owner"]
    assert [f"`{context}`" in detail for detail in owners] == [True, False]
    assert "belongs to `root:root`" in owners[0]
    assert f"sudo chown nobody:nogroup {context}" in owners[0]
    result = strategy.stage(LABEL, TOKEN)
    assert result.outcome is Outcome.REFUSED
    assert f"{context} belongs to root:root, who would lose it to nobody:nogroup" in result.detail
    assert context.stat().st_uid == 0

    for path in (context, tomcat.base / "conf" / "server.xml"):
        os.chown(path, NOBODY, NOBODY)
    strategy = tomcat.strategy(LocalConnection(user=NOBODY))
    assert "owner" not in checks_of(strategy)
    assert strategy.stage(LABEL, TOKEN).outcome is Outcome.DONE


NAMED_WITH_BLANKS = {
    "stat": """set -- "$(stat "$@" | sed 's/nogroup/domain users/; s/root:root/the root:the root/')"
printf '%s\\n' "$1"
""",
    "id": """set -- "$(id "$@" | sed 's/nogroup/domain users/')"
printf '%s\\n' "$1"
""",
}
"""As on a machine that belongs to a Windows domain."""


@needs_root
def test_names_of_users_and_groups_may_hold_blanks(tomcat: WiredTomcat, tmp_path: Path) -> None:
    open_to_all(tomcat)
    connection = with_tools(tmp_path, NAMED_WITH_BLANKS, NOBODY)
    context = tomcat.base / "conf" / "context.xml"
    checks = tomcat.strategy(connection).preflight(LABEL)
    said = next(c.detail for c in checks if c.name == "owner")
    assert "belongs to `the root:the root`" in said
    assert "only write one of `nobody:domain users`" in said
    assert f"run `sudo chown 'nobody:domain users' {context}` there" in said
    for path in (context, tomcat.base / "conf" / "server.xml"):
        os.chown(path, NOBODY, NOBODY)
    assert "owner" not in checks_of(tomcat.strategy(connection))
    (tmp_path / "root").mkdir()
    as_root = tomcat.strategy(with_tools(tmp_path / "root", NAMED_WITH_BLANKS))
    assert refusals(as_root) == [], "root may give each file to whom it belongs"


@needs_root
def test_root_gives_a_new_file_its_owner_and_mode_again(tomcat: WiredTomcat) -> None:
    context = tomcat.base / "conf" / "context.xml"
    os.chown(context, NOBODY, NOBODY)
    context.chmod(0o664)
    assert refusals(tomcat.strategy()) == []
    wire(tomcat.strategy())
    state = context.stat()
    assert (state.st_uid, state.st_gid, state.st_mode & 0o777) == (NOBODY, NOBODY, 0o664)


# What this Tomcat does not know.


@pytest.mark.parametrize(("version", "is_set"), [("9.0.40", False), ("9.0.41", True)])
def test_a_tomcat_is_told_of_a_graceful_stop_only_if_it_knows_it(
    tomcat: WiredTomcat, version: str, is_set: bool
) -> None:
    write_catalina_jar(tomcat.home / "lib" / "catalina.jar", version)
    strategy = tomcat.strategy()
    line = checks_of(strategy).get("graceful stop")
    assert (line is None) is is_set
    assert line is None or line.verdict is Verdict.WARNING
    assert line is None or f"Tomcat {version} does not know" in line.detail
    wire(strategy)
    service = read_xml(tomcat.files()["conf/server.xml"])[0]
    assert ("gracefulStopAwaitMillis" in service.keys()) is is_set  # noqa: SIM118 # an element
    assert service[0].get("bindOnInit") == "false"
    assert tomcat.strategy().missing() == ()


def test_an_unknown_tomcat_is_told_and_that_is_said(tomcat: WiredTomcat) -> None:
    (tomcat.home / "lib" / "catalina.jar").write_bytes(b"PK of somebody's own making")
    strategy = tomcat.strategy()
    line = checks_of(strategy)["graceful stop"]
    assert (line.verdict, "which Tomcat this is" in line.detail) == (Verdict.NOT_CHECKED, True)
    wire(strategy)
    assert b"gracefulStopAwaitMillis" in tomcat.files()["conf/server.xml"]


# Who else wires this Tomcat.


def test_a_second_inventory_that_would_undo_the_first_is_refused_and_told_why(
    tomcat: WiredTomcat,
) -> None:
    blog = replace(tomcat, application="blog")
    strategy = tomcat.strategy()
    stock = str(seen(strategy).artifact)
    assert refusals(blog.strategy(graceful_stop_ms=9_000)) == []
    wire(strategy)
    assert json.loads(tomcat.files()[tomcat.mark()])["application"] == "shop"
    assert b"sesame" not in tomcat.files()[tomcat.mark()]
    assert refusals(tomcat.strategy(graceful_stop_ms=9_000)) == [], "one may change its own mind"

    assert refusals(blog.strategy()) == [], "who wants the same undoes nothing"
    (said,) = refusals(blog.strategy(graceful_stop_ms=9_000))
    assert "`shop` (inventory `/operators/shop.yaml`)" in said
    assert 'gracefulStopAwaitMillis="5000"' in said
    mark = tomcat.base / tomcat.mark()
    assert f"if `shop` is gone or does not want this any more, remove `{mark}` there" in said
    (said,) = refusals(blog.strategy(kind="orangefunction", names=()))
    assert "a Manager of another class already" in said
    assert "RedissonSessionManager" in said

    # It is not asked for any more, and no setup of theirs comes by to take its mark away.
    text = mark.read_text()
    mark.unlink()
    assert refusals(blog.strategy(graceful_stop_ms=9_000)) == []
    mark.write_text(text)
    strategy.activate(stock, TOKEN)
    assert tomcat.mark() not in tomcat.files()
    assert refusals(blog.strategy(graceful_stop_ms=9_000)) == [], "it was taken back"


def test_two_inventories_that_want_different_things_do_not_clash(tomcat: WiredTomcat) -> None:
    blog = replace(tomcat, application="blog")
    wire(tomcat.strategy(graceful_stop_ms=None))
    lines = checks_of(blog.strategy())
    assert "other inventories" not in lines
    wire(blog.strategy())
    assert {tomcat.mark(), blog.mark()} <= tomcat.files().keys()
    assert refusals(tomcat.strategy(graceful_stop_ms=None)) == []
    (said,) = refusals(tomcat.strategy(graceful_stop_ms=6_000))
    assert "`blog`" in said


def test_another_password_or_address_of_the_other_is_a_clash_without_being_shown(
    tomcat: WiredTomcat,
) -> None:
    wire(tomcat.strategy())
    mark = tomcat.base / tomcat.mark()
    theirs = mark.read_text().replace("6379", "6390").replace("shop", "blog")
    (tomcat.base / tomcat.mark("blog")).write_text(theirs)
    (said,) = refusals(tomcat.strategy())
    assert "`conf/redisson.yaml` with" in said
    assert "6390" in said


def test_a_mark_that_is_not_understood_is_not_checked(tomcat: WiredTomcat) -> None:
    (tomcat.base / tomcat.mark("blog")).write_text('{"format": 2}')
    line = checks_of(tomcat.strategy())["other inventories"]
    assert line.verdict is Verdict.NOT_CHECKED
    assert tomcat.mark("blog") in line.detail


# Secrets that are short.


@pytest.mark.parametrize("password", ["a", "jdbc", "redis", "catalina"])
def test_a_password_that_is_an_ordinary_word_is_masked_by_its_place(
    tomcat: WiredTomcat, password: str
) -> None:
    template = (
        '<Manager className="org.catalina.redis.Manager" key="{{ password }}"\n'
        '         uri="redis://:{{ password }}@h"/>'
    )
    manager = SessionManagerSettings("orangefunction", (), "mine.xml.j2", template)
    before = "\n".join(tomcat.wired_by(manager, password=password).differences())
    assert 'className="org.catalina.redis.Manager" key="***"' in before
    assert 'uri="***"' in before
    assert '<Resource name="jdbc/shop" password="***"/>' in before
    wire(tomcat.wired_by(manager, password=password))
    other = replace(manager, template_text=template.replace("Manager c", "Manager x='1' c"))
    after = "\n".join(tomcat.wired_by(other, password="another one").differences())
    assert f'key="{password}"' not in after
    assert f":{password}@" not in after
    assert 'className="org.catalina.redis.Manager"' in after


# Links.


@pytest.mark.parametrize("name", ["redisson.yaml", "context.xml"])
def test_a_link_to_nothing_is_written_through_and_comes_back_as_it_was(
    tomcat: WiredTomcat, name: str
) -> None:
    elsewhere = tomcat.base.parent / "etc"
    elsewhere.mkdir()
    link = tomcat.base / "conf" / name
    link.unlink(missing_ok=True)
    link.symlink_to(elsewhere / name)
    before = tomcat.files()
    strategy = tomcat.strategy()
    stock = str(seen(strategy).artifact)
    wire(strategy)
    assert link.is_symlink()
    assert (elsewhere / name).is_file()
    result = strategy.activate(stock, TOKEN)
    assert result.outcome is Outcome.DONE, result.detail
    assert link.is_symlink()
    assert link.readlink() == elsewhere / name
    assert not list(elsewhere.iterdir())
    assert tomcat.files() == before


@pytest.mark.parametrize("target", ["nowhere/at/all.yaml", "redisson.yaml"])
def test_a_link_that_leads_nowhere_is_refused(tomcat: WiredTomcat, target: str) -> None:
    link = tomcat.base / "conf" / "redisson.yaml"
    link.symlink_to(target)
    strategy = tomcat.strategy()
    line = checks_of(strategy)["links"]
    assert (line.verdict, str(link) in line.detail) == (Verdict.REFUSED, True)
    assert strategy.stage(LABEL, TOKEN).outcome is Outcome.REFUSED
    assert link.is_symlink()
