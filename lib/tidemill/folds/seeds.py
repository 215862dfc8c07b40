"""What a stream begins anew with, on its way through files: made by tasks of a batch, read by those of a stream.

As in the state store, a bucket's states and waiting rows are Arrow blobs; each has its schema, and is read as a stored one is.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, groupby
from operator import itemgetter
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tidemill.errors import StateError
from tidemill.folds.carried import entries_of
from tidemill.folds.carry import digest, state_of
from tidemill.folds.cells import blob_of, table_of
from tidemill.folds.machine import Row
from tidemill.folds.planting import Planting
from tidemill.folds.segments import Entry, table_of_kept
from tidemill.folds.shape import BUCKET, HASH, ROWS, Shape, first_key, plain
from tidemill.storage import parquet, place, walk

STATES = "of_states"
"""The column that parts states from rows that wait."""
WHOLE = "_WHOLE"
"""The file in a seed's folder that says that all of it is there."""
_AT_ONCE = 8192


@dataclass(frozen=True)
class Sown:
    """Rows of a batch in, sorted, states first; out come the states of their keys at a moment, a blob a bucket."""

    shape: Shape
    reached: int

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """A task's batches."""
        ready: list[tuple[Entry, bool]] = []
        for each in self._kept(batches):
            ready.append(each)
            if len(ready) == _AT_ONCE:
                yield self._blobs(ready)
                ready = []
        if ready:
            yield self._blobs(ready)

    def _kept(self, batches: Iterator[pa.RecordBatch]) -> Iterator[tuple[Entry, bool]]:
        """Each key that a stream would keep, and whether it was stepped since the state that it began with."""
        shape, machine = self.shape, self.shape.machine
        zero, names = tuple(machine.fold.zero()), shape.state.names
        entries = chain.from_iterable(map(self._entries, batches))
        for (text, hashed), group in groupby(entries, key=itemgetter(0, 1)):
            if text is None:
                continue  # its rows have failed, one by one
            mine = iter(group)
            _, _, row, start = next(mine)
            rest = (each for _, _, each, _ in mine if each is not None)
            if row is not None:
                kept, touched = first_key(shape, row[1]), True
                steps = machine.run(kept, chain([row], rest), self.reached)
            else:
                assert start is not None  # noqa: S101  an entry is one or the other
                kept = state_of(machine, *start)
                kept.given = digest(text, names, kept.state, zero)
                woken = kept.wake is not None and kept.wake <= self.reached
                ahead = next(rest, None)
                touched = woken or ahead is not None
                steps = machine.run(kept, () if ahead is None else chain([ahead], rest), self.reached)
            for _ in steps:
                pass
            if kept.given is not None or not machine.idle(kept):
                if kept.last is None and machine.horizon is None:
                    # Its rows lie before the states that it began with. Should the fold be given a horizon, it has to be
                    # forgotten some time, and never too early: it had none after this.
                    kept.last = self.reached
                yield (text, hashed, kept), touched

    def _entries(self, batch: pa.RecordBatch) -> Iterator[tuple[str | None, int, Row | None, Any]]:
        hashes = plain(batch.column(HASH))
        for hashed, (text, row, start) in zip(hashes, entries_of(self.shape, batch), strict=True):
            yield text, hashed, row, start

    def _blobs(self, ready: Sequence[tuple[Entry, bool]]) -> pa.RecordBatch:
        buckets = self.shape.machine.fold.buckets
        parts: dict[int, list[tuple[Entry, bool]]] = defaultdict(list)
        for each in ready:
            parts[each[0][1] % buckets].append(each)
        blobs = [
            blob_of(table_of_kept(self.shape, [e for e, _ in part], touched=[t for _, t in part]))
            for part in parts.values()
        ]
        return pa.RecordBatch.from_arrays(
            [pa.array(list(parts), pa.int32()), pa.array(blobs, pa.binary())], names=[BUCKET, ROWS]
        )


def of_bucket(planting: Planting, bucket: int) -> tuple[list[pa.Table], list[pa.Table]]:
    """A bucket's states, and its rows that wait. Raises :class:`StateError` where the seed is not there."""
    root = place(planting.folder)
    if not (root / WHOLE).is_file():
        raise StateError(
            f"the states that the stream is to begin anew with are not there any more: {planting.folder}",
            next_step="restore the folder; or restart the stream anew, from the states of its table",
            folder=planting.folder,
        )
    found = []
    for states in ("true", "false"):
        folder = root / f"{STATES}={states}" / f"{BUCKET}={bucket}"
        files = [folder / each.path for each in walk(folder) if each.path.endswith(".parquet")]
        # The file alone: its folders' names would be taken for columns.
        blobs = [
            blob
            for file in files
            for blob in pq.ParquetFile(parquet(file)).read([ROWS]).column(0).to_pylist()
        ]
        found.append([table_of(blob) for blob in blobs])
    return found[0], found[1]
