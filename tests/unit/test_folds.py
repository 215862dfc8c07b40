"""The pure heart of ordered folds: the interpreter, and a bucket of keys, against histories played on a timetable."""

from __future__ import annotations

import re
from collections import Counter
from datetime import datetime, timedelta
from random import Random
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyspark import cloudpickle

from tests.folds.histories import BEGIN, MINUTE, Event, Ladder, Out, State, expected, histories, small_parts
from tidemill.errors import StateError, TransformError
from tidemill.folds import cells, keys
from tidemill.folds.batch import FoldedBatch
from tidemill.folds.bucket import Bucket, sorted_by
from tidemill.folds.definition import Fold
from tidemill.folds.evolve import check_fields
from tidemill.folds.machine import microseconds
from tidemill.folds.shape import HASH, KEY, Shape

STAMP = pa.timestamp("us", "UTC")
ROWS = pa.schema([("key", pa.string()), ("at", STAMP), ("seq", pa.int64()), ("value", pa.int64())])
STATE = pa.schema([("n", pa.int64()), ("total", pa.int64()), ("due", STAMP), ("rung", pa.int32())])
OUTPUT = pa.schema(
    [("key", pa.string()), ("at", STAMP), ("what", pa.string()), ("n", pa.int64()), ("total", pa.int64())]
)


def shape_of(fold: Fold[Any], state: pa.Schema = STATE, horizon: timedelta | None = 120 * MINUTE) -> Shape:
    ticks = None if horizon is None else horizon // timedelta(microseconds=1)
    return Shape(cloudpickle.dumps(fold), ROWS, state, OUTPUT, ticks, type(fold).due is not Fold.due)


def table(events: list[Event]) -> pa.Table:
    rows = [[e.key, e.moment, e.seq, e.value] for e in events]
    parts = list(zip(*rows, strict=True)) or [[]] * 4
    arrays = [pa.array(part, each.type) for part, each in zip(parts, ROWS, strict=True)]
    keys = pa.array([e.key for e in events], pa.string())
    hashes = pa.array([hash(e.key or "") for e in events], pa.int64())
    return pa.Table.from_arrays([*arrays, keys, hashes], names=[*ROWS.names, KEY, HASH])


class Cells(dict[str, bytes]):
    """A bucket's blobs, in memory."""

    def put(self, name: str, blob: bytes) -> None:
        self[name] = blob

    def drop(self, name: str) -> None:
        del self[name]


def advance(
    shape: Shape, cells: Cells, events: list[Event] | None, watermark: datetime | None
) -> Counter[Out]:
    bucket = Bucket(shape, cells)
    tables = [] if events is None else [table(events)]
    out = bucket.advance(tables, None if watermark is None else microseconds(watermark))
    bucket.save()
    return Counter(_rows(shape.made(out)))


def _rows(batch: pa.RecordBatch) -> list[Out]:
    return list(zip(*[column.to_pylist() for column in batch.columns], strict=True)) if batch.num_rows else []


KEYS = ["a", "b", "c", None]


@settings(deadline=None, max_examples=60)
@given(histories(KEYS, most=40), st.integers(1, 7))
def test_a_batch_gives_what_a_timetable_gives(events: list[Event], size: int):
    sorted_rows = sorted_by(table(events), (KEY, "at", "seq"))
    batches = FoldedBatch(shape_of(Ladder()))(iter(sorted_rows.to_batches(max_chunksize=size)))
    assert Counter(row for batch in batches for row in _rows(batch)) == expected(events)


@settings(deadline=None, max_examples=60)
@given(histories(KEYS, most=40), st.data())
def test_a_bucket_gives_the_same_whatever_the_order_of_arrival_and_the_cuts(events: list[Event], data: Any):
    """No row comes late: the watermark passes what has come, and nothing that is still to come."""
    shape, cells, found = shape_of(Ladder()), Cells(), Counter[Out]()
    waiting = data.draw(st.permutations(events), label="arrival")
    before = BEGIN - MINUTE
    with pytest.MonkeyPatch.context() as patch:
        small_parts(patch, data)
        while waiting:
            size = data.draw(st.integers(0, len(waiting)), label="a batch")
            batch, waiting = waiting[:size], waiting[size:]
            safe = min((event.moment for event in waiting), default=BEGIN + 900 * MINUTE) - MINUTE
            before = data.draw(st.sampled_from([before, max(before, safe)]), label="watermark")
            found += advance(shape, cells, batch, before if before >= BEGIN else None)
            assert found == expected([e for e in events if e not in waiting], before)
        found += advance(shape, cells, None, BEGIN + 5000 * MINUTE)
    assert found == expected(events)
    # Whoever is forgotten leaves nothing behind.
    assert set(cells) == {"head"}
    assert Bucket(shape, cells).head.next_wake() is None


