"""Folds that never forget: what a bucket and a batch carry from interval to interval, against histories on a timetable."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from functools import reduce
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyspark import cloudpickle

from tests.folds.histories import (
    BEGIN,
    MINUTE,
    Endless,
    Event,
    Out,
    State,
    expected_endless,
    histories,
    small_parts,
    states_before,
)
from tests.unit.test_folds import KEYS, OUTPUT, ROWS, STATE, Cells, table
from tidemill.errors import TransformError
from tidemill.folds.bucket import Bucket, sorted_by
from tidemill.folds.carried import CarriedBatch
from tidemill.folds.carry import NOTHING, START, Carry, difference, joined
from tidemill.folds.carry import STATE as CARRIED
from tidemill.folds.definition import Fold
from tidemill.folds.machine import microseconds
from tidemill.folds.shape import HASH, KEY, Shape
from tidemill.intervals import Grain

HOUR = timedelta(hours=1)
END = BEGIN + 900 * MINUTE
"""Every row and every timer is before."""


def shape_of(
    since: datetime | None = None, until: datetime | None = None, fold: Fold[Any] | None = None
) -> Shape:
    first, last = (None if each is None else microseconds(each) for each in (since, until))
    carry = Carry("hour", "at", first, last)
    return Shape(cloudpickle.dumps(fold or Endless()), ROWS, STATE, OUTPUT, None, timed=True, carry=carry)


class Seen:
    """What came out, and the states that were given."""

    def __init__(self) -> None:
        self.rows: Counter[Out] = Counter()
        self.given: dict[datetime, dict[str, State | None]] = {}
        self.differences: dict[datetime, bytes] = {}

    def take(self, batches: Iterable[pa.RecordBatch]) -> None:
        for batch in batches:
            for row in batch.to_pylist():
                carried = row.pop(CARRIED)
                if carried is None:
                    self.rows[tuple(row.values())] += 1
                    continue
                at = carried["at"].astimezone(UTC)
                mine = self.given.setdefault(at, {})
                assert carried["key"]["key"] not in mine, "given twice"
                mine[carried["key"]["key"]] = None if carried["gone"] else State(**carried["state"])
                now = joined(carried["first"], carried["second"])
                self.differences[at] = difference(self.differences.get(at, NOTHING), now)

    def states(self, moment: datetime, known: dict[str, State] | None = None) -> dict[str, State]:
        """Each key's newest state at or before an interval's end."""
        found: dict[str, State | None] = dict(known or {})
        for at in sorted(self.given):
            if at < moment:
                found |= self.given[at]
        return {key: state for key, state in found.items() if state is not None}

    def digest(self, moment: datetime) -> bytes:
        return reduce(difference, (each for at, each in self.differences.items() if at < moment), NOTHING)


def whole_hours(start: datetime, end: datetime) -> list[datetime]:
    return [start + n * HOUR for n in range(1, (end - start) // HOUR + 1)]


def batch(
    events: list[Event], since: datetime, until: datetime, states: dict[str, State] | None, size: int
) -> Seen:
    rows = table([e for e in events if e.moment < until and (states is None or e.moment >= since)])
    kind = pa.struct(list(STATE))
    rows = rows.append_column(START, pa.nulls(rows.num_rows, kind))
    if states:
        keys, values = list(states), [state._asdict() for state in states.values()]
        columns = {name: pa.nulls(len(keys), rows.schema.field(name).type) for name in rows.schema.names}
        columns |= {
            "key": pa.array(keys),
            KEY: pa.array(keys),
            HASH: pa.array([hash(k) for k in keys], pa.int64()),
        }
        columns |= {START: pa.array(values, kind)}
        rows = pa.concat_tables([rows, pa.table(columns)])
    found = Seen()
    whole = sorted_by(
        rows.drop_columns([START]).append_column("n", pa.array(range(rows.num_rows), pa.int64())),
        (KEY, "at", "seq"),
    )
    ordered = rows.take(whole.column("n"))
    found.take(CarriedBatch(shape_of(since, until))(iter(ordered.to_batches(max_chunksize=size))))
    return found


@settings(deadline=None, max_examples=80)
@given(histories(KEYS, most=40), st.integers(0, 10), st.integers(1, 7))
def test_batches_from_state_to_state_are_one_fold_over_all(events: list[Event], hours: int, size: int):
    """All there was before the first batch is in its states; the second goes on from them."""
    first, middle = BEGIN + HOUR, BEGIN + (1 + hours) * HOUR
    last = Grain.HOUR.after(END)
    one = batch(events, first, max(middle, first + HOUR), None, size)
    middle = max(middle, first + HOUR)
    for end in whole_hours(first, middle):
        assert one.states(end) == states_before(events, end)
    two = batch(events, middle, last, one.states(middle), size)
    for end in whole_hours(middle, last):
        assert two.states(end, one.states(middle)) == states_before(events, end)
    wanted = expected_endless(events) - expected_endless(events, first - MINUTE / 60_000_000)
    assert one.rows + two.rows == wanted
    # However they were come to, equal states have one digest.
    at_once = batch(events, BEGIN, last, None, size)
    assert at_once.digest(middle) == one.digest(middle)
    assert at_once.digest(last) == difference(one.digest(last), two.digest(last))
    if states_before(events, middle) != states_before(events, last):
        assert at_once.digest(middle) != at_once.digest(last)


@settings(deadline=None, max_examples=80)
@given(histories(KEYS, most=40), st.data())
def test_a_bucket_gives_each_interval_s_states_when_the_watermark_has_reached_its_end(
    events: list[Event], data: Any
):
    shape, cells, found = shape_of(), Cells(), Seen()
    waiting = data.draw(st.permutations(events), label="arrival")
    before = BEGIN - MINUTE
    with pytest.MonkeyPatch.context() as patch:
        small_parts(patch, data)
        for last in (False, True):
            while waiting or last:
                size = data.draw(st.integers(0, len(waiting)), label="a batch")
                fresh, waiting = waiting[:size], waiting[size:]
                safe = min((event.moment for event in waiting), default=END) - MINUTE
                # An end of an interval, too: the row at it belongs to the next.
                choices = [before, max(before, safe), max(before, Grain.HOUR.floor(safe))]
                before = END + HOUR if last else data.draw(st.sampled_from(choices), label="watermark")
                known = before if before >= BEGIN else None
                bucket = Bucket(shape, cells)
                wake = bucket.head.next_wake()
                rows = bucket.advance(
                    [table(fresh)] if fresh else [], None if known is None else microseconds(known)
                )
                bucket.save()
                found.take([shape.made(rows), shape.given(bucket.changes)])
                if known is None:
                    continue
                if bucket.changes and not fresh:
                    assert wake is not None, "the bucket asked to be called"
                    assert wake <= microseconds(known)
                here = [event for event in events if event not in waiting]
                assert found.rows == expected_endless(here, known)
                assert all(at + HOUR <= known for at in found.given)
                for end in whole_hours(BEGIN, known):
                    assert found.states(end) == states_before(here, end)
                if last:
                    break
            if last:
                break
    assert found.digest(END) == batch(events, BEGIN, Grain.HOUR.after(END), None, 3).digest(END)
    assert Bucket(shape, cells).head.next_wake() is None


class Elsewhere(Endless):
    def step(self, state: State, row: Any) -> Any:
        return state, [(row.key, row.at + HOUR, "row", 0, 0)]


def test_a_row_of_another_interval_than_is_stepped_is_refused():
    shape = shape_of(fold=Elsewhere())
    with pytest.raises(TransformError, match="gave a row of 2024-02-28T01:05:00"):
        Bucket(shape, Cells()).advance([table([Event("a", 5, 0, 1)])], microseconds(END))
