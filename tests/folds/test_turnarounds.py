"""The planes' turnarounds: an ordered fold over real flights, against DuckDB."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest
from deltalake import DeltaTable
from pyarrow import parquet

from jobs.flights import turnarounds
from jobs.flights_events import write_events
from tests import oracle_flights
from tidemill.config import load_project
from tidemill.engine import Engine
from tidemill.ledger.judge import NOT_CLEAN, State
from tidemill.planning.selection import Request

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = [pytest.mark.spark, pytest.mark.slow]
HERE = Path(__file__).resolve().parents[2]
DAYS = 3


def test_a_whole_year_in_one_batch_is_what_duckdb_says(spark: SparkSession, tmp_path: Path):
    parquet.write_table(oracle_flights.flights(365), tmp_path / "flights.parquet")
    found = turnarounds(spark.read.parquet(str(tmp_path / "flights.parquet"))).orderBy("flight_id").toArrow()
    wanted = oracle_flights.turnarounds(365).drop_columns(["event_date"])
    assert wanted.num_rows > 320_000
    assert found.cast(wanted.schema).equals(wanted)


def test_a_stream_repaired_by_backfills_holds_what_duckdb_says(spark: SparkSession, tmp_path: Path):
    """Flights that left hours late are missing from their planes' chains, and the ledger says in which days."""
    for part in ("conf", "jobs"):
        shutil.copytree(HERE / part, tmp_path / part)
    write_events(tmp_path / "data" / "flights", days=DAYS)
    config = tmp_path / "conf" / "pipelines" / "turnarounds.yml"
    config.write_text(config.read_text().replace("max_files_per_batch: 1", "max_files_per_batch: 24"))
    engine = Engine(load_project(tmp_path), spark=spark)
    wanted = oracle_flights.turnarounds(DAYS)
    (outcome,) = engine.run("turnarounds")
    assert outcome.error is None
    states = {row.interval: row.state for row in engine.coverage("turnarounds").rows}
    table = tmp_path / "data" / "tables" / "turnarounds"
    wrong = {day for day in states if held(table, day) != of_day(wanted, day)}
    assert wrong
    assert all(states[day] is not State.CLEAN for day in wrong), (wrong, states)
    engine.backfill("turnarounds", Request(states=NOT_CLEAN, include_open=True))
    assert [day for day in states if held(table, day) != of_day(wanted, day)] == []
    assert engine.verify("turnarounds").holds


def held(table: Path, day: str) -> list[dict[str, object]]:
    return of_day(DeltaTable(str(table)).to_pyarrow_table(), day)


def of_day(rows: pa.Table, day: str) -> list[dict[str, object]]:
    mine = [row for row in rows.to_pylist() if row["event_date"].isoformat() == day]
    return sorted(({**row, "event_date": day} for row in mine), key=lambda row: str(row["flight_id"]))
