"""What carries the record's scripts to simulated load balancers, and the heart that beats there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rolling_deploy.remote.connection import Answer
from rolling_deploy.remote.record_copies import Place
from rolling_deploy.remote.script import run_script
from rolling_deploy.settings import HostTarget
from tests.simulation.record_commands import SCRIPTS, Spoken
from tests.simulation.world import Failed, Lost, Refused

if TYPE_CHECKING:
    import socket

    from tests.simulation.operator import Operator


@dataclass(frozen=True)
class Wire:
    """A connection that carries the record's scripts. See `connection.Connection`."""

    by: Operator
    name: str

    @property
    def target(self) -> HostTarget:
        """The machine."""
        return HostTarget(self.name, self.name)

    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes | Iterable[bytes] = b"",
        limit_ms: int,
        holds_stdin: bool = False,
    ) -> Answer:
        """Run a script of ours, by its name."""
        del limit_ms, holds_stdin
        world = self.by.world
        script, words = argv[5].partition(":")[2], argv[6:]
        content = stdin if isinstance(stdin, bytes) else b"".join(stdin)
        run = SCRIPTS[script]
        machine = world.machine(self.name)
        lines: list[str]
        try:
            lines = world.remote(
                self.by, self.name, script, lambda: run(world, machine, words, content)
            )
            lines = [*lines, "end=done "]
            if script == "record_read":
                self.by.unread -= {self.name}
        except Lost as lost:
            if script == "record_read":
                self.by.unread |= {self.name}
            return Answer(False, None, b"", b"", str(lost), lost.was_started)
        except Spoken as spoken:
            lines = [*spoken.lines, f"end=refused {spoken}"]
        except Refused as refused:
            fenced = ["fenced=higher"] if refused.is_fenced else []
            lines = [*fenced, f"end=refused {refused}"]
        except Failed as failed:
            lines = [f"end=failed {failed}"]
        return Answer(True, 0, "".join(f"{line}\n" for line in lines).encode(), b"")

    def open_stream(self, host: str, port: int, *, timeout_ms: int) -> socket.socket:
        """Nothing of the simulated site is asked over TCP."""
        raise NotImplementedError

    def close(self) -> None:
        """Nothing is open."""


@dataclass
class Heartbeat:
    """Beats by simulated time. See `desk.Beating`."""

    by: Operator
    places: Mapping[str, Place]
    holder: str
    expiry_s: float
    is_stopped: bool = False

    def start(self) -> None:
        """Begin."""
        self.by.heart = self.by.world.scheduler.spawn(f"{self.by.name} heart", self._beat)

    def _beat(self) -> None:
        words = [self.holder]
        while self._is_alive():
            self.by.world.scheduler.sleep(int(self.expiry_s * 1000 / 6))
            for place in self.places.values():
                if self._is_alive():
                    run_script(
                        place.connection, "record_beat", [place.state_dir, *words], limit_ms=5_000
                    )

    def _is_alive(self) -> bool:
        return not self.is_stopped and not self.by.is_over

    def stop(self) -> None:
        """Stop."""
        self.is_stopped = True
