"""The shape of the `logout_watch` section: signs that users are being logged out."""

from __future__ import annotations

from typing import Annotated

from rolling_deploy.inventory import kinds
from rolling_deploy.inventory.fields import Shape, same, seconds
from rolling_deploy.rollout.fleet import Policy
from rolling_deploy.settings import LogoutWatchSettings

DATE = "{date}"


def _log_objection(text: str) -> str:
    is_clean = text.isprintable() and not text.endswith("/") and text.strip()
    if not is_clean or ".." in text.split("/"):
        return kinds.NO
    return "" if text.count(DATE) <= 1 else "`{date}` may stand in it once"


LogPath = Annotated[
    str, kinds.Kind("a path of a file, with `{date}` where a day stands", _log_objection)
]
Ratio = Annotated[
    float, kinds.Kind("a number from 1 to 1000", lambda n: "" if 1 <= n <= 1_000 else kinds.NO)
]
Watching = Annotated[
    float,
    kinds.Kind("a number of seconds from 0 to 3600", lambda n: "" if 0 <= n <= 3600 else kinds.NO),
]


class LogoutWatchShape(Shape):
    """Signs of logged-out users after each wave; left out, they are not looked for, and said so."""

    logs: list[LogPath] = same(
        LogoutWatchSettings,
        "logs",
        "logs of the application on every backend, below `catalina_base` or `root` unless absolute",
        "a Tomcat's own in `logs`: `catalina.out`, `catalina.{date}.log`, `localhost.{date}.log`, "
        "those that are there",
    )
    patterns: list[kinds.Regex] = same(
        LogoutWatchSettings,
        "patterns",
        "regular expressions of lines that say that a session cannot be read, beside those built "
        "in for Tomcat, Redisson and com.orangefunction",
    )
    ignore: list[kinds.Regex] = same(
        LogoutWatchSettings, "ignore", "regular expressions of lines that are no sign all the same"
    )
    lines_max: kinds.CountOrNone = same(
        Policy, "logout_lines_max", "more such lines than this halt the rollout"
    )
    ratio: Ratio = same(
        Policy,
        "logout_ratio",
        "sessions that come so many times as fast as before halt it too (with "
        "`session_store.session_key`)",
    )
    new_min: kinds.Count = same(
        Policy, "logout_new_min", "if at least so many of the sampled sessions are new"
    )
    watch_s: Watching = seconds(
        Policy, "watch_ms", "how long signs are waited for after the first and the last wave"
    )
