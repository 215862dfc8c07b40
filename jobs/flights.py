"""Transforms of the flights example: a frame of flight events in, a frame of a table's rows out.

Each function is a pure `DataFrame -> DataFrame`, the same for a stream and for a batch. The engine sets the
watermark before it calls them, and adds the partition column `event_date` after.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from pyspark.sql import functions as F

from tidemill.folds import Fold, fold

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pyspark.sql import DataFrame

WINDOW = "15 minutes"

_DEPARTURE_COLUMNS = (
    "flight_id",
    "scheduled_at",
    "carrier",
    "flight",
    "tailnum",
    "origin",
    "dest",
    "year",
    "month",
    "day",
    "sched_dep_time",
    "dep_time",
    "dep_delay",
    "sched_arr_time",
    "arr_time",
    "arr_delay",
    "air_time",
    "distance",
)


def departures(events: DataFrame) -> DataFrame:
    """Give the flights that left, one row an event, in a fixed order of columns.

    A cancelled flight has no `dep_time` and gives no row. `scheduled_at` is when the flight was due (UTC);
    `year`, `month`, `day` and the `*_time` columns but `air_time` are local clock readings (`517` is 05:17);
    delays and `air_time` are minutes, `distance` is miles. A flight that was diverted left, but lacks
    `arr_delay` and `air_time`, and may lack `arr_time`.
    """
    return _left(events).select(*_DEPARTURE_COLUMNS)


def delays(events: DataFrame) -> DataFrame:
    """Give the departure delays of each origin in tumbling windows of 15 minutes of scheduled time.

    One row a window and origin with at least one flight that left: `window_start` (timestamp), `origin`,
    `flights` (bigint), `mean_delay` (double, minutes), `max_delay` (int, minutes). The mean is a quotient of
    two whole numbers, so the order in which rows are added up cannot change it.
    """
    window = F.window("scheduled_at", WINDOW)
    return (
        _left(events)
        .groupBy(window.alias("window"), "origin")
        .agg(
            F.count(F.lit(1)).alias("flights"),
            F.avg("dep_delay").alias("mean_delay"),
            F.max("dep_delay").alias("max_delay"),
        )
        .select(F.col("window.start").alias("window_start"), "origin", "flights", "mean_delay", "max_delay")
    )


class Leg(NamedTuple):
    """A plane's last departure from New York: which flight, when it touched down, and how late it came."""

    flight_id: str | None
    down_at: datetime | None
    arr_delay: int | None


class Turnarounds(Fold[Leg]):
    """Of each departure of a plane, what the one before within a day left it: time and delay.

    `previous` is the plane's last flight out of New York, `idle` the minutes from its touching down to this departure (it
    flew back meanwhile), `inherited` the minutes of its late arrival that this departure is late, too. All three are
    null without such a flight; the minutes also where it was diverted and its times are not known.
    """

    key, time, order_by = ("tailnum",), "scheduled_at", ("flight_id",)
    state = "flight_id STRING, down_at TIMESTAMP, arr_delay INT"
    output = (
        "flight_id STRING, scheduled_at TIMESTAMP, tailnum STRING, origin STRING, dep_delay INT, "
        "previous STRING, idle INT, inherited INT"
    )
    horizon = "24 hours"

    def zero(self) -> Leg:
        """Give a plane that was not seen for a day."""
        return Leg(None, None, None)

    def step(self, state: Leg, row: Any) -> tuple[Leg, Iterable[tuple[Any, ...]]]:
        """Give the row of a departure, and what it leaves to the next."""
        left_at = row.scheduled_at + timedelta(minutes=row.dep_delay)
        idle = None if state.down_at is None else (left_at - state.down_at) // timedelta(minutes=1)
        inherited = None if state.arr_delay is None else max(0, min(state.arr_delay, row.dep_delay))
        of_flight = (row.flight_id, row.scheduled_at, row.tailnum, row.origin, row.dep_delay)
        down_at = None if row.air_time is None else left_at + timedelta(minutes=row.air_time)
        leg = Leg(row.flight_id, down_at, row.arr_delay)
        return leg, [(*of_flight, state.flight_id, idle, inherited)]


def turnarounds(events: DataFrame) -> DataFrame:
    """Give the turnarounds of the planes that left; see `Turnarounds`. A flight without a tail number has no plane."""
    return fold(_left(events).where(F.col("tailnum").isNotNull()), Turnarounds())


def _left(events: DataFrame) -> DataFrame:
    return events.where(F.col("dep_time").isNotNull())
