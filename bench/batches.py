"""A batch of 20,000 rows: tidemill against a tuned stream, written by hand, into Spark's own Delta sink.

Both sides run in one session with one set of settings, read the same files one a batch, and run the same
transform. What a batch took is the time from one commit to the next in the table's log.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from bench.events import SCHEMA, write_events
from bench.log import batch_ms
from bench.machine import this_machine
from bench.processes import cpu_seconds
from bench.result import Result
from bench.rows import same_rows
from bench.transforms import sales, sales_by_user
from tidemill import Engine
from tidemill.config import Project, parse_pipeline
from tidemill.execution.session import build_session

WATERMARK = "30 minutes"


@dataclass(frozen=True, slots=True)
class Case:
    """One transform to compare on, and the share of the hand-written stream's time that is allowed."""

    name: str
    transform: Callable[[DataFrame], DataFrame]
    column: str
    target: float
    watermark: bool


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured. The first ``drop`` of ``batches`` are dropped: the JVM is still warming up there."""

    rows: int
    batches: int
    drop: int
    pairs: int
    warm_ups: int


CASES = (
    Case("stateless", sales, "at", 0.30, watermark=False),
    Case("windowed", sales_by_user, "begins_at", 0.35, watermark=True),
)
FULL = Size(rows=20_000, batches=40, drop=10, pairs=6, warm_ups=2)
QUICK = Size(rows=200, batches=4, drop=2, pairs=2, warm_ups=1)


def run(scratch: Path, *, quick: bool = False) -> tuple[Result, ...]:
    """Measure both cases in one session."""
    size = QUICK if quick else FULL
    write_events(scratch / "in", files=size.batches, rows=size.rows)
    spark = build_session("tidemill-bench")
    return tuple(_Duel(spark, scratch, case, size).result() for case in CASES)


class _Duel:
    """One case, both sides in turn, each run on a table of its own."""

    def __init__(self, spark: SparkSession, scratch: Path, case: Case, size: Size) -> None:
        self._spark, self._scratch, self._case, self._size = spark, scratch, case, size
        self._runs = 0

    def result(self) -> Result:
        sides = (self._tidemill, self._by_hand)
        same = all(self._same() for _ in range(self._size.warm_ups))
        ratios, cpu_ratios = [], []
        for pair in range(self._size.pairs):
            taken: dict[Callable[[Path], None], tuple[float, float]] = {}
            for side in sides if pair % 2 == 0 else sides[::-1]:
                taken[side] = self._timed(side)
            (mine, my_cpu), (theirs, their_cpu) = taken[self._tidemill], taken[self._by_hand]
            ratios.append(mine / theirs)
            cpu_ratios.append(my_cpu / their_cpu)
            print(f"{self._case.name}: pair {pair + 1}: {mine:.0f} ms against {theirs:.0f} ms a batch")
        return Result.of_pairs(
            self._case.name,
            ratios,
            target=self._case.target,
            better="lower",
            machine=this_machine(),
            same_results=same,
            cpu_ratios=cpu_ratios,
        )

    def _same(self) -> bool:
        # The warm-up of both sides, and the proof that they do the same work.
        tables = self._fresh(), self._fresh()
        self._tidemill(tables[0])
        self._by_hand(tables[1])
        same = same_rows(*tables)
        self._clear(*tables)
        return same

    def _timed(self, side: Callable[[Path], None]) -> tuple[float, float]:
        table = self._fresh()
        before = cpu_seconds(os.getpid())
        side(table)
        used = cpu_seconds(os.getpid()) - before
        milliseconds = median(batch_ms(table, self._size.batches, drop=self._size.drop))
        self._clear(table)
        return milliseconds, used

    def _fresh(self) -> Path:
        self._runs += 1
        return self._scratch / f"{self._case.name}-{self._runs}"

    def _clear(self, *tables: Path) -> None:
        for table in tables:
            shutil.rmtree(table)
            shutil.rmtree(f"{table}-checkpoint", ignore_errors=True)

    def _tidemill(self, table: Path) -> None:
        pipeline = parse_pipeline(pipeline_values(self._case, "in", str(table)), self._scratch)
        project = Project(str(self._scratch), {pipeline.name: pipeline})
        (outcome,) = Engine(project, spark=self._spark).run(pipeline.name)
        if outcome.error is not None:
            raise outcome.error

    def _by_hand(self, table: Path) -> None:
        case = self._case
        events = self._spark.readStream.schema(SCHEMA).option("maxFilesPerTrigger", 1)
        frame = events.json(str(self._scratch / "in"))
        frame = case.transform(frame.withWatermark("at", WATERMARK) if case.watermark else frame)
        query = (
            frame.withColumn("event_date", F.to_date(case.column))
            .writeStream.format("delta")
            .partitionBy("event_date")
            .option("checkpointLocation", f"{table}-checkpoint")
            .trigger(availableNow=True)
            .start(str(table))
        )
        query.awaitTermination()


def pipeline_values(case: Case, source: str, table: str) -> dict[str, Any]:
    """A live pipeline over event files, one file a batch, as plain values."""
    files = {"path": source, "format": "json", "schema": SCHEMA, "max_files_per_batch": 1}
    moment = {"column": "at"} | ({"watermark": WATERMARK} if case.watermark else {})
    return {
        "name": case.name,
        "source": {"files": files},
        "event_time": moment,
        "interval": {"grain": "day", "column": case.column},
        "transform": case.transform,
        "lookahead": "15 minutes" if case.watermark else "0h",
        "sink": {"delta": {"path": table}},
        "trigger": {"available_now": True},
    }
