"""Rows 5 and 6: a pipeline has one live driver and one backfill; one that lost its lease publishes nothing more."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.fire.mill import Mill
from tests.fire.tank import STORE
from tidemill import LeaseHeld
from tidemill.testing import Point

pytestmark = pytest.mark.timeout(600)


@pytest.mark.row(5)
def test_a_second_driver_is_told_who_is_there(mill: Callable[..., Mill]) -> None:
    second_driver(mill())


def second_driver(world: Mill) -> None:
    """A live driver is at work; another is refused, here and in a process, with the first one's id."""
    world.arrive(2)
    first = world.process("stream", hold=[Point.FILES_STAGED])
    first.held()
    with pytest.raises(LeaseHeld) as refused:
        world.engine.run(*world.names)
    assert f"process {first.pid} " in refused.value.params["holder"]
    second = world.process("run")
    assert second.wait() == 2, second.said
    assert f"process {first.pid} " in second.said
    first.free()
    first.wait_until(lambda: all(world.unread(name) == 0 for name in world.names), "the last file")
    first.stop()
    world.check()
    world.settle()


# It is stopped by its lease before it commits, and by the log's next version where it has looked at its lease already.
@pytest.mark.row(6)
@pytest.mark.parametrize(
    "point",
    [
        pytest.param(Point.OFFSETS_WRITTEN, marks=pytest.mark.nightly),
        Point.FILES_STAGED,
        Point.COMMIT_WRITTEN,
    ],
)
def test_a_driver_that_slept_through_a_takeover_publishes_nothing(
    mill: Callable[..., Mill], point: Point
) -> None:
    zombie_driver(mill(), point)


@pytest.mark.row(6)
@pytest.mark.nightly
@pytest.mark.parametrize("point", [Point.FILES_STAGED, Point.COMMITTED, Point.REFUSALS_COPIED])
def test_a_driver_of_an_event_store_that_slept_through_a_takeover_decides_nothing(
    mill: Callable[..., Mill], point: Point
) -> None:
    zombie_driver(mill(names=(STORE,)), point)


def zombie_driver(world: Mill, point: Point) -> None:
    """A live driver is frozen at ``point``, another takes over and reads everything, the first one wakes up."""
    world.arrive(3, poison=1)
    zombie = world.process("stream", hold=[point])
    assert zombie.held() is point
    zombie.freeze()
    heir = world.process("run", take_over=True)
    heir.finish()
    world.check()
    before = world.versions()
    zombie.free()
    zombie.thaw()
    assert zombie.wait() == 2, zombie.said
    assert "LEASE_HELD" in zombie.said
    assert world.versions() == before, "the zombie has published"
    world.check()
    world.settle()


@pytest.mark.row(6)
def test_a_backfill_that_slept_through_a_takeover_swaps_nothing(mill: Callable[..., Mill]) -> None:
    world = mill(names=("readings",))
    world.arrive(3)
    world.run()
    world.use(2)
    zombie = world.process("backfill", select={"states": ["stale"]}, hold=[Point.MANIFEST_SAVED])
    zombie.held()
    zombie.freeze()
    heir = world.process("backfill", select={"states": ["stale"]}, take_over=True)
    heir.finish()
    world.check(whole=True)
    before = world.versions()
    zombie.free()
    zombie.thaw()
    assert zombie.wait() != 0, zombie.said
    assert world.versions() == before, "the zombie has published"
    world.check(whole=True)
    world.settle()
