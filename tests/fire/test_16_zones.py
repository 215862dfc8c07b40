"""Row 16: machines and sessions in zones with daylight saving. The intervals are those of UTC."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest

from tests.fire.mill import Mill
from tidemill.testing.processes import SMALL

pytestmark = [pytest.mark.row(16), pytest.mark.timeout(600)]
# The nights in which New York and Berlin turned their clocks, in spring and in autumn.
TURNS = (
    datetime(2024, 3, 10, 7, tzinfo=UTC),
    datetime(2024, 3, 31, 1, tzinfo=UTC),
    datetime(2024, 10, 27, 1, tzinfo=UTC),
    datetime(2024, 11, 3, 6, tzinfo=UTC),
)


@pytest.mark.parametrize(
    ("streamed", "backfilled"),
    [
        ("America/New_York", "Europe/Berlin"),
        pytest.param("Europe/Berlin", "America/New_York", marks=pytest.mark.nightly),
    ],
)
def test_intervals_do_not_move_with_the_zone(
    mill: Callable[..., Mill], streamed: str, backfilled: str
) -> None:
    world = mill()
    for turn in TURNS[:2]:
        world.source.add(*[world.event(turn + timedelta(minutes=30 * n)) for n in range(-12, 12)])
    world.run()
    world.check()
    for turn in TURNS[2:]:
        world.source.add(*[world.event(turn + timedelta(minutes=30 * n)) for n in range(-12, 12)])
    with elsewhere(streamed) as there:
        world.process("run", spark=there).finish()
    world.check()
    world.use(2)
    with elsewhere(backfilled) as there:
        for name in world.names:
            world.process("backfill", name, spark=there, select={"states": ["stale"]}).finish()
    world.check()
    world.pass_time()
    world.settle()


@contextmanager
def elsewhere(zone: str) -> Iterator[dict[str, str]]:
    """A machine in a zone, and the settings of a session that says so, too."""
    with pytest.MonkeyPatch.context() as here:
        here.setenv("TZ", zone)
        yield {**SMALL, "spark.sql.session.timeZone": zone}
