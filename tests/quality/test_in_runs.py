"""Suites in live batches and backfills: what they find is in the commits, and what must not be published is not."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import DataFrame, Observation, SparkSession
from pyspark.sql import functions as F

from tests.quality.feed import BETWEEN, NOT_NULL, Feed, Reading, expectation, ids, reading, suite
from tidemill.errors import PlanError, QualityError
from tidemill.ledger import log
from tidemill.ledger.facts import LiveBatch, Swap
from tidemill.ledger.verdicts import Result, Verdict

pytestmark = [pytest.mark.spark, pytest.mark.timeout(600)]

IN_RANGE = expectation(BETWEEN, column="v", min_value=0, max_value=9, mostly=0.5)
NOT_LOST = expectation(NOT_NULL, column="v")
FEW_ROWS = expectation("expect_table_row_count_to_be_between", max_value=3)
MEAN = expectation("expect_column_mean_to_be_between", column="v", min_value=0)
COLUMNS = expectation("expect_column_to_exist", column="v")
SUITE = suite(IN_RANGE, FEW_ROWS, NOT_LOST, MEAN, COLUMNS)
BATCHES = [
    [reading(1, 5), reading(2, 30), reading(3, 1)],
    [reading(4, None), reading(5, 30), reading(6, 31), reading(7, 2)],
    [reading(8, None, day=2)],
]


def found(rows: Iterable[Reading], of: str) -> Verdict:
    """What GX's documentation says of SUITE over these rows."""
    values = [row["v"] for row in rows]
    there = [v for v in values if v is not None]
    wrong = sum(not 0 <= v <= 9 for v in there)
    mean = sum(there) / len(there) if there else None
    names = ["id", "at", "v"]
    return Verdict(
        of,
        (
            Result(
                f"{BETWEEN}(v)", not there or 1 - wrong / len(there) >= 0.5, len(values), len(there), wrong
            ),
            Result("expect_table_row_count_to_be_between()", len(values) <= 3, value=len(values)),
            Result(
                f"{NOT_NULL}(v)",
                len(there) == len(values),
                len(values),
                len(values),
                len(values) - len(there),
            ),
            Result("expect_column_mean_to_be_between(v)", mean is not None and mean >= 0, value=mean),
            Result("expect_column_to_exist(v)", True, value=names),
        ),
    )


def facts(feed: Feed, kind: type) -> list[Any]:
    return [
        commit.fact
        for commit in log.commits_after(feed.pipeline.table.path, -1, feed.pipeline.grain)
        if isinstance(commit.fact, kind)
    ]


def doubled(events: DataFrame) -> DataFrame:
    return events.withColumn("v", F.col("v") * 2)


def twice(rows: Iterable[Reading]) -> list[Reading]:
    return [{**row, "v": None if row["v"] is None else row["v"] * 2} for row in rows]


def test_every_commit_says_what_its_suites_found_before_and_after_the_transform(
    tmp_path: Path, spark: SparkSession
):
    feed = Feed(tmp_path, spark, transform=doubled, quality={"suite": SUITE, "inputs": {"events": SUITE}})
    for batch in BATCHES:
        feed.put(*batch)
    feed.put('{"id": 9, "at": "never", "v": 99}', '{"id": 10, "at": "2024-01-02T10:00:00Z", "v": 7}')
    assert feed.run() is None
    whole = [*BATCHES, [reading(10, 7, day=2)]]
    assert [fact.verdicts for fact in facts(feed, LiveBatch)] == [
        (found(rows, "events"), found(twice(rows), "")) for rows in whole
    ]

    done = feed.backfill("2024-01-01", "2024-01-02")
    day = [*BATCHES[0], *BATCHES[1]]
    expected = (found(day, "events"), found(twice(day), ""))
    assert [fact.verdicts for fact in facts(feed, Swap)] == [expected]
    assert [chunk.manifest.verdicts for chunk in done.chunks] == [expected]
    assert [each.verdicts for each in feed.engine.diff(done.run)] == [expected]
    assert feed.engine.verify("feed").holds


def test_a_batch_that_fails_its_suite_publishes_nothing_until_something_is_mended(
    tmp_path: Path, spark: SparkSession
):
    feed = Feed(
        tmp_path, spark, quality={"inputs": {"events": suite({**NOT_LOST, "meta": {"action": "fail"}})}}
    )
    for batch in BATCHES:
        feed.put(*batch)
    for _ in range(2):
        error = feed.run()
        assert isinstance(error, QualityError)
        assert f"the input events: {NOT_NULL}(v): 1 of 4 unexpected" in error.message
        assert feed.ids() == ids(BATCHES[0])
    names = {str(path) for path in Path(feed.pipeline.table.path).rglob("*.parquet")}
    assert len(names) == 1  # what was staged is not left behind
    feed.use()
    assert feed.run() is None
    assert feed.ids() == ids(itertools.chain(*BATCHES))


def test_a_backfill_that_fails_its_suite_is_kept_and_published_on_demand(tmp_path: Path, spark: SparkSession):
    feed = Feed(tmp_path, spark)
    feed.put(reading(1, 5), reading(2, 30))
    feed.put(reading(3, None, day=2))
    feed.use(quality={"suite": suite({**NOT_LOST, "meta": {"action": "fail"}})}, chunk=1)
    done = feed.backfill("2024-01-01", "2024-01-03")
    assert done.refused is not None
    assert f"the table's rows: {NOT_NULL}(v): 1 of 1 unexpected" in done.refused.message
    assert feed.ids() == [1, 2]
    with pytest.raises(QualityError, match="1 of 1 unexpected"):
        feed.engine.publish(done.run)
    assert feed.ids() == [1, 2]
    feed.engine.publish(done.run, force=True, why="such a reading may be null")
    assert feed.ids() == [1, 2, 3]


