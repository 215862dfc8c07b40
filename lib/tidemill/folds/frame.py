"""Runs a fold over a frame, a stream or a batch."""

from __future__ import annotations

import json
import sys
from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T
from pyspark.sql.pandas.types import to_arrow_schema

from tidemill.by_value import by_value
from tidemill.errors import ConfigError
from tidemill.folds.batch import FoldedBatch
from tidemill.folds.carried import CarriedBatch
from tidemill.folds.carry import START, STATE, Carrying, asked
from tidemill.folds.definition import Fold
from tidemill.folds.live import Opened, Packed, Woken, processor
from tidemill.folds.seeds import STATES, Sown
from tidemill.folds.shape import BUCKET, HASH, KEY, ROWS, Shape, columns
from tidemill.intervals import parse_duration

MARK = "tidemill.fold"
"""The metadata of the column by which a plan shows that a fold made its rows, and which."""
_KEYS = (
    T.StringType, T.IntegralType, T.DecimalType, T.BooleanType, T.DateType, T.TimestampType, T.TimestampNTZType,
    T.BinaryType,
)  # fmt: skip
_TIMES = (T.TimestampType, T.TimestampNTZType)


def fold(frame: DataFrame, by: Fold[Any]) -> DataFrame:
    """The rows that a fold gives over a frame; the columns are those of ``by.output``.

    On a batch every row is stepped and every timer runs. On a stream rows and timers wait for the watermark, which
    the frame's ``by.time`` must have; the result has no watermark, and no other step that keeps state may come before
    or after. See :class:`Fold` for what is guaranteed.

    Raises :class:`ConfigError` when the fold does not fit the frame.

    >>> fold(events, Visits())  # doctest: +SKIP
    """
    wanted = asked()
    carrying = wanted if by.horizon is None else None
    shape = _shape(frame, by, carrying)
    output = _schema(frame, by.output)
    if carrying is not None:
        output = output.add(STATE, _carried(frame, by))
        frame = _with_starts(frame, by, carrying)
    keyed = frame.select(
        _key(frame, by).alias(KEY), *[F.col(f"`{name}`") for name in frame.columns]
    ).withColumn(HASH, F.xxhash64(KEY))
    mark = {MARK: json.dumps(_description(by, shape))}
    if frame.isStreaming:
        bucket = F.pmod(F.col(HASH), F.lit(by.buckets)).cast("int").alias(BUCKET, metadata=mark)
        packed = keyed.select(bucket, "*").mapInArrow(Packed(shape), f"{BUCKET} INT, {ROWS} BINARY")
        planting = wanted.planting if wanted is not None else None
        if planting is not None:
            packed = packed.repartition(1).mapInArrow(Woken(max(by.buckets, planting.buckets)), packed.schema)
        folded = packed.groupBy(BUCKET).transformWithState(
            processor(shape, planting), f"{ROWS} BINARY", "append", "eventTime"
        )
        return folded.mapInArrow(Opened(shape), output)
    sowing = wanted.sowing if wanted is not None else None
    if sowing is not None:
        sowing.found.append((shape, keyed, _description(by, shape)))
        keyed = upto(keyed, by, sowing.reached)
    reached = None if sowing is None else sowing.reached
    marked = _in_order(keyed.withColumn(HASH, F.col(HASH).alias(HASH, metadata=mark)), by)
    if carrying is not None:
        return marked.mapInArrow(CarriedBatch(shape), output)
    # The mark stays in the plan; the hash itself is not worked out, nor sent.
    return marked.drop(HASH).mapInArrow(FoldedBatch(shape, reached), output)


def sown(shape: Shape, keyed: DataFrame, reached: int) -> DataFrame:
    """What a stream of the fold could begin with, where it has read these rows: of each bucket its states at a moment, and
    the rows after it, as blobs. See :class:`~tidemill.folds.planting.Sowing`.
    """
    by = shape.machine.fold
    blobs = f"{BUCKET} INT, {ROWS} BINARY"
    states = _in_order(upto(keyed, by, reached), by).mapInArrow(Sown(shape, reached), blobs)
    bucket = F.pmod(F.col(HASH), F.lit(by.buckets)).cast("int").alias(BUCKET)
    waiting = keyed.where(_micros(by) > reached).select(bucket, KEY, *shape.rows.names, HASH)
    rows = waiting.mapInArrow(Packed(shape), blobs)
    return states.withColumn(STATES, F.lit(True)).unionByName(rows.withColumn(STATES, F.lit(False)))


