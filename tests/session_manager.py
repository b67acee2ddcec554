"""The session manager that keeps the sessions of a real Tomcat in Redis: Redisson's, as jars.

They come from Maven Central through the machine's own Maven, are known by their sha256, and are
kept for all later runs.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
from pathlib import Path

FETCH_LIMIT_S = 240.0
CACHE = Path.home() / ".cache" / "rolling-deploy-tests"
COPY_GOAL = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy"
SESSION_MANAGER = {
    "org.redisson:redisson-tomcat-10:3.39.0": (
        "92ad771be3250c87f920d5c057cc2ff636494f0f0b82fb9783ae3bed7733446e"
    ),
    "org.redisson:redisson-all:3.39.0": (
        "be62927bfca30c3dc2bee65e0b84dcbcd3e681919903e2aecddbf3f1c3ee111c"
    ),
}
"""The two jars that Redisson's manual puts into Tomcat's `lib`, and their sha256."""


class NotHere(Exception):
    """This machine lacks something; the text says what."""


def session_manager_jars() -> list[Path]:
    """Answers the jars of the session manager; fetched once, then kept for all runs.

    Raises:
        NotHere: they are not kept yet and cannot be fetched.
    """
    return [kept_jar(coordinates, digest) for coordinates, digest in SESSION_MANAGER.items()]


def kept_path(coordinates: str) -> Path:
    """Answers where a jar is kept, whether it is there or not."""
    _, artifact, version = coordinates.split(":")
    return CACHE / f"{artifact}-{version}.jar"


def kept_jar(coordinates: str, digest: str) -> Path:
    """Answers one jar with this sha256, from the cache or from Maven Central."""
    jar = kept_path(coordinates)
    if jar.exists() and sha256_of(jar) == digest:
        return jar
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE, prefix=".fetching-") as folder:
        fetched = fetched_jar(coordinates, Path(folder))
        found = sha256_of(fetched)
        assert found == digest, f"{coordinates}: sha256 should be {digest}, is {found}"
        fetched.rename(jar)
    return jar


def fetched_jar(coordinates: str, folder: Path) -> Path:
    """Answers the jar as the machine's Maven gets it, by its own settings and mirrors."""
    if shutil.which("mvn") is None:
        raise NotHere(f"{coordinates} is not in `{CACHE}`, and there is no mvn to fetch it with")
    argv = [
        "mvn",
        "-B",
        "-q",
        COPY_GOAL,
        f"-Dartifact={coordinates}",
        f"-DoutputDirectory={folder}",
    ]
    try:
        done = subprocess.run(
            argv, cwd=folder, capture_output=True, text=True, timeout=FETCH_LIMIT_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise NotHere(f"mvn did not fetch {coordinates} in {FETCH_LIMIT_S:.0f} s") from None
    jars = list(folder.glob("*.jar"))
    if done.returncode != 0 or not jars:
        said = next((line for line in done.stdout.splitlines() if "ERROR" in line), "nothing")
        raise NotHere(f"mvn cannot fetch {coordinates}: {said}")
    return jars[0]


def sha256_of(path: Path) -> str:
    """Answers the digest of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