@pytest.mark.parametrize("small", [0, 65536], ids=["blobs apart", "with the head"])
@pytest.mark.parametrize("seed", range(4))
def test_a_key_counts_as_it_changed_last_wherever_it_lies(
    seed: int, small: int, monkeypatch: pytest.MonkeyPatch
):
    """Many batches, each of a few keys of many segments: what segments say of others is old."""
    monkeypatch.setattr(keys, "KEYS_A_SEGMENT", 1)
    monkeypatch.setattr(keys, "SHARE", 1)
    monkeypatch.setattr(cells, "SMALL", small)
    # Batches of a bucket come to one worker or another: what one remembers may be old.
    workers = [cells.Remembered(3000), cells.Remembered(1_000_000)]
    random = Random(seed)
    events = [Event(random.choice("abcdefghijkl"), random.randrange(900), n, n % 13) for n in range(250)]
    waiting = sorted(events, key=lambda event: event.at)
    shape, held, found, apart = shape_of(Ladder()), Cells(), Counter[Out](), 0
    while waiting:
        until = waiting[min(2, len(waiting) - 1)].moment
        batch = [event for event in waiting if event.moment <= until]
        waiting = waiting[len(batch) :]
        monkeypatch.setattr(cells, "_remembered", random.choice(workers))
        found += advance(shape, held, batch, until)
        apart += cells.Held(held, "").get(keys.RECENT) is not None
    found += advance(shape, held, None, BEGIN + 5000 * MINUTE)
    assert found == expected(events)
    assert apart > 5


def test_a_late_row_is_left_out_and_a_row_above_the_watermark_waits():
    shape, cells = shape_of(Ladder()), Cells()
    assert not advance(shape, cells, [Event("a", 60, 0, 1)], BEGIN + 30 * MINUTE)
    assert Bucket(shape, cells).head.next_wake() == microseconds(BEGIN + 60 * MINUTE)
    late, on_time = Event("a", 30, 0, 1), Event("a", 31, 0, 1)
    found = advance(shape, cells, [late, on_time], BEGIN + 60 * MINUTE)
    assert found == expected([on_time, Event("a", 60, 0, 1)], BEGIN + 60 * MINUTE)


class Silent(Ladder):
    horizon = None
    after = 60

    def step(self, state: State, row: Any) -> Any:
        now = State(state.n + 1, state.total + row.value, row.at, 0)
        return now, [(row.key, row.at, "row", now.n, now.total)]

    def due(self, state: State) -> datetime | None:
        return None if state.due is None else state.due + self.after * MINUTE

    def on_time(self, key: Any, state: State, time: datetime) -> Any:
        return state._replace(due=None), [(key[0], time, "silent", state.n, state.total)]


class Longer(Silent):
    after = 120


class Shorter(Silent):
    after = 20


class Never(Silent):
    due = Fold.due  # type: ignore[assignment]


@pytest.mark.parametrize("then", [Longer, Shorter, Never])
@pytest.mark.parametrize("first", [Silent, Never])
def test_keys_are_woken_when_today_s_code_says(first: type[Silent], then: type[Silent]):
    events = [Event("a", 10, 0, 5), Event("b", 25, 0, 6), Event("a", 300, 0, 7)]
    cells, (before, after) = Cells(), (shape_of(fold(), horizon=None) for fold in (first, then))
    found = advance(before, cells, events[:2], BEGIN + 28 * MINUTE)
    found += advance(after, cells, events[2:], BEGIN + 29 * MINUTE)
    found += advance(after, cells, None, BEGIN + 5000 * MINUTE)
    rows = sorted_by(table(events), (KEY, "at", "seq"))
    assert found == Counter(
        row for batch in FoldedBatch(after)(iter(rows.to_batches())) for row in _rows(batch)
    )


class Hasty(Ladder):
    emit = "immediate"


