"""The columns in which the keys of a segment lie, with all that is kept of each: to and from Arrow. Pure; no Spark."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow as pa

from tidemill.folds.machine import Kept
from tidemill.folds.shape import HASH, KEY, Shape, columns, plain

LAST, WAKE = "_tidemill_last", "_tidemill_wake"
TOUCHED, GIVEN = "_tidemill_touched", "_tidemill_given"
"""Of a fold that carries its states: whether a key was stepped since the last interval's end, and the digest given there."""
OF_STATE, OF_KEY = "state.", "key."

Entry = tuple[str, int, Kept]
"""A key's text and that text's hash, and what is kept of it."""


def columns_of_kept(shape: Shape) -> pa.Schema:
    """A segment's columns."""
    return pa.schema(
        [
            pa.field(KEY, pa.string()),
            pa.field(HASH, pa.int64()),
            pa.field(LAST, pa.int64()),
            pa.field(WAKE, pa.int64()),
            *(pa.field(OF_KEY + name, shape.rows.field(name).type) for name in shape.machine.fold.key),
            *(pa.field(OF_STATE + each.name, each.type) for each in shape.state),
            *([] if shape.carry is None else [(TOUCHED, pa.bool_()), (GIVEN, pa.binary(16))]),
        ]
    )


def table_of_kept(shape: Shape, kept: Sequence[Entry], *, touched: bool | Sequence[bool] = True) -> pa.Table:
    """Keys as rows of a segment; ``touched``: of all of them, or of each."""
    schema = columns_of_kept(shape)
    if not kept:
        return schema.empty_table()
    fold = shape.machine.fold
    values = [(text, hashed, each.last, each.wake, *each.key) for text, hashed, each in kept]
    first = pa.schema(list(schema)[: 4 + len(fold.key)])
    arrays = columns(values, first, f"fold {shape.machine.name}: key")
    states = [each.state for _, _, each in kept]
    arrays += columns(states, shape.state, f"fold {shape.machine.name}: state")
    if shape.carry is not None:
        marks = [touched] * len(kept) if isinstance(touched, bool) else list(touched)
        arrays += [pa.array(marks, pa.bool_()), pa.array([each.given for _, _, each in kept], pa.binary(16))]
    return pa.Table.from_arrays(arrays, schema=schema)


def kept_in(shape: Shape, table: pa.Table) -> dict[str, tuple[int, Kept]]:
    """What is kept of each key, by its text, with that text's hash."""
    parts = [plain(column) for column in table.columns]
    width = len(shape.machine.fold.key)
    keys: Iterable[tuple[Any, ...]] = zip(*parts[4 : 4 + width], strict=True)
    until = 4 + width + len(shape.state)
    states = map(shape.restore, zip(*parts[4 + width : until], strict=True))
    given = parts[-1] if shape.carry is not None else [None] * table.num_rows
    return {
        text: (hashed, Kept(key, state, last, wake, of_end))
        for text, hashed, last, wake, key, state, of_end in zip(*parts[:4], keys, states, given, strict=True)
    }
