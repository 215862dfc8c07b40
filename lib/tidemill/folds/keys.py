"""The keys of a bucket: in segments by hash, and those that changed lately apart from them.

A batch touches few keys of many segments. To write all of these anew would cost by how many keys there are; so what has changed
is written to one small blob, and each batch as many segments take their own back from it as keep it small. A key that lies
there is the one that counts, whatever its segment says of it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import cached_property

import pyarrow as pa
import pyarrow.compute as pc

from tidemill.folds.cells import Held, blob_of, table_of
from tidemill.folds.evolve import read_as
from tidemill.folds.head import Head
from tidemill.folds.segments import OF_STATE, WAKE, Entry, columns_of_kept, kept_in, table_of_kept
from tidemill.folds.shape import HASH, KEY, Shape

KEYS_A_SEGMENT = 4096
SHARE = 8
"""Of all keys, at most one in so many lies apart from its segment."""
_BITS = 32
"""Segments go by other bits of the hash than buckets."""
RECENT = "recent"


class Keys:
    """A bucket's keys; how many, and when the first of them is to be woken, stands in its head."""

    def __init__(self, shape: Shape, held: Held, head: Head) -> None:
        self._shape, self._held, self._head = shape, held, head

    @cached_property
    def _schema(self) -> pa.Schema:
        return columns_of_kept(self._shape)

    @cached_property
    def _recent(self) -> dict[int, pa.Table]:
        """Keys that changed lately, by segment."""
        blob = self._held.get(RECENT)
        return {} if blob is None else self._by_segment(self.as_now(table_of(blob)))

    def as_now(self, stored: pa.Table) -> pa.Table:
        """Stored keys, with the fields that states have today."""
        zero = zip(self._shape.state.names, self._shape.machine.fold.zero(), strict=True)
        defaults = {OF_STATE + name: value for name, value in zero}
        renamed = {OF_STATE + new: OF_STATE + old for new, old in self._shape.machine.fold.renamed.items()}
        return read_as(stored, self._schema, defaults, renamed)

    def begin(self, keys: Sequence[pa.Table]) -> pa.Table:
        """Hold these keys, and no others; gives them."""
        found = pa.concat_tables([self._schema.empty_table(), *map(self.as_now, keys)])
        self.put(0, found)
        self._split()
        return found

    def segments_of(self, rows: pa.Table) -> pa.ChunkedArray:
        """In which segments the keys of rows lie."""
        return _segment(rows.column(HASH), self._head.segments)

    def found(self, rows: pa.Table, watermark: int) -> pa.Table:
        """The keys that rows are of, and those that are due."""
        wanted = pc.unique(rows.column(KEY))
        numbers = sorted(self._due(watermark) | set(pc.unique(self.segments_of(rows)).to_pylist()))
        recent = self._together(self._recent.values())
        base = _hit(self._together(map(self._segment, numbers)), wanted, watermark)
        return pa.concat_tables([_without(base, recent), _hit(recent, wanted, watermark)])

    def change(self, before: pa.Table, after: Sequence[Entry], watermark: int) -> None:
        """Hold ``after`` in place of what was :meth:`found`."""
        now = table_of_kept(self._shape, after)
        gone = _without(before, now)
        recent = pa.concat_tables([_without(self._together(self._recent.values()), before), now])
        self._recent = self._by_segment(recent)
        for number in sorted(self._due(watermark) | set(self.segments_of(gone).to_pylist())):
            self.put(number, _without(self.whole(number), gone))
        self._settle()
        self._split()

    def _due(self, watermark: int) -> set[int]:
        """The segments with keys that are to be woken."""
        return {n for n, wake in enumerate(self._head.wakes) if wake is not None and wake <= watermark}

    def whole(self, number: int) -> pa.Table:
        """A segment's keys, as they count."""
        mine = self._recent.get(number)
        base = self._segment(number)
        return base if mine is None else pa.concat_tables([_without(base, mine), mine])

    def put(self, number: int, table: pa.Table) -> None:
        """Write a segment; what of it lay apart is dropped."""
        self._recent.pop(number, None)
        self._head.keys[number] = table.num_rows
        self._head.wakes[number] = pc.min(table.column(WAKE)).as_py()
        if table.num_rows:
            self._held.put(f"s{number}", blob_of(table))
        else:
            self._held.drop(f"s{number}")

    def wake_anew(self) -> None:
        """Have each key say again when it is to be woken: another code says so of the same state."""
        for number in range(self._head.segments):
            table = self.whole(number)
            wakes = [self._shape.machine.woken(kept).wake for _, kept in kept_in(self._shape, table).values()]
            place = table.schema.get_field_index(WAKE)
            self.put(number, table.set_column(place, table.schema.field(place), pa.array(wakes, pa.int64())))
        self.tell()

    def save(self) -> None:
        """Write what lies apart from its segments."""
        if "_recent" not in self.__dict__:
            return  # nobody has asked for it
        table = self._together(self._recent.values())
        if table.num_rows:
            self._held.put(RECENT, blob_of(table))
        else:
            self._held.drop(RECENT)

    def numbers(self, keys: Sequence[Entry]) -> set[int]:
        """In which segments keys lie."""
        return {hashed >> _BITS & (self._head.segments - 1) for _, hashed, _ in keys}

    def tell(self) -> None:
        """Have the head say when what lies apart is to be woken."""
        wakes = [pc.min(table.column(WAKE)).as_py() for table in self._recent.values()]
        self._head.recent_wake = min((wake for wake in wakes if wake is not None), default=None)

    def _settle(self) -> None:
        """Have as many segments take their own back as keep what lies apart small."""
        head, count = self._head, self._head.segments
        most = sum(head.keys) // SHARE if count > 1 else 0
        apart = sum(table.num_rows for table in self._recent.values())
        if apart > most:
            for number in range(head.merged, head.merged + -(-count * (apart - most) // apart)):
                if number % count in self._recent:
                    self.put(number % count, self.whole(number % count))
                head.merged = (number + 1) % count
        self.tell()

    def _split(self) -> None:
        """More segments, where they have grown."""
        head, count = self._head, self._head.segments
        if sum(head.keys) <= KEYS_A_SEGMENT * count:
            return
        everything = self._together([self.whole(number) for number in range(count)])
        while everything.num_rows > KEYS_A_SEGMENT * head.segments // 2:
            head.segments *= 2
        head.keys = [0] * head.segments
        head.wakes = [None] * head.segments
        head.recent_wake, head.merged = None, 0
        if head.touched:
            head.touched = list(range(head.segments))
        parts, self._recent = self._by_segment(everything), {}
        for number in range(head.segments):
            self.put(number, parts.get(number, self._schema.empty_table()))

    def _segment(self, number: int) -> pa.Table:
        blob = self._held.get(f"s{number}")
        return self._schema.empty_table() if blob is None else self.as_now(table_of(blob))

    def _together(self, tables: Collection[pa.Table] | map[pa.Table]) -> pa.Table:
        return pa.concat_tables([self._schema.empty_table(), *tables])

    def _by_segment(self, keys: pa.Table) -> dict[int, pa.Table]:
        if keys.num_rows == 0:
            return {}
        of = self.segments_of(keys).combine_chunks()
        order = pc.sort_indices(of)
        ends = pc.run_end_encode(of.take(order))
        table, found, start = keys.take(order), {}, 0
        for number, end in zip(ends.values.to_pylist(), ends.run_ends.to_pylist(), strict=True):
            found[number] = table.slice(start, end - start)
            start = end
        return found


def _segment(hashes: pa.ChunkedArray, segments: int) -> pa.ChunkedArray:
    return pc.bit_wise_and(pc.shift_right(hashes, _BITS), segments - 1)


def _hit(keys: pa.Table, wanted: pa.Array, watermark: int) -> pa.Table:
    """Those that are wanted or due."""
    due = pc.less_equal(pc.fill_null(keys.column(WAKE), watermark + 1), watermark)
    return keys.filter(pc.or_(pc.is_in(keys.column(KEY), value_set=wanted), due))


def _without(keys: pa.Table, others: pa.Table) -> pa.Table:
    """Those that are not among the others."""
    if keys.num_rows == 0 or others.num_rows == 0:
        return keys
    return keys.filter(pc.invert(pc.is_in(keys.column(KEY), value_set=others.column(KEY).combine_chunks())))
