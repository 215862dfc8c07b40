"""Runs a domain over a frame of commands, a stream or a batch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
from pyspark import TaskContext
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from tidemill.deciding.carried import carried
from tidemill.deciding.fold import AGGREGATE, COLUMNS, SUBJECT, WHOLE, Deciding
from tidemill.deciding.marks import MARK, mark
from tidemill.deciding.seeds import NO_SEED, Seed
from tidemill.errors import ConfigError, StateError
from tidemill.eventsourcing import Domain
from tidemill.eventsourcing.envelope import COMMAND_COLUMNS, REQUIRED
from tidemill.folds import fold

POSITION = "position"
BASE = "tidemill.position"
"""The property of a job that says from where on its rows have positions."""
LANES = 4096
"""Positions of a batch are dealt out to so many tasks in turn. A batch takes up its longest task's rows times this: at a
million rows a second in one task, 63 bits last for seventy years; at a thousand, for seventy thousand."""


def decide(frame: DataFrame, domain: Domain, seed: Seed = NO_SEED) -> DataFrame:
    """What becomes of commands: events, and of those of which nothing came why, told apart by ``kind`` (null: an event).

    ``frame`` has the columns of a command: id, type, subject, time and data (JSON, or any type that can be written as such);
    and, where it likes, source, schemaversion, expectedversion, causationid and correlationid.

    Commands of one aggregate are decided by ``time``, then by ``id``, within a batch, and as they arrive across batches. A
    command whose id was decided before gives nothing. Raises :class:`ConfigError` when a column is missing.

    >>> decide(commands, BANK)  # doctest: +SKIP
    """
    folded = fold(_spread(commands_of(frame)), Deciding(carried(domain), seed))
    schema = ", ".join(f"{name} {kind}" for name, kind in (*COLUMNS.items(), (POSITION, "BIGINT")))
    return folded.mapInArrow(Positioned(), schema)


def _spread(commands: DataFrame) -> DataFrame:
    """Commands that name no aggregate, which are refused, as of many: they are no work for one task."""
    some = F.concat(F.lit("\0"), F.substring(F.hex(MARK), 1, 2))
    nobody = (F.col(SUBJECT) == "") | (F.col(AGGREGATE) == "")
    return commands.withColumn(SUBJECT, F.when(nobody, some).otherwise(F.col(SUBJECT)))


def commands_of(frame: DataFrame) -> DataFrame:
    """The columns that deciding takes: key, time, id, mark, and all that a command is as one text."""
    return frame.select(*[column.alias(name) for name, column in command_columns(frame).items()])


def command_columns(frame: DataFrame) -> dict[str, Column]:
    """Those of :func:`commands_of`, over a frame of commands or of rejections."""
    missing = [name for name in REQUIRED if name not in frame.columns]
    if missing:
        raise ConfigError(
            f"a frame of commands has no {', '.join(missing)}",
            next_step=f"it has {', '.join(frame.columns)}; name them in a step before: {', '.join(REQUIRED)}",
        )
    data = F.col("data")
    if not isinstance(frame.schema["data"].dataType, T.StringType):
        data = F.to_json(data)
    values = {
        name: data if name == "data" else _as(F.col(name), kind)
        for name, kind in COMMAND_COLUMNS.items()
        if name in frame.columns and name != "time"
    }
    named = [value.alias(name) for name, value in values.items()]
    empty = F.lit("")
    aggregate, time = (
        F.coalesce(F.substring_index(values["type"], ".", 1), empty),
        F.col("time").cast("timestamp"),
    )
    return {
        AGGREGATE: aggregate,
        SUBJECT: F.coalesce(values["subject"], empty),
        "time": time,
        "id": values["id"],
        MARK: mark(aggregate, {**values, "time": time}),
        WHOLE: F.to_json(F.struct(*named)),
    }


def _as(value: Column, kind: str) -> Column:
    """A value of a command's kind. A number that is none is -1, which no command may have: the command is refused, and names it."""
    if kind.upper() == "STRING":
        return value.cast(kind)
    return F.when(value.isNotNull(), F.coalesce(value.try_cast(kind), F.lit(-1).cast(kind)))


@dataclass(frozen=True)
class Positioned:
    """Gives rows their positions, in the order in which a task makes them: an aggregate's are all of one task."""

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """A task's batches."""
        context = TaskContext.get()
        lane = context.partitionId() if context else 0
        if lane >= LANES:
            raise StateError(
                f"{lane} tasks give positions, and there is room for {LANES}",
                next_step="lower spark.sql.shuffle.partitions",
            )
        base = int((context.getLocalProperty(BASE) if context else None) or 0)
        row = 0
        for batch in batches:
            numbers = pa.array(range(row, row + batch.num_rows), pa.int64())
            row += batch.num_rows
            at = pc.add(pc.multiply(numbers, LANES), base + lane)
            yield batch.append_column(POSITION, at)
