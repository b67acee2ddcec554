"""Machines made of Linux namespaces: each has a network, a process table, mounts and a host name.

Nothing has a name outside: no `ip netns`, no bridge or veth in this machine's own network. A
machine is a first process that lives as long as a pipe from its owner is open, so whatever happens
to the owner, the kernel takes processes, mounts, interfaces and routes away, and no later run can
find anything of an earlier one.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self, TypeVar

_Told = TypeVar("_Told")

INIT = Path(__file__).with_name("machine_init.py")
START_LIMIT_S = 30.0
COMMAND_LIMIT_S = 60.0
CLONE_NEWNET = 0x4000_0000
ENTERED = ("--net", "--mount", "--pid", "--uts", "--ipc")


@functools.cache
def why_not() -> str:
    """Answers why no machine can be made here, or nothing."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "machines of their own need Linux and root"
    missing = [name for name in ("ip", "unshare", "nsenter", "mount") if not shutil.which(name)]
    if missing:
        return f"{', '.join(missing)} is not installed (Debian: iproute2, util-linux)"
    try:
        with Machine("probe") as probe:
            probe.run("ip", "link", "add", "probe", "type", "bridge")
            probe.run("ip", "link", "add", "one", "type", "veth", "peer", "name", "other")
            probe.run("mount", "-t", "tmpfs", "tmpfs", "/mnt")
    except (OSError, subprocess.SubprocessError) as problem:
        return f"this kernel lets nobody make namespaces: {problem}"
    return ""


class Machine:
    """One machine. Seen from here by its first process; nothing of it is seen from another one.

    Attributes:
        pid: of its first process, as this machine's root sees it.
    """

    def __init__(self, name: str) -> None:
        """Begin to make it; `await_up` says when it is there."""
        self.name = name
        argv = ["unshare", *ENTERED, "--fork", "--kill-child", "--mount-proc"]
        argv += ["--propagation", "private", sys.executable, "-I", "-S", str(INIT), name]
        self._process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
        )
        self.pid = 0

    def await_up(self) -> None:
        """Return when its first process runs.

        Raises:
            OSError: it does not come up.
        """
        assert self._process.stdout is not None
        guard = threading.Timer(START_LIMIT_S, self._process.kill)
        guard.start()
        try:
            said = self._process.stdout.readline()
        finally:
            guard.cancel()
        if said != b"up\n":
            raise OSError(f"no machine {self.name}: unshare ended with {self._process.wait(10)}")
        parent = self._process.pid
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text(encoding="ascii")
        self.pid = int(children.split()[0])

    def __enter__(self) -> Self:
        self.await_up()
        return self

    def __exit__(self, *ended: object) -> None:
        self.end()

    def end(self) -> None:
        """End it and everything on it, whatever state it is in; safe to call again."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)

    def entering(self, *words: str, only: Sequence[str] = ENTERED) -> list[str]:
        """Answers the argv that runs this argv over there."""
        return ["nsenter", "--target", str(self.pid), *only, "--", *words]

    def run(
        self,
        *words: str,
        given: str = "",
        environment: Mapping[str, str] | None = None,
        may_fail: bool = False,
    ) -> str:
        """Run a program over there to its end; answers its standard output.

        Raises:
            OSError: it ended with anything but 0.
        """
        return finished(self.entering(*words), given, environment, may_fail=may_fail)

    def path(self, path: Path | str) -> Path:
        """Answers where a path of that machine is found from here, whatever is mounted there."""
        return Path(f"/proc/{self.pid}/root{path}")

    def processes(self, name: str = "") -> list[int]:
        """Answers its living processes, as pids of this machine's root; zombies left out.

        Args:
            name: only those of this program.
        """
        ours = Path(f"/proc/{self.pid}/ns/pid").readlink()
        found = []
        for folder in Path("/proc").iterdir():
            if not folder.name.isdigit():
                continue
            with contextlib.suppress(OSError):
                if (folder / "ns/pid").readlink() != ours or int(folder.name) == self.pid:
                    continue
                comm, _, rest = (folder / "stat").read_text().partition("(")[2].rpartition(")")
                if rest.split()[0] not in "ZX" and name in {"", comm}:
                    found.append(int(folder.name))
        return sorted(found)

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> list[int]:
        """Send every process of a program over there a signal; answers their pids."""
        pids = self.processes(name)
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        return pids

    def inside(self, work: Callable[[], _Told]) -> _Told:
        """Do something in this process, with that machine's network; answers what it answers."""
        answers: list[_Told] = []
        problems: list[BaseException] = []

        def there() -> None:
            try:
                join_network(self.pid)
                answers.append(work())
            except BaseException as problem:  # noqa: BLE001 # raised again by who asked
                problems.append(problem)

        thread = threading.Thread(target=there, name=f"on {self.name}")
        thread.start()
        thread.join()
        if problems:
            raise problems[0]
        return answers[0]


