"""The columns of a fold: between Arrow's and the plain values that its methods take and give. Pure; no Spark."""

from __future__ import annotations

import hashlib
import pickle
from collections import namedtuple
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from tidemill.errors import ConfigError, TransformError
from tidemill.folds.carry import STATE, Carry, Changed, halves
from tidemill.folds.machine import Kept, Machine, Row, moment

KEY, HASH = "_tidemill_key", "_tidemill_hash"
"""Columns beside a row's own: its key as one text, and that text's hash."""
BUCKET, ROWS = "_tidemill_bucket", "_tidemill_rows"
"""Columns in which a bucket's rows or states travel: its number, and a blob of them."""


@dataclass(frozen=True)
class Shape:
    """A fold over rows of certain columns, ready to be sent to where it runs. ``source``: the fold, pickled by value."""

    source: bytes
    rows: pa.Schema
    """The columns of the frame."""
    state: pa.Schema
    output: pa.Schema
    horizon: int | None
    timed: bool
    carry: Carry | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Without what is worked out from the fields."""
        return {name: self.__dict__[name] for name in self.__dataclass_fields__}

    @cached_property
    def machine(self) -> Machine:
        """The interpreter."""
        return Machine(_loaded(self.source), self.horizon, self.timed)

    @cached_property
    def code(self) -> str:
        """What tells this fold from another by which a stream's keys may be woken; others may differ in it and mean the same."""
        said = self.source + repr((self.horizon, self.timed)).encode()
        return hashlib.blake2b(said, digest_size=8).hexdigest()

    @cached_property
    def maker(self) -> Callable[[Iterable[Any]], Any]:
        """Makes a row from its values."""
        try:
            row: Any = namedtuple("Row", list(self.rows.names))  # type: ignore[misc]  # noqa: PYI024  # known here only
        except ValueError as error:
            raise ConfigError(
                f"fold {self.machine.name}: {error}",
                next_step="rename the columns before the fold: they become attributes of a row",
            ) from None
        return row._make

    @cached_property
    def restore(self) -> Callable[[Iterable[Any]], Any]:
        """Makes a state from its values, as the fold's own kind of tuple."""
        zero = self.machine.fold.zero()
        make: Callable[[Iterable[Any]], Any] = getattr(type(zero), "_make", tuple)
        return make

    @property
    def by_key(self) -> list[int]:
        """The places of the key's columns."""
        return [self.rows.get_field_index(name) for name in self.machine.fold.key]

    def entries(self, table: pa.RecordBatch | pa.Table) -> Iterator[tuple[str | None, Row]]:
        """Each row of a sorted table with its key as text, as the interpreter takes it; column by column, which is the quick way."""
        times = plain(table.column(self.machine.fold.time).cast(pa.int64()))
        rows = map(self.maker, zip(*[plain(table.column(name)) for name in self.rows.names], strict=True))
        keys = table.column(KEY).to_pylist()
        return zip(keys, zip(times, rows, self._alike(table), strict=True), strict=True)

    def _alike(self, table: pa.RecordBatch | pa.Table) -> list[bool]:
        """Of each row, whether one beside it may have its time and its order; what lies beside the table is not known."""
        fold, count = self.machine.fold, table.num_rows
        as_next = np.ones(max(count - 1, 0), bool)
        for name in (KEY, fold.time, *fold.order_by):
            column = table.column(name)
            same = pc.fill_null(pc.equal(column.slice(0, max(count - 1, 0)), column.slice(1)), True)
            as_next &= same.to_numpy(zero_copy_only=False) if isinstance(same, pa.Array) else same.to_numpy()
        found = np.ones(count, bool)
        found[1:-1] = as_next[1:] | as_next[:-1]
        return list(found.tolist())

    def made(self, rows: Sequence[tuple[Any, ...]]) -> pa.RecordBatch:
        """Rows that came out, as columns.

        Raises :class:`TransformError` naming the row and the column that do not fit.
        """
        made = columns(rows, self.output, f"fold {self.machine.name}: output")
        if self.carry is None:
            return pa.RecordBatch.from_arrays(made, schema=self.output)
        return self._beside(made, pa.nulls(len(rows), self.carried))

    @cached_property
    def carried(self) -> pa.StructType:
        """What a state travels as, beside rows: where its interval begins, its key, itself, and its difference."""
        keys = pa.struct([self.rows.field(name).with_nullable(True) for name in self.machine.fold.key])
        return pa.struct(
            [
                pa.field("at", pa.timestamp("us", "UTC")),
                pa.field("key", keys),
                pa.field("state", pa.struct(list(self.state))),
                pa.field("gone", pa.bool_()),
                pa.field("first", pa.int64()),
                pa.field("second", pa.int64()),
            ]
        )

    @cached_property
    def place(self) -> int | None:
        """Which of the output's columns says a row's interval; None where a later step makes it."""
        name = "" if self.carry is None else self.carry.column
        return self.output.names.index(name) if name in self.output.names else None

    def given(self, changes: Sequence[Changed]) -> pa.RecordBatch:
        """States, as columns beside those of rows."""
        name, (at, keys, states, gone, first, second) = self.machine.name, self.carried
        both = [halves(each.difference) for each in changes]
        carried = pa.StructArray.from_arrays(
            [
                pa.array([moment(each.at) for each in changes], at.type),
                _struct([each.key for each in changes], keys.type, f"fold {name}: key"),
                _struct([tuple(each.state) for each in changes], states.type, f"fold {name}: state"),
                pa.array([each.gone for each in changes], gone.type),
                pa.array([each[0] for each in both], first.type),
                pa.array([each[1] for each in both], second.type),
            ],
            fields=list(self.carried),
        )
        return self._beside([pa.nulls(len(changes), each.type) for each in self.output], carried)

    def _beside(self, made: list[pa.Array], carried: pa.Array) -> pa.RecordBatch:
        schema = self.output.append(pa.field(STATE, self.carried))
        return pa.RecordBatch.from_arrays([*made, carried], schema=schema)


