"""``tidemill check``: the whole suite over what the table holds, by whichever way it came there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession
from typer.testing import CliRunner, Result

from tests.quality.feed import BETWEEN, NOT_NULL, Feed, expectation, reading, suite
from tidemill.cli.app import app
from tidemill.cli.shell import Hands
from tidemill.errors import ConfigError, PlanError, QualityError
from tidemill.planning.selection import Request

pytestmark = [pytest.mark.spark, pytest.mark.timeout(600)]

UNIQUE = "expect_column_values_to_be_unique"
SUITE = suite(
    expectation(UNIQUE, "fail", column="v"),
    expectation(BETWEEN, column="v", min_value=0, max_value=9),
    expectation("expect_column_max_to_be_between", column="v", max_value=50),
    expectation("expect_table_columns_to_match_ordered_list", "fail", column_list=["id", "at", "v"]),
    expectation(NOT_NULL, column="v"),
)


def asked(feed: Feed, *words: str) -> Result:
    return CliRunner().invoke(app, ["check", "feed", *words], obj=Hands(engine=lambda *_, **__: feed.engine))


def seen(result: Result) -> list[tuple[Any, ...]]:
    body = json.loads(result.stdout)
    names = ("met", "rows", "looked_at", "unexpected", "value")
    return [tuple(each[name] for name in names) for each in body["results"]]


def test_the_whole_suite_is_asked_of_all_rows_and_of_a_range(
    tmp_path: Path, spark: SparkSession, capfd: pytest.CaptureFixture[str]
):
    feed = Feed(tmp_path, spark)
    # Unique in each batch, and not in the table: what no batch alone can tell.
    feed.put(reading(1, 1), reading(2, 30))
    feed.put(reading(3, 30), reading(4, None, day=2))
    feed.put(reading(5, 2, day=2))
    assert feed.run() is None
    feed.use(quality={"suite": SUITE})
    before = sorted(path.name for path in Path(feed.pipeline.table.path, "_delta_log").glob("*.json"))

    capfd.readouterr()
    whole = asked(feed, "--json")
    assert whole.exit_code == 1
    columns = ["id", "at", "v"]
    assert seen(whole) == [
        (False, 5, 4, 2, None),
        (False, 5, 4, 2, None),
        (True, None, None, None, 30),
        (True, None, None, None, columns),
        (False, 5, 5, 1, None),
    ]
    body = json.loads(whole.stdout)
    assert (body["rows"], body["from"], body["to"], body["holds"]) == (5, None, None, False)
    assert [each["runs"] for each in body["results"]] == ["gx", "row", "batch", "schema", "row"]
    assert capfd.readouterr() == ("", "")

    day = asked(feed, "--from", "2024-01-02T05", "--to", "2024-01-02T06", "--json")
    assert day.exit_code == 0  # a null is not as expected, and only warned of
    assert seen(day) == [
        (True, None, None, None, None),
        (True, 2, 1, 0, None),
        (True, None, None, None, 2),
        (True, None, None, None, columns),
        (False, 2, 2, 1, None),
    ]
    body = json.loads(day.stdout)
    assert (body["from"], body["to"]) == ("2024-01-02T00:00:00+00:00", "2024-01-03T00:00:00+00:00")

    text = asked(feed).stdout
    assert "feed  failed  2 of 5 expectations met by 5 rows" in text
    assert f"{UNIQUE}(v)" in text
    log = sorted(path.name for path in Path(feed.pipeline.table.path, "_delta_log").glob("*.json"))
    assert log == before


def test_hours_are_a_range_too(tmp_path: Path, spark: SparkSession):
    feed = Feed(tmp_path, spark, interval="hour", quality={"suite": suite(expectation(NOT_NULL, column="v"))})
    feed.put(*[reading(n, None if n == 3 else n) for n in range(1, 6)])
    assert feed.run() is None
    found = feed.engine.check("feed", Request.between("2024-01-01T02", "2024-01-01T05"))
    ((_, result),) = found.results
    assert (found.rows, result.rows, result.unexpected) == (3, 3, 1)
    assert feed.engine.check("feed", Request.between("2024-01-01T04", "2024-01-01T05")).rows == 1


def test_what_cannot_be_checked_is_said(tmp_path: Path, spark: SparkSession):
    feed = Feed(tmp_path, spark)
    with pytest.raises(ConfigError, match="has no suite for the rows of its table"):
        feed.engine.check("feed")
    feed.use(quality={"suite": suite(expectation(NOT_NULL, column="v"))})
    with pytest.raises(PlanError, match="no table yet"):
        feed.engine.check("feed")
    feed.put(reading(1, 1))
    assert feed.run() is None
    with pytest.raises(PlanError, match="the range is empty"):
        feed.engine.check("feed", Request.between("2024-01-02", "2024-01-02"))
    assert feed.engine.check("feed", Request.between("2024-02-01", "2024-02-02")).rows == 0
    feed.use(quality={"suite": suite(expectation(NOT_NULL, column="w"))})
    with pytest.raises(ConfigError, match="there is no column 'w'"):
        feed.engine.check("feed")
    query = "SELECT nobody FROM {batch}"
    feed.use(
        quality={"suite": suite(expectation("unexpected_rows_expectation", unexpected_rows_query=query))}
    )
    with pytest.raises(QualityError, match="cannot be evaluated in Great Expectations"):
        feed.engine.check("feed")
