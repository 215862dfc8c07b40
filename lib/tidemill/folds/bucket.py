"""One bucket of a fold's keys on a stream: what a batch does with the states and the waiting rows of many keys.

They lie in a few Arrow blobs, see :mod:`.cells`, :mod:`.keys` and :mod:`.waiting`; only the keys that a batch touches become Python
values. Pure: cells are a protocol.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tidemill.errors import StateError
from tidemill.folds.carry import NOTHING, Carry, Changed, check_row, difference, digest
from tidemill.folds.cells import Cells, Held
from tidemill.folds.head import Head
from tidemill.folds.keys import Keys
from tidemill.folds.once import Once
from tidemill.folds.planting import Planting
from tidemill.folds.segments import TOUCHED, Entry, kept_in, table_of_kept
from tidemill.folds.shape import HASH, KEY, Shape, first_key, plain
from tidemill.folds.waiting import Waiting

_NOT_YET = -(2**62)
"""A moment before all others."""


class Bucket:
    """A bucket in one batch: :meth:`advance`, once; then :attr:`head` is what the next batch finds."""

    def __init__(self, shape: Shape, cells: Cells) -> None:
        self._shape, self._cells = shape, cells
        self._held = Held(cells, f"fold {shape.machine.name}")
        self.changes: list[Changed] = []
        """States at ends of intervals that :meth:`advance` has passed, of a fold that carries them."""
        buckets = shape.machine.fold.buckets
        self._over(Head(buckets) if self._held.head is None else Head.loaded(self._held.head))

    def _over(self, head: Head) -> None:
        self.head = head
        self._keys = Keys(self._shape, self._held, head)
        self._waiting = Waiting(self._shape, self._held, head)

    def advance(self, arrived: Sequence[pa.Table], watermark: int | None) -> list[tuple[Any, ...]]:
        """Take rows in, step what the watermark (epoch microseconds) has reached; gives what comes out.

        Rows at or before the moment up to which the bucket was stepped are late, and left out. Raises :class:`StateError`
        where keys were spread over another number of buckets.
        """
        buckets = self._shape.machine.fold.buckets
        if self.head.buckets != buckets:
            raise StateError(
                f"fold {self._shape.machine.name}: the stream began with {self.head.buckets} buckets, and buckets is {buckets}",
                next_step=f"say buckets = {self.head.buckets}; or have the stream begin anew: tidemill restart",
            )
        if self.head.code not in (None, self._shape.code):
            self._keys.wake_anew()
        self.head.code = self._shape.code
        if self._shape.machine.fold.emit == "immediate":
            ready = self._first(self._waiting.joined(arrived))
            return self._stepped(ready, _NOT_YET if watermark is None else watermark)
        fresh = self._waiting.in_time(arrived)
        ready, waiting = self._waiting.parted(fresh, watermark)
        self._waiting.keep(waiting)
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

    def plant(self, states: Sequence[pa.Table], waiting: Sequence[pa.Table], planting: Planting) -> None:
        """Begin anew: with these keys, and these rows that wait; whatever was there goes. Before :meth:`advance`."""
        self._held.clear()
        # What was asked of Spark's timers is known by this alone.
        self._over(Head(self._shape.machine.fold.buckets, stepped=planting.reached, timer=self.head.timer))
        kept, carry = self._keys.begin(states), self._shape.carry
        if carry is not None and pc.any(kept.column(TOUCHED)).as_py():
            self.head.begun = carry.start_of(planting.reached)
            self.head.ends = carry.end_of(self.head.begun)
            self.head.touched = list(range(self.head.segments))
        self._waiting.keep(self._waiting.in_time(waiting))

    def _first(self, ready: pa.Table) -> pa.Table:
        fold = self._shape.machine.fold
        if fold.once is None:
            return ready
        ready = sorted_by(ready, (KEY, fold.time, *fold.order_by))
        first = Once(self._cells, self.head.met).first(ready.column(fold.once).to_pylist(), fold.known)
        return ready.filter(pa.array(first, pa.bool_()))

    def save(self) -> None:
        """Write the head: last, when the timer is known."""
        self._keys.save()
        self._held.save(self.head.dumped())

    def _through(self, carry: Carry, ready: pa.Table, watermark: int) -> list[tuple[Any, ...]]:
        """Step rows interval by interval, and give the states at each end that the watermark has reached."""
        out: list[tuple[Any, ...]] = []
        while True:
            due = self.head.due()
            times = [due] if due is not None and due <= watermark else []
            if ready.num_rows:
                times.append(pc.min(self._waiting.times(ready)).as_py())
            if not times:
                break
            # A timer may be due in an interval that was given before: it runs in the one that is at hand.
            at = max(min(times), self.head.begun or min(times))
            start, end = carry.start_of(at), carry.end_of(carry.start_of(at))
            if self.head.ends is not None and start >= self.head.ends:
                self._give()
            here = pc.less(self._waiting.times(ready), end)
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
            stored = self._keys.whole(number)
            # Null: of keys from when the fold had a horizon, and gave no states.
            hit, after = pc.fill_null(stored.column(TOUCHED), False), []
            for key, (hashed, kept) in kept_in(self._shape, stored.filter(hit)).items():
                gone, before = self._shape.machine.idle(kept), kept.given or NOTHING
                now = NOTHING if gone else digest(key, names, kept.state, zero)
                if now != before:
                    self.changes.append(Changed(at, kept.key, kept.state, gone, difference(now, before)))
                if not gone:
                    kept.given = now
                    after.append((key, hashed, kept))
            quiet = table_of_kept(self._shape, after, touched=False)
            self._keys.put(number, pa.concat_tables([stored.filter(pc.invert(hit)), quiet]))
        self._keys.tell()
        self.head.begun = self.head.ends = None
        self.head.touched = []

    def _stepped(self, ready: pa.Table, watermark: int) -> list[tuple[Any, ...]]:
        due = self.head.due()
        if ready.num_rows == 0 and (due is None or due > watermark):
            return []
        machine, out = self._shape.machine, list[tuple[Any, ...]]()
        rows = sorted_by(ready, (KEY, machine.fold.time, *machine.fold.order_by))
        before = self._keys.found(rows, watermark)
        known = kept_in(self._shape, before)
        carries = self._shape.carry is not None
        after: list[Entry] = []
        hashes = dict(zip(plain(rows.column(KEY)), plain(rows.column(HASH)), strict=True))
        for key, group in groupby(self._shape.entries(rows), key=itemgetter(0)):
            mine = [row for _, row in group]
            kept = known.pop(key)[1] if key in known else first_key(self._shape, mine[0][1])
            out.extend(machine.run(kept, mine, watermark))
            # One that is idle is told of at the interval's end.
            if key is not None and (carries or not machine.idle(kept)):
                after.append((key, hashes[key], kept))
        for key, (hashed, kept) in known.items():
            out.extend(machine.run(kept, (), watermark))
            if carries or not machine.idle(kept):
                after.append((key, hashed, kept))
        if carries:
            self.head.touched = sorted({*self.head.touched, *self._keys.numbers(after)})
        self._keys.change(before, after, watermark)
        return out


def sorted_by(table: pa.Table, names: Sequence[str]) -> pa.Table:
    """Rows in ascending order, nulls first, as Spark sorts them for a batch."""
    keys, wide = [], table
    for name in names:
        if table.column(name).null_count:
            wide = wide.append_column(f"{name} is there", pc.is_valid(table.column(name)))
            keys.append((f"{name} is there", "ascending"))
        keys.append((name, "ascending"))
    return table.take(pc.sort_indices(wide, sort_keys=keys))
