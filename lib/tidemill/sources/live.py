"""Inputs as streams, watched: bad rows counted and left out, with those that rules leave out; event times noted.

The order matters. A bad row's time is replaced before the watermark, so that a poisoned one does not move it.
The observation stands between the watermark and the transform: it keeps Spark from pushing the transform's
filters below the watermark, which would let the filters decide how far the watermark moves.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import reduce
from typing import Any

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from tidemill.erasure.frame import personal_rows
from tidemill.intervals import format_duration
from tidemill.ledger import inputs, schemas, unreadable
from tidemill.model import DeltaSource, FilesSource, Input, KafkaSource, Pipeline, Quality, RabbitSource
from tidemill.quality.watch import Watched
from tidemill.sources import kafka, kafka_offsets, rabbitmq_rows
from tidemill.sources.rows import (
    CORRUPT,
    LAST,
    UNKNOWN_ID,
    is_bad,
    read_schema,
    reader_options,
    required_columns,
    source_columns,
)
from tidemill.storage import on_a_store, uri

BUCKET_SECONDS = 600
"""How finely the event times of a batch are noted."""

_FOREVER = "36500d"


_NO_TIME = -62_135_596_800_000_000
"""The event time that bad rows get (the year 1, in epoch microseconds): no good row has it."""


@dataclass(frozen=True, slots=True)
class Begin:
    """Where a stream without a checkpoint begins, other than its sources say. ``offsets``: by input, as the ledger has them; a
    folder's are of no use without the checkpoint. ``files``: how many of a folder are read at once, where its source says no
    number.
    """

    offsets: Mapping[str, Any]
    files: int | None = None


ANYWHERE = Begin({})
"""As the sources say."""


def observed(name: str) -> str:
    """The name of an input's observation."""
    return f"tidemill_{name}"


def live_frames(
    spark: SparkSession, pipeline: Pipeline, suites: Watched | None = None, begin: Begin = ANYWHERE
) -> dict[str, DataFrame]:
    """Every input of a pipeline as the live stream reads it: watched, clean, watermarked; static ones whole.

    ``suites``: those of the pipeline, to ride on the inputs. ``begin``: where a stream begins that has no checkpoint.
    """
    suites = suites or Watched(Quality())
    return {
        name: personal_rows(static_frame(spark, each), each, name)
        if each.static
        else _live(spark, pipeline, name, suites, begin)
        for name, each in pipeline.inputs.items()
    }


def static_frame(spark: SparkSession, each: Input) -> DataFrame:
    """A static input, whole, as it is now."""
    if each.files is not None:
        reader = spark.read.format(each.files.format).options(**reader_options(each.files, corrupt=False))
        schema = read_schema(spark, each.files, corrupt=False)
        return (reader.schema(schema) if schema is not None else reader).load(each.files.path)
    return spark.read.format("delta").load(each.source.mark)


def input_schema(spark: SparkSession, each: Input) -> StructType:
    """The columns of an input's rows, without what the reader adds."""
    frame = _stream(spark, each, ())
    return frame.select(*source_columns(frame)).schema


def _live(
    spark: SparkSession, pipeline: Pipeline, name: str, suites: Watched, begin: Begin = ANYWHERE
) -> DataFrame:
    each, state = pipeline.inputs[name], pipeline.table.state_path
    offset = begin.offsets.get(name)
    if each.kafka is not None:
        source = each.kafka
        if offset is not None:
            source = source.model_copy(update={"starting": kafka_offsets.from_here(spark, source, offset)})
        frame = kafka.stream(spark, source, schemas.read(state).get(name, {}))
    elif each.rabbitmq is not None:
        on = {} if offset is None else {"starting": int(offset["offset"])}
        frame = rabbitmq_rows.stream(spark, each.rabbitmq.model_copy(update=on))
    else:
        frame = _stream(spark, each, unreadable.read(state).get(name, {}), offset, begin.files)
    return personal_rows(watched(frame, pipeline, name, suites), each, name)


