"""The commands: parse, build, call one operation, show, and end with the right code. Thin.

Heavy imports are made inside the commands, so that `--help` costs little more than click itself.
"""

from __future__ import annotations

import io
import os
import re
import shlex
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from rolling_deploy import __version__
from rolling_deploy.errors import (
    EXIT_PLAN_HAS_CHANGES,
    Degraded,
    InputWrong,
    Interrupted,
    InvariantBroken,
    PreflightRefused,
    RollingDeployError,
    UsageWrong,
)

if TYPE_CHECKING:
    from rolling_deploy.operations.desk import Desk
    from rolling_deploy.operations.life import Run
    from rolling_deploy.operations.site import Site
    from rolling_deploy.report import Viewer
    from rolling_deploy.rollout.observed import Check
    from rolling_deploy.runner import Stop
    from rolling_deploy.settings import Inventory

OUTPUTS = ("auto", "rich", "plain", "json", "github", "gitlab")

Command = Callable[..., Any]


def _together(*decorators: Callable[[Command], Command]) -> Callable[[Command], Command]:
    def decorate(command: Command) -> Command:
        for decorator in reversed(decorators):
            command = decorator(command)
        return command

    return decorate


inventory_option = click.option(
    "-i",
    "--inventory",
    "inventory_path",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("inventory.yaml"),
    envvar="ROLLING_DEPLOY_INVENTORY",
    show_default=True,
    show_envvar=True,
    help="The inventory file.",
)
state_dir_option = click.option(
    "--state-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=None,
    envvar="ROLLING_DEPLOY_STATE_DIR",
    show_envvar=True,
    help="Where this machine keeps records. Default: `~/.local/state/rolling-deploy`.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="JSON on standard output.")
release_option = click.option("--release", required=True, metavar="VERSION", help="The release.")
without_option = click.option(
    "--without",
    multiple=True,
    metavar="LB",
    help="This load balancer is really off: recorded, and shown as not proved. Repeatable.",
)
UNPROVED_SESSIONS = "unproved-sessions"
INCOMPATIBLE_SESSIONS = "incompatible-sessions"
accept_option = click.option(
    "--accept",
    multiple=True,
    type=click.Choice([UNPROVED_SESSIONS, INCOMPATIBLE_SESSIONS]),
    help="Go on although sessions cannot be proved, or cannot all be read.",
)
load_pending_option = click.option(
    "--load-pending",
    is_flag=True,
    help="Edits of nginx's files that are not loaded yet may go live with our reload.",
)
output_options = _together(
    click.option(
        "--output",
        type=click.Choice(OUTPUTS),
        default="auto",
        show_default=True,
        help="How progress is shown. `auto`: live on a terminal, marked in CI, plain elsewhere.",
    ),
    click.option("--json", "as_json", is_flag=True, help="The same as `--output json`."),
)
WAIT_S = 3_600
"""What `--wait` waits without a value: as long as a job of GitLab's may take by default."""

acting_options = _together(
    inventory_option,
    state_dir_option,
    click.option(
        "--wait",
        "wait_s",
        type=click.IntRange(0, 86_400),
        is_flag=False,
        flag_value=WAIT_S,
        default=0,
        metavar="[SECONDS]",
        help=f"Wait while somebody living holds the rollout; {WAIT_S} s without a value.",
    ),
    click.option("--yes", is_flag=True, help="Do not ask."),
    click.option("--reason", default="", metavar="TEXT", help="Kept in the record and the lock."),
    without_option,
    output_options,
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="rolling-deploy")
def cli() -> None:
    """Deploy a new version to a fleet behind Nginx without a single user noticing."""


@cli.command()
@inventory_option
@state_dir_option
@release_option
@without_option
@load_pending_option
@accept_option
@click.option("--no-canary", is_flag=True, help="Write no canary key and make no canary session.")
@click.option("--detailed-exitcode", is_flag=True, help="0: nothing to do, 10: there are changes.")
@json_option
def plan(  # noqa: PLR0913 # a command's options
    *,
    inventory_path: Path,
    state_dir: Path | None,
    release: str,
    without: tuple[str, ...],
    load_pending: bool,
    accept: tuple[str, ...],
    no_canary: bool,
    detailed_exitcode: bool,
    as_json: bool,
) -> None:
    """Show every check, step and rendered difference of a deployment; touch nothing."""
    from rolling_deploy.operations import planning
    from rolling_deploy.operations.balancer_checks import Acceptance
    from rolling_deploy.report.json_lines import one_line
    from rolling_deploy.report.plan import plan_lines, plan_object

    with _desk(inventory_path, state_dir, output="plain", without=without) as desk:
        acceptance = Acceptance(
            load_pending=load_pending,
            canary=not no_canary,
            unproved_sessions=UNPROVED_SESSIONS in accept,
            incompatible_sessions=INCOMPATIBLE_SESSIONS in accept,
        )
        view = planning.plan(desk, release, acceptance)
    click.echo(one_line(plan_object(view)) if as_json else "\n".join(plan_lines(view)))
    if view.refused:
        raise _refused(view.refused, "mend what the plan names")
    if detailed_exitcode and view.has_changes:
        raise click.exceptions.Exit(EXIT_PLAN_HAS_CHANGES)


@cli.command()
@acting_options
@release_option
@load_pending_option
@accept_option
@click.option("--adopt", is_flag=True, help="Adopt upstream files that are not managed yet.")
def run(  # noqa: PLR0913 # a command's options
    *,
    inventory_path: Path,
    state_dir: Path | None,
    wait_s: int,
    release: str,
    yes: bool,
    reason: str,
    without: tuple[str, ...],
    load_pending: bool,
    accept: tuple[str, ...],
    adopt: bool,
    output: str,
    as_json: bool,
) -> None:
    """Deploy a release to every backend, one wave after the other."""
    from rolling_deploy.operations import adoption, rollouts
    from rolling_deploy.operations.balancer_checks import Acceptance

    with _desk(inventory_path, state_dir, yes, reason, without, _output(output, as_json)) as desk:
        adopt_first = None
        if adopt:

            def adopt_first(site: Site) -> None:
                adopted = adoption.adopt_on(desk, site, load_pending=load_pending)
                if adopted is not None:
                    adopted.raise_unless_done()

        acceptance = Acceptance(
            load_pending=load_pending,
            unproved_sessions=UNPROVED_SESSIONS in accept,
            incompatible_sessions=INCOMPATIBLE_SESSIONS in accept,
        )
        act = partial(rollouts.run, desk, release, acceptance=acceptance, adopt_first=adopt_first)
        _act(desk, wait_s, act)


@cli.command()
@acting_options
@load_pending_option
@click.option(
    "--skip", multiple=True, metavar="BACKEND", help="Leave this backend as it is. Repeatable."
)
def resume(  # noqa: PLR0913 # a command's options
    *,
    inventory_path: Path,
    state_dir: Path | None,
    wait_s: int,
    yes: bool,
    reason: str,
    without: tuple[str, ...],
    output: str,
    as_json: bool,
    load_pending: bool,
    skip: tuple[str, ...],
) -> None:
    """Go on with the unfinished rollout, from this or any other machine.

    For a halted rollout this is your answer: what failed is tried once more.
    """
    from rolling_deploy.operations import rollouts

    with _desk(inventory_path, state_dir, yes, reason, without, _output(output, as_json)) as desk:
        act = partial(rollouts.resume, desk, skip=skip, load_pending=load_pending)
        _act(desk, wait_s, act)


@cli.command()
@acting_options
@load_pending_option
@click.option(
    "--leave-changed",
    is_flag=True,
    help="Only put back what is untouched; what was upgraded stays upgraded.",
)
def abort(  # noqa: PLR0913 # a command's options
    *,
    inventory_path: Path,
    state_dir: Path | None,
    wait_s: int,
    yes: bool,
    reason: str,
    without: tuple[str, ...],
    output: str,
    as_json: bool,
    load_pending: bool,
    leave_changed: bool,
) -> None:
    """Take the unfinished rollout back to what ran before, as carefully as it went."""
    from rolling_deploy.operations import rollouts

    with _desk(inventory_path, state_dir, yes, reason, without, _output(output, as_json)) as desk:
        act = partial(rollouts.abort, desk, leave_changed=leave_changed, load_pending=load_pending)
        _act(desk, wait_s, act)


@cli.command()
@acting_options
@load_pending_option
def adopt(  # noqa: PLR0913 # a command's options
    *,
    inventory_path: Path,
    state_dir: Path | None,
    wait_s: int,
    yes: bool,
    reason: str,
    without: tuple[str, ...],
    output: str,
    as_json: bool,
    load_pending: bool,
) -> None:
    """Take the upstream files on the load balancers over, unchanged in what they do."""
    from rolling_deploy.operations import adoption

    with _desk(inventory_path, state_dir, yes, reason, without, _output(output, as_json)) as desk:
        _act(desk, wait_s, partial(adoption.adopt, desk, load_pending=load_pending))


@cli.command()
@acting_options
@load_pending_option
@click.option("--check", "only_check", is_flag=True, help="Say what is missing; touch nothing.")
def setup(  # noqa: PLR0913 # a command's options
    *,
    inventory_path: Path,
    state_dir: Path | None,
    wait_s: int,
    yes: bool,
    reason: str,
    without: tuple[str, ...],
    output: str,
    as_json: bool,
    load_pending: bool,
    only_check: bool,
) -> None:
    """Wire nginx and the Tomcats once, as `setup` in the inventory says; nothing if all is."""
    from rolling_deploy.operations import setup as setting_up

    if only_check:
        _check_setup(inventory_path, state_dir, without, as_json=as_json, load_pending=load_pending)
        return
    with _desk(inventory_path, state_dir, yes, reason, without, _output(output, as_json)) as desk:
        _act(desk, wait_s, partial(setting_up.setup, desk, load_pending=load_pending))


def _check_setup(
    inventory_path: Path,
    state_dir: Path | None,
    without: tuple[str, ...],
    *,
    as_json: bool,
    load_pending: bool,
) -> None:
    """Show what a setup would do: 0 when nothing is missing, 10 when something is."""
    from rolling_deploy.operations.setup import check_setup
    from rolling_deploy.report.json_lines import one_line
    from rolling_deploy.report.setup import setup_lines, setup_object

    with _desk(inventory_path, state_dir, output="plain", without=without) as desk:
        view = check_setup(desk, load_pending=load_pending)
    click.echo(one_line(setup_object(view)) if as_json else "\n".join(setup_lines(view)))
    if view.refused:
        raise _refused(view.refused, "mend what it names")
    if view.missing:
        raise click.exceptions.Exit(EXIT_PLAN_HAS_CHANGES)


def _refused(checks: Sequence[Check], next_step: str) -> PreflightRefused:
    return PreflightRefused(
        "checks stand in the way",
        where="; ".join(f"{c.subject}: {c.name}: {c.detail}" for c in checks),
        next_step=next_step,
    )


@cli.command()
@acting_options
@load_pending_option
def unadopt(  # noqa: PLR0913 # a command's options
    *,
    inventory_path: Path,
    state_dir: Path | None,
    wait_s: int,
    yes: bool,
    reason: str,
    without: tuple[str, ...],
    output: str,
    as_json: bool,
    load_pending: bool,
) -> None:
    """Give the upstream files back, byte for byte as they were before `adopt`."""
    from rolling_deploy.operations import adoption

    with _desk(inventory_path, state_dir, yes, reason, without, _output(output, as_json)) as desk:
        _act(desk, wait_s, partial(adoption.unadopt, desk, load_pending=load_pending))


@cli.command()
@inventory_option
@state_dir_option
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--force", is_flag=True, help="Also when the holder is alive and may be acting.")
@without_option
@json_option
def unlock(  # a command's options
    *,
    inventory_path: Path,
    state_dir: Path | None,
    yes: bool,
    force: bool,
    without: tuple[str, ...],
    as_json: bool,
) -> None:
    """Free the lock of a run that is dead, after showing what it left undone."""
    from rolling_deploy.operations import unlocking
    from rolling_deploy.report.json_lines import one_line
    from rolling_deploy.report.unlock import UnlockView, unlock_lines, unlock_object

    def show(view: UnlockView) -> None:
        # With JSON the lines still come before a question, for the person who answers it.
        if not as_json or not yes:
            view = replace(view, next_step=_with_options(view.next_step, inventory_path, state_dir))
            click.echo("\n".join(unlock_lines(view)), err=as_json)

    with _desk(inventory_path, state_dir, yes, without=without, output="plain") as desk:
        view = unlocking.unlock(desk, show, is_forced=force)
    view = replace(view, next_step=_with_options(view.next_step, inventory_path, state_dir))
    done = "unlocked" if view.is_unlocked else "left as it is"
    click.echo(one_line(unlock_object(view)) if as_json else done)


@cli.command()
@inventory_option
@state_dir_option
@json_option
def status(*, inventory_path: Path, state_dir: Path | None, as_json: bool) -> None:
    """Tell what is live, what is on disk, who is out and by whom, and the rollout under way."""
    from rolling_deploy.operations.telling import status as told
    from rolling_deploy.report.json_lines import one_line
    from rolling_deploy.report.status import status_lines, status_object
    from rolling_deploy.state.record_file import default_state_dir

    view = told(_inventory(inventory_path), state_dir or default_state_dir())
    advice = "rolling-deploy plan --release VERSION"
    if view.rollout is not None:
        advice = view.rollout.next_step or "wait for it; `rolling-deploy unlock` if it is dead"
    advice = _with_options(advice, inventory_path, state_dir)
    click.echo(one_line(status_object(view)) if as_json else "\n".join(status_lines(view)))
    if view.problems:
        raise Degraded(
            "not all is well",
            where="; ".join(view.problems),
            site=f"{sum(b.rotation == 'in' for b in view.backends)} of {len(view.backends)} "
            "backends in rotation",
            next_step=advice,
        )


@cli.command()
@click.option("--keep", is_flag=True, help="Leave the fleet up and print what to try by hand.")
@click.option(
    "--backends",
    type=click.IntRange(2, 24),
    default=3,
    show_default=True,
    help="How many app nodes come up.",
)
@click.option(
    "--load-balancers",
    type=click.IntRange(1, 4),
    default=1,
    show_default=True,
    help="How many nginx come up.",
)
@click.option("--keep-alive", is_flag=True, help="The load's clients keep their connections.")
@output_options
def demo(
    *,
    keep: bool,
    backends: int,
    load_balancers: int,
    keep_alive: bool,
    output: str,
    as_json: bool,
) -> None:
    """Bring up a whole fleet on this machine and roll a new version over it, under load."""
    from rolling_deploy.demo.show import show

    code = show(
        backends=backends,
        load_balancers=load_balancers,
        keep=keep,
        keep_alive=keep_alive,
        output=_output(output, as_json),
    )
    raise click.exceptions.Exit(code)


def _output(output: str, as_json: bool) -> str:
    return "json" if as_json else output


def _inventory(path: Path) -> Inventory:
    from rolling_deploy.inventory import load_inventory

    return load_inventory(path)


@contextmanager
def _desk(  # what every operation needs
    inventory_path: Path,
    state_dir: Path | None,
    yes: bool = True,
    reason: str = "",
    without: tuple[str, ...] = (),
    output: str = "auto",
) -> Iterator[Desk]:
    """Everything an operation needs, with signals heard and the view closed at the end."""
    from rolling_deploy.operations.desk import Desk
    from rolling_deploy.report import viewer
    from rolling_deploy.runner import Stop
    from rolling_deploy.state.record_file import default_state_dir

    view = viewer(output)
    stop = Stop()
    _hear_signals(stop)
    try:
        yield Desk(
            _inventory(inventory_path),
            state_dir or default_state_dir(),
            view,
            _confirm(view, yes=yes),
            stop,
            frozenset(without),
            reason,
        )
    except RollingDeployError as error:
        # What is pasted must mean the same inventory and records.
        error.next_step = _with_options(error.next_step, inventory_path, state_dir)
        view.failed(error)
        raise
    finally:
        view.close()


def _with_options(next_step: str, inventory: Path, state_dir: Path | None) -> str:
    """Answers the advice with its commands for this very inventory, unless it is the usual one."""
    options = ""
    if inventory != Path("inventory.yaml"):
        options += f" -i {shlex.quote(str(inventory))}"
    if state_dir is not None:
        options += f" --state-dir {shlex.quote(str(state_dir))}"
    # A function: in a text, a backslash of the path would be taken for a reference.
    return re.sub(r"rolling-deploy [a-z]+", lambda command: command[0] + options, next_step)


def _hear_signals(stop: Stop) -> None:
    def heard(number: int, _frame: object) -> None:
        if stop.is_requested:
            os._exit(128 + number)  # asked twice: the record is complete without a farewell
        stop.request(number)
        if not stop.is_heard:
            raise Interrupted(
                "ended before anything was begun",
                signal_number=number,
                where="this machine",
                site="nothing was touched",
            )

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, heard)


