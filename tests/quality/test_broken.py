"""Histories in which the quarantine could come apart from the table: what one has lost, the other must hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession

from tests.quality.feed import BETWEEN, Feed, expectation, reading, suite
from tidemill import Engine
from tidemill.config import Project, parse_pipeline
from tidemill.errors import CommitConflict, ConfigError, TransformError
from tidemill.planning.selection import Request
from tidemill.protocol import Point, listening

pytestmark = [pytest.mark.spark, pytest.mark.timeout(600)]

SMALL, LARGE = (
    expectation(BETWEEN, "quarantine", column="v", **bound) for bound in ({"max_value": 9}, {"min_value": 10})
)
SMALL_DROPPED = expectation(BETWEEN, "drop", column="v", max_value=9)


def of_events(rule: dict[str, Any]) -> dict[str, Any]:
    return {"quality": {"inputs": {"events": suite(rule)}}}


def of_table(rule: dict[str, Any]) -> dict[str, Any]:
    return {"quality": {"suite": suite(rule)}}


def held(feed: Feed) -> list[int]:
    return sorted(json.loads(row["record"])["id"] for row in feed.quarantine())


class Crash(Exception):
    """The process ends here."""


def crash(point: Point) -> None:
    if point is Point.BAD_ROWS_SET_ASIDE:
        raise Crash


@pytest.mark.parametrize("rules", [of_events, of_table])
def test_a_batch_that_crashed_under_other_rules_is_set_aside_by_todays(
    tmp_path: Path, spark: SparkSession, rules: Any
):
    feed = Feed(tmp_path, spark, **rules(SMALL))
    feed.put(reading(1, 5), reading(2, 30))
    with listening(crash):
        assert feed.run() is not None
    assert (feed.ids(), held(feed)) == ([], [2])
    feed.use(**rules(LARGE))
    assert feed.run() is None
    assert (feed.ids(), held(feed), feed.states()) == ([2], [1], {"2024-01-01": "clean"})


def test_rows_left_over_by_a_crash_go_when_todays_rules_let_all_on(tmp_path: Path, spark: SparkSession):
    feed = Feed(tmp_path, spark, **of_events(SMALL))
    feed.put(reading(1, 5), reading(2, 30))
    with listening(crash):
        assert feed.run() is not None
    feed.use()
    assert feed.run() is None
    assert (feed.ids(), held(feed)) == ([1, 2], [])


def test_a_run_that_was_staged_before_another_settled_its_intervals_is_refused(
    tmp_path: Path, spark: SparkSession
):
    feed = Feed(tmp_path, spark, **of_events(SMALL))
    feed.put(reading(1, 5), reading(2, 30))
    assert feed.run() is None
    staged = feed.backfill("2024-01-01", "2024-01-02", stage_only=True)
    feed.put(reading(3, 40))
    assert feed.run() is None
    feed.backfill("2024-01-01", "2024-01-02")  # the table's rows are equal; row 3 is of a backfill now
    with pytest.raises(CommitConflict):
        feed.engine.publish(staged.run)
    assert held(feed) == [2, 3]


def test_an_undo_that_puts_back_other_rows_in_the_quarantine_leaves_no_clean_interval(
    tmp_path: Path, spark: SparkSession
):
    feed = Feed(tmp_path, spark, **of_events(SMALL))
    feed.put(reading(1, 5), reading(2, 30))
    assert feed.run() is None
    feed.use(**of_events(SMALL_DROPPED))
    done = feed.backfill("2024-01-01", "2024-01-02")
    assert (feed.states(), held(feed)) == ({"2024-01-01": "clean"}, [])
    feed.engine.undo(done.run)
    assert (feed.states(), held(feed)) == ({"2024-01-01": "dirty"}, [2])
    feed.engine.publish(done.run)
    assert (feed.states(), held(feed)) == ({"2024-01-01": "clean"}, [])


def ranked(events: DataFrame) -> DataFrame:
    return events.selectExpr("id", "at", "v", "7 AS _rank", "8 AS _first", "v AS _side")


def test_a_transform_may_name_its_columns_as_it_likes(tmp_path: Path, spark: SparkSession):
    newest = {"sink": {"delta": {"path": "table", "mode": "upsert", "key": ["id"], "order_by": ["v"]}}}
    feed = Feed(tmp_path, spark, transform=ranked, **newest)
    feed.put(reading(1, 5), reading(1, 6))
    assert feed.run() is None
    rows = [{name: row[name] for name in ("id", "v", "_rank", "_first", "_side")} for row in feed.table()]
    assert rows == [{"id": 1, "v": 6, "_rank": 7, "_first": 8, "_side": 6}]
    feed.use(transform=other_side, **newest)
    feed.backfill("2024-01-01", "2024-01-02")
    assert [row["_side"] for row in feed.table()] == [9]


def other_side(events: DataFrame) -> DataFrame:
    return ranked(events).selectExpr("id", "at", "v", "_rank", "_first", "9 AS _side")


def marked(events: DataFrame) -> DataFrame:
    return events.selectExpr("*", "v > 9 AS Tidemill_Set_Aside")


def test_a_column_that_the_engine_uses_itself_is_refused(tmp_path: Path, spark: SparkSession):
    feed = Feed(tmp_path, spark, transform=marked)
    feed.put(reading(1, 5))
    error = feed.run()
    assert isinstance(error, TransformError)
    assert "'Tidemill_Set_Aside'" in error.message


def named(events: DataFrame, names: DataFrame) -> DataFrame:
    return events.join(names, "id")


@pytest.mark.parametrize("static", [True, False])
def test_rows_are_set_aside_where_a_join_finds_no_other_side(
    tmp_path: Path, spark: SparkSession, *, static: bool
):
    """Spark does not run what cannot matter to the result."""
    for folder in ("events", "names"):
        (tmp_path / folder).mkdir()
    (tmp_path / "events/1.json").write_text("\n".join(map(json.dumps, (reading(1, 5), reading(2, 30)))))
    (tmp_path / "names/1.json").write_text("" if static else '{"id": 1, "at2": "2024-01-09T00:00:00Z"}')

    def files(name: str, schema: str) -> dict[str, Any]:
        return {"files": {"path": name, "format": "json", "schema": schema}}

    names = files("names", "id INT, at2 TIMESTAMP")
    names |= {"static": True} if static else {"event_time": {"column": "at2"}}
    values = {
        "name": "named",
        "sources": {"events": files("events", "id INT, at TIMESTAMP, v INT"), "names": names},
        "event_time": {"column": "at"},
        "interval": "day",
        "transform": named,
        "sink": {"delta": {"path": "table"}},
        "trigger": {"available_now": True},
        **of_events(SMALL),
    }
    feed = Feed(tmp_path, spark)
    feed.pipeline = parse_pipeline(values, tmp_path)
    feed.engine = Engine(Project(str(tmp_path), {"feed": feed.pipeline, "named": feed.pipeline}), spark=spark)
    if static:
        (outcome,) = feed.engine.run("named")
        assert outcome.error is None
        assert held(feed) == [2]
    feed.engine.backfill("named", Request.between("2024-01-01", "2024-01-02"))
    assert held(feed) == [2]


@pytest.mark.parametrize("rules", [of_events, of_table])
def test_a_run_says_as_validate_does_which_column_is_not_there(
    tmp_path: Path, spark: SparkSession, rules: Any
):
    # A rule of rows, and one of their number; Spark would have said the first of them, without a file.
    feed = Feed(
        tmp_path, spark, **rules(expectation("expect_column_max_to_be_between", column="V", max_value=9))
    )
    feed.put(reading(1, 5))
    with pytest.raises(ConfigError) as checked:
        feed.engine.check_rules("feed")
    error = feed.run()
    assert isinstance(error, ConfigError)
    assert (error.message, error.next_step) == (checked.value.message, "did you mean 'v'?")
    feed.use(**rules(expectation(BETWEEN, "quarantine", column="w", max_value=9)))
    with pytest.raises(ConfigError, match=r"<values>:1: .* there is no column 'w'"):
        feed.backfill("2024-01-01", "2024-01-02")
    assert feed.table() == []
