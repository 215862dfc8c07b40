"""A suite of twenty row expectations, all met: what it costs live batches and backfills, and Great Expectations itself.

With and without the suite, everything else is the same: the session, the files, the transform. The tables are compared row
by row first, and every commit must say that all twenty are met.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from statistics import median
from typing import Any

from pyspark.sql import DataFrame, Observation, SparkSession

from bench.batches import FULL as FULL_BATCHES
from bench.batches import QUICK as QUICK_BATCHES
from bench.batches import Size as Batches
from bench.events import SCHEMA, write_events
from bench.expectations import EXPECTATIONS, NOT_IN_SPARK, suite
from bench.log import batch_ms
from bench.machine import this_machine
from bench.processes import cpu_seconds
from bench.result import Result
from bench.rows import same_rows
from bench.source import BEGIN, DAYS, write_source
from bench.transforms import dated_sales
from tidemill import Engine
from tidemill.config import Project, parse_pipeline
from tidemill.config.suites import suite_of
from tidemill.config.text import lined
from tidemill.execution.session import build_session
from tidemill.intervals import Grain
from tidemill.ledger import log
from tidemill.ledger.facts import LiveBatch, Swap
from tidemill.planning.selection import Request
from tidemill.quality.rules import Rules


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured; ``rows``: of a backfill, ``in_gx``: of the frame that GX validates."""

    batches: Batches
    rows: int
    pairs: int
    in_gx: int
    gx_pairs: int


FULL = Size(FULL_BATCHES, rows=10_000_000, pairs=4, in_gx=200_000, gx_pairs=3)
QUICK = Size(QUICK_BATCHES, rows=20_000, pairs=2, in_gx=2_000, gx_pairs=1)
DEARER, FASTER = 1.10, 10.0


def run(scratch: Path, *, quick: bool = False) -> tuple[Result, ...]:
    """Measure live batches, a backfill, the jobs of both, and GX on the same frame."""
    size = QUICK if quick else FULL
    write_events(scratch / "live", files=size.batches.batches, rows=size.batches.rows)
    spark = build_session("tidemill-bench")
    write_source(spark, scratch / "history", size.rows)
    write_source(spark, scratch / "frame", size.in_gx)
    live = _Pair("live", _Live(spark, scratch, size.batches), size.batches.pairs)
    history = _Pair("backfill", _Backfill(spark, scratch), size.pairs)
    return (*live.results(), *history.results(), _against_gx(spark, scratch / "frame", size.gx_pairs))


@dataclass(frozen=True, slots=True)
class Taken:
    """What one run took: seconds (of a batch, or of all), CPU seconds, Spark jobs."""

    seconds: float
    cpu: float
    jobs: int


class _Side:
    """A pipeline that is run with or without the suite, each time into a table of its own."""

    def __init__(self, spark: SparkSession, scratch: Path) -> None:
        self.spark, self.scratch = spark, scratch

    def pipeline(self, table: Path, *, judged: bool) -> dict[str, Any]:
        """The pipeline as plain values."""
        quality = {"quality": {"inputs": {"events": suite()}}} if judged else {}
        return {
            "name": "sales",
            "event_time": {"column": "at"},
            "interval": "day",
            "transform": dated_sales,
            "sink": {"delta": {"path": str(table)}},
            "trigger": {"available_now": True},
            **quality,
        }

    def engine(self, values: dict[str, Any]) -> Engine:
        """An engine of that pipeline alone."""
        pipeline = parse_pipeline(values, self.scratch)
        return Engine(Project(str(self.scratch), {pipeline.name: pipeline}), spark=self.spark)

    def into(self, table: Path, *, judged: bool) -> None:
        """Fill a table."""
        raise NotImplementedError

    def seconds(self, table: Path, whole: float) -> float:
        """What is compared, of a run that took ``whole`` seconds."""
        raise NotImplementedError


class _Live(_Side):
    def __init__(self, spark: SparkSession, scratch: Path, size: Batches) -> None:
        super().__init__(spark, scratch)
        self._size = size

    def into(self, table: Path, *, judged: bool) -> None:
        files = {"path": "live", "format": "json", "schema": SCHEMA, "max_files_per_batch": 1}
        values = {**self.pipeline(table, judged=judged), "source": {"files": files}}
        (outcome,) = self.engine(values).run("sales")
        if outcome.error is not None:
            raise outcome.error

    def seconds(self, table: Path, whole: float) -> float:
        del whole
        return median(batch_ms(table, self._size.batches, drop=self._size.drop)) / 1000


class _Backfill(_Side):
    def into(self, table: Path, *, judged: bool) -> None:
        files = {"path": "history", "format": "parquet"}
        values = {**self.pipeline(table, judged=judged), "source": {"files": files}}
        request = Request(start=BEGIN, end=BEGIN + timedelta(days=DAYS))
        done = self.engine(values).backfill("sales", request)
        if done.refused is not None or {chunk.outcome for chunk in done.chunks} != {"swapped"}:
            msg = f"the backfill ended otherwise: {done}"
            raise RuntimeError(msg)

    def seconds(self, table: Path, whole: float) -> float:
        del table
        return whole