def join_network(pid: int) -> None:
    """Have this thread, and those it starts, use the network of that process from now on."""
    with Path(f"/proc/{pid}/ns/net").open("rb") as namespace:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.setns(namespace.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")


def finished(
    argv: Sequence[str],
    given: str = "",
    environment: Mapping[str, str] | None = None,
    *,
    may_fail: bool = False,
) -> str:
    """Run a program to its end; answers its standard output.

    Raises:
        OSError: it ended with anything but 0, or not in time.
    """
    try:
        done = subprocess.run(
            argv,
            input=given,
            capture_output=True,
            text=True,
            timeout=COMMAND_LIMIT_S,
            check=False,
            env={**os.environ, **(environment or {})},
        )
    except subprocess.TimeoutExpired as late:
        raise OSError(f"not over within {COMMAND_LIMIT_S:.0f} s: {' '.join(argv)}") from late
    if done.returncode and not may_fail:
        raise OSError(f"{' '.join(argv)} ended with {done.returncode}: {done.stderr.strip()}")
    return done.stdout


@dataclass
class Network:
    """A switch with several segments, in a network namespace of its own.

    Attributes:
        switch: the machine whose bridges they are.
        ports: the switch's side of every cable, by machine and segment.
    """

    switch: Machine
    ports: dict[tuple[str, str], str] = field(default_factory=dict)

    def lay(self, plan: Mapping[str, Sequence[tuple[Machine, str]]]) -> None:
        """Make the segments and cables: for each segment, machines with their address (`/24`)."""
        lines = ["link set lo up"]
        for number, segment in enumerate(plan):
            lines += [f"link add {segment} type bridge", f"link set {segment} up"]
            for index, (machine, _) in enumerate(plan[segment]):
                port = f"p{number}x{index}"
                self.ports[machine.name, segment] = port
                peer = f"peer name {segment} netns {machine.pid}"
                lines += [
                    f"link add {port} type veth {peer}",
                    f"link set {port} master {segment}",
                    f"link set {port} up",
                ]
        self._batch(self.switch, lines)
        for machine in dict.fromkeys(m for places in plan.values() for m, _ in places):
            lines = ["link set lo up"]
            for segment, places in plan.items():
                for one, address in places:
                    if one is machine:
                        lines += [f"addr add {address}/24 dev {segment}"]
                        lines += [f"link set {segment} up"]
            self._batch(machine, lines)

    def cut(self, machine: str, segment: str) -> None:
        """Pull the cable: nothing arrives on either side, and nobody is told."""
        self._batch(self.switch, [f"link set {self.ports[machine, segment]} down"])

    def mend(self, machine: str, segment: str) -> None:
        """Put the cable back; safe to call when it is there."""
        self._batch(self.switch, [f"link set {self.ports[machine, segment]} up"])

    def _batch(self, machine: Machine, lines: Sequence[str]) -> None:
        # Only the network is entered: the pids in these lines are those of this machine's root.
        argv = machine.entering("ip", "-batch", "-", only=["--net"])
        finished(argv, given="".join(f"{line}\n" for line in lines))
