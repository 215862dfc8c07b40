"""Unique within a batch, and within an interval: what repeats, live and in backfills; counted by hand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyspark.sql import SparkSession

from tests.quality.feed import Feed, Reading, reading, suite
from tidemill.config import parse_pipeline
from tidemill.errors import ConfigError, QualityError
from tidemill.ledger import log
from tidemill.ledger.facts import LiveBatch, Swap
from tidemill.quality.unique import repeated

UNIQUE, COMPOUND = "expect_column_values_to_be_unique", "expect_compound_columns_to_be_unique"
BATCHES = [
    [reading(1, 5), reading(1, 5), reading(2, 7), reading(3, None)],
    [reading(2, 7), reading(4, 1), reading(2, 8, day=2), reading(6, None, day=2)],
]


def unique(within: str | None, action: str = "warn", **kwargs: Any) -> dict[str, Any]:
    type_ = COMPOUND if "column_list" in kwargs else UNIQUE
    meta = {"action": action, **({"within": within} if within else {})}
    return {"type": type_, "kwargs": kwargs or {"column": "id"}, "meta": meta}


def counts(rows: Iterable[Reading], *columns: str) -> tuple[int, int, int]:
    """Rows, those with a key, those whose key another row has, too."""
    keys = [tuple(row[name] for name in columns) for row in rows]
    there = [key for key in keys if any(part is not None for part in key)]
    times = Counter(there)
    return len(keys), len(there), sum(times[key] > 1 for key in there)


def by_day(rows: Sequence[Reading], *columns: str) -> tuple[int, ...]:
    days = sorted({str(row["at"])[:10] for row in rows})
    parts = [counts([row for row in rows if str(row["at"])[:10] == day], *columns) for day in days]
    return tuple(sum(column) for column in zip(*parts, strict=True))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    keys=st.lists(st.tuples(st.sampled_from([None, 1, 2, 3]), st.sampled_from([None, "a", "b"])), max_size=9)
)
def test_what_repeats_is_what_python_counts(tmp_path: Path, keys: list[tuple[int | None, str | None]]):
    half, rows = len(keys) // 2, [{"n": n, "t": t} for n, t in keys]
    schema = pa.schema([("n", pa.int64()), ("t", pa.string()), ("other", pa.int64())])
    files = [tmp_path / "1.parquet", tmp_path / "2.parquet"]
    for file, part in zip(files, (rows[:half], rows[half:]), strict=True):
        pq.write_table(pa.Table.from_pylist(part, schema), file)
    assert repeated(files, ["n"]) == counts(rows, "n")
    assert repeated(files, ["n", "t"]) == counts(rows, "n", "t")


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


@pytest.mark.parametrize(
    ("each", "more", "said"),
    [
        (unique("hour"), {}, "within is no 'hour'"),
        (
            {
                "type": "expect_column_values_to_not_be_null",
                "kwargs": {"column": "id"},
                "meta": {"within": "batch"},
            },
            {},
            "has no within",
        ),
        (unique("batch", "drop"), {}, "drop acts on rows"),
        (unique("batch", column="id", row_condition="v > 1"), {}, "row_condition"),
        (
            unique("batch"),
            {"sink": {"delta": {"path": "t", "mode": "upsert", "key": ["id"], "order_by": ["v"]}}},
            "one row a key",
        ),
    ],
)
def test_what_cannot_be_asked(tmp_path: Path, each: dict[str, Any], more: dict[str, Any], said: str):
    values = {
        "name": "feed",
        "source": {"files": {"path": "in", "format": "json", "schema": "id INT, at TIMESTAMP, v INT"}},
        "event_time": {"column": "at"},
        "interval": "day",
        "quality": {"suite": suite(each)},
        "sink": {"delta": {"path": "t"}},
    }
    with pytest.raises(ConfigError, match=said):
        parse_pipeline({**values, **more}, tmp_path)


def facts(feed: Feed, kind: type) -> list[Any]:
    return [
        commit.fact
        for commit in log.commits_after(feed.pipeline.table.path, -1, feed.pipeline.grain)
        if isinstance(commit.fact, kind)
    ]
