"""Ten million rows over ten days: a staged and swapped backfill against a bare Spark write of the same rows.

The backfill also looks for bad rows, keeps a manifest, and commits the coverage. Where nothing stood, as here, there is
nothing to compare, and no row is hashed. Both run in a JVM of 1 GiB of heap.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from bench.machine import this_machine
from bench.processes import Watch, cpu_seconds
from bench.result import Result
from bench.rows import count, same_rows
from bench.source import BEGIN, DAYS, write_source
from bench.transforms import sales
from tidemill import Engine
from tidemill.config import Project, parse_pipeline
from tidemill.execution.session import build_session
from tidemill.planning.selection import Request

ROWS, QUICK_ROWS = 10_000_000, 20_000
PAIRS, QUICK_PAIRS = 4, 2
_GIB = 1024**3


def run(scratch: Path, *, quick: bool = False) -> tuple[Result, ...]:
    """Measure the rows per second of both, and the heap that the backfill needed."""
    os.environ["TIDEMILL_DRIVER_MEMORY"] = "1g"
    spark = build_session("tidemill-bench")
    write_source(spark, scratch / "in", QUICK_ROWS if quick else ROWS)
    race = _Race(spark, scratch)
    same = race.warm_up()
    ratios, cpu_ratios = [], []
    for pair in range(QUICK_PAIRS if quick else PAIRS):
        sides = (race.backfill, race.by_hand)
        taken = {side: race.timed(side) for side in (sides if pair % 2 == 0 else sides[::-1])}
        (mine, my_cpu), (theirs, their_cpu) = taken[race.backfill], taken[race.by_hand]
        # Rows per second of equal rows: the other way round than seconds.
        ratios.append(theirs / mine)
        cpu_ratios.append(my_cpu / their_cpu)
        print(f"backfill: pair {pair + 1}: {mine:.1f} s against {theirs:.1f} s")
    machine = this_machine()
    return (
        Result.of_pairs(
            "backfill",
            ratios,
            target=0.90,
            better="higher",
            machine=machine,
            same_results=same,
            cpu_ratios=cpu_ratios,
        ),
        Result.of_pairs("backfill heap GiB", race.heaps, target=1.0, better="lower", machine=machine),
    )


class _Race:
    """Both sides, each run on a table of its own."""

    def __init__(self, spark: SparkSession, scratch: Path) -> None:
        self.heaps: list[float] = []
        self._spark, self._scratch, self._runs = spark, scratch, 0

    def warm_up(self) -> bool:
        """Run both once; whether they gave the same rows."""
        tables = [self._fresh(), self._fresh()]
        self.backfill(tables[0])
        self.by_hand(tables[1])
        same = count(tables[0]) > 0 and same_rows(*tables)
        self.heaps.clear()
        for table in tables:
            shutil.rmtree(table)
        return same

    def timed(self, side: Callable[[Path], None]) -> tuple[float, float]:
        """Wall and CPU seconds of one side."""
        table = self._fresh()
        before, began = cpu_seconds(os.getpid()), time.monotonic()
        side(table)
        taken = time.monotonic() - began, cpu_seconds(os.getpid()) - before
        shutil.rmtree(table)
        return taken

    def backfill(self, table: Path) -> None:
        """All days into an empty table, staged, hashed, swapped."""
        pipeline = parse_pipeline(_pipeline_values(table), self._scratch)
        engine = Engine(Project(str(self._scratch), {pipeline.name: pipeline}), spark=self._spark)
        request = Request(start=BEGIN, end=BEGIN + timedelta(days=DAYS))
        with Watch(self._heap_gib, every=0.5) as heap:
            done = engine.backfill(pipeline.name, request)
        if done.refused is not None or {chunk.outcome for chunk in done.chunks} != {"swapped"}:
            msg = f"the backfill ended otherwise: {done}"
            raise RuntimeError(msg)
        self.heaps.append(heap.peak)

    def by_hand(self, table: Path) -> None:
        """The same rows, written by Spark alone."""
        frame = sales(self._spark.read.parquet(str(self._scratch / "in")))
        frame = frame.withColumn("event_date", F.to_date("at"))
        frame.write.format("delta").partitionBy("event_date").save(str(table))

    def _fresh(self) -> Path:
        self._runs += 1
        return self._scratch / f"table-{self._runs}"

    def _heap_gib(self) -> float:
        runtime = self._spark._jvm.java.lang.Runtime.getRuntime()  # type: ignore[union-attr]  # noqa: SLF001
        if runtime.maxMemory() > _GIB:
            msg = "the JVM may take more than 1 GiB of heap"
            raise RuntimeError(msg)
        return float(runtime.totalMemory() - runtime.freeMemory()) / _GIB


def _pipeline_values(table: Path) -> dict[str, Any]:
    return {
        "name": "sales",
        "source": {"files": {"path": "in", "format": "parquet"}},
        "event_time": {"column": "at"},
        "interval": "day",
        "transform": sales,
        "sink": {"delta": {"path": str(table)}},
    }