def _struct(rows: Sequence[Any], kind: pa.StructType, what: str) -> pa.StructArray:
    return pa.StructArray.from_arrays(columns(rows, pa.schema(list(kind)), what), fields=list(kind))


def plain(column: pa.Array | pa.ChunkedArray) -> list[Any]:
    """A column as plain values, as ``to_pylist`` gives them: several times as quickly, of the most common types."""
    kind = column.type
    if pa.types.is_timestamp(kind) and kind.unit == "us":
        moments = column.cast(pa.timestamp("us")).to_numpy(zero_copy_only=False)
        if kind.tz is None:
            return list(moments.tolist())
        if column.null_count == 0:
            return list(pd.DatetimeIndex(moments, copy=False).tz_localize(UTC).to_pydatetime())
        return [None if each is None else each.replace(tzinfo=UTC) for each in moments.tolist()]
    if column.null_count == 0 and (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        return list(column.to_numpy(zero_copy_only=False).tolist())
    return list(column.to_pylist())


def columns(rows: Sequence[Any], schema: pa.Schema, what: str) -> list[pa.Array]:
    """Tuples as columns of a schema; raises :class:`TransformError` where one does not fit."""
    if not rows:
        return [pa.array([], field.type) for field in schema]
    try:
        parts = list(zip(*rows, strict=True))
        if len(parts) != len(schema):
            raise ValueError  # noqa: TRY301  # what is wrong is looked for below
        return [pa.array(part, field.type) for part, field in zip(parts, schema, strict=True)]
    except (pa.ArrowException, ValueError, TypeError, OverflowError):
        raise _misfit(rows, schema, what) from None


def _misfit(rows: Sequence[Any], schema: pa.Schema, what: str) -> TransformError:
    next_step = f"give {', '.join(f'{field.name} {field.type}' for field in schema)}"
    for row in rows:
        if not isinstance(row, tuple) or len(row) != len(schema):
            return TransformError(f"{what} has {len(schema)} fields, and got {row!r}", next_step=next_step)
        for value, field in zip(row, schema, strict=True):
            try:
                pa.array([value], field.type)
            except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
                return TransformError(
                    f"{what} field {field.name} does not take {value!r} of {row!r}: {error}",
                    next_step=next_step,
                )
    return TransformError(f"{what} does not fit", next_step=next_step)


@lru_cache(maxsize=16)
def _loaded(source: bytes) -> Any:
    return pickle.loads(source)  # noqa: S301  # made by this run, on its driver


def first_key(shape: Shape, row: Any) -> Kept:
    """The beginning of a row's key."""
    return shape.machine.begin(tuple(row[place] for place in shape.by_key))
