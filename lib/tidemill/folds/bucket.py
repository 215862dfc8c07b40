"""One bucket of a fold's keys on a stream: the states and the waiting rows of many keys, as a few Arrow blobs.

Each call to the state store is a round trip between two processes, whatever it carries. So a bucket's states lie in
segments of some thousands of keys, its waiting rows in chunks by arrival, and a batch reads and writes the segments and
chunks that it touches. Inside a segment only the touched keys become Python values. Pure: cells are a protocol.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import groupby
from operator import itemgetter
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc

from tidemill.errors import StateError
from tidemill.folds.carry import NOTHING, Carry, Changed, check_row, difference, digest
from tidemill.folds.evolve import read_as
from tidemill.folds.head import Chunk, Head
from tidemill.folds.machine import Kept
from tidemill.folds.once import Once
from tidemill.folds.shape import HASH, KEY, Shape, columns, first_key, plain

_HEAD = "head"
_LAST, _WAKE = "_tidemill_last", "_tidemill_wake"
_STATE, _OF_KEY = "state.", "key."
_TOUCHED, _GIVEN = "_tidemill_touched", "_tidemill_given"
KEYS_A_SEGMENT = 4096
_MOST_CHUNKS = 16
_NOT_YET = -(2**62)
"""A moment before all others."""


class Cells(Protocol):
    """Where a bucket's blobs are kept, by name."""

    def get(self, name: str) -> bytes | None:
        """The blob, if it is there."""

    def put(self, name: str, blob: bytes) -> None:
        """Keep a blob."""

    def drop(self, name: str) -> None:
        """Forget a blob that is there."""