def test_an_immediate_fold_steps_what_comes_and_leaves_timers_to_the_watermark():
    shape, cells = shape_of(Hasty()), Cells()
    second, first = Event("a", 60, 0, 3), Event("a", 30, 0, 5)
    stepped = BEGIN + 60 * MINUTE
    assert advance(shape, cells, [second], None) == Counter({("a", stepped, "row", 1, 3): 1})
    # Its timer, due 20 minutes before it, has waited; a row that comes behind it in time is stepped after it.
    late = advance(shape, cells, [first], BEGIN + 20 * MINUTE)
    assert late == Counter({("a", BEGIN + 30 * MINUTE, "row", 2, 3 * 31 + 5): 1})
    timers = advance(shape, cells, None, BEGIN + 5000 * MINUTE)
    assert {row[2] for row in timers} == {"timer"}


class Strict(Ladder):
    failed = Fold.failed  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("events", "says"),
    [
        ([Event("a", 1, 0, 13)], "step raised ValueError: unlucky, for key key='a', at at=2024-02-28T00:01:00"),
        ([Event(None, 2, 0, 1)], "a column of the key is null, for key key=None, at at=2024-02-28T00:02:00"),
        ([Event("a", 3, 1, 1), Event("a", 3, 1, 2)], "add a column to order_by, for key key='a', at at=2024-02-28T00:03"),
    ],
)  # fmt: skip
def test_a_row_that_cannot_be_stepped_ends_a_run_that_does_not_ask_for_it(events: list[Event], says: str):
    with pytest.raises(TransformError) as caught:
        advance(shape_of(Strict()), Cells(), events, BEGIN + 60 * MINUTE)
    assert says in str(caught.value)


class Restless(Ladder):
    def on_time(self, key: tuple[Any, ...], state: Any, time: datetime) -> Any:
        return state, [(key[0], time, "timer", 0, 0)]


def test_a_timer_that_does_not_go_on_is_an_error():
    with pytest.raises(TransformError, match="due is not later than before, for key key='a'") as caught:
        advance(shape_of(Restless()), Cells(), [Event("a", 0, 0, 6)], BEGIN + 60 * MINUTE)
    assert caught.value.next_step.startswith("correct on_time, or due")


class Hopeless(Strict):
    def failed(self, row: Any, error: Exception) -> Any:
        msg = f"even failed\nfails of {row.value}"
        raise RuntimeError(msg) from error


class Late(Ladder):
    def on_time(self, key: tuple[Any, ...], state: Any, time: datetime) -> Any:  # noqa: ARG002
        msg = "too late"
        raise ValueError(msg)


class Undue(Ladder):
    def due(self, state: State) -> Any:
        return state.missing  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("fold", "event", "says", "correct"),
    [
        (Hopeless(), Event("a", 1, 0, 13), "failed raised RuntimeError: even failed fails of 13", "failed"),
        (Hopeless(), Event(None, 1, 0, 1), "failed raised RuntimeError: even failed fails of 1", "failed"),
        (Late(), Event("a", 1, 0, 6), "on_time raised ValueError: too late", "on_time"),
        (Undue(), Event("a", 1, 0, 6), "due raised AttributeError: 'State' object has no attribute 'missing'", "due"),
    ],
)  # fmt: skip
def test_what_a_fold_s_other_methods_raise_is_said_in_a_line_with_key_and_time(
    fold: Fold[Any], event: Event, says: str, correct: str
):
    with pytest.raises(TransformError) as caught:
        advance(shape_of(fold), Cells(), [event], BEGIN + 60 * MINUTE)
    found = re.fullmatch(
        r"(fold \w+): (.+), for key key=('a'|None), at at=2024-02-28T00:\d\d:.*", caught.value.message
    )
    assert found is not None
    assert (found[1], found[2]) == (f"fold {type(fold).__name__}", says)
    # No row is at fault.
    assert (
        caught.value.next_step == f"correct {correct}: what it raises ends the run, whatever rows there are"
    )


class Loose(Ladder):
    def step(self, state: Any, row: Any) -> Any:
        return state, [(row.key, row.at, "row", "many", 1)]


def test_a_value_that_does_not_fit_is_named():
    with pytest.raises(
        TransformError, match=r"(?s)fold Loose: output field n does not take 'many' of \('a', .*next: give"
    ):
        advance(shape_of(Loose()), Cells(), [Event("a", 0, 0, 1)], BEGIN + 60 * MINUTE)


class Wider(Ladder):
    renamed = {"count": "n"}  # noqa: RUF012  # as a project writes it


