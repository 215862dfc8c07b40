"""Every order of six steps and more of a live writer and two backfillers on two intervals: the law holds in each state."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.model.world import World, actions, modelled
from tidemill.testing import Guard, without

pytestmark = pytest.mark.slow
STEPS = {True: 7, False: 6}
"""How far it goes, with and without a live stream."""
_FIRST_BATCH = {"live stages a batch", "live publishes", "Spark notes the batch"}


def begun(*, live: bool, forgets: bool = False) -> World:
    """Where it begins: with a live stream, one that has published its first batch."""
    world = World(live=live, forgets=forgets)
    with modelled():
        for _ in range(3 if live else 0):
            step = next(action for action in actions(world) if action.text in _FIRST_BATCH)
            world = world.after(step)
    return world


def states(begin: World, steps: int) -> Iterator[tuple[World, tuple[str, ...]]]:
    """Every state within so many steps, each once, with the shortest way to it."""
    with modelled():
        seen = {begin.key()}
        edge: list[tuple[World, tuple[str, ...]]] = [(begin, ())]
        yield from edge
        for _ in range(steps):
            further = []
            for world, way in edge:
                # Listed first: what happens in one copy must not change what can happen in the other.
                for action in list(actions(world)):
                    then = world.after(action)
                    if then.key() not in seen:
                        seen.add(then.key())
                        further.append((then, (*way, action.text)))
            yield from further
            edge = further


def first_breach(begin: World, steps: int = STEPS[True]) -> str | None:
    """The first state that breaks the law: how, and the way to it."""
    for world, way in states(begin, steps):
        breach = world.breaks()
        if breach:
            return "\n".join([breach, *way])
    return None


@pytest.mark.parametrize("live", [True, False])
def test_the_law_holds_in_every_state(*, live: bool) -> None:
    count = 0
    for world, way in states(begun(live=live), STEPS[live]):
        breach = world.breaks()
        assert breach is None, "\n".join([breach, *way])
        count += 1
    assert count > 5_000


@pytest.mark.parametrize("guard", [Guard.STILL_LIVE, Guard.ALONE, Guard.PIN])
def test_without_a_guard_it_does_not(guard: Guard) -> None:
    with without(guard):
        assert any(first_breach(begun(live=live)) for live in (True, False)), f"nothing notices {guard}"


def test_without_application_transactions_it_does_not() -> None:
    assert first_breach(begun(live=True, forgets=True)) is not None
