"""`make demo-tomcat`: two real Tomcats, sessions in Redis, users who are logged in, three releases.

One rolls. One is refused before anything is touched: its classes do not fit the sessions there
are. Of one nothing can be seen before: the session canary halts it at the first Tomcat.
"""

from __future__ import annotations

import argparse
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import FrameType

from rolling_deploy.cli import OUTPUTS, error_lines
from rolling_deploy.demo.keeper import KeeperGone
from rolling_deploy.errors import Interrupted, PreflightRefused, RollingDeployError
from tests.shop_releases import FIRST, PASSWORD
from tests.shop_site import CANARY, PASSWORD_ENV, shop
from tests.tomcat_demo.parts import describe, parts, say, tomcat_ports
from tests.tomcat_demo.stage import ACTS, DONE, Act, Noticed, Stage, broken
from tests.tomcat_fleet import TomcatFleet

USERS, USERS_MAX = 60, 500


def show(options: argparse.Namespace) -> None:
    """Bring it all up, try the releases, and tell what users noticed.

    Raises:
        RollingDeployError: something is missing, or it did not go as it has to.
    """
    acts = [act for act in ACTS if options.only in {None, act.release}]
    servers, jars = parts()
    directory = Path(tempfile.mkdtemp(prefix="rolling-deploy-demo-tomcat-")).resolve()
    watched = "losses:\n  access_logs: {}\nlogout_watch: {}\n"
    counted = replace(shop(), inventory=f"{CANARY}\n{watched}")
    fleet = TomcatFleet(
        directory, servers, jars, counted, tomcat_ports=tomcat_ports(), is_temporary=True
    )
    say("building the shop, starting Redis, two Tomcats, nginx and an SSH server ...")
    try:
        fleet.start()
    except (OSError, KeeperGone, AssertionError, subprocess.SubprocessError) as problem:
        raise PreflightRefused(f"the demo fleet does not come up: {problem}") from problem
    try:
        fleet.pack(*(act.release for act in acts))
        say("\n".join(describe(fleet)))
        logged_in, seen = perform(Stage(fleet, options.users, options.output), acts)
        print("\n".join(table(logged_in, seen)))
        if options.keep:
            wait_for_a_person(fleet)
    finally:
        fleet.stop()
    if not all(noticed.is_nothing for noticed in seen):
        raise broken("users noticed something")


def perform(stage: Stage, acts: Sequence[Act]) -> tuple[int, list[Noticed]]:
    """Try these releases under one load; answers who was logged in, and what they noticed."""
    try:
        logged_in = stage.log_everybody_in()
        say(f"\n{logged_in} users are logged in, each with a cart, and click")
        stage.command("adopt", "--yes", ends=DONE)
        seen = []
        for number, act in enumerate(acts, 1):
            say(f"\n{number} of {len(acts)}: release {act.release}, {act.flaw}")
            seen.append(stage.play(act))
    finally:
        for example in stage.load.stop().examples:
            say(example)
    return logged_in, seen


def table(logged_in: int, seen: list[Noticed]) -> list[str]:
    """Answers what users noticed, for people: a line for each release."""
    lines = ["", f"users logged in at the start: {logged_in}", ""]
    lines.append(
        f"{'release':<12}{'requests':>9}{'failed':>8}{'logged out':>12}  what became of it"
    )
    lines += [
        f"{noticed.act.release:<12}{noticed.requests:>9,}{noticed.failed:>8}"
        f"{noticed.logged_out:>12}  {noticed.act.outcome}"
        for noticed in seen
    ]
    requests, failed = sum(n.requests for n in seen), sum(n.failed for n in seen)
    logged_out = sum(n.logged_out for n in seen)
    lines.append(f"{'in all':<12}{requests:>9,}{failed:>8}{logged_out:>12}")
    lost = sum(n.items_lost for n in seen)
    return [*lines, *([f"{lost} items of carts lost or doubled"] if lost else []), ""]


def wait_for_a_person(fleet: TomcatFleet) -> None:
    """Print what can be tried by hand, and keep the fleet until Ctrl-C."""
    say(f"the fleet stays up until Ctrl-C at {fleet.urls[0]}/login")
    say(f"log in: curl -c jar -d 'user=ann&password={PASSWORD}' {fleet.urls[0]}/login")
    say(f"try, in another terminal, after export {PASSWORD_ENV}={shlex.quote(PASSWORD)}:")
    program = f"{shlex.quote(sys.executable)} -m rolling_deploy"
    places = f"-i {fleet.inventory_path} --state-dir {fleet.directory}/state"
    for words in (f"plan --release {FIRST.version}", f"run --release {FIRST.version}"):
        say(f"  {program} {words} {places}")
    say(f"  {program} status -i {fleet.inventory_path}")
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        say("ending the fleet")


# The command.


def user_count(text: str) -> int:
    """Answers how many users are meant."""
    count = int(text) if text.isdecimal() else 0
    if not 1 <= count <= USERS_MAX:
        raise argparse.ArgumentTypeError(f"should be 1 to {USERS_MAX}, is {text}")
    return count


def arguments() -> argparse.Namespace:
    """Answers what was asked for."""
    parser = argparse.ArgumentParser(
        prog="make demo-tomcat",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--users",
        type=user_count,
        default=USERS,
        metavar="N",
        help=f"how many are logged in and click, 1 to {USERS_MAX} (default: %(default)s)",
    )
    parser.add_argument(
        "--only", choices=[act.release for act in ACTS], help="try this release and no other"
    )
    parser.add_argument(
        "--keep", action="store_true", help="leave all up afterwards, and print what to try"
    )
    parser.add_argument(
        "--output", choices=OUTPUTS, default="auto", help="as of `rolling-deploy run`"
    )
    return parser.parse_args()


def main() -> int:
    """The command; its exit code is 0 when nobody noticed anything, 2 when something is missing."""

    def heard(number: int, _frame: FrameType | None) -> None:
        raise Interrupted("ended by a signal", signal_number=number, site="all was ended")

    options = arguments()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, heard)
    try:
        show(options)
    except RollingDeployError as error:
        say("\n".join(error_lines(error)))
        return error.exit_code
    except KeyboardInterrupt:
        say("\ninterrupted; every server was ended")
        return 128 + signal.SIGINT
    return 0


if __name__ == "__main__":
    sys.exit(main())
