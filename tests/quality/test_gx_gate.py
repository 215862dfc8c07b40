"""Expectations that only Great Expectations answers: asked of what a backfill has staged, before it is published."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession

from tests.quality.feed import BETWEEN, Feed, Reading, expectation, ids, reading, suite
from tidemill.errors import ConfigError, QualityError
from tidemill.ledger import log
from tidemill.ledger.facts import LiveBatch, Swap
from tidemill.ledger.verdicts import Result, Verdict

pytestmark = [pytest.mark.spark, pytest.mark.timeout(600)]

UNIQUE = "expect_column_values_to_be_unique"
MEDIAN = "expect_column_median_to_be_between"
DISTINCT = "expect_column_distinct_values_to_be_in_set"
QUERY = "unexpected_rows_expectation"
ABOVE = "SELECT * FROM {batch} WHERE v > id"
SUITE = suite(
    expectation(UNIQUE, column="v"),
    expectation(BETWEEN, column="v", min_value=0, max_value=9),
    expectation(MEDIAN, column="v", min_value=0, max_value=99),
    expectation(QUERY, unexpected_rows_query=ABOVE),
    expectation(DISTINCT, column="v", value_set=[1, 2, 3]),
)
ONE = [reading(1, 1), reading(2, 2), reading(3, 2), reading(4, None), reading(5, 30)]
TWO = [reading(6, 1, day=2), reading(7, 2, day=2)]


def found(rows: Sequence[Reading]) -> Verdict:
    """What GX's documentation says of SUITE over these rows; of what is met, nothing more is asked."""
    values = [row["v"] for row in rows if row["v"] is not None]
    twice = sum(n for n in Counter(values).values() if n > 1)
    above = sum(row["v"] is not None and row["v"] > row["id"] for row in rows)
    others = sorted({v for v in values if v not in {1, 2, 3}})
    wrong = sum(not 0 <= v <= 9 for v in values)
    return Verdict(
        "",
        (
            Result(f"{UNIQUE}(v)", False, len(rows), len(values), twice)
            if twice
            else Result(f"{UNIQUE}(v)", True),
            Result(f"{BETWEEN}(v)", not wrong, len(rows), len(values), wrong),
            Result(f"{MEDIAN}(v)", True),
            Result(f"{QUERY}()", not above, value=above or None),
            Result(f"{DISTINCT}(v)", not others, value={"unexpected": others} if others else None),
        ),
    )


def facts(feed: Feed, kind: type) -> list[Any]:
    return [
        commit.fact
        for commit in log.commits_after(feed.pipeline.table.path, -1, feed.pipeline.grain)
        if isinstance(commit.fact, kind)
    ]


def test_a_chunks_commit_says_what_gx_found_in_it_and_a_live_batchs_does_not(
    tmp_path: Path, spark: SparkSession, capfd: pytest.CaptureFixture[str]
):
    feed = Feed(tmp_path, spark, quality={"suite": SUITE}, chunk=1)
    feed.put(*ONE)
    feed.put(*TWO)
    assert feed.run() is None
    assert [[each.id for each in fact.verdicts[0].results] for fact in facts(feed, LiveBatch)] == [
        [f"{BETWEEN}(v)"]
    ] * 2

    capfd.readouterr()
    # Two chunks at a time: each is asked of its own rows, though GX names the views of both alike.
    done = feed.backfill("2024-01-01", "2024-01-03", max_concurrent=2)

    assert done.refused is None
    assert capfd.readouterr() == ("", "")
    expected = [(found(ONE),), (found(TWO),)]
    assert [fact.verdicts for fact in sorted(facts(feed, Swap), key=lambda f: f.chunk)] == expected
    assert [manifest.verdicts for manifest in feed.engine.diff(done.run)] == expected
    (status,) = feed.engine.status("feed")
    first, *_ = status.rules
    assert (first.id, first.times, first.unmet) == (f"{UNIQUE}(v)", 2, 1)
    manager = spark._jsparkSession.sharedState().cacheManager()  # type: ignore[attr-defined]
    assert manager.isEmpty()
    assert [table.name for table in spark.catalog.listTables()] == []


