"""A batch of a fold that carries its states: from those at an interval's beginning, through intervals, to those at their ends.

As :mod:`tidemill.folds.batch`, key by key; a key's first row may be the state that it begins with.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, groupby
from operator import itemgetter
from typing import Any

import pyarrow as pa

from tidemill.folds.carry import NOTHING, START, Carry, Changed, check_row, difference, digest, state_of
from tidemill.folds.garbage import seldom_collected
from tidemill.folds.machine import Kept, Row
from tidemill.folds.shape import Shape, columns, first_key, plain

_AT_ONCE = 8192
Entry = tuple[str | None, Row | None, tuple[Any, ...] | None]
"""A key as text; a row of it, or its key's values and the state that it begins with."""


def entries_of(shape: Shape, batch: pa.RecordBatch) -> Iterator[Entry]:
    """Rows and states, as they lie in a batch."""
    rows = shape.entries(batch)
    if START not in batch.schema.names or batch.column(START).null_count == batch.num_rows:
        yield from ((text, row, None) for text, row in rows)
        return
    starts = batch.column(START)
    states = map(shape.restore, zip(*map(plain, starts.flatten()), strict=True))
    keys = zip(*(plain(batch.column(name)) for name in shape.machine.fold.key), strict=True)
    there = starts.is_valid().to_pylist()
    for (text, row), start, key, state in zip(rows, there, keys, states, strict=True):
        yield (text, None, (key, state)) if start else (text, row, None)


@dataclass(frozen=True, slots=True)
class _End:
    """A key at an interval's end; ``at`` is None for how it began."""

    text: str
    at: int | None
    key: tuple[Any, ...]
    state: Any
    gone: bool


@dataclass(frozen=True)
class CarriedBatch:
    """What a task does with its part of the keys."""

    shape: Shape

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Sorted rows in, states first; the fold's rows out, and its states at interval ends."""
        with seldom_collected():
            yield from self._made(batches)

    def _made(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        rows: list[tuple[Any, ...]] = []
        ends: list[_End] = []
        last: tuple[str, bytes] | None = None
        for each in self._all(batches):
            if isinstance(each, _End):
                ends.append(each)
                if len(ends) == _AT_ONCE:
                    changes, last = self._changes(ends, last)
                    yield self.shape.given(changes)
                    ends = []
            else:
                rows.append(each)
                if len(rows) == _AT_ONCE:
                    yield self.shape.made(rows)
                    rows = []
        if rows:
            yield self.shape.made(rows)
        if ends:
            yield self.shape.given(self._changes(ends, last)[0])

    def _all(self, batches: Iterator[pa.RecordBatch]) -> Iterator[_End | tuple[Any, ...]]:
        entries = chain.from_iterable(entries_of(self.shape, batch) for batch in batches)
        for text, group in groupby(entries, key=itemgetter(0)):
            first = next(group)
            if first[1] is not None:
                kept = first_key(self.shape, first[1][1])
                group = chain([first], group)  # noqa: PLW2901
            else:
                assert first[2] is not None and text is not None  # noqa: PT018, S101  a state brings its key
                key, state = first[2]
                kept = state_of(self.shape.machine, key, state)
                yield _End(text, None, key, state, gone=False)
            yield from _Key(self.shape, text, kept).through(row for _, row, _ in group if row is not None)

    def _changes(
        self, ends: list[_End], last: tuple[str, bytes] | None
    ) -> tuple[list[Changed], tuple[str, bytes] | None]:
        """Those of the ends at which a state is another than before; ``last``: a key and its digest before these."""
        fold, schema = self.shape.machine.fold, self.shape.state
        # As they come back from a store: what tells two states apart must not depend on where they have been.
        arrays = columns(
            [tuple(each.state) for each in ends], schema, f"fold {self.shape.machine.name}: state"
        )
        states, zero = zip(*map(plain, arrays), strict=True), tuple(fold.zero())
        found = []
        for each, state in zip(ends, states, strict=True):
            now = NOTHING if each.gone else digest(each.text, schema.names, state, zero)
            before = last[1] if last is not None and last[0] == each.text else NOTHING
            if each.at is not None and now != before:
                found.append(Changed(each.at, each.key, each.state, each.gone, difference(now, before)))
            last = each.text, now
        return found, last


class _Key:
    """One key on its way through intervals."""

    def __init__(self, shape: Shape, text: str | None, kept: Kept) -> None:
        assert shape.carry is not None  # noqa: S101  else it is FoldedBatch's
        assert shape.carry.since is not None  # noqa: S101  a batch's
        assert shape.carry.until is not None  # noqa: S101  a batch's
        self._machine, self._place, self._text, self._kept = shape.machine, shape.place, text, kept
        self._carry: Carry = shape.carry
        self._at, self._until = shape.carry.since, shape.carry.until
        self._end = self._carry.end_of(self._at)

    def through(self, rows: Iterable[Row]) -> Iterator[_End | tuple[Any, ...]]:
        """What comes out of rows, in order, and how the key is at the ends of the intervals in which it was touched.

        The last may be cut short, by ``until``: then that is how the key is there.
        """
        since, owed = self._at, False
        # A group is used up before the next one begins.
        for start, group in groupby(rows, key=lambda row: self._start(row[0])):
            if start < since:
                # What was before gives its rows in other batches; the first interval's end tells of it.
                for _ in self._machine.run(self._kept, group, since - 1):
                    pass
                owed = True
                continue
            if owed and start > since:
                yield from self._stepped(since, ())
            owed = False
            yield from self._timers(start)
            yield from self._stepped(start, group)
        if owed:
            yield from self._stepped(since, ())
        yield from self._timers(self._until)

    def _start(self, time: int) -> int:
        if not self._at <= time < self._end:
            # What lies before the first interval is one group.
            since = self._carry.since or 0
            if time < since:
                return since - 1
            self._at = self._carry.start_of(time)
            self._end = self._carry.end_of(self._at)
        return self._at

    def _timers(self, before: int) -> Iterator[_End | tuple[Any, ...]]:
        while self._kept.wake is not None and self._kept.wake < before:
            since = self._carry.since or 0
            yield from self._stepped(self._carry.start_of(max(self._kept.wake, since)), ())

    def _stepped(self, start: int, rows: Iterable[Row]) -> Iterator[_End | tuple[Any, ...]]:
        end = self._carry.end_of(start)
        for row in self._machine.run(self._kept, rows, min(end, self._until) - 1):
            check_row(self._machine, row, self._place, start, end)
            yield row
        if self._text is not None and None not in self._kept.key:
            kept = self._kept
            yield _End(self._text, start, kept.key, kept.state, self._machine.idle(kept))
