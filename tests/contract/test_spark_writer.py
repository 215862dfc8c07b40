"""Tables whose rules a plain log commit would break: published by Delta's own transaction, and as exact.

Every expected row is worked out by hand from the events below; nothing is compared with tidemill's own output.
"""

from __future__ import annotations

import json
import os
import threading
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tidemill.config import Project, parse_pipeline
from tidemill.engine import Engine
from tidemill.errors import PlanError, QualityError, StateError
from tidemill.execution.limits import not_judged
from tidemill.ledger.facts import LiveBatch, Rearranged
from tidemill.ledger.facts import Swap as SwapFact
from tidemill.ledger.facts import to_json as to_text
from tidemill.ledger.judge import State
from tidemill.ledger.log import commits_after
from tidemill.planning.plan import explain, to_json
from tidemill.planning.selection import Request
from tidemill.sinks import writer
from tidemill.sinks.publish import Change, publish
from tidemill.sinks.rows import stage_rows
from tidemill.sinks.spark_table import SparkTable
from tidemill.sinks.table import AppVersion, LogTable, Raced
from tidemill.sinks.target import reopen

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

pytestmark = [pytest.mark.spark, pytest.mark.slow]

D1, D2 = "2024-01-01", "2024-01-02"
DIRTY, STALE = (Request(states=frozenset({state})) for state in (State.DIRTY, State.STALE))
COLUMNS = "id STRING, at TIMESTAMP, v INT"
DV = "'delta.enableDeletionVectors'='true'"


def as_they_are(events: DataFrame) -> DataFrame:
    return events.select("id", "at", "v")


def tenfold(events: DataFrame) -> DataFrame:
    return events.selectExpr("id", "at", "v * 10 AS v")


class Place:
    """A project of one pipeline over a folder of events, and its table."""

    def __init__(self, root: Path, spark: SparkSession, **more: Any) -> None:
        self.root, self.spark, self.more, self.files = root, spark, more, 0
        self.table = str(root / "t")
        (root / "in").mkdir(parents=True)
        self.engine = self.with_code(as_they_are)

    def with_code(self, code: Any) -> Engine:
        body = {
            "name": "a",
            "source": {
                "files": {"path": "in", "format": "json", "schema": COLUMNS, "max_files_per_batch": 1}
            },
            "event_time": {"column": "at"},
            "interval": "day",
            "transform": code,
            "gate": {"max_removed": None},
            "sink": {"delta": {"path": "t"}},
            "trigger": {"available_now": True},
            **self.more,
        }
        pipeline = parse_pipeline(body, self.root)
        self.engine = Engine(Project(str(self.root), {"a": pipeline}), spark=self.spark)
        return self.engine

    @property
    def pipeline(self) -> Any:
        return self.engine.project.pipeline("a")

    def make(self, *properties: str, columns: str = "id STRING, at TIMESTAMP, v INT") -> None:
        grain = self.pipeline.grain
        kind = "TIMESTAMP" if grain.value == "hour" else "DATE"
        listed = f" TBLPROPERTIES ({', '.join(properties)})" if properties else ""
        self.sql(
            f"CREATE TABLE {self} ({columns}, {grain.column} {kind}) USING delta "
            f"PARTITIONED BY ({grain.column}){listed}"
        )

    def __str__(self) -> str:
        return f"delta.`{self.table}`"

    def sql(self, text: str) -> DataFrame:
        return self.spark.sql(text)

    def put(self, *events: tuple[str, str, int]) -> None:
        self.files += 1
        hidden = self.root / "in" / f".{self.files}"
        hidden.write_text("\n".join(json.dumps({"id": i, "at": f"{at}Z", "v": v}) for i, at, v in events))
        os.utime(hidden, (1.7e9 + self.files,) * 2)
        hidden.rename(self.root / "in" / f"{self.files}.json")

    def run(self) -> None:
        for outcome in self.engine.run("a"):
            if outcome.error is not None:
                raise outcome.error

    def rows(self, columns: str = "id, v") -> Counter[tuple[Any, ...]]:
        return Counter(tuple(row) for row in self.sql(f"SELECT {columns} FROM {self}").collect())

    def states(self) -> dict[str, tuple[str, int]]:
        return {row.interval: (row.state.value, row.rows) for row in self.engine.coverage("a").rows}

    def facts(self) -> list[Any]:
        facts = (commit.fact for commit in commits_after(self.table, -1, self.pipeline.grain))
        return [fact for fact in facts if fact != Rearranged()]

    def open(self) -> SparkTable:
        table = reopen(self.pipeline, lambda: self.spark)
        assert isinstance(table, SparkTable)
        return table