def test_what_gx_finds_refuses_a_chunk_whose_expectation_fails(tmp_path: Path, spark: SparkSession):
    feed = Feed(tmp_path, spark, chunk=1)
    feed.put(*TWO)
    feed.put(*ONE)
    feed.use(quality={"suite": suite(expectation(UNIQUE, "fail", column="v"))}, chunk=1)
    done = feed.backfill("2024-01-01", "2024-01-03")
    assert done.refused is not None
    assert f"the table's rows: {UNIQUE}(v): 2 of 4 unexpected" in done.refused.message
    assert feed.ids() == []
    feed.engine.publish(done.run, force=True, why="it was looked at")
    assert feed.ids() == ids(ONE)


def test_what_gx_cannot_answer_is_said_with_its_line_and_nothing_is_left(
    tmp_path: Path, spark: SparkSession, capfd: pytest.CaptureFixture[str]
):
    (tmp_path / "conf/suites").mkdir(parents=True)
    (tmp_path / "conf/suites/s.yml").write_text(
        "name: s\n"
        "expectations:\n"
        f"  - type: {MEDIAN}\n"
        "    kwargs: {column: v, min_value: 0}\n"
        f"  - type: {QUERY}\n"
        "    kwargs: {unexpected_rows_query: 'SELECT * FROM {batch} WHERE nobody = 1'}\n"
        "  - type: expect_column_values_to_be_increasing\n"
        "    kwargs: {column: at}\n"
    )
    capfd.readouterr()
    feed = Feed(tmp_path, spark, quality={"suite": "s"})
    feed.put(*ONE)
    with pytest.raises(ConfigError, match=r"s\.yml:5: unexpected_rows_expectation\(\) cannot be") as raised:
        feed.engine.check_rules("feed")
    assert raised.value.params["line"] == "5"
    refused = feed.backfill("2024-01-01", "2024-01-02").refused
    assert isinstance(refused, QualityError)
    assert f"conf/suites/s.yml:5: {QUERY}() cannot be evaluated in Great Expectations" in refused.message
    assert "nobody" in refused.message
    assert capfd.readouterr() == ("", "")
    assert feed.ids() == []
    assert not list(Path(feed.pipeline.table.path).rglob("*.parquet"))


def nothing(events: DataFrame) -> DataFrame:
    return events.where("id < 0")


def test_gx_is_asked_of_a_chunk_without_rows_too(tmp_path: Path, spark: SparkSession):
    feed = Feed(tmp_path, spark)
    feed.put(*ONE)
    assert feed.run() is None
    feed.use(transform=nothing, quality={"suite": SUITE})
    feed.engine.check_rules("feed")
    done = feed.backfill("2024-01-01", "2024-01-02", force=True, why="nothing is left of the day")
    assert done.refused is None
    assert feed.ids() == []
    (fact,) = facts(feed, Swap)
    results = {each.id: each for each in fact.verdicts[0].results}
    # Of no rows there is no median; the others have nothing to find.
    assert [each for each, result in results.items() if not result.met] == [f"{MEDIAN}(v)"]
    assert results[f"{BETWEEN}(v)"].rows == 0


def test_a_project_of_gx_that_is_open_stays_open(tmp_path: Path, spark: SparkSession):
    import great_expectations as gx
    from great_expectations.data_context.data_context.context_factory import project_manager

    mine = gx.get_context(mode="ephemeral")
    try:
        feed = Feed(tmp_path, spark, quality={"suite": suite(expectation(MEDIAN, column="v", min_value=0))})
        feed.put(*ONE)
        feed.backfill("2024-01-01", "2024-01-02")
        assert feed.ids() == ids(ONE)
        assert project_manager.get_current_project() is mine
    finally:
        project_manager.set_project(None)


def test_gx_is_loaded_only_where_it_is_asked():
    program = "import sys, tidemill.execution.rules, tidemill.execution.check; print('great_expectations' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "False"