def upto(keyed: DataFrame, by: Fold[Any], reached: int) -> DataFrame:
    """Rows up to and with a moment, and the states that keys begin with."""
    # Those have no time.
    return keyed.where(F.col(f"`{by.time}`").isNull() | (_micros(by) <= reached))


def _micros(by: Fold[Any]) -> Column:
    return F.unix_micros(F.col(f"`{by.time}`").cast("timestamp"))


def _in_order(keyed: DataFrame, by: Fold[Any]) -> DataFrame:
    order = [F.col(f"`{name}`").asc_nulls_first() for name in (by.time, *by.order_by)]
    return keyed.repartition(KEY).sortWithinPartitions(F.col(KEY).asc_nulls_first(), *order)


def _carried(frame: DataFrame, by: Fold[Any]) -> T.StructType:
    """What a state travels as, see :attr:`tidemill.folds.shape.Shape.carried`."""
    keys = [T.StructField(name, frame.schema[name].dataType) for name in by.key]
    return (
        T.StructType()
        .add("at", T.TimestampType())
        .add("key", T.StructType(keys))
        .add("state", _schema(frame, by.state))
        .add("gone", T.BooleanType())
        .add("first", T.LongType())
        .add("second", T.LongType())
    )


def _with_starts(frame: DataFrame, by: Fold[Any], carrying: Carrying) -> DataFrame:
    """A batch's rows, and a row for each state that its keys begin with."""
    if frame.isStreaming or carrying.start is None:
        return frame
    kind = _schema(frame, by.state)
    fields = [F.col(f"state.`{name}`").alias(name) for name in kind.names]
    # Typed as a struct of the fold's: a field that was not there is refused before, not filled here.
    starts = carrying.start.select(
        *[F.col(f"key.`{name}`").cast(frame.schema[name].dataType).alias(name) for name in by.key],
        F.struct(*fields).cast(kind).alias(START),
    )
    return frame.unionByName(starts, allowMissingColumns=True)


def _shape(frame: DataFrame, by: Fold[Any], carrying: Carrying | None = None) -> Shape:
    name = type(by).__name__
    _check_tuples(by)
    for column in (*by.key, by.time, *by.order_by):
        if column not in frame.columns:
            raise ConfigError(
                f"fold {name}: the frame has no column {column!r}",
                next_step=f"the frame has {', '.join(frame.columns)}",
            )
    if not by.key:
        raise ConfigError(f"fold {name}: no key", next_step="name at least one column: key = ('user',)")
    for column, wanted, what in (
        *((column, _KEYS, "a key") for column in by.key),
        (by.time, _TIMES, "an event time"),
        *((column, _KEYS, "an order") for column in by.order_by),
    ):
        kind = frame.schema[column].dataType
        if not isinstance(kind, wanted):
            raise ConfigError(
                f"fold {name}: {column} is {kind.simpleString()}, which cannot be {what}",
                next_step="cast it before the fold",
            )
    if by.emit not in {"ordered", "immediate"}:
        raise ConfigError(f"fold {name}: emit is {by.emit!r}", next_step="say ordered or immediate")
    kinds = {field.name: field.dataType for field in frame.schema.fields}
    if by.once is not None and (by.emit != "immediate" or not isinstance(kinds.get(by.once), T.BinaryType)):
        raise ConfigError(
            f"fold {name}: once is {by.once!r}, and emit is {by.emit}",
            next_step="name a column of 16 bytes, and say emit = 'immediate'",
        )
    if not 1 <= by.buckets <= 65536:
        raise ConfigError(f"fold {name}: buckets is {by.buckets}", next_step="say 16 to 256")
    _check_state(frame, by)
    shape = Shape(
        _pickled(by),
        to_arrow_schema(frame.schema, timezone="UTC"),
        to_arrow_schema(_schema(frame, by.state), timezone="UTC"),
        to_arrow_schema(_schema(frame, by.output), timezone="UTC"),
        None if by.horizon is None else round(parse_duration(by.horizon).total_seconds() * 1_000_000),
        type(by).due is not Fold.due,
        None if carrying is None else carrying.how,
    )
    _ = shape.maker  # the columns' names
    _check_zero(by, shape)
    return shape


