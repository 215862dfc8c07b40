"""A pipeline on another pipeline's table: appends flow, replacements make intervals dirty, backfills mend them.

Every expected value is worked out by hand from the events.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from tidemill import Engine
from tidemill.config import Project, parse_pipeline
from tidemill.ledger.judge import State
from tidemill.model import Pipeline
from tidemill.planning.selection import Request

pytestmark = pytest.mark.spark

_SCHEMA = "id STRING, at TIMESTAMP, v INT"


def as_they_come(events: DataFrame) -> DataFrame:
    """The first code of the upper pipeline."""
    return events.select("id", "at", "v")


def tenfold(events: DataFrame) -> DataFrame:
    """Its second code."""
    return events.select("id", "at", (F.col("v") * 10).alias("v"))


def hourly(events: DataFrame) -> DataFrame:
    """The lower pipeline: sums by hour."""
    windows = events.groupBy(F.window("at", "1 hour")).agg(F.sum("v").alias("v"))
    return windows.select(F.col("window.start").alias("hour"), "v")


def _upper(root: Path, code: Callable[[DataFrame], DataFrame]) -> Pipeline:
    return parse_pipeline(
        {
            "name": "upper",
            "source": {
                "files": {"path": "in", "format": "json", "schema": _SCHEMA, "max_files_per_batch": 1}
            },
            "event_time": {"column": "at"},
            "interval": "day",
            "transform": code,
            "sink": {"delta": {"path": "tables/upper"}},
            "trigger": {"available_now": True},
        },
        root,
    )


def _lower(root: Path) -> Pipeline:
    return parse_pipeline(
        {
            "name": "lower",
            "source": {"delta": {"path": "tables/upper"}},
            "event_time": {"column": "at", "watermark": "1 hour"},
            "interval": {"grain": "day", "column": "hour"},
            "transform": hourly,
            "sink": {"delta": {"path": "tables/lower"}},
            "trigger": {"available_now": True},
        },
        root,
    )


class Chain:
    """Two pipelines in a folder, and events arriving."""

    def __init__(self, root: Path, spark: SparkSession) -> None:
        self.root = root
        self.spark = spark
        self.files = 0
        (root / "in").mkdir()
        self.use(as_they_come)

    def use(self, code: Callable[[DataFrame], DataFrame]) -> None:
        pipelines = {"upper": _upper(self.root, code), "lower": _lower(self.root)}
        self.engine = Engine(Project(str(self.root), pipelines), spark=self.spark)

    def arrive(self, *events: tuple[str, str, int]) -> None:
        self.files += 1
        lines = [json.dumps({"id": i, "at": f"2024-01-{at}:00Z", "v": v}) for i, at, v in events]
        path = self.root / "in" / f".{self.files}.json"
        path.write_text("\n".join(lines))
        os.utime(path, (1.7e9 + self.files, 1.7e9 + self.files))
        path.rename(path.with_name(f"{self.files}.json"))

    def run(self) -> None:
        for name in ("upper", "lower"):
            (outcome,) = self.engine.run(name)
            assert outcome.error is None

    def states(self, name: str) -> dict[str, State]:
        return {row.interval[-2:]: row.state for row in self.engine.coverage(name).rows}

    def repair(self, name: str, state: State) -> None:
        self.engine.backfill(name, Request(states=frozenset({state})))

    def hours(self) -> dict[str, Any]:
        rows = DeltaTable(str(self.root / "tables/lower")).to_pyarrow_table().to_pylist()
        return {row["hour"].strftime("%d %H"): row["v"] for row in rows}


@pytest.fixture
def chain(tmp_path: Path, spark: SparkSession) -> Chain:
    chain = Chain(tmp_path, spark)
    chain.arrive(("a", "01T10:00", 1), ("b", "01T11:00", 2))
    chain.arrive(("c", "02T10:00", 1), ("d", "02T11:00", 2))
    chain.run()
    return chain


def test_appends_flow_down_and_late_ones_make_the_lower_interval_dirty(chain: Chain) -> None:
    assert chain.hours() == {"01 10": 1, "01 11": 2}
    chain.arrive(("e", "03T10:00", 1), ("late", "01T10:30", 100))
    chain.run()
    assert chain.states("upper") == {"01": State.CLEAN, "02": State.CLEAN, "03": State.CLEAN}
    assert chain.states("lower") == {"01": State.DIRTY, "02": State.CLEAN, "03": State.OPEN}
    chain.arrive(("f", "03T13:00", 1))
    chain.run()
    chain.repair("lower", State.DIRTY)
    assert chain.states("lower") == {"01": State.CLEAN, "02": State.CLEAN, "03": State.OPEN}
    assert chain.hours() == {"01 10": 101, "01 11": 2, "02 10": 1, "02 11": 2, "03 10": 1}


def test_a_backfill_above_makes_the_intervals_below_dirty_and_a_backfill_below_mends_them(
    chain: Chain,
) -> None:
    chain.arrive(("e", "04T10:00", 1))
    chain.run()
    chain.use(tenfold)
    assert set(chain.states("upper").values()) == {State.STALE}
    assert chain.states("lower") == {"01": State.CLEAN, "02": State.CLEAN, "04": State.OPEN}
    chain.repair("upper", State.STALE)
    assert set(chain.states("upper").values()) == {State.CLEAN}
    assert chain.states("lower")["01"] is State.DIRTY
    chain.arrive(("f", "05T10:00", 1))
    chain.run()
    dirty = dict.fromkeys(("01", "02", "04"), State.DIRTY)
    assert chain.states("lower") == {**dirty, "05": State.OPEN}
    chain.repair("lower", State.DIRTY)
    assert chain.hours() == {"01 10": 10, "01 11": 20, "02 10": 10, "02 11": 20, "04 10": 10}
    clean = dict.fromkeys(("01", "02", "04"), State.CLEAN)
    assert chain.states("lower") == {**clean, "05": State.OPEN}


def test_an_undone_backfill_above_is_told_below_too(chain: Chain) -> None:
    chain.use(tenfold)
    done = chain.engine.backfill("upper", Request(states=frozenset({State.STALE})))
    chain.arrive(("e", "04T10:00", 1))
    chain.run()
    chain.repair("lower", State.DIRTY)
    assert chain.hours()["01 10"] == 10
    chain.engine.undo(done.run)
    assert chain.states("lower")["01"] is State.DIRTY
    chain.repair("lower", State.DIRTY)
    assert chain.hours()["01 10"] == 1


def _forty_days_pass(chain: Chain) -> None:
    for path in (chain.root / "tables/upper/_delta_log").glob("*"):
        then = path.stat().st_mtime - 40 * 86_400
        os.utime(path, (then, then))


def test_what_happened_above_stays_known_below_when_the_log_above_is_cleaned(chain: Chain) -> None:
    chain.arrive(("e", "04T10:00", 1))
    chain.run()
    chain.use(tenfold)
    chain.repair("upper", State.STALE)
    chain.arrive(("f", "05T10:00", 1))
    chain.run()
    before = chain.engine.coverage("lower").rows
    assert chain.states("lower")["01"] is State.DIRTY
    _forty_days_pass(chain)
    assert chain.engine.maintain("upper").log_cleaned
    assert chain.engine.coverage("lower").rows == before
    chain.repair("lower", State.DIRTY)
    chain.arrive(("g", "06T10:00", 1))
    chain.run()
    clean = dict.fromkeys(("01", "02", "04"), State.CLEAN)
    assert chain.states("lower") == {**clean, "05": State.CLEAN, "06": State.OPEN}
    assert chain.hours() == {"01 10": 10, "01 11": 20, "02 10": 10, "02 11": 20, "04 10": 10, "05 10": 10}


def test_commits_that_the_stream_below_has_yet_to_read_are_not_cleaned(chain: Chain) -> None:
    for hour in range(12, 16):
        chain.arrive((f"x{hour}", f"02T{hour}:00", hour))
        chain.engine.run("upper")
    chain.engine.maintain("upper")
    _forty_days_pass(chain)
    assert chain.engine.maintain("upper").log_kept_for == ("lower",)
    chain.arrive(("y", "03T10:00", 1))
    chain.run()
    expected = {f"02 {hour}": hour for hour in range(12, 16)}
    assert chain.hours() == {"01 10": 1, "01 11": 2, "02 10": 1, "02 11": 2, **expected}
    assert chain.engine.maintain("upper").log_kept_for == ()