@pytest.fixture
def place(tmp_path: Path, spark: SparkSession) -> Place:
    return Place(tmp_path, spark)


def counted(*rows: tuple[Any, ...]) -> Counter[tuple[Any, ...]]:
    return Counter(rows)


def first_events(place: Place) -> None:
    place.put(("1", f"{D1}T10:00:00", 1), ("2", f"{D1}T11:00:00", 2), ("3", f"{D2}T10:00:00", 3))
    place.put(("4", f"{D1}T23:59:59", 4))


CASES = {
    "deletion vectors": ((DV,), "spark", "deletion vectors"),
    "column mapping": (("'delta.columnMapping.mode'='name'", DV), "spark", "column mapping"),
    "check": (("'delta.constraints.pos'='v > 0'",), "spark", "the CHECK constraint pos"),
    "row tracking": (
        ("'delta.enableRowTracking'='true'", "'delta.enableInCommitTimestamps'='true'"),
        "spark",
        "row tracking",
    ),
    "change data feed": (("'delta.enableChangeDataFeed'='true'",), "log commit", ""),
    "v2 checkpoint": (("'delta.checkpointPolicy'='v2'", "'delta.checkpointInterval'='2'"), "log commit", ""),
}


@pytest.mark.parametrize(
    "case",
    [case if case == "deletion vectors" else pytest.param(case, marks=pytest.mark.nightly) for case in CASES],
)
def test_live_repair_new_code_and_undo_are_exact(place: Place, case: str):
    properties, kind, why = CASES[case]
    place.make(*properties)
    first_events(place)
    chosen = writer.choose(place.table)
    assert (chosen.kind, why in chosen.why) == (kind, True)

    place.run()
    assert place.rows() == counted(("1", 1), ("2", 2), ("3", 3), ("4", 4))
    assert place.states() == {D1: ("clean", 3), D2: ("clean", 1)}
    assert [type(fact) for fact in place.facts()] == [LiveBatch, LiveBatch]

    # Another hand takes a row away; the ledger sees it, and a backfill brings the row back.
    place.sql(f"DELETE FROM {place} WHERE id = '2'")
    assert place.states()[D1][0] == "dirty"
    done = place.engine.backfill("a", DIRTY)
    assert [(c.outcome, c.manifest.results[D1].added) for c in done.chunks if c.manifest] == [("swapped", 1)]
    assert place.rows() == counted(("1", 1), ("2", 2), ("3", 3), ("4", 4))

    place.with_code(tenfold)
    run = place.engine.backfill("a", STALE).run
    assert place.rows() == counted(("1", 10), ("2", 20), ("3", 30), ("4", 40))
    assert place.engine.verify("a").holds

    # The live stream goes on, with rows of an interval that was swapped.
    place.put(("5", f"{D2}T12:00:00", 5))
    place.run()
    assert place.states() == {D1: ("clean", 3), D2: ("clean", 2)}
    assert place.engine.verify("a").holds

    # Undo takes back what the run did, and nothing that came later; publishing again redoes it.
    assert set(place.engine.undo(run)) == {D1, D2}
    assert place.rows() == counted(("1", 1), ("2", 2), ("3", 3), ("4", 4), ("5", 50))
    assert [chunk.outcome for chunk in place.engine.publish(run).chunks] == ["swapped"]
    assert place.rows() == counted(("1", 10), ("2", 20), ("3", 30), ("4", 40), ("5", 50))


def emptied(events: DataFrame) -> DataFrame:
    return events.selectExpr("id", "at", "CASE WHEN id = '2' THEN v END AS v")


