"""The master of the session store dies between two waves: the next is followed, or waited for."""

from __future__ import annotations

import pytest

from tests.redis_groups import MASTER, sentinel, watched
from tests.redis_server import BINARY, WHY_SKIPPED, redis_server
from tests.rig.fixtures import rig, stand_fixture
from tests.rig_tools import Rig, fact, intends

__all__ = ["rig"]

stand = stand_fixture()

pytestmark = [
    pytest.mark.rig,
    pytest.mark.timeout(900),
    pytest.mark.skipif(BINARY is None, reason=WHY_SKIPPED),
]


def test_a_failover_between_two_waves_is_followed_and_the_rollout_goes_on(rig: Rig) -> None:
    after = rig.next_release()
    with watched(down_after_ms=1_000) as store:
        more = f"url: {store.url}\n  failover_limit_s: 60"
        inventory = rig.inventory("store", (f"url: {rig.fleet.redis_url}", more))
        with rig.users():
            run = rig.start("run", "--release", after, "--yes", inventory=inventory)
            run.at(intends("WarmUp", "app1"), lambda _: store.master.process.kill())
            ended = run.end().must_be(0)
            assert ended.has(fact("claimed", claim=2))
        assert store.master_by(store.sentinels[0]) == store.replica.port
        told = rig.status(inventory=inventory)["session_store"]
        assert told.startswith("reachable"), told
    rig.expect_well(after)


@pytest.mark.every
def test_a_master_that_nobody_replaces_halts_before_the_next_wave(rig: Rig) -> None:
    before, after = rig.release(), rig.next_release()
    with redis_server() as master, sentinel(master.port, quorum=1, down_after_ms=600_000) as one:
        url = f"redis+sentinel://127.0.0.1:{one.port}/{MASTER}/0"
        more = f"url: {url}\n  timeout_s: 0.5\n  failover_limit_s: 4"
        inventory = rig.inventory("store", (f"url: {rig.fleet.redis_url}", more))
        with rig.users():
            run = rig.start("run", "--release", after, "--yes", inventory=inventory)
            run.at(intends("WarmUp", "app1"), lambda _: master.freeze())
            ended = run.end().must_be(4)
            assert "session store" in ended.message.what
            assert "of waiting for another master" in ended.message.what
            assert not ended.has(fact("claimed", claim=2))
            seen = rig.status(inventory=inventory)
            assert [b["rotation"] for b in seen["backends"]] == ["in", "in"]
            assert [b["version"] for b in seen["backends"]] == [after, before]
            master.thaw()
            rig.do("resume", "--yes", by="second", inventory=inventory).must_be(0)
    rig.expect_well(after)