def test_columns_that_are_not_as_expected_end_a_run_before_it_reads(tmp_path: Path, spark: SparkSession):
    wanted = expectation("expect_table_column_count_to_equal", "fail", value=9)
    feed = Feed(tmp_path, spark, quality={"suite": suite(wanted)})
    feed.put(reading(1, 5))
    error = feed.run()
    assert isinstance(error, QualityError)
    assert "3 was seen" in error.message
    assert not facts(feed, LiveBatch)


def nothing(events: DataFrame) -> DataFrame:
    return events.where("false")


def a_week(events: DataFrame) -> DataFrame:
    return (
        events.groupBy(F.window("at", "1 day").alias("w"))
        .agg(F.sum("v").alias("v"))
        .selectExpr("w.start AS at", "v")
    )


@pytest.mark.parametrize("code", [nothing, a_week])
def test_what_spark_leaves_out_was_not_looked_at(
    tmp_path: Path, spark: SparkSession, code: Callable[[DataFrame], DataFrame]
):
    watermark = {"event_time": {"column": "at", "watermark": "1h"}}
    most = expectation("expect_column_max_to_be_between", "fail", column="v", max_value=100)
    share = expectation(
        "expect_column_proportion_of_non_null_values_to_be_between", "fail", column="at", min_value=1
    )
    few = suite(NOT_LOST, FEW_ROWS, most, share)
    feed = Feed(
        tmp_path, spark, transform=code, quality={"suite": few, "inputs": {"events": few}}, **watermark
    )
    for batch in BATCHES:
        feed.put(*batch)
    assert feed.run() is None
    batches = facts(feed, LiveBatch)
    looked_at = [fact.verdicts[1].results[0].looked_at for fact in batches]
    counted = [fact.verdicts[1].results[1].value for fact in batches]
    assert looked_at == counted == [sum(fact.added.values()) for fact in batches]
    # Of no value nothing is known, which is no reason to end a stream whose windows are not over.
    seen = [[(r.value, r.met) for r in fact.verdicts[1].results[2:]] for fact in batches]
    assert [each == [(None, False)] * 2 for each in seen] == [not rows for rows in counted]
    assert not all(counted)
    if code is nothing:
        refused = feed.backfill("2024-01-01", "2024-01-02").refused
        assert refused is not None
        assert refused.message.count("nothing was seen") == 4  # at a gate it is one; of input and table
    done = feed.backfill("2024-01-01", "2024-01-02", force=True, why="whole days vanish, or become windows")
    (chunk,) = done.chunks
    rows = sum(each.rows for each in chunk.manifest.results.values())
    assert [chunk.manifest.verdicts[1].results[i].met for i in (0, 1)] == [True, True]
    assert chunk.manifest.verdicts[1].results[1].value == rows == (code is a_week)


def in_order(events: DataFrame) -> DataFrame:
    return events.orderBy("v")


def by_ranges(events: DataFrame) -> DataFrame:
    return events.repartitionByRange(2, "v")


@pytest.mark.parametrize("code", [in_order, by_ranges])
def test_a_transform_that_has_rows_counted_twice_is_refused(
    tmp_path: Path, spark: SparkSession, code: Callable[[DataFrame], DataFrame]
):
    told = Observation()
    code(
        spark.range(10).selectExpr("id % 3 AS v").observe(told, F.count(F.lit(1)).alias("rows"))
    ).write.format("noop").mode("overwrite").save()
    assert told.get == {"rows": 20}  # what it is refused for

    feed = Feed(tmp_path, spark, quality={"inputs": {"events": SUITE}})
    feed.put(*BATCHES[0])
    assert feed.run() is None
    feed.use(transform=code, quality={"inputs": {"events": SUITE}})
    with pytest.raises(PlanError, match="rows would be counted twice"):
        feed.engine.check_rules("feed")
    with pytest.raises(PlanError, match="rows would be counted twice"):
        feed.backfill("2024-01-01", "2024-01-02")
    feed.use(transform=code)
    if code is by_ranges:  # Spark sorts no stream, and a stream's input is counted without a suite, too
        assert isinstance(feed.run(), PlanError)
    assert feed.backfill("2024-01-01", "2024-01-02").refused is None


def test_status_shows_how_each_expectation_fares(tmp_path: Path, spark: SparkSession):
    (tmp_path / "conf/pipelines").mkdir(parents=True)
    (tmp_path / "conf/suites").mkdir()
    feed = Feed(tmp_path, spark, quality={"suite": SUITE})
    for batch in BATCHES:
        feed.put(*batch)
    assert feed.run() is None
    (status,) = feed.engine.status("feed")
    first, few, lost, *_ = status.rules
    assert (first.looked_at, first.unexpected, first.times, first.unmet) == (6, 3, 3, 1)
    assert first.passed == 0.5
    assert first.recent == (2 / 3, 1 / 3, 1.0)
    assert (few.passed, few.recent, few.met) == (2 / 3, (1.0, 0.0, 1.0), True)
    assert (lost.unexpected, lost.met) == (2, False)
    # The index says it too, when the log's commits are folded already.
    assert feed.engine.status("feed")[0].rules == status.rules
