"""The releases of the demo application: archives `app-VERSION.tar.gz`, good and bad ones."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
from importlib.resources import files
from pathlib import Path

FLAWS = {
    "broken": "every answer is 500",
    "wrong-version": "healthy, but says it is another version",
    "never-healthy": "accepts connections and never answers",
    "read-only": "healthy, but every write of a user is answered 500",
    "logout": "healthy, but reads sessions under another prefix: every user is logged out",
}
"""What can be wrong with a release, and how it shows."""


def build_release(folder: Path, version: str, flaw: str = "", *, padding_bytes: int = 0) -> Path:
    """Write `app-VERSION.tar.gz` into the folder and answer its path.

    The same arguments give the same bytes. `padding_bytes` of random data make it as large as a
    real one (they differ each time).

    Raises:
        ValueError: the flaw is none of FLAWS.
    """
    if flaw and flaw not in FLAWS:
        raise ValueError(f"flaw should be one of {', '.join(FLAWS)}, is {flaw}")
    app = files("rolling_deploy.demo").joinpath("app.py").read_bytes()
    contents = {"app.py": app, "VERSION": f"{version}\n".encode()}
    if flaw:
        contents["FLAW"] = f"{flaw}\n".encode()
    if padding_bytes:
        contents["padding"] = os.urandom(padding_bytes)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"app-{version}.tar.gz"
    with path.open("wb") as raw, gzip.GzipFile("", "wb", 1, raw, mtime=0) as packed:
        write_tar(packed, contents)
    return path


def write_tar(target: gzip.GzipFile, contents: dict[str, bytes]) -> None:
    """Write the files as a tar stream without owners and times."""
    with tarfile.open(fileobj=target, mode="w") as archive:
        for name, data in contents.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), 0o644
            archive.addfile(entry, io.BytesIO(data))