def test_a_drift_of_nulls_is_seen_under_mapped_names_and_not_behind_a_deletion_vector(place: Place):
    place.more["gate"] = {"max_removed": None, "max_null_drift": 0, "min_rows": 1}
    place.make("'delta.columnMapping.mode'='name'", DV)
    first_events(place)
    place.run()
    place.sql(f"DELETE FROM {place} WHERE id = '2'")
    place.with_code(emptied)
    done = place.engine.backfill("a", Request.between(D1, "2024-01-03"))

    assert done.refused is not None
    assert done.refused.params["intervals"] == [D2]
    assert "v would be null in 100% of the rows, and is in 0%" in done.refused.message
    (manifest,) = place.engine.diff(done.run)
    # The first file's statistics count a row that is no longer there.
    assert manifest.nulls[D1] == {"id": (None, 0), "at": (None, 0), "v": (None, 2)}
    assert not_judged(place.pipeline, manifest) == [
        f"{column}: no statistics tell its nulls in {D1}" for column in ("id", "at", "v")
    ]


@pytest.mark.nightly
def test_undo_restores_a_file_with_its_deletion_vector(place: Place):
    place.make(DV)
    # One file of three rows: a DELETE of one of them marks it in the file's vector.
    place.put(*((str(n), f"{D1}T10:00:00", n) for n in (1, 2, 3)))
    place.run()
    place.sql(f"DELETE FROM {place} WHERE id = '2'")
    live = list(place.open().live_files().values())
    assert [(file.rows, "#" in file.path) for file in live] == [(2, True)]
    run = place.engine.backfill("a", DIRTY).run
    assert place.rows() == counted(("1", 1), ("2", 2), ("3", 3))
    place.engine.undo(run)
    assert place.rows() == counted(("1", 1), ("3", 3))
    assert place.open().live_files().keys() == {file.path for file in live}


@pytest.mark.nightly
def test_change_data_feed_tells_what_log_commits_changed(place: Place):
    place.make("'delta.enableChangeDataFeed'='true'")
    place.put(("1", f"{D1}T10:00:00", 1))
    place.run()
    place.with_code(tenfold)
    place.engine.backfill("a", STALE)
    feed = place.spark.read.option("readChangeFeed", "true").option("startingVersion", 0)
    changes = feed.format("delta").load(place.table).select("id", "v", "_change_type").collect()
    assert Counter(map(tuple, changes)) == counted(
        ("1", 1, "insert"), ("1", 1, "delete"), ("1", 10, "insert")
    )


@pytest.mark.nightly
def test_a_generated_column_is_filled(place: Place):
    from delta.tables import DeltaTable

    maker = DeltaTable.create(place.spark).location(place.table)
    for name, kind in (("id", "STRING"), ("at", "TIMESTAMP"), ("v", "INT"), ("event_date", "DATE")):
        maker = maker.addColumn(name, kind)
    maker.addColumn("twice", "INT", generatedAlwaysAs="v * 2").partitionedBy("event_date").execute()
    first_events(place)
    place.run()
    assert place.rows("id, twice") == counted(("1", 2), ("2", 4), ("3", 6), ("4", 8))
    place.with_code(tenfold)
    place.engine.backfill("a", STALE)
    assert place.rows("id, twice") == counted(("1", 20), ("2", 40), ("3", 60), ("4", 80))
    assert place.engine.verify("a").holds


@pytest.mark.nightly
def test_hours_are_placed_and_found_again(tmp_path: Path, spark: SparkSession):
    place = Place(tmp_path, spark, interval="hour")
    place.make(DV)
    first_events(place)
    place.run()
    states = {f"{D1}T10": ("clean", 1), f"{D1}T11": ("clean", 1), f"{D1}T23": ("clean", 1)}
    assert place.states() == {**states, f"{D2}T10": ("clean", 1)}
    place.sql(f"DELETE FROM {place} WHERE id = '4'")
    assert place.states() == {**states, f"{D2}T10": ("clean", 1), f"{D1}T23": ("dirty", 1)}
    place.engine.backfill("a", DIRTY)
    assert place.rows() == counted(("1", 1), ("2", 2), ("3", 3), ("4", 4))
    assert place.engine.verify("a").holds


