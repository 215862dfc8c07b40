"""Late rows of one day in a year, of a fold that never forgets: the convergent backfill against refolding the year.

A stream has read the year, and then rows that came too late for one day in its middle: an hour's worth, of every user. Both sides
repair a copy of that table, the one by ``backfill --dirty``, the other by a backfill of every interval that is complete, in one
chunk. First both are compared, row by row. Three ratios: of the rows that were stepped, of time, and of CPU.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from bench.machine import this_machine
from bench.processes import cpu_seconds
from bench.result import Result
from bench.rows import count, same_rows
from tidemill import Engine
from tidemill.config import Project, parse_pipeline
from tidemill.execution.backfill import Done
from tidemill.execution.session import build_session
from tidemill.folds import Fold, fold
from tidemill.ledger.judge import State
from tidemill.planning.plan import in_chunks_of
from tidemill.planning.selection import Request

BEGIN = datetime(2024, 1, 1, tzinfo=UTC)
NAME = "gaps"
DIRTY = Request(states=frozenset({State.DIRTY}))
TARGET = 0.05


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured: days, rows a day, users, files a batch of the stream, and pairs."""

    days: int
    rows: int
    users: int
    files: int
    pairs: int


FULL = Size(days=366, rows=30_000, users=2_000, files=31, pairs=3)
QUICK = Size(days=20, rows=200, users=20, files=5, pairs=1)


class Seen(NamedTuple):
    """When a user was last seen, and how often."""

    at: datetime | None
    amount: int


class Gaps(Fold[Seen]):
    """How long ago a user was seen before, and with what."""

    key, time, order_by = ("user_id",), "at", ("number",)
    state = "at TIMESTAMP, amount BIGINT"
    output = "number BIGINT, user_id INT, at TIMESTAMP, seconds BIGINT, before BIGINT"

    def zero(self) -> Seen:
        """Never."""
        return Seen(None, 0)

    def step(self, state: Seen, row: Any) -> tuple[Seen, list[tuple[Any, ...]]]:
        """One event."""
        gap = None if state.at is None else (row.at - state.at) // timedelta(seconds=1)
        return Seen(row.at, row.amount), [(row.number, row.user_id, row.at, gap, state.amount)]


def gaps(events: DataFrame) -> DataFrame:
    """The transform."""
    return fold(events, Gaps())


def run(scratch: Path, *, quick: bool = False) -> tuple[Result, ...]:
    """Measure the shares of rows, time and CPU."""
    size = QUICK if quick else FULL
    spark = build_session("tidemill-bench")
    bench = _Bench(spark, scratch, size)
    bench.fill()
    same = bench.same()
    rows: list[float] = []
    times: list[float] = []
    cpus: list[float] = []
    for pair in range(size.pairs):
        sides = (bench.converge, bench.refold)
        took = {side: bench.timed(side) for side in (sides if pair % 2 == 0 else sides[::-1])}
        (mine, my_cpu, my_rows), (theirs, their_cpu, their_rows) = took[sides[0]], took[sides[1]]
        rows.append(my_rows / their_rows)
        times.append(mine / theirs)
        cpus.append(my_cpu / their_cpu)
        print(
            f"convergence: pair {pair + 1}: {my_rows:,} rows in {mine:.1f} s against {their_rows:,} in {theirs:.1f} s",
            flush=True,
        )
    return tuple(
        Result.of_pairs(
            f"convergence, {what}",
            ratios,
            target=TARGET,
            better="lower",
            machine=this_machine(),
            same_results=same,
            cpu_ratios=cpus,
        )
        for what, ratios in (("rows", rows), ("time", times), ("CPU", cpus))
    )


