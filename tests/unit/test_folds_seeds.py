"""What a stream begins anew with: whatever its buckets held, they go on as if they had seen all there was."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.folds.histories import (
    BEGIN,
    HORIZON,
    MINUTE,
    Endless,
    Event,
    Ladder,
    State,
    expected,
    expected_endless,
    histories,
    small_parts,
    states_before,
)
from tests.unit import test_folds
from tests.unit.test_folds import KEYS, STATE, Cells, table
from tests.unit.test_folds_carried import END, HOUR, Seen, batch, shape_of, whole_hours
from tidemill.errors import StateError
from tidemill.folds.bucket import Bucket, sorted_by
from tidemill.folds.carry import START, difference
from tidemill.folds.cells import blob_of, table_of
from tidemill.folds.machine import microseconds
from tidemill.folds.planting import Planting
from tidemill.folds.seeds import STATES, WHOLE, Sown, close, missing, of_bucket
from tidemill.folds.shape import BUCKET, HASH, KEY, ROWS, Shape
from tidemill.intervals import Grain


class Before(Endless):
    """Other code, whose states nothing of today's can read, in more buckets."""

    buckets = Endless.buckets + 3

    def zero(self) -> Any:
        return ("",)

    def step(self, state: Any, row: Any) -> Any:
        return (f"{state[0]} {row.value}",), []

    def due(self, state: Any) -> Any:
        del state


def sown(shape: Shape, events: list[Event], states: dict[str, State], reached: int) -> list[pa.Table]:
    """The states that a batch makes of rows, from those that keys begin with."""
    rows = table(events)
    kind = pa.struct(list(STATE))
    rows = rows.append_column(START, pa.nulls(rows.num_rows, kind))
    keys = list(states)
    columns = {name: pa.nulls(len(keys), rows.schema.field(name).type) for name in rows.schema.names}
    columns |= {"key": pa.array(keys, pa.string()), KEY: pa.array(keys, pa.string())}
    columns |= {HASH: pa.array([hash(key) for key in keys], pa.int64())}
    columns |= {START: pa.array([state._asdict() for state in states.values()], kind)}
    both = pa.concat_tables([rows, pa.table(columns)])
    numbered = both.drop_columns([START]).append_column("n", pa.array(range(both.num_rows), pa.int64()))
    ordered = both.take(sorted_by(numbered, (KEY, "at", "seq")).column("n"))
    made = Sown(shape, reached)(iter(ordered.to_batches(max_chunksize=3)))
    return [table_of(blob) for batch in made for blob in batch.column(1).to_pylist()]


def cut(events: list[Event], reached: datetime, data: Any) -> tuple[list[Event], list[Event]]:
    """Events that a stream has read when it stops, all up to a moment among them, and those that are still to come."""
    seen: list[Event] = []
    later: list[Event] = []
    for event in events:
        before = event.moment <= reached or data.draw(st.booleans(), label="came before")
        (seen if before else later).append(event)
    return seen, later


@settings(deadline=None, max_examples=80)
@given(histories(KEYS, most=40), st.integers(0, 10), st.integers(0, 59), st.data())
def test_buckets_that_begin_anew_go_on_as_if_they_had_seen_all(
    events: list[Event], hours: int, minutes: int, data: Any
):
    since = BEGIN + hours * HOUR
    reached = since + minutes * MINUTE
    known, shape, cells, found = microseconds(reached), shape_of(), Cells(), Seen()
    other = data.draw(st.booleans(), label="other code")
    former = replace(shape_of(fold=Before()), state=pa.schema([("n", pa.string())])) if other else shape
    seen, later = cut(events, reached, data)
    astray = data.draw(st.lists(st.sampled_from(events or [Event("a", 1, 1, 1)]), max_size=10), label="held")
    with pytest.MonkeyPatch.context() as patch:
        small_parts(patch, data)
        for until in (None, microseconds(since)):
            bucket = Bucket(former, cells)
            bucket.advance([table(astray)], until)
            bucket.save()
        mine = [event for event in seen if since <= event.moment <= reached]
        states = sown(shape, mine, states_before(events, since), known)
        waiting = [event for event in seen if event.moment > reached]
        bucket = Bucket(shape, cells)
        bucket.plant(states, [table(waiting)], Planting("", known))
        # What the first batch brings at or before that moment is late.
        fresh = [*later, Event("a", hours * 60 + minutes, 99, 7)]
        for until in (reached, reached, END + HOUR):
            rows = bucket.advance([table(fresh)], microseconds(until))
            bucket.save()
            found.take([shape.made(rows), shape.given(bucket.changes)])
            fresh, bucket = [], Bucket(shape, cells)
    assert found.rows == expected_endless(events) - expected_endless(events, reached)
    for end in whole_hours(since, END):
        assert found.states(end, states_before(events, since)) == states_before(events, end)
    # What it gives leads from the digest of the states that it began with to that of all.
    whole = batch(events, BEGIN, Grain.HOUR.after(END), None, 3)
    assert difference(whole.digest(since), found.digest(END)) == whole.digest(END)
    assert bucket.head.next_wake() is None


