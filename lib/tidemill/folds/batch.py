"""A fold over a batch: key by key, sorted by Spark, streamed through Arrow. No key's rows are in memory at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, groupby, islice
from operator import itemgetter
from typing import Any

import pyarrow as pa

from tidemill.folds.garbage import seldom_collected
from tidemill.folds.shape import Shape, first_key

_AT_ONCE = 8192


@dataclass(frozen=True)
class FoldedBatch:
    """What a task does with its part of the keys."""

    shape: Shape
    reached: int | None = None
    """The last moment for which timers run (epoch microseconds); None: all do."""

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Sorted rows in, the fold's rows out."""
        rows = self._rows(batches)
        with seldom_collected():
            while ready := list(islice(rows, _AT_ONCE)):
                yield self.shape.made(ready)

    def _rows(self, batches: Iterator[pa.RecordBatch]) -> Iterator[tuple[Any, ...]]:
        entries = chain.from_iterable(map(self.shape.entries, batches))
        for _, group in groupby(entries, key=itemgetter(0)):
            entry = iter(group)
            first = next(entry)[1]
            rows = chain([first], map(itemgetter(1), entry))
            yield from self.shape.machine.run(first_key(self.shape, first[1]), rows, self.reached)
