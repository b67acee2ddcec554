"""What every operation needs beside the inventory: whom to tell and ask, what it stands on."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Protocol

from rolling_deploy.operations.machines import FleetMachines, WallClock
from rolling_deploy.operations.opening import machine
from rolling_deploy.operations.site import Connect, Site, connect
from rolling_deploy.ports import Clock, Machines, Records, Reporter, Said
from rolling_deploy.remote.record_copies import Heart, Place
from rolling_deploy.remote.ssh import connect_all
from rolling_deploy.runner import Stop, Work, in_thread
from rolling_deploy.settings import Inventory
from rolling_deploy.state import record_file

Confirm = Callable[[str], bool]
"""Asks a person; answers False when they say no. Raises `UsageWrong` without a terminal."""


class Beating(Protocol):
    """The sign of life that a holder of the lock gives."""

    def start(self) -> None:
        """Begin to beat."""

    def stop(self) -> None:
        """Stop beating; the lock expires unless it is given up."""


def _pause(ms: int) -> None:
    threading.Event().wait(ms / 1000)


@dataclass(frozen=True, slots=True)
class Footing:
    """What a life stands on: the clock, this machine and its disk, the ways to the others.

    The defaults are the real ones. Another footing makes a rollout that can be repeated exactly.
    """

    clock: Clock = field(default_factory=WallClock)
    host: Callable[[], str] = machine
    records: Callable[[Path, str], Records] = record_file.Records
    opener: Connect = connect_all
    machines: Callable[[Site], Machines] = FleetMachines
    heart: Callable[[Mapping[str, Place], str, float], Beating] = Heart
    spawn: Callable[[Work, str], None] = in_thread
    unique: Callable[[], str] = field(default_factory=lambda: partial(secrets.token_hex, 4))
    """What no other life has; in the name of a holder."""
    pause: Callable[[int], object] = _pause
    """Do nothing for so many milliseconds; a signal ends it."""


@dataclass
class Desk:
    """Who works, on what, and with whose word.

    Attributes:
        wait_ms: how long to wait for somebody living who holds the rollout; 0 does not wait.
    """

    inventory: Inventory
    state_dir: Path
    reporter: Reporter
    confirm: Confirm
    stop: Stop = field(default_factory=Stop)
    off: frozenset[str] = frozenset()
    reason: str = ""
    footing: Footing = field(default_factory=Footing)
    wait_ms: int = 0

    @property
    def records(self) -> Records:
        """The records of this application on this disk."""
        return self.footing.records(self.state_dir, self.inventory.application)

    def connect(self) -> Site:
        """Open one connection to every machine that is not declared off."""
        return connect(self.inventory, off=self.off, opener=self.footing.opener)

    def say(self, text: str) -> None:
        """Tell something that is no fact of the record."""
        self.reporter.event(Said(self.footing.clock.now_ms(), text))
