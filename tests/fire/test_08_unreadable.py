"""Row 8: files that cannot be read, and records that are none. They are in the quarantine with their reason; the
stream lives, and nothing readable is lost."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from tests.fire.matrix import Tally
from tests.scenarios.test_bad_input import Feed, lines
from tidemill import SourceError
from tidemill.ledger import unreadable
from tidemill.ledger.judge import State
from tidemill.planning.selection import Request
from tidemill.testing import Point, listening

pytestmark = [pytest.mark.row(8), pytest.mark.timeout(600)]
DAY = Request.between("2024-05-01", "2024-05-02")
PARQUET = {
    "files": {
        "path": "in",
        "format": "parquet",
        "schema": "id INT, at TIMESTAMP, v INT",
        "max_files_per_batch": 1,
    }
}


def torn_gzip() -> bytes:
    whole = gzip.compress(lines(*range(100, 400)))
    return whole[: len(whole) // 2]


def parquet(*ids: int) -> bytes:
    at = pa.array([1_714_564_800_000_000] * len(ids), pa.timestamp("us", "UTC"))
    columns = {"id": pa.array(ids, pa.int32()), "at": at, "v": pa.array(ids, pa.int32())}
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink, compression="snappy")
    return bytes(sink.getvalue())


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def rotten(content: bytes) -> bytes:
    """Its first page overwritten, its footer whole."""
    return content[:8] + b"\xff" * 40 + content[48:]


def alone_in_quarantine(feed: Feed, path: Path) -> None:
    (row,) = feed.quarantine()
    assert row["record"] == str(path)
    assert row["reasons"][0].startswith("the file cannot be read: ")
    assert len(row["reasons"][0]) > 40


def test_a_torn_gzip_is_set_aside_whole_and_the_stream_goes_on(
    tmp_path: Path, spark: SparkSession, tally: Tally
) -> None:
    feed = Feed(tmp_path, spark)
    feed.put(lines(1))
    torn = feed.put(torn_gzip(), name="a=(ü) [1]%20 o'clock.json.gz")
    feed.put(lines(3))
    assert feed.run() is None
    assert feed.ids() == [1, 3]
    alone_in_quarantine(feed, torn)
    coverage = feed.engine.view("feed").coverage
    assert (coverage.input_rows, coverage.quarantined) == (3, 1)
    assert feed.engine.verify("feed").holds
    # What it should have been comes under a name of its own.
    feed.put(gzip.compress(lines(*range(100, 103))), "json.gz")
    assert feed.run() is None
    assert feed.ids() == [1, 3, 100, 101, 102]
    alone_in_quarantine(feed, torn)


@pytest.mark.parametrize(
    "harm", [cut, rotten, lambda _content: b"PAR1 but not quite"], ids=["cut", "rotten", "garbage"]
)
def test_a_corrupt_parquet_file_is_set_aside(
    tmp_path: Path, spark: SparkSession, tally: Tally, harm: Callable[[bytes], bytes]
) -> None:
    feed = Feed(tmp_path, spark)
    feed.use(lambda events: events, source=PARQUET)
    feed.put(parquet(1, 2), "parquet")
    bad = feed.put(harm(parquet(*range(10, 500))), "parquet")
    feed.put(parquet(3), "parquet")
    assert feed.run() is None
    assert feed.ids() == [1, 2, 3]
    alone_in_quarantine(feed, bad)
    feed.use(lambda events: events.withColumn("v", events.v + 1), source=PARQUET)
    feed.engine.backfill("feed", Request(states=frozenset({State.STALE})))
    assert feed.ids() == [1, 2, 3]
    assert feed.engine.coverage("feed").in_state(State.CLEAN) == ("2024-05-01",)


def test_a_stream_with_state_goes_on_too(tmp_path: Path, spark: SparkSession, tally: Tally) -> None:
    def counted(events: DataFrame) -> DataFrame:
        hours = events.groupBy(F.window("at", "1 hour")).count()
        return hours.select(F.col("window.start").alias("hour"), F.col("count").cast("int").alias("id"))

    feed = Feed(tmp_path, spark)
    feed.use(
        counted,
        event_time={"column": "at", "watermark": "1 hour"},
        interval={"grain": "day", "column": "hour"},
    )
    feed.put(lines(1, 1))
    torn = feed.put(torn_gzip(), "json.gz")
    feed.put(lines(1, 2))
    feed.put(lines(9))
    feed.put(lines(10))
    assert feed.run() is None
    assert feed.ids() == [1, 3]
    alone_in_quarantine(feed, torn)


def test_several_in_one_batch_are_set_aside_one_after_the_other(
    tmp_path: Path, spark: SparkSession, tally: Tally
) -> None:
    feed = Feed(tmp_path, spark)
    files = {"path": "in", "format": "json", "schema": "id INT, at TIMESTAMP, v INT"}
    feed.use(lambda events: events, source={"files": files})
    torn = {str(feed.put(torn_gzip(), "json.gz")) for _ in range(2)}
    # Names that would be patterns, for each other too.
    for number, name in enumerate(
        ("[12].json", "1.json", "a{b,c}.json", "ab.json", "*?.json", "back\\slash.json"), 1
    ):
        feed.put(lines(number), name=name)
    assert feed.run() is None
    assert feed.ids() == [1, 2, 3, 4, 5, 6]
    assert {row["record"] for row in feed.quarantine()} == torn
    assert feed.engine.verify("feed").holds


def test_a_crash_between_quarantine_and_list_leaves_one_row(
    tmp_path: Path, spark: SparkSession, tally: Tally
) -> None:
    feed = Feed(tmp_path, spark)
    feed.put(lines(1))
    torn = feed.put(torn_gzip(), "json.gz")
    with patch.object(unreadable, "add", side_effect=KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
        feed.run()
    assert feed.run() is None
    assert feed.ids() == [1]
    alone_in_quarantine(feed, torn)


def test_a_file_that_rots_after_its_rows_were_set_aside_is_set_aside_in_their_place(
    tmp_path: Path, spark: SparkSession, tally: Tally
) -> None:
    def die(there: Point) -> None:
        if there is Point.BAD_ROWS_SET_ASIDE:
            raise RuntimeError("dies here")

    feed = Feed(tmp_path, spark)
    rots = feed.put(gzip.compress(lines(1) + b"\nno record"), "json.gz")
    feed.put(lines(2))
    with listening(die):
        assert "dies here" in str(feed.run())
    assert [row["record"] for row in feed.quarantine()] == ["no record"]
    rots.write_bytes(torn_gzip())
    assert feed.run() is None
    assert feed.ids() == [2]
    alone_in_quarantine(feed, rots)


def test_a_pipeline_without_a_stream_sets_it_aside_once(
    tmp_path: Path, spark: SparkSession, tally: Tally
) -> None:
    feed = Feed(tmp_path, spark)
    feed.put(lines(1))
    torn = feed.put(torn_gzip(), "json.gz")
    assert feed.engine.backfill("feed", DAY).quarantined == 1
    assert feed.ids() == [1]
    alone_in_quarantine(feed, torn)
    feed.put(lines(2))
    assert feed.engine.backfill("feed", DAY).quarantined == 1
    assert feed.ids() == [1, 2]
    alone_in_quarantine(feed, torn)


def test_a_file_that_the_stream_has_read_must_stay_readable(
    tmp_path: Path, spark: SparkSession, tally: Tally
) -> None:
    feed = Feed(tmp_path, spark)
    path = feed.put(gzip.compress(lines(*range(300))), "json.gz")
    assert feed.run() is None
    path.write_bytes(torn_gzip())
    feed.use(lambda events: events.withColumn("v", events.v + 1))
    with pytest.raises(SourceError) as refused:
        feed.engine.backfill("feed", Request(states=frozenset({State.STALE})))
    assert refused.value.params["file"].endswith(path.name)
    assert feed.quarantine() == []
    assert len(feed.ids()) == 300


def test_a_huge_field_is_a_field_and_half_of_one_is_set_aside_whole(
    tmp_path: Path, spark: SparkSession, tally: Tally
) -> None:
    feed = Feed(tmp_path, spark)
    files = {"path": "in", "format": "json", "schema": "id INT, at TIMESTAMP, v INT, note STRING"}
    feed.use(lambda events: events, source={"files": files})
    huge = json.dumps({"id": 1, "at": "2024-05-01T00:00:00Z", "v": 1, "note": "x" * 8_000_000})
    feed.put(f"{huge}\n{huge[:-1]}\n".encode() + lines(2))
    assert feed.run() is None
    assert feed.ids() == [1, 2]
    assert [len(row["record"]) for row in feed.quarantine()] == [len(huge) - 1]
