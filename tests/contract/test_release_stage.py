"""The `release` strategy until something is activated: what lies ready, and what is refused."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

from rolling_deploy.rollout.observed import Unreachable, Verdict
from rolling_deploy.rollout.step import Outcome
from tests.strategies_fixture import (
    BY_HAND,
    TOKEN,
    AppBackend,
    CutConnection,
    DroppedConnection,
    app,
    archives,
    make_app,
    seen,
    small_disk,
    write_archive,
)

__all__ = ["app", "archives"]


@pytest.mark.parametrize("suffix", ["tar", "zip"])
def test_other_archives_are_unpacked_too(app: AppBackend, archives: Path, suffix: str) -> None:
    write_archive(archives / f"app-4.{suffix}", "4")
    strategy = app.strategy(artifact=f"{archives}/app-{{release}}.{suffix}")
    assert strategy.stage("4", TOKEN).outcome is Outcome.DONE
    assert (app.root / "releases" / "4" / "VERSION").read_text() == "4"
    assert seen(strategy).staged == {BY_HAND, strategy.artifact_id("4")}


def escaping(kind: str) -> tarfile.TarInfo:
    names = {"climbs": "../escaped", "absolute": "/tmp/escaped", "deep": "a/../../escaped"}
    member = tarfile.TarInfo(names.get(kind, "bad"))
    if kind == "link":
        member.type, member.linkname = tarfile.SYMTYPE, "../../../etc/passwd"
    elif kind == "absolute link":
        member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
    elif kind == "hard link":
        member.type, member.linkname = tarfile.LNKTYPE, "../by-hand/VERSION"
    elif kind == "device":
        member.type = tarfile.CHRTYPE
    return member


@pytest.mark.parametrize(
    "kind", ["climbs", "absolute", "deep", "link", "absolute link", "hard link", "device"]
)
def test_an_archive_that_reaches_outside_is_refused(
    app: AppBackend, archives: Path, kind: str
) -> None:
    path = archives / "app-4.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        archive.addfile(escaping(kind), io.BytesIO())
    strategy = app.strategy()
    result = strategy.stage("4", TOKEN)
    assert result.outcome is Outcome.REFUSED
    assert "outside" in result.detail or "device" in result.detail
    assert not (app.root / "releases" / ".incoming").exists(), "nothing was sent"
    artifact_check = strategy.preflight("4")[0]
    assert artifact_check.verdict is Verdict.REFUSED


def test_a_cut_upload_leaves_nothing_that_could_be_taken_for_a_release(app: AppBackend) -> None:
    strategy = app.strategy(CutConnection())
    assert strategy.stage("2", TOKEN).outcome is Outcome.UNKNOWN
    assert seen(strategy).staged == {BY_HAND}
    assert app.strategy().stage("2", TOKEN).outcome is Outcome.DONE


def test_another_build_of_a_version_that_runs_does_not_touch_it(
    app: AppBackend, archives: Path
) -> None:
    strategy = app.strategy()
    strategy.stage("2", TOKEN)
    first = strategy.artifact_id("2")
    assert strategy.activate(first, TOKEN).outcome is Outcome.DONE
    write_archive(archives / "app-2.tar.gz", "2", {"more": b"another build"})
    second = strategy.artifact_id("2")
    assert second != first
    assert strategy.stage("2", TOKEN).outcome is Outcome.DONE
    assert not (app.root / "releases" / "2" / "more").exists()
    assert seen(strategy).staged == {BY_HAND, first, second}
    assert strategy.activate(second, TOKEN).outcome is Outcome.DONE
    assert (app.root / "current" / "more").read_text() == "another build"


def test_a_current_that_is_a_directory_is_refused(tmp_path: Path, archives: Path) -> None:
    app = make_app(tmp_path / "app9", archives)
    (app.root / "current").unlink()
    (app.root / "current").mkdir()
    strategy = app.strategy()
    assert strategy.stage("2", TOKEN).outcome is Outcome.REFUSED
    assert isinstance(strategy.look(), Unreachable)
    verdicts = {check.name: check.verdict for check in strategy.preflight("2")}
    assert verdicts["going back"] is Verdict.REFUSED


def test_pruning_keeps_what_runs_what_is_named_and_what_others_put_there(
    app: AppBackend, archives: Path
) -> None:
    strategy = app.strategy(keep=1)
    names = {}
    for version in ("2", "3", "4", "5"):
        write_archive(archives / f"app-{version}.tar.gz", version)
        assert strategy.stage(version, TOKEN).outcome is Outcome.DONE
        names[version] = strategy.artifact_id(version)
        os.utime(app.root / "releases" / version, (int(version), int(version)))
    assert strategy.activate(names["2"], TOKEN).outcome is Outcome.DONE
    assert strategy.prune(frozenset({names["3"]}), TOKEN).outcome is Outcome.DONE
    assert seen(strategy).staged == {BY_HAND, names["2"], names["3"], names["5"]}


def test_a_full_disk_is_refused_and_leaves_nothing(tmp_path: Path, archives: Path) -> None:
    with small_disk(tmp_path / "small", "512k") as place:
        app = make_app(place / "app", archives)
        write_archive(archives / "app-5.tar.gz", "5", {"big": os.urandom(300_000)})
        strategy = app.strategy()
        result = strategy.stage("5", TOKEN)
        assert result.outcome in {Outcome.REFUSED, Outcome.FAILED}, result
        assert seen(strategy).staged == {BY_HAND}
        verdicts = {check.name: check.verdict for check in strategy.preflight("5")}
        assert verdicts["disk space"] is Verdict.REFUSED


def test_preflight_changes_nothing_and_names_what_is_wrong(app: AppBackend) -> None:
    def listing() -> list[str]:
        return sorted(str(path) for path in app.root.rglob("*"))

    before = listing()
    fine = app.strategy().preflight("2")
    assert {check.verdict for check in fine} == {Verdict.OK}
    unnamed = app.strategy().preflight()
    assert unnamed[0].verdict is Verdict.NOT_CHECKED
    wrong = app.strategy(start=("no-such-program",), artifact="/nowhere").preflight("2")
    found = {check.name: check for check in wrong}
    assert found["artifact"].verdict is Verdict.REFUSED
    assert "no-such-program" in found["commands"].detail
    assert listing() == before


def test_a_machine_that_does_not_answer_is_not_checked(app: AppBackend) -> None:
    strategy = app.strategy(DroppedConnection())
    assert isinstance(strategy.look(), Unreachable)
    assert strategy.preflight("2")[-1].verdict is Verdict.NOT_CHECKED
    assert strategy.stage("2", TOKEN).outcome is Outcome.UNKNOWN