class _Bench:
    def __init__(self, spark: SparkSession, scratch: Path, size: Size) -> None:
        self._spark, self._scratch, self._size = spark, scratch, size
        self._late = BEGIN + timedelta(days=size.days // 2, hours=12)
        self._copies = 0

    def fill(self) -> None:
        """A file a day, the stream over them; then the late rows, which it leaves out."""
        size = self._size
        a_row = 86_400_000_000 // size.rows
        self._write("year", 0, size.days * size.rows, size.days, BEGIN, a_row)
        self._run()
        # Of an hour, one of each user; most have rows later that day.
        self._write("late", 10**12, size.users, 1, self._late, 3_600_000_000 // size.users)
        self._run()

    def same(self) -> bool:
        """Whether both sides come to the same rows, and call all of them clean."""
        places = []
        for side in (self.converge, self.refold):
            engine = self._copy()
            side(engine)
            if engine.coverage(NAME).in_state(State.DIRTY):
                return False
            places.append(Path(engine.project.root) / "tables" / NAME)
        return same_rows(*places) and count(places[0]) > self._size.rows

    def converge(self, engine: Engine) -> Done:
        """What is dirty, as far as states differ."""
        return engine.backfill(NAME, DIRTY)

    def refold(self, engine: Engine) -> Done:
        """All of it, in one chunk."""
        whole = Request(BEGIN, BEGIN + timedelta(days=self._size.days - 1))
        return engine.backfill(in_chunks_of(engine.plan(NAME, whole), self._size.days))

    def timed(self, side: Callable[[Engine], Done]) -> tuple[float, float, int]:
        """The seconds and CPU seconds of one side over a copy of the table, and the rows that it stepped."""
        engine = self._copy()
        cpu, began = cpu_seconds(os.getpid()), time.monotonic()
        done = side(engine)
        took = time.monotonic() - began, cpu_seconds(os.getpid()) - cpu
        stepped = sum(
            result.rows
            for chunk in done.chunks
            if chunk.manifest is not None
            for result in chunk.manifest.results.values()
        )
        shutil.rmtree(engine.project.root)
        return *took, stepped

    def _copy(self) -> Engine:
        self._copies += 1
        root = self._scratch / f"copy-{self._copies}"
        shutil.copytree(self._scratch / "project", root)
        return self._engine(root)

    def _run(self) -> None:
        (outcome,) = self._engine(self._scratch / "project").run(NAME)
        if outcome.error is not None:
            raise outcome.error

    def _engine(self, root: Path) -> Engine:
        root.mkdir(exist_ok=True)
        values = {
            "name": NAME,
            "source": {
                "files": {
                    "path": str(self._scratch / "in"),
                    "format": "parquet",
                    "schema": "number BIGINT, user_id INT, at TIMESTAMP, amount BIGINT",
                    "max_files_per_batch": self._size.files,
                }
            },
            "event_time": {"column": "at", "watermark": "1 hour"},
            "interval": "day",
            "transform": gaps,
            "sink": {"delta": {"path": f"tables/{NAME}"}},
            "gate": {"max_removed": None},
            "trigger": {"available_now": True},
        }
        return Engine(Project(str(root), {NAME: parse_pipeline(values, root)}), spark=self._spark)

    def _write(self, name: str, first: int, rows: int, files: int, start: datetime, a_row: int) -> None:
        """Rows in the order of time, so many microseconds apart; beside the others, the newest of them."""
        number = F.col("id")
        at = F.timestamp_micros(F.lit(int(start.timestamp() * 1_000_000)) + (number - first) * a_row)
        user = F.pmod(F.xxhash64(number), F.lit(self._size.users)) if files > 1 else number - first
        made = self._spark.range(first, first + rows, numPartitions=files).select(
            number.alias("number"),
            user.cast("int").alias("user_id"),
            at.alias("at"),
            F.pmod(F.xxhash64(number, F.lit("amount")), F.lit(50_000)).alias("amount"),
        )
        made.write.parquet(str(self._scratch / name))
        folder = self._scratch / "in"
        folder.mkdir(exist_ok=True)
        there = len(list(folder.iterdir()))
        # The stream takes files by their times of change.
        for place, file in enumerate(sorted((self._scratch / name).glob("*.parquet")), there):
            os.utime(file, (BEGIN.timestamp() + place, BEGIN.timestamp() + place))
            file.rename(folder / f"{name}-{place:05d}.parquet")
