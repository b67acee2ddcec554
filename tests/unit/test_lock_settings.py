"""The lock's expiry in the inventory: its bounds, and that it is bound to no rollout."""

from __future__ import annotations

from pathlib import Path

import pytest

from rolling_deploy.errors import InventoryWrong
from rolling_deploy.inventory import load_inventory
from rolling_deploy.inventory.kinds import LockSeconds
from rolling_deploy.operations.opening import places_of
from rolling_deploy.remote.record_copies import BEATS_PER_EXPIRY, EXPIRY_MAX_S, EXPIRY_S
from rolling_deploy.settings import Inventory, LockSettings

TEXT = """\
application: shop
hosts: {lb1: {}, web1: {}}
load_balancers: [{name: lb1}]
upstreams: [{name: tomcat}]
upgrade: {strategy: tomcat, artifact: "build/shop-{release}.war"}
backends:
  - {name: app1, host: web1, address: "10.0.0.11:8080", upgrade: {catalina_base: /srv/app1}}
  - {name: app2, host: web1, address: "10.0.0.11:8081", upgrade: {catalina_base: /srv/app2}}
"""


def loaded(tmp_path: Path, more: str = "") -> Inventory:
    path = tmp_path / "inventory.yaml"
    path.write_text(TEXT + more)
    return load_inventory(path)


@pytest.mark.parametrize("expiry_s", [5, 90, 3600])
def test_the_expiry_is_what_the_inventory_says(tmp_path: Path, expiry_s: int) -> None:
    assert loaded(tmp_path, f"lock: {{expiry_s: {expiry_s}}}").lock.expiry_s == expiry_s


def test_without_it_the_expiry_is_what_a_lock_without_its_own_has(tmp_path: Path) -> None:
    assert loaded(tmp_path).lock == LockSettings()
    assert LockSettings().expiry_s == EXPIRY_S


@pytest.mark.parametrize("expiry_s", ["4", "3601", "5.5", "soon", "0", "-30"])
def test_an_expiry_out_of_bounds_is_refused_with_the_bounds(tmp_path: Path, expiry_s: str) -> None:
    with pytest.raises(InventoryWrong) as wrong:
        loaded(tmp_path, f"lock: {{expiry_s: {expiry_s}}}")
    assert "lock.expiry_s: should be a whole number of seconds from 5 to 3600" in str(
        wrong.value.problems
    )


def test_a_living_holder_beats_often_enough_for_files_that_tell_whole_seconds() -> None:
    shortest = LockSeconds.__metadata__[0].words  # type: ignore[attr-defined] # Annotated's
    assert "from 5 " in shortest
    # Two beats may be lost, and one second may be lost in rounding, and it is still not dead.
    assert 3 * 5 / BEATS_PER_EXPIRY + 1 < 5
    assert EXPIRY_MAX_S > 3600


def test_a_rollout_may_be_gone_on_with_by_an_inventory_with_another_expiry(tmp_path: Path) -> None:
    assert places_of(loaded(tmp_path)) == places_of(loaded(tmp_path, "lock: {expiry_s: 600}"))
    assert "lock" not in str(loaded(tmp_path).fleet.policy)
