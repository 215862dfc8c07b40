"""What a source row is: its schema, how it is read, and what makes it bad."""

from __future__ import annotations

import json
from collections.abc import Sequence

from pyspark.errors import ParseException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from tidemill.errors import ConfigError
from tidemill.model import DeltaSource, FilesSource, RecordSource, Source
from tidemill.quality.rules import MARK
from tidemill.sources import avro

CORRUPT = "_tidemill_corrupt"
"""The column in which Spark's text readers keep a record that they could not parse."""

PLACE = "_tidemill_place"
"""The column in which a record that stands in no file brings the place where it stands: ``topic/partition/offset``,
or ``queue/offset``."""

LAST = "_tidemill_last"
"""The column that holds a record's offset and digest, where a broker has no other identity for what is read."""

WHY = "_tidemill_why"
"""The column in which a source says why a record in ``CORRUPT`` is none, where it knows more than that."""

UNKNOWN_ID = "_tidemill_unknown_id"
"""The column that holds the id of a value's schema where the pipeline does not know that schema."""

EARLIEST, LATEST = "_tidemill_earliest", "_tidemill_latest"
"""The columns that say between which moments a record's event time must lie, where its broker's time binds it."""

BESIDE = (PLACE, LAST, EARLIEST, LATEST)
"""What a reader adds to a record besides what it makes of the payload."""

_ADDED = (*BESIDE, CORRUPT, WHY, UNKNOWN_ID)

_FIRST, _END = -30_610_224_000_000_000, 253_370_764_800_000_000
"""Event times before the year 1000 or from 9999 on (epoch microseconds) are bad rows: no calendar, label or
watermark survives them. An interval of 9999 may end after the last moment there is."""


def read_schema(
    spark: SparkSession, source: FilesSource | RecordSource, *, corrupt: bool = True
) -> T.StructType | None:
    """The schema to read records with; None for parquet files that bring their own, and values that have none.

    Raises :class:`ConfigError` when the declared schema does not parse.
    """
    declared = _declared(spark, source)
    if declared is None:
        return None
    schema = T.StructType([T.StructField(f.name, f.dataType, nullable=True) for f in declared.fields])
    return schema.add(CORRUPT, T.StringType()) if corrupt and source.format != "parquet" else schema


def required_columns(spark: SparkSession, source: Source) -> tuple[str, ...]:
    """The columns that a record must bring: those that the schema declares ``NOT NULL``.

    Raises as :func:`read_schema`. A table's own writer sees to its columns.
    """
    declared = None if isinstance(source, DeltaSource) else _declared(spark, source)
    return () if declared is None else tuple(field.name for field in declared.fields if not field.nullable)


def _declared(spark: SparkSession, source: FilesSource | RecordSource) -> T.StructType | None:
    if source.row_schema is None:
        return None
    text = source.row_schema.strip()
    if isinstance(source, RecordSource) and source.format == "avro":
        return avro.row_schema(spark, text, source.name)
    try:
        if text.startswith("{"):
            return T.StructType.fromJson(json.loads(text))
        return spark.createDataFrame([], text).schema
    except (ParseException, ValueError, KeyError) as error:
        kind, what = (
            (source.kind, source.name) if isinstance(source, RecordSource) else ("files", source.path)
        )
        raise ConfigError(
            f"the schema of {what} does not parse: {str(error).splitlines()[0]}",
            next_step="write DDL (id STRING, at TIMESTAMP) or the path of a Spark schema in JSON",
            field=f"source.{kind}.schema",
        ) from None


def reader_options(source: FilesSource, *, corrupt: bool = True) -> dict[str, str]:
    """Options of Spark's reader; a user's own win, except those that the law rests on."""
    options = dict(source.options)
    if source.format != "parquet" and corrupt:
        options |= {"mode": "PERMISSIVE", "columnNameOfCorruptRecord": CORRUPT}
    # Sub-folders named like k=v would add columns, and globs would change with the folder; and of names with a bracket or a star
    # Spark lists all of a batch's files once for each, which then are not there several times.
    return {**options, "recursiveFileLookup": "true"}


def source_columns(frame: DataFrame) -> list[Column]:
    """The row's own columns, without what the reader added, and without the marks of rules."""
    added = [name in _ADDED or name.startswith(MARK) for name in frame.columns]
    return [frame[f"`{name}`"] for name, it_is in zip(frame.columns, added, strict=True) if not it_is]


def origin(frame: DataFrame) -> Column:
    """Where a row came from: the file, or the place that it brings."""
    return F.col(PLACE if PLACE in frame.columns else "_metadata.file_path")


def bad_reason(frame: DataFrame, event_time: str, required: Sequence[str] = ()) -> Column:
    """Why a row cannot be taken in, as a text; null for a good row. Raises as :func:`is_bad`."""
    _check_time(frame, event_time)
    reason = F.when(F.col(event_time).isNull(), F.lit(f"no event time ({event_time})")).when(
        _out_of_range(event_time), F.lit(f"event time out of range ({event_time})")
    )
    if EARLIEST in frame.columns:
        reason = reason.when(
            _too_far(event_time), F.lit(f"event time too far from the broker's ({event_time})")
        )
    for name in required:
        reason = reason.when(frame[f"`{name}`"].isNull(), F.lit(f"no value for {name}, which is NOT NULL"))
    if CORRUPT not in frame.columns:
        return reason
    why = F.lit("not a record of the schema")
    if WHY in frame.columns:
        why = F.coalesce(WHY, why)
    return F.when(F.col(CORRUPT).isNotNull(), why).otherwise(reason)


def is_bad(frame: DataFrame, event_time: str, required: Sequence[str] = ()) -> Column:
    """Whether a row cannot be taken in: never null. ``required``: columns that must have a value.

    Raises :class:`ConfigError` when the source has no such event-time column, or it is not a time.
    """
    _check_time(frame, event_time)
    bad = F.col(event_time).isNull() | _out_of_range(event_time)
    if EARLIEST in frame.columns:
        bad = bad | _too_far(event_time)
    for name in required:
        bad = bad | frame[f"`{name}`"].isNull()
    return F.col(CORRUPT).isNotNull() | bad if CORRUPT in frame.columns else bad


def _out_of_range(event_time: str) -> Column:
    moment = F.col(event_time).cast("timestamp")
    return (moment < F.timestamp_micros(F.lit(_FIRST))) | (moment >= F.timestamp_micros(F.lit(_END)))


def _too_far(event_time: str) -> Column:
    moment = F.col(event_time).cast("timestamp")
    return F.coalesce((moment < F.col(EARLIEST)) | (moment > F.col(LATEST)), F.lit(True))


def _check_time(frame: DataFrame, event_time: str) -> None:
    kinds = {field.name: field.dataType for field in frame.schema.fields}
    if not isinstance(kinds.get(event_time), (T.TimestampType, T.DateType)):
        have = ", ".join(
            f"{name} {kind.simpleString()}" for name, kind in kinds.items() if name not in _ADDED
        )
        raise ConfigError(
            f"the source has no timestamp column {event_time!r}",
            next_step=f"correct event_time.column or the schema; the source has {have}",
            field="event_time.column",
        )
