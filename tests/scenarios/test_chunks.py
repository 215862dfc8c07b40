"""Chunks of one backfill that are computed at the same time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from tidemill import Engine
from tidemill.config import Project, parse_pipeline
from tidemill.intervals import Grain
from tidemill.ledger import log
from tidemill.ledger.facts import Swap
from tidemill.ledger.judge import State
from tidemill.planning.selection import Request

pytestmark = pytest.mark.spark
HOURS = 6
ALL = Request.between("2024-05-01T00", f"2024-05-01T{HOURS:02}")


def once(events: DataFrame) -> DataFrame:
    return events


def doubled(events: DataFrame) -> DataFrame:
    return events.withColumn("v", (F.col("v") * 2).cast("int"))


def sorry(events: DataFrame) -> DataFrame:
    third = F.hour("at") == 3
    return events.withColumn("v", F.when(third, F.raise_error(F.lit("no threes"))).otherwise(F.col("v")))


def without_threes(events: DataFrame) -> DataFrame:
    return events.where(F.hour("at") != 3)


def engine(root: Path, spark: SparkSession, code: Any, **more: Any) -> Engine:
    values = {
        "name": "p",
        "source": {"files": {"path": "in", "format": "json", "schema": "id INT, at TIMESTAMP, v INT"}},
        "event_time": {"column": "at"},
        "interval": "hour",
        "transform": code,
        "sink": {"delta": {"path": "table"}},
        "chunk": 1,
    }
    return Engine(Project(str(root), {"p": parse_pipeline({**values, **more}, root)}), spark=spark)


def write_events(root: Path) -> None:
    (root / "in").mkdir()
    rows = [{"id": i, "at": f"2024-05-01T{i % HOURS:02}:30:00Z", "v": i} for i in range(60)]
    (root / "in" / "a.json").write_text("\n".join(map(json.dumps, rows)) + "\nnonsense\n")


def values(root: Path) -> dict[int, int]:
    rows = DeltaTable(str(root / "table")).to_pyarrow_table().to_pylist()
    assert len(rows) == len({row["id"] for row in rows})
    return {row["id"]: row["v"] for row in rows}


def test_chunks_at_once_make_the_table_and_replace_it_each_in_its_own_commit(
    tmp_path: Path, spark: SparkSession
) -> None:
    write_events(tmp_path)
    first = engine(tmp_path, spark, once).backfill("p", ALL, max_concurrent=3)
    assert [chunk.outcome for chunk in first.chunks] == ["swapped"] * HOURS
    assert values(tmp_path) == {i: i for i in range(60)}
    again = engine(tmp_path, spark, doubled)
    done = again.backfill("p", Request(states=frozenset({State.STALE})), max_concurrent=3)
    assert [(chunk.chunk, chunk.outcome) for chunk in done.chunks] == [(n, "swapped") for n in range(HOURS)]
    assert values(tmp_path) == {i: 2 * i for i in range(60)}
    swaps = [
        each.fact
        for each in log.commits_after(str(tmp_path / "table"), -1, Grain.HOUR)
        if isinstance(each.fact, Swap)
    ]
    assert len(swaps) == 2 * HOURS
    assert {state.state for state in again.view("p").judged} == {State.CLEAN}
    assert len(DeltaTable(str(tmp_path / "table_quarantine")).to_pyarrow_table()) == 1


def test_a_chunk_that_fails_leaves_the_others_whole_and_resume_does_the_rest(
    tmp_path: Path, spark: SparkSession
) -> None:
    write_events(tmp_path)
    engine(tmp_path, spark, once).backfill("p", ALL)
    with pytest.raises(Exception, match="no threes"):
        engine(tmp_path, spark, sorry).backfill("p", ALL, max_concurrent=2)
    found = values(tmp_path)
    assert found == {i: i for i in range(60)}
    mended = engine(tmp_path, spark, doubled)
    mended.backfill("p", Request(states=frozenset({State.STALE})), max_concurrent=2)
    assert values(tmp_path) == {i: 2 * i for i in range(60)}


def test_a_gate_that_refuses_one_of_the_chunks_at_once_leaves_what_the_others_published(
    tmp_path: Path, spark: SparkSession
) -> None:
    write_events(tmp_path)
    engine(tmp_path, spark, once).backfill("p", ALL)
    strict = engine(tmp_path, spark, without_threes, gate={"max_removed": 0.1, "min_rows": 1})
    done = strict.backfill("p", Request(states=frozenset({State.STALE})), max_concurrent=2)
    assert done.refused is not None
    assert "chunk 4" in done.refused.message
    assert {chunk.chunk for chunk in done.chunks} >= {0, 1, 2}
    assert values(tmp_path) == {i: i for i in range(60)}