def watched(frame: DataFrame, pipeline: Pipeline, name: str, suites: Watched | None = None) -> DataFrame:
    """Let an input's good rows on, watermarked; count rows and bad rows, and note the good ones' event times.

    Rows that rules of ``suites`` leave out count as bad here; the suites say how many those are.
    """
    event_time = pipeline.event_time_of(name)
    required = required_columns(frame.sparkSession, pipeline.inputs[name].source)
    bad, no_time = is_bad(frame, event_time.column, required), F.timestamp_micros(F.lit(_NO_TIME))
    moment = F.col(event_time.column)
    bucket = F.floor(F.unix_seconds(moment.cast("timestamp")) / F.lit(BUCKET_SECONDS))
    if suites is not None:
        names = frame.select(*source_columns(frame)).columns
        frame, bad = suites.streamed(name, frame, names, bad, bucket)
    frame = frame.withColumn(
        event_time.column,
        F.when(bad, no_time.cast(frame.schema[event_time.column].dataType)).otherwise(moment),
    )
    # Spark wants one of every stream that keeps state. A decision waits for nothing, and drops nothing as late.
    delay = event_time.watermark or (timedelta(0) if pipeline.recorded else None)
    if delay is not None and frame.isStreaming:
        frame = frame.withWatermark(event_time.column, format_spark(format_duration(delay) or "0s"))
    good = moment.cast("timestamp") > no_time
    frame = frame.observe(
        observed(name),
        F.count(F.lit(1)).alias("rows"),
        F.count(F.when(~good, 1)).alias("bad"),
        F.collect_set(F.when(good, bucket)).alias("buckets"),
        *_judged_whole(frame),
        *([F.max(LAST).alias("last")] if LAST in frame.columns else []),
        *_unknown_ids(frame),
    )
    return frame.where(good).select(*source_columns(frame))


def _judged_whole(frame: DataFrame) -> list[Column]:
    # Text readers parse, and find bad, only the columns that something asks for. This asks for every column,
    # whatever the transform looks at, and costs next to nothing: the first that is not null decides.
    if CORRUPT not in frame.columns:
        return []
    empty = reduce(Column.__and__, [column.isNull() for column in source_columns(frame)])
    return [F.count(F.when(empty, 1)).alias("empty")]


def _unknown_ids(frame: DataFrame) -> list[Column]:
    # Registries count their ids up: what is no id is mostly a greater number, and must not crowd out those that are.
    if UNKNOWN_ID not in frame.columns:
        return []
    return [F.slice(F.sort_array(F.collect_set(UNKNOWN_ID)), 1, 50).alias("unknown_ids")]


def _stream(
    spark: SparkSession,
    each: Input,
    given_up: Iterable[str],
    offset: Mapping[str, Any] | None = None,
    files: int | None = None,
) -> DataFrame:
    if isinstance(each.source, KafkaSource):
        return kafka.stream(spark, each.source)
    if isinstance(each.source, RabbitSource):
        return rabbitmq_rows.stream(spark, each.source)
    limit = each.source.max_files_per_batch
    _check_there(each.source)
    if isinstance(each.source, FilesSource):
        reader = spark.readStream.format(each.source.format).options(**reader_options(each.source))
        # By default Spark ignores files older than a week before the newest: that would lose input.
        reader = reader.option("maxFileAge", _FOREVER)
        limit = files if limit is None else limit
        schema = read_schema(spark, each.source)
        if schema is None:
            schema = spark.read.format(each.source.format).load(each.source.path).schema
        reader = reader.schema(schema)
    else:
        # Changes are propagated through the ledger: intervals here become dirty, see planning.upstream.
        reader = spark.readStream.format("delta").option("skipChangeCommits", "true")
        version = None if offset is None else inputs.begin_again(each.source, offset)
        if version is not None:
            reader = reader.option("startingVersion", version)
    if limit is not None:
        reader = reader.option("maxFilesPerTrigger", limit)
    frame = reader.load(each.source.path)
    # Spark does not open a file that its path alone rules out.
    uris = [uri(path) for path in given_up]
    given_up = [*uris, *(uri.replace("file://", "file:", 1) for uri in uris)]  # Hadoop writes them so
    return frame.where(~F.col("_metadata.file_path").isin(given_up)) if given_up else frame


def _check_there(source: FilesSource | DeltaSource) -> None:
    # Spark's own words for what is not there at all are of paths and schemas. Elsewhere than here and on s3:// it alone can look.
    if "://" in source.path and not on_a_store(source.path):
        return
    if isinstance(source, FilesSource):
        inputs.folder_of(source)
    else:
        inputs.delta_version(source)


def format_spark(duration: str) -> str:
    """A duration as Spark's interval parser reads it."""
    names = {"d": "days", "h": "hours", "m": "minutes", "s": "seconds", "ms": "milliseconds"}
    parts = []
    for part in duration.split():
        digits = part.rstrip("dhms")
        parts.append(f"{digits} {names[part[len(digits) :]]}")
    return " ".join(parts)
