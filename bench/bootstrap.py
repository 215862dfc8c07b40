"""Five million events of a topic, over thirty days: a bootstrap and the stream caught up, against the stream from `earliest`.

Both sides read the same topic of two partitions, on a Kafka broker of the bench's own, run the same transform and end with
the same rows, which are compared: of a small topic first, which also warms the JVM up, then of the whole. The stream takes
20,000 events a batch on both sides. ``ratio`` is how many times faster the bootstrap is, in wall time from the call to the
stream's end. ``BENCH_BOOTSTRAP_ROWS`` sets another number of events.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from bench.batches import CASES, WATERMARK, Case
from bench.events import KEYS, SCHEMA
from bench.machine import this_machine
from bench.processes import cpu_seconds
from bench.result import Result
from bench.rows import count, same_rows
from bench.source import BEGIN
from tests.services.kafka import Kafka, broker
from tidemill import Engine
from tidemill.config import Project, parse_pipeline
from tidemill.execution.session import build_session
from tidemill.model import Trigger

DAYS = 30
ROWS, QUICK_ROWS = 5_000_000, 20_000
PER_BATCH, QUICK_PER_BATCH = 20_000, 2_000
PAIRS = 3
TARGET = 3.0
HISTORY, SMALL = "history", "small"
_NOW = Trigger(available_now=True)


def run(scratch: Path, *, quick: bool = False) -> tuple[Result, ...]:
    """Measure a stateless and a windowed pipeline in one session."""
    spark = build_session("tidemill-bench")
    with broker(spark) as kafka:
        rows = QUICK_ROWS if quick else int(os.environ.get("BENCH_BOOTSTRAP_ROWS", ROWS))
        _send(spark, kafka, SMALL, QUICK_ROWS)
        _send(spark, kafka, HISTORY, rows)
        per_batch = QUICK_PER_BATCH if quick else PER_BATCH
        races = [_Race(spark, kafka, scratch, case, per_batch) for case in CASES]
        return tuple(race.result(1 if quick else PAIRS) for race in races)


def _send(spark: SparkSession, kafka: Kafka, topic: str, rows: int) -> None:
    """Send events in the order of their times: one task, or the halves of time would come at once, and the stream drop one."""
    kafka.create(topic, partitions=2)
    number = F.col("id")
    at = F.timestamp_micros(
        F.lit(int(BEGIN.timestamp() * 1_000_000)) + number * (DAYS * 86_400_000_000 // rows)
    )
    noise = F.pmod(F.xxhash64(number), F.lit(1 << 40))
    event = F.struct(
        F.hex(noise).alias("id"),
        at.alias("at"),
        (noise % KEYS).cast("int").alias("user_id"),
        F.concat(F.lit("/item/"), noise % 5_000).alias("page"),
        F.element_at(F.array(*map(F.lit, ("DE", "FR", "GB", "JP", "US"))), (noise % 5 + 1).cast("int")).alias(
            "country"
        ),
        (noise % 49_999 + 1).alias("amount_cents"),
        (noise % 8 + 1).cast("int").alias("quantity"),
        F.concat(F.lit("agent/"), noise % 7).alias("agent"),
        F.to_date(at).cast("string").alias("day"),
    )
    frame = spark.range(0, rows, numPartitions=1).select(
        F.to_json(event).alias("value"), (number % 2).cast("int").alias("partition")
    )
    frame.write.format("kafka").option("kafka.bootstrap.servers", kafka.servers).option("topic", topic).save()


class _Race:
    """One case; each run on a table of its own."""

    def __init__(self, spark: SparkSession, kafka: Kafka, scratch: Path, case: Case, per_batch: int) -> None:
        self._spark, self._kafka, self._scratch, self._case = spark, kafka, scratch, case
        self._per_batch, self._runs = per_batch, 0

    def result(self, pairs: int) -> Result:
        ratios, cpu_ratios = [], []
        same = self._pair(SMALL, swapped=False)[2]
        for pair in range(pairs):
            mine, theirs, alike = self._pair(HISTORY, swapped=bool(pair % 2))
            same = same and alike
            ratios.append(theirs[0] / mine[0])
            cpu_ratios.append(mine[1] / theirs[1])
            print(f"bootstrap {self._case.name}: pair {pair + 1}: {mine[0]:.1f} s against {theirs[0]:.1f} s")
        return Result.of_pairs(
            f"bootstrap {self._case.name}",
            ratios,
            target=TARGET,
            better="higher",
            machine=this_machine(),
            same_results=same,
            cpu_ratios=cpu_ratios,
        )

    def _pair(self, topic: str, *, swapped: bool) -> tuple[tuple[float, float], tuple[float, float], bool]:
        """Seconds and CPU seconds of the bootstrap and of the stream, and whether both gave the same rows."""
        sides = (self._bootstrapped, self._streamed)
        taken = {side: self._timed(side, topic) for side in (sides[::-1] if swapped else sides)}
        (*mine, table), (*theirs, other) = taken[self._bootstrapped], taken[self._streamed]
        alike = count(table) > 0 and same_rows(table, other)
        shutil.rmtree(table.parent)
        shutil.rmtree(other.parent)
        return (mine[0], mine[1]), (theirs[0], theirs[1]), alike

    def _timed(self, side: Callable[[Engine], None], topic: str) -> tuple[float, float, Path]:
        self._runs += 1
        table = self._scratch / f"{self._case.name}-{self._runs}" / "table"
        pipeline = parse_pipeline(self._values(table, topic), self._scratch)
        engine = Engine(Project(str(self._scratch), {pipeline.name: pipeline}), spark=self._spark)
        before, began = cpu_seconds(os.getpid()), time.monotonic()
        side(engine)
        return time.monotonic() - began, cpu_seconds(os.getpid()) - before, table

    def _bootstrapped(self, engine: Engine) -> None:
        found = engine.bootstrap(self._case.name)
        if found.done is not None and found.done.refused is not None:
            raise found.done.refused
        self._streamed(engine)

    def _streamed(self, engine: Engine) -> None:
        (outcome,) = engine.run(self._case.name, trigger=_NOW)
        if outcome.error is not None:
            raise outcome.error

    def _values(self, table: Path, topic: str) -> dict[str, Any]:
        kafka = {
            "servers": self._kafka.servers,
            "topics": [topic],
            "schema": SCHEMA,
            "max_offsets_per_batch": self._per_batch,
        }
        return {
            "name": self._case.name,
            "source": {"kafka": kafka},
            "event_time": {"column": "at"} | ({"watermark": WATERMARK} if self._case.watermark else {}),
            "interval": {"grain": "day", "column": self._case.column},
            "transform": self._case.transform,
            "lookahead": "15 minutes" if self._case.watermark else "0h",
            "sink": {"delta": {"path": str(table)}},
        }
