"""A fold over a batch: key by key, sorted by Spark, streamed through Arrow. No key's rows are in memory at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, groupby, islice
from operator import attrgetter, itemgetter
from typing import Any

import pyarrow as pa

from tidemill.folds.garbage import seldom_collected
from tidemill.folds.machine import Row
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
            kept = first_key(self.shape, first[1])
            yield from self.shape.machine.run(kept, self._first(rows), self.reached)

    def _first(self, rows: Iterable[Row]) -> Iterable[Row]:
        """Of rows with one value of the fold's ``once`` the first."""
        fold = self.shape.machine.fold
        if fold.once is None:
            return rows
        return self._unmet(rows, attrgetter(fold.once), fold.known)

    @staticmethod
    def _unmet(
        rows: Iterable[Row], value_of: Callable[[Any], bytes], known: Callable[[bytes], bool]
    ) -> Iterator[Row]:
        met: set[bytes] = set()
        for row in rows:
            value = value_of(row[1])
            if value not in met and not known(value):
                met.add(value)
                yield row
