"""Row 16: machines and sessions in zones with daylight saving. The intervals are those of UTC."""

from __future__ import annotations

import os
from collections.abc import Callable
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


@pytest.mark.parametrize("zone", ["America/New_York", "Europe/Berlin"])
def test_intervals_do_not_move_with_the_zone(
    mill: Callable[..., Mill], zone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = mill()
    for turn in TURNS[:2]:
        world.source.add(*[world.event(turn + timedelta(minutes=30 * n)) for n in range(-12, 12)])
    world.run()
    world.check()
    for turn in TURNS[2:]:
        world.source.add(*[world.event(turn + timedelta(minutes=30 * n)) for n in range(-12, 12)])
    monkeypatch.setenv("TZ", zone)
    elsewhere = {**SMALL, "spark.sql.session.timeZone": zone}
    world.process("run", spark=elsewhere).finish()
    world.check()
    world.use(2)
    for name in world.names:
        world.process("backfill", name, spark=elsewhere, select={"states": ["stale"]}).finish()
    monkeypatch.setenv("TZ", os.environ.get("TZ", "UTC"))
    world.check()
    world.pass_time()
    world.settle()
