"""The flights' transforms, as any transform can be tested: a frame in, a frame out, compared by chispa."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from chispa import assert_df_equality
from pyspark.sql import DataFrame, SparkSession

from jobs import flights

pytestmark = pytest.mark.spark

EVENT = "flight_id STRING, scheduled_at TIMESTAMP, origin STRING, dep_time INT, dep_delay INT"
WINDOW = "window_start TIMESTAMP, origin STRING, flights BIGINT, mean_delay DOUBLE, max_delay INT"


def at(hour: int, minute: int) -> datetime:
    return datetime(2013, 1, 5, hour, minute, tzinfo=UTC)


@pytest.fixture(scope="module")
def events(spark: SparkSession) -> DataFrame:
    return spark.createDataFrame(
        [
            ("a", at(10, 0), "EWR", 500, -2),
            ("b", at(10, 14), "EWR", 515, 5),
            # Cancelled: it never left.
            ("c", at(10, 5), "EWR", None, None),
            # Another airport, and the first moment of the next window.
            ("d", at(10, 14), "JFK", 520, 1),
            ("e", at(10, 15), "EWR", 2330, 853),
        ],
        EVENT,
    )


def test_delays_are_windows_of_what_left(spark: SparkSession, events: DataFrame) -> None:
    expected = spark.createDataFrame(
        [
            (at(10, 0), "EWR", 2, 1.5, 5),
            (at(10, 0), "JFK", 1, 1.0, 1),
            (at(10, 15), "EWR", 1, 853.0, 853),
        ],
        WINDOW,
    )
    assert_df_equality(flights.delays(events), expected, ignore_row_order=True, ignore_nullable=True)
