"""Transforms of the flights example: a frame of flight events in, a frame of a table's rows out.

Each function is a pure `DataFrame -> DataFrame`, the same for a stream and for a batch. The engine sets the
watermark before it calls them, and adds the partition column `event_date` after.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyspark.sql import functions as F

if TYPE_CHECKING:
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


def _left(events: DataFrame) -> DataFrame:
    return events.where(F.col("dep_time").isNotNull())