class _Pair:
    """One kind of run, with the suite and without it in turn."""

    def __init__(self, name: str, side: _Side, pairs: int) -> None:
        self._name, self._side, self._pairs, self._runs = name, side, pairs, 0

    def results(self) -> tuple[Result, ...]:
        """What the suite costs in time, and in jobs."""
        same = self._same()
        found: list[tuple[Taken, Taken]] = []
        for number in range(self._pairs):
            first = number % 2 == 0
            one, other = self._taken(judged=first), self._taken(judged=not first)
            found.append((one, other) if first else (other, one))
            judged, plain = found[-1]
            print(
                f"{self._name}: pair {number + 1}: {judged.seconds:.3f} s judged, {plain.seconds:.3f} s not; "
                f"{judged.jobs} and {plain.jobs} jobs"
            )
        machine = this_machine()
        return (
            Result.of_pairs(
                f"suite, {self._name}",
                [judged.seconds / plain.seconds for judged, plain in found],
                target=DEARER,
                better="lower",
                machine=machine,
                same_results=same,
                cpu_ratios=[judged.cpu / plain.cpu for judged, plain in found],
            ),
            Result.of_pairs(
                f"suite, {self._name}, jobs",
                [judged.jobs / plain.jobs for judged, plain in found],
                target=1.0,
                better="lower",
                machine=machine,
                same_results=same,
            ),
        )

    def _same(self) -> bool:
        # The warm-up of both, and the proof that the suite changes nothing and is met.
        judged, plain = self._fresh(), self._fresh()
        self._side.into(judged, judged=True)
        self._side.into(plain, judged=False)
        met = list(_met(judged))
        same = same_rows(judged, plain) and bool(met) and all(met) and not list(_met(plain))
        self._clear(judged, plain)
        return same

    def _taken(self, *, judged: bool) -> Taken:
        table, jobs = self._fresh(), _jobs(self._side.spark)
        cpu, began = cpu_seconds(os.getpid()), time.monotonic()
        self._side.into(table, judged=judged)
        whole, used = time.monotonic() - began, cpu_seconds(os.getpid()) - cpu
        taken = Taken(self._side.seconds(table, whole), used, _jobs(self._side.spark) - jobs)
        self._clear(table)
        return taken

    def _fresh(self) -> Path:
        self._runs += 1
        return self._side.scratch / f"{self._name}-{self._runs}"

    def _clear(self, *tables: Path) -> None:
        for table in tables:
            shutil.rmtree(table)


def _met(table: Path) -> Iterator[bool]:
    """Of each commit of rows that was judged: whether all of the suite was, and is met."""
    for commit in log.commits_after(str(table), -1, Grain.DAY):
        if isinstance(commit.fact, (LiveBatch, Swap)):
            for verdict in commit.fact.verdicts:
                yield len(verdict.results) == len(EXPECTATIONS) and all(each.met for each in verdict.results)


def _jobs(spark: SparkSession) -> int:
    """How many jobs the session has begun."""
    return int(spark._jsc.sc().dagScheduler().numTotalJobs())  # type: ignore[attr-defined]  # noqa: SLF001


def _against_gx(spark: SparkSession, folder: Path, pairs: int) -> Result:
    """GX on a frame, and the same expectations in one pass over it; those that GX evaluates on Spark."""
    expectations = [each for each in EXPECTATIONS if each["type"] not in NOT_IN_SPARK]
    # In one part: of two at a time, the Python workers of GX's own functions were seen never to end.
    frame = spark.read.parquet(str(folder)).coalesce(1)
    sides: dict[str, Callable[[], list[tuple[bool, int]]]] = {
        "gx": lambda: _in_gx(frame, expectations),
        "one pass": lambda: _in_one_pass(frame, expectations),
    }
    found = {name: side() for name, side in sides.items()}
    same = found["gx"] == found["one pass"] and all(met for met, _ in found["gx"])
    ratios = []
    for pair in range(pairs):
        took = {}
        for name in list(sides) if pair % 2 == 0 else list(sides)[::-1]:
            began, jobs = time.monotonic(), _jobs(spark)
            sides[name]()
            took[name] = time.monotonic() - began
            print(f"{name}: {took[name]:.2f} s, {_jobs(spark) - jobs} jobs")
        ratios.append(took["gx"] / took["one pass"])
    return Result.of_pairs(
        "GX against one pass",
        ratios,
        target=FASTER,
        better="higher",
        machine=this_machine(),
        same_results=same,
    )


def _in_one_pass(frame: DataFrame, expectations: Sequence[dict[str, Any]]) -> list[tuple[bool, int]]:
    """Of each expectation, whether it is met and how many rows are unexpected."""
    text = json.dumps(suite(tuple(expectations)))
    rules = Rules.of(suite_of(lined(Path("events.json"), text)), frame.schema)
    seen = Observation()
    rules.marked(frame).observe(seen, *rules.counts()).write.format("noop").mode("overwrite").save()
    return [(each.met, each.unexpected) for each in rules.counted(seen.get)]


def _in_gx(frame: DataFrame, expectations: Sequence[dict[str, Any]]) -> list[tuple[bool, int]]:
    """As :func:`_in_one_pass`, by GX's own word, in the form that it gives unasked: the least that counts rows."""
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    # GX loads Spark Connect, which takes a spawned process for one that runs doctests, and ends it.
    sys.modules["__main__"].__file__ = __file__
    import great_expectations as gx
    from great_expectations.core import ExpectationSuite

    logging.getLogger("great_expectations").setLevel(logging.CRITICAL)
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    asset = context.data_sources.add_spark("spark", persist=False).add_dataframe_asset("frame")
    batch = asset.add_batch_definition_whole_dataframe("whole").get_batch({"dataframe": frame})
    numbered = [{**each, "meta": {"number": number}} for number, each in enumerate(expectations)]
    with warnings.catch_warnings():
        # Conditions written as texts are old, and still read.
        warnings.simplefilter("ignore")
        wanted = ExpectationSuite(name="events", expectations=numbered)
        results = batch.validate(wanted).results
    told = {each.expectation_config.meta["number"]: each for each in results}
    return [(told[n].success, told[n].result["unexpected_count"]) for n in range(len(expectations))]
