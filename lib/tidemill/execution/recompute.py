"""What a pipeline gives in some intervals, computed anew over their pinned input: the frame that swaps and verifications run."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from tidemill.execution.folds import carries, carrying_in, check_carried, check_reach, check_sown, fold_of
from tidemill.execution.snapshots import Beginning, beginning
from tidemill.folds.carry import STATE, Carry, Carrying
from tidemill.folds.machine import microseconds
from tidemill.folds.planting import Sowing
from tidemill.intervals import Interval
from tidemill.ledger import index
from tidemill.model import Pipeline
from tidemill.planning.plan import Pin
from tidemill.quality.watch import Watched
from tidemill.sinks import stage
from tidemill.sources.history import history_frames
from tidemill.transforms.apply import transform
from tidemill.view import shape_of

_EVER = datetime(999, 1, 1, tzinfo=UTC)
"""Before all event times that are taken in: those from the year 1000 on."""
_NEVER = datetime(9999, 1, 1, tzinfo=UTC)
"""After all of them."""


def output(
    spark: SparkSession,
    pipeline: Pipeline,
    pin: Pin,
    intervals: tuple[Interval, ...],
    root: str,
    watched: Watched,
    sowing: Sowing | None = None,
) -> tuple[DataFrame, Beginning | None]:
    """The pipeline's output in these intervals over their pinned input, as a batch frame, before the table's rules.

    Of a fold without a horizon also what the states began with, which then come beside the rows. ``sowing``: as far as it
    says, and it is given what is beyond.
    """
    pinned = {name: each.read for name, each in pin.inputs.items()}

    def over(reach: list[tuple[Any, Any]], start: DataFrame | None) -> DataFrame:
        if sowing is not None:
            reach = [(min(begin for begin, _ in reach), _NEVER)]  # what waits, too
        frames = history_frames(spark, pipeline, pinned, reach, watched)
        with carrying_in(pipeline, Carrying(_how(pipeline, intervals, sowing), start, sowing=sowing)):
            return transform(spark, pipeline, frames, root)

    frame = over(_merge(stage.ranges([_widened(pipeline, each) for each in intervals])), None)
    stage.check_columns(frame.drop(STATE), pipeline)
    fold = fold_of(frame)
    check_reach(pipeline, fold)
    if sowing is not None:
        check_sown(pipeline, fold)
    if fold is None or not carries(pipeline, fold):
        return frame.where(stage.within(pipeline, intervals)), None
    check_carried(pipeline, fold, frame)
    first, last = min(intervals), max(intervals)
    coverage = index.read(pipeline.table.path, pipeline.table.state_path, shape_of(pipeline))
    begun = beginning(spark, pipeline, coverage, first)
    frame = over([(_EVER if begun.digest is None else first.start, last.end)], begun.frame)
    return frame.where(F.col(STATE).isNotNull() | stage.within(pipeline, intervals)), begun


def _how(pipeline: Pipeline, intervals: tuple[Interval, ...], sowing: Sowing | None) -> Carry:
    since, until = microseconds(min(intervals).start), microseconds(max(intervals).end)
    if sowing is not None:
        until = min(until, sowing.reached + 1)
    return Carry(pipeline.grain.value, pipeline.interval_column, since, until)


def _widened(pipeline: Pipeline, interval: Interval) -> Interval:
    start, end = pipeline.input_range(interval)
    return Interval(start, end, interval.grain)


def _merge(ranges: list[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    merged: list[tuple[Any, Any]] = []
    for start, end in sorted(ranges):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    return merged
