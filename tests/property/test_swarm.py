"""Random fleets under mixed misfortune: no promise is broken, and it comes to an end."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.drive import settle
from tests.property.strategies import answers, troubled


@given(data=st.data())
def test_no_promise_is_broken_whatever_goes_wrong(data: st.DataObject) -> None:
    """Also: decide never proposes what safety forbids, which would raise `InvariantBroken`."""
    world = data.draw(troubled())
    settle(world, elsewhere=data.draw(st.booleans()), answer=answers(data.draw), lives_max=60)  # type: ignore[arg-type] # drawing later is what `data` is for
    world.assert_promises_kept()


@given(data=st.data())
def test_no_promise_is_broken_while_people_act_too(data: st.DataObject) -> None:
    """People park, put back, edit and reload at any instant; what they did stands."""
    world = data.draw(troubled(with_hands=True))
    settle(world, elsewhere=data.draw(st.booleans()), answer=answers(data.draw), lives_max=60)  # type: ignore[arg-type] # drawing later is what `data` is for
    world.assert_promises_kept()