@settings(deadline=None, max_examples=60)
@given(histories(KEYS, most=40), st.integers(0, 800), st.data())
def test_so_do_those_of_a_fold_that_forgets(events: list[Event], minutes: int, data: Any):
    """All that its states at a moment come of are the rows of its horizon before."""
    reached = BEGIN + minutes * MINUTE
    known, shape, cells = microseconds(reached), test_folds.shape_of(Ladder()), Cells()
    seen, later = cut(events, reached, data)
    states = sown(shape, [e for e in seen if e.moment <= reached], {}, known)
    bucket = Bucket(shape, cells)
    bucket.plant(states, [table([e for e in seen if e.moment > reached])], Planting("", known))
    rows = bucket.advance([table(later)], microseconds(END + HORIZON + HOUR))
    out = Counter(test_folds._rows(shape.made(rows)))
    assert out == expected(events) - expected(events, reached)


def test_keys_of_a_fold_that_never_forgot_are_forgotten_by_the_horizon_that_it_is_given():
    """Nothing says of a state that was kept when its rows were: it is forgotten a horizon after it was planted."""
    known = microseconds(BEGIN + HOUR)
    shape, cells = shape_of(), Cells()
    states = sown(shape, [], {"a": State(3, 5, None, 0), "b": State(1, 2, None, 0)}, known)
    bucket = Bucket(shape, cells)
    bucket.plant(states, [table([])], Planting("", known))
    bucket.advance([], known)
    bucket.save()

    forgets = test_folds.shape_of(Ladder())
    end = known + HORIZON // MINUTE * 60_000_000
    for until, left in ((end - 1, 2), (end, 0)):
        bucket = Bucket(forgets, cells)
        assert bucket.advance([], until) == []
        bucket.save()
        assert sum(bucket.head.keys) == left


def test_a_seed_that_has_gone_is_named(tmp_path: Path):
    with pytest.raises(StateError, match="are not there any more"):
        of_bucket(Planting(str(tmp_path), 0), 1)


def written(folder: Path, states: list[pa.Table]) -> list[Path]:
    """A seed as a restart writes it: of bucket 1 one file of states, and of bucket 2 one of rows that wait."""
    files = [
        folder / f"{STATES}={which}/{BUCKET}={n}/part-0.parquet" for which, n in (("true", 1), ("false", 2))
    ]
    for file in files:
        file.parent.mkdir(parents=True)
        pq.write_table(pa.table({ROWS: [blob_of(each) for each in states]}), file)
    close(str(folder))
    return files


def garbled(file: Path) -> None:
    whole = bytearray(file.read_bytes())
    middle = slice(4, whole.rindex(ROWS.encode()) // 2)
    whole[middle] = bytes(byte ^ 0xFF for byte in whole[middle])
    file.write_bytes(whole)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (Path.unlink, "part-0.parquet is gone"),
        (lambda file: file.write_bytes(file.read_bytes()[:-9]), "part-0.parquet is not what was written"),
        (garbled, "cannot be read"),
        (lambda file: file.parents[2].joinpath(WHOLE).write_text("{"), f"{WHOLE} is not what was written"),
    ],
)
def test_a_damaged_seed_names_its_folder_and_what_to_do(tmp_path: Path, damage: Any, said: str):
    seed = Planting(str(tmp_path), 0)
    states = sown(shape_of(), [], {"a": State(3, 5, None, 0)}, microseconds(BEGIN))
    file, other = written(tmp_path, states)
    assert of_bucket(seed, 1) == (states, [])
    assert of_bucket(seed, 3) == ([], [])
    damage(file)
    with pytest.raises(StateError, match=f"are damaged: .*{said}") as found:
        of_bucket(seed, 1)
    assert str(tmp_path) in found.value.message
    assert "remove it and restart the stream anew" in found.value.next_step
    # A restart finds by itself what names and sizes tell; another bucket reads what is its own.
    assert (missing(str(tmp_path)) is None) is (damage is garbled)
    if damage in (Path.unlink, garbled):
        assert of_bucket(seed, 2) == ([], states)
    # One that was written before this was kept is read as ever.
    file.unlink(missing_ok=True)
    (tmp_path / WHOLE).write_text("")
    assert of_bucket(seed, 1) == ([], [])
    assert other.is_file()