def _confirm(view: Viewer, *, yes: bool) -> Callable[[str], bool]:
    from rolling_deploy.report.plain import printable

    def confirm(question: str) -> bool:
        if yes:
            return True
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise UsageWrong(
                f"a question needs a terminal: {question}",
                where="standard input",
                next_step="answer it with `--yes`",
            )
        view.pause()
        return click.confirm(printable(question), default=False, err=True)

    return confirm


def _act(desk: Desk, wait_s: int, act: Callable[[], Run | None]) -> None:
    """Do it, when nobody else is at it, and finish."""
    from rolling_deploy.operations.waiting import patiently

    desk.wait_ms = wait_s * 1000
    _finish(desk, patiently(desk, act))


def _finish(desk: Desk, ended: Run | None) -> None:
    """Show the report, and end with the code of how it ended."""
    if ended is None:
        return
    view: Any = desk.reporter
    view.summary(ended.entries, ended.record)
    ended.raise_unless_done()


def error_lines(error: RollingDeployError) -> list[str]:
    """Answers the message of an error: what happened, where, is the site all right, what next.

    Machines' own words stand in it, so every line is made harmless to a terminal and a CI log.
    """
    from rolling_deploy.report.plain import printable

    lines = [f"error: {error.what}"]
    if isinstance(error, InputWrong):
        lines += [f"  {problem}" for problem in error.problems]
    for title, text in (("where", error.where), ("site", error.site), ("next", error.next_step)):
        if text:
            lines.append(f"  {title}: {text}")
    return [printable(line) for line in lines]


def main() -> NoReturn:
    """The entry point: every end has its own exit code."""
    for stream in (sys.stdout, sys.stderr):
        # A letter that the terminal's encoding lacks is spelled out; it must not end the command.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        code = cli.main(standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except click.exceptions.Abort:
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except RollingDeployError as error:
        click.echo("\n".join(error_lines(error)), err=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # Whoever read our output has gone; there is nobody left to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)
    except Exception as error:
        if os.environ.get("ROLLING_DEPLOY_DEBUG"):
            raise
        click.echo(
            "\n".join(
                error_lines(
                    InvariantBroken(
                        f"a bug of ours: {type(error).__name__}: {error}",
                        site="the record tells how far it came; `rolling-deploy status` shows it",
                        next_step="run again with ROLLING_DEPLOY_DEBUG=1 and report what it says",
                    )
                )
            ),
            err=True,
        )
        sys.exit(InvariantBroken.exit_code)
