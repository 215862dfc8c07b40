"""Unique within a batch, and within an interval: what repeats, live and in backfills; counted by hand."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from tests.quality.feed import Feed, Reading, reading, suite
from tests.quality.keys import UNIQUE, counts, unique
from tidemill.errors import QualityError
from tidemill.ledger import log
from tidemill.ledger.facts import LiveBatch, Swap
from tidemill.quality.unique import repeated

BATCHES = [
    [reading(1, 5), reading(1, 5), reading(2, 7), reading(3, None)],
    [reading(2, 7), reading(4, 1), reading(2, 8, day=2), reading(6, None, day=2)],
]


def by_day(rows: Sequence[Reading], *columns: str) -> tuple[int, ...]:
    days = sorted({str(row["at"])[:10] for row in rows})
    parts = [counts([row for row in rows if str(row["at"])[:10] == day], *columns) for day in days]
    return tuple(sum(column) for column in zip(*parts, strict=True))


@pytest.mark.spark
@pytest.mark.timeout(600)
def test_batches_and_chunks_say_what_repeats_in_them(tmp_path: Path, spark: SparkSession):
    asked = suite(
        unique("batch"),
        unique("interval"),
        unique("interval", column_list=["id", "v"]),
        unique("batch", column="v"),
    )
    feed = Feed(tmp_path, spark, quality={"suite": asked})
    for batch in BATCHES:
        feed.put(*batch)
    assert feed.run() is None
    every = [row for batch in BATCHES for row in batch]
    first, second = (
        [(r.rows, r.looked_at, r.unexpected) for r in fact.verdicts[0].results]
        for fact in facts(feed, LiveBatch)
    )
    assert first == [
        counts(BATCHES[0], "id"),
        counts(BATCHES[0], "id"),
        counts(BATCHES[0], "id", "v"),
        counts(BATCHES[0], "v"),
    ]
    assert second == [
        counts(BATCHES[1], "id"),
        by_day(every, "id"),  # 2 stands in the table already; of the other day it is another 2
        by_day(every, "id", "v"),
        counts(BATCHES[1], "v"),
    ]
    feed.backfill("2024-01-01", "2024-01-03")
    (swap,) = facts(feed, Swap)
    assert [(r.rows, r.looked_at, r.unexpected) for r in swap.verdicts[0].results] == [
        by_day(every, "id"),
        by_day(every, "id"),
        by_day(every, "id", "v"),
        by_day(every, "v"),
    ]
    assert swap.verdicts[0].results[0].id == f"{UNIQUE}(id) within a batch"


@pytest.mark.spark
@pytest.mark.timeout(600)
def test_a_batch_that_repeats_what_the_interval_holds_is_refused(tmp_path: Path, spark: SparkSession):
    feed = Feed(tmp_path, spark, quality={"suite": suite(unique("interval", "fail"))})
    feed.put(reading(1, 5), reading(2, 7))
    feed.put(reading(1, 5, day=2))
    feed.put(reading(2, 9))
    error = feed.run()
    assert isinstance(error, QualityError)
    assert "2 of 3 unexpected" in error.message
    assert feed.ids() == [1, 1, 2]


def test_a_file_from_before_a_column_was_added_has_no_keys_of_it(tmp_path: Path):
    old = [{"id": 1}, {"id": 1}, {"id": 2}]
    new = [{"id": 1, "v": 5}, {"id": 1, "v": 5}, {"id": 2, "v": None}, {"id": None, "v": 7}]
    files = [tmp_path / name for name in ("old.parquet", "new.parquet")]
    for file, rows in zip(files, (old, new), strict=True):
        pq.write_table(pa.Table.from_pylist(rows), file)
    both = [{"v": None, **row} for row in [*old, *new]]
    for columns in (["v"], ["id", "v"]):
        assert repeated(files, columns) == counts(both, *columns)
    assert repeated(files[:1], ["v"]) == (3, 0, 0)


@pytest.mark.parametrize("kind", [pa.float32(), pa.float64()])
def test_keys_are_equal_that_are_equal_in_spark(tmp_path: Path, kind: pa.DataType):
    nan = float("nan")
    other = struct.unpack("<d", struct.pack("<Q", 0xFFF8000000000001))[0]
    pq.write_table(
        pa.table({"x": pa.array([0.0, -0.0, nan, other, 1.5, None], kind)}), tmp_path / "x.parquet"
    )
    assert repeated([tmp_path / "x.parquet"], ["x"]) == (6, 5, 4)


def facts(feed: Feed, kind: type) -> list[Any]:
    return [
        commit.fact
        for commit in log.commits_after(feed.pipeline.table.path, -1, feed.pipeline.grain)
        if isinstance(commit.fact, kind)
    ]
