"""RabbitMQ's streams as a Spark data source: ``format("rabbitmq_stream")``, live and as history.

    spark.dataSource.register(RabbitStreamSource)
    spark.readStream.format("rabbitmq_stream").options(host=..., queue="orders", user=..., password=...).load()

Each query has its own position, in its checkpoint: the broker keeps none. An offset is ``{"offset": n}``, the next
one to read; a batch is the records of ``[start, end)``, read by the executors, and read again they are the same.

**The first batch is empty.** Spark asks for the initial offset again when it repeats a first batch that was planned
and not finished; ``next`` would be another one by then, and the records between would be lost. So the first batch
carries none, and its end, which Spark does write down, is where the query begins.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from pyspark.sql.datasource import DataSource, DataSourceReader, DataSourceStreamReader, InputPartition
from pyspark.sql.streaming.datasource import (
    ReadAllAvailable,
    ReadLimit,
    ReadMaxRows,
    SupportsTriggerAvailableNow,
)
from pyspark.sql.types import StructType

from tidemill.errors import ConfigError, SourceError
from tidemill.sources.rabbitmq_options import RabbitOptions, rabbit_options
from tidemill.sources.rabbitmq_stream import SCHEMA, Row, declare, end_of, first_of, is_missing, read_range

_POLL_SECONDS = 0.1
"""An end that is younger is believed: Spark asks for it every 10 ms."""


class RabbitStreamSource(DataSource):
    """A queue of type stream, as rows of :data:`tidemill.sources.rabbitmq_stream.SCHEMA`.

    Live: every record from ``start`` on once, in order within a task, at most ``max_records_per_batch`` a batch; with
    ``exchange`` a new query declares the queue and binds it to the exchange, so that publishers need no change.

    History (``spark.read``): exactly the records of ``[start_offset, end_offset)``; by default all that are there.

    Raises :class:`ConfigError` for wrong options, credentials or a queue of another type, :class:`SourceError` for a
    queue that is not there, records that retention has taken, and a broker that stays away.
    """

    @classmethod
    def name(cls) -> str:
        """The format's name."""
        return "rabbitmq_stream"

    def schema(self) -> str:
        """The same for every queue; wrong options are told here, when the frame is made."""
        rabbit_options(self.options)
        return SCHEMA

    def reader(self, schema: StructType) -> DataSourceReader:  # noqa: ARG002  # there is one schema
        """History."""
        return _History(rabbit_options(self.options))

    def streamReader(self, schema: StructType) -> DataSourceStreamReader:  # noqa: ARG002, N802  # Spark's name
        """The live stream."""
        return _Live(rabbit_options(self.options))


@dataclass
class OffsetRange(InputPartition):
    """What one task reads: ``[start, end)``."""

    start: int
    end: int


def _ranges(start: int, end: int, most: int) -> list[OffsetRange]:
    return [OffsetRange(at, min(at + most, end)) for at in range(start, end, most)]


class _History(DataSourceReader):
    def __init__(self, options: RabbitOptions) -> None:
        self._options = options

    def partitions(self) -> list[InputPartition]:
        options = self._options
        end = end_of(options) or 0
        until = end if options.end_offset is None else options.end_offset
        start = (first_of(options) or 0) if options.start_offset is None else options.start_offset
        if start > until:
            raise ConfigError(
                f"rabbitmq_stream: start_offset {start} lies behind end_offset {until} of {options.where}",
                next_step="start_offset is the first to read, end_offset the one after the last",
            )
        if until > end:
            raise SourceError(
                f"{options.where} ends at offset {end}; offsets up to {until} were asked for",
                next_step="check end_offset; a queue that was deleted and declared anew begins at 0 again",
                end=end,
            )
        return [*_ranges(start, until, options.records_per_partition)] or [OffsetRange(start, start)]

    def read(self, partition: InputPartition) -> Any:
        return _read(self._options, partition)


class _Live(DataSourceStreamReader, SupportsTriggerAvailableNow):
    def __init__(self, options: RabbitOptions) -> None:
        self._options = options
        self._initial: int | None = None
        self._pinned = False  # the first batch, which carries nothing, has been planned
        self._target: int | None = None
        self._end = 0
        self._asked = float("-inf")

    def initialOffset(self) -> dict[str, int]:  # noqa: N802  # Spark's name
        if self._initial is None:
            declare(self._options)
            match self._options.start:
                case "first":
                    self._initial = first_of(self._options) or 0
                case "next":
                    self._initial = end_of(self._options) or 0
                case offset:
                    self._initial = int(offset)
        return {"offset": self._initial}

    def prepareForTriggerAvailableNow(self) -> None:  # noqa: N802  # Spark's name
        try:
            self._target = end_of(self._options) or 0
        except SourceError as error:
            # A new query declares it in a moment, and it is empty; one that has read from it is stopped there.
            if self._options.binding is None or not is_missing(error):
                raise
            self._target = 0

    def getDefaultReadLimit(self) -> ReadLimit:  # noqa: N802  # Spark's name
        most = self._options.max_records_per_batch
        return ReadAllAvailable() if most is None else ReadMaxRows(most)

    def latestOffset(self, start: dict[str, int], limit: ReadLimit) -> dict[str, int]:  # noqa: N802
        at = start["offset"]
        if not self._pinned and at == self._initial:
            self._pinned = True
            return start
        most = limit.max_rows if isinstance(limit, ReadMaxRows) else None
        end = self._available(at, at + most if most else None)
        if self._target is not None:
            end = min(end, self._target)
        return {"offset": max(at, end if most is None else min(end, at + most))}

    def reportLatestOffset(self) -> dict[str, int] | None:  # noqa: N802  # Spark's name
        return {"offset": self._end} if self._end else None

    def partitions(self, start: dict[str, int], end: dict[str, int]) -> list[InputPartition]:
        self._pinned = True
        return [*_ranges(start["offset"], end["offset"], self._options.records_per_partition)]

    def read(self, partition: InputPartition) -> Any:
        return _read(self._options, partition)

    def _available(self, at: int, enough: int | None) -> int:
        young = time.monotonic() - self._asked < _POLL_SECONDS and self._end >= at
        if not young and (enough is None or self._end < enough):
            self._end = end_of(self._options) or 0
            self._asked = time.monotonic()
        if self._end < at:
            raise SourceError(
                f"{self._options.where} ends at offset {self._end}; this query is to read on from {at}",
                next_step="the queue was deleted and declared anew, or 'start' lies beyond its end: "
                "start with a new checkpoint, and with start=first to have all that is there now",
                position=at,
                end=self._end,
            )
        return self._end


def _read(options: RabbitOptions, partition: InputPartition) -> Any:
    assert isinstance(partition, OffsetRange)  # noqa: S101  # Spark gives back what partitions() gave
    rows: Any = read_range(options, partition.start, partition.end)
    return rows


__all__ = ["SCHEMA", "OffsetRange", "RabbitStreamSource", "Row"]
