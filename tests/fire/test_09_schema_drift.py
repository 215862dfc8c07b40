"""Row 9: records change their shape between batches. The declared schema decides, and says so: no silent nulls.

``NOT NULL`` is the policy for what a record must bring. Another type, or a value too great for its type, is no record
of the schema. What the schema does not name is left alone until it does.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from pyspark.sql import SparkSession

from tests.fire.matrix import Tally
from tidemill import Engine
from tidemill.config import Project, parse_pipeline
from tidemill.ledger.judge import State
from tidemill.planning.selection import Request
from tidemill.testing import MemorySource

pytestmark = [pytest.mark.row(9), pytest.mark.timeout(600)]
SCHEMA = "id INT NOT NULL, at TIMESTAMP NOT NULL, v INT NOT NULL, note STRING"
AT = "2024-05-01T12:00:00Z"


class Drifting:
    """One pipeline over JSON or parquet files, whose records change."""

    def __init__(self, root: Path, spark: SparkSession, kind: str = "json") -> None:
        self.root, self.spark, self.kind = root, spark, kind
        self.declare(SCHEMA)
        self.source = MemorySource(self.engine.project.pipeline("drift").inputs["events"])

    def declare(
        self, schema: str, transform: Callable[[Any], Any] | None = None, table: str = "table"
    ) -> None:
        values = {
            "name": "drift",
            "source": {"files": {"path": "in", "format": self.kind, "schema": schema}},
            "event_time": {"column": "at"},
            "interval": "day",
            "transform": [transform] if transform else [],
            "sink": {"delta": {"path": table}},
            "trigger": {"available_now": True},
        }
        pipeline = parse_pipeline(values, self.root)
        self.engine = Engine(Project(str(self.root), {"drift": pipeline}), spark=self.spark)

    def run(self) -> Any:
        (outcome,) = self.engine.run("drift")
        return outcome.error

    def rows(self, name: str = "table") -> list[dict[str, Any]]:
        path = self.root / name
        rows = DeltaTable(str(path)).to_pyarrow_table().to_pylist() if path.exists() else []
        return sorted(rows, key=lambda row: row.get("id", 0))

    def refused(self) -> list[tuple[str, str]]:
        """Reason and raw record of what was quarantined."""
        return sorted((row["reasons"][0], row["record"]) for row in self.rows("table_quarantine"))


@pytest.fixture
def drifting(tmp_path: Path, spark: SparkSession) -> Drifting:
    """One good record has been read."""
    drifting = Drifting(tmp_path, spark)
    drifting.source.add({"id": 1, "at": AT, "v": 10, "note": "x"})
    assert drifting.run() is None
    return drifting


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"id": 2, "at": AT, "value": 20, "note": "y"}, "no value for v, which is NOT NULL"),
        ({"id": 2, "at": AT, "v": None, "note": "y"}, "no value for v, which is NOT NULL"),
        ({"id": 2, "at": AT, "v": "twenty", "note": "y"}, "not a record of the schema"),
        ({"id": 2, "at": AT, "v": 2_000_000_000_000, "note": "y"}, "not a record of the schema"),
        ({"id": 2, "at": AT, "v": {"n": 20}, "note": "y"}, "not a record of the schema"),
        ({"id": 2, "when": AT, "v": 20, "note": "y"}, "no event time (at)"),
    ],
    ids=["renamed", "emptied", "retyped", "widened", "nested", "time renamed"],
)
def test_what_no_longer_fits_is_set_aside(
    drifting: Drifting, tally: Tally, record: dict[str, Any], reason: str
) -> None:
    drifting.source.add_raw(json.dumps(record))
    drifting.source.add({"id": 3, "at": AT, "v": 30})
    assert drifting.run() is None
    assert [(row["id"], row["v"], row["note"]) for row in drifting.rows()] == [(1, 10, "x"), (3, 30, None)]
    assert [why for why, _ in drifting.refused()] == [reason]
    assert json.loads(drifting.refused()[0][1])["id"] == 2
    coverage = drifting.engine.view("drift").coverage
    assert (coverage.input_rows, coverage.quarantined) == (3, 1)
    assert drifting.engine.verify("drift").holds


def test_a_column_that_comes_is_taken_in_from_the_first_when_it_is_declared(
    drifting: Drifting, tally: Tally
) -> None:
    drifting.source.add({"id": 2, "at": AT, "v": 20, "note": "y", "extra": 7})
    assert drifting.run() is None
    assert "extra" not in drifting.rows()[0]
    # The same columns from more: what was there all along is found again.
    drifting.declare(
        f"{SCHEMA}, extra INT", lambda e: e.selectExpr("id", "at", "coalesce(extra, v) AS v", "note")
    )
    assert drifting.engine.coverage("drift").in_state(State.STALE) == ("2024-05-01",)
    drifting.engine.backfill("drift", Request(states=frozenset({State.STALE})))
    assert sorted((row["id"], row["v"]) for row in drifting.rows()) == [(1, 10), (2, 7)]


def test_parquet_without_a_column_that_it_must_have_is_set_aside_live_and_backfilled(
    tmp_path: Path, spark: SparkSession, tally: Tally
) -> None:
    drifting = Drifting(tmp_path, spark, kind="parquet")
    at = pa.array([1_714_564_800_000_000], pa.timestamp("us", "UTC"))
    id_, v, note = (pa.array([1], pa.int32()), pa.array([10], pa.int32()), pa.array(["x"]))
    for names, columns in (
        (["id", "at", "v", "note"], [id_, at, v, note]),
        (["id", "at", "w"], [id_, at, v]),
    ):
        sink = pa.BufferOutputStream()
        pq.write_table(pa.table(dict(zip(names, columns, strict=True))), sink)
        drifting.source.add_file(bytes(sink.getvalue()), "parquet")
    assert drifting.run() is None
    assert [(row["id"], row["v"]) for row in drifting.rows()] == [(1, 10)]
    assert [why for why, _ in drifting.refused()] == ["no value for v, which is NOT NULL"]
    drifting.declare(SCHEMA, lambda events: events.selectExpr("id", "at", "v + 1 AS v", "note"))
    drifting.engine.backfill("drift", Request(states=frozenset({State.STALE})))
    assert [(row["id"], row["v"]) for row in drifting.rows()] == [(1, 11)]
