"""`rolling-deploy demo`: a whole fleet on this machine, a load, and a real rollout over it."""

from __future__ import annotations

import shlex
import sys
import threading

from rolling_deploy.demo.fleet import FIRST_RELEASE, NEXT_RELEASE, DemoFleet, FleetShape
from rolling_deploy.demo.ledger import LogBook
from rolling_deploy.demo.load import Load, LoadShape
from rolling_deploy.demo.servers import Servers
from rolling_deploy.demo.tally import Summary
from rolling_deploy.errors import Interrupted, InvariantBroken, RollingDeployError
from rolling_deploy.inventory import load_inventory
from rolling_deploy.operations import adoption, rollouts
from rolling_deploy.operations.balancer_checks import Acceptance
from rolling_deploy.operations.desk import Desk
from rolling_deploy.report import Viewer, viewer
from rolling_deploy.runner import Stop

SETTLE_S = 1.0
"""The load runs this long before and after the rollout, so that both versions are seen alone."""


def show(*, backends: int, load_balancers: int, keep: bool, keep_alive: bool, output: str) -> int:
    """Run the demo and answer its exit code: 0, when nobody noticed anything.

    Raises:
        InvariantBroken: somebody did, or the load balancers' access logs tell another story than
            the clients.
        RollingDeployError: the fleet does not come up, or the rollout did not end well.
    """
    servers = Servers.find()
    shape = FleetShape(backends=backends, load_balancers=load_balancers, counts_losses=True)
    view = viewer(output)
    with DemoFleet(None, servers, shape) as fleet:
        _say("\n".join(fleet.describe()))
        with LogBook(load_inventory(fleet.inventory_path)) as book:
            summary = _roll_under_load(fleet, view, keep_alive=keep_alive)
            print("\n".join(summary.lines()))  # noqa: T201 # the demo's data
            print(book.compared(summary))  # noqa: T201 # the same
        if keep:
            _wait_for_a_person(fleet)
    noticed = {
        "requests failed": summary.failed,
        "sessions lost": summary.sessions_lost,
        "writes lost": summary.writes_lost,
        "writes repeated": summary.writes_repeated,
    }
    if any(noticed.values()):
        told = ", ".join(f"{count} {what}" for what, count in noticed.items() if count)
        raise InvariantBroken(
            f"users noticed: {told}",
            where="the demo's own load",
            site="the demo's fleet is gone; nothing else was touched",
            next_step="report this with what stands above",
        )
    return 0


def _roll_under_load(fleet: DemoFleet, view: Viewer, *, keep_alive: bool) -> Summary:
    stop = Stop()
    desk = Desk(
        load_inventory(fleet.inventory_path),
        fleet.directory / "state",
        view,
        lambda _: True,
        stop,
        reason="demo",
    )
    load = Load(fleet.urls, LoadShape(keep_alive=keep_alive))
    load.start()
    try:
        threading.Event().wait(SETTLE_S)
        _say(f"clients with sessions are at it; adopting, then {FIRST_RELEASE} -> {NEXT_RELEASE}")
        adopted = adoption.adopt(desk)
        if adopted is not None:
            adopted.raise_unless_done()
        ended = rollouts.run(desk, NEXT_RELEASE, acceptance=Acceptance())
        if ended is not None:
            view.summary(ended.entries, ended.record)
            ended.raise_unless_done()
        threading.Event().wait(SETTLE_S)
    except (RollingDeployError, KeyboardInterrupt) as error:
        if isinstance(error, RollingDeployError):
            view.failed(error)
        view.close()
        print("\n".join(load.stop().lines()))  # noqa: T201 # what the users saw all the same
        raise
    view.close()
    return load.stop()


def _wait_for_a_person(fleet: DemoFleet) -> None:
    """Print what can be tried by hand, and keep the fleet until Ctrl-C."""
    program = f"{shlex.quote(sys.executable)} -m rolling_deploy"
    _say(f"\nthe fleet stays up until Ctrl-C; its inventory is {fleet.inventory_path}")
    _say("try, in another terminal:")
    command = f"{program} %s -i {shlex.quote(str(fleet.inventory_path))}"
    for words in (f"plan --release {FIRST_RELEASE}", f"run --release {FIRST_RELEASE}", "status"):
        _say(f"  {command % words}")
    try:
        threading.Event().wait()
    except (KeyboardInterrupt, Interrupted):
        _say("ending the fleet")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201 # the demo talks beside its data
