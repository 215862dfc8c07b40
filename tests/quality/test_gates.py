"""The gate of a backfill over real files: what it refuses is kept, looked at, and published with a reason or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from tests.quality.feed import Feed, Reading, ids, reading
from tidemill.errors import PlanError, QualityError
from tidemill.ledger import log
from tidemill.ledger.facts import Swap

pytestmark = [pytest.mark.spark, pytest.mark.timeout(600)]

# Two days: on the first every fourth value is null, on the second none.
FIRST = [reading(n, None if n % 4 == 0 else n) for n in range(40)]
SECOND = [reading(n, n, day=2) for n in range(40, 60)]
DAYS = ["2024-01-01", "2024-01-02"]
SPAN = ("2024-01-01", "2024-01-03")
WHY = "values above 19 were never measured"


def lost_above(most: int) -> Any:
    def lost(events: DataFrame) -> DataFrame:
        return events.withColumn("v", F.when(F.col("v") <= most, F.col("v")))

    return lost


def share_of_nulls(rows: Sequence[Reading], most: float = float("inf")) -> str:
    nulls = sum(row["v"] is None or row["v"] > most for row in rows)
    return f"{100 * nulls / len(rows):.4g}%"


def swaps(feed: Feed) -> list[Swap]:
    commits = log.commits_after(feed.pipeline.table.path, -1, feed.pipeline.grain)
    return [commit.fact for commit in commits if isinstance(commit.fact, Swap)]


def fed(tmp_path: Path, spark: SparkSession) -> Feed:
    feed = Feed(tmp_path, spark)
    feed.put(*FIRST)
    feed.put(*SECOND)
    assert feed.run() is None
    return feed


def stands(feed: Feed) -> list[tuple[int, int | None]]:
    return sorted(((row["id"], row["v"]) for row in feed.table()), key=lambda row: row[0])


def test_a_drift_of_nulls_is_refused_and_published_with_a_reason_that_the_commit_keeps(
    tmp_path: Path, spark: SparkSession
):
    feed = fed(tmp_path, spark)
    before = stands(feed)
    gate = {"max_null_drift": {"default": "10%", "id": 0, "colour": "5%"}, "min_rows": 20}
    feed.use(transform=lost_above(19), gate=gate)
    done = feed.backfill(*SPAN)

    assert done.refused is not None
    assert stands(feed) == before
    for label, rows in zip(DAYS, (FIRST, SECOND), strict=True):
        shares = f"{share_of_nulls(rows, 19)} of the rows, and is in {share_of_nulls(rows)}"
        assert f"{label}: v would be null in {shares} (limit 10% apart)" in done.refused.message
    # Neither the column that has no nulls nor the one that is not there is a reason.
    assert done.refused.message.count("null") == 2

    (kept,) = feed.engine.diff(done.run)
    assert kept.refused == done.refused.message
    assert kept.nulls["2024-01-02"] == {"id": (0, 0), "at": (0, 0), "v": (0, 20)}
    samples = {each["interval"] for each in kept.samples}
    assert samples <= set(DAYS)

    with pytest.raises(QualityError, match="v would be null"):
        feed.engine.publish(done.run)
    with pytest.raises(PlanError, match="needs a reason"):
        feed.engine.publish(done.run, force=True)
    assert (stands(feed), swaps(feed)) == (before, [])

    published = feed.engine.publish(done.run, force=True, why=WHY)
    assert [chunk.forced for chunk in published.chunks] == [WHY]
    assert [fact.forced for fact in swaps(feed)] == [WHY]
    assert stands(feed) == [
        (row["id"], row["v"] if row["v"] is not None and row["v"] <= 19 else None)
        for row in [*FIRST, *SECOND]
    ]
    rows = feed.engine.coverage("feed").as_json()["intervals"]
    assert {row["interval"]: (row["state"], row["forced"]) for row in rows} == dict.fromkeys(
        DAYS, ("clean", WHY)
    )
    assert f"forced past the gate: {WHY}" in feed.engine.coverage("feed")._repr_html_()

    # Taken back, it is judged anew.
    feed.engine.undo(done.run)
    assert stands(feed) == before
    with pytest.raises(QualityError):
        feed.engine.publish(done.run)


def without_the_last(events: DataFrame) -> DataFrame:
    return events.where("id < 58")


def test_a_number_of_rows_is_the_limit_where_a_share_would_let_them_go(tmp_path: Path, spark: SparkSession):
    feed = fed(tmp_path, spark)
    feed.use(transform=without_the_last, gate={"max_removed": "20%", "min_rows": 1})
    assert feed.backfill(*SPAN, stage_only=True).refused is None

    feed.use(transform=without_the_last, gate={"max_removed_rows": 1}, chunk=1)
    done = feed.backfill(*SPAN)
    assert [chunk.outcome for chunk in done.chunks] == ["equal"]
    assert done.refused is not None
    assert "2024-01-02: 2 rows would vanish (limit 1)" in done.refused.message
    assert done.refused.params["intervals"] == ["2024-01-02"]

    # A whole backfill may be forced; only the chunk that the gate refuses says so.
    forced = feed.backfill(*SPAN, force=True, why="two readings too many")
    assert [(chunk.outcome, chunk.forced) for chunk in forced.chunks] == [
        ("equal", None),
        ("swapped", "two readings too many"),
    ]
    assert [fact.forced for fact in swaps(feed)] == [None, None, "two readings too many"]
    assert feed.ids() == ids([*FIRST, *SECOND[:-2]])


def test_nulls_cost_no_job(tmp_path: Path, spark: SparkSession):
    counted = []
    for gate in ({}, {"max_null_drift": "100%"}):
        folder = tmp_path / str(len(counted))
        folder.mkdir()
        feed = fed(folder, spark)
        feed.use(transform=lost_above(19), gate={"max_removed": None, **gate})
        before = jobs(spark)
        assert feed.backfill(*SPAN).refused is None
        counted.append(jobs(spark) - before)
    assert counted[0] == counted[1]


def jobs(spark: SparkSession) -> int:
    """How many jobs the session has begun."""
    return int(spark._jsc.sc().dagScheduler().numTotalJobs())
