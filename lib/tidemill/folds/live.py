"""A fold on a stream: rows are packed by bucket before they travel, and stepped inside Spark's own state store."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import Row
from pyspark.sql.streaming.stateful_processor import MapState, StatefulProcessor, StatefulProcessorHandle

from tidemill.errors import TransformError
from tidemill.folds.bucket import Bucket
from tidemill.folds.cells import blob_of, table_of
from tidemill.folds.garbage import seldom_collected
from tidemill.folds.planting import Planting
from tidemill.folds.seeds import of_bucket
from tidemill.folds.shape import BUCKET, ROWS, Shape


@dataclass(frozen=True)
class Packed:
    """Rows in, one blob of rows a bucket out. What is shuffled and sorted then is a few blobs."""

    shape: Shape

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """A task's batches."""
        for batch in batches:
            if batch.num_rows == 0:
                continue
            self._check(batch)
            table = batch.take(pc.sort_indices(batch.column(BUCKET)))
            runs = pc.run_end_encode(table.column(BUCKET))
            rows = table.drop_columns([BUCKET])
            blobs, start = [], 0
            for end in runs.run_ends.to_pylist():
                blobs.append(blob_of(rows.slice(start, end - start)))
                start = end
            yield pa.RecordBatch.from_arrays(
                [runs.values, pa.array(blobs, pa.binary())], names=[BUCKET, ROWS]
            )

    def _check(self, batch: pa.RecordBatch) -> None:
        time = self.shape.machine.fold.time
        if batch.column(time).null_count:
            raise TransformError(
                f"fold {self.shape.machine.name}: a row has no {time}",
                next_step="leave such rows out before the fold",
            )


@dataclass(frozen=True)
class Woken:
    """Blobs in, and after them an empty one for each bucket: all are to begin anew, whether rows came for them or not.

    In one task, which there is even where a batch has no input at all.
    """

    buckets: int

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """A task's batches."""
        yield from batches
        numbers = pa.array(range(self.buckets), pa.int32())
        yield pa.RecordBatch.from_arrays(
            [numbers, pa.array([b""] * self.buckets, pa.binary())], names=[BUCKET, ROWS]
        )


@dataclass(frozen=True)
class Opened:
    """Blobs of what came out, as rows."""

    shape: Shape

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """A task's batches."""
        for batch in batches:
            for blob in batch.column(0).to_pylist():
                yield from table_of(blob).to_batches()


def processor(shape: Shape, planting: Planting | None = None) -> StatefulProcessor:
    """The processor of a bucket's rows and timers; ``planting``: what buckets that are :class:`Woken` begin anew with."""
    return _Processor(shape, planting)


class _Cells:
    """A bucket's blobs, in a map of the state store."""

    def __init__(self, state: MapState) -> None:
        self._state = state

    def get(self, name: str) -> bytes | None:
        found = self._state.getValue((name,))
        return None if found is None else bytes(found[0])

    def put(self, name: str, blob: bytes) -> None:
        self._state.updateValue((name,), (blob,))

    def drop(self, name: str) -> None:
        self._state.removeKey((name,))


class _Processor(StatefulProcessor):
    def __init__(self, shape: Shape, planting: Planting | None) -> None:
        self._shape, self._planting = shape, planting

    def init(self, handle: StatefulProcessorHandle) -> None:
        self._handle = handle
        self._cells = _Cells(handle.getMapState("cells", "name STRING", "cell BINARY"))

    def handleInputRows(self, key: Any, rows: Iterator[Any], timerValues: Any) -> Iterator[Row]:  # noqa: N802, N803
        blobs = [row[1] for row in rows]
        bucket = Bucket(self._shape, self._cells)
        if self._planting is not None and not all(blobs):
            bucket.plant(*of_bucket(self._planting, key[0]), self._planting)
        yield from self._advance(bucket, [table_of(blob) for blob in blobs if blob], timerValues, fired=None)

    def handleExpiredTimer(self, key: Any, timerValues: Any, expiredTimerInfo: Any) -> Iterator[Row]:  # noqa: N802, N803
        del key
        bucket = Bucket(self._shape, self._cells)
        yield from self._advance(bucket, [], timerValues, fired=expiredTimerInfo.getExpiryTimeInMs())

    def close(self) -> None:
        pass

    def _advance(
        self, bucket: Bucket, arrived: list[pa.Table], values: Any, fired: int | None
    ) -> Iterator[Row]:
        watermark = values.getCurrentWatermarkInMs()
        # Before the first watermark nothing is known to be complete.
        with seldom_collected():
            out = bucket.advance(arrived, watermark * 1000 if watermark > 0 else None)
        self._set_timer(bucket, fired)
        bucket.save()
        if out:
            yield Row(**{ROWS: blob_of(self._shape.made(out))})
        if bucket.changes:
            yield Row(**{ROWS: blob_of(self._shape.given(bucket.changes))})

    def _set_timer(self, bucket: Bucket, fired: int | None) -> None:
        wake = bucket.head.next_wake()
        # Spark's timers fire when the watermark is past them; something at a moment is to be done when it is reached.
        timer = None if wake is None else max(0, -(-wake // 1000) - 1)
        before = bucket.head.timer
        if timer == before and fired is None:
            return
        if before is not None and fired is None:
            self._handle.deleteTimer(before)
        if timer is not None:
            self._handle.registerTimer(timer)
        bucket.head.timer = timer
