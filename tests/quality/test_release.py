"""Release: rows that were set aside go through today's rules again, and none goes twice."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from typer.testing import CliRunner, Result

from tests.quality.feed import BETWEEN, Feed, expectation, ids, reading, suite
from tidemill.cli.app import app
from tidemill.cli.shell import Hands
from tidemill.errors import PlanError
from tidemill.ledger import log

pytestmark = [pytest.mark.spark, pytest.mark.timeout(600)]

SMALL, LARGER = (expectation(BETWEEN, "quarantine", column="v", max_value=most) for most in (9, 50))
WHY = f"{BETWEEN}(v)"


def held(feed: Feed) -> list[int]:
    return sorted(json.loads(row["record"]).get("id", -1) for row in feed.quarantine())


def asked(feed: Feed, *words: str) -> Result:
    return CliRunner().invoke(
        app, ["release", "feed", *words], obj=Hands(engine=lambda *_, **__: feed.engine)
    )


@pytest.mark.parametrize("of", ["events", ""])
def test_a_mended_rule_lets_go_what_was_asked_for_once(tmp_path: Path, spark: SparkSession, of: str):
    def quality(*rules: dict[str, object]) -> dict[str, object]:
        return {"suite": suite(*rules)} if of == "" else {"inputs": {of: suite(*rules)}}

    feed = Feed(tmp_path, spark, quality=quality(SMALL))
    feed.put(reading(1, 5), reading(2, 30), reading(3, 90))
    feed.put(reading(4, 40, day=2), reading(5, 1, day=2), reading(6, 20, day=3))
    assert feed.run() is None
    assert (feed.ids(), held(feed)) == ([1, 5], [2, 3, 4, 6])
    assert feed.engine.status("feed")[0].quarantined == 4

    # Nothing was mended: today's rules find the same rows.
    wanted = feed.engine.releasable("feed")
    done = feed.engine.release(wanted)
    assert (wanted.rows, done.released, done.held) == (4, 0, 4)

    feed.use(quality=quality(LARGER))
    before = log.last_version(feed.pipeline.table.path)
    # By what a backfill does not keep, too: of rows that stay it writes another batch, run and time.
    wanted = feed.engine.releasable("feed", where="interval < '2024-01-03' AND batch IS NOT NULL")
    assert (wanted.rows, [i.label for i in wanted.plan.intervals]) == (4 - 1, ["2024-01-01", "2024-01-02"])
    assert log.last_version(feed.pipeline.table.path) == before  # it was a look
    done = feed.engine.release(wanted)
    assert (done.rows, done.released, done.held) == (3, 2, 1)
    assert (feed.ids(), held(feed)) == ([1, 2, 4, 5], [3, 6])
    assert feed.engine.status("feed")[0].quarantined == 2
    assert feed.engine.verify("feed").holds

    # Asked for again, and by the plan of before: nothing doubles.
    again = feed.engine.release(feed.engine.releasable("feed", where="interval < '2024-01-03'"))
    assert (again.rows, again.released) == (1, 0)
    with pytest.raises(PlanError, match="has changed since the plan was made"):
        feed.engine.release(wanted)
    assert feed.ids() == [1, 2, 4, 5]
    last = feed.engine.release(feed.engine.releasable("feed", of_input=of, reason="TO_BE_between"))
    assert (last.released, feed.ids(), held(feed)) == (1, [1, 2, 4, 5, 6], [3])
    assert feed.engine.releasable("feed", reason="no such reason").rows == 0

    # One that is dropped, now that nothing sets it aside, leaves the quarantine for nowhere: that is said before and after.
    dropped = expectation("expect_column_values_to_not_be_in_set", "drop", column="id", value_set=[3])
    mended = expectation(BETWEEN, "quarantine", column="v", max_value=90)
    feed.use(quality=quality(mended, dropped))
    names = (f"expect_column_values_to_not_be_in_set(id) of {of or 'the table'}",)
    says = f"rows that {names[0]} drops leave the quarantine, and are not in the table"
    wanted = feed.engine.releasable("feed")
    assert (wanted.rows, wanted.unread, wanted.dropping) == (1, 0, names)
    assert says in wanted._repr_html_()
    planned = asked(feed, "--dry-run")
    assert says in planned.stdout
    assert json.loads(asked(feed, "--dry-run", "--json").stdout)["dropping"] == list(names)
    done = feed.engine.release(wanted)
    assert (done.released, done.as_json()["dropping"], feed.ids(), held(feed)) == (
        1,
        [*names],
        [1, 2, 4, 5, 6],
        [],
    )
    assert says in done._repr_html_()


def test_what_is_asked_for_wrongly_is_refused_with_the_next_step(tmp_path: Path, spark: SparkSession):
    feed = Feed(tmp_path, spark, quality={"inputs": {"events": suite(SMALL)}})
    feed.put(reading(1, 5), reading(2, 30))
    assert feed.run() is None

    # A script's variable that is not set is no wish for every row.
    for words in (["--where", ""], ["--reason", " "], ["--where", "true", "--reason", ""]):
        refused = asked(feed, *words, "--yes", "--json")
        assert (refused.exit_code, json.loads(refused.stdout)["error"]) == (2, "PLAN")
        assert "is empty, and would mean every row" in json.loads(refused.stdout)["message"]
    with pytest.raises(PlanError, match="has no input 'evnts'") as misspelt:
        feed.engine.releasable("feed", of_input="evnts")
    assert misspelt.value.next_step == "its inputs: events"
    assert asked(feed, "--input", "evnts", "--yes").exit_code == 2

    with pytest.raises(PlanError, match=r"'nonsense = 1' is no condition over the quarantine: \[UNRESOLVED"):
        feed.engine.releasable("feed", where="nonsense = 1")
    with pytest.raises(PlanError, match=r"'interval = ' is no condition over the quarantine: \[PARSE_SYNTAX"):
        feed.engine.releasable("feed", where="interval = ")
    assert feed.engine.releasable("feed", where="false OR batch >= 0", reason="nothing").rows == 0
    assert held(feed) == [2]


def capped(events: DataFrame) -> DataFrame:
    return events.select("id", "at", F.least(F.col("v"), F.lit(100)).cast("int").alias("v"))


def source(feed_type: str) -> dict[str, object]:
    files = {
        "path": "in",
        "format": "json",
        "schema": f"id INT, at TIMESTAMP, v {feed_type}",
        "max_files_per_batch": 1,
    }
    return {"source": {"files": files}, "transform": capped}


@pytest.mark.parametrize("streamed", [True, False])
def test_rows_that_could_not_be_read_come_in_with_a_mended_schema(
    tmp_path: Path, spark: SparkSession, *, streamed: bool
):
    feed = Feed(tmp_path, spark, **source("INT"))
    feed.put(reading(1, 5), reading(2, 6_000_000_000), "{}", '{"id": 3')
    feed.put(reading(4, 6_000_000_000, day=5))  # a day that the ledger has never heard of
    feed.put(reading(5, 7, day=2))
    if streamed:
        assert feed.run() is None
    else:
        feed.backfill("2024-01-01", "2024-01-06")
    assert feed.ids() == [1, 5]
    assert len(feed.quarantine()) == 4

    feed.use(**source("BIGINT"))
    wanted = feed.engine.releasable("feed")
    assert (wanted.unread, wanted.dropping) == (4, ())
    assert (
        "4 of them could not be read, and are read again where they came from"
        in asked(feed, "--dry-run").stdout
    )
    done = feed.engine.release(wanted)
    assert (done.rows, done.released, done.held) == (4, 2, 2)
    assert feed.ids() == [1, 2, 4, 5]
    assert sorted(row["record"] for row in feed.quarantine()) == ['{"id": 3', "{}"]
    assert feed.engine.verify("feed").holds


def hours(events: DataFrame) -> DataFrame:
    counted = events.groupBy(F.window("at", "1 hour").alias("w")).agg(F.sum("v").alias("v"))
    return counted.select(F.col("w.start").alias("at"), "v", F.hour("w.start").alias("id"))


def test_rows_of_open_intervals_wait_until_those_are_complete(tmp_path: Path, spark: SparkSession):
    def code(feed_type: str, most: int) -> dict[str, object]:
        rules = {"inputs": {"events": suite(expectation(BETWEEN, "quarantine", column="v", max_value=most))}}
        moment = {"event_time": {"column": "at", "watermark": "1h"}}
        return {**source(feed_type), **moment, "transform": hours, "quality": rules}

    feed, large = Feed(tmp_path, spark, **code("INT", 9)), 6_000_000_000
    feed.put(reading(1, 5), reading(2, 30), reading(4, large))
    feed.put(reading(3, 1, day=2), reading(3, 40, day=2), reading(6, large, day=2))
    assert feed.run() is None
    feed.use(**code("BIGINT", large))
    done = feed.engine.release(feed.engine.releasable("feed"))
    # Of each day one that a rule had set aside, and one that could not be read.
    assert (done.rows, done.released, done.held) == (4, 2, 2)
    assert [each.interval.label for each in done.left_out] == ["2024-01-02"]
    assert {row["id"]: row["v"] for row in feed.table()} == {1: 5, 2: 30, 4: large}
    assert held(feed) == [3, 6]
    feed.put(reading(5, 1, day=4))
    assert feed.run() is None
    done = feed.engine.release(feed.engine.releasable("feed"))
    assert (done.released, done.held, done.left_out) == (2, 0, ())
    assert sorted(row["v"] for row in feed.table()) == [5, 30, 41, large, large]
    assert ids([]) == held(feed)