@pytest.mark.nightly
def test_an_upsert_merges_through_spark(tmp_path: Path, spark: SparkSession):
    sink = {"delta": {"path": "t", "mode": "upsert", "key": ["id"], "order_by": ["at"]}}
    place = Place(tmp_path, spark, sink=sink)
    place.make(DV)
    place.put(("1", f"{D1}T10:00:00", 1), ("2", f"{D1}T10:00:00", 2))
    place.put(("1", f"{D1}T12:00:00", 7), ("2", f"{D1}T09:00:00", 9))
    place.run()
    assert place.rows() == counted(("1", 7), ("2", 2))
    place.sql(f"DELETE FROM {place} WHERE id = '1'")
    place.engine.backfill("a", DIRTY)
    assert place.rows() == counted(("1", 7), ("2", 2))
    assert place.engine.verify("a").holds


def test_a_plan_names_the_writer_and_the_reason(place: Place):
    place.make(DV)
    first_events(place)
    place.run()
    place.with_code(tenfold)
    plan = Engine(place.engine.project).plan("a", STALE)
    said = "Spark's Delta writer: the table has deletion vectors"
    assert any(line.strip() == f"swap in one commit, by {said}" for line in explain(plan))
    assert to_json(plan)["writer"] == said


@pytest.mark.nightly
def test_a_table_that_gains_a_feature_between_runs_changes_its_writer(place: Place):
    first_events(place)
    place.run()
    assert writer.choose(place.table).kind == "log commit"
    before = place.with_code(tenfold).backfill("a", STALE).run

    place.sql(f"ALTER TABLE {place} SET TBLPROPERTIES ({DV})")
    place.sql(f"DELETE FROM {place} WHERE id = '1'")
    place.sql(f"OPTIMIZE {place}")
    assert writer.choose(place.table).kind == "spark"
    place.put(("5", f"{D2}T12:00:00", 5))
    place.run()
    place.engine.backfill("a", DIRTY)
    assert place.rows() == counted(("1", 10), ("2", 20), ("3", 30), ("4", 40), ("5", 50))
    assert place.engine.verify("a").holds

    # What the former writer staged was rewritten since: its run can no longer be taken back, and says so.
    with pytest.raises(Exception, match=r"no longer live|changed since") as refused:
        place.engine.undo(before)
    assert refused.value.next_step  # type: ignore[attr-defined]
    assert place.rows() == counted(("1", 10), ("2", 20), ("3", 30), ("4", 40), ("5", 50))


@pytest.mark.nightly
def test_a_run_of_the_former_writer_is_not_undone_past_the_table_s_new_rules(place: Place):
    place.put(("1", f"{D1}T10:00:00", 1))
    place.run()
    run = place.with_code(tenfold).backfill("a", STALE).run
    place.sql(f"ALTER TABLE {place} ADD CONSTRAINT big CHECK (v > 5)")
    with pytest.raises(PlanError, match="have changed since these files were written") as refused:
        place.engine.undo(run)
    assert "backfill" in refused.value.next_step
    assert place.rows() == counted(("1", 10))


@pytest.mark.nightly
def test_a_run_of_this_writer_is_not_undone_past_the_table_s_new_rules(place: Place):
    place.make(DV)
    place.put(("1", f"{D1}T10:00:00", 1))
    place.run()
    run = place.with_code(tenfold).backfill("a", STALE).run
    place.sql(f"ALTER TABLE {place} ADD CONSTRAINT big CHECK (v > 5)")
    with pytest.raises(PlanError, match="have changed since these files were written"):
        place.engine.undo(run)
    assert place.rows() == counted(("1", 10))


@pytest.mark.nightly
def test_an_open_log_table_refuses_to_write_past_a_new_rule(place: Place):
    place.put(("1", f"{D1}T10:00:00", 1))
    place.run()
    table = LogTable(place.table, place.pipeline.grain)
    live = tuple(table.live_files().values())
    place.sql(f"ALTER TABLE {place} ADD CONSTRAINT pos CHECK (v > 0)")
    change = Change((), live, place.facts()[-1], AppVersion("other", 1))
    with pytest.raises(StateError, match="CHECK constraint pos"):
        publish(table, change)
    assert place.rows() == counted(("1", 1))


