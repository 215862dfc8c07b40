"""The flights oracle is itself only arithmetic: these checks tie it to facts known from elsewhere."""

from __future__ import annotations

from collections import Counter
from datetime import date, datetime, timedelta
from itertools import pairwise

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from tests import oracle_flights as oracle

# They read the whole year's flights.
pytestmark = pytest.mark.slow
MONTH = 31
UTC_TIME = pa.timestamp("us", tz="UTC")


def test_departures_are_the_flights_that_left() -> None:
    table = oracle.departures(MONTH)
    assert table.num_rows == 26_483
    assert table.column("dep_time").null_count == 0
    assert table.column("dep_delay").null_count == 0
    assert len(set(table.column("flight_id").to_pylist())) == table.num_rows
    assert table.schema.field("scheduled_at").type == UTC_TIME
    assert table.schema.field("event_date").type == pa.date32()


def test_delays_are_windows_that_add_up_to_the_departures() -> None:
    table = oracle.delays(MONTH)
    assert table.num_rows == 5_937
    assert sum(table.column("flights").to_pylist()) == 26_483
    assert table.schema == pa.schema(
        {
            "window_start": UTC_TIME,
            "origin": pa.string(),
            "flights": pa.int64(),
            "mean_delay": pa.float64(),
            "max_delay": pa.int32(),
            "event_date": pa.date32(),
        }
    )


def test_delays_agree_with_a_plain_count_by_hand() -> None:
    windows: dict[tuple[datetime, str], list[int]] = {}
    for row in oracle.departures(2).to_pylist():
        due = row["scheduled_at"]
        start = due.replace(minute=due.minute // 15 * 15)
        windows.setdefault((start, row["origin"]), []).append(row["dep_delay"])
    rows = oracle.delays(2).to_pylist()
    assert {(row["window_start"], row["origin"]) for row in rows} == windows.keys()
    for row in rows:
        late = windows[row["window_start"], row["origin"]]
        assert (row["flights"], row["mean_delay"], row["max_delay"]) == (
            len(late),
            sum(late) / len(late),
            max(late),
        )


def test_a_day_of_the_table_is_a_utc_day() -> None:
    days = Counter(oracle.departures(MONTH).column("event_date").to_pylist())
    assert min(days) == date(2013, 1, 1)
    # Evening flights of the last local day are due after midnight UTC.
    assert max(days) == date(2013, 2, 1)


def test_hour_batches_drop_flights_on_most_days() -> None:
    dropped = oracle.dropped_by_hour_batches(MONTH)
    assert len(dropped.flight_ids) == 122
    assert len(dropped.days) == 29
    table = oracle.departures(MONTH)
    late = table.filter(pc.is_in(table.column("flight_id"), pa.array(sorted(dropped.flight_ids))))
    assert late.num_rows == 122
    assert set(late.column("event_date").to_pylist()) == dropped.days
    # A row is dropped by a watermark that trails by two hours: what left sooner cannot be late.
    assert pc.min(late.column("dep_delay")).as_py() > timedelta(hours=2).total_seconds() / 60


def test_cancelled_flights_move_the_watermark_or_not_and_january_does_not_care() -> None:
    def dropped(days: int, *, cancelled_count: bool) -> frozenset[str]:
        return oracle.dropped_by_hour_batches(days, cancelled_count=cancelled_count).flight_ids

    assert dropped(MONTH, cancelled_count=True) == dropped(MONTH, cancelled_count=False)
    # A watermark that cancelled flights do not move is never ahead of one that they move.
    assert dropped(365, cancelled_count=False) < dropped(365, cancelled_count=True)


def test_a_longer_delay_drops_no_other_flights() -> None:
    dropped = [oracle.dropped_by_hour_batches(MONTH, hours).flight_ids for hours in (1, 2, 3, 6, 24)]
    assert all(longer < shorter for shorter, longer in pairwise(dropped))
    assert not dropped[-1]


@pytest.mark.parametrize(("days", "flights"), [(1, 838), (7, 6_064), (365, 328_521)])
def test_days_are_local_days(days: int, flights: int) -> None:
    assert oracle.departures(days).num_rows == flights
