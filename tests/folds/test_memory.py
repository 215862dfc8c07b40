"""One key of millions of rows passes through a batch under a cap on its worker's memory."""

from __future__ import annotations

import resource
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pyspark.sql import functions as F

from tidemill.folds import Fold, fold

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = [pytest.mark.spark, pytest.mark.slow]
BEGIN = datetime(2024, 1, 1, tzinfo=UTC)
MORE = 160 * 1024 * 1024


def in_use() -> int:
    """The address space of this process, in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


class Chained(Fold[tuple[int, int]]):
    """Hashes the order of its rows; where it is loaded, before any row is read, the worker may take 160 MB more, and no more."""

    key, time, order_by = ("key",), "at", ("id",)
    state = "n BIGINT, total BIGINT"
    output = "at TIMESTAMP, n BIGINT, total BIGINT"

    def __init__(self, rows: int) -> None:
        self.rows = rows

    def __setstate__(self, values: dict[str, Any]) -> None:
        self.__dict__.update(values)
        resource.setrlimit(resource.RLIMIT_AS, (in_use() + MORE, resource.RLIM_INFINITY))

    def zero(self) -> tuple[int, int]:
        return (0, 0)

    def step(self, state: tuple[int, int], row: Any) -> Any:
        n, total = state[0] + 1, (state[1] * 31 + row.id) % 1_000_003
        if n == self.rows:
            resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        return (n, total), [(row.at, n, total)] if n % 1000 == 0 else []


@pytest.mark.parametrize("count", [1_000_000, pytest.param(5_000_000, marks=pytest.mark.nightly)])
def test_a_key_of_millions_of_rows_is_never_in_memory_at_once(spark: SparkSession, count: int):
    """A million rows as Python values are 400 MB."""
    backwards = spark.range(count - 1, -1, -1).select(
        F.lit("one").alias("key"), F.timestamp_micros(F.expr("id DIV 2 + 1704067200000000")).alias("at"), "id"
    )  # fmt: skip
    found = fold(backwards, Chained(count)).orderBy("n").toArrow()
    total, wanted = 0, []
    for n in range(count):
        total = (total * 31 + n) % 1_000_003
        if (n + 1) % 1000 == 0:
            wanted.append((BEGIN + timedelta(microseconds=n // 2), n + 1, total))
    columns = [found.column(name).to_pylist() for name in ("at", "n", "total")]
    assert list(zip(*columns, strict=True)) == wanted
