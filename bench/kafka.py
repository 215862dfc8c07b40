"""Kafka to Delta: tidemill against a tuned stream, written by hand, on one broker.

Three measures, each on topics of its own, both sides in turn:

- ``p99``: at a steady rate, from when an event was due to when the table's readers see it, with a trigger of one second
  (of which an event waits up to a second on either side) and with one that starts a batch when the last has ended.
- ``rate``: at a trigger of one second the rate rises by steps. A step is sustained when of its events (its first seconds left
  out) 99 in 100 are readable within ``BOUND`` seconds of being due, and the later half of them waits no longer than the
  earlier by a quarter. What counts is the last step before the first that is not.

Before a time counts, the table has to hold each event that was sent and the transform keeps, once.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
from deltalake import DeltaTable
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from bench.events import SCHEMA
from bench.latency import Waits, newest, waits
from bench.machine import this_machine
from bench.result import Better, Result
from bench.sender import Step, kept, total
from bench.transforms import sales
from tests.services.kafka import Kafka, broker
from tidemill import Engine
from tidemill.config import Project, parse_pipeline
from tidemill.execution.session import build_session
from tidemill.execution.supervise import Outcome

BOUND = 5.0
EACH_SECOND, AT_ONCE = "1 second", "0 seconds"
PARTITIONS = 2
_GROWING = 1.25
_POLL = 0.5


@dataclass(frozen=True, slots=True)
class Size:
    """``steady``: the rate and the seconds of the latency's measure; ``ramp``: those of the rate's, and what is left out of
    each step's beginning.
    """

    pairs: int
    warm_up: Step
    steady: Step
    steady_left_out: float
    ramp: tuple[Step, ...]
    left_out: float


def _rising(first: int, factor: float, steps: int, seconds: float) -> tuple[Step, ...]:
    return tuple((round(first * factor**k), seconds) for k in range(steps))


FULL = Size(3, (2_000, 15.0), (2_000, 40.0), 10.0, _rising(1_000, 1.5, 13, 12.0), 4.0)
QUICK = Size(1, (500, 5.0), (500, 6.0), 2.0, _rising(500, 2, 2, 5.0), 2.0)

Side = Callable[[str, Path, str], AbstractContextManager[None]]
"""Runs a stream from a topic into a table at a trigger, for as long as it is entered."""


def run(scratch: Path, *, quick: bool = False) -> tuple[Result, ...]:
    """Measure latency and rate against one broker, in one session."""
    size = QUICK if quick else FULL
    spark = build_session("tidemill-bench")
    with broker(spark) as kafka:
        return _Duel(spark, kafka, scratch, size).results()


class _Duel:
    """Both sides in turn, each on a topic and a table of its own."""

    def __init__(self, spark: SparkSession, kafka: Kafka, scratch: Path, size: Size) -> None:
        self._spark, self._kafka, self._scratch, self._size = spark, kafka, scratch, size
        self._runs = 0
        self._same = True

    def results(self) -> tuple[Result, ...]:
        size = self._size
        for side in (self._tidemill, self._by_hand):
            self._measured(side, [size.warm_up], EACH_SECOND)
        p99s, at_once, rates = [], [], []
        for pair in range(size.pairs):
            sides = (self._tidemill, self._by_hand)[:: 1 if pair % 2 == 0 else -1]
            p99s.append(self._ratio(sides, lambda side: self._p99(side, EACH_SECOND)))
            at_once.append(self._ratio(sides, lambda side: self._p99(side, AT_ONCE)))
            rates.append(self._ratio(sides, self._rate))
        return (
            self._result("p99, each second", p99s, 0.5, "lower"),
            self._result("p99, at once", at_once, 0.5, "lower"),
            self._result("rate, each second", rates, 1.5, "higher"),
        )

    def _ratio(self, sides: Sequence[Side], measure: Callable[[Side], float]) -> float:
        found = {side: measure(side) for side in sides}
        return found[self._tidemill] / found[self._by_hand]

    def _result(self, name: str, ratios: Sequence[float], target: float, better: Better) -> Result:
        return Result.of_pairs(
            f"kafka {name}",
            ratios,
            target=target,
            better=better,
            machine=this_machine(),
            same_results=self._same,
        )

    def _p99(self, side: Side, trigger: str) -> float:
        rate, seconds = self._size.steady
        start, found = self._measured(side, [self._size.steady], trigger)
        of = found.between(start + self._size.steady_left_out, start + seconds)
        low, high = np.quantile(of, [0.5, 0.99])
        print(
            f"{_name(side)}: {rate} a second, {trigger}: half within {low:.2f} s, 99 in 100 within {high:.2f} s"
        )
        return float(high)

    def _rate(self, side: Side) -> float:
        start, found = self._measured(side, self._size.ramp, EACH_SECOND)
        best, begin = 0, start
        for rate, seconds in self._size.ramp:
            of = found.between(begin + self._size.left_out, begin + seconds)
            whole = len(of) >= 0.99 * rate * (seconds - self._size.left_out) * 7 / 8
            if not (whole and _sustained(of)):
                break
            best, begin = rate, begin + seconds
        print(f"{_name(side)}: sustained {best} a second")
        return float(best or self._size.ramp[0][0] / 2)

    def _measured(self, side: Side, steps: Sequence[Step], trigger: str) -> tuple[float, Waits]:
        """When the schedule began, and how long events waited. Ends early when the stream falls far behind."""
        self._runs += 1
        topic, table = f"events-{self._runs}", self._scratch / f"{_name(side)}-{self._runs}"
        self._kafka.create(topic, partitions=PARTITIONS)
        with side(topic, table, trigger):
            start = time.time() + 6.0  # the stream is up by then
            if self._sent(topic, steps, start, table):
                self._same &= _each_once(table, total(steps))
        found = waits(table)
        shutil.rmtree(table)
        shutil.rmtree(f"{table}-checkpoint", ignore_errors=True)
        self._kafka.delete(topic)
        return start, found

    def _sent(self, topic: str, steps: Sequence[Step], start: float, table: Path) -> bool:
        given = {"servers": self._kafka.servers, "topic": topic, "partitions": PARTITIONS, "start": start}
        command = [sys.executable, "-m", "bench.sender", json.dumps(given | {"steps": steps})]
        sender = subprocess.Popen(command)
        end = start + sum(seconds for _, seconds in steps)
        try:
            while sender.poll() is None or newest(table) < end - 0.01 - 8 / steps[-1][0]:
                time.sleep(_POLL)
                now = min(time.time(), end)
                if now - max(newest(table), start) > 3 * BOUND:
                    return False
        finally:
            sender.terminate()
            sender.wait()
        return True

    @contextmanager
    def _tidemill(self, topic: str, table: Path, trigger: str) -> Iterator[None]:
        pipeline = parse_pipeline(self._pipeline(topic, str(table), trigger), self._scratch)
        engine = Engine(Project(str(self._scratch), {pipeline.name: pipeline}), spark=self._spark)
        stop = threading.Event()
        outcomes: list[Outcome] = []
        running = threading.Thread(target=lambda: outcomes.extend(engine.run(pipeline.name, stop=stop)))
        running.start()
        try:
            yield
        finally:
            stop.set()
            running.join()
        for outcome in outcomes:
            if outcome.error is not None:
                raise outcome.error

    def _pipeline(self, topic: str, table: str, trigger: str) -> dict[str, object]:
        source = {"servers": self._kafka.servers, "topics": [topic], "schema": SCHEMA}
        return {
            "name": "sales",
            "source": {"kafka": source},
            "event_time": {"column": "at"},
            "interval": {"grain": "day", "column": "at"},
            "transform": sales,
            "sink": {"delta": {"path": table}},
            "trigger": {"processing_time": trigger},
        }

    @contextmanager
    def _by_hand(self, topic: str, table: Path, trigger: str) -> Iterator[None]:
        records = self._spark.readStream.format("kafka").option(
            "kafka.bootstrap.servers", self._kafka.servers
        )
        records = records.option("subscribe", topic).option("startingOffsets", "earliest").load()
        events = records.select(F.from_json(F.col("value").cast("string"), SCHEMA).alias("event")).select(
            "event.*"
        )
        query = (
            sales(events)
            .withColumn("event_date", F.to_date("at"))
            .writeStream.format("delta")
            .partitionBy("event_date")
            .option("checkpointLocation", f"{table}-checkpoint")
            .trigger(processingTime=trigger)
            .start(str(table))
        )
        try:
            yield
        finally:
            end = time.monotonic() + 10 * BOUND
            while query.status["isTriggerActive"] and time.monotonic() < end:
                time.sleep(0.01)
            query.stop()


def _name(side: Side) -> str:
    return side.__name__.strip("_")


def _sustained(waited: np.ndarray[Any, Any]) -> bool:
    half = len(waited) // 2
    growing = np.median(waited[half:]) > _GROWING * np.median(waited[:half])
    return bool(np.quantile(waited, 0.99) <= BOUND and not growing)


def _each_once(table: Path, sent: int) -> bool:
    paths = ", ".join(f"'{path}'" for path in DeltaTable(table).file_uris())
    with duckdb.connect() as connection:
        query = f"SELECT count(*), count(DISTINCT id), min(id::BIGINT % 8) FROM read_parquet([{paths}])"
        rows, ids, least = connection.execute(query).fetchall()[0]
    return (rows, ids) == (sum(map(kept, range(sent))),) * 2 and least > 0