def test_a_broken_rule_stops_the_live_run_and_publishes_nothing(place: Place):
    place.make("'delta.constraints.pos'='v > 0'")
    place.put(("1", f"{D1}T10:00:00", 1), ("2", f"{D1}T10:00:00", -2))
    with pytest.raises(QualityError, match="CHECK constraint pos") as refused:
        place.run()
    assert "nothing was published" in refused.value.next_step
    assert place.rows() == counted()
    assert place.facts() == []
    # With code that keeps the rule, the same batch goes through.
    place.with_code(lambda events: events.where("v > 0").select("id", "at", "v"))
    place.run()
    assert place.rows() == counted(("1", 1))


@pytest.mark.nightly
def test_a_broken_rule_stops_a_backfill_and_publishes_nothing(place: Place):
    place.make("'delta.constraints.small'='v < 15'")
    place.put(("1", f"{D1}T10:00:00", 1), ("2", f"{D1}T10:00:00", 2))
    place.run()
    place.with_code(tenfold)
    done = place.engine.backfill("a", STALE)
    assert done.refused is not None
    assert "CHECK constraint small" in done.refused.message
    assert place.rows() == counted(("1", 1), ("2", 2))
    assert place.states() == {D1: ("stale", 2)}


@pytest.mark.nightly
def test_a_batch_that_was_published_before_is_not_published_again(place: Place):
    place.make(DV)
    first_events(place)
    place.run()
    # As after a crash between our commit and Spark's: Spark runs its last batch again.
    (Path(place.pipeline.table.state_path) / "checkpoint" / "commits" / "1").unlink()
    (Path(place.pipeline.table.state_path) / "checkpoint" / "commits" / ".1.crc").unlink(missing_ok=True)
    place.run()
    assert place.rows() == counted(("1", 1), ("2", 2), ("3", 3), ("4", 4))
    assert len(place.facts()) == 2


def staged_rows(place: Place, table: SparkTable, *rows: tuple[str, int]) -> Any:
    literal = ", ".join(f"('{i}', TIMESTAMP'{D1} 12:00:00', {v})" for i, v in rows)
    rows = place.sql(f"SELECT * FROM VALUES {literal} AS t(id, at, v)")
    return stage_rows(table, rows, place.pipeline)


