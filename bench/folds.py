"""An ordered fold against what one would write by hand: on streams of 20,000 rows a batch, and on a batch frame.

Each pair runs both sides in turn in one session, over the same files of one batch each, whose rows are in order. A stream's
time is the median of its batches' whole triggers, the first three left out; its rows go to a sink that drops them. Before that both
sides write the rows of a smaller input, which are compared. ``growth``: the time of a batch of 20,000 rows among a million
keys against one among 10,000.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Literal

import duckdb
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from bench import running as of
from bench.machine import this_machine
from bench.processes import cpu_seconds
from bench.result import Result
from bench.source import BEGIN
from tidemill.execution.session import build_session

Transform = Callable[[DataFrame], DataFrame]
Better = Literal["lower", "higher"]
SCHEMA = "number BIGINT, user_id INT, at TIMESTAMP, amount_cents BIGINT"
_A_ROW = 50_000  # microseconds of event time: a batch of 20,000 rows spans 1,000 seconds
_LAST_USER = -1  # its one row comes last and moves the watermark past all others


@dataclass(frozen=True, slots=True)
class Case:
    """Two transforms over streams of so many keys. ``target`` holds their times' ratio, theirs by ours if ``higher`` is better."""

    name: str
    ours: Transform
    theirs: Transform
    keys: int
    target: float
    better: Better


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured; in full, where nothing else is said."""

    rows: int = 20_000
    batches: int = 10
    drop: int = 3
    pairs: int = 3
    some_keys: int = 20_000
    many_keys: int = 400_000
    grown_keys: int = 1_000_000
    history: int = 2_000_000


FULL = Size()
QUICK = Size(500, 4, drop=1, pairs=1, some_keys=200, many_keys=2_000, grown_keys=5_000, history=5_000)
FEW_KEYS, GROWN_FROM = 2_000, 10_000


def run(scratch: Path, *, quick: bool = False) -> tuple[Result, ...]:
    """Measure streams, the batch, and growth, in one session."""
    size = QUICK if quick else FULL
    spark = build_session("tidemill-bench")
    cases = (
        Case("fold, stream, 2,000 keys", of.running, of.running_by_key, FEW_KEYS, 3.0, "higher"),
        Case("fold, stream, 400,000 keys", of.running, of.running_by_key, size.many_keys, 3.0, "higher"),
        Case("fold, stream, built-in", of.windows, of.windows_built_in, FEW_KEYS, 2.0, "lower"),
    )
    bench = _Bench(spark, scratch, size)
    return (*map(bench.stream, cases), *bench.batch(), bench.growth())


class _Bench:
    """Runs both sides of each case in turn."""

    def __init__(self, spark: SparkSession, scratch: Path, size: Size) -> None:
        self._spark, self._scratch, self._size = spark, scratch, size
        self._runs = 0

    def stream(self, case: Case) -> Result:
        """A case over streams."""
        size = self._size
        small = self._input(f"small-{case.keys}", min(case.keys, size.rows), batches=3)
        whole = self._input(f"whole-{case.keys}", case.keys, batches=size.batches, first=case.keys)
        one, other = (self._written(side, small) for side in (case.ours, case.theirs))
        same = _same(one, other)
        sides = [partial(self._batch_seconds, side, whole) for side in (case.ours, case.theirs)]
        return self._paired(case.name, sides, case.target, case.better, same=same)

    def batch(self) -> tuple[Result, ...]:
        """The running totals over one frame."""
        few, some = self._history(FEW_KEYS), self._history(self._size.some_keys)
        pandas = (of.running, of.running_in_pandas, 2.0, "higher")
        cases = (
            (few, "fold, batch, applyInPandas", *pandas),
            (some, "fold, batch, applyInPandas, 20,000 keys", *pandas),
            (few, "fold, batch, window function", of.running, of.running_by_window_function, 2.0, "lower"),
            (few, "fold, batch, built-in", of.windows, of.windows_built_in, 2.0, "lower"),
        )
        return tuple(self._over_frame(*case) for case in cases)  # type: ignore[arg-type]

    def _history(self, keys: int) -> DataFrame:
        folder = self._scratch / f"history-{keys}"
        self._rows(0, self._size.history, keys).write.parquet(str(folder))
        return self._spark.read.schema(SCHEMA).parquet(str(folder))

    def growth(self) -> Result:
        """The time of a batch, by the number of keys there are."""
        size = self._size
        inputs = [
            self._input(f"grown-{keys}", keys, batches=size.batches, first=keys)
            for keys in (size.grown_keys, min(GROWN_FROM, size.grown_keys))
        ]
        sides = [partial(self._batch_seconds, of.running, each) for each in inputs]
        return self._paired("fold, growth", sides, 2.0, "lower", same=None)

    def _over_frame(
        self, frame: DataFrame, name: str, ours: Transform, theirs: Transform, target: float, better: Better
    ) -> Result:
        places = []
        for side in (ours, theirs):
            places.append(self._place())
            side(frame).write.parquet(str(places[-1]))
        sides = [partial(self._frame_seconds, side, frame) for side in (ours, theirs)]
        return self._paired(name, sides, target, better, same=_same(*places))

    def _paired(
        self,
        name: str,
        sides: list[Callable[[], float]],
        target: float,
        better: Better,
        *,
        same: bool | None,
    ) -> Result:
        ratios, cpu_ratios = [], []
        for pair in range(self._size.pairs):
            took = {place: _timed(sides[place]) for place in ((0, 1), (1, 0))[pair % 2]}
            (ours, our_cpu), (theirs, their_cpu) = took[0], took[1]
            ratios.append(ours / theirs if better == "lower" else theirs / ours)
            cpu_ratios.append(our_cpu / their_cpu)
            print(f"{name}: {ours * 1000:,.0f} ms against {theirs * 1000:,.0f} ms", flush=True)
        return Result.of_pairs(
            name,
            ratios,
            target=target,
            better=better,
            machine=this_machine(),
            same_results=same,
            cpu_ratios=cpu_ratios,
        )

    def _input(self, name: str, keys: int, *, batches: int, first: int = 0) -> Path:
        """Files of one batch each: first one with a row of each of ``first`` keys, last one that closes everything."""
        folder, start = self._scratch / name, 0
        if folder.exists():
            return folder
        parts = ([(first, True)] if first else []) + [(self._size.rows, False)] * batches
        for number, (rows, each) in enumerate(parts):
            self._rows(start, rows, keys, each=each).coalesce(1).write.parquet(str(folder / f"{number:05d}"))
            start += rows
        last = self._rows(start + 10_000_000, 1, 1).withColumn("user_id", F.lit(_LAST_USER))
        last.write.parquet(str(folder / "99999"))
        # Spark takes files by their times of change, and these were written in one second.
        for number, file in enumerate(sorted(folder.glob("*/*.parquet"))):
            os.utime(file, (BEGIN.timestamp() + number, BEGIN.timestamp() + number))
        return folder

    def _rows(self, start: int, rows: int, keys: int, *, each: bool = False) -> DataFrame:
        number = F.col("id")
        user = number - F.lit(start) if each else F.pmod(F.xxhash64(number), F.lit(keys))
        at = F.timestamp_micros(F.lit(int(BEGIN.timestamp() * 1_000_000)) + number * _A_ROW)
        return self._spark.range(start, start + rows).select(
            number.alias("number"),
            user.cast("int").alias("user_id"),
            at.alias("at"),
            (F.pmod(F.xxhash64(number, F.lit("cents")), F.lit(50_000)) + 1).alias("amount_cents"),
        )

    def _streamed(
        self, transform: Transform, folder: Path, write: Callable[[DataFrame], None]
    ) -> list[float]:
        """Run a stream over all files, and give the seconds of each batch that had rows."""
        events = (
            self._spark.readStream.schema(SCHEMA)
            .option("maxFilesPerTrigger", 1)
            .parquet(f"{folder}/*")
            .withWatermark("at", "0 seconds")
        )
        checkpoint = self._place()
        stream = transform(events).writeStream.option("checkpointLocation", str(checkpoint))
        query = stream.foreachBatch(lambda frame, _: write(frame)).trigger(availableNow=True).start()
        query.awaitTermination()
        found = [
            progress.durationMs["triggerExecution"] / 1000
            for progress in query.recentProgress
            if progress.numInputRows
        ]
        shutil.rmtree(checkpoint)
        return found

    def _batch_seconds(self, transform: Transform, folder: Path) -> float:
        took = self._streamed(
            transform, folder, lambda frame: frame.write.format("noop").mode("overwrite").save()
        )
        return median(took[self._size.drop : -1])

    def _written(self, transform: Transform, folder: Path) -> Path:
        place = self._place()
        self._streamed(transform, folder, lambda frame: frame.write.mode("append").parquet(str(place)))
        return place

    def _frame_seconds(self, transform: Transform, frame: DataFrame) -> float:
        began = time.monotonic()
        transform(frame).write.format("noop").mode("overwrite").save()
        return time.monotonic() - began

    def _place(self) -> Path:
        self._runs += 1
        return self._scratch / f"run-{self._runs}"


def _timed(side: Callable[[], float]) -> tuple[float, float]:
    before = cpu_seconds(os.getpid())
    return side(), cpu_seconds(os.getpid()) - before


def _same(one: Path, other: Path) -> bool:
    """Whether both hold the same rows, and some, the row that only moves the watermark left out."""
    with duckdb.connect() as connection:
        a, b = (
            f"SELECT * FROM read_parquet('{place}/*.parquet') WHERE user_id <> {_LAST_USER}"
            for place in (one, other)
        )
        apart = f"SELECT count(*) FROM (({a} EXCEPT ALL {b}) UNION ALL ({b} EXCEPT ALL {a}))"
        counts = [connection.execute(query).fetchone() for query in (apart, f"SELECT count(*) FROM ({a})")]
        return all(counts) and counts[0] == (0,) and counts[1] != (0,)
