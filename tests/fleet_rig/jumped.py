"""The same fleet with an operator outside, who reaches nothing but a jump host.

| machine | on it |
|---|---|
| `gate` | the jump host: on `mgmt` with the machines, and on `outside` |
| `outside` | the command line, on `outside` only: there is no route from it to `mgmt` or `site` |

The gate does not route. Its one account may open streams to the machines' sshd and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from rolling_deploy.demo.ssh_access import make_key
from tests.fleet_rig import fleet_texts
from tests.fleet_rig.answers import await_answer
from tests.fleet_rig.fleet import HOSTS, NamespacedFleet
from tests.fleet_rig.fleet_texts import PLACES, Place

OUTSIDE, GATE = "outside", "gate"
GATE_ADDRESS = "10.77.3.1"
JUMPED_PLACES = {
    **PLACES,
    GATE: Place("10.77.1.4", outside=GATE_ADDRESS),
    OUTSIDE: Place(outside="10.77.3.2"),
}


@dataclass
class JumpedFleet(NamespacedFleet):
    """The fleet, a jump host before it, and who is outside of it."""

    def __post_init__(self) -> None:
        """Add the machines."""
        self.places = JUMPED_PLACES

    def _write_shared(self) -> None:
        super()._write_shared()
        ssh = self.folder / "ssh"
        key = make_key(ssh / f"host_key_{GATE}")
        with (ssh / "known_hosts").open("a", encoding="utf-8") as known:
            known.write(f"{GATE_ADDRESS} {key}\n")
        ends = ",".join(f'permitopen="{PLACES[name].mgmt}:22"' for name in HOSTS)
        options = f'restrict,port-forwarding,command="/bin/false",{ends}'
        ours = (ssh / "authorized_keys").read_text(encoding="utf-8")
        (ssh / "authorized_keys_gate").write_text(f"{options} {ours}", encoding="utf-8")
        own = self.folder / f"inventory-{OUTSIDE}.yaml"
        own.write_text(inventory_outside(self._inventory()), encoding="utf-8")

    def _make_machines(self) -> None:
        super()._make_machines()
        self._furnish(GATE)
        config = fleet_texts.sshd_config(GATE, self.folder, self.home(GATE), GATE_ADDRESS)
        config = config.replace("/authorized_keys\n", "/authorized_keys_gate\n")
        self.seen(GATE, "sshd_config").write_text(config, encoding="utf-8")

    def _start_servers(self) -> None:
        super()._start_servers()
        self.start_sshd(GATE)
        self.await_gate()

    def await_gate(self) -> None:
        """Return when the gate's sshd introduces itself to who is outside."""
        address = (GATE_ADDRESS, 22)
        self.machines[OUTSIDE].inside(partial(await_answer, address, b"", b"SSH-2.0"))

    def logins(self, name: str) -> list[str]:
        """Answers the addresses from which a machine's sshd let somebody in, one for each time."""
        lines = self.seen(name, "sshd.log").read_text(encoding="utf-8").splitlines()
        return [line.split(" from ")[1].split()[0] for line in lines if "Accepted" in line]


def inventory_outside(text: str) -> str:
    """Answers the inventory of who is outside: the same fleet, everything through the gate."""
    for old, new in (
        ("ssh:\n", f"ssh:\n  jump: {GATE}\n"),
        ("hosts:\n", f"hosts:\n  {GATE}: {{address: {GATE_ADDRESS}}}\n"),
        ("session_store:\n", "session_store:\n  via: web1\n"),
        # A backend that cannot be seen is waited for so long, as it may well come up.
        ("  on_failure: halt\n", "  on_failure: halt\n  ready_limit_s: 5\n"),
    ):
        assert text.count(old) == 1, f"the inventory holds {old!r} once"
        text = text.replace(old, new)
    return text