@pytest.mark.nightly
def test_one_application_version_is_published_once_by_two_writers_at_once(place: Place):
    place.make(DV)
    place.put(("1", f"{D1}T10:00:00", 1))
    place.run()
    fact, app = place.facts()[-1], AppVersion("twice", 1)
    tables = [place.open(), place.open()]
    changes = [Change(staged_rows(place, each, ("x", 9)), (), fact, app) for each in tables]
    together = threading.Barrier(2)
    outcomes: list[bool] = []

    def write(table: SparkTable, change: Change) -> None:
        # Both have looked, and neither has seen the other, when both go on to commit.
        waits = iter([together.wait])
        outcomes.append(publish(table, change, lambda: [wait() for wait in waits] and None).already)

    threads = [threading.Thread(target=write, args=pair) for pair in zip(tables, changes, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(outcomes) == [False, True]
    assert place.rows() == counted(("1", 1), ("x", 9))


def test_a_swap_keeps_rows_appended_between_its_last_look_and_its_commit(place: Place, monkeypatch: Any):
    place.make(DV)
    first_events(place)
    place.run()
    place.with_code(tenfold)
    looked, appended = threading.Barrier(2), threading.Barrier(2)
    live = place.facts()[-1]

    def append() -> None:
        table = place.open()
        change = Change(staged_rows(place, table, ("live", 77)), (), live, AppVersion("live", 1))
        looked.wait(60)
        publish(table, change)
        appended.wait(60)

    commit = SparkTable.commit

    def held(self: SparkTable, add: Any, remove: Any, *rest: Any, **more: Any) -> None:
        if remove and not once:
            once.append(True)
            looked.wait(60)
            appended.wait(60)
        commit(self, add, remove, *rest, **more)

    once: list[bool] = []
    monkeypatch.setattr(SparkTable, "commit", held)
    thread = threading.Thread(target=append)
    thread.start()
    done = place.engine.backfill("a", STALE)
    thread.join(60)
    assert once == [True]
    assert [(chunk.outcome, chunk.retries) for chunk in done.chunks] == [("swapped", 0)]
    assert place.rows() == counted(("1", 10), ("2", 20), ("3", 30), ("4", 40), ("live", 77))
    assert sum(isinstance(fact, SwapFact) for fact in place.facts()) == 1


@pytest.mark.nightly
def test_a_swap_is_refused_when_its_file_got_a_deletion_vector_at_the_commit(place: Place, monkeypatch: Any):
    place.make(DV)
    place.put(*((str(n), f"{D1}T10:00:00", n) for n in (1, 2, 3)))
    place.run()
    place.with_code(tenfold)
    commit = SparkTable.commit
    meddled: list[bool] = []

    def meddle(self: SparkTable, add: Any, remove: Any, *rest: Any, **more: Any) -> None:
        if remove and not meddled:
            meddled.append(True)
            place.sql(f"DELETE FROM {place} WHERE id = '2'")
        commit(self, add, remove, *rest, **more)

    monkeypatch.setattr(SparkTable, "commit", meddle)
    done = place.engine.backfill("a", STALE)
    # Delta refuses, the loop finds the file gone, and the chunk is planned again on the table as it is.
    assert meddled == [True]
    assert [(chunk.outcome, chunk.retries > 0) for chunk in done.chunks] == [("swapped", True)]
    assert place.rows() == counted(("1", 10), ("2", 20), ("3", 30))
    assert place.engine.verify("a").holds


def test_of_two_swaps_that_looked_at_once_one_must_look_again(place: Place):
    place.make(DV)
    place.put(("1", f"{D1}T10:00:00", 1))
    place.run()
    live = place.facts()[-1]
    swap = SwapFact("a", "r", 0, live.fingerprint, 1, live.source_end, {})
    table, other = place.open(), place.open()
    mine, theirs = (staged_rows(place, each, ("x", 9)) for each in (table, other))
    late = staged_rows(place, other, ("live", 7))
    # Neither removes a file, as when both fill an interval that they found empty.
    other.commit(theirs, (), to_text(swap), AppVersion("theirs", 1), 0)
    with pytest.raises(Raced):
        table.commit(mine, (), to_text(swap), AppVersion("mine", 1), 0)
    # A live batch and a swap do not stand in each other's way; a change of all of an interval stands alone.
    other.commit(late, (), to_text(live), AppVersion("live", 1), 0)
    with pytest.raises(Raced):
        table.commit(mine, (), to_text(live), AppVersion("mine", 1), 0, alone=True)
    assert place.rows() == counted(("1", 1), ("x", 9), ("live", 7))


@pytest.mark.nightly
def test_an_append_only_table_takes_rows_and_refuses_swaps(place: Place):
    place.make(DV, "'delta.appendOnly'='true'")
    first_events(place)
    place.run()
    assert place.rows() == counted(("1", 1), ("2", 2), ("3", 3), ("4", 4))
    place.with_code(tenfold)
    assert "append-only" in "\n".join(explain(place.engine.plan("a", STALE)))
    with pytest.raises(PlanError, match="append-only"):
        place.engine.backfill("a", STALE)
    assert place.rows() == counted(("1", 1), ("2", 2), ("3", 3), ("4", 4))


@pytest.mark.nightly
def test_upkeep_without_a_jvm_leaves_such_a_table_alone(place: Place):
    place.make(DV)
    first_events(place)
    place.run()
    with pytest.raises(PlanError, match="deletion vectors") as refused:
        place.engine.maintain("a")
    assert "OPTIMIZE" in refused.value.next_step


@pytest.mark.nightly
def test_an_identity_column_is_refused_with_the_reason(place: Place):
    from delta.tables import DeltaTable, IdentityGenerator

    maker = DeltaTable.create(place.spark).location(place.table)
    for name, kind in (("id", "STRING"), ("at", "TIMESTAMP"), ("v", "INT"), ("event_date", "DATE")):
        maker = maker.addColumn(name, kind)
    maker.addColumn("n", "BIGINT", generatedAlwaysAs=IdentityGenerator()).partitionedBy(
        "event_date"
    ).execute()
    first_events(place)
    with pytest.raises(StateError, match="identity column n"):
        place.run()
