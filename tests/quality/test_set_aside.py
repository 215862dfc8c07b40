"""Rules that leave rows out, live and backfilled: what the table holds, what the quarantine holds, and why."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from tests.quality.feed import BETWEEN, Feed, Reading, expectation, ids, reading, suite
from tidemill.errors import ConfigError, LeaseHeld, StateError
from tidemill.execution import quarantine, swap
from tidemill.execution.runs import list_runs
from tidemill.ledger import log
from tidemill.ledger.facts import LiveBatch
from tidemill.ledger.lease import Lease
from tidemill.planning.selection import Request
from tidemill.testing import Point, listening

pytestmark = [pytest.mark.spark, pytest.mark.timeout(600)]

BAD = '{"id": 99, "at": "2024-01-01T00:00:00Z", "v": "seven"}'
SMALL = expectation(BETWEEN, "quarantine", column="v", max_value=9)
ANY_SMALL = expectation(BETWEEN, "quarantine", column="v", max_value=1000)
POSITIVE = expectation(BETWEEN, "drop", column="v", min_value=0)
ODD = expectation("expect_column_values_to_not_be_in_set", "quarantine", column="id", value_set=[2, 4, 6, 8])
TOO_LARGE = f"{BETWEEN}(v)"
EVEN = "expect_column_values_to_not_be_in_set(id)"
BATCHES = [
    [reading(1, 5), reading(2, 3), reading(3, 30), reading(4, -1)],
    [
        reading(5, 99),
        reading(6, -2, day=2),
        reading(7, 9, day=2),
        reading(8, 1, day=2),
        reading(9, None, day=2),
    ],
]
EVERY = [row for batch in BATCHES for row in batch]


def shelf(feed: Feed) -> list[tuple[str, int, list[str], str | None]]:
    """The quarantine: of which input, which id, why, and the interval."""
    rows = feed.quarantine()
    return sorted(
        (each["input"], json.loads(each["record"])["id"], each["reasons"], each["interval"]) for each in rows
    )


def large(rows: Iterable[Reading], most: int = 9) -> list[Reading]:
    return [row for row in rows if row["v"] is not None and row["v"] > most]


def positive(rows: Iterable[Reading]) -> list[Reading]:
    return [row for row in rows if row["v"] is None or row["v"] >= 0]


def day(row: Reading) -> str:
    return str(row["at"])[:10]


def aside(rows: Iterable[Reading], of: str, why: str) -> list[tuple[str, int, list[str], str | None]]:
    return [(of, row["id"], [why], day(row)) for row in rows]


class Died(BaseException):
    """What a process does that dies."""


def raises_died(*_: object) -> None:
    raise Died


@contextmanager
def dying(point: Point) -> Iterator[None]:
    """Inside, whoever comes to ``point`` dies there; and somebody does."""

    def die(there: Point) -> None:
        if there is point:
            raise Died

    with pytest.raises(Died), listening(die):
        yield


UNREAD = [("events", 99, ["not a record of the schema"], None)]
IN_TABLE = [row for row in positive(EVERY) if row not in large(EVERY) and row["id"] % 2]


def live(feed: Feed) -> None:
    for batch in BATCHES:
        feed.put(*batch, BAD if batch is BATCHES[0] else "")
    assert feed.run() is None


def test_a_stream_leaves_out_what_its_rules_find(tmp_path: Path, spark: SparkSession):
    feed = Feed(tmp_path, spark, quality={"inputs": {"events": suite(SMALL, POSITIVE)}, "suite": suite(ODD)})
    live(feed)
    assert feed.ids() == ids(IN_TABLE) == [1, 7, 9]
    even = [row for row in positive(EVERY) if row not in large(EVERY) and not row["id"] % 2]
    expected = [*aside(large(EVERY), "events", TOO_LARGE), *aside(even, "", EVEN), *UNREAD]
    assert shelf(feed) == sorted(expected)
    facts = [
        commit.fact
        for commit in log.commits_after(feed.pipeline.table.path, -1, feed.pipeline.grain)
        if isinstance(commit.fact, LiveBatch)
    ]
    for fact, batch in zip(facts, BATCHES, strict=True):
        unread = int(batch is BATCHES[0])
        let_on = [row for row in positive(batch) if row not in large(batch)]
        assert fact.input_rows == len(batch) + unread
        assert fact.quarantined == len(large(batch)) + unread
        assert fact.dropped == len(batch) - len(positive(batch))
        assert fact.output_quarantined == sum(not row["id"] % 2 for row in let_on)
        assert sum(fact.added.values()) == len(let_on) - fact.output_quarantined
    (status,) = feed.engine.status("feed")
    assert status.dropped == status.as_json()["dropped"] == len(EVERY) - len(positive(EVERY)) > 0
    assert status.input_rows == status.rows + status.quarantined + status.dropped
    # What was staged and set aside is not left under the table.
    names = list(Path(feed.pipeline.table.path).rglob("*.parquet"))
    assert len(names) == len({day(row) for row in IN_TABLE})
    assert feed.engine.verify("feed").holds


class Upstream:
    """A table that others write, two days a file each; every reading is here by its id."""

    def __init__(self, path: Path) -> None:
        self.path, self.read = str(path), []  # type: str, list[tuple[int, int | None, int | None]]

    def append(self, *readings: tuple[int, int | None, int | None]) -> None:
        """Readings (id, day, v) in one commit, a file for each day; without a day there is no event time."""
        self.read += readings
        ats = [None if day is None else datetime(2024, 1, day, tzinfo=UTC) for _, day, _ in readings]
        columns = {
            "id": pa.array([i for i, _, _ in readings], pa.int32()),
            "at": pa.array(ats, pa.timestamp("us", "UTC")),
            "v": pa.array([v for _, _, v in readings], pa.int32()),
            "part of": pa.array([f"{day}: a day" for _, day, _ in readings]),
        }
        write_deltalake(self.path, pa.table(columns), mode="append", partition_by=["part of"])

    def compact(self) -> None:
        DeltaTable(self.path).optimize.compact()

    def replace(self, number: int) -> None:
        """What a swap does: the reading goes, and the file that it stood in is another."""
        DeltaTable(self.path).delete(f"id = {number}")

    def clean(self, until: int) -> None:
        """What upkeep does: the commits before the newest go, and a checkpoint stands for them."""
        DeltaTable(self.path).create_checkpoint()
        for version in range(until):
            (Path(self.path) / "_delta_log" / f"{version:020d}.json").unlink()


def test_rows_of_a_table_are_set_aside_once_wherever_batches_end_and_whatever_became_of_their_files(
    tmp_path: Path, spark: SparkSession, monkeypatch: pytest.MonkeyPatch
):
    upstream = Upstream(tmp_path / "upstream")
    upstream.append((1, 1, 5), (2, 1, 30), (3, 2, 6), (4, 2, 31))
    upstream.append((5, 1, 32), (6, None, 7))
    upstream.clean(until=1)
    source = {"delta": {"path": "upstream", "max_files_per_batch": 3}}
    feed = Feed(tmp_path, spark, source=source, quality={"inputs": {"events": suite(SMALL)}})

    assert feed.run() is None  # three files and one
    upstream.append((7, 1, 33), (8, 2, 8), (9, 3, 34), (10, 4, 35))
    upstream.compact()
    upstream.append((11, 1, 36), (12, 1, 9))
    upstream.replace(12)
    with monkeypatch.context() as mistaken:
        nothing = spark.createDataFrame([], quarantine.SCHEMA).drop("run", "batch")
        mistaken.setattr(quarantine, "ruled_rows", lambda *_of_a_frame: nothing)
        assert isinstance(feed.run(), StateError)
    assert max(feed.ids()) < 7  # nothing of that batch is published
    assert feed.run() is None  # three files of four; the fourth, and one that is gone again

    bad = [(i, day, v) for i, day, v in upstream.read if day is None or (v is not None and v > 9)]
    assert feed.ids() == sorted({i for i, _, _ in upstream.read} - {i for i, _, _ in bad})
    assert shelf(feed) == sorted(
        ("events", i, ["no event time (at)" if day is None else TOO_LARGE], day and f"2024-01-0{day}")
        for i, day, _ in bad
    )
    facts = [commit.fact for commit in log.commits_after(feed.pipeline.table.path, -1, feed.pipeline.grain)]
    counts = [(fact.input_rows, fact.quarantined) for fact in facts if isinstance(fact, LiveBatch)]
    assert (len(counts), sum(rows for rows, _ in counts)) == (4, len(upstream.read))
    by_batch = Counter(row["batch"] for row in feed.quarantine())
    assert [by_batch[batch] for batch in range(len(counts))] == [quarantined for _, quarantined in counts]


def hours(events: DataFrame) -> DataFrame:
    counted = events.groupBy(F.window("at", "1 hour").alias("w")).agg(F.sum("v").alias("v"))
    return counted.select(F.col("w.start").alias("at"), "v", F.hour("w.start").alias("id"))


def test_a_poisoned_row_neither_moves_the_watermark_nor_enters_state(tmp_path: Path, spark: SparkSession):
    moment = {"event_time": {"column": "at", "watermark": "1h"}}
    feed = Feed(tmp_path, spark, quality={"inputs": {"events": suite(SMALL)}}, transform=hours, **moment)
    feed.put(reading(1, 5), reading(2, 3), {"id": 50, "at": "2030-01-01T00:00:00Z", "v": 77})
    feed.put(reading(1, 4), reading(3, 2), reading(3, 50))
    feed.put(reading(10, 1))
    assert feed.run() is None
    sums = {row["id"]: row["v"] for row in feed.table()}
    assert sums == {1: 9, 2: 3, 3: 2}  # hour 10 is yet open
    assert shelf(feed) == [
        ("events", 3, [TOO_LARGE], "2024-01-01"),
        ("events", 50, [TOO_LARGE], "2030-01-01"),
    ]
    # Other rules may let it on, and code that looks further back gives rows of it on the day after, too.
    assert "2030-01-02" not in feed.states()
    feed.use(quality={"inputs": {"events": suite(ANY_SMALL)}}, transform=hours, lookback="1d", **moment)
    assert feed.states()["2030-01-02"] == "open"


@pytest.mark.parametrize("streamed", [True, False])
def test_a_backfill_with_a_mended_rule_moves_rows_and_undo_moves_them_back(
    tmp_path: Path, spark: SparkSession, *, streamed: bool
):
    rules = {"inputs": {"events": suite(SMALL, POSITIVE)}, "suite": suite(ODD)}
    feed = Feed(tmp_path, spark, quality=rules)
    if streamed:
        live(feed)
    else:
        feed.put(*EVERY, BAD)
        feed.backfill("2024-01-01", "2024-01-03")
    before, held = shelf(feed), feed.ids()
    assert held == [1, 7, 9]

    feed.use(quality={"inputs": {"events": suite(ANY_SMALL, POSITIVE)}, "suite": suite(ODD)})
    assert feed.states() == {"2024-01-01": "stale", "2024-01-02": "stale"}
    done = feed.backfill("2024-01-01", "2024-01-02")
    odd = [row for row in positive(EVERY) if row["id"] % 2]
    first = [row for row in odd if day(row) == "2024-01-01"]
    assert feed.ids() == ids([*first, *(row for row in IN_TABLE if day(row) == "2024-01-02")])
    # 2024-01-01 is as today's rules have it, the other day as it was.
    assert shelf(feed) == sorted(each for each in before if each[2] != [TOO_LARGE])
    assert feed.engine.verify("feed").holds

    with dying(Point.CHUNK_UNDONE):
        feed.engine.undo(done.run)
    assert feed.ids() == held
    # Asked for again, it is finished; and once more, there is nothing to do.
    assert feed.engine.undo(done.run) == ("2024-01-01",)
    assert (shelf(feed), feed.ids()) == (before, held)
    assert feed.engine.undo(done.run) == ()
    feed.engine.publish(done.run)
    assert feed.ids() == ids([*first, *(row for row in IN_TABLE if day(row) == "2024-01-02")])
    assert shelf(feed) == sorted(each for each in before if each[2] != [TOO_LARGE])


def test_what_came_after_the_pin_stays_in_the_quarantine(tmp_path: Path, spark: SparkSession):
    feed = Feed(tmp_path, spark, quality={"inputs": {"events": suite(SMALL)}})
    feed.put(reading(1, 30), reading(2, 1))
    assert feed.run() is None
    feed.use(quality={"inputs": {"events": suite(ANY_SMALL)}})
    staged = feed.backfill("2024-01-01", "2024-01-02", stage_only=True)
    feed.use(quality={"inputs": {"events": suite(SMALL)}})
    feed.put(reading(3, 40), reading(4, 4))
    assert feed.run() is None
    feed.use(quality={"inputs": {"events": suite(ANY_SMALL)}})
    feed.engine.publish(staged.run)
    assert feed.ids() == [1, 2, 4]
    assert shelf(feed) == [("events", 3, [TOO_LARGE], "2024-01-01")]


def test_an_upsert_takes_the_newest_row_that_its_rules_let_on(tmp_path: Path, spark: SparkSession):
    newest = {"sink": {"delta": {"path": "table", "mode": "upsert", "key": ["id"], "order_by": ["v"]}}}
    feed = Feed(tmp_path, spark, quality={"suite": suite(SMALL)}, **newest)
    rows = [reading(1, 5), reading(1, 30), reading(1, 31), reading(1, 7), reading(2, 50)]
    feed.put(*rows[:2])
    feed.put(*rows[2:])
    assert feed.run() is None
    assert [(row["id"], row["v"]) for row in feed.table()] == [(1, 7)]
    assert shelf(feed) == sorted(aside(large(rows), "", TOO_LARGE))
    feed.backfill("2024-01-01", "2024-01-02")
    assert feed.engine.verify("feed").holds
    assert shelf(feed) == sorted(aside(large(rows), "", TOO_LARGE))


def test_rows_of_a_table_that_spark_must_write_cannot_be_set_aside(tmp_path: Path, spark: SparkSession):
    feed = Feed(tmp_path, spark)
    feed.put(reading(1, 5))
    assert feed.run() is None
    table = f"delta.`{feed.pipeline.table.path}`"
    spark.sql(f"ALTER TABLE {table} ADD CONSTRAINT named CHECK (id > 0)")
    feed.use(quality={"suite": suite(SMALL)})
    feed.put(reading(2, 5))
    error = feed.run()
    assert isinstance(error, ConfigError)
    assert "Spark's own Delta writer" in error.message
    feed.use(quality={"suite": suite(POSITIVE)})
    feed.put(reading(3, -5))
    assert feed.run() is None
    assert feed.ids() == [1, 2]


def test_a_quarantine_from_before_there_were_rules_is_kept(tmp_path: Path, spark: SparkSession):
    feed = Feed(tmp_path, spark)
    feed.put(reading(1, 5), BAD)
    assert feed.run() is None
    path = feed.pipeline.quarantine_path
    old: Any = spark.read.format("delta").load(path).drop("interval")
    rows = old.collect()
    assert len(rows) == 1
    old = spark.createDataFrame(rows, old.schema)
    old.write.format("delta").mode("overwrite").option("overwriteSchema", "true").save(path)
    feed.use(quality={"inputs": {"events": suite(SMALL)}})
    feed.put(reading(2, 50))
    assert feed.run() is None
    feed.backfill("2024-01-01", "2024-01-02")
    assert shelf(feed) == sorted([*UNREAD, ("events", 2, [TOO_LARGE], "2024-01-01")])


def test_a_backfill_replaces_rows_of_the_quarantine_while_a_stream_adds_some(
    tmp_path: Path, spark: SparkSession
):
    feed = Feed(tmp_path, spark, quality={"inputs": {"events": suite(SMALL)}})
    feed.put(reading(1, 30))
    assert feed.run() is None
    path, one = feed.pipeline.quarantine_path, feed.quarantine()[0]

    def add(number: int) -> None:
        row = {**one, "record": json.dumps({"id": number}), "interval": "2024-01-09"}
        frame = spark.createDataFrame([row], spark.read.format("delta").load(path).schema)
        frame.write.format("delta").mode("append").save(path)

    with ThreadPoolExecutor(1) as stream:
        added = [stream.submit(add, number) for number in range(100, 112)]
        for number in range(12):
            row = {**one, "record": json.dumps({"id": number})}
            rows = spark.createDataFrame([row], quarantine.SCHEMA)
            quarantine.replace(rows, feed.pipeline, "interval = '2024-01-01'")
        for each in added:
            each.result()
    found = sorted(json.loads(row["record"])["id"] for row in feed.quarantine())
    assert found == [11, *range(100, 112)]


def test_what_an_attempt_that_died_half_way_set_aside_is_taken_back_before_the_next(
    tmp_path: Path, spark: SparkSession
):
    feed = Feed(tmp_path, spark, quality={"inputs": {"events": suite(SMALL)}})
    feed.put(reading(1, 30), reading(2, 1), reading(3, 90))
    assert feed.run() is None
    before, third, fourth = shelf(feed), reading(3, 90), reading(4, 70)
    most_50 = {"inputs": {"events": suite(expectation(BETWEEN, "quarantine", column="v", max_value=50))}}
    feed.use(quality=most_50)
    with dying(Point.QUARANTINE_SETTLED):
        feed.backfill("2024-01-01", "2024-01-02")
    (run,) = list_runs(feed.pipeline.table.state_path)
    assert (feed.ids(), shelf(feed)) == ([2], aside([third], "events", TOO_LARGE))
    # The stream goes on before anybody takes care of it, and sets a row aside that the run's next attempt finds, too.
    feed.put(fourth)
    assert feed.run() is None
    assert shelf(feed) == aside([third, fourth], "events", TOO_LARGE)
    feed.engine.resume(run)
    assert (feed.ids(), shelf(feed)) == ([1, 2], aside([third, fourth], "events", TOO_LARGE))
    feed.engine.undo(run)
    assert (feed.ids(), shelf(feed)) == ([2], [*before, *aside([fourth], "events", TOO_LARGE)])

    # It dies again, and another run settles the interval: of the one that died nothing is put back any more.
    with dying(Point.QUARANTINE_SETTLED):
        feed.engine.publish(run)
    feed.backfill("2024-01-01", "2024-01-02")
    assert feed.engine.undo(run) == ()
    assert (feed.ids(), shelf(feed)) == ([1, 2], aside([third, fourth], "events", TOO_LARGE))
    assert feed.states() == {"2024-01-01": "clean"}


def test_a_run_publishes_what_its_kept_attempt_set_aside_though_a_later_one_died(
    tmp_path: Path, spark: SparkSession, monkeypatch: pytest.MonkeyPatch
):
    feed = Feed(tmp_path, spark, quality={"inputs": {"events": suite(SMALL)}})
    feed.put(reading(1, 30), reading(2, 1), reading(3, 90))
    assert feed.run() is None
    most_50 = expectation(BETWEEN, "quarantine", column="v", max_value=50)
    feed.use(quality={"inputs": {"events": suite(most_50)}})
    with dying(Point.MANIFEST_SAVED):
        feed.backfill("2024-01-01", "2024-01-02")
    (run,) = list_runs(feed.pipeline.table.state_path)

    # The next attempt finds one row more, which the stream has set aside meanwhile, and dies before anything names it.
    feed.put(reading(4, 70))
    assert feed.run() is None
    with monkeypatch.context() as patch:
        patch.setattr(swap, "diff_chunk", raises_died)
        with pytest.raises(Died):
            feed.engine.resume(run)
    feed.engine.publish(run)
    assert (feed.ids(), shelf(feed)) == (
        [1, 2],
        aside([reading(3, 90), reading(4, 70)], "events", TOO_LARGE),
    )


def test_a_stream_takes_back_what_a_provisional_run_that_died_set_aside(tmp_path: Path, spark: SparkSession):
    moment = {"event_time": {"column": "at", "watermark": "1h"}, "transform": hours}
    ten = {"suite": suite(expectation(BETWEEN, "quarantine", column="v", min_value=10))}
    feed = Feed(tmp_path, spark, quality=ten, **moment)
    feed.put(reading(1, 5), reading(2, 11))
    assert feed.run() is None
    # The window of which it has seen a part breaks the rule; the whole one will not.
    for _ in range(2):
        with dying(Point.QUARANTINE_SETTLED):
            feed.engine.backfill("feed", Request(include_open=True))
        assert [each["interval"] for each in feed.quarantine()] == ["2024-01-01"]
    run = list_runs(feed.pipeline.table.state_path)[-1]
    with Lease(feed.pipeline.table.state_path, "live", what="a stream"):
        for verb in (feed.engine.resume, feed.engine.publish):
            with pytest.raises(LeaseHeld):
                verb(run)
    feed.put(reading(1, 7), reading(3, 2, day=3))
    feed.put(reading(4, 20, day=3))
    assert feed.run() is None
    assert feed.states()["2024-01-01"] == "clean"
    assert {row["id"]: row["v"] for row in feed.table()} == {1: 12, 2: 11}
    assert shelf(feed) == []
