"""Looking for signs of logged-out users on real files: over looks, lives and waits, and before."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from rolling_deploy.inventory import load_inventory
from rolling_deploy.operations.logouts import UNMARKED, LogoutWatch, logout_checks
from rolling_deploy.operations.site import Site
from rolling_deploy.rollout.logouts import Logouts, Watching
from rolling_deploy.rollout.observed import Check, Verdict
from tests.local_connection import LocalConnection

SIGN = "java.io.InvalidClassException: com.example.Cart; local class incompatible"
INVENTORY = """\
application: shop
hosts: {{lb1: {{}}, web1: {{}}}}
load_balancers: [{{name: lb1}}]
upstreams: [{{name: tomcat}}]
upgrade: {{strategy: tomcat, artifact: "shop-{{release}}.war"}}
backends:
  - {{name: app1, host: web1, address: "10.0.0.11:8080", upgrade: {{catalina_base: {base}/1}}}}
  - {{name: app2, host: web1, address: "10.0.0.11:8081", upgrade: {{catalina_base: {base}/2}}}}
{more}
"""
BOTH = frozenset({"app1", "app2"})


@pytest.fixture
def make(tmp_path: Path) -> Callable[[str], Site]:
    """Answers a maker of sites of two Tomcats whose logs lie here."""
    for name in ("1", "2"):
        (tmp_path / name / "logs").mkdir(parents=True)
        log_of(tmp_path, name).write_text("from before\n")

    def site(more: str = "logout_watch: {watch_s: 0}") -> Site:
        path = tmp_path / "inventory.yaml"
        path.write_text(INVENTORY.format(base=tmp_path, more=more))
        here = LocalConnection()
        return Site(load_inventory(path), {"lb1": here, "web1": here})

    return site


def log_of(base: Path, name: str) -> Path:
    return base / name / "logs" / "catalina.out"


def write(base: Path, name: str, *lines: str) -> None:
    with log_of(base, name).open("a") as file:
        file.write("".join(f"{line}\n" for line in lines))


def marks(site: Site) -> Logouts:
    """Answers where the logs end now."""
    return LogoutWatch(site).look(Watching(BOTH, fresh=BOTH), 0)


def test_a_later_life_reads_from_where_the_log_ended_before_the_stop(
    make: Callable[[str], Site], tmp_path: Path
) -> None:
    site = make("logout_watch: {watch_s: 0}")
    write(tmp_path, "1", SIGN)
    before = marks(site)
    write(tmp_path, "1", SIGN, "fine")
    seen = LogoutWatch(site).look(Watching(BOTH, before), 0)
    assert dict(seen.lines) == {"app1": 1}
    assert seen.read["app1"] == len(SIGN) + len("fine") + 2
    assert seen.gaps == frozenset()
    assert seen.pace is not None
    assert seen.pace.gap == "no session store is configured"


def test_each_line_counts_once_over_many_looks(make: Callable[[str], Site], tmp_path: Path) -> None:
    site = make("logout_watch: {watch_s: 0}")
    before = marks(site)
    watch = LogoutWatch(site)
    for count in (1, 2, 3):
        write(tmp_path, "2", f"{SIGN} {count}")
        assert watch.look(Watching(BOTH, before), 0).lines == {"app2": count}
    log_of(tmp_path, "2").unlink()
    write(tmp_path, "2", "a new file")
    assert watch.look(Watching(BOTH, before), 0).count == 3


def test_a_backend_that_is_marked_again_is_read_from_there_only(
    make: Callable[[str], Site], tmp_path: Path
) -> None:
    site = make("logout_watch: {watch_s: 0}")
    watch = LogoutWatch(site)
    before = watch.look(Watching(BOTH, fresh=BOTH), 0)
    write(tmp_path, "1", SIGN)
    write(tmp_path, "2", SIGN)
    seen = watch.look(Watching(BOTH, before, fresh=frozenset({"app2"})), 0)
    assert seen.lines == {"app1": 1}


def test_a_log_whose_end_was_not_seen_before_the_stop_is_not_read_from_its_beginning(
    make: Callable[[str], Site], tmp_path: Path
) -> None:
    site = make("logout_watch: {watch_s: 0}")
    write(tmp_path, "1", SIGN)
    cut_off = Site(site.inventory, {})
    watch = LogoutWatch(site)
    seen = watch.look(Watching(BOTH, marks(cut_off)), 0)
    assert seen.count == 0
    assert f"app1: {UNMARKED}" in seen.gaps
    write(tmp_path, "1", SIGN)
    assert watch.look(Watching(BOTH, seen), 0).lines == {"app1": 1}


def test_waiting_ends_with_the_first_sign_and_else_at_its_limit(
    make: Callable[[str], Site], tmp_path: Path
) -> None:
    site = make("logout_watch: {watch_s: 0}")
    before = marks(site)
    watch = LogoutWatch(site)
    watch.look(Watching(BOTH, before), 0)
    began = time.monotonic()
    watch.wait(Watching(BOTH, before), 700)
    assert time.monotonic() - began >= 0.7
    later = threading.Timer(0.2, write, (tmp_path, "1", SIGN))
    later.start()
    watch.wait(Watching(BOTH, before), 120_000)
    later.join()
    assert time.monotonic() - began < 60
    assert watch.look(Watching(BOTH, before), 0).count == 1


def test_waiting_ends_when_the_site_is_closed(make: Callable[[str], Site]) -> None:
    site = make("logout_watch: {watch_s: 0}")
    watch = LogoutWatch(site)
    threading.Timer(0.2, watch.close).start()
    began = time.monotonic()
    watch.wait(Watching(BOTH, marks(site)), 120_000)
    assert time.monotonic() - began < 60


def verdicts(checks: list[Check]) -> dict[tuple[str, str], Verdict]:
    return {(check.subject, check.name): check.verdict for check in checks}


def test_before_a_start_it_is_said_what_will_be_read(make: Callable[[str], Site]) -> None:
    checks = logout_checks(make("logout_watch: {watch_s: 0}"))
    assert verdicts(checks) == {
        ("app1", "application log"): Verdict.OK,
        ("app2", "application log"): Verdict.OK,
        ("logouts", "new sessions"): Verdict.NOT_CHECKED,
    }
    assert "logs/catalina.out` will be read from its end" in checks[0].detail


def test_what_the_release_in_service_says_already_is_warned_of(
    make: Callable[[str], Site], tmp_path: Path
) -> None:
    write(tmp_path, "1", SIGN, SIGN)
    checks = logout_checks(make("logout_watch: {watch_s: 0}"))
    (warning,) = [check for check in checks if check.verdict is Verdict.WARNING]
    assert "says so already, 2 times" in warning.detail
    assert "logout_watch.ignore" in warning.detail
    quiet = logout_checks(make('logout_watch: {ignore: ["com[.]example[.]Cart"]}'))
    assert not [check for check in quiet if check.verdict is Verdict.WARNING]


def test_without_a_watch_it_is_not_checked(make: Callable[[str], Site]) -> None:
    (check,) = logout_checks(make(""))
    assert (check.verdict, check.detail) == (
        Verdict.NOT_CHECKED,
        "no `logout_watch` is configured",
    )


def test_a_log_that_is_named_and_not_there_is_not_checked(make: Callable[[str], Site]) -> None:
    site = make("logout_watch: {logs: [logs/catalina.out, logs/app.log]}")
    missing = [c for c in logout_checks(site) if c.verdict is Verdict.NOT_CHECKED]
    assert [c.subject for c in missing] == ["app1", "app2", "logouts"]
    assert "logs/app.log" in missing[0].detail
    seen = LogoutWatch(site).look(Watching(BOTH, marks(site)), 0)
    assert sum("logs/app.log" in gap for gap in seen.gaps) == 2


def test_a_machine_without_a_connection_is_not_checked(make: Callable[[str], Site]) -> None:
    site = make("logout_watch: {watch_s: 0}")
    cut = replace(site, connections={"lb1": site.connections["lb1"]})
    seen = LogoutWatch(cut).look(Watching(frozenset({"app1"}), fresh=frozenset({"app1"})), 0)
    assert seen.gaps == {"app1: log not read: it is not connected"}
    found = verdicts(logout_checks(cut))
    assert found["app1", "application log"] is Verdict.NOT_CHECKED
