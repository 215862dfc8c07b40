"""The first batches of a stream that is bootstrapped: they read all there is, and leave the rows of history to a backfill.

A stream's first batch decides, in Spark's own log, where history ends and the stream goes on, for every kind of source. Here
it also counts what there is, sets bad rows aside, and publishes which intervals it owes, in place of their rows.

A pipeline that keeps state must have seen the input of every interval that the watermark has not closed. So only what lies
before the ``until`` of a survey is history; the rest goes through the stream as ever. Rows from ``until`` less the lookback
on are in the state; the rows that these give before ``until`` are parts of what history holds whole, and are left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from tidemill.intervals import Grain, parse_label
from tidemill.ledger.facts import LiveBatch
from tidemill.model import Pipeline
from tidemill.quality.watch import OUTPUT

_NEVER, _ALWAYS = datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MOST_FILES = 2**31 - 1  # Delta's stream takes a thousand where nothing is said


@dataclass(frozen=True, slots=True)
class Survey:
    """Rows in intervals before ``until`` are history, which a backfill makes; those after it the stream's own."""

    until: datetime

    @classmethod
    def of(cls, until: str | None) -> Survey:
        """As it is kept: None is all of history."""
        return cls(_ALWAYS if until is None else datetime.fromisoformat(until))

    @classmethod
    def in_one_batch(cls) -> Survey:
        """Nothing is history: the stream's first batch takes all there is."""
        return cls(_NEVER)

    @classmethod
    def before_watermark(cls, pipeline: Pipeline, watermark: datetime | None) -> Survey:
        """Of a pipeline that keeps state, where its stream's watermark will be at least there; None: nowhere yet."""
        if watermark is None:
            return cls.in_one_batch()
        # An operator that follows a join waits for as much as the join reaches: not longer than the pipeline does.
        return cls(pipeline.grain.floor(watermark - pipeline.lookahead - pipeline.lookback))

    @property
    def kept(self) -> str | None:
        """As :meth:`of` reads it."""
        return None if self.until == _ALWAYS else self.until.isoformat()

    def whole(self, pipeline: Pipeline) -> Pipeline:
        """The pipeline without the limits of its batches."""
        inputs = {}
        for name, each in pipeline.inputs.items():
            limits: dict[str, dict[str, Any]] = {
                "files": {"max_files_per_batch": None},
                "delta": {"max_files_per_batch": _MOST_FILES},
                "kafka": {"max_offsets_per_batch": None},
                "rabbitmq": {"max_records_per_batch": None},
            }
            kind = next(kind for kind in limits if getattr(each, kind) is not None)
            inputs[name] = each.model_copy(update={kind: each.source.model_copy(update=limits[kind])})
        return pipeline.model_copy(update={"inputs": inputs})

    def inputs(self, pipeline: Pipeline, frames: Mapping[str, DataFrame]) -> dict[str, DataFrame]:
        """The stream's inputs, counted already, without what only history needs."""
        start = self.until if self.until == _NEVER else self.until - pipeline.lookback
        return {
            name: frame
            if pipeline.inputs[name].static
            else frame.where(_moment(pipeline.event_time_of(name).column) >= _literal(start))
            for name, frame in frames.items()
        }

    def output(self, pipeline: Pipeline, frame: DataFrame) -> DataFrame:
        """The stream's rows, without those in intervals of history. One without an interval is the sink's to judge."""
        if pipeline.grain is Grain.ALL:
            return frame.where(F.lit(self.until == _NEVER))  # a column, not a flag
        mine = _moment(pipeline.interval_column) >= _literal(self.until)
        return frame.where(F.coalesce(mine, F.lit(True)))

    def owing(self, pipeline: Pipeline, fact: LiveBatch) -> LiveBatch:
        """The fact of a batch, owing the intervals of history that its input belongs to.

        What suites find of rows of the table is left to history's chunks: here most of the rows are not.
        """
        if self.until == _NEVER:
            return fact
        reached = [parse_label(pipeline.grain, label) for label in fact.reached]
        owed = [(each.start, each.end) for each in reached if each.start < self.until]
        mine = tuple(each.label for each in reached if each.start >= self.until)
        verdicts = tuple(each for each in fact.verdicts if each.of != OUTPUT)
        return replace(fact, owed=_ranges(owed), reached=mine, verdicts=verdicts)


def _ranges(spans: Iterable[tuple[datetime, datetime]]) -> tuple[tuple[int, int], ...]:
    ranges: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        first, until = int(start.timestamp()), int(end.timestamp())
        if ranges and ranges[-1][1] == first:
            ranges[-1] = (ranges[-1][0], until)
        else:
            ranges.append((first, until))
    return tuple(ranges)


def _moment(column: str) -> Column:
    return F.col(f"`{column}`").cast("timestamp")


def _literal(moment: datetime) -> Column:
    # Not a Python datetime: those of the first years do not pass through the driver's own calendar.
    return F.timestamp_micros(F.lit((moment - _EPOCH) // (datetime.resolution)))
