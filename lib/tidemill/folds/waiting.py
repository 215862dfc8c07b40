"""The rows of a bucket that wait for the watermark: in chunks by arrival, of which a batch reads those that are ready."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import pyarrow as pa
import pyarrow.compute as pc

from tidemill.folds.cells import Held, blob_of, table_of
from tidemill.folds.evolve import read_as
from tidemill.folds.head import Chunk, Head
from tidemill.folds.shape import HASH, KEY, Shape

MOST_CHUNKS = 16


class Waiting:
    """A bucket's waiting rows; where they lie stands in its head."""

    def __init__(self, shape: Shape, held: Held, head: Head) -> None:
        self._shape, self._held, self._head = shape, held, head

    @cached_property
    def schema(self) -> pa.Schema:
        """The columns of a row on its way."""
        extra = [pa.field(KEY, pa.string()), pa.field(HASH, pa.int64())]
        return pa.schema([*extra, *self._shape.rows])

    def joined(self, arrived: Sequence[pa.Table]) -> pa.Table:
        """What has come, as one table."""
        return pa.concat_tables(
            [self.schema.empty_table(), *(read_as(each, self.schema, {}, {}) for each in arrived)]
        )

    def in_time(self, arrived: Sequence[pa.Table]) -> pa.Table:
        """What has come, without what is late."""
        table = self.joined(arrived)
        if self._head.stepped is None:
            return table
        return table.filter(pc.greater(self.times(table), self._head.stepped))

    def times(self, table: pa.Table) -> pa.ChunkedArray:
        """The rows' times, in epoch microseconds."""
        return table.column(self._shape.machine.fold.time).cast(pa.int64())

    def parted(self, fresh: pa.Table, watermark: int | None) -> tuple[pa.Table, pa.Table]:
        """What is ready, and what of that which was in hand has to wait on."""
        if watermark is None:
            return self.schema.empty_table(), fresh
        tables, left = [fresh], []
        for chunk in self._head.chunks:
            if chunk.first <= watermark:
                tables.append(self._taken(chunk))
            else:
                left.append(chunk)
        self._head.chunks = left
        table = pa.concat_tables(tables)
        reached = pc.less_equal(self.times(table), watermark)
        return table.filter(reached), table.filter(pc.invert(reached))

    def keep(self, rows: pa.Table) -> None:
        """Have rows wait."""
        head = self._head
        if len(head.chunks) >= MOST_CHUNKS:
            # The small ones become one: a row is written again only as often as its chunk grows.
            head.chunks.sort(key=lambda chunk: chunk.rows)
            small, head.chunks = head.chunks[: MOST_CHUNKS // 2], head.chunks[MOST_CHUNKS // 2 :]
            rows = pa.concat_tables([rows, *map(self._taken, small)])
        if rows.num_rows == 0:
            return
        span = pc.min_max(self.times(rows)).as_py()
        chunk = Chunk(head.next_chunk, span["min"], span["max"], rows.num_rows)
        head.next_chunk += 1
        head.chunks.append(chunk)
        self._held.put(_name(chunk), blob_of(rows))

    def _taken(self, chunk: Chunk) -> pa.Table:
        blob = self._held.get(_name(chunk))
        if blob is None:
            raise self._held.damaged(f"{_name(chunk)} is not there")
        self._held.drop(_name(chunk))
        return read_as(table_of(blob), self.schema, {}, {})


def _name(chunk: Chunk) -> str:
    return f"w{chunk.number}"
