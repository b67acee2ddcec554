"""The artifact on the operator's disk: its digest, and whether it can be what it claims to be."""

from __future__ import annotations

import posixpath
import stat
import tarfile
import zipfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from threading import Lock

from rolling_deploy.remote import files

_lock = Lock()
"""Every backend asks about the same file at the same time; one of them reads it."""


class ArtifactWrong(Exception):
    """The artifact cannot be used; the text is the reason for a person."""


@dataclass(frozen=True, slots=True)
class Artifact:
    """What was found in one local file.

    Attributes:
        bytes_unpacked: what its members take when unpacked.
    """

    path: Path
    digest: str
    bytes_packed: int
    bytes_unpacked: int


RELEASE_MAX = 100


def refuse_odd_release(release: str) -> None:
    """A release is a word of a person or a pipeline (a branch, perhaps); it names a file here.

    Raises:
        ArtifactWrong: it would lead elsewhere, or cannot be shown.
    """
    is_leading_away = release.startswith(("/", "~")) or ".." in release.split("/")
    if is_leading_away or not release.isprintable() or len(release) > RELEASE_MAX:
        raise ArtifactWrong(
            f"release `{release[:RELEASE_MAX]!a}` should be at most {RELEASE_MAX} printable "
            "characters without `..`, as it is part of a file's name"
        )


def path_for(template: str, release: str) -> Path:
    """Answers the local path of the artifact of `release`."""
    return Path(template.replace("{release}", release)).expanduser()


def digest_of(path: Path) -> str:
    """Answers the sha256 of the file's bytes. The file is read once as long as it stays the same.

    Raises:
        ArtifactWrong: it cannot be read.
    """
    with _lock:
        _identity(path)
        return _digest_of(path)


def read_war(path: Path) -> Artifact:
    """Answers what is in the WAR; its central directory is read, not its members.

    Raises:
        ArtifactWrong: it cannot be read, is cut off, or is no zip at all.
    """
    with _lock:
        return _read_war(path, _identity(path))


def read_archive(path: Path) -> Artifact:
    """Answers what is in the archive, and that unpacking it stays inside its own directory.

    Raises:
        ArtifactWrong: it cannot be read or is damaged, or a member has an absolute path, climbs
            with `..`, links to the outside, or is a device.
    """
    with _lock:
        return _read_archive(path, _identity(path))


def archive_suffix(path: Path) -> str:
    """Answers how the archive is unpacked: `.zip`, or `.tar` for every kind that tar opens."""
    return ".zip" if path.suffix.lower() == ".zip" else ".tar"


_Identity = tuple[int, int, int]


def _identity(path: Path) -> _Identity:
    try:
        found = path.stat()
    except OSError as error:
        raise ArtifactWrong(f"cannot read `{path}`: {error.strerror}") from error
    if not stat.S_ISREG(found.st_mode):
        raise ArtifactWrong(f"`{path}` should be a file, is not")
    return found.st_ino, found.st_size, found.st_mtime_ns


def _digest_of(path: Path) -> str:
    try:
        return files.digest_of(path)
    except OSError as error:
        raise ArtifactWrong(f"cannot read `{path}`: {error.strerror}") from error


@lru_cache(maxsize=16)
def _read_war(path: Path, _identity: _Identity) -> Artifact:
    try:
        with zipfile.ZipFile(path) as war:
            members = war.infolist()
    except (OSError, zipfile.BadZipFile) as error:
        raise ArtifactWrong(f"`{path}` should be a WAR, is not: {error}") from error
    if not members:
        raise ArtifactWrong(f"`{path}` should be a WAR, is an empty zip")
    unpacked = sum(member.file_size for member in members)
    return Artifact(path, _digest_of(path), path.stat().st_size, unpacked)


@lru_cache(maxsize=16)
def _read_archive(path: Path, _identity: _Identity) -> Artifact:
    try:
        unpacked = _read_zip(path) if archive_suffix(path) == ".zip" else _read_tar(path)
    except (OSError, EOFError, zipfile.BadZipFile, tarfile.TarError) as error:
        raise ArtifactWrong(f"`{path}` should be an archive, is not: {error}") from error
    return Artifact(path, _digest_of(path), path.stat().st_size, unpacked)


def _read_zip(path: Path) -> int:
    unpacked = 0
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            kind = stat.S_IFMT(member.external_attr >> 16)
            target = archive.read(member).decode() if kind == stat.S_IFLNK else ""
            if kind not in {0, stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK}:
                raise ArtifactWrong(f"`{path}`: member `{member.filename}` is a device")
            _refuse_escape(path, member.filename, _relative_to_member(member.filename, target))
            unpacked += member.file_size
    return unpacked


def _read_tar(path: Path) -> int:
    unpacked = 0
    with tarfile.open(path) as archive:
        for member in archive:
            if not (member.isfile() or member.isdir() or member.issym() or member.islnk()):
                raise ArtifactWrong(f"`{path}`: member `{member.name}` is a device")
            target = _relative_to_member(member.name, member.linkname) if member.issym() else ""
            # A hard link names another member, from the top of the archive.
            _refuse_escape(path, member.name, member.linkname if member.islnk() else target)
            unpacked += member.size
    return unpacked


def _relative_to_member(name: str, target: str) -> str:
    return posixpath.join(posixpath.dirname(name), target) if target else ""


def _refuse_escape(path: Path, name: str, target: str) -> None:
    for place, what in ((name, "would be unpacked outside"), (target, "links to the outside")):
        if place.startswith("/") or "\\" in place or _climbs(place):
            raise ArtifactWrong(f"`{path}`: member `{name}` {what} of the release")


def _climbs(place: str) -> bool:
    return posixpath.normpath(place).split("/")[0] == ".."
