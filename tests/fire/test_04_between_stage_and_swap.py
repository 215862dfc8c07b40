"""Row 4: rows come to an interval while its swap is staged. The swap keeps them, or the interval is dirty."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from tests.fire.held import Held
from tests.fire.mill import BEGIN, Mill
from tidemill.ledger.judge import State
from tidemill.planning.selection import Request
from tidemill.testing import Point

pytestmark = [pytest.mark.row(4), pytest.mark.timeout(600)]
DAY = BEGIN.strftime("%Y-%m-%d")


def late_between(mill: Mill, name: str) -> str:
    """Stage the first day with new code; rows for it arrive and are read; then swap. Gives the day's state."""
    mill.use(mill.factor + 1)
    request = Request(start=BEGIN, end=BEGIN + timedelta(days=1))
    with (
        Held([Point.MANIFEST_SAVED]) as held,
        held.begun(lambda: mill.engine.backfill(name, request)) as done,
    ):
        assert held.at() is Point.MANIFEST_SAVED
        mill.source.add(*[mill.event(BEGIN + timedelta(hours=h)) for h in (1, 2, 23)])
        mill.run()
        held.release()
        (chunk,) = done().chunks
    assert chunk.outcome == "swapped"
    mill.check()
    state = {row.interval: row.state for row in mill.engine.coverage(name).rows}
    return state[DAY]


@pytest.mark.parametrize("name", ["readings", "hourly"])
def test_late_rows_are_kept_or_the_day_is_dirty(mill: Callable[..., Mill], name: str) -> None:
    world = mill()
    world.arrive(4)
    world.pass_time()
    world.run()
    world.check()
    # Without state the rows were appended beside the swap. With state the stream left them out, after the pin.
    assert late_between(world, name) is (State.CLEAN if name == "readings" else State.DIRTY)
    world.settle()