class Bucket:
    """A bucket in one batch: :meth:`advance`, once; then :attr:`head` is what the next batch finds."""

    def __init__(self, shape: Shape, cells: Cells) -> None:
        self._shape, self._cells = shape, cells
        self.changes: list[Changed] = []
        """States at ends of intervals that :meth:`advance` has passed, of a fold that carries them."""
        blob = cells.get(_HEAD)
        buckets = shape.machine.fold.buckets
        self.head = Head.loaded(blob) if blob is not None else Head(buckets)
        if self.head.buckets != buckets:
            raise StateError(
                f"fold {shape.machine.name}: the stream began with {self.head.buckets} buckets, and buckets is {buckets}",
                next_step=f"say buckets = {self.head.buckets}; another number needs a new table",
            )

    def advance(self, arrived: Sequence[pa.Table], watermark: int | None) -> list[tuple[Any, ...]]:
        """Take rows in, step what the watermark (epoch microseconds) has reached; gives what comes out.

        Rows at or before the moment up to which the bucket was stepped are late, and left out.
        """
        if self._shape.machine.fold.emit == "immediate":
            return self._at_once(arrived, watermark)
        fresh = self._taken_in(arrived)
        ready, waiting = self._parted(fresh, watermark)
        self._keep_waiting(waiting)
        carry = self._shape.carry
        if watermark is None:
            out = []
        elif carry is None:
            out = self._stepped(ready, watermark)
        else:
            out = self._through(carry, ready, watermark)
        if watermark is not None:
            self.head.stepped = max(watermark, self.head.stepped or watermark)
        return out

    def _at_once(self, arrived: Sequence[pa.Table], watermark: int | None) -> list[tuple[Any, ...]]:
        tables = [read_as(each, self._row_schema, {}, {}) for each in arrived]
        ready = self._first(pa.concat_tables([self._row_schema.empty_table(), *tables]))
        return self._stepped(ready, _NOT_YET if watermark is None else watermark)

    def _first(self, ready: pa.Table) -> pa.Table:
        fold = self._shape.machine.fold
        if fold.once is None:
            return ready
        ready = sorted_by(ready, (KEY, fold.time, *fold.order_by))
        first = Once(self._cells, self.head.met).first(ready.column(fold.once).to_pylist(), fold.known)
        return ready.filter(pa.array(first, pa.bool_()))

    def save(self) -> None:
        """Write the head: last, when the timer is known."""
        self._cells.put(_HEAD, self.head.dumped())

    @cached_property
    def _row_schema(self) -> pa.Schema:
        extra = [pa.field(KEY, pa.string()), pa.field(HASH, pa.int64())]
        return pa.schema([*extra, *self._shape.rows])

    def _taken_in(self, arrived: Sequence[pa.Table]) -> pa.Table:
        if not arrived:
            return self._row_schema.empty_table()
        table = pa.concat_tables([read_as(each, self._row_schema, {}, {}) for each in arrived])
        if self.head.stepped is None:
            return table
        return table.filter(pc.greater(self._times(table), self.head.stepped))

    def _times(self, table: pa.Table) -> pa.ChunkedArray:
        return table.column(self._shape.machine.fold.time).cast(pa.int64())

    def _parted(self, fresh: pa.Table, watermark: int | None) -> tuple[pa.Table, pa.Table]:
        """What is ready, and what of that which was in hand has to wait on."""
        if watermark is None:
            return self._row_schema.empty_table(), fresh
        tables, left = [fresh], []
        for chunk in self.head.chunks:
            if chunk.first <= watermark:
                tables.append(self._read_rows(self._chunk(chunk.number)))
                self._cells.drop(self._chunk(chunk.number))
            else:
                left.append(chunk)
        self.head.chunks = left
        table = pa.concat_tables(tables)
        reached = pc.less_equal(self._times(table), watermark)
        return table.filter(reached), table.filter(pc.invert(reached))

    def _keep_waiting(self, waiting: pa.Table) -> None:
        if len(self.head.chunks) >= _MOST_CHUNKS:
            # The small ones become one: a row is written again only as often as its chunk grows.
            self.head.chunks.sort(key=lambda chunk: chunk.rows)
            small, self.head.chunks = (
                self.head.chunks[: _MOST_CHUNKS // 2],
                self.head.chunks[_MOST_CHUNKS // 2 :],
            )
            waiting = pa.concat_tables(
                [waiting, *(self._read_rows(self._chunk(each.number)) for each in small)]
            )
            for each in small:
                self._cells.drop(self._chunk(each.number))
        if waiting.num_rows == 0:
            return
        span = pc.min_max(self._times(waiting)).as_py()
        number = self.head.next_chunk
        self.head.next_chunk += 1
        self.head.chunks.append(Chunk(number, span["min"], span["max"], waiting.num_rows))
        self._cells.put(self._chunk(number), blob_of(waiting))

    def _through(self, carry: Carry, ready: pa.Table, watermark: int) -> list[tuple[Any, ...]]:
        """Step rows interval by interval, and give the states at each end that the watermark has reached."""
        out: list[tuple[Any, ...]] = []
        while True:
            times = [wake for wake in self.head.wakes if wake is not None and wake <= watermark]
            if ready.num_rows:
                times.append(pc.min(self._times(ready)).as_py())
            if not times:
                break
            # A timer may be due in an interval that was given before: it runs in the one that is at hand.
            at = max(min(times), self.head.begun or min(times))
            start, end = carry.start_of(at), carry.end_of(carry.start_of(at))
            if self.head.ends is not None and start >= self.head.ends:
                self._give()
            here = pc.less(self._times(ready), end)
            fresh = self._stepped(ready.filter(here), min(watermark, end - 1))
            for row in fresh:
                check_row(self._shape.machine, row, self._shape.place, start, end)
            out += fresh
            ready = ready.filter(pc.invert(here))
            if self.head.touched:
                self.head.begun, self.head.ends = start, end
        if self.head.ends is not None and self.head.ends <= watermark:
            self._give()
        return out

    def _give(self) -> None:
        """The states that are others than at the end before; nothing is touched then."""
        fold, names = self._shape.machine.fold, self._shape.state.names
        zero, at = tuple(fold.zero()), self.head.begun or 0
        for number in self.head.touched:
            stored = self._segment(number)
            hit, after = stored.column(_TOUCHED), []
            for key, (hashed, kept) in self._kept(stored.filter(hit)).items():
                gone, before = self._shape.machine.idle(kept), kept.given or NOTHING
                now = NOTHING if gone else digest(key, names, kept.state, zero)
                if now != before:
                    self.changes.append(Changed(at, kept.key, kept.state, gone, difference(now, before)))
                if not gone:
                    kept.given = now
                    after.append((key, hashed, kept))
            quiet = self._table(after, touched=False)
            self._put_segment(number, pa.concat_tables([stored.filter(pc.invert(hit)), quiet]))
        self.head.begun = self.head.ends = None
        self.head.touched = []

    def _stepped(self, ready: pa.Table, watermark: int) -> list[tuple[Any, ...]]:
        due = {i for i, wake in enumerate(self.head.wakes) if wake is not None and wake <= watermark}
        segment = _segment(ready.column(HASH), self.head.segments)
        touched = due | set(pc.unique(segment).to_pylist())
        if not touched:
            return []
        fold = self._shape.machine.fold
        out: list[tuple[Any, ...]] = []
        for number in sorted(touched):
            rows = ready.filter(pc.equal(segment, number)) if self.head.segments > 1 else ready
            self._step_segment(number, sorted_by(rows, (KEY, fold.time, *fold.order_by)), watermark, out)
        self._split()
        return out

    def _step_segment(self, number: int, rows: pa.Table, watermark: int, out: list[tuple[Any, ...]]) -> None:
        machine = self._shape.machine
        stored = self._segment(number)
        hit = pc.or_(
            pc.is_in(stored.column(KEY), value_set=pc.unique(rows.column(KEY))),
            pc.less_equal(pc.fill_null(stored.column(_WAKE), watermark + 1), watermark),
        )
        known = self._kept(stored.filter(hit))
        carries = self._shape.carry is not None
        after: list[tuple[str, int, Kept]] = []
        hashes = dict(zip(plain(rows.column(KEY)), plain(rows.column(HASH)), strict=True))
        for key, group in groupby(self._shape.entries(rows), key=itemgetter(0)):
            mine = [row for _, row in group]
            kept = known.pop(key)[1] if key in known else first_key(self._shape, mine[0][2])
            out.extend(machine.run(kept, mine, watermark))
            # One that is idle is told of at the interval's end.
            if key is not None and (carries or not machine.idle(kept)):
                after.append((key, hashes[key], kept))
        for key, (hashed, kept) in known.items():
            out.extend(machine.run(kept, (), watermark))
            if carries or not machine.idle(kept):
                after.append((key, hashed, kept))
        self._put_segment(number, pa.concat_tables([stored.filter(pc.invert(hit)), self._table(after)]))
        if carries and after and number not in self.head.touched:
            self.head.touched.append(number)

    @cached_property
    def _states(self) -> pa.Schema:
        fold = self._shape.machine.fold
        return pa.schema(
            [
                pa.field(KEY, pa.string()),
                pa.field(HASH, pa.int64()),
                pa.field(_LAST, pa.int64()),
                pa.field(_WAKE, pa.int64()),
                *(pa.field(_OF_KEY + name, self._shape.rows.field(name).type) for name in fold.key),
                *(pa.field(_STATE + each.name, each.type) for each in self._shape.state),
                *([] if self._shape.carry is None else [(_TOUCHED, pa.bool_()), (_GIVEN, pa.binary(16))]),
            ]
        )

    def _kept(self, table: pa.Table) -> dict[str, tuple[int, Kept]]:
        parts = [plain(column) for column in table.columns]
        width = len(self._shape.machine.fold.key)
        keys: Iterable[tuple[Any, ...]] = zip(*parts[4 : 4 + width], strict=True)
        until = 4 + width + len(self._shape.state)
        states = map(self._shape.restore, zip(*parts[4 + width : until], strict=True))
        given = parts[-1] if self._shape.carry is not None else [None] * table.num_rows
        return {
            text: (hashed, Kept(key, state, last, wake, of_end))
            for text, hashed, last, wake, key, state, of_end in zip(
                *parts[:4], keys, states, given, strict=True
            )
        }

    def _table(self, kept: Sequence[tuple[str, int, Kept]], *, touched: bool = True) -> pa.Table:
        fold = self._shape.machine.fold
        if not kept:
            return self._states.empty_table()
        plain = [(text, hashed, each.last, each.wake, *each.key) for text, hashed, each in kept]
        first = pa.schema(list(self._states)[: 4 + len(fold.key)])
        arrays = columns(plain, first, f"fold {self._shape.machine.name}: key")
        states = [each.state for _, _, each in kept]
        arrays += columns(states, self._shape.state, f"fold {self._shape.machine.name}: state")
        if self._shape.carry is not None:
            digests = pa.array([each.given for _, _, each in kept], pa.binary(16))
            arrays += [pa.array([touched] * len(kept), pa.bool_()), digests]
        return pa.Table.from_arrays(arrays, schema=self._states)

    def _segment(self, number: int) -> pa.Table:
        blob = self._cells.get(f"s{number}")
        if blob is None:
            return self._states.empty_table()
        zero = zip(self._shape.state.names, self._shape.machine.fold.zero(), strict=True)
        defaults = {_STATE + name: value for name, value in zero}
        renamed = {_STATE + new: _STATE + old for new, old in self._shape.machine.fold.renamed.items()}
        return read_as(table_of(blob), self._states, defaults, renamed)

    def _put_segment(self, number: int, table: pa.Table) -> None:
        had = self.head.keys[number]
        self.head.keys[number] = table.num_rows
        self.head.wakes[number] = pc.min(table.column(_WAKE)).as_py()
        if table.num_rows:
            self._cells.put(f"s{number}", blob_of(table))
        elif had:
            self._cells.drop(f"s{number}")

    def _split(self) -> None:
        """More segments, where they have grown."""
        count = self.head.segments
        if sum(self.head.keys) <= KEYS_A_SEGMENT * count:
            return
        everything = pa.concat_tables([self._segment(number) for number in range(count)])
        while everything.num_rows > KEYS_A_SEGMENT * self.head.segments // 2:
            self.head.segments *= 2
        grown = self.head.segments
        self.head.keys += [0] * (grown - count)
        self.head.wakes += [None] * (grown - count)
        if self.head.touched:
            self.head.touched = list(range(grown))
        of = _segment(everything.column(HASH), grown)
        for number in range(grown):
            self._put_segment(number, everything.filter(pc.equal(of, number)))

    def _read_rows(self, name: str) -> pa.Table:
        blob = self._cells.get(name)
        if blob is None:
            raise StateError(f"fold {self._shape.machine.name}: {name} is not in the state store")
        return read_as(table_of(blob), self._row_schema, {}, {})

    @staticmethod
    def _chunk(number: int) -> str:
        return f"w{number}"


def _segment(hashes: pa.ChunkedArray, segments: int) -> pa.ChunkedArray:
    # Other bits of the hash than those that chose the bucket.
    return pc.bit_wise_and(pc.shift_right(hashes, 32), segments - 1)


def sorted_by(table: pa.Table, names: Sequence[str]) -> pa.Table:
    """Rows in ascending order, nulls first, as Spark sorts them for a batch."""
    keys, wide = [], table
    for name in names:
        if table.column(name).null_count:
            wide = wide.append_column(f"{name} is there", pc.is_valid(table.column(name)))
            keys.append((f"{name} is there", "ascending"))
        keys.append((name, "ascending"))
    return table.take(pc.sort_indices(wide, sort_keys=keys))


def blob_of(table: pa.Table | pa.RecordBatch) -> bytes:
    """A table as one blob, with its schema."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        if isinstance(table, pa.Table):
            table = table.combine_chunks()
        writer.write(table)
    return bytes(sink.getvalue().to_pybytes())


def table_of(blob: bytes) -> pa.Table:
    """A table from its blob."""
    return pa.ipc.open_stream(pa.py_buffer(blob)).read_all()