def _check_tuples(by: Fold[Any]) -> None:
    named: dict[str, Any] = {"key": by.key, "order_by": by.order_by}
    for what, columns_of in named.items():
        if isinstance(columns_of, str):  # its letters would be taken for columns
            raise ConfigError(
                f"fold {type(by).__name__}: {what} is the text {columns_of!r}",
                next_step=f"write {what} = ({columns_of!r},)",
            )


def _schema(frame: DataFrame, text: str) -> T.StructType:
    parsed = frame.sparkSession._parse_ddl(text)  # noqa: SLF001  # what readers take a text's schema by
    if not isinstance(parsed, T.StructType):
        raise ConfigError(f"{text!r} is no schema", next_step="write for example n BIGINT, at TIMESTAMP")
    return parsed


def _check_state(frame: DataFrame, by: Fold[Any]) -> None:
    for field in _schema(frame, by.state).fields:
        kind = field.dataType.elementType if isinstance(field.dataType, T.ArrayType) else field.dataType
        if isinstance(kind, (T.FloatType, T.StructType, T.MapType, T.ArrayType)):
            # A stream would go on with another value than it was left with, and a batch would not.
            raise ConfigError(
                f"fold {type(by).__name__}: state field {field.name} is {field.dataType.simpleString()}, which does not come "
                "back from a store as the value that was put in",
                next_step="use DOUBLE, fields of their own, or arrays of plain values",
            )


def _check_zero(by: Fold[Any], shape: Shape) -> None:
    zero, name = by.zero(), type(by).__name__
    named = getattr(zero, "_fields", tuple(shape.state.names))
    fits = isinstance(zero, tuple) and len(zero) == len(shape.state)
    if not fits or tuple(named) != tuple(shape.state.names):
        raise ConfigError(
            f"fold {name}: zero() gives {zero!r}, and state has {', '.join(shape.state.names)}",
            next_step="give a tuple with one value a field, in this order",
        )
    stored = [column.to_pylist()[0] for column in columns([zero], shape.state, f"fold {name}: zero()")]
    for field, value, after in zip(shape.state.names, zero, stored, strict=True):
        if type(value) is not type(after) or value != after:
            raise ConfigError(
                f"fold {name}: zero() gives {value!r} for {field}, which comes back from a store as {after!r}",
                next_step=f"give {after!r}, and values of this type in step, too",
            )


def _description(by: Fold[Any], shape: Shape) -> dict[str, Any]:
    return {
        "name": type(by).__name__,
        "horizon": shape.horizon,
        "buckets": by.buckets,
        "emit": by.emit,
        "key": list(by.key),
        "state": {field.name: str(field.type) for field in shape.state},
        "renamed": dict(by.renamed),
        "zero": {name: repr(value) for name, value in zip(shape.state.names, by.zero(), strict=True)},
        "rows": {field.name: str(field.type) for field in shape.rows},
    }


def _key(frame: DataFrame, by: Fold[Any]) -> Column:
    """A key as one text: different keys, different texts; null when a part is."""
    if len(by.key) == 1 and isinstance(frame.schema[by.key[0]].dataType, T.StringType):
        return F.col(f"`{by.key[0]}`")
    parts = []
    for name in by.key:
        column = F.col(f"`{name}`")
        binary = isinstance(frame.schema[name].dataType, T.BinaryType)
        text = F.hex(column) if binary else column.cast("string")
        parts += [F.length(text).cast("string"), F.lit(":"), text]
    return F.concat(*parts)


def _pickled(by: Fold[Any]) -> bytes:
    """The fold with its code: what runs is what the driver has loaded, however old a worker's modules are."""
    own = type(by).__module__
    names = {own, own.partition(".")[0]} - {"tidemill", "__main__"}
    return by_value(by, [module for name in names if (module := sys.modules.get(name)) is not None])