def test_stored_states_and_rows_go_on_under_a_wider_schema():
    first, second = Event("a", 0, 0, 1), Event("a", 60, 0, 3)
    cells = Cells()
    found = advance(shape_of(Ladder()), cells, [first, second], BEGIN)
    wider = pa.schema([("count", pa.int64()), ("total", pa.int64()), ("due", STAMP), ("rung", pa.int64())])
    found += advance(shape_of(Wider(), wider), cells, None, BEGIN + 5000 * MINUTE)
    assert found == expected([first, second])


@pytest.mark.parametrize(
    ("new", "renamed", "says"),
    [
        ({"n": "int64"}, {}, "total is not there any more"),
        ({"n": "int64", "total": "string"}, {}, "total is string, and what the stream has stored is int64"),
        ({"n": "int32", "total": "int64"}, {}, "n is int32"),
        ({"n": "int64", "sum": "int32"}, {"sum": "total"}, "sum is int32"),
    ],
)
def test_a_schema_that_cannot_be_read_is_refused_by_name(
    new: dict[str, str], renamed: dict[str, str], says: str
):
    with pytest.raises(StateError, match=says):
        check_fields(
            "fold: state",
            {"n": "int64", "total": "int64"},
            new,
            renamed,
            may_go=False,
            otherwise="or restart",
        )


def test_fields_may_be_added_widened_and_renamed():
    old = {"n": "int32", "x": "float", "total": "int64"}
    new = {"count": "int64", "x": "double", "total": "int64", "more": "string"}
    check_fields("fold: state", old, new, {"count": "n"}, may_go=False, otherwise="")
    check_fields("fold: a row", old, {"n": "int32"}, {}, may_go=True, otherwise="")
    check_fields(
        "fold: state",
        {"cents": "decimal128(9, 2)"},
        {"cents": "decimal128(18, 4)"},
        {},
        may_go=False,
        otherwise="",
    )
    with pytest.raises(StateError, match=r"cents is decimal128\(9, 4\), and what the stream has stored"):
        check_fields(
            "fold: state",
            {"cents": "decimal128(9, 2)"},
            {"cents": "decimal128(9, 4)"},
            {},
            may_go=False,
            otherwise="",
        )


# As the first tidemill with folds wrote a bucket's head.
FIRST_HEAD = (
    '{"buckets": 4, "stepped": 1709078400000000, "timer": 1709081999999, "segments": 1, "keys": [1], "wakes": [null], '
    '"chunks": [], "next_chunk": 0, "begun": null, "ends": null, "touched": []}'
)


@pytest.mark.parametrize(
    ("head", "says", "next_step"),
    [
        (FIRST_HEAD, "fold Ladder: the states in the checkpoint are of form 0, as an earlier", "go on with that tidemill"),
        ('{"form": 2, "head": {}, "apart": {}, "small": []}', "of form 2, as a later", "go on with that tidemill"),
        ("", "fold Ladder: the states in the checkpoint are damaged", "restore the checkpoint"),
        ('{"form": 1, "head"', "are damaged: the head of a bucket cannot be read", "restore the checkpoint"),
    ],
)  # fmt: skip
def test_states_of_another_form_are_named_with_what_to_do(head: str, says: str, next_step: str):
    held = Cells({"head": f"{head}\n".encode()})
    with pytest.raises(StateError, match=says) as caught:
        advance(shape_of(Ladder()), held, [Event("a", 0, 0, 1)], BEGIN)
    assert next_step in caught.value.next_step
    assert "move the table and its state (_tidemill" in caught.value.next_step


def test_a_blob_that_is_not_what_the_head_means_is_damage(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(cells, "SMALL", 0)
    held = Cells()
    advance(shape_of(Ladder()), held, [Event("a", 60, 0, 1)], BEGIN)
    monkeypatch.setattr(cells, "_remembered", cells.Remembered(0))
    (apart,) = set(held) - {"head"}
    held[apart] = bytes(8) + held[apart][8:]
    with pytest.raises(StateError, match=f"damaged: what lies at '{apart}' is not what"):
        advance(shape_of(Ladder()), held, None, BEGIN + 90 * MINUTE)


class Fewer(Ladder):
    buckets = 8


def test_another_number_of_buckets_is_refused():
    cells = Cells()
    advance(shape_of(Ladder()), cells, [Event("a", 0, 0, 1)], BEGIN)
    with pytest.raises(StateError, match="began with 4 buckets, and buckets is 8"):
        advance(shape_of(Fewer()), cells, [Event("a", 0, 0, 1)], BEGIN)
