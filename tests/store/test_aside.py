"""A quarantine on a store: rows are there once, whoever else writes them or others."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from pyspark.sql import SparkSession

from tests.services.s3 import Store
from tidemill.config import Project, parse_pipeline
from tidemill.execution.stores import reach
from tidemill.sinks import aside
from tidemill.sinks.table import AppVersion, look

pytestmark = pytest.mark.spark


@pytest.fixture
def path(bucket: str, store: Store, spark: SparkSession) -> str:
    path = f"s3://{bucket}/readings_quarantine"
    values = {
        "name": "readings",
        "source": {"files": {"path": "in", "format": "json", "schema": "at TIMESTAMP"}},
        "event_time": {"column": "at"},
        "interval": "day",
        "sink": {"delta": {"path": path}},
    }
    reach(spark, Project("/", {"readings": parse_pipeline(values, "/")}))
    return path


def _rows(path: str) -> Counter[tuple[str | None, int]]:
    return Counter((row["interval"], row["n"]) for row in look(path).to_pyarrow_table().to_pylist())


def test_of_several_writers_at_once_each_is_there_once(path: str, spark: SparkSession) -> None:
    def write(number: int) -> None:
        frame = spark.createDataFrame([("a", number), (None, number)], "interval STRING, n BIGINT")
        for _ in range(2):  # done again, it is done
            aside.append(frame, path, AppVersion(f"app-{number}", 1))

    write(0)
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(write, range(1, 4)))
    assert _rows(path) == Counter({(label, number): 1 for label in ("a", None) for number in range(4)})

    # What a condition does not mean stays, also where it can say neither yes nor no, and within the same files.
    fresh = spark.createDataFrame([("a", 9)], "interval STRING, n BIGINT")
    for _ in range(2):
        aside.replace(fresh, path, "interval IN ('a') AND n <> 3")
    assert _rows(path) == Counter({("a", 9): 1, ("a", 3): 1, **{(None, number): 1 for number in range(4)}})
